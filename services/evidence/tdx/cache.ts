/**
 * Remembers what was verified, by the digest of all of its bytes, so that the next quote of the same platform costs two
 * signatures instead of ten. Roots, dates and revocations are looked at every time.
 */
import { Recent } from "../recent.ts"
import type { IntelCertificate } from "./certificate.ts"
import type { SignedIntelChain } from "./chain.ts"
import type { SignedCollateral } from "./collateral.ts"

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
