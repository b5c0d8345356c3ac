/**
 * What every hashed, signed or derived byte string begins with. One label has one use; a message made for one use is
 * therefore never valid in another. A label is never reused for a changed layout: the layout's next version gets a new one.
 */
export const labels = {
  // Digests that are named in other messages.
  workflowDigest: "vouchsafe/v1/workflow-digest",
  operatorKeysDigest: "vouchsafe/v1/operator-keys-digest",
  rootsDigest: "vouchsafe/v1/roots-digest",
  controlDigest: "vouchsafe/v1/control-digest",
  resultDigest: "vouchsafe/v1/result-digest",
  resultSubject: "vouchsafe/v1/result-subject",
  resultLeaf: "vouchsafe/v1/result-leaf",
  kemKeyDigest: "vouchsafe/v1/kem-key-digest",
  evidenceDigest: "vouchsafe/v1/evidence-digest",
  list: "vouchsafe/v1/list",

  // Evidence.
  controlReportData: "vouchsafe/v1/control-plane-report-data",
  nodeReportData: "vouchsafe/v1/node-report-data",
  helloLeaf: "vouchsafe/v1/hello-leaf",
  challenge: "vouchsafe/v1/challenge",
  activation: "vouchsafe/v1/activation",

  // Keys.
  resultPair: "vouchsafe/v1/result-pair",
  edgeKeys: "vouchsafe/v1/edge-keys",
  releaseSeal: "vouchsafe/v1/release-seal",
  releaseHeader: "vouchsafe/v1/release-header",
  releasePacked: "vouchsafe/v1/release-packed",
  releaseState: "vouchsafe/v1/release-state",
  releaseNamed: "vouchsafe/v1/release-named",

  // Signatures.
  signedWorkflow: "vouchsafe/v1/signed-workflow",
  signedChallenge: "vouchsafe/v1/signed-challenge",
  signedResults: "vouchsafe/v1/signed-results",
  signedPull: "vouchsafe/v1/signed-pull",
  signedRelease: "vouchsafe/v1/signed-release",
  signedAck: "vouchsafe/v1/signed-ack",
  signedOrder: "vouchsafe/v1/signed-order",
  signedLeave: "vouchsafe/v1/signed-leave",
  signedWithdrawal: "vouchsafe/v1/signed-withdrawal",
} as const

export type Label = (typeof labels)[keyof typeof labels]

/** The labels that may stand under a signature. */
export type SignatureLabel = Extract<Label, `vouchsafe/v1/signed-${string}`>
