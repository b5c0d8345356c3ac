/** The memory that a TDX firmware wants built (Intel TDX Virtual Firmware Design Guide, 344991, section 11). */
import { Reader } from "../eventlog/reader.ts"
import { measureLimits, refuser } from "./error.ts"
import { pointedFromEnd, readFirmwareTable, tableGuids } from "./firmware-table.ts"

export interface TdxSection {
  /** What the image holds of it; zeros follow up to `size`. */
  readonly data: Uint8Array
  /** Guest-physical, at the beginning of a page. */
  readonly address: bigint
  /** Bytes; whole pages. */
  readonly size: number
  /** 0 boot firmware, 1 configuration, 2 hand-off blocks, 3 temporary memory, 4 permanent memory. */
  readonly type: number
  /** Its contents count, not its place alone. */
  readonly extended: boolean
  /** Accepted by the guest later on: no part of what is measured. */
  readonly augmented: boolean
}

export const pageBytes = 4_096
const sectionsMost = 64
const refuse = refuser("FIRMWARE_METADATA")

/** @throws MeasureError FIRMWARE_LENGTH, FIRMWARE_TABLE, FIRMWARE_METADATA */
export const readTdxFirmware = (image: Uint8Array): readonly TdxSection[] => {
  const described = pointedFromEnd(
    image,
    readFirmwareTable(image),
    tableGuids.tdxMetadata,
    "OVMF built for TDX",
  )
  const reader = new Reader(described, true, (field, found, wanted) =>
    refuse(`firmware.metadata.${field}`, found, wanted),
  )
  const signature = Buffer.from(reader.take("signature", 4)).toString("latin1")
  if (signature !== "TDVF") throw refuse("firmware.metadata.signature", "something else", "TDVF")
  reader.take("length", 4)
  const version = reader.u32("version")
  if (version !== 1) throw refuse("firmware.metadata.version", version, "1")
  const count = reader.u32("count")
  if (count === 0 || count > sectionsMost)
    throw refuse("firmware.metadata.count", count, `1 to ${sectionsMost}`)
  const sections = Array.from({ length: count }, (_, i) => readSection(reader, image, i))
  const total = sections.reduce((sum, { size, augmented }) => sum + (augmented ? 0 : size), 0)
  if (total > 4 * measureLimits.firmwareBytes)
    throw refuse("firmware.metadata.sections", `${total} bytes`, `at most ${4 * measureLimits.firmwareBytes}`)
  return sections
}

const readSection = (reader: Reader, image: Uint8Array, i: number): TdxSection => {
  const field = `firmware.metadata.sections[${i}]`
  const offset = reader.u32("sections")
  const rawBytes = reader.u32("sections")
  const address = reader.u64("sections")
  const size = reader.u64("sections")
  const type = reader.u32("sections")
  const attributes = reader.u32("sections")
  if (address % BigInt(pageBytes) !== 0n) throw refuse(`${field}.address`, address, "the beginning of a page")
  if (size === 0n || size % BigInt(pageBytes) !== 0n || size > 0xffff_ffffn)
    throw refuse(`${field}.size`, size, "whole pages below 4 GiB")
  if (rawBytes > size) throw refuse(`${field}.rawSize`, rawBytes, "at most the section's size in memory")
  if (offset + rawBytes > image.length)
    throw refuse(`${field}.offset`, offset, `${rawBytes} bytes within the image`)
  if (attributes > 3) throw refuse(`${field}.attributes`, attributes, "bits 0 (measured) and 1 (added later)")
  const extended = (attributes & 1) !== 0
  const augmented = (attributes & 2) !== 0
  if (extended && augmented) throw refuse(`${field}.attributes`, attributes, "not both")
  return {
    data: image.subarray(offset, offset + rawBytes),
    address,
    size: Number(size),
    type,
    extended,
    augmented,
  }
}
