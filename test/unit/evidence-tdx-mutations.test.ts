/**
 * No byte of a quote, its certificates or its collateral may change, but those that are no part of it: what follows a
 * quote's end, and the certificates inside of it where others are given beside it. And nothing that comes in, whatever it is,
 * ends in anything but a typed error, soon.
 */
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { native, noble } from "../../services/common/crypto/index.ts"
import { readCollateralFolder } from "../../services/evidence/collateral/index.ts"
import { outlineOf } from "../../services/evidence/tdx/certificate.ts"
import { verifyCrl } from "../../services/evidence/tdx/crl.ts"
import {
  type IntelRoot,
  intelRoots,
  parseQuote,
  TdxCache,
  type TdxCollateral,
  TdxError,
  tdxCollateralOf,
  verifyQuote,
  verifyRtmrEvents,
} from "../../services/evidence/tdx/index.ts"
import { splitCertificates } from "../../services/evidence/tdx/pem.ts"
import { splitSignedJson } from "../../services/evidence/tdx/signed-json.ts"
import { Hierarchy, now as labTime } from "../support/tdx-lab.ts"
import { Random } from "./crypto-support.ts"
import { flippedAt, haveVectors, readVector, vectorsDir } from "./evidence-support.ts"

interface Case {
  readonly name: string
  readonly quote: Uint8Array
  readonly certificates?: readonly Uint8Array[]
  readonly collateral: TdxCollateral
  readonly roots: readonly IntelRoot[]
  readonly now: Date
}

const real = (name: string, folder: string, at: string): Case => ({
  name,
  quote: readVector(`tdx/${name}.quote.bin`),
  collateral: {
    ...tdxCollateralOf(readCollateralFolder(join(vectorsDir, "tdx/collateral", folder))),
    tcbSigningChain: readVector("tdx/certs/intel-tcb-signing-2025.der"),
  },
  roots: intelRoots,
  now: new Date(at),
})

const lab = new Hierarchy()
const labCase: Case = {
  name: "made up, version 5 with a TD 1.0 body",
  quote: lab.quote({ version: 5, body: "1.0" }),
  collateral: lab.collateral(),
  roots: [lab.root],
  now: labTime,
}
const besideCase: Case = {
  ...labCase,
  name: "made up, certificates beside it",
  quote: lab.quote({ certification: 1 }),
  certificates: lab.chain(),
}

/** Real ones where they are; made-up ones always. */
const cases: readonly Case[] = [
  ...(haveVectors
    ? [
        real("v4-gcp-cos113", "00806f050000-2025-10", "2025-10-25"),
        real("v4-b0c06f-uptodate", "b0c06f000000-2025-06", "2025-07-01"),
        real("v5-gcp-90c06f", "90c06f000000-2026-03", "2026-03-25"),
      ]
    : []),
  labCase,
  besideCase,
]
if (!haveVectors)
  console.warn("NO REAL EVIDENCE CHANGED: 3 TDX cases skipped, only made-up evidence was (VOUCHSAFE_VECTORS)")

const verify = (of: Case, change: Partial<Case> = {}, cache?: TdxCache, crypto = native) => {
  const { quote, certificates, collateral, roots, now } = { ...of, ...change }
  return verifyQuote(
    { quote, collateral, ...(certificates && { certificates }) },
    { roots, now, crypto, ...(cache && { cache }) },
  )
}

