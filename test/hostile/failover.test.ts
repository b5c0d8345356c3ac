/**
 * Two control planes, each in a guest of its own; parts of them are killed, and the bus lies about who leads. Nodes live as
 * the loader's code has it, their kernels are written down: at every moment, what one end sends under, the other must hold.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Challenge, HelloReply, type NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Beacon, Presence } from "../../schemas/messages/release.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import type { Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { countLostTime } from "../support/lost-time.ts"
import { type Life, live, playNode, recordedPlane } from "./nodes.ts"
import { decoded, pullIn } from "./rogue.ts"
import { bent, crypto, hex, pause, startWorld, until, type World } from "./support.ts"
import { takeoverTimes } from "./takeover-times.ts"

const IDS = ["n1", "n2", "n3"] as const
type Id = (typeof IDS)[number]
const EDGES: ReadonlyArray<readonly [instance: string, a: Id, b: Id, lanes: number]> = [
  ["raw:n1:n2", "n1", "n2", 1],
  ["packed:n2:n3", "n2", "n3", 2],
]

/** What the kernel would do with a packet now. */
class Tables {
  readonly inbound = new Map<number, bigint>()
  readonly outbound = new Map<string, { deadline: bigint; term: bigint }>()
  readonly lanes = new Map<string, number>()
  readonly plane: Plane

  constructor(base: Plane, used: ReturnType<Plane["used"]> = []) {
    this.plane = {
      ...base,
      used: () => used,
      installInbound: ({ spi, deadline }) => void this.inbound.set(spi, deadline),
      installOutbound: ({ edge, spi, epoch, deadline }) =>
        void this.outbound.set(`${edge} ${spi}`, { deadline, term: epoch.term }),
      setLease: ({ direction, edge, spi }, deadline) => {
        const out = this.outbound.get(`${edge} ${spi}`)
        if (direction === "in") this.inbound.set(spi, deadline)
        else if (out !== undefined) out.deadline = deadline
        return true
      },
      activate: (edge, lane, spi) => void this.lanes.set(`${edge} ${lane}`, spi),
      retire: ({ direction, edge, spi }) => {
        if (direction === "in") return this.inbound.delete(spi)
        for (const [lane, active] of this.lanes) if (active === spi) this.lanes.delete(lane)
        return this.outbound.delete(`${edge} ${spi}`)
      },
    }
  }

  /** The term under which a lane sends now; undefined: it doesn't, or the other end would drop it. */
  sends(edge: number, lane: number, peer: Tables): bigint | undefined {
    const spi = this.lanes.get(`${edge} ${lane}`)
    const out = spi === undefined ? undefined : this.outbound.get(`${edge} ${spi}`)
    if (spi === undefined || out === undefined) return undefined
    const now = bootNow()
    return out.deadline > now && (peer.inbound.get(spi) ?? 0n) > now ? out.term : undefined
  }
}

let world: World
const tables = new Map<Id, Tables>()
const lives = new Map<Id, Life>()
const lost: string[] = []
let watching: ReturnType<typeof setInterval> | undefined

/** By direction and lane. */
const terms = (): ReadonlyArray<readonly [string, bigint | undefined]> =>
  EDGES.flatMap(([instance, a, b, lanes]) =>
    [[a, b] as const, [b, a] as const].flatMap(([from, to]) =>
      Array.from({ length: lanes }, (_, lane) => {
        const [own, peer, life] = [tables.get(from), tables.get(to), lives.get(from)]
        if (own === undefined || peer === undefined || life === undefined) throw new Error("not there")
        return [`${instance} ${from} ${lane}`, own.sends(life.indexOf(instance), lane, peer)] as const
      }),
    ),
  )

const allAbove = (term: bigint): bigint | undefined => {
  const now = terms()
  const [first] = now
  const same = now.every(([, each]) => each !== undefined && each > term && each === first?.[1])
  return same ? first?.[1] : undefined
}

/** The leader by its last beacon. */
const leader = (): Beacon => {
  const last = world.captured.findLast(({ subject, reply }) => /\.beacon\.r\d$/.test(subject) && reply === "")
  if (last === undefined) throw new Error("nobody leads")
  return decoded(Beacon, last.data)
}
const otherVerifier = (instance: string): string => (instance === "v1" ? "v2" : "v1")
const other = (instance: string): string => (instance === "r1" ? "r2" : "r1")

/** From the kill on, on a machine that has nothing else to do. */
const WHOLE_MS = 2_000
const ATTEMPTS = 3

/**
 * Kills the leading releaser, and gives how long it took until all was whole again, ms, without what the machine took: this
 * process counts as one of the nodes' processes.
 */
