/** Planes of other builds and other layouts: what is taken over, what begins anew, and what an interruption leaves. */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, unlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { tamper } from "../../infra/lab/tamper.ts"
import { pin, withFd } from "../../services/common/kernel/bpf.ts"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { KernelError, openObject, openPinned } from "../../services/common/kernel/libbpf.ts"
import { type HookKind, hooksOf, queryHook } from "../../services/common/kernel/links.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { hooks } from "../../services/common/kernel/measure.ts"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import { indexKey, shapes } from "../../services/common/kernel/records.ts"
import { findLink } from "../../services/common/kernel/rtnetlink.ts"
import { mapPin } from "../../services/dataplane-loader/dataplane/pins.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { makeCompiler, realObject, small } from "./compile.ts"
import { makeNamespace, type TestNamespace } from "./namespace.ts"
import { configureSmall, installSmall, smallEdges, smallKey } from "./small-plane.ts"

const compiler = makeCompiler()
const root = join(BPFFS, `vskern-${process.pid}-upgrade`)
const directory = mkdtempSync(join(tmpdir(), "vsupgrade-"))
const otherBuild = join(directory, "other.bpf.o")

beforeAll(() => {
  ensureBpffs()
  mkdirSync(root)
  tamper(realObject, otherBuild)
})
afterAll(() => {
  removePins(root)
  rmSync(directory, { recursive: true })
  compiler.remove()
})

const codeOf = (act: () => unknown): string => {
  try {
    act()
  } catch (error) {
    if (error instanceof KernelError) return error.code
    throw error
  }
  return "none"
}

