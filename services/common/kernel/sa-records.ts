/** Security associations: their indexes and lanes, keys, leases and windows. */
import { invalid } from "./errors.ts"
import { edgeIndex, laneIndex, reading, readingSecret, record, sized, u32, u64 } from "./record-bytes.ts"
import { FLAG_ESN, KEY_SIZE, SALT_SIZE, SPI_MIN, shapes } from "./record-shapes.ts"

const spiValue = (spi: number): number => {
  if (u32(spi, "spi") < SPI_MIN) throw invalid("encode", "spi", `is below ${SPI_MIN}`)
  return spi
}

/** Key of `outbound`. */
export const laneKey = (edge: number, lane: number): Uint8Array =>
  record(shapes.outbound.keySize, (v) => {
    v.setUint32(0, edgeIndex(edge), true)
    v.setUint32(4, laneIndex(lane), true)
  })

export const decodeLaneKey = (bytes: Uint8Array): { readonly edge: number; readonly lane: number } => {
  const v = reading(bytes, shapes.outbound.keySize, "lane key")
  return { edge: v.getUint32(0, true), lane: v.getUint32(4, true) }
}

/** Value of `outbound`: the SPI that a lane uses. */
export const encodeOutbound = (spi: number): Uint8Array =>
  record(shapes.outbound.valueSize, (v) => v.setUint32(0, spiValue(spi)))

export const decodeOutbound = (bytes: Uint8Array): number =>
  reading(bytes, shapes.outbound.valueSize, "outbound").getUint32(0)

/** Key of `sa_out` and `lease_out`. */
export const outSaKey = (edge: number, spi: number): Uint8Array =>
  record(shapes.sa_out.keySize, (v) => {
    v.setUint32(0, edgeIndex(edge), true)
    v.setUint32(4, spiValue(spi))
  })

export const decodeOutSaKey = (bytes: Uint8Array): { readonly edge: number; readonly spi: number } => {
  const v = reading(bytes, shapes.sa_out.keySize, "outbound SA key")
  return { edge: v.getUint32(0, true), spi: v.getUint32(4) }
}

/** Key of `sa_in`, `lease_in` and `windows`. */
export const inSaKey = (spi: number): Uint8Array =>
  record(shapes.sa_in.keySize, (v) => v.setUint32(0, spiValue(spi)))

/** What both directions' SA records hold in secret. */
export interface SaSecret {
  /** ChaCha20-Poly1305 key, 32 bytes. */
  readonly key: Uint8Array
  /** RFC 7634 salt, 4 bytes. */
  readonly salt: Uint8Array
  readonly esn: boolean
}

const setSecret = (v: DataView, bytes: Uint8Array, secret: SaSecret): void => {
  bytes.set(sized(secret.key, KEY_SIZE, "key"), 8)
  bytes.set(sized(secret.salt, SALT_SIZE, "salt"), 40)
  v.setUint32(44, secret.esn ? FLAG_ESN : 0, true)
}

/** `struct vs_sa_out` with its sequence number at 0: the kernel counts from there. Holds the key: wipe it after use. */
export const encodeSaOut = (secret: SaSecret): Uint8Array =>
  record(shapes.sa_out.valueSize, (v, bytes) => setSecret(v, bytes, secret))

/** `struct vs_sa_in`. Holds the key: wipe it after use. */
export const encodeSaIn = (edge: number, lane: number, secret: SaSecret): Uint8Array =>
  record(shapes.sa_in.valueSize, (v, bytes) => {
    v.setUint32(0, edgeIndex(edge), true)
    v.setUint32(4, laneIndex(lane), true)
    setSecret(v, bytes, secret)
  })

/** Tests read SA records back to hold them against the C layout; the product never does. */
export const decodeSaOut = (bytes: Uint8Array): SaSecret & { readonly sequence: bigint } => {
  const v = readingSecret(bytes, shapes.sa_out.valueSize, "outbound SA")
  return { sequence: v.getBigUint64(0, true), ...secretOf(v, bytes) }
}

export const decodeSaIn = (
  bytes: Uint8Array,
): SaSecret & { readonly edge: number; readonly lane: number } => {
  const v = readingSecret(bytes, shapes.sa_in.valueSize, "inbound SA")
  return { edge: v.getUint32(0, true), lane: v.getUint32(4, true), ...secretOf(v, bytes) }
}

const secretOf = (v: DataView, bytes: Uint8Array): SaSecret => ({
  key: bytes.slice(8, 8 + KEY_SIZE),
  salt: bytes.slice(40, 40 + SALT_SIZE),
  esn: (v.getUint32(44, true) & FLAG_ESN) !== 0,
})

/** A lease's deadline, CLOCK_BOOTTIME nanoseconds. */
export const encodeDeadline = (deadline: bigint): Uint8Array =>
  record(8, (v) => v.setBigUint64(0, u64(deadline, "deadline"), true))

export const decodeDeadline = (bytes: Uint8Array): bigint =>
  reading(bytes, 8, "deadline").getBigUint64(0, true)

/** `struct vs_window` before the first packet: lock, padding, top and bits all zero. */
export const emptyWindow = (): Uint8Array => new Uint8Array(shapes.windows.valueSize)

/** `top` of `struct vs_window`: the highest sequence number that was accepted. */
export const decodeWindowTop = (bytes: Uint8Array): bigint =>
  reading(bytes, shapes.windows.valueSize, "window").getBigUint64(8, true)
