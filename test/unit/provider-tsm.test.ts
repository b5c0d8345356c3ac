/** configfs-tsm against an imitation of the kernel's: what it asks, what it believes, and what it does when it is refused. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import {
  type EmulatedChip,
  type EmulatedRoot,
  launchGuest,
  parseReport,
  parseTdxQuote,
  SnpError,
  TdxError,
  verifyCcel,
  verifyReport,
} from "../../services/evidence/index.ts"
import {
  configfsTsm,
  type LogChoice,
  ProviderError,
  type TsmOptions,
} from "../../services/evidence/providers/index.ts"
import { probeTsm, readTsmReport, removeLeftOvers } from "../../services/evidence/providers/tsm.ts"
import { tsmFiles } from "../../services/evidence/providers/tsm-files.ts"
import { certificateTable } from "../support/certificate-table.ts"
import { type Backend, Fault, TsmKernel, tsmFilesOf } from "../support/tsm-kernel.ts"
import { haveFuse, mountTsm, type TsmMount } from "../support/tsm-mount.ts"
import { haveVectors, makeChip, makeRoot, measurement, now, readVector } from "./evidence-support.ts"

if (!haveFuse)
  console.warn("NO FUSE: the tests of configfs-tsm with real files are skipped (root and /dev/fuse)")
if (!haveVectors) console.warn("NO VECTORS: the tests of configfs-tsm with a real TDX quote are skipped")

const reportData = Uint8Array.from({ length: 64 }, (_, i) => i + 1)
const waitsMs = [1, 1, 1]

let chip: EmulatedChip
let root: EmulatedRoot
beforeAll(() => {
  root = makeRoot()
  chip = makeChip(root)
})

/** sev-guest. */
const sev = (change: Partial<Backend> = {}): Backend => ({
  name: "sev_guest",
  floor: 0,
  hasAuxiliary: true,
  make: async (inblob, vmpl) => {
    if (inblob.length !== 64) throw new Fault("EINVAL")
    const [vcek, ask, ark] = chip.certificates
    return {
      outblob: launchGuest(chip, { measurement, vmpl }).report(inblob),
      auxblob: certificateTable({ ark, vcek, ask }),
    }
  },
  ...change,
})

/** tdx-guest with a quote that was made before. */
const tdx = (quote: Uint8Array): Backend => ({
  name: "tdx_guest",
  hasAuxiliary: false,
  make: async () => ({ outblob: quote }),
})

const refusal = async (act: Promise<unknown>): Promise<ProviderError> => {
  try {
    await act
  } catch (error) {
    if (error instanceof ProviderError) return error
    throw error
  }
  throw new Error("wasn't refused")
}

const mounts: TsmMount[] = []
afterEach(async () => {
  for (const mount of mounts.splice(0)) await mount.stop()
})

type Ways = readonly [string, (kernel: TsmKernel) => TsmOptions]
const ports: Ways = [
  "through a port",
  (kernel) => ({ root: "/tsm", files: tsmFilesOf(kernel, "/tsm"), waitsMs }),
]
const files: Ways = [
  "as real files",
  (kernel) => {
    const mount = mountTsm(kernel)
    mounts.push(mount)
    return { root: mount.root, waitsMs }
  },
]
const ways: readonly Ways[] = haveFuse ? [ports, files] : [ports]

