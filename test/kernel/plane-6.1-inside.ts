/**
 * Runs inside the guest with kernel 6.1, which has no TCX but everything that traces programs: the whole life of a plane on
 * clsact hooks, and programs that reach into the sealer, with the watch over it. Prints one line for each thing that held.
 */
import { execFileSync } from "node:child_process"
import { release } from "node:os"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { closeFd, KernelError, openPinned } from "../../services/common/kernel/libbpf.ts"
import { probeHooks, queryHook } from "../../services/common/kernel/links.ts"
import { type Measurement, measureAttached, measureObject } from "../../services/common/kernel/measure.ts"
import { ifIndex, macOf } from "../../services/common/kernel/netdev.ts"
import { findLink } from "../../services/common/kernel/rtnetlink.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { type Change, LOOK_MS, PlaneWatch } from "../../services/dataplane-loader/watch.ts"
import { aimAt } from "./aim-at.ts"
import { makeCompiler, realObject } from "./compile.ts"

const hold = (what: string, held: boolean): void => {
  console.log(`${held ? "held" : "BROKEN"}: ${what}`)
  if (!held) process.exitCode = 1
}
const codeOf = (act: () => unknown): string => {
  try {
    act()
  } catch (error) {
    if (error instanceof KernelError) return error.code
    throw error
  }
  return "none"
}
const same = (a: Measurement, b: Measurement): boolean => Buffer.compare(a.digest, b.digest) === 0

console.log(`kernel: ${release()}`)
for (const module of ["veth", "sch_ingress", "cls_bpf"]) execFileSync("modprobe", [module])
for (const [near, far] of [
  ["wire0", "far0"],
  ["m1", "m0"],
] as const) {
  execFileSync("ip", ["link", "add", near, "type", "veth", "peer", "name", far])
  for (const device of [near, far]) execFileSync("ip", ["link", "set", device, "up"])
}
const devices = { wireIfindex: ifIndex("wire0"), innerIfindex: ifIndex("m1") }
const options = { pins: "/sys/fs/bpf/plane", object: realObject, wire: "wire0", inner: "m1" }
const onWire = () => queryHook(devices.wireIfindex, "ingress").map((attached) => attached.by)
const sa = (n: bigint) => ({
  edge: 0,
  lane: 0,
  spi: 4096 + Number(n),
  epoch: { term: 1n, n },
  deadline: bootNow() + 60_000_000_000n,
  key: new Uint8Array(32).fill(1),
  salt: new Uint8Array(4),
  esn: true,
})

hold("there is no TCX", probeHooks() === "clsact")
const ahead = measureObject(realObject)
hold("reloads measure alike", same(ahead, measureObject(realObject)))
const first = openPlane(options)
hold("a fresh plane measures like its object", first.fresh && same(first.measurement, ahead))
hold("one filter is on the hook", onWire().join() === "filter bpf pref 1")
const address = { innerAddress: 1, wireAddress: 2, busAddress: 3, busPort: 4222, espPort: 4500 }
first.configure({ ...address, innerMac: macOf("m0") })
const edge = { peerInner: 5, peerWire: 6, peerPort: 4500, lanes: 1, mtu: 1500 }
first.setEdges({ edges: [{ index: 0, id: new Uint8Array(8).fill(1), ...edge }], policies: [] })
first.installInbound(sa(1n))
first.installOutbound(sa(1n))
first.activate(0, 0, 4097)
first.close()
const second = openPlane(options)
hold("a new loader takes it over", !second.fresh && second.configured() && second.associations().length === 2)
hold(
  "an epoch is installed once",
  codeOf(() => second.installOutbound({ ...sa(1n), spi: 5000 })) === "EPOCH_USED",
)
second.retire({ direction: "out", edge: 0, spi: 4097 })
second.installOutbound(sa(2n))
hold("the next epoch can be installed", second.associations().length === 2)

// What reaches into ours from beside it changes no hook. By a clock of the test's own: an emulated machine is slow.
const compiler = makeCompiler()
const watch = (plane: Plane) => {
  let now = 0
  const watcher = new PlaneWatch(plane, () => now)
  const after = (ms: number): Change | undefined => {
    now += ms
    return watcher.look()
  }
  /** What the looks of one second find. */
  const second = (): Change | undefined => {
    for (let ms = 0; ms < 1_000; ms += LOOK_MS) {
      const change = after(LOOK_MS)
      if (change !== undefined) return change
    }
    return undefined
  }
  return { after, second }
}
for (const [what, target, source] of [
  ["tracing", "vs_seal", `SEC("fentry/vs_seal") int other(void *ctx) { return 0; }`],
  [
    "replacing",
    "vs_flow_sweep",
    `SEC("freplace/vs_flow_sweep") int other(__u64 now, __u32 most) { return 0; }`,
  ],
] as const) {
  const { after, second: looks } = watch(second)
  // Two looks before it, so that the one that asks every program isn't the next by chance.
  hold(
    `nothing is found before the ${what} program`,
    after(LOOK_MS) === undefined && after(LOOK_MS) === undefined,
  )
  if (second.associations().length === 0) second.installOutbound(sa(BigInt(9)))
  const seal = openPinned("/sys/fs/bpf/plane/live/programs/vs_seal") ?? -1
  const other = aimAt(compiler.compile(what, source), seal, target)
  hold(`a ${what} program loads`, true)
  hold("it is found when it is loaded", codeOf(() => measureAttached(devices)) === "FOREIGN_PROGRAM")
  const detach = other.attach()
  closeFd(seal)
  hold("it is found when it is attached", codeOf(() => measureAttached(devices)) === "FOREIGN_PROGRAM")
  const change = looks()
  const [finding, ...more] = change?.kind === "tampered" ? change.findings : []
  const named = finding !== undefined && /^other \(id \d+\)$/.test(finding.subject) && more.length === 0
  hold(`the watch finds the ${what} program within a second`, named)
  hold(
    `the ${what} program ends traffic`,
    second.associations().length === 0 && !findLink(devices.innerIfindex)?.up,
  )
  hold(`nothing is put right beside the ${what} program`, after(60_000) === undefined)
  detach()
  hold(`all is put right without the ${what} program`, after(60_000)?.kind === "restored")
}
compiler.remove()

second.teardown()
hold("nothing is left on the hook", onWire().length === 0)
