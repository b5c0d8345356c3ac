/**
 * A confidential guest of Azure: the paravisor alone talks to the hardware. It leaves a report in the virtual TPM whose
 * report data names the TPM's key; the guest's own report data is in the TPM's quote.
 */
import { limits } from "../../../schemas/limits.ts"
import { reportBytes } from "../snp/report.ts"
import { type HclReport, parseHclReport, TpmError } from "../tpm/index.ts"
import { ProviderError } from "./error.ts"
import type { AttestationProvider } from "./provider.ts"
import { type TpmOptions, tpm } from "./tpm.ts"

const hclIndex = 0x0140_0001
const akHandle = 0x8100_0003
const field = "nv:0x01400001"

const parse = (bytes: Uint8Array | undefined): HclReport => {
  if (bytes === undefined) throw new ProviderError("ABSENT", field, "nothing", "the paravisor's report")
  try {
    return parseHclReport(bytes)
  } catch (error) {
    if (!(error instanceof TpmError)) throw error
    throw new ProviderError("MALFORMED", field, `${error.field}: ${error.found}`, error.wanted)
  }
}

/**
 * SEV-SNP only: a TD of Azure has its quote made by a service of the host, outside of the TPM.
 * @param options `ak` defaults to Azure's own key
 * @throws as `tpm`
 */
export const azureVtpm = async (options: TpmOptions = {}): Promise<AttestationProvider> => {
  const inner = await tpm({ ak: { from: "handle", handle: akHandle }, ...options, hclIndex })
  return {
    ...inner,
    platform: "sev-snp+tpm",
    about: `Azure's paravisor, ${inner.about}`,
    attest: async (reportData, room = limits.evidenceBytes) => {
      const [piece] = await inner.attest(reportData, room - reportBytes)
      if (piece?.kind !== "tpm") throw new ProviderError("MALFORMED", "tpm", "no quote", "a quote")
      const { hardware, report } = parse(piece.hcl_report)
      if (hardware !== "snp")
        throw new ProviderError(
          "ABSENT",
          field,
          "a TDREPORT, which only the same machine can check",
          "SEV-SNP",
        )
      return [{ kind: "snp", report, certificates: [] }, piece]
    },
  }
}
