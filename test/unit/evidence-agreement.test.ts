/**
 * Both implementations of cryptography say the same of evidence, accepted or refused, and for the same reason: over every
 * sample of every kind, each changed in ways that are drawn anew, but alike in every run.
 *
 * VOUCHSAFE_AGREEMENT_COUNT sets how many changes there are (10,000), VOUCHSAFE_AGREEMENT_SEED which (a word).
 */
import { X509Certificate } from "node:crypto"
import { readdirSync } from "node:fs"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { type Crypto, native, noble } from "../../services/common/crypto/index.ts"
import { EvidenceError } from "../../services/evidence/error.ts"
import { amdRoots, ChainCache, launchGuest, verifyReport } from "../../services/evidence/index.ts"
import { awsRoots, NitroChainCache, verifyNitro } from "../../services/evidence/nitro/index.ts"
import { parseReport } from "../../services/evidence/snp/report.ts"
import { parseQuote, TdxCache, verifyQuoteSignatures } from "../../services/evidence/tdx/index.ts"
import { splitCertificates } from "../../services/evidence/tdx/pem.ts"
import { verifyQuote as verifyTpmQuote } from "../../services/evidence/tpm/index.ts"
import { Hierarchy } from "../support/tdx-lab.ts"
import { Random } from "./crypto-support.ts"
import { documentOf, makeNitroLab } from "./evidence-nitro-support.ts"
import {
  haveVectors,
  makeChip,
  makeRoot,
  measurement,
  now,
  readVector,
  reportData,
  vectorsDir,
} from "./evidence-support.ts"
import { evidenceOf, quotes, requestOf } from "./evidence-tpm-support.ts"

const total = Number(process.env.VOUCHSAFE_AGREEMENT_COUNT ?? 10_000)
const seed = process.env.VOUCHSAFE_AGREEMENT_SEED ?? "agreement"

interface Subject {
  readonly name: string
  readonly bytes: Uint8Array
  /** Where signatures stand as r and s, both big-endian or both little-endian, of the curve's size. */
  readonly signatures: readonly SignatureAt[]
  readonly judge: (bytes: Uint8Array, crypto: Crypto) => unknown
}

interface SignatureAt {
  readonly r: number
  readonly s: number
  readonly size: 32 | 48
  readonly little: boolean
}

const order = {
  32: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n,
  48: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n,
} as const

const numberAt = (bytes: Uint8Array, at: number, { size, little }: SignatureAt): bigint => {
  const part = bytes.slice(at, at + size)
  return BigInt(`0x${Buffer.from(little ? part.reverse() : part).toString("hex")}`)
}

const setNumber = (bytes: Uint8Array, at: number, { size, little }: SignatureAt, value: bigint): void => {
  const part = Uint8Array.from(
    Buffer.from((value % (1n << BigInt(size * 8))).toString(16).padStart(size * 2, "0"), "hex"),
  )
  bytes.set(little ? part.reverse() : part, at)
}

/** Signatures that implementations are known to differ about: the other s, numbers of the order and around it, zero. */
const bendSignature = (random: Random, bytes: Uint8Array, where: SignatureAt): void => {
  const n = order[where.size]
  const [r, s] = [numberAt(bytes, where.r, where), numberAt(bytes, where.s, where)]
  const choices: readonly (readonly ["r" | "s", bigint])[] = [
    ["s", n - s],
    ["s", s + n],
    ["s", 0n],
    ["s", n],
    ["s", n - 1n],
    ["s", 1n],
    ["r", 0n],
    ["r", n],
    ["r", r + n],
    ["r", n - r],
    ["r", 1n],
    ["s", r],
  ]
  const [which, value] = choices[random.below(choices.length)] ?? ["s", 0n]
  setNumber(bytes, where[which], where, value)
}

