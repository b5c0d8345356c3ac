/**
 * A service's collateral: filled from a folder, mirrors and the bucket in the background, looked up in memory. Evidence
 * never waits for it, and what a source says counts for nothing but what its vendor has signed.
 */
import { Config, Effect, Option } from "effect"
import { Bus } from "../common/bus/bus.ts"
import { refuseSetting } from "../common/bus/config.ts"
import {
  type CollateralOutcome,
  type CollateralRoots,
  type CollateralSnapshot,
  type CollateralView,
  collateralInTurn,
  collateralViewOf,
  emptySnapshot,
  genuineRoots,
  type MirrorWants,
  nextAskMs,
  type OfferedCollateral,
  offerCollateral,
  plainSchedule,
  plainStaleRules,
  readCollateralTree,
  type ScheduleRules,
  type StaleRules,
} from "../evidence/collateral/index.ts"
import { productNames, type SnpProduct } from "../evidence/snp/product.ts"
import type { IntelRoot } from "../evidence/tdx/index.ts"
import { fetchCollateral, readMirrorUrl } from "./collateral-mirror.ts"
import { pathConfig } from "./config.ts"

export interface CollateralSettings {
  readonly folder?: string
  readonly wants: MirrorWants
  readonly stale: StaleRules
  /**
   * A lab's roots in Intel's place: what they have signed is kept too. Whether they may vouch for a machine is the workflow's
   * to say. One piece of each kind is kept, so that a lab's may be in the way of Intel's: for labs only.
   */
  readonly emulated?: readonly IntelRoot[]
}

export const collateralVariables: ReadonlyArray<readonly [name: string, meaning: string]> = [
  ["VOUCHSAFE_COLLATERAL", "a folder of collateral, as vouchsafe collateral fetch fills it (none)"],
  ["VOUCHSAFE_COLLATERAL_AMD", "base address of AMD's key distribution service or a mirror of it (none)"],
  ["VOUCHSAFE_COLLATERAL_INTEL", "base address of Intel's certification service or a mirror of it (none)"],
  ["VOUCHSAFE_COLLATERAL_PRODUCTS", "AMD's products to ask for: Milan, Genoa, Turin, with commas (all)"],
  [
    "VOUCHSAFE_COLLATERAL_FMSPCS",
    "Intel's platform families to ask for, 12 hex digits each, with commas (none)",
  ],
  ["VOUCHSAFE_COLLATERAL_HOURS", "for how many hours collateral counts that no source has confirmed (168)"],
  [
    "VOUCHSAFE_COLLATERAL_EMULATED",
    "labs only: SHA-256 of the keys of emulated Intel roots whose collateral is kept too, 64 hex digits each, with commas (none)",
  ],
]

const optional = <T>(name: string, read: (text: string) => T): Config.Config<Option.Option<T>> =>
  Config.option(
    Config.NonEmptyString(name).pipe(
      Config.mapEffect((text) => {
        try {
          return Effect.succeed(read(text))
        } catch (error) {
          return refuseSetting(name, (error as Error).message)
        }
      }),
    ),
  )

const list = <T extends string>(
  text: string,
  most: number,
  is: (one: string) => one is T,
  what: string,
): readonly T[] => {
  const found = text.split(",")
  if (found.length > most || !found.every(is))
    throw new Error(`must be ${what}, at most ${most}, with commas`)
  return found
}

const isProduct = (text: string): text is SnpProduct => productNames.some((one) => one === text)
const isFmspc = (text: string): text is string => /^[0-9a-f]{12}$/.test(text)

export const readProducts = (text: string) =>
  list(text, productNames.length, isProduct, "Milan, Genoa or Turin")
export const readFmspcs = (text: string) => list(text.toLowerCase(), 64, isFmspc, "families of 12 hex digits")

const isDigest = (text: string): text is string => /^[0-9a-f]{64}$/.test(text)

