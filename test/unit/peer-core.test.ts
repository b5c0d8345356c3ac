/** Edges whose ends appraise each other, in the node's core and at its edges: what is not proven gets no keys, and no time. */

import { Effect } from "effect"
import { describe, expect, it, vi } from "vitest"
import type { Bus } from "../../services/common/bus/bus.ts"
import type { EventDraft } from "../../services/common/bus/types.ts"
import { AskedRenewals } from "../../services/dataplane-loader/asked-renewals.ts"
import { makePeerProofs } from "../../services/dataplane-loader/peer-proofs.ts"
import { demandsAny, peersToProve, withoutUnproven } from "../../services/dataplane-loader/peer-release.ts"
import { compileNode, evidencePeers, type Workflow } from "../../services/make/edges.ts"
import { MakeError } from "../../services/make/errors.ts"
import type { Proofs } from "../../services/make/node-state.ts"
import type { EdgeRelease, OpenedRelease } from "../../services/make/release.ts"
import { peerBatches } from "../../services/make/result.ts"
import type { VerifiedWorkflow } from "../../services/make/workflow-document.ts"
import {
  type Attested,
  adopt,
  attest,
  bootNs,
  crypto,
  filled,
  Kernel,
  newNode,
  workflow as plain,
  vouch,
  withDigest,
} from "../support/make-lab.ts"

const BEACON = filled(32, 9)
const LEASE = 30_000

/** alpha -> beta by two edges: `ask` by Evidence, `bulk` by results. */
const workflow: Workflow = {
  ...plain,
  peers: "evidence",
  edges: plain.edges.map((edge) => (edge.id === "bulk" ? { ...edge, peers: "results" as const } : edge)),
}

const entry = (change: Partial<EdgeRelease> = {}): EdgeRelease => ({
  instance: "ask:alpha:beta",
  term: 5n,
  epoch: 1n,
  state: "install",
  peer: "beta",
  inbound: [1_000],
  outbound: [2_000],
  secret: filled(32, 7),
  ...change,
})
const bulk = entry({ instance: "bulk:alpha:beta", inbound: [1_001], outbound: [2_001] })

const alpha = attest("alpha", BEACON)
const beta = attest("beta", BEACON)

const releaseOf = (
  own: Attested,
  nonce: Uint8Array,
  sequence: bigint,
  edges: ReadonlyArray<EdgeRelease>,
): OpenedRelease =>
  withDigest({
    header: {
      domain: workflow.domain,
      workflow: workflow.digest,
      node: "alpha",
      session: own.result.claims.session,
      releaser: "releaser-1",
      term: 5n,
      sequence,
      nonce,
      suite: workflow.suite,
    },
    payload: { lease_ms: LEASE, batches: peerBatches([beta.result]), edges },
  })

const nodeWith = (proofs?: Proofs) => {
  const node = newNode(alpha, { workflow, ...(proofs && { proofs }) })
  node.followTerm(5n)
  return node
}

const refusal = (run: () => unknown): string => {
  try {
    run()
    return "accepted"
  } catch (error) {
    if (error instanceof MakeError) return `${error.code} ${error.field}`
    throw error
  }
}

describe("who appraises whom", () => {
  it("is what the workflow says, and an edge says otherwise", () => {
    const demands = compileNode(workflow, "alpha").map(({ id, peers }) => [id, peers])
    expect(demands).toEqual([
      ["ask:alpha:beta", "evidence"],
      ["bulk:alpha:beta", "results"],
    ])
    expect([...evidencePeers(workflow, "beta")].sort()).toEqual(["alpha", "gamma"])
    expect(evidencePeers(plain, "beta").size).toBe(0)
    const one = {
      ...plain,
      edges: plain.edges.map((e) => (e.id === "out" ? { ...e, peers: "evidence" as const } : e)),
    }
    expect([...evidencePeers(one, "beta")]).toEqual(["gamma"])
  })
})

