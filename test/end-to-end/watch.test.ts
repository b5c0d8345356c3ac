/**
 * Another root meddles with a node's data plane while traffic flows: found and told within a second, nothing flows, nothing
 * is on the wire that shouldn't be, and the node is back by itself when nobody is in the way any more.
 */
import { join } from "node:path"
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest"
import { untilReleased } from "../../infra/lab/job.ts"
import { Attr, bpf, closeFd, command, openPinned, withFd } from "../../services/common/kernel/bpf.ts"
import { loadObject } from "../../services/common/kernel/libbpf.ts"
import { createTcxLink } from "../../services/common/kernel/links.ts"
import { ifIndex } from "../../services/common/kernel/netdev.ts"
import { linkPin } from "../../services/dataplane-loader/dataplane/pins.ts"
import { makeCompiler } from "../kernel/compile.ts"
import { countLostTime } from "../support/lost-time.ts"
import { enterNetns } from "./netns.ts"
import {
  allocated,
  endTestLab,
  eventsOf,
  LAB_START_MS,
  sleep,
  startTestLab,
  statsOf,
  type TestLab,
  until,
} from "./support.ts"

const BEFORE = 1 << 3
const PER_SECOND = 200
/** Told on the bus after an act, at the latest; the watch itself looks five times a second. */
const TOLD_MS = 3_000

const compiler = makeCompiler()
let lab: TestLab
let foreign: ReturnType<typeof loadObject>
let xdpObject: string
const app = (node: string) => lab.agent(lab.appNetns(node))
const wireNetns = () => lab.names.netns(lab.place("n1").wireNs)
const inWire = <A>(use: () => A): A => enterNetns(wireNetns(), use)
const exec = (...commandLine: ReadonlyArray<string>): string => lab.exec(wireNetns(), commandLine)

const tampered = () => eventsOf(lab, "dataplane.tampered", "n1")
const restored = () => eventsOf(lab, "dataplane.restored", "n1")
const got = async (): Promise<number> => (await app("n2").ask({ op: "received" })).datagrams

/** Waits until the stream from n1 to n2 runs. */
const untilFlow = (timeoutMs = 30_000): Promise<number> =>
  (async () => {
    const deadline = performance.now() + timeoutMs
    while (performance.now() < deadline) {
      await sleep(100)
      const count = await got()
      if (count > 0) return count
    }
    throw new Error("the stream does not flow")
  })()

beforeAll(async () => {
  foreign = loadObject(
    // Looks on and leaves the packet to whoever comes next.
    compiler.compile("foreign", `SEC("tc") int look_on(struct __sk_buff *skb) { return -1; }`),
  )
  xdpObject = compiler.compile("xdp", `SEC("xdp") int pass(struct xdp_md *ctx) { return 2; }`)
  const edges = [
    { id: "beat", from: "source", to: "transform", protocol: "udp", port: 6000, lanes: 1 },
  ] as const
  lab = await startTestLab({ leaseSeconds: 10, edges })
  await untilReleased(lab)
  await app("n2").ask({ op: "udp-listen", port: 6000 })
  const stream = { op: "stream", address: "10.77.0.2", port: 6000, text: lab.marker } as const
  await app("n1").ask({ ...stream, perSecond: PER_SECOND })
  await untilFlow()
}, LAB_START_MS)
afterAll(async () => {
  foreign?.close()
  compiler.remove()
  await endTestLab(lab)
}, 30_000)

/** What one act leads to: the event that tells of it, and that nothing flows or shows from then on. */
const act = async (subject: RegExp, meddle: () => void): Promise<void> => {
  const before = { told: tampered().length, wire: lab.capture.counts() }
  const lost = countLostTime()
  const began = Date.now()
  meddle()
  const one = await until("the event that tells of it", 30_000, () => tampered()[before.told])
  console.info(`${one.event.data.field}: told ${one.at - began} ms after the act`)
  expect(one.at - began - lost().sum).toBeLessThan(TOLD_MS)
  expect(one.event.data).toMatchObject({
    node: "n1",
    code: "TAMPERED",
    field: expect.stringMatching(subject),
  })
  expect(one.event.data.message).toMatch(/found .+, wanted .+/)
  const after = lab.capture.counts()
  expect(after.marker_hits).toBe(0)
  expect(after.unexpected_frames - before.wire.unexpected_frames).toBe(0)
}

