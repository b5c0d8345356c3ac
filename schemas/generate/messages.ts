/** Every message by name, with an example that fills in every field: golden vectors and tests are made from these. */
import type { Schema } from "effect"
import { EAR_PROFILE, Ear } from "../ear.ts"
import * as attestation from "../messages/attestation.ts"
import * as collateral from "../messages/collateral.ts"
import * as common from "../messages/common.ts"
import * as event from "../messages/event.ts"
import * as order from "../messages/order.ts"
import * as peer from "../messages/peer.ts"
import * as record from "../messages/record.ts"
import * as release from "../messages/release.ts"
import * as stats from "../messages/stats.ts"
import * as withdrawal from "../messages/withdrawal.ts"
import type { SevSnp } from "../platforms.ts"
import * as workflow from "../workflow.ts"

export interface Message {
  readonly schema: Schema.ConstraintCodec<unknown, unknown, never, never>
  readonly example: unknown
}

const message = <T>(schema: Schema.ConstraintCodec<T, T, never, never>, example: T): Message => ({
  schema,
  example,
})

/** Bytes that differ along the field and between fields. */
const bytes = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7 + (i >> 5)) & 0xff)

const signed: common.Signed = { v: 1, key: bytes(32, 1), body: bytes(40, 2), signature: bytes(64, 3) }
const evidence: common.Evidence = {
  pieces: [
    { kind: "snp", report: bytes(300, 4), certificates: [bytes(20, 5), bytes(21, 6)] },
    {
      kind: "tpm",
      attest: bytes(90, 50),
      signature: bytes(72, 51),
      ak: bytes(80, 52),
      certificates: [bytes(22, 53), bytes(23, 54)],
      hcl_report: bytes(24, 55),
      pcrs: [{ bank: "sha256", index: 7, value: bytes(32, 56) }],
      boot_log: bytes(25, 57),
      ima_log: bytes(26, 58),
    },
    { kind: "tdx", quote: bytes(310, 59), certificates: [bytes(27, 60)], event_log: bytes(28, 61) },
    { kind: "nitro", document: bytes(29, 62) },
  ],
}
const refusal: common.Refusal = {
  v: 1,
  kind: "refused",
  by: "verifier-v1",
  code: "MEASUREMENT_UNKNOWN",
  field: "evidence.report.measurement",
  message: "not one of the measurements of stage source",
}
const check: common.Check = { name: "measurement", result: "passed", found: "aa55", wanted: "aa55" }
const controlEvidence: attestation.ControlEvidence = {
  v: 1,
  kind: "control-evidence",
  control: "cp",
  claims: {
    domain: "lab",
    operators: bytes(32, 7),
    roots: bytes(32, 8),
    workflow: bytes(32, 9),
    verifier_key: bytes(32, 10),
    verifiers: [bytes(32, 70), bytes(32, 71)],
    releaser_key: bytes(32, 11),
    term: 18_446_744_073_709_551_615n,
    merkle_root: bytes(32, 12),
    leaves: 3,
  },
  evidence,
}
const offer: attestation.Offer = {
  v: 1,
  kind: "offer",
  control: controlEvidence,
  index: 2,
  path: [bytes(32, 24), bytes(32, 25)],
  challenge: signed,
}
const nodeEvidence: attestation.NodeEvidence = {
  v: 1,
  kind: "node-evidence",
  verifier_nonce: bytes(32, 13),
  beacon: bytes(32, 14),
  claims: {
    suites: ["xwing-chacha20-poly1305", "chacha20-poly1305"],
    domain: "lab",
    workflow: bytes(32, 9),
    control: bytes(32, 15),
    nonce: bytes(32, 16),
    challenge: bytes(32, 17),
    node: "n1",
    session: bytes(16, 18),
    signing_key: bytes(32, 19),
    dh_key: bytes(32, 20),
    kem_key: bytes(1_184, 21),
    dataplane: bytes(48, 22),
    boot: bytes(16, 23),
  },
  evidence,
}
const snpExample: SevSnp = {
  measurements: ["0b".repeat(48)],
  policy: { debug: false, migration_agent: false, smt: false, single_socket: false, vmpl_max: 0 },
  tcb: {
    minimum: [
      { bootloader: 3, tee: 0, snp: 8, microcode: 115, fmc: 0 },
      { snp: 23, since: "2026-10-01", advisory: "AMD-SB-3019" },
    ],
    grace_days: 30,
    advisories: [{ id: "AMD-SB-3019", until: "2026-12-31" }],
  },
  revocation: true,
  provisional_firmware: false,
  host_data: ["20".repeat(32)],
  family_id: ["21".repeat(16)],
  image_id: ["22".repeat(16)],
  id_keys: ["23".repeat(48)],
  author_keys: ["24".repeat(48)],
  vlek_of: ["AWS"],
}
const workflowExample: workflow.Workflow = {
  workflow: "example",
  domain: "lab",
  version: 1,
  not_after: "2027-01-01T00:00:00Z",
  suite: "xwing-chacha20-poly1305",
  lease_seconds: 30,
  rotate_seconds: 3_600,
  peers: "evidence",
  roots: [
    { vendor: "amd", product: "Milan", key_digest: "0a".repeat(32), emulated: true },
    { vendor: "intel", key_digest: "1d".repeat(32), emulated: false },
    { vendor: "tpm", use: "issuer", key_digest: "1e".repeat(32), emulated: false },
    { vendor: "tpm", use: "ak", key_digest: "1f".repeat(32), emulated: false },
    { vendor: "aws", key_digest: "2f".repeat(32), emulated: false },
  ],
  stages: {
    source: {
      assurance: "emulated",
      platforms: ["sev-snp"],
      sev_snp: snpExample,
      dataplane: ["0c".repeat(48)],
      until: { ["0b".repeat(48)]: "2026-12-31T00:00:00Z" },
    },
    transform: {
      assurance: "tpm-only",
      platforms: ["tdx", "tdx+tpm", "tpm", "nitro"],
      tdx: {
        mrtd: ["10".repeat(48)],
        rtmrs: {
          0: ["11".repeat(48)],
          1: ["12".repeat(48)],
          2: ["13".repeat(48)],
          3: ["14".repeat(48)],
        },
        mrseam: ["15".repeat(48)],
        mr_config_id: ["16".repeat(48)],
        mr_owner: ["17".repeat(48)],
        mr_owner_config: ["18".repeat(48)],
        mr_service_td: ["00".repeat(48)],
        attributes: {
          sept_ve_disable: true,
          migratable: false,
          pks: true,
          key_locker: false,
          perfmon: false,
        },
        xfam: ["00000000000702e7"],
        secure_boot: true,
        tcb: {
          statuses: ["UpToDate", "SWHardeningNeeded"],
          minimum_evaluation: 17,
          minimum_date: "2024-03-13",
          grace_days: 30,
          advisories: [{ id: "INTEL-SA-00837", until: "2026-12-31" }],
        },
      },
      tpm: {
        bank: "sha256",
        pcrs: { "4": ["19".repeat(32)], "7": ["1a".repeat(32)] },
        secure_boot: true,
        images: ["1b".repeat(32)],
      },
      nitro: { document: "tpm", pcrs: { "0": ["1c".repeat(48)] } },
      dataplane: ["0c".repeat(48)],
    },
  },
  nodes: [
    {
      id: "n1",
      stage: "source",
      chip: { sev_snp: "0d".repeat(64) },
      address: "10.77.0.1",
      address6: "fd77::1",
      wire: "2001:db8:99::11",
    },
  ],
  edges: [
    { id: "raw", from: "source", to: "transform", protocol: "tcp", port: 5_000, lanes: 1, peers: "results" },
  ],
  revoked: {
    nodes: ["n9"],
    chips: [{ sev_snp: "0f".repeat(64) }],
    measurements: ["0e".repeat(48)],
  },
}

