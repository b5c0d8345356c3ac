/**
 * Loads the data plane default-deny before anything is said on the bus, then lives as the node. When this process ends,
 * however it ends, the kernel goes on enforcing, and leases still run out.
 */
import { Effect, Queue, Schedule } from "effect"
import { readIpv4, readIpv6 } from "../../schemas/address.ts"
import { limits } from "../../schemas/limits.ts"
import type { EventType } from "../../schemas/messages/event.ts"
import { Bus, type BusConfig } from "../common/bus/bus.ts"
import { hintPace } from "../common/bus/counters.ts"
import { loadTrust } from "../common/config/anchors.ts"
import { openRunDirectory } from "../common/config/guest-keys.ts"
import { crypto } from "../common/crypto/index.ts"
import { KernelError } from "../common/kernel/errors.ts"
import { probeHooks } from "../common/kernel/links.ts"
import { ifIndex, mtuOf } from "../common/kernel/netdev.ts"
import { listAddresses, openNews } from "../common/kernel/rtnetlink.ts"
import { surviving } from "../common/process/defects.ts"
import { controlCollateral } from "../guest/control-collateral.ts"
import { knowWorkflow } from "../guest/known-workflow.ts"
import { peerCollateral } from "../guest/peer-collateral.ts"
import { standingStage } from "../make/standing.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { busEndpoint, familiesOf, type LoaderConfig, macBytes } from "./config.ts"
import { forbidForwarding } from "./dataplane/forwarding.ts"
import { type Finding, type Plane, type PlaneConfig, removePinnedPlane } from "./dataplane/plane.ts"
import { AGAIN_MS, makeInForce, type Refusal } from "./in-force.ts"
import { serveMetrics } from "./metrics.ts"
import { makeNode } from "./node.ts"
import { openOrCutOff } from "./open-plane.ts"
import { AddressFollower, describeAddresses, followAddresses } from "./own-address.ts"
import { compileRules, type Rules } from "./rules.ts"
import { TELL_LOOK_MS } from "./telling.ts"
import { upgradePlane } from "./upgrade.ts"
import { type Change, LOOK_MS, PlaneWatch } from "./watch.ts"

const ESP_PORT = 4_500
/** Until the signed workflow says which address is this node's: one that no packet can come from. */
const NO_ADDRESS = 0xff_ff_ff_ff

export interface LoaderSettings {
  readonly bus: BusConfig
  readonly own: LoaderConfig
}

const planeOptions = ({ own }: LoaderSettings) => ({
  pins: own.pins,
  object: own.object,
  wire: own.wireDevice,
  inner: own.innerDevice,
  upgrade: true,
})

/** @param leave whether a signal makes the node leave: else its kernel goes on until the leases end, or the next loader comes */
export const runLoader = (settings: LoaderSettings, leave = false) =>
  Effect.gen(function* () {
    const { own, bus: busConfig } = settings
    const busAt = yield* busEndpoint(busConfig.url, own.wire)
    const trust = loadTrust(own.guest.anchors)
    openRunDirectory(own.guest.runDirectory)
    for (const device of [own.innerDevice, own.wireDevice]) forbidForwarding(device)
    const plane = yield* Effect.acquireRelease(
      Effect.sync(() => openOrCutOff(planeOptions(settings))),
      (open) => Effect.sync(open.close),
    )
    // The device may have got another address since the setting was written, or since the last loader ended.
    const wire = followAddresses(own.wire, listAddresses(ifIndex(own.wireDevice)))
    const planeConfig: PlaneConfig = {
      innerAddress: NO_ADDRESS,
      wireAddress: wire.ipv4,
      wireAddress6: wire.ipv6,
      busAddress: busAt.ipv4,
      busAddress6: busAt.ipv6,
      busPort: busAt.port,
      espPort: ESP_PORT,
      innerMac: macBytes(own.innerMac),
    }
    // A plane that an earlier loader configured goes on as the node it was until the workflow has been verified again; the bus
    // may be somewhere else by now, and the workflow comes from there.
    if (plane.configured()) plane.moveTo(planeConfig)
    else plane.configure(planeConfig)
    yield* Effect.logInfo(
      plane.fresh
        ? "data plane loaded, default deny"
        : plane.waiting === undefined
          ? "data plane found, traffic goes on"
          : "data plane of another build found, traffic goes on; waiting for a workflow that lists this one",
    )
    const watch = new PlaneWatch(plane)
    const changes = yield* Queue.unbounded<Change>()
    yield* live(settings, { plane, watch, changes }, planeConfig, trust, leave).pipe(
      Effect.provide(Bus.layer(busConfig)),
      // A node that nobody watches must not live on: however the watch ends, the loader ends with an error.
      Effect.raceFirst(watching(watch, changes)),
    )
  })

