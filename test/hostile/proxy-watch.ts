/** What whoever stands between may not bring about, seen on the real wire and in the nodes' kernels. */
import { AttestationResult, EvidenceReply } from "../../schemas/messages/attestation.ts"
import { Ack, Beacon, Release } from "../../schemas/messages/release.ts"
import { hex, kindOf, mayPublish, opened, understood } from "./adversary-messages.ts"
import { disagreements, type ModelPlane } from "./adversary-plane.ts"
import type { Wire } from "./proxy.ts"
import type { Message } from "./proxy-frames.ts"

export class Watch {
  /** Rules that were broken, each once. */
  readonly broken = new Set<string>()
  /** All that was published by anybody, as it was. */
  readonly said: Array<{ readonly by: string; readonly message: Message }> = []
  readonly planes: ReadonlyMap<string, ModelPlane>
  readonly #terms = new Map<string, bigint>()
  readonly #acked = new Map<string, readonly [bigint, bigint]>()
  /** Sessions that a verifier has vouched for. */
  readonly #vouched = new Set<string>()

  constructor(planes: ReadonlyMap<string, ModelPlane>) {
    this.planes = planes
  }

  readonly accuse = (rule: string, detail: string): void => void this.broken.add(`${rule}: ${detail}`)

  /** Somebody honest publishes; nobody has touched it yet. */
  readonly onPublish = ({ name }: Wire, message: Message): void => {
    this.said.push({ by: name, message })
    const { subject, payload } = message
    const kind = kindOf(message)
    if (kind === "ack" && name.startsWith("loader-")) this.#onAck(name, payload)
    if (kind === "release") this.#onRelease(name, payload)
    if (kind === "beacon") this.#rises(name, understood(Beacon, payload)?.term)
    if (kind === "reply" && name.startsWith("verifier-")) this.#onReply(payload)
    if (!mayPublish(name, "lab", subject))
      this.accuse("nobody is made to publish elsewhere", `${name} on ${JSON.stringify(subject)}`)
  }

  #rises(who: string, term: bigint | undefined): void {
    if (term === undefined) return
    const before = this.#terms.get(who) ?? 0n
    if (term < before) this.accuse("terms only rise", `${who} goes from ${before} back to ${term}`)
    this.#terms.set(who, term)
  }

  #onAck(who: string, payload: Uint8Array): void {
    const ack = opened(Ack, payload)?.body
    if (ack === undefined) return
    const session = `${who} ${hex(ack.session)}`
    const [term, sequence] = this.#acked.get(session) ?? [0n, 0n]
    if (ack.term < term || (ack.term === term && ack.sequence < sequence))
      this.accuse("terms and sequences only rise", `${who} goes back to ${ack.term}.${ack.sequence}`)
    this.#acked.set(session, [ack.term, ack.sequence])
    this.#rises(who, ack.term)
  }

  #onReply(payload: Uint8Array): void {
    const reply = understood(EvidenceReply, payload)
    const claims = reply?.kind === "result" ? understood(AttestationResult, reply.result.body) : undefined
    if (claims !== undefined) this.#vouched.add(`${claims.node} ${hex(claims.session)}`)
  }

  #onRelease(who: string, payload: Uint8Array): void {
    const release = opened(Release, payload)?.body
    if (release === undefined) return
    const to = `${release.node} ${hex(release.session)}`
    if (!this.#vouched.has(to)) this.accuse("no key to whom nobody vouches for", `${who} releases to ${to}`)
  }

  /** To be looked at often. */
  readonly look = (): void => {
    for (const detail of disagreements(this.planes)) this.accuse("both ends agree or have none", detail)
  }
}
