import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Signed } from "../../schemas/messages/common.ts"
import { Order } from "../../schemas/messages/order.ts"
import { encode } from "../../services/common/codec/index.ts"
import type { SecretKey } from "../../services/common/crypto/secret-key.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { type Follower, follow, vouchsafe } from "./lifecycle-world.ts"
import { playNode } from "./nodes.ts"
import { crypto, startWorld, until, type World } from "./support.ts"

let world: World
let alpha: Follower
let beta: Follower

beforeAll(async () => {
  world = await startWorld({
    nodes: [
      { id: "alpha", stage: "source" },
      { id: "beta", stage: "transform" },
    ],
  })
  alpha = follow(world, await playNode(world, "alpha"))
  beta = follow(world, await playNode(world, "beta"))
  await switched(1)
}, 60_000)
afterAll(async () => {
  await world?.stop()
})

const activations = ({ log }: Follower): number => log.filter((line) => line.startsWith("activate")).length

/** Both ends have switched to an epoch for the nth time. */
const switched = (times: number): Promise<boolean> =>
  until(`${times} switches at both ends`, () =>
    activations(alpha) >= times && activations(beta) >= times ? true : undefined,
  )

describe("an operator's order to rotate", () => {
  it("gives every edge new keys, and takes no key away before", async () => {
    const mark = await world.mark()
    const times = activations(alpha)
    const { status, out, err } = await vouchsafe(world, "rotate", "raw")
    expect({ status, err }).toEqual({ status: 0, err: "" })
    expect(out).toContain("get new keys")
    await switched(times + 1)
    await world.recorded(mark, {
      by: "releaser-r1",
      type: "vouchsafe.edge.active",
      subject: "raw:alpha:beta",
    })
    for (const { log } of [alpha, beta]) {
      const retired = log.findIndex((line) => line.startsWith("retire"))
      const second = log.findLastIndex((line) => line.startsWith("activate"))
      expect(retired === -1 || retired > second).toBe(true)
    }
    expect((await vouchsafe(world, "rotate", "nothing")).err).toContain("NO_SUCH_EDGE")
  })

  it("is refused from others, for others, late, and a second time", async () => {
    const order = (key: SecretKey, change: Partial<Order> = {}): Uint8Array =>
      encode(
        Signed,
        sign(
          crypto,
          labels.signedOrder,
          key,
          encode(Order, {
            v: 1,
            domain: "lab",
            order: "rotate",
            issued_ms: Date.now(),
            nonce: crypto.randomBytes(32),
            ...change,
          }),
        ),
      )
    const refusedAs = async (code: string, message: Uint8Array) => {
      const mark = await world.mark()
      world.say("order.lab", message)
      await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.order.refused", code })
    }
    const times = activations(alpha)
    await refusedAs("NOT_AUTHENTIC", order(crypto.ed25519.generate()))
    await refusedAs("MISDIRECTED", order(world.operator, { domain: "other" }))
    await refusedAs("STALE", order(world.operator, { issued_ms: Date.now() - 61_000 }))
    await refusedAs("STALE", order(world.operator, { issued_ms: Date.now() + 61_000 }))
    // A body that an operator signed for another use.
    const body = encode(Order, {
      v: 1,
      domain: "lab",
      order: "rotate",
      issued_ms: Date.now(),
      nonce: crypto.randomBytes(32),
    })
    await refusedAs("NOT_AUTHENTIC", encode(Signed, sign(crypto, labels.signedPull, world.operator, body)))
    expect(activations(alpha)).toBe(times)

    const again = world.sent("order.lab").at(0)
    if (again === undefined) throw new Error("no order was captured")
    await refusedAs("STALE", again)
    expect(activations(alpha)).toBe(times)
    world.allRun()
  })
})
