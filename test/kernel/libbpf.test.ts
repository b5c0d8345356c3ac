import { existsSync, mkdirSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { bootId, bootNow } from "../../services/common/kernel/clock.ts"
import { createGrace } from "../../services/common/kernel/grace.ts"
import {
  closeFd,
  KernelError,
  loadObject,
  openObject,
  openPinned,
  pin,
  testRun,
} from "../../services/common/kernel/libbpf.ts"
import {
  BpfMap,
  createMap,
  mapFdById,
  mapInfo,
  mapType,
  possibleCpus,
} from "../../services/common/kernel/maps.ts"
import { ifIndex, ifName, macOf, mtuOf } from "../../services/common/kernel/netdev.ts"
import { allPrograms, programInfo, translated } from "../../services/common/kernel/programs.ts"
import { makeCompiler, small } from "./compile.ts"
import { makeNamespace } from "./namespace.ts"

const compiler = makeCompiler()
const pins = join(BPFFS, `vskern-${process.pid}-libbpf`)
let object: ReturnType<typeof loadObject>

const codeOf = (act: () => unknown): string => {
  try {
    act()
  } catch (error) {
    if (error instanceof KernelError) return error.code
    throw error
  }
  return "none"
}

const key = (n: number): Uint8Array => Uint8Array.of(n, 0, 0, 0)
const value = (n: number): Uint8Array => Uint8Array.of(n, 0, 0, 0, 0, 0, 0, 0)

beforeAll(() => {
  ensureBpffs()
  object = loadObject(compiler.compile("small", small()))
})

afterAll(() => {
  object?.close()
  removePins(pins)
  compiler.remove()
})

describe("object files", () => {
  test("a loaded object gives descriptors by name and refuses unknown ones", () => {
    expect(object.programNames).toEqual(["vs_seal", "vs_open", "vs_guard", "vs_inner", "vs_call"])
    expect(programInfo(object.programFd("vs_guard")).name).toBe("vs_guard")
    expect(mapInfo(object.mapFd("hits"))).toMatchObject({
      type: mapType.HASH,
      keySize: 4,
      valueSize: 8,
      maxEntries: 16,
    })
    expect(codeOf(() => object.programFd("nothing"))).toBe("INVALID")
    expect(codeOf(() => object.mapFd("nothing"))).toBe("INVALID")
  })

  test("a refusal by the verifier carries the end of its log", () => {
    const path = compiler.compile(
      "bad",
      `SEC("tc") int bad(struct __sk_buff *s) { return *(char *)(long)s->data; }`,
    )
    expect(() => loadObject(path)).toThrow(/invalid access to packet/)
    expect(codeOf(() => loadObject(path))).toBe("EACCES")
  })

  test("what is no object file, or no file, is refused by name", () => {
    const path = join(compiler.directory, "text.o")
    writeFileSync(path, "not an object")
    expect(() => loadObject(path)).toThrow(new RegExp(`open ${path}: LIBBPF_FORMAT`))
    expect(codeOf(() => loadObject(`${path}-absent`))).toBe("ENOENT")
  })

  test("nothing is to be had before load or after close", () => {
    const one = openObject(compiler.compile("small", small()))
    expect(codeOf(() => one.mapFd("hits"))).toBe("INVALID")
    expect(codeOf(() => one.programFd("vs_seal"))).toBe("INVALID")
    one.close()
    one.close()
    expect(codeOf(() => one.load())).toBe("INVALID")
  })

  test("a pinned map is reused by another load", () => {
    removePins(pins)

    mkdirSync(pins)
    pin(object.mapFd("hits"), join(pins, "hits"))
    expect(codeOf(() => pin(object.mapFd("hits"), join(pins, "hits")))).toBe("EEXIST")
    const fd = openPinned(join(pins, "hits"))
    expect(fd).toBeDefined()
    expect(openPinned(join(pins, "absent"))).toBeUndefined()
    const second = openObject(compiler.compile("small", small()))
    second.reuseMap("hits", fd ?? -1)
    second.load()
    expect(mapInfo(second.mapFd("hits")).id).toBe(mapInfo(object.mapFd("hits")).id)
    expect(mapInfo(second.mapFd("shares")).id).not.toBe(mapInfo(object.mapFd("shares")).id)
    second.close()
    closeFd(fd ?? -1)
    expect(existsSync(join(pins, "hits"))).toBe(true)
  })

  test("a reused map of another shape is refused", () => {
    const other = createMap("hits", { type: mapType.HASH, keySize: 4, valueSize: 16, maxEntries: 16 })
    const second = openObject(compiler.compile("small", small()))
    expect(() => second.reuseMap("hits", other)).toThrow(
      /open map hits: INVALID: valueSize is 16, expected 8/,
    )
    second.close()
    closeFd(other)
  })
})

describe("test runs", () => {
  test("a packet goes in and comes out with its mark", () => {
    const hits = new BpfMap(mapFdById(mapInfo(object.mapFd("hits")).id))
    const before = testRun(object.programFd("vs_guard"), new Uint8Array(60).fill(9), { mark: 5 })
    expect(before).toMatchObject({ retval: 2, mark: 69 })
    expect(before.packet).toEqual(new Uint8Array(60).fill(9))
    expect(before.durationNs).toBeGreaterThan(0)
    hits.update(key(3), value(0))
    for (let i = 0; i < 3; i++) testRun(object.programFd("vs_guard"), new Uint8Array(60))
    expect(hits.lookup(key(3))).toEqual(value(3))
    hits.delete(key(3))
    hits.close()
  })

  test("a syscall program gets its context and gives it back", () => {
    const result = testRun(object.programFd("vs_call"), new Uint8Array(0), { ctxIn: value(30) })
    expect(result).toMatchObject({ retval: 7, context: value(35) })
  })
})

describe("maps", () => {
  const hash = (entries: number): BpfMap =>
    new BpfMap(createMap("some", { type: mapType.HASH, keySize: 4, valueSize: 8, maxEntries: entries }))

  test("insert, update, lookup, delete and their refusals", () => {
    const map = hash(3)
    expect(map.lookup(key(1))).toBeUndefined()
    expect(map.insert(key(1), value(10))).toBe(true)
    expect(map.insert(key(1), value(11))).toBe(false)
    expect(map.lookup(key(1))).toEqual(value(10))
    expect(codeOf(() => map.update(key(2), value(1), 2))).toBe("ENOENT")
    map.update(key(1), value(12), 2)
    map.update(key(2), value(20))
    map.update(key(3), value(30))
    expect(codeOf(() => map.update(key(4), value(40)))).toBe("E2BIG")
    expect(
      map
        .keys()
        .map((k) => k[0])
        .sort(),
    ).toEqual([1, 2, 3])
    expect(map.has(key(3))).toBe(true)
    expect(map.delete(key(3))).toBe(true)
    expect(map.delete(key(3))).toBe(false)
    expect(map.has(key(3))).toBe(false)
    map.close()
  })

  test("sizes are held against the map before the kernel sees a pointer", () => {
    const map = hash(3)
    expect(codeOf(() => map.lookup(new Uint8Array(3)))).toBe("INVALID")
    expect(codeOf(() => map.update(key(1), new Uint8Array(7)))).toBe("INVALID")
    expect(codeOf(() => map.delete(new Uint8Array(5)))).toBe("INVALID")
    expect(codeOf(() => map.lookupPerCpu(key(1)))).toBe("INVALID")
    map.close()
    expect(codeOf(() => map.update(key(1), value(1)))).toBe("EBADF")
  })

  test("views into a larger buffer are passed at their own offset", () => {
    const map = hash(3)
    const backing = Uint8Array.of(99, 7, 0, 0, 0, 42, 0, 0, 0, 0, 0, 0, 0, 99)
    map.update(backing.subarray(1, 5), backing.subarray(5, 13))
    expect(map.lookup(key(7))).toEqual(value(42))
    map.close()
  })

  test("a per-CPU value has a share for each possible CPU", () => {
    const map = new BpfMap(mapFdById(mapInfo(object.mapFd("shares")).id))
    testRun(object.programFd("vs_open"), new Uint8Array(60))
    const shares = map.lookupPerCpu(key(2)) ?? []
    expect(shares).toHaveLength(possibleCpus())
    expect(shares.every((share) => share.length === 12)).toBe(true)
    expect(shares.reduce((sum, share) => sum + (share[0] ?? 0), 0)).toBe(1)
    expect(codeOf(() => map.lookup(key(0)))).toBe("INVALID")
    map.close()
  })

  test("10,000 updates, best of three, for the record", () => {
    const map = hash(10_000)
    let best = Number.POSITIVE_INFINITY
    const k = new Uint8Array(4)
    const view = new DataView(k.buffer)
    for (let round = 0; round < 3; round++) {
      const start = process.hrtime.bigint()
      for (let i = 0; i < 10_000; i++) {
        view.setUint32(0, i, true)
        map.update(k, value(1))
      }
      best = Math.min(best, Number(process.hrtime.bigint() - start) / 1e7)
    }
    console.log(`map update: ${best.toFixed(2)} us`)
    expect(map.keys()).toHaveLength(10_000)
    map.close()
  })

  test("a grace period ends", () => {
    const grace = createGrace()
    const start = process.hrtime.bigint()
    for (let i = 0; i < 10; i++) grace.wait()
    console.log(`grace period: ${(Number(process.hrtime.bigint() - start) / 1e7).toFixed(2)} ms`)
    grace.close()
    expect(codeOf(() => grace.wait())).toBe("EBADF")
  })
})

describe("programs, devices, clock", () => {
  test("translated instructions and maps of a program", () => {
    const fd = object.programFd("vs_seal")
    const { instructions, mapIds } = translated(fd, programInfo(fd))
    expect(instructions.length).toBeGreaterThan(64)
    expect(mapIds).toContain(mapInfo(object.mapFd("hits")).id)
    expect(allPrograms().map((program) => program.id)).toContain(programInfo(fd).id)
  })

  test("devices are those of the namespace that the process is in", () => {
    const space = makeNamespace()
    try {
      expect(codeOf(() => ifIndex("wire0"))).toBe("ENODEV")
      space.inside(() => {
        expect(ifName(ifIndex("wire0"))).toBe("wire0")
        expect(macOf("m0")).toHaveLength(6)
        expect(macOf("m0")).not.toEqual(macOf("m1"))
        expect(mtuOf("wire0")).toBe(1500)
        expect(codeOf(() => macOf("lo"))).toBe("INVALID")
        expect(codeOf(() => ifIndex("no\nname"))).toBe("INVALID")
      })
      expect(codeOf(() => ifIndex("wire0"))).toBe("ENODEV")
    } finally {
      space.remove()
    }
  })

  test("the boot clock is the one that programs read", () => {
    const clock = loadObject(
      compiler.compile(
        "clock",
        `SEC("syscall") int now(__u64 *ctx) { ctx[0] = bpf_ktime_get_boot_ns(); return 0; }`,
      ),
    )
    const before = bootNow()
    const { context } = testRun(clock.programFd("now"), new Uint8Array(0), { ctxIn: new Uint8Array(8) })
    const inKernel = new DataView(context.buffer).getBigUint64(0, true)
    expect(inKernel).toBeGreaterThanOrEqual(before)
    expect(bootNow()).toBeGreaterThanOrEqual(inKernel)
    clock.close()
    expect(bootId()).toHaveLength(16)
    expect(bootId()).toEqual(bootId())
  })
})
