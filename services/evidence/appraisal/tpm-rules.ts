/** The rules for a TPM 2.0 quote: whose key, whose question, which registers, and what the event log names in them. */
import type { Tpm } from "../../../schemas/platforms.ts"
import { crypto } from "../../common/crypto/index.ts"
import { digest } from "../eventlog/bank.ts"
import { describeBoot } from "../eventlog/boot.ts"
import { EventLogError } from "../eventlog/error.ts"
import type { EventLog } from "../eventlog/log.ts"
import { matchReplay } from "../eventlog/replay.ts"
import { eventTypes } from "../eventlog/types.ts"
import { toHex } from "../text.ts"
import type { Binding } from "../tpm/binding.ts"
import { TpmError } from "../tpm/error.ts"
import { finding, listed, notApplicable, oneOf } from "./finding.ts"
import type { AppraisalClaims, Finding } from "./policy.ts"
import type { VerifiedTpm } from "./verify-pieces.ts"

type Rule = (evidence: VerifiedTpm, policy: Tpm, claims: AppraisalClaims) => Finding

/** A policy may name as many registers as a TPM has: those rules are made from it. */
export const tpmRules = (policy: Tpm): readonly (readonly [name: string, rule: Rule])[] => [
  ["tpm-key", (e) => judgeBinding(e.binding)],
  [
    "tpm-report-data",
    (e, _, c) =>
      finding(crypto.equalConstantTime(e.quote.nonce, c.extraData), toHex(e.quote.nonce), toHex(c.extraData)),
  ],
  ["tpm-clock", (e) => describeClock(e)],
  ...Object.entries(policy.pcrs ?? {})
    .toSorted(([a], [b]) => Number(a) - Number(b))
    .map(([pcr, values]) => [`tpm-pcr-${pcr}`, judgePcr(Number(pcr), values)] as const),
  ["tpm-secure-boot", (e, p) => judgeSecureBoot(e, p)],
  ["tpm-images", (e, p) => judgeImages(e, p)],
]

const describeBinding = (binding: Binding): string => {
  switch (binding.kind) {
    case "azure-hcl":
      return `named in the report data of the ${binding.hardware} report`
    case "certified-ak":
      return `certified by ${binding.chain.issuer.name}`
    case "activated-credential":
      return `beside an endorsement key of ${binding.chain.issuer.name}`
    case "named-ek":
      return `beside an endorsement key that is named: ${binding.keyDigest}`
    case "named-key":
      return `named: ${binding.keyDigest}`
  }
}

const judgeBinding = (binding: Binding | TpmError): Finding => {
  const wanted = "a key that the hardware's report, a named issuer or a root names"
  return binding instanceof TpmError
    ? finding(false, `${binding.code} ${binding.field}: ${binding.found}`, binding.wanted)
    : finding(true, describeBinding(binding), wanted)
}

/** For the record: nobody can say which count of resets is right. */
const describeClock = ({ quote: { clockInfo, firmwareVersion } }: VerifiedTpm): Finding =>
  notApplicable(
    `${clockInfo.resetCount} resets, ${clockInfo.restartCount} restarts, clock ${clockInfo.safe ? "safe" : "not safe"}, firmware ${firmwareVersion.toString(16)}`,
  )

/** The bank is the policy's: a register that the quote covers in another bank alone isn't covered. */
const judgePcr =
  (pcr: number, values: readonly string[]): Rule =>
  ({ quote }, { bank }) => {
    const value = quote.pcrs[bank]?.get(pcr)
    return value === undefined
      ? finding(false, `not covered by the quote in the ${bank} bank`, listed(values))
      : oneOf(toHex(value), values)
  }

/** What `judge` makes of the log once it leads to this register. */
const fromLog = (
  { quote, bootLog }: VerifiedTpm,
  { bank }: Tpm,
  register: number,
  wanted: string,
  judge: (log: EventLog) => Finding,
): Finding => {
  if (bootLog === undefined) return finding(false, "no event log", wanted)
  try {
    if (bootLog instanceof EventLogError) throw bootLog
    matchReplay(bootLog, bank, quote.pcrs[bank] ?? new Map(), [register])
    return judge(bootLog)
  } catch (error) {
    if (error instanceof EventLogError)
      return finding(false, `${error.code} ${error.field}: ${error.found}`, wanted)
    throw error
  }
}

const secureBootRegister = 7

const judgeSecureBoot = (evidence: VerifiedTpm, policy: Tpm): Finding => {
  if (policy.secure_boot !== true) return notApplicable("not looked at")
  const wanted = `on, by an event log that leads to PCR ${secureBootRegister}`
  return fromLog(evidence, policy, secureBootRegister, wanted, (log) => {
    const { state, reason } = describeBoot(log, policy.bank, [secureBootRegister]).secureBoot
    return finding(state === "on", reason === undefined ? state : `${state}: ${reason}`, wanted)
  })
}

const imagesRegister = 4

/** What firmware measures into PCR 4 beside images (TCG PC Client Platform Firmware Profile, 2.3.4.5). */
const passages = [
  "Calling EFI Application from Boot Option",
  "Returning from EFI Application from Boot Option",
].map((text) => Buffer.from(text))
const separators = [Uint8Array.of(0, 0, 0, 0), Uint8Array.of(0xff, 0xff, 0xff, 0xff)]

/** The type of an event isn't proven: whatever leads to PCR 4 is an image unless its digest says that it is a passage. */
const judgeImages = (evidence: VerifiedTpm, policy: Tpm): Finding => {
  if (policy.images === undefined) return notApplicable("not looked at")
  const { images, bank } = policy
  const wanted = `only ${listed(images)}`
  const others = new Set([...passages, ...separators].map((data) => toHex(digest(bank, data))))
  return fromLog(evidence, policy, imagesRegister, wanted, (log) => {
    const found = log.events
      .filter(({ register, type }) => register === imagesRegister && type !== eventTypes.EV_NO_ACTION)
      .map(({ digests }) => toHex(digests.get(bank) ?? new Uint8Array(0)))
      .filter((one) => !others.has(one))
    const foreign = found.filter((one) => !images.includes(one))
    if (found.length === 0) return finding(false, "no image", wanted)
    return {
      ...finding(
        foreign.length === 0,
        foreign.length === 0 ? found.join(", ") : `not listed: ${foreign.join(", ")}`,
        wanted,
      ),
      values: found,
    }
  })
}
