/** The lab's machine: a file that says what a chip would, and holds the key that a chip would never give away. */
import { readGuest } from "../emulated/state.ts"
import type { AttestationProvider } from "./provider.ts"

/**
 * @param stateFile as written by `encodeGuest`
 * @throws DeviceError STATE_UNREADABLE, STATE_INVALID; `attest` throws INPUT
 */
export const emulatedSnp = (stateFile: string): AttestationProvider => {
  const guest = readGuest(stateFile)
  return {
    platform: "sev-snp",
    emulated: true,
    about: `EMULATED SEV-SNP of ${stateFile}`,
    attest: async (reportData) => [
      { kind: "snp", report: guest.report(reportData), certificates: [...guest.chip.certificates] },
    ],
    close: async () => undefined,
  }
}