/** Intel's own key can't be called emulated. */
export const readEmulatedRoots = (text: string): readonly IntelRoot[] =>
  list(text.toLowerCase(), 8, isDigest, "digests of keys, 64 hex digits each").map((key_digest) => {
    if (genuineRoots.intel.some((one) => one.key_digest === key_digest))
      throw new Error(`names ${key_digest}, which is Intel's own key`)
    return { vendor: "intel", key_digest, emulated: true }
  })

const readHours = (text: string): number => {
  if (!/^\d{1,4}$/.test(text) || Number(text) === 0)
    throw new Error("must be a whole number of hours, 1 to 9999")
  return Number(text)
}

export const collateralConfig: Config.Config<CollateralSettings> = Config.all({
  folder: Config.option(pathConfig("VOUCHSAFE_COLLATERAL")),
  amd: optional("VOUCHSAFE_COLLATERAL_AMD", readMirrorUrl),
  intel: optional("VOUCHSAFE_COLLATERAL_INTEL", readMirrorUrl),
  products: optional("VOUCHSAFE_COLLATERAL_PRODUCTS", readProducts),
  fmspcs: optional("VOUCHSAFE_COLLATERAL_FMSPCS", readFmspcs),
  hours: optional("VOUCHSAFE_COLLATERAL_HOURS", readHours),
  emulated: optional("VOUCHSAFE_COLLATERAL_EMULATED", readEmulatedRoots),
}).pipe(
  Config.map(
    ({ folder, amd, intel, products, fmspcs, hours, emulated }): CollateralSettings => ({
      ...(Option.isSome(folder) && { folder: folder.value }),
      wants: {
        ...(Option.isSome(amd) && { amd: amd.value }),
        ...(Option.isSome(intel) && { intel: intel.value }),
        products: Option.getOrElse(products, () => productNames),
        fmspcs: Option.getOrElse(fmspcs, () => []),
        cas: ["platform", "processor"],
      },
      stale: Option.isSome(hours) ? { unconfirmedMs: hours.value * 3_600_000 } : plainStaleRules,
      ...(Option.isSome(emulated) && { emulated: emulated.value }),
    }),
  ),
)

export interface CollateralCache {
  /** What may be used now. Of one moment: to be asked for anew with each piece of evidence. */
  readonly view: (now: Date) => CollateralView
  readonly snapshot: () => CollateralSnapshot
}

export interface CacheOptions {
  readonly settings: CollateralSettings
  /** AMD's and Intel's own when left out, and the emulated ones of the settings. */
  readonly roots?: CollateralRoots
  /** For mirrors; folder and bucket cost nothing and are looked at more often. */
  readonly schedule?: ScheduleRules
  readonly nearby?: ScheduleRules
}

const nearbySchedule: ScheduleRules = { everyMs: 60_000, retryMs: 5_000 }

/** Taken in between other work, so that no flood of certificates keeps a service from answering. */
const stepSize = 8

/**
 * Looks at folder and bucket once before it returns, whatever they have, and goes on in the background until the scope
 * closes. A source that fails is asked again, slower and slower; what it gave before stays in use.
 */
