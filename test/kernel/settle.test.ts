/** Whatever step a loader dies at while it makes, upgrades, renews or removes a plane: the next one finds or makes a whole one. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, unlinkSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest"
import { tamper } from "../../infra/lab/tamper.ts"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { KernelError, openPinned } from "../../services/common/kernel/libbpf.ts"
import { type HookKind, type Hooks, hooksOf, queryHook } from "../../services/common/kernel/links.ts"
import { BpfMap } from "../../services/common/kernel/maps.ts"
import { hooks as hookTable, measureObject } from "../../services/common/kernel/measure.ts"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import { indexKey } from "../../services/common/kernel/records.ts"
import {
  makePlane,
  openMaps,
  openTombstones,
  removeLive,
} from "../../services/dataplane-loader/dataplane/assemble.ts"
import {
  mapPin,
  openPins,
  type Pins,
  pinnedId,
  programPin,
} from "../../services/dataplane-loader/dataplane/pins.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { settleUpgrade } from "../../services/dataplane-loader/dataplane/settle.ts"
import { renewPlane, replacePrograms } from "../../services/dataplane-loader/dataplane/upgrade.ts"
import { realObject } from "./compile.ts"
import { mortal } from "./mortal.ts"
import { makeNamespace, type TestNamespace } from "./namespace.ts"
import { configureSmall, installSmall } from "./small-plane.ts"

const root = join(BPFFS, `vskern-${process.pid}-settle`)
const directory = mkdtempSync(join(tmpdir(), "vssettle-"))
const otherBuild = join(directory, "other.bpf.o")
const STEPS_MAX = 200
const timeout = 240_000

beforeAll(() => {
  ensureBpffs()
  mkdirSync(root)
  tamper(realObject, otherBuild)
})
afterAll(() => {
  removePins(root)
  rmSync(directory, { recursive: true })
})

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")

describe.each<HookKind>(["tcx", "clsact"])("%s", (kind) => {
  let space: TestNamespace
  let plane: Plane
  const at = join(root, kind)
  const real: Hooks = hooksOf(kind)
  const open = (object: string): Plane =>
    space.inside(() =>
      openPlane({ pins: at, object, wire: "wire0", inner: "m1", hooks: kind, upgrade: true }),
    )
  const devices = () => ({ wireIfindex: ifIndex("wire0"), innerIfindex: ifIndex("m1") })

  /** Each hook runs one program, the pinned one, and nothing of what was under way is left. */
  const expectWhole = (): void => {
    expect(space.inside(() => plane.inspect())).toEqual([])
    for (const hook of hookTable) {
      const ifindex = space.inside(() => ifIndex(hook.device === "wire" ? "wire0" : "m1"))
      const running = space.inside(() => queryHook(ifindex, hook.direction).map((one) => one.programId))
      expect(running).toEqual([pinnedId(programPin(join(at, "live"), hook.program))])
    }
    for (const left of ["live/next", "live/making", "live/done", "new", "gone"])
      expect(existsSync(join(at, left)), left).toBe(false)
  }

  /**
   * With the plane closed: dies after 0, `by`, 2 * `by`, ... steps of `act`, and calls `after` each time, until it lives. Behind the first
   * `each` steps only pins are removed, one like another: of those one in twelve.
   */
  const atEachStep = (
    { each, by = 1 }: { readonly each: number; readonly by?: number },
    act: (pins: Pins, hooks: Hooks) => void,
    before: () => void,
    after: (steps: number) => void,
  ): number => {
    for (let steps = 0; steps < STEPS_MAX; steps += steps < each ? by : 12) {
      before()
      plane.close()
      const died = space.inside(() => {
        const pins = openPins(at)
        try {
          return mortal(steps, real, (hooks) => act(pins, hooks))
        } finally {
          pins.unlock()
        }
      })
      after(steps)
      if (!died) return steps
    }
    throw new Error("never comes to its end")
  }

  beforeEach(() => {
    space = makeNamespace()
    plane = open(realObject)
    space.inside(() => configureSmall(plane))
    installSmall(plane)
  })
  afterEach(() => {
    try {
      space.inside(() => plane.teardown())
    } finally {
      space.remove()
    }
  })

  test("an upgrade is finished or taken back, also when that dies; keys stay, nothing is mixed", {
    timeout,
  }, () => {
    const builds = [realObject, otherBuild].map((path) => ({ path, measurement: measureObject(path) }))
    const ended = new Map<string, number>()
    const nextOf = () =>
      builds.find(({ measurement }) => hex(measurement.digest) !== hex(plane.measurement.digest))
    let wanted = builds[1]
    const steps = atEachStep(
      { each: 20 },
      (pins, hooks) => {
        const tombstones = openTombstones(pins)
        const maps = openMaps(pins, tombstones.map)
        try {
          if (wanted === undefined) throw new Error("no other build")
          replacePrograms(pins, wanted.path, devices(), hooks, maps, wanted.measurement, () => {})
        } finally {
          for (const map of Object.values(maps)) map.close()
        }
      },
      () => {
        wanted = nextOf()
      },
      (died) => {
        const before = hex(plane.measurement.digest)
        // The one who puts it right may die over it, too.
        const pins = openPins(at)
        try {
          space.inside(() => mortal(died % 5, real, (hooks) => void settleUpgrade(pins, devices(), hooks)))
        } finally {
          pins.unlock()
        }
        plane = open(wanted?.path ?? realObject)
        expectWhole()
        const now = hex(plane.measurement.digest)
        expect([before, hex(wanted?.measurement.digest ?? new Uint8Array(0))]).toContain(now)
        const how = now === before ? "taken back" : "finished"
        ended.set(how, (ended.get(how) ?? 0) + 1)
        expect(plane.waiting === undefined).toBe(now !== before)
        expect([plane.fresh, plane.configured(), plane.associations().length]).toEqual([false, true, 2])
      },
    )
    console.info(`${kind}: an upgrade has ${steps} steps; of its deaths ${JSON.stringify([...ended])}`)
    expect(ended.get("taken back")).toBeGreaterThan(4)
    expect(ended.get("finished")).toBeGreaterThan(4)
  })

  // Hooks are replaced as in an upgrade: one kind will do.
  if (kind === "tcx")
    test("a plane of another layout is renewed in the end: default deny, no key", { timeout }, () => {
      const otherLayout = (): void => {
        const map = new BpfMap(openPinned(mapPin(join(at, "live"), "config")) ?? -1)
        const config = map.lookup(indexKey(0)) ?? new Uint8Array(0)
        new DataView(config.buffer, config.byteOffset).setUint32(0, 4, true)
        map.update(indexKey(0), config)
        map.close()
      }
      const steps = atEachStep(
        { each: 13 },
        (pins, hooks) => renewPlane(pins, realObject, devices(), hooks),
        () => {
          if (!plane.configured()) space.inside(() => configureSmall(plane))
          otherLayout()
        },
        () => {
          plane = open(realObject)
          expectWhole()
          expect([plane.configured(), plane.associations(), plane.waiting]).toEqual([false, [], undefined])
        },
      )
      expect(steps).toBeGreaterThan(10)
    })

  test("a plane that was being made is made anew", { timeout }, () => {
    const steps = atEachStep(
      { each: 20, by: 2 },
      (pins, hooks) => makePlane(pins, realObject, devices(), hooks),
      () => space.inside(() => plane.teardown()),
      () => {
        plane = open(realObject)
        expectWhole()
        expect(plane.configured()).toBe(false)
      },
    )
    expect(steps).toBeGreaterThan(4)
  })

  test("a plane that was being removed is gone, and made anew", { timeout }, () => {
    const steps = atEachStep(
      { each: 6, by: 2 },
      (pins, hooks) => removeLive(pins, devices(), hooks),
      () => {
        if (!plane.configured()) space.inside(() => configureSmall(plane))
      },
      (died) => {
        plane = open(realObject)
        expectWhole()
        expect(plane.configured()).toBe(died === 0)
      },
    )
    expect(steps).toBeGreaterThan(10)
  })

  test("a map that the layout hasn't got: fatal in a plane that says it is ours, no matter in one that never was configured", () => {
    const remove = (): void => {
      unlinkSync(mapPin(join(at, "live"), "rates"))
      plane.close()
    }
    remove()
    expect(() => open(realObject)).toThrow(KernelError)
    space.inside(() => {
      const pins = openPins(at)
      removeLive(pins, devices(), real)
      pins.unlock()
    })
    plane = open(realObject)
    remove()
    plane = open(realObject)
    expectWhole()
    expect([plane.fresh, plane.configured()]).toEqual([true, false])
  })
})
