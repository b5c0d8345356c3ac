/**
 * All the collateral that is known at one moment: never changed, only followed by the next. What is offered is taken in
 * when it is signed up to a pinned root, is of now, and isn't older than what is known. So whoever stands between the
 * vendor and here can keep news away until what is known expires, and nothing else.
 */
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"
import { amdRoots } from "../snp/roots.ts"
import { intelRoots } from "../tdx/roots.ts"
import { isoOf, toHex } from "../text.ts"
import { AdmissionError, admit, type CollateralRoots, isOfChip } from "./admit.ts"
import { type CollateralItem, compareAge } from "./item.ts"
import { type Recognised, recognise } from "./recognise.ts"

export interface HeldItem {
  readonly item: CollateralItem
  /** When a source has last given it, or one that is no newer. */
  readonly confirmed: Date
}

export interface CollateralSnapshot {
  readonly held: ReadonlyMap<string, HeldItem>
}

export const emptySnapshot: CollateralSnapshot = { held: new Map() }

export interface Offered {
  /** A file name or address; only whether it speaks of VLEKs counts, for AMD's lists. */
  readonly name: string
  /** For people. */
  readonly source: string
  readonly bytes: Uint8Array
  /** When the source itself had it confirmed; now when left out. */
  readonly asOf?: Date
}

export interface Outcome {
  readonly name: string
  /** `new`: taken in; `same`: known; `refused`: `code` and `message` say why. */
  readonly outcome: "new" | "same" | "refused"
  readonly key?: string
  readonly code?: string
  readonly message?: string
}

export interface OfferRules {
  readonly now: Date
  /** Roots under which something counts; AMD's and Intel's own when left out. */
  readonly roots?: CollateralRoots
  readonly crypto?: Crypto
}

/** More are refused: a guest needs one certificate for each chip, and a handful for each product. */
const mostItems = 2_048
/** These aren't verified, so that there must be room for others whatever comes. */
const mostUnverified = 64
/** AMD makes one for each chip and TCB that anybody names: of what whole services rest on, none may find the room taken by them. */
const mostChips = mostItems - 256
const mostOffered = 4_096

export const genuineRoots: CollateralRoots = { amd: amdRoots, intel: intelRoots }

/** Issuers come before what they have signed. */
const turn = (what: Recognised | undefined): number => {
  if (what === undefined) return 9
  if (what.kind === "amd-certificate") return what.role === "ark" ? 0 : what.role === "vcek" ? 2 : 1
  if (what.kind === "intel-root") return 0
  return what.kind === "intel-ca" || what.kind === "intel-tcb-signing" ? 1 : 3
}

/** Issuers first: whoever takes in a long list by and by cuts it up in this order. */
export const inTurn = (offered: readonly Offered[]): readonly Offered[] =>
  offered
    .slice(0, mostOffered)
    .map((one) => ({ one, turn: turn(recognise(one.bytes)) }))
    .sort((a, b) => a.turn - b.turn)
    .map(({ one }) => one)

/**
 * @param offered in any order, from any source
 * @returns what is known from now on, and what became of each that was offered, in the order in which they were judged
 */
export const offer = (
  snapshot: CollateralSnapshot,
  offered: readonly Offered[],
  { now, roots = genuineRoots, crypto = chosen }: OfferRules,
): { readonly snapshot: CollateralSnapshot; readonly outcomes: readonly Outcome[] } => {
  const held = new Map(snapshot.held)
  const known = knownIn(held, crypto)
  const judged = offered
    .slice(0, mostOffered)
    .map((one) => ({ one, what: recognise(one.bytes) }))
    .sort((a, b) => turn(a.what) - turn(b.what))
  const outcomes = judged.map(({ one, what }): Outcome => {
    const { name } = one
    try {
      if (what === undefined)
        throw new AdmissionError("COLLATERAL_UNKNOWN", "is no certificate, list or document that is known")
      const item = known(one) ?? admitOne(held, one, what, roots, crypto)
      return { name, ...take(held, item, now, one.asOf ?? now) }
    } catch (error) {
      if (!(error instanceof AdmissionError)) throw error
      return { name, outcome: "refused", code: error.code, message: error.message }
    }
  })
  return { snapshot: { held }, outcomes }
}

/** What is held already needs no checking again, but its dates. */
const knownIn = (held: ReadonlyMap<string, HeldItem>, crypto: Crypto) => {
  const idOf = (sha256: string, vlek: boolean): string => `${sha256}:${vlek}`
  const items = [...held.values()].map(({ item }) => item)
  const byId = new Map(items.map((item) => [idOf(item.sha256, item.key.endsWith("-vlek")), item]))
  return ({ name, bytes }: Offered): CollateralItem | undefined => {
    const digest = toHex(crypto.sha256(bytes))
    const item = byId.get(idOf(digest, isForVlek(name))) ?? byId.get(idOf(digest, false))
    // A list for VLEKs is kept under a key of its own, even if it is the same list.
    return item?.kind === "amd-crl" && item.key.endsWith("-vlek") !== isForVlek(name) ? undefined : item
  }
}

const isForVlek = (name: string): boolean => /vlek/i.test(name)

const admitOne = (
  held: ReadonlyMap<string, HeldItem>,
  { name, source, bytes }: Offered,
  what: Recognised,
  roots: CollateralRoots,
  crypto: Crypto,
): CollateralItem =>
  admit({ bytes, source, forVlek: isForVlek(name) }, what, (key) => held.get(key)?.item.bytes, roots, crypto)

const take = (
  held: Map<string, HeldItem>,
  item: CollateralItem,
  now: Date,
  asOf: Date,
): Omit<Outcome, "name"> => {
  const { key, issued, expires } = item
  if (!(issued.getTime() <= now.getTime()))
    throw new AdmissionError("NOT_YET_VALID", `${key} is of ${isoOf(issued)}, after now`)
  if (!(now.getTime() <= expires.getTime()))
    throw new AdmissionError("EXPIRED", `${key} has expired on ${isoOf(expires)}`)
  const before = held.get(key)
  const age = before === undefined ? 1 : compareAge(item, before.item)
  if (before !== undefined && age < 0)
    throw new AdmissionError(
      "SUPERSEDED",
      `${key} is number ${item.number} of ${isoOf(issued)}: number ${before.item.number} of ${isoOf(before.item.issued)} is known`,
    )
  const [count, most] = roomFor(held, item)
  if (before === undefined && count >= most)
    throw new AdmissionError("TOO_MANY", `${most} pieces are kept already`)
  const confirmed = Math.max(
    before?.confirmed.getTime() ?? Number.NEGATIVE_INFINITY,
    Math.min(now.getTime(), asOf.getTime()),
  )
  held.set(key, {
    item: age > 0 || before === undefined ? item : before.item,
    confirmed: new Date(confirmed),
  })
  return { outcome: age > 0 ? "new" : "same", key }
}

/** How many are kept of those that share an item's room, and how many may be. */
const roomFor = (held: ReadonlyMap<string, HeldItem>, item: CollateralItem): readonly [number, number] => {
  const countOf = (is: (one: CollateralItem) => boolean): number =>
    [...held.values()].filter((one) => is(one.item)).length
  if (item.kind === "tpm-certificate")
    return [countOf(({ kind }) => kind === "tpm-certificate"), mostUnverified]
  return isOfChip(item) ? [countOf(isOfChip), mostChips] : [held.size, mostItems]
}
