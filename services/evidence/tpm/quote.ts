/**
 * Is this quote genuine, and does it answer the question that was asked? The key that signed is the caller's claim: whose
 * it is, `bindQuote` finds out.
 */
import { constants, verify as nodeVerify } from "node:crypto"
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import { type Bank, banks, digest } from "../eventlog/bank.ts"
import type { Registers } from "../eventlog/replay.ts"
import { toHex } from "../text.ts"
import { TpmError } from "./error.ts"
import {
  curveBytes,
  type EcKey,
  expectAttestationKey,
  type GivenKey,
  type Hierarchy,
  hierarchyOf,
  type PublicKey,
  type RsaKey,
  readKey,
  type TpmPublic,
} from "./public.ts"
import {
  type ClockInfo,
  hex,
  type PcrSelection,
  parseQuoteAttest,
  parseSignature,
  type QuoteAttest,
  type SignatureScheme,
  type TpmSignature,
} from "./structures.ts"

export type PcrValues = Readonly<Partial<Record<Bank, Registers>>>

export interface QuoteEvidence {
  /** TPMS_ATTEST. */
  readonly attest: Uint8Array
  /** TPMT_SIGNATURE, or an RSA signature alone, as long as the key's modulus. */
  readonly signature: Uint8Array
  /** PEM, SubjectPublicKeyInfo, TPMT_PUBLIC or TPM2B_PUBLIC. */
  readonly akPublic: Uint8Array | string
  /** What the attester says that the registers held. */
  readonly pcrs: PcrValues
}

export interface QuoteRequest {
  /** What extraData must be, to the byte; at most 64 bytes. */
  readonly nonce: Uint8Array
  /** The quote must cover all of these. It may cover more; what it covers is what counts as verified. */
  readonly selection: readonly { readonly bank: Bank; readonly pcrs: readonly number[] }[]
}

export interface QuoteOptions {
  readonly crypto?: Crypto
  /** SHA-1 in signature or banks: refused unless a caller who only wants to look says `allow`. */
  readonly sha1?: "refuse" | "allow"
  /** How a bare RSA signature was made, where the key doesn't say. Default RSASSA with SHA-256. */
  readonly bareSignature?: { readonly scheme: "RSASSA" | "RSAPSS"; readonly hash: Bank }
}

export interface VerifiedQuote {
  readonly kind: "tpm"
  readonly ak: {
    /** SubjectPublicKeyInfo, DER. */
    readonly spki: Uint8Array
    /** SHA-256 of it, hex: what a policy names the key by. */
    readonly digest: string
    /**
     * Only where the key came as the TPM's own structure: then its attributes were looked at too. They are the sender's
     * word, unless `hierarchy` is there or credential activation proved the name.
     */
    readonly public?: TpmPublic
    /** A primary key of this hierarchy: what signed is named by these very attributes, so that they are proven. */
    readonly hierarchy?: Hierarchy
  }
  readonly scheme: SignatureScheme
  readonly signingHash: Bank
  readonly usesSha1: boolean
  readonly nonce: Uint8Array
  readonly clockInfo: ClockInfo
  readonly firmwareVersion: bigint
  readonly qualifiedSigner: Uint8Array
  readonly selections: readonly PcrSelection[]
  readonly pcrDigest: Uint8Array
  /** The values that the quote covers, and no others. */
  readonly pcrs: PcrValues
}

/** @returns the verified quote, or the first thing that was wrong with it */
export const verifyQuote = (
  evidence: QuoteEvidence,
  request: QuoteRequest,
  options: QuoteOptions = {},
): VerifiedQuote | TpmError => {
  try {
    return verifyOrThrow(evidence, request, options)
  } catch (error) {
    if (error instanceof TpmError) return error
    throw error
  }
}

