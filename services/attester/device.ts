/** The hardware behind an attester: opened by its settings, closed with its scope, and tried by --check. */
import { randomBytes } from "node:crypto"
import { Effect } from "effect"
import type { Piece } from "../../schemas/messages/common.ts"
import {
  type AttestationProvider,
  bytesOf,
  openProvider,
  type ProviderError,
} from "../evidence/providers/index.ts"
import { type AttesterConfig, providerOf } from "./config.ts"
import { DeviceQueue } from "./device-queue.ts"

const opened = Effect.fn("openProvider")(function* (
  own: AttesterConfig,
  warn: (error: ProviderError) => void,
) {
  const { choice, options } = providerOf(own, warn)
  return yield* Effect.acquireRelease(
    Effect.tryPromise({ try: () => openProvider(choice, options), catch: (error) => error }),
    (provider) => Effect.promise(() => provider.close()),
  )
})

const queueOf = (provider: AttestationProvider, own: AttesterConfig): DeviceQueue =>
  new DeviceQueue(provider, { timeoutMs: own.timeoutSeconds * 1_000 })

/** @returns the queue before the hardware that the settings name; fails with what the provider says */
export const openDevice = Effect.fn("openDevice")(function* (own: AttesterConfig) {
  const run = Effect.runForkWith(yield* Effect.context<never>())
  const warn = (error: ProviderError) => {
    run(Effect.logWarning("the attestation device", { code: error.code, message: error.message }))
  }
  const provider = yield* opened(own, warn)
  yield* Effect.logInfo(`evidence by ${provider.about}`)
  return queueOf(provider, own)
})

const describePiece = (piece: Piece): string => {
  const bytes = `${bytesOf([piece])} bytes`
  switch (piece.kind) {
    case "snp":
      return `snp: ${bytes}, report and ${piece.certificates.length} certificates of the host`
    case "tdx":
      return `tdx: ${bytes}, quote, ${piece.event_log === undefined ? "no event log" : "event log"}`
    case "tpm": {
      const logs = [piece.boot_log && "boot log", piece.ima_log && "IMA log"].filter(Boolean)
      return `tpm: ${bytes}, quote over ${piece.pcrs.length} registers, ${piece.certificates.length} certificates of the key, ${logs.join(" and ") || "no logs"}`
    }
    case "nitro":
      return `nitro: ${bytes}`
  }
}

/** What was found, and one report of it over random data. @returns lines for people */
export const checkDevice = Effect.fn("checkDevice")(function* (own: AttesterConfig) {
  const warnings: string[] = []
  const provider = yield* opened(own, (error) => warnings.push(`warning: ${error.message}`))
  const begun = performance.now()
  const { pieces } = yield* Effect.tryPromise({
    try: () => queueOf(provider, own).attest(randomBytes(64)),
    catch: (error) => error,
  })
  const ms = (performance.now() - begun).toFixed(1)
  return [
    `platform: ${provider.platform}${provider.emulated ? " (EMULATED: proves nothing)" : ""}`,
    `evidence by ${provider.about}`,
    `one report in ${ms} ms: ${bytesOf(pieces)} bytes`,
    ...pieces.map((piece) => `  ${describePiece(piece)}`),
    ...warnings,
  ]
})
