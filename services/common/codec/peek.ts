/**
 * Looks for one field of a message without building anything: what can be refused for that field alone should cost nothing
 * else. Says nothing of the rest of the message, which is decoded as if nobody had looked.
 */

/** By the byte that starts a value: how many bytes follow it, and how many of these give a length in bytes. */
const shapes = new Map<number, readonly [follows: number, length: number]>([
  ...[0xc0, 0xc2, 0xc3].map((tag) => [tag, [0, 0]] as const),
  ...[0xcc, 0xd0].map((tag) => [tag, [1, 0]] as const),
  ...[0xcd, 0xd1].map((tag) => [tag, [2, 0]] as const),
  ...[0xca, 0xce, 0xd2].map((tag) => [tag, [4, 0]] as const),
  ...[0xcb, 0xcf, 0xd3].map((tag) => [tag, [8, 0]] as const),
  ...[0xc4, 0xd9].map((tag) => [tag, [1, 1]] as const),
  ...[0xc5, 0xda].map((tag) => [tag, [2, 2]] as const),
])

/** Where the value that starts at `at` ends; undefined when that isn't a scalar, text or bytes. May be beyond the end. */
const endOf = (bytes: Uint8Array, at: number): number | undefined => {
  const tag = bytes[at]
  if (tag === undefined) return undefined
  if (tag <= 0x7f || tag >= 0xe0) return at + 1
  if (tag >= 0xa0 && tag <= 0xbf) return at + 1 + (tag & 0x1f)
  const shape = shapes.get(tag)
  if (shape === undefined) return undefined
  const [follows, width] = shape
  let length = 0
  for (let i = 0; i < width; i++) length = length * 256 + (bytes[at + 1 + i] ?? 0)
  return at + 1 + follows + length
}

/**
 * @param within where the field must end at the latest
 * @returns a view of the field's bytes; undefined unless the message is a map of at most 15 fields that has this one, of at
 *   most 255 bytes, with nothing but scalars, texts and bytes before it
 */
export const peekBytes = (message: Uint8Array, field: string, within: number): Uint8Array | undefined => {
  const bytes = message.subarray(0, within)
  const [map] = bytes
  if (map === undefined || map < 0x80 || map > 0x8f) return undefined
  let at = 1
  for (let i = 0; i < (map & 0x0f); i++) {
    const tag = bytes[at] ?? 0
    const value = at + 1 + (tag & 0x1f)
    if (tag < 0xa0 || tag > 0xbf || value >= bytes.length) return undefined
    const end = endOf(bytes, value)
    if (end === undefined || end > bytes.length) return undefined
    if (Buffer.from(bytes.buffer, bytes.byteOffset + at + 1, tag & 0x1f).toString("latin1") === field)
      return bytes[value] === 0xc4 ? bytes.subarray(value + 2, end) : undefined
    at = end
  }
  return undefined
}