const batch = { key: bytes(32, 35), root: bytes(32, 36), size: 2, signature: bytes(64, 37) }
const signedResult = {
  v: 1 as const,
  batch,
  index: 0,
  path: [bytes(32, 38)],
  subject: bytes(32, 39),
  body: bytes(24, 40),
}

/** Messages that travel as msgpack, alone or as the body of a signed one. */
export const messages = {
  hello: message(attestation.Hello, {
    v: 1,
    domain: "lab",
    node: "n1",
    session: bytes(16, 18),
    nonce: bytes(32, 16),
    term: 3_687_000_000_000_001n,
    endorsement: { ek: bytes(24, 80), ak: bytes(24, 81) },
  }),
  "hello-reply": message(attestation.HelloReply, offer),
  challenge: message(attestation.Challenge, {
    v: 1,
    domain: "lab",
    node: "n1",
    session: bytes(16, 18),
    verifier: "v1",
    verifier_nonce: bytes(32, 13),
    beacon: bytes(32, 14),
    workflow: bytes(32, 9),
    credential: { blob: bytes(24, 82), secret: bytes(24, 83) },
  }),
  "attest-control": message(attestation.AttestControl, {
    v: 1,
    kind: "attest-control",
    merkle_root: bytes(32, 12),
    leaves: 3,
  }),
  "attest-node": message(attestation.AttestNode, {
    v: 1,
    kind: "attest-node",
    session: bytes(16, 18),
    control: bytes(32, 10),
    challenge: bytes(32, 11),
  }),
  "control-evidence": message(attestation.ControlEvidence, controlEvidence),
  "node-evidence": message(attestation.NodeEvidence, nodeEvidence),
  "attestation-result": message(attestation.AttestationResult, {
    v: 1,
    domain: "lab",
    workflow: bytes(32, 9),
    node: "n1",
    session: bytes(16, 18),
    stage: "source",
    assurance: "emulated",
    platform: "sev-snp Milan",
    chip: bytes(64, 26),
    boot: bytes(16, 23),
    launch: {
      report_id: bytes(32, 78),
      report_id_ma: bytes(32, 79),
      tpm: { resets: 12, restarts: 3, clock_ms: 9_007_199_254_740_993n, safe: true },
    },
    signing_key: bytes(32, 19),
    dh_key: bytes(32, 20),
    kem_key_digest: bytes(32, 21),
    dataplane: bytes(48, 22),
    values: [bytes(48, 73)],
    verifier: "v1",
    control: "cp",
    verifier_nonce: bytes(32, 13),
    beacon: bytes(32, 14),
    issued_ms: 1_795_406_400_123,
    appraisal: bytes(32, 28),
    evidence: bytes(32, 73),
  }),
  "evidence-reply": message(attestation.EvidenceReply, { v: 1, kind: "result", result: signedResult }),
  refusal: message(common.Refusal, refusal),
  signed: message(common.Signed, signed),
  beacon: message(release.Beacon, { v: 1, releaser: "r1", control: "cp", term: 7n, nonce: bytes(32, 14) }),
  presence: message(release.Presence, {
    v: 1,
    role: "verifier",
    control: "cp",
    key: bytes(32, 10),
    term: 7n,
  }),
  leader: message(release.Leader, { v: 1, releaser: "r1", control: "cp", term: 7n }),
  pull: message(release.Pull, {
    v: 1,
    node: "n1",
    session: bytes(16, 18),
    nonce: bytes(32, 27),
    result: signedResult,
    kem_key: bytes(1_184, 21),
  }),
  release: message(release.Release, {
    v: 1,
    domain: "lab",
    workflow: bytes(32, 9),
    node: "n1",
    session: bytes(16, 18),
    releaser: "r1",
    term: 7n,
    sequence: 1n,
    nonce: bytes(32, 27),
    suite: "xwing-chacha20-poly1305",
    enc: bytes(1_120, 28),
    ciphertext: bytes(70, 29),
    state: bytes(32, 37),
  }),
  "release-payload": message(release.ReleasePayload, {
    v: 1,
    lease_ms: 30_000,
    batches: [
      {
        key: bytes(32, 23),
        size: 2,
        signature: bytes(64, 24),
        proof: bytes(32, 34),
        peers: [{ node: "n2", dh_key: bytes(32, 32), result: bytes(32, 33), index: 1 }],
      },
    ],
    edges: [
      {
        instance: "raw:n1:n2",
        term: 7n,
        epoch: 1n,
        state: "install",
        peer: "n2",
        inbound: [256, 65_536],
        outbound: [4_294_967_295],
        secret: bytes(32, 30),
      },
    ],
    ended: [{ instance: "packed:n1:n3", term: 6n }],
  }),
  leave: message(release.Leave, { v: 1, node: "n1", session: bytes(16, 18) }),
  order: message(order.Order, {
    v: 1,
    domain: "lab",
    order: "rotate",
    edge: "raw:n1:n2",
    issued_ms: 1_790_000_000_000,
    nonce: bytes(32, 70),
  }),
  ack: message(release.Ack, {
    v: 1,
    node: "n1",
    session: bytes(16, 18),
    term: 7n,
    sequence: 1n,
    boot_ns: 9_007_199_254_740_993n,
    edges: [{ instance: "raw:n1:n2", term: 7n, epoch: 1n, state: "active", exporter: bytes(16, 31) }],
  }),
  fresh: message(peer.Fresh, { v: 1, node: "n1", nonce: bytes(32, 16) }),
  renew: message(peer.Renew, { v: 1, node: "n1" }),
  "node-proof": message(peer.NodeProof, {
    v: 1,
    kind: "node",
    body: bytes(24, 40),
    evidence: bytes(300, 74),
  }),
  "control-proof": message(peer.ControlProof, {
    v: 1,
    kind: "control",
    control: controlEvidence,
    leaves: [bytes(32, 75), bytes(32, 76), bytes(32, 77)],
  }),
  withdrawal: message(withdrawal.Withdrawal, {
    v: 1,
    domain: "lab",
    workflow: bytes(32, 9),
    verifier: "v1",
    sequence: 3n,
    results: [
      {
        node: "n1",
        session: bytes(16, 18),
        result: bytes(32, 72),
        beacon: bytes(32, 14),
        code: "ASK_REVOKED",
        field: "genuine",
      },
    ],
  }),
  event: message(event.Event, {
    v: 1,
    specversion: "1.0",
    id: "01234567-89ab-4cde-8f01-23456789abcd",
    source: "/vouchsafe/verifier-v1",
    type: "vouchsafe.attestation.accepted",
    subject: "n1",
    time: "2026-11-23T04:00:00.000Z",
    data: {
      node: "n1",
      stage: "source",
      chip: { sev_snp: "0d".repeat(64) },
      platform: "sev-snp Milan",
      emulated: true,
      dataplane: "0c".repeat(48),
      peer: "n2",
      edge: "raw:n1:n2",
      term: 7n,
      epoch: 9_223_372_036_854_775_808n,
      workflow: "0e".repeat(32),
      code: "ACCEPTED",
      field: "",
      message: "every check passed \u2713",
      unrecorded: 3,
      checks: [check, { ...check, name: "debug", result: "failed" }],
      elapsed_ms: 12,
    },
  }),
  stats: message(stats.Stats, {
    v: 1,
    node: "n1",
    stage: "source",
    state: "released",
    backend: "tc",
    dataplane: "0c".repeat(48),
    edges: [
      {
        instance: "raw:n1:n2",
        from: "n1",
        to: "n2",
        peer: "n2",
        role: "initiator",
        state: "active",
        term: 7n,
        epoch: 1n,
        lease_left_ms: 29_500,
        sealed_packets: 4_294_967_295,
        sealed_bytes: 4_294_967_296,
        opened_packets: 0,
        opened_bytes: 9_007_199_254_740_991,
        rekeys: 3,
        drops: { REPLAYED: 2 },
      },
    ],
    verdicts: { SEALED: 127, NO_POLICY: 128 },
  }),
  "collateral-piece": message(collateral.CollateralPiece, {
    v: 1,
    bytes: bytes(120, 63),
    source: "https://kdsintf.amd.com/vcek/v1/Milan/crl",
    confirmed_ms: 1_790_000_000_000,
  }),
  "verdict-record": message(record.VerdictRecord, {
    v: 1,
    kind: "verdict-record",
    at_ms: 1_790_000_000_000,
    workflow: { digest: bytes(32, 9), document: new TextEncoder().encode("workflow: example\n") },
    subject: {
      kind: "node",
      evidence: nodeEvidence,
      asked: {
        node: "n1",
        session: bytes(16, 18),
        nonce: bytes(32, 16),
        challenge: bytes(32, 17),
        control: bytes(32, 15),
      },
    },
    consulted: [
      { of: "snp Milan", items: [{ name: "crl", bytes: bytes(120, 63) }] },
      {
        of: "tdx 00806f050000 platform",
        items: [],
        stale: {
          field: "collateral.tcbInfo",
          found: "issued 2026-01-01",
          wanted: "within the last 604800 s",
        },
      },
    ],
    verdict: bytes(200, 64),
  }),
  "recorded-verdict": message(record.RecordedVerdict, {
    v: 1,
    verdict: "refused",
    code: "DEBUG",
    workflow: bytes(32, 9),
    stage: "source",
    node: "n1",
    at_ms: 1_790_000_000_000,
    platform: "sev-snp Milan",
    assurance: "hardware",
    checks: [check, { ...check, name: "debug", result: "failed" }],
    collateral: [
      {
        kind: "intel-tcb-info",
        sha256: bytes(32, 65),
        issued_ms: 1_789_000_000_000,
        expires_ms: 1_791_000_000_000,
        number: 20,
      },
    ],
  }),
  "signed-workflow": message(workflow.SignedWorkflow, {
    v: 1,
    document: new TextEncoder().encode("workflow: example\n"),
    signatures: [{ key: bytes(32, 32), signature: bytes(64, 33) }],
  }),
} as const satisfies Record<string, Message>

