import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { closeFd } from "../../services/common/kernel/bpf.ts"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { type BpfObject, KernelError, loadObject, testRun } from "../../services/common/kernel/libbpf.ts"
import {
  attachedFilters,
  createTcxLink,
  type Direction,
  type HookKind,
  hookRevision,
  hooksOf,
  pinnedLink,
  probeHooks,
  queryHook,
} from "../../services/common/kernel/links.ts"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import { programInfo } from "../../services/common/kernel/programs.ts"
import {
  attributes,
  findLink,
  listAddresses,
  message,
  openNews,
  parseFilter,
  parseLink,
  setLink,
} from "../../services/common/kernel/rtnetlink.ts"
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
      expect(pinnedLink(pinOf("egress"))).toMatchObject({
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

const tc = (...args: ReadonlyArray<string>): void => void execFileSync("tc", args, { stdio: "pipe" })

describe("filters, as the kernel lists them", () => {
  test("those of tc are seen, ours by its program's id, others by what they are", () => {
    space.inside(() => {
      hooksOf("clsact").attach(ifindex, "ingress", object.programFd("vs_open"), pinOf("ingress"))
      for (const side of ["ingress pref 7", "egress pref 9"])
        tc(...`filter add dev wire0 ${side} protocol ip u32 match u32 0 0 classid 1:1`.split(" "))
      expect(queryHook(ifindex, "ingress")).toEqual([
        { programId: idOf("vs_open"), by: "filter bpf pref 1" },
        // The hash table that tc makes for u32, and what it holds.
        { programId: 0, by: "filter u32 pref 7" },
        { programId: 0, by: "filter u32 pref 7" },
      ])
      expect(queryHook(ifindex, "egress").map(({ by }) => by)).toContain("filter u32 pref 9")
      tc("qdisc", "del", "dev", "wire0", "clsact")
      expect([queryHook(ifindex, "ingress"), queryHook(ifindex, "egress")]).toEqual([[], []])
    })
  })

  test("a hook on a device that isn't there can't be asked", () => {
    expect(codeOf(() => space.inside(() => queryHook(77_777, "ingress")))).toBe("ENODEV")
  })

  const row = { kind: "bpf", preference: 1, chain: 0, programId: undefined, described: false }

  test("a BPF filter counts once; one that only its announcement tells of counts too", () => {
    expect(attachedFilters([row, { ...row, programId: 107, described: true }])).toEqual([
      { programId: 107, by: "filter bpf pref 1" },
    ])
    expect(attachedFilters([{ ...row, kind: "flower", chain: 3 }])).toEqual([
      { programId: 0, by: "filter flower pref 1 chain 3" },
    ])
    expect(attachedFilters([{ ...row, described: true }])).toEqual([
      { programId: 0, by: "filter bpf pref 1" },
    ])
    expect(attachedFilters([])).toEqual([])
  })
})

describe("rtnetlink", () => {
  test("an attribute or a message that is cut off is refused", () => {
    expect(codeOf(() => attributes(Uint8Array.of(8, 0, 1, 0, 1, 2), 0))).toBe("INVALID")
    expect(codeOf(() => attributes(Uint8Array.of(3, 0, 1, 0), 0))).toBe("INVALID")
    expect(attributes(Uint8Array.of(5, 0, 1, 0x80, 9, 0, 0, 0), 0)).toEqual(new Map([[1, Uint8Array.of(9)]]))
    expect(codeOf(() => parseFilter({ type: 44, body: new Uint8Array(19) }))).toBe("INVALID")
    expect(codeOf(() => parseLink({ type: 44, body: new Uint8Array(64) }))).toBe("INVALID")
  })

  test("tells of a device, sets it down and up, and has news of it", () => {
    space.inside(() => {
      const news = openNews("devices")
      try {
        expect(findLink(ifindex)).toMatchObject({
          ifindex,
          name: "wire0",
          up: true,
          mtu: 1500,
          xdp: undefined,
        })
        expect(findLink(77_777)).toBeUndefined()
        news.read()
        setLink(ifindex, false)
        expect(findLink(ifindex)?.up).toBe(false)
        setLink(ifindex, true)
        expect(findLink(ifindex)?.up).toBe(true)
        expect(news.read().found).toContainEqual({ type: message.NEWLINK, ifindex })
        execFileSync("ip", ["addr", "add", "198.51.100.7/24", "dev", "wire0"])
        expect(news.read().found).toContainEqual({ type: message.NEWADDR, ifindex })
        expect(listAddresses(ifindex)).toContainEqual({
          ifindex,
          family: 4,
          bytes: Uint8Array.of(198, 51, 100, 7),
          usable: true,
        })
        expect(news.read()).toEqual({ found: [], lost: false })
        expect(codeOf(() => setLink(77_777, true))).toBe("ENODEV")
      } finally {
        news.close()
        execFileSync("ip", ["addr", "flush", "dev", "wire0", "scope", "global"])
      }
    })
  })

  test("counts what has changed on a TCX hook, also what is gone again", () => {
    space.inside(() => {
      hooksOf("tcx").attach(ifindex, "ingress", object.programFd("vs_open"), pinOf("ingress"))
      const before = hookRevision(ifindex, "ingress")
      closeFd(createTcxLink(ifindex, "ingress", object.programFd("vs_guard")))
      expect(idsOn("ingress")).toEqual([idOf("vs_open")])
      expect(hookRevision(ifindex, "ingress")).toBeGreaterThan(before ?? 0n)
    })
  })
})
