/** Is this control plane one that the guest's anchors name? The same verification and appraisal as any node's Evidence. */
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { appraise } from "../evidence/appraisal/appraise.ts"
import { tpmExtraData } from "../evidence/appraisal/report-data.ts"
import { type CollateralLookup, EvidenceCaches, verifyPieces } from "../evidence/appraisal/verify-pieces.ts"
import type { EvidenceCheck } from "../make/control-plane.ts"
import { MakeError } from "../make/errors.ts"
import { operatorKeysDigest, rootBytes, rootsDigest } from "../make/transcript.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

export interface ControlCheckOptions {
  /** What vendors say of the control plane's hardware: none is needed for SNP, all of it for TDX. */
  readonly collateral?: ((now: Date) => CollateralLookup) | undefined
  readonly caches?: EvidenceCaches
}

/** A guest meets the same control plane with every session: its certificates are read once for each set of anchors. */
const cachesOf = new WeakMap<Trust, EvidenceCaches>()

const cachesFor = (trust: Trust): EvidenceCaches => {
  const known = cachesOf.get(trust) ?? new EvidenceCaches()
  cachesOf.set(trust, known)
  return known
}

/** A control plane has no data plane to measure: the anchors ask for none. */
export const controlCheck =
  (
    crypto: Crypto,
    trust: Trust,
    now: () => Date,
    { collateral, caches }: ControlCheckOptions = {},
  ): EvidenceCheck =>
  (evidence, reportData) => {
    const at = now()
    const { roots } = trust.controlPlane
    const appraisal = appraise(
      verifyPieces(evidence, {
        roots,
        now: at,
        crypto,
        ...(collateral && { collateral: collateral(at) }),
        caches: caches ?? cachesFor(trust),
      }),
      trust.controlPlane,
      { reportData, extraData: tpmExtraData(reportData) },
      at,
    )
    if (appraisal.verdict !== "accepted") {
      const { reason } = appraisal
      throw new MakeError(
        "NOT_VOUCHED",
        `control.${reason?.name ?? "evidence"}`,
        `found ${reason?.found ?? "nothing"}, this guest's anchors want ${reason?.wanted ?? "more"}`.slice(
          0,
          400,
        ),
      )
    }
  }

/** What this guest knows of the control plane without asking anybody: the digests that its Evidence must bind. */
export const controlTrust = (crypto: Crypto, trust: Trust, workflow: VerifiedWorkflow) => ({
  domain: trust.domain,
  operatorKeysDigest: operatorKeysDigest(crypto, trust.operatorKeys, trust.threshold),
  rootsDigest: rootsDigest(crypto, workflow.document.roots.map(rootBytes)),
  workflowDigest: workflow.digest,
})
