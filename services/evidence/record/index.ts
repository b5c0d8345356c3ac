/** Verdicts that can be given again: what they were given by, kept beside them. */
export { type Recorder, recordLookup, replayLookup } from "./consulted.ts"
export { RecordError, type RecordErrorCode } from "./error.ts"
export {
  looksLikeRecord,
  packRecord,
  recordEnding,
  resultEnding,
  unpackRecord,
  workflowFile,
} from "./record.ts"
export { appraisalDigest, nobodyAsked, packVerdict, recordedUses, unpackVerdict } from "./verdict.ts"
