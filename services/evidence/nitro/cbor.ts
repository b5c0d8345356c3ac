/**
 * CBOR (RFC 8949) as attestation documents use it: read by the library in its strict mode, with a bound on the number of
 * items, and so on the depth, that it may meet.
 */
import { type DecodeOptions, decode, Tokenizer } from "cborg"

/** A document has under 120 items: 9 fields, 32 PCRs and 8 certificates, with names, values and heads. */
const itemsMost = 256

class CborError extends Error {
  override readonly name = "CborError"
}

class BoundedTokenizer extends Tokenizer {
  #left = itemsMost

  override next() {
    if (this.#left-- === 0) throw new CborError(`holds more than ${itemsMost} items`)
    return super.next()
  }
}

const options: DecodeOptions = {
  // Shortest lengths and integers only. Maps and arrays without a length are AWS's way since 2025.
  strict: true,
  allowIndefinite: true,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  useMaps: true,
  rejectDuplicateMapKeys: true,
}

/**
 * The one item that `bytes` consists of. Byte strings are slices of `bytes`; tags are refused.
 * @throws Error of the library, whose text is not for others to see
 */
export const decodeCbor = (bytes: Uint8Array): unknown =>
  decode(bytes, { ...options, tokenizer: new BoundedTokenizer(bytes, options) })