const verifyOrThrow = (
  evidence: QuoteEvidence,
  request: QuoteRequest,
  options: QuoteOptions,
): VerifiedQuote => {
  const crypto = options.crypto ?? chosen
  const attest = parseQuoteAttest(evidence.attest)
  const given = readKey(evidence.akPublic)
  if (given.public !== undefined) expectAttestationKey(given.public)
  const signature = readSignature(evidence.signature, given, options)
  if (options.sha1 !== "allow") refuseSha1(attest, signature)
  if (!signatureHolds(signature, attest.signed, given.key, crypto))
    throw new TpmError(
      "QUOTE_SIGNATURE",
      "signature",
      "a signature that doesn't verify",
      `${signature.scheme} with ${signature.hash} by the attestation key`,
    )
  if (!crypto.equalConstantTime(attest.extraData, request.nonce))
    throw new TpmError("NONCE_MISMATCH", "quote.extraData", toHex(attest.extraData), toHex(request.nonce))
  checkSelection(attest.selections, request)
  const pcrs = checkDigest(attest, signature.hash, evidence.pcrs, crypto)
  const hierarchy = given.public && hierarchyOf(given.public, attest.qualifiedSigner)
  return {
    kind: "tpm",
    ak: {
      spki: given.key.spki,
      digest: toHex(crypto.sha256(given.key.spki)),
      ...(given.public && { public: given.public }),
      ...(hierarchy && { hierarchy }),
    },
    scheme: signature.scheme,
    signingHash: signature.hash,
    usesSha1: signature.hash === "sha1" || attest.selections.some(({ bank }) => bank === "sha1"),
    nonce: attest.extraData,
    clockInfo: attest.clockInfo,
    firmwareVersion: attest.firmwareVersion,
    qualifiedSigner: attest.qualifiedSigner,
    selections: attest.selections,
    pcrDigest: attest.pcrDigest,
    pcrs,
  }
}

/** A TPMT_SIGNATURE is longer than the modulus by its header, so that the two can't be taken for each other. */
const readSignature = (bytes: Uint8Array, given: GivenKey, options: QuoteOptions): TpmSignature => {
  const { key } = given
  const isBare = key.type === "rsa" && bytes.length * 8 === key.bits
  const signature = isBare ? bareSignature(bytes, given, options) : parseSignature(bytes)
  const confined = given.public?.scheme
  if (confined && (confined.scheme !== signature.scheme || confined.hash !== signature.hash))
    throw new TpmError(
      "SIGNATURE_ALGORITHM",
      "signature.scheme",
      `${signature.scheme} with ${signature.hash}`,
      `${confined.scheme} with ${confined.hash}, as the key is confined to`,
    )
  return signature
}

const bareSignature = (bytes: Uint8Array, given: GivenKey, options: QuoteOptions): TpmSignature => {
  const confined = given.public?.scheme
  const { scheme, hash } = confined ?? options.bareSignature ?? { scheme: "RSASSA", hash: "sha256" }
  return { scheme, hash, value: Uint8Array.from(bytes) }
}

const refuseSha1 = (attest: QuoteAttest, signature: TpmSignature): void => {
  if (signature.hash === "sha1")
    throw new TpmError("SHA1_REFUSED", "signature.hash", "SHA-1", "SHA-256 or better")
  const at = attest.selections.findIndex(({ bank }) => bank === "sha1")
  if (at >= 0)
    throw new TpmError("SHA1_REFUSED", `quote.selections[${at}].hash`, "the SHA-1 bank", "SHA-256 or better")
}

const signatureHolds = (
  { scheme, hash, value }: TpmSignature,
  signed: Uint8Array,
  key: PublicKey,
  crypto: Crypto,
): boolean => {
  if (value instanceof Uint8Array)
    return key.type === "rsa" && scheme !== "ECDSA" && rsaHolds(scheme, hash, value, signed, key)
  return key.type === "ec" && ecdsaHolds(hash, value, signed, key, crypto)
}

