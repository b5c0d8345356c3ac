/**
 * No byte of a document may change: there is none that isn't covered. And nothing that comes in, whatever it is, ends in
 * anything but a typed error, soon.
 */
import { encode } from "cborg"
import { beforeAll, describe, expect, it } from "vitest"
import { native, noble } from "../../services/common/crypto/index.ts"
import { outline } from "../../services/evidence/nitro/certificate.ts"
import { NitroChainCache } from "../../services/evidence/nitro/chain.ts"
import { parseDocument } from "../../services/evidence/nitro/document.ts"
import { NitroError, type NitroErrorCode } from "../../services/evidence/nitro/error.ts"
import { awsRoots, type NitroRoot } from "../../services/evidence/nitro/roots.ts"
import { verifyNitro } from "../../services/evidence/nitro/verify.ts"
import { Random } from "./crypto-support.ts"
import { documentOf, makeNitroLab, type NitroLab, plainFields, sealed } from "./evidence-nitro-support.ts"
import { flippedAt, haveVectors, readVector } from "./evidence-support.ts"

interface Case {
  readonly name: string
  readonly document: Uint8Array
  readonly roots: readonly NitroRoot[]
}

const real = [
  "dstack-2025",
  "dstack-2025-debug",
  "evervault-2022",
  "evervault-2022-debug",
  "evervault-2023-debug",
]
if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE CHANGED: ${real.length} cases skipped, only a lab's document was (VOUCHSAFE_VECTORS)`,
  )

let lab: NitroLab
let emulated: Case
const realCases: readonly Case[] = haveVectors
  ? real.map((name) => ({ name, document: readVector(`nitro/${name}.cose.bin`), roots: awsRoots }))
  : []
const cases = (): readonly Case[] => [...realCases, emulated]

beforeAll(() => {
  lab = makeNitroLab()
  emulated = { name: "emulated", document: documentOf(lab), roots: [lab.root] }
})

const verify = (of: Case, document: Uint8Array, cache?: NitroChainCache, crypto = native) =>
  verifyNitro(
    { document },
    { now: "document", debug: "accept", roots: of.roots, crypto, ...(cache && { cache }) },
  )

describe("a document", () => {
  it.each([...(haveVectors ? real : []), "emulated"])(
    "%s is refused with any byte changed, or any 7th of its certificates'",
    (name) => {
      const one = cases().find((each) => each.name === name)
      if (one === undefined) expect.fail("no such case")
      const cache = new NitroChainCache()
      expect(verify(one, one.document, cache)).not.toBeInstanceOf(NitroError)
      const { cabundle, certificate } = parseDocument(one.document)
      const spans = [...cabundle, certificate].map((der) => {
        const from = Buffer.from(one.document).indexOf(der)
        return [from, from + der.length] as const
      })
      for (let i = 0; i < one.document.length; i++) {
        const inside = spans.some(([from, to]) => from <= i && i < to)
        if (inside && (i + name.length) % 7 !== 0) continue
        if (!(verify(one, flippedAt(one.document, i), cache) instanceof NitroError))
          expect.fail(`${one.name}: byte ${i} isn't covered`)
      }
    },
  )

  it("is refused with any bit of its first 200 and last 120 bytes changed", () => {
    const [one] = cases()
    if (one === undefined) expect.fail("no case")
    const cache = new NitroChainCache()
    verify(one, one.document, cache)
    const { length } = one.document
    for (let i = 0; i < length; i = i === 199 ? length - 120 : i + 1)
      for (let bit = 0; bit < 8; bit++) {
        const changed = Uint8Array.from(one.document)
        changed[i] = (changed[i] ?? 0) ^ (1 << bit)
        if (!(verify(one, changed, cache) instanceof NitroError))
          expect.fail(`bit ${bit} of byte ${i} isn't covered`)
      }
  })

  it("is refused cut short anywhere, or longer", () => {
    const random = new Random("cut nitro")
    for (const one of cases()) {
      for (let i = 0; i < 100; i++)
        expect(verify(one, one.document.slice(0, random.below(one.document.length)))).toBeInstanceOf(
          NitroError,
        )
      expect(
        verify(one, Uint8Array.from([...one.document, ...random.bytes(1 + random.below(9))])),
      ).toBeInstanceOf(NitroError)
    }
  })
})

