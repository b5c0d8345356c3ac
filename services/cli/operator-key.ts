/** The operator's signing key: an Ed25519 secret in a file that nobody else can read. It never leaves this process. */
import { closeSync, openSync, writeSync } from "node:fs"
import { readOwned } from "../common/config/files.ts"
import type { Crypto } from "../common/crypto/port.ts"
import type { SecretKey } from "../common/crypto/secret-key.ts"
import { selfTest } from "../common/crypto/self-test.ts"
import { forbidDumps } from "../common/process/no-dumps.ts"

const HEX_32 = /^[0-9a-f]{64}\n?$/

const openNew = (path: string): number => {
  try {
    return openSync(path, "wx", 0o600)
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "can't be written"
    throw new Error(
      code === "EEXIST" ? `${path} exists: a key file is never overwritten` : `${path}: ${code}`,
    )
  }
}

/**
 * Makes a key file. Never overwrites one: a lost operator key can't be had back.
 * @returns the public key, 32 bytes @throws SelfTestError: no key is made by what computes wrongly
 */
export const createOperatorKey = (crypto: Crypto, path: string): Uint8Array => {
  forbidDumps()
  selfTest(crypto)
  const secret = crypto.randomBytes(32)
  const key = crypto.ed25519.fromSecret(secret)
  const fd = openNew(path)
  try {
    writeSync(fd, `${Buffer.from(secret).toString("hex")}\n`)
  } finally {
    closeSync(fd)
    secret.fill(0)
  }
  const { publicKey } = key
  key.dispose()
  return publicKey
}

/** @throws FileError, Error when the file holds something else, SelfTestError: a wrong signature may tell the key */
export const readOperatorKey = (crypto: Crypto, path: string): SecretKey => {
  forbidDumps()
  selfTest(crypto)
  const bytes = readOwned(path, { secret: true })
  const text = Buffer.from(bytes).toString("latin1")
  bytes.fill(0)
  if (!HEX_32.test(text))
    throw new Error(`${path}: does not hold an operator's key (64 hex digits); make one with keygen`)
  const secret = new Uint8Array(Buffer.from(text.trim(), "hex"))
  const key = crypto.ed25519.fromSecret(secret)
  secret.fill(0)
  return key
}
