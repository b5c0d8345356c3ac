/**
 * The kernel's nsm driver and the module behind it, as a function in place of ioctl(2): it takes apart `struct nsm_raw`,
 * reads and writes the caller's memory by the addresses in it, cuts responses off and gives errnos as the driver does.
 */
import { constants } from "node:os"
import { decode, encode } from "cborg"
import koffi from "koffi"
import type { Ioctl } from "../../services/common/kernel/ioctl.ts"

const REQUEST_MAX = 0x1000
const RESPONSE_MAX = 0x3000
const RAW = 0xc020_0a00

type Request = string | { readonly Attestation?: Readonly<Record<string, Uint8Array | null>> }

export class NsmKernel {
  /** What the module was asked, as it came. */
  readonly requests: Request[] = []
  /** An errno's name for the next call. */
  fails: keyof typeof constants.errno | undefined
  /** Instead of what the module would say. */
  answers: ((request: Request) => Uint8Array | undefined) | undefined
  readonly #document: (userData: Uint8Array) => Uint8Array

  constructor(document: (userData: Uint8Array) => Uint8Array) {
    this.#document = document
  }

  readonly ioctl: Ioctl = async (_fd, request, argument) => {
    await new Promise((resolve) => setImmediate(resolve))
    const { fails } = this
    this.fails = undefined
    if (fails !== undefined) return -constants.errno[fails]
    if (request !== RAW || argument.length !== 32) return -constants.errno.EINVAL
    const raw = new DataView(argument.buffer, argument.byteOffset, 32)
    const [from, length] = [raw.getBigUint64(0, true), Number(raw.getBigUint64(8, true))]
    const [to, room] = [raw.getBigUint64(16, true), Number(raw.getBigUint64(24, true))]
    if (length > REQUEST_MAX) return -constants.errno.EMSGSIZE
    const response = this.#respond(Uint8Array.from(new Uint8Array(koffi.view(from, length))))
    const taken = response.subarray(0, Math.min(room, RESPONSE_MAX))
    new Uint8Array(koffi.view(to, taken.length)).set(taken)
    raw.setBigUint64(24, BigInt(taken.length), true)
    return 0
  }

  #respond(bytes: Uint8Array): Uint8Array {
    const request: Request = decode(bytes)
    this.requests.push(request)
    const said = this.answers?.(request)
    if (said !== undefined) return said
    if (request === "DescribeNSM")
      return encode({
        DescribeNSM: {
          version_major: 1,
          version_minor: 0,
          version_patch: 0,
          module_id: "i-0123456789abcdef0-enc0123456789abcdef",
          max_pcrs: 32,
          locked_pcrs: [0, 1, 2],
          digest: "SHA384",
        },
      })
    const asked = typeof request === "object" ? request.Attestation : undefined
    if (asked === undefined) return encode({ Error: "InvalidOperation" })
    const { user_data, nonce, public_key } = asked
    if ([user_data, nonce, public_key].some((one) => one === undefined || (one?.length ?? 0) > 1_024))
      return encode({ Error: "InvalidArgument" })
    return encode({ Attestation: { document: this.#document(user_data ?? new Uint8Array(0)) } })
  }
}
