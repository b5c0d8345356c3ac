/** What kind of domain a run is about, and what surely happens in it, by its seed. */
import type { PeersBy } from "./adversary-domain.ts"

/** What befalls a domain whose control plane lies: so that what was right before can be told again when it isn't. */
export type Turn = "double" | "revision" | "standstill" | "none"

export interface Scene {
  readonly peers: PeersBy
  /** The verifier and the releaser of the first guest are the adversary's: their keys are genuine, what they say is not. */
  readonly lying: boolean
  /** Does nothing but refuse everybody. Few are so: such runs take long, for who is refused pauses. */
  readonly obstinate: boolean
  readonly turn: Turn
  /** Guests of the control plane: two verifiers, and two releasers of which one leads, or both. */
  readonly controls: 1 | 2
  readonly hostileMs: number
}

const turns: readonly Turn[] = ["revision", "double", "standstill", "none"]

/** Of seven runs, two are about nodes that appraise each other, in one of them over a control plane that lies. */
export const sceneOf = (seed: number): Scene => {
  const obstinate = seed % 64 === 0
  const honest = {
    peers: "results",
    lying: false,
    obstinate,
    turn: "none",
    controls: (seed >> 2) & 1 ? 2 : 1,
    // Most runs are short: many of them find more than few long ones in the same time.
    hostileMs: obstinate ? 40_000 : seed % 4 === 0 ? 8_000 : 4_000,
  } as const
  const liar = { lying: true, obstinate: false, controls: 1, hostileMs: 7_000 } as const
  const kind = seed % 7
  if (kind === 4) return { ...honest, peers: "evidence" }
  if (kind === 5)
    return { ...liar, peers: "evidence", turn: turns[Math.floor(seed / 7) % turns.length] ?? "none" }
  if (kind !== 6) return honest
  return seed % 2 === 0 ? { ...honest, peers: "mixed" } : { ...liar, peers: "results", turn: "double" }
}
