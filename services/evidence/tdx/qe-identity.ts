/** The identity of Intel's quoting enclave for TDX, version 2 (Intel PCS API v4): which enclave may certify keys. */
import { toHex } from "../text.ts"
import { TdxError } from "./error.ts"
import type { JsonObject } from "./json.ts"
import type { QeReport } from "./quote.ts"
import { type Dated, expectKind, readDated, readSvnLevels, type SvnLevel } from "./tcb-info.ts"

export interface QeIdentity extends Dated {
  /** 4 bytes each, most significant first, as Intel writes them. */
  readonly miscSelect: Uint8Array
  readonly miscSelectMask: Uint8Array
  /** 16 bytes each. */
  readonly attributes: Uint8Array
  readonly attributesMask: Uint8Array
  readonly mrSigner: Uint8Array
  readonly isvProdId: number
  readonly levels: readonly SvnLevel[]
}

/**
 * @param identity the inner object, whose signature held
 * @throws TdxError COLLATERAL_KIND, COLLATERAL_MALFORMED
 */
export const readQeIdentity = (identity: JsonObject): QeIdentity => {
  expectKind(identity, "TD_QE", 2)
  return {
    ...readDated(identity),
    miscSelect: identity.hex("miscselect", 4),
    miscSelectMask: identity.hex("miscselectMask", 4),
    attributes: identity.hex("attributes", 16),
    attributesMask: identity.hex("attributesMask", 16),
    mrSigner: identity.hex("mrsigner", 32),
    isvProdId: identity.integer("isvprodid", 0xffff),
    levels: readSvnLevels(identity),
  }
}

const masked = (value: Uint8Array, mask: Uint8Array): string =>
  toHex(value.map((byte, i) => byte & (mask[i] ?? 0)))

/**
 * Whether this is the enclave that Intel means. How good its version is, is another question.
 * @throws TdxError QE_IDENTITY_MISMATCH
 */
export const checkQeIdentity = (report: QeReport, identity: QeIdentity): void => {
  const miscSelect = new Uint8Array(4)
  new DataView(miscSelect.buffer).setUint32(0, report.miscSelect)
  const compared: readonly (readonly [name: string, found: string, wanted: string])[] = [
    ["miscSelect", masked(miscSelect, identity.miscSelectMask), toHex(identity.miscSelect)],
    ["attributes", masked(report.attributes, identity.attributesMask), toHex(identity.attributes)],
    ["mrSigner", toHex(report.mrSigner), toHex(identity.mrSigner)],
    ["isvProdId", `${report.isvProdId}`, `${identity.isvProdId}`],
  ]
  for (const [name, found, wanted] of compared)
    if (found !== wanted) throw new TdxError("QE_IDENTITY_MISMATCH", `quote.qeReport.${name}`, found, wanted)
}
