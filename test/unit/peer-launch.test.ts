/** A node that appraises a peer itself also holds it against what the peer's hardware has said before. */
import { describe, expect, it } from "vitest"
import { native as crypto } from "../../services/common/crypto/index.ts"
import { appraisePeer, readPeerProof } from "../../services/guest/appraise-peer.ts"
import { MakeError } from "../../services/make/errors.ts"
import { LaunchBook } from "../../services/make/launch.ts"
import { OwnNonces } from "../../services/make/own-nonces.ts"
import { openControlProof } from "../../services/make/proof.ts"
import { appraiserOf, leafOf, type PeerBend, peerWorkflow, vouchedPeer } from "../support/peer-proofs.ts"
import { filled } from "./appraise-support.ts"
import { makeChip, makeRoot } from "./evidence-support.ts"

const now = new Date()
const root = makeRoot()
const chips = [makeChip(root), makeChip(root)] as const
const workflow = peerWorkflow(root, [...chips])
const [nonce, bornNs] = [filled(32, 0x4e), 5_000_000_000n]

describe("a peer that shows another launch in the same boot", () => {
  it("is refused as a clone, and one whose result says another launch than the Evidence as well", () => {
    const [nonces, launches] = [new OwnNonces(crypto, "n1"), new LaunchBook(crypto)]
    nonces.made(nonce, bornNs)
    const judge = (bend: PeerBend): string => {
      const said = vouchedPeer(workflow, "n2", chips[1], { leaves: [leafOf("n1", nonce)], ...bend })
      const read = readPeerProof(crypto, said.wanted, said.proof)
      const leaves = openControlProof(crypto, said.control, read.control)
      try {
        appraisePeer(appraiserOf(workflow, "n1", { nonces, launches }), read, leaves, now, bornNs + 1n)
        return "believed"
      } catch (error) {
        if (error instanceof MakeError) return `${error.code} ${error.field}`
        throw error
      }
    }
    const launch = { report_id: filled(32, 0x66), report_id_ma: filled(32, 0xff) }
    expect(judge({})).toBe("believed")
    expect(judge({ result: { launch } })).toBe("NOT_VOUCHED proof.body.launch")
    expect(judge({ reportId: launch.report_id, result: { launch } })).toBe("CLONED launch.report_id")
    expect(judge({})).toBe("believed")
  })
})
