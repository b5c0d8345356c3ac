/**
 * For the tests of TDX: the real samples, and a made-up hierarchy and platform for what has no public sample. Its
 * certificates have Intel's form and names, but the root's key is its own and counts only where a test lists it.
 */
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto"
import {
  tags,
  write,
  writeBitString,
  writeInteger,
  writeOid,
  writeTime,
  writeUtf8,
} from "../../services/evidence/der.ts"
import { authority, extension } from "../../services/evidence/emulated/certificates.ts"
import type { IntelRoot, TdxCollateral } from "../../services/evidence/tdx/index.ts"
import { sgxExtensionOid } from "../../services/evidence/tdx/sgx-extension.ts"
import { bodyAt, tdReportBytes } from "../../services/evidence/tdx/td-report.ts"

/** The time that all is dated by, unless a test's hierarchy has another. */
export const now = new Date("2026-07-01T00:00:00Z")
export const days = (count: number, from = now): Date => new Date(from.getTime() + count * 86_400_000)
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

export interface Key {
  readonly privateKey: KeyObject
  readonly spki: Uint8Array
  /** x || y. */
  readonly point: Uint8Array
}

const makeKey = (): Key => {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" })
  const spki = Uint8Array.from(publicKey.export({ format: "der", type: "spki" }))
  return { privateKey, spki, point: spki.slice(-64) }
}

const signRaw = (key: Key, message: Uint8Array): Uint8Array =>
  Uint8Array.from(sign("sha256", message, { key: key.privateKey, dsaEncoding: "ieee-p1363" }))

const sequence = (...parts: readonly Uint8Array[]): Uint8Array => write(tags.sequence, ...parts)
const ecdsaSha256 = sequence(writeOid("1.2.840.10045.4.3.2"))

const signed = (key: Key, tbs: Uint8Array): Uint8Array =>
  sequence(tbs, ecdsaSha256, writeBitString(Uint8Array.from(sign("sha256", tbs, key.privateKey))))

const nameOf = (commonName: string): Uint8Array =>
  sequence(
    write(tags.set, sequence(writeOid("2.5.4.3"), writeUtf8(commonName))),
    write(tags.set, sequence(writeOid("2.5.4.10"), writeUtf8("EMULATED, not Intel"))),
  )

export interface CertificateContent {
  readonly serial: number
  readonly issuer: string
  readonly subject: string
  readonly key: Key
  readonly extensions: readonly Uint8Array[]
  readonly notBefore: Date
  readonly notAfter: Date
}

const makeCertificate = (content: CertificateContent, issuerKey: Key): Uint8Array =>
  signed(
    issuerKey,
    sequence(
      write(0xa0, writeInteger(2)),
      writeInteger(content.serial),
      ecdsaSha256,
      nameOf(content.issuer),
      sequence(writeTime(content.notBefore), writeTime(content.notAfter)),
      nameOf(content.subject),
      content.key.spki,
      write(0xa3, sequence(...content.extensions)),
    ),
  )

/** basicConstraints without CA, and digitalSignature. */
export const endEntity = (): Uint8Array[] => [
  extension("2.5.29.19", sequence(), true),
  extension("2.5.29.15", write(tags.bitString, Uint8Array.of(6, 0xc0)), true),
]

export interface CrlContent {
  readonly issuer: string
  readonly revoked?: readonly number[]
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  readonly extensions?: readonly Uint8Array[]
}

const makeCrl = (content: CrlContent, issuerKey: Key): Uint8Array => {
  const entries = (content.revoked ?? []).map((serial) =>
    sequence(writeInteger(serial), writeTime(days(-2, content.thisUpdate))),
  )
  return signed(
    issuerKey,
    sequence(
      writeInteger(1),
      ecdsaSha256,
      nameOf(content.issuer),
      writeTime(content.thisUpdate),
      writeTime(content.nextUpdate),
      ...(entries.length > 0 ? [sequence(...entries)] : []),
      ...(content.extensions ? [write(0xa0, sequence(...content.extensions))] : []),
    ),
  )
}

const sgxArc = sgxExtensionOid
const member = (tail: string, value: Uint8Array): Uint8Array => sequence(writeOid(`${sgxArc}.${tail}`), value)
const octets = (value: Uint8Array): Uint8Array => write(tags.octetString, value)

export interface PlatformContent {
  readonly components?: readonly number[]
  readonly pceSvn?: number
  readonly fmspc?: Uint8Array
}