describe.each(cases)("$name", (one) => {
  const cache = new TdxCache()
  const { trailingBytes } = parseQuote(one.quote)
  const end = one.quote.length - trailingBytes

  it("is accepted as it is, cold and warm", () => {
    for (const result of [verify(one), verify(one, {}, cache), verify(one, {}, cache)])
      expect(result).not.toBeInstanceOf(TdxError)
  })

  it("is refused with any byte of the quote changed, to its end and not beyond", () => {
    // With certificates beside it, those inside are not read: 36 bytes at the end, and the type before their size.
    const unread = (i: number) => one.certificates !== undefined && i >= end - 36
    for (let i = 0; i < end; i += i < 700 ? 1 : 7) {
      for (const quote of [flippedAt(one.quote, i), one.quote.with(i, (one.quote[i] ?? 0) ^ (1 << (i % 8)))])
        expect([i, verify(one, { quote }, cache) instanceof TdxError]).toEqual([i, !unread(i)])
    }
    for (let i = end; i < one.quote.length; i += 97)
      expect(verify(one, { quote: flippedAt(one.quote, i) }, cache)).not.toBeInstanceOf(TdxError)
  })

  it("is refused with any byte of a certificate beside it changed", () => {
    for (const [at, der] of (one.certificates ?? []).entries())
      for (let i = 0; i < der.length; i += 7) {
        const certificates = one.certificates?.with(at, flippedAt(der, i)) ?? []
        expect([at, i, verify(one, { certificates }, cache) instanceof TdxError]).toEqual([at, i, true])
      }
  })

  it("is refused with any byte of its collateral changed, or one bit of it", () => {
    for (const [name, bytes] of Object.entries(one.collateral) as [keyof TdxCollateral, Uint8Array][])
      for (let i = 0; i < bytes.length; i += 7)
        for (const changed of [flippedAt(bytes, i), bytes.with(i, (bytes[i] ?? 0) ^ (1 << (i % 8)))]) {
          const collateral = { ...one.collateral, [name]: changed }
          expect([name, i, verify(one, { collateral }, cache) instanceof TdxError]).toEqual([name, i, true])
        }
  })

  it("is refused when it is cut anywhere", () => {
    const random = new Random(`cut ${one.name}`)
    for (let n = 0; n < 60; n++) {
      const quote = one.quote.slice(0, random.below(end))
      expect(verify(one, { quote }, cache)).toBeInstanceOf(TdxError)
      for (const [name, bytes] of Object.entries(one.collateral)) {
        const collateral = { ...one.collateral, [name]: bytes.slice(0, random.below(bytes.length - 1)) }
        expect(verify(one, { collateral }, cache)).toBeInstanceOf(TdxError)
      }
    }
  })

  it("is judged alike by both implementations of cryptography", () => {
    const random = new Random(`both ${one.name}`)
    for (let n = 0; n < 60; n++) {
      const i = random.below(end)
      const quote = n % 6 === 0 ? one.quote : flippedAt(one.quote, i)
      const found = [noble, native].map((crypto) => {
        const result = verify(one, { quote }, cache, crypto)
        return result instanceof TdxError ? result.code : "accepted"
      })
      expect(found[0]).toBe(found[1])
    }
  })
})

it("a warm cache forgets neither roots, dates nor revocations", () => {
  const cache = new TdxCache()
  const code = (change: Partial<Case>) => {
    const result = verify(labCase, change, cache)
    return result instanceof TdxError ? result.code : "accepted"
  }
  expect(code({})).toBe("accepted")
  expect(code({ roots: intelRoots })).toBe("ROOT_UNKNOWN")
  expect(code({ now: new Date("2027-12-01T00:00:00Z") })).toBe("CERTIFICATE_EXPIRED")
  expect(code({ now: new Date("2026-09-01T00:00:00Z") })).toBe("COLLATERAL_EXPIRED")
  expect(code({ collateral: { ...labCase.collateral, pckCrl: lab.crl("ca", { revoked: [4] }) } })).toBe(
    "CERTIFICATE_REVOKED",
  )
  expect(code({})).toBe("accepted")
})

