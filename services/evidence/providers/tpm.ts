/**
 * Evidence of a TPM 2.0: a quote over registers, by a key that never leaves it, with the logs that explain them.
 *
 * What a quote binds: the report data (hashed into its extraData), the registers, the key. Whose TPM it is, it doesn't
 * say: that is the key's certificate, or the operator who names the key. A TPM beside a confidential guest is the host's
 * unless something ties it to the hardware's report.
 */
import { createPublicKey, X509Certificate } from "node:crypto"
import { open, stat } from "node:fs/promises"
import { limits } from "../../../schemas/limits.ts"
import type { Credential } from "../../../schemas/messages/attestation.ts"
import type { PcrValue, TpmPiece } from "../../../schemas/messages/common.ts"
import { tpmExtraData } from "../appraisal/report-data.ts"
import type { Bank } from "../eventlog/bank.ts"
import { TdxError } from "../tdx/error.ts"
import { splitCertificates } from "../tdx/pem.ts"
import { toHex } from "../text.ts"
import {
  connectTpmSocket,
  openTpmDevice,
  type PcrValues,
  type Selection,
  TpmDevice,
  TpmError,
  type TpmObject,
  type TpmTransport,
} from "../tpm/index.ts"
import { withoutPadding } from "./certificate-table.ts"
import { errnoOf, ProviderError } from "./error.ts"
import { defaultLogs, fittingLog, type LogChoice } from "./logs.ts"
import { type AttestationProvider, bytesOf, expectRoom } from "./provider.ts"
import {
  type AkSource,
  allPcrs,
  type CertificateSource,
  type EkSource,
  isQuotedBank,
} from "./tpm-settings.ts"

export interface TpmOptions {
  /** A character device, or the socket of a software TPM. Default /dev/tpmrm0. */
  readonly device?: string
  /** Default: ECDSA P-256 under the endorsement hierarchy. */
  readonly ak?: AkSource
  /** Default: no endorsement key is proven. */
  readonly ek?: EkSource
  /** Of the attestation key, leaf first. Default: none. */
  readonly certificates?: readonly CertificateSource[]
  /** NV index of Azure's HCL report, which names the key and is hashed in the hardware's report. Default: none. */
  readonly hclIndex?: number
  /** Default: all of the SHA-256 bank. */
  readonly selection?: Selection
  readonly logs?: LogChoice
  /** Where securityfs is mounted. */
  readonly securityDirectory?: string
  /** For one command. Default 10 s. */
  readonly timeoutMs?: number
}

export const tpmPath = "/dev/tpmrm0"

interface Session {
  readonly device: TpmDevice
  readonly ak: TpmObject
  /** Only where it is to be proven. */
  readonly ek?: TpmObject
  readonly certificates: readonly Uint8Array[]
  readonly hclReport?: Uint8Array
}

const connect = async (path: string, timeoutMs: number): Promise<{ to: TpmTransport; software: boolean }> => {
  let software: boolean
  try {
    const found = await stat(path)
    software = found.isSocket()
    if (!software && !found.isCharacterDevice())
      throw new ProviderError(
        "INPUT",
        path,
        "another kind of file",
        "a TPM's device, or a software TPM's socket",
      )
  } catch (error) {
    if (error instanceof ProviderError) throw error
    const errno = errnoOf(error)
    throw new ProviderError(errno === "ENOENT" ? "ABSENT" : "IO", path, errno, "a TPM 2.0")
  }
  return { to: await (software ? connectTpmSocket : openTpmDevice)(path, timeoutMs), software }
}

const loadAk = async (device: TpmDevice, source: AkSource): Promise<TpmObject> => {
  if (source.from === "seed") return device.createAk(source.kind)
  if (source.from === "handle") return device.readPublic(source.handle)
  return device.createAkOf(await requiredNv(device, source.index))
}

const loadEk = (device: TpmDevice, source: EkSource): Promise<TpmObject> =>
  source.from === "seed" ? device.createEk(source.kind) : device.readPublic(source.handle)

const requiredNv = async (device: TpmDevice, index: number): Promise<Uint8Array> => {
  const content = await device.readNv(index)
  if (content === undefined || content.length === 0)
    throw new ProviderError("ABSENT", `nv:0x${index.toString(16).padStart(8, "0")}`, "nothing", "content")
  return content
}

