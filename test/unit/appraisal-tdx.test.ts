/** A TDX guest against a workflow: each rule refused by name, and how far behind a platform may be. */
import { describe, expect, it } from "vitest"
import type { HardwareRoot, Tdx, TdxTcb } from "../../schemas/platforms.ts"
import { judgeStatus } from "../../services/evidence/appraisal/drift.ts"
import {
  type Appraisal,
  type AppraisalPolicy,
  appraise,
  type CollateralLookup,
  TdxError,
  verifyTdxQuote,
} from "../../services/evidence/index.ts"
import { bodyAt } from "../../services/evidence/tdx/td-report.ts"
import {
  days,
  Hierarchy,
  level,
  moduleOf,
  now,
  plainComponents,
  plainQeIdentity,
  plainTcbInfo,
  svnLevel,
} from "../support/tdx-lab.ts"
import {
  checkOf,
  claims,
  judge,
  logOf,
  none,
  outcome,
  policyOf,
  secureBootLine,
  separatorLine,
  tdxPiece,
} from "./appraisal-support.ts"
import { hexOf } from "./evidence-support.ts"

const lab = new Hierarchy()
const { root } = lab
const ppid = "9d".repeat(16)
const zeros = (bytes: number) => "00".repeat(bytes)

const plainTdx: Tdx = {
  mrtd: [zeros(48)],
  rtmrs: { 1: [zeros(48)], 2: [zeros(48)] },
  tcb: { statuses: ["UpToDate"] },
}

const policy = (change: Partial<Tdx> = {}, roots: readonly HardwareRoot[] = [root]): AppraisalPolicy =>
  policyOf({ assurance: "emulated", platforms: ["tdx"], tdx: { ...plainTdx, ...change } }, roots, {
    tdx: ppid,
  })

type Content = Parameters<typeof tdxPiece>[1]

const collateralOf = (change: Parameters<Hierarchy["collateral"]>[0] = {}): CollateralLookup => {
  const collateral = lab.collateral(change)
  return { snp: () => ({}), tdx: () => collateral }
}
const plainCollateral = collateralOf()

const appraised = (
  content: Content = {},
  change: Partial<Tdx> = {},
  collateral = plainCollateral,
): Appraisal => judge({ pieces: [tdxPiece(lab, content)] }, policy(change), now, { collateral })

const set = (offset: number, ...bytes: number[]): Content => ({ change: (td) => td.set(bytes, offset) })

