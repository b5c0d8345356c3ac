/** What this node holds in the kernel, has held, and holds no more. Pure: it says what the kernel is to do about it. */
import type { NodeEdge } from "./edges.ts"
import { compareEpochs, type Epoch } from "./epoch.ts"
import { type EdgeAt, type HeldEpoch, keyOf } from "./held.ts"
import type { KernelAction } from "./kernel-action.ts"
import type { Listed } from "./node-rules.ts"

const earlier = (a: bigint, b: bigint): bigint => (a < b ? a : b)

export class HeldEpochs {
  readonly #edges: ReadonlyMap<string, NodeEdge>
  readonly #held = new Map<string, HeldEpoch>()
  readonly #tombstones: Map<string, Epoch>
  readonly #gone = new Set<string>()

  /**
   * @param tombstones see `Memory`
   * @param found what an earlier loader left in the kernel
   */
  constructor(
    edges: ReadonlyMap<string, NodeEdge>,
    tombstones: ReadonlyMap<string, Epoch> | undefined,
    found: ReadonlyArray<HeldEpoch> = [],
  ) {
    this.#edges = edges
    this.#tombstones = new Map(tombstones)
    for (const held of found) {
      this.#held.set(keyOf(held), held)
      this.#bury(held)
    }
  }

  /** By `keyOf`. */
  get all(): ReadonlyMap<string, HeldEpoch> {
    return this.#held
  }

  /** By edge instance, the highest epoch ever installed in this boot. */
  get tombstones(): ReadonlyMap<string, Epoch> {
    return this.#tombstones
  }

  /** Epochs of this session that are in the kernel no more: never installed again, not an error either. */
  get gone(): ReadonlySet<string> {
    return this.#gone
  }

  /** An epoch that keys were derived for. */
  install(
    { instance, epoch, entry, key }: Listed,
    exporter: Uint8Array,
    grantedBootNs: bigint,
    provenUntilBootNs: bigint | undefined,
  ): void {
    const held: HeldEpoch = {
      instance,
      epoch,
      inbound: entry.inbound,
      outbound: entry.outbound,
      active: false,
      deadlineBootNs: earlier(grantedBootNs, provenUntilBootNs ?? grantedBootNs),
      exporter,
      ...(provenUntilBootNs !== undefined && { provenUntilBootNs }),
    }
    this.#held.set(key, held)
    this.#bury(held)
  }

  /** Prolongs what is held to the deadline that was granted, or less. */
  lease({ instance, epoch, key }: Listed, grantedBootNs: bigint): KernelAction {
    const held = this.#held.get(key)
    const deadlineBootNs = this.#mayLast(instance, held, grantedBootNs)
    if (held !== undefined) this.#held.set(key, { ...held, deadlineBootNs })
    const { inbound = [], outbound = [] } = held ?? {}
    return { kind: "setLease", instance, epoch, inbound, outbound, deadlineBootNs }
  }

  /** What rests on a proof ends with it; what an earlier loader installed is not prolonged, since its proof isn't known here. */
  #mayLast(instance: string, held: HeldEpoch | undefined, grantedBootNs: bigint): bigint {
    if (held === undefined || this.#edges.get(instance)?.peers !== "evidence") return grantedBootNs
    return earlier(grantedBootNs, held.provenUntilBootNs ?? held.deadlineBootNs)
  }

  /** Sending switches to what the release says is active. */
  activate(present: ReadonlyArray<Listed>): ReadonlyArray<KernelAction> {
    const switching = present.filter(
      ({ key, state }) => state === "active" && this.#held.get(key)?.active === false,
    )
    const instances = new Set(switching.map(({ instance }) => instance))
    for (const [key, held] of this.#held)
      if (held.active && instances.has(held.instance)) this.#held.set(key, { ...held, active: false })
    return switching.flatMap(({ key, instance, epoch }): ReadonlyArray<KernelAction> => {
      const held = this.#held.get(key)
      if (held === undefined) return []
      this.#held.set(key, { ...held, active: true })
      return [{ kind: "activate", instance, epoch, outbound: held.outbound }]
    })
  }

  /**
   * What the release leaves out goes, if the releaser of this term can have known it. An epoch of an earlier term stays
   * until its own deadline, which nothing extends, also beside a newer one in use: the peer may still send under it, and
   * the new leader, who begins with nothing, can't tell us when it no longer does. It can tell that the peer was taken back.
   */
  retireUnlisted(
    present: ReadonlyArray<Listed>,
    term: bigint,
    ended: ReadonlyMap<string, bigint>,
  ): ReadonlyArray<KernelAction> {
    const listed = new Set(present.map(({ key }) => key))
    return [...this.#held]
      .filter(([key]) => !listed.has(key))
      .map(([, held]) => held)
      .filter(
        ({ instance, epoch }) =>
          !this.#edges.has(instance) || epoch.term >= term || epoch.term <= (ended.get(instance) ?? 0n),
      )
      .map((held) => this.retire(held))
  }

  /** @param held one of these */
  retire(held: HeldEpoch): KernelAction {
    const { instance, epoch, inbound, outbound, active } = held
    const key = keyOf(held)
    this.#held.delete(key)
    this.#gone.add(key)
    return { kind: "retire", instance, epoch, inbound, outbound, wasActive: active }
  }

  /** Before the kernel acts: an attempt counts, whatever becomes of it. */
  #bury({ instance, epoch }: EdgeAt): void {
    const highest = this.#tombstones.get(instance)
    if (highest === undefined || compareEpochs(epoch, highest) > 0) this.#tombstones.set(instance, epoch)
  }
}
