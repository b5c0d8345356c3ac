/** NATS users' keys against those of the client's library: the server must see no difference. */
import { createRequire } from "node:module"
import { describe, expect, it } from "vitest"
import { connect, mayRetry } from "../../services/common/bus/nats.ts"
import { newUser, userKey } from "../../services/common/bus/nkey.ts"
import type { BusError } from "../../services/common/bus/types.ts"

const { nkeys }: typeof import("nats") = createRequire(import.meta.url)("nats")
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("latin1")
const message = Buffer.from("a nonce of the server")

describe("a NATS user's key", () => {
  it("is the library's, made there or here", () => {
    for (let i = 0; i < 4; i++) {
      const theirs = nkeys.createUser()
      const ours = userKey(theirs.getSeed())
      expect(ours.publicKey).toBe(theirs.getPublicKey())
      expect(ours.sign(message)).toEqual(Buffer.from(theirs.sign(message)))
      const made = newUser()
      const read = nkeys.fromSeed(made.seed)
      expect(read.getPublicKey()).toBe(made.publicKey)
      expect(userKey(made.seed).publicKey).toBe(made.publicKey)
      expect(read.verify(message, userKey(made.seed).sign(message))).toBe(true)
    }
  })

  it("is not read from anything else, and what was given is not told", () => {
    const { seed } = newUser()
    const whole = text(seed)
    const account = text(nkeys.createAccount().getSeed())
    const other = whole.at(20) === "A" ? "B" : "A"
    const bad = [
      "",
      whole.slice(0, -1),
      `${whole}A`,
      whole.toLowerCase(),
      account,
      `${whole.slice(0, 20)}${other}${whole.slice(21)}`,
      `${whole.slice(0, 56)}${whole.slice(56) === "AA" ? "BB" : "AA"}`,
      newUser().publicKey,
    ]
    for (const each of bad) {
      const read = () => userKey(Buffer.from(each))
      expect(read, each).toThrow(RangeError)
      expect(read).toThrow("not the seed of a NATS user")
    }
  })

  it("that is none ends the first attempt to connect, for good", async () => {
    const [url, name, seed] = ["nats://127.0.0.1:1", "verifier-v1", Buffer.from(`SU${"A".repeat(56)}`)]
    const failed = await connect({ url, name, seed, inboxPrefix: "_INBOX.x", onStatus: () => {} }).then(
      () => undefined,
      (error: unknown) => error as BusError,
    )
    expect(failed).toMatchObject({ reason: "Denied", message: "not the seed of a NATS user" })
    expect(failed && mayRetry(failed)).toBe(false)
  })
})
