/**
 * Known-answer tests of every primitive, to be run before a key exists: a library or a processor that computes wrongly must
 * not be found out by what it has signed.
 */
import { aead, ed25519, hashes, hkdf, hmac, mlkem768, p256, p384, rsaPss, x25519 } from "./known-answers.ts"
import { rsaPss4096Sha384 } from "./native.ts"
import { type Crypto, CryptoError } from "./port.ts"

export class SelfTestError extends Error {
  override readonly name = "SelfTestError"
  /** As in the port. */
  readonly primitive: string

  constructor(primitive: string, implementation: string) {
    super(
      `self-test: ${primitive} (${implementation}) doesn't give the standard's answer, and nothing was started: ` +
        "no key or signature made here can be relied on. Install Node and Vouchsafe anew; " +
        "if that doesn't help, take this machine out of use.",
    )
    this.primitive = primitive
  }
}

/** The port, and what stands beside it. */
export type Tested = Crypto & { readonly rsaPss4096Sha384: Pick<typeof rsaPss4096Sha384, "verify"> }

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

const flipped = (bytes: Uint8Array): Uint8Array => {
  const copy = Uint8Array.from(bytes)
  copy[0] = (copy[0] ?? 0) ^ 1
  return copy
}

const refuses = (code: CryptoError["code"], run: () => unknown): boolean => {
  try {
    run()
    return false
  } catch (error) {
    return error instanceof CryptoError && error.code === code
  }
}

interface SignatureVector {
  readonly publicKey: Uint8Array
  readonly message: Uint8Array
  readonly signature: Uint8Array
}

/** The right signature holds; with another bit it doesn't, nor for another message. */
const verifies = (
  verify: (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array) => boolean,
  { publicKey, message, signature }: SignatureVector,
): boolean =>
  verify(signature, message, publicKey) &&
  !verify(flipped(signature), message, publicKey) &&
  !verify(signature, flipped(message), publicKey)

const testX25519 = ({ x25519: { generate, fromSecret, sharedSecret } }: Crypto): boolean => {
  using own = fromSecret(x25519.secret)
  using fresh = generate()
  return (
    same(own.publicKey, x25519.publicKey) &&
    same(sharedSecret(own, x25519.peer), x25519.shared) &&
    same(sharedSecret(own, fresh.publicKey), sharedSecret(fresh, own.publicKey)) &&
    refuses("weak-point", () => sharedSecret(own, new Uint8Array(32)))
  )
}

const testMlkem768 = ({ mlkem768: kem, sha256 }: Crypto): boolean => {
  using own = kem.fromSeed(mlkem768.seed)
  using fresh = kem.generate()
  const made = kem.encapsulate(fresh.publicKey)
  return (
    same(sha256(own.publicKey), mlkem768.publicKeySha256) &&
    same(kem.decapsulate(mlkem768.ciphertext, own), mlkem768.shared) &&
    same(kem.decapsulate(flipped(mlkem768.ciphertext), own), mlkem768.rejected) &&
    same(kem.decapsulate(made.ciphertext, fresh), made.sharedSecret)
  )
}

const testEd25519 = ({ ed25519: { generate, fromSecret, sign, verify } }: Crypto): boolean => {
  using own = fromSecret(ed25519.secret)
  using fresh = generate()
  const { message } = ed25519
  return (
    same(own.publicKey, ed25519.publicKey) &&
    same(sign(message, own), ed25519.signature) &&
    verifies(verify, ed25519) &&
    verifies(verify, { message, publicKey: fresh.publicKey, signature: sign(message, fresh) })
  )
}

const testP384 = ({ ecdsaP384: { generate, fromSecret, sign, verify } }: Crypto): boolean => {
  using own = fromSecret(p384.secret)
  using fresh = generate()
  const { message } = p384
  return (
    same(own.publicKey, p384.publicKey) &&
    verifies(verify, p384) &&
    verify(sign(message, fresh), message, fresh.publicKey)
  )
}

const testAead = ({ chacha20poly1305: { seal, open } }: Crypto): boolean => {
  const { key, nonce, aad, plaintext, sealed } = aead
  return (
    same(seal(key, nonce, plaintext, aad), sealed) &&
    same(open(key, nonce, sealed, aad), plaintext) &&
    refuses("tag", () => open(key, nonce, flipped(sealed), aad)) &&
    refuses("tag", () => open(key, nonce, sealed, flipped(aad)))
  )
}

/** A generator that stands still is seen; whether it can be guessed isn't. */
const testRandom = ({ randomBytes }: Crypto): boolean => {
  const draws = [randomBytes(32), randomBytes(32), new Uint8Array(32)]
  return draws.every((draw, i) => draw.length === 32 && !same(draw, draws[(i + 1) % 3] ?? draw))
}

const testEqual = ({ equalConstantTime: equal }: Crypto): boolean =>
  equal(hashes.sha256, Uint8Array.from(hashes.sha256)) &&
  !equal(hashes.sha256, flipped(hashes.sha256)) &&
  !equal(hashes.sha256, hashes.sha512)

const tests: ReadonlyArray<readonly [primitive: string, holds: (crypto: Tested) => boolean]> = [
  ["sha256", (crypto) => same(crypto.sha256(hashes.data), hashes.sha256)],
  ["sha384", (crypto) => same(crypto.sha384(hashes.data), hashes.sha384)],
  ["sha512", (crypto) => same(crypto.sha512(hashes.data), hashes.sha512)],
  ["sha3_256", (crypto) => same(crypto.sha3_256(hashes.data), hashes.sha3_256)],
  ["shake256", (crypto) => same(crypto.shake256(hashes.data, 32), hashes.shake256)],
  ["hmacSha256", (crypto) => same(crypto.hmacSha256(hmac.key, hmac.data), hmac.tag)],
  ["hkdfSha256", (crypto) => same(crypto.hkdfSha256(hkdf.ikm, hkdf.salt, hkdf.info, 42), hkdf.okm)],
  ["hkdfExtractSha256", (crypto) => same(crypto.hkdfExtractSha256(hkdf.ikm, hkdf.salt), hkdf.prk)],
  ["hkdfExpandSha256", (crypto) => same(crypto.hkdfExpandSha256(hkdf.prk, hkdf.info, 42), hkdf.okm)],
  ["chacha20poly1305", testAead],
  ["randomBytes", testRandom],
  ["equalConstantTime", testEqual],
  ["x25519", testX25519],
  ["mlkem768", testMlkem768],
  ["ed25519", testEd25519],
  ["ecdsaP384", testP384],
  ["ecdsaP256", (crypto) => verifies(crypto.ecdsaP256.verify, p256)],
  ["rsaPss4096Sha384", ({ rsaPss4096Sha384: { verify } }) => verifies(verify, rsaPss)],
]

/** @throws SelfTestError for the first primitive that answers wrongly, or not at all */
export const selfTest = (crypto: Crypto, rsa: Tested["rsaPss4096Sha384"] = rsaPss4096Sha384): void => {
  for (const [primitive, holds] of tests) {
    let held = false
    try {
      held = holds({ ...crypto, rsaPss4096Sha384: rsa })
    } catch {
      // An error where an answer is known is a wrong answer.
    }
    if (!held) throw new SelfTestError(primitive, crypto.name)
  }
}
