/** MRTD and RTMRs: against the definition written out a second time, and against a real TD's quote. */
import { createHash } from "node:crypto"
import { describe, expect, it } from "vitest"
import { parseEventLog } from "../../services/evidence/eventlog/index.ts"
import {
  digestsOf,
  directRtmr1Steps,
  directRtmrSteps,
  imageDigest,
  measureTdx,
  readImage,
  registerOf,
} from "../../services/evidence/measure/index.ts"
import { parseQuote } from "../../services/evidence/tdx/index.ts"
import { haveVectors, hexOf, readVector, vectorsDir } from "./evidence-support.ts"
import { firmware, mutated, peImage, random, refusal, type TdxSection, u64 } from "./measure-support.ts"

const sections = [
  [0x1000, 0x1000, 0xffff_f000, 0x1000, 0, 1],
  [0, 0x800, 0xffff_e000, 0x1000, 1, 1],
  [0, 0x1000, 0xffff_d000, 0x1000, 1, 0],
  [0, 0, 0x80_9000, 0x2000, 2, 0],
  [0, 0, 0x81_0000, 0x3000, 3, 0],
  [0, 0, 0x100_0000, 0x20_0000, 4, 2],
] satisfies readonly TdxSection[]
const image = firmware({ tdx: sections })

/** The definition, page by page or section by section, with other means than the code's. */
const byHand = (bytes: Uint8Array, list: readonly TdxSection[], bySection: boolean): string => {
  const hash = createHash("sha384")
  const says = (name: string, address: number) =>
    hash.update(Buffer.concat([Buffer.from(name.padEnd(16, "\0")), u64(address), Buffer.alloc(104)]))
  for (const [offset, raw, address, size, , attributes] of list) {
    if (attributes === 2) continue
    const memory = Buffer.concat([bytes.subarray(offset, offset + raw), Buffer.alloc(size - raw)])
    const pages = Array.from({ length: size / 4_096 }, (_, i) => i * 4_096)
    const contents = (page: number) => {
      for (let at = page; attributes === 1 && at < page + 4_096; at += 256) {
        says("MR.EXTEND", address + at)
        hash.update(memory.subarray(at, at + 256))
      }
    }
    for (const page of pages) {
      says("MEM.PAGE.ADD", address + page)
      if (!bySection) contents(page)
    }
    if (bySection) pages.forEach(contents)
  }
  return hash.digest("hex")
}

