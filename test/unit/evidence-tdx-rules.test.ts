/**
 * Rules for which there is no public sample, on a made-up platform under a root of its own: revoked and expired
 * certificates, version 5 quotes with a TD 1.0 body, and every status that a platform can have.
 */
import { describe, expect, it } from "vitest"
import { extension } from "../../services/evidence/emulated/certificates.ts"
import {
  intelRoots,
  type TdxCollateral,
  TdxError,
  type VerifiedTdx,
  verifyQuote,
  verifyQuoteSignatures,
} from "../../services/evidence/tdx/index.ts"
import { bodyAt } from "../../services/evidence/tdx/td-report.ts"
import {
  type CertificateContent,
  type CrlContent,
  days,
  endEntity,
  Hierarchy,
  isoOf,
  level,
  moduleOf,
  now,
  pemOf,
  plainComponents,
  plainTdxComponents,
  type QuoteContent,
  serials,
  svnLevel,
} from "../support/tdx-lab.ts"
import { hexOf } from "./evidence-support.ts"

const lab = new Hierarchy()
const roots = [lab.root]

interface Case extends QuoteContent {
  readonly quote?: Uint8Array
  readonly certificates?: readonly Uint8Array[]
  readonly collateral?: TdxCollateral
  readonly tcbInfo?: object
  readonly qeIdentity?: object
  readonly options?: Partial<Parameters<typeof verifyQuote>[1]>
}

const verify = (of: Case = {}): VerifiedTdx | TdxError =>
  verifyQuote(
    {
      quote: of.quote ?? lab.quote(of),
      ...(of.certificates && { certificates: of.certificates }),
      collateral:
        of.collateral ??
        lab.collateral({
          ...(of.tcbInfo && { tcbInfo: of.tcbInfo }),
          ...(of.qeIdentity && { qeIdentity: of.qeIdentity }),
        }),
    },
    { now, roots, ...of.options },
  )

const accepted = (of: Case = {}): VerifiedTdx => {
  const result = verify(of)
  if (result instanceof TdxError) throw result
  return result
}

const refused = (of: Case): [code: string, field: string] => {
  const result = verify(of)
  return result instanceof TdxError ? [result.code, result.field] : ["accepted", ""]
}

const withCollateral = (change: TdxCollateral): Case => ({ collateral: { ...lab.collateral(), ...change } })

describe("a made-up platform", () => {
  it("is accepted under its own root, and said to be emulated", () => {
    const result = accepted()
    expect(result.emulated).toBe(true)
    expect(result.status.converged).toBe("UpToDate")
    expect(result.revocation).toEqual({ pck: "good", issuers: "good" })
    expect(result.ca).toBe("platform")
    expect(result.collateral.map(({ kind }) => kind)).toEqual([
      "intel-tcb-info",
      "intel-qe-identity",
      "intel-tcb-signing",
      "intel-root-crl",
      "intel-pck-crl",
    ])
  })

  it("isn't accepted under Intel's root, or under a list that calls its root genuine", () => {
    expect(refused({ options: { roots: intelRoots } })[0]).toBe("ROOT_UNKNOWN")
    expect(refused({ options: { roots: [{ ...lab.root, emulated: false }] } })[0]).toBe("ROOT_MISLABELLED")
    const [intel] = intelRoots
    expect(refused({ options: { roots: [{ ...lab.root, key_digest: intel?.key_digest ?? "" }] } })[0]).toBe(
      "ROOT_UNKNOWN",
    )
    expect(refused({ options: { roots: [] } })[0]).toBe("ROOT_UNKNOWN")
  })

  it.each(["1.0", "1.5"] as const)("may make a version 5 quote with a TD %s body", (body) => {
    const { quote } = accepted({ version: 5, body })
    expect([quote.version, quote.td.version]).toEqual([5, body])
    expect(quote.td.teeTcbSvn2 !== undefined).toBe(body === "1.5")
  })

  it("may have its certificates beside the quote", () => {
    const quote = lab.quote({ certification: 1 })
    expect(refused({ quote })).toEqual(["CHAIN_MISSING", "certificates"])
    expect(accepted({ quote, certificates: lab.chain() }).status.converged).toBe("UpToDate")
    expect(refused({ quote, certificates: lab.chain().slice(0, 2) })[0]).toBe("CHAIN_LENGTH")
  })

  it("may bring its certificates with the root first", () => {
    expect(accepted({ chain: lab.chain().reverse() }).certificates.map(({ role }) => role)).toEqual([
      "pck",
      "ca",
      "root",
    ])
  })

  it("is followed by bytes that are counted and change nothing", () => {
    const quote = Uint8Array.from([...lab.quote(), ...new Uint8Array(100).fill(7)])
    expect(accepted({ quote }).quote.trailingBytes).toBe(100)
  })

  it("has attributes and features that are named, unknown bits too", () => {
    const { td } = accepted({
      change: (body) => {
        body.set(Uint8Array.of(0x01, 0x02, 0, 0xd0, 0, 0, 0, 0xc0), bodyAt.tdAttributes)
        body.set(Uint8Array.of(0xe7, 0x18, 0x0e, 0x80, 0, 0, 0, 0), bodyAt.xfam)
      },
    }).quote
    expect(td.tdAttributes).toMatchObject({
      debug: true,
      septVeDisable: true,
      migratable: false,
      pks: true,
      keyLocker: true,
      tpa: true,
      perfmon: true,
      unknown: 0x200n,
    })
    expect(td.xfam.features).toEqual(["x87", "sse", "avx", "avx512", "cet", "amx"])
    expect(td.xfam.unknown).toBe(0x8008_0000n)
  })
})

