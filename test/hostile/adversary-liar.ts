/**
 * A control plane that was taken over: its keys are those that its genuine Evidence binds, and it signs what it likes. In a
 * release it names a peer by a key or a result of its choice, and puts into the bucket what might make somebody believe it.
 */
import { Effect } from "effect"
import { AttestationResult, type NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Checks } from "../../schemas/messages/common.ts"
import { NodeProof } from "../../schemas/messages/peer.ts"
import type { ReleasePayload } from "../../schemas/messages/release.ts"
import { encode } from "../../services/common/codec/index.ts"
import type { Crypto } from "../../services/common/crypto/index.ts"
import type { SecretKey } from "../../services/common/crypto/secret-key.ts"
import { EvidenceCaches } from "../../services/evidence/index.ts"
import { appraiseNode, type Outstanding, type Verdict } from "../../services/guest/appraise-node.ts"
import { packEvidence } from "../../services/make/proof.ts"
import { kemKeyDigest, resultDigest, signResults } from "../../services/make/result.ts"
import { reportDataOf } from "../support/node-evidence.ts"
import type { Sealing } from "./adversary-crypto.ts"
import { type Machine, nodes, REPORT_ID } from "./adversary-domain.ts"
import { hex } from "./adversary-messages.ts"
import type { Decision, Known, Store } from "./adversary-store.ts"
import type { Chance } from "./adversary-virtual.ts"
import type { World } from "./adversary-world.ts"

/**
 * A verifier that accepts whoever comes with the adversary's keys, whatever its Evidence shows: in the place of the node that
 * it says it is, on that node's machine.
 */
export const vouchForAnybody =
  (world: World, crypto: Crypto, instance: string, control: string) =>
  (evidence: NodeEvidence, asked: Outstanding, now: Date): Effect.Effect<Verdict> =>
    Effect.sync(() => {
      const found = appraiseNode({ crypto, instance, control, caches }, evidence, asked, now)
      const { claims } = evidence
      const node = asked.workflow.document.nodes.find(({ id }) => id === asked.nodeId)
      if (found.accepted || node === undefined || world.ideal.ownerOf(claims.dh_key) !== "mallory")
        return found
      const chip = typeof node.chip === "string" ? "" : (node.chip.sev_snp ?? "")
      const { checks } = found
      return {
        accepted: true,
        checks,
        result: {
          v: 1,
          domain: claims.domain,
          workflow: claims.workflow,
          node: node.id,
          session: claims.session,
          stage: node.stage,
          assurance: "emulated",
          platform: "sev-snp",
          chip: new Uint8Array(Buffer.from(chip, "hex")),
          boot: claims.boot,
          // Whose boot it claims to be has shown no other: whoever remembers launches would refuse the node itself from then on.
          launch: { report_id: REPORT_ID, report_id_ma: new Uint8Array(32).fill(0xff) },
          signing_key: claims.signing_key,
          dh_key: claims.dh_key,
          kem_key_digest: kemKeyDigest(crypto, claims.kem_key),
          dataplane: claims.dataplane,
          values: [],
          verifier: instance,
          control,
          verifier_nonce: asked.verifierNonce,
          beacon: asked.beacon,
          issued_ms: now.getTime(),
          appraisal: crypto.sha256(encode(Checks, checks)),
        },
      }
    })

export interface LiarOptions {
  readonly world: World
  readonly store: Store
  readonly decide: () => Decision | undefined
  readonly did: (n: number, what: string) => void
}

const caches = new EvidenceCaches()

/** A peer as it is told of: keys are to be derived with this one, and rest on that. */
interface Lie {
  readonly how: string
  readonly dhKey: Uint8Array
  readonly body: Uint8Array
}

type Way = (known: Known, others: ReadonlyArray<Known>, chance: Chance) => Lie | undefined

export class Liar {
  readonly #options: LiarOptions
  readonly #crypto: Crypto
  readonly #ways: ReadonlyArray<readonly [how: string, way: Way]>

