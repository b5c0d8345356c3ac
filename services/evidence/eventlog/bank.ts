/** The hash algorithms of PCR banks and of TPM signatures, by their numbers in the TCG Algorithm Registry. */
import { hash } from "node:crypto"
import { type Crypto, crypto as chosen } from "../../common/crypto/index.ts"

export type Bank = "sha1" | "sha256" | "sha384" | "sha512"

export const banks: Readonly<Record<Bank, { readonly id: number; readonly bytes: number }>> = {
  sha1: { id: 0x0004, bytes: 20 },
  sha256: { id: 0x000b, bytes: 32 },
  sha384: { id: 0x000c, bytes: 48 },
  sha512: { id: 0x000d, bytes: 64 },
}

const names = new Map<number, Bank>([
  [banks.sha1.id, "sha1"],
  [banks.sha256.id, "sha256"],
  [banks.sha384.id, "sha384"],
  [banks.sha512.id, "sha512"],
])

/** Undefined for an algorithm that isn't computed here (SM3, SHA-3). */
export const bankOf = (id: number): Bank | undefined => names.get(id)

/** SHA-1 is no part of the port: it is here only to read old logs, and nothing is accepted for it by default. */
export const digest = (bank: Bank, data: Uint8Array, crypto: Crypto = chosen): Uint8Array =>
  bank === "sha1" ? Uint8Array.from(hash("sha1", data, "buffer")) : crypto[bank](data)
