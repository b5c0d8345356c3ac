/** From an issuer that the operator named down to the certificate of an AK or EK. */
import { createHash } from "node:crypto"
import { crypto } from "../../common/crypto/index.ts"
import { Recent } from "../recent.ts"
import { toHex } from "../text.ts"
import { type Outline, readOutline } from "../x509/outline.ts"
import {
  checkAuthority,
  checkDates,
  checkLeaf,
  checkSignature,
  type Decoded,
  decode,
  type GoogleInstance,
  instanceOf,
  type LeafUse,
  reading,
  type TpmIssuer,
  type TpmModel,
  tpmOf,
} from "./certificate.ts"
import { TpmError } from "./error.ts"

export interface TpmCertificate {
  readonly fingerprint: string
  readonly notBefore: Date
  readonly notAfter: Date
}

export interface TpmChain {
  readonly issuer: TpmIssuer
  /** SubjectPublicKeyInfo of the leaf. */
  readonly spki: Uint8Array
  readonly tpm?: TpmModel
  /** The machine that Google issued it for. */
  readonly instance?: GoogleInstance
  /** Leaf first. */
  readonly certificates: readonly TpmCertificate[]
}

/** The part of a chain that neither the time nor the list of issuers changes. */
interface SignedChain {
  readonly spki: Uint8Array
  readonly tpm?: TpmModel
  readonly instance?: GoogleInstance
  readonly certificates: readonly TpmCertificate[]
}

/**
 * Remembers chains whose signatures held, by the digest of all their bytes. Issuers and dates are looked at every time.
 */
export class TpmChainCache extends Recent<SignedChain> {
  constructor(most = 1_024) {
    super(most)
  }
}

const chainMost = 5
const certificateBytesMost = 8_192

/**
 * @param ders DER, leaf first; the last one must be one of `issuers`
 * @param use an AK's certificate must allow signatures, an EK's deciphering
 * @throws TpmError CHAIN_LENGTH, CERTIFICATE_*, ISSUER_UNKNOWN, TIME_INVALID
 */
export const verifyTpmChain = (
  ders: readonly Uint8Array[],
  use: LeafUse,
  issuers: readonly TpmIssuer[],
  now: Date,
  cache?: TpmChainCache,
): TpmChain => {
  if (ders.length < 2 || ders.length > chainMost)
    throw new TpmError("CHAIN_LENGTH", "certificates", `${ders.length}`, `2 to ${chainMost}, leaf first`)
  if (Number.isNaN(now.getTime())) throw new TpmError("TIME_INVALID", "now", "no date", "a date")
  for (const [i, der] of ders.entries())
    if (der.length > certificateBytesMost)
      throw new TpmError(
        "CERTIFICATE_MALFORMED",
        `certificates[${i}]`,
        `${der.length} bytes`,
        `at most ${certificateBytesMost}`,
      )
  const last = ders.length - 1
  const top = reading(last, "CERTIFICATE_MALFORMED", () => readOutline(Uint8Array.from(ders[last] ?? [])))
  const issuer = namedIssuer(issuers, top)
  // How the top was named decides whether its own signature counts.
  const isPinnedWhole = "certificateDigest" in issuer
  const key = digestOf(use, isPinnedWhole, ders)
  const known = cache?.get(key)
  const signed = known ?? verifySignatures([...ders.slice(0, -1)], top, use, isPinnedWhole)
  if (known === undefined) cache?.set(key, signed)
  for (let i = last; i >= 0; i--) {
    const certificate = signed.certificates[i]
    if (certificate) checkDates(i, certificate, now)
  }
  return { issuer, ...signed }
}

const namedIssuer = (issuers: readonly TpmIssuer[], top: Outline): TpmIssuer => {
  const keyDigest = toHex(crypto.sha256(top.spki))
  const certificateDigest = toHex(crypto.sha256(top.der))
  const issuer = issuers.find((one) =>
    "keyDigest" in one ? one.keyDigest === keyDigest : one.certificateDigest === certificateDigest,
  )
  if (issuer === undefined)
    throw new TpmError(
      "ISSUER_UNKNOWN",
      "certificates",
      `key ${keyDigest}, certificate ${certificateDigest}`,
      "a named issuer at the top",
    )
  return issuer
}

const digestOf = (use: LeafUse, isPinnedWhole: boolean, ders: readonly Uint8Array[]): string => {
  const hash = createHash("sha256").update(`${use}:${isPinnedWhole}`)
  for (const der of ders) hash.update(`:${der.length}:`).update(der)
  return hash.digest("base64")
}

/** Top down: nothing is decoded, and no key used, before what stands above it is known to be right. */
const verifySignatures = (
  below: readonly Uint8Array[],
  top: Outline,
  use: LeafUse,
  isPinnedWhole: boolean,
): SignedChain => {
  const last = below.length
  if (!isPinnedWhole) checkSignature(last, top, top, last)
  const decoded: Decoded[] = [decodeAuthority(last, top)]
  let issuer = top
  for (let i = last - 1; i >= 0; i--) {
    const der = Uint8Array.from(below[i] ?? [])
    const own = reading(i, "CERTIFICATE_MALFORMED", () => readOutline(der))
    checkSignature(i, own, issuer, i + 1)
    decoded.unshift(i > 0 ? decodeAuthority(i, own) : decodeLeaf(own, use))
    issuer = own
  }
  const [leaf] = decoded
  if (leaf === undefined) throw new TpmError("CHAIN_LENGTH", "certificates", "none", "2 or more")
  const tpm = reading(0, "CERTIFICATE_EXTENSION", () => tpmOf(leaf.x509))
  const instance = reading(0, "CERTIFICATE_EXTENSION", () => instanceOf(leaf.x509))
  return {
    spki: issuer.spki,
    ...(tpm && { tpm }),
    ...(instance && { instance }),
    certificates: decoded.map(({ fingerprint, notBefore, notAfter }) => ({
      fingerprint,
      notBefore,
      notAfter,
    })),
  }
}

const decodeAuthority = (i: number, own: Outline): Decoded => {
  const decoded = reading(i, "CERTIFICATE_MALFORMED", () => decode(i, own))
  checkAuthority(i, decoded.x509)
  return decoded
}

const decodeLeaf = (own: Outline, use: LeafUse): Decoded => {
  const decoded = reading(0, "CERTIFICATE_MALFORMED", () => decode(0, own))
  checkLeaf(decoded.x509, use)
  return decoded
}
