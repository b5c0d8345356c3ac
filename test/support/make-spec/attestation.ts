/** The first half of the run: from the hellos to the results. */
import {
  AttestationResult,
  type ControlEvidence,
  NodeEvidence as NodeEvidenceSchema,
} from "../../../schemas/messages/attestation.ts"
import type { Evidence } from "../../../schemas/messages/common.ts"
import type { HardwareRoot } from "../../../schemas/platforms.ts"
import { encode } from "../../../services/common/codec/index.ts"
import { native as crypto } from "../../../services/common/crypto/index.ts"
import { activationProof } from "../../../services/make/activation.ts"
import { challengeValue } from "../../../services/make/challenge.ts"
import { controlBinding } from "../../../services/make/control-plane.ts"
import { labels } from "../../../services/make/labels.ts"
import { buildTree, hashLeaf, helloLeaf } from "../../../services/make/merkle.ts"
import { evidenceDigest } from "../../../services/make/proof.ts"
import { kemKeyDigest, resultDigest, signResults } from "../../../services/make/result.ts"
import { offeredSuites } from "../../../services/make/suites.ts"
import {
  controlDigest,
  controlReportData,
  encodeFields,
  operatorKeysDigest,
  rootBytes,
  rootsDigest,
  workflowDigest,
} from "../../../services/make/transcript.ts"
import { workflowSigningBytes } from "../../../services/make/workflow-document.ts"
import { xwingFromSeed } from "../../../services/make/xwing.ts"
import { type NodeClaims, reportDataOf } from "../node-evidence.ts"
import { domain, drawn, session, term, type Vectors, vector } from "./inputs.ts"

const operatorSecret = drawn("operator")
const verifierSecret = drawn("verifier")
const document = "domain: hospital\nsuite: xwing-chacha20-poly1305 # ä\n"
const documentBytes = new TextEncoder().encode(document)
export const workflow = workflowDigest(crypto, documentBytes)

/** Keys of a node, all from its seed of X-Wing but the signing key. */
export const keysOf = (node: string) => {
  const seed = drawn(`seed of ${node}`)
  return { seed, signing: drawn(`signing key of ${node}`), ...xwingFromSeed(crypto, seed) }
}

const signWorkflow = () => {
  const signed = workflowSigningBytes(documentBytes)
  const signature = crypto.ed25519.sign(signed, crypto.ed25519.fromSecret(operatorSecret))
  return vector("workflow", { document, secret: operatorSecret }, { digest: workflow, signed, signature })
}

const operatorKeys = ["c", "a", "b", "a"].map((name) => drawn(`operator ${name}`))
const operators = operatorKeysDigest(crypto, operatorKeys, 2)

const key = (name: string) => Buffer.from(drawn(name)).toString("hex")
const amd: HardwareRoot = { vendor: "amd", product: "Genoa", key_digest: key("ARK"), emulated: false }
const hardwareRoots: ReadonlyArray<HardwareRoot> = [
  { vendor: "tpm", use: "ek", key_digest: key("EK"), emulated: true },
  amd,
  { vendor: "intel", key_digest: key("Intel"), emulated: false },
  { vendor: "aws", key_digest: key("AWS"), emulated: false },
  amd,
]
const rootLists = hardwareRoots.map(rootBytes)
const roots = rootsDigest(crypto, rootLists)

const askers = [
  ...["source", "relay", "sink", "spare"].map((id) => ({ role: "node", id, nonce: drawn(`N of ${id}`) })),
  { role: "releaser", id: "r2", nonce: drawn("N of r2") },
]
const leaves = askers.map(({ role, id, nonce }) => helloLeaf(role, id, nonce))
const tree = buildTree(crypto, leaves)
const answered = vector(
  "hellos",
  { hellos: askers },
  {
    leaves,
    hashes: leaves.map((leaf) => hashLeaf(crypto, leaf)),
    root: tree.root,
    paths: leaves.map((_, index) => tree.inclusion(index).path),
  },
)

const claims: ControlEvidence["claims"] = {
  domain,
  operators,
  roots,
  workflow,
  verifier_key: crypto.ed25519.fromSecret(verifierSecret).publicKey,
  verifiers: [drawn("verifier 3"), drawn("verifier 2")].toSorted(Buffer.compare),
  releaser_key: crypto.ed25519.fromSecret(drawn("releaser")).publicKey,
  term,
  merkle_root: tree.root,
  leaves: tree.size,
}

/** Short: nothing here looks into a piece. */
const snp: Evidence = {
  pieces: [{ kind: "snp", report: drawn("report", 80), certificates: [drawn("VCEK", 20), drawn("ASK", 21)] }],
}
const tpm = {
  kind: "tpm",
  attest: drawn("attest", 40),
  signature: drawn("quote", 41),
  ak: drawn("ak", 42),
  certificates: [drawn("AK's certificate", 20)],
  pcrs: [
    { bank: "sha256", index: 7, value: drawn("PCR 7") },
    { bank: "sha384", index: 11, value: drawn("PCR 11", 48) },
  ],
} as const
const everyPiece: Evidence = {
  pieces: [
    {
      kind: "tpm",
      attest: tpm.attest,
      signature: tpm.signature,
      ak: tpm.ak,
      certificates: [...tpm.certificates],
      hcl_report: drawn("HCL report", 30),
      pcrs: [...tpm.pcrs],
      boot_log: drawn("boot log", 31),
      ima_log: drawn("IMA log", 32),
    },
    { kind: "tdx", quote: drawn("quote", 80), certificates: [], event_log: drawn("event log", 33) },
    { kind: "nitro", document: drawn("document", 50) },
  ],
}
const withoutOptional: Evidence = {
  pieces: [
    { ...tpm, certificates: [], pcrs: [] },
    { kind: "tdx", quote: drawn("quote", 80), certificates: [drawn("PCK", 20)] },
    { kind: "snp", report: drawn("report", 80), certificates: [] },
  ],
}

