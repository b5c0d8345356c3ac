/** IMA lists, built as the kernel builds them (Documentation/security/IMA-templates.rst) and checked against real entries. */
import { createHash } from "node:crypto"
import { describe, expect, it } from "vitest"
import {
  bootAggregateHolds,
  EventLogError,
  imaLimits,
  matchIma,
  parseImaLog,
  replayIma,
} from "../../services/evidence/eventlog/index.ts"
import { Random } from "./crypto-support.ts"

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const sized = (bytes: Uint8Array) => Buffer.concat([u32(bytes.length), bytes])
const hash = (name: string, ...parts: Uint8Array[]) => createHash(name).update(Buffer.concat(parts)).digest()

interface Made {
  readonly path: string
  readonly digest?: string
  readonly template?: string
  readonly prefix?: string
  readonly more?: readonly Uint8Array[]
  readonly violation?: boolean
  readonly register?: number
}

const dataOf = ({ path, digest = "ab".repeat(32), prefix = "sha256:", more = [] }: Made) =>
  Buffer.concat([
    sized(Buffer.concat([Buffer.from(`${prefix}\0`), Buffer.from(digest, "hex")])),
    sized(Buffer.from(`${path}\0`)),
    ...more.map(sized),
  ])

const entryOf = (made: Made, algorithm = "sha1") => {
  const data = dataOf(made)
  const templateHash = made.violation ? Buffer.alloc(algorithm === "sha1" ? 20 : 32) : hash(algorithm, data)
  const name = Buffer.from(made.template ?? "ima-ng")
  return Buffer.concat([u32(made.register ?? 10), templateHash, sized(name), sized(data)])
}

const listOf = (...made: Made[]) => Buffer.concat(made.map((one) => entryOf(one)))

const codeOf = (bytes: Uint8Array): string => {
  try {
    parseImaLog(bytes)
    return "read"
  } catch (error) {
    if (error instanceof EventLogError) return error.code
    throw error
  }
}

const made: readonly Made[] = [
  { path: "boot_aggregate" },
  { path: "/usr/bin/bash", template: "ima-sig", more: [Buffer.from("0302")] },
  { path: "/usr/bin/true", template: "ima-sig", more: [new Uint8Array(0)] },
  { path: "/etc/written", violation: true, digest: "00".repeat(32) },
  { path: "kexec-cmdline", template: "ima-buf", more: [Buffer.from("root=/dev/vda")] },
  { path: "/usr/bin/verity", template: "ima-ngv2", prefix: "verity:sha256:" },
]

describe("the list", () => {
  it("reads every template", () => {
    const log = parseImaLog(listOf(...made))
    expect(log.entries.map(({ path, isViolation, algorithm }) => [path, isViolation, algorithm])).toEqual(
      made.map(({ path, violation = false }) => [path, violation, "sha256"]),
    )
    expect(log.violations).toBe(1)
    expect(log.entries[1]?.signature).toEqual(Uint8Array.from(Buffer.from("0302")))
    expect(log.entries[2]?.signature).toBeUndefined()
  })

  /** Two entries of running machines, as published: template hash, file hash, path. */
  it.each([
    [
      "bb24b135e1c911c97aad8f1c1863efc08cd44c11",
      "d41dd4adacf5a35df426461dd8a92d7bdd5ba29bb61a1c3531bec0ada386f8dd",
      "/usr/lib/x86_64-linux-gnu/libresolv.so.2",
    ],
    [
      "50b5a68bea0776a84eef6725f17ce474756e51c0",
      "15e1efee080fe54f5d7404af7e913de01671e745ce55215d89f3d6521d3884f0",
      "/root/cat",
    ],
  ])("agrees with a real kernel about %s", (templateHash, digest, path) => {
    const data = dataOf({ path, digest })
    const list = Buffer.concat([
      u32(10),
      Buffer.from(templateHash, "hex"),
      sized(Buffer.from("ima-ng")),
      sized(data),
    ])
    expect(parseImaLog(list).entries).toMatchObject([{ path, algorithm: "sha256" }])
  })

  it("has SHA-256 template hashes where the kernel was asked for that file", () => {
    const list = Buffer.concat([entryOf({ path: "/a" }, "sha256"), entryOf({ path: "/b" }, "sha256")])
    expect(parseImaLog(list, { hash: "sha256" }).entries).toHaveLength(2)
    expect(codeOf(list)).not.toBe("read")
  })

  it.each([
    [
      "a template hash that isn't the data's",
      entryOf(made[0] ?? { path: "" }).fill(1, 4, 5),
      "IMA_TEMPLATE_HASH",
    ],
    ["the old template", entryOf({ path: "/a", template: "ima" }), "IMA_TEMPLATE"],
    ["an unknown template", entryOf({ path: "/a", template: "x".repeat(40) }), "IMA_TEMPLATE"],
    ["another register", entryOf({ path: "/a", register: 11 }), "IMA_REGISTER"],
    ["fields left over", entryOf({ path: "/a", more: [Buffer.from("x")] }), "IMA_TEMPLATE"],
    ["a missing field", entryOf({ path: "/a", template: "ima-sig" }), "IMA_TEMPLATE"],
    ["no algorithm", entryOf({ path: "/a", prefix: "" }), "IMA_TEMPLATE"],
    [
      "a path beyond the limit",
      entryOf({ path: `/${"a".repeat(imaLimits.pathCharacters)}` }),
      "IMA_TEMPLATE",
    ],
    ["an end inside an entry", listOf(...made).subarray(0, -1), "LOG_TRUNCATED"],
  ])("refuses %s", (_name, list, code) => {
    expect(codeOf(list)).toBe(code)
  })
})

