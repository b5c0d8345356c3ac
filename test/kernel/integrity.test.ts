/** What somebody else does to a plane in the kernel, found by one look; and put right, where nobody is in the way. */
import { execFileSync } from "node:child_process"
import { mkdirSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { Attr, bpf, closeFd, command, openPinned, pin, withFd } from "../../services/common/kernel/bpf.ts"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { type BpfObject, loadObject } from "../../services/common/kernel/libbpf.ts"
import { createTcxLink, type HookKind, hooksOf, updateTcxLink } from "../../services/common/kernel/links.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { hooks } from "../../services/common/kernel/measure.ts"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import {
  decodeConfig,
  decodePathMtu,
  edgeKey,
  encodePathMtu,
  indexKey,
  parseIpv4,
} from "../../services/common/kernel/records.ts"
import { findLink, message, setLink } from "../../services/common/kernel/rtnetlink.ts"
import { openMaps, openTombstones } from "../../services/dataplane-loader/dataplane/assemble.ts"
import { Integrity } from "../../services/dataplane-loader/dataplane/integrity.ts"
import { openPins } from "../../services/dataplane-loader/dataplane/pins.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { openOrCutOff } from "../../services/dataplane-loader/open-plane.ts"
import { makeCompiler, realObject, small } from "./compile.ts"
import { makeNamespace, type TestNamespace } from "./namespace.ts"
import { configureSmall, installSmall } from "./small-plane.ts"

const compiler = makeCompiler()
const root = join(BPFFS, `vskern-${process.pid}-integrity`)
const BEFORE = 1 << 3

let foreign: BpfObject
let xdpObject: string
beforeAll(() => {
  ensureBpffs()
  mkdirSync(root)
  foreign = loadObject(compiler.compile("foreign", small()))
  xdpObject = compiler.compile("xdp", `SEC("xdp") int pass(struct xdp_md *ctx) { return 2; }`)
})
afterAll(() => {
  foreign?.close()
  removePins(root)
  compiler.remove()
})

