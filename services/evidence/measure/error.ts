/** Why no reference value could be computed. */
import { EvidenceError } from "../error.ts"

export type MeasureErrorCode =
  | "FIRMWARE_LENGTH"
  | "FIRMWARE_TABLE"
  | "FIRMWARE_METADATA"
  | "FIRMWARE_SUPPORT"
  | "VCPUS"
  | "FEATURES"
  | "KERNEL"
  | "MEMORY"
  | "COMMAND_LINE"
  | "IMAGE"
  | "VARIABLE"
  | "PHASE"
  | "LENGTH"

/** Fields are dotted paths: `firmware.metadata.sections[2].size`, `image.sections[0]`, `variables.db`. */
export class MeasureError extends EvidenceError<MeasureErrorCode> {
  override readonly name = "MeasureError"
}

export const measureLimits = {
  firmwareBytes: 64 * 1_048_576,
  imageBytes: 256 * 1_048_576,
  initrdBytes: 256 * 1_048_576,
  variableBytes: 1_048_576,
  /** Linux takes 2,048 on x86. */
  commandLineBytes: 4_096,
  vcpus: 1_024,
  images: 64,
} as const

const hexNumber = (value: number | bigint): string => `0x${value.toString(16)}`

/** Fails with one code, for the parsers of one kind of file. */
export const refuser =
  (code: MeasureErrorCode) =>
  (field: string, found: string | number | bigint, wanted: string): MeasureError =>
    new MeasureError(code, field, typeof found === "string" ? found : hexNumber(found), wanted)
