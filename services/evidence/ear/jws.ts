/**
 * EARs as JWTs (RFC 7515, compact): signed with Ed25519 (`EdDSA`, RFC 8037) or ECDSA over P-256 (`ES256`, RFC 7518). The
 * key decides the algorithm; a token's own word for it is only held against that. Reading one is for showing it.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKeyInput,
  type KeyObject,
  sign,
  verify,
} from "node:crypto"
import { Result, Schema } from "effect"
import { Ear } from "../../../schemas/ear.ts"
import { EarError } from "./error.ts"

export type EarAlgorithm = "EdDSA" | "ES256"
export const earAlgorithms: readonly EarAlgorithm[] = ["EdDSA", "ES256"]

const tokenBytesMost = 262_144
const typ = "eat+jwt"

/** An exporter's key: it has nothing to do with those of verifiers. */
export interface EarKey {
  readonly algorithm: EarAlgorithm
  readonly key: KeyObject
  /** The thumbprint of its public half (RFC 7638), base64url. */
  readonly id: string
}

interface PublicJwk {
  readonly kty: string
  readonly crv: string
  readonly x: string
  readonly y?: string
}

const jwkOf = (key: KeyObject): PublicJwk => {
  const own = key.type === "private" ? createPublicKey(key) : key
  const { kty, crv, x, y } = own.export({ format: "jwk" })
  return { kty: `${kty}`, crv: `${crv}`, x: `${x}`, ...(y !== undefined && { y }) }
}

/** Members in the order of their names, nothing else between them. */
const thumbprint = ({ crv, kty, x, y }: PublicJwk): string =>
  createHash("sha256")
    .update(JSON.stringify({ crv, kty, x, ...(y !== undefined && { y }) }))
    .digest("base64url")

/** @throws EarError KEY_UNFIT */
const earKeyOf = (key: KeyObject, field: string): EarKey => {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  const algorithm =
    type === "ed25519" ? "EdDSA" : type === "ec" && details?.namedCurve === "prime256v1" ? "ES256" : undefined
  if (algorithm === undefined)
    throw new EarError("KEY_UNFIT", field, `is a key of ${type ?? "no kind"}, not of Ed25519 or P-256`)
  return { algorithm, key, id: thumbprint(jwkOf(key)) }
}

/** @param pem PKCS #8; @throws EarError KEY_UNFIT, without a word of what it holds */
export const readEarKey = (pem: Uint8Array, field: string): EarKey => {
  let key: KeyObject
  try {
    key = createPrivateKey({ key: Buffer.from(pem), format: "pem", type: "pkcs8" })
  } catch {
    throw new EarError("KEY_UNFIT", field, "is no private key in PKCS #8 PEM")
  }
  return earKeyOf(key, field)
}

/** A new key and its PKCS #8 PEM. */
export const createEarKey = (algorithm: EarAlgorithm): { readonly key: EarKey; readonly pem: string } => {
  const { privateKey } =
    algorithm === "EdDSA"
      ? generateKeyPairSync("ed25519")
      : generateKeyPairSync("ec", { namedCurve: "prime256v1" })
  const pem = privateKey.export({ format: "pem", type: "pkcs8" }).toString()
  return { key: earKeyOf(privateKey, "key"), pem }
}

/** A JWK Set (RFC 7517) of public halves. */
export const jwksOf = (keys: readonly EarKey[]): unknown => ({
  keys: keys.map(({ key, algorithm, id }) => ({ ...jwkOf(key), use: "sig", alg: algorithm, kid: id })),
})

const Jwks = Schema.Struct({ keys: Schema.Array(Schema.Record(Schema.String, Schema.Unknown)) })
const decodeJwks = Schema.decodeUnknownResult(Jwks)

/** @throws EarError KEY_UNFIT; at most 16 keys */
export const readJwks = (text: string): readonly EarKey[] => {
  const decoded = decodeJwks(parseJson(text, "keys", "KEY_UNFIT"))
  if (Result.isFailure(decoded) || decoded.success.keys.length > 16)
    throw new EarError("KEY_UNFIT", "keys", "is no JWK Set of at most 16 keys")
  return decoded.success.keys.map(({ kty, crv, x, y }, i) => {
    try {
      return earKeyOf(
        createPublicKey({ key: { kty, crv, x, y } as JsonWebKeyInput["key"], format: "jwk" }),
        `keys[${i}]`,
      )
    } catch (error) {
      if (error instanceof EarError) throw error
      throw new EarError("KEY_UNFIT", `keys[${i}]`, "is no public key")
    }
  })
}