export const makeCollateralCache = Effect.fn("makeCollateralCache")(function* (options: CacheOptions) {
  const { settings, schedule = plainSchedule, nearby = nearbySchedule } = options
  const { emulated = [] } = settings
  const { roots = { ...genuineRoots, intel: [...genuineRoots.intel, ...emulated] } } = options
  if (emulated.length > 0)
    yield* Effect.logWarning("keeps collateral of EMULATED Intel roots", { roots: emulated.length })
  const bus = yield* Bus
  let snapshot = emptySnapshot

  const take = Effect.fnUntraced(function* (source: string, offered: readonly OfferedCollateral[]) {
    const outcomes: CollateralOutcome[] = []
    const sorted = collateralInTurn(offered)
    for (let i = 0; i < sorted.length; i += stepSize) {
      const step = offerCollateral(snapshot, sorted.slice(i, i + stepSize), { now: new Date(), roots })
      snapshot = step.snapshot
      outcomes.push(...step.outcomes)
      yield* Effect.sleep(0)
    }
    yield* tell(source, outcomes)
  })

  const fromFolder = (path: string) =>
    Effect.try({ try: () => readCollateralTree(path), catch: (error) => (error as Error).message }).pipe(
      Effect.flatMap((offered) => take("folder", offered)),
    )
  const fromBucket = bus.collateral.list.pipe(
    Effect.mapError(({ message }) => message),
    Effect.flatMap((stored) =>
      take(
        "bucket",
        stored.map(({ key, piece: { bytes, confirmed_ms } }) => ({
          name: key,
          source: "bucket",
          bytes,
          asOf: new Date(Math.min(confirmed_ms, 8_640_000_000_000_000)),
        })),
      ),
    ),
  )
  const fromMirrors = Effect.gen(function* () {
    const { offered, failures } = yield* Effect.tryPromise({
      try: (signal) => fetchCollateral(settings.wants, signal),
      catch: (error) => (error as Error).message,
    })
    yield* take("mirror", offered)
    const [first] = failures
    if (first !== undefined) return yield* Effect.fail(`${failures.length} failed, first ${first.message}`)
  })

  const keepAsking = (
    source: string,
    ask: Effect.Effect<void, string>,
    rules: ScheduleRules,
    atOnce: boolean,
  ) =>
    Effect.gen(function* () {
      let failures = 0
      let first = atOnce
      for (;;) {
        if (!first) yield* Effect.sleep(nextAskMs(rules, failures, Math.random()))
        first = false
        failures = yield* asked(source, ask, failures)
      }
    })

  /** The number of failures in a row. */
  const asked = (source: string, ask: Effect.Effect<void, string>, before: number) =>
    ask.pipe(
      Effect.as(0),
      Effect.catch((message) =>
        // Once in a while is enough for a source that stays away.
        (before & (before - 1)) === 0
          ? Effect.as(
              Effect.logWarning("a source of collateral failed", { source, message: message.slice(0, 256) }),
              before + 1,
            )
          : Effect.succeed(before + 1),
      ),
    )

  const { folder, wants } = settings
  if (folder !== undefined) {
    const failures = yield* asked("folder", fromFolder(folder), 0)
    if (failures > 0) yield* Effect.logWarning("the folder of collateral can't be read", { folder })
    yield* Effect.forkScoped(keepAsking("folder", fromFolder(folder), nearby, false))
  }
  yield* asked("bucket", fromBucket, 0)
  yield* Effect.forkScoped(keepAsking("bucket", fromBucket, nearby, false))
  if (wants.amd !== undefined || wants.intel !== undefined)
    yield* Effect.forkScoped(keepAsking("mirror", fromMirrors, schedule, true))

  const cache: CollateralCache = {
    view: (now) => collateralViewOf(snapshot, now, settings.stale),
    snapshot: () => snapshot,
  }
  return cache
})

/** What changed, and what was refused: one line each time, not one for each piece. */
const tell = (source: string, outcomes: readonly CollateralOutcome[]) =>
  Effect.gen(function* () {
    const fresh = outcomes.filter(({ outcome }) => outcome === "new")
    const refused = outcomes.filter(({ outcome, code }) => outcome === "refused" && code !== "SUPERSEDED")
    if (fresh.length > 0)
      yield* Effect.logInfo("took in collateral", {
        source,
        pieces: fresh.length,
        first: fresh[0]?.key ?? "",
      })
    if (fresh.length > 0 && refused.length > 0)
      yield* Effect.logWarning("refused collateral", {
        source,
        pieces: refused.length,
        first: `${refused[0]?.name.slice(0, 64)}: ${refused[0]?.code}`,
      })
  })
