/**
 * What a boot consisted of, named: Secure Boot variables, images, actions, commands.
 *
 * A digest is proven once the log replays to quoted registers. The data beside it is proven only where it is what was
 * hashed (`measured`); an event's type never is, so that nothing below relies on it without a second reason.
 */
import { toHex } from "../text.ts"
import { type Bank, digest } from "./bank.ts"
import { dataIsMeasured, type EventLog, type LogEvent } from "./log.ts"
import { eventTypes } from "./types.ts"
import {
  guids,
  plainText,
  readAuthority,
  readImagePath,
  readSignatureLists,
  readVariable,
  type SignatureEntry,
  type UefiVariable,
} from "./uefi.ts"

interface Named {
  /** Index of the event in the log. */
  readonly event: number
  readonly register: number
  /** Hex. */
  readonly digest: string
  /** The text or value beside the digest is what the digest was taken over. */
  readonly measured: boolean
}

export interface MeasuredVariable extends Named {
  readonly guid: string
  readonly name: string
  /** PK, KEK, db, dbx: the certificates and hashes in it. */
  readonly signatures?: readonly SignatureEntry[]
}

export interface MeasuredAuthority extends Named {
  /** The variable whose entry let an image run: `db`, shim's `vendor_db`, `MokListRT`, `SbatLevel`. */
  readonly name: string
  readonly guid: string
  /** SHA-256 of the certificate, in hex, where the entry is one. */
  readonly certificate?: string
}

export interface MeasuredImage extends Named {
  readonly kind: "application" | "driver" | "runtime-driver"
  /** From the device path, which nothing covers: for people only. */
  readonly path?: string
}

export interface MeasuredText extends Named {
  readonly text: string
}

export interface SecureBoot {
  readonly state: "on" | "off" | "undetermined"
  /** For `undetermined`. */
  readonly reason?: string
}

export interface BootDescription {
  readonly bank: Bank
  readonly startupLocality: number
  readonly secureBoot: SecureBoot
  readonly variables: readonly MeasuredVariable[]
  readonly authorities: readonly MeasuredAuthority[]
  readonly images: readonly MeasuredImage[]
  readonly actions: readonly MeasuredText[]
  /** EV_IPL and EV_EVENT_TAG: what shim, GRUB, systemd-boot and the kernel's stub measured. */
  readonly commands: readonly MeasuredText[]
  readonly separators: readonly { readonly register: number; readonly isError: boolean }[]
}

/**
 * @param proven the registers that the log was compared for (`matchReplay`); events of others are left out
 * @param secureBootRegister 7, or 1 in a CCEL
 */
export const describeBoot = (
  log: EventLog,
  bank: Bank,
  proven: readonly number[],
  secureBootRegister: 7 | 1 = 7,
): BootDescription => {
  const wanted = new Set(proven)
  const events = log.events.filter(
    ({ register, type }) => wanted.has(register) && type !== eventTypes.EV_NO_ACTION,
  )
  const collect = <T>(describe: (event: LogEvent) => T | undefined): T[] =>
    events.map(describe).filter((value) => value !== undefined)
  return {
    bank,
    startupLocality: log.startupLocality ?? 0,
    secureBoot: wanted.has(secureBootRegister)
      ? secureBootOf(
          events.filter(({ register }) => register === secureBootRegister),
          bank,
        )
      : { state: "undetermined", reason: `register ${secureBootRegister} isn't proven` },
    variables: collect((event) => variableOf(event, bank)),
    authorities: collect((event) => authorityOf(event, bank)),
    images: collect((event) => imageOf(event, bank)),
    actions: collect((event) => actionOf(event, bank)),
    commands: collect((event) => commandOf(event, bank)),
    separators: collect((event) => {
      const kind = separatorOf(event, bank)
      return kind && { register: event.register, isError: kind === "error" }
    }),
  }
}

const named = ({ index, register, digests }: LogEvent, bank: Bank, measured: boolean): Named => ({
  event: index,
  register,
  digest: toHex(digests.get(bank) ?? new Uint8Array(0)),
  measured,
})

const hasDigestOf = (event: LogEvent, bank: Bank, data: Uint8Array): boolean => {
  const measured = event.digests.get(bank)
  return measured !== undefined && Buffer.compare(measured, digest(bank, data)) === 0
}

const separatorValues = [
  { value: Uint8Array.of(0, 0, 0, 0), kind: "plain" },
  { value: Uint8Array.of(0xff, 0xff, 0xff, 0xff), kind: "plain" },
  { value: Uint8Array.of(1, 0, 0, 0), kind: "error" },
] as const

type SeparatorKind = (typeof separatorValues)[number]["kind"]

const separatorsOf = (bank: Bank): ReadonlyMap<string, SeparatorKind> =>
  new Map(separatorValues.map(({ value, kind }) => [toHex(digest(bank, value)), kind]))

const separators: Readonly<Record<Bank, ReadonlyMap<string, SeparatorKind>>> = {
  sha1: separatorsOf("sha1"),
  sha256: separatorsOf("sha256"),
  sha384: separatorsOf("sha384"),
  sha512: separatorsOf("sha512"),
}

