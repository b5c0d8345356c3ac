/** EARs: what is claimed of which machine, how they are signed, and that no change of one goes unseen. */
import { execFileSync, spawnSync } from "node:child_process"
import { webcrypto } from "node:crypto"
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Evidence } from "../../schemas/messages/common.ts"
import type { RecordedVerdict } from "../../schemas/messages/record.ts"
import type { Chip, Demands, HardwareRoot } from "../../schemas/platforms.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import {
  createEarKey,
  type EarAlgorithm,
  EarError,
  type EarKey,
  earAlgorithms,
  earOf,
  jwksOf,
  readEar,
  readEarKey,
  readJwks,
  signEar,
  statusOf,
  vectorOf,
} from "../../services/evidence/ear/index.ts"
import { values } from "../../services/evidence/ear/vector.ts"
import { type CollateralLookup, tpmExtraData } from "../../services/evidence/index.ts"
import { packRecord, packVerdict, RecordError } from "../../services/evidence/record/index.ts"
import { judgeSubject, nodeRecord } from "../../services/guest/judge-record.ts"
import { Hierarchy } from "../support/tdx-lab.ts"
import { makeTpm, pcr, tdxPiece, tpmPiece } from "./appraisal-support.ts"
import { attested, documentOf, type Fleet, known, makeFleet, vouchsafe } from "./appraise-support.ts"
import { dataplane, hexOf, now, reportData } from "./evidence-support.ts"

let fleet: Fleet
let folder: string
const intel = new Hierarchy()
const tpm = makeTpm()

beforeAll(() => {
  fleet = makeFleet(1)
  folder = mkdtempSync(join(tmpdir(), "vouchsafe-ear-"))
}, 60_000)
afterAll(() => rmSync(folder, { recursive: true }))

const tdxDemands: Demands = {
  assurance: "emulated",
  platforms: ["tdx"],
  tdx: {
    mrtd: ["00".repeat(48)],
    rtmrs: { 1: ["00".repeat(48)], 2: ["00".repeat(48)] },
    tcb: { statuses: ["UpToDate"] },
  },
}
const tpmDemands: Demands = {
  assurance: "tpm-only",
  platforms: ["tpm"],
  tpm: { bank: "sha256", pcrs: { "7": ["07".repeat(32)] } },
}

/** A verdict on evidence of a machine that is the only one of its stage. */
const judged = (
  demands: Demands,
  roots: readonly HardwareRoot[],
  evidence: Evidence,
  chip: Chip | "any",
): RecordedVerdict => {
  const workflow = known(
    documentOf(fleet, (w) => ({
      ...w,
      roots: [...roots],
      stages: { source: { ...demands, dataplane: [dataplane] } },
      nodes: [{ id: "n1", stage: "source", chip, address: "10.0.0.1", wire: "10.9.0.1" }],
    })),
  )
  const lookup: CollateralLookup = { snp: () => ({}), tdx: () => intel.collateral() }
  return judgeSubject(
    crypto,
    {
      kind: "pieces",
      evidence,
      stage: "source",
      report_data: reportData,
      dataplane: Uint8Array.from(Buffer.from(dataplane, "hex")),
    },
    workflow,
    { at: now, collateral: lookup },
  ).verdict
}

const tdxVerdict = (chip: Chip | "any" = { tdx: "9d".repeat(16) }, change = {}) =>
  judged({ ...tdxDemands, ...change }, [intel.root], { pieces: [tdxPiece(intel)] }, chip)
const tpmVerdict = () =>
  judged(
    tpmDemands,
    [{ vendor: "tpm", use: "ak", key_digest: tpm.digest, emulated: false }],
    { pieces: [tpmPiece(tpm, { extraData: tpmExtraData(reportData), pcrs: [pcr(7, 7)] })] },
    { tpm: tpm.digest },
  )
