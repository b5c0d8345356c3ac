/**
 * One node id, several machines or boots that claim it: the incumbent keeps its lease against other machines, the same
 * machine's next boot has its place at once, and a copy on another chip gets nothing. Real services and a real server.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Refused } from "../../services/common/bus/bus.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import {
  attested,
  attestSession,
  begin,
  type Life,
  live,
  type PlayedNode,
  playNode,
  refusedPull,
  signedPull,
} from "./nodes.ts"
import { chipOf, crypto, imageOf, machine, pause, startWorld, until, type World } from "./support.ts"

/** Long enough that a reboot is over within it on a machine that does much else. */
const LEASE_SECONDS = 20
let world: World
let peer: Life
let pinned: PlayedNode

const activations = ({ log }: Pick<Life, "log">): number =>
  log.filter((line) => line.startsWith("activate")).length

beforeAll(async () => {
  world = await startWorld({
    leaseSeconds: LEASE_SECONDS,
    nodes: [
      { id: "n1", stage: "source" },
      { id: "loose", stage: "source", any: true },
      { id: "n2", stage: "transform" },
    ],
  })
  peer = await live(world, await playNode(world, "n2"))
  pinned = await playNode(world, "n1")
}, 120_000)
afterAll(() => world?.stop())

const untilActive = async (what: string, life: Life, ms = 30_000): Promise<void> => {
  await until(what, () => (activations(life) > 0 ? true : undefined), ms)
}

describe("a node that is killed and boots again", () => {
  it("has its place and new keys at once, not when its lease is over", { timeout: 90_000 }, async () => {
    const node = pinned
    const first = await live(world, node)
    await untilActive("the first boot's keys", first)
    const leasedMs = performance.now()
    await pause(500)
    const mark = await world.mark()
    const at = peer.log.length
    // A power cut: nothing is said, and what the kernel held is gone.
    await first.stop()
    node.boot = crypto.randomBytes(16)
    const bootedMs = performance.now()
    const second = await live(world, node)
    await untilActive("the next boot's keys", second)
    const whole = performance.now()
    await until("the peer's new keys", () =>
      peer.log.slice(at).some((line) => line.startsWith("activate")) ? true : undefined,
    )
    console.info(`a reboot: both ends send again after ${Math.round(performance.now() - bootedMs)} ms`)
    expect(whole - leasedMs).toBeLessThan(LEASE_SECONDS * 1_000)
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.replaced", subject: "n1" })
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.edge.stopped", subject: "raw:n1:n2" })
    await second.stop()
  })
})

describe("a doubled node id", () => {
  it("on another chip gets nothing where the node is pinned, and both that and why are on record", async () => {
    const releases = world.sent("release.n1").length
    // The same disk: everything but the machine is the node's own.
    pinned.machine = machine(chipOf(world.root), { measurement: imageOf("source") })
    const mark = await world.mark()
    const found = await attestSession(world, pinned, begin(pinned))
    expect(found).toBeInstanceOf(Refused)
    expect(found).toMatchObject({ code: "CHIP_ID" })
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.attestation.refused",
      subject: "n1",
      code: "CHIP_ID",
    })
    expect(world.sent("release.n1")).toHaveLength(releases)
  })

  it("on another chip waits for the incumbent's lease where any chip will do, and takes over then", {
    timeout: 120_000,
  }, async () => {
    const node = await playNode(world, "loose")
    const incumbent = await live(world, node)
    await untilActive("the incumbent's keys", incumbent)
    const before = activations(incumbent)

    // The other one attests on a machine of its own, with the same bus identity; its request is refused.
    const mark = await world.mark()
    node.machine = machine(chipOf(world.root), { measurement: imageOf("source") })
    node.boot = crypto.randomBytes(16)
    const { session, result } = await attested(world, node)
    const pull = signedPull(session.signing, {
      node: "loose",
      session: session.id,
      result: result.signed,
      kemKey: session.kem.publicKey,
    })
    await refusedPull(world, node, pull, { code: "INCUMBENT" })
    expect(activations(incumbent)).toBe(before)
    // The incumbent dies; nobody is told. Its place is free when its lease is over, and not before.
    await incumbent.stop()
    const diedNs = bootNow()
    const second = await live(world, node)
    await untilActive("the second machine's keys", second, LEASE_SECONDS * 1_000 + 30_000)
    const tookMs = Number(bootNow() - diedNs) / 1e6
    console.info(`another machine had the place ${Math.round(tookMs)} ms after the incumbent died`)
    // What a lease has left between two renewals is more than half.
    expect(tookMs).toBeGreaterThan(LEASE_SECONDS * 500)
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.replaced", subject: "loose" })
    await second.stop()
  })
})