describe.each(ways)("configfs-tsm %s", (_, optionsOf) => {
  const begin = (backend?: Backend) => {
    const kernel = new TsmKernel(backend)
    return { kernel, options: optionsOf(kernel) }
  }

  it("makes an SNP report with the host's certificates, and leaves no entry", async () => {
    const { kernel, options } = begin(sev())
    const made = await readTsmReport(reportData, options)
    expect(made.provider).toBe("sev_guest")
    expect(parseReport(made.report).reportData).toEqual(reportData)
    expect(made.auxiliary?.length).toBeGreaterThan(1_000)
    expect(kernel.entries.size).toBe(0)
    expect(kernel.calls).toEqual([
      "mkdir",
      "read provider",
      "read generation",
      "write inblob",
      "read outblob",
      "read auxblob",
      "read generation",
      "rmdir",
    ])
  })

  it("gives a piece of Evidence that verifies to the chip's root", async () => {
    const { options } = begin(sev())
    const provider = await configfsTsm(options)
    expect(provider).toMatchObject({ platform: "sev-snp", emulated: false })
    const [piece] = await provider.attest(reportData)
    if (piece?.kind !== "snp") throw new Error("no SNP piece")
    const verified = verifyReport(piece, { roots: [root.hardwareRoot], now })
    if (verified instanceof SnpError) throw verified
    expect(verified.report.reportData).toEqual(reportData)
  })

  it("asks for another privilege level, and not below the floor", async () => {
    const { options } = begin(sev({ floor: 1 }))
    const made = await readTsmReport(reportData, { ...options, privilegeLevel: 2 })
    expect(parseReport(made.report).vmpl).toBe(2)
    const low = await refusal(readTsmReport(reportData, { ...options, privilegeLevel: 0 }))
    expect(low).toMatchObject({ code: "INPUT", found: "0", wanted: "1 to 3" })
    expect(low.field).toMatch(/\/privlevel$/)
  })

  it.each([
    ["mkdir", "EACCES", "PERMISSION"],
    ["mkdir", "ENOENT", "ABSENT"],
    ["mkdir", "EEXIST", "IO"],
    ["read provider", "ENXIO", "ABSENT"],
    ["read generation", "EIO", "IO"],
    ["read outblob", "EIO", "IO"],
    ["read outblob", "ENOTTY", "IO"],
    ["read outblob", "ENXIO", "ABSENT"],
    ["read outblob", "EINVAL", "IO"],
    ["read outblob", "ETIMEDOUT", "TIMEOUT"],
    ["read outblob", "EFBIG", "LENGTH"],
    ["read auxblob", "EIO", "IO"],
    ["read outblob", "ENOMEM", "IO"],
  ])(
    "%s refused with %s: says so with path and errno, once, and leaves no entry",
    async (call, errno, code) => {
      const { kernel, options } = begin(sev())
      kernel.fail(call, errno)
      const error = await refusal(readTsmReport(reportData, options))
      expect(error).toMatchObject({ code, found: errno })
      expect(error.field.startsWith(options.root ?? "")).toBe(true)
      if (call.startsWith("read")) expect(error.field.endsWith(call.slice(5))).toBe(true)
      expect(kernel.calls.filter((one) => one === call)).toHaveLength(1)
      expect(kernel.entries.size).toBe(0)
    },
  )

  it.each([
    ["read outblob", "EBUSY"],
    ["read outblob", "EAGAIN"],
    ["read outblob", "EINTR"],
    ["read auxblob", "EAGAIN"],
    ["mkdir", "EBUSY"],
  ])(
    "%s refused with %s: tries again in an entry of its own, and gives up in the end",
    async (call, errno) => {
      const { kernel, options } = begin(sev())
      kernel.fail(call, errno, errno)
      const made = await readTsmReport(reportData, options)
      expect(parseReport(made.report).reportData).toEqual(reportData)
      expect(kernel.calls.filter((one) => one === call)).toHaveLength(3)
      kernel.calls.length = 0
      kernel.fail(call, ...new Array<string>(10).fill(errno))
      const error = await refusal(readTsmReport(reportData, options))
      expect(error).toMatchObject({ code: "BUSY", found: errno })
      expect(kernel.calls.filter((one) => one === call)).toHaveLength(4)
      expect(kernel.entries.size).toBe(0)
    },
  )

  it("doesn't trust a write whose refusal the kernel swallowed", async () => {
    const { kernel, options } = begin(sev())
    // Nothing was written: the kernel has no inblob, and says EINVAL.
    kernel.fail("write inblob", "EBUSY", "EBUSY", "EBUSY", "EBUSY")
    expect(await refusal(readTsmReport(reportData, options))).toMatchObject({ code: "IO", found: "EINVAL" })
    // Something of somebody else's was written first: the count shows that ours is missing.
    const other = begin(sev())
    other.kernel.fail("write inblob", "EBUSY", "EBUSY", "EBUSY", "EBUSY")
    other.kernel.onCall = (call, name) => {
      const entry = other.kernel.entries.get(name)
      if (call === "write inblob" && entry !== undefined) {
        entry.inblob = new Uint8Array(64).fill(9)
        entry.written += 2n
      }
    }
    expect(await refusal(readTsmReport(reportData, other.options))).toMatchObject({
      code: "CONFLICT",
      found: "2 writes",
    })
  })

  it("notices another writer of its entry, tries again, and gives up in the end", async () => {
    const { kernel, options } = begin(sev())
    let times = 2
    kernel.onCall = (call, name) => {
      const entry = kernel.entries.get(name)
      if (call !== "read outblob" || entry === undefined || times-- <= 0) return
      entry.inblob = new Uint8Array(64).fill(7)
      entry.written += 1n
    }
    const made = await readTsmReport(reportData, options)
    expect(parseReport(made.report).reportData).toEqual(reportData)
    expect(kernel.calls.filter((one) => one === "mkdir")).toHaveLength(3)
    times = 100
    expect(await refusal(readTsmReport(reportData, options))).toMatchObject({ code: "CONFLICT" })
    expect(kernel.entries.size).toBe(0)
  })

  it("counts writes over the end of the counter", async () => {
    const { kernel, options } = begin(sev())
    kernel.onCall = (call, name) => {
      const entry = kernel.entries.get(name)
      if (call !== "read provider" || entry === undefined) return
      entry.written = 2n ** 64n - 1n
      entry.read = 5n
    }
    await expect(readTsmReport(reportData, options)).resolves.toBeDefined()
  })

  it("refuses a report over other data, whatever the counter says", async () => {
    const make = async () => ({ outblob: launchGuest(chip, { measurement }).report(new Uint8Array(64)) })
    const provider = await configfsTsm(begin(sev({ make })).options)
    expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "MISMATCH" })
  })

  it.each([
    ["empty", 0, "LENGTH"],
    ["short", 1_183, "LENGTH"],
    ["long", 1_185, "LENGTH"],
    ["far too long", 32_769, "LENGTH"],
  ])("refuses a report that is %s", async (_name, length, code) => {
    const make = async () => ({ outblob: new Uint8Array(length) })
    const provider = await configfsTsm(begin(sev({ make })).options)
    expect(await refusal(provider.attest(reportData))).toMatchObject({ code })
  })

  it("lives with a host that gives no certificates, and says so of a broken table", async () => {
    const report = () => launchGuest(chip, { measurement }).report(reportData)
    const given = async (auxblob?: Uint8Array) => {
      const warnings: ProviderError[] = []
      const make = async () => ({ outblob: report(), ...(auxblob && { auxblob }) })
      const provider = await configfsTsm({
        ...begin(sev({ make })).options,
        warn: (error) => warnings.push(error),
      })
      const [piece] = await provider.attest(reportData)
      return { certificates: piece?.kind === "snp" ? piece.certificates.length : -1, warnings }
    }
    expect(await given()).toEqual({ certificates: 0, warnings: [] })
    expect(await given(new Uint8Array(24))).toEqual({ certificates: 0, warnings: [] })
    const broken = await given(new Uint8Array(24).fill(1))
    expect(broken.certificates).toBe(0)
    expect(broken.warnings[0]).toMatchObject({ code: "MALFORMED", field: "auxblob.entries[0]" })
    const hidden = await configfsTsm(begin(sev({ hasAuxiliary: false })).options)
    expect(await hidden.attest(reportData)).toMatchObject([{ kind: "snp", certificates: [] }])
  })

  it("gives its report although the entry can't be removed, and says that", async () => {
    const { kernel, options } = begin(sev())
    kernel.fail("rmdir", "EBUSY")
    const warnings: ProviderError[] = []
    const made = await readTsmReport(reportData, { ...options, warn: (error) => warnings.push(error) })
    expect(made.report).toHaveLength(1_184)
    expect(warnings).toMatchObject([{ code: "BUSY", found: "EBUSY" }])
    expect(kernel.entries.size).toBe(1)
  })

  it("removes what a killed attester has left, and nothing else", async () => {
    const { kernel, options } = begin(sev())
    for (const name of ["vouchsafe-17-00112233445566aa", "vouchsafe-18-00112233445566aa", "somebody-else"])
      kernel.mkdir(name)
    const old = (name: string) =>
      Object.assign(kernel.entries.get(name) ?? {}, { madeAt: Date.now() - 700_000 })
    old("vouchsafe-17-00112233445566aa")
    old("somebody-else")
    expect(await removeLeftOvers(options)).toBe(1)
    expect([...kernel.entries.keys()]).toEqual(["vouchsafe-18-00112233445566aa", "somebody-else"])
  })

  it("says what is missing: the interface's provider, or one that it knows", async () => {
    const none = await refusal(configfsTsm(begin().options))
    expect(none).toMatchObject({ code: "ABSENT", found: "ENXIO" })
    const other = await refusal(configfsTsm(begin(sev({ name: "arm_cca_guest" })).options))
    expect(other).toMatchObject({ code: "ABSENT", found: "arm_cca_guest", wanted: "sev_guest or tdx_guest" })
    const strange = await refusal(configfsTsm(begin(sev({ name: "a\u0000b" })).options))
    expect(strange).toMatchObject({ code: "MALFORMED" })
  })

  it("refuses to go on when another provider answers than at the start", async () => {
    const { kernel, options } = begin(sev())
    const provider = await configfsTsm(options)
    kernel.backend = sev({ name: "tdx_guest" })
    expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "MISMATCH" })
    kernel.backend = undefined
    expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "ABSENT", found: "ENXIO" })
  })

  it("serves several at once, each in an entry of its own", async () => {
    const { kernel, options } = begin(sev())
    const asked = Array.from({ length: 6 }, (_, i) => new Uint8Array(64).fill(i + 1))
    const made = await Promise.all(asked.map((data) => readTsmReport(data, options)))
    expect(made.map(({ report }) => parseReport(report).reportData)).toEqual(asked)
    expect(kernel.entries.size).toBe(0)
  })

  it.runIf(haveVectors)("gives a real TDX quote, which has no certificates and no levels", async () => {
    const quote = readVector("tdx/v5-gcp-90c06f.quote.bin")
    const asked = parseTdxQuote(quote).td.reportData
    const { kernel, options } = begin(tdx(quote))
    const provider = await configfsTsm({ ...options, ccel: "/proc/nonexistent" })
    expect(provider.platform).toBe("tdx")
    expect(await provider.attest(asked)).toEqual([{ kind: "tdx", quote, certificates: [] }])
    expect(kernel.calls).not.toContain("read auxblob")
    expect(await refusal(provider.attest(reportData))).toMatchObject({ code: "MISMATCH" })
    const levels = await refusal(readTsmReport(asked, { ...options, privilegeLevel: 0 }))
    expect(levels).toMatchObject({ code: "INPUT", wanted: "none: there are no levels here" })
    kernel.backend = tdx(new Uint8Array(600))
    expect(await refusal(provider.attest(asked))).toMatchObject({ code: "MALFORMED" })
  })
})