const readFile = async (path: string): Promise<Uint8Array> => {
  try {
    const file = await open(path, "r")
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(limits.evidenceBytes), 0)
      return Uint8Array.from(buffer.subarray(0, bytesRead))
    } finally {
      await file.close()
    }
  } catch (error) {
    throw new ProviderError("INPUT", path, errnoOf(error), "certificates, PEM or DER")
  }
}

const readCertificates = async (device: TpmDevice, source: CertificateSource): Promise<Uint8Array[]> => {
  if (source.from === "nv") {
    const field = `nv:0x${source.index.toString(16).padStart(8, "0")}`
    return [withoutPadding(field, await requiredNv(device, source.index))]
  }
  try {
    return splitCertificates(source.path, await readFile(source.path))
  } catch (error) {
    if (!(error instanceof TdxError)) throw error
    throw new ProviderError("MALFORMED", source.path, error.found, error.wanted)
  }
}

/** A chain for another key would be refused by every verifier: better said here. */
const expectOfKey = (leaf: Uint8Array, ak: TpmObject): void => {
  let found: Uint8Array
  try {
    found = new X509Certificate(leaf).publicKey.export({ format: "der", type: "spki" })
  } catch {
    throw new ProviderError("MALFORMED", "certificates[0]", "something else", "an X.509 certificate")
  }
  const wanted = createPublicKey({ key: Buffer.from(ak.public.key.spki), format: "der", type: "spki" })
  if (Buffer.compare(found, wanted.export({ format: "der", type: "spki" })) !== 0)
    throw new ProviderError(
      "INPUT",
      "certificates[0].publicKey",
      "another key",
      `the attestation key (name ${toHex(ak.public.name)})`,
    )
}

const begin = async (to: TpmTransport, options: TpmOptions): Promise<Session> => {
  const device = new TpmDevice(to)
  const ak = await loadAk(device, options.ak ?? { from: "seed", kind: "ecdsa-p256" })
  const ek = options.ek && (await loadEk(device, options.ek))
  const certificates: Uint8Array[] = []
  for (const source of options.certificates ?? [])
    certificates.push(...(await readCertificates(device, source)))
  const [leaf] = certificates
  if (leaf !== undefined) expectOfKey(leaf, ak)
  const hclReport = options.hclIndex === undefined ? undefined : await requiredNv(device, options.hclIndex)
  return { device, ak, certificates, ...(ek && { ek }), ...(hclReport && { hclReport }) }
}

const listPcrs = (values: PcrValues): PcrValue[] =>
  (Object.keys(values) as Bank[]).flatMap((bank) =>
    isQuotedBank(bank)
      ? [...(values[bank] ?? [])].map(([index, value]) => ({ bank, index, value: Uint8Array.from(value) }))
      : [],
  )

const isTransient = (handle: number): boolean => handle >>> 24 === 0x80

/**
 * The connection to a TPM, opened anew after it broke. A call that timed out may still be under way in the kernel, and
 * holds one of this process's few threads for files: until it has come back, no other is begun.
 */
class Connection {
  readonly #options: TpmOptions
  readonly #path: string
  #session: Session | undefined
  #closing: Promise<void> | undefined
  software = false

  constructor(options: TpmOptions) {
    this.#options = options
    this.#path = options.device ?? tpmPath
  }

