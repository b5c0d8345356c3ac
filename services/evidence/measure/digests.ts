/** Hashing in steps, and of inputs too large to hold. */
import { createHash, type Hash } from "node:crypto"
import type { Bank } from "../eventlog/bank.ts"

export const zeros48 = new Uint8Array(48)

/** A running hash; `end` may be called once. */
export class Running {
  readonly #hash: Hash

  constructor(bank: Bank) {
    this.#hash = createHash(bank)
  }

  add(...parts: readonly Uint8Array[]): this {
    for (const part of parts) this.#hash.update(part)
    return this
  }

  end(): Uint8Array {
    return Uint8Array.from(this.#hash.digest())
  }
}

/** A file that is measured as a whole and never parsed: its length, and its digests in those banks that were asked for. */
export interface FileDigests {
  readonly bytes: number
  readonly digests: ReadonlyMap<Bank, Uint8Array>
}

export const digestsOf = (content: Uint8Array, banks: readonly Bank[]): FileDigests => ({
  bytes: content.length,
  digests: new Map(banks.map((bank) => [bank, new Running(bank).add(content).end()])),
})

/** @throws TypeError when that bank wasn't asked for: the caller's mistake, not the input's */
export const digestIn = (file: FileDigests, bank: Bank): Uint8Array => {
  const found = file.digests.get(bank)
  if (found === undefined) throw new TypeError(`no ${bank} digest was made`)
  return found
}
