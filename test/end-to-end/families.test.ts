/**
 * A whole lab on an IPv6 wire, whose applications speak IPv4 and IPv6 over one set of edges: TCP, UDP, SCTP, ICMP, and
 * anything where an edge says so. What no edge names is dropped and counted in both families alike.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { moveData, untilReleased } from "../../infra/lab/job.ts"
import {
  countVerdicts,
  delivered,
  difference,
  dropsIn,
  echoMessage,
  echoMessage6,
  endTestLab,
  ICMPV6,
  ipFrame,
  LAB_START_MS,
  SCTP,
  SYN,
  sctpInit,
  sleep,
  startTestLab,
  statsOf,
  type TestLab,
  tcpSegment,
  until,
  untilGot,
} from "./support.ts"

const SILENT_MS = 400
const ANSWER_MS = 10_000
const GRE = 47
const EDGES = [
  { id: "beat", from: "source", to: "transform", protocol: "udp", port: 6000, lanes: 4 },
  { id: "probe", from: "source", to: "transform", protocol: "icmp", lanes: 1 },
  { id: "signal", from: "source", to: "transform", protocol: "sctp", port: 2905, lanes: 1 },
  { id: "rest", from: "sink", to: "source", protocol: "any", lanes: 1 },
  { id: "web", from: "sink", to: "source", protocol: "tcp", port: 8080, lanes: 1 },
] as const

type Id = "n1" | "n2" | "n3"

let lab: TestLab
const app = (node: Id) => lab.agent(lab.appNetns(node))

beforeAll(async () => {
  lab = await startTestLab({ underlay: "ipv6", edges: EDGES })
  await untilReleased(lab)
  for (const node of ["n1", "n2", "n3"] as const) {
    for (const port of [5000, 5002, 22, 8080]) await app(node).ask({ op: "tcp-listen", port })
    for (const port of [6000, 6001]) await app(node).ask({ op: "udp-listen", port })
  }
}, LAB_START_MS)
afterAll(() => endTestLab(lab), 30_000)

/** What an attempt changed: at the sender's kernel, and at the node that it was meant for. */
const attempt = async (from: Id, to: Id, run: () => Promise<unknown>) => {
  const before = countVerdicts(lab, from)
  const arrived = delivered(lab, to)
  const outcome = await run()
  const drops = dropsIn(difference(before, countVerdicts(lab, from)))
  return { outcome, drops, delivered: delivered(lab, to) - arrived }
}

const arrival = (node: Id, before: number, what: string): Promise<true> =>
  until(`${what} at ${node}`, ANSWER_MS, () => (delivered(lab, node) > before ? true : undefined))

