/**
 * Every bound in one place; units are in the names. The data plane's own sizes stand in `bpf/consts.h`, and a test holds
 * the two together.
 */
export const limits = {
  /** Largest NATS payload that any service accepts, before it looks inside. The server's max_payload is the same. */
  messageBytes: 1_048_576,
  /** Deepest nesting and most values of one msgpack message. */
  messageDepth: 16,
  messageItems: 131_072,
  /** Evidence: all pieces with their certificates and logs. */
  evidenceBytes: 65_536,
  /** Collateral: one certificate, revocation list or document, and how many pieces of it a bucket may hold. */
  collateralBytes: 65_536,
  collateralPieces: 2_048,
  certificateBytes: 8_192,
  certificatesPerChain: 4,
  /** Hardware roots of a workflow: vendors' keys, and an attestation key per node where TPMs are named one by one. */
  roots: 288,
  /** The signed workflow document. */
  workflowBytes: 524_288,
  stages: 64,
  nodes: 1_024,
  edges: 1_024,
  /** Pairs of nodes that one edge names. */
  edgePairs: 16_384,
  signers: 16,
  /** Hellos joined under one control-plane report, and how long the verifier gathers them. */
  batchLeaves: 4_096,
  batchGatherMs: 10,
  /** Values of a stage that one node's Evidence can show: its lists are shorter together. */
  shownValues: 64,
  /** A signed result's body; results that others are to follow soon wait this long for one signature over all, in a crowd longer. */
  resultBytes: 4_096,
  resultGatherMs: 50,
  resultCrowdMs: 200,
  /** A packed verdict with all its checks, and a record of one: evidence, workflow document, collateral and verdict. */
  verdictBytes: 393_216,
  recordBytes: 2_097_152,
  /** Verifiers that one control plane's Evidence names besides its own: those whose results its releaser believes. */
  otherVerifiers: 15,
  /** A leader's entry in the bucket lives this long unless it is renewed: a hint, see `services/key-releaser/leadership.ts`. */
  leaderMs: 1_000,
  /** No lease is granted on a result whose beacon is older, by the releaser's clock. Nodes attest anew every five minutes. */
  resultMs: 600_000,
  /** One value in the bucket of proofs: Evidence with the result or with the leaves that it stands for. */
  proofBytes: 212_992,
  /** A peer's Evidence counts, and keys that rest on it live, this long from when the node made the nonce in it. */
  peerEvidenceMs: 900_000,
  /** Nonces of its own that a node remembers, and proofs of peers that it has appraised or refused. */
  ownNonces: 64,
  peerProofs: 4_096,
  /** A challenge lives this long and is answered once. */
  challengeMs: 10_000,
  /** The releaser's beacon is renewed this often and believed this long. */
  beaconEveryMs: 1_000,
  beaconMs: 60_000,
  /** Leases: granted from the node's own request, asked for anew well before the end. */
  leaseMs: 30_000,
  renewEveryMs: 10_000,
  leaseMsMax: 300_000,
  /** How often a workflow may want its edges' keys anew. */
  rotateSecondsMin: 10,
  rotateSecondsMax: 604_800,
  /** A term may rise by at most 2^51 at once: some 17 years of 4,096 to the millisecond, and 2^63 has room for 4,096 such steps. */
  termStepMax: 2_251_799_813_685_248,
  /** Data plane: edge instances of one node, lanes of one edge, flows, security associations. */
  nodeEdges: 1_024,
  lanes: 16,
  flows: 65_536,
  flowsPerEdge: 16_384,
  associations: 4_096,
  policies: 4_096,
} as const
