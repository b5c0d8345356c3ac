/** What a frame on the wire is, as somebody sees it who knows no keys. Pure: bytes in, a class out. */

export interface WireView {
  /** The bus's address on the wire, as it is in a header. */
  readonly bus: Uint8Array
  readonly busPort: number
  readonly espPort: number
  /** UDP source ports of sealed traffic are espPort .. espPort + lanesMax - 1. */
  readonly lanesMax: number
  readonly mtu: number
}

export type FrameClass = "esp" | "control" | "neighbour" | "unexpected"

const ETHERNET = 14
const IPV4 = 20

const isArp = (frame: Buffer): boolean =>
  frame.length >= ETHERNET + 28 &&
  frame.readUInt16BE(14) === 1 &&
  frame.readUInt16BE(16) === 0x0800 &&
  frame.readUInt16BE(18) === 0x0604

const sameAddress = (frame: Buffer, at: number, address: Uint8Array): boolean =>
  frame[at] === address[0] &&
  frame[at + 1] === address[1] &&
  frame[at + 2] === address[2] &&
  frame[at + 3] === address[3]

/** UDP from a lane's port to the ESP port, holding at least SPI, sequence, IV, one block of padding and the tag. */
const isEsp = (frame: Buffer, length: number, view: WireView): boolean => {
  const udp = ETHERNET + IPV4
  if (length < IPV4 + 8 + 8 + 8 + 4 + 16) return false
  const from = frame.readUInt16BE(udp)
  return (
    from >= view.espPort &&
    from < view.espPort + view.lanesMax &&
    frame.readUInt16BE(udp + 2) === view.espPort &&
    frame.readUInt16BE(udp + 4) === length - IPV4 &&
    frame.readUInt32BE(udp + 8) >= 256
  )
}

const isControl = (frame: Buffer, length: number, view: WireView): boolean => {
  const tcp = ETHERNET + IPV4
  if (length < IPV4 + 20) return false
  const fromBus = sameAddress(frame, 26, view.bus) && frame.readUInt16BE(tcp) === view.busPort
  const toBus = sameAddress(frame, 30, view.bus) && frame.readUInt16BE(tcp + 2) === view.busPort
  return fromBus !== toBus
}

/** `frame`: from the destination MAC on. What isn't plainly one of the three permitted kinds is `unexpected`. */
export const classify = (frame: Buffer, view: WireView): FrameClass => {
  if (frame.length < ETHERNET) return "unexpected"
  const type = frame.readUInt16BE(12)
  if (type === 0x0806) return isArp(frame) ? "neighbour" : "unexpected"
  if (type !== 0x0800 || frame.length < ETHERNET + IPV4 + 8) return "unexpected"
  const length = frame.readUInt16BE(16)
  const fragment = frame.readUInt16BE(20) & 0x3fff
  if (frame[14] !== 0x45 || fragment !== 0 || length > view.mtu || length > frame.length - ETHERNET)
    return "unexpected"
  if (frame[23] === 17 && isEsp(frame, length, view)) return "esp"
  if (frame[23] === 6 && isControl(frame, length, view)) return "control"
  return "unexpected"
}

/** What a capture counted. Every frame is in exactly one of the five kinds. */
export interface WireCounts {
  readonly frames: number
  readonly esp_frames: number
  readonly control_frames: number
  readonly neighbour_frames: number
  /** Frames with the tag that the lab's intruder puts into its own: sent on purpose, to be dropped by every node. */
  readonly intruder_frames: number
  readonly unexpected_frames: number
  /** Frames in which a marker of the pipeline's data was found in the clear. */
  readonly marker_hits: number
  readonly bytes: number
  /** Frames that the kernel had no room for: if there are any, the capture proves nothing. */
  readonly lost_frames: number
  /** The first few unexpected frames or marker hits, as hex. */
  readonly samples: ReadonlyArray<string>
  /** When the first sealed frame was seen: milliseconds of the Unix clock, or null. */
  readonly first_esp_at: number | null
}

const SAMPLES = 4

/** Counts frames as they come. `markers` and `tag` are searched in every frame, whatever its class. */
export const createTally = (view: WireView, markers: ReadonlyArray<Buffer>, tag: Buffer) => {
  const kinds = { esp: 0, control: 0, neighbour: 0, unexpected: 0, intruder: 0 }
  const samples: string[] = []
  let frames = 0
  let bytes = 0
  let hits = 0
  let firstEsp: number | null = null
  const sample = (why: string, frame: Buffer): void => {
    if (samples.length < SAMPLES) samples.push(`${why} ${frame.subarray(0, 96).toString("hex")}`)
  }
  return {
    frame: (frame: Buffer): void => {
      frames += 1
      bytes += frame.length
      for (const marker of markers) {
        if (frame.indexOf(marker) < 0) continue
        hits += 1
        sample("marker", frame)
        break
      }
      const kind = frame.indexOf(tag) >= 0 ? "intruder" : classify(frame, view)
      kinds[kind] += 1
      if (kind === "unexpected") sample("unexpected", frame)
      if (kind === "esp" && firstEsp === null) firstEsp = Date.now()
    },
    counts: (lost: number): WireCounts => ({
      frames,
      esp_frames: kinds.esp,
      control_frames: kinds.control,
      neighbour_frames: kinds.neighbour,
      intruder_frames: kinds.intruder,
      unexpected_frames: kinds.unexpected,
      marker_hits: hits,
      bytes,
      lost_frames: lost,
      samples: [...samples],
      first_esp_at: firstEsp,
    }),
  }
}
