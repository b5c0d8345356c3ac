/** Who reaches whom in a whole lab: what the workflow names and nothing else, each refusal counted where it happens. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { intrude, untilReleased } from "../../infra/lab/job.ts"
import {
  allocated,
  type Counted,
  countVerdicts,
  delivered,
  deviceCounts,
  difference,
  dropsIn,
  echoMessage,
  endTestLab,
  eventsOf,
  forwarded,
  hasPlane,
  ipFrame,
  LAB_START_MS,
  SYN,
  SYN_ACK,
  sleep,
  startTestLab,
  statsOf,
  type TestLab,
  tcpSegment,
  until,
  untilTold,
} from "./support.ts"

/** Long enough for an answer over this machine's own wire a hundred times over. */
const SILENT_MS = 400
/** For what has to be answered. */
const ANSWER_MS = 10_000
const ADDRESS = { n1: "10.77.0.1", n2: "10.77.0.2", n3: "10.77.0.3", n4: "10.77.0.4" } as const
type Id = keyof typeof ADDRESS

let lab: TestLab
const app = (node: Id) => lab.agent(lab.appNetns(node))
const wireNetns = (node: Id) => lab.names.netns(lab.place(node).wireNs)

const isActive = (node: Id, instance: string): true | undefined =>
  lab.watch.stats.get(node)?.edges.some((edge) => edge.instance === instance && edge.state === "active")
    ? true
    : undefined

/** A request for a connection is sent again while nobody answers: on a busy machine, a few times before we look. */
const asOneRequest = (counted: Counted): Counted => {
  const [reason, ...others] = Object.keys(counted)
  return reason === undefined || others.length > 0 ? counted : { [reason]: 1 }
}

/** What an attempt changed: at the sender's kernel, and at the node that nothing may reach. */
const attempt = async (from: Id, to: Id, run: () => Promise<unknown>) => {
  const before = countVerdicts(lab, from)
  const arrived = delivered(lab, to)
  const outcome = await run()
  // The node's own business with the bus goes on meanwhile.
  const {
    CONTROL: _control,
    NEIGHBOUR: _neighbour,
    ...counted
  } = difference(before, countVerdicts(lab, from))
  return { outcome, counted, delivered: delivered(lab, to) - arrived }
}

/** As `attempt`, of one connection that can't come about. */
const attemptConnect = async (from: Id, to: Id, port: number, own?: number) => {
  const tried = await attempt(from, to, () => connect(from, to, port, own))
  return { ...tried, counted: asOneRequest(tried.counted) }
}

const connect = (from: Id, to: Id, port: number, own?: number, timeoutMs = SILENT_MS) =>
  app(from).ask({
    op: "tcp-connect",
    address: ADDRESS[to],
    port,
    timeoutMs,
    ...(own === undefined ? {} : { from: own }),
  })

const expectAnswered = async (from: Id, to: Id, port: number): Promise<void> =>
  expect(await connect(from, to, port, undefined, ANSWER_MS)).toBe("answered")

beforeAll(async () => {
  lab = await startTestLab({ heldBack: ["n3"] })
  await until(
    "the edge between the nodes that are up",
    60_000,
    () => isActive("n1", "raw:n1:n2") && isActive("n2", "raw:n1:n2"),
  )
  await until("the refusal of n4", 30_000, () =>
    eventsOf(lab, "attestation.refused", "n4").length > 0 ? true : undefined,
  )
  for (const node of ["n1", "n2", "n3", "n4"] as const) {
    // 5002 and 22 are named by no edge; something listens, so that it would show if a packet got through.
    for (const port of [5000, 5001, 5002, 22]) await app(node).ask({ op: "tcp-listen", port })
    for (const port of [5000, 5001]) await app(node).ask({ op: "udp-listen", port })
  }
}, LAB_START_MS)
afterAll(() => endTestLab(lab), 30_000)

describe("a node whose loader isn't up", () => {
  it("passes nothing to the wire, not even with a route to it", async () => {
    expect(hasPlane(lab, "n3")).toBe(false)
    lab.exec(lab.appNetns("n3"), ["ip", "route", "add", "10.99.0.0/24", "dev", "m0"])
    const unexpected = lab.capture.counts().unexpected_frames
    expect(await connect("n3", "n2", 5000)).not.toBe("answered")
    expect(await app("n3").ask({ op: "udp-send", address: "10.99.0.11", port: 4500, count: 3 })).toBe(3)
    expect(await connect("n3", "n1", 5001)).not.toBe("answered")
    // As root of its namespace an application knows how to address a router, if the other end were one.
    const [link] = JSON.parse(lab.exec(wireNetns("n3"), ["ip", "-j", "link", "show", "m1"]))
    const routed = ipFrame(ADDRESS.n3, "10.99.0.11", 1, echoMessage(8, 1), link.address)
    await app("n3").ask({ op: "frames", device: "m0", frames: [routed, routed] })
    await sleep(500)
    expect(lab.capture.counts().unexpected_frames - unexpected).toBe(0)
    expect(forwarded(lab, wireNetns("n3"))).toBe(0)
    // It did get as far as the node's own end of the veth: the attempt was a real one.
    expect(deviceCounts(lab, wireNetns("n3"), "m1").received).toBeGreaterThanOrEqual(5)
    lab.exec(lab.appNetns("n3"), ["ip", "route", "del", "10.99.0.0/24", "dev", "m0"])
  })

  it("gets nothing: its peer has no key for it, says so, and works once it has", async () => {
    const blocked = await attempt("n2", "n3", () => connect("n2", "n3", 5001))
    expect(blocked).toMatchObject({ outcome: "silent", delivered: 0 })
    expect(Object.keys(blocked.counted)).toContain("NO_KEY")
    lab.startLoader("n3")
    await untilReleased(lab)
    await expectAnswered("n2", "n3", 5001)
  })
})