const wholeAgain = async (from: Beacon): Promise<number> => {
  const lost = countLostTime()
  const killedMs = world.kill("releaser", from.releaser)
  const taken = until(
    "another leader",
    () => (leader().term > from.term ? { atMs: performance.now(), first: lost() } : undefined),
    30_000,
  )
  const term = await until("a new term at every end", () => allAbove(from.term), 30_000)
  const wholeMs = performance.now() - killedMs
  const all = lost()
  const { atMs, first } = await taken
  const ledMs = atMs - killedMs
  // Until then everybody waits for the standby alone, whose clock has to run out; afterwards each waits for others.
  const netMs = ledMs - first.most + Math.max(0, wholeMs - ledMs - (all.sum - first.sum))
  expect(term).toBeGreaterThan(from.term)
  console.log(
    `    led again after ${Math.round(ledMs)} ms, every edge in the new term after ${Math.round(wholeMs)} ms, ` +
      `without what the machine took ${Math.round(netMs)} ms: ${takeoverTimes(world.captured.slice(-5_000), from, killedMs)}`,
  )
  return netMs
}

/** Looked at every 10 ms since the last time. */
const expectNoGap = (): void => expect(lost.splice(0)).toEqual([])

const standbyIsThere = async (instance: string, after: number): Promise<void> => {
  await world.recorded(after, { by: `releaser-${instance}`, type: "vouchsafe.service.ready" }, 30_000)
  // It announces itself, and both releasers come to know both verifiers.
  await pause(2_500)
}

beforeAll(async () => {
  world = await startWorld({
    leaseSeconds: 12,
    twice: true,
    nodes: [
      { id: "n1", stage: "source" },
      { id: "n2", stage: "transform" },
      { id: "n3", stage: "sink" },
      { id: "n4", stage: "source" },
      { id: "n5", stage: "source" },
    ],
  })
  for (const id of IDS) {
    const node = await playNode(world, id)
    const own = new Tables(recordedPlane().plane)
    tables.set(id, own)
    lives.set(
      id,
      await live(world, node, undefined, {
        hearsLeaders: true,
        recorded: { ...recordedPlane(), plane: own.plane },
      }),
    )
  }
  await until("every edge in use", () => allAbove(0n), 30_000)
  watching = setInterval(() => {
    for (const [where, term] of terms()) if (term === undefined) lost.push(`${Date.now()} ${where}`)
  }, 10)
}, 120_000)
afterAll(async () => {
  clearInterval(watching)
  await world?.stop()
})

const beaconOf = (term: bigint): Uint8Array =>
  encode(Beacon, { v: 1, releaser: "r9", control: "cp", term, nonce: crypto.randomBytes(32) })

/** Something in every node begins anew, so that each kind of message is said. No releaser would believe such a term. */
const stir = (): void => world.say("beacon.r9", beaconOf(leader().term + 2n ** 50n))

describe("traffic goes on, and a new term comes into use everywhere, when the leader is killed", () => {
  const steps: ReadonlyArray<readonly [string, RegExp | undefined]> = [
    ["while nothing happens", undefined],
    ["as a node says hello", /\.hello\.n\d$/],
    ["as its guest is asked for Evidence", /\.attest\.cp2?\.verifier-/],
    ["as a node shows its Evidence", /\.evidence\.v\d\.n\d$/],
    ["as a node asks for its keys", /\.pull\.n\d$/],
    ["as it gives the first of them", /\.release\.n\d$/],
    ["as the first end confirms", /\.ack\.n\d$/],
  ]
  const takeover = async (at: RegExp | undefined): Promise<number> => {
    const from = leader()
    const seen = world.captured.length
    if (at !== undefined) {
      stir()
      await until(`${at}`, () => world.captured.slice(seen).find(({ subject }) => at.test(subject)), 20_000)
    }
    const mark = await world.mark()
    const tookMs = await wholeAgain(from)
    world.again("releaser", from.releaser)
    await standbyIsThere(from.releaser, mark)
    expectNoGap()
    expect(leader().releaser).toBe(other(from.releaser))
    return tookMs
  }
  it.each(steps)("%s", { timeout: 180_000 }, async (_, at) => {
    // What the account of lost time can't see, such as a processor's other thread, may make one attempt slow; not three.
    let best = Number.POSITIVE_INFINITY
    for (let i = 0; i < ATTEMPTS && best > WHOLE_MS; i++) best = Math.min(best, await takeover(at))
    expect(best).toBeLessThanOrEqual(WHOLE_MS)
  })
})

