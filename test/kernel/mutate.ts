/** Frames that are nearly right: copies of good ones with bytes changed, cut, grown, moved or mixed, the same in each run. */

/** A repeatable source of numbers: xorshift32. */
export class Chance {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1
  }

  /** A number from 0 up to, without, `below`. */
  upTo(below: number): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return (this.#state >>> 0) % below
  }

  one(of: ReadonlyArray<number>): number {
    return of[this.upTo(of.length)] ?? 0
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.upTo(256))
  }
}

const WORDS = [
  0, 1, 7, 8, 19, 20, 28, 40, 576, 1280, 1500, 4499, 4500, 4515, 4516, 0x3fff, 0x4000, 0x8000, 0xffff,
]
const OCTETS = [
  0, 1, 2, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 132, 135, 0x45, 0x46, 0x60, 0x7f, 0x80, 0xff,
]

/** Frames that reach a test run have an Ethernet header and something behind it. */
const SHORTEST = 15

/** Changes copies of frames in one buffer, which each call overwrites. */
export class Mutator {
  readonly #frame: Uint8Array
  readonly #chance: Chance
  #length = 0

  constructor(chance: Chance, longest: number) {
    this.#chance = chance
    this.#frame = new Uint8Array(longest)
  }

  /**
   * A copy of `base` with up to four changes, most of them in its first 96 bytes; now and then with none. `other` lends
   * bytes. Valid until the next call.
   */
  mutate(base: Uint8Array, other: Uint8Array): Uint8Array {
    this.#frame.set(base)
    this.#length = base.length
    const changes = this.#chance.one([0, 1, 1, 1, 1, 1, 2, 2, 3, 4])
    for (let i = 0; i < changes; i++) this.#change(other)
    return this.#frame.subarray(0, this.#length)
  }

  #at(width: number): number {
    const room = Math.max(1, this.#length - width + 1)
    return this.#chance.upTo(this.#chance.upTo(4) === 0 ? room : Math.min(room, 96))
  }

  #change(other: Uint8Array): void {
    const [frame, chance] = [this.#frame, this.#chance]
    switch (chance.upTo(10)) {
      case 0:
      case 1:
      case 2: {
        const at = this.#at(1)
        frame[at] = (frame[at] ?? 0) ^ (1 << chance.upTo(8))
        return
      }
      case 3:
        frame[this.#at(1)] = chance.upTo(256)
        return
      case 4:
        frame[this.#at(1)] = chance.one(OCTETS)
        return
      case 5: {
        const at = this.#at(2)
        const word = chance.upTo(3) === 0 ? this.#length - at : chance.one(WORDS)
        frame[at] = word >> 8
        if (at + 1 < this.#length) frame[at + 1] = word
        return
      }
      case 6:
        this.#length = Math.max(
          SHORTEST,
          this.#length - 1 - chance.upTo(chance.upTo(2) === 0 ? 4 : this.#length),
        )
        return
      case 7: {
        const more = Math.min(1 + chance.upTo(chance.upTo(4) === 0 ? 64 : 4), frame.length - this.#length)
        for (let i = 0; i < more; i++) frame[this.#length + i] = chance.upTo(256)
        this.#length += more
        return
      }
      case 8: {
        const [from, to, length] = [this.#at(1), this.#at(1), 1 + chance.upTo(32)]
        const end = Math.min(from + length, this.#length, from + this.#length - to)
        frame.copyWithin(to, from, end)
        return
      }
      default: {
        const at = this.#at(1)
        const end = Math.min(at + 1 + chance.upTo(48), this.#length, other.length)
        if (end > at) frame.set(other.subarray(at, end), at)
      }
    }
  }
}
