/** Is this control plane one that the guest's anchors name? The same verification and appraisal as any node's Evidence. */
import type { Trust } from "../common/config/anchors.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { appraise } from "../evidence/appraisal/appraise.ts"
import { verifyReport } from "../evidence/snp/verify.ts"
import type { EvidenceCheck } from "../make/control-plane.ts"
import { MakeError } from "../make/errors.ts"
import { encodeList, operatorKeysDigest, rootsDigest } from "../make/transcript.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

const none = new Uint8Array(0)

/** A control plane has no data plane to measure; its rule says so, instead of leaving the check out. */
const NO_DATAPLANE = "none"

export const controlCheck =
  (crypto: Crypto, trust: Trust, now: () => Date): EvidenceCheck =>
  (evidence, reportData) => {
    const { roots, measurements, chip_ids } = trust.controlPlane
    const [piece] = evidence.pieces
    const shown =
      piece?.kind === "snp" && evidence.pieces.length === 1 ? piece : { report: none, certificates: [] }
    const verified = verifyReport(shown, { roots, now: now(), crypto })
    const appraisal = appraise(
      verified,
      {
        platforms: ["sev-snp"],
        roots,
        assurance: roots.some((root) => root.emulated) ? "emulated" : "hardware",
        measurements,
        dataplane: [NO_DATAPLANE],
        chipIds: chip_ids,
        debug: false,
        migrationAgent: false,
        vmplMax: 0,
      },
      { reportData, dataplane: NO_DATAPLANE },
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
  rootsDigest: rootsDigest(
    crypto,
    workflow.document.roots.map(({ vendor, product, key_digest, emulated }) =>
      encodeList([vendor, product, key_digest, emulated ? 1 : 0]),
    ),
  ),
  workflowDigest: workflow.digest,
})
