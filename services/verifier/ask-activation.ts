/** A credential for the keys that a hello names: a secret that only their TPM can open. */
import type { Credential, Endorsement } from "../../schemas/messages/attestation.ts"
import type { Crypto } from "../common/crypto/port.ts"
import { challengeAk, parsePublic, TpmError } from "../evidence/tpm/index.ts"
import type { AskedActivation } from "../make/activation.ts"
import { MakeError } from "../make/errors.ts"

export interface AskedOfTpm {
  readonly credential: Credential
  readonly activation: AskedActivation
}

/**
 * @param endorsement TPMT_PUBLICs, bounded, else unchecked: who lies about them can't open what is made for them
 * @throws MakeError MALFORMED for what is no endorsement key, or no attestation key
 */
export const askActivation = (crypto: Crypto, endorsement: Endorsement): AskedOfTpm => {
  try {
    const ek = parsePublic(endorsement.ek, "endorsement.ek")
    const ak = parsePublic(endorsement.ak, "endorsement.ak")
    const { challenge, pending } = challengeAk(ek, ak, crypto)
    return {
      credential: { blob: challenge.credentialBlob, secret: challenge.encryptedSecret },
      activation: {
        secret: pending.secret,
        ek: Uint8Array.from(Buffer.from(pending.ekDigest, "hex")),
        akName: pending.akName,
      },
    }
  } catch (error) {
    if (error instanceof TpmError)
      throw new MakeError("MALFORMED", error.field, `${error.code}: ${error.found}, not ${error.wanted}`)
    if (isOfKey(error)) throw new MakeError("MALFORMED", "endorsement", "is no key that can be sealed to")
    throw error
  }
}

/** What OpenSSL says of a modulus or a point that is none. */
const isOfKey = (error: unknown): boolean =>
  error instanceof Error && "code" in error && /^ERR_(?:OSSL|CRYPTO)_/.test(String(error.code))
