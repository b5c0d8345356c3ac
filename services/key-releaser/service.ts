/**
 * Hears `pull.*` and `ack.*`, answers on `release.<node>`: turns a signed workflow and fresh results into epochs and leases,
 * as long as it leads. Standing by, it knows the workflow and the verifiers, and holds no secret. Decides nothing itself;
 * the core in `make/releaser.ts` does. Keeps no secret on disk.
 */
import { Effect, Latch, Schedule } from "effect"
import { limits } from "../../schemas/limits.ts"
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import type { Signed } from "../../schemas/messages/common.ts"
import { Ack, Leave, Pull, Release, ReleasePayload } from "../../schemas/messages/release.ts"
import { Withdrawal } from "../../schemas/messages/withdrawal.ts"
import { Bus } from "../common/bus/bus.ts"
import { refusalAllowances } from "../common/bus/counters.ts"
import { Refused } from "../common/bus/types.ts"
import { encodeChecked } from "../common/codec/index.ts"
import type { Trust } from "../common/config/anchors.ts"
import { writeReleaserKey } from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { surviving } from "../common/process/defects.ts"
import type { ControlCheckOptions } from "../guest/control-check.ts"
import { CONTROL_LOOK_MS, type KnownWorkflow, knowWorkflow } from "../guest/known-workflow.ts"
import { protocolWorkflow } from "../guest/protocol-workflow.ts"
import { attempt, decodeBody } from "../guest/refusals.ts"
import { sign, verify } from "../make/envelope.ts"
import { MakeError } from "../make/errors.ts"
import { Heritage, type Inherited } from "../make/heritage.ts"
import { labels } from "../make/labels.ts"
import { LaunchBook } from "../make/launch.ts"
import { sealRelease } from "../make/release.ts"
import { type ReleaseOutput, Releaser, type ReleaserOutput } from "../make/releaser.ts"
import { KnownBatches, vouchResult } from "../make/result.ts"
import { forbiddenNodes } from "../make/standing.ts"
import { nextTerm, randomLow } from "../make/term.ts"
import { isInForce, type VerifiedWorkflow } from "../make/workflow-document.ts"
import { makeElection } from "./election.ts"
import { makeRecord } from "./events.ts"
import { makeKnownVerifiers } from "./known-verifiers.ts"
import { hearOrders } from "./orders.ts"

const TICK_MS = 250
/** How often it is looked whether more releases are ready, while some wait, and how many are made before the bus has its turn. */
const LOOK_MS = 5
const AT_ONCE = 4
/** What happens, and what is sent, is put on record together with what happens, and is sent, so long after it. */
const RECORD_MS = { happened: 50, sent: 1_000 }
/** Of one verifier. */
const WITHDRAWALS_WAITING = 64
const nowMs = () => performance.now()

export interface ReleaserServiceOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly instance: string
  readonly control: string
  readonly runDirectory: string
  readonly collateral?: ControlCheckOptions["collateral"]
}

/** Without it, edges get new keys with each new session of one of their nodes. */
const rotation = ({ document: { rotate_seconds: seconds } }: VerifiedWorkflow) =>
  seconds === undefined ? {} : { rotateMs: seconds * 1_000 }

interface Reign {
  readonly workflow: VerifiedWorkflow
  readonly core: Releaser
  /** Nodes' signing keys, as the results in force name them. */
  readonly signingKeys: Map<string, Uint8Array>
  readonly batches: KnownBatches
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
      const core = new Releaser({
        inherited: heritage.all(),
        launches,
        crypto,
        workflow: protocolWorkflow(workflow),
        releaser: instance,
        term,
        leaseMs: workflow.document.lease_seconds * 1000,
        ...rotation(workflow),
        gather: true,
      })
      reign = { workflow, core, signingKeys: new Map(), batches: new KnownBatches(crypto) }
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

  const sealed = ({ header, payload, recipient }: ReleaseOutput): Signed => {
    const packed = encodeChecked(ReleasePayload, { v: 1, ...payload })
    const { enc, ciphertext } = sealRelease(crypto, recipient, header, packed)
    packed.fill(0)
    return sign(
      crypto,
      labels.signedRelease,
      key,
      encodeChecked(Release, { v: 1, ...header, enc, ciphertext }),
    )
  }