const change = (random: Random, { bytes: from, signatures }: Subject): Uint8Array => {
  const bytes = Uint8Array.from(from)
  const signature = signatures[random.below(Math.max(1, signatures.length))]
  const choice = random.below(10)
  if (choice < 3 && signature !== undefined) bendSignature(random, bytes, signature)
  else if (choice < 7) return random.flipped(bytes)
  else if (choice === 7) bytes[random.below(bytes.length)] = random.below(256)
  else if (choice === 8) {
    const [a, b] = [random.below(bytes.length), random.below(bytes.length)]
    bytes.copyWithin(a, b, b + 1 + random.below(16))
  } else return random.resized(bytes)
  return bytes
}

const outcomeOf = (act: () => unknown): string => {
  const result = act()
  return result instanceof EvidenceError ? `${result.code} ${result.field}` : "accepted"
}

/** Each kind has caches of its own for each implementation, filled by it. */
const perCrypto = <T>(make: () => T) => {
  const caches = new Map<Crypto, T>([
    [noble, make()],
    [native, make()],
  ])
  return (crypto: Crypto): T => caches.get(crypto) ?? make()
}

const dayAfter = (der: Uint8Array): Date =>
  new Date(new X509Certificate(der).validFromDate.getTime() + 86_400_000)

const snpSignature = [{ r: 0x2a0, s: 0x2e8, size: 48, little: true }] as const
const snpSubjects = (): Subject[] => {
  const cacheOf = perCrypto(() => new ChainCache())
  const root = makeRoot()
  const chip = makeChip(root)
  const made: Subject = {
    name: "emulated",
    bytes: launchGuest(chip, { measurement }).report(reportData),
    signatures: snpSignature,
    judge: (report, crypto) =>
      verifyReport(
        { report, certificates: chip.certificates },
        { roots: [root.hardwareRoot], now, crypto, cache: cacheOf(crypto) },
      ),
  }
  const files = haveVectors
    ? readdirSync(join(vectorsDir, "snp")).filter((name) => name.endsWith(".report.bin"))
    : []
  return [
    made,
    ...files.map((file): Subject => {
      const bytes = readVector(`snp/${file}`)
      const isVlek = parseReport(bytes).signingKey === "VLEK"
      const line = file.startsWith("bergamo") ? "genoa" : (file.split("-")[0] ?? "")
      const certificates = [
        `snp/${file.replace(".report.bin", isVlek ? ".vlek.der" : ".vcek.der")}`,
        `snp/certs/${line}-${isVlek ? "asvk" : "ask"}.der`,
        `snp/certs/${line}-ark.der`,
      ].map(readVector)
      const at = dayAfter(certificates[0] ?? bytes)
      return {
        name: file,
        bytes,
        signatures: snpSignature,
        judge: (report, crypto) =>
          verifyReport(
            { report, certificates },
            { roots: amdRoots, now: at, crypto, cache: cacheOf(crypto) },
          ),
      }
    }),
  ]
}

const tdxSubject = (
  name: string,
  bytes: Uint8Array,
  at: Date,
  roots: readonly Hierarchy["root"][] | undefined,
  cacheOf: (crypto: Crypto) => TdxCache,
): Subject => {
  const { signature, qeSignature } = parseQuote(bytes)
  const signatures = [signature, qeSignature].map((one): SignatureAt => {
    const r = Buffer.from(bytes).indexOf(one)
    return { r, s: r + 32, size: 32, little: false }
  })
  return {
    name,
    bytes,
    signatures,
    judge: (quote, crypto) =>
      verifyQuoteSignatures({ quote }, { now: at, crypto, cache: cacheOf(crypto), ...(roots && { roots }) }),
  }
}

const tdxSubjects = (): Subject[] => {
  const cacheOf = perCrypto(() => new TdxCache())
  const lab = new Hierarchy()
  const files = haveVectors
    ? readdirSync(join(vectorsDir, "tdx")).filter((name) => name.endsWith(".quote.bin"))
    : []
  return [
    tdxSubject("made up", lab.quote(), now, [lab.root], cacheOf),
    ...files.flatMap((file) => {
      const bytes = readVector(`tdx/${file}`)
      const { certification } = parseQuote(bytes)
      if (certification.type !== 5) return []
      const [pck] = splitCertificates("quote", certification.data)
      return pck === undefined ? [] : [tdxSubject(file, bytes, dayAfter(pck), undefined, cacheOf)]
    }),
  ]
}

