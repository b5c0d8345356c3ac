/**
 * No byte of the evidence may change: there is none that isn't covered. And nothing that comes in, whatever it is, ends
 * in anything but a typed error, soon.
 */
import { beforeAll, describe, expect, it } from "vitest"
import { native, noble } from "../../services/common/crypto/index.ts"
import {
  amdRoots,
  ChainCache,
  type HardwareRoot,
  launchGuest,
  parseReport,
  SnpError,
  type SnpErrorCode,
  type SnpEvidence,
  verifyReport,
} from "../../services/evidence/index.ts"
import { outline } from "../../services/evidence/snp/certificate.ts"
import { Random } from "./crypto-support.ts"
import {
  flippedAt,
  haveVectors,
  makeChip,
  makeRoot,
  measurement,
  now,
  readVector,
  reportData,
  withCertificate,
} from "./evidence-support.ts"

interface Case {
  readonly name: string
  readonly evidence: SnpEvidence
  readonly roots: readonly HardwareRoot[]
  readonly at: Date
}

const real = (name: string, leaf: string, issuer: string, line: string, at: string): Case => ({
  name,
  evidence: {
    report: readVector(`snp/${name}.report.bin`),
    certificates: [
      `snp/${name}.${leaf}.der`,
      `snp/certs/${line}-${issuer}.der`,
      `snp/certs/${line}-ark.der`,
    ].map(readVector),
  },
  roots: amdRoots,
  at: new Date(at),
})

/** Real ones where they are; the emulated one always. */
const realCases: readonly Case[] = haveVectors
  ? [
      real("milan-v3-vlek-aws", "vlek", "asvk", "milan", "2025-06-01"),
      real("genoa-v5-oak", "vcek", "ask", "genoa", "2026-01-01"),
      real("turin-v5-oak", "vcek", "ask", "turin", "2026-01-01"),
      real("milan-v2-virtee", "vcek", "ask", "milan", "2024-01-01"),
    ]
  : []
if (!haveVectors)
  console.warn("NO REAL EVIDENCE CHANGED: 4 cases skipped, only emulated evidence was (VOUCHSAFE_VECTORS)")

const cases = (): readonly Case[] => [...realCases, emulated]
let emulated: Case

beforeAll(() => {
  const root = makeRoot()
  const chip = makeChip(root)
  const evidence = {
    report: launchGuest(chip, { measurement }).report(reportData),
    certificates: chip.certificates,
  }
  emulated = { name: "emulated", evidence, roots: [root.hardwareRoot], at: now }
})

const verify = (of: Case, evidence: SnpEvidence, cache?: ChainCache) =>
  verifyReport(evidence, { roots: of.roots, now: of.at, ...(cache && { cache }) })

