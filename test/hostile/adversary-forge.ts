/** What a member of the bus with keys of its own makes of somebody else's messages. */
import { EvidenceReply, Hello, HelloReply, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { Refusal, Signed } from "../../schemas/messages/common.ts"
import { Ack, Beacon, Presence, Pull, Release } from "../../schemas/messages/release.ts"
import { encode, type MessageSchema } from "../../services/common/codec/index.ts"
import type { Crypto } from "../../services/common/crypto/index.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import type { Sent } from "./adversary-bus.ts"
import { bootNow } from "./adversary-clock.ts"
import { nodes } from "./adversary-domain.ts"
import { kindOf, on, opened, understood } from "./adversary-messages.ts"
import type { Chance } from "./adversary-virtual.ts"

const ids = nodes.map(({ id }) => id as string)
const INSTANCES = ["raw:alpha:beta", "packed:beta:gamma"]

export interface Forged {
  readonly how: string
  readonly sent: Partial<Sent>
}

/** Something that was said before. */
export type Old = (chance: Chance, wanted: (sent: Sent) => boolean) => Sent | undefined

export class Forger {
  readonly #crypto: Crypto
  readonly #key: ReturnType<Crypto["ed25519"]["generate"]>
  readonly #old: Old
  /** Acknowledgements are in the clear: the last epoch of each edge that one has named. */
  readonly #epochs = new Map<string, { readonly term: bigint; readonly epoch: bigint }>()

  constructor(crypto: Crypto, old: Old) {
    this.#crypto = crypto
    this.#key = crypto.ed25519.generate()
    this.#old = old
  }

  /** Reads what can be read. */
  saw(sent: Sent): void {
    if (kindOf(sent) !== "ack") return
    for (const { instance, term, epoch } of opened(Ack, sent.data)?.body.edges ?? [])
      this.#epochs.set(instance, { term, epoch })
  }

  forge(sent: Sent, chance: Chance): Forged | undefined {
    const kind = kindOf(sent)
    if (kind === "pull") return this.#pull(sent, chance)
    if (kind === "ack") return this.#ack(sent, chance)
    if (kind === "release") return this.#release(sent, chance)
    if (kind === "beacon" || kind === "presence") return this.#term(sent, chance)
    if (kind === "reply") return this.refusal(sent, chance)
    if (kind === "hello") return this.#hello(sent, chance)
    return kind === "evidence" ? this.#evidence(sent, chance) : undefined
  }

  /**
   * In a node's place, without its key: both ends "hold" the epochs that are next, with one exporter. What is sealed can be
   * guessed: the release's header and earlier acknowledgements tell the rest.
   */
  confirmation(sent: Sent): Partial<Sent> | undefined {
    const release = opened(Release, sent.data)?.body
    if (release === undefined) return undefined
    const { node, session, term, sequence } = release
    const edges = INSTANCES.filter((instance) => instance.split(":").includes(node)).flatMap((instance) => {
      const last = this.#epochs.get(instance)
      const from = last?.term === term ? last.epoch : 1n
      return [from, from + 1n, from + 2n].map((epoch) => ({
        instance,
        term,
        epoch,
        state: "install" as const,
        exporter: new Uint8Array(16).fill(0x42),
      }))
    })
    const ack = encode(Ack, { v: 1, node, session, term, sequence, boot_ns: bootNow(), edges })
    const data = encode(Signed, sign(this.#crypto, labels.signedAck, this.#key, ack))
    return { from: "mallory", owner: "mallory", subject: on(`ack.${node}`), reply: undefined, data }
  }

  /** A verdict in the place of whoever was asked. */
  refusal(sent: Sent, chance: Chance): Forged | undefined {
    if (understood(HelloReply, sent.data) === undefined && understood(EvidenceReply, sent.data) === undefined)
      return undefined
    const code = chance.pick(["REVOKED", "UNKNOWN_NODE", "MISDIRECTED", "NOT_VOUCHED"]) ?? "REVOKED"
    const refused = { v: 1, kind: "refused", by: sent.from, code, field: "node", message: "no" } as const
    return { how: `a refusal, ${code}`, sent: { data: encode(Refusal, refused) } }
  }

  /** Changed, and signed by its own key and honest about it; or in the name of the key that it should be. */
  #resigned<T>(
    sent: Sent,
    schema: MessageSchema<T>,
    label: Parameters<typeof sign>[1],
    chance: Chance,
    how: string,
    change: (body: T) => T,
  ): Forged | undefined {
    const found = opened(schema, sent.data)
    if (found === undefined) return undefined
    const mine = sign(this.#crypto, label, this.#key, encode(schema, change(found.body)))
    const data = encode(Signed, chance.chance(0.6) ? mine : { ...mine, key: found.signed.key })
    return { how, sent: { data } }
  }

  #pull(sent: Sent, chance: Chance): Forged | undefined {
    const crypto = this.#crypto
    const { publicKey } = crypto.mlkem768.fromSeed(crypto.shake256(crypto.randomBytes(32), 96))
    const by = (how: string, change: (pull: Pull) => Pull) =>
      this.#resigned(sent, Pull, labels.signedPull, chance, how, change)
    const way = chance.below(4)
    if (way === 3) return by("a term that was never followed", (pull) => ({ ...pull, followed: 2n ** 49n }))
    if (way === 0) return by("its own KEM key", (pull) => ({ ...pull, kem_key: publicKey }))
    if (way === 1)
      return by("a later nonce", (pull) => {
        const nonce = Uint8Array.from(pull.nonce)
        nonce[7] = (nonce[7] ?? 0) + 1
        return { ...pull, nonce }
      })
    return by("another node's result", (pull) => {
      const other = this.#old(chance, (each) => kindOf(each) === "pull")
      const found = other && opened(Pull, other.data)?.body
      return found === undefined
        ? pull
        : { ...pull, result: found.result, kem_key: found.kem_key, session: found.session }
    })
  }

  #ack(sent: Sent, chance: Chance): Forged | undefined {
    const exporter = chance.chance(0.5) ? this.#crypto.randomBytes(16) : new Uint8Array(16).fill(0x42)
    const by = (how: string, change: (ack: Ack) => Ack) =>
      this.#resigned(sent, Ack, labels.signedAck, chance, how, change)
    const way = chance.below(4)
    if (way === 0)
      return by("all is confirmed", (ack) => ({
        ...ack,
        edges: ack.edges.map((edge) => ({ ...edge, exporter })),
      }))
    if (way === 1) return by("nothing is held", (ack) => ({ ...ack, edges: [] }))
    if (way === 2)
      return by("later epochs", (ack) => ({
        ...ack,
        edges: ack.edges.map((edge) => ({ ...edge, epoch: edge.epoch + 1n, exporter })),
      }))
    return by("a later sequence", (ack) => ({ ...ack, sequence: ack.sequence + 1n }))
  }

  #release(sent: Sent, chance: Chance): Forged | undefined {
    const later = chance.chance(0.5)
    return this.#resigned(sent, Release, labels.signedRelease, chance, "its own signature", (release) =>
      later ? { ...release, sequence: release.sequence + 1n } : { ...release, term: release.term + 1n },
    )
  }

  #term(sent: Sent, chance: Chance): Forged | undefined {
    const beacon = understood(Beacon, sent.data)
    const presence = understood(Presence, sent.data)
    const known = beacon?.term ?? presence?.term ?? 0n
    const term = chance.pick([2n ** 53n, 2n ** 64n - 1n, 0n, known + 1n]) ?? 0n
    if (beacon !== undefined) {
      const nonce = this.#crypto.randomBytes(32)
      return { how: "another beacon", sent: { data: encode(Beacon, { ...beacon, nonce, term }) } }
    }
    if (presence === undefined) return undefined
    const key = chance.chance(0.5) ? this.#key.publicKey : presence.key
    return { how: "another presence", sent: { data: encode(Presence, { ...presence, key, term }) } }
  }

  #hello(sent: Sent, chance: Chance): Forged | undefined {
    const hello = understood(Hello, sent.data)
    if (hello === undefined) return undefined
    const [session, nonce] = [this.#crypto.randomBytes(16), this.#crypto.randomBytes(32)]
    const changed = chance.chance(0.5) ? { ...hello, session } : { ...hello, nonce }
    return { how: "its own session", sent: { data: encode(Hello, changed) } }
  }

  #evidence(sent: Sent, chance: Chance): Forged | undefined {
    const crypto = this.#crypto
    const evidence = understood(NodeEvidence, sent.data)
    if (evidence === undefined) return undefined
    const { claims } = evidence
    const seed = crypto.randomBytes(32)
    const dh = crypto.x25519.generate().publicKey
    const kem = crypto.mlkem768.fromSeed(crypto.shake256(seed, 96)).publicKey
    const signing_key = this.#key.publicKey
    const changed = chance.pick([
      { ...claims, dh_key: dh },
      { ...claims, dh_key: dh, kem_key: kem, signing_key },
      { ...claims, session: seed.subarray(0, 16) },
      { ...claims, node: chance.pick(ids) ?? claims.node },
      { ...claims, signing_key },
    ])
    const data = encode(NodeEvidence, { ...evidence, claims: changed ?? claims })
    return { how: "other claims", sent: { data } }
  }
}
