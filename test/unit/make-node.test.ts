import { beforeEach, describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { MakeError, type MakeErrorCode } from "../../services/make/errors.ts"
import type { NodeState } from "../../services/make/node-state.ts"
import type { EdgeRelease, OpenedRelease, ReleaseHeader } from "../../services/make/release.ts"
import {
  type PeerBatch,
  type PeerResult,
  peerBatches,
  type VouchedResult,
} from "../../services/make/result.ts"
import {
  type Attested,
  adopt,
  attest,
  bootNs,
  crypto,
  filled,
  hex,
  Kernel,
  newNode,
  resultFor,
  signClaims,
  vouch,
  withDigest,
  workflow,
} from "../support/make-lab.ts"

const BEACON = filled(32, 9)
const LEASE = 30_000

let attested: Attested
let beta: Attested
let node: NodeState
let kernel: Kernel
let nonce: Uint8Array
let sequence: bigint

beforeEach(() => {
  attested = attest("alpha", BEACON)
  beta = attest("beta", BEACON)
  node = newNode(attested)
  node.followTerm(5n)
  kernel = new Kernel()
  nonce = node.ask(bootNs(1_000))
  sequence = 0n
})

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

const release = (
  edges: ReadonlyArray<EdgeRelease>,
  header: Partial<ReleaseHeader> = {},
  lease_ms = LEASE,
  peers: ReadonlyArray<VouchedResult> = [beta.result],
): OpenedRelease =>
  withDigest({
    header: {
      domain: workflow.domain,
      workflow: workflow.digest,
      node: "alpha",
      session: attested.result.claims.session,
      releaser: "releaser-1",
      term: 5n,
      sequence: ++sequence,
      nonce,
      suite: workflow.suite,
      ...header,
    },
    payload: {
      lease_ms,
      batches: peers.flatMap((peer) => peerBatches([peer])),
      edges,
    },
  })

const kinds = (given: OpenedRelease) => {
  const actions = node.accept(given, vouch)
  kernel.run(actions)
  return actions.map(({ kind, epoch }) => `${kind} ${epoch.term}.${epoch.n}`)
}

/** The refusal's code; and that nothing changed. */
const refusal = (given: OpenedRelease): `${MakeErrorCode} ${string}` | "believed" => {
  const before = JSON.stringify([node.held, node.acknowledgement()], (_, value) =>
    typeof value === "bigint" ? `${value}n` : value,
  )
  try {
    node.accept(given, vouch)
  } catch (error) {
    if (!(error instanceof MakeError)) throw error
    const after = JSON.stringify([node.held, node.acknowledgement()], (_, value) =>
      typeof value === "bigint" ? `${value}n` : value,
    )
    expect(after).toBe(before)
    return `${error.code} ${error.field}`
  }
  return "believed"
}

describe("a release that is believed", () => {
  it("is carried out inbound first, then outbound, lease, switch, removal", () => {
    expect(kinds(release([entry()]))).toEqual(["installInbound 5.1", "installOutbound 5.1", "setLease 5.1"])
    expect(kinds(release([entry({ state: "active" })]))).toEqual(["setLease 5.1", "activate 5.1"])
    expect(
      kinds(release([entry({ state: "active" }), entry({ epoch: 2n, inbound: [1_001], outbound: [2_001] })])),
    ).toEqual(["installInbound 5.2", "installOutbound 5.2", "setLease 5.1", "setLease 5.2"])
    expect(
      kinds(
        release([
          entry({ state: "retire" }),
          entry({ epoch: 2n, inbound: [1_001], outbound: [2_001], state: "active" }),
        ]),
      ),
    ).toEqual(["setLease 5.1", "setLease 5.2", "activate 5.2"])
    expect(
      kinds(release([entry({ epoch: 2n, inbound: [1_001], outbound: [2_001], state: "active" })])),
    ).toEqual(["setLease 5.2", "retire 5.1"])
    expect(kernel.selected.get("ask:alpha:beta")).toBe("ask:alpha:beta 5.2")
    expect(kinds(release([]))).toEqual(["retire 5.2"])
    expect(kernel.inbound.size + kernel.outbound.size + kernel.selected.size).toBe(0)
  })

  it("sets its deadline from the request, whenever it arrives", () => {
    node.accept(release([entry()]), vouch)
    expect(node.held[0]?.deadlineBootNs).toBe(bootNs(1_000 + LEASE))
    nonce = node.ask(bootNs(9_000))
    node.accept(release([entry()], {}, 500), vouch)
    expect(node.held[0]?.deadlineBootNs).toBe(bootNs(9_500))
  })

  it("may come twice and then only sets the same lease again", () => {
    const first = release([entry()])
    kinds(first)
    expect(kinds(first)).toEqual(["setLease 5.1"])
    expect(node.held[0]?.deadlineBootNs).toBe(bootNs(1_000 + LEASE))
    expect(kinds(release([entry()]))).toEqual(["setLease 5.1"])
  })

  it("is acknowledged with what is held and what it was confirmed with", () => {
    expect(node.acknowledgement()).toBeUndefined()
    kinds(release([entry()]))
    const ack = node.acknowledgement()
    expect(ack).toMatchObject({ node: "alpha", term: 5n, sequence: 1n })
    expect(ack?.edges).toMatchObject([{ instance: "ask:alpha:beta", term: 5n, epoch: 1n, state: "install" }])
    expect(ack?.edges[0]?.exporter).not.toEqual(filled(16, 0))
    kinds(release([entry({ state: "active" })]))
    expect(node.acknowledgement()?.edges[0]?.state).toBe("active")
  })

  it("never installs from active or retire: keys are made once", () => {
    expect(kinds(release([entry({ state: "active" })]))).toEqual([])
    expect(kinds(release([entry({ state: "retire" })]))).toEqual([])
    expect(node.acknowledgement()?.edges).toEqual([])
  })

  it("derives what the peer derives", () => {
    const peerNode = newNode(beta)
    peerNode.followTerm(5n)
    const peerKernel = new Kernel()
    const peerNonce = peerNode.ask(0n)
    const mine = release([entry()])
    kernel.run(node.accept(mine, vouch))
    const theirs = entry({
      peer: "alpha",
      inbound: [2_000],
      outbound: [1_000],
    })
    const { claims } = beta.result
    peerKernel.run(
      peerNode.accept(
        release([theirs], { node: "beta", session: claims.session, nonce: peerNonce, sequence: 1n }, LEASE, [
          attested.result,
        ]),
        vouch,
      ),
    )
    expect(node.acknowledgement()?.edges[0]?.exporter).toEqual(peerNode.acknowledgement()?.edges[0]?.exporter)
    expect(kernel.outbound.get("ask:alpha:beta 5.1")?.key).toBe(peerKernel.inbound.get(2_000)?.key)
    expect(peerKernel.outbound.get("ask:alpha:beta 5.1")?.key).toBe(kernel.inbound.get(1_000)?.key)
  })
})

describe("a release is refused, and changes nothing, when it", () => {
  it("is meant for another domain, workflow, node or session", () => {
    expect(refusal(release([], { domain: "bank" }))).toBe("MISDIRECTED domain")
    expect(refusal(release([], { workflow: filled(32, 1) }))).toBe("MISDIRECTED workflow")
    expect(refusal(release([], { node: "beta" }))).toBe("MISDIRECTED node")
    expect(refusal(release([], { session: filled(16, 0xee) }))).toBe("MISDIRECTED session")
  })

  it("is of another suite than the workflow's, be it one that the node offers too", () => {
    expect(refusal(release([], { suite: "chacha20-poly1305" }))).toBe("MISDIRECTED suite")
  })

  it("is of a term that isn't followed", () => {
    expect(refusal(release([], { term: 4n }))).toBe("NOT_RISING term")
    expect(refusal(release([], { term: 6n }))).toBe("NOT_RISING term")
    expect(refusal(release([], { term: 2n ** 53n }))).toBe("NOT_RISING term")
    node = newNode(attested)
    nonce = node.ask(0n)
    expect(refusal(release([]))).toBe("NOT_RISING term")
  })

  it("answers an older request, or none", () => {
    const older = nonce
    nonce = node.ask(bootNs(2_000))
    expect(refusal(release([], { nonce: older }))).toBe("STALE nonce")
    expect(refusal(release([], { nonce: filled(32, 1) }))).toBe("STALE nonce")
    expect(refusal(release([]))).toBe("believed")
  })

  it("doesn't rise in sequence", () => {
    kinds(release([], { sequence: 5n }))
    expect(refusal(release([], { sequence: 4n }))).toBe("NOT_RISING sequence")
    expect(refusal(release([entry()], { sequence: 5n }))).toBe("NOT_RISING sequence")
    expect(refusal(release([], { sequence: 0n }))).toBe("NOT_RISING sequence")
    expect(refusal(release([entry()], { sequence: 6n }))).toBe("believed")
  })

  it("lasts too long, or not at all", () => {
    for (const lease of [0, -1, 0.5, limits.leaseMsMax + 1])
      expect(refusal(release([], {}, lease))).toBe("LIMIT lease_ms")
  })

  it("names an edge that this node doesn't compile itself, or another peer", () => {
    expect(refusal(release([entry({ instance: "out:beta:gamma" })]))).toBe("NO_SUCH_EDGE edges.instance")
    expect(refusal(release([entry({ instance: "ask:beta:alpha" })]))).toBe("NO_SUCH_EDGE edges.instance")
    expect(refusal(release([entry({ peer: "gamma" })]))).toBe("MISDIRECTED edges.peer")
    expect(refusal(release([entry(), entry(), entry(), entry(), entry(), entry(), entry()]))).toBe(
      "LIMIT edges",
    )
  })

  it("has indices that are reserved, in use, doubled, or not one per lane", () => {
    for (const spi of [0, 255, 2 ** 32, 1.5]) {
      expect(refusal(release([entry({ inbound: [spi] })]))).toBe("SPI edges.inbound")
      expect(refusal(release([entry({ outbound: [spi] })]))).toBe("SPI edges.outbound")
    }
    expect(refusal(release([entry({ inbound: [] })]))).toBe("MALFORMED edges.inbound")
    expect(refusal(release([entry({ outbound: [2_000, 2_001] })]))).toBe("MALFORMED edges.outbound")
    const other = { instance: "bulk:alpha:beta", inbound: [1_001], outbound: [2_001] }
    expect(refusal(release([entry(), entry({ ...other, inbound: [1_000] })]))).toBe("SPI edges.inbound")
    expect(refusal(release([entry(), entry({ ...other, outbound: [2_000] })]))).toBe("SPI edges.outbound")
    kinds(release([entry()]))
    expect(refusal(release([entry(), entry({ ...other, inbound: [1_000] })]))).toBe("SPI edges.inbound")
    expect(refusal(release([entry({ ...other, inbound: [1_000] })]))).toBe("SPI edges.inbound")
    expect(refusal(release([entry({ ...other, outbound: [2_000] })]))).toBe("SPI edges.outbound")
    expect(refusal(release([entry({ inbound: [1_002] })]))).toBe("SPI edges.inbound")
    expect(refusal(release([entry({ outbound: [2_002] })]))).toBe("SPI edges.outbound")
    expect(refusal(release([entry(), entry(other)]))).toBe("believed")
  })

  it("goes back to an epoch that was reached before, or into another term", () => {
    node = newNode(attested, {
      memory: { tombstones: new Map([["ask:alpha:beta", { term: 5n, n: 4n }]]), term: undefined },
    })
    node.followTerm(5n)
    nonce = node.ask(0n)
    expect(refusal(release([entry({ epoch: 3n })]))).toBe("NOT_RISING edges.epoch")
    expect(refusal(release([entry({ epoch: 4n })]))).toBe("NOT_RISING edges.epoch")
    expect(refusal(release([entry({ epoch: 0n })]))).toBe("NOT_RISING edges.epoch")
    expect(refusal(release([entry({ term: 4n, epoch: 9n })]))).toBe("NOT_RISING edges.term")
    expect(refusal(release([entry({ term: 6n })]))).toBe("NOT_RISING edges.term")
    expect(refusal(release([entry({ epoch: 5n })]))).toBe("believed")
  })

  it("would prolong what an earlier term gave, in whatever state it names it", () => {
    kinds(release([entry()]))
    kinds(release([entry({ state: "active" })]))
    node.followTerm(6n)
    sequence = 0n
    nonce = node.ask(bootNs(20_000))
    for (const state of ["active", "install", "retire"] as const)
      expect(refusal(release([entry({ state })], { term: 6n }))).toBe("NOT_RISING edges.term")
    expect(node.held).toMatchObject([{ deadlineBootNs: bootNs(1_000 + LEASE) }])
  })

  it("has two epochs of an edge in one state, or in the wrong order", () => {
    const newer = { epoch: 2n, inbound: [1_001], outbound: [2_001] }
    expect(refusal(release([entry(), entry(newer)]))).toBe("MALFORMED edges.state")
    expect(refusal(release([entry({ ...newer, state: "active" }), entry()]))).toBe("NOT_RISING edges.epoch")
    expect(refusal(release([entry({ state: "active" }), entry()]))).toBe("NOT_RISING edges.epoch")
    kinds(release([entry()]))
    kinds(release([entry({ state: "active" })]))
    expect(refusal(release([entry()]))).toBe("NOT_RISING edges.state")
    expect(refusal(release([entry({ state: "retire" })]))).toBe("MALFORMED edges.state")
    expect(refusal(release([entry({ state: "retire" }), entry(newer)]))).toBe("MALFORMED edges.state")
  })

  const telling = (...peers: ReadonlyArray<VouchedResult>) => refusal(release([entry()], {}, LEASE, peers))
  /** The batch and its first peer, changed on the way. */
  const changed = (peer: Partial<PeerResult>, batch: Partial<PeerBatch> = {}) => {
    const { header, payload } = release([entry()])
    const [signed] = payload.batches
    if (signed === undefined) throw new Error("unreachable")
    const [first, ...others] = signed.peers
    if (first === undefined) throw new Error("unreachable")
    const batches = [{ ...signed, peers: [{ ...first, ...peer }, ...others], ...batch }]
    return refusal(withDigest({ header, payload: { ...payload, batches } }))
  }

  it("brings a peer that no verifier vouches for, or a result about something else", () => {
    const { claims } = beta.result
    expect(telling(resultFor(claims, crypto.ed25519.generate()))).toBe("NOT_AUTHENTIC key")
    for (const change of [{ domain: "bank" }, { workflow: filled(32, 1) }, { node: "gamma" }]) {
      // Under the name that the node expects, as a hostile releaser would tell it.
      const other = { ...resultFor({ ...claims, ...change }), claims }
      expect(telling(other), Object.keys(change).join()).toBe("NOT_AUTHENTIC signature")
    }
    expect(telling(resultFor({ ...claims, dh_key: filled(32, 0) }))).toBe("KEY dhKey")
  })

  it("brings another key, result, place or signature than the verifier vouched for", () => {
    const all = [beta, attest("gamma", BEACON), attested].map(({ result }) => result.claims)
    const [signed] = signClaims(all)
    if (signed === undefined) throw new Error("unreachable")
    beta = { ...beta, result: { ...beta.result, signed } }
    const proof = peerBatches([beta.result])[0]?.proof ?? filled(0, 0)
    expect(hex(proof)).toBe(signed.path.map(hex).join(""))
    for (const change of [
      { dh_key: filled(32, 9) },
      { result: filled(32, 9) },
      { index: 1 },
      { node: "gamma" },
    ])
      expect(changed(change), JSON.stringify(change)).toMatch(
        /^(NOT_AUTHENTIC signature|MALFORMED batches\.peers)$/,
      )
    const swapped = Buffer.concat([proof.subarray(32), proof.subarray(0, 32)])
    for (const change of [{ proof: swapped }, { size: 4 }, { signature: filled(64, 9) }])
      expect(changed({}, change), JSON.stringify(change)).toBe("NOT_AUTHENTIC signature")
    for (const length of [0, 32, 63, 65, 96])
      expect(changed({}, { proof: filled(length, 1) }), `${length}`).toBe("MALFORMED batches.proof")
    expect(changed({}, { key: filled(32, 9) })).toBe("NOT_AUTHENTIC key")
    expect(changed({}, { size: 4_097 })).toBe("LIMIT batches.size")
    expect(changed({}, { peers: [] })).toBe("MALFORMED batches.peers")
    expect(changed({ index: 3 })).toBe("MALFORMED batches.index")
    expect(changed({ dh_key: filled(31, 9) })).toBe("MALFORMED batches.peers.dh_key")
    expect(changed({ result: filled(31, 9) })).toBe("MALFORMED batches.peers.result")
    expect(changed({})).toBe("believed")
  })

  it("tells of a peer twice, or not at all, or of more than there are edges", () => {
    expect(telling(beta.result, beta.result)).toBe("MALFORMED batches.peers.node")
    expect(telling(attest("gamma", BEACON).result)).toBe("MALFORMED batches.peers")
    expect(telling()).toBe("MALFORMED batches.peers")
    const others = ["gamma", "delta"].map((id) => attest(id, BEACON).result)
    expect(telling(beta.result, ...others)).toBe("LIMIT batches.peers")
    const { header, payload } = release([entry()])
    const batches = payload.batches.flatMap((batch) => [batch, { ...batch, peers: [] }])
    expect(refusal(withDigest({ header, payload: { ...payload, batches } }))).toBe("MALFORMED batches.peers")
  })

  it("believes no peer of a batch without all others of it", () => {
    const all = [beta, attest("gamma", BEACON)].map(({ result }) => result)
    const signed = signClaims(all.map(({ claims }) => claims))
    const vouched = all.map((result, i) => ({ ...result, signed: signed[i] ?? result.signed }))
    // One object, as the releaser has it.
    const batches = peerBatches(vouched)
    expect(batches.map(({ proof, peers }) => [proof.length, peers.length])).toEqual([[0, 2]])
    const told = (change: Partial<PeerResult>) => {
      const { header, payload } = release([entry()])
      const changed = batches.map((batch) => ({
        ...batch,
        peers: batch.peers.map((peer) => (peer.node === "beta" ? peer : { ...peer, ...change })),
      }))
      return refusal(withDigest({ header, payload: { ...payload, batches: changed } }))
    }
    expect(told({ dh_key: filled(32, 9) })).toBe("NOT_AUTHENTIC signature")
    expect(told({ node: "delta" })).toBe("NOT_AUTHENTIC signature")
    expect(told({ node: "beta" })).toBe("MALFORMED batches.peers.node")
    expect(told({})).toBe("believed")
  })

  it("lacks what keys are made of", () => {
    const { secret: _secret, ...withoutSecret } = entry()
    expect(refusal(release([withoutSecret]))).toBe("MALFORMED edges")
    expect(refusal(release([entry({ secret: filled(31, 1) })]))).toBe("MALFORMED secret")
  })
})

describe("a node", () => {
  it("doesn't begin with a result of another node, session or key", () => {
    const gamma = attest("gamma", BEACON)
    const options = { crypto, workflow, nodeId: "alpha", session: attested.result.claims.session }
    const session = gamma.result.claims.session
    expect(() => newNode(attested, { result: gamma.result })).toThrow(/result.node/)
    expect(() => newNode(attested, { session })).toThrow(/result.session/)
    expect(() => newNode(attested, { dhSecret: gamma.dhSecret })).toThrow(/result.dh_key/)
    expect(() => newNode(attested, { nodeId: "nobody" })).toThrow(/not in the workflow/)
    expect(newNode(attested, options).edges.size).toBe(2)
  })

  it("follows terms that rise by a bounded step, also across its loader's restarts", () => {
    expect(() => node.followTerm(4n)).toThrow(/lower/)
    expect(() => node.followTerm(2n ** 53n)).toThrow(/rises by more/)
    node.followTerm(6n)
    expect(node.term).toBe(6n)
    const tombstones = new Map([["ask:alpha:beta", { term: 9n, n: 1n }]])
    const restarted = newNode(attested, { memory: { tombstones, term: undefined } })
    expect(() => restarted.followTerm(8n)).toThrow(/lower/)
    restarted.followTerm(9n)
  })

  it("keeps an earlier term's keys until its own deadline, also beside newer ones: the peer may not have switched", () => {
    kinds(release([entry()]))
    kinds(release([entry({ state: "active" })]))
    node.followTerm(6n)
    sequence = 0n
    nonce = node.ask(bootNs(20_000))
    expect(kinds(release([], { term: 6n }))).toEqual([])
    expect(node.held[0]).toMatchObject({ active: true, deadlineBootNs: bootNs(1_000 + LEASE) })
    const fresh = entry({ term: 6n, inbound: [1_500], outbound: [2_500] })
    expect(kinds(release([fresh], { term: 6n }))).toEqual([
      "installInbound 6.1",
      "installOutbound 6.1",
      "setLease 6.1",
    ])
    expect(kinds(release([{ ...fresh, state: "active" }], { term: 6n }))).toEqual([
      "setLease 6.1",
      "activate 6.1",
    ])
    expect(node.held.map(({ epoch, active }) => [epoch.term, active])).toEqual([
      [5n, false],
      [6n, true],
    ])
    expect(node.acknowledgement()?.edges).toMatchObject([{ term: 6n, epoch: 1n, state: "active" }])
    nonce = node.ask(bootNs(30_000))
    expect(kinds(release([{ ...fresh, state: "active" }], { term: 6n }))).toEqual(["setLease 6.1"])
    expect(node.held[0]).toMatchObject({ deadlineBootNs: bootNs(1_000 + LEASE) })
    expect(node.expire(bootNs(1_000 + LEASE))).toMatchObject([
      { kind: "retire", epoch: { term: 5n, n: 1n }, wasActive: false },
    ])
  })

  it("goes on with what an earlier loader left, but installs none of it again", () => {
    kinds(release([entry()]))
    kinds(release([entry({ state: "active" })]))
    const held = adopt(node)
    attested = attest("alpha", BEACON)
    node = newNode(attested, { held })
    node.followTerm(5n)
    nonce = node.ask(bootNs(5_000))
    sequence = 0n
    expect(kinds(release([entry({ state: "active" })]))).toEqual(["setLease 5.1"])
    expect(node.acknowledgement()?.edges[0]).toMatchObject({ state: "active", exporter: filled(16, 0) })
    expect(kinds(release([]))).toEqual(["retire 5.1"])
    expect(kinds(release([entry()]))).toEqual([])
  })

  it("gives up what the kernel refuses, says so by leaving it out, and never tries it again", () => {
    kinds(release([entry()]))
    kernel.run(node.gaveUp("ask:alpha:beta", { term: 5n, n: 1n }))
    expect(node.gaveUp("ask:alpha:beta", { term: 5n, n: 1n })).toEqual([])
    expect(node.acknowledgement()?.edges).toEqual([])
    expect(kinds(release([entry()]))).toEqual([])
    expect(kinds(release([entry({ epoch: 2n })]))).toEqual([
      "installInbound 5.2",
      "installOutbound 5.2",
      "setLease 5.2",
    ])
  })

  it("removes what is past its deadline", () => {
    kinds(release([entry()]))
    kinds(release([entry({ state: "active" })]))
    expect(node.expire(bootNs(1_000 + LEASE) - 1n)).toEqual([])
    expect(node.expire(bootNs(1_000 + LEASE))).toMatchObject([{ kind: "retire", wasActive: true }])
    expect(node.held).toEqual([])
  })

  it("makes one exchange with a peer, and another with its next key only", () => {
    const exchanges: Array<Uint8Array> = []
    const sharedSecret = (...of: Parameters<typeof crypto.x25519.sharedSecret>) => {
      exchanges.push(crypto.x25519.sharedSecret(...of))
      return exchanges.at(-1) ?? expect.unreachable()
    }
    node = newNode(attested, { crypto: { ...crypto, x25519: { ...crypto.x25519, sharedSecret } } })
    node.followTerm(5n)
    nonce = node.ask(bootNs(1_000))
    const bulk = { instance: "bulk:alpha:beta", inbound: [1_001], outbound: [2_001] }
    kinds(release([entry(), entry(bulk)]))
    kinds(release([entry({ epoch: 2n, inbound: [1_002], outbound: [2_002] })]))
    expect(exchanges).toHaveLength(1)
    const again = attest("beta", BEACON).result
    const newer = entry({ epoch: 3n, inbound: [1_003], outbound: [2_003] })
    kinds(release([newer], {}, LEASE, [again]))
    expect(exchanges.map((secret) => secret.every((byte) => byte === 0))).toEqual([true, false])
    node.dispose()
    expect(exchanges.every((secret) => secret.every((byte) => byte === 0))).toBe(true)
  })

  it("wipes its secret when it is done", () => {
    kinds(release([entry()]))
    node.dispose()
    expect(attested.dhSecret.disposed).toBe(true)
  })
})
