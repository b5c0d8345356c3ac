/**
 * Reads msgpack in one pass: one value of plain types, within the limits, and nothing else. The forms that other decoders
 * know beyond that (extension types, records, references, keys that are not text) end it, as does the second of two equal
 * keys.
 */
import { isUtf8 } from "node:buffer"
import { limits } from "../../../schemas/limits.ts"
import type { DecodeCode } from "./error.ts"

/** Why bytes could not be read. */
export class ReadFault extends Error {
  override readonly name = "ReadFault"
  readonly code: DecodeCode

  constructor(code: DecodeCode, message: string) {
    super(message)
    this.code = code
  }
}

const KEY_BYTES_MAX = 64

/**
 * Short ASCII texts that were read lately, by their bytes: field names and ids come again and again. Who sends other texts
 * drives some out, and nothing more.
 */
class Texts {
  static readonly bytesMax = 32
  readonly #slots: Array<string | undefined>
  readonly #mask: number

  /** @param slots a power of two */
  constructor(slots: number) {
    this.#slots = new Array(slots)
    this.#mask = slots - 1
  }

  /** Undefined for what isn't ASCII. */
  read(bytes: Buffer, from: number, to: number): string | undefined {
    let hash = to - from
    let any = 0
    for (let i = from; i < to; i++) {
      const byte = bytes[i] ?? 0
      any |= byte
      hash = (Math.imul(hash, 31) + byte) | 0
    }
    if (any > 0x7f) return undefined
    const place = (hash ^ (hash >>> 15)) & this.#mask
    const known = this.#slots[place]
    if (known !== undefined && isText(known, bytes, from, to)) return known
    const text = bytes.toString("latin1", from, to)
    this.#slots[place] = text
    return text
  }
}

const isText = (text: string, bytes: Buffer, from: number, to: number): boolean => {
  if (text.length !== to - from) return false
  for (let i = from; i < to; i++) if (text.charCodeAt(i - from) !== bytes[i]) return false
  return true
}

/** Apart, for there are few names and many ids: a name that is met again is in the engine's own table already. */
const names = new Texts(1_024)
const ids = new Texts(4_096)

class Reader {
  readonly #bytes: Uint8Array
  readonly #buffer: Buffer
  readonly #view: DataView
  #at = 0
  #items = 0

  constructor(bytes: Uint8Array) {
    // A plain view, not a Buffer: what is sliced from it is of its type, and a copy.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  message(): unknown {
    const value = this.#value(0)
    const left = this.#bytes.length - this.#at
    if (left > 0) throw new ReadFault("TRAILING", `${left} bytes after the message`)
    return value
  }

  /** Claims the next `count` bytes and gives where they start. */
  #take(count: number): number {
    const start = this.#at
    if (count > this.#bytes.length - start) throw new ReadFault("NOT_MSGPACK", `cut short at byte ${start}`)
    this.#at = start + count
    return start
  }

