/**
 * Hears `pull.*` and `ack.*`, answers on `release.<node>`: turns a signed workflow and fresh results into epochs and leases,
 * as long as it leads. Standing by, it knows the workflow and the verifiers, and holds no secret. Decides nothing itself;
 * the core in `make/releaser.ts` does. Keeps no secret on disk.
 */
import { Effect, Latch, Schedule } from "effect"
import { limits } from "../../schemas/limits.ts"
import { Bus } from "../common/bus/bus.ts"
import { hintPace } from "../common/bus/counters.ts"
import type { Trust } from "../common/config/anchors.ts"
import { writeReleaserKey } from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { surviving } from "../common/process/defects.ts"
import type { ControlCheckOptions } from "../guest/control-check.ts"
import { CONTROL_LOOK_MS, type KnownWorkflow, knowWorkflow } from "../guest/known-workflow.ts"
import { attempt } from "../guest/refusals.ts"
import { Heritage, type Inherited } from "../make/heritage.ts"
import { LaunchBook } from "../make/launch.ts"
import type { ReleaseOutput, ReleaserOutput } from "../make/releaser.ts"
import { forbiddenNodes } from "../make/standing.ts"
import { nextTerm, randomLow } from "../make/term.ts"
import { isInForce, type VerifiedWorkflow } from "../make/workflow-document.ts"
import { makeElection } from "./election.ts"
import { makeRecord } from "./events.ts"
import { hearNodes } from "./hearing.ts"
import { nextStep } from "./in-step.ts"
import { makeKnownVerifiers } from "./known-verifiers.ts"
import { hearOrders } from "./orders.ts"
import { newReign, type Reign } from "./reign.ts"
import { makeSealer } from "./seal.ts"

const TICK_MS = 250
/** How often it is looked whether more releases are ready, while some wait, and how many are made before the bus has its turn. */
const LOOK_MS = 5
const AT_ONCE = 4
/** What happens, and what is sent, is put on record together with what happens, and is sent, so long after it. */
const RECORD_MS = { happened: 50, sent: 1_000 }
const nowMs = () => performance.now()

export interface ReleaserServiceOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly instance: string
  readonly control: string
  readonly runDirectory: string
  readonly collateral?: ControlCheckOptions["collateral"]
}

