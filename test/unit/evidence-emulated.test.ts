/** The emulated platform makes what real hardware makes, and is believed only where its root is named. */
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import {
  amdRoots,
  ChainCache,
  createEmulatedChip,
  DeviceError,
  decodeGuest,
  decodeRoot,
  type EmulatedChip,
  type EmulatedRoot,
  emulatedSnp,
  encodeGuest,
  encodeGuestPolicy,
  encodeRoot,
  launchGuest,
  measureFiles,
  parseReport,
  SnpError,
  type SnpProduct,
  verifyReport,
  writeState,
} from "../../services/evidence/index.ts"
import { snpIn } from "../support/evidence-pieces.ts"
import { hexOf, makeChip, makeRoot, measurement, now, reportData } from "./evidence-support.ts"

let directory: string
let root: EmulatedRoot
let chip: EmulatedChip

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-evidence-"))
  root = makeRoot()
  chip = makeChip(root)
})
afterAll(() => rmSync(directory, { recursive: true }))

const codeOf = (act: () => unknown): string => {
  try {
    act()
  } catch (error) {
    if (error instanceof DeviceError) return `${error.code} ${error.field}`
    throw error
  }
  return "nothing"
}

describe("an emulated guest", () => {
  it("gives reports that the strict verifier reads field by field", () => {
    const policy = encodeGuestPolicy({ smt: true, singleSocket: true, abiMajor: 1, abiMinor: 51 })
    const guest = launchGuest(chip, {
      measurement,
      policy,
      hostData: new Uint8Array(32).fill(1),
      familyId: new Uint8Array(16).fill(2),
      imageId: new Uint8Array(16).fill(3),
      vmpl: 2,
    })
    const evidence = { report: guest.report(reportData), certificates: chip.certificates }
    expect(evidence.report).toHaveLength(1_184)
    const result = verifyReport(evidence, { roots: [root.hardwareRoot], now })
    if (result instanceof SnpError) throw result
    expect(result).toMatchObject({
      emulated: true,
      product: "Milan",
      signingKey: "VCEK",
      chip: { id: hexOf(chip.chipId), masked: false },
      tcb: { reported: { bootloader: 4, tee: 0, snp: 24, microcode: 219 } },
      report: {
        version: 3,
        vmpl: 2,
        measurement,
        reportData,
        hostData: new Uint8Array(32).fill(1),
        familyId: new Uint8Array(16).fill(2),
        imageId: new Uint8Array(16).fill(3),
        policy: {
          smt: true,
          singleSocket: true,
          debug: false,
          migrationAgent: false,
          abiMajor: 1,
          abiMinor: 51,
        },
      },
    })
  })

  it.each([2, 3, 5] as const)("speaks version %i", (version) => {
    const guest = launchGuest(chip, { measurement, version })
    const evidence = { report: guest.report(reportData), certificates: chip.certificates }
    const result = verifyReport(evidence, { roots: [root.hardwareRoot], now })
    if (result instanceof SnpError) throw result
    expect(result.report.version).toBe(version)
    expect(result.report.cpuid !== undefined).toBe(version >= 3)
    expect(result.report.launchMitigations !== undefined).toBe(version >= 5)
  })

  it("has another report id at each launch, and keeps it", () => {
    const ids = [launchGuest(chip, { measurement }), launchGuest(chip, { measurement })].map((guest) => [
      hexOf(parseReport(guest.report(reportData)).reportId),
      hexOf(parseReport(guest.report(new Uint8Array(64))).reportId),
    ])
    expect(ids[0]?.[0]).toBe(ids[0]?.[1])
    expect(ids[0]?.[0]).not.toBe(ids[1]?.[0])
  })

  it("takes 64 bytes of report data and fields of their lengths only", () => {
    const guest = launchGuest(chip, { measurement })
    for (const length of [0, 63, 65])
      expect(codeOf(() => guest.report(new Uint8Array(length)))).toBe("INPUT reportData")
    expect(codeOf(() => launchGuest(chip, { measurement: new Uint8Array(32) }))).toBe("INPUT measurement")
    expect(codeOf(() => launchGuest(chip, { measurement, hostData: new Uint8Array(31) }))).toBe(
      "INPUT hostData",
    )
    expect(codeOf(() => launchGuest(chip, { measurement, vmpl: 4 }))).toBe("INPUT vmpl")
    expect(codeOf(() => createEmulatedChip(root, { now, hardwareId: new Uint8Array(8) }))).toBe(
      "INPUT hardwareId",
    )
    const tcb = { bootloader: 256, tee: 0, snp: 0, microcode: 0 }
    expect(codeOf(() => createEmulatedChip(root, { now, tcb }))).toBe("INPUT tcb.bootloader")
  })
})

