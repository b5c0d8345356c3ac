/**
 * `{"tcbInfo":{...},"signature":"..."}`: the signature is over the inner object's bytes as they were received. So they
 * are cut out of the text, never parsed and written again.
 */
import { limits } from "../../../schemas/limits.ts"
import type { Crypto } from "../../common/crypto/index.ts"
import { TdxError } from "./error.ts"
import { JsonObject } from "./json.ts"

const space = new Set([0x20, 0x09, 0x0a, 0x0d])
const [quoteMark, backslash, open, close] = [0x22, 0x5c, 0x7b, 0x7d]

class Scanner {
  readonly #bytes: Uint8Array
  readonly #field: string
  at = 0

  constructor(bytes: Uint8Array, field: string) {
    this.#bytes = bytes
    this.#field = field
  }

  fail(wanted: string): never {
    throw new TdxError("COLLATERAL_MALFORMED", this.#field, `something else at byte ${this.at}`, wanted)
  }

  skipSpace(): void {
    while (space.has(this.#bytes[this.at] ?? 0)) this.at++
  }

  expect(character: string): void {
    this.skipSpace()
    if (this.#bytes[this.at] !== character.charCodeAt(0)) this.fail(character)
    this.at++
  }

  takes(character: string): boolean {
    this.skipSpace()
    if (this.#bytes[this.at] !== character.charCodeAt(0)) return false
    this.at++
    return true
  }

  /** A string without escapes, as member names and signatures are. */
  plainString(): string {
    this.expect('"')
    const from = this.at
    while (this.at < this.#bytes.length && this.#bytes[this.at] !== quoteMark) {
      if (this.#bytes[this.at] === backslash) this.fail("no escapes here")
      this.at++
    }
    const text = Buffer.from(this.#bytes.subarray(from, this.at)).toString("latin1")
    this.expect('"')
    return text
  }

  /** The bytes from an opening brace to the one that closes it. What lies between is for the JSON parser. */
  object(): Uint8Array {
    this.skipSpace()
    const from = this.at
    if (this.#bytes[from] !== open) this.fail("an object")
    let depth = 0
    for (let inString = false; this.at < this.#bytes.length; ) {
      const byte = this.#bytes[this.at++]
      if (inString && byte === backslash) this.at++
      else if (byte === quoteMark) inString = !inString
      else if (!inString && byte === open) depth++
      else if (!inString && byte === close && --depth === 0) return this.#bytes.subarray(from, this.at)
    }
    return this.fail("the end of an object")
  }

  end(): void {
    this.skipSpace()
    if (this.at !== this.#bytes.length) this.fail("nothing more")
  }
}

export interface SignedJson {
  /** The signed bytes. */
  readonly body: Uint8Array
  /** r || s, 64 bytes. */
  readonly signature: Uint8Array
}

/**
 * @param bytes at most 65,536
 * @param member the name of the inner object; `signature` may stand before or after it, and nothing else
 * @throws TdxError COLLATERAL_MALFORMED
 */
export const splitSignedJson = (field: string, bytes: Uint8Array, member: string): SignedJson => {
  if (bytes.length > limits.evidenceBytes)
    throw new TdxError(
      "COLLATERAL_MALFORMED",
      field,
      `${bytes.length} bytes`,
      `at most ${limits.evidenceBytes}`,
    )
  const scanner = new Scanner(bytes, field)
  let body: Uint8Array | undefined
  let signature: string | undefined
  scanner.expect("{")
  do {
    const name = scanner.plainString()
    scanner.expect(":")
    if (name === member && body === undefined) body = scanner.object()
    else if (name === "signature" && signature === undefined) {
      scanner.skipSpace()
      signature = scanner.plainString()
    } else scanner.fail(`${member} and signature, once each`)
  } while (scanner.takes(","))
  scanner.expect("}")
  scanner.end()
  if (body === undefined || signature === undefined)
    throw new TdxError("COLLATERAL_MALFORMED", field, "one of them missing", `${member} and signature`)
  if (!/^[0-9a-f]{128}$/.test(signature))
    throw new TdxError(
      "COLLATERAL_MALFORMED",
      `${field}.signature`,
      "something else",
      "64 bytes in hex, small letters",
    )
  return { body, signature: Uint8Array.from(Buffer.from(signature, "hex")) }
}

/**
 * The inner object, once its signature held.
 * @param key 04 || x || y of the TCB signing certificate
 * @throws TdxError COLLATERAL_MALFORMED, COLLATERAL_SIGNATURE
 */
export const verifySignedJson = (
  field: string,
  bytes: Uint8Array,
  member: string,
  key: Uint8Array,
  crypto: Crypto,
): JsonObject => {
  const { body, signature } = splitSignedJson(field, bytes, member)
  if (!crypto.ecdsaP256.verify(signature, body, key))
    throw new TdxError(
      "COLLATERAL_SIGNATURE",
      `${field}.signature`,
      "a signature that doesn't verify",
      "ECDSA P-256 with SHA-256 by the TCB signing key",
    )
  try {
    return new JsonObject(JSON.parse(Buffer.from(body).toString("utf8")), field)
  } catch (error) {
    if (error instanceof TdxError) throw error
    throw new TdxError("COLLATERAL_MALFORMED", field, "something else", "JSON")
  }
}
