/** A verifier's verdict on a node's answer, for a node of every platform: what it signs, and by which name it refuses. */
import { beforeAll, describe, expect, it } from "vitest"
import { stringify } from "yaml"
import { AttestationResult, type NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Piece } from "../../schemas/messages/common.ts"
import type { Chip, Demands, HardwareRoot } from "../../schemas/platforms.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import {
  type CollateralLookup,
  type EmulatedChip,
  type EmulatedRoot,
  EvidenceCaches,
  launchGuest,
  tpmExtraData,
} from "../../services/evidence/index.ts"
import {
  appraiseNode,
  type Outstanding,
  type Verdict,
  type Verifier,
} from "../../services/guest/appraise-node.ts"
import { parseWorkflow } from "../../services/make/workflow-document.ts"
import { answerTo, askedOf, claimsFor } from "../support/node-evidence.ts"
import { Hierarchy } from "../support/tdx-lab.ts"
import { makeTpm, tdxPiece, tpmPiece } from "./appraisal-support.ts"
import { documentOf, makeNitroLab, madeAt as nitroMadeAt } from "./evidence-nitro-support.ts"
import { dataplane, hexOf, makeChip, makeRoot, measurement, now as plainNow } from "./evidence-support.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex, "hex"))

let amd: EmulatedRoot
let chip: EmulatedChip
const intel = new Hierarchy()
const nitro = makeNitroLab()
const tpm = makeTpm()

beforeAll(() => {
  amd = makeRoot()
  chip = makeChip(amd)
})

type Section = "sev_snp" | "tdx" | "tpm" | "nitro"

const sections = (): Required<Pick<Demands, Section>> => ({
  sev_snp: {
    measurements: [hexOf(measurement)],
    policy: { debug: false, migration_agent: false, vmpl_max: 0 },
  },
  tdx: {
    mrtd: ["00".repeat(48)],
    rtmrs: { 1: ["00".repeat(48)], 2: ["00".repeat(48)] },
    tcb: { statuses: ["UpToDate"] },
  },
  tpm: { bank: "sha256", pcrs: { "7": ["07".repeat(32)] } },
  nitro: { document: "enclave", pcrs: { "0": ["01".repeat(48)] } },
})

interface Machine {
  readonly platform: Demands["platforms"][number]
  readonly sections: readonly Section[]
  readonly chip: () => Chip
  readonly pieces: (reportData: Uint8Array) => Piece[]
  readonly assurance: Demands["assurance"]
  /** As results carry it. */
  readonly result: () => { readonly platform: string; readonly chip: Uint8Array }
  readonly now?: Date
}

const moduleId = "i-0123456789abcdef0-enc0123456789abcdef"
const snp = (data: Uint8Array): Piece => ({
  kind: "snp",
  report: launchGuest(chip, { measurement }).report(data),
  certificates: [...chip.certificates],
})
const quote = (data: Uint8Array) => tpmPiece(tpm, { extraData: tpmExtraData(data) })

const machines: Readonly<Record<string, Machine>> = {
  snp: {
    platform: "sev-snp",
    sections: ["sev_snp"],
    chip: () => ({ sev_snp: hexOf(chip.chipId) }),
    pieces: (data) => [snp(data)],
    assurance: "emulated",
    result: () => ({ platform: "sev-snp Milan", chip: chip.chipId }),
  },
  tdx: {
    platform: "tdx",
    sections: ["tdx"],
    chip: () => ({ tdx: "9d".repeat(16) }),
    pieces: (data) => [tdxPiece(intel, { reportData: data })],
    assurance: "emulated",
    result: () => ({ platform: "tdx ee0000000001", chip: filled(16, 0x9d) }),
  },
  tpm: {
    platform: "tpm",
    sections: ["tpm"],
    chip: () => ({ tpm: tpm.digest }),
    pieces: (data) => [quote(data)],
    assurance: "tpm-only",
    result: () => ({ platform: "tpm", chip: bytesOf(tpm.digest) }),
  },
  nitro: {
    platform: "nitro",
    sections: ["nitro"],
    chip: () => ({ nitro: moduleId }),
    pieces: (data) => [
      { kind: "nitro", document: documentOf(nitro, (fields) => fields.set("user_data", data)) },
    ],
    assurance: "emulated",
    result: () => ({ platform: "nitro nitro-enclave", chip: Uint8Array.from(Buffer.from(moduleId)) }),
    now: nitroMadeAt,
  },
  "snp and tpm": {
    platform: "sev-snp+tpm",
    sections: ["sev_snp", "tpm"],
    chip: () => ({ sev_snp: hexOf(chip.chipId), tpm: tpm.digest }),
    pieces: (data) => [snp(data), quote(data)],
    assurance: "emulated",
    result: () => ({ platform: "sev-snp+tpm Milan", chip: chip.chipId }),
  },
}

