/**
 * Certificates of an emulated AMD hierarchy: the same structure, extensions and encodings as AMD's own, under names that
 * say what they are.
 */
import { rsaPss4096Sha384 } from "../../common/crypto/native.ts"
import {
  tags,
  write,
  writeBitString,
  writeIa5,
  writeInteger,
  writeOid,
  writeTime,
  writeUtf8,
} from "../der.ts"
import { extensionOf, tcbExtensionOf } from "../snp/endorsement.ts"
import { products, type SnpProduct, type TcbPart } from "../snp/product.ts"

const sequence = (...parts: readonly Uint8Array[]): Uint8Array => write(tags.sequence, ...parts)
const nothing = write(tags.null)
const sha384 = sequence(writeOid("2.16.840.1.101.3.4.2.2"), nothing)

/** RSASSA-PSS with SHA-384, MGF1 with SHA-384, 48 bytes of salt, trailer 1 (RFC 4055). */
const rsaPssSha384 = sequence(
  writeOid("1.2.840.113549.1.1.10"),
  sequence(
    write(0xa0, sha384),
    write(0xa1, sequence(writeOid("1.2.840.113549.1.1.8"), sha384)),
    write(0xa2, writeInteger(48)),
    write(0xa3, writeInteger(1)),
  ),
)

const attribute = (oid: string, value: Uint8Array): Uint8Array =>
  write(tags.set, sequence(writeOid(oid), value))

/** AMD's shape of a name, with the maker's place taken by the word that matters. */
const nameOf = (commonName: string): Uint8Array =>
  sequence(
    attribute("2.5.4.11", writeUtf8("EMULATED")),
    attribute("2.5.4.10", writeUtf8("EMULATED SEV-SNP, not AMD")),
    attribute("2.5.4.3", writeUtf8(commonName)),
  )

export const extension = (oid: string, value: Uint8Array, critical = false): Uint8Array =>
  sequence(
    writeOid(oid),
    ...(critical ? [write(tags.boolean, Uint8Array.of(0xff))] : []),
    write(tags.octetString, value),
  )

export const authority = (pathLength?: number): Uint8Array[] => [
  extension(
    "2.5.29.19",
    sequence(
      write(tags.boolean, Uint8Array.of(0xff)),
      ...(pathLength === undefined ? [] : [writeInteger(pathLength)]),
    ),
    true,
  ),
  // keyCertSign and cRLSign, two unused bits.
  extension("2.5.29.15", write(tags.bitString, Uint8Array.of(1, 0x06)), true),
]

export interface Validity {
  readonly notBefore: Date
  readonly notAfter: Date
}

/** What differs between certificates of the hierarchy. Issuer and subject are common names. */
export interface CertificateContent {
  readonly serial: number
  readonly issuer: string
  readonly subject: string
  readonly spki: Uint8Array
  readonly extensions: readonly Uint8Array[]
  readonly validity: Validity
}

/** DER, signed with RSASSA-PSS by a key in PKCS #8. */
export const signCertificate = (content: CertificateContent, issuerKey: Uint8Array): Uint8Array => {
  const { serial, issuer, subject, spki, extensions, validity } = content
  const tbs = sequence(
    write(0xa0, writeInteger(2)),
    writeInteger(serial),
    rsaPssSha384,
    nameOf(issuer),
    sequence(writeTime(validity.notBefore), writeTime(validity.notAfter)),
    nameOf(subject),
    spki,
    write(0xa3, sequence(...extensions)),
  )
  return sequence(tbs, rsaPssSha384, writeBitString(rsaPss4096Sha384.sign(tbs, issuerKey)))
}

/** Keys are DER: SubjectPublicKeyInfo and PKCS #8. */
export const arkCertificate = (
  product: SnpProduct,
  spki: Uint8Array,
  key: Uint8Array,
  validity: Validity,
): Uint8Array => {
  const name = `ARK-${product}`
  return signCertificate(
    { serial: 0x010000, issuer: name, subject: name, spki, extensions: authority(), validity },
    key,
  )
}

export const askCertificate = (
  product: SnpProduct,
  spki: Uint8Array,
  arkKey: Uint8Array,
  validity: Validity,
): Uint8Array =>
  signCertificate(
    {
      serial: 0x010001,
      issuer: `ARK-${product}`,
      subject: `SEV-${product}`,
      spki,
      extensions: authority(0),
      validity,
    },
    arkKey,
  )

export interface VcekContent {
  readonly product: SnpProduct
  /** 04 || x || y. */
  readonly publicKey: Uint8Array
  readonly tcb: Partial<Record<TcbPart, number>>
  /** 64 bytes; 8 on Turin. */
  readonly hardwareId: Uint8Array
  readonly validity: Validity
}

export const vcekCertificate = (content: VcekContent, askKey: Uint8Array): Uint8Array => {
  const { product, validity } = content
  return signCertificate(
    {
      serial: 0,
      issuer: `SEV-${product}`,
      subject: "SEV-VCEK",
      spki: p384Spki(content.publicKey),
      extensions: vcekExtensions(content),
      validity,
    },
    askKey,
  )
}

export interface CrlContent {
  /** Common name of the issuer. */
  readonly issuer: string
  /** Serial numbers. */
  readonly revoked?: readonly number[]
  readonly number?: number
  readonly thisUpdate: Date
  readonly nextUpdate: Date
}

/** A revocation list as AMD's roots sign them: DER, version 2, with a number. The key is PKCS #8. */
export const signCrl = (content: CrlContent, key: Uint8Array): Uint8Array => {
  const { issuer, revoked = [], number = 1, thisUpdate, nextUpdate } = content
  const entries = revoked.map((serial) => sequence(writeInteger(serial), writeTime(thisUpdate)))
  const tbs = sequence(
    writeInteger(1),
    rsaPssSha384,
    nameOf(issuer),
    writeTime(thisUpdate),
    writeTime(nextUpdate),
    ...(entries.length > 0 ? [sequence(...entries)] : []),
    write(0xa0, sequence(extension("2.5.29.20", writeInteger(number)))),
  )
  return sequence(tbs, rsaPssSha384, writeBitString(rsaPss4096Sha384.sign(tbs, key)))
}

/** In the order in which AMD writes them. */
export const vcekExtensions = ({ product, tcb, hardwareId }: VcekContent): Uint8Array[] => {
  const { tcbLayout, certificateVersion } = products[product]
  return [
    extension(extensionOf.structVersion, writeInteger(certificateVersion)),
    extension(extensionOf.productName, writeIa5(product)),
    ...tcbLayout.map((part) => extension(tcbExtensionOf[part], writeInteger(tcb[part] ?? 0))),
    extension(extensionOf.hardwareId, hardwareId),
  ]
}

/** SubjectPublicKeyInfo of a P-384 point, 04 || x || y. */
export const p384Spki = (publicKey: Uint8Array): Uint8Array =>
  sequence(sequence(writeOid("1.2.840.10045.2.1"), writeOid("1.3.132.0.34")), writeBitString(publicKey))