describe.runIf(haveVectors)("the firmware's log of a TD", () => {
  const quote = haveVectors ? readVector("tdx/v4-gcp-cos113.quote.bin") : new Uint8Array(0)
  const log = haveVectors ? readVector("tdx/eventlog/gcp-cos113.ccel.bin") : new Uint8Array(0)
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "vouchsafe-ccel-"))
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  const opened = (bytes: Uint8Array, logs?: LogChoice) => {
    const kernel = new TsmKernel(tdx(quote))
    const ccel = join(directory, "CCEL")
    writeFileSync(ccel, bytes)
    return configfsTsm({ root: "/tsm", files: tsmFilesOf(kernel, "/tsm"), ccel, ...(logs && { logs }) })
  }
  const { td } = haveVectors ? parseTdxQuote(quote) : { td: undefined }

  it("goes along without its padding, and leads to the quote's registers", async () => {
    if (td === undefined) throw new Error("no quote")
    const padded = Uint8Array.from([...log, ...new Array<number>(65_536).fill(0xff)])
    const [piece] = await (await opened(padded)).attest(td.reportData)
    if (piece?.kind !== "tdx" || piece.event_log === undefined) throw new Error("no log")
    expect(piece.event_log.length).toBeLessThanOrEqual(log.length)
    expect(verifyCcel(piece.event_log, td)).not.toBeInstanceOf(TdxError)
  })

  it("is left out where there is no room, or refused where it was asked for", async () => {
    if (td === undefined) throw new Error("no quote")
    const provider = await opened(log)
    expect(await provider.attest(td.reportData, quote.length + 1_000)).toEqual([
      { kind: "tdx", quote, certificates: [] },
    ])
    const wanted = await opened(log, { boot: "always", ima: "never" })
    expect(await refusal(wanted.attest(td.reportData, quote.length + 1_000))).toMatchObject({
      code: "TOO_LARGE",
      field: join(directory, "CCEL"),
    })
    expect(await refusal(provider.attest(td.reportData, quote.length - 1))).toMatchObject({
      code: "TOO_LARGE",
    })
  })
})

