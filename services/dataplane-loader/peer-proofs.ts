/**
 * A node's own appraisals of its peers, for edges that demand them: fetches their Evidence, appraises it once, remembers the
 * verdict, and asks a peer for younger Evidence. What can't be proven is refused, recorded and tried again at a bounded rate.
 */
import { Effect, Result } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { Bus } from "../common/bus/bus.ts"
import { Pace } from "../common/bus/counters.ts"
import { type BusError, Refused } from "../common/bus/types.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { toHex } from "../common/hex.ts"
import { bootNow } from "../common/kernel/clock.ts"
import { type CollateralLookup, EvidenceCaches } from "../evidence/appraisal/verify-pieces.ts"
import { Recent } from "../evidence/recent.ts"
import {
  appraisePeer,
  openControlProof,
  type ReadProof,
  readPeerProof,
  type WantedPeer,
} from "../guest/appraise-peer.ts"
import { attempt, refuse } from "../guest/refusals.ts"
import { evidencePeers } from "../make/edges.ts"
import { MakeError } from "../make/errors.ts"
import type { HeldEpoch } from "../make/held.ts"
import { LaunchBook } from "../make/launch.ts"
import type { NodeState, Proofs } from "../make/node-state.ts"
import { OwnNonces } from "../make/own-nonces.ts"
import type { OpenedRelease } from "../make/release.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"
import { AskedRenewals } from "./asked-renewals.ts"
import { demandsAny, peersToProve, withoutUnproven } from "./peer-release.ts"
import type { Rules } from "./rules.ts"

/** A release waits so long for proofs: less than until the request that it answers is made anew. */
const PROVE_MS = 800
const TOGETHER = 8
const ATTEMPTS_MAX = 16
const RETRY_MS_MIN = 250
const RETRY_MS_MAX = 30_000
/** Between two wishes for fresh Evidence to the same peer: it follows no sooner. What it has shown since may still lack N. */
const ASK_MS = 2_000
const CONTROLS_REMEMBERED = 64

export interface PeerProofOptions {
  readonly crypto: Crypto
  readonly node: string
  /** What vendors say of peers' hardware. */
  readonly collateral?: ((now: Date) => CollateralLookup) | undefined
}

/** Nothing is there under the digest, or something else. */
const UNREADABLE: ReadonlySet<string> = new Set(["MISSING", "MALFORMED", "LIMIT", "NOT_AUTHENTIC"])

interface Failure {
  readonly attempts: number
  readonly notBeforeMs: number
}

/** A verdict is about one node: what was right of one peer is told of another. */
const nameOf = ({ node, result, dhKey }: WantedPeer): string => `${node} ${toHex(result)} ${toHex(dhKey)}`

/** Makes errors of the pure core, and refusals that it throws, refusals. */
const tried = <A>(run: () => A): Effect.Effect<A, Refused> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(run())
    } catch (error) {
      if (error instanceof Refused) return Effect.fail(error)
      if (error instanceof MakeError) return Effect.fail(refuse(error.code, error.field, error.message))
      throw error
    }
  })

