import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Signed } from "../../schemas/messages/common.ts"
import { Order } from "../../schemas/messages/order.ts"
import { Leave } from "../../schemas/messages/release.ts"
import { encode } from "../../services/common/codec/index.ts"
import type { SecretKey } from "../../services/common/crypto/secret-key.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { type Follower, follow, vouchsafe } from "./lifecycle-world.ts"
import { type PlayedNode, playNode } from "./nodes.ts"
import { crypto, startWorld, until, type World } from "./support.ts"

let world: World
let alpha: Follower
let beta: Follower
let gamma: Follower
let gammaNode: PlayedNode

beforeAll(async () => {
  world = await startWorld({
    nodes: [
      { id: "alpha", stage: "source" },
      { id: "beta", stage: "transform" },
      { id: "gamma", stage: "sink" },
      { id: "delta", stage: "source" },
    ],
    // Nobody has said yet which machine delta is.
    adapt: (workflow) => ({
      ...workflow,
      nodes: workflow.nodes.map((node) => (node.id === "delta" ? { ...node, chip: "pending" } : node)),
    }),
  })
  alpha = follow(world, await playNode(world, "alpha"))
  beta = follow(world, await playNode(world, "beta"))
  gammaNode = await playNode(world, "gamma")
  gamma = follow(world, gammaNode)
  await until("all edges", () =>
    activations(alpha) >= 1 && activations(beta) >= 3 && activations(gamma) >= 2 ? true : undefined,
  )
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
    const refusedAs = (code: string, message: () => Uint8Array) =>
      world.insist({ by: "releaser-r1", type: "vouchsafe.order.refused", code }, () =>
        world.say("order.lab", message()),
      )
    const times = activations(alpha)
    await refusedAs("NOT_AUTHENTIC", () => order(crypto.ed25519.generate()))
    await refusedAs("MISDIRECTED", () => order(world.operator, { domain: "other" }))
    // By more than a minute, and what a busy machine takes to hand it over.
    for (const offMs of [-61_000, 90_000])
      await refusedAs("STALE", () => order(world.operator, { issued_ms: Date.now() + offMs }))
    // A body that an operator signed for another use.
    const body = encode(Order, {
      v: 1,
      domain: "lab",
      order: "rotate",
      issued_ms: Date.now(),
      nonce: crypto.randomBytes(32),
    })
    const misused = encode(Signed, sign(crypto, labels.signedPull, world.operator, body))
    await refusedAs("NOT_AUTHENTIC", () => misused)
    expect(activations(alpha)).toBe(times)

    const again = world.sent("order.lab").at(0)
    if (again === undefined) throw new Error("no order was captured")
    await refusedAs("STALE", () => again)
    expect(activations(alpha)).toBe(times)
    world.allRun()
  })
})

describe("a node that leaves", () => {
  const signedLeave = (key: SecretKey, change: Partial<Leave> = {}): Uint8Array =>
    encode(
      Signed,
      sign(
        crypto,
        labels.signedLeave,
        key,
        encode(Leave, { v: 1, node: "gamma", session: crypto.randomBytes(16), ...change }),
      ),
    )

  it("is dropped at once, with its peers' keys to it, and may come again", async () => {
    const mark = await world.mark()
    const from = beta.log.length
    const began = performance.now()
    await gamma.leave()
    expect(gamma.log.at(-1)).toBe("revoke all")
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.left", subject: "gamma" })
    await world.recorded(mark, {
      by: "releaser-r1",
      type: "vouchsafe.edge.stopped",
      subject: "packed:beta:gamma",
    })
    await until("the peer's keys are gone", () =>
      beta.log.slice(from).filter((line) => line.startsWith("retire")).length >= 4 ? true : undefined,
    )
    console.info(`left: the peer's keys were gone after ${Math.round(performance.now() - began)} ms`)
    await gamma.stop()

    const said = world.sent("leave.gamma").at(0)
    if (said === undefined) throw new Error("no leave was captured")
    const pulled = world.sent("pull.gamma").at(-1)
    if (pulled === undefined) throw new Error("no request was captured")
    // Whoever hoards what the node has said: the result that it rested on doesn't come back.
    const refused = { by: "releaser-r1", subject: "gamma" }
    await world.insist({ ...refused, type: "vouchsafe.pull.refused", code: "WITHDRAWN" }, () =>
      world.say("pull.gamma", pulled),
    )
    gamma = follow(world, gammaNode)
    await until("back", () => (activations(gamma) >= 2 ? true : undefined))
    await world.insist({ ...refused, type: "vouchsafe.leave.refused", code: "NOT_AUTHENTIC" }, () =>
      world.say("leave.gamma", said),
    )
  }, 60_000)

  it("is the node itself, and nobody else", async () => {
    const mark = await world.mark()
    const refused = { by: "releaser-r1", type: "vouchsafe.leave.refused", code: "NOT_AUTHENTIC" }
    await world.insist(refused, () => world.say("leave.gamma", signedLeave(crypto.ed25519.generate())))
    expect(
      (await world.events()).some(
        ({ sequence, event }) => sequence > mark && event.type === "vouchsafe.node.left",
      ),
    ).toBe(false)
  })
})

