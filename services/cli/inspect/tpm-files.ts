/** What belongs to a TPM quote: what the caller gave first, then the folder, files of the quote's own prefix first. */
import { basename, join } from "node:path"
import { dersOf } from "./certificates.ts"
import type { Context } from "./context.ts"
import { folderOf, type Item, itemsIn } from "./files.ts"
import { type PcrOrder, pcrValuesOf } from "./pcr-values.ts"
import { recogniseSupport } from "./recognise.ts"

export interface TpmFiles {
  readonly signature: Item | undefined
  /** PEM, SubjectPublicKeyInfo, TPMT_PUBLIC or TPM2B_PUBLIC. */
  readonly ak: Item | undefined
  readonly pcrs: Item | undefined
  readonly hcl: Item | undefined
  readonly eventLog: Item | undefined
  /** Undecoded, of all files that hold certificates. */
  readonly certificates: readonly Uint8Array[]
  readonly akCertificates: readonly Uint8Array[]
}

const isSignature = ({ path, bytes }: Item): boolean =>
  recogniseSupport(bytes) === "tpm-signature" ||
  (/signature|\.sig$/.test(basename(path)) && bytes.length <= 1_024)

const isKey = (item: Item): boolean => {
  const kind = recogniseSupport(item.bytes)
  if (dersOf(item).length > 0 && !isSpki(item)) return false
  return (
    kind === "tpm-public" ||
    isSpki(item) ||
    (kind === "pem" && Buffer.from(item.bytes.subarray(0, 64)).includes("PUBLIC KEY"))
  )
}

/** SEQUENCE { SEQUENCE { OID ... where a certificate has SEQUENCE { SEQUENCE { [0] ... */
const isSpki = ({ bytes }: Item): boolean => {
  if (bytes[0] !== 0x30 || bytes.length > 1_024) return false
  const inner = (bytes[1] ?? 0) < 0x80 ? 2 : 2 + ((bytes[1] ?? 0) & 0x7f)
  const content = (bytes[inner + 1] ?? 0) < 0x80 ? inner + 2 : inner + 2 + ((bytes[inner + 1] ?? 0) & 0x7f)
  return bytes[inner] === 0x30 && bytes[content] === 0x06
}

const isEventLog = ({ path, bytes }: Item): boolean =>
  recogniseSupport(bytes) === "event-log" || /eventlog/.test(basename(path))

export const filesOf = (item: Item, { given, collateral }: Context, order: readonly PcrOrder[]): TpmFiles => {
  const folder = folderOf(item.path)
  const own = basename(item.path)
  const prefix = /^(.*?)\.?(?:tpms-attest|attest|quote)/.exec(own)?.[1] ?? ""
  const nearby = itemsIn(folder, /\.(?:bin|der|pem|json|log|pub|sig|crt|cer)$/i).filter(
    ({ path }) => basename(path) !== own,
  )
  const ofPrefix = (one: Item) => prefix !== "" && basename(one.path).startsWith(`${prefix}.`)
  const pick = (fits: (one: Item) => boolean): Item | undefined =>
    given.find(fits) ?? nearby.find((one) => ofPrefix(one) && fits(one)) ?? nearby.find(fits)
  const issuers = [
    join(folder, "certs"),
    join(folder, "..", "certs"),
    ...(collateral === undefined ? [] : [collateral]),
  ]
  const certificateFile = /\.(?:der|cer|crt|pem)$/i
  return {
    signature: pick(isSignature),
    ak: pick((one) => isKey(one)),
    pcrs: pick((one) => pcrValuesOf(one, order) !== undefined),
    hcl: pick(({ bytes }) => recogniseSupport(bytes) === "hcl-report"),
    eventLog: pick(isEventLog),
    akCertificates: [...given, ...nearby].filter((one) => !isSpki(one)).flatMap(dersOf),
    certificates: issuers.flatMap((each) => itemsIn(each, certificateFile)).flatMap(dersOf),
  }
}
