/**
 * Real samples as nodes' answers, through all that a verifier does with them: every signature, every rule of the stage,
 * the record of it. They answer no challenge of ours, so each is refused in the end; what that costs is the same.
 */
import { stringify } from "yaml"
import type { NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { PcrValue, Piece } from "../../schemas/messages/common.ts"
import type { Demands, HardwareRoot } from "../../schemas/platforms.ts"
import { type Crypto, crypto as chosen } from "../../services/common/crypto/index.ts"
import {
  type CollateralSnapshot,
  collateralViewOf,
  plainStaleRules,
} from "../../services/evidence/collateral/index.ts"
import {
  amdRoots,
  awsRoots,
  EvidenceCaches,
  intelRoots,
  verifyPieces,
} from "../../services/evidence/index.ts"
import { appraiseNode, type Outstanding, type Verdict } from "../../services/guest/appraise-node.ts"
import { challengeValue } from "../../services/make/challenge.ts"
import { parseWorkflow, type VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { readVector } from "../unit/evidence-support.ts"
import { evidenceOf, quotes } from "../unit/evidence-tpm-support.ts"
import type { Warmth } from "./evidence.ts"

type HeldItem = CollateralSnapshot["held"] extends ReadonlyMap<string, infer Item> ? Item : never

export interface Answer {
  readonly kind: string
  readonly name: string
  readonly evidence: NodeEvidence
  readonly asked: Outstanding
  readonly at: Date
}

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const zeros = "00".repeat(48)

const sections = {
  sev_snp: { measurements: [zeros], policy: { debug: false, migration_agent: false, vmpl_max: 0 } },
  tdx: { mrtd: [zeros], rtmrs: { 1: [zeros], 2: [zeros] }, tcb: { statuses: ["UpToDate"] } },
  tpm: { bank: "sha256", pcrs: { "0": ["00".repeat(32)] } },
  nitro: { document: "enclave", pcrs: { "0": [zeros] } },
} satisfies Partial<Demands>

const snpPiece = (report: string, leaf: string, line: string): Piece => ({
  kind: "snp",
  report: readVector(`snp/${report}.report.bin`),
  certificates: [`snp/${leaf}`, `snp/certs/${line}-ask.der`, `snp/certs/${line}-ark.der`].map(readVector),
})

const tpmPiece = (folder: string, prefix = ""): Piece => {
  const entry = quotes.find(({ file }) => file === `tpm/${folder}/${prefix}tpms-attest.bin`)
  if (entry === undefined) throw new Error(folder)
  const { attest, signature, akPublic, pcrs } = evidenceOf(entry)
  const hcl = entry.goesWith.find((file) => file.endsWith("/hcl-report.bin"))
  return {
    kind: "tpm",
    attest,
    signature,
    ak: typeof akPublic === "string" ? Buffer.from(akPublic) : akPublic,
    certificates: [],
    ...(hcl !== undefined && { hcl_report: readVector(hcl) }),
    pcrs: Object.entries(pcrs).flatMap(([bank, values]) =>
      [...(values ?? [])].map(([index, value]) => ({ bank: bank as PcrValue["bank"], index, value })),
    ),
  }
}

interface Sample {
  readonly kind: string
  readonly name: string
  readonly platform: Demands["platforms"][number]
  readonly pieces: readonly Piece[]
  readonly at: string
}

const samples = (): readonly Sample[] => [
  {
    kind: "snp",
    name: "genoa-v5-oak",
    platform: "sev-snp",
    pieces: [snpPiece("genoa-v5-oak", "genoa-v5-oak.vcek.der", "genoa")],
    at: "2026-01-01T00:00:00Z",
  },
  {
    kind: "tdx",
    name: "v4-b0c06f-uptodate",
    platform: "tdx",
    pieces: [{ kind: "tdx", quote: readVector("tdx/v4-b0c06f-uptodate.quote.bin"), certificates: [] }],
    at: "2025-07-01T00:00:00Z",
  },
  {
    kind: "tpm",
    name: "gce-cos85",
    platform: "tpm",
    pieces: [tpmPiece("gce-cos85-nonce9009", "sha256.")],
    at: "2026-01-01T00:00:00Z",
  },
  {
    kind: "nitro",
    name: "dstack-2025",
    platform: "nitro",
    pieces: [{ kind: "nitro", document: readVector("nitro/dstack-2025.cose.bin") }],
    at: "2025-12-25T16:04:19Z",
  },
  {
    kind: "snp+tpm",
    name: "azure-snp-milan-a",
    platform: "sev-snp+tpm",
    pieces: [
      snpPiece("milan-v3-azure-vtpm-a", "milan-v3-azure-vtpm-a.vcek.der", "milan"),
      tpmPiece("azure-snp-milan-a"),
    ],
    at: "2026-01-01T00:00:00Z",
  },
]

/** One document with a node for each sample. */
const workflowOf = (all: readonly Sample[], roots: readonly HardwareRoot[]): VerifiedWorkflow => ({
  digest: filled(32, 4),
  document: parseWorkflow(
    stringify(
      {
        workflow: "bench",
        domain: "bench",
        version: 1,
        not_after: "2030-01-01T00:00:00Z",
        suite: "chacha20-poly1305",
        lease_seconds: 30,
        roots,
        stages: Object.fromEntries(
          all.map(({ platform }, i) => [
            `s${i}`,
            {
              assurance: platform === "tpm" ? "tpm-only" : "hardware",
              platforms: [platform],
              ...(platform.includes("sev-snp") && { sev_snp: sections.sev_snp }),
              ...(platform.includes("tdx") && { tdx: sections.tdx }),
              ...(platform.includes("tpm") && { tpm: sections.tpm }),
              ...(platform === "nitro" && { nitro: sections.nitro }),
              dataplane: [zeros],
            },
          ]),
        ),
        nodes: all.map((_, i) => ({
          id: `n${i}`,
          stage: `s${i}`,
          chip: "any",
          address: `10.77.0.${i + 1}`,
          wire: `10.99.0.${i + 11}`,
        })),
        edges: [],
      },
      { aliasDuplicateObjects: false },
    ),
  ),
})

/** The TPM's key that stands alone has to be named. */
const rootsFor = (all: readonly Sample[]): readonly HardwareRoot[] => {
  const lone = all.find(({ platform }) => platform === "tpm")
  const { tpm } = verifyPieces({ pieces: lone?.pieces ?? [] }, { roots: [], now: new Date(0) })
  if (tpm === undefined || tpm instanceof Error) throw new Error("no genuine quote")
  return [
    ...amdRoots,
    ...intelRoots,
    ...awsRoots.map(({ name: _, ...root }) => root),
    { vendor: "tpm", use: "ak", key_digest: tpm.quote.ak.digest, emulated: false },
  ]
}

/** Only where the samples are. */
export const answers = (): readonly Answer[] => {
  const all = samples()
  const workflow = workflowOf(all, rootsFor(all))
  const key = chosen.x25519.generate().publicKey
  const [verifierNonce, beacon] = [filled(32, 1), filled(32, 2)]
  const value = challengeValue(chosen, verifierNonce, beacon)
  return all.map(({ kind, name, pieces, at }, i) => {
    const asked: Outstanding = {
      nodeId: `n${i}`,
      session: filled(16, 3),
      verifierNonce,
      beacon,
      value,
      workflow,
      nonce: filled(32, 5),
      controlDigest: filled(32, 6),
    }
    const evidence: NodeEvidence = {
      v: 1,
      kind: "node-evidence",
      verifier_nonce: verifierNonce,
      beacon,
      claims: {
        suites: ["chacha20-poly1305"],
        domain: "bench",
        workflow: workflow.digest,
        control: asked.controlDigest,
        nonce: asked.nonce,
        challenge: value,
        node: asked.nodeId,
        session: asked.session,
        signing_key: filled(32, 7),
        dh_key: key,
        kem_key: new Uint8Array(0),
        dataplane: filled(48, 0),
        boot: filled(16, 8),
      },
      evidence: { pieces },
    }
    return { kind, name, evidence, asked, at: new Date(at) }
  })
}

/** What the verifier's cache would hold for the TDX sample: put in as it is, for it is verified when it is used. */
export const sampleSnapshot = (): CollateralSnapshot => {
  const folder = "tdx/collateral/b0c06f000000-2025-06"
  const day = new Date("2025-07-01T00:00:00Z")
  const held = (
    [
      ["intel-tcb-info-b0c06f000000", "intel-tcb-info", "tcb-info.json"],
      ["intel-qe-identity", "intel-qe-identity", "qe-identity.json"],
      ["intel-root-crl", "intel-root-crl", "root-ca-crl.der"],
      ["intel-pck-crl-platform", "intel-pck-crl", "pck-crl.der"],
      ["intel-pck-crl-processor", "intel-pck-crl", "pck-crl.der"],
    ] as const
  ).map(([key, kind, file]): [string, HeldItem] => {
    const bytes = readVector(`${folder}/${file}`)
    const item = { key, kind, bytes, issued: day, expires: day, number: 0n, sha256: "", source: "samples" }
    return [key, { item, confirmed: day }]
  })
  return { held: new Map(held) }
}

/** Appraises in this thread. Cold starts without any chain that was verified before. */
export const inLine = (snapshot: CollateralSnapshot) => {
  const warm = new EvidenceCaches()
  return ({ evidence, asked, at }: Answer, crypto: Crypto, warmth: Warmth): Verdict =>
    appraiseNode(
      {
        crypto,
        instance: "v1",
        control: "cp",
        caches: warmth === "warm" ? warm : new EvidenceCaches(),
        collateral: (now) => collateralViewOf(snapshot, now, plainStaleRules),
      },
      evidence,
      asked,
      at,
    )
}
