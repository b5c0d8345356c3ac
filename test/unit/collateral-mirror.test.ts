/** Collateral from a mirror that serves, and from one that misbehaves in every way: it can only delay. */
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { HttpError, httpGet } from "../../services/common/http/get.ts"
import {
  collateralItemsOf,
  collateralViewOf,
  emptySnapshot,
  offerCollateral,
} from "../../services/evidence/collateral/index.ts"
import { requestsOf } from "../../services/evidence/collateral/mirror.ts"
import { TdxError, verifyQuote } from "../../services/evidence/tdx/index.ts"
import { fetchCollateral, readMirrorUrl } from "../../services/guest/collateral-mirror.ts"
import { type Fault, type Mirror, startMirror } from "../support/mirror.ts"
import { days, Hierarchy, isoOf, now, pemOf } from "../support/tdx-lab.ts"
import { haveVectors, readVector } from "./evidence-support.ts"

let mirror: Mirror
const lab = new Hierarchy()
const [, ca = new Uint8Array(0), root = new Uint8Array(0)] = lab.chain()
const fmspc = "ee0000000001"
const path = {
  tcbInfo: `/tdx/certification/v4/tcb?fmspc=${fmspc}`,
  qeIdentity: "/tdx/certification/v4/qe/identity",
  pckCrl: "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
  rootCrl: "/IntelSGXRootCA.der",
} as const

const chainOf = (...ders: readonly Uint8Array[]) =>
  encodeURIComponent(ders.map((der) => Buffer.from(pemOf(der)).toString()).join(""))

const serve = (change: Parameters<Hierarchy["collateral"]>[0] = {}): void => {
  const { tcbInfo, qeIdentity, pckCrl, rootCrl, tcbSigningChain } = lab.collateral(change)
  const signing = chainOf(tcbSigningChain, root)
  mirror.pages.set(path.tcbInfo, { body: tcbInfo, headers: { "TCB-Info-Issuer-Chain": signing } })
  mirror.pages.set(path.qeIdentity, {
    body: qeIdentity,
    headers: { "SGX-Enclave-Identity-Issuer-Chain": signing },
  })
  mirror.pages.set(path.pckCrl, { body: pckCrl, headers: { "SGX-PCK-CRL-Issuer-Chain": chainOf(ca, root) } })
  mirror.pages.set(path.rootCrl, { body: rootCrl })
}

beforeEach(async () => {
  mirror = await startMirror()
  serve()
})
afterEach(() => mirror.stop())

const wants = () => ({ intel: mirror.url, products: [], fmspcs: [fmspc], cas: ["platform"] as const })
const rules = { now, roots: { amd: [], intel: [lab.root] } }
const judge = (snapshot = emptySnapshot) => {
  const result = verifyQuote(
    { quote: lab.quote(), collateral: collateralViewOf(snapshot, now).tdx },
    { roots: [lab.root], now },
  )
  return result instanceof TdxError ? result.code : result.status.converged
}

describe("a mirror", () => {
  it("of Intel's service fills the store: documents, lists, and issuers from their headers", async () => {
    const { offered, failures } = await fetchCollateral(wants())
    expect(failures).toEqual([])
    const { snapshot, outcomes } = offerCollateral(emptySnapshot, offered, rules)
    expect(outcomes.filter(({ outcome }) => outcome === "refused")).toEqual([])
    expect(collateralItemsOf(snapshot)).toHaveLength(7)
    expect(judge(snapshot)).toBe("UpToDate")
  })

  it("may write lists in hex, as caches of Intel's do", async () => {
    for (const name of ["pckCrl", "rootCrl"] as const) {
      const page = mirror.pages.get(path[name])
      const body = Buffer.from(Buffer.from(page?.body ?? []).toString("hex"))
      mirror.pages.set(path[name], { ...page, body })
    }
    const { offered } = await fetchCollateral(wants())
    expect(judge(offerCollateral(emptySnapshot, offered, rules).snapshot)).toBe("UpToDate")
  })

  it("is asked at the addresses that AMD and Intel have", () => {
    const chipId = Uint8Array.from({ length: 64 }, (_, i) => i)
    const urls = requestsOf({
      amd: "https://a",
      intel: "https://api.trustedservices.intel.com",
      products: ["Milan"],
      chips: [
        { product: "Milan", chipId, tcb: Uint8Array.of(3, 0, 0, 0, 0, 0, 8, 115) },
        { product: "Turin", chipId, tcb: Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 71) },
      ],
      fmspcs: ["00806f050000"],
      cas: ["platform"],
    }).map(({ url }) => url)
    expect(urls).toEqual([
      "https://a/vcek/v1/Milan/cert_chain",
      "https://a/vcek/v1/Milan/crl",
      "https://a/vlek/v1/Milan/cert_chain",
      "https://a/vlek/v1/Milan/crl",
      `https://a/vcek/v1/Milan/${Buffer.from(chipId).toString("hex")}?blSPL=03&teeSPL=00&snpSPL=08&ucodeSPL=115`,
      "https://a/vcek/v1/Turin/0001020304050607?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=71",
      "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=00806f050000",
      "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity",
      "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
      "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
    ])
  })

  it.runIf(haveVectors)("of AMD's service gives certificates, also a chip's", async () => {
    const report = readVector("snp/milan-v2-virtee.report.bin")
    const [chipId, tcb] = [report.slice(0x1a0, 0x1e0), report.slice(0x180, 0x188)]
    const wanted = {
      amd: mirror.url,
      products: ["Milan" as const],
      chips: [{ product: "Milan" as const, chipId, tcb }],
      fmspcs: [],
      cas: [],
    }
    const [chain, , vlekChain, , vcek] = requestsOf(wanted).map(({ url }) => url.slice(mirror.url.length))
    mirror.pages.set(chain ?? "", { body: readVector("snp/certs/milan-kds-cert-chain-vcek.pem") })
    mirror.pages.set(vlekChain ?? "", { body: readVector("snp/certs/milan-kds-cert-chain-vlek.pem") })
    mirror.pages.set(vcek ?? "", { body: readVector("snp/milan-v2-virtee.vcek.der") })
    const { offered, failures } = await fetchCollateral(wanted)
    expect(failures.map(({ code }) => code)).toEqual(["HTTP_STATUS", "HTTP_STATUS"])
    const { snapshot } = offerCollateral(emptySnapshot, offered, { now: new Date("2026-01-01") })
    expect([...snapshot.held.keys()].map((key) => key.replace(/vcek-.*/, "vcek")).sort()).toEqual([
      "amd-ark-Milan",
      "amd-ask-Milan",
      "amd-asvk-Milan",
      "amd-vcek",
    ])
  })
})
if (!haveVectors) console.warn("NO REAL CERTIFICATES SERVED: 1 mirror test skipped (VOUCHSAFE_VECTORS)")

