/**
 * The node's life on the bus, around its core: attest, ask, take releases, tell the kernel, acknowledge. One message at a
 * time; whatever fails is recorded and tried again by the next turn of `live`, while the kernel goes on enforcing.
 */
import { Effect, Latch, Option } from "effect"
import type { Signed } from "../../schemas/messages/common.ts"
import type { Beacon } from "../../schemas/messages/release.ts"
import type { Stats } from "../../schemas/messages/stats.ts"
import type { Bus } from "../common/bus/bus.ts"
import type { Refused } from "../common/bus/types.ts"
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { bootNow } from "../common/kernel/clock.ts"
import type { ControlCheckOptions } from "../guest/control-check.ts"
import { attempt, refuse } from "../guest/refusals.ts"
import { MakeError } from "../make/errors.ts"
import { joinMemories, type KernelAction, type Memory, NodeState } from "../make/node-state.ts"
import type { OpenedRelease } from "../make/release.ts"
import { vouchPeers } from "../make/result.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { attest, UNANSWERED } from "./attest.ts"
import type { Plane } from "./dataplane/plane.ts"
import { carryOut, forgetKeys, heldEpochs, rememberedEpochs, summaryOf } from "./kernel-actions.ts"
import { beginLife, endLife, isOver, type Life, leaseNs, MS, released } from "./life.ts"
import { openSignedRelease } from "./open-release.ts"
import { Patience } from "./patience.ts"
import { makePeerProofs, type PeerProofOptions } from "./peer-proofs.ts"
import { makeReports } from "./reports.ts"
import type { Rules } from "./rules.ts"
import { makeSaid } from "./said.ts"
import { beginSession, endSession } from "./session.ts"
import { statsOf } from "./stats.ts"
import { makeWakes } from "./wakes.ts"
import type { PlaneWatch } from "./watch.ts"

export interface NodeOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly node: string
  readonly runDirectory: string
  readonly plane: Plane
  /** Whether the plane is what was measured: while it isn't, nothing is installed and nobody is asked for keys. */
  readonly watch: Pick<PlaneWatch, "whole" | "breaks">
  readonly backend: string
  /** What vendors say of the control plane's hardware. */
  readonly collateral?: ControlCheckOptions["collateral"]
  /** And of its peers', for edges where this node appraises them itself. */
  readonly peerCollateral?: PeerProofOptions["collateral"]
}

const REFUSED_MS_MAX = 30_000
/** While it pauses, a node looks this often whether there is another workflow. */
const LOOK_MS = 500

/** Nobody has judged this node. */
const isTemporary = ({ code }: Refused): boolean => /^(BUS_|BUSY$|NO_|NOT_RISING$)/.test(code)

const forgetSecrets = ({ payload }: OpenedRelease): void => {
  for (const { secret } of payload.edges) secret?.fill(0)
}

