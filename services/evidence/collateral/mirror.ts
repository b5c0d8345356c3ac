/**
 * Where a mirror has what: AMD's key distribution service (AMD 57230) and Intel's provisioning certification service
 * (version 4 of its API), or a copy of either under another address. Addresses only; nobody is asked here.
 */
import type { SnpProduct, Tcb } from "../snp/product.ts"
import { decodeTcb, products } from "../snp/product.ts"
import { toHex } from "../text.ts"
import { splitPem } from "./pem.ts"
import type { IntelCa } from "./recognise.ts"
import type { Offered } from "./snapshot.ts"

export const amdService = "https://kdsintf.amd.com"
export const intelService = "https://api.trustedservices.intel.com"
const intelCertificates = "https://certificates.trustedservices.intel.com"

/** One chip at one TCB, as its report has them. */
export interface ChipAtTcb {
  readonly product: SnpProduct
  /** CHIP_ID, 64 bytes. */
  readonly chipId: Uint8Array
  /** REPORTED_TCB, 8 bytes. */
  readonly tcb: Uint8Array
}

export interface MirrorWants {
  /** Base addresses without a slash at the end. Left out: nothing of that vendor. */
  readonly amd?: string
  readonly intel?: string
  readonly products: readonly SnpProduct[]
  readonly chips?: readonly ChipAtTcb[]
  /** 6 bytes in hex, small letters. */
  readonly fmspcs: readonly string[]
  readonly cas: readonly IntelCa[]
}

export interface MirrorRequest {
  readonly name: string
  readonly url: string
  /** Header with the issuers' certificates, as PEM in percent-encoding. */
  readonly issuersIn?: string
}

export const requestsOf = (wants: MirrorWants): readonly MirrorRequest[] => [
  ...(wants.amd === undefined ? [] : amdRequests(wants.amd, wants)),
  ...(wants.intel === undefined || wants.fmspcs.length === 0 ? [] : intelRequests(wants.intel, wants)),
]

const amdRequests = (base: string, { products: names, chips = [] }: MirrorWants): MirrorRequest[] => [
  ...names.flatMap((product) =>
    (["vcek", "vlek"] as const).flatMap((key) =>
      (["cert_chain", "crl"] as const).map((what) => ({
        name: `amd ${product} ${key} ${what}`,
        url: `${base}/${key}/v1/${product}/${what}`,
      })),
    ),
  ),
  ...chips.map((chip) => ({
    name: `amd ${chip.product} vcek ${toHex(chip.chipId.subarray(0, 8))}`,
    url: vcekUrl(base, chip),
  })),
]

/** Two digits each, and FMC where the product has one; the hardware id in as many bytes as the product uses. */
const vcekUrl = (base: string, { product, chipId, tcb }: ChipAtTcb): string => {
  const parts: Tcb = decodeTcb(product, tcb, "report.reportedTcb")
  const two = (value: number): string => `${value}`.padStart(2, "0")
  const levels = [
    ...(parts.fmc === undefined ? [] : [`fmcSPL=${two(parts.fmc)}`]),
    `blSPL=${two(parts.bootloader)}`,
    `teeSPL=${two(parts.tee)}`,
    `snpSPL=${two(parts.snp)}`,
    `ucodeSPL=${two(parts.microcode)}`,
  ]
  const hardwareId = toHex(chipId.subarray(0, products[product].hardwareIdBytes))
  return `${base}/vcek/v1/${product}/${hardwareId}?${levels.join("&")}`
}

const intelRequests = (base: string, { fmspcs, cas }: MirrorWants): MirrorRequest[] => [
  ...fmspcs.map((fmspc) => ({
    name: `intel tcb-info ${fmspc}`,
    url: `${base}/tdx/certification/v4/tcb?fmspc=${fmspc}`,
    issuersIn: "tcb-info-issuer-chain",
  })),
  {
    name: "intel qe-identity",
    url: `${base}/tdx/certification/v4/qe/identity`,
    issuersIn: "sgx-enclave-identity-issuer-chain",
  },
  ...cas.map((ca) => ({
    name: `intel pck-crl ${ca}`,
    url: `${base}/sgx/certification/v4/pckcrl?ca=${ca}&encoding=der`,
    issuersIn: "sgx-pck-crl-issuer-chain",
  })),
  // Intel keeps its root's list with the certificates; mirrors have one address for all.
  { name: "intel root-crl", url: `${base === intelService ? intelCertificates : base}/IntelSGXRootCA.der` },
]

const hexText = /^(?:[0-9a-fA-F]{2}){16,}\s*$/
const issuersMost = 16_384

/**
 * What an answer offers: its body, DER from hex where a mirror writes lists so, and the issuers in its header.
 * @param issuers the header of that name, if there is one
 */
export const offeredBy = (request: MirrorRequest, body: Uint8Array, issuers?: string): readonly Offered[] => {
  const { name, url: source } = request
  const text = body.length > 0 && body[0] !== 0x30 ? Buffer.from(body).toString("latin1") : ""
  const plain = hexText.test(text) ? Uint8Array.from(Buffer.from(text.trim(), "hex")) : body
  return [...splitPem(plain), ...decodeIssuers(issuers)].map((bytes) => ({ name, source, bytes }))
}

const decodeIssuers = (header: string | undefined): readonly Uint8Array[] => {
  if (header === undefined || header.length > issuersMost) return []
  try {
    return splitPem(new TextEncoder().encode(decodeURIComponent(header)))
  } catch {
    return []
  }
}