describe("the replay", () => {
  const expected = (bank: string, size: number, padded = false) =>
    made.reduce((register: Uint8Array, one) => {
      const own = Buffer.alloc(size)
      if (one.violation) own.fill(0xff)
      else hash(padded ? "sha1" : bank, dataOf(one)).copy(own)
      return hash(bank, register, own)
    }, Buffer.alloc(size))

  it.each([
    ["sha1", 20],
    ["sha256", 32],
    ["sha384", 48],
  ] as const)("of the %s bank extends violations as all ones", (bank, size) => {
    const log = parseImaLog(listOf(...made))
    expect(Buffer.from(replayIma(log, bank))).toEqual(expected(bank, size))
    expect(Buffer.from(replayIma(log, bank, "padded-sha1"))).toEqual(expected(bank, size, true))
  })

  it("takes the longest beginning that leads to the quoted register", () => {
    const log = parseImaLog(listOf(...made))
    const earlier = replayIma(parseImaLog(listOf(...made.slice(0, 3))), "sha256")
    expect(matchIma(log, "sha256", earlier)).toEqual({ proven: 3, later: 3, violations: 0 })
    expect(matchIma(log, "sha256", replayIma(log, "sha256"))).toEqual({ proven: 6, later: 0, violations: 1 })
    expect(() => matchIma(log, "sha256", new Uint8Array(32).fill(1))).toThrow(EventLogError)
    expect(matchIma(parseImaLog(new Uint8Array(0)), "sha256", new Uint8Array(32)).proven).toBe(0)
  })

  it("never matches a list with an entry left out, added before, swapped or altered", () => {
    const quoted = replayIma(parseImaLog(listOf(...made)), "sha256")
    const tries: Made[][] = made.map((_, i) => made.filter((_one, j) => j !== i))
    tries.push([{ path: "/usr/bin/evil" }, ...made], [...made].reverse())
    tries.push(made.map((one) => ({ ...one, violation: false })))
    tries.push(made.map((one, i) => (i === 1 ? { ...one, path: "/usr/bin/bush" } : one)))
    for (const list of tries)
      expect(() => matchIma(parseImaLog(listOf(...list)), "sha256", quoted)).toThrow(EventLogError)
  })

  it("ties the list to the boot before it", () => {
    const registers = new Map(Array.from({ length: 10 }, (_, i) => [i, new Uint8Array(32).fill(i)] as const))
    for (const count of [8, 10]) {
      const values = [...registers.values()].slice(0, count)
      const log = parseImaLog(
        listOf({ path: "boot_aggregate", digest: hash("sha256", ...values).toString("hex") }),
      )
      expect(bootAggregateHolds(log, "sha256", registers)).toBe(true)
      expect(bootAggregateHolds(log, "sha256", new Map(registers).set(7, new Uint8Array(32)))).toBe(false)
      expect(bootAggregateHolds(log, "sha384", registers)).toBe(false)
    }
    expect(bootAggregateHolds(parseImaLog(new Uint8Array(0)), "sha256", registers)).toBe(false)
  })
})

describe("hostile lists", () => {
  it("2,000 of them end in an answer or a typed error", () => {
    const random = new Random("ima")
    const seed = Uint8Array.from(listOf(...made))
    for (let i = 0; i < 2_000; i++) {
      const changed = seed.slice(0, 30 + random.below(seed.length - 30))
      for (let flips = random.below(4); flips >= 0; flips--)
        changed[random.below(changed.length)] = random.below(256)
      codeOf(changed)
    }
  })
})
