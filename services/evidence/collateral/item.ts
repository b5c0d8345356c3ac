/** One piece of collateral as it is kept: verified up to a pinned root, with where it came from and until when it counts. */
import type { CollateralKind } from "./collateral.ts"

/** What is kept besides what a verdict may rest on: certificates that evidence often comes without. */
export type CollateralItemKind =
  | CollateralKind
  | "amd-certificate"
  | "intel-certificate"
  /** Of a TPM's maker. Not verified here: which roots count for TPMs is for the workflow to say. */
  | "tpm-certificate"

export interface CollateralItem {
  /**
   * What it is about, as one token (`amd-crl-Milan`, `intel-tcb-info-00806f050000`): there is one of each, and the newer
   * takes the place of the older. Also its key in the bucket and, with an ending, its file name.
   */
  readonly key: string
  readonly kind: CollateralItemKind
  /** DER, or Intel's JSON as it was received. */
  readonly bytes: Uint8Array
  /** SHA-256 of the bytes, in hex. */
  readonly sha256: string
  /** thisUpdate, issueDate or notBefore, as signed. */
  readonly issued: Date
  /** nextUpdate or notAfter, as signed: from then on it doesn't count any more. */
  readonly expires: Date
  /** CRL number or tcbEvaluationDataNumber, as signed; 0 for certificates. It never falls. */
  readonly number: bigint
  /** Where it came from, for people: a path, an address, `bucket`. */
  readonly source: string
}

/** Positive when `a` is the newer of two items of one key. */
export const compareAge = (
  a: Pick<CollateralItem, "number" | "issued">,
  b: Pick<CollateralItem, "number" | "issued">,
): number => (a.number === b.number ? a.issued.getTime() - b.issued.getTime() : a.number > b.number ? 1 : -1)

/** The name of an item's file. */
export const fileNameOf = ({ key, kind }: Pick<CollateralItem, "key" | "kind">): string => {
  if (kind === "intel-tcb-info" || kind === "intel-qe-identity") return `${key}.json`
  return kind === "amd-crl" || kind === "intel-root-crl" || kind === "intel-pck-crl"
    ? `${key}.crl`
    : `${key}.der`
}
