/** A TPM alone against a workflow: whose key, whose question, which registers, and what the log names in them. */
import { describe, expect, it } from "vitest"
import type { HardwareRoot, Tpm } from "../../schemas/platforms.ts"
import { type AppraisalPolicy, eventTypes, tpmExtraData } from "../../services/evidence/index.ts"
import {
  checkOf,
  claims,
  judge,
  type LogLine,
  logOf,
  makeTpm,
  outcome,
  pcr,
  policyOf,
  type QuoteContent,
  secureBootLine,
  separatorLine,
  sha256,
  tpmPiece,
} from "./appraisal-support.ts"
import { flippedAt, hexOf, now, reportData } from "./evidence-support.ts"

const tpm = makeTpm()
const other = makeTpm()
const root = (change: object = {}): HardwareRoot => ({
  vendor: "tpm",
  use: "ak",
  key_digest: tpm.digest,
  emulated: false,
  ...change,
})
const plain: Tpm = { bank: "sha256", pcrs: { "7": ["07".repeat(32)] } }

const policy = (change: Partial<Tpm> = {}, roots = [root()]): AppraisalPolicy =>
  policyOf({ assurance: "tpm-only", platforms: ["tpm"], tpm: { ...plain, ...change } }, roots, {
    tpm: tpm.digest,
  })

const see = (content: QuoteContent = {}, change: Partial<Tpm> = {}) =>
  judge({ pieces: [tpmPiece(tpm, content)] }, policy(change), now)