describe.each([
  { family: "IPv4", address: (node: Id) => lab.place(node).address, icmp: 1 },
  { family: "IPv6", address: (node: Id) => lab.place(node).address6, icmp: ICMPV6 },
])("$family over an IPv6 wire", ({ family, address, icmp }) => {
  const frame = (from: Id, to: Id, protocol: number, payload: Buffer) =>
    app(from).ask({
      op: "frames",
      device: "m0",
      frames: [ipFrame(address(from), address(to), protocol, payload)],
    })
  const connect = (from: Id, to: Id, port: number, timeoutMs = SILENT_MS) =>
    app(from).ask({ op: "tcp-connect", address: address(to), port, timeoutMs })
  const echo = (from: Id, to: Id, id: number) =>
    family === "IPv4" ? echoMessage(8, id) : echoMessage6(address(from), address(to), 128, id)

  it("carries TCP to the edge's port, answers included, and nothing to another or the other way", async () => {
    expect(await connect("n1", "n2", 5000, ANSWER_MS)).toBe("answered")
    for (const [from, to, port] of [
      ["n1", "n2", 22],
      ["n1", "n2", 5002],
      ["n2", "n1", 5000],
      ["n2", "n1", 22],
    ] as const) {
      const tried = await attempt(from, to, () => connect(from, to, port))
      expect(tried).toMatchObject({ outcome: "silent", delivered: 0 })
      // Once, or more often if the machine is busy: a request that nobody answers is repeated.
      expect(Object.keys(tried.drops)).toEqual(["NO_POLICY"])
    }
  })

  it("carries UDP over all lanes of its edge, and none to another port", async () => {
    await app("n2").ask({ op: "received" })
    await app("n1").ask({
      op: "stream",
      address: address("n2"),
      port: 6000,
      perSecond: 300,
      text: lab.marker,
    })
    await sleep(500)
    const sent = (await app("n1").ask({ op: "stream-stop" })) ?? 0
    expect(sent).toBeGreaterThan(50)
    expect(await untilGot(app("n2"), sent)).toBe(sent)
    const order = { op: "udp-send", address: address("n2"), port: 6001, count: 3 } as const
    const tried = await attempt("n1", "n2", () => app("n1").ask(order))
    expect(tried).toEqual({ outcome: 3, drops: { NO_POLICY: 3 }, delivered: 0 })
  })

  it("carries an echo and its answer, and no echo the other way", async () => {
    const before = delivered(lab, "n1")
    await frame("n1", "n2", icmp, echo("n1", "n2", 77))
    await arrival("n1", before, "the answer")
    const tried = await attempt("n2", "n1", () => frame("n2", "n1", icmp, echo("n2", "n1", 78)))
    expect(tried).toEqual({ outcome: undefined, drops: { NO_POLICY: 1 }, delivered: 0 })
    // The other family's ICMP is none in this one.
    const other = icmp === 1 ? ICMPV6 : 1
    const odd = await attempt("n1", "n2", () => frame("n1", "n2", other, echo("n1", "n2", 79)))
    expect(odd).toEqual({ outcome: undefined, drops: { NO_POLICY: 1 }, delivered: 0 })
  })

  it("carries SCTP to its port, and what the peer's kernel says to it", async () => {
    const before = delivered(lab, "n1")
    const asked = delivered(lab, "n2")
    await frame("n1", "n2", SCTP, sctpInit(40_000, 2905))
    await arrival("n2", asked, "the request")
    // An ABORT, or, of a kernel without SCTP, an ICMP error about this very packet.
    await arrival("n1", before, "the answer")
    for (const [from, to, ports] of [
      ["n1", "n2", [40_000, 2906]],
      ["n2", "n1", [2905, 40_001]],
    ] as const) {
      const tried = await attempt(from, to, () => frame(from, to, SCTP, sctpInit(ports[0], ports[1])))
      expect(tried).toEqual({ outcome: undefined, drops: { NO_POLICY: 1 }, delivered: 0 })
    }
  })

  it("carries anything where an edge says so, its answers back, and nothing that is begun the other way", async () => {
    const gre = Buffer.from("0000080000000000", "hex")
    for (const run of [
      () => connect("n1", "n3", 22),
      () => frame("n1", "n3", GRE, gre),
      () => frame("n1", "n3", SCTP, sctpInit(1, 2905)),
      () => frame("n1", "n3", icmp, echo("n1", "n3", 80)),
    ])
      expect(await attempt("n1", "n3", run)).toMatchObject({
        drops: { NO_POLICY: expect.any(Number) },
        delivered: 0,
      })
    expect(await connect("n3", "n1", 22, ANSWER_MS)).toBe("answered")
    const asked = delivered(lab, "n1")
    await frame("n3", "n1", GRE, gre)
    await arrival("n1", asked, "another protocol")
    // Now it answers something.
    const back = await attempt("n1", "n3", () => frame("n1", "n3", GRE, gre))
    expect(back.drops).toEqual({})
    const before = delivered(lab, "n3")
    await frame("n3", "n1", icmp, echo("n3", "n1", 81))
    await arrival("n3", before, "the echo's answer")
  })

  it("uses the most specific of two edges that both allow a packet", async () => {
    const sealed = (id: string): number =>
      statsOf(lab, "n3").edges.find(({ instance }) => instance === `${id}:n3:n1`)?.sealed_packets ?? 0
    const [web, rest] = [sealed("web"), sealed("rest")]
    expect(await connect("n3", "n1", 8080, ANSWER_MS)).toBe("answered")
    await until("what the port's own edge carried", ANSWER_MS, () => (sealed("web") > web ? true : undefined))
    const between = sealed("web")
    expect(await connect("n3", "n1", 5002, ANSWER_MS)).toBe("answered")
    await until("what `any` carried", ANSWER_MS, () => (sealed("rest") > rest ? true : undefined))
    expect(sealed("web")).toBe(between)
  })

  it("reaches nobody without an edge, and nobody under another's address", async () => {
    const segment = tcpSegment([address("n3"), 40_000], [address("n2"), 5000], SYN)
    const forged = await attempt("n1", "n2", () =>
      app("n1").ask({
        op: "frames",
        device: "m0",
        frames: [ipFrame(address("n3"), address("n2"), 6, segment)],
      }),
    )
    expect(forged).toEqual({ outcome: undefined, drops: { WRONG_SOURCE: 1 }, delivered: 0 })
  })
})

describe("IPv6 itself", () => {
  it("hides nothing behind an extension header, whatever the edge allows", async () => {
    const [from, to] = [lab.place("n3").address6, lab.place("n1").address6]
    const segment = tcpSegment([from, 40_000], [to, 22], SYN)
    for (const [next, verdict] of [
      [0, "EXTENSION"],
      [60, "EXTENSION"],
      [43, "EXTENSION"],
      [44, "FRAGMENT"],
    ] as const) {
      const payload = Buffer.concat([Buffer.from([6, 0, 1, 4, 0, 0, 0, 0]), segment])
      const frames = [ipFrame(from, to, next, payload)]
      const tried = await attempt("n3", "n1", () => app("n3").ask({ op: "frames", device: "m0", frames }))
      expect(tried).toEqual({ outcome: undefined, drops: { [verdict]: 1 }, delivered: 0 })
    }
  })
})

describe("the IPv6 wire", () => {
  it("carries the pipeline, and shows nothing but sealed packets, the bus and neighbours", async () => {
    // The pipeline's own programs listen there.
    for (const node of ["n2", "n3"] as const) await app(node).ask({ op: "tcp-close", port: 5000 })
    const pipeline = await moveData(lab, lab.machine.netcat)
    expect(pipeline.sha256).toBe(pipeline.sha256_local)
    await lab.stopServices()
    const wire = await lab.capture.stop()
    expect(wire).toMatchObject({ unexpected_frames: 0, marker_hits: 0, lost_frames: 0, samples: [] })
    expect(wire.esp_frames).toBeGreaterThan(10_000)
    expect(wire.control_frames).toBeGreaterThan(0)
    expect(wire.neighbour_frames).toBeGreaterThan(0)
  })
})