describe.each(["Genoa", "Turin"] as const satisfies readonly SnpProduct[])("emulated %s", (product) => {
  it("is verified by that product's rules", () => {
    const other = makeRoot(product)
    const tcb = { ...(product === "Turin" && { fmc: 7 }), bootloader: 1, tee: 2, snp: 3, microcode: 4 }
    const guest = launchGuest(createEmulatedChip(other, { now, tcb }), { measurement, version: 5 })
    const evidence = { report: guest.report(reportData), certificates: guest.chip.certificates }
    const result = verifyReport(evidence, { roots: [other.hardwareRoot], now })
    if (result instanceof SnpError) throw result
    expect(result.product).toBe(product)
    expect(result.tcb.reported).toEqual(tcb)

    const asMilan = verifyReport(evidence, { roots: [{ ...other.hardwareRoot, product: "Milan" }], now })
    expect(asMilan).toMatchObject({ code: "CERTIFICATE_ROLE" })
    const old = launchGuest(guest.chip, { measurement, version: 2 }).report(reportData)
    const asVersion2 = verifyReport({ ...evidence, report: old }, { roots: [other.hardwareRoot], now })
    if (product === "Turin")
      expect(asVersion2).toMatchObject({ code: "PRODUCT_MISMATCH", field: "report.version" })
    else expect(asVersion2).not.toBeInstanceOf(SnpError)
  })
})

describe("an emulated root", () => {
  const evidenceOf = (of: EmulatedChip) => ({
    report: launchGuest(of, { measurement }).report(reportData),
    certificates: of.certificates,
  })

  it("is believed only where it is named, and named as emulated", () => {
    const evidence = evidenceOf(chip)
    const code = (roots: Parameters<typeof verifyReport>[1]["roots"]) => {
      const result = verifyReport(evidence, { roots, now })
      return result instanceof SnpError ? result.code : "believed"
    }
    expect(code([...amdRoots, root.hardwareRoot])).toBe("believed")
    expect(code(amdRoots)).toBe("ROOT_UNKNOWN")
    expect(code([])).toBe("ROOT_UNKNOWN")
    expect(code([{ ...root.hardwareRoot, emulated: false }])).toBe("ROOT_MISLABELLED")
    const genuine = amdRoots[0]
    if (genuine) expect(code([{ ...genuine, emulated: true }])).toBe("ROOT_UNKNOWN")
  })

  it("isn't another one of the same name, not even after a chain of it was remembered", () => {
    const twin = makeRoot()
    const other = makeChip(twin)
    const cache = new ChainCache()
    const both = [root.hardwareRoot, twin.hardwareRoot]
    expect(verifyReport(evidenceOf(other), { roots: both, now, cache })).not.toBeInstanceOf(SnpError)
    for (const remembered of [cache, new ChainCache()]) {
      const result = verifyReport(evidenceOf(other), { roots: [root.hardwareRoot], now, cache: remembered })
      expect(result).toMatchObject({ code: "ROOT_UNKNOWN" })
    }
    // Its VCEK under our issuers, and our report under its chain.
    const mixed = {
      ...evidenceOf(other),
      certificates: [other.certificates[0], ...root.certificates] as Uint8Array[],
    }
    expect(verifyReport(mixed, { roots: both, now, cache })).toMatchObject({ code: "CERTIFICATE_SIGNATURE" })
    const foreign = { ...evidenceOf(chip), certificates: other.certificates }
    expect(verifyReport(foreign, { roots: both, now, cache })).toMatchObject({ code: "CHIP_ID_MISMATCH" })
  })

  it("says EMULATED in every name, and OpenSSL reads its chain as sound", () => {
    const names = ["vcek", "ask", "ark"]
    for (const [i, der] of chip.certificates.entries()) {
      const pem = `-----BEGIN CERTIFICATE-----\n${Buffer.from(der).toString("base64")}\n-----END CERTIFICATE-----\n`
      writeFileSync(join(directory, `${names[i]}.pem`), pem)
      const text = execFileSync("openssl", ["x509", "-noout", "-subject", "-issuer"], {
        input: pem,
        encoding: "utf8",
      })
      expect(text.match(/EMULATED SEV-SNP, not AMD/g)).toHaveLength(2)
    }
    const args = [
      "verify",
      "-attime",
      `${now.getTime() / 1_000}`,
      "-CAfile",
      "ark.pem",
      "-untrusted",
      "ask.pem",
      "vcek.pem",
    ]
    expect(execFileSync("openssl", args, { cwd: directory, encoding: "utf8" })).toBe("vcek.pem: OK\n")
  })

  it("survives being written and read", () => {
    const again = decodeRoot(encodeRoot(root))
    expect(again).toEqual(root)
    const result = verifyReport(evidenceOf(makeChip(again)), { roots: [root.hardwareRoot], now })
    expect(result).not.toBeInstanceOf(SnpError)
  })
})

