/** What can go wrong with emulated hardware: its state file, or what is asked of it. */

export type DeviceErrorCode = "STATE_UNREADABLE" | "STATE_INVALID" | "INPUT" | "FILE_REFUSED"

export class DeviceError extends Error {
  override readonly name = "DeviceError"
  readonly code: DeviceErrorCode
  readonly field: string

  constructor(code: DeviceErrorCode, field: string, message: string) {
    super(`${field}: ${message}`)
    this.code = code
    this.field = field
  }
}

/** @throws DeviceError INPUT unless `bytes` has exactly `length` bytes */
export const expectBytes = (field: string, bytes: Uint8Array, length: number): Uint8Array => {
  if (bytes.length !== length)
    throw new DeviceError("INPUT", field, `must have ${length} bytes, has ${bytes.length}`)
  return bytes
}
