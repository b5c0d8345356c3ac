/**
 * Frames of somebody on the wire who is no party to the workflow: some look sealed, some are plain packets to workflow
 * addresses. Every node must drop them and count them. Pure: addresses in, frames out.
 */
import { addressBytes, familyOf } from "../../schemas/address.ts"
import { checksum, payloadChecksum } from "./checksum.ts"
import { ESP_PORT, type NodePlace } from "./names.ts"

const mac = (text: string): Buffer => Buffer.from(text.replaceAll(":", ""), "hex")

interface Datagram {
  readonly from: string
  readonly to: string
  readonly sourcePort: number
  readonly port: number
  readonly payload: Buffer
}

const UDP = 17

/** An IPv4 header without options; `addresses`: source and destination. */
const ipv4Header = (addresses: Uint8Array, length: number): Buffer => {
  const ip = Buffer.alloc(20)
  ip.writeUInt8(0x45, 0)
  ip.writeUInt16BE(20 + length, 2)
  ip.writeUInt16BE(0x4000, 6)
  ip.writeUInt8(64, 8)
  ip.writeUInt8(UDP, 9)
  ip.set(addresses, 12)
  ip.writeUInt16BE(checksum(ip), 10)
  return ip
}

const ipv6Header = (addresses: Uint8Array, length: number): Buffer => {
  const ip = Buffer.alloc(40)
  ip.writeUInt8(0x60, 0)
  ip.writeUInt16BE(length, 4)
  ip.writeUInt8(UDP, 6)
  ip.writeUInt8(64, 7)
  ip.set(addresses, 8)
  return ip
}

/** An Ethernet frame with IP (no options) of the addresses' family, and UDP with its checksum. */
const udpFrame = (sender: NodePlace, target: NodePlace, datagram: Datagram): Buffer => {
  const { from, to, payload } = datagram
  const udp = Buffer.alloc(8 + payload.length)
  udp.writeUInt16BE(datagram.sourcePort, 0)
  udp.writeUInt16BE(datagram.port, 2)
  udp.writeUInt16BE(udp.length, 4)
  payload.copy(udp, 8)
  const addresses = Buffer.concat([addressBytes(from), addressBytes(to)])
  // Zero would say that there is none (RFC 768).
  udp.writeUInt16BE(payloadChecksum(addresses, UDP, udp) || 0xffff, 6)
  const six = familyOf(to) === 6
  const ip = six ? ipv6Header(addresses, udp.length) : ipv4Header(addresses, udp.length)
  const type = Buffer.from(six ? "86dd" : "0800", "hex")
  return Buffer.concat([mac(target.wireMac), mac(sender.wireMac), type, ip, udp])
}

/** Shaped like ESP in every respect, of a security association that nobody holds. `tag`: 16 bytes that tell the lab's own frames. */
export const sealedLooking = (sender: NodePlace, target: NodePlace, spi: number, tag: Buffer): Buffer => {
  const esp = Buffer.alloc(8 + 8 + 64 + 16)
  esp.writeUInt32BE(spi, 0)
  esp.writeUInt32BE(1, 4)
  tag.copy(esp, 16)
  return udpFrame(sender, target, {
    from: sender.wire,
    to: target.wire,
    sourcePort: ESP_PORT,
    port: ESP_PORT,
    payload: esp,
  })
}

/**
 * What the application itself would get if a node let it in: a plain packet to its workflow address, of the family that
 * the wire speaks.
 */
export const plain = (sender: NodePlace, target: NodePlace, port: number, tag: Buffer): Buffer =>
  udpFrame(sender, target, {
    ...(familyOf(target.wire) === 6
      ? { from: sender.address6, to: target.address6 }
      : { from: sender.address, to: target.address }),
    sourcePort: 40_000,
    port,
    payload: Buffer.concat([tag, Buffer.from("let me in")]),
  })
