/**
 * The verifier's half of credential activation (TPM 2.0 Library, part 1, chapter 24): a secret that only the TPM with
 * this EK can read, and only if a key with this name is loaded in it. The TPM's half is `TPM2_ActivateCredential`.
 */
import { constants, createCipheriv, createECDH, createHmac, publicEncrypt } from "node:crypto"
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import { type Bank, banks, digest } from "../eventlog/bank.ts"
import { toHex } from "../text.ts"
import { TpmError } from "./error.ts"
import { curveBytes, type EcKey, expectAttestationKey, type TpmPublic } from "./public.ts"

export interface CredentialChallenge {
  /** TPM2B_ID_OBJECT. */
  readonly credentialBlob: Uint8Array
  /** TPM2B_ENCRYPTED_SECRET. */
  readonly encryptedSecret: Uint8Array
}

/** What the verifier keeps until the answer comes. */
export interface PendingActivation {
  readonly secret: Uint8Array
  /** SHA-256 of the EK's SubjectPublicKeyInfo, hex. */
  readonly ekDigest: string
  readonly akName: Uint8Array
}

/**
 * @param ek a restricted deciphering key; its certificate is for `bindQuote` to check
 * @param ak must be an attestation key by its attributes, which its name stands for
 * @throws TpmError KEY_ATTRIBUTES, KEY_ALGORITHM
 */
export const challengeAk = (
  ek: TpmPublic,
  ak: TpmPublic,
  crypto: Crypto = chosen,
): { challenge: CredentialChallenge; pending: PendingActivation } => {
  expectAttestationKey(ak)
  const secret = crypto.randomBytes(32)
  return {
    challenge: makeCredential(ek, ak.name, secret, crypto),
    pending: { secret, ekDigest: toHex(crypto.sha256(ek.key.spki)), akName: ak.name },
  }
}

/**
 * TPM2_MakeCredential without a TPM.
 * @param secret at most as long as the digest of the EK's name algorithm
 * @throws TpmError KEY_ATTRIBUTES, KEY_ALGORITHM, DEVICE_INPUT
 */
export const makeCredential = (
  ek: TpmPublic,
  akName: Uint8Array,
  secret: Uint8Array,
  crypto: Crypto = chosen,
): CredentialChallenge => {
  const { symmetric, nameAlgorithm: hash } = ek
  const { restricted, decrypt, sign, fixedTpm } = ek.attributes
  if (!restricted || !decrypt || sign || !fixedTpm)
    throw new TpmError(
      "KEY_ATTRIBUTES",
      "ek.attributes",
      `0x${ek.attributes.raw.toString(16)}`,
      "a storage key",
    )
  if (symmetric === undefined)
    throw new TpmError("KEY_ALGORITHM", "ek.symmetric", "none", "AES-CFB, as a storage key has it")
  const digestBytes = banks[hash].bytes
  if (secret.length < 1 || secret.length > digestBytes)
    throw new TpmError("DEVICE_INPUT", "secret", `${secret.length} bytes`, `1 to ${digestBytes} bytes`)
  const { seed, encryptedSecret } = shareSeed(ek, crypto)
  const key = kdfa(hash, seed, "STORAGE", akName, symmetric.bits)
  const cipher = createCipheriv(`aes-${symmetric.bits}-cfb`, key, new Uint8Array(16))
  const identity = Buffer.concat([cipher.update(sized(secret)), cipher.final()])
  const integrityKey = kdfa(hash, seed, "INTEGRITY", new Uint8Array(0), digestBytes * 8)
  const integrity = createHmac(hash, integrityKey).update(identity).update(akName).digest()
  for (const spent of [seed, key, integrityKey]) spent.fill(0)
  return {
    credentialBlob: sized(Buffer.concat([sized(integrity), identity])),
    encryptedSecret: sized(encryptedSecret),
  }
}

/** A TPM2B. */
const sized = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(2 + bytes.length)
  new DataView(out.buffer).setUint16(0, bytes.length)
  out.set(bytes, 2)
  return out
}

const label = (text: string): Uint8Array => Buffer.from(`${text}\0`, "latin1")

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

const shareSeed = (ek: TpmPublic, crypto: Crypto): { seed: Uint8Array; encryptedSecret: Uint8Array } => {
  const { key, nameAlgorithm: hash } = ek
  if (key.type === "ec") return shareSeedOverCurve(key, hash)
  const seed = crypto.randomBytes(banks[hash].bytes)
  const encryptedSecret = publicEncrypt(
    {
      key: key.object,
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: hash,
      oaepLabel: label("IDENTITY"),
    },
    seed,
  )
  return { seed, encryptedSecret }
}

/** One-pass ECDH (part 1, C.6.1): a key for this once, whose point goes along. */
const shareSeedOverCurve = (key: EcKey, hash: Bank): { seed: Uint8Array; encryptedSecret: Uint8Array } => {
  const size = curveBytes(key.curve)
  const once = createECDH(key.curve === "P-256" ? "prime256v1" : "secp384r1")
  const point = once.generateKeys()
  const shared = once.computeSecret(key.point)
  const x = (of: Uint8Array) => of.subarray(1, 1 + size)
  const seed = kdfe(hash, shared, "IDENTITY", x(point), x(key.point), banks[hash].bytes * 8)
  shared.fill(0)
  return { seed, encryptedSecret: Buffer.concat([sized(x(point)), sized(point.subarray(1 + size))]) }
}

/** KDFa (part 1, 11.4.10.2): SP 800-108 in counter mode over HMAC; one context only. */
const kdfa = (hash: Bank, key: Uint8Array, use: string, context: Uint8Array, bits: number): Uint8Array => {
  const blocks: Uint8Array[] = []
  for (let i = 1; (i - 1) * banks[hash].bytes * 8 < bits; i++)
    blocks.push(
      createHmac(hash, key).update(u32(i)).update(label(use)).update(context).update(u32(bits)).digest(),
    )
  return Uint8Array.from(Buffer.concat(blocks).subarray(0, bits / 8))
}

/** KDFe (part 1, 11.4.10.3): SP 800-56A over the hash. */
const kdfe = (
  hash: Bank,
  shared: Uint8Array,
  use: string,
  partyU: Uint8Array,
  partyV: Uint8Array,
  bits: number,
): Uint8Array => {
  const blocks: Uint8Array[] = []
  for (let i = 1; (i - 1) * banks[hash].bytes * 8 < bits; i++)
    blocks.push(digest(hash, Buffer.concat([u32(i), shared, label(use), partyU, partyV])))
  return Uint8Array.from(Buffer.concat(blocks).subarray(0, bits / 8))
}