export const plainComponents = [5, 5, 2, 2, 3, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0]
export const plainTdxComponents = [3, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
export const fmspc = Uint8Array.of(0xee, 0, 0, 0, 0, 1)

export const sgxExtension = ({
  components = plainComponents,
  pceSvn = 11,
  fmspc: of = fmspc,
}: PlatformContent) =>
  extension(
    sgxExtensionOid,
    sequence(
      member("1", octets(new Uint8Array(16).fill(0x9d))),
      member(
        "2",
        sequence(
          ...components.map((svn, i) => member(`2.${i + 1}`, writeInteger(svn))),
          member("2.17", writeInteger(pceSvn)),
          member("2.18", octets(Uint8Array.from(components))),
        ),
      ),
      member("3", octets(new Uint8Array(2))),
      member("4", octets(of)),
      member("5", write(0x0a, Uint8Array.of(1))),
    ),
  )

export const names = {
  root: "Intel SGX Root CA",
  ca: "Intel SGX PCK Platform CA",
  pck: "Intel SGX PCK Certificate",
  tcbSigning: "Intel SGX TCB Signing",
} as const

export const serials = { root: 1, ca: 2, tcbSigning: 3, pck: 4 } as const

/** A root, what it signs, and one platform with its attestation key. All of it is good for a month around `at`. */
export class Hierarchy {
  readonly at: Date
  readonly keys = {
    root: makeKey(),
    ca: makeKey(),
    pck: makeKey(),
    tcbSigning: makeKey(),
    attestation: makeKey(),
  }

  constructor(at: Date = now) {
    this.at = at
  }

  get root(): IntelRoot {
    const key_digest = createHash("sha256").update(this.keys.root.spki).digest("hex")
    return { vendor: "intel", key_digest, emulated: true }
  }

  certificate(
    role: keyof typeof names,
    change: Partial<CertificateContent> = {},
    platform: PlatformContent = {},
  ) {
    const issuer = role === "pck" ? "ca" : "root"
    const isIssuer = role === "root" || role === "ca"
    return makeCertificate(
      {
        serial: serials[role],
        issuer: names[issuer],
        subject: names[role],
        key: this.keys[role],
        notBefore: days(-30, this.at),
        notAfter: days(365, this.at),
        extensions: isIssuer
          ? authority()
          : role === "pck"
            ? [...endEntity(), sgxExtension(platform)]
            : endEntity(),
        ...change,
      },
      this.keys[issuer],
    )
  }

  chain(platform: PlatformContent = {}): Uint8Array[] {
    return [this.certificate("pck", {}, platform), this.certificate("ca"), this.certificate("root")]
  }

  crl(issuer: "root" | "ca", change: Partial<CrlContent> = {}): Uint8Array {
    const dates = { thisUpdate: days(-1, this.at), nextUpdate: days(29, this.at) }
    return makeCrl({ issuer: names[issuer], ...dates, ...change }, this.keys[issuer])
  }

  signJson(member: string, content: object): Uint8Array {
    const body = JSON.stringify(content)
    const signature = hexOf(signRaw(this.keys.tcbSigning, Buffer.from(body)))
    return Uint8Array.from(Buffer.from(`{"${member}":${body},"signature":"${signature}"}`))
  }

  collateral(change: { tcbInfo?: object; qeIdentity?: object } = {}): Required<TdxCollateral> {
    const dates = datesOf(this.at)
    return {
      tcbInfo: this.signJson("tcbInfo", { ...plainTcbInfo, ...dates, ...change.tcbInfo }),
      qeIdentity: this.signJson("enclaveIdentity", { ...plainQeIdentity, ...dates, ...change.qeIdentity }),
      rootCrl: this.crl("root"),
      pckCrl: this.crl("ca"),
      tcbSigningChain: this.certificate("tcbSigning"),
    }
  }

  /** A quote of version 4, or of version 5 around a body of 1.0 or 1.5. */
  quote({
    version = 4,
    body = "1.0",
    teeTcbSvn,
    change,
    chain,
    certification,
  }: QuoteContent = {}): Uint8Array {
    const header = new Uint8Array(48)
    const view = new DataView(header.buffer)
    view.setUint16(0, version, true)
    view.setUint16(2, 2, true)
    view.setUint32(4, 0x81, true)
    header.set(Buffer.from("939a7233f79c4ca9940a0db3957f0607", "hex"), 12)
    const td = new Uint8Array(tdReportBytes[body])
    td.set(teeTcbSvn ?? plainTdxComponents, bodyAt.teeTcbSvn)
    td[bodyAt.tdAttributes + 3] = 0x10
    td[bodyAt.xfam] = 0xe7
    change?.(td)
    const bodyHeader = version === 4 ? [] : [u16(body === "1.0" ? 2 : 3), u32(td.length)]
    const signedPart = Buffer.concat([header, ...bodyHeader, td])
    const data = this.#signatureData(signedPart, chain ?? this.chain(), certification ?? 5)
    return Uint8Array.from(Buffer.concat([signedPart, u32(data.length), data]))
  }

  #signatureData(signedPart: Uint8Array, chain: readonly Uint8Array[], type: number): Uint8Array {
    const { attestation, pck } = this.keys
    const authData = Uint8Array.from({ length: 32 }, (_, i) => i)
    const report = qeReport()
    report.set(createHash("sha256").update(attestation.point).update(authData).digest(), 320)
    const certificates = type === 5 ? Buffer.concat(chain.map(pemOf)) : Buffer.alloc(36, 0x50)
    const inner = Buffer.concat([
      report,
      signRaw(pck, report),
      u16(authData.length),
      authData,
      u16(type),
      u32(certificates.length),
      certificates,
    ])
    return Buffer.concat([
      signRaw(attestation, signedPart),
      attestation.point,
      u16(6),
      u32(inner.length),
      inner,
    ])
  }
}

