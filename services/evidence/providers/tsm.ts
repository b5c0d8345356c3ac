/**
 * One report through configfs-tsm, the kernel's interface of every confidential guest since Linux 6.7
 * (Documentation/ABI/testing/configfs-tsm-report): a directory is made below `report`, the kernel fills it with
 * attributes, `inblob` takes 64 bytes of report data, reading `outblob` makes the report, `auxblob` holds what the host
 * adds.
 *
 * A write of `inblob` takes effect when the file is closed, and the kernel throws its result away: one that was refused
 * looks like one that was taken. So `generation`, which counts the writes, is read before and after, and the report
 * itself is looked at: it must be over these 64 bytes.
 */
import { randomBytes } from "node:crypto"
import { setTimeout as sleep } from "node:timers/promises"
import { errnoOf, ProviderError, type ProviderErrorCode } from "./error.ts"
import { type TsmFiles, tsmFiles } from "./tsm-files.ts"

/** The kernel's names for the formats of `outblob`. */
const tsmProviders = ["sev_guest", "tdx_guest"] as const
export type TsmProviderName = (typeof tsmProviders)[number]

export interface TsmReport {
  readonly provider: TsmProviderName
  /** SNP: ATTESTATION_REPORT. TDX: a quote. Neither parsed nor judged here. */
  readonly report: Uint8Array
  /** SNP: the host's table of certificates; undefined where the host gives none, empty or not. */
  readonly auxiliary?: Uint8Array
}

export interface TsmOptions {
  /** Default `/sys/kernel/config/tsm/report`. */
  readonly root?: string
  /** SNP: the VMPL that the report shall name, 0 to 3; default the kernel's own choice. TDX has none. */
  readonly privilegeLevel?: number
  readonly files?: TsmFiles
  /** Waits between attempts, in ms; as many attempts as waits, and one. */
  readonly waitsMs?: readonly number[]
  /** Told of what went wrong without costing the report. */
  readonly warn?: (error: ProviderError) => void
}

export const tsmRoot = "/sys/kernel/config/tsm/report"
export const reportDataBytes = 64

/** TSM_REPORT_OUTBLOB_MAX was this for long; a longer quote would fill a message of Evidence by itself. */
const blobBytesMost = 32_768
const textBytesMost = 64
const waitsMs: readonly number[] = [20, 50, 100, 200, 400]
const leftOverMs = 600_000
const namePattern = /^vouchsafe-\d{1,10}-[0-9a-f]{16}$/

/** In use, throttled, interrupted: the next attempt may succeed. All else stays as it is. */
const passing: ReadonlySet<string> = new Set(["EBUSY", "EAGAIN", "EWOULDBLOCK", "EINTR"])

const codes: Readonly<Record<string, ProviderErrorCode>> = {
  ENOENT: "ABSENT",
  ENOTDIR: "ABSENT",
  // No provider is registered behind the interface, or its module is gone.
  ENXIO: "ABSENT",
  ENODEV: "ABSENT",
  EACCES: "PERMISSION",
  EPERM: "PERMISSION",
  EROFS: "PERMISSION",
  EFBIG: "LENGTH",
  ETIMEDOUT: "TIMEOUT",
}

const hints: Readonly<Record<string, string>> = {
  ENXIO: "an attestation provider of the kernel (sev-guest or tdx-guest loaded)",
  ENOENT: "configfs mounted, and a kernel with configfs-tsm in a confidential guest",
  EACCES: "root",
  EPERM: "root",
  ENOTTY: "a working key to the secure processor; the kernel gave it up after an error, until the next boot",
}

/** A failed call as an error that names the path and the errno. */
const fromCall = (path: string, error: unknown): ProviderError => {
  if (error instanceof ProviderError) return error
  const errno = errnoOf(error)
  const code = codes[errno] ?? (passing.has(errno) ? "BUSY" : "IO")
  return new ProviderError(code, path, errno, hints[errno] ?? "success")
}

const isPassing = ({ code }: ProviderError): boolean => code === "BUSY" || code === "CONFLICT"

interface Entry {
  readonly path: string
  readonly read: (name: string, most: number) => Promise<Uint8Array>
  readonly write: (name: string, bytes: Uint8Array) => Promise<void>
}

const entryAt = (files: TsmFiles, path: string): Entry => {
  const calling = async <A>(name: string, act: (path: string) => Promise<A>): Promise<A> => {
    const attribute = `${path}/${name}`
    try {
      return await act(attribute)
    } catch (error) {
      throw fromCall(attribute, error)
    }
  }
  return {
    path,
    read: (name, most) => calling(name, (attribute) => files.read(attribute, most)),
    write: (name, bytes) => calling(name, (attribute) => files.write(attribute, bytes)),
  }
}

const newEntry = async (files: TsmFiles, root: string): Promise<Entry> => {
  const path = `${root}/vouchsafe-${process.pid}-${randomBytes(8).toString("hex")}`
  try {
    await files.makeDirectory(path)
  } catch (error) {
    const failed = fromCall(path, error)
    // What is missing is what stands above.
    throw failed.code === "ABSENT" ? fromCall(root, error) : failed
  }
  return entryAt(files, path)
}

