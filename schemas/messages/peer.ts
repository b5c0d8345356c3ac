/** What nodes need that appraise their peers themselves, see "Peers by Evidence" in `services/make/SPEC.md`. */
import { Schema } from "effect"
import { bytesMax, Digest, list, Nonce, Token, Version } from "../fields.ts"
import { limits } from "../limits.ts"
import { ControlEvidence } from "./attestation.ts"

/** A node's newest nonce: whoever is challenged from now on is to answer over it too. */
export const Fresh = Schema.Struct({ v: Version, node: Token, nonce: Nonce })
export type Fresh = typeof Fresh.Type

/** A peer's Evidence contains no nonce of this node that is young enough: it is asked to attest anew. */
export const Renew = Schema.Struct({ v: Version, node: Token })
export type Renew = typeof Renew.Type

/** Under the digest of a result: the result's body, and the packed NodeEvidence that it names by its digest. */
export const NodeProof = Schema.Struct({
  v: Version,
  kind: Schema.Literal("node"),
  body: bytesMax(limits.resultBytes),
  evidence: bytesMax(limits.evidenceBytes),
})
export type NodeProof = typeof NodeProof.Type

/** Under the control digest that nodes' Evidence binds: the control plane's Evidence, and the leaves under its root, hashed. */
export const ControlProof = Schema.Struct({
  v: Version,
  kind: Schema.Literal("control"),
  control: ControlEvidence,
  leaves: list(Digest, limits.batchLeaves).check(Schema.isMinLength(1)),
})
export type ControlProof = typeof ControlProof.Type

export const Proof = Schema.Union([NodeProof, ControlProof])
export type Proof = typeof Proof.Type