export const makeNode = (bus: Bus["Service"], options: NodeOptions) => {
  const { crypto, trust, node, plane, watch } = options
  let life: Life | undefined
  /** Of all sessions of this process, and of what the kernel remembers of those before. */
  let memory: Memory | undefined
  let rules: Rules | undefined
  let state: Stats["state"] = "denied"
  let failures = 0
  /** Attempts in a row that nobody answered. */
  let unanswered = 0
  const patience = new Patience()
  /** A release has been taken. */
  const answered = Latch.makeUnsafe(false)
  /** The node has taken its leave. */
  let left = false
  const rekeys = new Map<string, number>()
  const nowMs = () => performance.now()
  const proofs = makePeerProofs(bus, { crypto, node, collateral: options.peerCollateral })
  const wakes = makeWakes(() => memory?.term, nowMs)
  const said = makeSaid(bus, crypto, node)
  const reports = makeReports(bus, node, nowMs)

  /** Does what the core decided; installs that the kernel refuses are given up, which the releaser learns by the ack. */
  const perform = Effect.fnUntraced(function* (current: Life, actions: ReadonlyArray<KernelAction>) {
    // No key goes into a plane that isn't ours any more.
    if (!watch.whole || life !== current) return forgetKeys(actions)
    for (const { kind, instance } of actions)
      if (kind === "activate") rekeys.set(instance, (rekeys.get(instance) ?? 0) + 1)
    for (const failure of carryOut(plane, current.rules, actions)) {
      carryOut(plane, current.rules, current.state.gaveUp(failure.instance, failure.epoch))
      yield* reports.failed(failure)
    }
  })

  const onRelease = Effect.fnUntraced(function* (signed: Signed) {
    const current = life
    if (current === undefined) return
    const { attested, state: core } = current
    const { control, result, session } = attested
    const opened = yield* attempt(() => {
      const own = {
        suite: current.workflow.document.suite,
        dhSecret: session.dh,
        kemSecret: session.kem,
        result: result.digest,
      }
      return openSignedRelease(crypto, signed, control.releaserKey, own, core)
    }).pipe(Effect.tapError(reports.refused))
    const actions = yield* proofs
      .prepare(current.workflow, core, opened)
      .pipe(
        Effect.flatMap((proven) =>
          attempt(() => {
            if (life !== current) throw new MakeError("STALE", "session", "was followed by another meanwhile")
            return core.accept(proven, (scope, batch) =>
              vouchPeers(crypto, control.verifierKeys, scope, batch, attested.batches),
            )
          }),
        ),
      )
      .pipe(
        Effect.tapError(reports.refused),
        Effect.tapError(({ code }) => Effect.sync(() => renewWhenUnknown(current, code))),
        Effect.ensuring(Effect.sync(() => forgetSecrets(opened))),
      )
    yield* perform(current, actions)
    released(current, bootNow())
    state = "released"
    answered.openUnsafe()
    const changed = summaryOf(actions)
    if (changed !== "") yield* Effect.logInfo(changed)
    yield* said.acknowledgement(current)
  })

  /**
   * The genuine releaser hands over peers that a verifier vouches for whom this session does not know, such as one that was
   * started anew: a new session learns of it. Forged releases don't come this far.
   */
  const renewWhenUnknown = (current: Life, code: string): void => {
    if (code === "NOT_VOUCHED" || code === "NOT_AUTHENTIC") current.expectedNs = 0n
  }

  /** Rests, but no longer than until a new session is due. */
  const rest = Effect.fnUntraced(function* (current: Life, ms: number) {
    const end = bootNow() + BigInt(Math.round(ms)) * MS
    while (bootNow() < end && bootNow() <= current.expectedNs) {
      if (wakes.due() || proofs.due(nowMs())) return
      yield* wakes.sleep(Math.min(200, Number((end - bootNow()) / MS) + 1))
      wakes.slept()
    }
  })

  /** Another document may name edges again that the kernel remembers from an earlier one. */
  const recall = (before: Life | undefined, workflow: VerifiedWorkflow, compiled: Rules): Memory => {
    const known = before === undefined ? memory : before.state.memory
    if (known !== undefined && before?.workflow === workflow) return known
    const kernels = rememberedEpochs(plane, compiled)
    return known === undefined ? kernels : joinMemories(known, kernels)
  }

  /** Attests a fresh session; what the kernel holds stays and is handed to the new core. */
  const begin = Effect.fnUntraced(function* (workflow: VerifiedWorkflow, compiled: Rules) {
    if (life === undefined) state = "attesting"
    wakes.sessionBegins()
    const madeNs = bootNow()
    const session = beginSession(crypto, node, options.runDirectory)
    yield* proofs.began(compiled, session.nonce, madeNs, nowMs())
    const before = life
    const { breaks } = watch
    // What an earlier loader has followed too: a releaser that reigns lower learns of it from the hello alone.
    const { term } = recall(before, workflow, compiled)
    const { attested, core } = yield* Effect.gen(function* () {
      const attested = yield* attest(bus, {
        crypto,
        trust,
        workflow,
        session,
        term,
        hurried: before !== undefined,
        unanswered,
        collateral: options.collateral,
      }).pipe(
        // Whoever was asked may be gone: the new leader's guest has another verifier.
        Effect.raceFirst(
          Effect.flatMap(wakes.claimed, () =>
            refuse("NO_LEADER", "releaser", "a new one was heard of meanwhile"),
          ),
        ),
      )
      if (watch.breaks !== breaks)
        return yield* refuse("TAMPERED", "dataplane", "was changed by somebody while it was attested")
      if (left) return yield* refuse("LEFT", "session", "the node has left meanwhile")
      const core = yield* attempt(() => {
        const fresh = new NodeState({
          crypto,
          workflow: compiled.protocol,
          nodeId: node,
          session: session.id,
          dhSecret: session.dh,
          result: attested.result,
          held: before === undefined ? heldEpochs(plane, compiled) : before.state.held,
          // The session before may have been given more meanwhile.
          memory: recall(before, workflow, compiled),
          proofs: proofs.expect,
        })
        fresh.followTerm(attested.control.term)
        memory = fresh.memory
        wakes.follows(attested.control.term)
        return fresh
      }).pipe(Effect.tapError(() => said.outgrown(attested, recall(before, workflow, compiled).term)))
      return { attested, core }
    }).pipe(
      Effect.tapError(({ code }) =>
        Effect.sync(() => {
          unanswered = code === UNANSWERED ? unanswered + 1 : 0
          proofs.failed()
          endSession(session)
        }),
      ),
    )
    life = beginLife({ workflow, rules: compiled, attested, state: core }, bootNow())
    if (before !== undefined) endLife(before)
    if (state !== "released") state = "accepted"
    failures = 0
    unanswered = 0
    patience.follows(attested.control.term)
    return life
  })

  /** One turn: a new session when the workflow, its age or silence ask for one; else the standing request anew. */
  const turn = Effect.fnUntraced(function* (workflow: VerifiedWorkflow, compiled: Rules) {
    const current = life
    const due =
      current === undefined ||
      current.workflow !== workflow ||
      wakes.due() ||
      proofs.due(nowMs()) ||
      isOver(current, bootNow())
    const present = due ? yield* begin(workflow, compiled) : current
    answered.closeUnsafe()
    const asked = bootNow()
    if (life === present) yield* said.pull(present)
    yield* wakes.woken.pipe(
      Effect.raceFirst(answered.await),
      Effect.timeoutOption(patience.waitMs(Number((present.expectedNs - asked) / MS))),
    )
    if (wakes.due()) return
    wakes.slept()
    const isAnswered = present.releasedNs >= asked
    patience.waited(isAnswered)
    // Answered: rest until the lease is a third over, a little earlier or later than the others. Else ask again.
    const third = Number(leaseNs(workflow) / 3n / MS)
    const elapsed = Number(bootNow() - asked) / 1e6
    if (isAnswered) yield* rest(present, third * (0.9 + Math.random() * 0.2) - elapsed)
  })

  return {
    onRelease,
    onBeacon: ({ term }: Beacon) => Effect.sync(() => wakes.heard(term)),
    /** A peer that appraises this node itself wants younger Evidence: a new session gives it. */
    onRenew: (sender: string | undefined) => Effect.suspend(() => proofs.onRenew(rules, sender, nowMs())),
    /**
     * Turns for ever; pauses longer with each refusal in a row, for a third of the lease at most.
     * @param doubt called when a refusal may mean that there is another workflow than the one that `next` gives
     */
    live: (
      next: () => { workflow: VerifiedWorkflow; rules: Rules } | undefined,
      doubt: () => void = () => {},
    ) =>
      Effect.gen(function* () {
        const known = next()
        if (known === undefined || !watch.whole || left) return yield* Effect.sleep(50)
        rules = known.rules
        yield* turn(known.workflow, known.rules).pipe(
          Effect.catchTag("Refused", (error) => {
            if (!isTemporary(error)) doubt()
            return refusedTurn(error, known.workflow, () => next()?.workflow !== known.workflow)
          }),
          Effect.catchTag("BusError", (error) =>
            Effect.logWarning(error.message).pipe(Effect.andThen(Effect.sleep(500))),
          ),
        )
      }).pipe(Effect.forever),

    /**
     * The plane was tampered with, and its keys are gone: the releaser learns that this node holds nothing, and the session
     * ends. A new one begins when the plane is whole.
     */
    tampered: Effect.suspend(() => {
      const current = life
      life = undefined
      state = "tampered"
      if (current === undefined) return Effect.void
      for (const { instance, epoch } of current.state.held) current.state.gaveUp(instance, epoch)
      return said
        .acknowledgement(current)
        .pipe(Effect.andThen(said.leave(current)), Effect.ensuring(Effect.sync(() => endLife(current))))
    }),

    /** For good, as far as this process goes: the session and its keys end here, and at the peers as soon as they hear. */
    leave: Effect.suspend(() => {
      left = true
      const current = life
      life = undefined
      state = "denied"
      const leave = current === undefined ? Effect.void : said.leave(current)
      return leave.pipe(
        Effect.ensuring(
          Effect.sync(() => {
            plane.revokeAll()
            if (current !== undefined) endLife(current)
          }),
        ),
      )
    }),

    /** The plane is whole again. */
    restored: Effect.sync(() => {
      state = "denied"
    }),

    stats: currentStats,

    /** Clears away what is past its deadline, and publishes the counters when there is something to tell. */
    tell: Effect.suspend(() => {
      const current = life
      const overdue = current?.state.expire(bootNow()) ?? []
      const after = current === undefined ? Effect.void : perform(current, overdue)
      return after.pipe(
        // What others have taken the place of ends without anybody missing it.
        Effect.andThen(Effect.forEach(overdue.filter(wasInUse), reports.leaseOver, { discard: true })),
        Effect.andThen(Effect.suspend(() => reports.stats(currentStats()))),
        Effect.andThen(
          Effect.suspend(() =>
            Effect.forEach(plane.drops(), (drop) => reports.dropped(rules, drop), { discard: true }),
          ),
        ),
      )
    }),
  }

  function currentStats(): Stats {
    const held = life?.state.held ?? (rules === undefined ? [] : heldEpochs(plane, rules))
    return statsOf({
      node,
      plane,
      backend: options.backend,
      rules,
      state,
      held,
      rekeys,
      nowBootNs: bootNow(),
    })
  }

  function wasInUse(action: KernelAction) {
    return action.kind === "retire" && action.wasActive
  }

  function refusedTurn(error: Refused, workflow: VerifiedWorkflow, changed: () => boolean) {
    if (life === undefined) state = "refused"
    failures += 1
    // What is only not there yet is asked for often; a verdict about this node changes rarely. It need not be the verifier's:
    // whoever runs the bus can say it. So no node pauses for longer than one that was accepted.
    const most = isTemporary(error) ? 2_000 : Math.min(REFUSED_MS_MAX, Number(leaseNs(workflow) / 3n / MS))
    const least = life === undefined ? 500 : 100
    // Who has waited for an answer that stayed out has paused.
    const doublings = error.code === UNANSWERED ? 0 : Math.min(failures - 1, 9)
    const pauseMs = Math.min(most, least * 2 ** doublings) * (0.7 + Math.random() * 0.3)
    return Effect.logWarning(`refused: ${error.code} ${error.field}: ${error.message}`).pipe(
      Effect.andThen(pauseWhileSame(pauseMs, changed)),
    )
  }

  /** Another workflow is another question. */
  function pauseWhileSame(ms: number, changed: () => boolean) {
    return Effect.gen(function* () {
      for (let left = ms; left > 0; left -= LOOK_MS) {
        const woke = yield* wakes.sleep(Math.min(left, LOOK_MS))
        if (changed()) failures = 0
        if (Option.isSome(woke) || changed()) return
      }
    })
  }
}
