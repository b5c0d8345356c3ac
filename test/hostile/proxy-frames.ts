/**
 * The NATS client protocol as it is on the wire, both ways: lines, and messages with a payload. Bounded: whoever sends a
 * longer line or payload than the protocol's users need is cut off.
 */
const LINE_MAX = 65_536
const PAYLOAD_MAX = 16 << 20

export interface Line {
  readonly kind: "line"
  readonly text: string
}

export interface Message {
  readonly kind: "message"
  readonly subject: string
  /** Of a delivery: the subscription's number. */
  readonly sid: string | undefined
  readonly reply: string | undefined
  /** The header block with its own ends of line; undefined where there is none. */
  readonly headers: Uint8Array | undefined
  readonly payload: Uint8Array
}

export type Frame = Line | Message

export class FrameError extends Error {
  override readonly name = "FrameError"
}

const size = (text: string | undefined): number => {
  const found = /^\d{1,9}$/.test(text ?? "") ? Number(text) : Number.NaN
  if (!(found <= PAYLOAD_MAX)) throw new FrameError(`a size of ${JSON.stringify(text)}`)
  return found
}

interface Head {
  readonly subject: string
  readonly sid: string | undefined
  readonly reply: string | undefined
  readonly headerBytes: number
  readonly bytes: number
}

/** PUB subject [reply] n; HPUB subject [reply] h n; MSG subject sid [reply] n; HMSG subject sid [reply] h n. */
const headOf = (text: string): Head | undefined => {
  const [verb = "", ...rest] = text.split(/[ \t]+/)
  const op = verb.toUpperCase()
  if (op !== "PUB" && op !== "HPUB" && op !== "MSG" && op !== "HMSG") return undefined
  const bytes = size(rest.pop())
  const headerBytes = op.startsWith("H") ? size(rest.pop()) : 0
  const subject = rest.shift() ?? ""
  const sid = op.endsWith("MSG") ? (rest.shift() ?? "") : undefined
  const reply = rest.shift()
  if (subject === "" || sid === "" || rest.length > 0 || headerBytes > bytes)
    throw new FrameError(`a line of ${op} with ${rest.length} words too many, or too few`)
  return { subject, sid, reply, headerBytes, bytes }
}

/** Takes bytes as they come, and gives what is complete. */
export class FrameReader {
  #waiting: Buffer = Buffer.alloc(0)
  #head: Head | undefined

  /** @throws FrameError for what is not the protocol, or too long */
  take(chunk: Uint8Array): ReadonlyArray<Frame> {
    this.#waiting = this.#waiting.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#waiting, chunk])
    const frames: Frame[] = []
    for (let frame = this.#next(); frame !== undefined; frame = this.#next()) frames.push(frame)
    return frames
  }

  #next(): Frame | undefined {
    if (this.#head === undefined) {
      const end = this.#waiting.indexOf("\r\n")
      if (end < 0) {
        if (this.#waiting.length > LINE_MAX) throw new FrameError("a line without an end")
        return undefined
      }
      const text = this.#waiting.toString("latin1", 0, end)
      this.#waiting = this.#waiting.subarray(end + 2)
      this.#head = headOf(text)
      if (this.#head === undefined) return { kind: "line", text }
    }
    return this.#message(this.#head)
  }

  #message({ subject, sid, reply, headerBytes, bytes }: Head): Message | undefined {
    const body = this.#waiting
    if (body.length < bytes + 2) return undefined
    if (body[bytes] !== 0x0d || body[bytes + 1] !== 0x0a) throw new FrameError("a payload without its end")
    this.#head = undefined
    this.#waiting = body.subarray(bytes + 2)
    const headers = headerBytes === 0 ? undefined : Uint8Array.from(body.subarray(0, headerBytes))
    const payload = Uint8Array.from(body.subarray(headerBytes, bytes))
    return { kind: "message", subject, sid, reply, headers, payload }
  }
}

/** Bytes of a frame; of a message with a `sid` a delivery, else a publication. Subjects are taken as they are. */
export const bytesOf = (frame: Frame): Uint8Array => {
  if (frame.kind === "line") return Buffer.from(`${frame.text}\r\n`, "latin1")
  const { subject, sid, reply, headers, payload } = frame
  const verb = `${headers === undefined ? "" : "H"}${sid === undefined ? "PUB" : "MSG"}`
  const sizes = headers === undefined ? [payload.length] : [headers.length, headers.length + payload.length]
  const words = [verb, subject, sid, reply, ...sizes].filter((word) => word !== undefined)
  return Buffer.concat([
    Buffer.from(`${words.join(" ")}\r\n`, "latin1"),
    headers ?? new Uint8Array(0),
    payload,
    Buffer.from("\r\n"),
  ])
}
