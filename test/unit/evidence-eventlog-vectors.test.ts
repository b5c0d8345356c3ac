/** Real event logs, and the registers that they must lead to. VOUCHSAFE_VECTORS names their directory. */
import { describe, expect, it } from "vitest"
import {
  type Bank,
  describeBoot,
  type EventLog,
  EventLogError,
  matchReplay,
  parseEventLog,
  replay,
  rtmrsOf,
} from "../../services/evidence/eventlog/index.ts"
import { haveVectors, hexOf, readVector, vectorsDir } from "./evidence-support.ts"
import { bytesOf, type Entry, manifest, readPcrs } from "./evidence-tpm-support.ts"

const logCount = 22

const logs = manifest.filter(({ kind }) => kind === "tcg-eventlog" || kind === "ccel-eventlog")

if (!haveVectors)
  console.warn(
    `NO REAL EVIDENCE TESTED: ${logCount} event logs skipped, for there is nothing at ${vectorsDir} (VOUCHSAFE_VECTORS)`,
  )

describe("real event logs", () => {
  it("are there, or their absence was said", () => {
    if (haveVectors) expect(logs.length).toBeGreaterThanOrEqual(logCount)
    else expect(logs).toHaveLength(0)
  })
})

const codeOf = (act: () => unknown): string => {
  try {
    act()
    return "believed"
  } catch (error) {
    if (error instanceof EventLogError) return error.code
    throw error
  }
}

/** RTMRs of a quote: version 4 without a body descriptor, version 5 with one of 6 bytes. */
const quotedRtmrs = (file: string): readonly Uint8Array[] => {
  const quote = readVector(file)
  const body = 48 + (quote[0] === 5 ? 6 : 0)
  return [0, 1, 2, 3].map((i) => quote.slice(body + 328 + 48 * i, body + 376 + 48 * i))
}

/** What the manifest and the files beside the log say of its registers. */
const checkRegisters = (entry: Entry, log: EventLog): number => {
  let compared = 0
  for (const file of entry.goesWith.filter((name) => /pcrs[^/]*\.json$/.test(name)))
    for (const [bank, quoted] of Object.entries(readPcrs(file)))
      compared += matchReplay(log, bank as Bank, quoted).length
  for (const file of entry.goesWith.filter((name) => name.endsWith(".quote.bin"))) {
    expect(rtmrsOf(replay(log, "sha384")).map(hexOf)).toEqual(quotedRtmrs(file).map(hexOf))
    compared += 4
  }
  for (const [bank, values] of Object.entries(entry.replay ?? {})) {
    const stated = new Map(Object.entries(values).map(([i, value]) => [Number(i), bytesOf(value)]))
    compared += matchReplay(log, bank as Bank, stated).length
  }
  return compared
}

describe.each(logs)("$file", (entry) => {
  it(`is ${entry.expect}`, () => {
    const log = parseEventLog(readVector(entry.file))
    if (entry.expect === "invalid") {
      const differ = entry.goesWith.some(
        (file) =>
          JSON.stringify(rtmrsOf(replay(log, "sha384")).map(hexOf)) !==
          JSON.stringify(quotedRtmrs(file).map(hexOf)),
      )
      expect(differ).toBe(true)
      return
    }
    const compared = checkRegisters(entry, log)
    const isAlone = entry.goesWith.length === 0 && entry.replay === undefined
    expect(compared > 0).toBe(!isAlone)
  })

  it("replays to no other register", () => {
    const log = parseEventLog(readVector(entry.file))
    for (const bank of log.banks) {
      const replayed = replay(log, bank)
      for (const register of replayed.keys()) {
        const other = new Map(replayed).set(
          register,
          new Uint8Array(replayed.get(register)?.length ?? 0).fill(1),
        )
        expect(codeOf(() => matchReplay(log, bank, other))).toBe("REPLAY_MISMATCH")
      }
    }
  })

  it("is described without a fault, and alike in every bank", () => {
    const log = parseEventLog(readVector(entry.file))
    const described = log.banks.map((bank) => {
      const proven = [...replay(log, bank).keys()]
      const boot = describeBoot(log, bank, proven, entry.kind === "ccel-eventlog" ? 1 : 7)
      return { ...boot, bank: "", ...withoutDigests(boot) }
    })
    for (const one of described) expect(one).toEqual(described[0])
  })
})

