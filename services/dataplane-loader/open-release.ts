/**
 * From bytes on the bus to a release that the node's core may look at: signature, header, seal, payload, in this order. What
 * names its payload is, from there on, as if it had said it again.
 */
import { AttestationResult } from "../../schemas/messages/attestation.ts"
import type { Signed } from "../../schemas/messages/common.ts"
import { Release, ReleasePayload } from "../../schemas/messages/release.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { decodeBody } from "../guest/refusals.ts"
import { verify } from "../make/envelope.ts"
import { MakeError } from "../make/errors.ts"
import { labels } from "../make/labels.ts"
import type { NodeState } from "../make/node-state.ts"
import {
  isLasting,
  type OpenedRelease,
  type Opener,
  openRelease,
  type ReleaseHeader,
  releaseDigest,
  renewalDigest,
  stateDigest,
} from "../make/release.ts"
import type { ResultClaims } from "../make/result.ts"

export const decodeResult = (bytes: Uint8Array): ResultClaims =>
  decodeBody(AttestationResult, bytes, "result")

/**
 * @param releaserKey what the accepted control-plane Evidence binds
 * @param own the attested keys that the release is sealed to, the digest of the result that vouches for them, the suite
 * @param core knows what a release may name
 * @throws MakeError
 */
export const openSignedRelease = (
  crypto: Crypto,
  signed: Signed,
  releaserKey: Uint8Array,
  own: Opener,
  core: Pick<NodeState, "named">,
): OpenedRelease => {
  const body = verify(crypto, labels.signedRelease, [releaserKey], signed)
  const { v: _v, enc, ciphertext, state, ...header } = decodeBody(Release, body, "release")
  if (state !== undefined) {
    if (enc.length > 0 || ciphertext.length > 0)
      throw new MakeError("MALFORMED", "state", "stands beside a payload of its own")
    const digest = renewalDigest(crypto, header satisfies ReleaseHeader, state)
    return { header, payload: core.named(state), digest, state }
  }
  const packed = openRelease(crypto, own, header satisfies ReleaseHeader, { enc, ciphertext })
  try {
    const { v: _version, ...payload } = decodeBody(ReleasePayload, packed, "release.payload")
    return {
      header,
      payload,
      digest: releaseDigest(crypto, header, packed),
      ...(isLasting(payload) && { state: stateDigest(crypto, header, own.result, packed) }),
    }
  } finally {
    packed.fill(0)
  }
}
