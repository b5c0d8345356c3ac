/** The NATS client protocol as the hostile tests' go-between reads it: in any pieces, and within bounds. */
import { describe, expect, it } from "vitest"
import { bytesOf, type Frame, FrameError, FrameReader } from "../hostile/proxy-frames.ts"
import { Taint } from "../hostile/proxy-taint.ts"

const text = (value: string): Uint8Array => new TextEncoder().encode(value)

const frames: ReadonlyArray<Frame> = [
  { kind: "line", text: 'INFO {"server_id":"x"}' },
  { kind: "line", text: "SUB vs.v1.hello.* verifiers 7" },
  {
    kind: "message",
    subject: "a.b",
    sid: undefined,
    reply: "_INBOX.x.1",
    headers: undefined,
    payload: text("with\r\nan end of line"),
  },
  { kind: "message", subject: "a.b", sid: "7", reply: undefined, headers: undefined, payload: text("") },
  {
    kind: "message",
    subject: "a",
    sid: "8",
    reply: "r",
    headers: text("NATS/1.0 404\r\n\r\n"),
    payload: text("MSG a 1 5"),
  },
  { kind: "line", text: "PING" },
]

const whole = Buffer.concat(frames.map(bytesOf))

describe("frames of the NATS client protocol", () => {
  it("are the same however the bytes come", () => {
    for (const size of [1, 2, 3, 7, 16, whole.length]) {
      const reader = new FrameReader()
      const found: Frame[] = []
      for (let at = 0; at < whole.length; at += size)
        found.push(...reader.take(whole.subarray(at, at + size)))
      expect(found).toEqual(frames)
    }
  })

  it.each([
    ["a size that is no number", "PUB a x\r\n"],
    ["a size beyond all bounds", "PUB a 999999999\r\n"],
    ["more headers than bytes", "HPUB a 9 3\r\n"],
    ["a word too many", "MSG a 1 b c 3\r\n"],
    ["no subject", "PUB 3\r\n"],
    ["a payload that is longer than it says", "PUB a 1\r\nabc"],
    ["a line without an end", "x".repeat(70_000)],
  ])("are none with %s", (_, bytes) => {
    expect(() => new FrameReader().take(text(bytes))).toThrow(FrameError)
  })
})

describe("known secrets", () => {
  const secret = Buffer.from(Array.from({ length: 32 }, (_, i) => (i * 37 + 11) % 256))
  const taint = new Taint([secret.toString("hex"), "00".repeat(32)])

  it("are found as they are, in hex and in base64, wherever they stand", () => {
    for (const before of [0, 1, 2, 3, 4, 5]) {
      const around = (middle: Uint8Array) => Buffer.concat([Buffer.alloc(before, 0x61), middle, text("zz")])
      expect(taint.in(around(secret))).toBe("as it is")
      expect(taint.in(around(text(secret.toString("hex"))))).toBe("in hex")
      expect(taint.in(around(text(secret.toString("hex").toUpperCase())))).toBe("in hex")
      const inside = Buffer.concat([Buffer.alloc(before, 7), secret, Buffer.alloc(5, 9)])
      expect(taint.in(text(inside.toString("base64")))).toBe("in base64")
      expect(taint.in(text(inside.toString("base64url")))).toBe("in base64")
    }
  })

  it("are not found where they are not", () => {
    expect(taint.secrets).toBe(1)
    expect(taint.in(new Uint8Array(4_096))).toBeUndefined()
    expect(taint.in(secret.subarray(0, 31))).toBeUndefined()
    expect(taint.in(Buffer.concat([secret.subarray(0, 16), secret]))).toBe("as it is")
  })
})
