/**
 * The first packets of all edges: a node whose edges have all come into use seals those of the edges that it initiates, and
 * lets in those of the others together, when all have come. An edge that was in use need not stay so: the releaser takes it
 * back from both ends when it hasn't heard of one for a lease, and a new session of either brings new keys. Then its packet
 * waits for the next ones.
 */
import { readIpv4 } from "../../schemas/address.ts"
import type { BpfObject } from "../../services/common/kernel/libbpf.ts"
import type { EdgeRule, Rules } from "../../services/dataplane-loader/rules.ts"
import type { AskedAgain, FirstPacket, ForPeers, Tried } from "./init-messages.ts"
import { type EdgePacket, FirstPackets, type Idle } from "./init-packet.ts"
import type { NodePlane } from "./init-plane.ts"

export interface Party {
  readonly id: string
  readonly plane: Pick<NodePlane, "maps">
  readonly rules: Rules
}

/** For how long, and how often, an edge that is in use no more is tried again. */
export interface Patience {
  readonly pauseMs: number
  readonly forMs: number
  readonly tries: number
}

/** A node begins a session within a few seconds of missing one; its pauses after refusals are half a minute at most. */
const PATIENCE: Patience = { pauseMs: 200, forMs: 60_000, tries: 300 }

/** An edge that came into use and went, and did not come back for as long as the bench waits. */
export class NotInUse extends Error {
  override readonly name = "NotInUse"

  constructor(node: string, { rule, why }: Idle, tries: number, ms: number) {
    const seconds = (ms / 1_000).toFixed(1)
    super(
      `${node}: edge ${rule.edge.id} was in use and is no more: ${why} (tried ${tries} times in ${seconds} s)`,
    )
  }
}

interface Waiting extends Party {
  readonly expected: number
  readonly arrived: FirstPacket[]
  letIn: number
  /** Edges whose first packet isn't on its way yet. */
  readonly unsent: Set<string>
  /** By edge. */
  readonly tries: Map<string, { readonly sinceMs: number; count: number }>
  inUse: boolean
  done: boolean
}

const withRole = ({ edges }: Rules, role: EdgeRule["edge"]["role"]): ReadonlyArray<EdgeRule> =>
  edges.filter(({ edge }) => edge.role === role)

export class FirstExchange {
  readonly #programs: FirstPackets
  readonly #elsewhere: (message: ForPeers) => void
  readonly #done: (id: string) => void
  readonly #patience: Patience
  #parties = new Map<string, Waiting>()
  #tried = { packets: 0, again: 0, cpuMs: 0 }

  /**
   * @param elsewhere takes what is for nodes of other processes
   * @param done is told of a node once it has sent its packets and let in those of its peers
   */
  constructor(
    object: BpfObject,
    elsewhere: (message: ForPeers) => void,
    done: (id: string) => void,
    patience: Patience = PATIENCE,
  ) {
    this.#programs = new FirstPackets(object)
    this.#elsewhere = elsewhere
    this.#done = done
    this.#patience = patience
  }

  get tried(): Tried {
    return this.#tried
  }

