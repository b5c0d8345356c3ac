/** What a PCK certificate says of its platform: Intel's SGX extension (PCK Certificate and CRL Profile, 1.3.5). */
import { DerError, readAll, readOnly, type Tlv, tags } from "../der.ts"
import { toHex } from "../text.ts"
import { type IntelCertificate, readingDer } from "./certificate.ts"
import { TdxError } from "./error.ts"

export const sgxExtensionOid = "1.2.840.113741.1.13.1"
/** Contents of an OBJECT IDENTIFIER: the arc above, under which all members lie. */
const sgxArc = "2a864886f84d010d01"
const enumerated = 0x0a

export interface PlatformIdentity {
  /** Identifies the platform's processors; 16 bytes. */
  readonly ppid: Uint8Array
  /** Family, model, stepping, platform type and SKU, by which TCB info is issued; 6 bytes. */
  readonly fmspc: Uint8Array
  readonly pceId: Uint8Array
  /** The TCB that the PCK was made for: 16 security versions of components, and that of the PCE. */
  readonly sgxComponents: readonly number[]
  readonly pceSvn: number
  readonly cpuSvn: Uint8Array
  readonly sgxType: "standard" | "scalable" | "scalable-with-integrity"
  /** Platforms of several packages: which set of packages; 16 bytes. */
  readonly platformInstanceId?: Uint8Array
  readonly configuration?: {
    readonly dynamicPlatform?: boolean
    readonly cachedKeys?: boolean
    readonly smtEnabled?: boolean
  }
}

const sgxTypes = ["standard", "scalable", "scalable-with-integrity"] as const

/**
 * @param pck a certificate whose signature held
 * @throws TdxError CERTIFICATE_EXTENSION
 */
export const readPlatform = (pck: IntelCertificate): PlatformIdentity => {
  const field = "certificates.pck.sgxExtension"
  const value = pck.extensions.get(sgxExtensionOid)
  if (value === undefined)
    throw new TdxError("CERTIFICATE_EXTENSION", field, "none", `extension ${sgxExtensionOid}`)
  return readingDer(field, "CERTIFICATE_EXTENSION", () => {
    const members = readMembers(readOnly(value, tags.sequence), "")
    const tcb = readMembers(required(members, "02"), "02")
    const instance = members.get("06")
    const configuration = members.get("07")
    return {
      ppid: octets(required(members, "01"), 16),
      sgxComponents: Array.from({ length: 16 }, (_, i) => number(required(tcb, `02${hexByte(i + 1)}`), 0xff)),
      pceSvn: number(required(tcb, "0211"), 0xffff),
      cpuSvn: octets(required(tcb, "0212"), 16),
      pceId: octets(required(members, "03"), 2),
      fmspc: octets(required(members, "04"), 6),
      sgxType: readType(required(members, "05")),
      ...(instance && { platformInstanceId: octets(instance, 16) }),
      ...(configuration && { configuration: readConfiguration(configuration) }),
    }
  })
}

const hexByte = (value: number): string => value.toString(16).padStart(2, "0")

/** SEQUENCE OF SEQUENCE { OID, value }: values by what follows the arc in their OIDs. Those after `under` only. */
const readMembers = (list: Tlv, under: string): ReadonlyMap<string, Tlv> => {
  const members = new Map<string, Tlv>()
  for (const member of readAll(readOnly(list.raw, tags.sequence).content, 32)) {
    const [oid, value, ...more] = readAll(readOnly(member.raw, tags.sequence).content, 2)
    if (oid?.tag !== tags.oid || value === undefined || more.length > 0)
      throw new DerError("has a member that isn't an identifier and a value")
    const id = toHex(oid.content)
    if (!id.startsWith(sgxArc + under)) throw new DerError("has a member of another arc")
    const tail = id.slice(sgxArc.length)
    if (members.has(tail)) throw new DerError("has a member twice")
    members.set(tail, value)
  }
  return members
}

const required = (members: ReadonlyMap<string, Tlv>, id: string): Tlv => {
  const value = members.get(id)
  if (value === undefined) throw new DerError(`lacks member ${id}`)
  return value
}

const octets = ({ raw }: Tlv, length: number): Uint8Array => {
  const { content } = readOnly(raw, tags.octetString)
  if (content.length !== length) throw new DerError(`has ${content.length} bytes where ${length} belong`)
  return Uint8Array.from(content)
}

const number = ({ raw }: Tlv, most: number, tag: number = tags.integer): number => {
  const { content } = readOnly(raw, tag)
  const [first = 0x80, second = 0] = content
  const shortest = content.length < 2 || first !== 0 || second >= 0x80
  if (first >= 0x80 || !shortest || content.length > 3) throw new DerError("has a number out of range")
  const value = content.reduce((sum, byte) => sum * 256 + byte, 0)
  if (value > most) throw new DerError("has a number out of range")
  return value
}

const readType = (value: Tlv): PlatformIdentity["sgxType"] => {
  const type = sgxTypes[number(value, 0xff, enumerated)]
  if (type === undefined) throw new DerError("has an unknown type of platform")
  return type
}

const readConfiguration = (value: Tlv): NonNullable<PlatformIdentity["configuration"]> => {
  const members = readMembers(value, "07")
  const flag = (id: string): boolean | undefined => {
    const found = members.get(id)
    if (found === undefined) return undefined
    const [byte] = readOnly(found.raw, tags.boolean).content
    if (found.raw.length !== 3 || (byte !== 0 && byte !== 0xff)) throw new DerError("has a broken flag")
    return byte === 0xff
  }
  const [dynamicPlatform, cachedKeys, smtEnabled] = [flag("0701"), flag("0702"), flag("0703")]
  return {
    ...(dynamicPlatform !== undefined && { dynamicPlatform }),
    ...(cachedKeys !== undefined && { cachedKeys }),
    ...(smtEnabled !== undefined && { smtEnabled }),
  }
}
