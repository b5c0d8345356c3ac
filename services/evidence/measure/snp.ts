/** The launch measurement that a report of an SNP guest will hold, from what its VMM is started with. */
import { MeasureError, measureLimits } from "./error.ts"
import { pageBytes, readSnpFirmware, type SnpFirmware, type SnpSection } from "./snp-firmware.ts"
import { type KernelLoad, kernelHashesPage } from "./snp-hashes.ts"
import { LaunchDigest } from "./snp-pages.ts"
import { resetVector, type Vmm, vcpuPage, vcpuSignature, vcpuTypes } from "./snp-vcpu.ts"

export interface SnpLaunch {
  readonly vcpus: number
  /** See `vcpuSignature`. EC2 and GCE don't show it: only `qemu` needs it. */
  readonly vcpuType?: string
  /** SEV_FEATURES, as the VMM sets them. Default: 1, SNP alone. */
  readonly features?: bigint
  readonly vmm?: Vmm
  /** Kernel, initrd and command line that the VMM loads beside the firmware (QEMU's `kernel-hashes=on`). */
  readonly load?: KernelLoad
}

const fourGiB = 0x1_0000_0000

/**
 * @param image the firmware as the VMM maps it below 4 GiB, at most 64 MiB
 * @returns 48 bytes
 * @throws MeasureError FIRMWARE_LENGTH, FIRMWARE_TABLE, FIRMWARE_METADATA, FIRMWARE_SUPPORT, VCPUS, FEATURES, COMMAND_LINE
 */
export const measureSnp = (image: Uint8Array, launch: SnpLaunch): Uint8Array =>
  launchDigest(readSnpFirmware(image), snpFirmwareDigest(image), launch)

/** The launch digest once the firmware's own pages are in: the same for every guest of that firmware. */
export const snpFirmwareDigest = (image: Uint8Array): Uint8Array => {
  const digest = new LaunchDigest()
  digest.normal(fourGiB - image.length, image)
  return digest.value
}

/** @param start see `snpFirmwareDigest` */
export const launchDigest = (firmware: SnpFirmware, start: Uint8Array, launch: SnpLaunch): Uint8Array => {
  const { vcpus, features = 1n, vmm = "qemu", load } = launch
  if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > measureLimits.vcpus)
    throw new MeasureError("VCPUS", "vcpus", `${vcpus}`, `1 to ${measureLimits.vcpus}`)
  if ((features & 1n) === 0n || features < 0n || features >= 1n << 64n)
    throw new MeasureError(
      "FEATURES",
      "features",
      `0x${features.toString(16)}`,
      "64 bits, bit 0 (SNP) among them",
    )
  const signature = signatureFor(vmm, launch.vcpuType)
  const hashes = load && hashesFor(firmware, load)
  const digest = new LaunchDigest(start)
  // EC2 adds the CPUID page when all others are in.
  const later = (section: SnpSection) => vmm === "ec2" && section.kind === "cpuid"
  const ordered = [
    ...firmware.sections.filter((section) => !later(section)),
    ...firmware.sections.filter(later),
  ]
  for (const section of ordered) addSection(digest, section, vmm, hashes)
  const first = vcpuPage({ start: resetVector, features, signature, vmm })
  const other = vcpuPage({ start: firmware.resetAddress, features, signature, vmm })
  for (let i = 0; i < vcpus; i++) digest.vmsa(i === 0 ? first : other)
  return digest.value
}

const signatureFor = (vmm: Vmm, type: string | undefined): number => {
  if (vmm !== "qemu") return 0
  const signature = type === undefined ? undefined : vcpuSignature(type)
  if (signature === undefined)
    throw new MeasureError(
      "VCPUS",
      "vcpuType",
      type ?? "none",
      `one of ${vcpuTypes.join(", ")}, or such as 25.17.1`,
    )
  return signature
}

const hashesFor = (firmware: SnpFirmware, load: KernelLoad): Uint8Array => {
  const section = firmware.sections.find(({ kind }) => kind === "kernel-hashes")
  const { hashesAddress } = firmware
  if (section === undefined || hashesAddress === undefined)
    throw new MeasureError(
      "FIRMWARE_SUPPORT",
      "firmware.metadata.sections",
      "no place for hashes",
      "one: this build would take any kernel that the VMM gives it (edk2's AmdSevX64 has one)",
    )
  if (hashesAddress < section.address || hashesAddress >= section.address + section.size)
    throw new MeasureError(
      "FIRMWARE_SUPPORT",
      "firmware.hashesAddress",
      `0x${hashesAddress.toString(16)}`,
      `in the page at 0x${section.address.toString(16)}`,
    )
  return kernelHashesPage(load, hashesAddress % pageBytes)
}

const addSection = (
  digest: LaunchDigest,
  { kind, address, size }: SnpSection,
  vmm: Vmm,
  hashes: Uint8Array | undefined,
): void => {
  switch (kind) {
    case "memory":
      digest.without(vmm === "gce" ? "unmeasured" : "zero", address, size)
      break
    case "kernel-hashes":
      if (hashes === undefined) digest.without("zero", address, size)
      else digest.normal(address, hashes)
      break
    case "svsm-calling-area":
      digest.without("zero", address, size)
      break
    case "secrets":
    case "cpuid":
      digest.without(kind, address, size)
  }
}
