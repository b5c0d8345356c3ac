/**
 * What nodes need that appraise their peers themselves: their nonces get into what their peers' Evidence is made over, and
 * that Evidence into the bucket. Nobody believes this verifier for it: whatever it leaves out or changes, nodes refuse.
 */
import { Effect } from "effect"
import { limits } from "../../schemas/limits.ts"
import type { ControlEvidence, NodeEvidence } from "../../schemas/messages/attestation.ts"
import type { Bus } from "../common/bus/bus.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { toHex } from "../common/hex.ts"
import { Recent } from "../evidence/recent.ts"
import { protocolWorkflow } from "../guest/protocol-workflow.ts"
import { evidencePeers } from "../make/edges.ts"
import { hashLeaf, helloLeaf } from "../make/merkle.ts"
import { controlProof, nodeProof, packEvidence } from "../make/proof.ts"
import { resultDigest } from "../make/result.ts"
import type { VerifiedWorkflow } from "../make/workflow-document.ts"

/** A node waits for its result meanwhile. */
const STORE_MS = 1_000
const CONTROLS_REMEMBERED = 256

/** The control plane's Evidence that an offer showed, and all leaves under its root. */
export interface Shown {
  readonly control: ControlEvidence
  readonly leaves: ReadonlyArray<Uint8Array>
}

export const makePeerProofs = (
  bus: Bus["Service"],
  crypto: Crypto,
  known: () => VerifiedWorkflow | undefined,
) => {
  /** The newest of each node of the workflow. */
  const nonces = new Map<string, Uint8Array>()
  const shownTo = new Map<string, Shown>()
  const stored = new Recent<true>(CONTROLS_REMEMBERED)

  const peersOf = (node: string): ReadonlySet<string> => {
    const workflow = known()
    return workflow === undefined ? new Set() : evidencePeers(protocolWorkflow(workflow), node)
  }

  const put = (digest: Uint8Array, proof: Parameters<typeof bus.proofs.put>[1]) =>
    bus.proofs.put(digest, proof).pipe(Effect.timeout(STORE_MS))

  const storeControl = ({ control, leaves }: Shown, digest: Uint8Array) =>
    Effect.suspend(() => {
      const name = toHex(digest)
      if (stored.get(name)) return Effect.void
      const hashed = leaves.map((leaf) => hashLeaf(crypto, leaf))
      return put(digest, controlProof(control, hashed)).pipe(
        Effect.tap(() => Effect.sync(() => stored.set(name, true))),
      )
    })

  return {
    /** What a node says is its newest nonce: of nodes of the workflow only. */
    heard: (node: string, nonce: Uint8Array): void => {
      if (peersOf(node).size === 0) return
      nonces.delete(node)
      nonces.set(node, nonce)
      for (const oldest of nonces.keys()) {
        if (nonces.size <= limits.nodes) break
        nonces.delete(oldest)
      }
    },

    /** Leaves beside those of the nodes that are asking: of the peers that will appraise them. */
    beside: (asking: ReadonlyArray<string>): ReadonlyArray<Uint8Array> => {
      // Whoever asks too is under the root already, by the nonce of its hello.
      const peers = new Set(asking.flatMap((node) => [...peersOf(node)]))
      for (const node of asking) peers.delete(node)
      return [...peers].flatMap((peer) => {
        const nonce = nonces.get(peer)
        return nonce === undefined ? [] : [helloLeaf("node", peer, nonce)]
      })
    },

    /** An offer was made to the node. */
    shown: (node: string, what: Shown): void => {
      if (peersOf(node).size > 0) shownTo.set(node, what)
    },

    /** The node has answered: what it was shown, where peers will want to see it. */
    answered: (node: string): Shown | undefined => {
      const found = shownTo.get(node)
      shownTo.delete(node)
      return found
    },

    pack: (evidence: NodeEvidence) => packEvidence(crypto, evidence),

    /** Never fails: without it peers refuse the node, and their next wish for fresh Evidence is the next occasion. */
    store: (what: Shown, packed: Uint8Array, body: Uint8Array, controlDigest: Uint8Array) =>
      Effect.all(
        [storeControl(what, controlDigest), put(resultDigest(crypto, body), nodeProof(body, packed))],
        { concurrency: 2, discard: true },
      ).pipe(
        Effect.catch((error) =>
          Effect.logWarning("Evidence for a node's peers could not be stored", { reason: error.message }),
        ),
      ),
  }
}