const nitroSubjects = (): Subject[] => {
  const cacheOf = perCrypto(() => new NitroChainCache())
  const lab = makeNitroLab()
  const subject = (name: string, bytes: Uint8Array, roots: typeof awsRoots): Subject => ({
    name,
    bytes,
    signatures: [{ r: bytes.length - 96, s: bytes.length - 48, size: 48, little: false }],
    judge: (document, crypto) =>
      verifyNitro({ document }, { now: "document", debug: "accept", roots, crypto, cache: cacheOf(crypto) }),
  })
  const files = haveVectors
    ? readdirSync(join(vectorsDir, "nitro")).filter((name) => name.endsWith(".cose.bin"))
    : []
  return [
    subject("made up", documentOf(lab), [lab.root]),
    ...files.map((file) => subject(file, readVector(`nitro/${file}`), awsRoots)),
  ]
}

/** Of a TPM's quote, what was signed and the signature are changed by turns. */
const tpmSubjects = (): Subject[] =>
  quotes.flatMap((entry) => {
    const evidence = evidenceOf(entry)
    const request = requestOf(entry)
    return (["attest", "signature"] as const).map(
      (part): Subject => ({
        name: `${entry.file} ${part}`,
        bytes: evidence[part],
        signatures: [],
        judge: (bytes, crypto) =>
          verifyTpmQuote({ ...evidence, [part]: bytes }, request, { sha1: "allow", crypto }),
      }),
    )
  })

const kinds = [
  ["snp", 0.35, snpSubjects],
  ["tdx", 0.4, tdxSubjects],
  ["nitro", 0.1, nitroSubjects],
  ["tpm", 0.15, tpmSubjects],
] as const

let done = 0
const told: string[] = []

describe(`${total} changes of evidence, seed "${seed}"`, () => {
  it.each(kinds)(
    "of kind %s are judged alike",
    (kind, share, make) => {
      const subjects = make()
      if (subjects.length === 0) {
        console.warn(`NO ${kind.toUpperCase()} EVIDENCE CHANGED: no sample is here (VOUCHSAFE_VECTORS)`)
        return
      }
      // Without samples of a kind, others take their share.
      const missing = haveVectors || kind === "tpm" ? 0 : (0.15 * share) / 0.85
      const count = Math.ceil(total * (share + missing))
      const random = new Random(`${seed} ${kind}`)
      const codes = new Map<string, number>()
      for (const one of subjects)
        for (const crypto of [noble, native])
          expect([one.name, outcomeOf(() => one.judge(one.bytes, crypto))]).toEqual([one.name, "accepted"])
      for (let i = 0; i < count; i++) {
        const one = subjects[i % subjects.length]
        if (one === undefined) break
        const changed = change(random, one)
        const found = outcomeOf(() => one.judge(changed, native))
        const other = outcomeOf(() => one.judge(changed, noble))
        if (found !== other)
          expect.fail(
            `${one.name}, change ${i}: native ${found}, noble ${other}: ${Buffer.from(changed).toString("hex")}`,
          )
        codes.set(found.split(" ")[0] ?? "", (codes.get(found.split(" ")[0] ?? "") ?? 0) + 1)
      }
      const accepted = codes.get("accepted") ?? 0
      const bySignature = [...codes].reduce((sum, [code, n]) => (/SIGNATURE/.test(code) ? sum + n : sum), 0)
      done += count
      told.push(
        `${kind}: ${count} changes of ${subjects.length} samples, ${accepted} accepted, ${bySignature} refused by a signature, ${count - accepted - bySignature} before`,
      )
      expect(codes.size).toBeGreaterThan(2)
      if (kind === "snp" || kind === "tdx") expect(accepted).toBeGreaterThan(0)
      expect(bySignature).toBeGreaterThan(count / 20)
    },
    600_000 + total * 60,
  )
})

afterAll(() => {
  console.info(["", ...told, `${done} changes judged by both implementations`].join("\n"))
  if (haveVectors) expect(done).toBeGreaterThanOrEqual(total)
})