describe("certificates", () => {
  const changed = (role: "pck" | "ca" | "root", change: Partial<CertificateContent>): Case => {
    const chain = (["pck", "ca", "root"] as const).map((one) =>
      lab.certificate(one, one === role ? change : {}),
    )
    return { quote: lab.quote({ chain }) }
  }

  it.each(["pck", "ca", "root"] as const)("%s: out of its dates is not a bad signature", (role) => {
    expect(refused(changed(role, { notAfter: days(-1) }))).toEqual([
      "CERTIFICATE_EXPIRED",
      `certificates.${role}.notAfter`,
    ])
    expect(refused(changed(role, { notBefore: days(1) }))).toEqual([
      "CERTIFICATE_NOT_YET_VALID",
      `certificates.${role}.notBefore`,
    ])
  })

  it.each([
    ["another subject", changed("pck", { subject: "Intel SGX TCB Signing" }), "CERTIFICATE_ROLE"],
    ["no SGX extension", changed("pck", { extensions: endEntity() }), "CERTIFICATE_EXTENSION"],
    ["no key usage", changed("pck", { extensions: [] }), "CERTIFICATE_ROLE"],
    ["another issuer's name", changed("pck", { issuer: "Intel SGX PCK Processor CA" }), "CERTIFICATE_ISSUER"],
    [
      "a key of its own making",
      {
        quote: lab.quote({
          chain: [new Hierarchy().certificate("pck"), lab.certificate("ca"), lab.certificate("root")],
        }),
      },
      "CERTIFICATE_SIGNATURE",
    ],
    [
      "another platform's",
      {
        quote: lab.quote({
          chain: [lab.certificate("pck", { key: new Hierarchy().keys.pck }), ...lab.chain().slice(1)],
        }),
      },
      "QE_REPORT_SIGNATURE",
    ],
    ["two of them", { quote: lab.quote({ chain: lab.chain().slice(0, 2) }) }, "CHAIN_LENGTH"],
    ["five of them", { quote: lab.quote({ chain: [...lab.chain(), ...lab.chain()] }) }, "CHAIN_LENGTH"],
    ["none", { quote: lab.quote({ chain: [] }) }, "CHAIN_MALFORMED"],
    [
      "an authority's",
      { quote: lab.quote({ chain: [lab.certificate("ca"), ...lab.chain().slice(1)] }) },
      "CERTIFICATE_ISSUER",
    ],
  ] as const)("%s: refused", (_, of, code) => {
    expect(refused(of)[0]).toBe(code)
  })

  it("refuses a critical extension that isn't understood", () => {
    const critical = extension("1.2.3.4", new Uint8Array(2), true)
    const pck = lab.certificate("pck", { extensions: [...endEntity(), critical] })
    const chain = [pck, ...lab.chain().slice(1)]
    expect(refused({ quote: lab.quote({ chain }) })).toEqual([
      "CERTIFICATE_EXTENSION",
      "certificates.pck.1.2.3.4",
    ])
  })
})

