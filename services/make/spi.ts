/** Security parameter indices (RFC 4303, 2.1), allotted per receiving node so that each names one association there. */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { MakeError } from "./errors.ts"

export const SPI_MIN = 256
export const SPI_MAX = 0xffff_ffff

/** @throws MakeError SPI for one that is reserved, or no u32 at all. */
export const expectSpi = (field: string, spi: number): void => {
  if (!Number.isInteger(spi) || spi < SPI_MIN || spi > SPI_MAX)
    throw new MakeError("SPI", field, `must be ${SPI_MIN}..${SPI_MAX}`)
}

/**
 * Counts up from a random start: an index comes back only after all others, long after every packet under its old
 * meaning is gone, and two releasers that don't know of each other hardly ever choose the same.
 */
export class SpiAllocator {
  readonly #used = new Set<number>()
  #next: number

  constructor(crypto: Crypto) {
    const random = crypto.randomBytes(4)
    this.#next = Math.max(SPI_MIN, new DataView(random.buffer, random.byteOffset).getUint32(0))
  }

  get size(): number {
    return this.#used.size
  }

  /** @throws MakeError LIMIT when the node would hold more associations than its maps can. */
  allocate(count: number): ReadonlyArray<number> {
    if (this.#used.size + count > limits.associations)
      throw new MakeError("LIMIT", "associations", `more than ${limits.associations} at one node`)
    const spis: Array<number> = []
    while (spis.length < count) {
      const spi = this.#next
      this.#next = spi === SPI_MAX ? SPI_MIN : spi + 1
      if (this.#used.has(spi)) continue
      this.#used.add(spi)
      spis.push(spi)
    }
    return spis
  }

  free(spis: ReadonlyArray<number>): void {
    for (const spi of spis) this.#used.delete(spi)
  }
}