const readText = async ({ path, read }: Entry, name: string): Promise<string> => {
  const text = Buffer.from(await read(name, textBytesMost)).toString("latin1")
  if (!/^[\x20-\x7e]{1,62}\n?$/.test(text))
    throw new ProviderError("MALFORMED", `${path}/${name}`, JSON.stringify(text), "one line of text")
  return text.replace(/\n$/, "")
}

const readProvider = async (entry: Entry): Promise<TsmProviderName> => {
  const name = await readText(entry, "provider")
  const provider = tsmProviders.find((one) => one === name)
  if (provider === undefined)
    throw new ProviderError("ABSENT", `${entry.path}/provider`, name, tsmProviders.join(" or "))
  return provider
}

/** An unsigned long, which wraps. */
const readGeneration = async (entry: Entry): Promise<bigint> => {
  const text = await readText(entry, "generation")
  if (!/^\d{1,20}$/.test(text))
    throw new ProviderError("MALFORMED", `${entry.path}/generation`, text, "a number")
  return BigInt(text)
}

const writePrivilegeLevel = async (entry: Entry, level: number): Promise<void> => {
  const floor = await readText(entry, "privlevel_floor").catch((error: unknown) => {
    if (error instanceof ProviderError && error.found === "ENOENT")
      throw new ProviderError(
        "INPUT",
        `${entry.path}/privlevel`,
        `${level}`,
        "none: there are no levels here",
      )
    throw error
  })
  if (!/^[0-3]$/.test(floor) || level < Number(floor) || level > 3)
    throw new ProviderError("INPUT", `${entry.path}/privlevel`, `${level}`, `${floor} to 3`)
  await entry.write("privlevel", Buffer.from(`${level}\n`))
}

/** SNP alone has it, and not where the kernel hides it. */
const readAuxiliary = async (entry: Entry, provider: TsmProviderName): Promise<Uint8Array | undefined> => {
  if (provider !== "sev_guest") return undefined
  try {
    const blob = await entry.read("auxblob", blobBytesMost)
    return blob.length === 0 ? undefined : blob
  } catch (error) {
    if (error instanceof ProviderError && error.found === "ENOENT") return undefined
    throw error
  }
}

const useEntry = async (entry: Entry, reportData: Uint8Array, level?: number): Promise<TsmReport> => {
  const provider = await readProvider(entry)
  const before = await readGeneration(entry)
  if (level !== undefined) await writePrivilegeLevel(entry, level)
  await entry.write("inblob", reportData)
  const report = await entry.read("outblob", blobBytesMost)
  const auxiliary = await readAuxiliary(entry, provider)
  const written = BigInt.asUintN(64, (await readGeneration(entry)) - before)
  const ours = level === undefined ? 1n : 2n
  if (written !== ours)
    throw new ProviderError("CONFLICT", `${entry.path}/generation`, `${written} writes`, `${ours}, our own`)
  if (report.length === 0) throw new ProviderError("LENGTH", `${entry.path}/outblob`, "0 bytes", "a report")
  return { provider, report, ...(auxiliary && { auxiliary }) }
}

const attempt = async (
  reportData: Uint8Array,
  { root = tsmRoot, files = tsmFiles, privilegeLevel, warn }: TsmOptions,
): Promise<TsmReport> => {
  const entry = await newEntry(files, root)
  try {
    return await useEntry(entry, reportData, privilegeLevel)
  } finally {
    await files.removeDirectory(entry.path).catch((error: unknown) => warn?.(fromCall(entry.path, error)))
  }
}

/**
 * @param reportData exactly 64 bytes
 * @throws ProviderError ABSENT, PERMISSION, BUSY, CONFLICT, IO, LENGTH, MALFORMED, TIMEOUT, INPUT
 */
export const readTsmReport = async (reportData: Uint8Array, options: TsmOptions = {}): Promise<TsmReport> => {
  if (reportData.length !== reportDataBytes)
    throw new ProviderError("INPUT", "reportData", `${reportData.length} bytes`, `${reportDataBytes} bytes`)
  const waits = options.waitsMs ?? waitsMs
  for (let tries = 0; ; tries++) {
    try {
      return await attempt(reportData, options)
    } catch (error) {
      const wait = waits[tries]
      if (!(error instanceof ProviderError) || !isPassing(error) || wait === undefined) throw error
      await sleep(wait)
    }
  }
}

/**
 * Which provider answers behind the interface, without a report.
 * @throws ProviderError ABSENT, PERMISSION, BUSY, IO, MALFORMED
 */
export const probeTsm = async ({
  root = tsmRoot,
  files = tsmFiles,
  warn,
}: TsmOptions = {}): Promise<TsmProviderName> => {
  const entry = await newEntry(files, root)
  try {
    return await readProvider(entry)
  } finally {
    await files.removeDirectory(entry.path).catch((error: unknown) => warn?.(fromCall(entry.path, error)))
  }
}

/** Removes what an attester that was killed has left: entries of ours that are older than any call can be. */
export const removeLeftOvers = async ({
  root = tsmRoot,
  files = tsmFiles,
}: TsmOptions = {}): Promise<number> => {
  const entries = await files.list(root).catch(() => [])
  let removed = 0
  for (const { name, ageMs } of entries)
    if (namePattern.test(name) && ageMs > leftOverMs)
      removed += await files.removeDirectory(`${root}/${name}`).then(
        () => 1,
        () => 0,
      )
  return removed
}
