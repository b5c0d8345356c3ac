import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { tamper } from "../../infra/lab/tamper.ts"
import { closeFd } from "../../services/common/kernel/bpf.ts"
import { KernelError } from "../../services/common/kernel/errors.ts"
import { type BpfObject, loadObject } from "../../services/common/kernel/libbpf.ts"
import { createTcxLink, hooksOf } from "../../services/common/kernel/links.ts"
import {
  type Devices,
  findExtension,
  hooks,
  type Measurement,
  measureAttached,
  measureObject,
  normalise,
} from "../../services/common/kernel/measure.ts"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import { allTracingLinks, programInfo, programType } from "../../services/common/kernel/programs.ts"
import { makeCompiler, realObject, small } from "./compile.ts"
import { makeNamespace, type TestNamespace } from "./namespace.ts"

const compiler = makeCompiler()
const repository = fileURLToPath(new URL("../..", import.meta.url))
let space: TestNamespace
let devices: Devices
let cleanup: Array<() => void> = []

const hex = (measurement: Measurement): string => Buffer.from(measurement.digest).toString("hex")

const errorOf = (act: () => unknown): KernelError => {
  try {
    act()
  } catch (error) {
    if (error instanceof KernelError) return error
    throw error
  }
  throw new Error("nothing was refused")
}

const load = (path: string): BpfObject => {
  const object = loadObject(path)
  cleanup.push(() => object.close())
  return object
}

/** Attaches programs by hook; `place` says which program goes where. */
const attach = (object: BpfObject, place: Partial<Record<string, string>> = {}): void => {
  for (const hook of hooks) {
    const ifindex = hook.device === "wire" ? devices.wireIfindex : devices.innerIfindex
    const program = object.programFd(place[hook.name] ?? hook.program)
    const fd = space.inside(() => createTcxLink(ifindex, hook.direction, program))
    cleanup.push(() => closeFd(fd))
  }
}

const detachAll = (): void => {
  for (const step of cleanup.reverse()) step()
  cleanup = []
}

beforeAll(() => {
  space = makeNamespace()
  devices = space.inside(() => ({ wireIfindex: ifIndex("wire0"), innerIfindex: ifIndex("m1") }))
})
beforeEach(() => {
  cleanup = []
})
afterEach(detachAll)
afterAll(() => {
  space?.remove()
  compiler.remove()
})

describe("the real object", () => {
  test("measures alike ahead of time, attached, and over reloads", () => {
    const start = process.hrtime.bigint()
    const ahead = measureObject(realObject)
    const middle = process.hrtime.bigint()
    attach(load(realObject))
    const attached = space.inside(() => measureAttached(devices))
    const timed = process.hrtime.bigint()
    space.inside(() => measureAttached(devices))
    const end = process.hrtime.bigint()
    console.log(
      `measure: object ${Number(middle - start) / 1e6} ms, attached ${Number(end - timed) / 1e6} ms: ${hex(ahead)}`,
    )
    expect(ahead.digest).toHaveLength(48)
    expect(hex(attached)).toBe(hex(ahead))
    expect(hex(measureObject(realObject))).toBe(hex(ahead))
    expect(attached.programs.map((program) => program.name)).toEqual([
      "vs_open",
      "vs_guard",
      "vs_seal",
      "vs_inner",
    ])
    expect([...attached.mapIds.keys()].sort()).toEqual([...ahead.mapIds.keys()].sort())
  })

  test("one byte of one instruction makes another digest, and a working program", () => {
    const out = join(compiler.directory, "tampered.o")
    const place = tamper(realObject, out)
    const [before, after] = [readFileSync(realObject), readFileSync(out)]
    expect(before.length).toBe(after.length)
    expect(before.findIndex((byte, index) => byte !== after[index])).toBe(place.offset)
    before[place.offset] = place.after
    expect(before.equals(after)).toBe(true)
    const tampered = measureObject(out)
    expect(hex(tampered)).not.toBe(hex(measureObject(realObject)))
    const honest = measureObject(realObject)
    const differing = tampered.programs.filter(
      (program, index) =>
        Buffer.compare(program.digest, honest.programs[index]?.digest ?? Buffer.alloc(0)) !== 0,
    )
    expect(differing.map((program) => program.hook)).toEqual(["inner-ingress"])
    attach(load(out))
    expect(hex(space.inside(() => measureAttached(devices)))).toBe(hex(tampered))
  })

  test("a process that nsenter puts into the namespace measures the same", () => {
    attach(load(realObject))
    const script = join(compiler.directory, "measure.ts")
    writeFileSync(
      script,
      `import { measureAttached } from "${repository}services/common/kernel/measure.ts"
       import { ifIndex } from "${repository}services/common/kernel/netdev.ts"
       try {
         const { digest } = measureAttached({ wireIfindex: ifIndex("wire0"), innerIfindex: ifIndex("m1") })
         console.log(Buffer.from(digest).toString("hex"))
       } catch (error) { console.log(error.code + " " + error.hint) }`,
    )
    const enter = [`--net=/run/netns/${space.name}`]
    const said = execFileSync("nsenter", [...enter, process.execPath, script], { encoding: "utf8" }).trim()
    expect(said).toBe(hex(measureObject(realObject)))
    // Without CAP_SYSLOG the kernel blanks what helper calls call: two programs could then look alike.
    const blind = ["setpriv", "--bounding-set=-syslog", "--inh-caps=-syslog", process.execPath, script]
    expect(execFileSync("nsenter", [...enter, ...blind], { encoding: "utf8" })).toMatch(
      /^HIDDEN .*kernel\.kptr_restrict/,
    )
  })
})