  /** Forgets those before. */
  begin(parties: ReadonlyArray<Party>): void {
    this.#tried = { packets: 0, again: 0, cpuMs: 0 }
    this.#parties = new Map(
      parties.map((party) => [
        party.id,
        {
          ...party,
          expected: withRole(party.rules, "responder").length,
          arrived: [],
          letIn: 0,
          unsent: new Set(withRole(party.rules, "initiator").map(({ edge }) => edge.id)),
          tries: new Map(),
          inUse: false,
          done: false,
        },
      ]),
    )
  }

  /** All edges of the node have come into use. @throws Error for a packet that isn't let through */
  inUse(id: string): void {
    const party = this.#parties.get(id)
    if (party === undefined) return
    party.inUse = true
    this.#send(party, withRole(party.rules, "initiator"))
    this.#letIn(party)
  }

  /** What is for nodes of this process; of the rest it takes no notice. @throws Error for a packet that isn't let through */
  receive(message: ForPeers): void {
    if (message.kind === "open")
      for (const [to, own] of Map.groupBy(message.packets, (packet) => packet.to)) {
        const party = this.#parties.get(to)
        party?.arrived.push(...own)
        if (party !== undefined) this.#letIn(party)
      }
    else
      for (const [to, own] of Map.groupBy(message.edges, (asked) => asked.to)) {
        const party = this.#parties.get(to)
        const asked = new Set(own.map(({ edge }) => edge))
        if (party !== undefined)
          this.#send(
            party,
            withRole(party.rules, "initiator").filter(({ edge }) => asked.has(edge.id)),
          )
      }
  }

  #send(party: Waiting, initiated: ReadonlyArray<EdgeRule>): void {
    if (initiated.length === 0) return
    const own = readIpv4(party.rules.node.address ?? "")
    if (own === undefined) throw new Error("the bench's edges are of IPv4")
    const { sealed, idle } = this.#timed(() => this.#programs.seal(party.plane.maps, initiated, own))
    const packets = sealed.map(({ rule: { edge }, wire }) => {
      party.unsent.delete(edge.id)
      return { edge: edge.id, to: edge.peer, base64: Buffer.from(wire).toString("base64") }
    })
    this.#pass(packets, (packets) => ({ kind: "open", packets }))
    this.#again(party, idle, (rules) => {
      this.#send(party, rules)
      this.#finish(party)
    })
  }

  #letIn(party: Waiting): void {
    const { id, plane, rules, expected, arrived, inUse, letIn } = party
    if (!inUse || letIn + arrived.length < expected) return
    if (arrived.length > 0) {
      const byId = new Map(rules.edges.map((rule) => [rule.edge.id, rule]))
      const packets = arrived.splice(0).map(({ edge, base64 }): EdgePacket => {
        const rule = byId.get(edge)
        if (rule === undefined) throw new Error(`${id} has no edge ${edge}`)
        return { rule, wire: Uint8Array.from(Buffer.from(base64, "base64")) }
      })
      const { opened, idle } = this.#timed(() => this.#programs.open(plane.maps, packets))
      party.letIn += opened
      this.#tried.packets += opened
      this.#again(party, idle, (rules) => {
        const asked = rules.map(({ edge }): AskedAgain => ({ edge: edge.id, to: edge.peer }))
        this.#pass(asked, (edges) => ({ kind: "seal", edges }))
      })
    }
    this.#finish(party)
  }

  #finish(party: Waiting): void {
    if (party.done || !party.inUse || party.unsent.size > 0 || party.letIn < party.expected) return
    party.done = true
    this.#done(party.id)
  }

  /** To nodes of other processes at once; to those of this one in a step of its own: other nodes are at work meanwhile. */
  #pass<A extends { readonly to: string }>(
    all: ReadonlyArray<A>,
    message: (some: ReadonlyArray<A>) => ForPeers,
  ): void {
    if (all.length === 0) return
    const others = all.filter(({ to }) => !this.#parties.has(to))
    if (others.length > 0) this.#elsewhere(message(others))
    setImmediate(() => this.receive(message(all)))
  }

  /** @throws NotInUse for an edge that has had its time */
  #again(party: Waiting, idle: ReadonlyArray<Idle>, act: (rules: ReadonlyArray<EdgeRule>) => void): void {
    if (idle.length === 0) return
    const { pauseMs, forMs, tries } = this.#patience
    const nowMs = performance.now()
    for (const one of idle) {
      const { id } = one.rule.edge
      const known = party.tries.get(id) ?? { sinceMs: nowMs, count: 0 }
      party.tries.set(id, known)
      known.count += 1
      const waitedMs = nowMs - known.sinceMs
      if (known.count > tries || waitedMs > forMs) throw new NotInUse(party.id, one, known.count, waitedMs)
    }
    this.#tried.again += idle.length
    setTimeout(() => {
      if (this.#parties.get(party.id) === party) act(idle.map(({ rule }) => rule))
    }, pauseMs)
  }

  #timed<A>(run: () => A): A {
    const before = process.cpuUsage()
    const done = run()
    const { user, system } = process.cpuUsage(before)
    this.#tried.cpuMs += (user + system) / 1_000
    return done
  }
}
