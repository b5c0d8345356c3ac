/** Walks over bytes that may say anything: whatever it hands out lies within them. */

export type Fail = (field: string, found: string, wanted: string) => Error

export class Reader {
  readonly #bytes: Uint8Array
  readonly #view: DataView
  readonly #littleEndian: boolean
  readonly #fail: Fail
  #at = 0

  /** @param fail makes the error for bytes that end too early */
  constructor(bytes: Uint8Array, littleEndian: boolean, fail: Fail) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#littleEndian = littleEndian
    this.#fail = fail
  }

  get offset(): number {
    return this.#at
  }

  get left(): number {
    return this.#bytes.length - this.#at
  }

  u8(field: string): number {
    return this.#view.getUint8(this.#advance(field, 1))
  }

  u16(field: string): number {
    return this.#view.getUint16(this.#advance(field, 2), this.#littleEndian)
  }

  u32(field: string): number {
    return this.#view.getUint32(this.#advance(field, 4), this.#littleEndian)
  }

  u64(field: string): bigint {
    return this.#view.getBigUint64(this.#advance(field, 8), this.#littleEndian)
  }

  /** A view, not a copy. */
  take(field: string, length: number): Uint8Array {
    const from = this.#advance(field, length)
    return this.#bytes.subarray(from, from + length)
  }

  /** All that is left, without moving on. */
  rest(): Uint8Array {
    return this.#bytes.subarray(this.#at)
  }

  #advance(field: string, length: number): number {
    const from = this.#at
    if (length > this.#bytes.length - from)
      throw this.#fail(field, `${this.#bytes.length - from} bytes left`, `${length} bytes`)
    this.#at = from + length
    return from
  }
}