describe("revocation", () => {
  it.each([
    ["PCK", withCollateral({ pckCrl: lab.crl("ca", { revoked: [serials.pck] }) }), "certificates.pck.serial"],
    [
      "CA",
      withCollateral({ rootCrl: lab.crl("root", { revoked: [9, serials.ca] }) }),
      "certificates.ca.serial",
    ],
    [
      "TCB signer",
      withCollateral({ rootCrl: lab.crl("root", { revoked: [serials.tcbSigning] }) }),
      "certificates.tcbSigning.serial",
    ],
  ] as const)("of the %s is found", (_, of, field) => {
    expect(refused(of)).toEqual(["CERTIFICATE_REVOKED", field])
  })

  it("of others changes nothing", () => {
    const revoked = Array.from({ length: 200 }, (_, i) => i + 1_000)
    expect(accepted(withCollateral({ pckCrl: lab.crl("ca", { revoked }) })).revocation.pck).toBe("good")
  })

  it.each(["rootCrl", "pckCrl"] as const)("%s: lists out of date are told from lists of others", (name) => {
    const issuer = name === "rootCrl" ? "root" : "ca"
    const other = name === "rootCrl" ? "ca" : "root"
    const withList = (crl: Uint8Array) => withCollateral({ [name]: crl })
    const own = (change: Partial<CrlContent>) => refused(withList(lab.crl(issuer, change)))[0]
    expect(own({ nextUpdate: days(-1) })).toBe("CRL_EXPIRED")
    expect(own({ thisUpdate: days(1) })).toBe("CRL_NOT_YET_VALID")
    expect(own({ extensions: [extension("2.5.29.27", new Uint8Array(3), true)] })).toBe("CRL_MALFORMED")
    expect(refused(withList(lab.crl(other)))[0]).toBe("CRL_ISSUER")
    expect(refused(withList(new Hierarchy().crl(issuer)))[0]).toBe("CRL_SIGNATURE")
    expect(refused(withList(lab.certificate("ca")))[0]).toBe("CRL_MALFORMED")
  })

  it("can't be left out, but where a caller asks for a report", () => {
    const { pckCrl: _, ...without } = lab.collateral()
    expect(refused({ collateral: without })).toEqual(["COLLATERAL_MISSING", "collateral.pckCrl"])
    const { revocation } = accepted({ collateral: without, options: { missingCrl: "report" } })
    expect(revocation).toEqual({ pck: "unknown", issuers: "good" })
  })
})

