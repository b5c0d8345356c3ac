/**
 * PCRs of boots. The values named `real` are of boots of Debian 12 (kernel 6.1.0-56, OVMF 2022.11, shim 16.1, GRUB 2.06,
 * systemd-stub 252) under QEMU with a swtpm: registers as the TPM gave them, and digests of images as the log had them.
 */
import { createHash } from "node:crypto"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { describe, expect, it } from "vitest"
import { parseEventLog, replay } from "../../services/evidence/eventlog/index.ts"
import { readVariable } from "../../services/evidence/eventlog/uefi.ts"
import { guidBytes } from "../../services/evidence/measure/guid.ts"
import {
  asQemuLoads,
  authorityInDb,
  chainSteps,
  digestsOf,
  directBootSteps,
  imageDigest,
  readImage,
  readUnifiedImage,
  registerOf,
  type Step,
  secureBootSteps,
  unifiedImages,
  unifiedKernelSteps,
  unifiedSteps,
} from "../../services/evidence/measure/index.ts"
import { directSteps, stubSteps } from "../../services/evidence/measure/linux.ts"
import { flippedAt, haveVectors, hexOf, readVector, vectorsDir } from "./evidence-support.ts"
import { bytesOf } from "./evidence-tpm-support.ts"
import { mutated, peImage, random, refusal, u32 } from "./measure-support.ts"

const sha256 = (data: string | Uint8Array) => createHash("sha256").update(data).digest("hex")
const steps = (...digests: readonly string[]): readonly Step[] =>
  digests.map((digest) => ({ what: "from a log", digest: bytesOf(digest) }))
const register = (list: readonly Step[] | undefined): string => hexOf(registerOf("sha256", list ?? []))

const real = {
  kernel: "6b1bf35c3bee9918250f593a6fff889c75c1e239cd2fe9e5bb0cd3de9dcb8e51",
  kernelFromQemu: "d2df530404222b590bdf8dcbbb38d087115c33dba7c16efa59bad47812c77a69",
  shim: "80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8",
  grub: "a68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265",
  uki: "2934adbe3e6c7ed469d99060c5cbd722f4413832345cd380de71a2ea198c70fa",
  initrd: "460579ddd6d583d449c151e8fb1c35ac12a9bfa6598fc2605765b8018eec8c74",
  direct4: "7ec9160d601f161a06274f244c6995ce23a63fd35d591ba7aae374e8144a4d64",
  direct9: "9cb881c65e9510b28f00ed700c56ff18b1ae471c600d2adbcac8c89f9273dc6e",
  shim4: "fde40489ae46f33036c5081763407b9bfce2fffbefed640cdf19a773e34089b8",
  uki4: "56ae4aab975175601f6e31d25bf96be1ec5b3fbf9708d2d9560fda7c9116a2ff",
  uki9: "c10fa9e657762051a4196e748c389997651b70be77e0a079babab3cb0878b842",
  noKeys7: "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068",
}
const initrd = { bytes: 1_495_048, digests: new Map([["sha256", bytesOf(real.initrd)] as const]) }
const line = "console=ttyS0 quiet panic=-1"

describe("registers of real boots", () => {
  it("come out for shim, GRUB and a kernel, after a boot option that failed", () => {
    const chain = steps(real.shim, real.grub, real.kernel, real.kernel)
    expect(register(chainSteps("sha256", chain, 1))).toBe(real.shim4)
    expect(register(chainSteps("sha256", chain))).not.toBe(real.shim4)
  })

  it("come out for a unified kernel image", () => {
    expect(register(chainSteps("sha256", steps(real.uki, real.kernel), 1))).toBe(real.uki4)
    expect(register(stubSteps("sha256", line, initrd))).toBe(real.uki9)
  })

  it("come out for a kernel that QEMU gives to OVMF", () => {
    const [kernel = { what: "", digest: new Uint8Array(32) }] = steps(real.kernelFromQemu)
    expect(register(directSteps("sha256", kernel))).toBe(real.direct4)
    expect(register(stubSteps("sha256", `${line} initrd=initrd`, initrd))).toBe(real.direct9)
  })

  it("come out for firmware without keys, where Secure Boot is off", () => {
    expect(register(secureBootSteps("sha256", { SecureBoot: Uint8Array.of(0) }))).toBe(real.noKeys7)
  })
})

const kernelFile = existsSync("/boot")
  ? readdirSync("/boot").find((name) => name.startsWith("vmlinuz-6.1."))
  : undefined