  async session(): Promise<Session> {
    if (this.#session !== undefined) return this.#session
    if (this.#closing !== undefined)
      throw new ProviderError("WEDGED", this.#path, "a command that hasn't come back", "a TPM that answers")
    const { to, software } = await connect(this.#path, this.#options.timeoutMs ?? 10_000)
    this.software = software
    try {
      this.#session = await begin(to, this.#options)
      return this.#session
    } catch (error) {
      this.#drop(to.close())
      throw error
    }
  }

  /** Waits for nothing: a wedged device's close doesn't end. */
  drop(): void {
    const { device } = this.#session ?? {}
    this.#session = undefined
    if (device !== undefined) this.#drop(device.close())
  }

  /** Without a resource manager the key would stay in the TPM, which has room for three. */
  async end(): Promise<void> {
    const { device, ak, ek } = this.#session ?? {}
    for (const key of [ak, ek])
      if (key !== undefined && isTransient(key.handle)) await device?.flush(key.handle).catch(() => undefined)
    this.drop()
  }

  #drop(closed: Promise<void>): void {
    const closing = closed
      .catch(() => undefined)
      .then(() => {
        if (this.#closing === closing) this.#closing = undefined
      })
    this.#closing = closing
  }

  /** Resolves when what was dropped is closed, or after `ms`. */
  async settled(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const passed = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms)
    })
    await Promise.race([this.#closing, passed])
    clearTimeout(timer)
  }
}

const quote = async (session: Session, reportData: Uint8Array, selection: Selection): Promise<TpmPiece> => {
  const { device, ak, certificates, hclReport } = session
  const made = await device.attest(ak, tpmExtraData(reportData), selection)
  return {
    kind: "tpm",
    attest: made.attest,
    signature: made.signature,
    ak: Uint8Array.from(ak.public.raw),
    certificates: [...certificates],
    ...(hclReport && { hcl_report: hclReport }),
    pcrs: listPcrs(made.pcrs),
  }
}

/** IMA's list last: what was added since the quote then only stands behind what the quote covers. */
const withLogs = async (piece: TpmPiece, options: TpmOptions, room: number): Promise<TpmPiece> => {
  const { logs = defaultLogs, securityDirectory = "/sys/kernel/security" } = options
  const bytes = bytesOf([piece])
  expectRoom("quote", bytes, room, "")
  const left = room - bytes
  const boot_log = await fittingLog(
    { path: `${securityDirectory}/tpm0/binary_bios_measurements`, choice: logs.boot },
    left,
  )
  const ima_log = await fittingLog(
    { path: `${securityDirectory}/ima/binary_runtime_measurements`, choice: logs.ima },
    left - (boot_log?.length ?? 0),
  )
  return { ...piece, ...(boot_log && { boot_log }), ...(ima_log && { ima_log }) }
}

/** After these the TPM is asked once more, anew: it was reset, or forgot the key over a suspend. */
const isForgotten = (error: unknown): boolean =>
  error instanceof TpmError &&
  (error.code === "DEVICE_IO" || error.code === "DEVICE_RESPONSE" || error.code === "DEVICE_REFUSED")

/**
 * @throws ProviderError ABSENT, INPUT, IO, MALFORMED; TpmError DEVICE_IO, DEVICE_TIMEOUT, DEVICE_REFUSED, DEVICE_RESPONSE
 */
export const tpm = async (options: TpmOptions = {}): Promise<AttestationProvider> => {
  const { device = tpmPath, selection = allPcrs } = options
  const connection = new Connection(options)
  const { ak, ek } = await connection.session()
  const attempt = async (reportData: Uint8Array, room: number): Promise<TpmPiece> => {
    try {
      return await withLogs(await quote(await connection.session(), reportData, selection), options, room)
    } catch (error) {
      if (error instanceof TpmError) connection.drop()
      throw error
    }
  }
  const activate = async ({ blob, secret }: Credential): Promise<Uint8Array> => {
    const session = await connection.session()
    if (session.ek === undefined) throw new ProviderError("ABSENT", "ek", "none", "an endorsement key")
    return session.device.activateCredential(session.ak, session.ek, {
      credentialBlob: blob,
      encryptedSecret: secret,
    })
  }
  return {
    platform: "tpm",
    emulated: connection.software,
    about: `${connection.software ? "SOFTWARE " : ""}TPM at ${device}, attestation key ${toHex(ak.public.name)}`,
    attest: async (reportData, room = limits.evidenceBytes) => {
      try {
        return [await attempt(reportData, room)]
      } catch (error) {
        if (!isForgotten(error)) throw error
        await connection.settled(1_000)
        return [await attempt(reportData, room)]
      }
    },
    ...(ek && {
      endorsement: {
        keys: { ek: Uint8Array.from(ek.public.raw), ak: Uint8Array.from(ak.public.raw) },
        activate: async (credential) => {
          try {
            return await activate(credential)
          } catch (error) {
            if (!(error instanceof TpmError)) throw error
            // What a stranger had made for other keys is refused too: that must not fill the TPM with ours.
            if (error.code === "DEVICE_REFUSED") await connection.end()
            else connection.drop()
            if (!isForgotten(error)) throw error
            await connection.settled(1_000)
            return activate(credential)
          }
        },
      },
    }),
    close: async () => {
      await connection.end()
      await connection.settled(1_000)
    },
  }
}
