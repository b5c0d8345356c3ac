/** Packet sockets (packet(7)) through libc: one that reads every frame by a shared ring, one that sends frames as they are. */
import koffi from "koffi"

const AF_PACKET = 17
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const SOL_PACKET = 263
const PACKET_RX_RING = 5
const PACKET_STATISTICS = 6
const PACKET_VERSION = 10
const PACKET_QDISC_BYPASS = 20
const PACKET_IGNORE_OUTGOING = 23
const TPACKET_V3 = 2
const ETH_P_ALL = 0x0003
const POLLIN = 1
const TP_STATUS_USER = 1
/** linux/if_packet.h: the address after a frame's header, aligned to 16. */
const TPACKET3_HDRLEN = 48
const VLAN_VALID = 1 << 4

const libc = koffi.load("libc.so.6")
const socket = libc.func("int socket(int, int, int)")
const bind = libc.func("int bind(int, const void *, uint32_t)")
const setsockopt = libc.func("int setsockopt(int, int, int, const void *, uint32_t)")
const getsockopt = libc.func("int getsockopt(int, int, int, _Out_ void *, _Inout_ uint32_t *)")
const mmap = libc.func("void *mmap(void *, uint64_t, int, int, int, int64_t)")
const poll = libc.func("int poll(void *, uint64_t, int)")
const sendto = libc.func("int64_t sendto(int, const void *, uint64_t, int, const void *, uint32_t)")
const close = libc.func("int close(int)")

const need = (what: string, result: number): number => {
  if (result < 0) throw new Error(`${what} failed: errno ${koffi.errno()}`)
  return result
}

const u32 = (...values: ReadonlyArray<number>): Buffer => {
  const buffer = Buffer.alloc(values.length * 4)
  for (const [i, value] of values.entries()) buffer.writeUInt32LE(value, i * 4)
  return buffer
}

/** struct sockaddr_ll. The protocol is in network order. */
const address = (ifindex: number, protocol: number): Buffer => {
  const buffer = Buffer.alloc(20)
  buffer.writeUInt16LE(AF_PACKET, 0)
  buffer.writeUInt16BE(protocol, 2)
  buffer.writeInt32LE(ifindex, 4)
  return buffer
}

const option = (fd: number, name: number, value: Buffer): void => {
  need(`setsockopt ${name}`, setsockopt(fd, SOL_PACKET, name, value, value.length))
}

const nameToIndex = libc.func("uint32_t if_nametoindex(const char *)")

const deviceIndex = (name: string): number => {
  const index: number = nameToIndex(name)
  if (index === 0) throw new Error(`no network device ${name} here`)
  return index
}

const BLOCK = 1 << 20

export interface CaptureRing {
  /** Waits up to `timeoutMs` for frames, then hands each to `onFrame` (valid only during the call). */
  read(timeoutMs: number, onFrame: (frame: Buffer, vlan: boolean) => void): void
  /** Frames lost so far for want of room. */
  lost(): number
  close(): void
}

/**
 * Captures what *arrives* at the named devices: on a bridge's ports that is each frame of the wire exactly once, and also
 * those that the bridge doesn't forward. `blocks`: the ring's size in MiB.
 */
export const openCapture = (devices: ReadonlyArray<string>, blocks: number): CaptureRing => {
  const wanted = new Set(devices.map(deviceIndex))
  const fd = need("socket(AF_PACKET)", socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0))
  option(fd, PACKET_VERSION, u32(TPACKET_V3))
  option(fd, PACKET_IGNORE_OUTGOING, u32(1))
  // tp_block_size, tp_block_nr, tp_frame_size, tp_frame_nr, tp_retire_blk_tov (ms), tp_sizeof_priv, tp_feature_req_word
  option(fd, PACKET_RX_RING, u32(BLOCK, blocks, 2048, (BLOCK / 2048) * blocks, 20, 0, 0))
  const memory: unknown = mmap(null, BLOCK * blocks, 3 /* read, write */, 1 /* shared */, fd, 0)
  if (memory === null || koffi.address(memory) === 0xffffffffffffffffn)
    throw new Error(`mmap failed: errno ${koffi.errno()}`)
  const ring = Buffer.from(koffi.view(memory, BLOCK * blocks))
  need("bind", bind(fd, address(0, ETH_P_ALL), 20))
  const waiting = Buffer.alloc(8)
  waiting.writeInt32LE(fd, 0)
  waiting.writeInt16LE(POLLIN, 4)
  let next = 0
  let lost = 0

  const walk = (block: number, onFrame: (frame: Buffer, vlan: boolean) => void): void => {
    const count = ring.readUInt32LE(block + 12)
    let at = block + ring.readUInt32LE(block + 16)
    for (let i = 0; i < count; i++) {
      const length = ring.readUInt32LE(at + 12)
      const mac = at + ring.readUInt16LE(at + 24)
      const ifindex = ring.readInt32LE(at + TPACKET3_HDRLEN + 4)
      if (wanted.has(ifindex)) {
        onFrame(ring.subarray(mac, mac + length), (ring.readUInt32LE(at + 20) & VLAN_VALID) !== 0)
      }
      at += ring.readUInt32LE(at)
    }
  }

  return {
    read: (timeoutMs, onFrame) => {
      if ((ring.readUInt32LE(next * BLOCK + 8) & TP_STATUS_USER) === 0) poll(waiting, 1, timeoutMs)
      while ((ring.readUInt32LE(next * BLOCK + 8) & TP_STATUS_USER) !== 0) {
        walk(next * BLOCK, onFrame)
        ring.writeUInt32LE(0, next * BLOCK + 8)
        next = (next + 1) % blocks
      }
    },
    lost: () => {
      // Reading them resets the kernel's counters.
      const statistics = Buffer.alloc(12)
      need("PACKET_STATISTICS", getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, statistics, [12]))
      lost += statistics.readUInt32LE(4)
      return lost
    },
    close: () => {
      close(fd)
    },
  }
}

/** A sender of raw frames that goes past every queueing discipline and hook of traffic control. */
export const openSender = (device: string): { send(frame: Uint8Array): void; close(): void } => {
  const ifindex = deviceIndex(device)
  const fd = need("socket(AF_PACKET)", socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0))
  option(fd, PACKET_QDISC_BYPASS, u32(1))
  const to = address(ifindex, 0)
  return {
    send: (frame) => {
      need("sendto", sendto(fd, frame, frame.length, 0, to, to.length))
    },
    close: () => {
      close(fd)
    },
  }
}
