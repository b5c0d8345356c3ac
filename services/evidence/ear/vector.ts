/**
 * A verdict as AR4SI claims (draft-ietf-rats-ar4si-09, 2.3): each claim follows from the checks that are named here, and
 * what no check speaks of isn't claimed. The table in README.md says the same in words; a test holds the two together.
 */
import type { EarStatus, TrustVector } from "../../../schemas/ear.ts"
import type { Check } from "../../../schemas/messages/common.ts"
import type { RecordedVerdict } from "../../../schemas/messages/record.ts"

export type Claim = keyof TrustVector

/** The values of AR4SI that are used, by claim; 0 is "no claim" everywhere. */
export const values = {
  "instance-identity": { trustworthy: 2, untrustworthy: 96, unrecognized: 97 },
  configuration: { approved: 2, unsupportable: 96 },
  executables: { approvedBoot: 3, unrecognized: 33 },
  hardware: { genuine: 2, unsafe: 32, unrecognized: 97 },
  "runtime-opaque": { encrypted: 2, isolated: 32, visible: 96 },
} as const

/** Which checks a claim rests on. */
export const checksOf = {
  "instance-identity": /^(?:chip-id|chip-known|binding|node)$/,
  configuration:
    /^(?:debug|migration-agent|vmpl|smt|single-socket|cxl-memory|platform-info|td-debug|sept-ve-disable|migratable|pks|key-locker|perfmon|td-attributes|xfam|secure-boot|tpm-secure-boot|nitro-debug|host-data|mr-config-id|mr-service-td)$/,
  executables: /^(?:measurement|dataplane|mrtd|rtmr-\d|tpm-pcr-\d+|tpm-images|nitro-pcr-\d+)$/,
  hardware:
    /^(?:platform|genuine|tpm-genuine|root|tpm-key|signing-key|revocation|committed-firmware|mrseam|tcb-.+|collateral-.+)$/,
} as const

/** Of the rules, those that say that the code was measured at launch: others of their kind only add to them. */
const launchRule = /^(?:measurement|mrtd|rtmr-\d|tpm-pcr-\d+|tpm-images|nitro-pcr-\d+)$/
const tcbRule = /^(?:tcb-current|tcb-committed|tcb-reported|tcb-launch|tcb-status)$/
/** Let through although it is behind: by grace, an accepted advisory, or a status that the policy takes. */
const excused = /within grace|is accepted/

const failed = (checks: readonly Check[]): boolean => checks.some(({ result }) => result === "failed")
const passed = (checks: readonly Check[]): boolean => checks.some(({ result }) => result === "passed")

/** A check that found something about a flag, whatever the policy makes of it. */
const isSet = (checks: readonly Check[], name: string): boolean =>
  checks.some((check) => check.name === name && check.found === "set")

const isDebug = (checks: readonly Check[]): boolean =>
  isSet(checks, "debug") ||
  isSet(checks, "td-debug") ||
  checks.some(({ name, result }) => name === "nitro-debug" && result === "failed")

type Own = Pick<RecordedVerdict, "checks" | "assurance" | "platform">

const of = (checks: readonly Check[], pattern: RegExp): readonly Check[] =>
  checks.filter(({ name }) => pattern.test(name))

const identity = (checks: readonly Check[]): number => {
  const own = of(checks, checksOf["instance-identity"])
  const { trustworthy, unrecognized } = values["instance-identity"]
  if (failed(own)) return unrecognized
  // A policy that takes any machine knows none.
  const chip = own.find(({ name }) => name === "chip-id")
  return chip?.result === "passed" && chip.wanted !== "any chip" ? trustworthy : 0
}

const configuration = (checks: readonly Check[]): number => {
  const own = of(checks, checksOf.configuration)
  const { approved, unsupportable } = values.configuration
  if (failed(own) || isDebug(own)) return unsupportable
  return passed(own) ? approved : 0
}

const executables = (checks: readonly Check[]): number => {
  const own = of(checks, checksOf.executables)
  const { approvedBoot, unrecognized } = values.executables
  if (failed(own)) return unrecognized
  // What was measured at launch, and the data plane: nobody measures all that runs, so that it is never 2.
  return passed(of(own, launchRule)) ? approvedBoot : 0
}

const hardware = ({ checks, assurance }: Own): number => {
  const own = of(checks, checksOf.hardware)
  const { genuine, unsafe, unrecognized } = values.hardware
  if (failed(own)) return unrecognized
  // A TPM alone says nothing of the machine around it.
  if (assurance !== "hardware") return 0
  const tcb = of(own, tcbRule)
  const isBehind = tcb.some(
    ({ name, result, found }) =>
      result === "passed" && (excused.test(found) || (name === "tcb-status" && found !== "UpToDate")),
  )
  if (isBehind) return unsafe
  // Genuine, but nobody asked whether its firmware has known weaknesses: no claim.
  return passed(tcb) || checks.some(({ name }) => name === "nitro-document") ? genuine : 0
}

const opaque = ({ checks, assurance, platform = "" }: Own): number => {
  const { encrypted, isolated, visible } = values["runtime-opaque"]
  if (isDebug(checks)) return visible
  if (assurance !== "hardware" || failed(of(checks, /^(?:genuine|root|platform)$/))) return 0
  // A hypervisor keeps others out of an enclave, and is itself its owner's word.
  return platform.startsWith("nitro") ? isolated : encrypted
}

/** 0 is "no claim". */
const claimsOf = (verdict: Own): Readonly<Record<keyof typeof values, number>> => {
  const { checks, assurance } = verdict
  if (assurance === "emulated")
    return {
      "instance-identity": values["instance-identity"].untrustworthy,
      configuration: 0,
      executables: 0,
      hardware: values.hardware.unrecognized,
      "runtime-opaque": values["runtime-opaque"].visible,
    }
  // What isn't genuine has proven nothing, good or bad.
  if (assurance === undefined)
    return {
      "instance-identity": 0,
      configuration: 0,
      executables: 0,
      hardware: values.hardware.unrecognized,
      "runtime-opaque": 0,
    }
  return {
    "instance-identity": identity(checks),
    configuration: configuration(checks),
    executables: executables(checks),
    hardware: hardware(verdict),
    "runtime-opaque": opaque(verdict),
  }
}

export const vectorOf = (verdict: Own): TrustVector =>
  Object.fromEntries(Object.entries(claimsOf(verdict)).filter(([, value]) => value !== 0))

const tiers: readonly EarStatus[] = ["none", "affirming", "warning", "contraindicated"]

/** The tier of one claim (AR4SI, 2.3.2). */
const tierOf = (value: number): EarStatus => {
  const size = value < 0 ? -value - 1 : value
  if (size >= 96) return "contraindicated"
  if (size >= 32) return "warning"
  return size >= 2 ? "affirming" : "none"
}

/** The worst tier of any claim; a refusal is contraindicated, whatever for, and never less. */
export const statusOf = ({ verdict }: Pick<RecordedVerdict, "verdict">, vector: TrustVector): EarStatus => {
  if (verdict === "refused") return "contraindicated"
  const found = Object.values(vector).map(tierOf)
  return tiers.findLast((tier) => found.includes(tier)) ?? "none"
}
