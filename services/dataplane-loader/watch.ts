/**
 * Looks at the plane in the kernel several times a second. What isn't as it was measured ends all traffic at once: keys
 * gone, application cut off. Then it is put right as soon as nobody is in the way. Decides without the bus.
 */
import { bootNow } from "../common/kernel/clock.ts"
import { asFinding } from "./dataplane/integrity.ts"
import type { Finding, Plane } from "./dataplane/plane.ts"

/** How often to look: what happens is found within this time and that of a look. */
export const LOOK_MS = 200
/** Between attempts to put the plane right; doubled with each time that it was broken in a row, up to the longest. */
const RETRY_MS = 1_000
const RETRY_MS_MAX = 30_000
/** Whole for this long, a plane that was broken counts as quiet again. */
const QUIET_MS = 300_000

export type Change =
  | { readonly kind: "tampered"; readonly findings: ReadonlyArray<Finding> }
  | { readonly kind: "restored"; readonly brokenMs: number }

type Watched = Pick<Plane, "inspect" | "cutOff" | "restore">

const NS_PER_MS = 1_000_000n

export class PlaneWatch {
  readonly #plane: Watched
  readonly #nowMs: () => number
  #brokenMs: number | undefined
  #restoredMs = Number.NEGATIVE_INFINITY
  #tryMs = 0
  #row = 0
  #breaks = 0

  /** @param nowMs a clock that never goes back; the boot clock where none is given */
  constructor(plane: Watched, nowMs: () => number = () => Number(bootNow() / NS_PER_MS)) {
    this.#plane = plane
    this.#nowMs = nowMs
  }

  /** Whether keys may be installed. */
  get whole(): boolean {
    return this.#brokenMs === undefined
  }

  /** How often the plane was found broken: what began before the last time must not be finished. */
  get breaks(): number {
    return this.#breaks
  }

  /** One look; gives what has changed, if anything. Never throws: a plane that can't be looked at is cut off. */
  look(): Change | undefined {
    const now = this.#nowMs()
    if (this.#brokenMs === undefined) {
      const findings = this.#inspect()
      if (findings.length === 0) return undefined
      this.#break(now)
      return { kind: "tampered", findings: [...findings, ...this.#cutOff()] }
    }
    // Again with each look: whoever broke it may also have set the device up.
    this.#cutOff()
    return now < this.#tryMs ? undefined : this.#restore(now, this.#brokenMs)
  }

  #inspect(): ReadonlyArray<Finding> {
    try {
      return this.#plane.inspect()
    } catch (error) {
      return [asFinding(error, "plane", "an answer")]
    }
  }

  #break(now: number): void {
    this.#row = now - this.#restoredMs < QUIET_MS ? this.#row + 1 : 0
    this.#breaks += 1
    this.#brokenMs = now
    this.#tryMs = now + Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.min(this.#row, 10))
  }

  #cutOff(): ReadonlyArray<Finding> {
    try {
      this.#plane.cutOff()
      return []
    } catch (error) {
      return [asFinding(error, "plane", "cut off")]
    }
  }

  #restore(now: number, brokenMs: number): Change | undefined {
    if (!this.#restored()) {
      this.#tryMs = now + RETRY_MS
      return undefined
    }
    this.#brokenMs = undefined
    this.#restoredMs = now
    return { kind: "restored", brokenMs: now - brokenMs }
  }

  #restored(): boolean {
    try {
      return this.#plane.restore().length === 0
    } catch {
      // It may have come as far as admitting the application.
      this.#cutOff()
      return false
    }
  }
}