describe.each<HookKind>(["tcx", "clsact"])("%s", (kind) => {
  let space: TestNamespace
  let plane: Plane
  const pins = join(root, kind)
  const open = (object: string, upgrade = true): Plane =>
    space.inside(() => openPlane({ pins, object, wire: "wire0", inner: "m1", hooks: kind, upgrade }))
  const attached = () =>
    space.inside(() =>
      hooks.map((hook) =>
        queryHook(ifIndex(hook.device === "wire" ? "wire0" : "m1"), hook.direction).map(
          ({ programId }) => programId,
        ),
      ),
    )
  const configure = (): void => space.inside(() => configureSmall(plane))

  beforeEach(() => {
    space = makeNamespace()
    plane = open(realObject)
    configure()
    installSmall(plane)
  })
  afterEach(() => {
    space.inside(() => plane.teardown())
    space.remove()
  })

  test("another build waits until it is told; its measurement is the object's own, keys stay", () => {
    const [before, digest] = [plane.associations(), plane.measurement.digest]
    plane.close()
    plane = open(otherBuild)
    expect(plane.measurement.digest).toEqual(digest)
    const wanted = plane.waiting?.digest
    expect(wanted).toBeDefined()
    const running = attached()
    space.inside(() => plane.upgrade())
    expect([plane.measurement.digest, plane.waiting]).toEqual([wanted, undefined])
    expect(attached()).not.toEqual(running)
    expect(plane.associations()).toEqual(before)
    expect(space.inside(() => plane.inspect())).toEqual([])
    // The next loader finds everything in order, also one that wouldn't upgrade.
    plane.close()
    plane = open(otherBuild, false)
    expect([plane.fresh, plane.waiting]).toEqual([false, undefined])
  })

  test("without leave, another build is refused", () => {
    plane.close()
    expect(codeOf(() => open(otherBuild, false))).toBe("DIFFERENT")
    plane = open(realObject)
  })

  test("an object with other maps is refused when it is to be put in place, and nothing changes", () => {
    plane.close()
    plane = open(compiler.compile("small", small()))
    const running = attached()
    expect(codeOf(() => space.inside(() => plane.upgrade()))).toBe("INVALID")
    expect(attached()).toEqual(running)
    expect([space.inside(() => plane.inspect()), plane.associations().length]).toEqual([[], 2])
  })

  test("a file that is another by the time it is loaded is refused, and nothing changes", () => {
    const file = join(directory, "changing.bpf.o")
    copyFileSync(otherBuild, file)
    plane.close()
    plane = open(file)
    const [running, digest] = [attached(), plane.measurement.digest]
    copyFileSync(realObject, file)
    expect(codeOf(() => space.inside(() => plane.upgrade()))).toBe("DIFFERENT")
    expect([attached(), plane.measurement.digest]).toEqual([running, digest])
    expect([space.inside(() => plane.inspect()), plane.associations().length]).toEqual([[], 2])
  })

  test("an upgrade that fails after the first hook cuts off, and is not whole", () => {
    plane.close()
    plane = open(otherBuild)
    // In the way of the new program's pin, which comes after the hooks.
    const pinned = join(pins, "live/programs/vs_seal")
    unlinkSync(pinned)
    mkdirSync(pinned)
    const digest = plane.measurement.digest
    expect(() => space.inside(() => plane.upgrade())).toThrow()
    expect([plane.associations(), space.inside(() => findLink(ifIndex("m1"))?.up)]).toEqual([[], false])
    expect(space.inside(() => plane.inspect())).not.toEqual([])
    expect(space.inside(() => plane.restore())).not.toEqual([])
    expect(plane.measurement.digest).toEqual(digest)
    // What was begun is ended as soon as nothing is in the way; without keys.
    rmdirSync(pinned)
    const wanted = plane.waiting?.digest
    expect(space.inside(() => plane.restore())).toEqual([])
    expect([plane.measurement.digest, plane.waiting]).toEqual([wanted, undefined])
    expect([plane.associations(), space.inside(() => plane.inspect())]).toEqual([[], []])
  })

  test("another layout begins anew in place: default deny, no key, but used epochs are known", () => {
    const map = new BpfMap(openPinned(mapPin(join(pins, "live"), "config")) ?? -1)
    const config = map.lookup(indexKey(0)) ?? new Uint8Array(0)
    new DataView(config.buffer).setUint32(0, 4, true)
    map.update(indexKey(0), config)
    map.close()
    plane.close()
    expect(codeOf(() => open(realObject, false))).toBe("DIFFERENT")
    plane = open(realObject)
    expect([plane.fresh, plane.configured(), plane.associations(), plane.edges().edges]).toEqual([
      true,
      false,
      [],
      [],
    ])
    expect(plane.forgotten).toBe(false)
    expect(space.inside(() => plane.inspect())).toEqual([])
    configure()
    plane.setEdges(smallEdges())
    expect(codeOf(() => plane.installOutbound(smallKey()))).toBe("EPOCH_USED")
    expect(codeOf(() => plane.installOutbound(smallKey(2n)))).toBe("none")
  })

  test("what an upgrade left is taken back at the next start; it can be done again", () => {
    const digest = plane.measurement.digest
    plane.close()
    // One hook runs the new program already.
    using object = openObject(otherBuild)
    for (const name of [...Object.keys(shapes), "scratch"])
      withFd(openPinned(mapPin(join(pins, "live"), name)) ?? -1, (fd) => object.reuseMap(name, fd))
    object.load()
    mkdirSync(join(pins, "live/next/maps"), { recursive: true })
    for (const { program } of hooks) pin(object.programFd(program), join(pins, "live/next", program))
    space.inside(() =>
      hooksOf(kind).replace(
        ifIndex("wire0"),
        "egress",
        object.programFd("vs_guard"),
        join(pins, "live/links/wire-egress"),
      ),
    )
    plane = open(otherBuild)
    expect([plane.measurement.digest, existsSync(join(pins, "live/next"))]).toEqual([digest, false])
    expect(plane.waiting).toBeDefined()
    space.inside(() => plane.upgrade())
    expect([plane.waiting, space.inside(() => plane.inspect())]).toEqual([undefined, []])
    expect(plane.associations()).toHaveLength(2)
  })
})
