import type { ChildProcess } from "node:child_process"
import { existsSync, mkdirSync, renameSync, unlinkSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest"
import { tamper } from "../../infra/lab/tamper.ts"
import { closeFd } from "../../services/common/kernel/bpf.ts"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { KernelError, loadObject, openPinned } from "../../services/common/kernel/libbpf.ts"
import { createTcxLink, type HookKind, queryHook } from "../../services/common/kernel/links.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { hooks } from "../../services/common/kernel/measure.ts"
import { ifIndex, macOf } from "../../services/common/kernel/netdev.ts"
import * as records from "../../services/common/kernel/records.ts"
import {
  type EdgeState,
  type NewAssociation,
  openPlane,
  type Plane,
  removePinnedPlane,
  type SaDirection,
} from "../../services/dataplane-loader/dataplane/plane.ts"
import { makeCompiler, realObject } from "./compile.ts"
import { answerTo, echoOf, startEcho } from "./datagrams.ts"
import { makeNamespace, makePair, type TestNamespace, type TestNode } from "./namespace.ts"

const compiler = makeCompiler()
const root = join(BPFFS, `vskern-${process.pid}-plane`)
const SECOND = 1_000_000_000n

const errorOf = (act: () => unknown): KernelError => {
  try {
    act()
  } catch (error) {
    if (error instanceof KernelError) return error
    throw error
  }
  throw new Error("nothing was refused")
}
const codeOf = (act: () => unknown): string => errorOf(act).code

const openMap = (pins: string, name: string): BpfMap => {
  const fd = openPinned(join(pins, "live/maps", name))
  if (fd === undefined) throw new Error(`${name} is not pinned`)
  return new BpfMap(fd)
}

const sa = (change: Partial<NewAssociation> = {}): NewAssociation => ({
  edge: 0,
  lane: 0,
  spi: 0x1001,
  epoch: { term: 1n, n: 1n },
  deadline: bootNow() + 60n * SECOND,
  key: new Uint8Array(32).fill(7),
  salt: Uint8Array.of(1, 2, 3, 4),
  esn: true,
  ...change,
})

beforeAll(() => {
  ensureBpffs()
  mkdirSync(root)
})
afterAll(() => {
  removePins(root)
  compiler.remove()
})

describe("two nodes", () => {
  let nodes: readonly [TestNode, TestNode]
  let planes: [Plane, Plane]
  let echo: ChildProcess
  const pinsOf = (i: 0 | 1): string => join(root, `node${i}`)
  const open = (i: 0 | 1, object = realObject): Plane =>
    nodes[i].wire.inside(() => openPlane({ pins: pinsOf(i), object, wire: "wire0", inner: "m1" }))
  const address = (i: 0 | 1): number => records.parseIpv4(`10.77.0.${i + 1}`)
  const wireAddress = (i: 0 | 1): number => records.parseIpv4(`192.0.2.${i + 1}`)
  const configure = (i: 0 | 1): void =>
    planes[i].configure({
      innerAddress: address(i),
      wireAddress: wireAddress(i),
      busAddress: records.parseIpv4("192.0.2.200"),
      busPort: 4222,
      espPort: 4500,
      innerMac: nodes[i].app.inside(() => macOf("m0")),
    })
  const state = (i: 0 | 1, id = 9): EdgeState => {
    const peer = i === 0 ? 1 : 0
    return {
      edges: [
        {
          index: 0,
          id: new Uint8Array(8).fill(id),
          peerInner: address(peer),
          peerWire: wireAddress(peer),
          peerPort: 4500,
          lanes: 1,
          mtu: 1500,
        },
      ],
      policies: [{ peer: address(peer), port: 7000, protocol: 17, role: i, edge: 0, flags: 0 }],
    }
  }
  /** Both ends of an epoch: SPIs 0x1000 + 2n from the first node to the second, one more for the other way. */
  const installEpoch = (n: number, deadline = bootNow() + 60n * SECOND): void => {
    for (const from of [0, 1] as const) {
      const to = from === 0 ? 1 : 0
      const one = () =>
        sa({
          spi: 0x1000 + 2 * n + from,
          epoch: { term: 1n, n: BigInt(n) },
          deadline,
          key: new Uint8Array(32).fill(2 * n + from),
        })
      planes[to].installInbound(one())
      planes[from].installOutbound(one())
    }
  }
  const activateEpoch = (n: number): void => {
    for (const i of [0, 1] as const) planes[i].activate(0, 0, 0x1000 + 2 * n + i)
  }
  /** What the second node's echo answers to a datagram of the first node's application. */
  const answered = (text: string): string =>
    nodes[0].app.inside(() => answerTo("10.77.0.2", 7000, text, 7001))
  /** What comes back where nothing should. */
  const ask = (text: string): string => nodes[0].app.inside(() => echoOf("10.77.0.2", 7000, text, 7001))
  const verdict = (i: 0 | 1, name: string): bigint => planes[i].counters().verdicts[name] ?? -1n

  beforeAll(async () => {
    nodes = makePair()
    const { child, ready } = nodes[1].app.inside(() => startEcho(7000))
    echo = child
    planes = [open(0), open(1)]
    await ready
  })
  afterAll(() => {
    echo?.kill()
    for (const [i, plane] of (planes ?? []).entries()) {
      nodes[i === 0 ? 0 : 1].wire.inside(() => plane.teardown())
    }
    for (const node of nodes ?? []) {
      node.wire.remove()
      node.app.remove()
    }
  })

  test("a fresh plane drops everything", () => {
    expect(planes.map((plane) => [plane.fresh, plane.forgotten, plane.configured()])).toEqual([
      [true, true, false],
      [true, true, false],
    ])
    expect(ask("one")).toBe("")
    expect(verdict(0, "NOT_CONFIGURED")).toBeGreaterThan(0n)
    expect(verdict(0, "SEALED")).toBe(0n)
  })

  test("configured and with edges, it still has no key", () => {
    for (const i of [0, 1] as const) {
      configure(i)
      expect(planes[i].configured()).toBe(true)
      planes[i].setEdges(state(i))
      expect(planes[i].edges()).toEqual(state(i))
    }
    expect(ask("two")).toBe("")
    expect(verdict(0, "NO_KEY")).toBe(1n)
    expect(verdict(0, "SEALED")).toBe(0n)
  })

  test("with keys on both ends packets pass, sealed", () => {
    expect(planes.map((plane) => [plane.associations(), plane.used()])).toEqual([
      [[], []],
      [[], []],
    ])
    installEpoch(1)
    for (const plane of planes) {
      expect(plane.used()).toEqual([{ id: new Uint8Array(8).fill(9), epoch: { term: 1n, n: 1n } }])
      expect(plane.associations()).toHaveLength(2)
    }
    expect(ask("three")).toBe("")
    activateEpoch(1)
    expect(answered("four")).toBe("four")
    expect([verdict(0, "SEALED"), verdict(1, "OPENED"), verdict(1, "SEALED"), verdict(0, "OPENED")]).toEqual([
      1n,
      1n,
      1n,
      1n,
    ])
    expect([verdict(1, "DELIVERED"), verdict(1, "SEALED_OUT")]).toEqual([1n, 1n])
    expect(planes[0].counters().edges.get(0)).toEqual({
      sealedPackets: 1n,
      sealedBytes: 32n,
      openedPackets: 1n,
      openedBytes: 32n,
      drops: { NO_KEY: 2n },
    })
  })

  test("a loader that died is not missed, and a new one takes over without re-plumbing", () => {
    const before = planes[0].measurement
    planes[0].close()
    expect(answered("five")).toBe("five")
    planes[0] = open(0)
    expect([planes[0].fresh, planes[0].forgotten, planes[0].configured(), planes[0].swept]).toEqual([
      false,
      false,
      true,
      0,
    ])
    expect(planes[0].measurement.programs).toEqual(before.programs)
    expect(planes[0].edges()).toEqual(state(0))
    expect(verdict(0, "SEALED")).toBe(2n)
    expect(
      planes[0]
        .associations()
        .map(({ direction, spi, lane, active, epoch }) => ({ direction, spi, lane, active, epoch })),
    ).toEqual(
      expect.arrayContaining([
        { direction: "in", spi: 0x1003, lane: 0, active: true, epoch: { term: 1n, n: 1n } },
        { direction: "out", spi: 0x1002, lane: 0, active: true, epoch: { term: 1n, n: 1n } },
      ]),
    )
    expect(answered("six")).toBe("six")
  })

  test("the shortest packets arrive: a veth hands on where their transport header was", () => {
    const before = [verdict(0, "INTERNAL"), verdict(1, "INTERNAL")]
    for (const length of [1, 11, 12, 20, 35, 36, 56, 57])
      expect(answered("x".repeat(length))).toBe("x".repeat(length))
    expect([verdict(0, "INTERNAL"), verdict(1, "INTERNAL")]).toEqual(before)
  })

  test("a second loader is kept out", () => {
    expect(codeOf(() => open(0))).toBe("EBUSY")
  })

  test("an epoch is installed once, whatever became of it", () => {
    expect(codeOf(() => planes[0].installOutbound(sa({ spi: 0x2000 })))).toBe("EPOCH_USED")
    expect(codeOf(() => planes[0].installInbound(sa({ spi: 0x2000 })))).toBe("EPOCH_USED")
    expect(codeOf(() => planes[0].installOutbound(sa({ spi: 0x2000, epoch: { term: 0n, n: 99n } })))).toBe(
      "EPOCH_USED",
    )
    expect(codeOf(() => planes[0].installOutbound(sa({ spi: 0x1002, epoch: { term: 1n, n: 2n } })))).toBe(
      "EEXIST",
    )
    expect(planes[0].associations()).toHaveLength(2)
  })

  test("keys are zeroed in the caller's hands, also when they are refused", () => {
    for (const bad of [{ spi: 255 }, { edge: 7 }, { lane: 1 }, { epoch: { term: 1n, n: 1n } }]) {
      const one = sa({ spi: 0x2000, epoch: { term: 5n, n: 1n }, ...bad })
      expect(errorOf(() => planes[0].installOutbound(one)).message).not.toMatch(/7,7|0707/)
      expect([...one.key, ...one.salt].every((byte) => byte === 0)).toBe(true)
    }
  })

  test("the next epoch: inbound first, then outbound, then the old one goes", () => {
    installEpoch(2)
    expect(answered("seven")).toBe("seven")
    activateEpoch(2)
    expect(answered("eight")).toBe("eight")
    expect(codeOf(() => planes[0].activate(0, 0, 0x1002))).toBe("EPOCH_USED")
    for (const i of [0, 1] as const) {
      expect(planes[i].retire({ direction: "out", edge: 0, spi: 0x1002 + i })).toBe(true)
      expect(planes[i].retire({ direction: "in", edge: 0, spi: 0x1003 - i })).toBe(true)
      expect(planes[i].retire({ direction: "in", edge: 0, spi: 0x1003 - i })).toBe(false)
    }
    expect(answered("nine")).toBe("nine")
    expect(
      planes[0]
        .associations()
        .map((one) => one.spi)
        .sort(),
    ).toEqual([0x1004, 0x1005])
  })

  test("a lease is only ever raised, and ends traffic by itself", async () => {
    const key = { direction: "out", edge: 0, spi: 0x1004 } as const
    const [first] = planes[0].associations().filter((one) => one.direction === "out")
    const now = first?.deadline ?? 0n
    expect(planes[0].setLease(key, now - 1n)).toBe(false)
    expect(planes[0].setLease(key, now)).toBe(false)
    expect(planes[0].setLease(key, now + SECOND)).toBe(true)
    expect(planes[0].associations().find((one) => one.direction === "out")?.deadline).toBe(now + SECOND)
    expect(codeOf(() => planes[0].setLease({ ...key, spi: 0x1002 }, now + SECOND))).toBe("ENOENT")
    const end = bootNow() + 4n * SECOND
    installEpoch(3, end)
    activateEpoch(3)
    expect(answered("ten")).toBe("ten")
    planes[0].close()
    await new Promise((resolve) => setTimeout(resolve, Number(end - bootNow()) / 1e6 + 10))
    expect(ask("eleven")).toBe("")
    planes[0] = open(0)
    expect(verdict(0, "LEASE_OVER")).toBe(1n)
    for (const i of [0, 1] as const)
      for (const [direction, spi] of [
        ["out", 0x1006 + i],
        ["in", 0x1007 - i],
      ] as const)
        expect(planes[i].setLease({ direction, edge: 0, spi }, bootNow() + 60n * SECOND)).toBe(true)
    expect(answered("twelve")).toBe("twelve")
  })

  test("an SA starts with sequence number 1, and counts on over a restart", () => {
    const sequence = (): bigint => {
      const map = openMap(pinsOf(0), "sa_out")
      const value = map.lookup(records.outSaKey(0, 0x1006))
      map.close()
      return records.decodeSaOut(value ?? new Uint8Array(0)).sequence
    }
    const before = sequence()
    planes[0].close()
    planes[0] = open(0)
    expect(answered("more")).toBe("more")
    expect(sequence()).toBe(before + 1n)
  })

  test("another edge under the same index has none of its keys and flows", () => {
    const flows = openMap(pinsOf(0), "flows")
    const counts = openMap(pinsOf(0), "flow_counts")
    const counted = (): number =>
      records.decodeFlowCount(counts.lookup(records.edgeKey(0)) ?? new Uint8Array(0))
    // One flow since the beginning, over every rekey and restart.
    expect([flows.keys().length, counted()]).toEqual([1, 1])
    const again = () => planes[0].installOutbound(sa({ spi: 0x2000, epoch: { term: 1n, n: 3n } }))
    expect(codeOf(again)).toBe("EPOCH_USED")
    planes[0].setEdges(state(0, 10))
    expect([flows.keys().length, counted()]).toEqual([0, 0])
    flows.close()
    counts.close()
    expect(planes[0].associations()).toEqual([])
    expect(ask("thirteen")).toBe("")
    expect(verdict(0, "NO_KEY")).toBeGreaterThan(1n)
    // Nor its epochs: they are remembered by the edge, not by its index.
    again()
    expect(planes[0].retire({ direction: "out", edge: 0, spi: 0x2000 })).toBe(true)
    planes[0].setEdges({ edges: [], policies: [] })
    expect(codeOf(again)).toBe("INVALID")
    planes[0].setEdges(state(0))
    expect(codeOf(again)).toBe("EPOCH_USED")
  })

  test("revoking takes every key away", () => {
    planes[1].revoke(0)
    expect(planes[1].associations()).toEqual([])
    installEpoch(4)
    activateEpoch(4)
    expect(answered("fourteen")).toBe("fourteen")
    planes[1].revokeAll()
    for (const name of ["sa_in", "sa_out", "lease_in", "lease_out", "windows", "outbound", "associations"]) {
      const map = openMap(pinsOf(1), name)
      expect([name, map.keys().length]).toEqual([name, 0])
      map.close()
    }
    expect(ask("fifteen")).toBe("")
    expect(verdict(1, "UNKNOWN_SPI")).toBeGreaterThan(0n)
  })

  test("leftovers of an install that was cut short are removed", () => {
    installEpoch(5)
    for (const name of ["sa_in", "lease_out", "windows"]) {
      const map = openMap(pinsOf(0), name)
      if (name === "sa_in") for (const key of map.keys()) map.delete(key)
      else if (name === "lease_out") map.update(records.outSaKey(3, 0x7777), records.encodeDeadline(1n))
      else map.update(records.inSaKey(0x7777), records.emptyWindow())
      map.close()
    }
    planes[0].close()
    planes[0] = open(0)
    expect(planes[0].swept).toBeGreaterThanOrEqual(4)
    expect(planes[0].associations().map((one) => one.direction)).not.toContain("in")
  })

  test("programs that differ from the object file are not taken over, and go on as they are", () => {
    const out = join(compiler.directory, "tampered.o")
    tamper(realObject, out)
    planes[0].close()
    expect(errorOf(() => open(0, out))).toMatchObject({ code: "DIFFERENT", subject: "program vs_seal" })
    planes[0] = open(0)
    expect(planes[0].fresh).toBe(false)
  })
})

describe("opening", () => {
  let space: TestNamespace
  let pins = ""
  let count = 0
  let opened: Array<Plane> = []
  const options = (kind?: HookKind) => ({
    pins,
    object: realObject,
    wire: "wire0",
    inner: "m1",
    ...(kind === undefined ? {} : { hooks: kind }),
  })
  const open = (kind?: HookKind): Plane => {
    const plane = openPlane(options(kind))
    opened.push(plane)
    return plane
  }
  const onHooks = (): ReadonlyArray<number> =>
    hooks.map((hook) => queryHook(ifIndex(hook.device === "wire" ? "wire0" : "m1"), hook.direction).length)

  beforeAll(() => {
    space = makeNamespace()
  })
  afterEach(() => {
    for (const plane of opened) plane.close()
    opened = []
    space.inside(() => {
      for (const kind of ["tcx", "clsact"] as const) removePinnedPlane({ ...options(kind) })
    })
  })
  afterAll(() => space?.remove())
  const fresh = (use: () => void): void => {
    pins = join(root, `open${count++}`)
    space.inside(use)
  }

  test.each<HookKind>(["tcx", "clsact"])("%s: fresh, reused, removed for good", (kind) => {
    fresh(() => {
      const first = open(kind)
      expect(first.fresh).toBe(true)
      expect(onHooks()).toEqual([1, 1, 1, 1])
      first.close()
      const second = open(kind)
      expect(second.fresh).toBe(false)
      expect(second.measurement.programs).toEqual(first.measurement.programs)
      second.teardown()
      expect(onHooks()).toEqual([0, 0, 0, 0])
      expect(existsSync(pins)).toBe(false)
    })
  })

  test.each<HookKind>(["tcx", "clsact"])(
    "%s: what a loader left that died while it made a plane is replaced",
    (kind) => {
      fresh(() => {
        const first = open(kind)
        first.close()
        renameSync(join(pins, "live"), join(pins, "new"))
        const second = open(kind)
        expect([second.fresh, second.forgotten]).toEqual([true, false])
        expect(second.measurement.programs[0]?.id).not.toBe(first.measurement.programs[0]?.id)
        expect(onHooks()).toEqual([1, 1, 1, 1])
      })
    },
  )

  test("a hook that is taken, and nothing is left behind", () => {
    fresh(() => {
      const path = compiler.compile("foreign", `SEC("tc") int intruder(struct __sk_buff *skb) { return -1; }`)
      using foreign = loadObject(path)
      const fd = createTcxLink(ifIndex("m1"), "egress", foreign.programFd("intruder"))
      const error = errorOf(() => open())
      closeFd(fd)
      expect(error).toMatchObject({ code: "FOREIGN_PROGRAM", subject: "inner-egress" })
      expect(error.hint).toMatch(/intruder/)
      expect(onHooks()).toEqual([0, 0, 0, 0])
      expect(existsSync(join(pins, "live"))).toBe(false)
      expect(existsSync(join(pins, "new"))).toBe(false)
    })
  })

  test("a plane beside which somebody else attached is not taken over", () => {
    fresh(() => {
      open().close()
      const path = compiler.compile("foreign", `SEC("tc") int intruder(struct __sk_buff *skb) { return -1; }`)
      using foreign = loadObject(path)
      const fd = createTcxLink(ifIndex("wire0"), "ingress", foreign.programFd("intruder"))
      expect(codeOf(() => open())).toBe("FOREIGN_PROGRAM")
      closeFd(fd)
      expect(open().fresh).toBe(false)
    })
  })

  test.each([
    ["maps/flows", "MISSING", /flows/],
    ["programs/vs_guard", "MISSING", /vs_guard/],
    ["links/inner-egress", "MISSING_PROGRAM", /inner-egress/],
  ])("a pin that was removed: %s", (path, code, subject) => {
    fresh(() => {
      open().close()
      unlinkSync(join(pins, "live", path))
      const error = errorOf(() => open())
      expect(error.code).toBe(code)
      expect(error.subject).toMatch(subject)
    })
  })

  test("a configuration of another layout, or of other devices", () => {
    fresh(() => {
      open().close()
      const map = openMap(pins, "config")
      const record = {
        layout: records.VS_LAYOUT + 1,
        innerAddress: 1,
        wireAddress: 1,
        busAddress: 1,
        busPort: 1,
        espPort: 1,
        wireIfindex: ifIndex("wire0"),
        innerIfindex: ifIndex("m1"),
        mark: 1,
        innerMac: new Uint8Array(6),
      }
      map.update(records.indexKey(0), records.encodeConfig(record))
      expect(errorOf(() => open())).toMatchObject({ code: "DIFFERENT", subject: "config" })
      map.update(
        records.indexKey(0),
        records.encodeConfig({ ...record, layout: records.VS_LAYOUT, wireIfindex: 1 }),
      )
      expect(errorOf(() => open())).toMatchObject({ code: "DIFFERENT", subject: "config" })
      map.update(records.indexKey(0), records.encodeConfig({ ...record, layout: records.VS_LAYOUT }))
      expect(open().configured()).toBe(true)
      map.close()
    })
  })

  test("a pinned map of another shape, by name", () => {
    fresh(() => {
      open().close()
      const live = join(pins, "live/maps")
      renameSync(join(live, "edges"), join(live, "held"))
      renameSync(join(live, "policies"), join(live, "edges"))
      renameSync(join(live, "held"), join(live, "policies"))
      expect(errorOf(() => open())).toMatchObject({ code: "INVALID", subject: "policies" })
    })
  })

  test.each(["/tmp/pins", "/sys/fs/bpf", "/sys/fs/bpf/../x", "/sys/fs/bpf/a b"])(
    "%s is no place for pins",
    (place) => {
      expect(codeOf(() => openPlane({ pins: place, object: realObject, wire: "lo", inner: "lo" }))).toBe(
        "INVALID",
      )
    },
  )

  test("a configuration with a zero in it, before anything is written", () => {
    fresh(() => {
      const plane = open()
      const config = {
        innerAddress: 1,
        wireAddress: 1,
        busAddress: 1,
        busPort: 1,
        espPort: 1,
        innerMac: new Uint8Array(6),
      }
      for (const name of ["innerAddress", "wireAddress", "busAddress", "busPort", "espPort"])
        expect(errorOf(() => plane.configure({ ...config, [name]: 0 })).subject).toBe(name)
      expect(plane.configured()).toBe(false)
    })
  })

  test("many keys, for the record", () => {
    fresh(() => {
      const plane = open()
      const edges = Array.from({ length: 128 }, (_, index) => ({
        index,
        id: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, index),
        peerInner: 0x0a000000 + index,
        peerWire: 0xc0000200 + index,
        peerPort: 4500,
        lanes: 16,
        mtu: 1500,
      }))
      plane.setEdges({ edges, policies: [] })
      const start = process.hrtime.bigint()
      const install = (direction: SaDirection, edge: number, lane: number): void => {
        const one = sa({ edge, lane, spi: 0x10000 + edge * 16 + lane })
        if (direction === "in") plane.installInbound(one)
        else plane.installOutbound(one)
      }
      for (let edge = 0; edge < 128; edge++)
        for (let lane = 0; lane < 16; lane++)
          for (const direction of ["in", "out"] as const) install(direction, edge, lane)
      const installed = process.hrtime.bigint()
      expect(plane.associations()).toHaveLength(4096)
      const listed = process.hrtime.bigint()
      plane.revokeAll()
      const end = process.hrtime.bigint()
      console.log(
        `4,096 SAs: install ${Number(installed - start) / 4096e3} us each, list ${Number(listed - installed) / 1e6} ms, ` +
          `revoke all ${Number(end - listed) / 1e6} ms`,
      )
      expect(plane.associations()).toEqual([])
    })
  })
})
