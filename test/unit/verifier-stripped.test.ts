/** What isn't signed of a TPM's evidence anybody on the bus can take away or add: no word of the node's, which ends nothing. */
import { expect, it } from "vitest"
import { stringify } from "yaml"
import type { TpmPiece } from "../../schemas/messages/common.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { EvidenceCaches, tpmExtraData } from "../../services/evidence/index.ts"
import { appraiseNode } from "../../services/guest/appraise-node.ts"
import { parseWorkflow } from "../../services/make/workflow-document.ts"
import { speaksOfNode } from "../../services/verifier/held.ts"
import { answerTo, askedOf } from "../support/node-evidence.ts"
import { makeTpm, tpmPiece } from "./appraisal-support.ts"
import { dataplane, now } from "./evidence-support.ts"

const tpm = makeTpm()
const document = parseWorkflow(
  stringify({
    workflow: "example",
    domain: "lab",
    version: 1,
    not_after: "2030-01-01T00:00:00Z",
    suite: "chacha20-poly1305",
    lease_seconds: 30,
    roots: [{ vendor: "tpm", use: "ak", key_digest: tpm.digest, emulated: false }],
    stages: {
      source: {
        assurance: "tpm-only",
        platforms: ["tpm"],
        tpm: { bank: "sha256", pcrs: { "7": ["07".repeat(32)] } },
        dataplane: [dataplane],
      },
    },
    nodes: [
      { id: "n1", stage: "source", chip: { tpm: tpm.digest }, address: "10.77.0.1", wire: "10.99.0.11" },
    ],
    edges: [],
  }),
)
const asked = askedOf({ document, digest: new Uint8Array(32).fill(4) })

const judge = (change: (piece: TpmPiece) => TpmPiece, content: Parameters<typeof tpmPiece>[1] = {}) => {
  const evidence = answerTo(asked, (reportData) => [
    change(tpmPiece(tpm, { extraData: tpmExtraData(reportData), ...content })),
  ])
  return appraiseNode(
    { crypto, instance: "v1", control: "cp", caches: new EvidenceCaches() },
    evidence,
    asked,
    now,
  )
}

it("a key whose binding was added to ends nothing", () => {
  expect(judge((piece) => piece)).toMatchObject({ accepted: true })
  for (const change of [
    { hcl_report: new Uint8Array(100) },
    { certificates: [Uint8Array.of(0x30, 0x00), Uint8Array.of(0x30, 0x00)] },
  ]) {
    const verdict = judge((piece) => ({ ...piece, ...change }))
    expect(verdict).toMatchObject({ accepted: false, code: "TPM_KEY" })
    expect(speaksOfNode(verdict)).toBe(false)
  }
})

it("registers that the quote covers do", () => {
  const verdict = judge((piece) => piece, { pcrs: [{ bank: "sha256", index: 7, value: new Uint8Array(32) }] })
  expect(verdict).toMatchObject({ accepted: false, code: "TPM_PCR_7" })
  expect(speaksOfNode(verdict)).toBe(true)
})