describe("a node's core", () => {
  it("installs nothing that demands proof without one, whatever it was asked to believe", () => {
    const node = nodeWith()
    const told = releaseOf(alpha, node.ask(bootNs(1_000)), 1n, [entry()])
    expect(refusal(() => node.accept(told, vouch))).toBe("NOT_VOUCHED peers")
    expect(node.held).toEqual([])
    const doubting = nodeWith(() => {
      throw new MakeError("NOT_VOUCHED", "peers", "include a peer whose Evidence was not appraised here")
    })
    const again = releaseOf(alpha, doubting.ask(bootNs(1_000)), 1n, [entry(), bulk])
    expect(refusal(() => doubting.accept(again, vouch))).toBe("NOT_VOUCHED peers")
    expect(doubting.held).toEqual([])
  })
  it("asks about the very key and result that keys would rest on", () => {
    const asked: Array<readonly [string, Uint8Array, Uint8Array]> = []
    const node = nodeWith(({ node: id, dhKey, digest }) => {
      asked.push([id, dhKey, digest])
      return bootNs(900_000)
    })
    node.accept(releaseOf(alpha, node.ask(bootNs(1_000)), 1n, [entry(), bulk]), vouch)
    expect(asked).toEqual([["beta", beta.result.claims.dh_key, beta.result.digest]])
  })
  it("lets no key outlive the proof that it rests on, however often its lease is renewed", () => {
    const node = nodeWith(() => bootNs(50_000))
    const kernel = new Kernel()
    kernel.run(node.accept(releaseOf(alpha, node.ask(bootNs(1_000)), 1n, [entry(), bulk]), vouch))
    const deadlines = () => node.held.map(({ instance, deadlineBootNs }) => [instance, deadlineBootNs])
    expect(deadlines()).toEqual([
      ["ask:alpha:beta", bootNs(31_000)],
      ["bulk:alpha:beta", bootNs(31_000)],
    ])
    const active = [entry({ state: "active" }), { ...bulk, state: "active" as const }]
    const actions = node.accept(releaseOf(alpha, node.ask(bootNs(30_000)), 2n, active), vouch)
    kernel.run(actions)
    expect(deadlines()).toEqual([
      ["ask:alpha:beta", bootNs(50_000)],
      ["bulk:alpha:beta", bootNs(60_000)],
    ])
    const told = actions.filter(({ kind }) => kind === "setLease")
    expect(told.map((action) => action.kind === "setLease" && action.deadlineBootNs)).toEqual([
      bootNs(50_000),
      bootNs(60_000),
    ])
    expect(node.expire(bootNs(50_000)).map(({ instance }) => instance)).toEqual(["ask:alpha:beta"])
  })
  it("prolongs nothing that an earlier loader installed, whose proof nobody remembers", () => {
    const first = nodeWith(() => bootNs(900_000))
    first.accept(releaseOf(alpha, first.ask(bootNs(1_000)), 1n, [entry(), bulk]), vouch)
    const node = newNode(alpha, { workflow, held: adopt(first) })
    node.followTerm(5n)
    const active = [entry({ state: "active" }), { ...bulk, state: "active" as const }]
    node.accept(releaseOf(alpha, node.ask(bootNs(20_000)), 1n, active), vouch)
    expect(node.held.map(({ instance, deadlineBootNs }) => [instance, deadlineBootNs])).toEqual([
      ["ask:alpha:beta", bootNs(31_000)],
      ["bulk:alpha:beta", bootNs(50_000)],
    ])
  })
})

describe("a release", () => {
  const { edges } = nodeWith()
  const release = releaseOf(alpha, filled(32, 1), 1n, [entry(), bulk])
  it("waits for proof of those only that keys are to be derived with where it is demanded", () => {
    expect(peersToProve(edges, [], release)).toEqual([
      { node: "beta", dhKey: beta.result.claims.dh_key, result: beta.result.digest },
    ])
    expect(
      peersToProve(edges, [{ instance: "ask:alpha:beta", epoch: { term: 5n, n: 1n } }], release),
    ).toEqual([])
    const inUse = releaseOf(alpha, filled(32, 1), 1n, [entry({ state: "active" })])
    expect(peersToProve(edges, [], inUse)).toEqual([])
    expect(demandsAny(nodeWith().edges)).toBe(true)
    expect(demandsAny(newNode(alpha).edges)).toBe(false)
  })
  it("is taken without what isn't proven, and whole with it", () => {
    const names = (taken: OpenedRelease) => taken.payload.edges.map(({ instance }) => instance)
    expect(names(withoutUnproven(edges, [], release, new Set()))).toEqual(["bulk:alpha:beta"])
    expect(withoutUnproven(edges, [], release, new Set(["beta"]))).toBe(release)
  })
})

describe("wishes for fresh Evidence", () => {
  it("are gathered, and followed ever more rarely while they don't end", () => {
    const renewals = new AskedRenewals()
    const follow = (fromMs: number): number => {
      renewals.heard(fromMs)
      let at = fromMs
      while (!renewals.due(at)) at += 100
      renewals.began(at)
      expect(renewals.due(at + 1_000_000)).toBe(false)
      return at
    }
    const times = [follow(0)]
    for (let i = 0; i < 20; i++) times.push(follow((times.at(-1) ?? 0) + 1))
    expect(times[0]).toBe(300)
    const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0))
    // Somebody who forged some of them delays an honest one by no more.
    expect(Math.max(...gaps.slice(0, 6))).toBeLessThan(3_000)
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(60_000)
    // A verifier takes back no more than 64 results of a node, and so signs no more than those in ten minutes.
    expect(times.filter((at) => at < 600_000).length).toBeLessThan(20)
    const quiet = (times.at(-1) ?? 0) + 300_000
    expect(follow(quiet) - quiet).toBe(300)
  })
  it("are granted by an attestation that begins for another reason", () => {
    const renewals = new AskedRenewals()
    renewals.heard(0)
    renewals.began(10)
    expect(renewals.due(10_000)).toBe(false)
  })
  it("are not granted by one that came to nothing, which counts all the same", () => {
    const renewals = new AskedRenewals()
    const isDueAt = (atMs: number) => [renewals.due(atMs - 1), renewals.due(atMs)]
    renewals.failed()
    expect(renewals.due(10_000)).toBe(false)
    renewals.heard(0)
    renewals.began(300)
    renewals.failed()
    expect(isDueAt(2_300)).toEqual([false, true])
    renewals.began(2_300)
    renewals.heard(2_400)
    renewals.failed()
    expect(isDueAt(4_300)).toEqual([false, true])
    for (let at = 4_300; at <= 10_300; at += 2_000) {
      expect(isDueAt(at)).toEqual([false, true])
      renewals.began(at)
      renewals.failed()
    }
    expect(isDueAt(12_300)).toEqual([false, true])
    renewals.began(12_300)
    renewals.failed()
    expect(isDueAt(16_300)).toEqual([false, true])
    // Nobody wished for what begins next.
    renewals.began(16_300)
    renewals.began(16_400)
    renewals.failed()
    expect(renewals.due(1_000_000)).toBe(false)
  })
})

