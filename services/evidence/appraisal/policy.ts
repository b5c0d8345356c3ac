/** Reference values: what a stage demands of a machine, as plain data. Empty lists accept nothing. */
import type { Tcb } from "../snp/product.ts"
import type { HardwareRoot } from "../snp/roots.ts"

/** Least security version numbers. A part that isn't named has no floor. */
export type TcbFloor = { readonly [Part in keyof Tcb]?: number }

export interface AppraisalPolicy {
  readonly platforms: readonly "sev-snp"[]
  /** Emulated roots are accepted only if they are in here. */
  readonly roots: readonly HardwareRoot[]
  /** The best that the stage may rest on: `hardware` refuses emulated machines even if their root is listed. */
  readonly assurance: "hardware" | "emulated"
  /** Launch measurements, 48 bytes in hex. */
  readonly measurements: readonly string[]
  /** Digests of the data plane as it was found in the kernel, 48 bytes in hex. */
  readonly dataplane: readonly string[]
  /** Chip ids, 64 bytes in hex. `any` gives identity up and must be said aloud. */
  readonly chipIds: readonly string[] | "any"
  /** What the guest's policy may allow the host: true accepts either, false demands that it is off. */
  readonly debug: boolean
  readonly migrationAgent: boolean
  readonly smt?: boolean
  readonly vmplMax: number
  /** True: the guest must be bound to one socket. */
  readonly singleSocket?: boolean
  readonly minTcb?: TcbFloor
  /** Firmware that isn't committed yet, so that the host can still roll it back. Absent: refused. */
  readonly allowProvisionalFirmware?: boolean
  /** 32 bytes in hex. */
  readonly hostData?: string
  /** 16 bytes in hex. */
  readonly familyId?: string
  readonly imageId?: string
  /** 48 bytes in hex, any of these. */
  readonly idKeyDigests?: readonly string[]
  readonly authorKeyDigests?: readonly string[]
  /** VLEKs are shared by a provider's machines. Absent: only VCEKs. */
  readonly cspIds?: readonly string[]
}

/** What the evidence must speak of, known from the protocol. */
export interface AppraisalClaims {
  /** The 64 bytes that the report must carry: the hash over nonces, identities and keys. */
  readonly reportData: Uint8Array
  /** The data plane's digest as the attester measured it, bound by `reportData`; 48 bytes in hex. */
  readonly dataplane: string
  /** The chip that the node's id is enrolled with, if it is pinned; 64 bytes in hex. */
  readonly chipId?: string
}

export interface Check {
  readonly name: string
  readonly result: "passed" | "failed" | "not-applicable"
  readonly found: string
  readonly wanted: string
}

export type Assurance = "hardware" | "tpm-only" | "emulated"

export interface Appraisal {
  readonly verdict: "accepted" | "refused"
  /** What the verdict rests on. Undefined when no evidence was genuine. */
  readonly assurance: Assurance | undefined
  /** Every check, in a fixed order. */
  readonly checks: readonly Check[]
  /** The first that failed. */
  readonly reason?: Check
}
