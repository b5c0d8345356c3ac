/**
 * An emulated guest as a file, so that an attester in a process of its own can open it like a device. The file holds the
 * chip's signing key: who can read it can forge this chip's reports. That is what "emulated" means; real hardware keeps
 * the key inside.
 */
import { readFileSync, statSync, writeFileSync } from "node:fs"
import { CryptoError, crypto } from "../../common/crypto/index.ts"
import { productNames, type SnpProduct } from "../snp/product.ts"
import { toHex } from "../text.ts"
import { DeviceError } from "./error.ts"
import { type EmulatedGuest, resumeGuest } from "./guest.ts"
import type { EmulatedRoot } from "./platform.ts"

const guestFormat = "vouchsafe-emulated-snp-guest-1"
const rootFormat = "vouchsafe-emulated-snp-root-1"
const stateBytesMax = 65_536

export const encodeGuest = ({ chip, launch }: EmulatedGuest): string =>
  JSON.stringify(
    {
      format: guestFormat,
      emulated: true,
      product: chip.product,
      chip_id: toHex(chip.chipId),
      tcb: toHex(chip.tcb),
      vcek_secret: toHex(chip.key.reveal("ecdsa-p384")),
      certificates: chip.certificates.map(toHex),
      measurement: toHex(launch.measurement),
      policy: `0x${launch.policy.toString(16)}`,
      host_data: toHex(launch.hostData),
      family_id: toHex(launch.familyId),
      image_id: toHex(launch.imageId),
      vmpl: launch.vmpl,
      report_id: toHex(launch.reportId),
      version: launch.version,
    },
    null,
    2,
  )

/** @throws DeviceError STATE_INVALID */
export const decodeGuest = (text: string): EmulatedGuest => {
  const fields = readFields(text, guestFormat)
  const product = readProduct(fields)
  const certificates = readList(fields, "certificates", 3)
  const version = fields.version
  if (version !== 2 && version !== 3 && version !== 5) throw invalid("version", "must be 2, 3 or 5")
  if (typeof fields.vmpl !== "number") throw invalid("vmpl", "must be a number")
  if (typeof fields.policy !== "string" || !/^0x[0-9a-f]{1,16}$/.test(fields.policy))
    throw invalid("policy", "must be a number of at most 64 bits, 0x first")
  return resumeGuest(
    {
      product,
      chipId: readBytes(fields, "chip_id", 64),
      tcb: readBytes(fields, "tcb", 8),
      key: readKey(fields),
      certificates,
    },
    {
      measurement: readBytes(fields, "measurement", 48),
      policy: BigInt(fields.policy),
      hostData: readBytes(fields, "host_data", 32),
      familyId: readBytes(fields, "family_id", 16),
      imageId: readBytes(fields, "image_id", 16),
      vmpl: fields.vmpl,
      reportId: readBytes(fields, "report_id", 32),
      version,
    },
  )
}

export const encodeRoot = (root: EmulatedRoot): string =>
  JSON.stringify({
    format: rootFormat,
    emulated: true,
    product: root.product,
    key_digest: root.hardwareRoot.key_digest,
    certificates: root.certificates.map(toHex),
    ask_key: toHex(root.askKey),
  })

/** @throws DeviceError STATE_INVALID */
export const decodeRoot = (text: string): EmulatedRoot => {
  const fields = readFields(text, rootFormat)
  const product = readProduct(fields)
  const [ask, ark] = readList(fields, "certificates", 2)
  if (ask === undefined || ark === undefined) throw invalid("certificates", "must be two")
  const key_digest = toHex(readBytes(fields, "key_digest", 32))
  return {
    product,
    hardwareRoot: { vendor: "amd", product, key_digest, emulated: true },
    certificates: [ask, ark],
    askKey: readBytes(fields, "ask_key"),
  }
}

/** Writes a file that only its owner can read. */
export const writeState = (path: string, text: string): void =>
  writeFileSync(path, text, { mode: 0o600, flag: "w" })

/** @throws DeviceError STATE_UNREADABLE, STATE_INVALID */
export const readGuest = (path: string): EmulatedGuest => decodeGuest(readState(path))
export const readRoot = (path: string): EmulatedRoot => decodeRoot(readState(path))

const readState = (path: string): string => {
  try {
    const { size } = statSync(path)
    if (size <= stateBytesMax) return readFileSync(path, "utf8")
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error"
    throw new DeviceError("STATE_UNREADABLE", path, code)
  }
  throw new DeviceError("STATE_UNREADABLE", path, `is larger than ${stateBytesMax} bytes`)
}

type Fields = Readonly<Record<string, unknown>>

const invalid = (field: string, message: string): DeviceError =>
  new DeviceError("STATE_INVALID", field, message)

const readFields = (text: string, format: string): Fields => {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw invalid("state", "isn't JSON")
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw invalid("state", "isn't an object")
  const fields = value as Fields
  if (fields.format !== format) throw invalid("format", `must be ${format}`)
  return fields
}

const readProduct = (fields: Fields): SnpProduct => {
  const product = productNames.find((name) => name === fields.product)
  if (product === undefined) throw invalid("product", `must be one of ${productNames.join(", ")}`)
  return product
}

const fromHex = (value: unknown, field: string): Uint8Array => {
  if (typeof value !== "string" || value.length > 16_384 || !/^(?:[0-9a-f]{2})+$/.test(value))
    throw invalid(field, "must be bytes in hex")
  return Uint8Array.from(Buffer.from(value, "hex"))
}

const readBytes = (fields: Fields, field: string, length?: number): Uint8Array => {
  const bytes = fromHex(fields[field], field)
  if (length !== undefined && bytes.length !== length) throw invalid(field, `must have ${length} bytes`)
  return bytes
}

const readList = (fields: Fields, field: string, length: number): Uint8Array[] => {
  const list = fields[field]
  if (!Array.isArray(list) || list.length !== length) throw invalid(field, `must be a list of ${length}`)
  return list.map((one, i) => fromHex(one, `${field}.${i}`))
}

const readKey = (fields: Fields) => {
  try {
    return crypto.ecdsaP384.fromSecret(readBytes(fields, "vcek_secret", 48))
  } catch (error) {
    if (error instanceof CryptoError) throw invalid("vcek_secret", "isn't a P-384 secret")
    throw error
  }
}
