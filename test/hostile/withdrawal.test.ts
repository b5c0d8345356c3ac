/** Evidence that goes bad while its node has keys: they go at once, and nobody but who vouched for it can bring that about. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { Signed } from "../../schemas/messages/common.ts"
import { Withdrawal } from "../../schemas/messages/withdrawal.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { withSnp } from "../support/evidence-pieces.ts"
import { type Life, live, type PlayedNode, playNode, prepare, submit } from "./nodes.ts"
import { crypto, DATAPLANE, filled, flipped, pause, startWorld, until, type World } from "./support.ts"

let world: World
const nodes = new Map<string, PlayedNode>()
const lives = new Map<string, Life>()

const nodeOf = (id: string): PlayedNode => {
  const node = nodes.get(id)
  if (node === undefined) throw new Error(`no node ${id}`)
  return node
}
const lifeOf = (id: string): Life => {
  const life = lives.get(id)
  if (life === undefined) throw new Error(`${id} doesn't live`)
  return life
}

const active = (after: number, subject: string) =>
  world.recorded(after, { by: "releaser-r1", type: "vouchsafe.edge.active", subject }, 60_000)

beforeAll(async () => {
  world = await startWorld({
    nodes: [
      { id: "n1", stage: "source" },
      { id: "n2", stage: "transform" },
      { id: "n3", stage: "sink" },
    ],
  })
  for (const { id } of world.workflow.document.nodes) nodes.set(id, await playNode(world, id))
  for (const id of nodes.keys()) lives.set(id, await live(world, nodeOf(id)))
  for (const subject of ["raw:n1:n2", "packed:n2:n3"]) await active(0, subject)
  for (const id of nodes.keys())
    await until(`${id} sends`, () => lifeOf(id).log.find((line) => line.startsWith("activate")))
})
afterAll(() => world?.stop())

const linesOf = (id: string, edge: string, word: string): readonly string[] =>
  lifeOf(id).log.filter((line) => line.startsWith(word) && line.includes(`edge ${lifeOf(id).indexOf(edge)} `))

/** Everything that the releaser and the verifier have put on record since. */
const typesSince = async (after: number): Promise<readonly string[]> =>
  (await world.events())
    .filter(({ sequence, identity }) => sequence > after && /^(releaser|verifier)-/.test(identity))
    .map(({ event }) => `${event.type} ${event.subject ?? ""}`)

const said = (i = -1): Signed => {
  const found = decode(Signed, world.sent("withdraw.v1").at(i) ?? new Uint8Array(0), { subject: "withdraw" })
  if (!found.ok) throw new Error("nothing was taken back")
  return found.value
}

describe("an answer that hardware doesn't vouch for", () => {
  it("is refused, and takes nothing from the node in whose name it came", async () => {
    const mark = await world.mark()
    const { evidence } = await prepare(world, nodeOf("n1"))
    const pieces = withSnp(evidence.evidence, (piece) => ({ ...piece, report: flipped(piece.report, 0x90) }))
    expect(await submit(world, nodeOf("n1"), { ...evidence, evidence: pieces })).toMatchObject({
      kind: "refused",
    })
    await pause(1_500)
    const types = await typesSince(mark)
    expect(types).toContain("vouchsafe.attestation.refused n1")
    expect(types.filter((type) => /withdrawn|stopped/.test(type))).toEqual([])
    expect(world.sent("withdraw.v1")).toEqual([])
  })
})

describe("a node whose kernel holds another data plane all of a sudden", () => {
  it("loses its keys with its next answer, at both ends; the others keep theirs", async () => {
    const mark = await world.mark()
    const node = nodeOf("n1")
    const before = {
      own: linesOf("n1", "raw:n1:n2", "retire").length,
      peer: linesOf("n2", "raw:n1:n2", "retire").length,
    }
    node.dataplane = filled(48, 0xee)
    const { evidence } = await prepare(world, node)
    expect(await submit(world, node, evidence)).toMatchObject({ kind: "refused", code: "DATAPLANE" })
    await until("its peer's keys are gone", () =>
      linesOf("n2", "raw:n1:n2", "retire").length > before.peer ? true : undefined,
    )
    await until("its own keys are gone", () =>
      linesOf("n1", "raw:n1:n2", "retire").length > before.own ? true : undefined,
    )
    const event = await world.recorded(mark, {
      by: "verifier-v1",
      type: "vouchsafe.attestation.withdrawn",
      subject: "n1",
      code: "DATAPLANE",
      field: "dataplane",
    })
    expect(event.data.checks?.filter(({ result }) => result === "failed").map(({ name }) => name)).toEqual([
      "dataplane",
    ])
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.withdrawn", subject: "n1" })
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.edge.stopped", subject: "raw:n1:n2" })
    expect(await typesSince(mark)).not.toContain("vouchsafe.edge.stopped packed:n2:n3")
  })

  it("is named in what the verifier signs, by the digest of its result", () => {
    const withdrawal = decode(Withdrawal, said().body, { subject: "withdrawal" })
    if (!withdrawal.ok) throw new Error(withdrawal.error.message)
    expect(withdrawal.value).toMatchObject({ domain: "lab", verifier: "v1", workflow: world.workflow.digest })
    expect(withdrawal.value.results.map(({ node, field }) => [node, field])).toContainEqual([
      "n1",
      "dataplane",
    ])
  })

  it("gets them again when it proves to be what it should be", async () => {
    const mark = await world.mark()
    nodeOf("n1").dataplane = DATAPLANE
    await active(mark, "raw:n1:n2")
  }, 90_000)
})

describe("the bus", () => {
  it("achieves nothing by saying it again, in its own name, or changed", async () => {
    const mark = await world.mark()
    const own = crypto.ed25519.generate()
    const old = said()
    const again = { ...old, signature: flipped(old.signature) }
    const refused = { type: "vouchsafe.withdrawal.refused", code: "NOT_AUTHENTIC", field: "signature" }
    await world.insist({ by: "releaser-r1", ...refused }, () => {
      world.say("withdraw.v1", encode(Signed, old))
      world.say("withdraw.v1", encode(Signed, sign(crypto, labels.signedWithdrawal, own, old.body)))
      world.say("withdraw.v1", encode(Signed, again))
    })
    // Under another label it says something else.
    world.say("withdraw.v1", encode(Signed, { ...old, body: said().body.slice(0, -1) }))
    await pause(1_000)
    expect((await typesSince(mark)).filter((type) => /withdrawn|stopped/.test(type))).toEqual([])
    world.allRun()
  })
})
