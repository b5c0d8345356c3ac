/** What an anti-replay window of 2,048 bits, 1,984 of them usable, must answer. Used for the kernel's build and the host's. */
export const USABLE = 1984n
const TOP = 1n << 64n
const WRAP = 1n << 32n

export type Step = readonly [sequence: bigint, accepted: boolean]

const up = (from: bigint, to: bigint, accepted: boolean): ReadonlyArray<Step> =>
  Array.from({ length: Number(to - from + 1n) }, (_, i): Step => [from + BigInt(i), accepted])
const down = (from: bigint, to: bigint, accepted: boolean): ReadonlyArray<Step> =>
  up(to, from, accepted).toReversed()

export const exactSteps: ReadonlyArray<readonly [title: string, steps: ReadonlyArray<Step>]> = [
  [
    "one after another, then by jumps",
    [
      [0n, false],
      [1n, true],
      [1n, false],
      [9n, true],
      [8n, true],
      [7n, true],
      [7n, false],
      [2000n, true],
      [2000n - USABLE, false],
      [2001n - USABLE, true],
      [2001n - USABLE, false],
      [1999n, true],
      [9n, false],
      [0n, false],
      [USABLE * 3n, true],
      [2002n, false],
      [2000n, false],
      [USABLE * 2n, false],
      [USABLE * 2n + 1n, true],
      [USABLE * 3n - 1n, true],
      [USABLE * 3n, false],
    ],
  ],
  ["a whole window forwards, then again", [...up(1n, USABLE, true), ...up(1n, USABLE, false)]],
  [
    "a whole window backwards",
    [
      [USABLE, true],
      ...down(USABLE - 1n, 1n, true),
      ...down(USABLE, 0n, false),
      [USABLE + 1n, true],
      [1n, false],
    ],
  ],
  [
    "the edge moves by one",
    [
      [USABLE + 1n, true],
      [1n, false],
      [2n, true],
      [USABLE + 2n, true],
      [2n, false],
      [3n, true],
    ],
  ],
  [
    "words of the ring are cleared when they are entered",
    [...up(1n, 2048n, true), ...up(2049n, 6200n, true), ...up(4300n, 6200n, false)],
  ],
  [
    "a jump over the whole ring clears it all",
    [
      ...up(1n, 130n, true),
      [130n + 2048n, true],
      ...up(130n + 2048n - USABLE + 1n, 130n + 2047n, true),
      ...up(130n + 2048n - USABLE + 1n, 130n + 2048n, false),
    ],
  ],
  [
    "a jump by a multiple of the ring",
    [
      [5n, true],
      [5n + 2048n, true],
      [5n + 4n * 2048n, true],
      [5n + 4n * 2048n - 1n, true],
      [5n + 2048n, false],
      [5n + 4n * 2048n, false],
    ],
  ],
  [
    "over 2^32",
    [
      [WRAP - 2n, true],
      [WRAP, true],
      [WRAP - 1n, true],
      [WRAP - 2n, false],
      [WRAP + 1n, true],
      [WRAP, false],
      [WRAP + USABLE - 1n, true],
      [WRAP - 1n, false],
      [WRAP + 2n, true],
      [WRAP, false],
    ],
  ],
  [
    "at the end of all numbers",
    [
      [TOP - 2n, true],
      [TOP - 1n, true],
      [TOP - 1n, false],
      [TOP - USABLE, true],
      [TOP - USABLE - 1n, false],
      [0n, false],
      [1n, false],
    ],
  ],
]

/** Highest authentic number, low half that arrives, number that it must mean. */
export const reconstructions: ReadonlyArray<
  readonly [title: string, top: bigint, low: bigint, sequence: bigint]
> = [
  ["nothing yet, the first packet", 0n, 1n, 1n],
  ["nothing yet, a far one: there is no subspace before the first", 0n, WRAP - 1n, WRAP - 1n],
  ["within the window", 5000n, 4990n, 4990n],
  ["ahead", 5000n, 900_000n, 900_000n],
  ["the window's last place", 5000n, 5000n - USABLE + 1n, 5000n - USABLE + 1n],
  ["below the window means the next subspace", 5000n, 5000n - USABLE, WRAP + 5000n - USABLE],
  ["just before the wrap, just after it arrives", WRAP - 1n, 0n, WRAP],
  ["long after the wrap", WRAP - 1n, 70_000n, WRAP + 70_000n],
  ["wrapped, and one from before comes late", WRAP + 3n, WRAP - 1n, WRAP - 1n],
  [
    "wrapped, the oldest from before that counts",
    WRAP + 3n,
    WRAP + 3n - USABLE + 1n,
    WRAP + 3n - USABLE + 1n,
  ],
  ["wrapped, one older than that means far ahead", WRAP + 3n, WRAP + 3n - USABLE, 2n * WRAP + 3n - USABLE],
  ["the window ends exactly at the wrap", WRAP + USABLE - 1n, 0n, WRAP],
  ["and one past it means the next", WRAP + USABLE - 1n, WRAP - 1n, 2n * WRAP - 1n],
  ["the window one short of the wrap reaches back by one", WRAP + USABLE - 2n, WRAP - 1n, WRAP - 1n],
  ["many subspaces on", 7n * WRAP + 10n, 5n, 7n * WRAP + 5n],
  ["many subspaces on, back over the wrap", 7n * WRAP + 10n, WRAP - 5n, 7n * WRAP - 5n],
  ["many subspaces on, over the next wrap", 8n * WRAP - 3n, 2n, 8n * WRAP + 2n],
]
