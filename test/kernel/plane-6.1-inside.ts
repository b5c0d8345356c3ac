/**
 * Runs inside the guest with kernel 6.1, which has no TCX but everything that traces programs: the whole life of a plane on
 * clsact hooks, and a program that traces the sealer. Prints one line for each thing that held.
 */
import { execFileSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { release } from "node:os"
import koffi from "koffi"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { KernelError, openPinned } from "../../services/common/kernel/libbpf.ts"
import { probeHooks, queryHook } from "../../services/common/kernel/links.ts"
import { type Measurement, measureAttached, measureObject } from "../../services/common/kernel/measure.ts"
import { ifIndex, macOf } from "../../services/common/kernel/netdev.ts"
import { openPlane } from "../../services/dataplane-loader/dataplane/plane.ts"
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

const compiler = makeCompiler()
const tracer = readFileSync(
  compiler.compile("tracer", `SEC("fentry/vs_seal") int other(void *ctx) { return 0; }`),
)
compiler.remove()
const libbpf = koffi.load("libbpf.so.1")
const openMem = libbpf.func("void *bpf_object__open_mem(const void *bytes, size_t size, const void *opts)")
const object: unknown = openMem(tracer, tracer.length, null)
const program: unknown = libbpf.func("void *bpf_object__next_program(void *object, void *after)")(
  object,
  null,
)
const target = libbpf.func("int bpf_program__set_attach_target(void *program, int fd, const char *name)")
target(program, openPinned("/sys/fs/bpf/plane/live/programs/vs_seal") ?? -1, "vs_seal")
hold("a tracing program loads", libbpf.func("int bpf_object__load(void *object)")(object) === 0)
hold("it is found when it is loaded", codeOf(() => measureAttached(devices)) === "FOREIGN_PROGRAM")
const link: unknown = libbpf.func("void *bpf_program__attach(void *program)")(program)
hold(
  "it is found when it is attached",
  link !== null && codeOf(() => measureAttached(devices)) === "FOREIGN_PROGRAM",
)
libbpf.func("int bpf_link__destroy(void *link)")(link)
libbpf.func("void bpf_object__close(void *object)")(object)

second.teardown()
hold("nothing is left on the hook", onWire().length === 0)
