import { readFileSync, writeFileSync } from "node:fs"

/**
 * Makes a data plane that works but isn't the one that was measured: one byte of one instruction of the sealer is
 * changed, so that outer packets leave with a TTL of 63 instead of 64. The result loads, passes the verifier and carries
 * traffic (the outer checksum is computed over the changed header); only its measurement tells it apart. The lab gives it
 * to a node whose attestation must fail.
 */
export interface Tampering {
  readonly section: string
  /** Offset in the file of the byte that was changed. */
  readonly offset: number
  readonly before: number
  readonly after: number
}

const SHF_EXECINSTR = 4n
const SECTION_HEADER_SIZE = 64
const MOV32_IMM = 0xb4
const MOV64_IMM = 0xb7
/** struct iphdr's ttl and protocol as the compiler stores them in one go: TTL 64 in the low byte, UDP above it. */
const TTL_AND_UDP = 0x1140

interface Section {
  readonly name: string
  readonly offset: number
  readonly size: number
}

/** The sections of a 64-bit little-endian ELF file that hold instructions. */
const codeSections = (file: Buffer): ReadonlyArray<Section> => {
  if (file.length < 64 || file.readUInt32BE(0) !== 0x7f454c46 || file[4] !== 2 || file[5] !== 1)
    throw new Error("not a 64-bit little-endian ELF file")
  const table = Number(file.readBigUInt64LE(40))
  const count = file.readUInt16LE(60)
  const header = (index: number): Buffer =>
    file.subarray(table + index * SECTION_HEADER_SIZE, table + (index + 1) * SECTION_HEADER_SIZE)
  const names = Number(header(file.readUInt16LE(62)).readBigUInt64LE(24))
  return Array.from({ length: count }, (_, index) => header(index))
    .filter((section) => (section.readBigUInt64LE(8) & SHF_EXECINSTR) !== 0n)
    .map((section) => {
      const at = names + section.readUInt32LE(0)
      return {
        name: file.toString("latin1", at, file.indexOf(0, at)),
        offset: Number(section.readBigUInt64LE(24)),
        size: Number(section.readBigUInt64LE(32)),
      }
    })
}

/** Writes a tampered copy of the object file; throws if the instruction isn't there exactly once. */
export const tamper = (objectPath: string, outPath: string): Tampering => {
  const file = readFileSync(objectPath)
  const places: Array<Tampering> = []
  for (const { name, offset, size } of codeSections(file))
    for (let at = offset; at + 8 <= offset + size; at += 8) {
      const code = file[at]
      if ((code === MOV32_IMM || code === MOV64_IMM) && file.readInt32LE(at + 4) === TTL_AND_UDP)
        places.push({ section: name, offset: at + 4, before: 64, after: 63 })
    }
  const [place, ...others] = places
  if (place === undefined || others.length > 0)
    throw new Error(`expected one instruction that sets TTL 64 and UDP, found ${places.length}`)
  file[place.offset] = place.after
  writeFileSync(outPath, file)
  return place
}
