/**
 * The nonces that a node has made, and when by its own boot clock: Evidence that contains one of them is younger than that.
 * They outlive sessions, so that a peer need not attest anew whenever this node does.
 */
import { limits } from "../../schemas/limits.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { hashLeaf, helloLeaf } from "./merkle.ts"

const MAX_AGE_NS = BigInt(limits.peerEvidenceMs) * 1_000_000n

export class OwnNonces {
  readonly #crypto: Crypto
  readonly #node: string
  /** By the leaf that stands for the nonce under the control plane's root, in hex; the oldest first. */
  readonly #made = new Map<string, bigint>()

  constructor(crypto: Crypto, node: string) {
    this.#crypto = crypto
    this.#node = node
  }

  /** @param nonce 32 random bytes that nobody has seen before `nowBootNs` */
  made(nonce: Uint8Array, nowBootNs: bigint): void {
    const leaf = hashLeaf(this.#crypto, helloLeaf("node", this.#node, nonce))
    this.#made.set(Buffer.from(leaf).toString("hex"), nowBootNs)
    for (const oldest of this.#made.keys()) {
      if (this.#made.size <= limits.ownNonces) break
      this.#made.delete(oldest)
    }
  }

  /**
   * @param leaves hashed leaves, all under one root
   * @returns until when what binds that root counts, ns of the boot clock; undefined when no nonce of this node is among
   *   them, or only such that are too old
   */
  until(leaves: ReadonlyArray<Uint8Array>, nowBootNs: bigint): bigint | undefined {
    let newest: bigint | undefined
    for (const leaf of leaves) {
      const atNs = this.#made.get(Buffer.from(leaf).toString("hex"))
      if (atNs !== undefined && (newest === undefined || atNs > newest)) newest = atNs
    }
    const until = newest === undefined ? undefined : newest + MAX_AGE_NS
    return until === undefined || nowBootNs >= until ? undefined : until
  }
}
