/** Looks for known secrets in bytes: as they are, in hex, and in base64 at any alignment. */

const MIN = 32

export class Taint {
  /** First four bytes of each secret, to those that begin so. */
  readonly #byStart = new Map<number, Buffer[]>()
  #count = 0

  constructor(secrets: Iterable<string>) {
    for (const secret of secrets) {
      const bytes = Buffer.from(secret, "hex")
      if (bytes.length < MIN || bytes.every((byte) => byte === 0)) continue
      const start = bytes.readUInt32BE(0)
      const same = this.#byStart.get(start)
      if (same === undefined) this.#byStart.set(start, [bytes])
      else same.push(bytes)
      this.#count += 1
    }
  }

  get secrets(): number {
    return this.#count
  }

  /** @returns how a secret is in there, or undefined */
  in(data: Uint8Array): string | undefined {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.length)
    if (this.#plain(bytes)) return "as it is"
    const text = bytes.toString("latin1")
    for (const [run] of text.matchAll(/[0-9a-fA-F]{64,}/g))
      if (this.#plain(Buffer.from(run, "hex")) || this.#plain(Buffer.from(run.slice(1), "hex")))
        return "in hex"
    for (const [run] of text.matchAll(/[A-Za-z0-9+/_-]{43,}/g))
      for (const from of [0, 1, 2, 3])
        if (this.#plain(Buffer.from(run.slice(from), "base64"))) return "in base64"
    return undefined
  }

  #plain(bytes: Buffer): boolean {
    if (bytes.length < MIN) return false
    let window = bytes.readUInt32BE(0)
    for (let at = 0; at + MIN <= bytes.length; at++) {
      for (const secret of this.#byStart.get(window) ?? [])
        if (Buffer.compare(bytes.subarray(at, at + secret.length), secret) === 0) return true
      window = ((window << 8) | (bytes[at + 4] ?? 0)) >>> 0
    }
    return false
  }
}
