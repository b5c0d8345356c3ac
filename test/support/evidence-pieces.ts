/** For tests whose machines show one SNP report and nothing else. */
import type { Evidence, SnpPiece } from "../../schemas/messages/common.ts"

export const snpIn = (evidence: Evidence): SnpPiece => {
  const [piece, ...others] = evidence.pieces
  if (piece?.kind !== "snp" || others.length > 0) throw new Error("not one SNP report")
  return piece
}

export const snpEvidence = (shown: {
  readonly report: Uint8Array
  readonly certificates: readonly Uint8Array[]
}): Evidence => ({
  pieces: [{ kind: "snp", report: shown.report, certificates: [...shown.certificates] }],
})

/** The same evidence with another report or other certificates. */
export const withSnp = (evidence: Evidence, change: (piece: SnpPiece) => Partial<SnpPiece>): Evidence => {
  const piece = snpIn(evidence)
  return { pieces: [{ ...piece, ...change(piece) }] }
}