/** Known by its digest, whatever the log calls it: else a separator could be hidden by another type. */
const separatorOf = (event: LogEvent, bank: Bank): SeparatorKind | undefined => {
  const measured = event.digests.get(bank)
  return measured && separators[bank].get(toHex(measured))
}

/**
 * The firmware measures SecureBoot once, before the separator of its register. Anything after the separator may have
 * been extended by whoever booted.
 */
const secureBootOf = (events: readonly LogEvent[], bank: Bank): SecureBoot => {
  const undetermined = (reason: string): SecureBoot => ({ state: "undetermined", reason })
  const end = events.findIndex((event) => separatorOf(event, bank) !== undefined)
  const separator = events[end]
  if (separator === undefined) return undetermined("no separator")
  if (separatorOf(separator, bank) === "error") return undetermined("the firmware reports an error")
  const found = events.slice(0, end).flatMap((event) => {
    const variable = readVariable(event.data)
    return variable !== undefined && isSecureBoot(variable) ? [{ event, variable }] : []
  })
  const [first] = found
  if (first === undefined) return undetermined("no SecureBoot variable before the separator")
  if (found.length > 1) return undetermined("SecureBoot was measured more than once")
  if (!dataIsMeasured(first.event, bank)) return undetermined("SecureBoot's value isn't what was measured")
  const { value } = first.variable
  // Firmware without support for Secure Boot measures an empty variable.
  if (value.length === 0 || (value.length === 1 && value[0] === 0)) return { state: "off" }
  if (value.length === 1 && value[0] === 1) return { state: "on" }
  return undetermined(`SecureBoot is ${toHex(value.subarray(0, 8))}`)
}

const isSecureBoot = ({ guid, name }: UefiVariable): boolean => guid === guids.global && name === "SecureBoot"

const signatureVariables = new Set(["PK", "KEK", "db", "dbx", "dbt", "dbr"])

const variableOf = (event: LogEvent, bank: Bank): MeasuredVariable | undefined => {
  const { EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_VARIABLE_BOOT, EV_EFI_VARIABLE_BOOT2 } = eventTypes
  const { type, data } = event
  const isBoot = type === EV_EFI_VARIABLE_BOOT || type === EV_EFI_VARIABLE_BOOT2
  if (!isBoot && type !== EV_EFI_VARIABLE_DRIVER_CONFIG) return undefined
  const variable = readVariable(data)
  if (variable === undefined) return undefined
  const { guid, name, value } = variable
  // EV_EFI_VARIABLE_BOOT hashes the value alone: then the name isn't covered, and the event doesn't count as measured.
  const signatures = !isBoot && signatureVariables.has(name) ? readSignatureLists(value) : undefined
  return { ...named(event, bank, dataIsMeasured(event, bank)), guid, name, ...(signatures && { signatures }) }
}

const authorityOf = (event: LogEvent, bank: Bank): MeasuredAuthority | undefined => {
  if (event.type !== eventTypes.EV_EFI_VARIABLE_AUTHORITY) return undefined
  const variable = readVariable(event.data)
  if (variable === undefined) return undefined
  const certificate = readAuthority(variable.value)?.digest
  const { guid, name } = variable
  return {
    ...named(event, bank, dataIsMeasured(event, bank)),
    guid,
    name,
    ...(certificate !== undefined && { certificate }),
  }
}

const imageKinds = new Map<number, MeasuredImage["kind"]>([
  [eventTypes.EV_EFI_BOOT_SERVICES_APPLICATION, "application"],
  [eventTypes.EV_EFI_BOOT_SERVICES_DRIVER, "driver"],
  [eventTypes.EV_EFI_RUNTIME_SERVICES_DRIVER, "runtime-driver"],
])

const imageOf = (event: LogEvent, bank: Bank): MeasuredImage | undefined => {
  const kind = imageKinds.get(event.type)
  if (kind === undefined) return undefined
  const path = readImagePath(event.data)
  return { ...named(event, bank, false), kind, ...(path !== undefined && { path }) }
}

const textOf = (data: Uint8Array): string => plainText(Buffer.from(data).toString("utf8"))

const actionOf = (event: LogEvent, bank: Bank): MeasuredText | undefined =>
  event.type === eventTypes.EV_EFI_ACTION || event.type === eventTypes.EV_ACTION
    ? { ...named(event, bank, dataIsMeasured(event, bank)), text: textOf(event.data) }
    : undefined

/** GRUB writes `kernel_cmdline: text` and hashes the text without its zero: only that part is proven. */
const commandOf = (event: LogEvent, bank: Bank): MeasuredText | undefined => {
  if (event.type !== eventTypes.EV_IPL && event.type !== eventTypes.EV_EVENT_TAG) return undefined
  const { data } = event
  const isText = data.at(-1) === 0
  const afterPrefix = Buffer.from(data).indexOf(": ") + 2
  const measured =
    dataIsMeasured(event, bank) ||
    (isText && hasDigestOf(event, bank, data.subarray(0, -1))) ||
    (isText && afterPrefix > 1 && hasDigestOf(event, bank, data.subarray(afterPrefix, -1)))
  return { ...named(event, bank, measured), text: textOf(data) }
}
