/**
 * What may be kept of collateral, and for how long it may be used. Sources are hostile throughout: what isn't signed up to
 * a pinned root, or is older than what is known, isn't taken; what nobody has confirmed for too long isn't used.
 */
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import {
  type CollateralSnapshot,
  collateralItemsOf,
  collateralStatusOf,
  collateralViewOf,
  emptySnapshot,
  fileNameOf,
  missingCollateralFor,
  nextAskMs,
  offerCollateral,
  readCollateralTree,
} from "../../services/evidence/collateral/index.ts"
import type { CrlContent } from "../../services/evidence/emulated/certificates.ts"
import { SnpError, verifyReport } from "../../services/evidence/index.ts"
import { TdxError, verifyQuote } from "../../services/evidence/tdx/index.ts"
import { days, Hierarchy, isoOf, now, pemOf } from "../support/tdx-lab.ts"
import { Random } from "./crypto-support.ts"
import { SnpHierarchy, serials } from "./evidence-snp-support.ts"
import { flippedAt, haveVectors, readVector, vectorsDir } from "./evidence-support.ts"

let amd: SnpHierarchy
const intel = new Hierarchy()
let lists: Uint8Array[]

beforeAll(() => {
  amd = new SnpHierarchy()
  lists = [amd.ark(), amd.ask(), amd.asvk()]
}, 120_000)

const rules = (at: Date) => ({ now: at, roots: { amd: [amd.root], intel: [intel.root] } })
const named = (bytes: Uint8Array, name = "x", asOf?: Date) => ({
  name,
  source: "test",
  bytes,
  ...(asOf && { asOf }),
})

const offerAll = (from: CollateralSnapshot, all: readonly Uint8Array[], at = now) =>
  offerCollateral(
    from,
    all.map((bytes, i) => named(bytes, `${i}`)),
    rules(at),
  )

const intelItems = (change: Parameters<Hierarchy["collateral"]>[0] = {}) => {
  const { tcbInfo, qeIdentity, rootCrl, pckCrl, tcbSigningChain } = intel.collateral(change)
  const [, ca, root] = intel.chain()
  return [tcbInfo, qeIdentity, rootCrl, pckCrl, tcbSigningChain, ca ?? tcbInfo, root ?? tcbInfo]
}

const full = (change: Partial<CrlContent> = {}) =>
  offerAll(emptySnapshot, [...intelItems(), amd.crl(change), ...amd.chain(), amd.asvk()]).snapshot

const judge = (snapshot: CollateralSnapshot, at = now, unconfirmedMs = 7 * 86_400_000, ageMs = {}) => {
  const view = collateralViewOf(snapshot, at, { unconfirmedMs, ageMs })
  const snp = verifyReport(
    { report: amd.report(), certificates: amd.chain(), collateral: view.snp },
    { roots: [amd.root], now: at },
  )
  const tdx = verifyQuote({ quote: intel.quote(), collateral: view.tdx }, { roots: [intel.root], now: at })
  return [snp instanceof SnpError ? snp.code : "good", tdx instanceof TdxError ? tdx.code : "good"]
}