describe("collateral", () => {
  it.each(["tcbInfo", "qeIdentity"] as const)("%s: dates, kind and signature are told apart", (name) => {
    const code = (change: object) => refused({ [name]: change })
    expect(code({ nextUpdate: isoOf(days(-1)) })).toEqual([
      "COLLATERAL_EXPIRED",
      `collateral.${name}.nextUpdate`,
    ])
    expect(code({ issueDate: isoOf(days(1)) })).toEqual([
      "COLLATERAL_NOT_YET_VALID",
      `collateral.${name}.issueDate`,
    ])
    expect(code({ id: "SGX" })[0]).toBe("COLLATERAL_KIND")
    expect(code({ version: 9 })[0]).toBe("COLLATERAL_KIND")
    expect(code({ tcbLevels: {} })[0]).toBe("COLLATERAL_MALFORMED")
    expect(code({ issueDate: "yesterday" })[0]).toBe("COLLATERAL_MALFORMED")
    expect(code({ tcbLevels: [svnLevel(1, "Splendid")] })[0]).toBe("COLLATERAL_MALFORMED")
    const theirs = new Hierarchy().collateral()[name]
    expect(refused(withCollateral({ [name]: theirs }))).toEqual([
      "COLLATERAL_SIGNATURE",
      `collateral.${name}.signature`,
    ])
    const { [name]: _, ...without } = lab.collateral()
    expect(refused({ collateral: without })).toEqual(["COLLATERAL_MISSING", `collateral.${name}`])
  })

  it("is signed over its own bytes, wherever the signature stands and whatever space is around", () => {
    const text = Buffer.from(lab.collateral().tcbInfo).toString()
    const [, body = "", signature = ""] = /^\{"tcbInfo":(.*),"signature":"(\w+)"\}$/.exec(text) ?? []
    const written = (json: string) => withCollateral({ tcbInfo: Uint8Array.from(Buffer.from(json)) })
    expect(
      accepted(written(` { "signature" : "${signature}" ,\n "tcbInfo" : ${body} }\n`)).status.converged,
    ).toBe("UpToDate")
    const spaced = JSON.stringify(JSON.parse(body), undefined, 1)
    expect(refused(written(`{"tcbInfo":${spaced},"signature":"${signature}"}`))[0]).toBe(
      "COLLATERAL_SIGNATURE",
    )
    for (const json of [
      `{"tcbInfo":${body},"signature":"${signature}","more":1}`,
      `{"tcbInfo":${body},"tcbInfo":${body},"signature":"${signature}"}`,
      `{"tcbInfo":${body}}`,
      `{"tcbInfo":${body},"signature":"${signature}"}}`,
      `{"tcbInfo":${body},"signature":"${signature.slice(2)}"}`,
      `{"tcbInfo":${body},"signature":"${signature.toUpperCase()}"}`,
      `{"tcbInfo":"${signature}","signature":"${signature}"}`,
      body,
      "",
    ])
      expect(refused(written(json))[0]).toBe("COLLATERAL_MALFORMED")
  })

  it("from before a TCB recovery event that the caller knows is refused", () => {
    const options = { minimumTcbEvaluationDataNumber: 18 }
    expect(accepted({ options }).tcbEvaluationDataNumber).toBe(18)
    expect(refused({ options: { minimumTcbEvaluationDataNumber: 19 } })).toEqual([
      "COLLATERAL_SUPERSEDED",
      "collateral.tcbInfo.tcbEvaluationDataNumber",
    ])
    expect(refused({ options, qeIdentity: { tcbEvaluationDataNumber: 17 } })).toEqual([
      "COLLATERAL_SUPERSEDED",
      "collateral.qeIdentity.tcbEvaluationDataNumber",
    ])
  })

  it("of another family, PCE or enclave is refused", () => {
    expect(refused({ tcbInfo: { fmspc: "EE0000000002" } })[0]).toBe("FMSPC_MISMATCH")
    expect(refused({ tcbInfo: { pceId: "0001" } })[0]).toBe("PCE_ID_MISMATCH")
    expect(refused({ tcbInfo: { tcbType: 1 } })[0]).toBe("COLLATERAL_KIND")
    for (const [change, field] of [
      [{ mrsigner: "00".repeat(32) }, "mrSigner"],
      [{ isvprodid: 1 }, "isvProdId"],
      [{ miscselect: "00000001" }, "miscSelect"],
      [{ attributes: `13${"00".repeat(15)}` }, "attributes"],
    ] as const)
      expect(refused({ qeIdentity: change })).toEqual(["QE_IDENTITY_MISMATCH", `quote.qeReport.${field}`])
  })

  it("by a signer out of its dates, of another role, or left out, is refused", () => {
    const by = (tcbSigningChain: Uint8Array) => refused(withCollateral({ tcbSigningChain }))[0]
    expect(by(lab.certificate("tcbSigning", { notAfter: days(-1) }))).toBe("CERTIFICATE_EXPIRED")
    expect(by(lab.certificate("tcbSigning", { subject: "Intel SGX PCK Certificate" }))).toBe(
      "CERTIFICATE_ROLE",
    )
    expect(by(lab.certificate("pck"))).toBe("CERTIFICATE_ISSUER")
    expect(by(new Hierarchy().certificate("tcbSigning"))).toBe("CERTIFICATE_SIGNATURE")
    const { tcbSigningChain, ...without } = lab.collateral()
    expect(refused({ collateral: without })).toEqual(["COLLATERAL_MISSING", "collateral.tcbSigningChain"])
    const pem = Buffer.concat([pemOf(tcbSigningChain), pemOf(lab.certificate("root"))])
    expect(accepted(withCollateral({ tcbSigningChain: pem })).status.converged).toBe("UpToDate")
  })

  it("can't be judged at no time", () => {
    expect(refused({ options: { now: new Date(Number.NaN) } })[0]).toBe("TIME_INVALID")
  })
})

