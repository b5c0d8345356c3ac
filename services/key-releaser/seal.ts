/** From what the core tells a node to the signed message: packs, seals, signs, and wipes what was secret. */
import type { Signed } from "../../schemas/messages/common.ts"
import { Release, ReleasePayload } from "../../schemas/messages/release.ts"
import { encodeChecked } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { sign } from "../make/envelope.ts"
import { labels } from "../make/labels.ts"
import { isLasting, sealRelease, stateDigest } from "../make/release.ts"
import type { ReleaseOutput } from "../make/releaser.ts"

type Payload = ReleaseOutput["payload"]

const holdsSecrets = ({ edges }: Payload): boolean => edges.some(({ secret }) => secret !== undefined)

const none = new Uint8Array(0)

/** What a payload is named by, as it was last sealed. */
interface Named {
  readonly result: Uint8Array
  readonly state: Uint8Array
}

/** @param key signs every release */
export const makeSealer = (crypto: Crypto, key: SecretKey): ((output: ReleaseOutput) => Signed) => {
  /** A renewal that changes nothing brings the same object again; nothing secret is kept. */
  const names = new WeakMap<Payload, Named>()

  const whole = ({ header, payload, recipient }: ReleaseOutput) => {
    const packed = encodeChecked(ReleasePayload, { v: 1, ...payload })
    const { enc, ciphertext } = sealRelease(crypto, recipient, header, packed)
    const { result } = recipient
    if (isLasting(payload)) names.set(payload, { result, state: stateDigest(crypto, header, result, packed) })
    if (holdsSecrets(payload)) {
      packed.fill(0)
      for (const { secret } of payload.edges) secret?.fill(0)
    }
    return { enc, ciphertext }
  }

  /** What the node has been told under this very result. */
  const nameOf = ({ renews, payload, recipient }: ReleaseOutput) => {
    const named = renews ? names.get(payload) : undefined
    const isTheirs = named !== undefined && crypto.equalConstantTime(named.result, recipient.result)
    return isTheirs ? { enc: none, ciphertext: none, state: named.state } : undefined
  }

  return (output) =>
    sign(
      crypto,
      labels.signedRelease,
      key,
      encodeChecked(Release, { v: 1, ...output.header, ...(nameOf(output) ?? whole(output)) }),
    )
}
