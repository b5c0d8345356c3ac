/** The rules for an AWS Nitro attestation document. */
import type { Nitro } from "../../../schemas/platforms.ts"
import type { VerifiedNitro } from "../nitro/verify.ts"
import { toHex } from "../text.ts"
import { finding, listed, oneOf } from "./finding.ts"
import type { Finding } from "./policy.ts"

type Rule = (evidence: VerifiedNitro, policy: Nitro) => Finding

const kinds = { enclave: "nitro-enclave", tpm: "nitro-tpm" } as const

/** A policy may name as many registers as a document has: those rules are made from it. */
export const nitroRules = (policy: Nitro): readonly (readonly [name: string, rule: Rule])[] => [
  [
    "nitro-document",
    ({ platform }, { document }) => finding(platform === kinds[document], platform, kinds[document]),
  ],
  [
    "nitro-debug",
    ({ debug }) => finding(!debug, debug ? "PCRs 0, 1 and 2 all zero" : "measured", "a measured boot"),
  ],
  ...Object.entries(policy.pcrs)
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([pcr, values]) => [`nitro-pcr-${pcr}`, judgePcr(Number(pcr), values)] as const),
]

const judgePcr =
  (pcr: number, values: readonly string[]): Rule =>
  ({ document }) => {
    const value = document.pcrs.get(pcr)
    return value === undefined
      ? finding(false, "not in the document", listed(values))
      : oneOf(toHex(value), values)
  }
