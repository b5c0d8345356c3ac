/**
 * Runs inside the guest with the older kernel, without a test runner: loads both objects there, puts the published vectors and
 * a round trip of every kind of length through BPF_PROG_TEST_RUN, and prints one line for each thing that held.
 */
import { release } from "node:os"
import { loadObject, testRun } from "../../services/common/kernel/libbpf.ts"
import { probeHooks } from "../../services/common/kernel/links.ts"
import { programInfo } from "../../services/common/kernel/programs.ts"
import { vectors } from "./aead-vectors.ts"
import {
  aeadAnswer,
  aeadRequest,
  byteSource,
  checksum6,
  concat,
  ETHERNET,
  esp,
  frame,
  frame6,
  OUTER,
  outerPacket,
  UDP,
  udpPacket,
  udpPacket6,
} from "./packets.ts"
import {
  ESP_PORT,
  edge1,
  edge2,
  fromPeer,
  OWN_PORT,
  own,
  ownWire,
  PEER_PORT,
  peer,
  peerWire,
  readyPlane,
} from "./plane.ts"
import { families, here, ownWire6, peerWire6, readyPlane6, sender, there } from "./plane6.ts"

const hold = (what: string, held: boolean): void => {
  console.log(`${held ? "held" : "BROKEN"}: ${what}`)
  if (!held) process.exitCode = 1
}
const wire6 = { source: ownWire6, target: peerWire6 }
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.from(a).equals(b)

console.log(`kernel: ${release()}`)
console.log(`hooks: ${probeHooks()}`)

const ciphers = loadObject("bpf/build/aead-test.bpf.o")
for (const { name, key, nonce, associated, text, sealed, tag } of vectors) {
  const there = aeadAnswer(
    testRun(ciphers.programFd("test_seal"), aeadRequest(key, nonce, associated, text)).packet,
  )
  const request = aeadRequest(key, nonce, associated, sealed, tag)
  const back = aeadAnswer(testRun(ciphers.programFd("test_open"), request).packet)
  hold(name, same(there.text, sealed) && same(there.tag, tag) && back.status === 0 && same(back.text, text))
}

const plane = readyPlane()
hold("the product's four programs load", plane.object.programNames.length === 4)
for (const name of plane.object.programNames)
  console.log(`complexity: ${name} ${programInfo(plane.object.programFd(name)).verified} of 1000000`)
const bytes = byteSource(61)
const lengths = [0, 1, 2, 3, 4, 63, 64, 65, 500, 1409, 1410]
let sequence = 0n
const sealedAll = lengths.every((length) => {
  const packet = udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(length))
  const out = plane.run("vs_seal", frame(packet))
  if (out.verdict !== "SEALED") return false
  sequence += 1n
  const from = new DataView(out.packet.buffer).getUint16(ETHERNET + 20)
  const outer = { source: ownWire, target: peerWire, from, to: ESP_PORT }
  return same(out.packet.subarray(ETHERNET), outerPacket(outer, esp(edge1.out, sequence, packet)))
})
hold("sealing gives the bytes of another implementation", sealedAll)
const openedAll = lengths.every((length, i) => {
  const packet = udpPacket({ source: peer, target: own, from: 50_000, to: OWN_PORT }, bytes(length))
  const sealed = esp(edge2.in, 0xffff_fff8n + BigInt(i), packet, { iv: bytes(8) })
  const out = plane.run("vs_open", frame(outerPacket(fromPeer(), sealed)))
  return out.verdict === "OPENED" && same(out.packet.subarray(ETHERNET), packet)
})
hold("opening gives them back, over the wrap of the low half", openedAll)
const last = frame(outerPacket(fromPeer(), esp(edge2.in, 0xffff_fff8n, concat(bytes(OUTER)))))
hold("a replay is refused", plane.run("vs_open", last).verdict === "REPLAYED")
const forged = frame(outerPacket(fromPeer(), esp({ ...edge2.in, key: bytes(32) }, 0x1_0000_1000n, bytes(64))))
hold("a forgery is refused", plane.run("vs_open", forged).verdict === "BAD_TAG")
plane.close()

/** Every family inside every other: the outer addresses, and an inner packet each way. */
const both = families.every((outer) => {
  const other = readyPlane6(outer)
  const send = sender(outer, edge2)
  const held = families.every((inner) => {
    const out = (length: number): Uint8Array =>
      inner === 4
        ? frame(udpPacket({ source: own, target: peer, from: 40_000, to: PEER_PORT }, bytes(length)))
        : frame6(udpPacket6(there, bytes(length)))
    const back = (length: number): Uint8Array =>
      inner === 4
        ? udpPacket({ source: peer, target: own, from: 50_000, to: OWN_PORT }, bytes(length))
        : udpPacket6(here, bytes(length))
    return [0, 1, 64, 500, 1370].every((length) => {
      const sealed = other.run("vs_seal", out(length))
      const guarded = other.run("vs_guard", sealed.packet, { mark: sealed.mark })
      const packet = back(length)
      const opened = other.run("vs_open", send(packet))
      return (
        sealed.verdict === "SEALED" &&
        (outer === 4 || checksum6(wire6, UDP, sealed.packet.subarray(ETHERNET + 40)) === 0) &&
        guarded.verdict === "SEALED_OUT" &&
        opened.verdict === "OPENED" &&
        same(opened.packet.subarray(ETHERNET), packet)
      )
    })
  })
  const long = other.run("vs_seal", frame6(udpPacket6(there, bytes(1400))))
  other.close()
  return held && long.verdict === "TOO_LONG" && long.packet.length === ETHERNET + 1280
})
hold("IPv4 and IPv6 carry each other", both)
ciphers.close()
