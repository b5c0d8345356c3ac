/** PCR 7: the variables of UEFI Secure Boot, and which of their entries let images run. */
import { type Bank, digest } from "../eventlog/bank.ts"
import { Reader } from "../eventlog/reader.ts"
import { guids, guidText } from "../eventlog/uefi.ts"
import { MeasureError, measureLimits, refuser } from "./error.ts"
import { guidBytes } from "./guid.ts"
import { type Step, separator } from "./steps.ts"

/** Firmware measures them in this order (PC Client Platform Firmware Profile, 3.3.4.8). */
export const secureBootVariables = ["SecureBoot", "PK", "KEK", "db", "dbx"] as const
export type SecureBootVariable = (typeof secureBootVariables)[number]

const shim = "605dab50-e046-4300-abb6-3dd810dd8b23"
/** `Shim` is the certificate built into it, as shim before 15.3 measures it. */
const shimVariables: ReadonlySet<string> = new Set(["SbatLevel", "MokListRT", "MokListTrusted", "Shim"])

/** Whose variable it is. @returns undefined for one that isn't known */
export const vendorOf = (name: string): string | undefined => {
  if (name === "db" || name === "dbx" || name === "vendor_db") return guids.security
  if (name === "SecureBoot" || name === "PK" || name === "KEK") return guids.global
  return shimVariables.has(name) ? shim : undefined
}

/** UEFI_VARIABLE_DATA: what is hashed of a variable. */
const variableData = (vendor: string, name: string, value: Uint8Array): Uint8Array => {
  const lengths = Buffer.alloc(16)
  lengths.writeBigUInt64LE(BigInt(name.length), 0)
  lengths.writeBigUInt64LE(BigInt(value.length), 8)
  return Buffer.concat([guidBytes(vendor), lengths, Buffer.from(name, "utf16le"), value])
}

/** Values without the attributes that efivarfs puts first. One that is missing counts as absent: length 0. */
export type SecureBootValues = Readonly<Partial<Record<SecureBootVariable, Uint8Array>>>

export interface Authority {
  /** `db`, or one of shim's. */
  readonly variable: string
  /** EFI_SIGNATURE_DATA of `db` and `MokListRT`: owner and certificate; the whole value of `SbatLevel`. */
  readonly value: Uint8Array
}

/**
 * @param authorities as often as they are measured, in their order: firmware measures an entry once, however many images it
 *   lets run, and shim may measure it again
 * @throws MeasureError VARIABLE
 */
export const secureBootSteps = (
  bank: Bank,
  values: SecureBootValues,
  authorities: readonly Authority[] = [],
): readonly Step[] => {
  const state = values.SecureBoot
  if (state !== undefined && state.length > 1)
    throw new MeasureError("VARIABLE", "variables.SecureBoot", `${state.length} bytes`, "one byte, 0 or 1")
  return [
    ...secureBootVariables.map((name) => step(bank, name, values[name] ?? new Uint8Array(0))),
    separator(bank),
    ...authorities.map(({ variable, value }) => step(bank, variable, value)),
  ]
}

const step = (bank: Bank, name: string, value: Uint8Array): Step => {
  const vendor = vendorOf(name)
  if (vendor === undefined)
    throw new MeasureError("VARIABLE", `variables.${name}`, "unknown", "a variable of Secure Boot or of shim")
  if (value.length > measureLimits.variableBytes)
    throw new MeasureError(
      "VARIABLE",
      `variables.${name}`,
      `${value.length} bytes`,
      `at most ${measureLimits.variableBytes}`,
    )
  return { what: name, digest: digest(bank, variableData(vendor, name, value)) }
}

const refuse = refuser("VARIABLE")

/**
 * The entry of `db` that holds a certificate, owner first: what firmware measures when it lets an image run.
 * @param certificate DER
 * @throws MeasureError VARIABLE when `db` is malformed or hasn't got it
 */
export const authorityInDb = (db: Uint8Array, certificate: Uint8Array): Authority => {
  const reader = new Reader(db, true, (field, found, wanted) =>
    refuse(`variables.db.${field}`, found, wanted),
  )
  while (reader.left > 0) {
    const type = guidText(reader.take("type", 16))
    const listBytes = reader.u32("listSize")
    const headerBytes = reader.u32("headerSize")
    const entryBytes = reader.u32("entrySize")
    const bodyBytes = listBytes - 28 - headerBytes
    if (bodyBytes < 0 || entryBytes <= 16 || bodyBytes % entryBytes !== 0)
      throw refuse("variables.db.listSize", listBytes, "whole entries")
    reader.take("header", headerBytes)
    const body = reader.take("entries", bodyBytes)
    for (let at = 0; type === guids.x509 && at < body.length; at += entryBytes) {
      const value = body.subarray(at, at + entryBytes)
      if (Buffer.compare(value.subarray(16), certificate) === 0) return { variable: "db", value }
    }
  }
  throw refuse("variables.db", "no such certificate", "the one that let an image run")
}
