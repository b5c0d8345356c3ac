/** A kernel's tables as the loader sees them, with the rules that no kernel may be asked to break. */

import { bootNow } from "../../services/common/kernel/clock.ts"
import { KernelError } from "../../services/common/kernel/errors.ts"
import type { NewAssociation, Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { DATAPLANE } from "./adversary-domain.ts"

type Direction = "in" | "out"
type Epoch = NewAssociation["epoch"]

interface Held {
  readonly direction: Direction
  readonly edge: number
  readonly lane: number
  readonly spi: number
  readonly epoch: Epoch
  readonly key: string
  deadline: bigint
}

type Edge = ReturnType<Plane["edges"]>["edges"][number]

/** Where a rule is broken, and how. */
export type Accuse = (rule: string, detail: string) => void

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
const above = (a: Epoch, b: Epoch): boolean => a.term > b.term || (a.term === b.term && a.n > b.n)
const dotted = ({ term, n }: Epoch): string => `${term}.${n}`

/** Keys that any node has ever sealed with. */
export type SealedUnder = Set<string>

export interface PlaneOptions {
  readonly node: string
  readonly accuse: Accuse
  readonly sealedUnder: SealedUnder
  /** The latest that a lease may last by what the node has asked for. */
  readonly latestLease: () => bigint
  /** Keys for an edge, hex: the kernel has them. */
  readonly onInstall?: (edge: Edge, key: string) => void
}

export class ModelPlane {
  readonly #options: PlaneOptions
  readonly #held = new Map<string, Held>()
  /** Highest epoch ever, by direction and edge id. */
  readonly #buried = new Map<string, Epoch>()
  readonly #selected = new Map<string, number>()
  readonly #lastActive = new Map<string, Epoch>()
  #edges: ReturnType<Plane["edges"]> = { edges: [], policies: [] }
  #refuseNext = false

  constructor(options: PlaneOptions) {
    this.#options = options
  }

  /** The kernel has no room for the next association. */
  fail(): void {
    this.#refuseNext = true
  }

  get edges(): ReadonlyArray<Edge> {
    return this.#edges.edges
  }

  edge(index: number): Edge | undefined {
    return this.#edges.edges.find((each) => each.index === index)
  }

  indexOf(id: Uint8Array): number | undefined {
    return this.#edges.edges.find((each) => hex(each.id) === hex(id))?.index
  }

  /** What a packet that leaves now over the edge would be sealed under, by lane. */
  sealing(edge: number): ReadonlyArray<Held> {
    return [...this.#selected].flatMap(([at, spi]) => {
      const [index] = at.split(" ")
      const held = this.#held.get(`out ${edge} ${spi}`)
      return Number(index) === edge && held !== undefined && held.deadline > bootNow() ? [held] : []
    })
  }

  opening(spi: number): Held | undefined {
    const held = [...this.#held.values()].find((each) => each.direction === "in" && each.spi === spi)
    return held !== undefined && held.deadline > bootNow() ? held : undefined
  }

  get alive(): ReadonlyArray<Held> {
    return [...this.#held.values()].filter(({ deadline }) => deadline > bootNow())
  }

  install(direction: Direction, sa: NewAssociation): void {
    const { accuse, node, sealedUnder } = this.#options
    const { edge, lane, spi, epoch } = sa
    const key = hex(sa.key)
    sa.key.fill(0)
    sa.salt.fill(0)
    const op = `install ${direction}bound`
    const found = this.edge(edge)
    const id = hex(found?.id ?? new Uint8Array())
    if (found === undefined) throw new KernelError(op, "edge", "ENOENT")
    if (this.#refuseNext) {
      this.#refuseNext = false
      throw new KernelError(op, "sa", "E2BIG")
    }
    const name = direction === "in" ? `in ${spi}` : `out ${edge} ${spi}`
    const buried = this.#buried.get(`${direction} ${id}`)
    if (buried !== undefined && !above(epoch, buried) && dotted(epoch) !== dotted(buried)) {
      accuse(
        "epochs only rise",
        `${node} was told to install ${dotted(epoch)} ${direction} after ${dotted(buried)}`,
      )
      throw new KernelError(op, "edge", "EPOCH_USED")
    }
    const same = [...this.#held.values()].some(
      (each) =>
        each.direction === direction &&
        each.edge === edge &&
        each.lane === lane &&
        dotted(each.epoch) === dotted(epoch),
    )
    if (same || this.#held.has(name)) {
      accuse("no (key, nonce) twice", `${node} was told to install ${name} of ${dotted(epoch)} again`)
      throw new KernelError(op, "sa", "EEXIST")
    }
    if (direction === "out") {
      if (sealedUnder.has(key))
        accuse("no (key, nonce) twice", `${node} seals under a key that was in use before`)
      sealedUnder.add(key)
    }
    this.#buried.set(`${direction} ${id}`, epoch)
    this.#held.set(name, { direction, edge, lane, spi, epoch, key, deadline: sa.deadline })
    this.#options.onInstall?.(found, key)
  }

  setLease(direction: Direction, edge: number, spi: number, deadline: bigint): boolean {
    const { accuse, node, latestLease } = this.#options
    const held = this.#held.get(direction === "in" ? `in ${spi}` : `out ${edge} ${spi}`)
    if (held === undefined) throw new KernelError("lease", "sa", "ENOENT")
    if (deadline <= held.deadline) return false
    const most = latestLease()
    if (deadline > most)
      accuse(
        "no key past its deadline",
        `${node} has a lease ${(deadline - most) / 1_000_000n} ms beyond what it asked for`,
      )
    held.deadline = deadline
    return true
  }

  activate(edge: number, lane: number, spi: number): void {
    const { accuse, node } = this.#options
    const held = this.#held.get(`out ${edge} ${spi}`)
    if (held === undefined) throw new KernelError("activate", "sa", "ENOENT")
    const id = `${hex(this.edge(edge)?.id ?? new Uint8Array())} ${lane}`
    const before = this.#lastActive.get(id)
    if (before !== undefined && above(before, held.epoch))
      accuse("epochs only rise", `${node} goes from ${dotted(before)} back to ${dotted(held.epoch)}`)
    this.#lastActive.set(id, held.epoch)
    this.#selected.set(`${edge} ${lane}`, spi)
  }

  retire(direction: Direction, edge: number, spi: number): boolean {
    const selected = [...this.#selected].find(([at, active]) => at.startsWith(`${edge} `) && active === spi)
    if (direction === "out" && selected !== undefined) this.#selected.delete(selected[0])
    return this.#held.delete(direction === "in" ? `in ${spi}` : `out ${edge} ${spi}`)
  }

  setEdges(desired: ReturnType<Plane["edges"]>): void {
    const stays = new Set(desired.edges.map(({ index, id }) => `${index} ${hex(id)}`))
    for (const { index, id } of this.#edges.edges) {
      if (stays.has(`${index} ${hex(id)}`)) continue
      for (const [name, held] of this.#held) if (held.edge === index) this.#held.delete(name)
      for (const at of this.#selected.keys()) if (at.startsWith(`${index} `)) this.#selected.delete(at)
    }
    this.#edges = desired
  }

  /** What the loader gets of it. */
  plane(): Plane {
    const associations = () =>
      [...this.#held.values()].map(({ direction, edge, lane, spi, epoch, deadline }) => ({
        direction,
        edge,
        lane,
        spi,
        epoch,
        deadline,
        active: direction === "in" || this.#selected.get(`${edge} ${lane}`) === spi,
      }))
    const plane = {
      fresh: this.#buried.size === 0,
      forgotten: false,
      measurement: { digest: DATAPLANE },
      waiting: undefined,
      swept: 0,
      configured: () => true,
      setEdges: (desired: ReturnType<Plane["edges"]>) => this.setEdges(desired),
      edges: () => this.#edges,
      installInbound: (sa: NewAssociation) => this.install("in", sa),
      installOutbound: (sa: NewAssociation) => this.install("out", sa),
      setLease: ({ direction, edge, spi }: Held, deadline: bigint) =>
        this.setLease(direction, edge, spi, deadline),
      activate: (edge: number, lane: number, spi: number) => this.activate(edge, lane, spi),
      retire: ({ direction, edge, spi }: Held) => this.retire(direction, edge, spi),
      associations,
      used: () => {
        const highest = new Map<string, Epoch>()
        for (const [at, epoch] of this.#buried) {
          const id = at.split(" ")[1] ?? ""
          const known = highest.get(id)
          if (known === undefined || above(epoch, known)) highest.set(id, epoch)
        }
        return [...highest].map(([id, epoch]) => ({ id: new Uint8Array(Buffer.from(id, "hex")), epoch }))
      },
      counters: () => ({ verdicts: {}, edges: new Map() }),
      drops: () => [],
      keepAlive: () => 0,
      inspect: () => [],
    }
    return plane as unknown as Plane
  }
}

/** Where what one node would send now is opened by another under another key: the edge's two ends, by name. */
export const disagreements = (planes: ReadonlyMap<string, ModelPlane>): ReadonlyArray<string> => {
  const found: string[] = []
  for (const [name, plane] of planes)
    for (const { index, id } of plane.edges)
      for (const held of plane.sealing(index))
        for (const [other, peer] of planes) {
          if (peer === plane) continue
          const opening = peer.opening(held.spi)
          if (
            opening !== undefined &&
            opening.key !== held.key &&
            opening.lane === held.lane &&
            opening.edge === peer.indexOf(id)
          )
            found.push(`${name} and ${other} have different keys of one index`)
        }
  return found
}

/** Whether a node sends on every lane of each of `edges` edges, and the other ends open it. */
export const sendsOnAll = (planes: ReadonlyMap<string, ModelPlane>, node: string, edges: number): boolean => {
  const plane = planes.get(node)
  if (plane?.edges.length !== edges) return false
  return plane.edges.every(({ index, id, lanes }) => {
    const sealing = plane.sealing(index)
    const [peer] = [...planes.values()].filter((each) => each !== plane && each.indexOf(id) !== undefined)
    return (
      sealing.length === lanes &&
      peer !== undefined &&
      sealing.every(({ spi, key }) => peer.opening(spi)?.key === key)
    )
  })
}