describe("a node without a machine", () => {
  it("is refused whatever machine it is, named by it, and let in when the operator says so", async () => {
    const mark = await world.mark()
    const delta = follow(world, await playNode(world, "delta"))
    const refused = await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.attestation.refused",
      subject: "delta",
      code: "CHIP_ID",
    })
    const id = Buffer.from(world.chip("delta").chipId).toString("hex")
    expect(refused.data.chip).toEqual({ sev_snp: id })
    const list = await vouchsafe(world, "enroll", "list")
    expect(list.out).toMatch(new RegExp(`^delta +sev_snp:${id}  sev-snp .* nothing else is wrong$`, "m"))
    const approved = await vouchsafe(world, "enroll", "approve", "delta", "--yes")
    expect(approved.err).toMatch(new RegExp(`^[+] +sev_snp: "?${id}"?$`, "m"))
    expect(approved.status).toBe(0)
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.attestation.accepted",
      subject: "delta",
    })
    await until("delta's edge", () => (activations(delta) >= 1 ? true : undefined), 40_000)
    expect((await vouchsafe(world, "enroll", "approve", "delta", "--yes")).err).toContain(
      "has a machine already",
    )
    await delta.leave()
    await delta.stop()
  }, 90_000)
})

describe("a new version of the workflow", () => {
  /** The association that a node sends by, and what became of it after a place in its log: replaced, before it went? */
  const successor = ({ log, rules }: Follower, from: number, instance: string) => {
    const index = rules()?.edges.find(({ edge }) => edge.id === instance)?.record.index
    const used = log.slice(0, from).findLast((line) => line.startsWith(`activate edge ${index} `))
    const spi = used?.split(" ").at(-1)
    const later = log.slice(from)
    const gone = later.indexOf(`retire out edge ${index} spi ${spi}`)
    const next = later.findIndex((line) => line.startsWith(`activate edge ${index} `))
    return { used, next, lost: gone >= 0 && (next < 0 || gone < next) }
  }

  it("revokes a node: its edges end, it is refused, and no key of the edges that stay goes before the next serves", async () => {
    // All are there again after the version before: only whom the releaser knows can it drop.
    const began = (await world.events()).findLast(({ event }) => event.type === "vouchsafe.leader.began")
    for (const subject of ["alpha", "beta", "gamma"])
      await world.recorded(began?.sequence ?? 0, {
        by: "releaser-r1",
        type: "vouchsafe.node.accepted",
        subject,
      })
    const mark = await world.mark()
    const from = { alpha: alpha.log.length, beta: beta.log.length }
    const { status, err, out } = await vouchsafe(world, "revoke", "--node", "gamma", "--yes")
    expect({ status, out }).toMatchObject({ status: 0 })
    expect(err).toContain("+     - gamma")
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.revoked", subject: "gamma" })
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.hello.refused",
      subject: "gamma",
      code: "REVOKED",
    })
    expect(beta.rules()?.edges.map(({ edge }) => edge.id)).toEqual(["raw:alpha:beta", "raw:delta:beta"])
    expect(gamma.rules()?.edges).toEqual([])
    for (const [name, node] of [
      ["alpha", alpha],
      ["beta", beta],
    ] as const) {
      const found = await until(`${name} goes on with new keys`, () => {
        const told = successor(node, from[name], "raw:alpha:beta")
        return told.next < 0 && !told.lost ? undefined : told
      })
      expect(found.used).toBeDefined()
      expect(found.lost).toBe(false)
    }
    const again = await vouchsafe(world, "revoke", "--node", "gamma", "--yes")
    expect(again.err).toContain("revoked already")
    expect((await vouchsafe(world, "revoke", "--node", "alpha")).err).toContain("say --yes")
  })

  it("revokes a machine that a node is pinned to, and it gets nothing more", async () => {
    const mark = await world.mark()
    const chip = Buffer.from(world.chip("beta").chipId).toString("hex")
    expect((await vouchsafe(world, "revoke", "--chip", chip, "--yes")).status).toBe(0)
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.revoked", subject: "beta" })
    await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.hello.refused",
      subject: "beta",
      code: "REVOKED",
    })
    expect(alpha.rules()?.edges).toEqual([])
    world.allRun()
  })
})
