/**
 * What goes bad has to end everywhere at once: a value that is revoked while its stage takes others, at the node that showed
 * it and at its peers, long before a lease ends; and a node that one verifier refuses, whichever verifier vouched for it.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type AttestationResult, Challenge, type Offer } from "../../schemas/messages/attestation.ts"
import { Signed } from "../../schemas/messages/common.ts"
import { Beacon, Pull } from "../../schemas/messages/release.ts"
import { Withdrawal } from "../../schemas/messages/withdrawal.ts"
import { DEFAULT_PREFIX } from "../../schemas/subjects.ts"
import type { StoredEvent } from "../../services/common/bus/bus.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import type { SecretKey } from "../../services/common/crypto/secret-key.ts"
import { decodeResult } from "../../services/dataplane-loader/open-release.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { type Follower, follow, vouchsafe } from "./lifecycle-world.ts"
import { answer, begin, hello, type PlayedNode, playNode } from "./nodes.ts"
import {
  crypto,
  DATAPLANE,
  filled,
  hex,
  imageOf,
  insistently,
  machine,
  pause,
  startWorld,
  until,
  type World,
} from "./support.ts"

const NEXT_IMAGE = filled(48, 0x99)

let world: World
const nodes = new Map<string, PlayedNode>()
const lives = new Map<string, Follower>()

const nodeOf = (id: string): PlayedNode => {
  const node = nodes.get(id)
  if (node === undefined) throw new Error(`no node ${id}`)
  return node
}
const lifeOf = (id: string): Follower => {
  const life = lives.get(id)
  if (life === undefined) throw new Error(`${id} doesn't live`)
  return life
}

const linesOf = (id: string, edge: string, word: string, from = 0): readonly string[] => {
  const life = lifeOf(id)
  const index = life.rules()?.edges.find(({ edge: one }) => one.id === edge)?.record.index
  return life.log.slice(from).filter((line) => line.startsWith(word) && line.includes(`edge ${index} `))
}

/** Of whichever releaser leads, or whichever verifier was asked. */
const said = (
  after: number,
  role: string,
  type: string,
  subject: string,
  ms = 60_000,
): Promise<StoredEvent> =>
  until(
    `${role} says ${type} of ${subject}`,
    async () =>
      (await world.events()).find(
        ({ sequence, identity, event }) =>
          sequence > after && identity.startsWith(role) && event.type === type && event.subject === subject,
      ),
    ms,
  )

const inUse = async (...edges: ReadonlyArray<readonly [string, string, string]>) => {
  for (const [edge, ...ends] of edges)
    for (const end of ends)
      await until(`${end} sends over ${edge}`, () => linesOf(end, edge, "activate")[0], 60_000)
}

beforeAll(async () => {
  world = await startWorld({
    twice: true,
    // Nothing here may be explained by a lease that ends: what is left of one is 40 s at least.
    leaseSeconds: 60,
    nodes: [
      { id: "alpha", stage: "source" },
      { id: "beta", stage: "transform" },
      { id: "gamma", stage: "sink" },
    ],
    adapt: (workflow) => {
      const { source } = workflow.stages
      if (source?.sev_snp === undefined) throw new Error("no source")
      const measurements = [hex(imageOf("source")), hex(NEXT_IMAGE)]
      return {
        ...workflow,
        stages: { ...workflow.stages, source: { ...source, sev_snp: { ...source.sev_snp, measurements } } },
      }
    },
  })
  for (const { id } of world.workflow.document.nodes) {
    nodes.set(id, await playNode(world, id))
    lives.set(id, follow(world, nodeOf(id)))
  }
  await inUse(["raw:alpha:beta", "alpha", "beta"], ["packed:beta:gamma", "beta", "gamma"])
}, 120_000)
afterAll(() => world?.stop())

const read = <S extends Parameters<typeof decode>[0]>(
  schema: S,
  bytes: Uint8Array | undefined,
): S["Type"] => {
  const found = decode(schema, bytes ?? new Uint8Array(0), { subject: "captured" })
  if (!found.ok) throw new Error(found.error.message)
  return found.value
}

/** Which verifier vouches for what the node has now. */
const voucherOf = (id: string): string => {
  const pull = read(Pull, read(Signed, world.sent(`pull.${id}`).at(-1)).body)
  return (decodeResult(pull.result.body) as AttestationResult).verifier
}

const challenger = ({ challenge }: Offer): string => read(Challenge, challenge.body).verifier

/** A refused answer of the node at another verifier than that which vouches for it. */
const refuseElsewhere = async (id: string): Promise<string> => {
  const node = nodeOf(id)
  const voucher = voucherOf(id)
  return until(
    "another verifier's turn",
    async () => {
      // A verifier that the leader has yet to appraise offers nothing.
      const session = begin(node)
      const offer = await hello(world, node, session)
      if (offer.kind !== "offer") return undefined
      const verifier = challenger(offer)
      if (verifier === voucher) return undefined
      node.dataplane = filled(48, 0xee)
      const evidence = await answer(world, node, session, offer)
      node.dataplane = DATAPLANE
      const reply = await world.run(
        node.bus.request("evidence", { instance: verifier, node: id }, evidence, { timeoutMs: 8_000 }),
      )
      expect(reply).toMatchObject({ kind: "refused", code: "DATAPLANE" })
      return verifier
    },
    60_000,
  )
}

