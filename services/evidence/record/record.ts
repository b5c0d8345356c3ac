/** Records as files: bytes in, values or typed errors out. */
import { limits } from "../../../schemas/limits.ts"
import { VerdictRecord } from "../../../schemas/messages/record.ts"
import { decode, encode } from "../../common/codec/index.ts"
import { RecordError } from "./error.ts"
import { unpackVerdict } from "./verdict.ts"

export const recordEnding = ".record"
/** Of the signed result, beside the record of the verdict that it tells. */
export const resultEnding = ".result"
/** Of the workflow document, beside the records that were judged by it. */
export const workflowFile = "workflow.yaml"

/** @returns at most `limits.recordBytes`; throws EncodeError where a part is beyond its bound */
export const packRecord = (record: VerdictRecord): Uint8Array => encode(VerdictRecord, record)

/** Whether the bytes may be a record: a map whose second field says so. */
export const looksLikeRecord = (bytes: Uint8Array): boolean =>
  Buffer.from(bytes.subarray(0, 64)).includes("verdict-record")

/** @throws RecordError RECORD_TOO_LARGE, RECORD_MALFORMED, VERDICT_MALFORMED */
export const unpackRecord = (bytes: Uint8Array): VerdictRecord => {
  if (bytes.length > limits.recordBytes)
    throw new RecordError(
      "RECORD_TOO_LARGE",
      "record",
      `${bytes.length} bytes, at most ${limits.recordBytes}`,
    )
  const decoded = decode(VerdictRecord, bytes, { subject: "record", bytesMax: limits.recordBytes })
  if (!decoded.ok) throw new RecordError("RECORD_MALFORMED", "record", decoded.error.message)
  const verdict = unpackVerdict(decoded.value.verdict)
  if (verdict.at_ms !== decoded.value.at_ms)
    throw new RecordError("RECORD_MALFORMED", "at_ms", "isn't the time of the verdict")
  return decoded.value
}
