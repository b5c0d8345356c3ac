/** Why an event log was not believed. */
import { EvidenceError } from "../error.ts"

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

/** Fields are dotted paths: `log`, `log.events[12].digests`, `log.registers[7]`. */
export class EventLogError extends EvidenceError<EventLogErrorCode> {
  override readonly name = "EventLogError"
}
