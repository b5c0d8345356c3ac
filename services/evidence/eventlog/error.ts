/** Why an event log was not believed. */

export type EventLogErrorCode =
  // The form of the log.
  | "LOG_LENGTH"
  | "LOG_TRUNCATED"
  | "LOG_HEADER"
  | "LOG_EVENTS"
  | "EVENT_REGISTER"
  | "EVENT_DIGESTS"
  | "EVENT_LENGTH"
  | "EVENT_LOCALITY"
  // What the log says against what the registers hold.
  | "BANK_UNKNOWN"
  | "BANK_ABSENT"
  | "REGISTER_ABSENT"
  | "REPLAY_MISMATCH"
  // IMA.
  | "IMA_TEMPLATE"
  | "IMA_TEMPLATE_HASH"
  | "IMA_REGISTER"

export class EventLogError extends Error {
  override readonly name = "EventLogError"
  readonly code: EventLogErrorCode
  /** `log`, `log.events[12].digests`, `log.registers[7]`. */
  readonly field: string
  readonly found: string
  readonly wanted: string

  constructor(code: EventLogErrorCode, field: string, found: string, wanted: string) {
    super(`${field}: found ${found}, wanted ${wanted}`)
    this.code = code
    this.field = field
    this.found = found
    this.wanted = wanted
  }
}

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
