/**
 * NATS users' keys (nkeys): Ed25519 with a text form. The client's own are JavaScript, and take as long for one signature as
 * a service for all else in its first connection; these are the platform's.
 *
 *   seed   = base32(0x90 | user >> 5, (user & 31) << 3, 32 bytes, CRC)     SU...
 *   public = base32(user, 32 bytes, CRC)                                   U...
 *
 * with user = 0xa0, CRC-16/XMODEM over what stands before it, low byte first, and base32 of RFC 4648 without padding.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, sign } from "node:crypto"

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
const USER = 0xa0
const SEED_PREFIX = [0x90 | (USER >> 5), (USER & 31) << 3]
const SEED = /^SU[A-Z2-7]{56}$/
/** What stands before the 32 bytes of a private Ed25519 key in PKCS #8 (RFC 8410). */
const PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex")
const KEY_BYTES = 32

const base32 = (bytes: Uint8Array): string => {
  let text = ""
  let [bits, held] = [0, 0]
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xffff
    for (bits += 8; bits >= 5; bits -= 5) text += ALPHABET[(held >> (bits - 5)) & 31]
  }
  return bits === 0 ? text : text + ALPHABET[(held << (5 - bits)) & 31]
}

/** @param text of the alphabet's characters only; bits beyond the last whole byte are dropped */
const fromBase32 = (text: Uint8Array): Uint8Array => {
  const bytes = new Uint8Array((text.length * 5) >> 3)
  let [bits, held, at] = [0, 0, 0]
  for (const character of text) {
    held = ((held << 5) | ALPHABET.indexOf(String.fromCharCode(character))) & 0xfff
    bits += 5
    if (bits < 8) continue
    bits -= 8
    bytes[at++] = held >> bits
  }
  return bytes
}

const crc16 = (bytes: Uint8Array): number => {
  let crc = 0
  for (const byte of bytes) {
    crc ^= byte << 8
    for (let i = 0; i < 8; i++) crc = ((crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0)) & 0xffff
  }
  return crc
}

const encoded = (prefix: readonly number[], key: Uint8Array): string => {
  const bytes = Uint8Array.of(...prefix, ...key)
  const crc = crc16(bytes)
  return base32(Uint8Array.of(...bytes, crc & 0xff, crc >> 8))
}

export interface UserKey {
  /** U..., as the server knows it. */
  readonly publicKey: string
  /** Ed25519, 64 bytes. */
  readonly sign: (message: Uint8Array) => Uint8Array
}

/**
 * @param seed text in bytes
 * @throws RangeError that does not hold the seed, when it is none
 */
export const userKey = (seed: Uint8Array): UserKey => {
  const no = () => new RangeError("not the seed of a NATS user")
  if (!SEED.test(Buffer.from(seed).toString("latin1"))) throw no()
  const bytes = fromBase32(seed)
  const body = bytes.subarray(0, SEED_PREFIX.length + KEY_BYTES)
  const pkcs8 = Buffer.concat([PKCS8, body.subarray(SEED_PREFIX.length)])
  try {
    const crc = crc16(body)
    const whole = bytes[body.length] === (crc & 0xff) && bytes[body.length + 1] === crc >> 8
    if (!whole || SEED_PREFIX.some((byte, i) => body[i] !== byte)) throw no()
    const key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" })
    const spki = createPublicKey(key).export({ format: "der", type: "spki" })
    return {
      publicKey: encoded([USER], spki.subarray(-KEY_BYTES)),
      sign: (message) => sign(null, message, key),
    }
  } finally {
    pkcs8.fill(0)
    bytes.fill(0)
  }
}

/** A new user: its seed as text in bytes (keep it in a file of mode 0600) and the public key that the server knows. */
export const newUser = (): { readonly seed: Uint8Array; readonly publicKey: string } => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519")
  const pkcs8 = privateKey.export({ format: "der", type: "pkcs8" })
  const seed = Uint8Array.from(Buffer.from(encoded(SEED_PREFIX, pkcs8.subarray(-KEY_BYTES)), "latin1"))
  pkcs8.fill(0)
  const spki = publicKey.export({ format: "der", type: "spki" })
  return { seed, publicKey: encoded([USER], spki.subarray(-KEY_BYTES)) }
}