/** As if the lab's root were the vendor's: no lab can make genuine hardware. */
const asHardware = (verdict: RecordedVerdict): RecordedVerdict => ({ ...verdict, assurance: "hardware" })

const change = (verdict: RecordedVerdict, name: string, to: object): RecordedVerdict => ({
  ...verdict,
  checks: verdict.checks.map((check) => (check.name === name ? { ...check, ...to } : check)),
})
const told = (verdict: RecordedVerdict) => {
  const vector = vectorOf(verdict)
  return { vector, status: statusOf(verdict, vector) }
}

describe("the trustworthiness vector", () => {
  it("affirms genuine hardware that was asked everything", () => {
    expect(tdxVerdict().verdict).toBe("accepted")
    expect(told(asHardware(tdxVerdict()))).toEqual({
      status: "affirming",
      vector: {
        "instance-identity": 2,
        configuration: 2,
        executables: 3,
        hardware: 2,
        "runtime-opaque": 2,
      },
    })
  })

  it("contraindicates emulated machines, accepted or not, and claims nothing else of them", () => {
    const verdict = tdxVerdict()
    expect(verdict).toMatchObject({ verdict: "accepted", assurance: "emulated" })
    expect(told(verdict)).toEqual({
      status: "contraindicated",
      vector: { "instance-identity": 96, hardware: 97, "runtime-opaque": 96 },
    })
  })

  it("says nothing of hardware and opacity for a lone TPM", () => {
    const verdict = tpmVerdict()
    expect(verdict).toMatchObject({ verdict: "accepted", assurance: "tpm-only" })
    expect(told(verdict).vector).toEqual({ "instance-identity": 2, executables: 3 })
    const inNitro = {
      name: "nitro-document",
      result: "passed",
      found: "nitro-tpm",
      wanted: "nitro-tpm",
    } as const
    const nitro = { ...verdict, platform: "nitro nitro-tpm", checks: [...verdict.checks, inNitro] }
    expect(told(nitro).vector).toEqual({ "instance-identity": 2, executables: 3 })
  })

  it("knows no machine where any would do", () => {
    expect(vectorOf(asHardware(tdxVerdict("any")))).not.toHaveProperty("instance-identity")
  })

  it("warns of a TCB that is behind, and of an enclave's opacity", () => {
    const hardware = asHardware(tdxVerdict())
    for (const found of ["OutOfDate; platform out of date; within grace", "SWHardeningNeeded"])
      expect(told(change(hardware, "tcb-status", { found }))).toMatchObject({
        status: "warning",
        vector: { hardware: 32 },
      })
    expect(told({ ...hardware, platform: "nitro nitro-enclave" })).toMatchObject({
      status: "warning",
      vector: { "runtime-opaque": 32 },
    })
  })

  it("sees debug even where a policy allows it", () => {
    const debug = [{ name: "debug", result: "passed", found: "set", wanted: "either" } as const]
    const hardware = asHardware(tdxVerdict())
    expect(told({ ...hardware, checks: [...hardware.checks, ...debug] })).toMatchObject({
      status: "contraindicated",
      vector: { configuration: 96, "runtime-opaque": 96 },
    })
  })

  it("puts each failure where it belongs, and every refusal among the contraindicated", () => {
    const hardware = asHardware(tdxVerdict())
    for (const [name, claim, value] of [
      ["chip-id", "instance-identity", 97],
      ["sept-ve-disable", "configuration", 96],
      ["mrtd", "executables", 33],
      ["dataplane", "executables", 33],
      ["tcb-status", "hardware", 97],
      ["revocation", "hardware", 97],
    ] as const) {
      const refused = change({ ...hardware, verdict: "refused" }, name, { result: "failed" })
      expect([name, told(refused).vector[claim], told(refused).status]).toEqual([
        name,
        value,
        "contraindicated",
      ])
    }
    const forged = judged(
      tdxDemands,
      [intel.root],
      { pieces: [{ ...tdxPiece(intel), quote: new Uint8Array(1_200) }] },
      "any",
    )
    expect(told(forged)).toEqual({ status: "contraindicated", vector: { hardware: 97 } })
  })

  it("is what the table of the README says", () => {
    const path = fileURLToPath(new URL("../../services/evidence/ear/README.md", import.meta.url))
    const rows = readFileSync(path, "utf8").matchAll(/^\| (?:`([\w-]+)`)? *\| (\d+) +\|/gm)
    const table: Record<string, number[]> = {}
    let claim = ""
    for (const [, name, value] of rows) {
      claim = name ?? claim
      table[claim] = [...(table[claim] ?? []), Number(value)].sort((a, b) => a - b)
    }
    const ours = Object.entries(values).map(([name, own]) => [
      name,
      Object.values(own).sort((a: number, b: number) => a - b),
    ])
    expect(table).toEqual(Object.fromEntries(ours))
  })
})

