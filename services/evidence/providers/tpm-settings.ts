/** What a guest's configuration says of its TPM. */
import type { Bank } from "../eventlog/bank.ts"
import type { AkKind, EkKind, Selection } from "../tpm/index.ts"
import { ProviderError } from "./error.ts"

/** Where the attestation key comes from. */
export type AkSource =
  /** Made from the endorsement seed each time: the same key until the TPM is cleared, stored nowhere. */
  | { readonly from: "seed"; readonly kind: AkKind }
  /** A persistent one, 0x81xxxxxx. */
  | { readonly from: "handle"; readonly handle: number }
  /** Made from the template in this NV index, 0x01xxxxxx, as Compute Engine keeps it. */
  | { readonly from: "template"; readonly index: number }

/** The endorsement key: of the TCG's default templates, or a persistent one. */
export type EkSource =
  | { readonly from: "seed"; readonly kind: EkKind }
  | { readonly from: "handle"; readonly handle: number }

/** Where certificates come from: an NV index, or a file with PEM or DER. */
export type CertificateSource =
  | { readonly from: "nv"; readonly index: number }
  | { readonly from: "file"; readonly path: string }

const kinds = ["ecdsa-p256", "rsassa-2048", "rsapss-2048"] as const
const quotedBanks = ["sha256", "sha384", "sha512"] as const
const sourcesMost = 4

export const allPcrs: Selection = [{ bank: "sha256", pcrs: Array.from({ length: 24 }, (_, i) => i) }]

const bad = (field: string, found: string, wanted: string): ProviderError =>
  new ProviderError("INPUT", field, JSON.stringify(found.slice(0, 128)), wanted)

const handleOf = (text: string, prefix: string): number | undefined =>
  new RegExp(`^0x${prefix}[0-9a-f]{6}$`, "i").test(text) ? Number.parseInt(text, 16) : undefined

/**
 * @param text `ecdsa-p256`, `rsassa-2048`, `rsapss-2048`, `0x81...` or `template:0x01...`
 * @throws ProviderError INPUT
 */
export const parseAkSource = (field: string, text: string): AkSource => {
  const kind = kinds.find((one) => one === text)
  if (kind !== undefined) return { from: "seed", kind }
  const handle = handleOf(text, "81")
  if (handle !== undefined) return { from: "handle", handle }
  const index = text.startsWith("template:") ? handleOf(text.slice(9), "01") : undefined
  if (index !== undefined) return { from: "template", index }
  throw bad(field, text, `${kinds.join(", ")}, a handle (0x81000003), or template:0x01c10001`)
}

/**
 * @param text `rsa-2048`, `ecc-p256` or `0x81...`
 * @throws ProviderError INPUT
 */
export const parseEkSource = (field: string, text: string): EkSource => {
  if (text === "rsa-2048" || text === "ecc-p256") return { from: "seed", kind: text }
  const handle = handleOf(text, "81")
  if (handle !== undefined) return { from: "handle", handle }
  throw bad(field, text, "rsa-2048, ecc-p256, or a handle (0x81010001)")
}

/**
 * @param text `nv:0x01...` and absolute paths, the leaf's first, with commas between
 * @throws ProviderError INPUT
 */
export const parseCertificateSources = (field: string, text: string): readonly CertificateSource[] => {
  const sources = text.split(",").filter((one) => one !== "")
  if (sources.length > sourcesMost) throw bad(field, text, `at most ${sourcesMost}`)
  return sources.map((one) => {
    const index = one.startsWith("nv:") ? handleOf(one.slice(3), "01") : undefined
    if (index !== undefined) return { from: "nv", index }
    if (/^\/[^\0]{1,4094}$/.test(one)) return { from: "file", path: one }
    throw bad(field, one, "nv:0x01c10000, or an absolute path")
  })
}

const pcrRange = (field: string, text: string): number[] => {
  const [, first, last] = /^(\d{1,2})(?:-(\d{1,2}))?$/.exec(text) ?? []
  const [low, high] = [Number(first), Number(last ?? first)]
  if (first === undefined || low > high || high > 23) throw bad(field, text, "0 to 23, or a range of them")
  return Array.from({ length: high - low + 1 }, (_, i) => low + i)
}

/**
 * @param text `sha256:0-9,14` and perhaps more banks, with a plus between
 * @throws ProviderError INPUT
 */
export const parseSelection = (field: string, text: string): Selection => {
  const selection = text.split("+").map((part) => {
    const [name, list = ""] = part.split(":", 2)
    const bank = quotedBanks.find((one) => one === name)
    if (bank === undefined) throw bad(field, part, `${quotedBanks.join(", ")}, a colon and registers`)
    const pcrs = [...new Set(list.split(",").flatMap((range) => pcrRange(field, range)))]
    return { bank, pcrs: pcrs.sort((a, b) => a - b) }
  })
  if (new Set(selection.map(({ bank }) => bank)).size < selection.length)
    throw bad(field, text, "each bank once")
  return selection
}

/** The banks that Evidence can carry. */
export const isQuotedBank = (bank: Bank): bank is (typeof quotedBanks)[number] =>
  quotedBanks.some((one) => one === bank)