describe("a mirror that misbehaves", () => {
  const faults: readonly (readonly [Fault, string | undefined])[] = [
    ["endless", "HTTP_TOO_LARGE"],
    ["short", "HTTP_UNREACHABLE"],
    ["redirect", "HTTP_STATUS"],
    ["error", "HTTP_STATUS"],
    ["page", undefined],
    ["empty", undefined],
    ["closed", "HTTP_UNREACHABLE"],
  ]

  it.each(faults)("(%s) can only delay: what is known stays, and counts again later", async (fault, code) => {
    const good = offerCollateral(emptySnapshot, (await fetchCollateral(wants())).offered, rules).snapshot
    mirror.faults.set("*", fault)
    const { offered, failures } = await fetchCollateral(wants())
    expect(failures.map((one) => one.code)).toEqual(code === undefined ? [] : Array(4).fill(code))
    const { snapshot, outcomes } = offerCollateral(good, offered, rules)
    expect(outcomes.every(({ outcome }) => outcome === "refused")).toBe(true)
    expect(collateralItemsOf(snapshot)).toEqual(collateralItemsOf(good))
    mirror.faults.clear()
    const again = await fetchCollateral(wants())
    expect(
      offerCollateral(snapshot, again.offered, rules).outcomes.map(({ outcome }) => outcome),
    ).not.toContain("refused")
  })

  it.each(["silent", "slow"] as const)("(%s) is left after a while", async (fault) => {
    mirror.faults.set(path.rootCrl, fault)
    const asked = httpGet(`${mirror.url}${path.rootCrl}`, { timeoutMs: 300, bytesMax: 65_536 })
    await expect(asked).rejects.toMatchObject({ code: "HTTP_TIMEOUT" })
    await expect(asked).rejects.toBeInstanceOf(HttpError)
  })

  it("never leads elsewhere", async () => {
    mirror.faults.set("*", "redirect")
    await fetchCollateral(wants())
    expect(mirror.asked).not.toContain("/elsewhere")
  })

  it("takes nothing back: older documents are refused, newer ones taken", async () => {
    const newer = { issueDate: isoOf(days(-0.5)), tcbEvaluationDataNumber: 19 }
    serve({ tcbInfo: newer, qeIdentity: newer })
    const good = offerCollateral(emptySnapshot, (await fetchCollateral(wants())).offered, rules).snapshot
    serve()
    const { outcomes, snapshot } = offerCollateral(good, (await fetchCollateral(wants())).offered, rules)
    const superseded = outcomes.filter(({ code }) => code === "SUPERSEDED")
    expect(superseded.map(({ name }) => name).sort()).toEqual([
      "intel qe-identity",
      `intel tcb-info ${fmspc}`,
    ])
    expect(collateralItemsOf(snapshot).find(({ key }) => key === "intel-qe-identity")?.number).toBe(19n)
  })

  it("has an address of the right form, or isn't asked", () => {
    expect(readMirrorUrl("http://10.0.0.1:8080/copy/")).toBe("http://10.0.0.1:8080/copy")
    for (const url of [
      "",
      "mirror",
      "ftp://a",
      "file:///etc",
      "http://u:p@a",
      "http://a/?x=1",
      "http://a/#b",
    ])
      expect(() => readMirrorUrl(url)).toThrow(/must be http/)
  })
})