  const record = yield* makeRecord(bus, RECORD_MS)

  const send = Effect.fnUntraced(function* (output: ReleaseOutput) {
    const signed = sealed(output)
    for (const { secret } of output.payload.edges) secret?.fill(0)
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
    yield* Effect.sleep(LOOK_MS)
    if (core.waits(nowMs())) touched.openUnsafe()
  })

  /** Of each sender: one that sends what is refused as fast as it can must not push the others' events out. */
  const refusals = refusalAllowances(limits.nodes)
  /** The core's refusals are answers to hostile or late messages: recorded, and nothing else happens. */
  const guarded = <A, E>(
    type:
      | "vouchsafe.pull.refused"
      | "vouchsafe.ack.refused"
      | "vouchsafe.leave.refused"
      | "vouchsafe.withdrawal.refused",
    node: string,
    run: Effect.Effect<A, E>,
  ) =>
    run.pipe(
      Effect.catch((error) => {
        if (!(error instanceof Refused)) return Effect.fail(error)
        const { code, field, message } = error
        const unrecorded = refusals.take(node)
        if (unrecorded === undefined) return Effect.void
        const more = unrecorded === 0 ? {} : { unrecorded }
        return bus.event({ type, subject: node, data: { node, code, field, message, ...more } })
      }),
    )

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

  const onPull = Effect.fnUntraced(function* (signed: Signed, node: string) {
    const now = reigning()
    if (now === undefined) return
    const { workflow, core, signingKeys } = now
    const pull = yield* attempt(() => {
      const value = decodeBody(Pull, verify(crypto, labels.signedPull, [signed.key], signed), "pull")
      if (value.node !== node)
        throw new MakeError("MISDIRECTED", "pull.node", "is not the node of the subject")
      return value
    })
    const keys = yield* verifiers.keysFor(workflow, pull.result.batch.key)
    // The document may have changed meanwhile: a reign that is over gives no keys; the node asks again.
    if (reigning()?.core !== core) return
    const accepted = yield* attempt(() => {
      const decode = (bytes: Uint8Array) => decodeBody(AttestationResult, bytes, "result")
      const result = vouchResult(crypto, keys, pull.result, decode, now.batches)
      if (result.claims.node !== node || !crypto.equalConstantTime(result.claims.signing_key, signed.key)) {
        throw new MakeError("NOT_VOUCHED", "pull.key", "is not the key that the result vouches for")
      }
      const outputs = core.accept(result, nowMs())
      signingKeys.set(node, result.claims.signing_key)
      return outputs
    })
    // What became known goes out even when the request itself is then refused.
    yield* take(accepted)
    yield* take(yield* attempt(() => core.pull(pull, nowMs())))
  })

  const onAck = Effect.fnUntraced(function* (signed: Signed, node: string) {
    const now = reigning()
    if (now === undefined) return
    const { core, signingKeys } = now
    const outputs = yield* attempt(() => {
      const signer = signingKeys.get(node)
      if (signer === undefined) throw new MakeError("NOT_VOUCHED", "ack.node", "has no result in force")
      const ack = decodeBody(Ack, verify(crypto, labels.signedAck, [signer], signed), "ack")
      if (ack.node !== node) throw new MakeError("MISDIRECTED", "ack.node", "is not the node of the subject")
      return core.ack(ack, nowMs())
    })
    yield* take(outputs)
  })

