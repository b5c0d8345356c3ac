/** Why this machine gave no Evidence. */
import { EvidenceError } from "../error.ts"

export type ProviderErrorCode =
  /** The interface, or the provider behind it, isn't there. */
  | "ABSENT"
  /** It is there, and this process may not use it. */
  | "PERMISSION"
  /** It was in use, or throttled, each time that it was tried. */
  | "BUSY"
  /** Somebody else wrote to our report entry, each time that it was tried. */
  | "CONFLICT"
  /** The kernel or the hardware refused; `found` has the errno. */
  | "IO"
  /** A blob is empty, too short or too long. */
  | "LENGTH"
  /** What came back isn't built as it must be. */
  | "MALFORMED"
  /** A report over other data than was asked for. */
  | "MISMATCH"
  /** Together the pieces are more than a message of Evidence may hold. */
  | "TOO_LARGE"
  /** No answer in time. */
  | "TIMEOUT"
  /** An earlier call has still not come back: nothing is asked until it does. */
  | "WEDGED"
  /** Too many requests wait already. */
  | "QUEUE_FULL"
  /** A setting, or an argument of ours. */
  | "INPUT"

/** `field` is a path, a device or a part of one: `/sys/kernel/config/tsm/report/vouchsafe-1/outblob`. */
export class ProviderError extends EvidenceError<ProviderErrorCode> {
  override readonly name = "ProviderError"
}

/** The errno's name of a failed system call, as Node gives it. */
export const errnoOf = (error: unknown): string => {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === "string" && /^E[A-Z0-9]{1,31}$/.test(code) ? code : "an error"
}
