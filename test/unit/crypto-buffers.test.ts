import { createHash } from "node:crypto"
import { describe, expect, it, vi } from "vitest"
import { adopted, bytesOf, latin1Bytes, moved, viewOf } from "../../services/common/crypto/buffers.ts"
import { native } from "../../services/common/crypto/index.ts"

const all = Uint8Array.from({ length: 256 }, (_, i) => i)
/** A part of memory that others have parts of too. */
const shared = () => {
  const pool = Buffer.alloc(64, 9)
  return { pool, part: pool.subarray(8, 40).fill(5) }
}

describe("buffers", () => {
  it("become arrays with memory of their own", () => {
    for (const make of [bytesOf, moved, adopted]) {
      const { pool, part } = shared()
      const bytes = make(part)
      expect(Object.getPrototypeOf(bytes)).toBe(Uint8Array.prototype)
      expect([bytes.length, bytes.buffer.byteLength]).toEqual([32, 32])
      pool.fill(0)
      expect(bytes).toEqual(new Uint8Array(32).fill(5))
    }
  })

  it("keep nothing of what was moved, and nothing beside it is touched", () => {
    for (const move of [moved, adopted]) {
      const { pool, part } = shared()
      move(part)
      expect(part.every((byte) => byte === 0)).toBe(true)
      expect([pool[7], pool[40]]).toEqual([9, 9])
    }
  })

  it("are adopted without a copy where their memory is theirs alone", () => {
    const buffer = Buffer.alloc(32, 7)
    expect(adopted(buffer).buffer).toBe(buffer.buffer)
    expect(viewOf(all).buffer).toBe(all.buffer)
  })

  it("are made of text byte by byte", () => {
    expect(latin1Bytes(Buffer.from(all).toString("latin1"))).toEqual(all)
  })
})

describe("what OpenSSL gives", () => {
  it("is nobody else's memory", () => {
    const [key, nonce] = [new Uint8Array(32), new Uint8Array(12)]
    const sealed = native.chacha20poly1305.seal(key, nonce, all)
    const own = native.x25519.generate()
    for (const bytes of [
      native.chacha20poly1305.open(key, nonce, sealed),
      native.chacha20poly1305.open(key, nonce, native.chacha20poly1305.seal(key, nonce, key.subarray(32))),
      sealed,
      native.x25519.sharedSecret(own, native.x25519.generate().publicKey),
      native.hmacSha256(key, all),
      ...[native.sha256(all), native.sha384(all), native.sha512(all), native.sha3_256(all)],
    ]) {
      expect(Object.getPrototypeOf(bytes)).toBe(Uint8Array.prototype)
      expect(bytes.buffer.byteLength).toBe(bytes.length)
    }
  })

  it("of digests has every value of a byte", () => {
    const seen = new Set<number>()
    for (let i = 0; i < 64; i++) {
      const data = Uint8Array.of(i)
      const digest = native.sha512(data)
      expect(Buffer.compare(digest, createHash("sha512").update(data).digest())).toBe(0)
      for (const byte of digest) seen.add(byte)
    }
    expect(seen.size).toBe(256)
  })

  it("of a key that is expanded stays nowhere else", () => {
    const prk = native.sha256(all)
    for (const length of [12, 32, 42, 96]) {
      const touched: Array<Uint8Array> = []
      const { set } = Uint8Array.prototype
      const spy = vi.spyOn(Uint8Array.prototype, "set").mockImplementation(function (
        this: Uint8Array,
        from: ArrayLike<number>,
        at?: number,
      ) {
        touched.push(this, from as Uint8Array)
        set.call(this, from, at)
      })
      const key = native.hkdfExpandSha256(prk, all, length)
      spy.mockRestore()
      expect([key.length, key.buffer.byteLength]).toEqual([length, length])
      expect(touched.length).toBeGreaterThan(0)
      for (const bytes of touched)
        if (bytes.buffer !== key.buffer) expect(bytes.every((byte) => byte === 0)).toBe(true)
    }
  })
})