describe("a TPM alone", () => {
  it("is accepted where all fits, and never for more than it is", () => {
    expect(see()).toMatchObject({ verdict: "accepted", assurance: "tpm-only", platform: "tpm" })
    expect(outcome(judge({ pieces: [tpmPiece(tpm)] }, { ...policy(), assurance: "hardware" }, now))).toBe(
      "assurance",
    )
  })

  it("is no hardware in any workflow", () => {
    expect(() =>
      policyOf({ assurance: "hardware", platforms: ["tpm"], tpm: plain }, [root()], { tpm: tpm.digest }),
    ).toThrow(/never "hardware"/)
  })

  it("is emulated where the operator says that its key is", () => {
    const emulated = policy({}, [root({ emulated: true })])
    expect(judge({ pieces: [tpmPiece(tpm)] }, emulated, now)).toMatchObject({ assurance: "emulated" })
    expect(outcome(judge({ pieces: [tpmPiece(tpm)] }, emulated, now))).toBe("assurance")
    expect(outcome(judge({ pieces: [tpmPiece(tpm)] }, { ...emulated, assurance: "emulated" }, now))).toBe(
      "accepted",
    )
  })

  it("is refused for another question", () => {
    for (const wrong of [new Uint8Array(32), reportData, reportData.subarray(0, 32), new Uint8Array(0)])
      expect(outcome(see({ extraData: wrong }))).toBe("tpm-report-data")
    const piece = tpmPiece(tpm)
    const asked = { extraData: tpmExtraData(new Uint8Array(64)) }
    expect(outcome(judge({ pieces: [piece] }, policy(), now, { claims: asked }))).toBe("tpm-report-data")
  })

  it("is refused for a key that nothing names, and for one that isn't the node's", () => {
    const foreign = { pieces: [tpmPiece(other)] }
    expect(outcome(judge(foreign, policy(), now))).toBe("chip-id")
    expect(checkOf(judge(foreign, policy(), now), "tpm-key")).toMatchObject({
      result: "failed",
      found: `BINDING_KEY_UNNAMED ak: ${other.digest}`,
    })
    const both = policy({}, [root(), root({ key_digest: other.digest })])
    expect(outcome(judge(foreign, both, now))).toBe("chip-id")
    expect(outcome(judge(foreign, { ...policy(), chips: "any" }, now))).toBe("tpm-key")
    expect(outcome(judge(foreign, { ...both, chips: "any" }, now))).toBe("accepted")
    // An issuer's key is nobody's attestation key.
    const issuer = policy({}, [root({ use: "issuer" })])
    expect(outcome(judge({ pieces: [tpmPiece(tpm)] }, issuer, now))).toBe("tpm-key")
  })

  it("is refused for a quote that was changed, or values that aren't the quote's", () => {
    const piece = tpmPiece(tpm)
    for (const changed of [
      { ...piece, attest: flippedAt(piece.attest, piece.attest.length - 1) },
      { ...piece, signature: flippedAt(piece.signature, 20) },
      { ...piece, pcrs: [pcr(7, 8)] },
      { ...piece, pcrs: [...piece.pcrs, ...piece.pcrs] },
      { ...piece, pcrs: [] },
      { ...piece, ak: other.spki },
      { ...piece, attest: new Uint8Array(0) },
    ])
      expect(outcome(judge({ pieces: [changed] }, policy(), now))).toBe("genuine")
  })

  it("is refused for a register of another value, of another bank, or that the quote leaves out", () => {
    expect(outcome(see({ pcrs: [pcr(7, 8)] }))).toBe("tpm-pcr-7")
    expect(outcome(see({ pcrs: [pcr(8, 7)] }))).toBe("tpm-pcr-7")
    expect(outcome(see({ pcrs: [pcr(7, 7, "sha384")] }))).toBe("tpm-pcr-7")
    expect(checkOf(see({ pcrs: [pcr(8, 7)] }), "tpm-pcr-7")?.found).toBe(
      "not covered by the quote in the sha256 bank",
    )
    const two = { pcrs: { "4": ["04".repeat(32), "44".repeat(32)], "7": ["07".repeat(32)] } }
    expect(outcome(see({ pcrs: [pcr(4, 0x44), pcr(7, 7), pcr(11, 1)] }, two))).toBe("accepted")
    expect(outcome(see({ pcrs: [pcr(7, 7)] }, two))).toBe("tpm-pcr-4")
  })

  it("is refused beside what isn't asked for, twice, and instead of it", () => {
    const piece = tpmPiece(tpm)
    expect(outcome(judge({ pieces: [piece, piece] }, policy(), now))).toBe("platform")
    expect(
      outcome(judge({ pieces: [piece] }, { ...policy(), platforms: ["sev-snp", "sev-snp+tpm"] }, now)),
    ).toBe("platform")
    const { tpm: _, ...withoutSection } = policy()
    expect(outcome(judge({ pieces: [piece] }, withoutSection, now))).toBe("tpm")
  })

  it("brings no machine of two kinds of evidence that make none", () => {
    const piece = tpmPiece(tpm)
    const nitro = { kind: "nitro", document: Uint8Array.of(1) } as const
    const appraisal = judge({ pieces: [piece, nitro] }, policy(), now)
    expect(outcome(appraisal)).toBe("platform")
    expect(appraisal.platform).toBeUndefined()
    expect(appraisal.assurance).toBeUndefined()
    expect(appraisal.checks.filter(({ result }) => result === "passed")).toHaveLength(0)
  })
})

