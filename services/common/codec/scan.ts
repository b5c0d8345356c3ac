/**
 * Walks msgpack before anything is built from it: the decoder behind it knows forms that run code or eat memory, and
 * keeps the last of two equal keys. What passes here is one value of plain types, within the limits.
 */
import { isUtf8 } from "node:buffer"
import { limits } from "../../../schemas/limits.ts"
import type { DecodeCode } from "./error.ts"

export interface ScanFault {
  readonly code: DecodeCode
  readonly message: string
}

class Fault extends Error {
  readonly code: DecodeCode

  constructor(code: DecodeCode, message: string) {
    super(message)
    this.code = code
  }
}

const KEY_BYTES_MAX = 64

/** The forms of msgpack that messages use, by the byte that starts them: how many bytes follow, or how wide the length is. */
const scalars = new Map([
  [0xc0, 0], // nil
  [0xc2, 0], // false
  [0xc3, 0], // true
  [0xca, 4], // float32
  [0xcb, 8], // float64
  [0xcc, 1], // uint8 to uint64
  [0xcd, 2],
  [0xce, 4],
  [0xcf, 8],
  [0xd0, 1], // int8 to int64
  [0xd1, 2],
  [0xd2, 4],
  [0xd3, 8],
])
type Kind = "text" | "bytes" | "array" | "map"
const sized = new Map<number, readonly [Kind, 1 | 2 | 4]>([
  [0xc4, ["bytes", 1]],
  [0xc5, ["bytes", 2]],
  [0xc6, ["bytes", 4]],
  [0xd9, ["text", 1]],
  [0xda, ["text", 2]],
  [0xdb, ["text", 4]],
  [0xdc, ["array", 2]],
  [0xdd, ["array", 4]],
  [0xde, ["map", 2]],
  [0xdf, ["map", 4]],
])

class Scanner {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #at = 0
  #items = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  message(): void {
    this.#value(0)
    const left = this.#bytes.length - this.#at
    if (left > 0) throw new Fault("TRAILING", `${left} bytes after the message`)
  }

  /** Claims the next `count` bytes and gives where they start. */
  #take(count: number): number {
    const start = this.#at
    if (count > this.#bytes.length - start) throw new Fault("NOT_MSGPACK", `cut short at byte ${start}`)
    this.#at = start + count
    return start
  }

  #number(width: 1 | 2 | 4): number {
    const at = this.#take(width)
    return width === 1
      ? this.#view.getUint8(at)
      : width === 2
        ? this.#view.getUint16(at)
        : this.#view.getUint32(at)
  }

  /** Kind and length of the value that starts with `tag`; undefined when it is a scalar and already skipped. */
  #head(tag: number, at: number): readonly [Kind, number] | undefined {
    if (tag <= 0x7f || tag >= 0xe0) return undefined
    if (tag <= 0x8f) return ["map", tag & 0x0f]
    if (tag <= 0x9f) return ["array", tag & 0x0f]
    if (tag <= 0xbf) return ["text", tag & 0x1f]
    const scalar = scalars.get(tag)
    if (scalar !== undefined) {
      this.#take(scalar)
      return undefined
    }
    const form = sized.get(tag)
    if (form !== undefined) return [form[0], this.#number(form[1])]
    if (tag === 0xc1) throw new Fault("NOT_MSGPACK", `the reserved byte 0xc1 at byte ${at}`)
    throw new Fault("FORBIDDEN_TYPE", `an extension type (0x${tag.toString(16)}) at byte ${at}`)
  }

  #value(depth: number): void {
    if (++this.#items > limits.messageItems)
      throw new Fault("TOO_MANY", `more than ${limits.messageItems} values`)
    if (depth > limits.messageDepth) throw new Fault("TOO_DEEP", `nested deeper than ${limits.messageDepth}`)
    const at = this.#at
    const head = this.#head(this.#number(1), at)
    if (head === undefined) return
    const [kind, length] = head
    if (kind === "bytes") this.#take(length)
    else if (kind === "text") this.#text(length)
    else if (kind === "array") this.#array(length, depth)
    else this.#map(length, depth)
  }

  /** Claims a string's bytes and gives them. */
  #text(length: number): Uint8Array {
    const start = this.#take(length)
    const bytes = this.#bytes.subarray(start, this.#at)
    if (!isUtf8(bytes)) throw new Fault("NOT_MSGPACK", `text that is not UTF-8 at byte ${start}`)
    return bytes
  }

  #array(count: number, depth: number): void {
    for (let i = 0; i < count; i++) this.#value(depth + 1)
  }

  #map(count: number, depth: number): void {
    const seen = new Set<string>()
    for (let i = 0; i < count; i++) {
      const key = this.#key()
      if (seen.has(key)) throw new Fault("DUPLICATE_KEY", `a field given twice at byte ${this.#at}`)
      seen.add(key)
      this.#value(depth + 1)
    }
  }

  #key(): string {
    const at = this.#at
    const head = this.#head(this.#number(1), at)
    if (head?.[0] !== "text") throw new Fault("FORBIDDEN_TYPE", `a key that is not a string at byte ${at}`)
    const bytes = this.#text(head[1])
    if (bytes.length > KEY_BYTES_MAX)
      throw new Fault("UNKNOWN_FIELD", `a field name of ${bytes.length} bytes at byte ${at}`)
    const key = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8")
    // The decoder renames this key to keep prototypes clean, which would make two keys one.
    if (key === "__proto__") throw new Fault("UNKNOWN_FIELD", `a field named __proto__ at byte ${at}`)
    return key
  }
}

/**
 * Checks that `bytes` is exactly one msgpack value of plain types within `limits`, without building it.
 * Work and memory are bounded by the number of bytes and `limits.messageItems`.
 */
export const scan = (bytes: Uint8Array): ScanFault | undefined => {
  try {
    new Scanner(bytes).message()
    return undefined
  } catch (fault) {
    if (fault instanceof Fault) return { code: fault.code, message: fault.message }
    throw fault
  }
}
