/** Which provider: by name, or by looking. Emulated hardware is never found by looking. */
import { azureVtpm } from "./azure-vtpm.ts"
import { type ConfigfsTsmOptions, configfsTsm } from "./configfs-tsm.ts"
import { emulatedSnp } from "./emulated.ts"
import { ProviderError } from "./error.ts"
import { type NsmOptions, nitroNsm } from "./nitro-nsm.ts"
import { type AttestationProvider, combined } from "./provider.ts"
import { type TpmOptions, tpm } from "./tpm.ts"

export type ProviderPart =
  | { readonly kind: "configfs-tsm" }
  | { readonly kind: "tpm" }
  | { readonly kind: "azure-vtpm" }
  | { readonly kind: "nitro-nsm" }
  | { readonly kind: "emulated-snp"; readonly stateFile: string }

export type ProviderChoice = "auto" | readonly ProviderPart[]

export interface ProviderOptions {
  readonly tsm?: ConfigfsTsmOptions
  readonly tpm?: TpmOptions
  readonly nsm?: NsmOptions
}

const hardwareOf: Readonly<Record<ProviderPart["kind"], readonly string[]>> = {
  "configfs-tsm": ["guest"],
  "emulated-snp": ["guest"],
  tpm: ["tpm"],
  "azure-vtpm": ["guest", "tpm"],
  // An enclave has no other hardware, and no stage takes its document beside another piece.
  "nitro-nsm": ["guest", "tpm"],
}

const parsePart = (field: string, text: string): ProviderPart => {
  if (text === "configfs-tsm" || text === "tpm" || text === "azure-vtpm" || text === "nitro-nsm")
    return { kind: text }
  const stateFile = /^emulated-snp:(\/[^\0+]{1,4094})$/.exec(text)?.[1]
  if (stateFile !== undefined) return { kind: "emulated-snp", stateFile }
  throw new ProviderError(
    "INPUT",
    field,
    JSON.stringify(text.slice(0, 128)),
    "auto, configfs-tsm, tpm, configfs-tsm+tpm, azure-vtpm, nitro-nsm, or emulated-snp:/path/of/its/state",
  )
}

/**
 * @param field the setting, for errors
 * @param text `auto`, `azure-vtpm`, `nitro-nsm`, or one or two of `configfs-tsm`, `tpm` and `emulated-snp:/path` with a plus between
 * @throws ProviderError INPUT
 */
export const parseProviderChoice = (field: string, text: string): ProviderChoice => {
  if (text === "auto") return "auto"
  const parts = text.split("+").map((part) => parsePart(field, part))
  const hardware = parts.flatMap(({ kind }) => hardwareOf[kind])
  if (new Set(hardware).size < hardware.length)
    throw new ProviderError("INPUT", field, text.slice(0, 128), "each kind of hardware once")
  return parts
}

const openPart = async (part: ProviderPart, options: ProviderOptions): Promise<AttestationProvider> => {
  switch (part.kind) {
    case "configfs-tsm":
      return configfsTsm(options.tsm)
    case "tpm":
      return tpm(options.tpm)
    case "azure-vtpm":
      return azureVtpm(options.tpm)
    case "nitro-nsm":
      return nitroNsm(options.nsm)
    case "emulated-snp":
      return emulatedSnp(part.stateFile)
  }
}

const openAll = async (
  parts: readonly ProviderPart[],
  options: ProviderOptions,
): Promise<AttestationProvider> => {
  const opened: AttestationProvider[] = []
  try {
    for (const part of parts) opened.push(await openPart(part, options))
  } catch (error) {
    for (const provider of opened) await provider.close()
    throw error
  }
  const [only] = opened
  return only !== undefined && opened.length === 1 ? only : combined(opened)
}

const orAbsent = async <A>(open: Promise<A>): Promise<A | ProviderError> => {
  try {
    return await open
  } catch (error) {
    if (error instanceof ProviderError && error.code === "ABSENT") return error
    throw error
  }
}

/**
 * The strongest that is there. One that is there and fails is an error, and no reason to take a weaker one.
 */
const openFound = async (options: ProviderOptions): Promise<AttestationProvider> => {
  const tsm = await orAbsent(configfsTsm(options.tsm))
  if (!(tsm instanceof ProviderError)) return tsm
  const nsm = await orAbsent(nitroNsm(options.nsm))
  if (!(nsm instanceof ProviderError)) return nsm
  const found = await orAbsent(tpm(options.tpm))
  if (!(found instanceof ProviderError)) return found
  throw new ProviderError(
    "ABSENT",
    "hardware",
    [tsm, nsm, found].map((one) => `${one.field} ${one.found}`).join("; "),
    "an SEV-SNP or TDX guest with configfs-tsm, a Nitro enclave, or a TPM 2.0 (emulated hardware has to be named)",
  )
}

/** @throws ProviderError; DeviceError (emulated); TpmError: what the provider throws when it is opened */
export const openProvider = (
  choice: ProviderChoice,
  options: ProviderOptions = {},
): Promise<AttestationProvider> => (choice === "auto" ? openFound(options) : openAll(choice, options))
