/**
 * Emulated SEV-SNP hardware for labs and tests: a root, chips, guests. What it makes has the genuine format down to the
 * byte and is worth nothing: whoever holds the state can make any report. A verifier accepts it only where its caller
 * names this very root as emulated.
 */
import { crypto, type SecretKey } from "../../common/crypto/index.ts"
import { rsaPss4096Sha384 } from "../../common/crypto/native.ts"
import { keyDigest } from "../snp/certificate.ts"
import { encodeTcb, products, type SnpProduct, type Tcb } from "../snp/product.ts"
import type { HardwareRoot } from "../snp/roots.ts"
import { arkCertificate, askCertificate, type Validity, vcekCertificate } from "./certificates.ts"
import { DeviceError, expectBytes } from "./error.ts"

export interface EmulatedRoot {
  readonly product: SnpProduct
  /** How a workflow names it. */
  readonly hardwareRoot: HardwareRoot
  /** DER: ASK, then ARK. */
  readonly certificates: readonly [Uint8Array, Uint8Array]
  /** PKCS #8; the ARK's own key isn't needed after the ASK's certificate exists and isn't kept. */
  readonly askKey: Uint8Array
}

export interface EmulatedChip {
  readonly product: SnpProduct
  /** 64 bytes, as CHIP_ID of a report. */
  readonly chipId: Uint8Array
  /** 8 bytes. */
  readonly tcb: Uint8Array
  readonly key: SecretKey
  /** DER: VCEK, ASK, ARK. */
  readonly certificates: readonly Uint8Array[]
}

const day = 86_400_000
const validFor = (now: Date, days: number): Validity => ({
  notBefore: new Date(now.getTime() - day),
  notAfter: new Date(now.getTime() + days * day),
})

export interface RootOptions {
  readonly now: Date
  readonly product?: SnpProduct
  readonly validity?: Validity
}

/** Makes two RSA keys of 4,096 bits: takes a second or several. Keep the root and use it again. */
export const createEmulatedRoot = (options: RootOptions): EmulatedRoot => {
  const { now, product = "Milan", validity = validFor(now, 3_650) } = options
  const ark = rsaPss4096Sha384.generate()
  const ask = rsaPss4096Sha384.generate()
  const root: EmulatedRoot = {
    product,
    hardwareRoot: { vendor: "amd", product, key_digest: keyDigest(ark.publicKey), emulated: true },
    certificates: [
      askCertificate(product, ask.publicKey, ark.privateKey, validity),
      arkCertificate(product, ark.publicKey, ark.privateKey, validity),
    ],
    askKey: ask.privateKey,
  }
  ark.privateKey.fill(0)
  return root
}

/** A plausible TCB for those who don't care which. */
export const plainTcb: Tcb = { bootloader: 4, tee: 0, snp: 24, microcode: 219 }

export interface ChipOptions {
  readonly now: Date
  readonly tcb?: Tcb
  /** As much of CHIP_ID as the product uses: 64 bytes, 8 on Turin. Random when absent. */
  readonly hardwareId?: Uint8Array
  readonly validity?: Validity
}

/** @throws DeviceError INPUT for a hardware id of the wrong length or a TCB part outside of 0..255 */
export const createEmulatedChip = (root: EmulatedRoot, options: ChipOptions): EmulatedChip => {
  const { product } = root
  const { hardwareIdBytes } = products[product]
  const { now, hardwareId = crypto.randomBytes(hardwareIdBytes), validity = validFor(now, 2_555) } = options
  const tcb = expectTcb(product, options.tcb ?? plainTcb)
  const chipId = new Uint8Array(64)
  chipId.set(expectBytes("hardwareId", hardwareId, hardwareIdBytes))
  const key = crypto.ecdsaP384.generate()
  const content = { product, publicKey: key.publicKey, tcb, hardwareId, validity }
  return {
    product,
    chipId,
    tcb: encodeTcb(product, tcb),
    key,
    certificates: [vcekCertificate(content, root.askKey), ...root.certificates],
  }
}

const expectTcb = (product: SnpProduct, tcb: Tcb): Tcb => {
  for (const [part, value] of Object.entries(tcb))
    if (!Number.isInteger(value) || value < 0 || value > 255)
      throw new DeviceError("INPUT", `tcb.${part}`, "must be 0 to 255")
  if (tcb.fmc !== undefined && product !== "Turin")
    throw new DeviceError("INPUT", "tcb.fmc", `doesn't exist on ${product}`)
  return tcb
}
