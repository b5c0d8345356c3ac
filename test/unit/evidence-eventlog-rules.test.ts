/** Logs made by hand: each rule of the parser, of the replay and of the boot's description, and who might break it. */
import { createHash } from "node:crypto"
import { describe, expect, it } from "vitest"
import {
  describeBoot,
  EventLogError,
  eventTypes,
  logLimits,
  matchReplay,
  parseEventLog,
  replay,
  rtmrsOf,
} from "../../services/evidence/eventlog/index.ts"
import { Random } from "./crypto-support.ts"
import { flippedAt, haveVectors, readVector } from "./evidence-support.ts"

const u16 = (value: number) => Buffer.from([value & 0xff, value >> 8])
const u32 = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
const u64 = (value: number) => Buffer.concat([u32(value), u32(0)])
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest()
const ascii = (text: string) => Buffer.from(text, "latin1")
const zeros = (length: number) => Buffer.alloc(length)

const header = (algorithms: readonly (readonly [number, number])[], tail: Uint8Array = Buffer.from([0])) => {
  const data = Buffer.concat([
    ascii("Spec ID Event03\0"),
    zeros(8),
    u32(algorithms.length),
    ...algorithms.flatMap(([id, size]) => [u16(id), u16(size)]),
    tail,
  ])
  return Buffer.concat([u32(0), u32(eventTypes.EV_NO_ACTION), zeros(20), u32(data.length), data])
}

const plainHeader = header([[0x0b, 32]])

const event = (register: number, type: number, data: Uint8Array, digest: Uint8Array = sha256(data)) =>
  Buffer.concat([u32(register), u32(type), u32(1), u16(0x0b), digest, u32(data.length), data])

const variable = (name: string, value: Uint8Array, guid = "61dfe48bca93d211aa0d00e098032b8c") =>
  Buffer.concat([
    Buffer.from(guid, "hex"),
    u64(name.length),
    u64(value.length),
    Buffer.from(name, "utf16le"),
    value,
  ])