describe("what needs no kernel", () => {
  it("is refused before it asks one", async () => {
    const kernel = new TsmKernel(sev())
    const files = tsmFilesOf(kernel, "/tsm")
    for (const length of [0, 32, 63, 65])
      expect(await refusal(readTsmReport(new Uint8Array(length), { root: "/tsm", files }))).toMatchObject({
        code: "INPUT",
        field: "reportData",
      })
    expect(kernel.calls).toEqual([])
  })

  it("is said of a machine without the interface", async () => {
    const error = await refusal(probeTsm({ root: "/proc/nonexistent/report" }))
    expect(error).toMatchObject({ code: "ABSENT", field: "/proc/nonexistent/report", found: "ENOENT" })
    expect(await removeLeftOvers({ root: "/proc/nonexistent/report" })).toBe(0)
  })

  it("is said of this machine as it is", async () => {
    const found = await probeTsm().catch((error: unknown) => error)
    if (found instanceof ProviderError) expect(["ABSENT", "PERMISSION"]).toContain(found.code)
    else expect(["sev_guest", "tdx_guest"]).toContain(found)
  })
})

describe.runIf(haveFuse)("the real files", () => {
  it("refuse as the kernel does: modes, sizes, what isn't there", async () => {
    const kernel = new TsmKernel(sev())
    const mount = mountTsm(kernel)
    mounts.push(mount)
    const at = (name: string) => `${mount.root}/one/${name}`
    const codeOf = (act: Promise<unknown>) =>
      act.then(
        () => "done",
        (error: { code?: string }) => error.code,
      )
    await tsmFiles.makeDirectory(`${mount.root}/one`)
    expect(await codeOf(tsmFiles.makeDirectory(`${mount.root}/one`))).toBe("EEXIST")
    expect(await codeOf(tsmFiles.read(at("inblob"), 64))).toBe("EACCES")
    expect(await codeOf(tsmFiles.write(at("outblob"), reportData))).toBe("EACCES")
    expect(await codeOf(tsmFiles.write(at("inblob"), new Uint8Array(65)))).toBe("EFBIG")
    expect(await codeOf(tsmFiles.read(at("outblob"), 4_096))).toBe("EINVAL")
    expect(await codeOf(tsmFiles.read(at("manifestblob"), 4_096))).toBe("ENOENT")
    expect(await codeOf(tsmFiles.write(at("privlevel"), Buffer.from("9")))).toBe("EINVAL")
    await tsmFiles.write(at("inblob"), reportData)
    expect(Buffer.from(await tsmFiles.read(at("generation"), 64)).toString()).toBe("1\n")
    expect(await codeOf(tsmFiles.read(at("outblob"), 1_183))).toBe("LENGTH")
    expect(await tsmFiles.read(at("outblob"), 1_184)).toHaveLength(1_184)
    await tsmFiles.removeDirectory(`${mount.root}/one`)
    expect(await codeOf(tsmFiles.removeDirectory(`${mount.root}/one`))).toBe("ENOENT")
  })
})