describe("two control planes", () => {
  it("lose a verifier without anybody noticing, and a whole guest with a new term", {
    timeout: 90_000,
  }, async () => {
    const from = leader()
    const [verifier, control] = from.releaser === "r1" ? ["v1", "cp"] : ["v2", "cp2"]
    world.kill("verifier", verifier)
    const seen = world.captured.length
    stir()
    await until(
      "results of the other verifier",
      () => world.captured.slice(seen).find(({ subject }) => /\.pull\.n\d$/.test(subject)),
      20_000,
    )
    await pause(1_000)
    expect(leader().term).toBe(from.term)
    world.kill("attester", control)
    await wholeAgain(from)
    const mark = await world.mark()
    world.again("attester", control)
    world.again("verifier", verifier)
    world.again("releaser", from.releaser)
    await standbyIsThere(from.releaser, mark)
    expectNoGap()
  })

  it("answer a node whose verifier dies before it gets the Evidence: nobody else takes that, a new hello is heard", {
    timeout: 90_000,
  }, async () => {
    const node = await playNode(world, "n5")
    let asked: string | undefined
    const verifierOf = (evidence: NodeEvidence): string => {
      const offers = world.captured.flatMap(({ subject, data }) => {
        const found = subject.startsWith("_INBOX.loader-n5.")
          ? decode(HelloReply, data, { subject })
          : undefined
        return found?.ok === true && found.value.kind === "offer" ? [found.value.challenge] : []
      })
      const named = offers.map(({ body }) => decoded(Challenge, body))
      const own = named.find(({ verifier_nonce: nonce }) => hex(nonce) === hex(evidence.verifier_nonce))
      if (own === undefined) throw new Error("nobody asked for this Evidence")
      return own.verifier
    }
    const seen: NodeEvidence[] = []
    const mark = await world.mark()
    const from = performance.now()
    const life = await live(world, node, () =>
      bent(node.bus, {
        send: {
          evidence: (value: NodeEvidence) => {
            seen.push(value)
            if (asked === undefined) {
              asked = verifierOf(value)
              world.kill("verifier", asked)
            }
            return value
          },
        },
      }),
    )
    const left = otherVerifier(await until("its Evidence", () => asked))
    const accepted = await world.recorded(
      mark,
      { by: `verifier-${left}`, type: "vouchsafe.attestation.accepted", subject: "n5" },
      30_000,
    )
    console.log(
      `    vouched for by the other verifier ${Math.round(performance.now() - from)} ms after the first hello`,
    )
    expect(accepted.data.node).toBe("n5")
    await life.stop()
    // What the dead one had asked for is nothing that the other one takes.
    const [first] = seen
    if (first === undefined || asked === undefined) throw new Error("no Evidence was sent")
    const elsewhere = await world.run(
      node.bus.request("evidence", { instance: otherVerifier(asked), node: "n5" }, first, {
        timeoutMs: 5_000,
      }),
    )
    expect(elsewhere).toMatchObject({ kind: "refused", code: "STALE" })
    const back = await world.mark()
    world.again("verifier", asked)
    await world.recorded(back, { by: `verifier-${asked}`, type: "vouchsafe.service.ready" }, 30_000)
    await pause(2_500)
    expectNoGap()
  })

  it("are not moved by claims of terms beyond belief, from whomever they come", {
    timeout: 90_000,
  }, async () => {
    const from = leader()
    for (const term of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      world.say("beacon.r9", beaconOf(term))
      const key = crypto.randomBytes(32)
      world.say("presence.v9", encode(Presence, { v: 1, role: "verifier", control: "cp9", key, term }))
    }
    await pause(1_500)
    expect(leader().term).toBe(from.term)
    const mark = await world.mark()
    await wholeAgain(from)
    expect(leader().term).toBeLessThan(2n ** 53n)
    world.again("releaser", from.releaser)
    await standbyIsThere(from.releaser, mark)
    expectNoGap()
  })

  it("go on when the bucket of leaders is gone, and when it is there again", {
    timeout: 90_000,
  }, async () => {
    const from = leader()
    world.wire.send("$JS.API.STREAM.DELETE.KV_leaders", new Uint8Array(0), "_INBOX.operator-superuser.x")
    await pause(4_500)
    const operator = await world.bus("operator", "lab")
    await world.run(operator.ensureStreams)
    await pause(2_500)
    await until("one of them alone", () => {
      const recent = world.captured.slice(-2_000).filter(({ subject }) => /\.beacon\.r[12]$/.test(subject))
      return new Set(recent.slice(-3).map(({ subject }) => subject)).size === 1 ? true : undefined
    })
    await until("one term everywhere", () => allAbove(from.term - 1n), 30_000)
    expectNoGap()
  })
})

describe("a node that remembers a later leader", () => {
  it("does not follow an earlier one, though its kernel holds nothing any more", {
    timeout: 60_000,
  }, async () => {
    const node = await playNode(world, "n4")
    const used = [{ id: new Uint8Array(8), epoch: { term: leader().term + 2n ** 50n, n: 1n } }]
    const { plane } = new Tables(recordedPlane().plane, used)
    await live(world, node, undefined, { recorded: { ...recordedPlane(), plane } })
    await until("three hellos", () => (world.sent("hello.n4").length >= 3 ? true : undefined), 30_000)
    // It says so, that the leader may rise, and asks it for nothing.
    const asked = world.sent("pull.n4").map(pullIn)
    expect(asked.filter(({ followed }) => followed === undefined).length).toBe(0)
  })
})