describe("two attested nodes without an edge", () => {
  it.each([
    ["n1", "n3"],
    ["n3", "n1"],
  ] as const)("%s can't reach %s by TCP, UDP or ICMP, and counts each packet", async (from, to) => {
    for (const node of [from, to]) expect(statsOf(lab, node).state).toBe("released")
    for (const port of [5000, 5001, 5002]) {
      const tcp = await attemptConnect(from, to, port)
      expect(tcp).toMatchObject({ outcome: "silent", delivered: 0 })
      expect(tcp.counted).toEqual({ NO_POLICY: 1 })
    }
    for (const port of [5000, 5001]) {
      const order = { op: "udp-send", address: ADDRESS[to], port, count: 5 } as const
      const udp = await attempt(from, to, () => app(from).ask(order))
      expect(udp).toEqual({ outcome: 5, counted: { NO_POLICY: 5 }, delivered: 0 })
    }
    const frames = ([8, 0] as const).map((type) =>
      ipFrame(ADDRESS[from], ADDRESS[to], 1, echoMessage(type, 77)),
    )
    const icmp = await attempt(from, to, () => app(from).ask({ op: "frames", device: "m0", frames }))
    expect(icmp).toEqual({ outcome: undefined, counted: { NO_POLICY: 2 }, delivered: 0 })
    expect(await app(to).ask({ op: "received" })).toMatchObject({ datagrams: 0 })
    const { NO_POLICY = 0 } = countVerdicts(lab, from)
    expect(NO_POLICY).toBeGreaterThanOrEqual(15)
    expect((await untilTold(lab, from, "NO_POLICY", NO_POLICY)).verdicts.NO_POLICY).toBe(NO_POLICY)
  })
})

describe("an edge for TCP port 5000 from n1 to n2", () => {
  it("carries a connection both ways", async () => {
    const order = {
      op: "tcp-connect",
      address: ADDRESS.n2,
      port: 5000,
      timeoutMs: ANSWER_MS,
      keep: "live",
    } as const
    expect(await app("n1").ask(order)).toBe("answered")
  })

  it.each([22, 4999, 5001, 5002])("drops and counts a connection to port %i", async (port) => {
    const { outcome, counted, delivered: got } = await attemptConnect("n1", "n2", port)
    expect([outcome, counted, got]).toEqual(["silent", { NO_POLICY: 1 }, 0])
  })

  it("drops and counts UDP to the same port, and ICMP", async () => {
    const udp = await attempt("n1", "n2", () =>
      app("n1").ask({ op: "udp-send", address: ADDRESS.n2, port: 5000, count: 7 }),
    )
    expect(udp).toEqual({ outcome: 7, counted: { NO_POLICY: 7 }, delivered: 0 })
    const frames = [ipFrame(ADDRESS.n1, ADDRESS.n2, 1, echoMessage(8, 5000))]
    const icmp = await attempt("n1", "n2", () => app("n1").ask({ op: "frames", device: "m0", frames }))
    expect(icmp).toEqual({ outcome: undefined, counted: { NO_POLICY: 1 }, delivered: 0 })
    expect(await app("n2").ask({ op: "received" })).toMatchObject({ datagrams: 0 })
  })

  it("drops and counts packets under an address that isn't the sender's", async () => {
    const segment = tcpSegment([ADDRESS.n3, 40_000], [ADDRESS.n2, 5000], SYN)
    const frames = [ipFrame(ADDRESS.n3, ADDRESS.n2, 6, segment)]
    const forged = await attempt("n1", "n2", () => app("n1").ask({ op: "frames", device: "m0", frames }))
    expect(forged).toEqual({ outcome: undefined, counted: { WRONG_SOURCE: 1 }, delivered: 0 })
  })

  it("lets n2 open nothing towards n1, at any port and from any, while answers still go back", async () => {
    for (const port of [22, 5000, 5001, 5002]) {
      const { outcome, counted, delivered: got } = await attemptConnect("n2", "n1", port)
      expect([outcome, counted, got]).toEqual(["silent", { NO_POLICY: 1 }, 0])
    }
    // A reply isn't one because it comes from the right port: 5000 as the source opens nothing either.
    await app("n2").ask({ op: "tcp-close", port: 5002 })
    const close = await attemptConnect("n2", "n1", 22, 5002)
    expect([close.outcome, close.counted, close.delivered]).toEqual(["silent", { NO_POLICY: 1 }, 0])
    const frames = [
      [22, SYN],
      [5000, SYN],
      [50_000, SYN_ACK],
    ].map(([port = 0, flags = 0]) =>
      ipFrame(ADDRESS.n2, ADDRESS.n1, 6, tcpSegment([ADDRESS.n2, 5000], [ADDRESS.n1, port], flags)),
    )
    const forged = await attempt("n2", "n1", () => app("n2").ask({ op: "frames", device: "m0", frames }))
    expect(forged).toEqual({ outcome: undefined, counted: { NO_POLICY: 3 }, delivered: 0 })
    const udp = await attempt("n2", "n1", () =>
      app("n2").ask({ op: "udp-send", address: ADDRESS.n1, port: 5001, count: 3 }),
    )
    expect(udp).toEqual({ outcome: 3, counted: { NO_POLICY: 3 }, delivered: 0 })

    const before = countVerdicts(lab, "n2")
    expect(await app("n1").ask({ op: "tcp-ask", name: "live", timeoutMs: ANSWER_MS })).toBe("answered")
    await expectAnswered("n1", "n2", 5000)
    const counted = difference(before, countVerdicts(lab, "n2"))
    expect(counted.SEALED ?? 0).toBeGreaterThanOrEqual(4)
    expect(dropsIn(counted)).toEqual({})
  })
})