  #length(width: 1 | 2 | 4): number {
    const at = this.#take(width)
    if (width === 1) return this.#view.getUint8(at)
    return width === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at)
  }

  #value(depth: number): unknown {
    if (++this.#items > limits.messageItems)
      throw new ReadFault("TOO_MANY", `more than ${limits.messageItems} values`)
    if (depth > limits.messageDepth)
      throw new ReadFault("TOO_DEEP", `nested deeper than ${limits.messageDepth}`)
    const at = this.#at
    const tag = this.#length(1)
    if (tag <= 0x7f) return tag
    if (tag <= 0x8f) return this.#map(tag & 0x0f, depth)
    if (tag <= 0x9f) return this.#array(tag & 0x0f, depth)
    if (tag <= 0xbf) return this.#text(tag & 0x1f, ids)
    if (tag >= 0xe0) return tag - 0x100
    return this.#tagged(tag, at, depth)
  }

  #tagged(tag: number, at: number, depth: number): unknown {
    switch (tag) {
      case 0xc0:
        return null
      case 0xc2:
        return false
      case 0xc3:
        return true
      case 0xc4:
        return this.#slice(this.#length(1))
      case 0xc5:
        return this.#slice(this.#length(2))
      case 0xc6:
        return this.#slice(this.#length(4))
      case 0xca:
        return this.#view.getFloat32(this.#take(4))
      case 0xcb:
        return this.#view.getFloat64(this.#take(8))
      case 0xcc:
        return this.#length(1)
      case 0xcd:
        return this.#length(2)
      case 0xce:
        return this.#length(4)
      case 0xcf:
        return this.#view.getBigUint64(this.#take(8))
      case 0xd0:
        return this.#view.getInt8(this.#take(1))
      case 0xd1:
        return this.#view.getInt16(this.#take(2))
      case 0xd2:
        return this.#view.getInt32(this.#take(4))
      case 0xd3:
        return this.#view.getBigInt64(this.#take(8))
      case 0xdc:
        return this.#array(this.#length(2), depth)
      case 0xdd:
        return this.#array(this.#length(4), depth)
      case 0xde:
        return this.#map(this.#length(2), depth)
      case 0xdf:
        return this.#map(this.#length(4), depth)
      default:
        return this.#text(this.#textLength(tag, at), ids)
    }
  }

  /** Of a text with its length in bytes of its own: the last of the forms that there are. */
  #textLength(tag: number, at: number): number {
    if (tag === 0xd9) return this.#length(1)
    if (tag === 0xda) return this.#length(2)
    if (tag === 0xdb) return this.#length(4)
    if (tag === 0xc1) throw new ReadFault("NOT_MSGPACK", `the reserved byte 0xc1 at byte ${at}`)
    throw new ReadFault("FORBIDDEN_TYPE", `an extension type (0x${tag.toString(16)}) at byte ${at}`)
  }

  #slice(length: number): Uint8Array {
    const start = this.#take(length)
    return this.#bytes.slice(start, this.#at)
  }

  #text(length: number, known: Texts): string {
    const start = this.#take(length)
    const text = length <= Texts.bytesMax ? known.read(this.#buffer, start, this.#at) : undefined
    return text ?? this.#decoded(start)
  }

  #decoded(start: number): string {
    if (!isUtf8(this.#bytes.subarray(start, this.#at)))
      throw new ReadFault("NOT_MSGPACK", `text that is not UTF-8 at byte ${start}`)
    return this.#buffer.toString("utf8", start, this.#at)
  }

  /** Nothing is made for what is only promised: each value that is there has taken a byte at least. */
  #array(count: number, depth: number): ReadonlyArray<unknown> {
    const items: Array<unknown> = []
    for (let i = 0; i < count; i++) items.push(this.#value(depth + 1))
    return items
  }

  #map(count: number, depth: number): object {
    const fields: Record<string, unknown> = {}
    for (let i = 0; i < count; i++) {
      const key = this.#key()
      if (Object.hasOwn(fields, key))
        throw new ReadFault("DUPLICATE_KEY", `a field given twice at byte ${this.#at}`)
      fields[key] = this.#value(depth + 1)
    }
    return fields
  }

  #key(): string {
    const at = this.#at
    const tag = this.#length(1)
    const short = tag >= 0xa0 && tag <= 0xbf
    if (!short && tag !== 0xc1 && (tag < 0xd9 || tag > 0xdb))
      throw new ReadFault("FORBIDDEN_TYPE", `a key that is not a string at byte ${at}`)
    const length = short ? tag & 0x1f : this.#textLength(tag, at)
    const key = this.#text(length, names)
    if (length > KEY_BYTES_MAX)
      throw new ReadFault("UNKNOWN_FIELD", `a field name of ${length} bytes at byte ${at}`)
    // Assigning to it would change what the object is.
    if (key === "__proto__") throw new ReadFault("UNKNOWN_FIELD", `a field named __proto__ at byte ${at}`)
    return key
  }
}

/**
 * The value that `bytes` are, with copies of all that it holds. Work and memory are bounded by the number of bytes and
 * `limits.messageItems`.
 * @throws ReadFault for anything but exactly one msgpack value of plain types within `limits`
 */
export const read = (bytes: Uint8Array): unknown => new Reader(bytes).message()
