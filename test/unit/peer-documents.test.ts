/** What a node has found of its peers counts of that peer, under the document that it was found by: a stricter one asks anew. */
import { Effect } from "effect"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import type { Workflow } from "../../schemas/workflow.ts"
import type { Bus } from "../../services/common/bus/bus.ts"
import type { EventDraft } from "../../services/common/bus/types.ts"
import { toHex } from "../../services/common/hex.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { makePeerProofs } from "../../services/dataplane-loader/peer-proofs.ts"
import { compileRules } from "../../services/dataplane-loader/rules.ts"
import type { EmulatedChip, EmulatedRoot } from "../../services/evidence/index.ts"
import type { OpenedRelease } from "../../services/make/release.ts"
import type { VouchedPeer } from "../../services/make/result.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import { crypto, leafOf, type PeerSaid, peerWorkflow, vouchedPeer } from "../support/peer-proofs.ts"
import { hexOf, makeChip, makeRoot, now } from "./evidence-support.ts"

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
const nonce = filled(32, 0x4e)
const edgeTo = (peer: string): string => `raw:n1:${peer}`
const EDGE = edgeTo("n2")

let root: EmulatedRoot
let chips: readonly [EmulatedChip, EmulatedChip, EmulatedChip]
beforeAll(() => {
  vi.useFakeTimers({ toFake: ["Date"], now })
  root = makeRoot()
  chips = [makeChip(root), makeChip(root), makeChip(root)]
}, 120_000)
afterAll(() => void vi.useRealTimers())

const version = (number: number, change: (document: Workflow) => Workflow = (same) => same) =>
  peerWorkflow(root, chips, (document) => change({ ...document, version: number }))

/** n2, vouched for under a document, in Evidence with a nonce of n1. */
const told = (workflow: VerifiedWorkflow): PeerSaid =>
  vouchedPeer(workflow, "n2", chips[1], { leaves: [leafOf("n1", nonce)] })

/** The loader of n1, on a bus that keeps whatever was said. */
const loader = (...said: ReadonlyArray<PeerSaid>) => {
  const stored = new Map(
    said.flatMap(({ wanted, proof, control, evidence }) => [
      [toHex(wanted.result), proof],
      [toHex(evidence.claims.control), control],
    ]),
  )
  const events: EventDraft[] = []
  const bus = {
    identity: { role: "loader", instance: "n1", name: "loader-n1" },
    event: (draft: EventDraft) => Effect.sync(() => void events.push(draft)),
    publish: () => Effect.void,
    proofs: { get: (digest: Uint8Array) => Effect.succeed(stored.get(toHex(digest))) },
  } as unknown as Bus["Service"]
  const proofs = makePeerProofs(bus, { crypto, node: "n1" })

  const rulesOf = (workflow: VerifiedWorkflow) =>
    compileRules(workflow, {
      crypto,
      nodeId: "n1",
      wireMtu: 1_500,
      wireFamilies: [4],
      espPort: 4_500,
      present: { edges: [], reserved: [] } as unknown as Parameters<typeof compileRules>[1]["present"],
    })

  /** Edges that are left of a release under this document which rests on what was said. */
  const take = async (workflow: VerifiedWorkflow, { wanted }: PeerSaid): Promise<ReadonlyArray<string>> => {
    const rules = rulesOf(workflow)
    await Effect.runPromise(proofs.began(rules, nonce, bootNow(), 0))
    const { node, dhKey, result } = wanted
    const release = {
      payload: {
        lease_ms: 30_000,
        batches: [{ peers: [{ node, dh_key: dhKey, result, index: 0 }] }],
        edges: [
          {
            ...{ instance: edgeTo(node), term: 7n, epoch: 1n, state: "install", peer: node },
            ...{ inbound: [1_000], outbound: [2_000], secret: filled(32, 7) },
          },
        ],
      },
    } as unknown as OpenedRelease
    const edges = new Map(rules.edges.map(({ edge }) => [edge.id, edge]))
    const taken = await Effect.runPromise(proofs.prepare(workflow, { edges, held: [] }, release))
    return taken.payload.edges.map(({ instance }) => instance)
  }
  const isBelieved = ({ wanted: { node, dhKey, result } }: PeerSaid): boolean => {
    try {
      return proofs.expect({ node, dhKey, digest: result } as VouchedPeer) > bootNow()
    } catch {
      return false
    }
  }
  return { take, isBelieved, codes: () => events.map(({ type, data }) => `${type} ${data.code ?? ""}`) }
}

const ACCEPTED = "vouchsafe.peer.accepted "

describe("a peer's proof that was found good", () => {
  it("is remembered under its document, and says nothing under a stricter one that names the same result", async () => {
    const first = version(1)
    // It takes another image of the peer, and goes on with the edge.
    const stricter = version(2, (document) => {
      const { transform } = document.stages
      if (transform?.sev_snp === undefined) throw new Error("no transform")
      const wanted = { ...transform.sev_snp, measurements: [hexOf(filled(48, 0x99))] }
      return { ...document, stages: { ...document.stages, transform: { ...transform, sev_snp: wanted } } }
    })
    const good = told(first)
    const { take, isBelieved, codes } = loader(good)
    expect(await take(first, good)).toEqual([EDGE])
    expect(await take(first, good)).toEqual([EDGE])
    expect(codes()).toEqual([ACCEPTED])
    expect(isBelieved(good)).toBe(true)
    expect(await take(stricter, good)).toEqual([])
    expect(isBelieved(good)).toBe(false)
    expect(codes()).toEqual([ACCEPTED, "vouchsafe.peer.refused WORKFLOW"])
  })

  it("is asked for anew also where the next document demands the same, and no memory of another one comes back", async () => {
    const [first, second] = [version(1), version(2)]
    const [old, fresh] = [told(first), told(second)]
    const { take, isBelieved, codes } = loader(old, fresh)
    expect(await take(first, old)).toEqual([EDGE])
    expect(await take(second, old)).toEqual([])
    expect(await take(second, fresh)).toEqual([EDGE])
    expect([isBelieved(old), isBelieved(fresh)]).toEqual([false, true])
    expect(codes()).toEqual([ACCEPTED, "vouchsafe.peer.refused WORKFLOW", ACCEPTED])
  })

  it("counts of no other node, of which a control plane names the very result and key", async () => {
    const only = version(1)
    const good = told(only)
    const { take, isBelieved, codes } = loader(good)
    const lie = { ...good, wanted: { ...good.wanted, node: "n3" } }
    expect(await take(only, good)).toEqual([EDGE])
    expect(isBelieved(lie)).toBe(false)
    expect(await take(only, lie)).toEqual([])
    expect([isBelieved(lie), isBelieved(good)]).toEqual([false, true])
    expect(codes()).toEqual([ACCEPTED, "vouchsafe.peer.refused NOT_VOUCHED"])
  })
})