/** Looks at the plane whether there is a bus or not; what changes waits until there is one to tell it on. */
const watching = (watch: PlaneWatch, changes: Queue.Queue<Change>) =>
  Effect.suspend(() => {
    const change = watch.look()
    if (change === undefined) return Effect.void
    Queue.offerUnsafe(changes, change)
    return change.kind === "restored"
      ? Effect.logWarning(`data plane whole again after ${change.brokenMs} ms; without keys`)
      : Effect.logError(`data plane tampered with, cut off: ${change.findings.map(describe).join("; ")}`)
  }).pipe(
    Effect.repeat(Schedule.spaced(LOOK_MS)),
    Effect.andThen(Effect.die(new Error("the watch over the data plane has ended"))),
  )

const describe = ({ subject, found, wanted }: Finding): string =>
  `${subject}: found ${found}, wanted ${wanted}`

interface Watched {
  readonly plane: Plane
  readonly watch: PlaneWatch
  readonly changes: Queue.Queue<Change>
}

/** What the kernel refuses now it may grant the next time. */
const orLogged = <A, E>(run: Effect.Effect<A, E>) =>
  run.pipe(
    Effect.catchDefect((defect) =>
      defect instanceof KernelError ? Effect.logWarning(defect.message) : Effect.die(defect),
    ),
  )

const FOLLOW_MS = 300

/** Of more findings at a time, the first ones say enough. */
const FINDINGS_TOLD = 8

