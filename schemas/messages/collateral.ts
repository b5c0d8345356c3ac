/** One piece of what vendors say beside evidence, as an operator hands it to a cluster: signed by the vendor, not by us. */
import { Schema } from "effect"
import { bytesMax, Count, text, Version } from "../fields.ts"
import { limits } from "../limits.ts"

export const CollateralPiece = Schema.Struct({
  v: Version,
  /** A certificate or revocation list in DER, or a document of Intel's in JSON. What it is, its bytes say. */
  bytes: bytesMax(limits.collateralBytes),
  /** Where the operator had it from, for people. */
  source: text(256),
  /** When it was known to be the newest, milliseconds since 1970. Readers never believe a time to come. */
  confirmed_ms: Count,
})
export type CollateralPiece = typeof CollateralPiece.Type
