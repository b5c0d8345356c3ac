/**
 * Evidence of an AWS Nitro enclave: the Nitro Security Module behind /dev/nsm, which takes and gives CBOR by one ioctl
 * (linux/nsm.h, since Linux 6.8; AWS's own driver before has the same interface). The request is that of AWS's NSM API:
 * `{"Attestation": {"user_data", "nonce", "public_key"}}`.
 */
import { type FileHandle, open } from "node:fs/promises"
import { encode } from "cborg"
import { limits } from "../../../schemas/limits.ts"
import type { NitroPiece } from "../../../schemas/messages/common.ts"
import { addressOf, type Ioctl, ioctl, nameOfErrno } from "../../common/kernel/ioctl.ts"
import { decodeCbor } from "../nitro/cbor.ts"
import { parseDocument } from "../nitro/document.ts"
import { NitroError } from "../nitro/error.ts"
import { toHex } from "../text.ts"
import { errnoOf, ProviderError, type ProviderErrorCode } from "./error.ts"
import { type AttestationProvider, bytesOf, expectRoom } from "./provider.ts"

export const nsmPath = "/dev/nsm"
/** _IOWR(0x0a, 0, struct nsm_raw) */
export const NSM_IOCTL_RAW = 0xc020_0a00
/** `struct nsm_raw`: address and length of the request, then of the response; u64 each, in the machine's order. */
const rawBytes = 32
/** The driver's own bounds: of a request that is longer nothing is sent, of a response that is longer the rest is cut off. */
const requestBytesMost = 0x1000
const responseBytesMost = 0x3000

export interface NsmOptions {
  readonly device?: string
  /** Another way to the module. */
  readonly ioctl?: Ioctl
}

const codes: Readonly<Record<string, ProviderErrorCode>> = {
  ENOENT: "ABSENT",
  ENXIO: "ABSENT",
  ENODEV: "ABSENT",
  ENOTTY: "ABSENT",
  EACCES: "PERMISSION",
  EPERM: "PERMISSION",
  EBUSY: "BUSY",
  ETIMEDOUT: "TIMEOUT",
}

const failed = (device: string, errno: string): ProviderError =>
  new ProviderError(codes[errno] ?? "IO", device, errno, "a Nitro Security Module that answers")

/**
 * @throws ProviderError ABSENT where there is no such device, or one that isn't a security module; PERMISSION, BUSY, TIMEOUT
 *   (the driver's own: two minutes), IO; LENGTH, MALFORMED, MISMATCH for what comes back
 */
export const nitroNsm = async (options: NsmOptions = {}): Promise<AttestationProvider> => {
  const { device = nsmPath } = options
  let handle: FileHandle
  try {
    handle = await open(device, "r+")
  } catch (error) {
    throw failed(device, errnoOf(error))
  }
  const ask = (request: unknown) => exchange(handle.fd, device, options.ioctl ?? ioctl, encode(request))
  try {
    // That it is the module, and not some other device of that name.
    answerIn(device, "DescribeNSM", await ask("DescribeNSM"))
  } catch (error) {
    await handle.close()
    throw error
  }
  return {
    platform: "nitro",
    emulated: false,
    about: `Nitro Security Module at ${device}`,
    attest: async (reportData, room = limits.evidenceBytes) => {
      const asked = { Attestation: { user_data: reportData, nonce: null, public_key: null } }
      const document = documentIn(device, answerIn(device, "Attestation", await ask(asked)), reportData)
      const piece: NitroPiece = { kind: "nitro", document }
      expectRoom(device, bytesOf([piece]), room, "")
      return [piece]
    },
    close: () => handle.close(),
  }
}

/** One request and its response. The buffers are held until the call is over, and of kinds that no collector moves. */
const exchange = async (
  fd: number,
  device: string,
  call: Ioctl,
  message: Uint8Array,
): Promise<Uint8Array> => {
  if (message.length > requestBytesMost)
    throw new ProviderError("INPUT", device, `${message.length} bytes`, `at most ${requestBytesMost} bytes`)
  const request = Buffer.allocUnsafeSlow(message.length)
  request.set(message)
  const response = Buffer.allocUnsafeSlow(responseBytesMost).fill(0)
  const raw = Buffer.allocUnsafeSlow(rawBytes)
  const words = new BigUint64Array(raw.buffer, raw.byteOffset, 4)
  words.set([addressOf(request), BigInt(request.length), addressOf(response), BigInt(response.length)])
  const result = await call(fd, NSM_IOCTL_RAW, raw)
  if (result < 0) throw failed(device, nameOfErrno(-result))
  const length = words[3] ?? 0n
  if (length === 0n || length > BigInt(responseBytesMost) || words[1] !== BigInt(request.length))
    throw new ProviderError("LENGTH", device, `${length} bytes`, `1 to ${responseBytesMost} bytes`)
  return Uint8Array.from(response.subarray(0, Number(length)))
}

/** What of a response belongs to this kind of request: `{"Kind": {...}}`, or `{"Error": "InvalidArgument"}` and the like. */
const answerIn = (device: string, kind: string, response: Uint8Array): ReadonlyMap<unknown, unknown> => {
  const wanted = `an answer to ${kind}`
  let answer: unknown
  try {
    answer = decodeCbor(response)
  } catch {
    throw new ProviderError("MALFORMED", device, "no CBOR, or more than an answer has", wanted)
  }
  if (!(answer instanceof Map) || answer.size !== 1)
    throw new ProviderError("MALFORMED", device, "no map of one", wanted)
  const error: unknown = answer.get("Error")
  if (error !== undefined) {
    const name = typeof error === "string" && /^[A-Za-z]{1,32}$/.test(error) ? error : "an error"
    throw new ProviderError("IO", device, name, wanted)
  }
  const inner: unknown = answer.get(kind)
  if (!(inner instanceof Map))
    throw new ProviderError("MALFORMED", device, "an answer to something else", wanted)
  return inner
}

const documentIn = (
  device: string,
  answer: ReadonlyMap<unknown, unknown>,
  reportData: Uint8Array,
): Uint8Array => {
  const document = answer.get("document")
  if (!(document instanceof Uint8Array))
    throw new ProviderError("MALFORMED", device, "no document", "an attestation document")
  try {
    const { userData = new Uint8Array(0) } = parseDocument(document)
    if (Buffer.compare(userData, reportData) !== 0)
      throw new ProviderError("MISMATCH", device, `user data ${toHex(userData)}`, toHex(reportData))
  } catch (error) {
    if (!(error instanceof NitroError)) throw error
    throw new ProviderError("MALFORMED", device, `${error.field}: ${error.found}`, error.wanted)
  }
  return Uint8Array.from(document)
}