describe("the state file", () => {
  it("opens as a device whose reports are those of the guest", async () => {
    const guest = launchGuest(chip, { measurement, version: 5 })
    const path = join(directory, "guest.json")
    writeState(path, encodeGuest(guest))
    expect(statSync(path).mode & 0o777).toBe(0o600)
    const device = emulatedSnp(path)
    expect(device).toMatchObject({ platform: "sev-snp", emulated: true })
    const result = verifyReport(snpIn({ pieces: await device.attest(reportData) }), {
      roots: [root.hardwareRoot],
      now,
    })
    if (result instanceof SnpError) throw result
    expect(result.report.reportId).toEqual(guest.launch.reportId)
    expect(result.report.version).toBe(5)
  })

  it("is refused with the field's name when anything in it is wrong", () => {
    const good = JSON.parse(encodeGuest(launchGuest(chip, { measurement }))) as Record<string, unknown>
    const broken: readonly (readonly [string, unknown])[] = [
      ["format", "another"],
      ["product", "Naples"],
      ["chip_id", "00"],
      ["tcb", "zz"],
      ["vcek_secret", "00".repeat(48)],
      ["vcek_secret", 7],
      ["certificates", []],
      ["certificates", ["00", "00", "0"]],
      ["measurement", null],
      ["policy", 5],
      ["policy", "0x1ffffffffffffffff"],
      ["host_data", "00".repeat(33)],
      ["family_id", ""],
      ["image_id", undefined],
      ["vmpl", "0"],
      ["report_id", "AA".repeat(32)],
      ["version", 4],
    ]
    for (const [field, value] of broken) {
      const found = codeOf(() => decodeGuest(JSON.stringify({ ...good, [field]: value })))
      expect(found).toMatch(new RegExp(`^STATE_INVALID ${field}`))
    }
    for (const text of ["", "[]", "null", "{", "7"])
      expect(codeOf(() => decodeGuest(text))).toMatch(/^STATE_INVALID/)
    for (const key of Object.keys(good)) {
      if (key === "emulated") continue
      const { [key]: _, ...rest } = good
      expect(codeOf(() => decodeGuest(JSON.stringify(rest)))).toMatch(/^STATE_INVALID/)
    }
  })

  it("is refused when it can't be read or is too large", () => {
    expect(codeOf(() => emulatedSnp(join(directory, "none")))).toMatch(/^STATE_UNREADABLE/)
    writeFileSync(join(directory, "large"), "x".repeat(70_000))
    expect(codeOf(() => emulatedSnp(join(directory, "large")))).toMatch(/^STATE_UNREADABLE/)
    expect(codeOf(() => emulatedSnp(directory))).toMatch(/^STATE_UNREADABLE/)
  })
})

describe("the emulated launch measurement", () => {
  it("depends on every path, length and byte, and on nothing else", () => {
    const base = join(directory, "tree")
    mkdirSync(join(base, "a", "b"), { recursive: true })
    writeFileSync(join(base, "a", "one"), "1")
    writeFileSync(join(base, "a", "b", "two"), "22")
    writeFileSync(join(base, "three"), "333")
    const whole = hexOf(measureFiles(base, ["a", "three"]))
    expect(whole).toHaveLength(96)
    expect(hexOf(measureFiles(base, ["three", "a/one", "./a/b/two"]))).toBe(whole)
    const others = new Set([
      whole,
      hexOf(measureFiles(base, ["a"])),
      hexOf(measureFiles(base, ["a", "three"].slice(1))),
    ])
    expect(others.size).toBe(3)
    writeFileSync(join(base, "three"), "334")
    const changed = hexOf(measureFiles(base, ["a", "three"]))
    expect(changed).not.toBe(whole)
    writeFileSync(join(base, "three"), "333")
    writeFileSync(join(base, "a", "b", "new"), "")
    expect(hexOf(measureFiles(base, ["a", "three"]))).not.toBe(whole)
  })

  it("refuses links, paths that lead out, files named twice and files that aren't there", () => {
    const base = join(directory, "refused")
    mkdirSync(base)
    writeFileSync(join(base, "file"), "")
    symlinkSync("file", join(base, "link"))
    for (const paths of [["link"], ["."], ["../refused/file"], ["/etc/hostname"], ["file", "file"], ["none"]])
      expect(codeOf(() => measureFiles(base, paths))).toMatch(/^FILE_REFUSED/)
  })
})
