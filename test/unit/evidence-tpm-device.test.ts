/** A TPM, or whoever sits where it should be, that answers anything at all. */

import { mkdtempSync, rmSync } from "node:fs"
import { createServer, type Server, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, describe, expect, it } from "vitest"
import {
  connectTpmSocket,
  TpmDevice,
  TpmError,
  type TpmTransport,
} from "../../services/evidence/tpm/index.ts"
import { describeResponseCode } from "../../services/evidence/tpm/response-code.ts"
import { Random } from "./crypto-support.ts"

const answering = (answer: (command: Uint8Array) => Uint8Array): TpmDevice => {
  const transport: TpmTransport = { send: async (command) => answer(command), close: async () => undefined }
  return new TpmDevice(transport)
}

const bytes = (...parts: (readonly number[])[]) => Uint8Array.from(parts.flat())

const response = (body: readonly number[], code = 0, tag = 0x8001): Uint8Array => {
  const size = 10 + body.length
  return bytes([tag >> 8, tag & 0xff, 0, 0, size >> 8, size & 0xff], [0, 0, code >> 8, code & 0xff], body)
}

const refusal = async (act: Promise<unknown>): Promise<TpmError> => {
  try {
    await act
  } catch (error) {
    if (error instanceof TpmError) return error
    throw error
  }
  throw new Error("wasn't refused")
}

describe("responses", () => {
  it.each([
    ["nothing", bytes([])],
    ["half a header", bytes([0x80, 0x01, 0, 0])],
    ["a size that isn't its own", bytes([0x80, 0x01, 0, 0, 0, 99, 0, 0, 0, 0])],
    ["another tag", response([0, 1, 7], 0, 0x8002)],
    ["no parameters", response([])],
    ["a TPM2B that ends early", response([0, 9, 1])],
    ["more bytes than were asked for", response([0, 5, 1, 2, 3, 4, 5])],
    ["more than a TPM can send", new Uint8Array(5_000)],
  ])("of %s are refused by name", async (_name, answer) => {
    const error = await refusal(answering(() => answer).getRandom(4))
    expect(["DEVICE_RESPONSE", "STRUCTURE_LENGTH"]).toContain(error.code)
  })

  it("that give nothing, forever, end", async () => {
    expect((await refusal(answering(() => response([0, 0])).getRandom(4))).code).toBe("DEVICE_RESPONSE")
  })

  it("of a busy TPM are waited for", async () => {
    let calls = 0
    const device = answering(() => (++calls < 3 ? response([], 0x922) : response([0, 2, 7, 8])))
    expect(await device.getRandom(2)).toEqual(bytes([7, 8]))
    expect(calls).toBe(3)
  })

  it("for other registers than were asked for are refused", async () => {
    const other = response([
      0,
      0,
      0,
      1,
      0,
      0,
      0,
      1,
      0,
      0x0b,
      3,
      2,
      0,
      0,
      0,
      0,
      0,
      1,
      0,
      32,
      ...new Array(32).fill(0),
    ])
    const error = await refusal(answering(() => other).readPcrs([{ bank: "sha256", pcrs: [0] }]))
    expect(error).toMatchObject({ code: "DEVICE_RESPONSE", field: "PCR_Read" })
  })

  it("whose registers change with every read are given up", async () => {
    let counter = 0
    const device = answering((command) => {
      const selected = command.slice(command.length - 3)
      const count = [...selected].reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0)
      const digests = Array.from({ length: count }, () => [0, 32, ...new Array<number>(32).fill(0)]).flat()
      return response([0, 0, 0, counter++, 0, 0, 0, 1, 0, 0x0b, 3, ...selected, 0, 0, 0, count, ...digests])
    })
    const pcrs = Array.from({ length: 16 }, (_, i) => i)
    const error = await refusal(device.readPcrs([{ bank: "sha256", pcrs }]))
    expect(error.found).toMatch(/keep changing/)
    expect((await device.readPcrs([{ bank: "sha256", pcrs: [1, 2] }])).sha256?.size).toBe(2)
  })

  it("2,000 of them, of any bytes, end in a value or a typed error", async () => {
    const random = new Random("tpm responses")
    for (let i = 0; i < 2_000; i++) {
      const answer = response([...random.bytes(random.below(120))], 0, random.below(2) ? 0x8002 : 0x8001)
      const device = answering(() => answer)
      const acts = [
        () => device.getRandom(8),
        () => device.readPcrs([{ bank: "sha256", pcrs: [0, 1] }]),
        () => device.createAk("ecdsa-p256"),
        () => device.readPublic(0x8000_0000),
        () => device.readEkCertificate("rsa-2048"),
      ]
      await acts[i % acts.length]?.().catch((error: unknown) => {
        if (!(error instanceof TpmError)) throw error
      })
    }
  })

  it.each([
    [0x1c4, "TPM_RC_VALUE of parameter 1 (0x1c4)"],
    [0x18b, "TPM_RC_HANDLE of handle 1 (0x18b)"],
    [0x98e, "TPM_RC_AUTH_FAIL of session 1 (0x98e)"],
    [0x100, "TPM_RC_INITIALIZE (0x100)"],
    [0x922, "TPM_RC_RETRY (0x922)"],
    [0x1e, "TPM_RC_BAD_TAG (0x1e)"],
    [0x7f, "TPM_RC_unknown (0x7f)"],
  ])("with code %i are named", (code, name) => {
    expect(describeResponseCode(code)).toBe(name)
  })
})

