/** Reference values, computed from files instead of copied from a machine that already runs. */
export { chainSteps } from "./chain.ts"
export { digestsOf, type FileDigests, Running } from "./digests.ts"
export { MeasureError, type MeasureErrorCode, measureLimits } from "./error.ts"
export { asQemuLoads, type DirectBoot, directBootSteps, type QemuLoad } from "./linux.ts"
export { imageDigest, type PeImage, readImage } from "./pe.ts"
export {
  type Authority,
  authorityInDb,
  type SecureBootValues,
  type SecureBootVariable,
  secureBootSteps,
  secureBootVariables,
  vendorOf,
} from "./secure-boot.ts"
export { launchDigest, measureSnp, type SnpLaunch, snpFirmwareDigest } from "./snp.ts"
export { readSnpFirmware, type SnpFirmware } from "./snp-firmware.ts"
export type { KernelLoad } from "./snp-hashes.ts"
export { type Vmm, vcpuTypes, vmms } from "./snp-vcpu.ts"
export { registerOf, type Step } from "./steps.ts"
export { directRtmr1Steps, directRtmrSteps, measureTdx, type PageOrder, pageOrders } from "./tdx.ts"
export {
  phases,
  readUnifiedImage,
  type UnifiedImage,
  unifiedImages,
  unifiedKernelSteps,
  unifiedSteps,
} from "./uki.ts"