describe("the platform's level", () => {
  const lower = (components: readonly number[], at: number) =>
    components.map((svn, i) => (i === at ? svn - 1 : svn))
  const higher = (components: readonly number[], at: number) =>
    components.map((svn, i) => (i === at ? svn + 1 : svn))

  it.each(plainComponents.map((_, i) => i))("needs SGX component %i", (i) => {
    const levels = [level("UpToDate", { sgx: higher(plainComponents, i) }), level("OutOfDate")]
    const { platform } = accepted({ tcbInfo: { tcbLevels: levels } }).status
    expect(platform).toMatchObject({ status: "OutOfDate", levelsBehind: 1 })
  })

  it.each(plainTdxComponents.map((_, i) => i))(
    "needs TDX component %i, 0 and 1 only without module levels",
    (i) => {
      const levels = [
        level("UpToDate", { tdx: higher(plainTdxComponents, i) }),
        level("OutOfDate", { tdx: new Array(16).fill(0) }),
      ]
      const base = accepted({ tcbInfo: { tcbLevels: levels } })
      expect(base.status.platform.status).toBe("OutOfDate")
      const teeTcbSvn = plainTdxComponents.map((svn, at) => (at === 1 ? 1 : at === 0 ? 4 : svn))
      const higherStill = higher(plainTdxComponents, i).map((svn, at) => (at < 2 ? svn + 9 : svn))
      const modular = accepted({
        teeTcbSvn,
        tcbInfo: { tcbLevels: [level("UpToDate", { tdx: higherStill }), levels[1]] },
      })
      expect(modular.status.platform.status).toBe(i < 2 ? "UpToDate" : "OutOfDate")
    },
  )

  it("needs the PCE", () => {
    const levels = [
      level("UpToDate", { pceSvn: 12 }),
      level("OutOfDate", { pceSvn: 5, advisoryIDs: ["INTEL-SA-00001"] }),
    ]
    const { status } = accepted({ tcbInfo: { tcbLevels: levels } })
    expect([status.converged, status.advisories]).toEqual(["OutOfDate", ["INTEL-SA-00001"]])
  })

  it("must be there: none that fits is a refusal that says what the parts were", () => {
    const tcbLevels = [level("UpToDate", { sgx: higher(plainComponents, 0) })]
    const result = verify({ tcbInfo: { tcbLevels } })
    if (!(result instanceof TdxError)) expect.fail("was believed")
    expect([result.code, result.field]).toEqual(["TCB_LEVEL_NONE", "status.platform"])
    expect([result.status?.platform.status, result.status?.qe.status]).toEqual([
      "NoMatchingLevel",
      "UpToDate",
    ])
    expect(refused({ tcbInfo: { tcbLevels: [] } })[0]).toBe("TCB_LEVEL_NONE")
  })

  it.each([
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDateConfigurationNeeded",
  ])("may be %s", (status) => {
    expect(accepted({ tcbInfo: { tcbLevels: [level(status)] } }).status.converged).toBe(status)
  })

  it("is refused when it is revoked, or one of its parts is", () => {
    expect(refused({ tcbInfo: { tcbLevels: [level("Revoked")] } })[0]).toBe("TCB_REVOKED")
    expect(refused({ qeIdentity: { tcbLevels: [svnLevel(4, "Revoked")] } })[0]).toBe("TCB_REVOKED")
    const modules = [moduleOf("TDX_01", [svnLevel(1, "Revoked")])]
    const teeTcbSvn = [3, 1, ...plainTdxComponents.slice(2)]
    expect(refused({ teeTcbSvn, tcbInfo: { tdxModuleIdentities: modules } })[0]).toBe("TCB_REVOKED")
  })

  it("is taken from the first level that fits, not from the best", () => {
    const levels = [level("OutOfDate", { sgx: lower(plainComponents, 0) }), level("UpToDate")]
    expect(accepted({ tcbInfo: { tcbLevels: levels } }).status.platform.status).toBe("OutOfDate")
  })
})

