/** Certificates in files: DER, or PEM with one or several; and which of AMD's roles each has, by its name. */
import { DerError } from "../../evidence/der.ts"
import { outline } from "../../evidence/snp/certificate.ts"
import { SnpError } from "../../evidence/snp/error.ts"
import { type Item, itemsIn } from "./files.ts"
import { recogniseSupport } from "./recognise.ts"

const pemMost = 16
const pemBlock = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]{1,16384})-----END CERTIFICATE-----/g

/** DER that was written one after another, as some mirrors give chains; what is no DER behind it, such as a line's end, isn't looked at. */
const oneAfterAnother = (bytes: Uint8Array): readonly Uint8Array[] => {
  const found: Uint8Array[] = []
  for (let at = 0; found.length < pemMost && bytes[at] === 0x30 && bytes[at + 1] === 0x82; ) {
    const end = at + 4 + ((bytes[at + 2] ?? 0) << 8) + (bytes[at + 3] ?? 0)
    found.push(bytes.subarray(at, end))
    at = end
  }
  return found
}

/** The certificates that a file holds, undecoded; none where it is no certificate file. */
export const dersOf = ({ bytes }: Item): readonly Uint8Array[] => {
  switch (recogniseSupport(bytes)) {
    case "certificate":
      return oneAfterAnother(bytes)
    case "pem": {
      const text = Buffer.from(bytes).toString("latin1")
      return [...text.matchAll(pemBlock)]
        .slice(0, pemMost)
        .map(([, base64 = ""]) => new Uint8Array(Buffer.from(base64, "base64")))
    }
    default:
      return []
  }
}

export type AmdRole = "vcek" | "vlek" | "ask" | "asvk" | "ark"

export interface AmdCertificate {
  readonly role: AmdRole
  readonly der: Uint8Array
  readonly issuer: Uint8Array
  readonly subject: Uint8Array
  readonly path: string
}

const roles: readonly (readonly [RegExp, AmdRole])[] = [
  [/ARK-\w+/, "ark"],
  [/SEV-VLEK-\w+/, "asvk"],
  [/SEV-VLEK/, "vlek"],
  [/SEV-VCEK/, "vcek"],
  [/SEV-\w+/, "ask"],
]

/** Those of a file's certificates that name themselves as AMD's do. For choosing only: the verifier checks the names. */
export const amdCertificatesOf = (item: Item): readonly AmdCertificate[] =>
  dersOf(item).flatMap((der) => {
    try {
      const { issuer, subject } = outline("certificate", der)
      const name = Buffer.from(subject).toString("latin1")
      const role = roles.find(([pattern]) => pattern.test(name))?.[1]
      return role === undefined ? [] : [{ role, der, issuer, subject, path: item.path }]
    } catch (error) {
      if (error instanceof SnpError || error instanceof DerError) return []
      throw error
    }
  })

/** By ending, or as AMD's service and its users name them: `vcek`, `cert_chain`, `ark_milan.bin`. */
const certificateFile = /\.(?:der|cer|crt|cert|pem)$|cert|chain|(?:^|[._-])(?:ark|asv?k|v[cl]ek)(?:[._-]|$)/i

export const amdCertificatesIn = (folder: string): readonly AmdCertificate[] =>
  itemsIn(folder, certificateFile).flatMap(amdCertificatesOf)
