/** Files that are measured: regular, of bounded size, read once; large ones hashed in pieces. */
import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from "node:fs"
import { join } from "node:path"
import type { EventLogBank } from "../evidence/index.ts"
import {
  type FileDigests,
  MeasureError,
  measureLimits,
  Running,
  type SecureBootValues,
  type SecureBootVariable,
  secureBootVariables,
  vendorOf,
} from "../evidence/measure/index.ts"

const pieceBytes = 1_048_576

const withFile = <T>(path: string, what: string, most: number, use: (fd: number, bytes: number) => T): T => {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw new MeasureError("LENGTH", what, `${path}, no regular file`, "a file")
    if (stat.size > most) throw new MeasureError("LENGTH", what, `${stat.size} bytes`, `at most ${most}`)
    return use(fd, stat.size)
  } finally {
    closeSync(fd)
  }
}

const changed = (what: string): MeasureError =>
  new MeasureError("LENGTH", what, "a file that changed while it was read", "one that doesn't")

/** @throws MeasureError LENGTH, and what the file system says */
export const readWhole = (path: string, what: string, most: number): Uint8Array =>
  withFile(path, what, most, (fd, bytes) => {
    const content = new Uint8Array(bytes)
    for (let at = 0; at < bytes; ) {
      const read = readSync(fd, content, at, bytes - at, at)
      if (read === 0) throw changed(what)
      at += read
    }
    return content
  })

/** @throws MeasureError LENGTH, and what the file system says */
export const hashFile = (
  path: string,
  what: string,
  most: number,
  banks: readonly EventLogBank[],
): FileDigests =>
  withFile(path, what, most, (fd, bytes) => {
    const hashes = banks.map((bank) => ({ bank, hash: new Running(bank) }))
    const piece = new Uint8Array(pieceBytes)
    for (let at = 0; at < bytes; ) {
      const read = readSync(fd, piece, 0, Math.min(pieceBytes, bytes - at), at)
      if (read === 0) throw changed(what)
      for (const { hash } of hashes) hash.add(piece.subarray(0, read))
      at += read
    }
    return { bytes, digests: new Map(hashes.map(({ bank, hash }) => [bank, hash.end()])) }
  })

export const readFirmware = (path: string): Uint8Array =>
  readWhole(path, "firmware", measureLimits.firmwareBytes)
export const readImageFile = (path: string, what: string): Uint8Array =>
  readWhole(path, what, measureLimits.imageBytes)
export const hashInitrd = (path: string, banks: readonly EventLogBank[]): FileDigests =>
  hashFile(path, "initrd", measureLimits.initrdBytes, banks)

/** efivarfs puts the variable's attributes before its value. */
const attributeBytes = 4

/** Variables as efivarfs shows them: files NAME-GUID. One that isn't there counts as absent. @throws MeasureError */
export const readVariables = (directory: string): SecureBootValues => {
  const values: Partial<Record<SecureBootVariable, Uint8Array>> = {}
  for (const name of secureBootVariables) {
    const path = join(directory, `${name}-${vendorOf(name)}`)
    if (!existsSync(path)) continue
    const content = readWhole(path, `variables.${name}`, measureLimits.variableBytes)
    if (content.length < attributeBytes)
      throw new MeasureError(
        "VARIABLE",
        `variables.${name}`,
        `${content.length} bytes`,
        "attributes and a value",
      )
    values[name] = content.subarray(attributeBytes)
  }
  if (Object.keys(values).length === 0)
    throw new MeasureError(
      "VARIABLE",
      "variables",
      "none in that folder",
      "files such as db-<GUID>, as efivarfs has them",
    )
  return values
}
