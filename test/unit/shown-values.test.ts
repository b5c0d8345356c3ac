/** What a result says that the node's Evidence has shown: all of it, so that a document that revokes any of it ends the node. */
import { describe, expect, it } from "vitest"
import { stringify } from "yaml"
import { limits } from "../../schemas/limits.ts"
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import { encode } from "../../services/common/codec/index.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { EvidenceCaches, eventTypes, tpmExtraData } from "../../services/evidence/index.ts"
import { appraiseNode } from "../../services/guest/appraise-node.ts"
import { forbiddenNodes } from "../../services/make/standing.ts"
import { parseWorkflow } from "../../services/make/workflow-document.ts"
import { answerTo, askedOf } from "../support/node-evidence.ts"
import { type LogLine, logOf, makeTpm, separatorLine, sha256, tpmPiece } from "./appraisal-support.ts"
import { dataplane, hexOf, now } from "./evidence-support.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const tpm = makeTpm()
const imageOf = (i: number): Uint8Array => sha256(Buffer.from(`image ${i}`))

/** Of a machine that booted so many images one after another, as a bootloader with modules does. */
const documentOf = (images: readonly string[], pcr7: string, revoked: readonly string[] = []) =>
  parseWorkflow(
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
          tpm: { bank: "sha256", pcrs: { "7": [pcr7] }, images },
          dataplane: [dataplane],
        },
      },
      nodes: [
        { id: "n1", stage: "source", chip: { tpm: tpm.digest }, address: "10.77.0.1", wire: "10.99.0.11" },
      ],
      edges: [],
      ...(revoked.length > 0 && { revoked: { measurements: revoked } }),
    }),
  )

const judge = (count: number) => {
  const images = Array.from({ length: count }, (_, i) => hexOf(imageOf(i)))
  const lines: LogLine[] = [
    separatorLine(7),
    separatorLine(4),
    ...images.map((_, i) => ({
      register: 4,
      type: eventTypes.EV_EFI_BOOT_SERVICES_APPLICATION,
      data: Buffer.from(`the path of ${i}`),
      digest: imageOf(i),
    })),
  ]
  const log = logOf(lines)
  const register = (index: number) => log.registers.get(index) ?? filled(32, 0)
  const pcr7 = hexOf(register(7))
  const document = documentOf(images, pcr7)
  const asked = askedOf({ document, digest: filled(32, 4) })
  const evidence = answerTo(asked, (reportData) => [
    tpmPiece(tpm, {
      extraData: tpmExtraData(reportData),
      pcrs: [4, 7].map((index) => ({ bank: "sha256", index, value: register(index) })),
      bootLog: log.bytes,
    }),
  ])
  const verifier = { crypto, instance: "v1", control: "cp", caches: new EvidenceCaches() }
  return { verdict: appraiseNode(verifier, evidence, asked, now), document, images, pcr7 }
}

describe("values that a node's Evidence has shown", () => {
  it("are all in the result, also where a check's text is cut", () => {
    const { verdict, document, images, pcr7 } = judge(9)
    if (!verdict.accepted) throw new Error(`${verdict.code}: ${JSON.stringify(verdict.reason)}`)
    expect(verdict.checks.find(({ name }) => name === "tpm-images")?.found).toHaveLength(256)
    const { result } = verdict
    expect(result.values.map(hexOf).sort()).toEqual([...images, pcr7].sort())
    expect(() => encode(AttestationResult, result)).not.toThrow()
    // Any one of them that is revoked ends the node at once.
    for (const image of images) {
      const next = documentOf(images, pcr7, [image])
      expect(forbiddenNodes(next, [result], now.getTime(), document)).toEqual(["n1"])
    }
    expect(forbiddenNodes(document, [result], now.getTime(), document)).toEqual([])
  })

  it("are refused by name where they are more than a result holds, none left out", () => {
    const { verdict } = judge(limits.shownValues)
    expect(verdict).toMatchObject({
      accepted: false,
      code: "SHOWN_VALUES",
      reason: { name: "shown-values", found: `${limits.shownValues + 1} values of the stage's lists` },
    })
    expect(judge(limits.shownValues - 1).verdict).toMatchObject({ accepted: true })
  })
})
