/** An AWS Nitro document against a workflow. */
import { describe, expect, it } from "vitest"
import type { HardwareRoot, Nitro } from "../../schemas/platforms.ts"
import { type AppraisalPolicy, appraise, NitroError, verifyNitro } from "../../services/evidence/index.ts"
import { claims, judge, outcome, policyOf } from "./appraisal-support.ts"
import { documentOf, madeAt, makeNitroLab, plainPcrs } from "./evidence-nitro-support.ts"
import { flippedAt, reportData } from "./evidence-support.ts"

const lab = makeNitroLab()
const { name: _, ...own } = lab.root
const root: HardwareRoot = own
const moduleId = "i-0123456789abcdef0-enc0123456789abcdef"
const plain: Nitro = { document: "enclave", pcrs: { "0": ["01".repeat(48)], "2": ["03".repeat(48)] } }

const policy = (change: Partial<Nitro> = {}, chip: string = moduleId): AppraisalPolicy =>
  policyOf({ assurance: "emulated", platforms: ["nitro"], nitro: { ...plain, ...change } }, [root], {
    nitro: chip,
  })

const documentBytes = (change: (fields: Map<string, unknown>) => void = () => undefined) =>
  documentOf(lab, (fields) => {
    fields.set("user_data", reportData)
    change(fields)
  })

const see = (
  asked: AppraisalPolicy = policy(),
  change?: (fields: Map<string, unknown>) => void,
  now = madeAt,
) => judge({ pieces: [{ kind: "nitro", document: documentBytes(change) }] }, asked, now)

const asTpm = (fields: Map<string, unknown>) => {
  fields.delete("pcrs")
  fields.set("nitrotpm_pcrs", plainPcrs())
  fields.set("module_id", "i-0123456789abcdef0-tpm0123456789abcdef")
}

describe("a Nitro document", () => {
  it("is accepted where all fits, by its enclave's name or its instance's", () => {
    expect(see()).toMatchObject({ verdict: "accepted", assurance: "emulated", platform: "nitro" })
    expect(outcome(see(policy({}, "i-0123456789abcdef0")))).toBe("accepted")
  })

  it("is refused by name for what it isn't", () => {
    expect(outcome(see(policy({}, "i-0123456789abcdef")))).toBe("chip-id")
    expect(outcome(see(policy({}, `${moduleId}0`)))).toBe("chip-id")
    expect(outcome(see({ ...policy(), assurance: "hardware" }))).toBe("assurance")
    expect(outcome(see(policy({ pcrs: { "0": ["02".repeat(48)] } })))).toBe("nitro-pcr-0")
    expect(outcome(see(policy({ pcrs: { "17": ["02".repeat(48)] } })))).toBe("nitro-pcr-17")
    expect(outcome(see(policy({ document: "tpm" })))).toBe("nitro-document")
    expect(outcome(see(policy(), asTpm))).toBe("chip-id")
    expect(outcome(see(policy({}, "i-0123456789abcdef0"), asTpm))).toBe("nitro-document")
    expect(outcome(see({ ...policy(), roots: [{ ...root, key_digest: "01".repeat(32) }] }))).toBe("genuine")
  })

  it("is refused for other report data, or without any", () => {
    for (const wrong of [new Uint8Array(64), reportData.subarray(1), null])
      expect(outcome(see(policy(), (fields) => fields.set("user_data", wrong)))).toBe("report-data")
    // Short data that fits short claims is nobody's report data.
    const short = Uint8Array.of(1, 2, 3)
    const document = documentBytes((fields) => fields.set("user_data", short))
    const fitting = { claims: { reportData: short } }
    expect(outcome(judge({ pieces: [{ kind: "nitro", document }] }, policy(), madeAt, fitting))).toBe(
      "report-data",
    )
    // A nonce that is right doesn't make up for it.
    const nonce = (fields: Map<string, unknown>) => {
      fields.set("user_data", null)
      fields.set("nonce", reportData)
    }
    expect(outcome(see(policy(), nonce))).toBe("report-data")
  })

  it("is refused in debug mode, whatever the workflow lists", () => {
    const debug = (fields: Map<string, unknown>) =>
      fields.set("pcrs", new Map([0, 1, 2].map((i) => [i, new Uint8Array(48)])))
    const zeros = ["00".repeat(48)]
    const appraisal = see(policy({ pcrs: { "0": zeros, "2": zeros } }), debug)
    expect(outcome(appraisal)).toBe("genuine")
    expect(appraisal.reason?.found).toContain("DEBUG_MODE")
    // Though verification, asked to only look, had let it pass.
    const verified = verifyNitro(
      { document: documentBytes(debug) },
      { now: madeAt, roots: [lab.root], debug: "accept" },
    )
    if (verified instanceof NitroError) throw verified
    const pieces = { platform: "nitro", kinds: ["nitro"], nitro: verified } as const
    const asked = policy({ pcrs: { "0": zeros, "2": zeros } })
    expect(outcome(appraise(pieces, asked, claims, madeAt))).toBe("nitro-debug")
  })

  it("is refused once its leaf has expired, and where a byte was changed", () => {
    const late = see(policy(), undefined, new Date(madeAt.getTime() + 4 * 3_600_000))
    expect(late.reason?.found).toContain("CERTIFICATE_EXPIRED")
    const document = flippedAt(documentBytes(), 200)
    expect(outcome(judge({ pieces: [{ kind: "nitro", document }] }, policy(), madeAt))).toBe("genuine")
  })

  it("of a NitroTPM is a TPM's: who can read the instance's memory, it doesn't say", () => {
    const demands = { platforms: ["nitro"], nitro: { ...plain, document: "tpm" } } as const
    expect(() => policyOf({ assurance: "hardware", ...demands }, [root], "any")).toThrow(/never "hardware"/)
    const asked = policy({ document: "tpm" }, "i-0123456789abcdef0")
    expect(outcome(see(asked, asTpm))).toBe("accepted")
    // As if the lab's root were AWS's own: no public sample of such a document is known.
    const genuine = { emulated: false, root: { ...lab.root, emulated: false } }
    const verified = verifyNitro({ document: documentBytes(asTpm) }, { now: madeAt, roots: [lab.root] })
    if (verified instanceof NitroError) throw verified
    const pieces = { platform: "nitro", kinds: ["nitro"], nitro: { ...verified, ...genuine } } as const
    const real = { ...asked, roots: [{ ...root, emulated: false }] }
    const as = (assurance: AppraisalPolicy["assurance"]) =>
      appraise(pieces, { ...real, assurance }, claims, madeAt)
    expect(as("tpm-only")).toMatchObject({ verdict: "accepted", assurance: "tpm-only" })
    expect(outcome(as("hardware"))).toBe("assurance")
  })
})
