/** Serves `hello.*` (with all other verifiers) and `evidence.<own instance>.*`: challenges nodes and signs what they prove. */
import { Effect, Result, Schedule } from "effect"
import { limits } from "../../schemas/limits.ts"
import {
  AttestationResult,
  Challenge,
  type Hello,
  type NodeEvidence,
} from "../../schemas/messages/attestation.ts"
import { Bus } from "../common/bus/bus.ts"
import { hintPace, refusalAllowances } from "../common/bus/counters.ts"
import type { BusError, Refused, Unread } from "../common/bus/types.ts"
import { encode } from "../common/codec/index.ts"
import { peekBytes } from "../common/codec/peek.ts"
import type { Trust } from "../common/config/anchors.ts"
import { writeVerifierKey } from "../common/config/guest-keys.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { type CollateralLookup, EvidenceCaches } from "../evidence/appraisal/verify-pieces.ts"
import type { CollateralSnapshot } from "../evidence/collateral/index.ts"
import { appraiseNode, type Outstanding, type Verdict } from "../guest/appraise-node.ts"
import { CONTROL_LOOK_MS, knowWorkflow } from "../guest/known-workflow.ts"
import { protocolWorkflow } from "../guest/protocol-workflow.ts"
import { attempt, refuse } from "../guest/refusals.ts"
import { ChallengeBook } from "../make/challenge.ts"
import { controlEvidenceDigest } from "../make/control-plane.ts"
import { sign } from "../make/envelope.ts"
import { labels } from "../make/labels.ts"
import { resultDigest } from "../make/result.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { type AskedOfTpm, askActivation } from "./ask-activation.ts"
import { makeHelloBatch, type Quoted } from "./hello-batch.ts"
import { Launches } from "./launches.ts"
import { type Leader, Leaders } from "./leaders.ts"
import { makePeerProofs } from "./peer-proofs.ts"
import { makeRecords } from "./records.ts"
import { makeResultBatch } from "./result-batch.ts"
import { ToldTerm } from "./told-term.ts"
import { makeWithdrawals } from "./withdrawals.ts"

const ATTEST_TIMEOUT_MS = 3_000
/** Another guest may be gone. */
const OTHERS_TIMEOUT_MS = 1_000
/** A hello is answered before its node gives up: one that has followed a term may have traffic at stake, and asks others sooner. */
const PATIENCE_MS = 4_000
const HURRIED_MS = 1_200
const PRESENCE_MS = 1_000
/** Where in an answer the nonce of its challenge is looked for: in its first bytes. */
const NONCE_WITHIN = 256

export interface VerifierOptions {
  readonly crypto: Crypto
  readonly trust: Trust
  readonly instance: string
  readonly control: string
  readonly runDirectory: string
  /** What vendors say, of that moment; without it TDX is refused, and nothing is known of AMD's revocations. */
  readonly collateral?: (now: Date) => CollateralLookup
  /** A folder that keeps the last verdicts of each node. */
  readonly records?: string
  /** Another place to appraise in: a pool of threads. In this one, by default. */
  readonly appraise?: (
    evidence: NodeEvidence,
    asked: Outstanding,
    now: Date,
  ) => Effect.Effect<Verdict, Refused>
  /** All collateral there is: when it changes, what was accepted is looked at again. */
  readonly snapshot?: () => CollateralSnapshot
}

const monotonicMs = () => performance.now()