const controlVector = (evidence: Evidence, change: Partial<ControlEvidence["claims"]> = {}) => {
  const message: ControlEvidence = {
    v: 1,
    kind: "control-evidence",
    control: "cp",
    claims: { ...claims, ...change },
    evidence,
  }
  const binding = controlBinding(message.claims)
  return vector(
    "control-evidence",
    { message },
    {
      report_data: controlReportData(crypto, binding),
      control_digest: controlDigest(crypto, binding, evidence),
    },
  )
}

export const nonces = (node: string) => ({
  verifier_nonce: drawn(`verifier's nonce for ${node}`),
  beacon: drawn("beacon"),
})

const claimsOf = (node: string): NodeClaims => {
  const { verifier_nonce, beacon } = nonces(node)
  const { dh, kem, signing } = keysOf(node)
  return {
    suites: [...offeredSuites],
    domain,
    workflow,
    control: controlDigest(crypto, controlBinding(claims), snp),
    nonce: drawn(`N of ${node}`),
    challenge: challengeValue(crypto, verifier_nonce, beacon),
    node,
    session: session(node),
    signing_key: crypto.ed25519.fromSecret(signing).publicKey,
    dh_key: dh.publicKey,
    kem_key: kem.publicKey,
    dataplane: drawn("data plane", 48),
    boot: drawn(`boot id of ${node}`, 16),
  }
}

const nodeVector = (node: string, change: Partial<NodeClaims> = {}) => {
  const message = {
    v: 1 as const,
    kind: "node-evidence" as const,
    ...nonces(node),
    claims: { ...claimsOf(node), ...change },
    evidence: snp,
  }
  const credential = drawn(`credential of ${node}`)
  const report_data = reportDataOf(message.claims)
  const activation = activationProof(crypto, credential, report_data)
  const packed = encode(NodeEvidenceSchema, { ...message, activation })
  return vector(
    "node-evidence",
    { message, credential },
    {
      challenge: message.claims.challenge,
      report_data,
      tpm_extra_data: crypto.sha256(report_data),
      activation,
      packed,
      evidence_digest: evidenceDigest(crypto, packed),
      kem_key_digest: kemKeyDigest(crypto, message.claims.kem_key),
    },
  )
}

const bodyOf = (node: string, more: Partial<AttestationResult> = {}): AttestationResult => {
  const { suites: _, control: __, nonce: ___, challenge: ____, kem_key, ...said } = claimsOf(node)
  return {
    v: 1,
    ...said,
    stage: "source",
    assurance: "emulated",
    platform: "sev-snp Genoa",
    chip: drawn(`chip of ${node}`, 64),
    launch: {},
    kem_key_digest: kemKeyDigest(crypto, kem_key),
    values: [],
    verifier: "v1",
    control: "cp",
    ...nonces(node),
    issued_ms: 1_795_406_400_123,
    appraisal: drawn(`appraisal of ${node}`),
    ...more,
  }
}

const bodies = [
  bodyOf("source", {
    launch: {
      report_id: drawn("REPORT_ID"),
      tpm: { resets: 12, restarts: 3, clock_ms: 9_007_199_254_740_993n, safe: true },
    },
    evidence: drawn("evidence digest"),
  }),
  bodyOf("relay"),
  bodyOf("sink", { platform: "tdx", values: [drawn("measurement", 48)] }),
]
export const results = signResults(
  crypto,
  crypto.ed25519.fromSecret(verifierSecret),
  bodies.map((body) => ({
    domain,
    workflow,
    node: body.node,
    dhKey: body.dh_key,
    body: encode(AttestationResult, body),
  })),
)
/** @returns digest of the result of a node of this run */
export const resultOf = (node: string): Uint8Array => {
  const result = results[bodies.findIndex((body) => body.node === node)]
  if (result === undefined) throw new Error(`no result of ${node}`)
  return resultDigest(crypto, result.body)
}
const resultsVector = () => {
  const digests = results.map(({ body }) => resultDigest(crypto, body))
  const hashes = results.map(({ subject }, i) =>
    hashLeaf(crypto, encodeFields(labels.resultLeaf, subject, digests[i] ?? new Uint8Array(0))),
  )
  const { key, root, size, signature } = results[0]?.batch ?? { root: new Uint8Array(0), size: 0 }
  return vector(
    "results",
    { secret: verifierSecret, bodies },
    {
      bodies: results.map(({ body }) => body),
      subjects: results.map(({ subject }) => subject),
      digests,
      hashes,
      root,
      paths: results.map(({ path }) => path),
      key,
      signed: encodeFields(labels.signedResults, root, size),
      signature,
    },
  )
}

export const attestationVectors = (): Vectors => ({
  workflow: signWorkflow(),
  "operator keys": vector("operator-keys", { keys: operatorKeys, threshold: 2 }, { digest: operators }),
  roots: vector("roots", { roots: hardwareRoots }, { roots: rootLists, digest: roots }),
  hellos: answered,
  "control-plane evidence": controlVector(snp),
  "control-plane evidence of every kind": controlVector(everyPiece, {
    verifiers: [],
    term: 0n,
    leaves: 4_096,
  }),
  "control-plane evidence without what may be absent": controlVector(withoutOptional, {
    term: 2n ** 64n - 1n,
  }),
  "node evidence": nodeVector("source"),
  "node evidence without a KEM key": nodeVector("relay", {
    suites: ["chacha20-poly1305"],
    kem_key: new Uint8Array(0),
  }),
  results: resultsVector(),
})