const dsaEncoding = "ieee-p1363"
/** Node takes no digest name for Ed25519. */
const digestOf = ({ algorithm }: EarKey): "sha256" | null => (algorithm === "ES256" ? "sha256" : null)

const packed = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url")

/** @throws EarError CLAIMS_MALFORMED where the claims aren't those of the schema */
export const signEar = (claims: Ear, key: EarKey): string => {
  expectClaims(claims)
  const signed = `${packed({ alg: key.algorithm, typ, kid: key.id })}.${packed(claims)}`
  const signature = sign(digestOf(key), Buffer.from(signed), { key: key.key, dsaEncoding })
  return `${signed}.${signature.toString("base64url")}`
}

export interface ShownEar {
  readonly claims: Ear
  readonly algorithm: EarAlgorithm
  readonly keyId: string | undefined
  /** `unknown`: none of the keys is the one that it names. */
  readonly signature: "right" | "wrong" | "unknown"
}

const Header = Schema.Struct({
  alg: Schema.Literals(["EdDSA", "ES256"]),
  typ: Schema.optionalKey(Schema.Literals(["eat+jwt", "JWT"])),
  kid: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(128))),
})
const decodeHeader = Schema.decodeUnknownResult(Header)
const decodeClaims = Schema.decodeUnknownResult(Ear)

const expectClaims = (value: unknown): Ear => {
  const decoded = decodeClaims(value, { onExcessProperty: "error" })
  if (Result.isFailure(decoded))
    throw new EarError("CLAIMS_MALFORMED", "claims", decoded.failure.message.slice(0, 300))
  return decoded.success
}

/** Whether the text may be a token at all. */
export const looksLikeToken = (text: string): boolean => /^[\w-]+\.[\w-]+\.[\w-]+\s*$/.test(text)

/**
 * @param keys that the signature may be of; none: it isn't checked
 * @throws EarError TOKEN_TOO_LARGE, TOKEN_MALFORMED, CLAIMS_MALFORMED
 */
export const readEar = (token: string, keys: readonly EarKey[]): ShownEar => {
  if (token.length > tokenBytesMost)
    throw new EarError("TOKEN_TOO_LARGE", "token", `${token.length} characters, at most ${tokenBytesMost}`)
  const [header = "", body = "", signature = "", ...rest] = token.trim().split(".")
  if (rest.length > 0 || !looksLikeToken(token))
    throw new EarError("TOKEN_MALFORMED", "token", "isn't three parts of base64url")
  const decoded = decodeHeader(parseJson(textOf(header, "header"), "header", "TOKEN_MALFORMED"), {
    onExcessProperty: "error",
  })
  if (Result.isFailure(decoded))
    throw new EarError("TOKEN_MALFORMED", "header", "isn't that of an EdDSA or ES256 token")
  const claims = expectClaims(parseJson(textOf(body, "claims"), "claims", "CLAIMS_MALFORMED"))
  const { alg, kid } = decoded.success
  const bytes = bytesOf(signature, "signature")
  // By the key, never by what the token says of itself: its `alg` must then be the same.
  const candidates = keys.filter(
    ({ id, algorithm }) => algorithm === alg && (kid === undefined || kid === id),
  )
  const isRight = candidates.some((key) =>
    verify(digestOf(key), Buffer.from(`${header}.${body}`), { key: publicOf(key.key), dsaEncoding }, bytes),
  )
  return {
    claims,
    algorithm: alg,
    keyId: kid,
    signature: candidates.length === 0 ? "unknown" : isRight ? "right" : "wrong",
  }
}

const publicOf = (key: KeyObject): KeyObject => (key.type === "private" ? createPublicKey(key) : key)

/** Strict: what isn't the one way to write these bytes is refused (RFC 7515, section 2). */
const bytesOf = (part: string, field: string): Buffer => {
  const bytes = Buffer.from(part, "base64url")
  if (bytes.toString("base64url") !== part)
    throw new EarError("TOKEN_MALFORMED", field, "isn't base64url as it is written")
  return bytes
}

const textOf = (part: string, field: string): string => {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytesOf(part, field))
  } catch (error) {
    if (error instanceof EarError) throw error
    throw new EarError("TOKEN_MALFORMED", field, "isn't UTF-8")
  }
}

const parseJson = (text: string, field: string, code: EarError["code"]): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    throw new EarError(code, field, "isn't JSON")
  }
}
