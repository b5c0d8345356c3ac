/** The Internet checksum (RFC 1071), as the lab's frames carry it and as its capture holds frames against it. */

/** Ones' complement sum of the bytes as 16-bit words, an odd one padded with zero; `start` is added. */
const sum = (bytes: Uint8Array, start: number): number => {
  let total = start
  for (let i = 0; i + 1 < bytes.length; i += 2) total += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  if (bytes.length % 2 === 1) total += (bytes.at(-1) ?? 0) << 8
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16)
  return total
}

/** Of a header whose checksum field is zero; over one with its checksum it is 0 when that is right. */
export const checksum = (bytes: Uint8Array): number => ~sum(bytes, 0) & 0xffff

/**
 * The checksum of TCP, UDP or ICMPv6 over its pseudo-header (RFC 8200, section 8.1; for IPv4 the same sum): the field in
 * `payload` is zero, or the result is 0 when the field is right. `addresses`: source and destination as in the header.
 */
export const payloadChecksum = (addresses: Uint8Array, protocol: number, payload: Uint8Array): number =>
  ~sum(payload, sum(addresses, protocol + payload.length)) & 0xffff
