/**
 * Where a node's Evidence comes from. `emulatedSnpDevice` is the lab's; the kernel's own interface for confidential
 * guests (configfs-tsm: a report entry with inblob, outblob, auxblob and generation) fits behind the same interface.
 */
import { readGuest } from "./emulated/state.ts"

export interface DeviceEvidence {
  readonly kind: "snp"
  readonly report: Uint8Array
  /** DER, leaf first. */
  readonly certificates: readonly Uint8Array[]
}

export interface AttestationDevice {
  readonly kind: "snp"
  readonly emulated: boolean
  /** A fresh report over exactly 64 bytes. */
  readonly report: (reportData: Uint8Array) => DeviceEvidence
}

/**
 * @param stateFile as written by `encodeGuest`
 * @throws DeviceError STATE_UNREADABLE, STATE_INVALID; `report` throws INPUT
 */
export const emulatedSnpDevice = (stateFile: string): AttestationDevice => {
  const guest = readGuest(stateFile)
  return {
    kind: "snp",
    emulated: true,
    report: (reportData) => ({
      kind: "snp",
      report: guest.report(reportData),
      certificates: guest.chip.certificates,
    }),
  }
}
