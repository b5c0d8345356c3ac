/** A node's own appraisal of a peer: whatever verifier, releaser and bus say, only what genuine Evidence shows counts. */
import { beforeAll, describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import { NodeProof } from "../../schemas/messages/peer.ts"
import { Refused } from "../../services/common/bus/types.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import type { EmulatedChip, EmulatedRoot } from "../../services/evidence/index.ts"
import { appraisePeer, readPeerProof } from "../../services/guest/appraise-peer.ts"
import { MakeError } from "../../services/make/errors.ts"
import { OwnNonces } from "../../services/make/own-nonces.ts"
import { openControlProof } from "../../services/make/proof.ts"
import { resultDigest } from "../../services/make/result.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import {
  appraiserOf,
  crypto,
  leafOf,
  type PeerBend,
  type PeerSaid,
  peerWorkflow,
  vouchedPeer,
} from "../support/peer-proofs.ts"
import { makeChip, makeRoot, now } from "./evidence-support.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const NS_PER_MS = 1_000_000n
const bornNs = 5_000n * NS_PER_MS
const maxNs = BigInt(limits.peerEvidenceMs) * NS_PER_MS
const nonce = filled(32, 0x4e)

let root: EmulatedRoot
let foreign: EmulatedRoot
let chips: readonly [EmulatedChip, EmulatedChip, EmulatedChip]
let workflow: VerifiedWorkflow
beforeAll(() => {
  root = makeRoot()
  foreign = makeRoot()
  chips = [makeChip(root), makeChip(root), makeChip(root)]
  workflow = peerWorkflow(root, chips)
}, 120_000)

/** n1 appraises what it is told of n2, `atNs` after its boot; until when that counts, or the refusal. */
const judge = (
  said: PeerSaid,
  atNs = bornNs + NS_PER_MS,
  own = new OwnNonces(crypto, "n1"),
): bigint | string => {
  own.made(nonce, bornNs)
  try {
    const read = readPeerProof(crypto, said.wanted, said.proof)
    const leaves = openControlProof(crypto, said.control, read.control)
    return appraisePeer(appraiserOf(workflow, "n1", { nonces: own }), read, leaves, now, atNs)
  } catch (error) {
    if (error instanceof MakeError || error instanceof Refused) return `${error.code} ${error.field}`
    throw error
  }
}

const fresh = () => [leafOf("n3", filled(32, 9)), leafOf("n1", nonce), leafOf("n2", filled(32, 5))]
const say = (bend: PeerBend = {}): PeerSaid =>
  vouchedPeer(workflow, "n2", chips[1], { leaves: fresh(), ...bend })

describe("a peer whose Evidence contains a nonce of this node", () => {
  it("is believed, for as long as the nonce counts", () => {
    expect(judge(say())).toBe(bornNs + maxNs)
    expect(judge(say(), bornNs + maxNs - 1n)).toBe(bornNs + maxNs)
  })
  it("is refused from then on", () => {
    expect(judge(say(), bornNs + maxNs)).toBe("STALE control.leaves")
  })
  it("may contain an older nonce as well: the newest counts", () => {
    const own = new OwnNonces(crypto, "n1")
    own.made(filled(32, 1), 1n)
    const leaves = [leafOf("n1", filled(32, 1)), leafOf("n1", nonce)]
    expect(judge(say({ leaves }), undefined, own)).toBe(bornNs + maxNs)
  })
})

describe("a verifier with valid keys that lies", () => {
  const lies: ReadonlyArray<readonly [string, () => PeerSaid, string]> = [
    [
      "vouches for a key that the machine has not",
      () => say({ result: { dh_key: crypto.x25519.generate().publicKey } }),
      "NOT_VOUCHED proof.body.dh_key",
    ],
    ["says another session", () => say({ result: { session: filled(16, 1) } }), "SESSION proof.session"],
    [
      "says another signing key",
      () => say({ result: { signing_key: filled(32, 1) } }),
      "NOT_VOUCHED proof.body.signing_key",
    ],
    [
      "says another ML-KEM key",
      () => say({ result: { kem_key_digest: filled(32, 1) } }),
      "NOT_VOUCHED proof.body.kem_key_digest",
    ],
    ["says another chip", () => say({ result: { chip: filled(64, 1) } }), "NOT_VOUCHED proof.body.chip"],
    ["says another boot", () => say({ result: { boot: filled(16, 1) } }), "NOT_VOUCHED proof.body.boot"],
    [
      "says another data plane",
      () => say({ result: { dataplane: filled(48, 1) } }),
      "NOT_VOUCHED proof.body.dataplane",
    ],
    ["says another stage", () => say({ result: { stage: "source" } }), "NOT_VOUCHED proof.body.stage"],
    ["says another domain", () => say({ result: { domain: "other" } }), "NOT_VOUCHED proof.body.domain"],
    [
      "says another workflow",
      () => say({ result: { workflow: filled(32, 1) } }),
      "NOT_VOUCHED proof.body.workflow",
    ],
    ["means another node", () => say({ result: { node: "n3" } }), "NOT_VOUCHED proof.body"],
    [
      "writes its own key into the claims",
      () => say({ told: { dh_key: crypto.x25519.generate().publicKey } }),
      "REPORT_DATA proof.report-data",
    ],
    [
      "writes a fresh root into the claims of Evidence that was made over another",
      () => {
        const young = say()
        const told = { control: young.evidence.claims.control }
        return { ...say({ leaves: [leafOf("n2", filled(32, 5))], told }), control: young.control }
      },
      "REPORT_DATA proof.report-data",
    ],
    [
      "takes a foreign data plane",
      () => say({ claims: { dataplane: filled(48, 1) } }),
      "DATAPLANE proof.dataplane",
    ],
    ["takes a foreign image", () => say({ launched: filled(48, 1) }), "MEASUREMENT proof.measurement"],
    ["takes a machine that isn't enrolled", () => say({ chip: makeChip(root) }), "CHIP_ID proof.chip-id"],
    ["takes another maker's machine", () => say({ chip: makeChip(foreign) }), "ROOT_UNKNOWN proof.genuine"],
    [
      "passes one node's Evidence off as another's",
      () => {
        const other = vouchedPeer(workflow, "n3", chips[2], { leaves: fresh(), result: { node: "n2" } })
        return { ...other, wanted: { ...other.wanted, node: "n2" } }
      },
      "NODE proof.node",
    ],
    [
      "passes off Evidence of an older workflow",
      () => say({ claims: { workflow: filled(32, 1) } }),
      "WORKFLOW proof.workflow",
    ],
    ["names no Evidence", () => stripped(say()), "NOT_VOUCHED proof.body"],
    [
      "brings old Evidence of the very node, from before this node came",
      () => say({ leaves: [leafOf("n2", filled(32, 5)), leafOf("n3", nonce)] }),
      "STALE control.leaves",
    ],
    [
      "passes another's nonce off as this node's",
      () => say({ leaves: [leafOf("n1", filled(32, 5)), leafOf("n2", nonce)] }),
      "STALE control.leaves",
    ],
  ]
  it.each(lies)("%s: refused", (_, lie, refusal) => {
    expect(judge(lie())).toBe(refusal)
  })
})