describe("collateral that is offered", () => {
  it("is taken in any order, each under its own key, with the dates and numbers that were signed", () => {
    const random = new Random("order")
    const all = [...intelItems(), amd.crl({ number: 9 }), ...amd.chain(), amd.asvk()]
    for (let i = 0; i < 5; i++) {
      const shuffled = all.map((one) => [random.below(1_000), one] as const).sort(([a], [b]) => a - b)
      const { snapshot, outcomes } = offerAll(
        emptySnapshot,
        shuffled.map(([, one]) => one),
      )
      expect(outcomes.filter(({ outcome }) => outcome !== "new")).toEqual([])
      expect(collateralItemsOf(snapshot).map(({ key }) => key.replace(/vcek-\w+/, "vcek"))).toEqual([
        "amd-ark-Milan",
        "amd-ask-Milan",
        "amd-asvk-Milan",
        "amd-crl-Milan",
        "amd-vcek",
        "intel-ca-platform",
        "intel-pck-crl-platform",
        "intel-qe-identity",
        "intel-root",
        "intel-root-crl",
        "intel-tcb-info-ee0000000001",
        "intel-tcb-signing",
      ])
    }
    const status = collateralStatusOf(full({ number: 9 }), now)
    expect(status.find(({ key }) => key === "amd-crl-Milan")).toMatchObject({ number: 9n, state: "current" })
    expect(status.find(({ key }) => key.startsWith("intel-tcb-info"))).toMatchObject({
      number: 18n,
      issued: days(-1),
      expires: days(29),
    })
  })

  it("serves reports and quotes that name their platform, and certificates that a report came without", () => {
    const snapshot = full()
    expect(judge(snapshot)).toEqual(["good", "good"])
    const view = collateralViewOf(snapshot, now)
    const report = amd.report()
    const parts = { chipId: report.slice(0x1a0, 0x1e0), reportedTcb: report.slice(0x180, 0x188) }
    const found = view.snpCertificates({ ...parts, signingKey: "VCEK" }, "Milan")
    expect(verifyReport({ report, certificates: found ?? [] }, { roots: [amd.root], now })).toMatchObject({
      kind: "snp",
    })
    expect(view.snpCertificates({ ...parts, signingKey: "VLEK" }, "Milan")).toBeUndefined()
    expect(
      view.snpCertificates({ ...parts, chipId: new Uint8Array(64), signingKey: "VCEK" }, "Milan"),
    ).toBeUndefined()
    expect(
      view.snpCertificates({ ...parts, reportedTcb: new Uint8Array(8), signingKey: "VCEK" }, "Milan"),
    ).toBeUndefined()
    expect(judge(emptySnapshot)).toEqual(["COLLATERAL_MISSING", "COLLATERAL_MISSING"])
    expect(
      missingCollateralFor(emptySnapshot, {
        products: ["Milan"],
        fmspcs: ["ee0000000001"],
        cas: ["platform"],
      }),
    ).toHaveLength(9)
    expect(
      missingCollateralFor(snapshot, { products: ["Milan"], fmspcs: ["ee0000000001"], cas: ["platform"] }),
    ).toEqual([])
    expect(missingCollateralFor(snapshot, { products: ["Genoa"], fmspcs: [], cas: [] })).toHaveLength(3)
  })

  it("keeps lists for VLEKs apart, and what either names is revoked", () => {
    const revoking = amd.crl({ revoked: [serials.ask] })
    const offered = [
      named(amd.crl(), "vcek/crl"),
      named(revoking, "vlek/crl"),
      ...lists.map((one) => named(one)),
    ]
    const { snapshot } = offerCollateral(emptySnapshot, offered, rules(now))
    expect(collateralViewOf(snapshot, now).snp("Milan").crls).toHaveLength(2)
    expect(judge(snapshot)[0]).toBe("CERTIFICATE_REVOKED")
    const same = offerCollateral(
      emptySnapshot,
      [named(revoking, "vlek/crl"), named(revoking, "vcek/crl"), ...lists.map((one) => named(one))],
      rules(now),
    )
    expect([...same.snapshot.held.keys()]).toEqual(
      expect.arrayContaining(["amd-crl-Milan", "amd-crl-Milan-vlek"]),
    )
  })

  it("isn't taken unless it is signed: no byte of it may change", () => {
    const known = full()
    for (const { key, bytes } of collateralItemsOf(known))
      for (let i = 0; i < bytes.length; i += 31) {
        const { snapshot, outcomes } = offerAll(known, [flippedAt(bytes, i)])
        const [outcome] = outcomes
        // White space that turns into something else is refused too; a certificate of no known name is kept unverified.
        if (outcome?.key?.startsWith("tpm-")) continue
        expect([key, i, outcome?.outcome]).toEqual([key, i, "refused"])
        expect(collateralItemsOf(snapshot)).toEqual(collateralItemsOf(known))
      }
  })

  it("isn't taken without its issuer, under another root, or when it is nothing that is known", () => {
    const codes = (all: readonly Uint8Array[]) =>
      offerAll(emptySnapshot, all).outcomes.map(({ code }) => code ?? "taken")
    expect(codes([amd.crl()])).toEqual(["ISSUER_MISSING"])
    expect(codes([amd.ask()])).toEqual(["ISSUER_MISSING"])
    expect(codes(intelItems().slice(0, 5))).toEqual(Array(5).fill("ISSUER_MISSING"))
    const other = new Hierarchy()
    expect(codes([other.certificate("root")])).toEqual(["ROOT_UNKNOWN"])
    expect(codes([...intelItems().slice(-1), other.crl("root")])).toEqual(["taken", "CRL_SIGNATURE"])
    const nothing = [
      new Uint8Array(0),
      new Uint8Array(65_537),
      Uint8Array.of(0x30, 3, 1, 2, 3),
      new Random("no").bytes(500),
    ]
    expect(codes(nothing)).toEqual(Array(4).fill("COLLATERAL_UNKNOWN"))
    expect(codes([Buffer.from('{"tcbInfo":[]}'), Buffer.from("{}")]).sort()).toEqual([
      "COLLATERAL_UNKNOWN",
      "ISSUER_MISSING",
    ])
    const genuine = offerCollateral(emptySnapshot, [named(amd.ark()), named(intel.certificate("root"))], {
      now,
    })
    expect(genuine.outcomes.map(({ code }) => code)).toEqual(["ROOT_UNKNOWN", "ROOT_UNKNOWN"])
  })

  it("isn't taken when it is of the future or has expired", () => {
    const codes = (change: Partial<CrlContent>) =>
      offerAll(emptySnapshot, [amd.ark(), amd.crl(change)]).outcomes.map(({ code }) => code)
    expect(codes({ thisUpdate: days(1) })).toEqual([undefined, "NOT_YET_VALID"])
    expect(codes({ nextUpdate: days(-0.5) })).toEqual([undefined, "EXPIRED"])
  })

  it("never takes the place of something newer: no rollback of lists, TCB info or identities", () => {
    const revoking = amd.crl({ number: 5, revoked: [serials.ask] })
    const known = offerAll(full({ number: 4 }), [revoking]).snapshot
    expect(judge(known)[0]).toBe("CERTIFICATE_REVOKED")
    for (const change of [
      { number: 4 },
      { number: 4, thisUpdate: days(-0.1) },
      { number: 5, thisUpdate: days(-2) },
    ]) {
      const { snapshot, outcomes } = offerAll(known, [amd.crl(change)])
      expect(outcomes).toMatchObject([{ outcome: "refused", code: "SUPERSEDED" }])
      expect(judge(snapshot)[0]).toBe("CERTIFICATE_REVOKED")
    }
    const older = { issueDate: isoOf(days(-0.5)), tcbEvaluationDataNumber: 17 }
    for (const bytes of intelItems({ tcbInfo: older, qeIdentity: older }).slice(0, 2))
      expect(offerAll(known, [bytes]).outcomes).toMatchObject([{ outcome: "refused", code: "SUPERSEDED" }])
    const newer = { issueDate: isoOf(days(-0.5)), tcbEvaluationDataNumber: 19 }
    for (const bytes of intelItems({ tcbInfo: newer, qeIdentity: newer }).slice(0, 2))
      expect(offerAll(known, [bytes]).outcomes).toMatchObject([{ outcome: "new" }])
  })

  it("leaves the snapshot before as it was", () => {
    const before = full({ number: 1 })
    const items = collateralItemsOf(before)
    offerAll(before, [amd.crl({ number: 2, revoked: [serials.ask] })])
    expect(collateralItemsOf(before)).toEqual(items)
    expect(judge(before)[0]).toBe("good")
  })
})