if (kernelFile === undefined)
  console.warn("NO SIGNED IMAGE TESTED: 1 skipped, there is no /boot/vmlinuz-6.1.* (apt: linux-image-amd64)")

describe("the digest of an image", () => {
  const certificates = Buffer.from("certificates....")
  const parts = {
    sections: [
      [".text", Buffer.from("one")],
      [".data", Buffer.alloc(700, 2)],
    ] as const,
  }
  const plain = peImage(parts)
  const digestOf = (bytes: Uint8Array): string => hexOf(imageDigest(readImage(bytes), "sha256"))

  it.runIf(kernelFile !== undefined)("is the one that Debian's signature over its kernel holds", () => {
    const bytes = new Uint8Array(readFileSync(`/boot/${kernelFile}`))
    const image = readImage(bytes)
    const signed = Buffer.from(bytes.subarray(bytes.length - (image.certificates?.bytes ?? 0)))
    expect(signed.length).toBeGreaterThan(500)
    expect(signed.indexOf(imageDigest(image, "sha256"))).toBeGreaterThan(0)
  })

  it("leaves out checksum and certificates, and nothing else", () => {
    const signed = peImage({ ...parts, certificates })
    const entry = 88 + 112 + 32
    expect(digestOf(signed)).toBe(digestOf(plain))
    expect(digestOf(peImage({ ...parts, trailer: Buffer.from("more") }))).not.toBe(digestOf(plain))
    const uncovered: number[] = []
    for (let at = 0; at < signed.length; at += 1) {
      let found: string | undefined
      const error = refusal(() => {
        found = digestOf(flippedAt(signed, at))
      })
      if (error === undefined && found === digestOf(signed)) uncovered.push(at)
    }
    const wanted = [
      ...[0, 1, 2, 3].map((i) => 88 + 64 + i),
      // The address of the certificates; their length counts, for it says where the image ends.
      ...[0, 1, 2, 3].map((i) => entry + i),
      ...Array.from(certificates, (_, i) => signed.length - certificates.length + i),
    ]
    expect(uncovered).toEqual(wanted)
  })

  it("is hashed in the order of the file, headers first", () => {
    const bytes = Buffer.from(plain)
    const covered = [bytes.subarray(0, 152), bytes.subarray(156, 232), bytes.subarray(240)]
    expect(digestOf(plain)).toBe(sha256(Buffer.concat(covered)))
  })

  it("is a value or a typed error whatever the bytes: 4,000 mutations", () => {
    const pick = random(6)
    const codes = new Set<string>()
    for (let i = 0; i < 4_000; i++)
      codes.add(refusal(() => digestOf(mutated(plain, pick, 0, 512)))?.code ?? "measured")
    expect([...codes].sort()).toEqual(["IMAGE", "measured"])
  })
})

const magic = (version: number) => Buffer.from(`#### LoaderInfo: systemd-stub ${version}.1 ####\0`)
const kernelImage = peImage({ sections: [[".text", Buffer.from("kernel")]] })
const unified = (version: number, ...more: readonly (readonly [string, Uint8Array])[]) =>
  peImage({
    sections: [
      [".sdmagic", magic(version)],
      [".sbat", Buffer.from("sbat,1")],
      [".uname", Buffer.from("6.1")],
      [".initrd", Buffer.from("initrd")],
      [".linux", kernelImage],
      [".cmdline", Buffer.from("quiet\0")],
      ...more,
    ].map(([name, data]) => [`${name}`.slice(0, 8), Buffer.from(data as Uint8Array)] as const),
  })

