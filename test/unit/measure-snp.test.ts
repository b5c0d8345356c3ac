/**
 * Launch measurements of SNP guests. The values are those that the tests of sev-snp-measure (github.com/virtee, commit
 * 8f2b337e) expect of edk2-stable202405's AmdSevX64 and OvmfX64 builds; of those builds here is what a measurement needs:
 * the digest of their last 4 KiB, their sections, and their addresses.
 */
import { describe, expect, it } from "vitest"
import {
  digestsOf,
  launchDigest,
  measureSnp,
  readSnpFirmware,
  type SnpFirmware,
  type SnpLaunch,
  vcpuTypes,
} from "../../services/evidence/measure/index.ts"
import { vcpuPage, vcpuSignature } from "../../services/evidence/measure/snp-vcpu.ts"
import { hexOf } from "./evidence-support.ts"
import { bytesOf } from "./evidence-tpm-support.ts"
import { type FirmwareParts, firmware, mutated, random, refusal, type SevSection } from "./measure-support.ts"

const amdSev = {
  sev: [
    [0x80_0000, 0x9000, 1],
    [0x80_a000, 0x3000, 1],
    [0x80_d000, 0x1000, 2],
    [0x80_e000, 0x1000, 3],
    [0x80_f000, 0x1000, 4],
    [0x81_0000, 0x1000, 0x10],
    [0x81_1000, 0xf000, 1],
  ] satisfies readonly SevSection[],
  reset: 0x80_b004,
  hashes: 0x81_0c00,
}
const ovmfX64 = {
  sev: [...amdSev.sev.slice(0, 5), [0x81_0000, 0x1_0000, 1]] satisfies readonly SevSection[],
  reset: 0x80_b004,
  hashes: 0,
}
const digests = {
  amdSev: "086e2e9149ebf45abdc3445fba5b2da8270bdbb04094d7a2c37faaa4b24af3aa16aff8c374c2a55c467a50da6d466b74",
  ovmfX64: "b91e6fec73d2bcc57ad5fd400a426ce02731c22ea92bc894ce675e7c9921a822977d6cf025b85f8ef4f264bff8839d20",
}
const builds = { amdSev: firmware(amdSev), ovmfX64: firmware(ovmfX64) }

const empty = digestsOf(new Uint8Array(0), ["sha256"])
const load = (commandLine: string) => ({ kernel: empty, initrd: empty, commandLine })
const one = { vcpus: 1, vcpuType: "EPYC-v4" }
const four = { ...one, vcpus: 4 }
const both = 0x21n

const published: readonly (readonly [name: string, keyof typeof builds, SnpLaunch, string])[] = [
  [
    "an empty kernel, features 0x21",
    "amdSev",
    { ...one, features: both, load: load("") },
    "329c8ce0972ae52343b64d34a434a86f245dfd74f5ed7aae15d22efc78fb9683632b9b50e4e1d7fa41179ef98a7ef198",
  ],
  [
    "an empty kernel",
    "amdSev",
    { ...one, load: load("") },
    "ddc5224521617a536ee7ce9dd6224d1b58a8d4fda1c741f3ac99fc4bfa04ba6e9fc98646d4a07a9079397fa3852819b5",
  ],
  [
    "a command line, features 0x21",
    "amdSev",
    { ...one, features: both, load: load("console=ttyS0 loglevel=7") },
    "803f691094946e42068aaa3a8f9e26a5c89f36f7b73ecfb28c653360fe4b3aba7e534442e7e1e17895dfe778d0228977",
  ],
  [
    "a command line",
    "amdSev",
    { ...one, load: load("console=ttyS0 loglevel=7") },
    "6d287813eb5222d770f75005c664e34c204f385ce832cc2ce7d0d6f354454362f390ef83a92046c042e706363b4b08fa",
  ],
  [
    "EC2, features 0x21",
    "amdSev",
    { vcpus: 1, vmm: "ec2", features: both, load: load("") },
    "0ce9ccc06bab55eebe8abc234f3df6514883977a68a591b71052498ab52b2f1aa415db338033946ef93aa8278c0d67fb",
  ],
  [
    "EC2",
    "amdSev",
    { vcpus: 1, vmm: "ec2", load: load("") },
    "0883bd0eeb716e65b7b977a321c278d1e51b33b5c655fab985443bbcc65c086b9c15e8a0bd8811050dec7e24964e5056",
  ],
  [
    "GCE",
    "amdSev",
    { vcpus: 1, vmm: "gce", load: load("") },
    "5da7106cf14cf46b1725ebab123eb9e53bd46a1e9f400cd0c08e7827b04b688ea8b4e403c8404efed4397ea5d5d0722e",
  ],
  [
    "GCE, 4 processors",
    "amdSev",
    { vcpus: 4, vmm: "gce", load: load("") },
    "5c5debf100fc339f90276e761ee1f1658d08922c3b20e2a2e6c7a6c3370b2452a15a00eae11886a93d6fd1e7ab81e29d",
  ],
  [
    "no kernel, features 0x21",
    "amdSev",
    { ...one, features: both },
    "e1e1ca029dd7973ab9513295be68198472dcd4fc834bd9af9b63f6e8a1674dbf281a9278a4a2ebe0eed9f22adbcd0e2b",
  ],
  [
    "no kernel",
    "amdSev",
    one,
    "19358ba9a7615534a9a1e2f0dfc29384dcd4dcb7062ff9c6013b26869a5fc6ecabe033c48dd6f6db5d6d76e7c5df632d",
  ],
  [
    "4 processors, features 0x21",
    "amdSev",
    { ...four, features: both, load: load("") },
    "4953b1fb416fa874980e8442b3706d345926d5f38879134e00813c5d7abcbe78eafe7b422907be0b4698e2414a631942",
  ],
  [
    "4 processors",
    "amdSev",
    { ...four, load: load("") },
    "5061fffb019493a903613d56d54b94912a1a2f9e4502385f5c194616753720a92441310ba6c4933de877c36e23046ad5",
  ],
  [
    "a build without hashes, features 0x21",
    "ovmfX64",
    { ...one, features: both },
    "28797ae0afaba4005a81e629acebfb59e6687949d6be44007cd5506823b0dd66f146aaae26ff291eed7b493d8a64c385",
  ],
  [
    "a build without hashes",
    "ovmfX64",
    one,
    "da0296de8193586a5512078dcd719eccecbd87e2b825ad4148c44f665dc87df21e5b49e21523a9ad993afdb6a30b4005",
  ],
]

