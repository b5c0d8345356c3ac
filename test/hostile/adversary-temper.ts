/** What an adversary is given to: each run has one of a few characters. */

/** What it is given to from run to run: chances in thousandths for each message. */
export interface Temper {
  readonly drop: number
  readonly delay: number
  readonly hoard: number
  readonly repeat: number
  readonly damage: number
  readonly mislead: number
  readonly forge: number
  readonly replay: number
  /** Mean pause between deeds of its own, ms. */
  readonly idleMs: number
}

const tempers: readonly [Temper, ...Temper[]] = [
  {
    drop: 80,
    delay: 120,
    hoard: 40,
    repeat: 100,
    damage: 60,
    mislead: 60,
    forge: 90,
    replay: 60,
    idleMs: 700,
  },
  {
    drop: 10,
    delay: 60,
    hoard: 150,
    repeat: 60,
    damage: 5,
    mislead: 20,
    forge: 60,
    replay: 120,
    idleMs: 900,
  },
  {
    drop: 200,
    delay: 200,
    hoard: 10,
    repeat: 200,
    damage: 20,
    mislead: 10,
    forge: 10,
    replay: 30,
    idleMs: 1_500,
  },
  { drop: 5, delay: 30, hoard: 20, repeat: 40, damage: 5, mislead: 40, forge: 200, replay: 200, idleMs: 500 },
  { drop: 0, delay: 20, hoard: 10, repeat: 20, damage: 0, mislead: 10, forge: 60, replay: 60, idleMs: 350 },
]

/** Whoever owns the control plane needs the bus to bring what it says. */
const liar: Temper = {
  drop: 5,
  delay: 20,
  hoard: 2,
  repeat: 10,
  damage: 2,
  mislead: 5,
  forge: 5,
  replay: 10,
  idleMs: 900,
}

export const temperOf = (seed: number, lying: boolean): Temper =>
  lying ? liar : (tempers[seed % tempers.length] ?? tempers[0])
