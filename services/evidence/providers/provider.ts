/** Where this machine's Evidence comes from. */

import { limits } from "../../../schemas/limits.ts"
import type { Credential, Endorsement } from "../../../schemas/messages/attestation.ts"
import type { Piece } from "../../../schemas/messages/common.ts"
import { ProviderError } from "./error.ts"

export interface AttestationProvider {
  /** As stages of a workflow name it; several pieces are joined by a plus: `sev-snp+tpm`. */
  readonly platform: string
  /** Software plays the hardware: its Evidence proves nothing. */
  readonly emulated: boolean
  /** For people: what it is and where. */
  readonly about: string
  /**
   * Fresh pieces, all over the same report data. One call at a time.
   * @param reportData exactly 64 bytes
   * @param room bytes that the pieces may have together; default: all of a message of Evidence
   * @throws ProviderError; TpmError for what a TPM refused
   */
  readonly attest: (reportData: Uint8Array, room?: number) => Promise<readonly Piece[]>
  /** Where a TPM's endorsement key is to be proven beside its quotes. */
  readonly endorsement?: EndorsementProvider
  readonly close: () => Promise<void>
}

export interface EndorsementProvider {
  /** TPMT_PUBLICs. */
  readonly keys: Endorsement
  /**
   * Opens what was made for these keys. One call at a time, also beside `attest`.
   * @throws TpmError DEVICE_REFUSED for what was made for others
   */
  readonly activate: (credential: Credential) => Promise<Uint8Array>
}

/** All bytes of the pieces, as the limit on Evidence counts them. */
export const bytesOf = (pieces: readonly Piece[]): number =>
  pieces.reduce((sum, piece) => sum + count(piece), 0)

const count = (value: unknown): number => {
  if (value instanceof Uint8Array) return value.length
  if (typeof value !== "object" || value === null) return 0
  return Object.values(value).reduce((sum: number, inner) => sum + count(inner), 0)
}

/** @throws ProviderError TOO_LARGE */
export const expectRoom = (field: string, bytes: number, room: number, instead: string): void => {
  if (bytes > room)
    throw new ProviderError("TOO_LARGE", field, `${bytes} bytes`, `at most ${room} bytes${instead}`)
}

const endorsedBy = (parts: readonly AttestationProvider[]): Pick<AttestationProvider, "endorsement"> => {
  const found = parts.find(({ endorsement }) => endorsement !== undefined)?.endorsement
  return found === undefined ? {} : { endorsement: found }
}

/**
 * Several providers of one machine as one: every one of them attests the same report data, one after another, and they
 * share the room. That they belong to one machine is for a verifier to find out.
 */
export const combined = (parts: readonly AttestationProvider[]): AttestationProvider => ({
  platform: parts.map(({ platform }) => platform).join("+"),
  emulated: parts.some(({ emulated }) => emulated),
  about: parts.map(({ about }) => about).join(", and "),
  ...endorsedBy(parts),
  attest: async (reportData, room = limits.evidenceBytes) => {
    const pieces: Piece[] = []
    for (const part of parts) pieces.push(...(await part.attest(reportData, room - bytesOf(pieces))))
    return pieces
  },
  close: async () => {
    await Promise.all(parts.map((part) => part.close()))
  },
})
