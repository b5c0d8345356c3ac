/**
 * Revocation on AMD's side. VCEKs and VLEKs all have serial number 0, so what can be revoked is an ASK or ASVK. The
 * hierarchies are made up; AMD's own lists are tried too where the samples hold any (`snp/crl/PRODUCT.crl.der`).
 */
import { existsSync } from "node:fs"
import { join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import type { CrlContent } from "../../services/evidence/emulated/certificates.ts"
import {
  ChainCache,
  SnpError,
  type SnpErrorCode,
  type VerifyOptions,
  verifyReport,
} from "../../services/evidence/index.ts"
import { outline } from "../../services/evidence/snp/certificate.ts"
import type { SnpCollateral } from "../../services/evidence/snp/crl.ts"
import { verifyAmdCrl } from "../../services/evidence/snp/crl.ts"
import { days, SnpHierarchy, serials } from "./evidence-snp-support.ts"
import { flippedAt, haveVectors, now, readVector, vectorsDir } from "./evidence-support.ts"

let lab: SnpHierarchy
const evidence: Partial<Record<"VCEK" | "VLEK", { report: Uint8Array; certificates: Uint8Array[] }>> = {}

beforeAll(() => {
  lab = new SnpHierarchy()
  for (const kind of ["VCEK", "VLEK"] as const)
    evidence[kind] = { report: lab.report(kind), certificates: lab.chain(kind) }
}, 120_000)

const cache = new ChainCache()
const verify = (
  kind: "VCEK" | "VLEK",
  collateral: SnpCollateral | undefined,
  options: Partial<VerifyOptions> = {},
) => {
  const of = evidence[kind]
  if (of === undefined) throw new Error("not made")
  return verifyReport(
    { ...of, ...(collateral && { collateral }) },
    { roots: [lab.root], now, cache, ...options },
  )
}
const withList = (kind: "VCEK" | "VLEK", change: Partial<CrlContent>, signer: "ark" | "ask" = "ark") =>
  verify(kind, { crls: [lab.crl(change, signer)] })

const expectRefused = (result: ReturnType<typeof verify>, code: SnpErrorCode, field?: string): void => {
  if (!(result instanceof SnpError)) expect.fail("was believed")
  expect(result.code).toBe(code)
  if (field !== undefined) expect(result.field).toBe(field)
  expect(result.message).not.toMatch(/undefined|NaN|\[object/)
}

describe.each(["VCEK", "VLEK"] as const)("a %s", (kind) => {
  const issuer = kind === "VCEK" ? "ask" : "asvk"
  const other = kind === "VCEK" ? "asvk" : "ask"

  it("whose issuer no list names is good, and the list is said to have been used", () => {
    const result = withList(kind, { number: 7 })
    if (result instanceof SnpError) throw result
    expect(result.revocation).toEqual({ issuers: "good" })
    expect(result.collateral).toMatchObject([{ kind: "amd-crl", issued: days(-1), expires: days(364) }])
    expect(result.collateral[0]?.sha256).toMatch(/^[0-9a-f]{64}$/)
  })

  it("of a revoked issuer is refused; of the other issuer revoked, or of other numbers, it isn't", () => {
    expectRefused(
      withList(kind, { revoked: [serials[issuer]] }),
      "CERTIFICATE_REVOKED",
      `certificates.${issuer}.serial`,
    )
    expectRefused(
      withList(kind, { revoked: [0x99, serials[issuer], 0x77] }),
      "CERTIFICATE_REVOKED",
      `certificates.${issuer}.serial`,
    )
    for (const revoked of [[serials[other]], [0x99, 0x010002]])
      expect(withList(kind, { revoked })).not.toBeInstanceOf(SnpError)
  })

  it("of a revoked root is refused", () => {
    expectRefused(
      withList(kind, { revoked: [serials.ark] }),
      "CERTIFICATE_REVOKED",
      "certificates.ark.serial",
    )
  })

  it("isn't what a serial number of 0 in the root's list means", () => {
    expect(withList(kind, { revoked: [0] })).not.toBeInstanceOf(SnpError)
  })

  it("of two lists: one that names the issuer is enough", () => {
    const crls = [lab.crl(), lab.crl({ revoked: [serials[issuer]], number: 2 })]
    for (const order of [crls, crls.toReversed()])
      expectRefused(verify(kind, { crls: order }), "CERTIFICATE_REVOKED")
    expectRefused(verify(kind, { crls: [lab.crl(), lab.crl(), lab.crl()] }), "CRL_MALFORMED")
  })
})

describe("a list", () => {
  it("that is missing is refused where collateral is asked for, unless that is allowed", () => {
    for (const collateral of [{}, { crls: [] }]) {
      expectRefused(verify("VCEK", collateral), "COLLATERAL_MISSING", "collateral.crls")
      expect(verify("VCEK", collateral, { missingCrl: "report" })).toMatchObject({
        revocation: { issuers: "unknown" },
        collateral: [],
      })
    }
    expect(verify("VCEK", undefined)).toMatchObject({ revocation: { issuers: "unknown" } })
  })

  it("can be looked up by product", () => {
    const asked: string[] = []
    const of = evidence.VCEK
    if (of === undefined) throw new Error("not made")
    const collateral = (product: string) => {
      asked.push(product)
      return { crls: [lab.crl({ revoked: [serials.ask] })] }
    }
    expectRefused(verifyReport({ ...of, collateral }, { roots: [lab.root], now }), "CERTIFICATE_REVOKED")
    expect(asked).toEqual(["Milan"])
  })

  it("that has expired, or isn't valid yet, is refused with another code than one with a bad signature", () => {
    expectRefused(withList("VCEK", { nextUpdate: days(-0.5) }), "CRL_EXPIRED", "collateral.crl.nextUpdate")
    expectRefused(withList("VCEK", { thisUpdate: days(1) }), "CRL_NOT_YET_VALID", "collateral.crl.thisUpdate")
    const list = lab.crl()
    expectRefused(
      verify("VCEK", { crls: [flippedAt(list, list.length - 1)] }),
      "CRL_SIGNATURE",
      "collateral.crl.signature",
    )
  })

  it("is looked at every time: a warm cache forgets neither its dates nor what it revokes", () => {
    const crls = [lab.crl({ nextUpdate: days(10) })]
    expect(verify("VCEK", { crls })).not.toBeInstanceOf(SnpError)
    expectRefused(verify("VCEK", { crls }, { now: days(11) }), "CRL_EXPIRED")
    const revoking = [lab.crl({ revoked: [serials.ask] })]
    for (let i = 0; i < 2; i++) expectRefused(verify("VCEK", { crls: revoking }), "CERTIFICATE_REVOKED")
    expect(verify("VLEK", { crls: revoking })).not.toBeInstanceOf(SnpError)
  })

  it("of another product is refused", () => {
    expectRefused(withList("VCEK", { issuer: "ARK-Genoa" }), "CRL_ISSUER", "collateral.crl.issuer")
  })

  it("signed by the ASK is refused, under its own name or the root's", () => {
    expectRefused(withList("VCEK", { issuer: "SEV-Milan" }, "ask"), "CRL_ISSUER")
    expectRefused(withList("VCEK", {}, "ask"), "CRL_SIGNATURE")
  })

  it("with any byte changed, cut short, empty or too long is refused with a typed error", () => {
    const list = lab.crl({ revoked: [1, 2, 3] })
    for (let i = 0; i < list.length; i += 1)
      expect([i, verify("VCEK", { crls: [flippedAt(list, i)] }) instanceof SnpError]).toEqual([i, true])
    for (let length = 0; length < list.length; length += 7)
      expectRefused(verify("VCEK", { crls: [list.slice(0, length)] }), "CRL_MALFORMED")
    expectRefused(verify("VCEK", { crls: [new Uint8Array(65_537)] }), "CRL_MALFORMED")
    expectRefused(verify("VCEK", { crls: [Uint8Array.from([...list, 0])] }), "CRL_MALFORMED")
  })
})

const products = ["milan", "genoa", "turin"] as const
const realLists = haveVectors
  ? products.filter((product) => existsSync(join(vectorsDir, `snp/crl/${product}.crl.der`)))
  : []
if (realLists.length < products.length)
  console.warn(
    `${products.length - realLists.length} OF AMD'S OWN REVOCATION LISTS NOT TRIED: no sample is here`,
  )

describe.runIf(realLists.length > 0)("AMD's own", () => {
  it.each(realLists)("list of %s is signed by its root and by no other", (product) => {
    const list = readVector(`snp/crl/${product}.crl.der`)
    const arkOf = (of: string) => outline("ark", readVector(`snp/certs/${of}-ark.der`))
    const crl = verifyAmdCrl(list, arkOf(product))
    expect(crl.number).toBeGreaterThan(0n)
    expect(crl.thisUpdate.getTime()).toBeLessThan(crl.nextUpdate.getTime())
    for (const of of products.filter((one) => one !== product))
      expect(() => verifyAmdCrl(list, arkOf(of))).toThrow(/issuer/)
    for (const role of ["ask", "asvk"])
      expect(crl.revoked.has(outline(role, readVector(`snp/certs/${product}-${role}.der`)).serial)).toBe(
        false,
      )
  })
})