export const serveVerifier = Effect.fn("serveVerifier")(function* (options: VerifierOptions) {
  const { crypto, trust, instance, control, collateral } = options
  const bus = yield* Bus
  const key = crypto.ed25519.generate()
  writeVerifierKey(options.runDirectory, { instance, key: key.publicKey })
  const book = new ChallengeBook(crypto)
  const outstanding = new Map<string, Outstanding & { readonly issuedMs: number }>()
  const verifier = {
    crypto,
    instance,
    control,
    caches: new EvidenceCaches(),
    ...(collateral && { collateral }),
  }
  const appraise =
    options.appraise ??
    ((evidence: NodeEvidence, asked: Outstanding, now: Date) =>
      Effect.sync(() => appraiseNode(verifier, evidence, asked, now)))
  const launches = new Launches(crypto)
  const leaders = new Leaders()
  /** The releaser of the newest offer that was answered by what is good. */
  let followed: string | undefined
  const withdrawals = yield* makeWithdrawals({
    crypto,
    key,
    domain: trust.domain,
    instance,
    appraise,
    ...(options.snapshot && { snapshot: options.snapshot }),
    beacon: ({ releaser }) => leaders.beaconOf([releaser, followed], monotonicMs()),
  })
  const known = yield* knowWorkflow(crypto, trust, {
    onChange: withdrawals.changed,
    lookMs: CONTROL_LOOK_MS,
  })
  const keep = options.records === undefined ? undefined : yield* makeRecords(options.records)
  const told = new ToldTerm()

  yield* bus.subscribe(
    "beacon",
    {},
    (beacon, { tokens }) =>
      // Another one's name is not for it to say.
      Effect.sync(() => {
        if (beacon.releaser === tokens.instance) leaders.heard(beacon, monotonicMs())
      }),
    { pace: hintPace },
  )

  const ask = (leader: Leader, merkle_root: Uint8Array, leaves: number) =>
    bus
      .request(
        "attest",
        { node: leader.control, identity: bus.identity.name },
        { v: 1, kind: "attest-control", merkle_root, leaves },
        { timeoutMs: leader.control === control ? ATTEST_TIMEOUT_MS : OTHERS_TIMEOUT_MS },
      )
      .pipe(
        Effect.mapError((error: BusError) => refuse("NO_CONTROL_EVIDENCE", "control", error.message)),
        Effect.flatMap((reply) => {
          if (reply.kind === "control-evidence") return Effect.succeed(reply)
          const [code, why] =
            reply.kind === "refused" ? [reply.code, reply.message] : ["WRONG_KIND", reply.kind]
          return Effect.fail(refuse(code, "control", why))
        }),
        Effect.flatMap((reply) => {
          const { term, verifier_key: first, verifiers } = reply.claims
          if (term !== leader.term)
            return Effect.fail(refuse("NO_LEADER", "control.term", "is not that of the beacon"))
          // Nodes would not believe our challenge: the leader has yet to appraise this verifier.
          if (![first, ...verifiers].some((each) => crypto.equalConstantTime(each, key.publicKey)))
            return Effect.fail(refuse("NO_LEADER", "control.verifiers", "do not include this verifier yet"))
          return Effect.succeed({ control: reply, releaser: leader.releaser })
        }),
        Effect.tapError(() => Effect.sync(() => leaders.failed(leader, monotonicMs()))),
      )

  /** The one with the highest term that its guest's Evidence confirms: what a beacon says is only a hint. */
  const quote = Effect.fnUntraced(function* (root: Uint8Array, leaves: number) {
    let failure = refuse("NO_BEACON", "releaser", "no key-releaser has been heard lately")
    for (const leader of leaders.inOrder(monotonicMs())) {
      const found = yield* Effect.result(ask(leader, root, leaves))
      if (Result.isSuccess(found)) return found.success
      failure = found.failure
    }
    return yield* failure
  })
  const proofs = makePeerProofs(bus, crypto, known.current)
  const hellos = yield* makeHelloBatch(crypto, quote, proofs.beside)
  /** Evidence that is here, and not judged yet. */
  let underWay = 0
  const signed = yield* makeResultBatch(crypto, key, () => Math.max(underWay, hellos.answersDue()))

  const refusals = refusalAllowances(limits.nodes)
  /**
   * Refusals before the appraisal are as much part of the record as the appraisal's own; but one node that sends nothing else
   * must not push the others' events out.
   */
  const recorded =
    (type: "vouchsafe.hello.refused" | "vouchsafe.attestation.refused", node: string) => (no: Refused) => {
      const unrecorded = refusals.take(node)
      if (unrecorded === undefined) return Effect.void
      const more = unrecorded === 0 ? {} : { unrecorded }
      const { code, field, message } = no
      return bus.event({ type, subject: node, data: { node, code, field, message, ...more } })
    }

  const onHello = Effect.fnUntraced(function* (hello: Hello, node: string) {
    const workflow = known.current()
    if (workflow === undefined)
      return yield* refuse("NO_WORKFLOW", "workflow", "no signed workflow has arrived yet")
    if (hello.node !== node) return yield* refuse("MISDIRECTED", "node", "is not the node of the subject")
    if (hello.domain !== trust.domain) return yield* refuse("WRONG_DOMAIN", "domain", "is another domain's")
    if (!workflow.document.nodes.some(({ id }) => id === node)) {
      return yield* refuse("UNKNOWN_NODE", "node", `the workflow names no node "${node}"`)
    }
    if (protocolWorkflow(workflow).revoked?.has(node))
      return yield* refuse(
        "REVOKED",
        "node",
        "the workflow revokes it, its machine or all that its stage takes",
      )
    told.hear(hello.term, Date.now(), known.latestEndMs(), monotonicMs())
    if (leaders.inOrder(monotonicMs()).length === 0)
      return yield* refuse("NO_BEACON", "releaser", "no key-releaser has been heard lately")
    const { endorsement } = hello
    const asks = endorsement && (yield* attempt(() => askActivation(crypto, endorsement)))
    proofs.heard(node, hello.nonce)
    const patienceMs = hello.term === 0n ? PATIENCE_MS : HURRIED_MS
    const quoted = yield* hellos.quoted(node, hello.nonce, patienceMs)
    return yield* challenge(hello, node, workflow, quoted, asks).pipe(
      Effect.tapError(() => Effect.sync(() => hellos.judged(node))),
    )
  })

  const challenge = Effect.fnUntraced(function* (
    hello: Hello,
    node: string,
    workflow: VerifiedWorkflow,
    { control: evidence, releaser, inclusion, leaves }: Quoted,
    asks: AskedOfTpm | undefined,
  ) {
    const fresh = leaders.newest(releaser)
    if (fresh === undefined || fresh.term !== evidence.claims.term)
      return yield* refuse("NO_LEADER", "releaser", "another term has begun meanwhile")
    const challenge = yield* attempt(() => book.issue(node, hello.session, fresh.nonce, monotonicMs()))
    const controlDigest = controlEvidenceDigest(crypto, evidence)
    proofs.shown(node, { control: evidence, leaves })
    outstanding.set(node, {
      ...challenge,
      workflow,
      releaser,
      nonce: hello.nonce,
      controlDigest,
      activation: asks?.activation,
      issuedMs: monotonicMs(),
    })
    const body = encode(Challenge, {
      ...(asks && { credential: asks.credential }),
      v: 1,
      domain: trust.domain,
      node,
      session: hello.session,
      verifier: instance,
      verifier_nonce: challenge.verifierNonce,
      beacon: challenge.beacon,
      workflow: workflow.digest,
    })
    return {
      v: 1 as const,
      kind: "offer" as const,
      control: evidence,
      index: inclusion.index,
      path: [...inclusion.path],
      challenge: sign(crypto, labels.signedChallenge, key, body),
    }
  })

  /**
   * Cheap things first: the challenge must be live and this node's, and is used up whatever becomes of the answer; only then
   * is the rest of it read.
   */
  const onEvidence = (evidence: Unread<"evidence">, node: string) =>
    Effect.suspend(() => {
      let judged = false
      const once = (): void => {
        if (!judged) underWay -= 1
        judged = true
      }
      underWay += 1
      return challenged(evidence, node).pipe(
        Effect.flatMap((answer) =>
          appraised(answer, evidence, node, once).pipe(
            Effect.ensuring(Effect.sync(() => hellos.judged(node))),
          ),
        ),
        Effect.ensuring(Effect.sync(once)),
      )
    })

  /** The challenge that this answers, which is used up. */
  const challenged = Effect.fnUntraced(function* ({ bytes }: Unread<"evidence">, node: string) {
    const started = monotonicMs()
    const asked = outstanding.get(node)
    const taken = yield* attempt(() => {
      const named = peekBytes(bytes, "verifier_nonce", NONCE_WITHIN)
      return book.use(node, named ?? new Uint8Array(0), started)
    }).pipe(Effect.tapError(recorded("vouchsafe.attestation.refused", node)))
    outstanding.delete(node)
    const shown = proofs.answered(node)
    if (asked === undefined) return yield* refuse("STALE", "challenge", "is not outstanding for this node")
    return { started, asked, taken, shown }
  })

  /** @param judged called before the result waits for others */
  const appraised = Effect.fnUntraced(function* (
    { started, asked, taken, shown }: Effect.Success<ReturnType<typeof challenged>>,
    { read }: Unread<"evidence">,
    node: string,
    judged: () => void,
  ) {
    const evidence = yield* read
    yield* attempt(() => book.expectSession(taken, evidence.claims.session)).pipe(
      Effect.tapError(recorded("vouchsafe.attestation.refused", node)),
    )
    const at = new Date()
    const verdict = launches.judge(yield* appraise(evidence, asked, at), asked.issuedMs, started)
    yield* report(node, verdict, Math.round(monotonicMs() - started))
    const given = { verdict, evidence, asked, at }
    if (!verdict.accepted) {
      const { reason } = verdict
      // By itself the Evidence is good: a record of it would not lead to this verdict again.
      if (reason.name !== "launch") yield* keep?.(given) ?? Effect.void
      yield* withdrawals.refused(asked, verdict)
      return yield* refuse(verdict.code, reason.name, `found ${reason.found}, wanted ${reason.wanted}`)
    }
    followed = asked.releaser
    // What came into force meanwhile may revoke this very node.
    if (known.current() !== asked.workflow)
      return yield* refuse(
        "NO_LONGER",
        "workflow",
        "another document is in force than when this was asked for",
      )
    if (withdrawals.full(node, asked.workflow))
      return yield* refuse("TOO_OFTEN", "node", "has more results in force than could be taken back")
    const { domain, workflow, dh_key: dhKey } = verdict.result
    const packed = shown && proofs.pack(evidence)
    const body = encode(AttestationResult, {
      ...verdict.result,
      ...(packed && { evidence: packed.digest }),
    })
    const storing =
      shown && packed ? proofs.store(shown, packed.packed, body, asked.controlDigest) : Effect.void
    judged()
    hellos.judged(node, monotonicMs() - asked.issuedMs)
    // Before it is signed: whatever becomes known while it waits for that takes it back.
    withdrawals.keep({ evidence, asked, verdict, at, digest: resultDigest(crypto, body) })
    const [result] = yield* Effect.all([signed({ domain, workflow, node, dhKey, body }), storing], {
      concurrency: 2,
    })
    yield* keep?.({ ...given, result }) ?? Effect.void
    return { v: 1 as const, kind: "result" as const, result }
  })

  const report = (node: string, verdict: Verdict, elapsed_ms: number) =>
    bus.event(
      verdict.accepted
        ? {
            type: "vouchsafe.attestation.accepted",
            subject: node,
            data: {
              node,
              stage: verdict.result.stage,
              platform: verdict.result.platform,
              emulated: verdict.result.assurance === "emulated",
              dataplane: Buffer.from(verdict.result.dataplane).toString("hex"),
              checks: verdict.checks,
              elapsed_ms,
            },
          }
        : {
            type: "vouchsafe.attestation.refused",
            subject: node,
            data: {
              node,
              stage: verdict.stage,
              emulated: verdict.emulated,
              ...(verdict.platform !== undefined && { platform: verdict.platform.slice(0, 64) }),
              ...(verdict.chip && { chip: verdict.chip }),
              code: verdict.code.slice(0, 64),
              field: verdict.reason.name,
              message: `found ${verdict.reason.found}, wanted ${verdict.reason.wanted}`.slice(0, 512),
              checks: verdict.checks,
              elapsed_ms,
            },
          },
    )

  yield* bus.subscribe(
    "fresh",
    {},
    ({ nonce }, { tokens }) => Effect.sync(() => proofs.heard(tokens.node, nonce)),
    // Said with each wish to a peer, too.
    { perSenderMax: 1, pace: { ...hintPace, burst: 2 * limits.nodeEdges, senders: limits.nodes } },
  )
  // All nodes of a workflow may come at once; each of them has few places of these.
  const places = {
    inFlightMax: limits.nodes,
    perSenderMax: 2,
    pace: { burst: 128, aSecond: 20, senders: limits.nodes },
  }
  yield* bus.serve(
    "hello",
    {},
    (hello, { tokens }) =>
      onHello(hello, tokens.node).pipe(Effect.tapError(recorded("vouchsafe.hello.refused", tokens.node))),
    places,
  )
  yield* bus.serveUnread(
    "evidence",
    { instance },
    (request, { tokens }) => onEvidence(request, tokens.node),
    places,
  )
  /** Releasers of other guests are to ask this one's attester for Evidence. */
  const presence = Effect.suspend(() =>
    bus.publish(
      "presence",
      { instance },
      { v: 1, role: "verifier", control, key: key.publicKey, term: told.term },
    ),
  )
  yield* Effect.forkScoped(
    presence.pipe(Effect.ignore({ log: true }), Effect.repeat(Schedule.spaced(PRESENCE_MS))),
  )
  yield* bus.event({ type: "vouchsafe.service.ready", data: { node: control, message: "verifier" } })
  return yield* bus.closed
})
