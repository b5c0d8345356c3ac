/** Between node's Buffers, whose memory may be shared or larger, and arrays of bytes that own theirs. */

export const bytesOf = (buffer: Uint8Array): Uint8Array => new Uint8Array(buffer)

/** The same, for a secret, of which the first `length` bytes are wanted: nothing stays behind in the buffer. */
export const moved = (buffer: Uint8Array, length = buffer.length): Uint8Array => {
  const bytes = bytesOf(buffer.subarray(0, length))
  buffer.fill(0)
  return bytes
}

/** The same for what is large: no copy where the memory is the buffer's alone. */
export const adopted = (buffer: Buffer): Uint8Array =>
  buffer.buffer.byteLength === buffer.length ? new Uint8Array(buffer.buffer) : moved(buffer)

/** The same bytes, not a copy. */
export const viewOf = ({ buffer, byteOffset, byteLength }: Uint8Array): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength)

/** Of text with a byte in each unit. A small array made so costs half of a buffer from outside of the heap. */
export const latin1Bytes = (text: string): Uint8Array => {
  const { length } = text
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = text.charCodeAt(i)
  return bytes
}
