/**
 * Remembers what was verified, by the digest of all of its bytes, so that the next quote of the same platform costs two
 * signatures instead of ten. Roots, dates and revocations are looked at every time.
 */
import type { IntelCertificate } from "./certificate.ts"
import type { SignedIntelChain } from "./chain.ts"
import type { SignedCollateral } from "./collateral.ts"

/** Keeps at most `most` values; the one longest unused goes first. */
export class Recent<T> {
  readonly #values = new Map<string, T>()
  readonly #most: number

  constructor(most: number) {
    this.#most = most
  }

  /** The value known by this key, or else what `make` gives. Nothing is kept when it throws. */
  of(key: string, make: () => T): T {
    const known = this.#values.get(key)
    const value = known ?? make()
    this.#values.delete(key)
    this.#values.set(key, value)
    const [oldest] = this.#values.keys()
    if (this.#values.size > this.#most && oldest !== undefined) this.#values.delete(oldest)
    return value
  }
}

export class TdxCache {
  /** Issuers and signers, which all platforms share. */
  readonly certificates: Recent<IntelCertificate>
  readonly chains: Recent<SignedIntelChain>
  readonly collateral: Recent<SignedCollateral>

  constructor(chainsMost = 1_024, collateralMost = 64) {
    this.certificates = new Recent(64)
    this.chains = new Recent(chainsMost)
    this.collateral = new Recent(collateralMost)
  }
}