describe("questions that no TPM could answer", () => {
  const device = answering(() => expect.fail("asked"))
  it("aren't asked", async () => {
    expect((await refusal(device.getRandom(65))).code).toBe("DEVICE_INPUT")
    expect((await refusal(device.readPcrs([{ bank: "sha256", pcrs: [24] }]))).code).toBe("DEVICE_INPUT")
  })
})

describe("a socket", () => {
  const open: { server: Server; directory: string; transport?: TpmTransport; sockets: Socket[] }[] = []

  afterEach(async () => {
    for (const { server, directory, transport, sockets } of open.splice(0)) {
      await transport?.close()
      for (const socket of sockets) socket.destroy()
      server.close()
      rmSync(directory, { recursive: true, force: true })
    }
  })

  const serving = async (answer: (socket: Socket) => void, timeoutMs = 300) => {
    const directory = mkdtempSync(join(tmpdir(), "vouchsafe-socket-"))
    const sockets: Socket[] = []
    const server = createServer((socket) => {
      sockets.push(socket)
      socket.on("error", () => undefined)
      socket.on("data", () => answer(socket))
    })
    const path = join(directory, "tpm.sock")
    await new Promise<void>((resolve) => server.listen(path, resolve))
    const transport = await connectTpmSocket(path, timeoutMs)
    open.push({ server, directory, transport, sockets })
    return new TpmDevice(transport)
  }

  it("may give a response in pieces", async () => {
    const whole = response([0, 3, 1, 2, 3])
    const device = await serving(async (socket) => {
      for (const byte of whole) {
        socket.write(Uint8Array.of(byte))
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    })
    expect(await device.getRandom(3)).toEqual(bytes([1, 2, 3]))
  })

  it.each([
    ["says nothing", () => undefined, "DEVICE_TIMEOUT"],
    ["hangs up", (socket: Socket) => socket.end(), "DEVICE_IO"],
    ["says too much", (socket: Socket) => socket.write(new Uint8Array(10_000)), "DEVICE_RESPONSE"],
    [
      "announces too much",
      (socket: Socket) => socket.write(bytes([0x80, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])),
      "DEVICE_RESPONSE",
    ],
    [
      "announces too little",
      (socket: Socket) => socket.write(bytes([0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0])),
      "DEVICE_RESPONSE",
    ],
    [
      "answers twice",
      (socket: Socket) => socket.write(bytes([...response([0, 1, 1])], [...response([0, 1, 1])])),
      "DEVICE_RESPONSE",
    ],
  ])("that %s isn't used again", async (_name, answer, code) => {
    const device = await serving(answer)
    expect((await refusal(device.getRandom(1))).code).toBe(code)
    expect((await refusal(device.getRandom(1))).code).toBe(code)
  })

  it("carries one command at a time", async () => {
    let inFlight = 0
    const device = await serving((socket) => {
      inFlight++
      expect(inFlight).toBe(1)
      setTimeout(() => {
        inFlight--
        socket.write(response([0, 1, 5]))
      }, 2)
    })
    const all = await Promise.all(Array.from({ length: 8 }, () => device.getRandom(1)))
    expect(all.every((one) => one[0] === 5)).toBe(true)
  })
})
