/**
 * Writes msgpack: values of plain types, each in its shortest form; numbers beyond 32 bits as float64, bigints as 64-bit
 * integers. The counterpart of `read.ts`.
 */
import { Packr } from "msgpackr"
import { limits } from "../../../schemas/limits.ts"

/** `structuredClone` and `moreTypes` off: extension types are never written, and `read` refuses them. */
const packr = new Packr({
  useRecords: false,
  mapsAsObjects: true,
  variableMapSize: true,
  int64AsType: "bigint",
  structuredClone: false,
  moreTypes: false,
  copyBuffers: true,
})

/** Room for every message that may be sent: the packer takes memory of its own only for what is larger. */
const draft = Buffer.alloc(limits.messageBytes + 4_096)

/**
 * The bytes of a value, with memory of their own. Nothing of it stays where it was put together: there may be keys in it.
 * @throws Error for what has no form
 */
export const write = (value: unknown): Uint8Array => {
  packr.useBuffer(draft)
  let used = draft.length
  try {
    const packed = packr.pack(value)
    used = Math.min(used, packed.length)
    const own = new Uint8Array(packed)
    packed.fill(0)
    return own
  } finally {
    draft.fill(0, 0, used)
  }
}