  constructor(options: LiarOptions) {
    this.#options = options
    this.#crypto = options.world.ideal.of("mallory")
    const { domain } = options.world
    const lie = (known: Known, evidence: NodeEvidence, body: Partial<AttestationResult>) =>
      this.#tell(known, evidence, body)
    const bent = (known: Known, machine?: Machine) => {
      const claims = { ...known.evidence.claims, dh_key: this.#key() }
      const bound = { ...known.evidence, claims }
      const pieces = machine === undefined ? undefined : [machine.report(reportDataOf(bound.claims))]
      return lie(known, { ...bound, ...(pieces && { evidence: { pieces } }) }, { dh_key: claims.dh_key })
    }
    this.#ways = [
      [
        "a key that its Evidence does not show",
        (known) => lie(known, known.evidence, { dh_key: this.#key() }),
      ],
      ["Evidence with a changed key", (known) => bent(known)],
      ["Evidence of a stranger's machine", (known) => bent(known, domain.stranger)],
      ["Evidence of other software", (known) => bent(known, domain.altered(known.claims.node))],
      ["another key than the result's", (known) => ({ how: "", dhKey: this.#key(), body: known.body })],
      ["a result of before", (known) => ({ how: "", dhKey: known.claims.dh_key, body: known.body })],
      [
        "another node's result",
        (known, others, chance) => {
          const other = chance.pick(others.filter(({ claims }) => claims.node !== known.claims.node))
          return other && { how: "", dhKey: other.claims.dh_key, body: other.body }
        },
      ],
      [
        "another node's Evidence",
        (known, others, chance) => {
          const other = chance.pick(others.filter(({ claims }) => claims.node !== known.claims.node))
          const { node, stage, chip } = known.claims
          return other && lie(other, other.evidence, { node, stage, chip })
        },
      ],
    ]
  }

  #key(): Uint8Array {
    return this.#crypto.x25519.generate().publicKey
  }

  /** Puts a proof of it into the bucket, right but for what is wrong. */
  #tell(known: Known, evidence: NodeEvidence, change: Partial<AttestationResult>): Lie {
    const { packed, digest } = packEvidence(this.#crypto, evidence)
    const claims = { ...known.claims, evidence: digest, ...change }
    const body = encode(AttestationResult, claims)
    const proof = encode(NodeProof, { v: 1, kind: "node", body, evidence: packed })
    this.#options.store.put(hex(resultDigest(this.#crypto, body)), proof)
    return { how: "", dhKey: claims.dh_key, body }
  }

  /** @returns what it seals in the place of what it should, when it lies */
  readonly lie = ({ payload, by, dhOwner, dhKey }: Sealing): ReleasePayload | undefined => {
    const { world, decide, did } = this.#options
    const key = world.verifierKeyOf(by)
    const to = dhOwner?.replace(/^loader-/, "") ?? ""
    const workflow = world.witness.proofs.workflowOf(new Uint8Array(Buffer.from(dhKey, "hex")))
    const found = payload.batches.find(({ peers }) => peers.length > 0)
    if (key === undefined || workflow === undefined || !world.nodes.has(to) || found === undefined)
      return undefined
    const decision = decide()
    if (decision?.chance.chance(0.6) !== true) return undefined
    const { n, chance } = decision
    const batch = chance.pick(payload.batches) ?? found
    // What one signature stands over is proven together: all of them, or none.
    const lies = batch.peers.map(({ node }) => {
      const byEvidence = world.peersOf(to, node) === "evidence"
      return { node, told: byEvidence ? this.#lieAbout(node, workflow, chance) : this.#foreign() }
    })
    const told = lies.flatMap(({ node, told }) => (told === undefined ? [] : [{ node, ...told }]))
    if (told.length < lies.length) return undefined
    did(n, `tells ${to} of ${told.map(({ node, how }) => `${node} with ${how}`).join(", ")}`)
    const others = payload.batches.filter((each) => each !== batch)
    return { ...payload, batches: [...others, ...told.map((lie) => this.#signed(key, workflow, lie))] }
  }

  /** Nobody looks at more than the signature. */
  #foreign(): Lie {
    return { how: "a key of its own", dhKey: this.#key(), body: this.#crypto.randomBytes(64) }
  }

  #lieAbout(peer: string, workflow: Uint8Array, chance: Chance): Lie | undefined {
    const { store } = this.#options
    const of = store.known(peer)
    // What was right under the document before is worth most: somebody may remember that it was.
    const outdated = of.filter(({ claims }) => hex(claims.workflow) !== hex(workflow)).at(-1)
    if (outdated !== undefined && chance.chance(0.5))
      return { how: "a result under another document", dhKey: outdated.claims.dh_key, body: outdated.body }
    const [how, way] = chance.pick(this.#ways) ?? []
    // Mostly of now, for what is old is refused as old; what is of before is what was first.
    const known = how === "a result of before" || chance.chance(0.2) ? chance.pick(of) : of.at(-1)
    const others = nodes.flatMap(({ id }) => store.known(id).slice(-2))
    const told = known && way?.(known, others, chance)
    return told && { ...told, how: how ?? "" }
  }

  #signed(key: SecretKey, workflow: Uint8Array, { node, dhKey, body }: Lie & { readonly node: string }) {
    const crypto = this.#crypto
    const domain = this.#options.world.domain.name
    const signed = signResults(crypto, key, [{ domain, workflow, node, dhKey, body }])
    const { signature = new Uint8Array(64) } = signed[0]?.batch ?? {}
    const peer = { node, dh_key: dhKey, result: resultDigest(crypto, body), index: 0 }
    return { key: key.publicKey, size: 1, signature, proof: new Uint8Array(0), peers: [peer] }
  }
}
