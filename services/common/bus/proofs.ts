/** The bucket of proofs: Evidence under digests that its readers know. What is read is believed by nobody until it is checked. */
import { Effect } from "effect"
import { toHex } from "../hex.ts"
import type { Core } from "./bus.ts"
import { api } from "./events.ts"
import { PROOF_STREAM, proofSubject } from "./streams.ts"
import { BusError, type BusShape } from "./types.ts"

const GET_MS = 2_000

export const makeProofs = (core: Core): BusShape["proofs"] => ({
  get: (digest) =>
    Effect.gen(function* () {
      const at = `$JS.API.DIRECT.GET.${PROOF_STREAM}.${proofSubject(toHex(digest))}`
      const message = yield* Effect.tryPromise({
        try: () => core.connection.request(at, new Uint8Array(0), GET_MS),
        catch: (error) => error as BusError,
      })
      if (message.status === 404) return undefined
      if (message.status >= 400)
        return yield* new BusError({ reason: "Stream", subject: at, message: `status ${message.status}` })
      return message.data
    }),
  put: (digest, proof) =>
    Effect.gen(function* () {
      const key = toHex(digest)
      const { data } = yield* core.pack("proof", { digest: key }, proof)
      yield* api(core, proofSubject(key), data, { "Nats-Expected-Stream": PROOF_STREAM })
    }),
})
