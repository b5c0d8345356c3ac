/** `vouchsafe evidence inspect`: is this evidence genuine, and what does it say? Needs no workflow, bus or network. */
import { parseArgs } from "node:util"
import { exitStatusOf, inspectPaths } from "./inspect/inspect.ts"
import type { Inspection } from "./inspect/inspection.ts"
import { tableOf } from "./inspect/table.ts"
import { createOutput, UsageError } from "./output.ts"
import { parseTime } from "./time.ts"

const usage = `vouchsafe evidence inspect FILE... [--collateral DIR] [--at TIME] [--nonce HEX] [--json]

  Says of each FILE what kind of evidence it is (by its bytes: SEV-SNP report, TDX quote, TPM quote, AWS Nitro
  document), whether every signature and binding holds up to the vendor's pinned root, and what stands in it.
  A FILE may be a folder: then the evidence in it. Exit status: 0 genuine, 3 not genuine, 2 can't be judged.

  --at TIME         the time to judge at, such as 2025-06-01T00:00:00Z; now if left out
  --collateral DIR  certificates (AMD), or TCB info, QE identity and revocation lists (Intel): the folder itself, or
                    one folder below it for each platform family
  --nonce HEX       what the evidence must answer (report data, nonce, extraData)

  Files that are no evidence themselves (certificates, collateral, signatures, PCR values) may be named too: they are
  used before anything that is found. What isn't named is looked for:
    AMD certificates  X.vcek.der or X.vlek.der beside X.report.bin; else a certificate with the report's chip id, or
                      the only kind that signs it, in the report's folder, in certs beside it or above it, or above it;
                      then ASK or ASVK, and ARK, by name, in the same folders and in --collateral
    AMD's lists       in --collateral: the newest of the product (without one, revocation isn't judged)
    Intel collateral  only in --collateral: the folder whose TCB info is for the quote's FMSPC and current
    TPM               in the quote's folder: signature, AK, PCR values, hardware report of the same prefix
    Nitro             the document holds its own certificates
`

const options = {
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
  collateral: { type: "string" },
  at: { type: "string" },
  nonce: { type: "string" },
} as const

const parseNonce = (text: string): Uint8Array => {
  if (!/^(?:[0-9a-f]{2}){1,1024}$/i.test(text))
    throw new UsageError("--nonce: must be 1 to 1024 bytes in hex")
  return new Uint8Array(Buffer.from(text, "hex"))
}

/**
 * @param args what follows `evidence inspect`
 * @returns the exit status
 * @throws UsageError
 */
export const inspectCommand = (args: readonly string[]): 0 | 2 | 3 => {
  const { values, positionals } = parseArgs({
    args: [...args],
    options,
    allowPositionals: true,
    strict: true,
  })
  if (values.help) {
    process.stdout.write(usage)
    return 0
  }
  if (positionals.length === 0) throw new UsageError("FILE is missing")
  const inspections = inspectPaths(positionals, {
    at: values.at === undefined ? new Date() : parseTime("at", values.at),
    ...(values.collateral !== undefined && { collateral: values.collateral }),
    ...(values.nonce !== undefined && { nonce: parseNonce(values.nonce) }),
  })
  const shown = inspections.map(({ usable: _, ...rest }: Inspection) => rest)
  createOutput(values.json).result(
    shown.length === 1 ? shown[0] : shown,
    inspections.flatMap((one, i) => [...(i === 0 ? [] : [""]), ...tableOf(one)]),
  )
  return exitStatusOf(inspections)
}