export type MessageName = keyof typeof messages

/** Documents that people write, that are measured, or that leave for others: YAML or JSON, never msgpack. */
export const documents = {
  ear: message(Ear, {
    eat_profile: EAR_PROFILE,
    iat: 1_790_000_000,
    exp: 1_790_000_300,
    ear_verifier_id: { developer: "vouchsafe", build: "0.1.0" },
    submods: {
      n1: {
        ear_status: "contraindicated",
        ear_trustworthiness_vector: {
          "instance-identity": 96,
          configuration: 2,
          executables: 3,
          hardware: 97,
          "runtime-opaque": 96,
        },
        ear_appraisal_policy_ids: ["tag:vouchsafe,2026:workflow/source"],
        ear_attester_claims: {
          vouchsafe: {
            platform: "sev-snp Milan",
            chip: "0d".repeat(64),
            domain: "lab",
            node: "n1",
            session: "12".repeat(16),
            boot: "17".repeat(16),
            signing_key: "13".repeat(32),
            dh_key: "14".repeat(32),
            kem_key_digest: "15".repeat(32),
            dataplane: "0c".repeat(48),
          },
        },
        ear_verifier_claims: {
          vouchsafe: {
            verdict: "refused",
            code: "DEBUG",
            assurance: "emulated",
            appraised_at: 1_790_000_000,
            appraisal: "16".repeat(32),
            checks: [check],
            collateral: [
              {
                kind: "intel-tcb-info",
                sha256: "17".repeat(32),
                issued_at: 1_789_000_000,
                expires_at: 1_791_000_000,
                number: 20,
              },
            ],
          },
        },
      },
    },
  }),
  workflow: message(workflow.Workflow, workflowExample),
  anchors: message(workflow.Anchors, {
    domain: "lab",
    operator_keys: ["0f".repeat(32)],
    operator_threshold: 1,
    control_plane: {
      roots: workflowExample.roots,
      assurance: "emulated",
      platforms: ["sev-snp"],
      sev_snp: snpExample,
      chips: [{ sev_snp: "0d".repeat(64) }],
    },
  }),
} as const satisfies Record<string, Message>