const { EV_EFI_VARIABLE_DRIVER_CONFIG, EV_SEPARATOR, EV_EFI_ACTION, EV_IPL, EV_NO_ACTION } = eventTypes
const secureBoot = (value: number) =>
  event(7, EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", Buffer.from([value])))
const separator = event(7, EV_SEPARATOR, zeros(4))
const logOf = (...events: Uint8Array[]) => Buffer.concat([plainHeader, ...events])

const codeOf = (bytes: Uint8Array): string => {
  try {
    parseEventLog(bytes)
    return "read"
  } catch (error) {
    if (error instanceof EventLogError) return error.code
    throw error
  }
}

describe("the parser", () => {
  it.each([
    ["nothing", zeros(0), "LOG_LENGTH"],
    ["more than any firmware writes", zeros(logLimits.bytes + 1), "LOG_LENGTH"],
    ["padding alone", zeros(4_096), "LOG_LENGTH"],
    ["a log that ends inside an event", logOf(separator).subarray(0, -1), "LOG_TRUNCATED"],
    [
      "a size beyond the end",
      Buffer.concat([logOf(separator.subarray(0, -8)), u32(0xffff_fff0)]),
      "LOG_TRUNCATED",
    ],
    ["no algorithm", header([]), "LOG_HEADER"],
    [
      "an algorithm twice",
      header([
        [0x0b, 32],
        [0x0b, 32],
      ]),
      "LOG_HEADER",
    ],
    ["a digest of a wrong size", header([[0x0b, 20]]), "LOG_HEADER"],
    ["an unknown algorithm without a size", header([[0x77, 0]]), "LOG_HEADER"],
    ["a header longer than it says", header([[0x0b, 32]], Buffer.from([0, 0])), "LOG_HEADER"],
    ["a header shorter than it says", header([[0x0b, 32]], Buffer.from([9])), "LOG_HEADER"],
    ["an impossible register", logOf(event(24, EV_IPL, ascii("x"))), "EVENT_REGISTER"],
    ["a register that isn't one", logOf(event(0xffff_ffff, EV_IPL, ascii("x"))), "EVENT_REGISTER"],
    [
      "an algorithm that wasn't declared",
      logOf(Buffer.concat([u32(0), u32(4), u32(1), u16(4), zeros(24), ascii("x")])),
      "EVENT_DIGESTS",
    ],
    [
      "more digests than declared",
      logOf(Buffer.concat([u32(0), u32(4), u32(2), ascii("xxxx")])),
      "EVENT_DIGESTS",
    ],
    ["an odd locality", logOf(event(0, EV_NO_ACTION, ascii("StartupLocality\0\x07"))), "EVENT_LOCALITY"],
    [
      "two localities",
      logOf(
        event(0, EV_NO_ACTION, ascii("StartupLocality\0\x03")),
        event(0, EV_NO_ACTION, ascii("StartupLocality\0\x04")),
      ),
      "EVENT_LOCALITY",
    ],
  ] as const)("refuses %s", (_name, bytes, code) => {
    expect(codeOf(bytes)).toBe(code)
  })

  it("passes over padding, and over digests that it can't compute", () => {
    for (const fill of [0, 0xff]) {
      const padded = Buffer.concat([logOf(secureBoot(1), separator), Buffer.alloc(500, fill)])
      expect(parseEventLog(padded).events).toHaveLength(2)
    }
    const withSm3 = Buffer.concat([
      header([
        [0x12, 32],
        [0x0b, 32],
      ]),
      u32(1),
      u32(4),
      u32(2),
      u16(0x12),
      Buffer.alloc(32, 9),
      u16(0x0b),
      sha256(ascii("x")),
      u32(1),
      ascii("x"),
    ])
    const log = parseEventLog(withSm3)
    expect(log.banks).toEqual(["sha256"])
    expect([...(log.events[0]?.digests.keys() ?? [])]).toEqual(["sha256"])
  })

  it("reads informative events of no register", () => {
    expect(parseEventLog(logOf(event(0xffff_ffff, EV_NO_ACTION, ascii("x")))).events).toHaveLength(1)
  })
})

describe("the replay", () => {
  const log = parseEventLog(logOf(secureBoot(1), separator))
  const expected = sha256(
    Buffer.concat([
      sha256(Buffer.concat([zeros(32), sha256(variable("SecureBoot", Buffer.from([1])))])),
      sha256(zeros(4)),
    ]),
  )

  it("extends in order, and EV_NO_ACTION not at all", () => {
    const more = parseEventLog(logOf(event(7, EV_NO_ACTION, ascii("x")), secureBoot(1), separator))
    for (const one of [log, more]) expect(Buffer.from(replay(one, "sha256").get(7) ?? [])).toEqual(expected)
  })

  it("begins PCR 0 at the locality", () => {
    const started = parseEventLog(logOf(event(0, EV_NO_ACTION, ascii("StartupLocality\0\x03"))))
    expect(replay(started, "sha256").get(0)?.at(-1)).toBe(3)
  })

  it("compares what was asked for, untouched registers included", () => {
    const quoted = new Map([
      [7, Uint8Array.from(expected)],
      [4, new Uint8Array(32)],
      [17, new Uint8Array(32).fill(0xff)],
    ])
    expect(matchReplay(log, "sha256", quoted)).toEqual([7])
    expect(matchReplay(log, "sha256", quoted, [17, 7, 4])).toEqual([4, 7, 17])
    expect(() => matchReplay(log, "sha256", quoted, [5])).toThrow(/REGISTER|no quoted value/)
    expect(() => matchReplay(log, "sha256", new Map([[4, expected]]), [4])).toThrow(EventLogError)
    expect(() => matchReplay(log, "sha384", quoted)).toThrow(/log.banks/)
  })

  it("gives RTMRs for a CCEL only", () => {
    expect(() => rtmrsOf(new Map([[7, new Uint8Array(48)]]))).toThrow(EventLogError)
    expect(rtmrsOf(new Map([[2, new Uint8Array(48).fill(1)]])).map((one) => one[0])).toEqual([0, 1, 0, 0])
  })
})

describe("Secure Boot", () => {
  const stateOf = (...events: Uint8Array[]) =>
    describeBoot(parseEventLog(logOf(...events)), "sha256", [7]).secureBoot

  it("is what the firmware measured before its separator", () => {
    expect(stateOf(secureBoot(1), separator)).toEqual({ state: "on" })
    expect(stateOf(secureBoot(0), separator)).toEqual({ state: "off" })
  })

  /** Each of these replays, since whoever boots may extend anything later, and types are covered by nothing. */
  it.each([
    ["said only after the separator", [separator, secureBoot(1)]],
    ["said twice", [secureBoot(0), secureBoot(1), separator]],
    [
      "said twice, once under another type",
      [event(7, EV_EFI_ACTION, variable("SecureBoot", Buffer.from([0]))), secureBoot(1), separator],
    ],
    [
      "not what was hashed",
      [
        event(7, EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", Buffer.from([1])), sha256(ascii("0"))),
        separator,
      ],
    ],
    [
      "behind a separator under another type",
      [event(7, EV_IPL, ascii("x"), sha256(zeros(4))), secureBoot(1), separator],
    ],
    [
      "another vendor's variable",
      [
        event(7, EV_EFI_VARIABLE_DRIVER_CONFIG, variable("SecureBoot", Buffer.from([1]), "00".repeat(16))),
        separator,
      ],
    ],
    ["2", [secureBoot(2), separator]],
    ["followed by no separator", [secureBoot(1)]],
    ["followed by an error", [secureBoot(1), event(7, EV_SEPARATOR, Buffer.from([1, 0, 0, 0]))]],
  ])("is undetermined where it is %s", (_name, events) => {
    expect(stateOf(...events).state).toBe("undetermined")
  })

  it("shows no control characters of a log", () => {
    const text = "\u001b[31mred\u0007\u202e"
    const log = parseEventLog(logOf(event(8, EV_IPL, Buffer.from(text, "utf8"))))
    expect(describeBoot(log, "sha256", [8]).commands[0]?.text).toBe("\ufffd[31mred\ufffd\ufffd")
  })
})

/** Whatever comes in: an answer or a typed error, soon. */
const tryAll = (bytes: Uint8Array): boolean => {
  try {
    const log = parseEventLog(bytes)
    for (const bank of log.banks) describeBoot(log, bank, [...replay(log, bank).keys()])
    return true
  } catch (error) {
    if (error instanceof EventLogError) return false
    throw error
  }
}

describe("hostile logs", () => {
  const executions = 3_000

  it(`${executions} of them end in an answer or a typed error`, () => {
    const random = new Random("event logs")
    const seeds = haveVectors
      ? ["tpm/eventlog/glinux-alex.eventlog.bin", "tdx/eventlog/td-sample.ccel.bin"].map((file) =>
          readVector(file),
        )
      : [Uint8Array.from(logOf(secureBoot(1), separator))]
    for (let i = 0; i < executions; i++) {
      const seed = seeds[i % seeds.length] ?? new Uint8Array(0)
      const small = seed.slice(0, 300 + random.below(2_500))
      for (let flips = random.below(6); flips >= 0; flips--) {
        const at = random.below(small.length)
        small[at] = random.below(256)
      }
      tryAll(random.below(8) === 0 ? random.bytes(random.below(400)) : small)
    }
  })

  it("of many tiny events or huge counts cost little", () => {
    const tiny = Buffer.concat(Array.from({ length: 20_000 }, () => event(1, EV_IPL, zeros(0))))
    expect(codeOf(Buffer.concat([plainHeader, tiny]))).toBe("LOG_EVENTS")
    const lists = variable(
      "db",
      Buffer.concat([Buffer.alloc(16, 7), u32(28 + 17 * 60_000), u32(0), u32(17), zeros(17 * 60_000)]),
      "cbb219d73a3d9645a3bcdad00e67656f",
    )
    const begin = process.threadCpuUsage()
    expect(tryAll(logOf(event(7, EV_EFI_VARIABLE_DRIVER_CONFIG, lists.subarray(0, 1_000_000))))).toBe(true)
    const { user, system } = process.threadCpuUsage(begin)
    expect((user + system) / 1_000).toBeLessThan(1_000)
  })

  it.runIf(haveVectors)("no digest, register or digest count of a real log may change", () => {
    const bytes = readVector("tpm/eventlog/glinux-alex.eventlog.bin")
    const log = parseEventLog(bytes)
    const quoted = replay(log, "sha256")
    const isBelieved = (changed: Uint8Array): boolean => {
      try {
        return matchReplay(parseEventLog(changed), "sha256", quoted, [...quoted.keys()]).length > 0
      } catch (error) {
        if (error instanceof EventLogError) return false
        throw error
      }
    }
    expect(isBelieved(bytes)).toBe(true)
    for (const { offset, type, digests } of log.events) {
      if (type === EV_NO_ACTION) continue
      // Register, then the SHA-256 digest behind count, SHA-1's number, its digest, and SHA-256's number.
      const sha256At = offset + 12 + 2 + 20 + 2
      for (const at of [offset, offset + 8, sha256At, sha256At + 31]) {
        expect(digests.has("sha256")).toBe(true)
        expect(isBelieved(flippedAt(bytes, at)), `byte ${at}`).toBe(false)
      }
    }
  })
})
