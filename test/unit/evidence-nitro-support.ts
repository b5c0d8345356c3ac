/** For the tests of Nitro documents: a root, issuers, a leaf and documents of our own, each part changeable. */
import { encode } from "cborg"
import { crypto } from "../../services/common/crypto/index.ts"
import type { SecretKey } from "../../services/common/crypto/secret-key.ts"
import {
  tags,
  write,
  writeBitString,
  writeInteger,
  writeOid,
  writeTime,
  writeUtf8,
} from "../../services/evidence/der.ts"
import { authority, extension, p384Spki } from "../../services/evidence/emulated/certificates.ts"
import { keyDigest } from "../../services/evidence/nitro/certificate.ts"
import type { NitroRoot } from "../../services/evidence/nitro/roots.ts"

const sequence = (...parts: readonly Uint8Array[]): Uint8Array => write(tags.sequence, ...parts)

const nameOf = (commonName: string): Uint8Array =>
  sequence(write(tags.set, sequence(writeOid("2.5.4.3"), writeUtf8(commonName))))

const ecdsaSha384 = sequence(writeOid("1.2.840.10045.4.3.3"))

const signatureNumber = (bytes: Uint8Array, padding = 0): Uint8Array => {
  const first = bytes.findIndex((byte) => byte !== 0)
  const short = bytes.subarray(first)
  const zeros = ((short[0] ?? 0) >= 0x80 ? 1 : 0) + padding
  return write(tags.integer, new Uint8Array(zeros), short)
}

export interface CertificatePlan {
  readonly subject: string
  readonly issuer?: string
  readonly extensions?: readonly Uint8Array[]
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly spki?: Uint8Array
  readonly algorithm?: Uint8Array
  /** Writes the signature's first number with a zero byte too many. */
  readonly paddedSignature?: boolean
}

export const leafExtensions = [
  extension("2.5.29.19", sequence(), true),
  extension("2.5.29.15", write(tags.bitString, Uint8Array.of(6, 0xc0))),
]

export const madeAt = new Date("2026-03-01T12:00:00Z")
const year = 365 * 86_400_000

const certificateOf = (
  plan: CertificatePlan,
  key: SecretKey,
  signer: SecretKey,
  issuer: string,
): Uint8Array => {
  const algorithm = plan.algorithm ?? ecdsaSha384
  const tbs = sequence(
    write(0xa0, writeInteger(2)),
    writeInteger(7),
    algorithm,
    nameOf(plan.issuer ?? issuer),
    sequence(
      writeTime(plan.notBefore ?? new Date(madeAt.getTime() - year)),
      writeTime(plan.notAfter ?? new Date(madeAt.getTime() + year)),
    ),
    nameOf(plan.subject),
    plan.spki ?? p384Spki(key.publicKey),
    write(0xa3, sequence(...(plan.extensions ?? leafExtensions))),
  )
  const signature = crypto.ecdsaP384.sign(tbs, signer)
  const value = sequence(
    signatureNumber(signature.subarray(0, 48), plan.paddedSignature === true ? 1 : 0),
    signatureNumber(signature.subarray(48)),
  )
  return sequence(tbs, algorithm, writeBitString(value))
}

export interface NitroLab {
  readonly root: NitroRoot
  /** Root first. */
  readonly cabundle: readonly Uint8Array[]
  readonly leaf: Uint8Array
  readonly leafKey: SecretKey
}

/** Root, `issuers`, leaf: each plan can be changed by its place, 0 being the root. */
export const makeNitroLab = (
  change: (plan: CertificatePlan, place: number) => CertificatePlan = (p) => p,
): NitroLab => {
  const plans: CertificatePlan[] = [
    { subject: "EMULATED root", extensions: authority() },
    { subject: "EMULATED region", extensions: authority(1) },
    { subject: "EMULATED instance", extensions: authority(0) },
    {
      subject: "EMULATED leaf",
      notBefore: new Date(madeAt.getTime() - 3_000),
      notAfter: new Date(madeAt.getTime() + 3 * 3_600_000),
    },
  ]
  const keys = plans.map(() => crypto.ecdsaP384.generate())
  const ders = plans.map((plan, i) => {
    const key = keys[i]
    const above = Math.max(0, i - 1)
    const signer = keys[above]
    if (key === undefined || signer === undefined) throw new Error("no key")
    return certificateOf(change(plan, i), key, signer, plans[above]?.subject ?? "")
  })
  const leaf = ders.pop()
  const leafKey = keys.at(-1)
  const rootKey = keys[0]
  if (leaf === undefined || leafKey === undefined || rootKey === undefined) throw new Error("no leaf")
  const key_digest = keyDigest(p384Spki(rootKey.publicKey))
  return { root: { vendor: "aws", name: "lab", key_digest, emulated: true }, cabundle: ders, leaf, leafKey }
}

export const plainPcrs = (length = 48): Map<unknown, unknown> =>
  new Map(Array.from({ length: 16 }, (_, i) => [i, new Uint8Array(length).fill(i + 1)]))

export const plainFields = (lab: NitroLab): Map<string, unknown> =>
  new Map<string, unknown>([
    ["module_id", "i-0123456789abcdef0-enc0123456789abcdef"],
    ["digest", "SHA384"],
    ["timestamp", madeAt.getTime()],
    ["pcrs", plainPcrs()],
    ["certificate", lab.leaf],
    ["cabundle", lab.cabundle],
    ["public_key", null],
    ["user_data", Uint8Array.of(1, 2, 3)],
    ["nonce", new Uint8Array(32).fill(9)],
  ])

export interface Envelope {
  readonly header?: unknown
  readonly unprotected?: unknown
  readonly signature?: Uint8Array
  readonly tagged?: boolean
}

const es384 = Uint8Array.of(0xa1, 0x01, 0x38, 0x22)

/** A document over these bytes, signed by the lab's leaf. */
export const sealed = (lab: NitroLab, payload: Uint8Array, envelope: Envelope = {}): Uint8Array => {
  const header = envelope.header ?? es384
  const signed = encode(["Signature1", header, new Uint8Array(0), payload])
  const signature = envelope.signature ?? crypto.ecdsaP384.sign(signed, lab.leafKey)
  const bytes = encode([header, envelope.unprotected ?? new Map(), payload, signature])
  return envelope.tagged === true ? Uint8Array.of(0xd2, ...bytes) : Uint8Array.from(bytes)
}

/** A document whose fields were changed before it was signed. */
export const documentOf = (
  lab: NitroLab,
  change: (fields: Map<string, unknown>) => void = () => undefined,
  envelope?: Envelope,
): Uint8Array => {
  const fields = plainFields(lab)
  change(fields)
  return sealed(lab, encode(fields), envelope)
}