describe("the TDX module", () => {
  const modular = (svn: number, major: number) => [svn, major, ...plainTdxComponents.slice(2)]

  it.each([
    [4, "UpToDate", "UpToDate"],
    [9, "UpToDate", "UpToDate"],
    [3, "OutOfDate", "OutOfDate"],
    [2, "OutOfDate", "OutOfDate"],
  ])("of version %i is %s", (svn, own, converged) => {
    const { status } = accepted({ teeTcbSvn: modular(svn, 1) })
    expect([status.module.identity, status.module.status, status.converged]).toEqual([
      "TDX_01",
      own,
      converged,
    ])
  })

  it("without a level or an identity is refused", () => {
    expect(refused({ teeTcbSvn: modular(1, 1) })).toEqual(["TCB_LEVEL_NONE", "status.module"])
    expect(refused({ teeTcbSvn: modular(4, 3) })).toEqual(["TDX_MODULE_MISMATCH", "quote.teeTcbSvn[1]"])
    expect(refused({ teeTcbSvn: modular(4, 1), tcbInfo: { tdxModuleIdentities: undefined } })[0]).toBe(
      "TDX_MODULE_MISMATCH",
    )
  })

  it("is found by its hexadecimal major version, in either case", () => {
    const modules = [moduleOf("TDX_0a", [svnLevel(1, "UpToDate")])]
    const { status } = accepted({ teeTcbSvn: modular(1, 10), tcbInfo: { tdxModuleIdentities: modules } })
    expect(status.module.identity).toBe("TDX_0A")
  })

  it.each([
    ["base", 0],
    ["TDX_01", 1],
  ] as const)("%s by another signer or with attributes is refused", (_, major) => {
    const teeTcbSvn = modular(4, major)
    const at = (offset: number) => ({ teeTcbSvn, change: (td: Uint8Array) => td.set([1], offset) })
    expect(refused(at(bodyAt.mrSignerSeam + 47))).toEqual(["TDX_MODULE_MISMATCH", "quote.mrSignerSeam"])
    expect(refused(at(bodyAt.seamAttributes))).toEqual(["TDX_MODULE_MISMATCH", "quote.seamAttributes"])
  })
})

describe("the quoting enclave", () => {
  it("makes a platform no better than it is itself", () => {
    const { status } = accepted({
      qeIdentity: { tcbLevels: [svnLevel(5, "UpToDate"), svnLevel(4, "OutOfDate", ["INTEL-SA-2"])] },
    })
    expect([status.platform.status, status.qe.status, status.converged]).toEqual([
      "UpToDate",
      "OutOfDate",
      "OutOfDate",
    ])
    expect(status.advisories).toEqual(["INTEL-SA-2"])
    expect(refused({ qeIdentity: { tcbLevels: [svnLevel(5, "UpToDate")] } })).toEqual([
      "TCB_LEVEL_NONE",
      "status.qe",
    ])
  })

  it.each([
    ["UpToDate", "OutOfDate"],
    ["SWHardeningNeeded", "OutOfDate"],
    ["ConfigurationNeeded", "OutOfDateConfigurationNeeded"],
    ["ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded"],
    ["OutOfDate", "OutOfDate"],
    ["OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"],
  ])("out of date on a platform that is %s makes %s", (platform, converged) => {
    const qeIdentity = { tcbLevels: [svnLevel(4, "OutOfDate")] }
    expect(accepted({ tcbInfo: { tcbLevels: [level(platform)] }, qeIdentity }).status.converged).toBe(
      converged,
    )
  })
})