const expectStill = async (): Promise<void> => {
  expect(["sa_in", "sa_out", "outbound"].map((map) => allocated(lab, "n1", map as "sa_in"))).toEqual([
    0, 0, 0,
  ])
  await got()
  await sleep(300)
  expect(await got()).toBe(0)
}

/** The node came back by itself: attested anew, with keys. */
const expectBack = async (before: { restored: number; accepted: number }): Promise<void> => {
  await until("the plane is whole", 40_000, () => (restored().length > before.restored ? true : undefined))
  await until("it was attested anew", 20_000, () =>
    eventsOf(lab, "attestation.accepted", "n1").length > before.accepted ? true : undefined,
  )
  await got()
  await untilFlow()
  await until("it says so", 15_000, () => (statsOf(lab, "n1").state === "released" ? true : undefined))
  expect(lab.capture.counts()).toMatchObject({ marker_hits: 0, unexpected_frames: 0 })
}
const count = () => ({
  restored: restored().length,
  accepted: eventsOf(lab, "attestation.accepted", "n1").length,
})

let attached: number | undefined
afterEach(() => {
  if (attached !== undefined) closeFd(attached)
  attached = undefined
  exec("sh", "-c", "ip link set dev wire0 xdpgeneric off; tc qdisc del dev m1 clsact 2>/dev/null; true")
})

describe("another root", () => {
  it("detaches a program: nothing flows; it is put back, and the node attested anew", async () => {
    const before = count()
    const pin = linkPin(join(lab.names.pins("n1"), "live"), "inner-ingress")
    await act(/^inner-ingress$/, () =>
      withFd(openPinned(pin) ?? -1, (fd) =>
        bpf(command.LINK_DETACH, new Attr(4).u32(0, fd), "detach", "the sealer"),
      ),
    )
    await expectBack(before)
  })

  it("attaches a program before the opener: nothing flows for as long as it is there", async () => {
    const before = count()

    await act(/^wire-ingress$/, () => {
      attached = inWire(() =>
        createTcxLink(ifIndex("wire0"), "ingress", foreign.programFd("look_on"), BEFORE),
      )
    })
    await expectStill()
    await until("the loader tells so", 15_000, () => statsOf(lab, "n1").state === "tampered" || undefined)
    expect(exec("ip", "link", "show", "m1")).toMatch(/state DOWN/)
    // For longer than it takes to try again: nothing is put right around a stranger, and no session begins.
    await sleep(2_500)
    await expectStill()
    expect(count()).toEqual(before)
    if (attached !== undefined) closeFd(attached)
    attached = undefined
    await expectBack(before)
  })

  it("puts XDP on the wire", async () => {
    const before = count()
    await act(/^wire0$/, () => {
      exec("ip", "link", "set", "dev", "wire0", "xdpgeneric", "obj", xdpObject, "sec", "xdp")
    })
    await expectStill()
    exec("ip", "link", "set", "dev", "wire0", "xdpgeneric", "off")
    await expectBack(before)
  })

  it("adds a tc filter on the internal veth", async () => {
    const before = count()
    await act(/^(m1|inner-egress)$/, () => {
      exec("tc", "qdisc", "add", "dev", "m1", "clsact")
      exec(..."tc filter add dev m1 egress pref 9 protocol ip u32 match u32 0 0 classid 1:1".split(" "))
    })
    await expectStill()
    exec("tc", "qdisc", "del", "dev", "m1", "clsact")
    await expectBack(before)
  }, 90_000)
})

describe("its peer", () => {
  it("was told each time: the edge's keys are of a later epoch, and the old ones are gone", async () => {
    const told = () => statsOf(lab, "n2").edges.find(({ instance }) => instance === "beat:n1:n2")
    await until("the peer tells of the edge", 10_000, () => told()?.state === "active" || undefined)
    const missing = lab.watch.events.filter(({ event }) => event.type === "vouchsafe.edge.missing")
    expect(missing.length).toBeGreaterThan(0)
  })
})