describe("the launch measurement that others publish", () => {
  it.each(published)("of %s", (_, build, launch, wanted) => {
    expect(hexOf(launchDigest(readSnpFirmware(builds[build]), bytesOf(digests[build]), launch))).toBe(wanted)
  })

  it("needs the right model of processor, and no other than what QEMU knows", () => {
    // CPUID 1 of these processors, by AMD's revision guides.
    const wanted = {
      "EPYC-v4": 0x80_0f12,
      "EPYC-Rome": 0x83_0f10,
      "EPYC-Milan": 0xa0_0f11,
      "EPYC-Genoa": 0xa1_0f10,
      "EPYC-Turin": 0xb0_0f00,
    }
    for (const [type, signature] of Object.entries(wanted)) expect(vcpuSignature(type), type).toBe(signature)
    expect(vcpuSignature("25.17.1")).toBe(0xa1_0f11)
    for (const type of [
      "",
      "epyc",
      "toString",
      "Skylake",
      "271.0.0",
      "25.256.0",
      "25.1.16",
      "25.1",
      "25.1.1.1",
    ])
      expect(vcpuSignature(type)).toBeUndefined()
    expect(vcpuTypes).toContain("EPYC-Turin")
  })
})

describe("what goes into a launch measurement", () => {
  const base: SnpLaunch = {
    ...one,
    load: { ...load("quiet"), initrd: digestsOf(Uint8Array.of(1), ["sha256"]) },
  }
  const of = (image: Uint8Array, launch: SnpLaunch): string => hexOf(measureSnp(image, launch))
  const changed = (image: Uint8Array, at: number): Uint8Array =>
    image.map((byte, i) => (i === at ? byte ^ 1 : byte))

  it("is each byte of the firmware, its place, each processor, and all that is loaded beside it", () => {
    const image = builds.amdSev
    const kernel = digestsOf(Uint8Array.of(2), ["sha256"])
    const all = [
      of(image, base),
      of(changed(image, 0), base),
      of(changed(image, 4_096), base),
      of(firmware({ ...amdSev, bytes: 12_288 }), base),
      of(image, { ...base, vcpus: 2 }),
      of(firmware({ ...amdSev, reset: 0x80_c004 }), { ...base, vcpus: 2 }),
      of(image, { ...base, vcpuType: "EPYC-Milan" }),
      of(image, { ...base, features: 0x5n }),
      of(image, { ...base, load: { ...load("quiet"), kernel, initrd: kernel } }),
      of(image, { ...base, load: { ...load("quiet"), kernel: empty, initrd: kernel } }),
      of(image, { ...base, load: { ...load("quiet "), initrd: kernel } }),
      of(image, { ...base, load: load("quiet") }),
    ]
    expect(new Set(all).size).toBe(all.length)
  })

  it("takes an absent initrd as an empty one", () => {
    const { initrd: _, ...absent } = load("")
    expect(of(builds.amdSev, { ...one, load: absent })).toBe(of(builds.amdSev, { ...one, load: load("") }))
  })

  it("begins another processor elsewhere than the first", () => {
    const state = { features: 1n, signature: 0, vmm: "qemu" as const }
    const page = vcpuPage({ ...state, start: 0x80_b004 })
    const view = new DataView(page.buffer)
    expect(page).toHaveLength(4_096)
    expect(view.getBigUint64(0x18, true)).toBe(0x80_0000n)
    expect(view.getBigUint64(0x178, true)).toBe(0xb004n)
  })
})