describe.each<HookKind>(["tcx", "clsact"])("%s", (kind) => {
  let space: TestNamespace
  let plane: Plane
  const pins = join(root, kind)
  const live = (path: string): string => join(pins, "live", path)
  const index = (name: string): number => space.inside(() => ifIndex(name))
  const look = () => space.inside(() => plane.inspect())
  const restore = () => space.inside(() => plane.restore())
  const cutOff = () => space.inside(() => plane.cutOff())
  const readMap = (name: string): Uint8Array => {
    const map = new BpfMap(openPinned(live(`maps/${name}`)) ?? -1)
    try {
      return map.lookup(indexKey(0)) ?? new Uint8Array(0)
    } finally {
      map.close()
    }
  }
  const innerIsUp = (): boolean | undefined => space.inside(() => findLink(ifIndex("m1"))?.up)

  beforeEach(() => {
    space = makeNamespace()
    space.inside(() => {
      for (const device of ["wire0", "m1"])
        for (const family of ["ipv4", "ipv6"])
          writeFileSync(`/proc/sys/net/${family}/conf/${device}/forwarding`, "0")
      plane = openPlane({ pins, object: realObject, wire: "wire0", inner: "m1", hooks: kind })
      configureSmall(plane)
      installSmall(plane)
    })
  })
  afterEach(() => {
    space.inside(() => plane.teardown())
    space.remove()
  })

  test("a plane that nobody touches is whole, also after the loader's own changes", () => {
    expect(look()).toEqual([])
    space.inside(() => plane.setEdges({ edges: [], policies: [] }))
    expect(look()).toEqual([])
  })

  test("cut off: no key is left, and the internal veth is down; restored, it is up, without keys", () => {
    cutOff()
    expect([plane.associations(), innerIsUp()]).toEqual([[], false])
    expect(restore()).toEqual([])
    expect([plane.associations(), innerIsUp()]).toEqual([[], true])
    expect(look()).toEqual([])
  })

  const place = (name: string) => {
    const hook = hooks.find((one) => one.name === name)
    if (hook === undefined) throw new Error(`no hook ${name}`)
    return { direction: hook.direction, ifindex: index(hook.device === "wire" ? "wire0" : "m1") }
  }
  const detachOurs = (name: string): void => {
    const { direction, ifindex } = place(name)
    if (kind === "clsact") hooksOf("clsact").detach(ifindex, direction, "")
    else
      withFd(openPinned(live(`links/${name}`)) ?? -1, (fd) =>
        bpf(command.LINK_DETACH, new Attr(4).u32(0, fd), "detach", name),
      )
  }

  test.each(hooks.map(({ name }) => name))("our program detached from %s, and put back", (name) => {
    space.inside(() => detachOurs(name))
    expect(look()).toContainEqual(expect.objectContaining({ subject: name, found: "nothing" }))
    cutOff()
    expect(restore()).toEqual([])
    expect(look()).toEqual([])
    // What was put back is what a loader would find in order.
    space.inside(() => {
      plane.close()
      plane = openPlane({ pins, object: realObject, wire: "wire0", inner: "m1", hooks: kind })
    })
    expect(plane.fresh).toBe(false)
  })

  test.each(hooks.map(({ name }) => name))("a foreign TCX program before ours on %s", (name) => {
    const { direction, ifindex } = place(name)
    const link = space.inside(() => createTcxLink(ifindex, direction, foreign.programFd("vs_open"), BEFORE))
    expect(look()).toMatchObject([
      { subject: name, found: expect.stringMatching(/^vs_open \(id \d+\) by tcx/) },
    ])
    cutOff()
    expect(restore()).toMatchObject([{ subject: name }])
    expect(innerIsUp()).toBe(false)
    space.inside(() => closeFd(link))
    expect(restore()).toEqual([])
    expect([look(), innerIsUp()]).toEqual([[], true])
  })

  test("a foreign TCX program that came and went between two looks", () => {
    const { direction, ifindex } = place("wire-ingress")
    space.inside(() => closeFd(createTcxLink(ifindex, direction, foreign.programFd("vs_open"), BEFORE)))
    expect(look()).toMatchObject([
      { subject: "wire-ingress", found: expect.stringContaining("changes since revision") },
    ])
    expect(restore()).toEqual([])
    expect(look()).toEqual([])
  })

  test("a filter that came and went between two looks", () => {
    const filter = "dev wire0 egress pref 9 protocol ip u32 match u32 0 0 classid 1:1"
    space.inside(() => {
      if (kind === "tcx") execFileSync("tc", ["qdisc", "add", "dev", "wire0", "clsact"], { stdio: "pipe" })
      for (const what of [`add ${filter}`, "del dev wire0 egress pref 9"])
        execFileSync("tc", ["filter", ...what.split(" ")], { stdio: "pipe" })
    })
    expect(look()).toMatchObject([{ subject: "wire0", found: expect.stringMatching(/changes of filters$/) }])
    expect(restore()).toEqual([])
    expect(look()).toEqual([])
  })

  test("a burst of filters on other devices is nobody's business, and hides none on ours", () => {
    const burst = (): void => {
      const lines = Array.from(
        { length: 1_500 },
        (_, i) => `filter add dev d0 egress pref ${i + 1} protocol ip u32 match u32 0 0 classid 1:1`,
      )
      execFileSync("tc", ["-batch", "-"], { input: lines.join("\n"), stdio: ["pipe", "pipe", "pipe"] })
      execFileSync("tc", ["filter", "del", "dev", "d0", "egress"], { stdio: "pipe" })
    }
    space.inside(() => {
      execFileSync("ip", ["link", "add", "d0", "type", "veth", "peer", "name", "d1"])
      execFileSync("tc", ["qdisc", "add", "dev", "d0", "clsact"])
      burst()
    })
    expect(look()).toEqual([])
    space.inside(() => {
      if (kind === "tcx") execFileSync("tc", ["qdisc", "add", "dev", "wire0", "clsact"], { stdio: "pipe" })
      const filter = "dev wire0 egress pref 9 protocol ip u32".split(" ")
      execFileSync("tc", ["filter", "add", ...filter, ..."match u32 0 0 classid 1:1".split(" ")])
      execFileSync("tc", ["filter", "del", ...filter])
      burst()
    })
    expect(look()).toMatchObject([{ subject: "wire0", found: expect.stringMatching(/changes of filters$/) }])
  })

  test("news that was lost is no finding of its own; what is known of ours beside it is", () => {
    let news = { found: [] as ReadonlyArray<{ type: number; ifindex: number }>, lost: true }
    const held = openPins(join(root, "other"))
    const pinned = { ...held, root: pins, live: live(""), tombstones: join(pins, "tombstones") }
    const maps = openMaps(pinned, openTombstones(pinned).map)
    const devices = { wireIfindex: index("wire0"), innerIfindex: index("m1") }
    const names = { wire: "wire0", inner: "m1" }
    const read = { read: () => news, close: () => {} }
    const parts = { pins: pinned, devices, names, hooks: hooksOf(kind), maps, news: read }
    const integrity = space.inside(() => new Integrity(parts))
    try {
      expect(space.inside(() => integrity.inspect())).toEqual([])
      news = { found: [{ type: message.NEWTFILTER, ifindex: devices.wireIfindex }], lost: true }
      expect(space.inside(() => integrity.inspect())).toMatchObject([{ subject: "wire0" }])
    } finally {
      integrity.close()
      for (const map of Object.values(maps)) map.close()
      held.unlock()
    }
  })

  test("a filter beside ours", () => {
    space.inside(() => {
      if (kind === "tcx") execFileSync("tc", ["qdisc", "add", "dev", "wire0", "clsact"], { stdio: "pipe" })
      execFileSync(
        "tc",
        "filter add dev wire0 egress pref 9 protocol ip u32 match u32 0 0 classid 1:1".split(" "),
        { stdio: "pipe" },
      )
    })
    expect(look()).toContainEqual(
      expect.objectContaining({
        subject: "wire-egress",
        found: expect.stringContaining("filter u32 pref 9"),
      }),
    )
    cutOff()
    expect(restore()).toMatchObject([{ subject: "wire-egress" }])
  })

  test.each(["wire0", "m1"])("an XDP program on %s", (device) => {
    space.inside(() =>
      execFileSync("ip", ["link", "set", "dev", device, "xdpgeneric", "obj", xdpObject, "sec", "xdp"], {
        stdio: "pipe",
      }),
    )
    expect(look()).toMatchObject([{ subject: device, found: expect.stringMatching(/^an XDP program/) }])
    cutOff()
    expect(restore()).toMatchObject([{ subject: device }])
    space.inside(() => execFileSync("ip", ["link", "set", "dev", device, "xdpgeneric", "off"]))
    expect(restore()).toEqual([])
  })

  test.each(["maps/sa_out", "maps/config", "programs/vs_guard"])("a pin that went: %s", (name) => {
    unlinkSync(live(name))
    expect(look()).toEqual([
      { subject: `live/${name}`, found: "nothing pinned", wanted: "what was pinned there" },
    ])
    cutOff()
    expect(restore()).toEqual([])
    expect(look()).toEqual([])
  })

  test("a pin in whose place is another map", () => {
    unlinkSync(live("maps/policies"))
    pin(foreign.mapFd("hits"), live("maps/policies"))
    expect(look()).toMatchObject([{ subject: "live/maps/policies", found: "something else pinned" }])
    expect(restore()).toEqual([])
    const map = new BpfMap(openPinned(live("maps/policies")) ?? -1)
    expect(map.name).toBe("policies")
    map.close()
  })

  test("what the file system refuses to tell is a finding, not the end of the watch", () => {
    const [programs, aside] = [live("programs"), live("aside")]
    renameSync(programs, aside)
    // A symbolic link to itself: ELOOP, for every path below it.
    symlinkSync("programs", programs)
    expect(look()).toEqual([expect.objectContaining({ subject: "pins", wanted: "an answer" })])
    expect(restore()).not.toEqual([])
    unlinkSync(programs)
    renameSync(aside, programs)
    expect(look()).toEqual([])
  })

  test("a loader that can't open the plane any more cuts the application off, and one that can lets it in", () => {
    const options = { pins, object: realObject, wire: "wire0", inner: "m1", hooks: kind }
    // One that is held by a loader is left to it.
    expect(() => space.inside(() => openOrCutOff(options))).toThrow("EBUSY")
    expect(innerIsUp()).toBe(true)
    plane.close()
    expect(() => space.inside(() => openOrCutOff({ ...options, object: "absent.o" }))).toThrow()
    expect(innerIsUp()).toBe(false)
    plane = space.inside(() => openOrCutOff(options))
    expect([innerIsUp(), look()]).toEqual([true, []])
  })

  test("moved: the bus and the wire are others, the inner address stays", () => {
    const config = () => decodeConfig(new Uint8Array(readMap("config")))
    const before = config()
    const to = {
      innerAddress: 0xffffffff,
      wireAddress: parseIpv4("192.0.2.9"),
      wireAddress6: undefined,
      busAddress: parseIpv4("192.0.2.201"),
      busAddress6: undefined,
      busPort: 4333,
    }
    space.inside(() => plane.moveTo(to))
    expect(config()).toEqual({ ...before, ...to, innerAddress: before.innerAddress })
    expect(look()).toEqual([])
  })

  test("another address of the peer in the document: what the old way carried is forgotten", () => {
    const at = edgeKey(0)
    const map = new BpfMap(openPinned(live("maps/path_mtus")) ?? -1)
    try {
      map.update(at, encodePathMtu({ mtu: 1280, ends: 1n << 30n }))
      const [edge] = plane.edges().edges
      if (edge === undefined) throw new Error("no edge")
      plane.setEdges({ edges: [{ ...edge, mtu: 1400 }], policies: [] })
      expect(decodePathMtu(map.lookup(at) ?? new Uint8Array(0)).mtu).toBe(1280)
      plane.setEdges({ edges: [{ ...edge, peerWire: parseIpv4("192.0.2.3") }], policies: [] })
      expect(decodePathMtu(map.lookup(at) ?? new Uint8Array(0)).mtu).toBe(0)
    } finally {
      map.close()
    }
  })

  test("a configuration that the loader didn't write, put right", () => {
    const map = new BpfMap(openPinned(live("maps/config")) ?? -1)
    const value = map.lookup(indexKey(0)) ?? new Uint8Array(0)
    map.update(indexKey(0), value.with(30, (value[30] ?? 0) ^ 1))
    expect(look()).toMatchObject([{ subject: "config" }])
    // Nothing is made of it: that would be taken for ours from then on.
    expect(() => space.inside(() => plane.moveTo({ busPort: 4333 }))).toThrow("move plane config: DIFFERENT")
    expect(look()).toMatchObject([{ subject: "config" }])
    cutOff()
    expect(restore()).toEqual([])
    expect(map.lookup(indexKey(0))).toEqual(value)
    map.close()
  })

  test("forwarding turned on, and off again", () => {
    space.inside(() => writeFileSync("/proc/sys/net/ipv4/ip_forward", "1"))
    expect(look().map(({ subject, found }) => [subject, found])).toEqual([
      ["wire0", "forwarding on"],
      ["m1", "forwarding on"],
    ])
    expect(restore()).toEqual([])
    expect(look()).toEqual([])
  })

  test("a device that is gone, or goes by another name", () => {
    space.inside(() => {
      setLink(ifIndex("wire0"), false)
      execFileSync("ip", ["link", "set", "wire0", "name", "other0"])
    })
    expect(look()).toMatchObject([{ subject: "wire0", found: expect.stringContaining("named other0") }])
    space.inside(() => execFileSync("ip", ["link", "del", "other0"]))
    const findings = look()
    expect(findings.map(({ subject }) => subject)).toContain("wire0")
    cutOff()
    expect(restore()).not.toEqual([])
  })

  test("what a look costs", () => {
    const began = performance.now()
    space.inside(() => {
      for (let i = 0; i < 100; i++) expect(plane.inspect()).toEqual([])
    })
    console.info(
      `${kind}: a look at the whole plane takes ${((performance.now() - began) * 10).toFixed(0)} us`,
    )
  })
})

