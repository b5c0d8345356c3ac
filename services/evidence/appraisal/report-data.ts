/**
 * How each kind of evidence carries the 64 bytes of report data: the one place that attesters and verifiers both go by.
 *
 *   SNP    REPORT_DATA            the 64 bytes
 *   TDX    REPORTDATA             the 64 bytes
 *   TPM    TPMS_ATTEST.extraData  SHA-256 of them, 32 bytes: a TPM2B_DATA of a TPM without SHA-512 holds 50 at the most
 *   Nitro  user_data              the 64 bytes; nonce and public_key aren't looked at
 *
 * Where Azure's paravisor stands between guest and hardware, the report data of the hardware's report is the paravisor's
 * own (it binds the TPM's key), and the TPM's quote alone carries ours.
 */
import { crypto } from "../../common/crypto/index.ts"

export const reportDataBytes = 64

/** @param reportData 64 bytes, a hash over a label and everything that the evidence shall bind */
export const tpmExtraData = (reportData: Uint8Array): Uint8Array => {
  if (reportData.length !== reportDataBytes)
    throw new RangeError(`report data: ${reportData.length} bytes, not ${reportDataBytes}`)
  return crypto.sha256(reportData)
}