describe("what makes another digest", () => {
  const base = (): string => compiler.compile("base", small())

  test("a map's size, a constant, the place of a program", () => {
    const digest = hex(measureObject(base()))
    expect(hex(measureObject(base()))).toBe(digest)
    expect(hex(measureObject(compiler.compile("larger", small({ entries: 17 }))))).not.toBe(digest)
    attach(load(base()), { "wire-egress": "vs_inner", "inner-egress": "vs_guard" })
    expect(hex(space.inside(() => measureAttached(devices)))).not.toBe(digest)
  })

  test("the content of a read-only map", () => {
    // The same code and shapes: only a byte of .rodata differs.
    const path = base()
    const bytes = readFileSync(path)
    const at = bytes.indexOf(Buffer.from([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]))
    expect(at).toBeGreaterThan(0)
    bytes[at] = 9
    const out = join(compiler.directory, "rodata.o")
    writeFileSync(out, bytes)
    expect(hex(measureObject(out))).not.toBe(hex(measureObject(path)))
  })
})

describe("what is refused", () => {
  test("a hook with nothing on it", () => {
    const error = errorOf(() => space.inside(() => measureAttached(devices)))
    expect(error).toMatchObject({ code: "MISSING_PROGRAM", subject: "wire-ingress" })
  })

  test("a foreign program beside ours, by TCX or as a filter, by name", () => {
    attach(load(realObject))
    const foreign = load(
      compiler.compile("foreign", `SEC("tc") int intruder(struct __sk_buff *skb) { return -1; }`),
    )
    const fd = space.inside(() =>
      createTcxLink(devices.innerIfindex, "egress", foreign.programFd("intruder")),
    )
    const error = errorOf(() => space.inside(() => measureAttached(devices)))
    closeFd(fd)
    expect(error).toMatchObject({ code: "FOREIGN_PROGRAM", subject: "inner-egress" })
    expect(error.hint).toMatch(
      new RegExp(`intruder \\(id ${programInfo(foreign.programFd("intruder")).id}\\)`),
    )
    space.inside(() => {
      measureAttached(devices)
      hooksOf("clsact").attach(devices.wireIfindex, "ingress", foreign.programFd("intruder"), "")
      const filter = errorOf(() => measureAttached(devices))
      hooksOf("clsact").detach(devices.wireIfindex, "ingress", "")
      expect(filter).toMatchObject({ code: "FOREIGN_PROGRAM", subject: "wire-ingress" })
      expect(filter.hint).toMatch(/intruder .* by filter bpf pref 1/)
      measureAttached(devices)
    })
  })

  test("an XDP program before ours", () => {
    attach(load(realObject))
    const path = compiler.compile("xdp", `SEC("xdp") int early(struct xdp_md *ctx) { return XDP_PASS; }`)
    space.inside(() => {
      execFileSync("ip", ["link", "set", "dev", "m1", "xdpgeneric", "obj", path, "sec", "xdp"])
      const error = errorOf(() => measureAttached(devices))
      execFileSync("ip", ["link", "set", "dev", "m1", "xdpgeneric", "off"])
      expect(error.code).toBe("FOREIGN_PROGRAM")
      measureAttached(devices)
    })
  })

  test("a program that obeys maps of its own", () => {
    const ours = load(realObject)
    const second = load(realObject)
    for (const hook of hooks) {
      const ifindex = hook.device === "wire" ? devices.wireIfindex : devices.innerIfindex
      const from = hook.name === "inner-ingress" ? second : ours
      const fd = space.inside(() => createTcxLink(ifindex, hook.direction, from.programFd(hook.program)))
      cleanup.push(() => closeFd(fd))
    }
    expect(errorOf(() => space.inside(() => measureAttached(devices)))).toMatchObject({ code: "FOREIGN_MAP" })
  })

  test("a program that replaces one of our functions", () => {
    const ours = programInfo(load(compiler.compile("base", small())).programFd("vs_seal"))
    expect(ours.btfId).toBeGreaterThan(0)
    const replacing = { ...ours, id: 1, name: "other", type: programType.EXT, targetBtfId: ours.btfId }
    const find = (others: ReadonlyArray<typeof ours>, targetId?: number) =>
      findExtension([ours], [ours, ...others], targetId === undefined ? [] : [{ programId: 1, targetId }])
    expect(find([replacing])).toBe(replacing)
    expect(find([{ ...replacing, type: programType.TRACING }])?.name).toBe("other")
    expect(find([{ ...replacing, targetBtfId: ours.btfId + 1 }])).toBeUndefined()
    // Attached, the program no longer says to what: the link does.
    expect(find([{ ...replacing, targetBtfId: 0 }])).toBeUndefined()
    expect(find([{ ...replacing, targetBtfId: 0 }], ours.id)?.name).toBe("other")
    expect(find([{ ...replacing, targetBtfId: 0 }], ours.id + 1)).toBeUndefined()
    // A kernel function whose module's types happen to have our program's number.
    expect(find([{ ...replacing, targetBtfId: ours.btfId + 1 }], ours.id)).toBeUndefined()
  })
})