describe("a unified kernel image", () => {
  const names = (version: number) =>
    unifiedSteps("sha256", readUnifiedImage(unified(version)))
      .map(({ what }) => what)
      .filter((what) => what.startsWith("."))

  it("is measured section by section in the stub's order, and by version", () => {
    expect(names(252)).toEqual([".linux", ".cmdline", ".initrd"])
    expect(names(254)).toEqual([".linux", ".cmdline", ".initrd", ".uname", ".sbat"])
  })

  it("gives PCR 11 of names with a zero, contents as long as they are in memory, and phases", () => {
    const list = unifiedSteps("sha256", readUnifiedImage(unified(252)), ["enter-initrd", "ready"])
    expect(list.map(({ digest }) => hexOf(digest))).toEqual(
      [".linux\0", kernelImage, ".cmdline\0", "quiet\0", ".initrd\0", "initrd", "enter-initrd", "ready"].map(
        sha256,
      ),
    )
  })

  it("gives PCR 4 of itself and of the kernel in it, PCR 9 of that kernel's start", () => {
    const uki = readUnifiedImage(unified(252))
    expect(unifiedImages("sha256", uki).map(({ digest }) => hexOf(digest))).toEqual(
      [unified(252), kernelImage].map((bytes) => hexOf(imageDigest(readImage(bytes), "sha256"))),
    )
    expect(unifiedKernelSteps("sha256", uki)?.map(({ digest }) => hexOf(digest))).toEqual([
      sha256(Buffer.from("quiet\0", "utf16le")),
      sha256("initrd"),
    ])
  })

  it("says nothing of PCR 9 where the stub makes up what the kernel gets", () => {
    const microcode = readUnifiedImage(unified(256, [".ucode", Buffer.from("cpio")]))
    expect(unifiedKernelSteps("sha256", microcode)).toBeUndefined()
  })

  it.each([
    ["of another stub", peImage({ sections: [[".linux", kernelImage]] }), "uki.sections"],
    ["of an old stub", unified(251), "uki.version"],
    ["with profiles", unified(257, [".profile", Buffer.from("ID=a")]), "uki.sections"],
    ["with two kernels", unified(252, [".linux", kernelImage]), "uki.sections"],
    ["without a kernel", peImage({ sections: [[".sdmagic", magic(252)]] }), "uki.sections"],
  ])("%s is refused", (_, bytes, field) => {
    expect(refusal(() => readUnifiedImage(bytes))).toMatchObject({ code: "IMAGE", field })
  })

  it("is a value or a typed error whatever the bytes: 2,000 mutations", () => {
    const pick = random(8)
    const whole = unified(254)
    const codes = new Set<string>()
    for (let i = 0; i < 2_000; i++) {
      const error = refusal(() => {
        const uki = readUnifiedImage(mutated(whole, pick, 0, 1_024))
        unifiedImages("sha256", uki)
        unifiedSteps("sha256", uki)
        unifiedKernelSteps("sha256", uki)
      })
      codes.add(error?.code ?? "measured")
    }
    expect([...codes].sort()).toEqual(["IMAGE", "measured"])
  }, 60_000)

  it("takes words as phases only", () => {
    const uki = readUnifiedImage(unified(252))
    expect(refusal(() => unifiedSteps("sha256", uki, ["Ready\n"]))).toMatchObject({ code: "PHASE" })
  })
})

describe("a kernel's header as QEMU fills it in", () => {
  const bzImage = (version = 0x20f, flags = 2): Uint8Array => {
    const bytes = Buffer.alloc(1_024)
    bytes.write("HdrS", 0x202)
    bytes.writeUInt16LE(version, 0x206)
    bytes.writeUInt32LE(0x7fff_ffff, 0x22c)
    bytes.writeUInt16LE(flags, 0x236)
    return bytes
  }
  const address = (bytes: Uint8Array): number => Buffer.from(bytes).readUInt32LE(0x218)

  it("puts the initrd at the end of low memory, below ACPI's tables, or where the kernel can reach it", () => {
    // As QEMU 7.2 did with this initrd and 1,536 MiB, by the real boot above.
    expect(address(asQemuLoads(bzImage(), { memoryBytes: 1_536 * 2 ** 20, initrdBytes: 1_495_048 }))).toBe(
      0x5fe6_a000,
    )
    const large = { memoryBytes: 8 * 2 ** 30, initrdBytes: 4_096 }
    expect(address(asQemuLoads(bzImage(), large))).toBe(0x7ffd_6000)
    const low = Buffer.from(bzImage(0x20f, 0))
    low.writeUInt32LE(0x37ff_ffff, 0x22c)
    expect(address(asQemuLoads(low, large))).toBe(0x37ff_e000)
  })

  it("is refused for other files, old kernels and too little memory", () => {
    const load = { memoryBytes: 2 ** 30, initrdBytes: 1 }
    expect(refusal(() => asQemuLoads(new Uint8Array(100), load))).toMatchObject({
      code: "KERNEL",
      field: "kernel",
    })
    expect(refusal(() => asQemuLoads(new Uint8Array(1_024), load))?.field).toBe("kernel.magic")
    expect(refusal(() => asQemuLoads(bzImage(0x204), load))?.field).toBe("kernel.version")
    for (const memoryBytes of [0, Number.NaN, 2 ** 24])
      expect(refusal(() => asQemuLoads(bzImage(), { ...load, memoryBytes }))?.code).toBe("MEMORY")
    expect(refusal(() => asQemuLoads(bzImage(), { memoryBytes: 2 ** 27, initrdBytes: 2 ** 28 }))?.code).toBe(
      "MEMORY",
    )
  })

  it("is changed only where a size of memory is given", () => {
    const boot = { kernel: kernelImage, commandLine: line }
    expect(directBootSteps("sha256", boot).get(4)?.[0]?.digest).toEqual(
      imageDigest(readImage(kernelImage), "sha256"),
    )
    expect(refusal(() => directBootSteps("sha256", { ...boot, memoryBytes: 2 ** 30 }))?.code).toBe("KERNEL")
  })
})

