/** Event logs: parsed, replayed to registers, and named. For TPM quotes and, over CCEL, for TDX. */
export { type Bank, bankOf, banks, digest } from "./bank.ts"
export {
  type BootDescription,
  describeBoot,
  type MeasuredAuthority,
  type MeasuredImage,
  type MeasuredText,
  type MeasuredVariable,
  type SecureBoot,
} from "./boot.ts"
export { EventLogError, type EventLogErrorCode } from "./error.ts"
export {
  bootAggregateHolds,
  type ImaEntry,
  type ImaExtension,
  type ImaLog,
  type ImaMatch,
  type ImaOptions,
  imaLimits,
  matchIma,
  parseImaLog,
  replayIma,
} from "./ima.ts"
export {
  dataIsMeasured,
  type EventLog,
  type LogEvent,
  type LogFormat,
  logLimits,
  parseEventLog,
} from "./log.ts"
export { extend, matchReplay, type Registers, replay, replayDigests, rtmrsOf } from "./replay.ts"
export { eventTypeName, eventTypes } from "./types.ts"
export type { SignatureEntry } from "./uefi.ts"