describe("collateral that nobody has confirmed for too long", () => {
  const stale = ["COLLATERAL_STALE", "COLLATERAL_STALE"]

  it("is used until the hard limit, then answers COLLATERAL_STALE, not that it has expired", () => {
    const snapshot = full()
    expect(judge(snapshot, days(7))).toEqual(["good", "good"])
    expect(judge(snapshot, new Date(days(7).getTime() + 1))).toEqual(stale)
    expect(collateralStatusOf(snapshot, days(8)).find(({ key }) => key === "amd-crl-Milan")?.state).toBe(
      "stale",
    )
    // The vendor's own end stays another answer.
    expect(judge(snapshot, days(30), 1e15)).toEqual(["good", "COLLATERAL_EXPIRED"])
    expect(judge(snapshot, days(365), 1e15)[0]).toBe("CRL_EXPIRED")
    expect(collateralStatusOf(snapshot, days(365)).find(({ key }) => key === "amd-crl-Milan")?.state).toBe(
      "expired",
    )
  })

  it("counts again once it was given again, the same or newer; older ones confirm nothing", () => {
    const snapshot = full({ number: 3 })
    const again = offerAll(snapshot, [...intelItems(), amd.crl({ number: 3 })], days(5)).snapshot
    expect(judge(again, days(8))).toEqual(["good", "good"])
    const older = offerAll(snapshot, [...intelItems(), amd.crl({ number: 2 })], days(5)).snapshot
    expect(judge(older, days(8))).toEqual(["COLLATERAL_STALE", "good"])
  })

  it("isn't younger than its file, nor younger than now", () => {
    const offered = (asOf: Date) =>
      offerCollateral(emptySnapshot, [named(amd.ark()), named(amd.crl(), "a", asOf)], rules(now)).snapshot
    expect(judge(offered(days(-8)))[0]).toBe("COLLATERAL_STALE")
    expect(judge(offered(days(-6)))[0]).toBe("good")
    expect(judge(offered(days(100)), days(8))[0]).toBe("COLLATERAL_STALE")
  })

  it("doesn't count beyond the age that the operator allows, however often it is served", () => {
    const age = { "intel-tcb-info": 3 * 86_400_000, "amd-crl": 3 * 86_400_000 }
    const snapshot = full()
    expect(judge(snapshot, days(2), 1e15, age)).toEqual(["good", "good"])
    const served = offerAll(snapshot, [...intelItems(), amd.crl()], days(2.5)).snapshot
    expect(judge(served, days(2.5), 1e15, age)).toEqual(stale)
  })
})

