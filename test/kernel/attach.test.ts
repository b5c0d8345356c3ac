import { existsSync, mkdirSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { type BpfObject, KernelError, loadObject, testRun } from "../../services/common/kernel/libbpf.ts"
import {
  type Direction,
  type HookKind,
  hooksOf,
  parseFilters,
  pinnedLink,
  probeHooks,
  queryHook,
} from "../../services/common/kernel/links.ts"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import { programInfo } from "../../services/common/kernel/programs.ts"
import { makeCompiler, small } from "./compile.ts"
import { makeNamespace, type TestNamespace } from "./namespace.ts"

const compiler = makeCompiler()
const pins = join(BPFFS, `vskern-${process.pid}-attach`)
const pinOf = (direction: Direction): string => join(pins, direction)
let space: TestNamespace
let object: BpfObject
let ifindex: number

const idOf = (program: string): number => programInfo(object.programFd(program)).id
const idsOn = (direction: Direction): ReadonlyArray<number> =>
  queryHook(ifindex, direction).map((attached) => attached.programId)
const codeOf = (act: () => unknown): string => {
  try {
    act()
  } catch (error) {
    if (error instanceof KernelError) return error.code
    throw error
  }
  return "none"
}

beforeAll(() => {
  ensureBpffs()
  mkdirSync(pins)
  space = makeNamespace()
  object = loadObject(compiler.compile("small", small()))
  ifindex = space.inside(() => ifIndex("wire0"))
})
afterEach(() => {
  space.inside(() => {
    for (const kind of ["tcx", "clsact"] as const)
      for (const direction of ["ingress", "egress"] as const)
        hooksOf(kind).detach(ifindex, direction, pinOf(direction))
  })
})
afterAll(() => {
  removePins(pins)
  object?.close()
  space?.remove()
  compiler.remove()
})

test("this kernel has TCX, and it is what is chosen", () => {
  expect(probeHooks()).toBe("tcx")
  expect(hooksOf().kind).toBe("tcx")
})

describe.each<HookKind>(["tcx", "clsact"])("%s", (kind) => {
  const hooks = hooksOf(kind)
  const attach = (direction: Direction, program: string): void =>
    hooks.attach(ifindex, direction, object.programFd(program), pinOf(direction))

  test("attaches on both sides, replaces in place, detaches", () => {
    space.inside(() => {
      expect(idsOn("ingress")).toEqual([])
      attach("ingress", "vs_open")
      attach("egress", "vs_guard")
      expect([idsOn("ingress"), idsOn("egress")]).toEqual([[idOf("vs_open")], [idOf("vs_guard")]])
      hooks.replace(ifindex, "ingress", object.programFd("vs_inner"), pinOf("ingress"))
      expect([idsOn("ingress"), idsOn("egress")]).toEqual([[idOf("vs_inner")], [idOf("vs_guard")]])
      hooks.detach(ifindex, "ingress", pinOf("ingress"))
      expect([idsOn("ingress"), idsOn("egress")]).toEqual([[], [idOf("vs_guard")]])
      hooks.detach(ifindex, "ingress", pinOf("ingress"))
      hooks.detach(ifindex, "egress", pinOf("egress"))
      expect(idsOn("egress")).toEqual([])
    })
  })

  test("doesn't take a place that is taken", () => {
    space.inside(() => {
      attach("ingress", "vs_open")
      expect(codeOf(() => attach("ingress", "vs_guard"))).toBe("EEXIST")
      expect(idsOn("ingress")).toEqual([idOf("vs_open")])
    })
  })

  test("reaches devices of its own namespace only", () => {
    expect(codeOf(() => attach("ingress", "vs_open"))).toMatch(/^(ENODEV|EINVAL|ENOENT)$/)
  })

  test("the program keeps running when its object is closed", () => {
    space.inside(() => {
      const own = loadObject(compiler.compile("small", small()))
      const { id } = programInfo(own.programFd("vs_inner"))
      hooks.attach(ifindex, "egress", own.programFd("vs_inner"), pinOf("egress"))
      own.close()
      expect(idsOn("egress")).toEqual([id])
    })
  })
})

describe("TCX links", () => {
  test("a pinned link tells what it holds, and stays until its pin goes", () => {
    space.inside(() => {
      hooksOf("tcx").attach(ifindex, "egress", object.programFd("vs_guard"), pinOf("egress"))
      expect(pinnedLink(pinOf("egress"))).toEqual({
        programId: idOf("vs_guard"),
        ifindex,
        direction: "egress",
      })
      expect(pinnedLink(pinOf("ingress"))).toBeUndefined()
    })
  })

  test("a link whose device went away says so, and can be detached", () => {
    const other = makeNamespace()
    other.inside(() => {
      const index = ifIndex("wire0")
      hooksOf("tcx").attach(index, "ingress", object.programFd("vs_open"), join(pins, "gone"))
    })
    other.remove()
    const deadline = Date.now() + 5000
    while (pinnedLink(join(pins, "gone"))?.ifindex !== 0 && Date.now() < deadline)
      testRun(object.programFd("vs_open"), new Uint8Array(60))
    expect(pinnedLink(join(pins, "gone"))?.ifindex).toBe(0)
    hooksOf("tcx").detach(1, "ingress", join(pins, "gone"))
    expect(existsSync(join(pins, "gone"))).toBe(false)
  })

  test("a pin that can't be made leaves nothing attached", () => {
    space.inside(() => {
      const fd = object.programFd("vs_open")
      expect(codeOf(() => hooksOf("tcx").attach(ifindex, "ingress", fd, join(pins, "absent/link")))).toBe(
        "ENOENT",
      )
      expect(idsOn("ingress")).toEqual([])
    })
  })
})

describe("what tc prints", () => {
  const bpf = { protocol: "all", pref: 1, kind: "bpf", chain: 0 }

  test("a BPF filter counts once, by its program's id", () => {
    const rows = [bpf, { ...bpf, options: { handle: "0x1", prog: { id: 107, name: "x" } } }]
    expect(parseFilters(JSON.stringify(rows), "s")).toEqual([{ programId: 107, by: "filter bpf pref 1" }])
    expect(parseFilters("", "s")).toEqual([])
    expect(parseFilters("[]", "s")).toEqual([])
  })

  test("other filters count too, also without options or a readable id", () => {
    expect(parseFilters(JSON.stringify([{ ...bpf, kind: "flower" }]), "s")).toEqual([
      { programId: 0, by: "filter flower pref 1" },
    ])
    expect(parseFilters(JSON.stringify([{ ...bpf, options: { prog: { id: "7" } } }]), "s")).toHaveLength(1)
    expect(
      parseFilters(JSON.stringify([{ ...bpf, kind: "u32", options: { prog: { id: 7 } } }]), "s")[0]
        ?.programId,
    ).toBe(0)
  })

  test.each(["{}", "x", "[1]", "[null]", '[{"pref":1}]'])("%s is refused", (text) => {
    expect(codeOf(() => parseFilters(text, "s"))).toBe("INVALID")
  })
})