describe("MRTD", () => {
  it("is as the TDX module computes it, in both orders", () => {
    const two = firmware({ tdx: [[0, 0x2000, 0xffff_e000, 0x2000, 0, 1]] })
    for (const order of ["page", "section"] as const) {
      expect(hexOf(measureTdx(image, order))).toBe(byHand(image, sections, order === "section"))
      expect(hexOf(measureTdx(two, order))).toBe(
        byHand(two, [[0, 0x2000, 0xffff_e000, 0x2000, 0, 1]], order === "section"),
      )
    }
    expect(hexOf(measureTdx(two, "page"))).not.toBe(hexOf(measureTdx(two, "section")))
  })

  it("covers the contents of measured sections, and of others only that they are there", () => {
    const all = [image, firmware({ tdx: sections.slice(0, 5) }), firmware({ tdx: sections.slice(0, 4) })]
    const [first, withoutAugmented, without] = all.map((one) => hexOf(measureTdx(one)))
    // The metadata itself is in the measured section, so that the two differ by it.
    expect(new Set([first, withoutAugmented, without]).size).toBe(3)
    const unmeasured = Uint8Array.from(image)
    unmeasured[0x900] = (unmeasured[0x900] ?? 0) ^ 1
    expect(hexOf(measureTdx(unmeasured))).toBe(first)
    for (const at of [0x10, 0x1010]) {
      const measured = Uint8Array.from(image)
      measured[at] = (measured[at] ?? 0) ^ 1
      expect(hexOf(measureTdx(measured))).not.toBe(first)
    }
  })

  const one = (...section: TdxSection) => firmware({ tdx: [section] })
  const cases: readonly (readonly [string, Uint8Array, string, string])[] = [
    [
      "no metadata for TDX",
      firmware({ reset: 1 }),
      "FIRMWARE_TABLE",
      "firmware.table.e47a6535-984a-4798-865e-4685a7bf8ec2",
    ],
    ["no sections", firmware({ tdx: [] }), "FIRMWARE_METADATA", "firmware.metadata.count"],
    [
      "a section within a page",
      one(0, 0, 1, 4_096, 3, 0),
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].address",
    ],
    ["half a page", one(0, 0, 0, 2_048, 3, 0), "FIRMWARE_METADATA", "firmware.metadata.sections[0].size"],
    [
      "more in the file than in memory",
      one(0, 8_192, 0, 4_096, 0, 1),
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].rawSize",
    ],
    [
      "contents past the image",
      one(8_192, 4_096, 0, 4_096, 0, 1),
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].offset",
    ],
    [
      "unknown attributes",
      one(0, 0, 0, 4_096, 3, 4),
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].attributes",
    ],
    [
      "measured and added later",
      one(0, 0, 0, 4_096, 3, 3),
      "FIRMWARE_METADATA",
      "firmware.metadata.sections[0].attributes",
    ],
    [
      "more memory than is measured",
      one(0, 0, 0, 0x4000_0000, 3, 0),
      "FIRMWARE_METADATA",
      "firmware.metadata.sections",
    ],
  ]
  it.each(cases)("isn't computed over %s", (_, bytes, code, field) => {
    expect(refusal(() => measureTdx(bytes))).toMatchObject({ code, field })
  })

  it("is a value or a typed error whatever the bytes: 1,000 mutations", () => {
    const pick = random(5)
    const codes = new Set<string>()
    // Small in memory: a mutation that asks for much more is refused before it costs.
    const small = firmware({ tdx: sections.slice(0, 2) })
    for (let i = 0; i < 1_000; i++) {
      const bytes = mutated(
        small,
        pick,
        small.length - (i % 2 === 0 ? 1_024 : 200),
        small.length - (i % 2 === 0 ? 940 : 0),
      )
      const error = refusal(() => expect(measureTdx(bytes)).toHaveLength(48))
      codes.add(error?.code ?? "measured")
    }
    expect([...codes].sort()).toEqual(["FIRMWARE_LENGTH", "FIRMWARE_METADATA", "FIRMWARE_TABLE", "measured"])
  }, 120_000)
})

if (!haveVectors)
  console.warn(`NO REAL QUOTE TESTED: 1 skipped, nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`)

describe("RTMRs of a kernel that is booted directly", () => {
  it.runIf(haveVectors)(
    "are those of a real TD's quote, given the digests that only its owner could compute",
    () => {
      const { log, quote } = {
        log: parseEventLog(readVector("tdx/eventlog/baremetal.ccel.bin")),
        quote: parseQuote(readVector("tdx/v4-baremetal-b0c06f.quote.bin")),
      }
      const kernel = log.events.find(({ typeName }) => typeName === "EV_EFI_BOOT_SERVICES_APPLICATION")
      const steps = directRtmr1Steps({
        what: "kernel",
        digest: kernel?.digests.get("sha384") ?? new Uint8Array(48),
      })
      expect(hexOf(registerOf("sha384", steps))).toBe(hexOf(quote.td.rtmrs[1]))
    },
  )

  it("begin with kernel, load options and initrd", () => {
    const kernel = peImage({ sections: [[".text", Buffer.from("kernel")]] })
    const initrd = digestsOf(Buffer.from("initrd"), ["sha384"])
    const steps = directRtmrSteps({ kernel, initrd, commandLine: "quiet" })
    expect(steps.get(1)?.[0]?.digest).toEqual(imageDigest(readImage(kernel), "sha384"))
    expect(steps.get(2)?.map(({ digest }) => hexOf(digest))).toEqual([
      createHash("sha384").update(Buffer.from("quiet initrd=initrd\0", "utf16le")).digest("hex"),
      createHash("sha384").update("initrd").digest("hex"),
    ])
  })
})