describe("firmware and launches that can't be measured", () => {
  const without = (change: FirmwareParts): Uint8Array => firmware({ ...amdSev, ...change })
  const set = (image: Uint8Array, at: number, ...bytes: readonly number[]): Uint8Array => {
    const copy = Uint8Array.from(image)
    copy.set(bytes, at < 0 ? copy.length + at : at)
    return copy
  }
  const section = (...one: SevSection): Uint8Array => without({ sev: [one] })
  const image = builds.amdSev
  const cases: readonly (readonly [string, Uint8Array, SnpLaunch, string, string])[] = [
    ["nothing", new Uint8Array(0), one, "FIRMWARE_LENGTH", "firmware"],
    ["half a page", image.subarray(2_048), one, "FIRMWARE_LENGTH", "firmware"],
    ["no table", new Uint8Array(8_192), one, "FIRMWARE_TABLE", "firmware.table"],
    [
      "a table longer than the image",
      set(image, -50, 0xff, 0xff),
      one,
      "FIRMWARE_TABLE",
      "firmware.table.length",
    ],
    [
      "an entry longer than the table",
      set(image, -68, 0xff),
      one,
      "FIRMWARE_TABLE",
      "firmware.table.entries[0].length",
    ],
    ["an entry of no length", set(image, -68, 0), one, "FIRMWARE_TABLE", "firmware.table.entries[0].length"],
    [
      "no metadata for SEV",
      firmware({ reset: 1 }),
      one,
      "FIRMWARE_TABLE",
      "firmware.table.dc886566-984a-4798-a75e-5585a7bf67cc",
    ],
    [
      "no reset block",
      firmware({ sev: amdSev.sev }),
      one,
      "FIRMWARE_TABLE",
      "firmware.table.00f771de-1a7e-4fcb-890e-68c77e2fb44e",
    ],
    ["another signature", set(image, -2_048, 0), one, "FIRMWARE_METADATA", "firmware.metadata.signature"],
    ["another version", set(image, -2_040, 2), one, "FIRMWARE_METADATA", "firmware.metadata.version"],
    ["too many sections", set(image, -2_036, 65), one, "FIRMWARE_METADATA", "firmware.metadata.count"],
    [
      "an unknown section",
      section(0, 4_096, 9),
      one,
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].type",
    ],
    [
      "a section within a page",
      section(1, 4_096, 1),
      one,
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].address",
    ],
    [
      "an endless section",
      section(0, 0xffff_f000, 1),
      one,
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].size",
    ],
    [
      "two pages of secrets",
      section(0, 8_192, 2),
      one,
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].size",
    ],
    [
      "no place for hashes",
      builds.ovmfX64,
      { ...one, load: load("") },
      "FIRMWARE_SUPPORT",
      "firmware.metadata.sections",
    ],
    [
      "hashes elsewhere",
      without({ hashes: 0x90_0000 }),
      { ...one, load: load("") },
      "FIRMWARE_SUPPORT",
      "firmware.hashesAddress",
    ],
    [
      "hashes over a page's end",
      without({ hashes: 0x81_0fff }),
      { ...one, load: load("") },
      "FIRMWARE_SUPPORT",
      "firmware.hashesAddress",
    ],
    ["no processors", image, { ...one, vcpus: 0 }, "VCPUS", "vcpus"],
    ["too many processors", image, { ...one, vcpus: 1_025 }, "VCPUS", "vcpus"],
    ["an unknown processor", image, { vcpus: 1, vcpuType: "constructor" }, "VCPUS", "vcpuType"],
    ["features without SNP", image, { ...one, features: 2n }, "FEATURES", "features"],
    ["a line with a zero", image, { ...one, load: load("quiet\0init=/x") }, "COMMAND_LINE", "commandLine"],
    ["too long a line", image, { ...one, load: load("x".repeat(4_097)) }, "COMMAND_LINE", "commandLine"],
  ]
  it.each(cases)("%s", (_, bytes, launch, code, field) => {
    expect(refusal(() => measureSnp(bytes, launch))).toMatchObject({ code, field })
  })

  it("are refused with a typed error whatever their bytes: 4,000 mutations", () => {
    const pick = random(4)
    const outcomes = new Map<string, number>()
    for (let i = 0; i < 4_000; i++) {
      // What is read lies in the last page: the footer's table and the metadata.
      const bytes = mutated(image, pick, image.length - (i % 2 === 0 ? 2_048 : 200))
      let read: SnpFirmware | undefined
      const error = refusal(() => {
        read = readSnpFirmware(bytes)
      })
      const key = error?.code ?? `${read?.sections.every(({ size }) => size % 4_096 === 0)}`
      outcomes.set(key, (outcomes.get(key) ?? 0) + 1)
    }
    expect([...outcomes.keys()].sort()).toEqual([
      "FIRMWARE_LENGTH",
      "FIRMWARE_METADATA",
      "FIRMWARE_TABLE",
      "true",
    ])
  })
})