describe("evidence", () => {
  it("is accepted as it is", () => {
    for (const one of cases())
      expect([one.name, verify(one, one.evidence)]).not.toContainEqual(expect.any(SnpError))
  })

  it("is refused with any byte of the report changed", () => {
    for (const one of cases()) {
      const cache = new ChainCache()
      verify(one, one.evidence, cache)
      for (let i = 0; i < one.evidence.report.length; i++) {
        const evidence = { ...one.evidence, report: flippedAt(one.evidence.report, i) }
        if (!(verify(one, evidence, cache) instanceof SnpError))
          expect.fail(`${one.name}: byte ${i} isn't covered`)
      }
    }
  })

  it("is refused with any byte of the leaf changed", () => {
    for (const one of cases()) {
      const cache = new ChainCache()
      verify(one, one.evidence, cache)
      const [leaf] = one.evidence.certificates
      if (leaf === undefined) expect.fail("has no leaf")
      for (let i = 0; i < leaf.length; i++) {
        const evidence = withCertificate(one.evidence, 0, flippedAt(leaf, i))
        if (!(verify(one, evidence, cache) instanceof SnpError))
          expect.fail(`${one.name}: byte ${i} isn't covered`)
      }
    }
  })

  it("is refused with any 7th byte of a certificate changed, remembered chain or not", () => {
    for (const [k, one] of cases().entries()) {
      const cache = new ChainCache()
      verify(one, one.evidence, cache)
      one.evidence.certificates.forEach((der, c) => {
        for (let i = (k + c) % 7; i < der.length; i += 7) {
          const evidence = withCertificate(one.evidence, c, flippedAt(der, i))
          if (!(verify(one, evidence, i % 2 === 0 ? cache : undefined) instanceof SnpError))
            expect.fail(`${one.name}: byte ${i} of certificate ${c} isn't covered`)
        }
      })
    }
  })

  it("is refused with any bit of a certificate's frame changed", () => {
    for (const one of cases()) {
      const cache = new ChainCache()
      one.evidence.certificates.forEach((der, c) => {
        // The headers in front, and that of the signature with its number of unused bits.
        const frame = Array.from({ length: 25 }, (_, n) => (n < 20 ? n : der.length - 517 + n - 20))
        for (const i of frame)
          for (let bit = 0; bit < 8; bit++) {
            const changed = Uint8Array.from(der)
            changed[i] = (changed[i] ?? 0) ^ (1 << bit)
            if (!(verify(one, withCertificate(one.evidence, c, changed), cache) instanceof SnpError))
              expect.fail(`${one.name}: bit ${bit} of byte ${i} of certificate ${c} isn't covered`)
          }
      })
    }
  })

  it("is refused cut short anywhere", () => {
    const random = new Random("cut")
    for (const one of cases())
      for (let i = 0; i < 60; i++) {
        const report = one.evidence.report.slice(0, random.below(1_184))
        expect(verify(one, { ...one.evidence, report })).toBeInstanceOf(SnpError)
        const c = random.below(3)
        const der = one.evidence.certificates[c] ?? new Uint8Array(0)
        const cut = withCertificate(one.evidence, c, der.slice(0, random.below(der.length)))
        expect(verify(one, cut)).toBeInstanceOf(SnpError)
      }
  })
})

/** 30,000 inputs in all. */
describe("readers, given anything,", () => {
  const codes = new Set<SnpErrorCode>()
  const attempt = (act: () => unknown): void => {
    try {
      act()
    } catch (error) {
      if (!(error instanceof SnpError)) throw error
      codes.add(error.code)
    }
  }

  it("of reports end in a report or a typed error", () => {
    const random = new Random("fuzz report")
    for (let i = 0; i < 10_000; i++) {
      const bytes = i % 4 === 0 ? random.bytes(1_184) : Uint8Array.from(emulated.evidence.report)
      for (let n = random.below(6); n >= 0; n--) bytes[random.below(bytes.length)] = random.below(256)
      attempt(() => parseReport(bytes))
    }
    expect([...codes]).toEqual(expect.arrayContaining(["REPORT_VERSION", "REPORT_RESERVED"]))
  })

  it("of certificates end in an outline or a typed error", () => {
    const random = new Random("fuzz certificate")
    for (let i = 0; i < 20_000; i++) {
      const from = emulated.evidence.certificates[i % 3] ?? new Uint8Array(0)
      const bytes = i % 5 === 0 ? random.bytes(random.below(200)) : Uint8Array.from(from)
      for (let n = random.below(4); n >= 0 && bytes.length > 0; n--) {
        // Mostly near the front: that is where the lengths are.
        const where = random.below(random.below(2) === 0 ? Math.min(bytes.length, 60) : bytes.length)
        bytes[where] = random.below(256)
      }
      attempt(() => outline("vcek", bytes))
    }
    expect(codes).toContain("CERTIFICATE_MALFORMED")
  })
})

describe("both crypto implementations", () => {
  it("say the same of changed signatures, keys and contents", () => {
    const random = new Random("both")
    const cache = new ChainCache()
    for (const one of cases())
      for (let i = 0; i < 40; i++) {
        const from = one.evidence.report
        const where = i % 2 === 0 ? random.below(0x2a0) : 0x2a0 + 72 * random.below(2) + random.below(48)
        const report = i % 5 === 0 ? from : flippedAt(from, where)
        const found = [noble, native].map((crypto) => {
          const result = verifyReport(
            { ...one.evidence, report },
            { roots: one.roots, now: one.at, crypto, cache },
          )
          return result instanceof SnpError ? result.code : "accepted"
        })
        expect(found[0]).toBe(found[1])
        expect(found[0] === "accepted").toBe(i % 5 === 0)
      }
  })
})
