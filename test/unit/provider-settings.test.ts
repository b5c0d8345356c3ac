/** What a guest's configuration may say of its hardware, and what is found without being told. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { encodeGuest, launchGuest, writeState } from "../../services/evidence/index.ts"
import {
  type AttestationProvider,
  bytesOf,
  combined,
  openProvider,
  ProviderError,
  parseAkSource,
  parseCertificateSources,
  parseLogChoice,
  parseProviderChoice,
  parseSelection,
} from "../../services/evidence/providers/index.ts"
import { fittingLog } from "../../services/evidence/providers/logs.ts"
import { TsmKernel, tsmFilesOf } from "../support/tsm-kernel.ts"
import { makeChip, makeRoot, measurement } from "./evidence-support.ts"

let directory: string
let stateFile: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-provider-"))
  stateFile = join(directory, "guest.json")
  writeState(stateFile, encodeGuest(launchGuest(makeChip(makeRoot()), { measurement })))
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const refusal = async (act: () => unknown): Promise<ProviderError> => {
  try {
    await act()
  } catch (error) {
    if (error instanceof ProviderError) return error
    throw error
  }
  throw new Error("wasn't refused")
}

const absent = {
  tsm: { root: "/proc/nonexistent/report" },
  tpm: { device: "/proc/nonexistent/tpmrm0" },
}

describe("the choice of hardware", () => {
  it("is read from its text", () => {
    expect(parseProviderChoice("F", "auto")).toBe("auto")
    expect(parseProviderChoice("F", "configfs-tsm")).toEqual([{ kind: "configfs-tsm" }])
    expect(parseProviderChoice("F", "configfs-tsm+tpm")).toEqual([{ kind: "configfs-tsm" }, { kind: "tpm" }])
    expect(parseProviderChoice("F", "emulated-snp:/a/b")).toEqual([
      { kind: "emulated-snp", stateFile: "/a/b" },
    ])
  })

  it.each([
    "",
    "emulated-snp",
    "emulated-snp:state",
    "emulated-snp:",
    "emulated",
    "auto+tpm",
    "tpm+tpm",
    "configfs-tsm+",
    "configfs-tsm+emulated-snp:/a",
    "tpm tpm",
    "nitro",
  ])("isn't %j", async (text) => {
    expect(await refusal(() => parseProviderChoice("F", text))).toMatchObject({ code: "INPUT", field: "F" })
  })

  it("is never emulated hardware unless that is named", async () => {
    const error = await refusal(() => openProvider("auto", absent))
    expect(error).toMatchObject({ code: "ABSENT" })
    expect(error.message).toContain("/proc/nonexistent/report ENOENT")
    expect(error.message).toContain("/proc/nonexistent/tpmrm0 ENOENT")
    expect(error.message).toContain("emulated hardware has to be named")
    const named = await openProvider([{ kind: "emulated-snp", stateFile }])
    expect(named).toMatchObject({ platform: "sev-snp", emulated: true })
    expect(named.about).toContain("EMULATED")
  })

  it("doesn't fall back from hardware that is there and fails", async () => {
    const kernel = new TsmKernel({
      name: "sev_guest",
      hasAuxiliary: true,
      make: async () => ({ outblob: measurement }),
    })
    kernel.fail("mkdir", "EACCES", "EIO")
    const tsm = { root: "/tsm", files: tsmFilesOf(kernel, "/tsm") }
    expect(await refusal(() => openProvider("auto", { ...absent, tsm }))).toMatchObject({
      code: "PERMISSION",
    })
    expect(await refusal(() => openProvider("auto", { ...absent, tsm }))).toMatchObject({ code: "IO" })
    expect(await openProvider("auto", { ...absent, tsm })).toMatchObject({
      platform: "sev-snp",
      emulated: false,
    })
  })

  it("by name fails when one of its parts isn't there", async () => {
    const choice = parseProviderChoice("F", `emulated-snp:${stateFile}+tpm`)
    expect(await refusal(() => openProvider(choice, absent))).toMatchObject({
      code: "ABSENT",
      field: "/proc/nonexistent/tpmrm0",
    })
    expect(
      await refusal(() => openProvider([{ kind: "tpm" }], { tpm: { device: stateFile } })),
    ).toMatchObject({
      code: "INPUT",
      field: stateFile,
    })
  })
})

describe("settings of a TPM", () => {
  it("are read from their texts", () => {
    expect(parseAkSource("F", "rsapss-2048")).toEqual({ from: "seed", kind: "rsapss-2048" })
    expect(parseAkSource("F", "0x81000003")).toEqual({ from: "handle", handle: 0x8100_0003 })
    expect(parseAkSource("F", "template:0x01c10001")).toEqual({ from: "template", index: 0x01c1_0001 })
    expect(parseCertificateSources("F", "")).toEqual([])
    expect(parseCertificateSources("F", "nv:0x01c10000,/etc/ca.pem")).toEqual([
      { from: "nv", index: 0x01c1_0000 },
      { from: "file", path: "/etc/ca.pem" },
    ])
    expect(parseSelection("F", "sha256:0-2,7")).toEqual([{ bank: "sha256", pcrs: [0, 1, 2, 7] }])
    expect(parseSelection("F", "sha256:7,0-1,1+sha384:14")).toEqual([
      { bank: "sha256", pcrs: [0, 1, 7] },
      { bank: "sha384", pcrs: [14] },
    ])
    expect(parseLogChoice("F", "auto")).toEqual({ boot: "fits", ima: "never" })
    expect(parseLogChoice("F", "boot,ima")).toEqual({ boot: "always", ima: "always" })
  })

  it.each([
    () => parseAkSource("F", "0x80000001"),
    () => parseAkSource("F", "0x8100003"),
    () => parseAkSource("F", "template:0x81c10001"),
    () => parseAkSource("F", "rsa"),
    () => parseCertificateSources("F", "ca.pem"),
    () => parseCertificateSources("F", "nv:12"),
    () => parseCertificateSources("F", "/a,/b,/c,/d,/e"),
    () => parseSelection("F", ""),
    () => parseSelection("F", "sha256:"),
    () => parseSelection("F", "sha1:0-7"),
    () => parseSelection("F", "sha256:24"),
    () => parseSelection("F", "sha256:7-3"),
    () => parseSelection("F", "sha256:0+sha256:1"),
    () => parseLogChoice("F", "all"),
  ])("are refused by name: %s", async (act) => {
    expect(await refusal(act)).toMatchObject({ code: "INPUT", field: "F" })
  })
})

describe("a log in Evidence", () => {
  const file = (name: string, bytes: number) => {
    const path = join(directory, name)
    writeFileSync(path, new Uint8Array(bytes).fill(1))
    return path
  }

  it("is there whole, or not at all", async () => {
    const path = file("log", 1_000)
    expect(await fittingLog({ path, choice: "always" }, 1_000)).toHaveLength(1_000)
    expect(await fittingLog({ path, choice: "fits" }, 1_000)).toHaveLength(1_000)
    expect(await fittingLog({ path, choice: "never" }, 1_000)).toBeUndefined()
    expect(await fittingLog({ path, choice: "fits" }, 999)).toBeUndefined()
    expect(await fittingLog({ path, choice: "fits" }, -5)).toBeUndefined()
    const error = await refusal(() => fittingLog({ path, choice: "always" }, 999))
    expect(error).toMatchObject({ code: "TOO_LARGE", field: path })
    expect(error.message).toContain("VOUCHSAFE_EVENT_LOGS")
  })

  it("is counted without its padding", async () => {
    const path = file("padded", 5_000)
    const trim = (bytes: Uint8Array) => bytes.subarray(0, 100)
    expect(await fittingLog({ path, choice: "always", trim, fileBytesMost: 5_000 }, 100)).toHaveLength(100)
    expect(
      await refusal(() => fittingLog({ path, choice: "always", trim, fileBytesMost: 4_999 }, 100)),
    ).toMatchObject({ code: "TOO_LARGE" })
  })

  it("that the kernel doesn't keep is none; one that can't be read is an error", async () => {
    expect(await fittingLog({ path: join(directory, "none"), choice: "always" }, 10)).toBeUndefined()
    expect(await fittingLog({ path: file("empty", 0), choice: "always" }, 10)).toBeUndefined()
    expect(await refusal(() => fittingLog({ path: directory, choice: "fits" }, 10))).toMatchObject({
      code: "IO",
      found: "EISDIR",
    })
  })
})

describe("several providers as one", () => {
  const part = (platform: string, bytes: number, emulated = false) => {
    const rooms: (number | undefined)[] = []
    const provider: AttestationProvider = {
      platform,
      emulated,
      about: platform,
      attest: async (data, room) => {
        rooms.push(room)
        return [
          {
            kind: "snp",
            report: Uint8Array.from([...data, ...new Uint8Array(bytes - data.length)]),
            certificates: [],
          },
        ]
      },
      close: async () => undefined,
    }
    return { provider, rooms }
  }

  it("attest the same report data, in order, and share the room", async () => {
    const [one, two] = [part("sev-snp", 1_000), part("tpm", 500)]
    const both = combined([one.provider, two.provider])
    expect(both).toMatchObject({ platform: "sev-snp+tpm", emulated: false })
    const data = new Uint8Array(64).fill(3)
    const pieces = await both.attest(data)
    expect(pieces.map((piece) => piece.kind === "snp" && piece.report.length)).toEqual([1_000, 500])
    for (const piece of pieces) expect(piece.kind === "snp" && piece.report.subarray(0, 64)).toEqual(data)
    expect(bytesOf(pieces)).toBe(1_500)
    expect(one.rooms).toEqual([65_536])
    expect(two.rooms).toEqual([64_536])
  })

  it("are emulated when one of them is", () => {
    expect(combined([part("sev-snp", 100, true).provider, part("tpm", 100).provider]).emulated).toBe(true)
    expect(combined([part("sev-snp", 100).provider, part("tpm", 100, true).provider]).emulated).toBe(true)
  })
})
