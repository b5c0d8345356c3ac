/**
 * The bounded table behind `known-verifiers.ts`: which guests say that they have a verifier, what their Evidence has shown,
 * and whom to ask when. Pure; times are ms of a monotonic clock.
 */

/**
 * A key is believed for a node's longest session and a minute more after it was last vouched for: results under it are
 * still in force then, also after its verifier has died.
 */
const BELIEVED_MS = 360_000
const RENEW_MS = 60_000
const OWN_RENEW_MS = 5_000
const ASK_AGAIN_MS = 1_000
const ASK_AGAIN_MS_MAX = 30_000
/** Quotes that all others together cost: real hardware is slow, and whoever is on the bus may invent guests. */
const ASK_ANY_MS = 250
const SEEN_MS = 5_000
const GUESTS = 16
const KEYS = 16

interface Guest {
  key: Uint8Array | undefined
  seenMs: number
  /** When it was last asked, and by whom it was vouched for last. */
  askedMs: number
  vouchedMs: number
  failures: number
}

interface Believed {
  readonly control: string
  readonly key: Uint8Array
  untilMs: number
}

const NEVER = Number.NEGATIVE_INFINITY
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
const newGuest = (): Guest => ({
  key: undefined,
  seenMs: NEVER,
  askedMs: NEVER,
  vouchedMs: NEVER,
  failures: 0,
})

export class VerifierTable {
  readonly #own: string
  readonly #guests = new Map<string, Guest>()
  #believed: Array<Believed> = []
  #workflow: Uint8Array | undefined
  #askedAnyMs = NEVER

  /** @param own the id of this guest's own attester: always a candidate */
  constructor(own: string) {
    this.#own = own
    this.#guests.set(own, newGuest())
  }

  /** Evidence speaks of one document: another one makes all of it void. */
  during(workflow: Uint8Array): void {
    if (this.#workflow !== undefined && same(this.#workflow, workflow)) return
    this.#workflow = workflow
    this.#believed = []
    for (const guest of this.#guests.values()) {
      guest.askedMs = NEVER
      guest.vouchedMs = NEVER
    }
  }

  /** Own key first. */
  keys(nowMs: number): ReadonlyArray<Uint8Array> {
    return this.#live(nowMs).map(({ key }) => key)
  }

  /** Keys that other guests' Evidence vouches for, and older ones of this guest: its own newest one it names itself. */
  others(nowMs: number): ReadonlyArray<Uint8Array> {
    const own = this.#believed.findLast(({ control }) => control === this.#own)
    return this.#live(nowMs)
      .filter((each) => each !== own)
      .map(({ key }) => key)
  }

  /** A guest says that it has a verifier with this key. */
  announced(control: string, key: Uint8Array, nowMs: number): void {
    const guest = this.#guests.get(control) ?? this.#admit(control, nowMs)
    if (guest === undefined) return
    guest.key = key
    guest.seenMs = nowMs
  }

  vouched(control: string, key: Uint8Array, nowMs: number): void {
    const guest = this.#guests.get(control)
    if (guest !== undefined) {
      guest.vouchedMs = nowMs
      guest.failures = 0
    }
    const untilMs = nowMs + BELIEVED_MS
    const known = this.#believed.find((each) => each.control === control && same(each.key, key))
    if (known !== undefined) known.untilMs = untilMs
    else this.#believed = [...this.#live(nowMs), { control, key, untilMs }].slice(-KEYS)
  }

  refused(control: string, nowMs: number): void {
    const guest = this.#guests.get(control)
    if (guest === undefined) return
    guest.failures += 1
    guest.askedMs = nowMs
  }

  failuresOf(control: string): number {
    return this.#guests.get(control)?.failures ?? 0
  }

  /** Whom to ask now: those who were vouched for before come first, or inventions would keep their Evidence from being renewed. */
  due(nowMs: number): string | undefined {
    const candidates = [...this.#guests].filter(([control, guest]) => this.#wants(control, guest, nowMs))
    const rank = ({ vouchedMs }: Guest): number => (vouchedMs === NEVER ? 1 : 0)
    const [first] = candidates.sort(([, a], [, b]) => rank(a) - rank(b) || (a.askedMs < b.askedMs ? -1 : 1))
    return first === undefined ? undefined : this.#ask(first[0], nowMs)
  }

  /** Whom to ask for a key that a result names; nobody when it was done lately. */
  mayAsk(key: Uint8Array, nowMs: number): string | undefined {
    const named = [...this.#guests].find(([, guest]) => guest.key !== undefined && same(guest.key, key))
    const control = named?.[0] ?? this.#own
    const guest = this.#guests.get(control)
    if (guest === undefined || nowMs - guest.askedMs < ASK_AGAIN_MS) return undefined
    return this.#ask(control, nowMs)
  }

  #wants(control: string, guest: Guest, nowMs: number): boolean {
    const own = control === this.#own
    if (!own && (nowMs - guest.seenMs > SEEN_MS || nowMs - this.#askedAnyMs < ASK_ANY_MS)) return false
    // The own guest's other services begin with this one: they are there in a moment.
    const [first, most] = own ? [100, 2_000] : [ASK_AGAIN_MS, ASK_AGAIN_MS_MAX]
    const pause = Math.min(first * 2 ** Math.min(guest.failures, 5), most)
    if (nowMs - guest.askedMs < pause) return false
    const believed =
      guest.key !== undefined && this.#live(nowMs).some(({ key }) => same(key, guest.key ?? key))
    return !(believed || own) || nowMs - guest.vouchedMs > (own ? OWN_RENEW_MS : RENEW_MS)
  }

  #ask(control: string, nowMs: number): string {
    const guest = this.#guests.get(control)
    if (guest !== undefined) guest.askedMs = nowMs
    if (control !== this.#own) this.#askedAnyMs = nowMs
    return control
  }

  #live(nowMs: number): Array<Believed> {
    return this.#believed.filter(({ untilMs }) => nowMs < untilMs)
  }

  /** In a full table, whoever was never vouched for and is heard least goes: inventions don't drive out those that are known. */
  #admit(control: string, nowMs: number): Guest | undefined {
    if (this.#guests.size >= GUESTS) {
      const [oldest] = [...this.#guests]
        .filter(
          ([id, { vouchedMs, seenMs }]) =>
            id !== this.#own && (vouchedMs === NEVER || nowMs - seenMs > SEEN_MS),
        )
        .sort(([, a], [, b]) => a.seenMs - b.seenMs)
      if (oldest === undefined) return undefined
      this.#guests.delete(oldest[0])
    }
    const guest = newGuest()
    this.#guests.set(control, guest)
    return guest
  }
}