/** Somebody else's library: it reads the key as we publish it, and the dates by a clock that we set. */
const pyJwt = `
import json, sys, jwt
from datetime import datetime, timezone
asked = json.load(sys.stdin)
class At(datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.fromtimestamp(asked["at"], tz)
jwt.api_jwt.datetime = At
key = jwt.PyJWK.from_dict(asked["jwk"]).key
def take(token, algorithm):
    try:
        claims = jwt.decode(token, key, algorithms=[algorithm])
        return ["taken", claims["eat_profile"], claims["submods"]["machine"]["ear_status"]]
    except jwt.InvalidTokenError as error:
        return [type(error).__name__]
print(json.dumps([take(*one) for one in asked["tokens"]]))
`
const havePyJwt = spawnSync("/usr/bin/python3", ["-c", "import jwt, cryptography"]).status === 0
if (!havePyJwt) console.warn("NO EAR GIVEN TO PYJWT: 2 tokens skipped, for python3-jwt isn't installed")

const order = (verdict: RecordedVerdict) => ({
  verdict,
  attester: { node: "n1", dataplane },
  build: "0.1.0",
  now,
  validSeconds: 300,
})

describe("a token", () => {
  const keys = earAlgorithms.map((algorithm) => createEarKey(algorithm))
  const claims = () => earOf(order(asHardware(tdxVerdict())))

  it.each(earAlgorithms)("of %s is one that others verify", async (algorithm: EarAlgorithm) => {
    const key = keys.find((one) => one.key.algorithm === algorithm)
    if (key === undefined) throw new Error("no key")
    const token = signEar(claims(), key.key)
    const [header = "", body = "", signature = ""] = token.split(".")
    const { keys: jwks } = JSON.parse(JSON.stringify(jwksOf([key.key]))) as {
      keys: (webcrypto.JsonWebKey & { readonly kid: string })[]
    }
    const [jwk] = jwks
    if (jwk === undefined) throw new Error("no JWK")
    const named = algorithm === "EdDSA" ? { name: "Ed25519" } : { name: "ECDSA", namedCurve: "P-256" }
    const own = await webcrypto.subtle.importKey("jwk", jwk, named, true, ["verify"])
    const how = algorithm === "EdDSA" ? named : { name: "ECDSA", hash: "SHA-256" }
    const bytes = Buffer.from(signature, "base64url")
    expect(bytes).toHaveLength(64)
    expect(await webcrypto.subtle.verify(how, own, bytes, Buffer.from(`${header}.${body}`))).toBe(true)
    expect(JSON.parse(Buffer.from(header, "base64url").toString())).toEqual({
      alg: algorithm,
      typ: "eat+jwt",
      kid: jwk.kid,
    })
    expect(JSON.stringify(jwks)).not.toContain('"d"')
    expect(readEar(token, readJwks(JSON.stringify({ keys: jwks })))).toMatchObject({
      signature: "right",
      claims: {
        eat_profile: "tag:ietf.org,2026:rats/ear#04",
        submods: { machine: { ear_status: "affirming" } },
      },
    })
    expect(readEarKey(Buffer.from(key.pem), "key").id).toBe(jwk.kid)
  })

  it.each(earAlgorithms)(
    "of %s is taken by PyJWT, until it is over, and not when it is changed",
    (algorithm) => {
      if (!havePyJwt) return
      const key = keys.find((one) => one.key.algorithm === algorithm)
      if (key === undefined) throw new Error("no key")
      const token = signEar(claims(), key.key)
      const [header = "", body = "", signature = ""] = token.split(".")
      const other = algorithm === "EdDSA" ? "ES256" : "EdDSA"
      const changed = Buffer.from(body, "base64url").toString().replace("affirming", "Affirming")
      const asked = {
        jwk: JSON.parse(JSON.stringify(jwksOf([key.key]))).keys[0],
        tokens: [
          [token, algorithm],
          [`${header}.${Buffer.from(changed).toString("base64url")}.${signature}`, algorithm],
          [token, other],
          [token.slice(0, -4), algorithm],
        ],
        at: now.getTime() / 1_000,
      }
      const said = execFileSync("/usr/bin/python3", ["-c", pyJwt], {
        input: JSON.stringify(asked),
        timeout: 60_000,
      })
      expect(JSON.parse(said.toString())).toEqual([
        ["taken", "tag:ietf.org,2026:rats/ear#04", "affirming"],
        ["InvalidSignatureError"],
        ["InvalidAlgorithmError"],
        [expect.stringMatching(/^(InvalidSignatureError|DecodeError)$/)],
      ])
    },
  )

  const isRight = (token: string, key: EarKey): boolean => {
    try {
      return readEar(token, [key]).signature === "right"
    } catch (error) {
      if (error instanceof EarError) return false
      throw error
    }
  }

  it("is seen through at every change of a character", () => {
    for (const { key } of keys) {
      const token = signEar(claims(), key)
      let wrong = 0
      // The last character has spare bits: other characters stand for the same bytes.
      for (const last of "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
        const other = `${token.slice(0, -1)}${last}`
        expect(isRight(other, key)).toBe(other === token)
      }
      for (let i = 0; i < token.length; i += 13) {
        const other = `${token.slice(0, i)}${token[i] === "A" ? "B" : "A"}${token.slice(i + 1)}`
        expect(isRight(other, key)).toBe(false)
        wrong += 1
      }
      expect(wrong).toBeGreaterThan(100)
    }
  })

  it("doesn't choose how it is verified", () => {
    const [ed, es] = keys
    if (ed === undefined || es === undefined) throw new Error("no keys")
    const token = signEar(claims(), ed.key)
    const [, body = "", signature = ""] = token.split(".")
    const header = (content: object) => Buffer.from(JSON.stringify(content)).toString("base64url")
    const forged = (content: object) => `${header(content)}.${body}.${signature}`
    expect(readEar(forged({ alg: "ES256" }), [ed.key]).signature).toBe("unknown")
    expect(readEar(forged({ alg: "ES256" }), [ed.key, es.key]).signature).toBe("wrong")
    expect(readEar(token, []).signature).toBe("unknown")
    for (const content of [{ alg: "none" }, { alg: "HS256" }, { alg: "EdDSA", crit: ["b64"] }, [], null])
      expect(() => readEar(forged(content as object), [ed.key])).toThrow(EarError)
    for (const text of ["", "a.b", "a.b.c.d", `${token}=`, "x".repeat(300_000), `${"A".repeat(10)}.e30.AA`])
      expect(() => readEar(text, [ed.key])).toThrow(EarError)
  })

  it("isn't made of what nobody asked, of what is old, or with another kind of key", () => {
    const code = (run: () => unknown) => {
      try {
        run()
        return "nothing"
      } catch (error) {
        if (error instanceof RecordError || error instanceof EarError) return error.code
        throw error
      }
    }
    const unasked = change(tdxVerdict(), "report-data", { result: "not-applicable", wanted: "nobody asked" })
    expect(code(() => earOf(order(unasked)))).toBe("QUESTION_UNKNOWN")
    const later = new Date(now.getTime() + 301_000)
    expect(code(() => earOf({ ...order(tdxVerdict()), now: later }))).toBe("VERDICT_TOO_OLD")
    expect(
      code(() =>
        readEarKey(Buffer.from("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"), "key"),
      ),
    ).toBe("KEY_UNFIT")
    expect(code(() => readJwks('{"keys":[{"kty":"oct","k":"AAAA"}]}'))).toBe("KEY_UNFIT")
    expect(code(() => readJwks("[]"))).toBe("KEY_UNFIT")
  })

  it("of a refusal repeats nothing that the evidence claims", () => {
    const { submods } = earOf(order({ ...tdxVerdict(), verdict: "refused", code: "MRTD" }))
    expect(submods.machine?.ear_attester_claims.vouchsafe).toEqual({ platform: "tdx ee0000000001" })
  })
})

