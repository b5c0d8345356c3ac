/** From what the core tells a node to the signed message: packs, seals, signs, and wipes what was secret. */
import type { Signed } from "../../schemas/messages/common.ts"
import { Release, ReleasePayload } from "../../schemas/messages/release.ts"
import { encodeChecked } from "../common/codec/index.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { sign } from "../make/envelope.ts"
import { labels } from "../make/labels.ts"
import { sealRelease } from "../make/release.ts"
import type { ReleaseOutput } from "../make/releaser.ts"

type Payload = ReleaseOutput["payload"]

const holdsSecrets = ({ edges }: Payload): boolean => edges.some(({ secret }) => secret !== undefined)

/** @param key signs every release */
export const makeSealer = (crypto: Crypto, key: SecretKey): ((output: ReleaseOutput) => Signed) => {
  /** A renewal that changes nothing brings the same object again; nothing secret is kept. */
  const packedBefore = new WeakMap<Payload, Uint8Array>()

  return ({ header, payload, recipient }) => {
    const before = packedBefore.get(payload)
    const packed = before ?? encodeChecked(ReleasePayload, { v: 1, ...payload })
    const { enc, ciphertext } = sealRelease(crypto, recipient, header, packed)
    if (before === undefined) {
      if (holdsSecrets(payload)) {
        packed.fill(0)
        for (const { secret } of payload.edges) secret?.fill(0)
      } else packedBefore.set(payload, packed)
    }
    return sign(
      crypto,
      labels.signedRelease,
      key,
      encodeChecked(Release, { v: 1, ...header, enc, ciphertext }),
    )
  }
}
