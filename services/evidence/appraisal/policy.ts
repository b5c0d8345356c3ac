/** What an appraisal goes by and what it answers, as plain data. Empty lists accept nothing. */
import type { Assurance, Chip, Demands, HardwareRoot, Platform } from "../../../schemas/platforms.ts"
import type { CollateralUse } from "../collateral/collateral.ts"

/** A stage's demands, or those of a guest's anchors, and who may meet them. */
export interface AppraisalPolicy extends Demands {
  readonly roots: readonly HardwareRoot[]
  /** The machines that it may be, any of these. `any` gives identity up and must be said aloud. */
  readonly chips: readonly Chip[] | "any"
  /** Digests of the data plane as it was found in the kernel, 48 bytes in hex. Left out only where there is none. */
  readonly dataplane?: readonly string[]
}

/** What the evidence must speak of, known from the protocol. */
export interface AppraisalClaims {
  /** The 64 bytes that reports carry: the hash over nonces, identities and keys. */
  readonly reportData: Uint8Array
  /** What a TPM's quote carries instead: `tpmExtraData(reportData)`. */
  readonly extraData: Uint8Array
  /** The data plane's digest as the attester measured it, bound by `reportData`; 48 bytes in hex. */
  readonly dataplane?: string
}

export interface Check {
  readonly name: string
  readonly result: "passed" | "failed" | "not-applicable"
  readonly found: string
  readonly wanted: string
}

export interface Finding extends Omit<Check, "name"> {
  /** What was found, where it is several values that `found` can't hold in full. */
  readonly values?: readonly string[]
}

/** What rules know beside the evidence. */
export interface Asked {
  readonly policy: AppraisalPolicy
  readonly claims: AppraisalClaims
  readonly now: Date
}

export interface Shown {
  readonly name: string
  readonly values: readonly string[]
}

export interface Appraisal {
  readonly verdict: "accepted" | "refused"
  /** What the pieces are together; undefined when they are nothing that belongs together. */
  readonly platform: Platform | undefined
  /** What the verdict rests on. Undefined when no evidence was genuine. */
  readonly assurance: Assurance | undefined
  /** Every check, in a fixed order. */
  readonly checks: readonly Check[]
  /** The first that failed. */
  readonly reason?: Check
  /** What each check that has passed has found, in full: `found` of a check is cut to what events carry. */
  readonly shown: readonly Shown[]
  /** The vendors' own words that the verdict rests on, by digest and dates. */
  readonly collateral: readonly CollateralUse[]
}
