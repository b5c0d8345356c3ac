/**
 * Azure's paravisor puts a report of the hardware and the runtime data that it is bound to into one blob: a header of 32
 * bytes, the report in 1,184, then 20 bytes that say how long the runtime data is. Its SHA-256 is the first half of the
 * report data.
 */
import { createHash } from "node:crypto"
import type { Context } from "./context.ts"
import type { Item } from "./files.ts"
import { type Check, hex } from "./inspection.ts"
import { recogniseSupport } from "./recognise.ts"

const runtimeAt = 32 + 1_184
const runtimeHeaderBytes = 20

/** The runtime data; undefined where the blob isn't built like that. */
export const runtimeDataOf = ({ bytes }: Item): Uint8Array | undefined => {
  if (recogniseSupport(bytes) !== "hcl-report" || bytes.length < runtimeAt + runtimeHeaderBytes)
    return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  const length = view.getUint32(runtimeAt + 16, true)
  const from = runtimeAt + runtimeHeaderBytes
  return from + length <= bytes.length ? bytes.subarray(from, from + length) : undefined
}

/** Whether this evidence's report data is that of the runtime data in a blob that the caller gave. */
export const checkHclReport = (reportData: Uint8Array, { given }: Context): readonly Check[] =>
  given
    .filter(({ bytes }) => recogniseSupport(bytes) === "hcl-report")
    .map((item) => {
      const runtime = runtimeDataOf(item)
      const digest = runtime && createHash("sha256").update(runtime).digest("hex")
      const wanted =
        digest === undefined
          ? "runtime data of its stated length"
          : `${digest}, of the runtime data, then zeros`
      const same = digest !== undefined && hex(reportData) === digest + "0".repeat(64)
      return {
        name: "runtime data binding",
        result: same ? "passed" : "failed",
        found: hex(reportData),
        wanted,
      }
    })
