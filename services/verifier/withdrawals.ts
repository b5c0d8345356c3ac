/**
 * Looks again at what was accepted: when collateral or the workflow changes, when a time comes that a verdict names, and
 * once a minute anyway. What isn't good any more is an event, and its results are taken back on `withdraw.<instance>`:
 * said again every few seconds as long as a lease could rest on them, because the bus may lose it.
 */
import { Effect, Schedule } from "effect"
import { limits } from "../../schemas/limits.ts"
import { WITHDRAWN_MAX, Withdrawal, type WithdrawnResult } from "../../schemas/messages/withdrawal.ts"
import { Bus } from "../common/bus/bus.ts"
import type { Refused } from "../common/bus/types.ts"
import { encode } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { surviving } from "../common/process/defects.ts"
import type { CollateralSnapshot } from "../evidence/collateral/index.ts"
import type { Outstanding, Verdict } from "../guest/appraise-node.ts"
import { sign } from "../make/envelope.ts"
import { labels } from "../make/labels.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import {
  contentOf,
  type Held,
  HeldResults,
  isItsMachine,
  KEPT_MS,
  type NewlyHeld,
  speaksOfNode,
} from "./held.ts"

const LOOK_MS = 250
const AGAIN_MS = 5_000
/** Looked at side by side; more would keep nodes that join waiting. */
const SIDE_BY_SIDE = 4
/** As many as are looked at before those that failed are told. */
const STEP = 64

export interface WithdrawalOptions {
  readonly crypto: Crypto
  readonly key: SecretKey
  readonly domain: string
  readonly instance: string
  readonly appraise: (
    evidence: NewlyHeld["evidence"],
    asked: Outstanding,
    now: Date,
  ) => Effect.Effect<Verdict, Refused>
  /** All the collateral there is: that it has changed is seen here. */
  readonly snapshot?: () => CollateralSnapshot
  /** The newest beacon of who leads: results up to now are meant, whichever verifier signs them. */
  readonly beacon?: (asked: Outstanding) => Uint8Array | undefined
}

interface TakenBack extends WithdrawnResult {
  readonly workflow: Uint8Array
  readonly untilMs: number
}

type Refusal = Verdict & { readonly accepted: false }

/** What this verifier doesn't have, or not fresh enough, says nothing of what others have judged by. */
const isOwnLack = ({ code, reason }: Refusal): boolean =>
  reason.name === "revocation" || /^(COLLATERAL|CRL|TIME)_/.test(code)

const monotonicMs = () => performance.now()