describe("a certificate", () => {
  it("is refused with any 7th byte changed, though the leaf's key signed the document that holds it", () => {
    const ders = [...lab.cabundle, lab.leaf]
    for (const [c, der] of ders.entries())
      for (let i = c; i < der.length; i += 7) {
        const changed = ders.map((one, at) => (at === c ? flippedAt(one, i) : one))
        const fields = plainFields(lab)
        fields.set("cabundle", changed.slice(0, -1))
        fields.set("certificate", changed.at(-1))
        if (!(verify(emulated, sealed(lab, encode(fields))) instanceof NitroError))
          expect.fail(`byte ${i} of certificate ${c} isn't covered`)
      }
  })
})

/** 40,000 inputs in all. */
describe("readers, given anything,", () => {
  const codes = new Set<NitroErrorCode>()
  const attempt = (act: () => unknown): void => {
    try {
      act()
    } catch (error) {
      if (!(error instanceof NitroError)) throw error
      codes.add(error.code)
    }
  }

  it("of documents end in a document or a typed error", () => {
    const random = new Random("fuzz nitro")
    const from = cases().map(({ document }) => document)
    for (let i = 0; i < 20_000; i++) {
      const bytes =
        i % 5 === 0
          ? Uint8Array.of(0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0, ...random.bytes(random.below(64)))
          : Uint8Array.from(from[i % from.length] ?? [])
      // Mostly where the heads of fields are.
      for (let n = random.below(5); n >= 0; n--)
        bytes[random.below(random.below(2) === 0 ? Math.min(200, bytes.length) : bytes.length)] =
          random.below(256)
      attempt(() => parseDocument(bytes))
    }
    expect([...codes]).toEqual(
      expect.arrayContaining([
        "DOCUMENT_MALFORMED",
        "DOCUMENT_ALGORITHM",
        "DOCUMENT_FIELD",
        "DOCUMENT_VALUE",
      ]),
    )
  })

  it("of certificates end in an outline or a typed error", () => {
    const random = new Random("fuzz nitro certificate")
    const from = [...lab.cabundle, lab.leaf]
    for (let i = 0; i < 20_000; i++) {
      const bytes =
        i % 5 === 0 ? random.bytes(random.below(200)) : Uint8Array.from(from[i % from.length] ?? [])
      for (let n = random.below(4); n >= 0 && bytes.length > 0; n--)
        bytes[random.below(random.below(2) === 0 ? Math.min(bytes.length, 60) : bytes.length)] =
          random.below(256)
      attempt(() => outline("leaf", bytes))
    }
    expect([...codes]).toEqual(expect.arrayContaining(["CERTIFICATE_MALFORMED", "CERTIFICATE_ALGORITHM"]))
  })

  it("of documents take no longer for the worst that fits than for a good one, tenfold", () => {
    const worst = [
      new Uint8Array(16_384).fill(0x81),
      new Uint8Array(16_384).fill(0xbf),
      Uint8Array.of(0x9b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, ...new Uint8Array(16_000)),
      sealed(lab, new Uint8Array(16_000).fill(0xa0)),
    ]
    for (const bytes of worst) {
      attempt(() => parseDocument(bytes))
      const from = process.cpuUsage()
      for (let i = 0; i < 20; i++) attempt(() => parseDocument(bytes))
      const used = process.cpuUsage(from)
      expect((used.user + used.system) / 20).toBeLessThan(10_000)
    }
  })
})

describe("both crypto implementations", () => {
  it("say the same of changed documents", () => {
    const random = new Random("both nitro")
    const cache = new NitroChainCache()
    for (const one of cases())
      for (let i = 0; i < 20; i++) {
        const { length } = one.document
        const document =
          i % 5 === 0
            ? one.document
            : flippedAt(one.document, i % 2 === 0 ? random.below(length) : length - 1 - i * 4)
        const found = [noble, native].map((crypto) => {
          const result = verify(one, document, cache, crypto)
          return result instanceof NitroError ? result.code : "accepted"
        })
        expect(found[0]).toBe(found[1])
        expect(found[0] === "accepted").toBe(i % 5 === 0)
      }
  })
})
