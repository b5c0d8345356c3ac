import { Config, Effect } from "effect"
import { refuseSetting } from "../common/bus/config.ts"
import {
  nsmPath,
  type ProviderChoice,
  ProviderError,
  type ProviderOptions,
  parseAkSource,
  parseCertificateSources,
  parseEkSource,
  parseLogChoice,
  parseProviderChoice,
  parseSelection,
  tpmPath,
  tsmRoot,
} from "../evidence/providers/index.ts"
import { guestConfig, pathConfig } from "../guest/config.ts"

/** A setting that a function of the providers reads; what it refuses names the variable once. */
const read = <A>(
  name: string,
  fallback: string,
  parse: (field: string, text: string) => A,
): Config.Config<A> =>
  Config.String(name).pipe(
    Config.withDefault(fallback),
    Config.mapEffect((text) => {
      try {
        return Effect.succeed(parse(name, text))
      } catch (error) {
        if (!(error instanceof ProviderError)) throw error
        return refuseSetting(name, `found ${error.found}, wanted ${error.wanted}`)
      }
    }),
  )

const wholeNumber =
  (low: number, high: number, unit: string) =>
  (field: string, text: string): number => {
    const number = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN
    if (number >= low && number <= high) return number
    throw new ProviderError("INPUT", field, JSON.stringify(text.slice(0, 64)), `${low} to ${high}${unit}`)
  }

/** What may be left out: nothing, or a number. */
const orNothing =
  <A>(parse: (field: string, text: string) => A) =>
  (field: string, text: string): A | undefined =>
    text === "" ? undefined : parse(field, text)

export const attesterConfig = Config.all({
  guest: guestConfig,
  role: Config.Literals(["node", "control-plane"], "VOUCHSAFE_ROLE"),
  attestation: read("VOUCHSAFE_ATTESTATION", "auto", parseProviderChoice),
  timeoutSeconds: read("VOUCHSAFE_ATTESTATION_TIMEOUT", "10", wholeNumber(1, 120, " seconds")),
  logs: read("VOUCHSAFE_EVENT_LOGS", "auto", parseLogChoice),
  tsmDirectory: pathConfig("VOUCHSAFE_TSM_DIRECTORY").pipe(Config.withDefault(tsmRoot)),
  vmpl: read("VOUCHSAFE_SNP_VMPL", "", orNothing(wholeNumber(0, 3, ""))),
  nsmDevice: pathConfig("VOUCHSAFE_NSM_DEVICE").pipe(Config.withDefault(nsmPath)),
  tpmDevice: pathConfig("VOUCHSAFE_TPM_DEVICE").pipe(Config.withDefault(tpmPath)),
  ak: read("VOUCHSAFE_TPM_AK", "", orNothing(parseAkSource)),
  ek: read("VOUCHSAFE_TPM_EK", "", orNothing(parseEkSource)),
  akCertificates: read("VOUCHSAFE_TPM_AK_CERTIFICATES", "", parseCertificateSources),
  pcrs: read("VOUCHSAFE_TPM_PCRS", "sha256:0-23", parseSelection),
  /** Where the data plane is attached; only looked at in the role of a node. */
  wireDevice: Config.String("VOUCHSAFE_WIRE_DEVICE").pipe(Config.withDefault("wire0")),
  innerDevice: Config.String("VOUCHSAFE_INNER_DEVICE").pipe(Config.withDefault("m1")),
})
export type AttesterConfig = Config.Success<typeof attesterConfig>

export const attesterVariables: ReadonlyArray<readonly [name: string, meaning: string]> = [
  ["VOUCHSAFE_ROLE", "node or control-plane"],
  [
    "VOUCHSAFE_ATTESTATION",
    "what makes the Evidence: auto (configfs-tsm, else nitro-nsm, else tpm), configfs-tsm, tpm, configfs-tsm+tpm, azure-vtpm, nitro-nsm, or emulated-snp:/path of an emulated machine's state (auto)",
  ],
  ["VOUCHSAFE_ATTESTATION_TIMEOUT", "seconds that the hardware has for one answer (10)"],
  [
    "VOUCHSAFE_EVENT_LOGS",
    "event logs in the Evidence: auto (the firmware's, where it fits), none, boot, ima, or boot,ima (auto)",
  ],
  ["VOUCHSAFE_TSM_DIRECTORY", `where the kernel makes reports (${tsmRoot})`],
  ["VOUCHSAFE_SNP_VMPL", "VMPL that an SNP report shall name, 0 to 3 (the kernel's choice)"],
  ["VOUCHSAFE_NSM_DEVICE", `the security module of a Nitro enclave (${nsmPath})`],
  ["VOUCHSAFE_TPM_DEVICE", `the TPM, or a software TPM's socket (${tpmPath})`],
  [
    "VOUCHSAFE_TPM_AK",
    "attestation key: ecdsa-p256, rsassa-2048, rsapss-2048, a persistent handle 0x81..., or template:0x01... (ecdsa-p256; for azure-vtpm 0x81000003)",
  ],
  [
    "VOUCHSAFE_TPM_EK",
    "node only: endorsement key to prove, for a node that is pinned to it (tpm_ek): rsa-2048, ecc-p256, or a persistent handle 0x81... (none)",
  ],
  [
    "VOUCHSAFE_TPM_AK_CERTIFICATES",
    "its certificates, leaf first: nv:0x01... and files (PEM or DER), commas between (none)",
  ],
  ["VOUCHSAFE_TPM_PCRS", "registers to quote (sha256:0-23); several banks with + between"],
  ["VOUCHSAFE_RUN_DIR", "root-only directory where this guest's services leave their public keys"],
  ["VOUCHSAFE_ANCHORS", "the guest's measured configuration: operators and control plane to believe (JSON)"],
  ["VOUCHSAFE_WIRE_DEVICE", "node only: the untrusted wire (wire0)"],
  ["VOUCHSAFE_INNER_DEVICE", "node only: the far end of the internal veth (m1)"],
]

/** What the providers take of it. */
export const providerOf = (
  own: AttesterConfig,
  warn: (error: ProviderError) => void,
): { readonly choice: ProviderChoice; readonly options: ProviderOptions } => ({
  choice: own.attestation,
  options: {
    tsm: {
      root: own.tsmDirectory,
      logs: own.logs,
      warn,
      ...(own.vmpl !== undefined && { privilegeLevel: own.vmpl }),
    },
    tpm: {
      device: own.tpmDevice,
      certificates: own.akCertificates,
      selection: own.pcrs,
      logs: own.logs,
      timeoutMs: own.timeoutSeconds * 1_000,
      ...(own.ak !== undefined && { ak: own.ak }),
      ...(own.ek !== undefined && { ek: own.ek }),
    },
    nsm: { device: own.nsmDevice },
  },
})
