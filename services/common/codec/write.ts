/**
 * Writes msgpack: values of plain types, each in its shortest form; numbers beyond 32 bits as float64, bigints as 64-bit
 * integers. The counterpart of `read.ts`.
 */
import { limits } from "../../../schemas/limits.ts"
import { EncodeError } from "./error.ts"

/** Longer texts are left to the runtime. */
const SHORT_TEXT = 48
const INT64_MAX = 0x7fff_ffff_ffff_ffffn
/** A draft that had to grow beyond this is not kept. */
const KEPT_BYTES = 1_048_576

class Writer {
  #bytes = new Uint8Array(65_536)
  #view = new DataView(this.#bytes.buffer)
  #buffer = Buffer.from(this.#bytes.buffer)
  #at = 0

  /** The bytes of one value, with memory of their own. Nothing of it stays in the draft: there may be keys in it. */
  message(value: unknown): Uint8Array {
    try {
      this.#value(value, 0)
      return this.#bytes.slice(0, this.#at)
    } finally {
      if (this.#bytes.length > KEPT_BYTES) this.#replace(65_536)
      else this.#bytes.fill(0, 0, this.#at)
      this.#at = 0
    }
  }

  #replace(size: number): void {
    this.#bytes.fill(0)
    this.#bytes = new Uint8Array(size)
    this.#view = new DataView(this.#bytes.buffer)
    this.#buffer = Buffer.from(this.#bytes.buffer)
  }

  /** Claims `count` bytes and gives where they start. */
  #room(count: number): number {
    const start = this.#at
    const end = start + count
    if (end > this.#bytes.length) {
      const written = this.#bytes.slice(0, start)
      this.#replace(Math.max(2 * this.#bytes.length, end))
      this.#bytes.set(written)
      written.fill(0)
    }
    this.#at = end
    return start
  }

  #byte(byte: number): void {
    const at = this.#room(1)
    this.#bytes[at] = byte
  }

  #value(value: unknown, depth: number): void {
    if (depth > limits.messageDepth) throw new EncodeError("", `nested deeper than ${limits.messageDepth}`)
    if (typeof value === "string") this.#text(value)
    else if (typeof value === "object") this.#object(value, depth)
    else if (typeof value === "number") this.#number(value)
    else if (typeof value === "bigint") this.#bigint(value)
    else if (typeof value === "boolean") this.#byte(value ? 0xc3 : 0xc2)
    else throw new EncodeError("", `a value of type ${typeof value}`)
  }

  #object(value: object | null, depth: number): void {
    if (value === null) this.#byte(0xc0)
    else if (value instanceof Uint8Array) this.#slice(value)
    else if (Array.isArray(value)) {
      this.#head(value.length, 0x90, 0x0f, 0xdc)
      for (const item of value as ReadonlyArray<unknown>) this.#value(item, depth + 1)
    } else {
      const names = Object.keys(value)
      this.#head(names.length, 0x80, 0x0f, 0xde)
      for (const name of names) {
        this.#text(name)
        this.#value((value as Record<string, unknown>)[name], depth + 1)
      }
    }
  }

  /** Of an array or a map: how many follow, in the first byte up to `most`, in 16 bits behind `tag` or in 32 behind the next. */
  #head(count: number, short: number, most: number, tag: number): void {
    if (count <= most) this.#byte(short | count)
    else if (count <= 0xffff) this.#tagged16(tag, count)
    else this.#tagged32(tag + 1, count)
  }

  #tagged16(tag: number, value: number): void {
    const at = this.#room(3)
    this.#bytes[at] = tag
    this.#view.setUint16(at + 1, value)
  }

  #tagged32(tag: number, value: number): void {
    const at = this.#room(5)
    this.#bytes[at] = tag
    this.#view.setUint32(at + 1, value)
  }

  /** Of bytes or text of a length of its own: that in 8, 16 or 32 bits, behind one of three tags. */
  #length(length: number, tag: number): void {
    if (length <= 0xff) {
      const at = this.#room(2)
      this.#bytes[at] = tag
      this.#bytes[at + 1] = length
    } else if (length <= 0xffff) this.#tagged16(tag + 1, length)
    else this.#tagged32(tag + 2, length)
  }

  #slice(bytes: Uint8Array): void {
    this.#length(bytes.length, 0xc4)
    const at = this.#room(bytes.length)
    this.#bytes.set(bytes, at)
  }

  #text(text: string): void {
    if (text.length <= SHORT_TEXT && this.#ascii(text)) return
    const length = Buffer.byteLength(text)
    if (length <= 0x1f) this.#byte(0xa0 | length)
    else this.#length(length, 0xd9)
    const at = this.#room(length)
    this.#buffer.write(text, at, length, "utf8")
  }

  /** False, and nothing was written, when it is not ASCII. */
  #ascii(text: string): boolean {
    const { length } = text
    const start = this.#at
    if (length <= 0x1f) this.#byte(0xa0 | length)
    else this.#length(length, 0xd9)
    const at = this.#room(length)
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i)
      if (unit > 0x7f) {
        this.#bytes.fill(0, start, this.#at)
        this.#at = start
        return false
      }
      this.#bytes[at + i] = unit
    }
    return true
  }

  #number(value: number): void {
    if (!Number.isInteger(value) || value > 0xffff_ffff || value < -0x8000_0000) this.#float(value)
    else if (value >= 0) this.#positive(value)
    else this.#negative(value)
  }

  #float(value: number): void {
    const at = this.#room(9)
    this.#bytes[at] = 0xcb
    this.#view.setFloat64(at + 1, value)
  }

  #positive(value: number): void {
    if (value <= 0x7f) this.#byte(value)
    else this.#length(value, 0xcc)
  }

  #negative(value: number): void {
    if (value >= -0x20) this.#byte(value + 0x100)
    else if (value >= -0x80) {
      const at = this.#room(2)
      this.#bytes[at] = 0xd0
      this.#view.setInt8(at + 1, value)
    } else if (value >= -0x8000) this.#tagged16(0xd1, value)
    else this.#tagged32(0xd2, value)
  }

  #bigint(value: bigint): void {
    if (value > 0xffff_ffff_ffff_ffffn || value < -INT64_MAX - 1n)
      throw new EncodeError("", "an integer of more than 64 bits")
    const at = this.#room(9)
    this.#bytes[at] = value > INT64_MAX ? 0xcf : 0xd3
    this.#view.setBigUint64(at + 1, BigInt.asUintN(64, value))
  }
}

const writer = new Writer()

/**
 * The bytes of a value, with memory of their own.
 * @throws EncodeError for what has no form: undefined, functions, symbols, and nesting deeper than `limits`
 */
export const write = (value: unknown): Uint8Array => writer.message(value)
