/**
 * Frames of somebody on the wire who is no party to the workflow: some look sealed, some are plain packets to workflow
 * addresses. Every node must drop them and count them. Pure: addresses in, frames out.
 */
import { ESP_PORT, type NodePlace } from "./names.ts"

const octets = (text: string): Buffer => Buffer.from(text.split(".").map(Number))
const mac = (text: string): Buffer => Buffer.from(text.replaceAll(":", ""), "hex")

/** The ones' complement sum of RFC 1071 over an even number of bytes. */
const checksum = (header: Buffer): number => {
  let sum = 0
  for (let i = 0; i < header.length; i += 2) sum += header.readUInt16BE(i)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

interface Datagram {
  readonly from: string
  readonly to: string
  readonly sourcePort: number
  readonly port: number
  readonly payload: Buffer
}

/** An Ethernet frame with IPv4 (no options) and UDP without a checksum. */
const udpFrame = (sender: NodePlace, target: NodePlace, datagram: Datagram): Buffer => {
  const { payload } = datagram
  const ip = Buffer.alloc(20)
  ip.writeUInt8(0x45, 0)
  ip.writeUInt16BE(28 + payload.length, 2)
  ip.writeUInt16BE(0x4000, 6)
  ip.writeUInt8(64, 8)
  ip.writeUInt8(17, 9)
  octets(datagram.from).copy(ip, 12)
  octets(datagram.to).copy(ip, 16)
  ip.writeUInt16BE(checksum(ip), 10)
  const udp = Buffer.alloc(8)
  udp.writeUInt16BE(datagram.sourcePort, 0)
  udp.writeUInt16BE(datagram.port, 2)
  udp.writeUInt16BE(8 + payload.length, 4)
  return Buffer.concat([mac(target.wireMac), mac(sender.wireMac), Buffer.from([8, 0]), ip, udp, payload])
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

/** What the application itself would get if a node let it in: a plain packet to its workflow address. */
export const plain = (sender: NodePlace, target: NodePlace, port: number, tag: Buffer): Buffer =>
  udpFrame(sender, target, {
    from: sender.address,
    to: target.address,
    sourcePort: 40_000,
    port,
    payload: Buffer.concat([tag, Buffer.from("let me in")]),
  })
