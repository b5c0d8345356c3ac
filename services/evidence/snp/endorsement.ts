/** What a VCEK or VLEK certificate says in AMD's own extensions (AMD 57230, table 8): the chip, the product, the TCB. */
import { DerError, readByte, readOnly, readText, tags } from "../der.ts"
import { toHex } from "../text.ts"
import { type Certificate, reading } from "./certificate.ts"
import { SnpError } from "./error.ts"
import { encodeTcb, products, type SnpProduct, type TcbPart } from "./product.ts"
import type { SigningKeyKind } from "./report.ts"

const amdArc = "1.3.6.1.4.1.3704.1"

export const extensionOf = {
  structVersion: `${amdArc}.1`,
  productName: `${amdArc}.2`,
  hardwareId: `${amdArc}.4`,
  cspId: `${amdArc}.5`,
} as const

export const tcbExtensionOf: Readonly<Record<TcbPart, string>> = {
  bootloader: `${amdArc}.3.1`,
  tee: `${amdArc}.3.2`,
  snp: `${amdArc}.3.3`,
  spl4: `${amdArc}.3.4`,
  spl5: `${amdArc}.3.5`,
  spl6: `${amdArc}.3.6`,
  spl7: `${amdArc}.3.7`,
  microcode: `${amdArc}.3.8`,
  fmc: `${amdArc}.3.9`,
}

export interface Endorsement {
  readonly kind: SigningKeyKind
  /** As the certificate writes it: `Milan-B0`, `Genoa`. */
  readonly productName: string
  /** 04 || x || y. */
  readonly publicKey: Uint8Array
  /** The TCB_VERSION that the key is good for, 8 bytes. */
  readonly tcb: Uint8Array
  /** VCEK: 64 bytes, 8 on Turin. */
  readonly hardwareId?: Uint8Array
  /** VLEK: who the key was made for. */
  readonly cspId?: string
}

/** SubjectPublicKeyInfo of a P-384 key up to and with the 04 of its uncompressed point. */
const p384Prefix = "3076301006072a8648ce3d020106052b8104002203620004"

/**
 * @param leaf a certificate whose signature held
 * @throws SnpError CERTIFICATE_ALGORITHM, CERTIFICATE_EXTENSION, PRODUCT_MISMATCH
 */
export const readEndorsement = (
  leaf: Certificate,
  kind: SigningKeyKind,
  product: SnpProduct,
): Endorsement => {
  const { role, extensions } = leaf
  const expected = new Set<string>()
  const value = <T>(name: string, oid: string, read: (bytes: Uint8Array) => T): T => {
    expected.add(oid)
    const bytes = extensions.get(oid)
    if (bytes === undefined)
      throw new SnpError("CERTIFICATE_EXTENSION", `certificates.${role}.${name}`, "none", `extension ${oid}`)
    return reading(role, name, "CERTIFICATE_EXTENSION", () => read(bytes))
  }

  const { tcbLayout, certificateVersion, hardwareIdBytes } = products[product]
  const structVersion = value("structVersion", extensionOf.structVersion, readByte)
  if (structVersion !== certificateVersion)
    throw new SnpError(
      "CERTIFICATE_EXTENSION",
      `certificates.${role}.structVersion`,
      `${structVersion}`,
      `${certificateVersion} on ${product}`,
    )
  const productName = value("productName", extensionOf.productName, readText)
  if (productName !== product && !productName.startsWith(`${product}-`))
    throw new SnpError("PRODUCT_MISMATCH", `certificates.${role}.productName`, productName, product)
  const parts: Partial<Record<TcbPart, number>> = {}
  for (const part of tcbLayout) parts[part] = value(part, tcbExtensionOf[part], readByte)

  const endorsement: Endorsement = {
    kind,
    productName,
    publicKey: readPublicKey(leaf),
    tcb: encodeTcb(product, parts),
    ...(kind === "VCEK"
      ? {
          hardwareId: value("hwid", extensionOf.hardwareId, (bytes) =>
            readHardwareId(bytes, hardwareIdBytes),
          ),
        }
      : { cspId: value("cspId", extensionOf.cspId, readText) }),
  }
  // A part of the TCB that we don't know, or the id of the other kind of key, must not be passed over.
  for (const oid of extensions.keys())
    if (oid.startsWith(`${amdArc}.`) && !expected.has(oid))
      throw new SnpError(
        "CERTIFICATE_EXTENSION",
        `certificates.${role}.${oid}`,
        "present",
        `none on a ${product} ${kind}`,
      )
  return endorsement
}

const readPublicKey = (leaf: Certificate): Uint8Array => {
  const prefixBytes = p384Prefix.length / 2
  if (leaf.spki.length !== prefixBytes + 96 || toHex(leaf.spki.subarray(0, prefixBytes)) !== p384Prefix)
    throw new SnpError(
      "CERTIFICATE_ALGORITHM",
      `certificates.${leaf.role}.publicKey`,
      "another kind of key",
      "an uncompressed P-384 key",
    )
  return leaf.spki.slice(prefixBytes - 1)
}

/** AMD writes the id as the extension's bare value; wrapped in one more OCTET STRING it is unmistakable too. */
const readHardwareId = (bytes: Uint8Array, length: number): Uint8Array => {
  if (bytes.length === length) return Uint8Array.from(bytes)
  const { content } = readOnly(bytes, tags.octetString)
  if (content.length !== length) throw new DerError(`has ${content.length} bytes, not ${length}`)
  return Uint8Array.from(content)
}
