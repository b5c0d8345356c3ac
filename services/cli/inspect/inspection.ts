/** What looking at one piece of evidence gives: the same shape for every kind, for people and for scripts. */

export type EvidenceKind = "snp" | "tdx" | "tpm" | "nitro"

export interface Check {
  readonly name: string
  /** `not reached`: something before it failed. `not applicable`: nothing to check it with or against. */
  readonly result: "passed" | "failed" | "not reached" | "not applicable"
  readonly found: string
  readonly wanted: string
}

export interface InspectionError {
  readonly code: string
  readonly field: string
  readonly message: string
}

export interface Inspection {
  readonly file: string
  /** Null when the bytes are none that we know. */
  readonly kind: EvidenceKind | null
  /** Every signature and binding held, up to the vendor's pinned root, at that time. */
  readonly genuine: boolean
  readonly platform: string | null
  readonly version: number | string | null
  /** When it was looked at. */
  readonly at: string
  readonly status: Readonly<Record<string, unknown>>
  /** As the bytes say; believed only where `genuine` is true. */
  readonly fields: Readonly<Record<string, unknown>>
  readonly certificates: readonly unknown[]
  readonly checks: readonly Check[]
  readonly error: InspectionError | null
  /** False where nothing could be judged: bytes of no known kind, or something needed that isn't there. */
  readonly usable: boolean
}

/** Input that can't be judged: not evidence, unreadable, or without what it needs. */
export class UnusableError extends Error {
  override readonly name = "UnusableError"
  readonly code: string
  readonly field: string

  constructor(code: string, field: string, message: string) {
    super(message)
    this.code = code
    this.field = field
  }
}

/** Any vendor's typed error. */
export interface TypedError {
  readonly code: string
  readonly field: string
  readonly found: string
  readonly wanted: string
  readonly message: string
}

export const errorOf = ({ code, field, message }: TypedError | UnusableError): InspectionError => ({
  code,
  field,
  message,
})

/** One step of a verification: the codes that it may fail with, what it wants, and what it found where it passed. */
export interface Stage {
  readonly name: string
  readonly codes: RegExp
  readonly wanted: string
  readonly found: string
}

/**
 * Verifiers stop at the first thing that is wrong. Those of its steps that stand before it have passed, those after it
 * weren't reached. Stages stand so that an error which may come early or late counts as early: rather claim less.
 */
export const checksOf = (stages: readonly Stage[], error?: TypedError): Check[] => {
  const failedAt =
    error === undefined ? stages.length : stages.findIndex(({ codes }) => codes.test(error.code))
  return stages.map(({ name, wanted, found }, i) => {
    if (error !== undefined && i === failedAt)
      return { name, result: "failed", found: error.found, wanted: error.wanted }
    return i < failedAt
      ? { name, result: "passed", found, wanted }
      : { name, result: "not reached", found: "", wanted }
  })
}

/** Evidence that was recognised, but without something that it takes to judge it. */
export const unusable = (
  file: string,
  kind: EvidenceKind | null,
  at: Date,
  error: UnusableError,
  rest: Partial<Inspection> = {},
): Inspection => ({
  platform: null,
  version: null,
  status: {},
  fields: {},
  certificates: [],
  checks: [],
  ...rest,
  file,
  kind,
  genuine: false,
  at: at.toISOString(),
  error: errorOf(error),
  usable: false,
})