  /**
   * A verifier may take back what it has signed itself: no more need be known of it. That it has refused a node counts
   * against the others' results too, when its results would be believed: then it could as well put another in their place.
   */
  const onWithdrawal = Effect.fnUntraced(function* (signed: Signed) {
    const now = reigning()
    if (now === undefined) return
    const { workflow, core } = now
    const withdrawal = yield* attempt(() =>
      decodeBody(Withdrawal, verify(crypto, labels.signedWithdrawal, [signed.key], signed), "withdrawal"),
    )
    if (withdrawal.domain !== trust.domain) return
    const own = withdrawal.results.flatMap(({ node, result }) =>
      result === undefined ? [] : [{ node, result }],
    )
    const outputs = [...core.withdraw(signed.key, own, nowMs())]
    // Another document asks for other things: only a refusal under this one says that the node is bad for it.
    if (
      crypto.equalConstantTime(withdrawal.workflow, workflow.digest) &&
      verifiers.believes(workflow, signed.key)
    ) {
      const refused = withdrawal.results.flatMap(({ node, beacon }) =>
        beacon === undefined ? [] : [{ node, beacon }],
      )
      outputs.push(...core.judged(refused, nowMs()))
    }
    if (outputs.length > 0) yield* take(outputs)
  })

  const onLeave = Effect.fnUntraced(function* (signed: Signed, node: string) {
    const now = reigning()
    if (now === undefined) return
    const { core, signingKeys } = now
    const outputs = yield* attempt(() => {
      const signer = signingKeys.get(node)
      if (signer === undefined) throw new MakeError("NOT_VOUCHED", "leave.node", "has no result in force")
      const leave = decodeBody(Leave, verify(crypto, labels.signedLeave, [signer], signed), "leave")
      if (leave.node !== node)
        throw new MakeError("MISDIRECTED", "leave.node", "is not the node of the subject")
      return core.leave(node, leave.session, nowMs())
    })
    signingKeys.delete(node)
    yield* take(outputs)
  })

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
    reigning() === undefined
      ? bus.publish(
          "presence",
          { instance },
          { v: 1, role: "releaser", control: options.control, key: key.publicKey, term: last ?? 0n },
        )
      : Effect.void,
  )

  yield* bus.subscribe("beacon", {}, (beacon) => election.onBeacon(beacon))
  yield* bus.subscribe("presence", {}, (presence, { tokens }) => {
    verifiers.seen(presence)
    return election.onPresence(presence, tokens.instance)
  })
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
  // Each says all that there is to say: of one node the newest is enough.
  const newest = { perSenderMax: 1, pace: { burst: 128, aSecond: 50, senders: limits.nodes } }
  yield* bus.subscribe(
    "pull",
    {},
    (signed, { tokens }) => guarded("vouchsafe.pull.refused", tokens.node, onPull(signed, tokens.node)),
    newest,
  )
  yield* bus.subscribe(
    "ack",
    {},
    (signed, { tokens }) => guarded("vouchsafe.ack.refused", tokens.node, onAck(signed, tokens.node)),
    newest,
  )
  yield* bus.subscribe(
    "leave",
    {},
    (signed, { tokens }) => guarded("vouchsafe.leave.refused", tokens.node, onLeave(signed, tokens.node)),
    newest,
  )
  yield* hearOrders(bus, { crypto, trust, core: () => reigning()?.core, take })
  yield* bus.subscribe(
    "withdraw",
    {},
    (signed, { tokens }) => guarded("vouchsafe.withdrawal.refused", tokens.instance, onWithdrawal(signed)),
    // A verifier says many at once, each about other results; what comes too fast it says again later.
    {
      perSenderMax: WITHDRAWALS_WAITING,
      pace: { burst: 4 * WITHDRAWALS_WAITING, aSecond: 100, senders: limits.nodes },
    },
  )
  yield* bus.event({
    type: "vouchsafe.service.ready",
    data: { node: options.control, message: "key-releaser" },
  })
  yield* known.first
  const quietly = <A, E>(run: Effect.Effect<A, E>) =>
    run.pipe(Effect.ignore({ log: true }), surviving("a round of the releaser"))
  yield* election.run
  yield* Effect.forkScoped(verifiers.keep(known.current))
  yield* Effect.forkScoped(quietly(beat).pipe(Effect.repeat(Schedule.spaced(limits.beaconEveryMs))))
  yield* Effect.forkScoped(quietly(stand).pipe(Effect.repeat(Schedule.spaced(limits.beaconEveryMs))))
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
    ).pipe(Effect.repeat(Schedule.spaced(TICK_MS))),
  )
  yield* Effect.forkScoped(quietly(release).pipe(Effect.forever))
  return yield* bus.closed
})
