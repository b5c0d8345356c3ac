/**
 * Public keys of a TPM: TPMT_PUBLIC and TPM2B_PUBLIC (TPM 2.0 Library, part 2, 12.2.4), and the same keys as PEM or
 * SubjectPublicKeyInfo, which say nothing of what the TPM lets them do.
 */
import { createPublicKey, type KeyObject } from "node:crypto"
import { type Bank, bankOf, banks, digest } from "../eventlog/bank.ts"
import type { Reader } from "../eventlog/reader.ts"
import { toHex } from "../text.ts"
import { TpmError } from "./error.ts"
import {
  algorithms,
  expectEnd,
  hex,
  reading,
  readSized,
  type SignatureScheme,
  schemeOf,
} from "./structures.ts"

const publicBytesMost = 1_024
const pemBytesMost = 4_096

/** TPMA_OBJECT. */
export interface ObjectAttributes {
  readonly raw: number
  readonly fixedTpm: boolean
  readonly fixedParent: boolean
  readonly sensitiveDataOrigin: boolean
  readonly userWithAuth: boolean
  readonly adminWithPolicy: boolean
  readonly restricted: boolean
  readonly decrypt: boolean
  readonly sign: boolean
}

export interface TpmSymmetric {
  readonly algorithm: "AES"
  readonly bits: number
}

/** A TPMT_PUBLIC that was read. */
export interface TpmPublic {
  readonly nameAlgorithm: Bank
  readonly attributes: ObjectAttributes
  readonly authPolicy: Uint8Array
  /** For storage keys (an EK): how their children's secrets are enciphered. */
  readonly symmetric?: TpmSymmetric
  /** What the key is confined to; undefined where the caller of the TPM chooses. */
  readonly scheme?: { readonly scheme: SignatureScheme; readonly hash: Bank }
  readonly key: PublicKey
  /** nameAlg || H(TPMT_PUBLIC): what the TPM knows the key by. */
  readonly name: Uint8Array
  readonly raw: Uint8Array
}

export interface RsaKey {
  readonly type: "rsa"
  readonly bits: number
  readonly spki: Uint8Array
  readonly object: KeyObject
}

export interface EcKey {
  readonly type: "ec"
  readonly curve: "P-256" | "P-384"
  /** 04 || x || y. */
  readonly point: Uint8Array
  readonly spki: Uint8Array
  readonly object: KeyObject
}

export type PublicKey = RsaKey | EcKey

/** A key in any of the forms that come with quotes. */
export interface GivenKey {
  readonly key: PublicKey
  /** Only where the TPM's own structure was given. */
  readonly public?: TpmPublic
}

const curves = {
  "P-256": { id: 0x0003, bytes: 32, prefix: "3059301306072a8648ce3d020106082a8648ce3d030107034200" },
  "P-384": { id: 0x0004, bytes: 48, prefix: "3076301006072a8648ce3d020106052b81040022036200" },
} as const

export const curveBytes = (curve: EcKey["curve"]): number => curves[curve].bytes

/**
 * @param given PEM text ("-----BEGIN PUBLIC KEY-----"), or bytes: DER of a SubjectPublicKeyInfo, TPMT_PUBLIC, TPM2B_PUBLIC
 * @throws TpmError KEY_MALFORMED, KEY_ALGORITHM, STRUCTURE_LENGTH, STRUCTURE_VALUE
 */
export const readKey = (given: Uint8Array | string, field = "ak"): GivenKey => {
  const bytes = typeof given === "string" ? Buffer.from(given, "latin1") : given
  if (bytes[0] === 0x2d) return { key: keyFromSpki(spkiOfPem(bytes, field), field) }
  if (bytes[0] === 0x30) return { key: keyFromSpki(bytes, field) }
  const read = parsePublic(bytes, field)
  return { key: read.key, public: read }
}