describe("a TDX guest", () => {
  it("is accepted where all fits, with what the verdict rests on", () => {
    const appraisal = appraised()
    expect(appraisal).toMatchObject({ verdict: "accepted", assurance: "emulated", platform: "tdx" })
    expect(appraisal.collateral.map(({ kind }) => kind).sort()).toEqual(
      expect.arrayContaining(["intel-pck-crl", "intel-qe-identity", "intel-root-crl", "intel-tcb-info"]),
    )
    for (const { kind, sha256 } of appraisal.collateral)
      expect(checkOf(appraisal, `collateral-${kind}`)?.found).toContain(sha256)
  })

  it("gives the same verdict byte for byte for the same evidence, collateral and time", () => {
    const evidence = { pieces: [tdxPiece(lab)] }
    const once = judge(evidence, policy(), now, { collateral: plainCollateral })
    expect(JSON.stringify(judge(evidence, policy(), now, { collateral: plainCollateral }))).toBe(
      JSON.stringify(once),
    )
  })

  const other = ["ab".repeat(48)]
  it.each<[string, Content, Partial<Tdx>]>([
    ["mrtd", set(bodyAt.mrTd, 1), {}],
    ["rtmr-0", {}, { rtmrs: { ...plainTdx.rtmrs, 0: other } }],
    ["rtmr-1", set(bodyAt.rtmrs + 48, 1), {}],
    ["rtmr-2", set(bodyAt.rtmrs + 96, 1), {}],
    ["rtmr-3", set(bodyAt.rtmrs + 144, 1), { rtmrs: { ...plainTdx.rtmrs, 3: [zeros(48)] } }],
    // Bit 0, with the bit that plain quotes have.
    ["td-debug", set(bodyAt.tdAttributes, 1, 0, 0, 0x10), {}],
    ["sept-ve-disable", set(bodyAt.tdAttributes + 3, 0), {}],
    ["migratable", set(bodyAt.tdAttributes + 3, 0x30), {}],
    ["pks", set(bodyAt.tdAttributes + 3, 0x50), { attributes: { pks: false } }],
    ["key-locker", set(bodyAt.tdAttributes + 3, 0x90), { attributes: { key_locker: false } }],
    ["perfmon", set(bodyAt.tdAttributes + 7, 0x80), { attributes: { perfmon: false } }],
    ["td-attributes", set(bodyAt.tdAttributes + 1, 1), {}],
    ["xfam", set(bodyAt.xfam, 0xe6), { xfam: ["00000000000000e7"] }],
    ["mrseam", {}, { mrseam: other }],
    ["mr-config-id", {}, { mr_config_id: other }],
    ["mr-owner", {}, { mr_owner: other }],
    ["mr-owner-config", {}, { mr_owner_config: other }],
    ["mr-service-td", { version: 5, body: "1.5", ...set(bodyAt.mrServiceTd, 1) }, {}],
    ["report-data", { reportData: new Uint8Array(64) }, {}],
    ["secure-boot", {}, { secure_boot: true }],
    ["tcb-evaluation", {}, { tcb: { statuses: ["UpToDate"], minimum_evaluation: 19 } }],
    ["tcb-date", {}, { tcb: { statuses: ["UpToDate"], minimum_date: "2026-03-12" } }],
    ["tcb-status", {}, { tcb: { statuses: ["SWHardeningNeeded"] } }],
  ])("is refused for %s", (name, content, change) => {
    expect(outcome(appraised(content, change))).toBe(name)
    expect(checkOf(appraised(), name)?.result).not.toBe("failed")
  })

  it("is accepted at the bounds themselves", () => {
    const tcb: TdxTcb = { statuses: ["UpToDate"], minimum_evaluation: 18, minimum_date: "2026-03-11" }
    expect(outcome(appraised({}, { tcb, xfam: ["00000000000000e7"] }))).toBe("accepted")
    expect(
      outcome(appraised(set(bodyAt.tdAttributes + 3, 0), { attributes: { sept_ve_disable: false } })),
    ).toBe("accepted")
    const service = [`01${zeros(47)}`]
    const bound: Content = { version: 5, body: "1.5", ...set(bodyAt.mrServiceTd, 1) }
    expect(outcome(appraised(bound, { mr_service_td: service }))).toBe("accepted")
    expect(outcome(appraised({ version: 5, body: "1.5" }))).toBe("accepted")
  })

  it("can't be debugged, whatever the workflow says", () => {
    const debug = { attributes: { debug: true } } as Partial<Tdx>
    expect(() => policy(debug)).toThrow(/debug/)
  })

  it("is refused for the root, the assurance, the platform and the machine that it isn't", () => {
    const evidence = { pieces: [tdxPiece(lab)] }
    const see = (change: Partial<AppraisalPolicy>) =>
      outcome(judge(evidence, { ...policy(), ...change }, now, { collateral: plainCollateral }))
    expect(see({ assurance: "hardware" })).toBe("assurance")
    expect(see({ assurance: "tpm-only" })).toBe("assurance")
    expect(see({ platforms: ["sev-snp"] })).toBe("platform")
    expect(see({ chips: [{ tdx: "9e".repeat(16) }] })).toBe("chip-id")
    expect(see({ chips: [{ sev_snp: ppid }] })).toBe("chip-id")
    expect(see({ chips: [] })).toBe("chip-id")
    expect(see({ roots: [{ ...root, key_digest: "01".repeat(32) }] })).toBe("genuine")
    expect(see({ dataplane: [] })).toBe("dataplane")
    const { tdx: _, ...withoutSection } = policy()
    expect(outcome(judge(evidence, withoutSection, now, { collateral: plainCollateral }))).toBe("tdx")
  })

  it("is refused without collateral, with stale collateral, and when its key was revoked, each by its own code", () => {
    const see = (collateral: CollateralLookup | undefined) => {
      const appraisal = judge({ pieces: [tdxPiece(lab)] }, policy(), now, {
        ...(collateral && { collateral }),
      })
      expect(outcome(appraisal)).toBe("genuine")
      return appraisal.reason?.found.split(" ")[0]
    }
    expect(see(undefined)).toBe("COLLATERAL_MISSING")
    expect(see(none)).toBe("COLLATERAL_MISSING")
    const { pckCrl: _, ...withoutList } = lab.collateral()
    expect(see({ snp: () => ({}), tdx: () => withoutList })).toBe("COLLATERAL_MISSING")
    const revoked = { ...lab.collateral(), pckCrl: lab.crl("ca", { revoked: [4] }) }
    expect(see({ snp: () => ({}), tdx: () => revoked })).toBe("CERTIFICATE_REVOKED")
    const old = collateralOf({ tcbInfo: { nextUpdate: days(-1).toISOString().replace(/\.\d+/, "") } })
    expect(see(old)).toBe("COLLATERAL_EXPIRED")
  })

  it("is refused where nobody could look whether its key was revoked, though verification let that pass", () => {
    const { pckCrl: _, rootCrl: __, ...withoutLists } = lab.collateral()
    const { quote } = tdxPiece(lab)
    const verified = verifyTdxQuote(
      { quote, collateral: withoutLists },
      { roots: [lab.root], now, missingCrl: "report" },
    )
    if (verified instanceof TdxError) throw verified
    const pieces = { platform: "tdx", kinds: ["tdx"], tdx: { ...verified, eventLog: undefined } } as const
    expect(outcome(appraise(pieces, policy(), claims, now))).toBe("revocation")
  })

  it("shows its Secure Boot state by an event log that leads to RTMR 0, and by nothing else", () => {
    const see = (value: number, tamper = false) => {
      const log = logOf([secureBootLine(1, value), separatorLine(1)], "sha384")
      const rtmr0 = log.registers.get(1) ?? new Uint8Array(0)
      const piece = tdxPiece(lab, {
        change: (td) => td.set(tamper ? rtmr0.map((byte) => byte ^ 1) : rtmr0, bodyAt.rtmrs),
      })
      return judge({ pieces: [{ ...piece, event_log: log.bytes }] }, policy({ secure_boot: true }), now, {
        collateral: plainCollateral,
      })
    }
    expect(outcome(see(1))).toBe("accepted")
    expect(checkOf(see(0), "secure-boot")).toMatchObject({ result: "failed", found: "off" })
    expect(checkOf(see(1, true), "secure-boot")?.found).toContain("EVENT_LOG_MISMATCH")
  })

  it("is accepted under a paravisor's report data never by itself", () => {
    const appraisal = appraised({ reportData: new Uint8Array(64) }, {})
    expect(outcome(appraisal)).toBe("report-data")
    expect(checkOf(appraisal, "report-data")?.wanted).toBe(hexOf(claims.reportData))
  })
})

