/** The bus's side of `leadership.ts`: tries for the domain's entry, and listens for others. */
import { Effect } from "effect"
import type { Beacon, Leader, Presence } from "../../schemas/messages/release.ts"
import type { Bus } from "../common/bus/bus.ts"
import { isCredible } from "../make/term.ts"
import { Candidate, HigherTerms } from "./leadership.ts"
import { OutgrownTerms } from "./outgrown.ts"

/** How often who stands by looks whether it is to lead. */
const TURN_MS = 100
/** The least between two turns of who leads: timers may be early. */
const PAUSE_MS = 10
/** In a row: the own guest can't prove itself, so that no node could follow. */
const FAILURES_MAX = 2
/** Another releaser that was heard within this time could take over. */
const OTHERS_MS = 3_000

export interface ElectionOptions {
  readonly domain: string
  readonly instance: string
  readonly control: string
  /** The term of the reign, if there is one. */
  readonly term: () => bigint | undefined
  /** The latest end of all documents that were in force here, ms since 1970; undefined before the first. */
  readonly latestEndMs: () => number | undefined
  readonly ownFailures: () => number
  /** Begins a reign; also in place of the present one. */
  readonly begin: Effect.Effect<void>
  readonly resign: Effect.Effect<void>
}

const nowMs = () => performance.now()

export const makeElection = (bus: Bus["Service"], options: ElectionOptions) => {
  const { domain, instance, control } = options
  const candidate = new Candidate(nowMs())
  const higher = new HigherTerms()
  const outgrown = new OutgrownTerms()
  let otherMs = Number.NEGATIVE_INFINITY

  /** One step of a reign at a time: they come from beacons, from presences and from turns. */
  let led = false
  const follow = Effect.suspend(() => {
    if (candidate.leads === led) return Effect.void
    led = candidate.leads
    return led ? options.begin : options.resign
  })

  const turn = Effect.gen(function* () {
    if (candidate.leads && options.ownFailures() >= FAILURES_MAX && nowMs() - otherMs < OTHERS_MS)
      candidate.resign(nowMs())
    const last = candidate.wants(nowMs())
    if (last !== undefined) {
      const value: Leader = { v: 1, releaser: instance, control, term: options.term() ?? 0n }
      const stored = yield* bus.leaders
        .put(domain, value, last)
        .pipe(Effect.catch(() => Effect.succeed(null)))
      if (stored === null) candidate.unanswered(nowMs())
      else if (stored === undefined) candidate.taken(nowMs())
      else candidate.stored(stored, nowMs())
    }
    yield* follow
  })

  const claimed = (term: bigint): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (!isCredible(term, Date.now(), options.latestEndMs())) return Effect.void
      return higher.claim(term, candidate.leads ? options.term() : undefined, nowMs())
        ? options.begin
        : Effect.void
    })

  return {
    leads: () => candidate.leads,
    heard: () => higher.heard,
    onBeacon: ({ releaser, term }: Beacon): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (releaser === instance) return Effect.void
        otherMs = nowMs()
        const own = options.term()
        if (!candidate.leads) {
          candidate.heard(nowMs())
          return claimed(term)
        }
        if (own !== undefined && term > own) candidate.yields(nowMs())
        return Effect.andThen(follow, claimed(term))
      }),
    onPresence: ({ role, term }: Presence, from: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (role === "releaser" && from !== instance) otherMs = nowMs()
        const own = options.term()
        return own === term ? Effect.void : claimed(term)
      }),
    /** A node that is vouched for in the present reign has followed this term, and can't follow that reign. */
    onOutgrown: (node: string, term: bigint): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (!candidate.leads || !isCredible(term, Date.now(), options.latestEndMs())) return Effect.void
        higher.hear(term)
        return outgrown.claim(node, term, options.term(), nowMs()) ? options.begin : Effect.void
      }),
    /** For ever. */
    run: Effect.gen(function* () {
      yield* bus.leaders.watch(domain, () => {
        if (!candidate.leads) candidate.heard(nowMs())
      })
      yield* turn.pipe(
        Effect.catchCause((cause) => Effect.logError("the election stumbled", cause)),
        // Who leads has nothing to look for until it is to renew its entry.
        Effect.andThen(
          Effect.suspend(() => Effect.sleep(Math.max(PAUSE_MS, candidate.restMs(nowMs()) ?? TURN_MS))),
        ),
        Effect.forever,
        Effect.forkScoped,
      )
    }),
  }
}