const live = (
  { own }: LoaderSettings,
  { plane, watch, changes }: Watched,
  planeConfig: PlaneConfig,
  trust: ReturnType<typeof loadTrust>,
  leave: boolean,
) =>
  Effect.gen(function* () {
    const bus = yield* Bus
    const node = own.guest.instance
    const measured = (): string => Buffer.from(plane.measurement.digest).toString("hex")

    /** What runs and what the object file holds, against what the document lets this node's stage run. */
    const upgrade = (workflow: VerifiedWorkflow, stage: string) =>
      Effect.suspend(() => {
        const { document } = workflow
        const demands = document.stages[stage]
        const taken = demands === undefined ? [] : standingStage(document, demands, Date.now()).dataplane
        const told = upgradePlane(plane, taken)
        if (told === undefined) return Effect.void
        const { done, code, message } = told
        return bus.event({
          type: done ? "vouchsafe.dataplane.upgraded" : "vouchsafe.dataplane.failed",
          subject: node,
          data: {
            node,
            dataplane: measured(),
            code,
            field: "dataplane",
            message,
          },
        })
      })

    const configureFor = ({ address, address6 }: Rules["node"]): void =>
      plane.configure({
        ...planeConfig,
        wireAddress: follower.current.ipv4,
        wireAddress6: follower.current.ipv6,
        innerAddress: address === undefined ? undefined : readIpv4(address),
        innerAddress6: address6 === undefined ? undefined : readIpv6(address6),
      })

    const news = yield* Effect.acquireRelease(
      Effect.sync(() => openNews("devices")),
      (open) => Effect.sync(open.close),
    )
    const follower = new AddressFollower(
      { ipv4: planeConfig.wireAddress, ipv6: planeConfig.wireAddress6 },
      {
        changed: () => {
          const { found, lost } = news.read()
          return lost || found.length > 0
        },
        present: () => listAddresses(ifIndex(own.wireDevice)),
        move: ({ ipv4, ipv6 }) => plane.moveTo({ wireAddress: ipv4, wireAddress6: ipv6 }),
      },
    )
    /** Peers learn of another address by the first authentic packet from it; the bus connects anew by itself. */
    const followWire = Effect.suspend(() => {
      const before = follower.current
      if (!follower.look(watch.whole)) return Effect.void
      const message = `own address on the wire: ${describeAddresses(before)}, now ${describeAddresses(follower.current)}`
      return Effect.andThen(
        Effect.logWarning(message),
        bus.event({ type: "vouchsafe.dataplane.moved", subject: node, data: { node, message } }),
      )
    })

    const event = (type: EventType, { code, field, message }: Refusal) =>
      bus.event({ type, subject: node, data: { node, code, field: field.slice(0, 128), message } })

    const collateral = yield* controlCollateral(trust, own.collateral)
    const ofPeers = yield* peerCollateral(own.collateral)
    const inForce = makeInForce({
      put: (workflow) => {
        const rules = compileRules(workflow, {
          crypto,
          nodeId: node,
          wireMtu: mtuOf(own.wireDevice),
          wireFamilies: familiesOf(own.wire),
          espPort: ESP_PORT,
          present: plane.edges(),
        })
        configureFor(rules.node)
        plane.setEdges({
          edges: rules.edges.map((r) => r.record),
          policies: rules.edges.flatMap((r) => r.policies),
        })
        if (workflow.document.revoked?.measurements?.includes(measured())) plane.revokeAll()
        return rules
      },
      clear: () => plane.setEdges({ edges: [], policies: [] }),
      followed: ({ workflow, rules }) =>
        Effect.andThen(upgrade(workflow, rules.node.stage), ofPeers.need(workflow, node)),
      refused: (why) => event("vouchsafe.workflow.refused", why),
      failed: (why) => event("vouchsafe.dataplane.failed", why),
    })
    const lives = makeNode(bus, {
      crypto,
      trust,
      node,
      runDirectory: own.guest.runDirectory,
      plane,
      watch,
      backend: `bpf/${probeHooks()}`,
      collateral,
      peerCollateral: ofPeers.view,
    })
    if (own.metrics !== undefined) yield* serveMetrics(own.metrics, lives.stats)
    const tellOf = Effect.fnUntraced(function* (change: Change) {
      if (change.kind === "tampered") {
        yield* lives.tampered.pipe(Effect.ignore({ log: true }))
        for (const finding of change.findings.slice(0, FINDINGS_TOLD))
          yield* bus.event({
            type: "vouchsafe.dataplane.tampered",
            subject: node,
            data: {
              node,
              code: "TAMPERED",
              field: finding.subject.slice(0, 128),
              message: describe(finding).slice(0, 512),
            },
          })
        return
      }
      yield* lives.restored
      yield* bus.event({
        type: "vouchsafe.dataplane.restored",
        subject: node,
        data: { node, elapsed_ms: change.brokenMs, message: "whole again, and measured; without keys" },
      })
    })
    yield* Effect.forkScoped(Queue.take(changes).pipe(Effect.flatMap(tellOf), Effect.forever))
    yield* bus.subscribe("release", { node }, (signed) => lives.onRelease(signed))
    yield* bus.subscribe("beacon", {}, (beacon) => lives.onBeacon(beacon), { pace: hintPace })
    yield* bus.subscribe("renew", { node }, (_, { sender }) => lives.onRenew(sender), {
      pace: { ...hintPace, senders: limits.nodes },
    })
    const newest = yield* knowWorkflow(crypto, trust, { onChange: inForce.take })
    yield* bus.event({
      type: "vouchsafe.service.ready",
      subject: node,
      data: {
        node,
        message: plane.fresh ? "data plane loaded, default deny" : "data plane found as it was left",
      },
    })
    yield* Effect.forkScoped(orLogged(followWire).pipe(Effect.repeat(Schedule.spaced(FOLLOW_MS))))
    if (own.keepaliveSeconds > 0)
      yield* Effect.forkScoped(
        orLogged(Effect.sync(() => plane.keepAlive(BigInt(own.keepaliveSeconds) * 1_000_000_000n))).pipe(
          // Asked four times as often, a lane is silent for a quarter longer at most.
          Effect.repeat(Schedule.spaced(own.keepaliveSeconds * 250)),
        ),
      )
    yield* Effect.forkScoped(
      lives.tell.pipe(Effect.ignore({ log: true }), Effect.repeat(Schedule.spaced(TELL_LOOK_MS))),
    )
    // When the document's own end has come, nothing is asked for any more, and the leases run out.
    yield* Effect.forkScoped(
      lives.live(() => (newest.current() === undefined ? undefined : inForce.known()), newest.doubt),
    )
    yield* Effect.forkScoped(
      Effect.suspend(() => inForce.again(newest.current())).pipe(
        surviving("following the document"),
        Effect.repeat(Schedule.spaced(AGAIN_MS)),
      ),
    )
    const leaving = leave ? lives.leave.pipe(Effect.ignore({ log: true })) : Effect.void
    return yield* bus.closed.pipe(Effect.onInterrupt(() => leaving))
  })

/** Detaches and unpins this node's data plane, for good. */
export const teardown = (settings: LoaderSettings) =>
  Effect.sync(() => {
    const { object: _object, upgrade: _upgrade, ...where } = planeOptions(settings)
    removePinnedPlane(where)
  })
