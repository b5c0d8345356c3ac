/** Whether hardware evidence vouches for the runtime data in a blob of Azure's paravisor that the caller gave beside it. */
import { toHex } from "../../common/hex.ts"
import { parseHclReport, TpmError } from "../../evidence/tpm/index.ts"
import type { Context } from "./context.ts"
import type { Check } from "./inspection.ts"
import { recogniseSupport } from "./recognise.ts"

export const checkHclReport = (reportData: Uint8Array, { given }: Context): readonly Check[] =>
  given
    .filter(({ bytes }) => recogniseSupport(bytes) === "hcl-report")
    .map(({ bytes }) => {
      const name = "runtime data binding"
      try {
        const digest = toHex(parseHclReport(bytes).runtimeDigest)
        const same = toHex(reportData) === digest + "0".repeat(64)
        const wanted = `${digest}, the runtime data's hash, then zeros`
        return { name, result: same ? "passed" : "failed", found: toHex(reportData), wanted }
      } catch (error) {
        if (!(error instanceof TpmError)) throw error
        return { name, result: "failed", found: error.found, wanted: error.wanted }
      }
    })