const roots = (): HardwareRoot[] => {
  const { name: _, ...aws } = nitro.root
  return [
    amd.hardwareRoot,
    intel.root,
    aws,
    { vendor: "tpm", use: "ak", key_digest: tpm.digest, emulated: false },
  ]
}

const verifier: Verifier = {
  crypto,
  instance: "v1",
  control: "cp",
  caches: new EvidenceCaches(),
  collateral: (): CollateralLookup => ({ snp: () => ({}), tdx: () => intel.collateral() }),
}

const askedFor = (machine: Machine, pinned: Chip | "any" | "pending" = machine.chip()): Outstanding => {
  const all = sections()
  const document = parseWorkflow(
    stringify(
      {
        workflow: "example",
        domain: "lab",
        version: 1,
        not_after: "2030-01-01T00:00:00Z",
        suite: "chacha20-poly1305",
        lease_seconds: 30,
        roots: roots(),
        stages: {
          source: {
            assurance: machine.assurance,
            platforms: [machine.platform],
            ...Object.fromEntries(machine.sections.map((section) => [section, all[section]])),
            dataplane: [dataplane],
          },
        },
        nodes: [{ id: "n1", stage: "source", chip: pinned, address: "10.77.0.1", wire: "10.99.0.11" }],
        edges: [],
      },
      { aliasDuplicateObjects: false },
    ),
  )
  return askedOf({ document, digest: filled(32, 4) })
}

const dh = crypto.x25519.generate()
const signing = crypto.ed25519.generate()

const answerOf = (machine: Machine, asked: Outstanding): NodeEvidence =>
  answerTo(asked, machine.pieces, claimsFor(asked, { signing_key: signing.publicKey, dh_key: dh.publicKey }))

const codeOf = (verdict: Verdict): string => (verdict.accepted ? "accepted" : verdict.code)