describe("the refused node", () => {
  it("got no release and holds no key", async () => {
    expect(eventsOf(lab, "attestation.refused", "n4").map(({ event }) => event.data.code)).toContain(
      "DATAPLANE",
    )
    expect(eventsOf(lab, "attestation.accepted", "n4")).toEqual([])
    for (const type of ["release.sent", "release.accepted", "node.accepted"])
      expect(eventsOf(lab, type, "n4")).toEqual([])
    // The same look at an accepted node finds them: it is not the look that finds nothing.
    expect(eventsOf(lab, "release.sent", "n2").length).toBeGreaterThan(0)
    const stats = statsOf(lab, "n4")
    expect(stats.state).toBe("refused")
    expect(stats.edges.map(({ instance, state, epoch }) => [instance, state, epoch])).toEqual([
      ["packed:n2:n4", "none", 0n],
    ])
    for (const map of ["sa_in", "sa_out", "outbound", "windows"] as const) {
      expect([map, allocated(lab, "n4", map)]).toEqual([map, 0])
      expect(allocated(lab, "n2", map)).toBeGreaterThan(0)
    }
  })

  it.each(["n1", "n2", "n3"] as const)("its applications don't reach %s", async (to) => {
    const tcp = await attemptConnect("n4", to, to === "n3" ? 5001 : 5000)
    expect(tcp).toEqual({ outcome: "silent", counted: { NO_POLICY: 1 }, delivered: 0 })
    const order = { op: "udp-send", address: ADDRESS[to], port: 5000, count: 3 } as const
    const udp = await attempt("n4", to, () => app("n4").ask(order))
    expect(udp).toEqual({ outcome: 3, counted: { NO_POLICY: 3 }, delivered: 0 })
  })

  it("isn't reached by the node whose edge it would share", async () => {
    const { outcome, counted, delivered: got } = await attemptConnect("n2", "n4", 5001)
    expect([outcome, got]).toEqual(["silent", 0])
    expect(counted).toEqual({ NO_KEY: 1 })
  })

  it("its guard lets no process of its own past, and counts", async () => {
    const before = countVerdicts(lab, "n4")
    const agent = lab.agent(wireNetns("n4"))
    for (const target of ["n1", "n2", "n3"] as const)
      await agent.ask({ op: "udp-send", address: lab.place(target).wire, port: 4500, from: 4500, count: 4 })
    const counted = difference(before, countVerdicts(lab, "n4"))
    expect(counted.FOREIGN_OUT).toBe(12)
  })

  it("past its guard, as root with a raw socket, it is dropped and counted by each of the others", async () => {
    const nodes = ["n1", "n2", "n3"] as const
    const before = nodes.map((node) => ({ counted: countVerdicts(lab, node), got: delivered(lab, node) }))
    await intrude(lab)
    for (const [i, node] of nodes.entries()) {
      const { counted = {}, got = 0 } = before[i] ?? {}
      expect(dropsIn(difference(counted, countVerdicts(lab, node)))).toEqual({
        UNKNOWN_SPI: 5,
        FOREIGN_IN: 5,
      })
      expect(delivered(lab, node) - got).toBe(0)
    }
  })
})
