/** What a node's attester signs: what its own loader left for it, if that is what is asked for. Nothing of the request. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeEach, describe, expect, it } from "vitest"
import type { AttestNode } from "../../schemas/messages/attestation.ts"
import { answerNode, type NodeGuest } from "../../services/attester/answer.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import {
  type AcceptedNode,
  forgetAcceptedNode,
  writeAcceptedNode,
} from "../../services/common/config/guest-keys.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { activationProof } from "../../services/make/activation.ts"
import { challengeValue } from "../../services/make/challenge.ts"
import { nodeReportData } from "../../services/make/transcript.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"

const directory = mkdtempSync(join(tmpdir(), "vouchsafe-attester-"))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const filled = (size: number, byte: number) => new Uint8Array(size).fill(byte)
const workflow = { digest: filled(32, 9) } as VerifiedWorkflow
const dataplane = filled(48, 0xd1)
const bootId = filled(16, 0xb0)
const secret = filled(32, 0x5e)

const accepted: AcceptedNode = {
  node: "n1",
  session: filled(16, 1),
  nonce: filled(32, 2),
  signingKey: filled(32, 3),
  dhKey: filled(32, 4),
  kemKey: filled(1_184, 5),
  suites: ["xwing-chacha20-poly1305"],
  workflow: workflow.digest,
  control: filled(32, 6),
  verifierNonce: filled(32, 7),
  beacon: filled(32, 8),
}
const request: AttestNode = {
  v: 1,
  kind: "attest-node",
  session: accepted.session,
  control: accepted.control,
  challenge: challengeValue(crypto, accepted.verifierNonce, accepted.beacon),
}

/** Report data that the machine was asked to sign. */
const signed: Uint8Array[] = []
const opened: unknown[] = []
const guest: NodeGuest = {
  crypto,
  trust: { domain: "lab" } as NodeGuest["trust"],
  id: "n1",
  runDirectory: directory,
  device: new DeviceQueue(
    {
      platform: "tpm",
      emulated: true,
      about: "a machine that writes down what it signs",
      attest: async (data) => {
        signed.push(data)
        return []
      },
      endorsement: {
        keys: { ek: filled(4, 1), ak: filled(4, 2) },
        activate: async (credential) => {
          opened.push(credential)
          return secret.slice()
        },
      },
      close: async () => undefined,
    },
    { everyMs: 0 },
  ),
  measureDataplane: () => dataplane,
  bootId: () => bootId,
}

const reportData = nodeReportData(crypto, {
  ...accepted,
  role: "node",
  domain: "lab",
  workflowDigest: workflow.digest,
  controlDigest: accepted.control,
  challenge: request.challenge,
  nodeId: "n1",
  dataplane,
  bootId,
})

beforeEach(() => {
  signed.splice(0)
  opened.splice(0)
})

describe("what the loader has accepted", () => {
  it("is signed, each value in its place", async () => {
    writeAcceptedNode(directory, accepted)
    const evidence = await answerNode(guest, workflow, request)
    expect(signed).toEqual([reportData])
    expect(evidence).toMatchObject({ verifier_nonce: accepted.verifierNonce, beacon: accepted.beacon })
    expect(evidence.activation).toBeUndefined()
    expect(opened).toEqual([])
  })

  it("has its credential opened, and no other", async () => {
    const credential = { blob: filled(24, 1), secret: filled(24, 2) }
    writeAcceptedNode(directory, { ...accepted, credential })
    const evidence = await answerNode(guest, workflow, request)
    expect(opened).toEqual([credential])
    expect(evidence.activation).toEqual(activationProof(crypto, secret, reportData))
  })
})

describe("nothing is signed or opened", () => {
  const credential = { blob: filled(24, 1), secret: filled(24, 2) }
  const expectRefused = async (asked: AttestNode, code: string, field: string): Promise<void> => {
    await expect(answerNode(guest, workflow, asked)).rejects.toMatchObject({ code, field })
    expect([...signed, ...opened]).toEqual([])
  }

  it.each(["session", "control", "challenge"] as const)("of another %s than was accepted", async (field) => {
    writeAcceptedNode(directory, { ...accepted, credential })
    for (const at of [0, request[field].length - 1]) {
      const other = request[field].slice()
      other[at] = 0xff
      await expectRefused({ ...request, [field]: other }, "STALE", field)
    }
  })

  it.each([
    ["another session", { session: filled(16, 0x11) }, "session"],
    ["another control plane", { control: filled(32, 0x11) }, "control"],
    ["another verifier's nonce", { verifierNonce: filled(32, 0x11) }, "challenge"],
    ["another beacon", { beacon: filled(32, 0x11) }, "challenge"],
  ] as const)("for a request of before, when %s was accepted since", async (_, change, field) => {
    writeAcceptedNode(directory, { ...accepted, credential, ...change })
    await expectRefused(request, "STALE", field)
  })

  it("of a node that this guest isn't, or accepted under a document that isn't the attester's", async () => {
    writeAcceptedNode(directory, { ...accepted, credential, node: "n2" })
    await expectRefused(request, "MISDIRECTED", "node")
    writeAcceptedNode(directory, { ...accepted, credential, workflow: filled(32, 0x11) })
    await expectRefused(request, "MISDIRECTED", "workflow")
  })

  it("when nothing is accepted", async () => {
    writeAcceptedNode(directory, { ...accepted, credential })
    forgetAcceptedNode(directory)
    await expect(answerNode(guest, workflow, request)).rejects.toMatchObject({ code: "MISSING" })
    expect([...signed, ...opened]).toEqual([])
  })
})