export const makePeerProofs = (bus: Bus["Service"], { crypto, node, collateral }: PeerProofOptions) => {
  const nonces = new OwnNonces(crypto, node)
  const launches = new LaunchBook(crypto)
  const caches = new EvidenceCaches()
  /** Until when, ns of the boot clock, by node, result and key. */
  let proven = new Recent<bigint>(limits.peerProofs)
  let failures = new Recent<Failure>(limits.peerProofs)
  /** Digest of the document that these were appraised by. */
  let by: Uint8Array | undefined
  /** Hashed leaves by control digest: one control plane's Evidence stands for many peers. */
  const controls = new Recent<ReadonlyArray<Uint8Array>>(CONTROLS_REMEMBERED)
  const renewals = new AskedRenewals()
  const askedMs = new Map<string, number>()
  const pace = new Pace(50, 1_000)
  let newest: Uint8Array | undefined

  const fetched = (digest: Uint8Array, field: string) =>
    bus.proofs.get(digest).pipe(
      Effect.mapError((error: BusError) => refuse(`BUS_${error.reason.toUpperCase()}`, field, error.message)),
      Effect.flatMap((bytes) =>
        bytes === undefined
          ? Effect.fail(refuse("MISSING", field, "nothing is stored under the digest"))
          : Effect.succeed(bytes),
      ),
    )

  const leavesOf = Effect.fnUntraced(function* ({ control }: ReadProof) {
    const name = toHex(control)
    const known = controls.get(name)
    if (known !== undefined) return known
    const bytes = yield* fetched(control, "control")
    return controls.set(name, yield* tried(() => openControlProof(crypto, bytes, control)))
  })

  const appraise = Effect.fnUntraced(function* (workflow: VerifiedWorkflow, wanted: WantedPeer) {
    const bytes = yield* fetched(wanted.result, "proof")
    const read = yield* tried(() => readPeerProof(crypto, wanted, bytes))
    const leaves = yield* leavesOf(read)
    const appraiser = { crypto, workflow, caches, collateral, nonces, launches }
    const until = yield* tried(() => appraisePeer(appraiser, read, leaves, new Date(), bootNow()))
    return { until, platform: read.claimed.platform, bytes: bytes.length }
  })

  const tell = Effect.suspend(() =>
    newest === undefined ? Effect.void : bus.publish("fresh", { node }, { v: 1, node, nonce: newest }),
  )

  /** The verifiers are told the nonce first, or the peer's next Evidence would lack it again. */
  const askToRenew = (peer: string, nowMs: number) =>
    Effect.suspend(() => {
      const before = askedMs.get(peer)
      if (before !== undefined && nowMs - before < ASK_MS) return Effect.void
      askedMs.set(peer, nowMs)
      const { name } = bus.identity
      return Effect.andThen(tell, bus.publish("renew", { node: peer, identity: name }, { v: 1, node }))
    }).pipe(Effect.ignore({ log: true }))

  const refused = Effect.fnUntraced(function* (
    wanted: WantedPeer,
    error: Refused,
    { attempts, nowMs }: { readonly attempts: number; readonly nowMs: number },
  ) {
    const { code, field, message } = error
    if (pace.take())
      yield* bus.event({
        // Nothing is wrong with a peer that came before this node: it is asked for younger Evidence.
        type: code === "STALE" ? "vouchsafe.peer.stale" : "vouchsafe.peer.refused",
        subject: node,
        data: { node, peer: wanted.node, code, field, message },
      })
    // What was lost or spoilt on its way into the bucket is never put there again: only younger Evidence helps.
    const isLost = attempts > 0 && UNREADABLE.has(code)
    if (code === "STALE" || isLost) yield* askToRenew(wanted.node, nowMs)
  })

  const isProven = (wanted: WantedPeer): boolean => (proven.get(nameOf(wanted)) ?? 0n) > bootNow()

  const prove = Effect.fnUntraced(function* (workflow: VerifiedWorkflow, wanted: WantedPeer) {
    if (isProven(wanted)) return
    const nowMs = performance.now()
    const { attempts, notBeforeMs } = failures.get(nameOf(wanted)) ?? { attempts: 0, notBeforeMs: 0 }
    if (attempts >= ATTEMPTS_MAX || nowMs < notBeforeMs) return
    // Counted before it is made: one that is cut off was one.
    const pauseMs = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** attempts)
    failures.set(nameOf(wanted), { attempts: attempts + 1, notBeforeMs: nowMs + PROVE_MS + pauseMs })
    const began = performance.now()
    const found = yield* Effect.result(appraise(workflow, wanted))
    if (Result.isFailure(found)) return yield* refused(wanted, found.failure, { attempts, nowMs })
    const { until, platform, bytes } = found.success
    proven.set(nameOf(wanted), until)
    if (pace.take())
      yield* bus.event({
        type: "vouchsafe.peer.accepted",
        subject: node,
        data: {
          node,
          peer: wanted.node,
          platform,
          message: `appraised here, from ${bytes} bytes`,
          elapsed_ms: Math.round(performance.now() - began),
        },
      })
  })

  const expect: Proofs = ({ node: peer, dhKey, digest }) => {
    const until = proven.get(nameOf({ node: peer, result: digest, dhKey }))
    if (until === undefined || until <= bootNow())
      throw new MakeError("NOT_VOUCHED", "peers", `include ${peer}, whose Evidence was not appraised here`)
    return until
  }

  return {
    /** For the core: what it installs on edges that demand proof passes here last. */
    expect,

    /** What this release may be taken as: without epochs whose other end couldn't be proven in a short time. */
    prepare: Effect.fnUntraced(function* (
      workflow: VerifiedWorkflow,
      { edges, held }: { readonly edges: NodeState["edges"]; readonly held: ReadonlyArray<HeldEpoch> },
      release: OpenedRelease,
    ) {
      if (by === undefined || !crypto.equalConstantTime(by, workflow.digest)) {
        // Another document demands something else: a release under it may name a result of before.
        by = workflow.digest
        proven = new Recent(limits.peerProofs)
        failures = new Recent(limits.peerProofs)
      }
      if (!demandsAny(edges)) return release
      const wanted = yield* attempt(() => peersToProve(edges, held, release))
      if (wanted.length === 0) return withoutUnproven(edges, held, release, new Set())
      yield* Effect.forEach(wanted, (one) => prove(workflow, one), {
        concurrency: TOGETHER,
        discard: true,
      }).pipe(Effect.timeoutOption(PROVE_MS))
      return withoutUnproven(edges, held, release, new Set(wanted.filter(isProven).map((one) => one.node)))
    }),

    /**
     * A session begins.
     * @param madeBootNs a moment before its nonce was made, by the boot clock
     */
    began: ({ protocol, node: own }: Rules, nonce: Uint8Array, madeBootNs: bigint, nowMs: number) =>
      Effect.suspend(() => {
        renewals.began(nowMs)
        if (evidencePeers(protocol, own.id).size === 0) return Effect.void
        nonces.made(nonce, madeBootNs)
        newest = nonce
        return tell.pipe(Effect.ignore({ log: true }))
      }),

    /** The session that began came to nothing. */
    failed: (): void => renewals.failed(),

    /** A peer wants Evidence that contains a nonce of its own. */
    onRenew: (rules: Rules | undefined, sender: string | undefined, nowMs: number) =>
      Effect.sync(() => {
        const peer = sender?.replace(/^loader-/, "")
        if (rules === undefined || peer === undefined) return
        if (evidencePeers(rules.protocol, rules.node.id).has(peer)) renewals.heard(nowMs)
      }),

    /** Whether a session should begin because peers wish it. */
    due: (nowMs: number) => renewals.due(nowMs),
  }
}