export interface QuoteContent {
  readonly version?: 4 | 5
  readonly body?: "1.0" | "1.5"
  readonly teeTcbSvn?: readonly number[]
  readonly change?: (td: Uint8Array) => void
  /** PCK, CA, root. */
  readonly chain?: readonly Uint8Array[]
  readonly certification?: number
}

export const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8)
export const u32 = (value: number): Uint8Array =>
  Uint8Array.from([0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff))

export const pemOf = (der: Uint8Array): Uint8Array => {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? []
  return Buffer.from(`-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`)
}

const qeSigner = "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"

/** Of the enclave that `plainQeIdentity` describes, at version 4. */
const qeReport = (): Uint8Array => {
  const report = new Uint8Array(384)
  report[48] = 0x15
  report.set(Buffer.from(qeSigner, "hex"), 128)
  report[256] = 2
  report[258] = 4
  return report
}

export const isoOf = (date: Date): string => `${date.toISOString().slice(0, 19)}Z`

export const level = (
  status: string,
  change: {
    sgx?: readonly number[]
    pceSvn?: number
    tdx?: readonly number[]
    date?: string
    advisoryIDs?: string[]
  } = {},
) => ({
  tcb: {
    sgxtcbcomponents: (change.sgx ?? plainComponents).map((svn) => ({ svn })),
    pcesvn: change.pceSvn ?? 11,
    tdxtcbcomponents: (change.tdx ?? plainTdxComponents).map((svn) => ({ svn })),
  },
  tcbDate: change.date ?? "2026-03-11T00:00:00Z",
  tcbStatus: status,
  ...(change.advisoryIDs && { advisoryIDs: change.advisoryIDs }),
})

export const svnLevel = (isvsvn: number, tcbStatus: string, advisoryIDs?: string[]) => ({
  tcb: { isvsvn },
  tcbDate: "2026-03-11T00:00:00Z",
  tcbStatus,
  ...(advisoryIDs && { advisoryIDs }),
})

const zeros = (bytes: number): string => "00".repeat(bytes)

export const moduleOf = (id: string, levels: readonly object[], change: object = {}) => ({
  id,
  mrsigner: zeros(48),
  attributes: zeros(8),
  attributesMask: "FF".repeat(8),
  tcbLevels: levels,
  ...change,
})

const datesOf = (at: Date) => ({ issueDate: isoOf(days(-1, at)), nextUpdate: isoOf(days(29, at)) })
const dated = { ...datesOf(now), tcbEvaluationDataNumber: 18 }

export const plainTcbInfo = {
  id: "TDX",
  version: 3,
  ...dated,
  fmspc: hexOf(fmspc),
  pceId: "0000",
  tcbType: 0,
  tdxModule: { mrsigner: zeros(48), attributes: zeros(8), attributesMask: "FF".repeat(8) },
  tdxModuleIdentities: [moduleOf("TDX_01", [svnLevel(4, "UpToDate"), svnLevel(2, "OutOfDate")])],
  tcbLevels: [level("UpToDate")],
}

export const plainQeIdentity = {
  id: "TD_QE",
  version: 2,
  ...dated,
  miscselect: "00000000",
  miscselectMask: "FFFFFFFF",
  attributes: `11${zeros(15)}`,
  attributesMask: `FBFFFFFFFFFFFFFF${zeros(8)}`,
  mrsigner: qeSigner.toUpperCase(),
  isvprodid: 2,
  tcbLevels: [svnLevel(4, "UpToDate"), svnLevel(3, "OutOfDate"), svnLevel(2, "Revoked")],
}