describe("a TD that was launched before its module was updated", () => {
  const old = [2, 1, ...plainTdxComponents.slice(2)]
  const launched = (current: readonly number[], change: Case = {}) =>
    accepted({
      version: 5,
      body: "1.5",
      teeTcbSvn: old,
      change: (td) => td.set(current, bodyAt.teeTcbSvn2),
      ...change,
    }).status.converged
  const newest = [4, 1, ...plainTdxComponents.slice(2)]

  it("is advised to launch again where that is all that it needs", () => {
    expect(launched(newest)).toBe("TDRelaunchAdvised")
    expect(launched(newest, { tcbInfo: { tcbLevels: [level("ConfigurationNeeded")] } })).toBe(
      "TDRelaunchAdvisedConfigurationNeeded",
    )
  })

  it("stays out of date where it isn't", () => {
    expect(launched(old)).toBe("OutOfDate")
    expect(launched([3, 1, ...plainTdxComponents.slice(2)])).toBe("OutOfDate")
    expect(launched([4, 1, 4, ...plainTdxComponents.slice(3)])).toBe("OutOfDate")
    expect(launched(newest, { tcbInfo: { tcbLevels: [level("OutOfDate")] } })).toBe("OutOfDate")
    expect(launched(newest, { qeIdentity: { tcbLevels: [svnLevel(4, "OutOfDate")] } })).toBe("OutOfDate")
  })
})

describe("a quote's form", () => {
  const changed = (at: number, bytes: readonly number[]): Case => {
    const quote = lab.quote()
    quote.set(bytes, at)
    return { quote }
  }

  it.each([
    ["version 3", changed(0, [3]), "QUOTE_VERSION"],
    ["version 6", changed(0, [6]), "QUOTE_VERSION"],
    ["an SGX enclave's", changed(4, [0]), "QUOTE_NOT_TDX"],
    ["ECDSA P-384", changed(2, [3]), "QUOTE_VALUE"],
    ["another vendor's QE", changed(12, [0]), "QUOTE_VALUE"],
    ["too much signature data", changed(632, [0xff, 0xff]), "QUOTE_STRUCTURE"],
    ["too little signature data", changed(632, [0x10, 0]), "QUOTE_STRUCTURE"],
    ["certification data that isn't a QE report", changed(764, [5]), "QUOTE_VALUE"],
    ["nothing", { quote: new Uint8Array(0) }, "QUOTE_STRUCTURE"],
    ["too much", { quote: new Uint8Array(65_537) }, "QUOTE_LENGTH"],
    ["an attestation key of its own", changed(700, [1, 2, 3]), "ATTESTATION_KEY_MISMATCH"],
    ["a changed body", changed(200, [1, 2, 3]), "QUOTE_SIGNATURE"],
    ["a changed QE report", changed(800, [1, 2, 3]), "QE_REPORT_SIGNATURE"],
  ] as const)("%s: refused", (_, of, code) => {
    expect(refused(of)[0]).toBe(code)
  })

  it("in version 5 names its body", () => {
    const quote = lab.quote({ version: 5, body: "1.5" })
    quote[48] = 1
    expect(refused({ quote })[0]).toBe("QUOTE_NOT_TDX")
    quote[48] = 2
    expect(refused({ quote })[0]).toBe("QUOTE_STRUCTURE")
  })

  it("is genuine without collateral, and nothing more is said of it", () => {
    const result = verifyQuoteSignatures({ quote: lab.quote() }, { now, roots })
    expect(result).not.toBeInstanceOf(TdxError)
    expect(result).not.toHaveProperty("status")
    expect(hexOf((result as VerifiedTdx).platform.fmspc)).toBe("ee0000000001")
  })
})