const spkiOfPem = (bytes: Uint8Array, field: string): Uint8Array => {
  if (bytes.length > pemBytesMost)
    throw new TpmError(
      "KEY_MALFORMED",
      field,
      `${bytes.length} bytes`,
      `at most ${pemBytesMost} bytes of PEM`,
    )
  const text = Buffer.from(bytes).toString("latin1")
  const inner = /^-----BEGIN PUBLIC KEY-----\s([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----\s*$/.exec(text)?.[1]
  if (inner === undefined)
    throw new TpmError("KEY_MALFORMED", field, "another kind of text", "one PEM block, PUBLIC KEY")
  const base64 = inner.replaceAll(/\s/g, "")
  const der = Buffer.from(base64, "base64")
  if (der.toString("base64") !== base64)
    throw new TpmError("KEY_MALFORMED", field, "broken base64", "one PEM block, PUBLIC KEY")
  return der
}

/** @throws TpmError KEY_MALFORMED, KEY_ALGORITHM */
export const keyFromSpki = (spki: Uint8Array, field: string): PublicKey => {
  const object = importSpki(spki, field)
  const canonical = Uint8Array.from(object.export({ format: "der", type: "spki" }))
  if (Buffer.compare(canonical, spki) !== 0)
    throw new TpmError("KEY_MALFORMED", field, "an unusual encoding", "a SubjectPublicKeyInfo in DER")
  if (object.asymmetricKeyType === "rsa") return rsaKey(object, canonical, field)
  const curve = (["P-256", "P-384"] as const).find((name) => toHex(canonical).startsWith(curves[name].prefix))
  if (curve === undefined)
    throw new TpmError(
      "KEY_ALGORITHM",
      field,
      `${object.asymmetricKeyType}`,
      "RSA, or ECDSA over P-256 or P-384",
    )
  const point = canonical.subarray(curves[curve].prefix.length / 2)
  return { type: "ec", curve, point, spki: canonical, object }
}

const importSpki = (spki: Uint8Array, field: string): KeyObject => {
  if (spki.length > publicBytesMost)
    throw new TpmError("KEY_MALFORMED", field, `${spki.length} bytes`, `at most ${publicBytesMost} bytes`)
  try {
    return createPublicKey({ key: Buffer.from(spki), format: "der", type: "spki" })
  } catch {
    throw new TpmError("KEY_MALFORMED", field, "no public key", "RSA, or a point of P-256 or P-384")
  }
}

const rsaKey = (object: KeyObject, spki: Uint8Array, field: string): RsaKey => {
  const { modulusLength = 0, publicExponent } = object.asymmetricKeyDetails ?? {}
  if (modulusLength < 2_048 || modulusLength > 4_096 || modulusLength % 8 !== 0 || publicExponent !== 65_537n)
    throw new TpmError(
      "KEY_ALGORITHM",
      field,
      `RSA of ${modulusLength} bits, exponent ${publicExponent}`,
      "2,048 to 4,096 bits, exponent 65537",
    )
  return { type: "rsa", bits: modulusLength, spki, object }
}

/**
 * @param given TPMT_PUBLIC, or TPM2B_PUBLIC with its length before it
 * @throws TpmError KEY_MALFORMED, KEY_ALGORITHM, STRUCTURE_LENGTH, STRUCTURE_VALUE
 */
export const parsePublic = (given: Uint8Array, field = "ak"): TpmPublic => {
  const isSized = given.length > 2 && (given[0] ?? 0) * 256 + (given[1] ?? 0) === given.length - 2
  const { own: raw, reader } = reading(field, isSized ? given.subarray(2) : given, publicBytesMost)
  const type = reader.u16(`${field}.type`)
  if (type !== algorithms.rsa && type !== algorithms.ecc)
    throw new TpmError("KEY_ALGORITHM", `${field}.type`, hex(type), "RSA or ECC")
  const nameId = reader.u16(`${field}.nameAlg`)
  const nameAlgorithm = bankOf(nameId)
  if (nameAlgorithm === undefined)
    throw new TpmError("KEY_ALGORITHM", `${field}.nameAlg`, hex(nameId), "SHA-256, SHA-384 or SHA-512")
  const attributes = decodeAttributes(reader.u32(`${field}.attributes`))
  const authPolicy = readSized(reader, `${field}.authPolicy`, 64)
  const symmetric = readSymmetric(reader, field)
  const scheme = readScheme(reader, field, type)
  const key = type === algorithms.rsa ? readRsa(reader, field) : readEc(reader, field)
  expectEnd(field, reader)
  const name = new Uint8Array(2 + banks[nameAlgorithm].bytes)
  name[1] = nameId
  name.set(digest(nameAlgorithm, raw), 2)
  return {
    nameAlgorithm,
    attributes,
    authPolicy,
    ...(symmetric && { symmetric }),
    ...(scheme && { scheme }),
    key,
    name,
    raw,
  }
}

const decodeAttributes = (raw: number): ObjectAttributes => {
  const bit = (n: number) => ((raw >>> n) & 1) === 1
  return {
    raw,
    fixedTpm: bit(1),
    fixedParent: bit(4),
    sensitiveDataOrigin: bit(5),
    userWithAuth: bit(6),
    adminWithPolicy: bit(7),
    restricted: bit(16),
    decrypt: bit(17),
    sign: bit(18),
  }
}

/** TPMT_SYM_DEF_OBJECT: nothing, or AES in CFB mode. */
const readSymmetric = (reader: Reader, field: string): TpmSymmetric | undefined => {
  const id = reader.u16(`${field}.symmetric`)
  if (id === algorithms.null) return undefined
  const bits = reader.u16(`${field}.symmetric.bits`)
  const mode = reader.u16(`${field}.symmetric.mode`)
  if (id !== algorithms.aes || ![128, 192, 256].includes(bits) || mode !== algorithms.cfb)
    throw new TpmError("KEY_ALGORITHM", `${field}.symmetric`, `${hex(id)}, ${bits} bits`, "none or AES-CFB")
  return { algorithm: "AES", bits }
}

const readScheme = (reader: Reader, field: string, type: number): TpmPublic["scheme"] => {
  const id = reader.u16(`${field}.scheme`)
  if (id === algorithms.null) return undefined
  const scheme = schemeOf(id)
  if (scheme === undefined || (scheme === "ECDSA") !== (type === algorithms.ecc))
    throw new TpmError("KEY_ALGORITHM", `${field}.scheme`, hex(id), "none, RSASSA, RSAPSS or ECDSA")
  const hashId = reader.u16(`${field}.scheme.hash`)
  const hash = bankOf(hashId)
  if (hash === undefined)
    throw new TpmError("KEY_ALGORITHM", `${field}.scheme.hash`, hex(hashId), "SHA-256, SHA-384 or SHA-512")
  return { scheme, hash }
}

const readRsa = (reader: Reader, field: string): RsaKey => {
  const bits = reader.u16(`${field}.keyBits`)
  const exponent = reader.u32(`${field}.exponent`)
  if (exponent !== 0 && exponent !== 65_537)
    throw new TpmError("KEY_ALGORITHM", `${field}.exponent`, `${exponent}`, "0 (65537) or 65537")
  const modulus = readSized(reader, `${field}.modulus`, 512)
  if (modulus.length * 8 !== bits || ((modulus[0] ?? 0) & 0x80) === 0)
    throw new TpmError(
      "KEY_MALFORMED",
      `${field}.modulus`,
      `${modulus.length} bytes`,
      `a number of ${bits} bits`,
    )
  const key = keyFromJwk(
    { kty: "RSA", n: Buffer.from(modulus).toString("base64url"), e: "AQAB" },
    `${field}.modulus`,
  )
  if (key.type !== "rsa") throw new TpmError("KEY_MALFORMED", field, "another key", "an RSA key")
  return key
}

const readEc = (reader: Reader, field: string): EcKey => {
  const id = reader.u16(`${field}.curve`)
  const kdf = reader.u16(`${field}.kdf`)
  const curve = (["P-256", "P-384"] as const).find((name) => curves[name].id === id)
  if (curve === undefined) throw new TpmError("KEY_ALGORITHM", `${field}.curve`, hex(id), "P-256 or P-384")
  if (kdf !== algorithms.null) throw new TpmError("KEY_ALGORITHM", `${field}.kdf`, hex(kdf), "none")
  const { bytes, prefix } = curves[curve]
  const point = new Uint8Array(1 + 2 * bytes)
  point[0] = 4
  for (const [i, name] of ["x", "y"].entries()) {
    const coordinate = readSized(reader, `${field}.${name}`, bytes)
    point.set(coordinate, 1 + (i + 1) * bytes - coordinate.length)
  }
  const key = keyFromSpki(Buffer.concat([Buffer.from(prefix, "hex"), point]), field)
  if (key.type !== "ec") throw new TpmError("KEY_MALFORMED", field, "another key", "a point of the curve")
  return key
}

/** @throws TpmError KEY_MALFORMED, KEY_ALGORITHM */
export const keyFromJwk = (jwk: { kty: string; n: string; e: string }, field: string): PublicKey => {
  let object: KeyObject
  try {
    object = createPublicKey({ key: jwk, format: "jwk" })
  } catch {
    throw new TpmError("KEY_MALFORMED", field, "no public key", "an RSA key")
  }
  return keyFromSpki(object.export({ format: "der", type: "spki" }), field)
}

/**
 * What makes a key an attestation key: made in this TPM, never leaves it, and signs only what the TPM itself wrote.
 * @throws TpmError KEY_ATTRIBUTES
 */
export const expectAttestationKey = ({ attributes }: TpmPublic, field = "ak"): void => {
  const wanted = { fixedTpm: true, sensitiveDataOrigin: true, restricted: true, sign: true, decrypt: false }
  for (const [name, value] of Object.entries(wanted)) {
    if (attributes[name as keyof typeof wanted] !== value)
      throw new TpmError("KEY_ATTRIBUTES", `${field}.attributes.${name}`, `${!value}`, `${value}`)
  }
}

/** TPM_RH_*: what a primary key can hang under. */
const hierarchies = { owner: 0x4000_0001, endorsement: 0x4000_000b, platform: 0x4000_000c } as const
export type Hierarchy = keyof typeof hierarchies

/**
 * Under which hierarchy a primary key with this name has the qualified name that signed; undefined for a child of
 * another key. Qualified name: H(parent's || name), and a hierarchy's is its handle (part 1, 16.2).
 */
export const hierarchyOf = (key: TpmPublic, qualifiedSigner: Uint8Array): Hierarchy | undefined =>
  (Object.keys(hierarchies) as Hierarchy[]).find((hierarchy) => {
    const handle = Buffer.alloc(4)
    handle.writeUInt32BE(hierarchies[hierarchy])
    const qualified = digest(key.nameAlgorithm, Buffer.concat([handle, key.name]))
    return Buffer.compare(qualified, qualifiedSigner.subarray(2)) === 0
  })
