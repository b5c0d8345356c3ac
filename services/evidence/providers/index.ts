/** Evidence, produced: what this machine's hardware says of it. */
export { azureVtpm } from "./azure-vtpm.ts"
export { type CertificateTable, chainOf, parseCertificateTable } from "./certificate-table.ts"
export {
  openProvider,
  type ProviderChoice,
  type ProviderOptions,
  type ProviderPart,
  parseProviderChoice,
} from "./choose.ts"
export { type ConfigfsTsmOptions, configfsTsm } from "./configfs-tsm.ts"
export { emulatedSnp } from "./emulated.ts"
export { ProviderError, type ProviderErrorCode } from "./error.ts"
export { defaultLogs, type LogChoice, parseLogChoice } from "./logs.ts"
export { type NsmOptions, nitroNsm, nsmPath } from "./nitro-nsm.ts"
export { type AttestationProvider, bytesOf, combined } from "./provider.ts"
export { type TpmOptions, tpm, tpmPath } from "./tpm.ts"
export {
  type AkSource,
  type CertificateSource,
  parseAkSource,
  parseCertificateSources,
  parseEkSource,
  parseSelection,
} from "./tpm-settings.ts"
export { type TsmOptions, tsmRoot } from "./tsm.ts"
export type { TsmFiles } from "./tsm-files.ts"