describe("a loader that can't prove a peer", () => {
  const verified = { document: {}, digest: workflow.digest } as unknown as VerifiedWorkflow
  const loader = (get: Bus["Service"]["proofs"]["get"]) => {
    const events: EventDraft[] = []
    const said: string[] = []
    let asked = 0
    const bus = {
      identity: { role: "loader", instance: "alpha", name: "loader-alpha" },
      event: (draft: EventDraft) => Effect.sync(() => void events.push(draft)),
      publish: (name: string) => Effect.sync(() => void said.push(name)),
      proofs: {
        get: (digest: Uint8Array) =>
          Effect.suspend(() => {
            asked++
            return get(digest)
          }),
        put: () => Effect.void,
      },
    } as unknown as Bus["Service"]
    const proofs = makePeerProofs(bus, { crypto, node: "alpha" })
    const node = nodeWith(proofs.expect)
    const release = releaseOf(alpha, node.ask(bootNs(1_000)), 1n, [entry(), bulk])
    /** At this time by the clock that attempts are paced by, which stands still meanwhile. */
    const prepare = async (atMs: number, by = verified): Promise<OpenedRelease> => {
      const clock = vi.spyOn(performance, "now").mockReturnValue(BEGAN_MS + atMs)
      try {
        return await Effect.runPromise(proofs.prepare(by, node, release))
      } finally {
        clock.mockRestore()
      }
    }
    return { events, said, asked: () => asked, node, release, prepare }
  }
  const BEGAN_MS = 5_000

  it("takes the rest of the release, says why, and asks again at a bounded rate", async () => {
    const { events, asked, node, release, prepare } = loader(() => Effect.succeed(undefined))
    const taken = await prepare(0)
    expect(taken.payload.edges.map(({ instance }) => instance)).toEqual(["bulk:alpha:beta"])
    expect(refusal(() => node.accept(release, vouch))).toBe("NOT_VOUCHED peers")
    expect(refusal(() => node.accept(taken, vouch))).toBe("accepted")
    for (let i = 0; i < 20; i++) await prepare(0)
    await prepare(1_049)
    expect(asked()).toBe(1)
    // The time that an attempt may take, and a pause that doubles: 250 ms, then 500.
    await prepare(1_050)
    await prepare(2_349)
    expect(asked()).toBe(2)
    await prepare(2_350)
    expect(asked()).toBe(3)
    expect(events.map(({ type, data }) => [type, data.peer, data.code])).toEqual(
      Array.from({ length: 3 }, () => ["vouchsafe.peer.refused", "beta", "MISSING"]),
    )
  })
  it("asks its peer for other Evidence when a proof is still not there, or not what it should be", async () => {
    for (const stored of [undefined, filled(300, 0xc1)]) {
      const { said, prepare } = loader(() => Effect.succeed(stored))
      await prepare(0)
      expect(said).toEqual([])
      await prepare(1_050)
      expect(said.filter((name) => name === "renew").length).toBe(1)
      // The peer follows once in two seconds at the most: so often it is asked, if there is something to try again.
      await prepare(2_350)
      expect(said.filter((name) => name === "renew").length).toBe(1)
      await prepare(5_000)
      expect(said.filter((name) => name === "renew").length).toBe(2)
    }
  })
  it("remembers nothing of what another document said of its peers", async () => {
    const { asked, prepare } = loader(() => Effect.succeed(undefined))
    await prepare(0)
    await prepare(0)
    expect(asked()).toBe(1)
    await prepare(0, { ...verified, digest: filled(32, 0xd0) })
    expect(asked()).toBe(2)
  })
  it("waits no longer than a moment for a bus that doesn't answer, and counts that too", async () => {
    const { asked, prepare } = loader(() => Effect.never)
    const began = performance.now()
    expect((await prepare(0)).payload.edges.length).toBe(1)
    expect(performance.now() - began).toBeGreaterThan(700)
    await prepare(1_049)
    expect(asked()).toBe(1)
    await prepare(1_050)
    expect(asked()).toBe(2)
  })
})