type Boot = ReturnType<typeof describeBoot>

const withoutDigests = (boot: Boot) => {
  const strip = <T extends { digest: string }>(list: readonly T[]) =>
    list.map((one) => ({ ...one, digest: "" }))
  return {
    variables: strip(boot.variables),
    authorities: strip(boot.authorities),
    images: strip(boot.images),
    actions: strip(boot.actions),
    commands: strip(boot.commands),
  }
}

const describeFile = (file: string, register: 7 | 1 = 7): Boot => {
  const log = parseEventLog(readVector(file))
  const bank = log.banks.includes("sha256") ? "sha256" : (log.banks[0] ?? "sha256")
  return describeBoot(log, bank, [...replay(log, bank).keys()], register)
}

describe.runIf(haveVectors)("what a boot consisted of", () => {
  it.each([
    ["tpm/eventlog/keylime-secureboot.eventlog.bin", "on"],
    ["tpm/eventlog/keylime-no-secureboot.eventlog.bin", "off"],
    ["tpm/eventlog/ubuntu-2104-no-secure-boot.eventlog.bin", "off"],
    ["tpm/eventlog/cos-101-amd-sev.eventlog.bin", "on"],
    ["tpm/eventlog/debian-10.eventlog.bin", "on"],
    ["tpm/eventlog/short-no-action.eventlog.bin", "undetermined"],
  ] as const)("%s: Secure Boot is %s", (file, state) => {
    expect(describeFile(file).secureBoot.state).toBe(state)
  })

  it("names the variables of Secure Boot and what is in them", () => {
    const { variables, startupLocality } = describeFile("tpm/eventlog/keylime-secureboot.eventlog.bin")
    const found = new Map(variables.map((one) => [one.name, one]))
    for (const name of ["SecureBoot", "PK", "KEK", "db", "dbx"]) expect(found.get(name)?.measured).toBe(true)
    expect(found.get("PK")?.signatures).toMatchObject([{ kind: "x509" }])
    expect(found.get("dbx")?.signatures?.every(({ kind }) => kind === "sha256")).toBe(true)
    expect(startupLocality).toBe(0)
    expect(describeFile("tpm/eventlog/glinux-alex.eventlog.bin").startupLocality).toBe(3)
  })

  it("names boot loaders, who allowed them, and the kernel's command line", () => {
    const boot = describeFile("tpm/eventlog/keylime-secureboot.eventlog.bin")
    expect(boot.images.map(({ path }) => path)).toContain("\\EFI\\redhat\\shimx64.efi")
    expect(boot.images.every(({ digest, measured }) => digest.length === 64 && !measured)).toBe(true)
    const db = boot.authorities.find(({ name }) => name === "db")
    const { variables } = boot
    const allowed = variables.find(({ name }) => name === "db")?.signatures?.map(({ digest }) => digest)
    expect(allowed).toContain(db?.certificate)
    const line = boot.commands.find(({ text }) => text.startsWith("kernel_cmdline: "))
    expect(line?.measured).toBe(true)
    expect(boot.actions.map(({ text }) => text)).toContain("Exit Boot Services Returned with Success")
    expect(boot.separators.filter(({ register }) => register === 7)).toEqual([
      { register: 7, isError: false },
    ])
  })

  it("leaves out what isn't proven", () => {
    const log = parseEventLog(readVector("tpm/eventlog/keylime-secureboot.eventlog.bin"))
    const boot = describeBoot(log, "sha256", [4])
    expect(boot.secureBoot.state).toBe("undetermined")
    expect(boot.variables).toHaveLength(0)
    expect(boot.images.length).toBeGreaterThan(0)
  })
})
