/** Carries out what the node's core decides, in order, and tells it what the kernel holds from an earlier loader. */
import { toHex } from "../common/hex.ts"
import { KernelError } from "../common/kernel/errors.ts"
import type { Epoch } from "../make/epoch.ts"
import { formatEpoch } from "../make/epoch.ts"
import type { HeldEpoch } from "../make/held.ts"
import type { KernelAction, Memory } from "../make/node-state.ts"
import type { Association, Plane } from "./dataplane/plane.ts"
import type { Rules } from "./rules.ts"

/** An install that the kernel refused: the epoch is given up, and the releaser will begin another. */
export interface Failure {
  readonly instance: string
  readonly epoch: Epoch
  readonly error: KernelError
}

/** An association that gets no lease with its install can carry nothing until one is set. */
const NO_LEASE_YET = 1n

type OfKind<K extends KernelAction["kind"]> = Extract<KernelAction, { kind: K }>
type Install = OfKind<"installInbound" | "installOutbound">

const installEach = (
  install: Plane["installInbound"],
  edge: number,
  { epoch, keys }: Install,
  deadline: bigint,
): void => {
  for (const { lane, spi, key, salt } of keys)
    install({ edge, lane, spi, epoch, key, salt, esn: true, deadline })
}

/** No key stays here, whether the kernel has it or not. */
export const forgetKeys = (actions: ReadonlyArray<KernelAction>): void => {
  for (const action of actions) {
    if (action.kind !== "installInbound" && action.kind !== "installOutbound") continue
    for (const { key, salt } of action.keys) {
      key.fill(0)
      salt.fill(0)
    }
  }
}

/**
 * By epoch (the very object: a release names each once), the leases that are set after installs. An association can be made
 * with its own at once.
 */
const leasesOf = (actions: ReadonlyArray<KernelAction>): ReadonlyMap<Epoch, OfKind<"setLease">> =>
  actions.some(({ kind }) => kind === "installInbound" || kind === "installOutbound")
    ? new Map(actions.flatMap((action) => (action.kind === "setLease" ? [[action.epoch, action]] : [])))
    : new Map()

/** What a release changed, for the log; empty when it only renewed leases. */
export const summaryOf = (actions: ReadonlyArray<KernelAction>): string => {
  const parts = [...Map.groupBy(actions, ({ kind }) => kind)].flatMap(([kind, group]) => {
    if (kind === "setLease") return []
    const [first] = group
    const one = first === undefined ? "" : ` ${first.instance} epoch ${first.epoch.term}.${first.epoch.n}`
    return [group.length === 1 ? `${kind}${one}` : `${kind} of ${group.length} edges`]
  })
  return parts.join(", ")
}

/** @returns the installs that failed; nothing else can fail but by a defect */
export const carryOut = (
  plane: Plane,
  rules: Rules,
  actions: ReadonlyArray<KernelAction>,
): ReadonlyArray<Failure> => {
  const indexes = new Map(rules.edges.map(({ edge, record }) => [edge.id, record.index]))
  const leases = leasesOf(actions)
  /** Leases that the inbound, and that the outbound associations were made with. */
  const given = { inbound: new Set<KernelAction>(), outbound: new Set<KernelAction>() }
  const failures: Array<Failure> = []
  const install = (edge: number, action: Install): void => {
    const found = leases.get(action.epoch)
    const lease = found?.instance === action.instance ? found : undefined
    const inbound = action.kind === "installInbound"
    const put = inbound ? plane.installInbound : plane.installOutbound
    installEach(put, edge, action, lease?.deadlineBootNs ?? NO_LEASE_YET)
    if (lease !== undefined) given[inbound ? "inbound" : "outbound"].add(lease)
  }
  const setLease = (edge: number, action: OfKind<"setLease">): void => {
    const { deadlineBootNs } = action
    for (const spi of given.inbound.has(action) ? [] : action.inbound)
      plane.setLease({ direction: "in", edge, spi }, deadlineBootNs)
    for (const spi of given.outbound.has(action) ? [] : action.outbound)
      plane.setLease({ direction: "out", edge, spi }, deadlineBootNs)
  }
  try {
    for (const action of actions) {
      const { instance, epoch } = action
      const index = indexes.get(instance)
      // An edge that the workflow no longer has: its keys went when the edge did.
      if (index === undefined) continue
      try {
        if (action.kind === "installInbound" || action.kind === "installOutbound") install(index, action)
        else if (action.kind === "setLease") setLease(index, action)
        else carryOutOne(plane, index, action)
      } catch (error) {
        if (!(error instanceof KernelError)) throw error
        failures.push({ instance, epoch, error })
      }
    }
  } finally {
    forgetKeys(actions)
  }
  return failures
}

const carryOutOne = (plane: Plane, edge: number, action: OfKind<"activate" | "retire">): void => {
  if (action.kind === "activate") {
    for (const [lane, spi] of action.outbound.entries()) plane.activate(edge, lane, spi)
    return
  }
  for (const spi of action.inbound) plane.retire({ direction: "in", edge, spi })
  for (const spi of action.outbound) plane.retire({ direction: "out", edge, spi })
}

/**
 * What an earlier loader of this boot left in the kernel and still works. Epochs that are not whole (a lane is missing)
 * can't be acknowledged: they are retired here.
 */
export const heldEpochs = (plane: Plane, rules: Rules): ReadonlyArray<HeldEpoch> => {
  const byEpoch = Map.groupBy(plane.associations(), ({ edge, epoch }) => `${edge} ${formatEpoch(epoch)}`)
  return [...byEpoch.values()].flatMap((group): ReadonlyArray<HeldEpoch> => {
    const [first] = group
    const rule = rules.edges.find(({ record }) => record.index === first?.edge)
    if (first === undefined || rule === undefined) return []
    const side = (direction: Association["direction"]) =>
      group.filter((each) => each.direction === direction).sort((a, b) => a.lane - b.lane)
    const [inbound, outbound] = [side("in"), side("out")]
    if (inbound.length !== rule.edge.lanes || outbound.length !== rule.edge.lanes) {
      for (const { direction, edge, spi } of group) plane.retire({ direction, edge, spi })
      return []
    }
    return [
      {
        instance: rule.edge.id,
        epoch: first.epoch,
        inbound: inbound.map(({ spi }) => spi),
        outbound: outbound.map(({ spi }) => spi),
        active: outbound.every(({ active }) => active),
        deadlineBootNs: earliest(group),
      },
    ]
  })
}

const earliest = (group: ReadonlyArray<Association>): bigint =>
  group.map(({ deadline }) => deadline).sort((a, b) => (a < b ? -1 : 1))[0] ?? 0n

/**
 * What the kernel remembers of this boot. Of edges that the workflow doesn't have, the term counts still: a leader that
 * gave keys for them is older than those that follow it.
 */
export const rememberedEpochs = (plane: Pick<Plane, "used">, rules: Rules): Memory => {
  const instances = new Map(rules.edges.map(({ edge, record }) => [toHex(record.id), edge.id]))
  const tombstones = new Map<string, Epoch>()
  let term: bigint | undefined
  for (const { id, epoch } of plane.used()) {
    if (term === undefined || epoch.term > term) term = epoch.term
    const instance = instances.get(toHex(id))
    if (instance !== undefined) tombstones.set(instance, epoch)
  }
  return { tombstones, term }
}
