/** What a node says in a session, signed with the session's own key. After its end, nothing. */
import { Effect } from "effect"
import { Ack, Leave, Pull } from "../../schemas/messages/release.ts"
import type { Bus } from "../common/bus/bus.ts"
import { encode, encodeChecked } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { bootNow } from "../common/kernel/clock.ts"
import { sign } from "../make/envelope.ts"
import { labels } from "../make/labels.ts"
import type { Life } from "./life.ts"
import type { Attested } from "./session.ts"

export const makeSaid = (bus: Bus["Service"], crypto: Crypto, node: string) => ({
  /** The standing request, anew: a release answers the newest one. */
  pull: ({ attested: { session, result }, state }: Life) =>
    Effect.suspend(() => {
      const body = encode(Pull, {
        v: 1,
        node,
        session: session.id,
        nonce: state.ask(bootNow()),
        result: result.signed,
        kem_key: session.kem.publicKey,
      })
      return bus.publish("pull", { node }, sign(crypto, labels.signedPull, session.signing, body))
    }),

  /**
   * The control plane that vouches for this session reigns below a term that this node has followed: its releaser is to rise.
   * Unlike what a hello says of terms, nobody else can say this.
   */
  outgrown: ({ session, result, control }: Attested, followed: bigint | undefined) =>
    Effect.suspend(() => {
      if (followed === undefined || followed <= control.term) return Effect.void
      const body = encode(Pull, {
        v: 1,
        node,
        session: session.id,
        nonce: crypto.randomBytes(32),
        result: result.signed,
        kem_key: session.kem.publicKey,
        followed,
      })
      return bus.publish("pull", { node }, sign(crypto, labels.signedPull, session.signing, body))
    }).pipe(Effect.ignore({ log: true })),

  /** What the kernel holds of the newest release. */
  acknowledgement: ({ state, attested: { session } }: Life) =>
    Effect.suspend(() => {
      const ack = session.signing.disposed ? undefined : state.acknowledgement()
      if (ack === undefined) return Effect.void
      const body = encodeChecked(Ack, { v: 1, ...ack, boot_ns: bootNow(), edges: [...ack.edges] })
      return bus.publish("ack", { node }, sign(crypto, labels.signedAck, session.signing, body))
    }),

  /** The releaser is to forget this session: it drops the node's edges at both ends, at once. */
  leave: ({ attested: { session } }: Life) =>
    Effect.suspend(() => {
      if (session.signing.disposed) return Effect.void
      const body = encode(Leave, { v: 1, node, session: session.id })
      return bus.publish("leave", { node }, sign(crypto, labels.signedLeave, session.signing, body))
    }),
})