/** The same result, with the field left out and everything beside it adapted. */
const stripped = (said: PeerSaid): PeerSaid => {
  const proof = decode(NodeProof, said.proof, { subject: "proof" })
  if (!proof.ok) throw proof.error
  const body = decode(AttestationResult, proof.value.body, { subject: "body" })
  if (!body.ok) throw body.error
  const { evidence: _, ...plain } = body.value
  const packed = encode(AttestationResult, plain)
  return {
    ...said,
    proof: encode(NodeProof, { ...proof.value, body: packed }),
    wanted: { ...said.wanted, result: resultDigest(crypto, packed) },
  }
}

describe("a bus that serves what it likes", () => {
  const swapped = (change: (proof: NodeProof) => NodeProof) => say({ proof: change })
  const flip = (bytes: Uint8Array) => bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 1 : byte))

  it("is refused by name for other bytes than those of the digest", () => {
    expect(judge(swapped((proof) => ({ ...proof, evidence: flip(proof.evidence) })))).toBe(
      "NOT_AUTHENTIC proof.evidence",
    )
    expect(judge(swapped((proof) => ({ ...proof, body: flip(proof.body) })))).toBe("NOT_AUTHENTIC proof.body")
  })
  it("is refused by name for another node's proof under the digest", () => {
    const other = vouchedPeer(workflow, "n3", chips[2], { leaves: fresh() })
    expect(judge({ ...say(), proof: other.proof })).toBe("NOT_AUTHENTIC proof.body")
    expect(judge({ ...say(), proof: say().control })).toBe("NOT_AUTHENTIC proof")
  })
  it("is refused by name for another control plane's Evidence, other leaves, more or fewer", () => {
    expect(judge({ ...say(), control: say({ leaves: [leafOf("n1", nonce)] }).control })).toBe(
      "NOT_AUTHENTIC control",
    )
    const said = say()
    expect(judge({ ...said, control: said.proof })).toBe("NOT_AUTHENTIC control")
    const bent = (leaves: (all: readonly Uint8Array[]) => readonly Uint8Array[]) =>
      judge(
        say({
          leaves: [leafOf("n2", filled(32, 5)), leafOf("n3", nonce)],
          control: (proof) => ({ ...proof, leaves: [...leaves(proof.leaves)] }),
        }),
      )
    expect(bent((all) => [leafOf("n1", nonce), ...all.slice(1)])).toBe("NOT_AUTHENTIC control.leaves")
    expect(bent((all) => [...all, leafOf("n1", nonce)])).toBe("NOT_AUTHENTIC control.leaves")
    expect(bent((all) => all.slice(1))).toBe("NOT_AUTHENTIC control.leaves")
  })
  it("is refused by name for what exceeds the bound, or is no message", () => {
    const said = say()
    expect(judge({ ...said, proof: filled(limits.proofBytes + 1, 0xc0) })).toBe("LIMIT proof")
    expect(judge({ ...said, control: filled(limits.proofBytes + 1, 0xc0) })).toBe("LIMIT control")
    expect(judge({ ...said, proof: filled(100, 0xc1) })).toBe("MALFORMED proof")
    expect(judge({ ...said, proof: new Uint8Array(0) })).toBe("MALFORMED proof")
  })
  it("changes nothing that matters with any one bit", () => {
    const said = say()
    for (const [field, bytes] of [
      ["proof", said.proof],
      ["control", said.control],
    ] as const)
      for (let at = 0; at < bytes.length; at += 97) {
        const bent = Uint8Array.from(bytes)
        bent[at] = (bent[at] ?? 0) ^ 0x04
        expect(judge({ ...said, [field]: bent })).toMatch(/^(NOT_AUTHENTIC|MALFORMED|LIMIT) /)
      }
  })
})

describe("the nonces that a node remembers", () => {
  it("are bounded, the oldest go", () => {
    const own = new OwnNonces(crypto, "n1")
    for (let i = 0; i <= limits.ownNonces; i++) own.made(filled(32, i), BigInt(i))
    expect(own.until([leafOf("n1", filled(32, 0))], 1n)).toBeUndefined()
    expect(own.until([leafOf("n1", filled(32, 1))], 1n)).toBe(1n + maxNs)
  })
})