const bootLogs = [
  "keylime-secureboot",
  "eventlogwithsp800155",
  "rhel8-uefi",
  "ubuntu-2404-amd-sevsnp",
  "cos-101-amd-sev",
  "ubuntu-2104-no-secure-boot",
]
if (!haveVectors)
  console.warn(`NO REAL LOG TESTED: ${bootLogs.length} skipped, nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`)

describe("PCR 7", () => {
  it.runIf(haveVectors).each(bootLogs)("comes out from the variables that %s had", (name) => {
    const log = parseEventLog(readVector(`tpm/eventlog/${name}.eventlog.bin`))
    const read = log.events
      .filter(({ register: pcr, typeName }) => pcr === 7 && typeName.startsWith("EV_EFI_VARIABLE"))
      .flatMap(({ data, typeName }) => {
        const variable = readVariable(data)
        return variable === undefined ? [] : [{ ...variable, authority: typeName.endsWith("AUTHORITY") }]
      })
    const values = Object.fromEntries(
      read.filter(({ authority }) => !authority).map(({ name, value }) => [name, value]),
    )
    const authorities = read
      .filter(({ authority }) => authority)
      .map(({ name, value }) => ({ variable: name, value }))
    expect(register(secureBootSteps("sha256", values, authorities))).toBe(
      hexOf(replay(log, "sha256").get(7) ?? new Uint8Array(0)),
    )
  })

  const certificate = Buffer.from("a certificate")
  const owner = guidBytes("77fa9abd-0359-4d32-bd60-28f4e78f784b")
  const list = (type: string, ...entries: readonly Uint8Array[]) =>
    Buffer.concat([
      guidBytes(type),
      u32(28 + entries.reduce((sum, { length }) => sum + length + 16, 0), 0, 16 + (entries[0]?.length ?? 0)),
      ...entries.flatMap((entry) => [owner, entry]),
    ])
  const x509 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072"
  const db = Buffer.concat([
    list("c1c41626-504c-4092-aca9-41f936934328", Buffer.alloc(32, 1)),
    list(x509, Buffer.from("another"), Buffer.from("anothe2")),
    list(x509, certificate),
  ])

  it("takes an authority from db with its owner", () => {
    expect(authorityInDb(db, certificate)).toEqual({
      variable: "db",
      value: Buffer.concat([owner, certificate]),
    })
    expect(refusal(() => authorityInDb(db, Buffer.alloc(32, 1)))).toMatchObject({
      code: "VARIABLE",
      field: "variables.db",
    })
  })

  it("refuses variables that aren't Secure Boot's, a long SecureBoot, and a malformed db: 2,000 mutations", () => {
    expect(
      refusal(() => secureBootSteps("sha256", {}, [{ variable: "BootOrder", value: owner }]))?.field,
    ).toBe("variables.BootOrder")
    expect(refusal(() => secureBootSteps("sha256", { SecureBoot: Uint8Array.of(1, 0) }))?.field).toBe(
      "variables.SecureBoot",
    )
    const pick = random(7)
    const codes = new Set<string>()
    for (let i = 0; i < 2_000; i++)
      codes.add(refusal(() => authorityInDb(mutated(db, pick), certificate))?.code ?? "found")
    expect([...codes].sort()).toEqual(["VARIABLE", "found"])
  })
})

describe("chains and lines", () => {
  it("are bounded", () => {
    const [image = { what: "", digest: new Uint8Array(32) }] = steps(real.kernel)
    expect(refusal(() => chainSteps("sha256", []))?.code).toBe("LENGTH")
    expect(
      refusal(() =>
        chainSteps(
          "sha256",
          Array.from({ length: 65 }, () => image),
        ),
      )?.code,
    ).toBe("LENGTH")
    for (const failed of [-1, 0.5, 65])
      expect(refusal(() => chainSteps("sha256", [image], failed))?.code).toBe("LENGTH")
    expect(refusal(() => stubSteps("sha256", "quiet\u00e9"))?.code).toBe("COMMAND_LINE")
    expect(stubSteps("sha256", "quiet", digestsOf(new Uint8Array(0), ["sha256"]))).toHaveLength(2)
  })
})
