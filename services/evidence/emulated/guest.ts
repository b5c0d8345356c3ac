/** A guest launched on an emulated chip, and the reports it gets from it. */
import { crypto } from "../../common/crypto/index.ts"
import { encodeGuestPolicy } from "../snp/guest-policy.ts"
import type { SnpProduct } from "../snp/product.ts"
import { at, reportBytes, signedBytes } from "../snp/report.ts"
import { DeviceError, expectBytes } from "./error.ts"
import type { EmulatedChip } from "./platform.ts"

/** What is fixed when a guest is launched. */
export interface Launch {
  /** 48 bytes. */
  readonly measurement: Uint8Array
  /** The 64-bit policy field. */
  readonly policy: bigint
  /** 32 bytes. */
  readonly hostData: Uint8Array
  /** 16 bytes each. */
  readonly familyId: Uint8Array
  readonly imageId: Uint8Array
  readonly vmpl: number
  /** 32 bytes, another for each launch. */
  readonly reportId: Uint8Array
  /** Layout of the reports. */
  readonly version: 2 | 3 | 5
}

export interface EmulatedGuest {
  readonly chip: EmulatedChip
  readonly launch: Launch
  /**
   * A signed report, 1,184 bytes, over 64 bytes of the guest's choice.
   * @throws DeviceError INPUT
   */
  readonly report: (reportData: Uint8Array) => Uint8Array
}

/** SMT allowed, nothing else: what most real guests have. */
export const plainPolicy = encodeGuestPolicy({ smt: true })

/** @throws DeviceError INPUT for a field of the wrong length */
export const launchGuest = (
  chip: EmulatedChip,
  options: Partial<Launch> & Pick<Launch, "measurement">,
): EmulatedGuest => {
  const launch: Launch = {
    policy: plainPolicy,
    hostData: new Uint8Array(32),
    familyId: new Uint8Array(16),
    imageId: new Uint8Array(16),
    vmpl: 0,
    reportId: crypto.randomBytes(32),
    version: 3,
    ...options,
  }
  return resumeGuest(chip, launch)
}

/** The guest as it was launched before, for instance by another process. */
export const resumeGuest = (chip: EmulatedChip, launch: Launch): EmulatedGuest => {
  expectBytes("measurement", launch.measurement, 48)
  expectBytes("hostData", launch.hostData, 32)
  expectBytes("familyId", launch.familyId, 16)
  expectBytes("imageId", launch.imageId, 16)
  expectBytes("reportId", launch.reportId, 32)
  if (!Number.isInteger(launch.vmpl) || launch.vmpl < 0 || launch.vmpl > 3)
    throw new DeviceError("INPUT", "vmpl", "must be 0 to 3")
  return { chip, launch, report: (reportData) => makeReport(chip, launch, reportData) }
}

/** CPUID family, model and stepping that go with each product. */
const cpuids: Readonly<Record<SnpProduct, readonly [number, number, number]>> = {
  Milan: [0x19, 0x01, 0x01],
  Genoa: [0x19, 0x11, 0x01],
  Turin: [0x1a, 0x02, 0x01],
}

/** Build, minor, major. */
const firmware = Uint8Array.of(29, 55, 1)
/** SMT and ECC enabled, alias check complete. */
const platformInfo = 0x25n

const makeReport = (chip: EmulatedChip, launch: Launch, reportData: Uint8Array): Uint8Array => {
  expectBytes("reportData", reportData, 64)
  const report = new Uint8Array(reportBytes)
  const view = new DataView(report.buffer)
  view.setUint32(at.version, launch.version, true)
  view.setBigUint64(at.policy, launch.policy, true)
  report.set(launch.familyId, at.familyId)
  report.set(launch.imageId, at.imageId)
  view.setUint32(at.vmpl, launch.vmpl, true)
  view.setUint32(at.signatureAlgorithm, 1, true)
  for (const offset of [at.currentTcb, at.reportedTcb, at.committedTcb, at.launchTcb])
    report.set(chip.tcb, offset)
  view.setBigUint64(at.platformInfo, platformInfo, true)
  report.set(reportData, at.reportData)
  report.set(launch.measurement, at.measurement)
  report.set(launch.hostData, at.hostData)
  report.set(launch.reportId, at.reportId)
  // No migration agent.
  report.fill(0xff, at.reportIdMa, at.reportIdMa + 32)
  if (launch.version >= 3) report.set(cpuids[chip.product], at.cpuid)
  report.set(chip.chipId, at.chipId)
  report.set(firmware, at.currentFirmware)
  report.set(firmware, at.committedFirmware)
  sign(report, chip)
  return report
}

/** r and s, little-endian, 72 bytes each. */
const sign = (report: Uint8Array, chip: EmulatedChip): void => {
  const signature = crypto.ecdsaP384.sign(report.subarray(0, signedBytes), chip.key)
  report.set(signature.slice(0, 48).reverse(), at.signatureR)
  report.set(signature.slice(48).reverse(), at.signatureS)
}