describe("a node that one verifier refuses while another one's word is in force", () => {
  it("loses its keys at once, at both ends; the others keep theirs", async () => {
    const mark = await world.mark()
    const from = { beta: lifeOf("beta").log.length, gamma: lifeOf("gamma").log.length }
    const voucher = voucherOf("gamma")
    const refuser = await refuseElsewhere("gamma")
    expect(refuser).not.toBe(voucher)
    await said(mark, "releaser-", "vouchsafe.node.withdrawn", "gamma")
    await said(mark, "releaser-", "vouchsafe.edge.stopped", "packed:beta:gamma")
    for (const end of ["beta", "gamma"] as const)
      await until(`${end}'s keys are gone`, () => linesOf(end, "packed:beta:gamma", "retire", from[end])[0])
    expect(linesOf("beta", "raw:alpha:beta", "retire", from.beta)).toEqual([])
    // It is the other's word: the verifier that vouched has said nothing.
    const withdrawal = read(Withdrawal, read(Signed, world.sent(`withdraw.${refuser}`).at(-1)).body)
    expect(withdrawal.results.map(({ node, field }) => [node, field])).toContainEqual(["gamma", "dataplane"])
    expect(world.sent(`withdraw.${voucher}`)).toEqual([])
  }, 120_000)

  it("gets them again with a newer result, however often the refusal is said", async () => {
    const withdrawals = ["v1", "v2"].flatMap((one) =>
      world.sent(`withdraw.${one}`).map((bytes) => [one, bytes] as const),
    )
    await until(
      "gamma sends again",
      () => {
        const { log } = lifeOf("gamma")
        return log.findLastIndex((line) => line.startsWith("activate")) >
          log.findLastIndex((line) => line.startsWith("retire"))
          ? true
          : undefined
      },
      60_000,
    )
    const again = await world.mark()
    for (const [one, bytes] of withdrawals) world.say(`withdraw.${one}`, bytes)
    await pause(6_000)
    const since = (await world.events()).filter(
      ({ sequence, event }) => sequence > again && /withdrawn|stopped/.test(event.type),
    )
    expect(since.map(({ event }) => `${event.type} ${event.subject}`)).toEqual([])
  }, 120_000)

  it("is no word of a verifier's user without its key, nor of a key that nothing vouches for", async () => {
    const mark = await world.mark()
    const beacon = until("a beacon", () => {
      const found = ["r1", "r2"].flatMap((one) => world.sent(`beacon.${one}`).slice(-1))
      const newest = found.map((bytes) => read(Beacon, bytes)).find(({ term }) => term > 0n)
      return newest?.nonce
    })
    const body = async (verifier: string) =>
      encode(Withdrawal, {
        v: 1,
        domain: "lab",
        workflow: world.workflow.digest,
        verifier,
        sequence: 1n,
        results: [
          {
            node: "gamma",
            session: filled(16, 1),
            beacon: await beacon,
            code: "DATAPLANE",
            field: "dataplane",
          },
        ],
      })
    const by = async (key: SecretKey, verifier: string) =>
      encode(Signed, sign(crypto, labels.signedWithdrawal, key, await body(verifier)))
    const own = crypto.ed25519.generate()
    const verifier = await world.raw("verifier", "v2")
    const sayAll = async () => {
      // Under its own name, and, by whoever runs the bus, under the other's.
      verifier.send(`${DEFAULT_PREFIX}.withdraw.v2`, await by(own, "v2"))
      world.say("withdraw.v1", await by(own, "v1"))
      // The key of a node whose session is in force.
      world.say("withdraw.v1", encode(Signed, { ...read(Signed, await by(own, "v1")), key: filled(32, 7) }))
    }
    await insistently(sayAll, (ms) => said(mark, "releaser-", "vouchsafe.withdrawal.refused", "v1", ms))
    await pause(1_000)
    const since = (await world.events()).filter(
      ({ sequence, event }) => sequence > mark && /withdrawn|stopped/.test(event.type),
    )
    expect(since).toEqual([])
    world.allRun()
  }, 60_000)
})

describe("a value that is revoked while its stage takes others", () => {
  it("ends what rests on it at both ends at once, and the node is refused until it shows another", async () => {
    const mark = await world.mark()
    const from = { alpha: lifeOf("alpha").log.length, beta: lifeOf("beta").log.length }
    const began = performance.now()
    const { status, err } = await vouchsafe(world, "revoke", "--measurement", hex(imageOf("source")), "--yes")
    expect({ status, err: err.includes(hex(imageOf("source"))) }).toEqual({ status: 0, err: true })
    await said(mark, "releaser-", "vouchsafe.node.revoked", "alpha")
    await said(mark, "releaser-", "vouchsafe.edge.stopped", "raw:alpha:beta")
    await until(
      "beta's keys to it are gone",
      () => linesOf("beta", "raw:alpha:beta", "retire", from.beta)[0],
      30_000,
    )
    console.info(
      `revoked: the peer's keys were gone after ${Math.round(performance.now() - began)} ms of a lease of 60 s`,
    )
    const refused = await said(mark, "verifier-", "vouchsafe.attestation.refused", "alpha")
    expect(refused.event.data).toMatchObject({ code: "MEASUREMENT", field: "measurement" })
    // The stage is as usable as before.
    nodeOf("alpha").machine = machine(world.chip("alpha"), { measurement: NEXT_IMAGE })
    nodeOf("alpha").boot = crypto.randomBytes(16)
    await until(
      "alpha sends again",
      () => linesOf("alpha", "raw:alpha:beta", "activate", from.alpha)[0],
      90_000,
    )
    world.allRun()
  }, 240_000)
})