/** 60,000 inputs in all. */
describe("readers, given anything,", () => {
  const codes = new Set<string>()
  const attempt = (act: () => unknown): void => {
    try {
      const result = act()
      if (result instanceof TdxError) codes.add(result.code)
    } catch (error) {
      if (!(error instanceof TdxError)) throw error
      codes.add(error.code)
    }
  }

  /** `from` with some bytes changed, or cut, or noise. */
  const spoil = (random: Random, from: Uint8Array): Uint8Array => {
    if (random.below(8) === 0) return random.bytes(random.below(300))
    const bytes = from.slice(0, random.below(4) === 0 ? random.below(from.length) : from.length)
    for (let n = random.below(5); n >= 0 && bytes.length > 0; n--)
      bytes[random.below(bytes.length)] = random.below(256)
    return bytes
  }

  const [pck = new Uint8Array(0), ca = new Uint8Array(0)] = lab.chain()
  const issuer = outlineOf("ca", ca)
  const pem = parseQuote(labCase.quote).certification.data
  const crl = lab.crl("ca", { revoked: [1, 2, 3, 4, 5] })
  const { tcbInfo } = lab.collateral()
  const { td } = parseQuote(labCase.quote)
  const events = Buffer.from(
    JSON.stringify([{ imr: 3, event_type: 1, digest: "00".repeat(48), event: "app", event_payload: "0102" }]),
  )

  it.each([
    ["quotes", 20_000, labCase.quote, parseQuote],
    ["certificates", 10_000, pck, (bytes: Uint8Array) => outlineOf("pck", bytes)],
    ["chains", 10_000, pem, (bytes: Uint8Array) => splitCertificates("certificates", bytes)],
    ["revocation lists", 5_000, crl, (bytes: Uint8Array) => verifyCrl("pckCrl", bytes, issuer, native)],
    ["signed JSON", 10_000, tcbInfo, (bytes: Uint8Array) => splitSignedJson("collateral", bytes, "tcbInfo")],
    ["event logs", 5_000, Uint8Array.from(events), (bytes: Uint8Array) => verifyRtmrEvents(bytes, td)],
  ] as const)("of %s end in a value or a typed error (%i inputs)", (name, count, from, read) => {
    const random = new Random(`fuzz ${name}`)
    codes.clear()
    for (let i = 0; i < count; i++) attempt(() => read(spoil(random, from)))
    expect(codes.size).toBeGreaterThan(0)
  })

  it("take at most 10 ms for 64 KiB of the worst", () => {
    const size = 65_536
    const full = (text: string) =>
      Uint8Array.from(Buffer.from(text.repeat(Math.ceil(size / text.length)).slice(0, size)))
    const openPem = full("-----BEGIN CERTIFICATE-----\n".padEnd(size, "A"))
    const quote = new Uint8Array(size).fill(0xff)
    quote.set(labCase.quote.subarray(0, 632))
    const inputs: (() => unknown)[] = [
      () => splitCertificates("certificates", openPem),
      () =>
        splitCertificates(
          "certificates",
          full("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"),
        ),
      () => splitCertificates("certificates", full("0\x82")),
      () => splitSignedJson("collateral", full('{"tcbInfo":{'), "tcbInfo"),
      () => splitSignedJson("collateral", full(`{"tcbInfo":${"{".repeat(size)}`), "tcbInfo"),
      () => splitSignedJson("collateral", full('{"tcbInfo":{"\\'.padEnd(size, "\\")), "tcbInfo"),
      () => verifyCrl("pckCrl", full("0\x00"), issuer, native),
      () => verifyRtmrEvents(full("[".repeat(size)), td),
      () => verifyRtmrEvents(full(`[${"[],".repeat(21_000)}[]]`), td),
      () => parseQuote(quote),
      () => verifyQuote({ quote, collateral: {} }, { now: labTime }),
    ]
    for (const input of inputs) {
      let best = Number.POSITIVE_INFINITY
      for (let n = 0; n < 5; n++) {
        const before = process.threadCpuUsage()
        attempt(input)
        const { user, system } = process.threadCpuUsage(before)
        best = Math.min(best, (user + system) / 1_000)
      }
      expect(best).toBeLessThan(10)
    }
  })
})