test("links that others are just making disturb no measurement", async () => {
  const maker = space.inside(() =>
    spawn(
      process.execPath,
      [
        join(repository, "test/kernel/link-maker.ts"),
        compiler.compile("base", small()),
        `${devices.wireIfindex}`,
        "2000",
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    ),
  )
  const said: Array<string> = []
  maker.stdout.on("data", (chunk: Buffer) => said.push(chunk.toString()))
  await once(maker.stdout, "data")
  let looks = 0
  const until = Date.now() + 1_500
  for (; Date.now() < until; looks++) expect(allTracingLinks()).toEqual([])
  await once(maker, "close")
  expect(Number(said.join("").trim().split("\n").at(-1))).toBeGreaterThan(20)
  expect(looks).toBeGreaterThan(100)
})

describe("normalised instructions", () => {
  const insn = (code: number, regs: number, off: number, imm: number): Buffer => {
    const bytes = Buffer.alloc(8)
    bytes[0] = code
    bytes[1] = regs
    bytes.writeInt16LE(off, 2)
    bytes.writeInt32LE(imm, 4)
    return bytes
  }
  const code = (...list: ReadonlyArray<Buffer>): Uint8Array => Uint8Array.from(Buffer.concat(list))

  test("map ids become places in order of first use, offsets stay", () => {
    const order: Array<number> = []
    const program = code(
      insn(0x18, 0x11, 0, 77),
      insn(0, 0, 0, 0),
      insn(0x18, 0x22, 0, 5),
      insn(0, 0, 0, 12),
      insn(0x18, 0x13, 0, 77),
      insn(0, 0, 0, 0),
    )
    const out = Buffer.from(normalise("p", program, order))
    expect(order).toEqual([77, 5])
    expect([0, 16, 32].map((at) => out.readInt32LE(at + 4))).toEqual([0, 1, 0])
    expect(out.readInt32LE(28)).toBe(12)
    expect(out.subarray(0, 4)).toEqual(Buffer.from(program.subarray(0, 4)))
  })

  test("hidden calls, kernel addresses and unknown loads are refused", () => {
    expect(errorOf(() => normalise("p", code(insn(0x85, 0, 0, 0)), [])).code).toBe("HIDDEN")
    const address = code(insn(0x18, 1, 0, 0x1000), insn(0, 0, 0, 0xffff8880 | 0))
    expect(errorOf(() => normalise("p", address, [])).hint).toMatch(/instruction 0 holds a kernel address/)
    const mask = code(insn(0x18, 1, 0, 0), insn(0, 0, 0, -1))
    expect(normalise("p", mask, [])).toEqual(mask)
    const perCpu = code(insn(0xb7, 0, 0, 0x1234), insn(0xbf, 0, -1, 0))
    expect(errorOf(() => normalise("p", perCpu, [])).hint).toMatch(/per-CPU/)
    expect(errorOf(() => normalise("p", code(insn(0x18, 0x51, 0, 1), insn(0, 0, 0, 0)), [])).code).toBe(
      "INVALID",
    )
    expect(errorOf(() => normalise("p", code(insn(0x18, 1, 0, 1)), [])).hint).toMatch(/cut off/)
  })
})
