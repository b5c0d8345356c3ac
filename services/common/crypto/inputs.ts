/** Checks of arguments that both implementations share, so that they refuse the same things. */
import { CryptoError } from "./port.ts"

const hkdfMaxBytes = 255 * 32

/** FIPS 203, table 3, and its key generation's d || z. */
export const MLKEM768_BYTES = { seed: 64, publicKey: 1_184, ciphertext: 1_088 } as const

/** @throws CryptoError `input` unless `bytes` has exactly `length` bytes. */
export const expectLength = (field: string, bytes: Uint8Array, length: number): void => {
  if (bytes.length !== length)
    throw new CryptoError("input", field, `must have ${length} bytes, has ${bytes.length}`)
}

/** @throws CryptoError `input` unless `length` is what HKDF-SHA-256 can give. */
export const expectHkdfLength = (length: number): void => {
  if (!Number.isInteger(length) || length < 1 || length > hkdfMaxBytes)
    throw new CryptoError("input", "length", `must be 1..${hkdfMaxBytes}, is ${length}`)
}

/** @throws CryptoError `input` unless `length` is 1..65,536. */
export const expectShakeLength = (length: number): void => {
  if (!Number.isInteger(length) || length < 1 || length > 65_536)
    throw new CryptoError("input", "length", `must be 1..65536, is ${length}`)
}

/** @throws CryptoError `input` unless `length` is 0..65,536. */
export const expectRandomLength = (length: number): void => {
  if (!Number.isInteger(length) || length < 0 || length > 65_536)
    throw new CryptoError("input", "length", `must be 0..65536, is ${length}`)
}

/** @throws CryptoError `input` unless a sealed message has room for its tag. */
export const expectSealed = (sealed: Uint8Array): void => {
  if (sealed.length < 16)
    throw new CryptoError("input", "sealed", `must have at least 16 bytes, has ${sealed.length}`)
}

/** p = 2^255 - 19, least significant byte first. */
const p25519 = Uint8Array.from([0xed, ...Array(30).fill(0xff), 0x7f])

/**
 * The five y coordinates of the eight points whose order divides the cofactor, in hex, least significant byte first:
 * 0 (order 4), 1 (the neutral point), -1 (order 2) and two of order 8. The sign of x doesn't matter.
 */
const smallOrderY = new Set([
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
])

/**
 * Whether 32 bytes may be an Ed25519 public key as far as the encoding tells: y < p, and not of small order. Whether the
 * point is on the curve is for the implementation to find out.
 */
export const isAcceptableEd25519Key = (publicKey: Uint8Array): boolean => {
  if (publicKey.length !== 32) return false
  const y = Uint8Array.from(publicKey)
  y[31] = (y[31] ?? 0) & 0x7f
  return lessThan(y, p25519) && !smallOrderY.has(Buffer.from(y).toString("hex"))
}

/** a < b, both least significant byte first and of one length. Not constant time: for public values. */
const lessThan = (a: Uint8Array, b: Uint8Array): boolean => {
  for (let i = a.length - 1; i >= 0; i--) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}

/** An uncompressed point with its leading 04, given with or without it; undefined when it is neither. */
export const uncompressedPoint = (publicKey: Uint8Array, coordinateBytes: number): Uint8Array | undefined => {
  if (publicKey.length === 2 * coordinateBytes + 1) return publicKey[0] === 4 ? publicKey : undefined
  if (publicKey.length !== 2 * coordinateBytes) return undefined
  const point = new Uint8Array(publicKey.length + 1)
  point[0] = 4
  point.set(publicKey, 1)
  return point
}