describe("how far behind a TDX platform may be", () => {
  /** The newest level came 20 days ago and asks for more than the platform has; its own is from March. */
  const newer = plainComponents.map((svn, i) => (i === 0 ? svn + 1 : svn))
  const day = (count: number) => days(count).toISOString().slice(0, 10)
  const iso = (count: number) => `${day(count)}T00:00:00Z`
  const levels = [
    level("UpToDate", { sgx: newer, date: iso(-20) }),
    level("OutOfDate", { date: "2026-03-11T00:00:00Z", advisoryIDs: ["INTEL-SA-1"] }),
  ]
  const behind = (all = levels) => collateralOf({ tcbInfo: { tcbLevels: all } })
  const see = (tcb: Partial<TdxTcb>, collateral = behind()) =>
    appraised({}, { tcb: { statuses: ["UpToDate"], ...tcb } }, collateral)

  it("is nothing without grace, and says for how long it is behind", () => {
    const appraisal = see({})
    expect(outcome(appraisal)).toBe("tcb-status")
    expect(checkOf(appraisal, "tcb-status")?.found).toContain(
      "OutOfDate; platform out of date, behind for 20 days",
    )
  })

  it("is as many days as the policy gives, from the first fix that it lacks", () => {
    expect(outcome(see({ grace_days: 21 }))).toBe("accepted")
    expect(checkOf(see({ grace_days: 21 }), "tcb-status")?.found).toContain("within grace")
    expect(outcome(see({ grace_days: 20 }))).toBe("tcb-status")
    // A still newer level doesn't start the days anew.
    const newest = plainComponents.map((svn, i) => (i === 0 ? svn + 2 : svn))
    const two = behind([level("UpToDate", { sgx: newest, date: iso(-1) }), ...levels])
    expect(outcome(see({ grace_days: 21 }, two))).toBe("accepted")
    expect(outcome(see({ grace_days: 20 }, two))).toBe("tcb-status")
  })

  it("counts from the oldest better level, though it be no younger than the platform's own", () => {
    const same = plainComponents.map((svn, i) => (i === 1 ? svn + 1 : svn))
    const [newest, own] = levels
    const three = behind([newest, level("UpToDate", { sgx: same }), own].filter((one) => one !== undefined))
    expect(outcome(see({ grace_days: 112 }, three))).toBe("tcb-status")
    expect(outcome(see({ grace_days: 113 }, three))).toBe("accepted")
  })

  it("is nothing more for a status that no update would mend", () => {
    const configuration = behind([
      level("UpToDate", { sgx: newer, date: iso(-20) }),
      level("OutOfDateConfigurationNeeded"),
    ])
    expect(outcome(see({ grace_days: 100 }, configuration))).toBe("tcb-status")
    const both: TdxTcb["statuses"] = ["UpToDate", "ConfigurationNeeded"]
    expect(outcome(see({ grace_days: 100, statuses: both }, configuration))).toBe("accepted")
    expect(
      outcome(
        see({ grace_days: 100 }, collateralOf({ tcbInfo: { tcbLevels: [level("ConfigurationNeeded")] } })),
      ),
    ).toBe("tcb-status")
  })

  it("counts each part: a module or an enclave that is behind for longer isn't in grace", () => {
    const oldQe = {
      tcbLevels: [
        svnLevel(5, "UpToDate"),
        ...plainQeIdentity.tcbLevels
          .slice(1)
          .map((one) => ({ ...one, tcbDate: "2025-01-01T00:00:00Z", tcb: { isvsvn: 4 } })),
      ],
    }
    const collateral = collateralOf({ tcbInfo: { tcbLevels: levels }, qeIdentity: oldQe })
    const appraisal = see({ grace_days: 21 }, collateral)
    expect(outcome(appraisal)).toBe("tcb-status")
    expect(checkOf(appraisal, "tcb-status")?.found).toContain("qe out of date")
    expect(outcome(see({ grace_days: 200 }, collateral))).toBe("accepted")
  })

  it("counts a module's level too", () => {
    const module = moduleOf("TDX_01", [
      svnLevel(4, "UpToDate"),
      { ...svnLevel(2, "OutOfDate"), tcbDate: "2025-01-01T00:00:00Z" },
    ])
    const collateral = collateralOf({ tcbInfo: { ...plainTcbInfo, tdxModuleIdentities: [module] } })
    const old = { teeTcbSvn: [3, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    expect(outcome(appraised(old, {}, collateral))).toBe("tcb-status")
    expect(outcome(appraised(old, { tcb: { statuses: ["UpToDate"], grace_days: 113 } }, collateral))).toBe(
      "accepted",
    )
    expect(outcome(appraised(old, { tcb: { statuses: ["UpToDate"], grace_days: 112 } }, collateral))).toBe(
      "tcb-status",
    )
  })

  it("is nothing where no part says that it is behind", () => {
    const upToDate = { status: "UpToDate", advisories: [] } as const
    const status = {
      platform: upToDate,
      module: { ...upToDate, identity: "TDX_01" },
      qe: { ...upToDate, isvSvn: 4 },
      converged: "OutOfDate",
      advisories: [],
    } as const
    expect(judgeStatus({ statuses: ["UpToDate"], grace_days: 365 }, status, now).result).toBe("failed")
  })

  describe("advisories", () => {
    const weak = collateralOf({
      tcbInfo: { tcbLevels: [level("SWHardeningNeeded", { advisoryIDs: ["INTEL-SA-1", "INTEL-SA-2"] })] },
    })
    const accepting = (...advisories: { id: string; until: string }[]) =>
      appraised({}, { tcb: { statuses: ["SWHardeningNeeded"], advisories } }, weak)

    it("each has to be accepted by name", () => {
      expect(outcome(accepting())).toBe("tcb-advisories")
      const one = accepting({ id: "INTEL-SA-1", until: day(30) })
      expect(outcome(one)).toBe("tcb-advisories")
      expect(checkOf(one, "tcb-advisories")?.found).toBe("not accepted: INTEL-SA-2")
    })

    it("until the end of its day", () => {
      const until = (date: string) =>
        accepting({ id: "INTEL-SA-1", until: date }, { id: "INTEL-SA-2", until: date })
      expect(outcome(until(day(30)))).toBe("accepted")
      expect(outcome(until(day(0)))).toBe("accepted")
      expect(outcome(until(day(-1)))).toBe("tcb-advisories")
    })

    it("don't count while the fix is within grace, and do afterwards", () => {
      expect(outcome(see({ grace_days: 21 }))).toBe("accepted")
      const late = see({ grace_days: 20, statuses: ["UpToDate", "OutOfDate"] })
      expect(outcome(late)).toBe("tcb-advisories")
    })
  })
})