it("nothing but the operator's tool knows EARs", () => {
  const services = fileURLToPath(new URL("../../services", import.meta.url))
  const files = readdirSync(services, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".ts"),
  )
  const users = files.filter((name) =>
    /from "[^"]*\/ear(?:\/[\w-]+)?\.ts"/.test(readFileSync(join(services, name), "utf8")),
  )
  const outside = users.filter((name) => !name.startsWith("evidence/ear/"))
  expect(outside.length).toBeGreaterThan(0)
  expect(outside.every((name) => /^cli\/result-[\w-]+\.ts$/.test(name))).toBe(true)
})

describe("vouchsafe result", () => {
  it("exports what it shows", async () => {
    const keys = join(folder, "keys")
    expect(await vouchsafe(["result", "keygen", keys])).toMatchObject({ status: 0, err: "" })
    expect(statSync(join(keys, "ear-es256.pem")).mode & 0o777).toBe(0o600)
    expect((await vouchsafe(["result", "keygen", keys])).status).toBe(2)
    const workflow = known(documentOf(fleet))
    const { verdict, evidence, asked } = attested(fleet, 0, workflow)
    const at = new Date()
    const record = nodeRecord(verdict, evidence, asked, at)
    const path = join(folder, "n1.record")
    const { verdict: own } = judgeSubject(crypto, record.subject, workflow, { at })
    writeFileSync(
      path,
      packRecord({
        ...record,
        workflow: { digest: workflow.digest, document: workflow.bytes },
        verdict: packVerdict(own),
      }),
    )
    const out = join(folder, "out")
    const exported = await vouchsafe(["result", "export", path, "--keys", keys, "--out", out])
    expect(exported).toMatchObject({ status: 0, err: "" })
    for (const [name, algorithm] of [
      ["n1.eddsa.jwt", "EdDSA"],
      ["n1.es256.jwt", "ES256"],
    ] as const) {
      const shown = await vouchsafe(["result", "show", join(out, name), "--keys", keys, "--json"])
      const told = JSON.parse(shown.out)
      expect([shown.status, told.signature, told.algorithm]).toEqual([0, "right", algorithm])
      const { ear_status, ear_attester_claims } = told.claims.submods.n1
      expect(ear_status).toBe("contraindicated")
      expect(ear_attester_claims.vouchsafe).toMatchObject({
        chip: hexOf(fleet.chips[0]?.chipId ?? new Uint8Array(0)),
        dh_key: hexOf(evidence.claims.dh_key),
      })
    }
    const shown = await vouchsafe(["result", "show", join(out, "n1.eddsa.jwt")])
    expect(shown.out).toContain("not checked: name the signer's keys with --keys")
    expect(shown.out).toContain("CONTRAINDICATED  n1, sev-snp Milan (EMULATED)")
  }, 240_000)
})
