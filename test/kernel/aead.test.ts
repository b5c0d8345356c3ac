/** The kernel's ChaCha20-Poly1305 against RFC vectors and against another implementation, at every length. */
import { chacha20poly1305 } from "@noble/ciphers/chacha.js"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { type BpfObject, loadObject, testRun } from "../../services/common/kernel/libbpf.ts"
import { vectors } from "./aead-vectors.ts"
import { type AeadAnswer, aeadAnswer, aeadRequest, byteSource } from "./packets.ts"

let object: BpfObject
beforeAll(() => {
  object = loadObject("bpf/build/aead-test.bpf.o")
})
afterAll(() => object.close())

const run = (program: "test_seal" | "test_open", request: Uint8Array): AeadAnswer => {
  const result = testRun(object.programFd(program), request)
  expect(result.retval).toBe(0)
  return aeadAnswer(result.packet)
}

describe("RFC vectors", () => {
  for (const vector of vectors)
    test(vector.name, () => {
      const { key, nonce, associated, text, sealed, tag } = vector
      const out = run("test_seal", aeadRequest(key, nonce, associated, text))
      expect(out).toEqual({ status: 0, text: sealed, tag })
      const back = run("test_open", aeadRequest(key, nonce, associated, sealed, tag))
      expect(back.status).toBe(0)
      expect(back.text).toEqual(text)
    })
})

describe("against another implementation", () => {
  // A test run takes at most a page; the host's build of the same code goes on to the longest text.
  test("every length from 0 to 1500, and some up to 3000", () => {
    const bytes = byteSource(0x5eed)
    const lengths = [...Array.from({ length: 1501 }, (_, i) => i), 2048, 2559, 3000]
    for (const length of lengths) {
      const [key, nonce, text] = [bytes(32), bytes(12), bytes(length)]
      const associated = bytes(length % 17)
      const expected = chacha20poly1305(key, nonce, associated).encrypt(text)
      const out = run("test_seal", aeadRequest(key, nonce, associated, text))
      expect(Buffer.concat([out.text, out.tag]).equals(expected), `seal ${length}`).toBe(true)
      const back = run("test_open", aeadRequest(key, nonce, associated, out.text, out.tag))
      expect(back.status, `open ${length}`).toBe(0)
      expect(Buffer.from(back.text).equals(text), `open ${length}`).toBe(true)
    }
  })

  test("limbs at their largest: keys, texts and associated data of 0xff and 0x00", () => {
    const fill = (value: number, length: number): Uint8Array => new Uint8Array(length).fill(value)
    for (const k of [0, 0xff])
      for (const t of [0, 0xff])
        for (const length of [0, 15, 16, 17, 63, 64, 65, 1408, 3000]) {
          const expected = chacha20poly1305(fill(k, 32), fill(k, 12), fill(t, 12)).encrypt(fill(t, length))
          const out = run("test_seal", aeadRequest(fill(k, 32), fill(k, 12), fill(t, 12), fill(t, length)))
          expect(Buffer.concat([out.text, out.tag]).equals(expected), `${k} ${t} ${length}`).toBe(true)
        }
  })

  test("refuses a packet with any single bit changed, and leaves its text sealed", () => {
    const bytes = byteSource(7)
    const [key, nonce, associated, text] = [bytes(32), bytes(12), bytes(12), bytes(52)]
    const sealed = chacha20poly1305(key, nonce, associated).encrypt(text)
    const [body, tag] = [sealed.slice(0, 52), sealed.slice(52)]
    const flip = (source: Uint8Array, bit: number): Uint8Array =>
      source.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte))
    const refused = (request: Uint8Array, sent: Uint8Array, what: string): void => {
      const out = run("test_open", request)
      expect(out.status, what).toBe(1)
      expect(out.text, what).toEqual(sent)
    }
    for (let bit = 0; bit < 128; bit++)
      refused(aeadRequest(key, nonce, associated, body, flip(tag, bit)), body, `tag bit ${bit}`)
    for (let bit = 0; bit < 52 * 8; bit++) {
      const changed = flip(body, bit)
      refused(aeadRequest(key, nonce, associated, changed, tag), changed, `text bit ${bit}`)
    }
    for (let bit = 0; bit < 96; bit++) {
      refused(aeadRequest(key, nonce, flip(associated, bit), body, tag), body, `associated bit ${bit}`)
      refused(aeadRequest(key, flip(nonce, bit), associated, body, tag), body, `nonce bit ${bit}`)
    }
    for (let bit = 0; bit < 256; bit++)
      refused(aeadRequest(flip(key, bit), nonce, associated, body, tag), body, `key bit ${bit}`)
  })

  test("a length of associated data is authenticated too", () => {
    const bytes = byteSource(8)
    const [key, nonce, text] = [bytes(32), bytes(12), bytes(20)]
    const sealed = chacha20poly1305(key, nonce, new Uint8Array(8)).encrypt(text)
    const out = run(
      "test_open",
      aeadRequest(key, nonce, new Uint8Array(12), sealed.slice(0, 20), sealed.slice(20)),
    )
    expect(out.status).toBe(1)
  })
})