export const serveReleaser = Effect.fn("serveReleaser")(function* (options: ReleaserServiceOptions) {
  const { crypto, trust, instance } = options
  const bus = yield* Bus
  const key = crypto.ed25519.generate()
  let reign: Reign | undefined
  let known: KnownWorkflow | undefined
  /** The last term that was ever begun: also after a reign that ended without a successor. */
  let last: bigint | undefined
  let others: ReadonlyArray<Uint8Array> = []
  /** Of reigns before: their keys may still be in kernels. */
  let inherited: ReadonlyArray<Inherited> = []

  /** What this guest's Evidence is to bind. */
  const write = (): void =>
    writeReleaserKey(options.runDirectory, {
      instance,
      key: key.publicKey,
      term: reign?.core.term ?? 0n,
      verifiers: others,
    })
  write()
  const verifiers = makeKnownVerifiers(bus, {
    ...options,
    ownKey: key.publicKey,
    changed: (keys) => {
      others = keys
      write()
    },
  })

  /** The reign in force: none before the first document, and none after the end that the document itself names. */
  const reigning = (): Reign | undefined =>
    reign !== undefined && isInForce(reign.workflow.document, Date.now()) ? reign : undefined

  const launches = new LaunchBook(crypto)

  const finish = (): void => {
    const before = reign
    reign = undefined
    if (before === undefined) return
    inherited = before.core.heritage(before.workflow.document, nowMs())
    before.core.end()
  }

  /** A document, or the lead over it, is a new term with an empty core. One that doesn't compile: nobody gets keys for it. */
  const begin = (workflow: VerifiedWorkflow) =>
    attempt(() => {
      finish()
      const heard = election.heard()
      const term = nextTerm({ last, heard, wallMs: Date.now(), random: randomLow(crypto) })
      last = term
      const heritage = new Heritage(crypto, inherited)
      heritage.judge(workflow.document, Date.now())
      reign = newReign({ crypto, workflow, inherited: heritage.all(), launches, instance, term })
      write()
      return term
    }).pipe(
      Effect.flatMap((term) =>
        bus.event({
          type: "vouchsafe.leader.began",
          data: { node: options.control, term, message: instance },
        }),
      ),
      // Nodes come when they hear it: not a moment later than needed.
      Effect.andThen(Effect.suspend(() => beat).pipe(Effect.ignore({ log: true }))),
      Effect.catch(({ code, field, message }) =>
        bus.event({ type: "vouchsafe.workflow.refused", data: { code, field, message } }),
      ),
    )

  const election = makeElection(bus, {
    domain: trust.domain,
    instance,
    control: options.control,
    term: () => reign?.core.term,
    latestEndMs: () => known?.latestEndMs(),
    ownFailures: verifiers.ownFailures,
    begin: Effect.suspend(() => {
      const workflow = known?.current()
      return workflow === undefined ? Effect.void : begin(workflow)
    }),
    resign: Effect.suspend(() => {
      const term = reign?.core.term
      finish()
      write()
      return bus.event({
        type: "vouchsafe.leader.ended",
        data: { node: options.control, ...(term === undefined ? {} : { term }), message: instance },
      })
    }),
  })

  const sealed = makeSealer(crypto, key)
  const record = yield* makeRecord(bus, RECORD_MS)

  const send = Effect.fnUntraced(function* (output: ReleaseOutput) {
    const signed = sealed(output)
    yield* bus.publish("release", { node: output.node }, signed)
    record.sent(output)
  })

  const carryOut = Effect.fnUntraced(function* (outputs: ReadonlyArray<ReleaserOutput>) {
    for (const output of outputs) {
      if (output.kind === "release") yield* send(output)
      else record.happened(output)
    }
  })

  /** Something may wait to be released. */
  const touched = yield* Latch.make(false)
  const take = (outputs: ReadonlyArray<ReleaserOutput>) => {
    touched.openUnsafe()
    return carryOut(outputs)
  }

  /** Sends what is ready, a few at a time: the first nodes work while the next ones' are sealed. */
  const release = Effect.gen(function* () {
    yield* touched.await
    touched.closeUnsafe()
    const core = reigning()?.core
    if (core === undefined) return
    const releases = core.flush(nowMs(), AT_ONCE)
    yield* carryOut(releases)
    if (releases.length === AT_ONCE) {
      touched.openUnsafe()
      return yield* Effect.yieldNow
    }
    // As a rule one node renews what it has.
    if (!core.waiting) return
    yield* Effect.sleep(LOOK_MS)
    if (core.waits(nowMs())) touched.openUnsafe()
  })

  /**
   * The last word of the reign that a new document ends: those whom the document doesn't take any more stop now, as far as
   * their results tell. Peers that have begun a new session already hear it no more; the new reign tells them, see
   * `make/heritage.ts`.
   */
  const expel = (workflow: VerifiedWorkflow) =>
    Effect.suspend(() => {
      if (reign === undefined) return Effect.void
      const { core, workflow: before } = reign
      const gone = forbiddenNodes(workflow.document, core.vouched(), Date.now(), before.document)
      return carryOut(core.expel(gone, nowMs())).pipe(Effect.ignore({ log: true }))
    }).pipe(surviving("telling whom the new document doesn't take"))

  const beat = Effect.suspend(() => {
    const now = reigning()
    if (now === undefined) return Effect.void
    const { core } = now
    const { control } = options
    const beacon = {
      v: 1 as const,
      releaser: instance,
      control,
      term: core.term,
      nonce: core.beacon(nowMs()),
    }
    return bus.publish("beacon", { instance }, beacon)
  })
  /** Standing by: the leader is to know that another one could take its place, and how far nodes have been led. */
  const stand = Effect.suspend(() =>
    bus.publish(
      "presence",
      { instance },
      { v: 1, role: "releaser", control: options.control, key: key.publicKey, term: last ?? 0n },
    ),
  )
  const show = Effect.suspend(() => (reigning() === undefined ? stand : beat))

  yield* bus.subscribe("beacon", {}, (beacon) => election.onBeacon(beacon), { pace: hintPace })
  yield* bus.subscribe(
    "presence",
    {},
    (presence, { tokens }) => {
      verifiers.seen(presence)
      return election.onPresence(presence, tokens.instance)
    },
    { pace: hintPace },
  )
  known = yield* knowWorkflow(crypto, trust, {
    lookMs: CONTROL_LOOK_MS,
    onChange: (workflow) =>
      Effect.suspend(() =>
        election.leads() ? Effect.andThen(expel(workflow), begin(workflow)) : Effect.sync(finish),
      ).pipe(
        // Whatever fails: keys are not given out for the document before any more.
        Effect.tapDefect(() => Effect.sync(finish)),
        surviving("taking a new document"),
      ),
  })
  yield* hearNodes(bus, { crypto, trust, verifiers, reigning, take, outgrown: election.onOutgrown })
  yield* hearOrders(bus, { crypto, trust, core: () => reigning()?.core, take })
  yield* bus.event({
    type: "vouchsafe.service.ready",
    data: { node: options.control, message: "key-releaser" },
  })
  yield* known.first
  const quietly = <A, E>(run: Effect.Effect<A, E>) =>
    run.pipe(Effect.ignore({ log: true }), surviving("a round of the releaser"))
  yield* election.run
  yield* Effect.forkScoped(verifiers.keep(known.current))
  yield* Effect.forkScoped(quietly(show).pipe(Effect.repeat(Schedule.spaced(limits.beaconEveryMs))))
  yield* Effect.forkScoped(
    quietly(
      Effect.suspend(() => {
        const now = reigning()
        if (now === undefined) return Effect.void
        const at = nowMs()
        const told = now.core.tick(at)
        if (now.core.due(at)) touched.openUnsafe()
        return carryOut(told)
      }),
    ).pipe(Effect.andThen(nextStep(TICK_MS)), Effect.forever),
  )
  yield* Effect.forkScoped(quietly(release).pipe(Effect.forever))
  return yield* bus.closed
})
