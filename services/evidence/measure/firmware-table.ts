/**
 * What OVMF says of itself to a VMM: a table of entries named by GUIDs, that ends 32 bytes before the end of the image and
 * is read backwards (edk2, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm).
 */
import { Reader } from "../eventlog/reader.ts"
import { MeasureError, measureLimits, refuser } from "./error.ts"
import { guidText } from "./guid.ts"

export const tableGuids = {
  footer: "96b582de-1fb2-45f7-baea-a366c55a082d",
  /** Where application processors of an SEV-ES or SNP guest begin. */
  sevResetBlock: "00f771de-1a7e-4fcb-890e-68c77e2fb44e",
  /** Where the VMM may put the hashes of kernel, initrd and command line. */
  sevHashTable: "7255371f-3a3b-4b04-927b-1da6efa8d454",
  sevMetadata: "dc886566-984a-4798-a75e-5585a7bf67cc",
  tdxMetadata: "e47a6535-984a-4798-865e-4685a7bf8ec2",
} as const

const fromEnd = 32
/** A length and a GUID follow the data of each entry. */
const trailerBytes = 18
const entriesMost = 64
const pageBytes = 4_096

const refuse = refuser("FIRMWARE_TABLE")

/** Data by GUID; of an entry that occurs twice, the last in the image, which a reader from the end meets first. */
export type FirmwareTable = ReadonlyMap<string, Uint8Array>

/**
 * @param image whole firmware, as the VMM maps it below 4 GiB: whole pages, at most 64 MiB
 * @throws MeasureError FIRMWARE_LENGTH, FIRMWARE_TABLE
 */
export const readFirmwareTable = (image: Uint8Array): FirmwareTable => {
  if (image.length === 0 || image.length % pageBytes !== 0 || image.length > measureLimits.firmwareBytes)
    throw new MeasureError(
      "FIRMWARE_LENGTH",
      "firmware",
      `${image.length} bytes`,
      `pages of ${pageBytes} bytes, at most ${measureLimits.firmwareBytes} bytes`,
    )
  const end = image.length - fromEnd
  const footer = trailerAt(image, end)
  if (footer.guid !== tableGuids.footer)
    throw refuse("firmware.table", footer.guid, `${tableGuids.footer}: an OVMF with a table for VMMs`)
  if (footer.length < trailerBytes || footer.length > end)
    throw refuse("firmware.table.length", footer.length, "within the image")
  const table = new Map<string, Uint8Array>()
  const begin = end - footer.length
  for (let at = end - trailerBytes, entry = 0; at > begin; entry++) {
    const field = `firmware.table.entries[${entry}]`
    if (entry >= entriesMost) throw refuse(field, "one more", `at most ${entriesMost}`)
    if (at - begin < trailerBytes) throw refuse(field, `${at - begin} bytes left`, "a whole entry")
    const { length, guid } = trailerAt(image, at)
    if (length < trailerBytes || length > at - begin)
      throw refuse(`${field}.length`, length, `${trailerBytes} to ${at - begin}`)
    if (!table.has(guid)) table.set(guid, image.subarray(at - length, at - trailerBytes))
    at -= length
  }
  return table
}

const trailerAt = (image: Uint8Array, end: number): { length: number; guid: string } => {
  const reader = new Reader(image.subarray(end - trailerBytes, end), true, refuse)
  return { length: reader.u16("length"), guid: guidText(reader.take("guid", 16)) }
}

/** The 32-bit number that an entry begins with. @throws MeasureError FIRMWARE_TABLE */
export const tableNumber = (table: FirmwareTable, guid: string, what: string): number => {
  const data = table.get(guid)
  if (data === undefined) throw refuse(`firmware.table.${guid}`, "none", what)
  return new Reader(data, true, (_, found, wanted) => refuse(`firmware.table.${guid}`, found, wanted)).u32(
    what,
  )
}

/** The bytes from a place that an entry gives as a distance from the image's end. @throws MeasureError FIRMWARE_TABLE */
export const pointedFromEnd = (
  image: Uint8Array,
  table: FirmwareTable,
  guid: string,
  what: string,
): Uint8Array => {
  const distance = tableNumber(table, guid, what)
  if (distance === 0 || distance > image.length)
    throw refuse(`firmware.table.${guid}`, distance, `1 to ${image.length} bytes before the image's end`)
  return image.subarray(image.length - distance)
}
