/** For the tests of reference values: firmware and images made up here, with only what is read of real ones. */

import { EvidenceError } from "../../services/evidence/index.ts"
import { guidBytes } from "../../services/evidence/measure/guid.ts"

const le = (bytes: 2 | 4 | 8, ...values: readonly (number | bigint)[]): Buffer =>
  Buffer.concat(
    values.map((value) => {
      const one = Buffer.alloc(8)
      one.writeBigUInt64LE(BigInt(value))
      return one.subarray(0, bytes)
    }),
  )
export const u16 = (...values: readonly number[]) => le(2, ...values)
export const u32 = (...values: readonly number[]) => le(4, ...values)
export const u64 = (...values: readonly (number | bigint)[]) => le(8, ...values)

export const guids = {
  footer: "96b582de-1fb2-45f7-baea-a366c55a082d",
  reset: "00f771de-1a7e-4fcb-890e-68c77e2fb44e",
  hashes: "7255371f-3a3b-4b04-927b-1da6efa8d454",
  sev: "dc886566-984a-4798-a75e-5585a7bf67cc",
  tdx: "e47a6535-984a-4798-865e-4685a7bf8ec2",
}

/** Address, size and type. */
export type SevSection = readonly [number, number, number]

/** Offset, size in the file, address, size in memory, type, attributes. */
export type TdxSection = readonly [number, number, number, number, number, number]

export interface FirmwareParts {
  readonly bytes?: number
  readonly sev?: readonly SevSection[]
  readonly reset?: number
  readonly hashes?: number
  readonly tdx?: readonly TdxSection[]
}

/** An OVMF of which nothing is real but its table for VMMs; the rest counts up. */
export const firmware = ({ bytes = 8_192, sev, reset, hashes, tdx }: FirmwareParts): Uint8Array => {
  const image = new Uint8Array(bytes).map((_, i) => (i * 31 + (i >> 8)) & 255)
  const sevAt = 2_048
  const tdxAt = 1_024
  const entry = (guid: string, data: Uint8Array) =>
    Buffer.concat([data, u16(data.length + 18), guidBytes(guid)])
  const entries = [
    ...(sev === undefined ? [] : [entry(guids.sev, u32(sevAt))]),
    ...(tdx === undefined ? [] : [entry(guids.tdx, u32(tdxAt))]),
    ...(hashes === undefined ? [] : [entry(guids.hashes, u32(hashes, 1_024))]),
    ...(reset === undefined ? [] : [entry(guids.reset, u32(reset))]),
  ]
  const body = Buffer.concat(entries)
  const table = Buffer.concat([body, u16(body.length + 18), guidBytes(guids.footer)])
  image.set(table, bytes - 32 - table.length)
  if (sev !== undefined)
    image.set(
      Buffer.concat([
        Buffer.from("ASEV"),
        u32(16 + 12 * sev.length, 1, sev.length),
        ...sev.map((section) => u32(...section)),
      ]),
      bytes - sevAt,
    )
  if (tdx !== undefined)
    image.set(
      Buffer.concat([
        Buffer.from("TDVF"),
        u32(16 + 32 * tdx.length, 1, tdx.length),
        ...tdx.map(([offset, raw, address, size, type, attributes]) =>
          Buffer.concat([u32(offset, raw), u64(address, size), u32(type, attributes)]),
        ),
      ]),
      bytes - tdxAt,
    )
  return image
}

const fileAlignment = 512

export interface ImageParts {
  readonly sections: readonly (readonly [name: string, data: Uint8Array])[]
  readonly certificates?: Uint8Array
  /** Between the last section and the certificates. */
  readonly trailer?: Uint8Array
}

/** A PE32+ file that nothing could run. */
export const peImage = ({ sections, certificates, trailer = new Uint8Array(0) }: ImageParts): Uint8Array => {
  const table = 64 + 24 + 240
  const headerBytes = Math.ceil((table + 40 * sections.length) / fileAlignment) * fileAlignment
  const headers = Buffer.alloc(headerBytes)
  headers.write("MZ")
  headers.writeUInt32LE(64, 0x3c)
  headers.write("PE\0\0", 64)
  headers.writeUInt16LE(0x8664, 68)
  headers.writeUInt16LE(sections.length, 70)
  headers.writeUInt16LE(240, 84)
  const optional = 88
  headers.writeUInt16LE(0x20b, optional)
  headers.writeUInt32LE(headerBytes, optional + 60)
  headers.writeUInt32LE(0x1234_5678, optional + 64)
  headers.writeUInt32LE(16, optional + 108)
  let at = headerBytes
  const bodies = sections.map(([name, data], i) => {
    const size = Math.ceil(data.length / fileAlignment) * fileAlignment
    const entry = table + 40 * i
    headers.write(name.slice(0, 8), entry, "latin1")
    headers.writeUInt32LE(data.length, entry + 8)
    headers.writeUInt32LE(0x1000 * (i + 1), entry + 12)
    headers.writeUInt32LE(size, entry + 16)
    headers.writeUInt32LE(at, entry + 20)
    at += size
    return Buffer.concat([data, Buffer.alloc(size - data.length)])
  })
  if (certificates !== undefined) {
    headers.writeUInt32LE(at + trailer.length, optional + 112 + 32)
    headers.writeUInt32LE(certificates.length, optional + 112 + 36)
  }
  return Uint8Array.from(Buffer.concat([headers, ...bodies, trailer, certificates ?? new Uint8Array(0)]))
}

/** The typed error, or undefined. Anything else that is thrown is a crash. */
export const refusal = (act: () => unknown): EvidenceError<string> | undefined => {
  try {
    act()
    return undefined
  } catch (error) {
    if (error instanceof EvidenceError) return error
    throw error
  }
}

/** A generator with a seed of its own: the same inputs in every run. */
export const random = (seed: number) => {
  let state = seed >>> 0
  return (below: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

/** Some bytes changed, or the end cut off: within `from` to `to`. */
export const mutated = (bytes: Uint8Array, pick: (below: number) => number, from = 0, to = bytes.length) => {
  const copy = Uint8Array.from(bytes)
  const interesting = [0, 1, 0x7f, 0x80, 0xff]
  for (let i = 0; i <= pick(4); i++)
    copy[from + pick(to - from)] = pick(2) === 0 ? pick(256) : (interesting[pick(5)] ?? 0)
  return pick(8) === 0 ? copy.subarray(0, pick(copy.length)) : copy
}
