/** `vouchsafe measure snp|tdx|tpm` as a program: what it prints is part of a workflow, and what it says ends in its status. */
import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Schema } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { parse } from "yaml"
import { SevSnp, Tdx, Tpm } from "../../schemas/platforms.ts"
import { digestsOf, measureSnp, measureTdx } from "../../services/evidence/measure/index.ts"
import { haveVectors, hexOf, vectorsDir } from "./evidence-support.ts"
import { firmware, peImage } from "./measure-support.ts"

const main = fileURLToPath(new URL("../../services/cli/main.ts", import.meta.url))

interface Ran {
  readonly status: number
  readonly out: string
  readonly err: string
}

const run = (...args: readonly string[]): Promise<Ran> =>
  new Promise((done) => {
    execFile(process.execPath, [main, "measure", ...args], { timeout: 120_000 }, (error, out, err) =>
      done({ status: error === null ? 0 : Number(error.code), out, err }),
    )
  })

let folder: string
const put = (name: string, content: Uint8Array | string): string => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const ovmf = firmware({
  sev: [
    [0x80_d000, 0x1000, 2],
    [0x81_0000, 0x1000, 0x10],
  ],
  reset: 0x80_b004,
  hashes: 0x81_0c00,
  tdx: [[0, 0x1000, 0xffff_e000, 0x1000, 0, 1]],
})
const kernel = peImage({ sections: [[".text", Buffer.from("kernel")]] })
const global = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "vouchsafe-measure-"))
  put("ovmf.fd", ovmf)
  put("kernel", kernel)
  put("initrd", "initrd")
  mkdirSync(join(folder, "efivars"))
  put(`efivars/SecureBoot-${global}`, Uint8Array.of(6, 0, 0, 0, 0))
})
afterAll(() => rmSync(folder, { recursive: true }))
const file = (name: string): string => join(folder, name)

const stageOf = (ran: Ran): Record<string, Record<string, unknown>> => {
  expect(ran.err).toBe("")
  return parse(ran.out)
}

describe("vouchsafe measure", () => {
  it("snp prints the measurements of a stage", async () => {
    const boot = ["--kernel", file("kernel"), "--initrd", file("initrd"), "--cmdline", "quiet"]
    const ran = await run(
      "snp",
      "--ovmf",
      file("ovmf.fd"),
      "--vcpus",
      "2",
      "--vcpu-type",
      "EPYC-Milan",
      ...boot,
    )
    const { sev_snp } = stageOf(ran)
    expect(sev_snp?.measurements).toEqual([
      hexOf(
        measureSnp(ovmf, {
          vcpus: 2,
          vcpuType: "EPYC-Milan",
          load: {
            kernel: digestsOf(kernel, ["sha256"]),
            initrd: digestsOf(Buffer.from("initrd"), ["sha256"]),
            commandLine: "quiet",
          },
        }),
      ),
    ])
    const policy = { debug: false, migration_agent: false, vmpl_max: 0 }
    Schema.decodeUnknownSync(SevSnp)({ ...sev_snp, policy })
    expect(ran.status).toBe(0)
  }, 120_000)

  it("snp says when no kernel is measured, also for scripts", async () => {
    const ran = await run("snp", "--ovmf", file("ovmf.fd"), "--vcpus", "1", "--vmm", "gce", "--json")
    const { kind, measurement, workflow, notes } = JSON.parse(ran.out)
    expect(kind).toBe("snp")
    expect(workflow).toEqual({ sev_snp: { measurements: [measurement] } })
    expect(notes.join()).toContain("No kernel")
  }, 120_000)

  it("tdx prints MRTD and the RTMRs that follow from files", async () => {
    const ran = await run(
      "tdx",
      "--firmware",
      file("ovmf.fd"),
      "--kernel",
      file("kernel"),
      "--page-order",
      "section",
    )
    const { tdx } = stageOf(ran)
    expect(tdx?.mrtd).toEqual([hexOf(measureTdx(ovmf, "section"))])
    expect(Object.keys(tdx?.rtmrs as object)).toEqual(["1", "2"])
    Schema.decodeUnknownSync(Tdx)({ ...tdx, tcb: { statuses: ["UpToDate"] } })
    expect(ran.out).toContain("# RTMR 0 holds")
  }, 120_000)

  it("tpm prints PCRs", async () => {
    const ran = await run(
      "tpm",
      "--kernel",
      file("kernel"),
      "--variables",
      file("efivars"),
      "--bank",
      "sha384",
    )
    const { tpm } = stageOf(ran)
    Schema.decodeUnknownSync(Tpm)(tpm)
    expect(Object.keys(tpm?.pcrs as object)).toEqual(["4", "7", "9"])
    expect(ran.status).toBe(0)
  }, 120_000)

  if (!haveVectors)
    console.warn(`NO REAL LOG TESTED: 1 skipped, nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`)
  it.runIf(haveVectors)(
    "ends with 3 where a log says something else, and says where",
    async () => {
      const log = join(vectorsDir, "tpm/eventlog/rhel8-uefi.eventlog.bin")
      const wrong = await run("tpm", "--image", file("kernel"), "--eventlog", log, "--pcr", "0")
      expect(wrong.status).toBe(3)
      expect(wrong.out).toContain("# PCR 4 isn't that of the log, step ")
      expect(Object.keys(stageOf(wrong).tpm?.pcrs as object)).toEqual(["0", "4"])
    },
    120_000,
  )

  it.each([
    ["an unknown file", ["tdx", "--firmware", "/nowhere"], 1, "ENOENT"],
    ["a folder", ["tdx", "--firmware", "/"], 1, "no regular file"],
    ["a file of another kind", ["tpm", "--uki", main], 1, "uki.dos.magic"],
    ["no firmware", ["tdx"], 64, "--firmware FILE is missing"],
    ["no processors", ["snp", "--ovmf", main], 64, "--vcpus N is missing"],
    ["an option that isn't there", ["snp", "--svsm", "x"], 64, "--svsm"],
    ["an initrd without a kernel", ["tpm", "--initrd", main], 64, "--kernel"],
    ["two ways to boot", ["tpm", "--uki", main, "--image", main], 64, "give one"],
    ["nothing to measure", ["tpm"], 64, "nothing to measure"],
    ["a register without a log", ["tpm", "--pcr", "0"], 64, "--eventlog"],
    ["an odd size", ["tpm", "--kernel", main, "--qemu-memory", "2 GB"], 64, "--qemu-memory"],
  ] as const)(
    "%s is said",
    async (_, args, status, text) => {
      const ran = await run(...args)
      expect(ran.err).toContain(text)
      expect(ran.status).toBe(status)
      expect(ran.out).toBe("")
    },
    120_000,
  )

  it("reads no file that is too large", async () => {
    truncateSync(put("large", ""), 64 * 2 ** 20 + 4_096)
    const ran = await run("tdx", "--firmware", file("large"))
    expect(ran.err).toContain("firmware: found 67112960 bytes")
    expect(ran.status).toBe(1)
  }, 120_000)

  it("says how it is used", async () => {
    for (const what of ["snp", "tdx", "tpm"]) {
      const { status, out } = await run(what, "--help")
      expect(out).toContain(`vouchsafe measure ${what}`)
      expect(status).toBe(0)
    }
  }, 120_000)
})