describe("a boot log", () => {
  const calling: LogLine = {
    register: 4,
    type: eventTypes.EV_EFI_ACTION,
    data: Buffer.from("Calling EFI Application from Boot Option"),
  }
  const image = (name: string, type: number = eventTypes.EV_EFI_BOOT_SERVICES_APPLICATION): LogLine => ({
    register: 4,
    type,
    data: Buffer.from(`the path of ${name}`),
    digest: sha256(Buffer.from(name)),
  })
  const digestOf = (name: string) => hexOf(sha256(Buffer.from(name)))

  const boot = (lines: readonly LogLine[], change: Partial<Tpm>, tamper: number[] = []) => {
    const log = logOf(lines)
    const registers = [4, 7].map((index) => ({
      bank: "sha256" as const,
      index,
      value: (log.registers.get(index) ?? new Uint8Array(32)).map((byte) =>
        tamper.includes(index) ? byte ^ 1 : byte,
      ),
    }))
    const { pcrs: _, ...others } = { ...plain, ...change }
    return judge(
      { pieces: [tpmPiece(tpm, { pcrs: registers, bootLog: log.bytes })] },
      policyOf(
        { assurance: "tpm-only", platforms: ["tpm"], tpm: { images: [digestOf("kernel")], ...others } },
        [root()],
        { tpm: tpm.digest },
      ),
      now,
    )
  }
  const firmware = [secureBootLine(7, 1), separatorLine(7), calling, separatorLine(4)]
  const images = [digestOf("shim"), digestOf("kernel")]
  const good = [...firmware, image("shim"), image("kernel")]

  it("that leads to the registers names what was booted", () => {
    const appraisal = boot(good, { images, secure_boot: true })
    expect(outcome(appraisal)).toBe("accepted")
    expect(checkOf(appraisal, "tpm-images")?.found).toBe(images.join(", "))
  })

  it("is needed for what only a log can say", () => {
    expect(outcome(see({}, { secure_boot: true }))).toBe("tpm-secure-boot")
    expect(outcome(see({}, { images }))).toBe("tpm-images")
    const piece = { ...tpmPiece(tpm), boot_log: Uint8Array.of(1, 2, 3) }
    const appraisal = judge({ pieces: [piece] }, policy({ secure_boot: true }), now)
    expect(checkOf(appraisal, "tpm-secure-boot")?.found).toContain("LOG_TRUNCATED")
    // Unread where nobody asks for it.
    expect(outcome(judge({ pieces: [piece] }, policy(), now))).toBe("accepted")
  })

  it("says nothing when it doesn't lead to the register, or the register isn't covered", () => {
    expect(checkOf(boot(good, { images }, [4]), "tpm-images")?.found).toContain("REPLAY_MISMATCH")
    expect(checkOf(boot(good, { images, secure_boot: true }, [7]), "tpm-secure-boot")?.found).toContain(
      "REPLAY_MISMATCH",
    )
    const log = logOf(good)
    const uncovered = judge(
      { pieces: [tpmPiece(tpm, { pcrs: [pcr(0, 0)], bootLog: log.bytes })] },
      policy({ images }),
      now,
    )
    expect(checkOf(uncovered, "tpm-images")?.found).toContain("REGISTER_ABSENT")
  })

  it("that says Secure Boot was off, or says it only after the firmware was done, is refused", () => {
    const off = [secureBootLine(7, 0), separatorLine(7)]
    expect(outcome(boot([...off, image("kernel")], { secure_boot: true }))).toBe("tpm-secure-boot")
    const late = [separatorLine(7), secureBootLine(7, 1)]
    expect(outcome(boot([...late, image("kernel")], { secure_boot: true }))).toBe("tpm-secure-boot")
  })

  it("that names another image, whatever type it claims to have, is refused", () => {
    const foreign = boot([...good, image("rootkit")], { images })
    expect(outcome(foreign)).toBe("tpm-images")
    expect(checkOf(foreign, "tpm-images")?.found).toBe(`not listed: ${digestOf("rootkit")}`)
    for (const type of [eventTypes.EV_SEPARATOR, eventTypes.EV_EFI_ACTION, eventTypes.EV_IPL])
      expect(outcome(boot([...good, image("rootkit", type)], { images }))).toBe("tpm-images")
    expect(outcome(boot(firmware, { images }))).toBe("tpm-images")
  })
})

describe("claims", () => {
  it("carry what a TPM's quote must: SHA-256 of the 64 bytes, and of nothing else", () => {
    expect(claims.extraData).toEqual(sha256(reportData))
    expect(() => tpmExtraData(reportData.subarray(1))).toThrow(RangeError)
  })
})
