/** Headers of the bus: whoever may publish anything may send any, and no service has asked for one. */
import { connect as dial, type Socket } from "node:net"
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { Hello } from "../../schemas/messages/attestation.ts"
import { userKey } from "../../services/common/bus/nkey.ts"
import { withBuses } from "../support/buses.ts"
import { startNats, type TestNats } from "../support/nats.ts"

/** Speaks the server's protocol itself: the client would refuse to send such headers. */
const wire = async (nats: TestNats): Promise<Socket> => {
  const { hostname, port } = new URL(nats.url)
  const socket = dial(Number(port), hostname)
  const heard = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      let text = ""
      const look = (chunk: Buffer): void => {
        text += chunk.toString("latin1")
        const found = pattern.exec(text)
        if (found === null) return
        socket.off("data", look)
        resolve(found)
      }
      socket.on("data", look)
      socket.once("error", reject)
    })
  const [, info = "{}"] = await heard(/^INFO (.*)\r\n/)
  const { nonce } = JSON.parse(info) as { nonce: string }
  const { publicKey, sign } = userKey(nats.seed("loader", "n1"))
  const sig = Buffer.from(sign(Buffer.from(nonce))).toString("base64url")
  const options = { verbose: false, pedantic: false, headers: true, lang: "test", version: "0" }
  socket.write(`CONNECT ${JSON.stringify({ ...options, nkey: publicKey, sig })}\r\nPING\r\n`)
  await heard(/PONG\r\n/)
  return socket
}

let nats: TestNats
beforeAll(async () => {
  nats = await startNats([
    { role: "operator", instance: "lab" },
    { role: "verifier", instance: "v1" },
    { role: "loader", instance: "n1" },
    { role: "loader", instance: "n2" },
  ])
  await withBuses(nats, [["operator", "lab"]], (operator) => operator.ensureStreams)
})
afterAll(() => nats.stop())

const hello: Hello = {
  v: 1,
  domain: "lab",
  node: "n2",
  session: new Uint8Array(16),
  nonce: new Uint8Array(32),
  term: 0n,
}

/** What the client's own reader of headers throws for, and what it only may not stumble over. */
const hostile: ReadonlyArray<readonly [what: string, headers: string]> = [
  ["a line break in a value", "NATS/1.0\r\nA: b\nc\r\n\r\n"],
  ["a carriage return in a value", "NATS/1.0\r\nA: b\rc\r\n\r\n"],
  ["no version", "\r\n\r\n"],
  ["a name of an object's own", "NATS/1.0\r\n__proto__: x\r\nconstructor: y\r\n\r\n"],
  ["bytes that are no text", "NATS/1.0 \xff\xfe\r\n\x00\xff: \xfe\r\n\r\n"],
]

describe("headers that no client would send", () => {
  it.each(hostile)("stop nobody who gets them: %s", async (_, headers) => {
    const socket = await wire(nats)
    try {
      await withBuses(
        nats,
        [
          ["verifier", "v1"],
          ["loader", "n2"],
        ],
        (verifier, loader) =>
          Effect.gen(function* () {
            yield* verifier.serve("hello", {}, () =>
              Effect.succeed({
                v: 1,
                kind: "refused",
                by: "v1",
                code: "LATER",
                field: "",
                message: "",
              } as const),
            )
            const size = Buffer.byteLength(headers, "latin1")
            const payload = "\x80"
            yield* Effect.promise(
              () =>
                new Promise<void>((resolve) => {
                  const head = `HPUB vs.v1.hello.n1 _INBOX.loader-n1.a ${size} ${size + 1}\r\n`
                  socket.write(Buffer.from(`${head}${headers}${payload}\r\nPING\r\n`, "latin1"), () =>
                    resolve(),
                  )
                  socket.once("data", () => resolve())
                }),
            )
            const answer = yield* loader.request("hello", { node: "n2" }, hello, { timeoutMs: 1_500 })
            expect(answer.kind).toBe("refused")
            expect(verifier.counters().reconnects).toBe(0)
          }),
      )
    } finally {
      socket.destroy()
    }
  })
})
