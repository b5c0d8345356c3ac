/** An enclave's attester against an imitation of the kernel's driver, and against devices that are something else. */
import { encode } from "cborg"
import { beforeEach, describe, expect, it } from "vitest"
import { verifyNitro } from "../../services/evidence/nitro/index.ts"
import {
  nitroNsm,
  openProvider,
  ProviderError,
  parseProviderChoice,
} from "../../services/evidence/providers/index.ts"
import { NsmKernel } from "../support/nsm-kernel.ts"
import { madeAt, makeNitroLab, plainFields, sealed } from "./evidence-nitro-support.ts"

const lab = makeNitroLab()
const reportData = Uint8Array.from({ length: 64 }, (_, i) => i)
/** A device that opens: the imitation stands in for its ioctl. */
const device = "/dev/null"

let kernel: NsmKernel
const documentOver = (userData: Uint8Array): Uint8Array =>
  sealed(lab, encode(new Map([...plainFields(lab), ["user_data", userData], ["nonce", null]])))
beforeEach(() => {
  kernel = new NsmKernel(documentOver)
})
const open = () => nitroNsm({ device, ioctl: kernel.ioctl })

const refusal = async (act: Promise<unknown>): Promise<string> => {
  const error = await act.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (error instanceof ProviderError) return `${error.code} ${error.field}: ${error.found}`
  throw error ?? new Error("wasn't refused")
}

describe("the security module of an enclave", () => {
  it("gives a document over the report data that a verifier believes", async () => {
    const provider = await open()
    expect([provider.platform, provider.emulated]).toEqual(["nitro", false])
    const [piece, ...more] = await provider.attest(reportData)
    if (piece?.kind !== "nitro") throw new Error("no document")
    const verified = verifyNitro(piece, { now: madeAt, roots: [lab.root] })
    if (verified instanceof Error) throw verified
    expect(verified.document.userData).toEqual(reportData)
    expect(more).toEqual([])
    expect(kernel.requests).toEqual([
      "DescribeNSM",
      { Attestation: { user_data: reportData, nonce: null, public_key: null } },
    ])
    await provider.close()
  })

  it("is named in the settings, found by looking before a TPM, and stands alone", async () => {
    expect(parseProviderChoice("F", "nitro-nsm")).toEqual([{ kind: "nitro-nsm" }])
    for (const text of ["nitro-nsm+tpm", "configfs-tsm+nitro-nsm", "nitro-nsm+nitro-nsm"])
      expect(() => parseProviderChoice("F", text)).toThrow(ProviderError)
    const absent = { tsm: { root: "/proc/nonexistent/report" }, tpm: { device: "/proc/nonexistent/tpmrm0" } }
    const found = await openProvider("auto", { ...absent, nsm: { device, ioctl: kernel.ioctl } })
    expect(found.platform).toBe("nitro")
    await found.close()
    // Not there, and neither is anything else.
    const nsm = { device: "/proc/nonexistent/nsm" }
    expect(await refusal(openProvider("auto", { ...absent, nsm }))).toContain("/proc/nonexistent/nsm ENOENT")
    // There, and broken: nothing weaker is taken for that.
    kernel.fails = "EIO"
    expect(await refusal(openProvider("auto", { ...absent, nsm: { device, ioctl: kernel.ioctl } }))).toBe(
      `IO ${device}: EIO`,
    )
  })

  it.each([
    ["EACCES", "PERMISSION"],
    ["EBUSY", "BUSY"],
    ["ETIMEDOUT", "TIMEOUT"],
    ["ENODEV", "ABSENT"],
    ["ENODATA", "IO"],
    ["EMSGSIZE", "IO"],
  ] as const)("that fails with %s is %s, and serves again afterwards", async (errno, code) => {
    const provider = await open()
    kernel.fails = errno
    expect(await refusal(provider.attest(reportData))).toBe(`${code} ${device}: ${errno}`)
    expect(await provider.attest(reportData)).toHaveLength(1)
    await provider.close()
  })

  it("is believed in nothing else than an answer of its own, over what was asked", async () => {
    const provider = await open()
    const answers: ReadonlyArray<readonly [Uint8Array, string]> = [
      [encode({ Error: "InternalError" }), "IO /dev/null: InternalError"],
      [encode({ Error: "\u001b[31m" }), "IO /dev/null: an error"],
      [encode({ DescribeNSM: {} }), "MALFORMED /dev/null: an answer to something else"],
      [encode({ Attestation: {} }), "MALFORMED /dev/null: no document"],
      [encode({ Attestation: { document: new Uint8Array(9) } }), "MALFORMED /dev/null: document"],
      [
        encode({ Attestation: { document: documentOver(new Uint8Array(64)) } }),
        "MISMATCH /dev/null: user data 00",
      ],
      [
        encode({ Attestation: { document: documentOver(new Uint8Array(0)) } }),
        "MISMATCH /dev/null: user data ",
      ],
      [encode(["Attestation"]), "MALFORMED /dev/null: no map of one"],
      [Uint8Array.of(0xff), "MALFORMED /dev/null: no CBOR"],
      [new Uint8Array(0), "LENGTH /dev/null: 0 bytes"],
      // Longer than the driver hands over: what is left is no CBOR any more.
      [encode({ Attestation: { document: new Uint8Array(0x4000) } }), "MALFORMED /dev/null: no CBOR"],
    ]
    for (const [answer, wanted] of answers) {
      kernel.answers = () => answer
      expect((await refusal(provider.attest(reportData))).slice(0, wanted.length)).toBe(wanted)
    }
    kernel.answers = undefined
    expect(await refusal(provider.attest(reportData, 100))).toMatch(/^TOO_LARGE/)
    await provider.close()
  })

  it("isn't any device of that name: the kernel's own answers", async () => {
    expect(await refusal(nitroNsm({ device: "/dev/null" }))).toBe("ABSENT /dev/null: ENOTTY")
    expect(await refusal(nitroNsm({ device: "/proc/nonexistent/nsm" }))).toBe(
      "ABSENT /proc/nonexistent/nsm: ENOENT",
    )
    expect(await refusal(nitroNsm({ device: "/dev" }))).toBe("IO /dev: EISDIR")
  })
})
