/**
 * Which implementation of the port runs, by VOUCHSAFE_CRYPTO: `noble`, `native`, or `auto`, the default.
 *
 * `auto` is noble except where it is measured to matter (Node 26, one core of a cloud machine, microseconds):
 *
 *                         noble   native
 *   P-384 verify           2,910      455
 *   Ed25519 verify           720       92
 *   Ed25519 sign             338       31
 *   X25519                   670       30
 *   SHA-256 of 65 bytes      1.1      0.3
 *   SHA-384 of 64 KiB        597       77
 *   HMAC-SHA-256, 100 bytes  3.9      3.1
 *   HKDF extract             3.1      1.8
 *   HKDF expand, 32 bytes    3.3      2.7
 *   HKDF, 88 bytes            11        3
 *   AEAD seal, 1 KiB           9        4
 *   AEAD seal, 20 KiB        105       13
 *   ML-KEM-768 encapsulate   362       38
 *   ML-KEM-768 decapsulate   769       30
 */
import { native } from "./native.ts"
import { noble } from "./noble.ts"
import { type Crypto, CryptoError } from "./port.ts"

export {
  type Crypto,
  CryptoError,
  type CryptoErrorCode,
  type Kem768,
  type Signer,
  type Verifier,
} from "./port.ts"
export { type KeyAlgorithm, SecretKey } from "./secret-key.ts"
export { native, noble }

export const auto: Crypto = {
  ...noble,
  name: "auto",
  sha256: native.sha256,
  sha384: native.sha384,
  sha512: native.sha512,
  sha3_256: native.sha3_256,
  shake256: native.shake256,
  x25519: native.x25519,
  mlkem768: native.mlkem768,
  ed25519: native.ed25519,
  ecdsaP384: native.ecdsaP384,
  ecdsaP256: native.ecdsaP256,
  hmacSha256: native.hmacSha256,
  hkdfSha256: native.hkdfSha256,
  hkdfExtractSha256: native.hkdfExtractSha256,
  hkdfExpandSha256: native.hkdfExpandSha256,
  chacha20poly1305: native.chacha20poly1305,
}

/** @throws CryptoError `input` for a setting that isn't one of the three: a typing error must not choose silently. */
export const chooseCrypto = (setting: string | undefined): Crypto => {
  switch (setting) {
    case undefined:
    case "":
    case "auto":
      return auto
    case "noble":
      return noble
    case "native":
      return native
    default:
      throw new CryptoError("input", "VOUCHSAFE_CRYPTO", "must be noble, native or auto")
  }
}

export const crypto: Crypto = chooseCrypto(process.env.VOUCHSAFE_CRYPTO)
