/**
 * Watches the wire from outside the nodes; runs in the bridge's namespace as a process of its own. Its one argument is
 * JSON: {devices, markers (hex), tag (hex), bus (address), busPort, espPort, lanesMax, mtu}. Prints `ready`, then its counts as a JSON line
 * whenever they changed, at most four times a second, and a last line with `"final":true` on SIGTERM.
 */
import { addressBytes } from "../../schemas/address.ts"
import { createTally, type WireCounts } from "./frames.ts"
import { openCapture } from "./packet-socket.ts"

export interface CaptureOrder {
  readonly devices: ReadonlyArray<string>
  readonly markers: ReadonlyArray<string>
  readonly tag: string
  readonly bus: string
  readonly busPort: number
  readonly espPort: number
  readonly lanesMax: number
  readonly mtu: number
}

export type CaptureLine = WireCounts & { readonly final: boolean }

const RING_MIB = 64
const EVERY_MS = 250

const order = JSON.parse(process.argv[2] ?? "null") as CaptureOrder
const tally = createTally(
  { ...order, bus: addressBytes(order.bus) },
  order.markers.map((marker) => Buffer.from(marker, "hex")),
  Buffer.from(order.tag, "hex"),
)
const ring = openCapture(order.devices, RING_MIB)

const onFrame = (frame: Buffer, vlan: boolean): void => {
  // The kernel takes a VLAN tag out of the frame; no tagged frame belongs on this wire.
  tally.frame(
    vlan ? Buffer.concat([frame.subarray(0, 12), Buffer.from([0x81, 0, 0, 0]), frame.subarray(12)]) : frame,
  )
}

let said = 0
let saidFrames = -1
const say = (final: boolean): void => {
  const line: CaptureLine = { ...tally.counts(ring.lost()), final }
  if (!final && line.frames === saidFrames) return
  saidFrames = line.frames
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

let ending = false
process.on("SIGTERM", () => {
  ending = true
})

const loop = (): void => {
  ring.read(50, onFrame)
  const now = performance.now()
  if (now - said >= EVERY_MS) {
    said = now
    say(false)
  }
  if (!ending) {
    setImmediate(loop)
    return
  }
  // Frames that were on their way when the signal came: two block timeouts.
  ring.read(50, onFrame)
  ring.read(50, onFrame)
  say(true)
  ring.close()
}

process.stdout.write("ready\n")
loop()
