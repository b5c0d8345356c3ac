/** TPMT_PUBLIC of the keys that are asked of a TPM. */
import { join, sized, u16, u32 } from "./command.ts"
import { algorithms } from "./structures.ts"

export type AkKind = "ecdsa-p256" | "rsassa-2048" | "rsapss-2048"
export type EkKind = "rsa-2048" | "ecc-p256"

const none = u16(algorithms.null)

/** fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign. */
const akAttributes = 0x0005_0472

export const akTemplate = (kind: AkKind): Uint8Array => {
  const isEcc = kind === "ecdsa-p256"
  const scheme = {
    "ecdsa-p256": algorithms.ecdsa,
    "rsassa-2048": algorithms.rsassa,
    "rsapss-2048": algorithms.rsapss,
  }
  const head = join(
    u16(isEcc ? algorithms.ecc : algorithms.rsa),
    u16(algorithms.sha256),
    u32(akAttributes),
    sized(),
    none,
    u16(scheme[kind]),
    u16(algorithms.sha256),
  )
  return isEcc ? join(head, u16(0x0003), none, sized(), sized()) : join(head, u16(2_048), u32(0), sized())
}

/** fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt. */
const ekAttributes = 0x0003_00b2

/** PolicySecret(TPM_RH_ENDORSEMENT), SHA-256. */
const ekPolicy = Buffer.from("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa", "hex")

/** Templates L-1 and L-2 (TCG EK Credential Profile, B.3.3 and B.3.4). */
export const ekTemplate = (kind: EkKind): Uint8Array => {
  const isEcc = kind === "ecc-p256"
  const head = join(
    u16(isEcc ? algorithms.ecc : algorithms.rsa),
    u16(algorithms.sha256),
    u32(ekAttributes),
    sized(ekPolicy),
    u16(algorithms.aes),
    u16(128),
    u16(algorithms.cfb),
    none,
  )
  const zeros = (length: number) => sized(new Uint8Array(length))
  return isEcc
    ? join(head, u16(0x0003), none, zeros(32), zeros(32))
    : join(head, u16(2_048), u32(0), zeros(256))
}