export const makeWithdrawals = Effect.fn("makeWithdrawals")(function* (options: WithdrawalOptions) {
  const { crypto, key, domain, instance } = options
  const bus = yield* Bus
  const held = new HeldResults()
  /** Said, and to be said again; by node. */
  const takenBack = new Map<string, ReadonlyArray<TakenBack>>()
  let sequence = 0n
  let seen = options.snapshot?.()
  let content = seen === undefined ? "" : contentOf(seen)

  const say = Effect.fnUntraced(
    function* (all: ReadonlyArray<TakenBack>) {
      for (const group of Map.groupBy(all, ({ workflow }) => Buffer.from(workflow).toString("hex")).values())
        for (let i = 0; i < group.length; i += WITHDRAWN_MAX) {
          const results = group.slice(i, i + WITHDRAWN_MAX)
          const workflow = results[0]?.workflow ?? new Uint8Array(0)
          sequence += 1n
          const body = encode(Withdrawal, {
            v: 1,
            domain,
            workflow,
            verifier: instance,
            sequence,
            results: results.map(({ workflow: _, untilMs: __, ...each }) => each),
          })
          yield* bus.publish("withdraw", { instance }, sign(crypto, labels.signedWithdrawal, key, body))
        }
    },
    Effect.ignore({ log: true }),
  )

  const remember = (node: string, all: ReadonlyArray<TakenBack>): void => {
    const earlier = (takenBack.get(node) ?? []).filter(({ untilMs }) => monotonicMs() < untilMs)
    takenBack.delete(node)
    takenBack.set(node, [...earlier, ...all].slice(-WITHDRAWN_MAX))
    const [oldest] = takenBack.keys()
    if (takenBack.size > limits.nodes && oldest !== undefined) takenBack.delete(oldest)
  }

  const whyOf = (
    asked: Outstanding,
    verdict: Refusal,
  ): Pick<WithdrawnResult, "code" | "field" | "beacon"> => {
    const { code, reason } = verdict
    const beacon = isOwnLack(verdict) ? undefined : options.beacon?.(asked)
    return {
      code: code.slice(0, 64),
      field: reason.name.slice(0, 128),
      ...(beacon === undefined ? {} : { beacon }),
    }
  }

  /** A node that nothing was signed for here: another verifier may have. */
  const tellOthers = (asked: Outstanding, verdict: Refusal) => {
    const { nodeId: node, session, workflow } = asked
    const why = whyOf(asked, verdict)
    if (why.beacon === undefined) return []
    const untilMs = monotonicMs() + limits.beaconMs
    const said: TakenBack = { node, session, ...why, workflow: workflow.digest, untilMs }
    // The latest says all that those before have said.
    takenBack.set(
      node,
      (takenBack.get(node) ?? []).filter(({ result }) => result !== undefined),
    )
    remember(node, [said])
    return [said]
  }

  /** The results of a node go, and the record says for what. */
  const takeBack = Effect.fnUntraced(function* (
    { node, asked, stage, results }: Held,
    verdict: Refusal,
    judged: Outstanding = asked,
  ) {
    held.forget(node)
    const { reason } = verdict
    const why = whyOf(judged, verdict)
    const { code, field } = why
    const all = results.map(({ session, digest, atMs }) => ({
      node,
      session,
      result: digest,
      ...why,
      workflow: asked.workflow.digest,
      untilMs: atMs + KEPT_MS,
    }))
    remember(node, all)
    yield* bus.event({
      type: "vouchsafe.attestation.withdrawn",
      subject: node,
      data: {
        node,
        stage,
        emulated: verdict.emulated,
        code,
        field,
        message: `found ${reason.found}, wanted ${reason.wanted}`.slice(0, 512),
        checks: verdict.checks,
      },
    })
    return all
  })

  /** The verdict that it would get now; undefined where there is no time for one, or newer Evidence has come meanwhile. */
  const review = Effect.fnUntraced(function* (one: Held, asked: Outstanding) {
    const at = new Date()
    const verdict = yield* options.appraise(one.evidence, asked, at).pipe(
      Effect.catch(() => Effect.succeed(undefined)),
      surviving("looking at a result again"),
    )
    yield* Effect.sleep(0)
    if (verdict === undefined || held.get(one.node) !== one) return undefined
    held.reviewed(one, verdict, at, monotonicMs())
    return verdict
  })

  const reviewEach = Effect.fnUntraced(function* (
    all: ReadonlyArray<Held>,
    asked: (one: Held) => Outstanding,
  ) {
    for (let i = 0; i < all.length; i += STEP) {
      const told = yield* Effect.forEach(
        all.slice(i, i + STEP),
        (one) =>
          review(one, asked(one)).pipe(
            Effect.flatMap((verdict) =>
              verdict === undefined || verdict.accepted ? Effect.succeed([]) : takeBack(one, verdict),
            ),
          ),
        { concurrency: SIDE_BY_SIDE },
      )
      yield* say(told.flat())
    }
  })

  const look = Effect.gen(function* () {
    const now = options.snapshot?.()
    if (now !== undefined && now !== seen) {
      seen = now
      const next = contentOf(now)
      if (next !== content) held.reviewAll()
      content = next
    }
    yield* reviewEach(held.due(monotonicMs(), new Date()), ({ asked }) => asked)
  })

  const sayAgain = Effect.suspend(() => {
    const now = monotonicMs()
    for (const [node, all] of takenBack) {
      const left = all.filter(({ untilMs }) => now < untilMs)
      if (left.length === 0) takenBack.delete(node)
      else takenBack.set(node, left)
    }
    return say([...takenBack.values()].flat())
  })

  yield* Effect.forkScoped(
    look.pipe(surviving("looking at results again"), Effect.repeat(Schedule.spaced(LOOK_MS))),
  )
  yield* Effect.forkScoped(
    sayAgain.pipe(surviving("saying withdrawals again"), Effect.repeat(Schedule.spaced(AGAIN_MS))),
  )

  return {
    /** Whether one result more for the node would be one that can't be taken back. */
    full: (node: string, workflow: VerifiedWorkflow): boolean => held.full(node, workflow, monotonicMs()),

    /** This result goes out now. */
    keep: (given: NewlyHeld): void => held.keep(given, monotonicMs()),

    /**
     * Evidence of a node was refused: if it is the node's own, what was signed for it before goes, here or by another verifier;
     * else what is held of it is looked at again.
     */
    refused: Effect.fnUntraced(function* (asked: Outstanding, verdict: Refusal) {
      const before = held.get(asked.nodeId)
      if (speaksOfNode(verdict) && isItsMachine(asked, verdict, before))
        yield* say(
          before === undefined ? tellOthers(asked, verdict) : yield* takeBack(before, verdict, asked),
        )
      else if (before !== undefined) before.reviewMs = Number.NEGATIVE_INFINITY
    }),

    /**
     * Another document is in force. Its releaser begins with nothing, so that keys end with their leases; who won't get
     * new ones is known at once, and a releaser that doesn't know the document yet is told.
     */
    changed: (workflow: VerifiedWorkflow) =>
      reviewEach(
        held.all().filter(({ asked }) => asked.workflow.digest !== workflow.digest),
        ({ asked, evidence }) => ({
          ...asked,
          // That it speaks of the document before is no fault of the node.
          workflow: { ...workflow, digest: evidence.claims.workflow },
        }),
      ),
  }
})