describe.each(Object.entries(machines))("a node with %s", (_, machine) => {
  const now = machine.now ?? plainNow
  const see = (change: (evidence: NodeEvidence) => NodeEvidence = (e) => e, asked = askedFor(machine)) =>
    appraiseNode(verifier, change(answerOf(machine, asked)), asked, now)

  it("is vouched for, by what it is and which machine it is, in a result that can be sent", () => {
    const verdict = see()
    if (!verdict.accepted) throw new Error(`${verdict.code}: ${JSON.stringify(verdict.reason)}`)
    expect(verdict.result).toMatchObject({
      ...machine.result(),
      assurance: machine.assurance,
      stage: "source",
    })
    const sent = encode(AttestationResult, verdict.result)
    expect(decode(AttestationResult, sent, { subject: "result" })).toEqual({
      ok: true,
      value: verdict.result,
    })
  })

  it("is refused for claims that its evidence doesn't bind", () => {
    const wanted = machine.platform === "tpm" ? "TPM_REPORT_DATA" : "REPORT_DATA"
    const boot = see((e) => ({ ...e, claims: { ...e.claims, boot: filled(16, 8) } }))
    expect(codeOf(boot)).toBe(wanted)
    const keys = see((e) => ({ ...e, claims: { ...e.claims, signing_key: dh.publicKey } }))
    expect(codeOf(keys)).toBe(wanted)
  })

  it("is refused for claims that the challenge doesn't fit, before all else", () => {
    expect(codeOf(see((e) => ({ ...e, claims: { ...e.claims, nonce: filled(32, 9) } })))).toBe("NONCE")
    expect(codeOf(see((e) => ({ ...e, claims: { ...e.claims, challenge: filled(32, 9) } })))).toBe(
      "CHALLENGE",
    )
    expect(codeOf(see((e) => ({ ...e, claims: { ...e.claims, workflow: filled(32, 9) } })))).toBe("WORKFLOW")
    expect(codeOf(see((e) => ({ ...e, claims: { ...e.claims, control: filled(32, 9) } })))).toBe(
      "CONTROL_PLANE",
    )
  })

  it("is refused with another machine's place, another data plane, and evidence of another kind", () => {
    const [kind = "", id = ""] = Object.entries(machine.chip())[0] ?? []
    const other = kind === "nitro" ? `${id}0` : `${id.slice(0, -2)}aa`
    expect(codeOf(see(undefined, askedFor(machine, { ...machine.chip(), [kind]: other })))).toBe("CHIP_ID")
    const pieces = [...machine.pieces(filled(64, 1)), quote(filled(64, 1))]
    expect(codeOf(see((e) => ({ ...e, evidence: { pieces } })))).toBe("PLATFORM")
  })

  it("is refused when what it shows or what it is was revoked, or its time is over, and named while it is pending", () => {
    const under = (change: (document: Workflow) => Workflow) => {
      const asked = askedFor(machine)
      const { workflow } = asked
      return codeOf(
        see(undefined, { ...asked, workflow: { ...workflow, document: change(workflow.document) } }),
      )
    }
    const until = (end: Date) => (document: Workflow) => ({
      ...document,
      stages: Object.fromEntries(
        Object.entries(document.stages).map(([id, stage]) => [
          id,
          { ...stage, until: { [dataplane]: end.toISOString().replace(/\.\d+Z$/, "Z") } },
        ]),
      ),
    })
    expect(under(until(new Date(now.getTime() + 60_000)))).toBe("accepted")
    expect(under(until(new Date(now.getTime() - 60_000)))).toBe("DATAPLANE")
    expect(under((document) => ({ ...document, revoked: { chips: [machine.chip()] } }))).toBe("REVOKED")
    expect(under((document) => ({ ...document, revoked: { measurements: [dataplane] } }))).toBe("DATAPLANE")
    const pending = see(undefined, askedFor(machine, "pending"))
    expect(codeOf(pending)).toBe("CHIP_ID")
    const [[kind = ""] = []] = Object.entries(machine.chip())
    expect(pending).toMatchObject({ chip: { [kind]: expect.any(String) } })
  })

  it("is refused with the verification's own code where a byte of it was changed", () => {
    const flip = (bytes: Uint8Array) => bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 1 : byte))
    const verdict = see((e) => ({
      ...e,
      evidence: {
        pieces: e.evidence.pieces.map((piece, i) => {
          if (i > 0) return piece
          if (piece.kind === "snp") return { ...piece, report: flip(piece.report) }
          if (piece.kind === "tdx") return { ...piece, quote: flip(piece.quote) }
          if (piece.kind === "tpm") return { ...piece, attest: flip(piece.attest) }
          return { ...piece, document: flip(piece.document) }
        }),
      },
    }))
    expect(verdict.accepted).toBe(false)
    expect(codeOf(verdict)).not.toBe("GENUINE")
    if (!verdict.accepted) expect(verdict.reason.name).toBe("genuine")
  })

  it("whose evidence nobody can read is refused, and nothing is thrown", () => {
    for (const bytes of [new Uint8Array(0), filled(1_184, 0xff)]) {
      const pieces: Piece[] = [
        { kind: "snp", report: bytes, certificates: [bytes, bytes] },
        { kind: "tdx", quote: bytes, certificates: [], event_log: bytes },
        {
          kind: "tpm",
          attest: bytes,
          signature: bytes,
          ak: bytes,
          certificates: [bytes],
          hcl_report: bytes,
          pcrs: [],
          boot_log: bytes,
        },
        { kind: "nitro", document: bytes },
      ]
      for (const piece of pieces)
        expect(see((e) => ({ ...e, evidence: { pieces: [piece] } })).accepted).toBe(false)
      expect(see((e) => ({ ...e, evidence: { pieces } })).accepted).toBe(false)
    }
  })
})

describe("a machine that can't be told from others", () => {
  it("is refused, also where the workflow takes any", () => {
    const long = `i-0123456789abcdef0-enc${"0".repeat(60)}`
    const machine: Machine = {
      platform: "nitro",
      sections: ["nitro"],
      chip: () => ({ nitro: "i-0123456789abcdef0" }),
      pieces: (data) => [
        {
          kind: "nitro",
          document: documentOf(nitro, (fields) => fields.set("user_data", data).set("module_id", long)),
        },
      ],
      assurance: "emulated",
      result: () => ({ platform: "", chip: new Uint8Array(0) }),
    }
    const asked = askedFor(machine, "any")
    const verdict = appraiseNode(verifier, answerOf(machine, asked), asked, nitroMadeAt)
    expect(codeOf(verdict)).toBe("CHIP_KNOWN")
  })
})