it("asks again in time, later after failures, and never all at once", () => {
  const schedule = { everyMs: 3_600_000, retryMs: 10_000 }
  expect([0, 0.5, 1].map((random) => nextAskMs(schedule, 0, random))).toEqual([
    2_700_000, 3_600_000, 4_500_000,
  ])
  expect([1, 2, 3, 9, 10, 1_000].map((failures) => nextAskMs(schedule, failures, 0.5))).toEqual([
    10_000, 20_000, 40_000, 2_560_000, 3_600_000, 3_600_000,
  ])
})

describe("a folder of collateral", () => {
  it("is read with its folders, PEM taken apart, and each as old as its file", () => {
    const folder = mkdtempSync(join(tmpdir(), "vouchsafe-collateral-"))
    try {
      const written = collateralItemsOf(full())
      mkdirSync(join(folder, "amd"))
      for (const item of written)
        if (!item.key.startsWith("amd-a"))
          writeFileSync(join(folder, item.key.startsWith("amd") ? "amd" : "", fileNameOf(item)), item.bytes)
      writeFileSync(join(folder, "amd", "cert_chain.pem"), Buffer.concat(lists.map(pemOf)))
      writeFileSync(join(folder, "notes.txt"), "nothing")
      for (const { name } of readCollateralTree(folder)) utimesSync(join(folder, name), days(-8), days(-8))
      const offered = readCollateralTree(folder)
      expect(offered).toHaveLength(written.length)
      const { snapshot, outcomes } = offerCollateral(emptySnapshot, offered, rules(now))
      expect(outcomes.filter(({ outcome }) => outcome !== "new")).toEqual([])
      expect(judge(snapshot)).toEqual(["COLLATERAL_STALE", "COLLATERAL_STALE"])
      expect(judge(snapshot, now, 9 * 86_400_000)).toEqual(["good", "good"])
      expect(() => readCollateralTree(join(folder, "none"))).toThrow(/ENOENT/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })

  if (!haveVectors) console.warn("NO REAL COLLATERAL TRIED: 1 folder of samples skipped (VOUCHSAFE_VECTORS)")
  it.runIf(haveVectors)("of the samples gives the newest of its time, and a real quote its status", () => {
    const at = new Date("2026-03-25")
    const offered = ["tdx/collateral", "tdx/certs", "snp/certs", "snp"].flatMap((of) =>
      readCollateralTree(join(vectorsDir, of)),
    )
    const { snapshot, outcomes } = offerCollateral(emptySnapshot, offered, { now: at })
    expect(new Set(outcomes.map(({ code }) => code))).toEqual(
      new Set([undefined, "EXPIRED", "NOT_YET_VALID", "SUPERSEDED", "CERTIFICATE_SIGNATURE"]),
    )
    const status = collateralStatusOf(snapshot, at)
    expect(status.find(({ key }) => key === "intel-tcb-info-90c06f000000")).toMatchObject({ number: 18n })
    const view = collateralViewOf(snapshot, at, { unconfirmedMs: Number.POSITIVE_INFINITY })
    const quote = readVector("tdx/v5-gcp-90c06f.quote.bin")
    expect(verifyQuote({ quote, collateral: view.tdx }, { now: at })).toMatchObject({
      status: { converged: "UpToDate" },
    })
  })
})
