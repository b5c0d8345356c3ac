/** A second writer of msgpack, for the golden vectors: the services' codec must give the same bytes. */

const head = (out: number[], value: number, tag: number, width: 1 | 2 | 4): void => {
  out.push(tag)
  for (let shift = 8 * (width - 1); shift >= 0; shift -= 8) out.push((value >>> shift) & 0xff)
}

const append = (out: number[], bytes: Uint8Array): void => {
  for (const byte of bytes) out.push(byte)
}

/** The shortest of a fixed form below `fixed.limit` and the forms with 1, 2 or 4 bytes of length (0: no such form). */
const sized = (
  out: number[],
  length: number,
  fixed: { readonly tag: number; readonly limit: number },
  tags: readonly [one: number, two: number, four: number],
): void => {
  if (length < fixed.limit) out.push(fixed.tag | length)
  else if (length < 0x100 && tags[0] !== 0) head(out, length, tags[0], 1)
  else if (length < 0x1_0000) head(out, length, tags[1], 2)
  else head(out, length, tags[2], 4)
}

const number = (out: number[], value: number): void => {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) {
    const view = new DataView(new ArrayBuffer(8))
    view.setFloat64(0, value)
    out.push(0xcb, ...new Uint8Array(view.buffer))
  } else sized(out, value, { tag: 0, limit: 0x80 }, [0xcc, 0xcd, 0xce])
}

const write = (out: number[], value: unknown): void => {
  if (typeof value === "boolean") out.push(value ? 0xc3 : 0xc2)
  else if (typeof value === "number") number(out, value)
  else if (typeof value === "bigint") {
    const view = new DataView(new ArrayBuffer(8))
    view.setBigUint64(0, value)
    out.push(value < 2n ** 63n ? 0xd3 : 0xcf, ...new Uint8Array(view.buffer))
  } else if (typeof value === "string") {
    const bytes = new TextEncoder().encode(value)
    sized(out, bytes.length, { tag: 0xa0, limit: 32 }, [0xd9, 0xda, 0xdb])
    append(out, bytes)
  } else if (value instanceof Uint8Array) {
    sized(out, value.length, { tag: 0, limit: 0 }, [0xc4, 0xc5, 0xc6])
    append(out, value)
  } else if (Array.isArray(value)) {
    sized(out, value.length, { tag: 0x90, limit: 16 }, [0, 0xdc, 0xdd])
    for (const item of value) write(out, item)
  } else if (typeof value === "object" && value !== null) {
    const entries = Object.entries(value)
    sized(out, entries.length, { tag: 0x80, limit: 16 }, [0, 0xde, 0xdf])
    for (const [name, inner] of entries) {
      write(out, name)
      write(out, inner)
    }
  } else throw new Error(`no msgpack for a ${typeof value}`)
}

/** The msgpack of plain values: whole numbers, texts, bytes, bigints of 0 to 2^64-1, booleans, lists, maps. */
export const msgpack = (value: unknown): Uint8Array => {
  const out: number[] = []
  write(out, value)
  return Uint8Array.from(out)
}