describe("tcx", () => {
  test("another program on our own link is found, and the link pointed back", () => {
    const space = makeNamespace()
    const pins = join(root, "link")
    const plane = space.inside(() => openPlane({ pins, object: realObject, wire: "wire0", inner: "m1" }))
    try {
      space.inside(() => {
        for (const device of ["wire0", "m1"])
          writeFileSync(`/proc/sys/net/ipv6/conf/${device}/forwarding`, "0")
        const fd = openPinned(join(pins, "live/links/wire-egress")) ?? -1
        withFd(fd, () => updateTcxLink(fd, foreign.programFd("vs_guard"), "test"))
        expect(plane.inspect()).toMatchObject([
          { subject: "wire-egress", found: expect.stringMatching(/^vs_guard/) },
        ])
        expect(plane.restore()).toEqual([])
        expect(plane.inspect()).toEqual([])
      })
    } finally {
      space.inside(() => plane.teardown())
      space.remove()
    }
  })

  test("a link whose pin was removed goes on, and is pinned again", () => {
    const space = makeNamespace()
    const pins = join(root, "unpinned")
    const plane = space.inside(() => openPlane({ pins, object: realObject, wire: "wire0", inner: "m1" }))
    try {
      unlinkSync(join(pins, "live/links/wire-ingress"))
      expect(space.inside(() => plane.inspect())).toMatchObject([{ subject: "live/links/wire-ingress" }])
      expect(space.inside(() => plane.restore())).toEqual([])
    } finally {
      space.inside(() => plane.teardown())
      space.remove()
    }
  })
})
