/**
 * The first packets of all edges: a node whose edges are all in use seals those of the edges that it initiates, and lets in
 * those of the others together, when all have come.
 */
import { readIpv4 } from "../../schemas/address.ts"
import type { BpfObject } from "../../services/common/kernel/libbpf.ts"
import type { EdgeRule, Rules } from "../../services/dataplane-loader/rules.ts"
import type { FirstPacket, Tried } from "./init-messages.ts"
import { FirstPackets } from "./init-packet.ts"
import type { NodePlane } from "./init-plane.ts"

export interface Party {
  readonly id: string
  readonly plane: NodePlane
  readonly rules: Rules
}

interface Waiting extends Party {
  readonly expected: number
  readonly arrived: FirstPacket[]
  inUse: boolean
}

const withRole = ({ edges }: Rules, role: EdgeRule["edge"]["role"]): ReadonlyArray<EdgeRule> =>
  edges.filter(({ edge }) => edge.role === role)

export class FirstExchange {
  readonly #programs: FirstPackets
  readonly #elsewhere: (packets: ReadonlyArray<FirstPacket>) => void
  readonly #done: (id: string) => void
  #parties = new Map<string, Waiting>()
  #tried = { packets: 0, cpuMs: 0 }

  /**
   * @param elsewhere takes packets to nodes of other processes
   * @param done is told of a node once it has sent its packets and let in those of its peers
   */
  constructor(
    object: BpfObject,
    elsewhere: (packets: ReadonlyArray<FirstPacket>) => void,
    done: (id: string) => void,
  ) {
    this.#programs = new FirstPackets(object)
    this.#elsewhere = elsewhere
    this.#done = done
  }

  get tried(): Tried {
    return this.#tried
  }

  /** Forgets those before. */
  begin(parties: ReadonlyArray<Party>): void {
    this.#tried = { packets: 0, cpuMs: 0 }
    this.#parties = new Map(
      parties.map((party) => {
        const expected = withRole(party.rules, "responder").length
        return [party.id, { ...party, expected, arrived: [], inUse: false }]
      }),
    )
  }

  /** All edges of the node are in use. @throws Error for a packet that isn't let through */
  inUse(id: string): void {
    const party = this.#parties.get(id)
    if (party === undefined) return
    const initiated = withRole(party.rules, "initiator")
    if (initiated.length > 0) this.#trying(initiated.length, () => this.#send(party, initiated))
    party.inUse = true
    this.#letIn(party)
  }

  /** Those to nodes of this process; of others it takes no notice. @throws Error for a packet that isn't let through */
  receive(packets: ReadonlyArray<FirstPacket>): void {
    for (const [to, own] of Map.groupBy(packets, (packet) => packet.to)) {
      const party = this.#parties.get(to)
      party?.arrived.push(...own)
      if (party !== undefined) this.#letIn(party)
    }
  }

  #send({ plane, rules }: Party, initiated: ReadonlyArray<EdgeRule>): void {
    const own = readIpv4(rules.node.address ?? "")
    if (own === undefined) throw new Error("the bench's edges are of IPv4")
    const wires = this.#programs.seal(plane.maps, initiated, own)
    const packets = wires.flatMap((wire, i) => {
      const edge = initiated[i]?.edge
      return edge === undefined
        ? []
        : [{ edge: edge.id, to: edge.peer, base64: Buffer.from(wire).toString("base64") }]
    })
    const others = packets.filter(({ to }) => !this.#parties.has(to))
    if (others.length > 0) this.#elsewhere(others)
    // Each in a step of its own: other nodes are at work meanwhile.
    setImmediate(() => this.receive(packets))
  }

  #letIn(party: Waiting): void {
    const { id, plane, rules, expected, arrived, inUse } = party
    if (!inUse || arrived.length < expected) return
    if (expected > 0) {
      const byId = new Map(rules.edges.map((rule) => [rule.edge.id, rule]))
      this.#trying(expected, () =>
        this.#programs.open(
          plane.maps,
          arrived.map(({ edge, base64 }) => {
            const rule = byId.get(edge)
            if (rule === undefined) throw new Error(`${id} has no edge ${edge}`)
            return { rule, wire: Uint8Array.from(Buffer.from(base64, "base64")) }
          }),
        ),
      )
    }
    this.#done(id)
  }

  #trying(packets: number, run: () => void): void {
    const before = process.cpuUsage()
    run()
    const { user, system } = process.cpuUsage(before)
    this.#tried.packets += packets
    this.#tried.cpuMs += (user + system) / 1_000
  }
}