/** RSA exists in OpenSSL only. A TPM's PSS salt is as long as the digest or as the key allows; both verify. */
const rsaHolds = (
  scheme: "RSASSA" | "RSAPSS",
  hash: Bank,
  value: Uint8Array,
  signed: Uint8Array,
  { object, bits }: RsaKey,
): boolean => {
  if (value.length * 8 !== bits) return false
  const how =
    scheme === "RSASSA"
      ? { padding: constants.RSA_PKCS1_PADDING }
      : { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO }
  try {
    return nodeVerify(hash, signed, { key: object, ...how }, value)
  } catch {
    return false
  }
}

const ecdsaHolds = (
  hash: Bank,
  { r, s }: { readonly r: Uint8Array; readonly s: Uint8Array },
  signed: Uint8Array,
  key: EcKey,
  crypto: Crypto,
): boolean => {
  const fits = key.curve === "P-256" ? "sha256" : "sha384"
  if (hash !== fits)
    throw new TpmError("SIGNATURE_ALGORITHM", "signature.hash", hash, `${fits}, with ${key.curve}`)
  const size = curveBytes(key.curve)
  if (r.length > size || s.length > size) return false
  const joined = new Uint8Array(2 * size)
  joined.set(r, size - r.length)
  joined.set(s, 2 * size - s.length)
  const algorithm = key.curve === "P-256" ? crypto.ecdsaP256 : crypto.ecdsaP384
  return algorithm.verify(joined, signed, key.point)
}

const checkSelection = (selections: readonly PcrSelection[], request: QuoteRequest): void => {
  for (const { bank, pcrs } of request.selection) {
    const covered = selections.find((one) => one.bank === bank)?.pcrs ?? []
    const missing = pcrs.filter((pcr) => !covered.includes(pcr))
    if (missing.length > 0)
      throw new TpmError(
        "SELECTION_MISMATCH",
        "quote.selections",
        describeSelections(selections),
        `PCR ${pcrs.join(", ")} of the ${bank} bank`,
      )
  }
  // A request for nothing would make any quote do.
  if (!request.selection.some(({ pcrs }) => pcrs.length > 0))
    throw new TpmError("SELECTION_MISMATCH", "request.selection", "no PCR", "at least one")
}

const describeSelections = (selections: readonly PcrSelection[]): string =>
  selections
    .map(({ bank, algorithm, pcrs }) => `${bank ?? hex(algorithm)} PCR ${pcrs.join(", ") || "none"}`)
    .join("; ") || "none"

/** pcrDigest is taken with the hash of the signature, whatever the banks (part 3, 18.4). */
const checkDigest = (attest: QuoteAttest, hash: Bank, given: PcrValues, crypto: Crypto): PcrValues => {
  const covered: Partial<Record<Bank, Registers>> = {}
  const parts: Uint8Array[] = []
  for (const { bank, algorithm, pcrs } of attest.selections) {
    if (bank === undefined)
      throw new TpmError(
        "SELECTION_MISMATCH",
        "quote.selections",
        hex(algorithm),
        Object.keys(banks).join(", "),
      )
    const values = new Map<number, Uint8Array>()
    for (const pcr of pcrs) values.set(pcr, registerOf(given, bank, pcr))
    parts.push(...values.values())
    covered[bank] = values
  }
  const computed = digest(hash, Buffer.concat(parts), crypto)
  if (!crypto.equalConstantTime(computed, attest.pcrDigest))
    throw new TpmError(
      "PCR_DIGEST_MISMATCH",
      "quote.pcrDigest",
      toHex(attest.pcrDigest),
      `${toHex(computed)}, of the values given`,
    )
  return covered
}

const registerOf = (given: PcrValues, bank: Bank, pcr: number): Uint8Array => {
  const value = given[bank]?.get(pcr)
  if (value === undefined)
    throw new TpmError("PCR_ABSENT", `pcrs.${bank}[${pcr}]`, "no value", "one for each PCR of the quote")
  if (value.length !== banks[bank].bytes)
    throw new TpmError("PCR_LENGTH", `pcrs.${bank}[${pcr}]`, `${value.length} bytes`, `${banks[bank].bytes}`)
  return Uint8Array.from(value)
}
