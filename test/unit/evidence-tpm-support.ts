/** For the tests of TPM evidence: the samples and what their manifest says of them. */
import { type Bank, banks, type Registers } from "../../services/evidence/eventlog/index.ts"
import { parseQuoteAttest, type QuoteEvidence, type QuoteRequest } from "../../services/evidence/tpm/index.ts"
import { haveVectors, readVector, readVectorJson } from "./evidence-support.ts"

export interface Entry {
  readonly file: string
  readonly kind: string
  readonly platform: string
  readonly expect: "valid" | "invalid"
  readonly goesWith: readonly string[]
  readonly policyNotes?: readonly string[]
  readonly fields?: Readonly<Record<string, unknown>>
  readonly replay?: Readonly<Record<string, Readonly<Record<string, string>>>>
}

export interface Pairing {
  readonly name: string
  readonly uses: readonly string[]
  readonly expectedNonce?: string
}

export const manifest = haveVectors ? (readVectorJson("MANIFEST.json") as readonly Entry[]) : []
export const pairings = haveVectors
  ? (readVectorJson("NEGATIVE-PAIRINGS.json") as readonly Pairing[]).filter(({ name }) =>
      name.startsWith("tpm-"),
    )
  : []

export const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, "hex"))

const isBank = (name: string): name is Bank => Object.hasOwn(banks, name)

const registersOf = (values: Readonly<Record<string, string>>): Registers =>
  new Map(Object.entries(values).map(([i, value]) => [Number(i), bytesOf(value)]))

/** A file of register values: by bank, or of the one bank that the lengths show. */
export const readPcrs = (file: string): Partial<Record<Bank, Registers>> => {
  const json = readVectorJson(file) as Record<string, string | Record<string, string>>
  const flat = Object.entries(json).filter((pair): pair is [string, string] => typeof pair[1] === "string")
  if (flat.length > 0) {
    const registers = registersOf(Object.fromEntries(flat))
    const [first] = registers.values()
    const bank = Object.keys(banks).find((name) => isBank(name) && banks[name].bytes === first?.length)
    return bank !== undefined && isBank(bank) ? { [bank]: registers } : {}
  }
  const named = Object.entries(json).flatMap(([bank, values]) =>
    isBank(bank) && typeof values === "object" ? [[bank, registersOf(values)] as const] : [],
  )
  return Object.fromEntries(named)
}

const companion = (entry: Entry, pattern: RegExp): string | undefined =>
  entry.goesWith.find((file) => pattern.test(file))

const needed = (entry: Entry, pattern: RegExp): Uint8Array => {
  const file = companion(entry, pattern)
  if (file === undefined) throw new Error(`${entry.file} names no ${pattern}`)
  return readVector(file)
}

/** tpm2-tools' file of register values: banks, then digests of 64 bytes each, in the order of the selection. */
const readToolPcrs = (bytes: Uint8Array, attest: Uint8Array): QuoteEvidence["pcrs"] => {
  const [selection] = parseQuoteAttest(attest).selections
  if (selection?.bank === undefined) throw new Error("no bank")
  const size = banks[selection.bank].bytes
  const list = new DataView(bytes.buffer).getUint32(0x84, true)
  if (list !== 1) throw new Error("more than one list")
  return {
    [selection.bank]: new Map(
      selection.pcrs.map((pcr, i) => {
        const at = 0x8c + i * 66 + 2
        return [pcr, bytes.slice(at, at + size)] as const
      }),
    ),
  }
}

export const quotes = manifest.filter(({ kind }) => kind === "tpm-quote")

export const evidenceOf = (entry: Entry): QuoteEvidence => {
  const attest = readVector(entry.file)
  const pcrsFile = companion(entry, /pcrs[^/]*\.json$/)
  return {
    attest,
    signature: needed(entry, /signature\.bin$/),
    akPublic: needed(entry, /\/ak\.(pub\.pem|spki\.der|tpmt-public\.bin)$/),
    pcrs: pcrsFile === undefined ? readToolPcrs(needed(entry, /quotepcr/), attest) : readPcrs(pcrsFile),
  }
}

/** What a verifier would have asked for to get this quote. */
export const requestOf = (entry: Entry): QuoteRequest => {
  const { extraData, selections } = parseQuoteAttest(readVector(entry.file))
  return {
    nonce: extraData,
    selection: selections.flatMap(({ bank, pcrs }) => (bank === undefined ? [] : [{ bank, pcrs }])),
  }
}
