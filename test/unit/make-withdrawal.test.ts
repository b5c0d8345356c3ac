/** What a releaser does when a verifier takes back what it has vouched for, and what it doesn't. */
import { beforeEach, describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { MakeError } from "../../services/make/errors.ts"
import { Heritage, inherit } from "../../services/make/heritage.ts"
import type { NodeState } from "../../services/make/node-state.ts"
import type { Releaser, ReleaserOutput } from "../../services/make/releaser.ts"
import { WithdrawnResults } from "../../services/make/withdrawn.ts"
import {
  type Attested,
  attest,
  bootNs,
  crypto,
  eventsIn,
  filled,
  newNode,
  newReleaser,
  opened,
  releasesIn,
  resultFor,
  verifierKey,
  vouch,
  withDigest,
} from "../support/make-lab.ts"

let releaser: Releaser
let nodes: Map<string, { attested: Attested; state: NodeState }>

const known = (name: string) => {
  const node = nodes.get(name)
  if (node === undefined) throw new Error(`no ${name}`)
  return node
}

const join = (name: string, nowMs: number): void => {
  const attested = attest(name, releaser.beacon(nowMs))
  releaser.accept(attested.result, nowMs)
  const state = newNode(attested)
  state.followTerm(5n)
  nodes.set(name, { attested, state })
}

const pull = (name: string, nowMs: number): ReadonlyArray<ReleaserOutput> => {
  const { attested, state } = known(name)
  const { session } = attested.result.claims
  const kem_key = attested.kemSecret.publicKey
  return releaser.pull({ node: name, session, nonce: state.ask(bootNs(nowMs)), kem_key }, nowMs)
}

const settle = (first: ReadonlyArray<ReleaserOutput>, nowMs: number): void => {
  for (let outputs = first, rounds = 0; outputs.length > 0 && rounds < 12; rounds++) {
    const next: Array<ReleaserOutput> = []
    for (const release of releasesIn(outputs)) {
      const { state } = known(release.node)
      state.accept(opened(release), vouch)
      const ack = state.acknowledgement()
      if (ack !== undefined) next.push(...releaser.ack(ack, nowMs))
    }
    outputs = next
  }
}

const activeEdges = () =>
  releaser
    .edges()
    .filter(({ current }) => current !== undefined)
    .map(({ instance }) => instance)
    .sort()

const of = (name: string) => ({ node: name, result: known(name).attested.result.digest })
const withdraw = (name: string, nowMs: number, signer = verifierKey.publicKey) =>
  releaser.withdraw(signer, [of(name)], nowMs)

const codeOf = (act: () => unknown): string => {
  try {
    act()
    return "accepted"
  } catch (error) {
    if (!(error instanceof MakeError)) throw error
    return `${error.code} ${error.field}`
  }
}

const all = ["ask:alpha:beta", "bulk:alpha:beta", "out:beta:gamma"]

beforeEach(() => {
  releaser = newReleaser({ gather: false })
  nodes = new Map()
  for (const name of ["alpha", "beta", "gamma"]) join(name, 0)
  for (const name of ["alpha", "beta", "gamma"]) settle(pull(name, 0), 0)
  expect(activeEdges()).toEqual(all)
})

describe("a result that its verifier takes back", () => {
  it("costs the node its edges at once; its peers are told, and keep the others", () => {
    const outputs = withdraw("alpha", 100)
    expect(eventsIn(outputs)).toEqual(["edge-stopped", "edge-stopped", "node-withdrawn"].sort())
    const told = new Map(releasesIn(outputs).map(({ node, payload }) => [node, payload.edges]))
    expect([...told.keys()].sort()).toEqual(["alpha", "beta"])
    expect(told.get("alpha")).toEqual([])
    expect(told.get("beta")?.map(({ instance }) => instance)).toEqual(["out:beta:gamma"])
    expect(activeEdges()).toEqual(["out:beta:gamma"])
    settle(
      outputs.filter((one) => one.kind === "release" && one.node === "beta"),
      100,
    )
    expect(known("beta").state.held.map(({ instance }) => instance)).toEqual(["out:beta:gamma"])
  })

  it("gets no keys any more: neither for a request nor when it is brought again", () => {
    withdraw("alpha", 100)
    expect(codeOf(() => pull("alpha", 200))).toBe("NOT_VOUCHED node")
    expect(codeOf(() => releaser.accept(known("alpha").attested.result, 200))).toBe("WITHDRAWN result")
    // Until its beacon itself is too old.
    const late = limits.beaconMs - 1
    expect(codeOf(() => releaser.accept(known("alpha").attested.result, late))).toBe("WITHDRAWN result")
    expect(codeOf(() => releaser.accept(known("alpha").attested.result, late + 101))).toBe("STALE beacon")
  })

  it("brings none back that was replaced before", () => {
    const first = known("alpha").attested
    join("alpha", 100)
    withdraw("alpha", 200)
    expect(codeOf(() => releaser.accept(first.result, 300))).toBe("STALE result")
    join("alpha", 400)
    expect(codeOf(() => releaser.accept(first.result, 500))).toBe("STALE result")
  })

  it("may be followed by a better one", () => {
    withdraw("alpha", 100)
    join("alpha", 2_000)
    settle(pull("alpha", 2_000), 2_000)
    settle(pull("beta", 2_000), 2_000)
    expect(activeEdges()).toEqual(all)
  })

  it("is taken back once, however often it is said", () => {
    withdraw("alpha", 100)
    expect(withdraw("alpha", 200)).toEqual([])
    const old = of("alpha")
    join("alpha", 2_000)
    settle(pull("alpha", 2_000), 2_000)
    settle(pull("beta", 2_000), 2_000)
    expect(releaser.withdraw(verifierKey.publicKey, [old], 3_000)).toEqual([])
    expect(activeEdges()).toEqual(all)
  })

  it("goes also when that was said before it came", () => {
    const next = attest("alpha", releaser.beacon(2_000))
    const { digest } = next.result
    expect(releaser.withdraw(verifierKey.publicKey, [{ node: "alpha", result: digest }], 2_000)).toEqual([])
    expect(codeOf(() => releaser.accept(next.result, 2_000))).toBe("WITHDRAWN result")
    expect(activeEdges()).toEqual(all)
  })

  it("stays in force on the word of anybody else", () => {
    const stranger = crypto.ed25519.generate().publicKey
    expect(withdraw("alpha", 100, stranger)).toEqual([])
    expect(codeOf(() => releaser.accept(attest("alpha", releaser.beacon(2_000)).result, 2_000))).toBe(
      "accepted",
    )
    expect(activeEdges()).toEqual(all)
  })

  it("stays in force on the word of another verifier that is believed", () => {
    const other = crypto.ed25519.generate()
    const { claims } = attest("gamma", releaser.beacon(2_000)).result
    releaser.accept(resultFor(claims, other), 2_000)
    expect(withdraw("alpha", 2_100, other.publicKey)).toEqual([])
    expect(activeEdges()).toContain("ask:alpha:beta")
  })

  it("is that one of that node, and no other", () => {
    const result = known("alpha").attested.result.digest
    expect(releaser.withdraw(verifierKey.publicKey, [{ node: "beta", result }], 100)).toEqual([])
    const other = [{ node: "alpha", result: filled(32, 1) }]
    expect(releaser.withdraw(verifierKey.publicKey, other, 100)).toEqual([])
    expect(activeEdges()).toEqual(all)
  })

  it("takes one release for each peer, however many nodes go at once", () => {
    const outputs = releaser.withdraw(verifierKey.publicKey, [of("alpha"), of("gamma")], 100)
    expect(releasesIn(outputs).map(({ node, payload }) => [node, payload.edges])).toEqual(
      expect.arrayContaining([["beta", []]]),
    )
    expect(releasesIn(outputs)).toHaveLength(3)
    expect(activeEdges()).toEqual([])
  })
})

describe("a node that another verifier refuses", () => {
  /** Signed by another verifier than the one that refuses. */
  const judged = (name: string, beacon: Uint8Array, nowMs: number) =>
    releaser.judged([{ node: name, beacon }], nowMs)

  it("loses what was signed before, at both ends, whoever signed it", () => {
    const outputs = judged("alpha", releaser.beacon(100), 100)
    expect(eventsIn(outputs)).toEqual(["edge-stopped", "edge-stopped", "node-withdrawn"].sort())
    const told = new Map(releasesIn(outputs).map(({ node, payload }) => [node, payload.edges]))
    expect(told.get("beta")?.map(({ instance }) => instance)).toEqual(["out:beta:gamma"])
    expect(activeEdges()).toEqual(["out:beta:gamma"])
    expect(codeOf(() => releaser.accept(known("alpha").attested.result, 200))).toBe("WITHDRAWN result")
  })

  it("gets nothing for a result that is no newer, also when it comes later", () => {
    const old = attest("alpha", releaser.beacon(1_000))
    judged("alpha", releaser.beacon(2_000), 2_000)
    expect(codeOf(() => releaser.accept(old.result, 2_100))).toBe("WITHDRAWN result")
    // Of that very beacon nobody can say which was first.
    const same = attest("alpha", releaser.beacon(2_100))
    expect(codeOf(() => releaser.accept(same.result, 2_100))).toBe("WITHDRAWN result")
    join("alpha", 4_000)
    settle(pull("alpha", 4_000), 4_000)
    settle(pull("beta", 4_000), 4_000)
    expect(activeEdges()).toEqual(all)
  })

  it("is welcome with a newer result, however often the refusal is said again", () => {
    const beacon = releaser.beacon(100)
    judged("alpha", beacon, 100)
    expect(judged("alpha", beacon, 200)).toEqual([])
    join("alpha", 2_000)
    settle(pull("alpha", 2_000), 2_000)
    settle(pull("beta", 2_000), 2_000)
    for (const now of [2_500, 30_000, 59_000]) expect(judged("alpha", beacon, now)).toEqual([])
    expect(activeEdges()).toEqual(all)
  })

  it("is not concerned by a beacon that was never this term's, or is too old, nor by another's name", () => {
    const beacon = releaser.beacon(100)
    expect(judged("alpha", filled(32, 1), 100)).toEqual([])
    expect(judged("nobody", beacon, 100)).toEqual([])
    expect(judged("alpha", beacon, 100 + limits.beaconMs)).toEqual([])
    expect(activeEdges()).toEqual(all)
  })
})

describe("what an earlier reign has given", () => {
  const DOCUMENT = { domain: "hospital" } as never

  /** The same nodes under the next term; their kernels hold what the one before gave. */
  const succeed = (change: (heritage: Heritage) => void = () => undefined, nowMs = 1_000): void => {
    const heritage = new Heritage(crypto, releaser.heritage(DOCUMENT, nowMs))
    change(heritage)
    releaser.end()
    releaser = newReleaser({ gather: false, term: 6n, inherited: heritage.all() })
  }
  /** A new session, with what the one before held. */
  const again = (name: string, nowMs: number): void => {
    const { held, memory } = known(name).state
    const attested = attest(name, releaser.beacon(nowMs))
    releaser.accept(attested.result, nowMs)
    const state = newNode(attested, { held, memory })
    state.followTerm(6n)
    nodes.set(name, { attested, state })
  }
  const heldOf = (name: string) =>
    known(name)
      .state.held.map(({ instance, epoch }) => `${instance} ${epoch.term}`)
      .sort()
  const before = ["ask:alpha:beta 5", "bulk:alpha:beta 5", "out:beta:gamma 5"]

  it("stays until its lease ends, as long as nothing bad is known", () => {
    succeed()
    again("beta", 1_100)
    settle(pull("beta", 1_100), 1_100)
    expect(heldOf("beta")).toEqual(before)
  })

  it("ends with the first release when the new document takes it no more", () => {
    succeed((heritage) => expect(heritage.end("alpha")).toEqual(["alpha"]))
    again("beta", 1_100)
    const told = pull("beta", 1_100)
    expect(releasesIn(told)[0]?.payload.ended).toEqual(
      expect.arrayContaining([
        { instance: "ask:alpha:beta", term: 5n },
        { instance: "bulk:alpha:beta", term: 5n },
      ]),
    )
    settle(told, 1_100)
    expect(heldOf("beta")).toEqual(["out:beta:gamma 5"])
    // Those whom it doesn't concern hear nothing of it.
    again("gamma", 1_200)
    expect(releasesIn(pull("gamma", 1_200))[0]?.payload).not.toHaveProperty("ended")
  })

  it("ends at once when the verifier that signed for it takes it back, said once", () => {
    const { digest } = known("alpha").attested.result
    succeed()
    again("beta", 1_100)
    settle(pull("beta", 1_100), 1_100)
    const stranger = crypto.ed25519.generate().publicKey
    expect(releaser.withdraw(stranger, [{ node: "alpha", result: digest }], 1_200)).toEqual([])
    expect(releaser.withdraw(verifierKey.publicKey, [{ node: "beta", result: digest }], 1_200)).toEqual([])
    const outputs = releaser.withdraw(verifierKey.publicKey, [{ node: "alpha", result: digest }], 1_200)
    expect(eventsIn(outputs).toSorted()).toEqual(["edge-stopped", "edge-stopped", "node-withdrawn"])
    expect(releasesIn(outputs).map(({ node }) => node)).toEqual(["beta"])
    settle(outputs, 1_200)
    expect(heldOf("beta")).toEqual(["out:beta:gamma 5"])
    expect(releaser.withdraw(verifierKey.publicKey, [{ node: "alpha", result: digest }], 1_300)).toEqual([])
  })

  it("ends with what is revoked or taken back in this reign", () => {
    succeed()
    for (const name of ["alpha", "beta"]) again(name, 1_100)
    settle(pull("beta", 1_100), 1_100)
    expect(heldOf("beta")).toEqual(before)
    settle(
      releaser.revoke("alpha", 1_200).filter((one) => one.kind === "release" && one.node === "beta"),
      1_200,
    )
    expect(heldOf("beta")).toEqual(["out:beta:gamma 5"])
  })

  it("doesn't take with it what the node gets later with better evidence", () => {
    succeed((heritage) => heritage.end("alpha"))
    for (const name of ["alpha", "beta"]) again(name, 1_100)
    for (const name of ["alpha", "beta", "alpha", "beta"]) settle(pull(name, 1_200), 1_200)
    expect(heldOf("beta")).toEqual(["ask:alpha:beta 6", "bulk:alpha:beta 6", "out:beta:gamma 5"])
  })

  it("is forgotten when no lease of then can last", () => {
    succeed((heritage) => heritage.end("alpha"))
    const late = 1_000 + limits.leaseMsMax
    again("beta", late)
    expect(releasesIn(pull("beta", late))[0]?.payload).not.toHaveProperty("ended")
  })

  it("is bounded, and goes on over reigns that are short", () => {
    succeed((heritage) => heritage.end("alpha"), 1_000)
    const next = releaser.heritage(DOCUMENT, 2_000)
    expect(next.filter(({ ended }) => ended).map(({ claims, term }) => [claims.node, term])).toEqual([
      ["alpha", 5n],
    ])
    expect(next).toHaveLength(3)
    const many = Array.from({ length: 5 * limits.nodes }, () => next[0]).filter((one) => one !== undefined)
    expect(inherit(many, [], { document: DOCUMENT, term: 9n }, 2_000)).toHaveLength(4 * limits.nodes)
    expect(inherit(next, [], { document: DOCUMENT, term: 9n }, 1_000 + limits.leaseMsMax)).toEqual([])
  })

  it("is looked through only for the nodes that a verifier names", () => {
    const next = releaser.heritage(DOCUMENT, 1_000)
    const [one] = next
    if (one === undefined) throw new Error("nothing is inherited")
    let looks = 0
    const many = Array.from({ length: 4 * limits.nodes }, (_, i) => ({
      ...one,
      claims: {
        ...one.claims,
        get node() {
          looks++
          return `n${i % limits.nodes}`
        },
      },
      digest: filled(32, i >> 10),
    }))
    const heritage = new Heritage(crypto, many)
    const before = heritage.all()
    looks = 0
    for (let i = 0; i < 256; i++)
      expect(heritage.withdraw(one.signer, { node: `n${i}`, result: filled(32, 9) })).toEqual([])
    expect(heritage.withdraw(one.signer, { node: "nobody", result: filled(32, 0) })).toEqual([])
    expect(looks).toBe(0)
    // Nor is the list made anew.
    expect(heritage.all()).toBe(before)
    expect(heritage.withdraw(one.signer, { node: "n3", result: filled(32, 0) })).toEqual(["n3"])
    expect(heritage.all()).toBe(before)
    expect([...heritage.ended(1_000).keys()]).toEqual(["n3"])
  })

  it("a node takes no word of ends for edges that aren't its own, or for this term", () => {
    const told = releasesIn(pull("beta", 100))[0]
    if (told === undefined) throw new Error("no release")
    const sent = (ended: ReadonlyArray<{ instance: string; term: bigint }>) => {
      const { header, payload } = opened(told)
      return codeOf(() =>
        known("beta").state.accept(withDigest({ header, payload: { ...payload, ended } }), vouch),
      )
    }
    expect(sent([{ instance: "ask:alpha:gamma", term: 4n }])).toBe("NO_SUCH_EDGE ended.instance")
    expect(sent([{ instance: "ask:alpha:beta", term: 5n }])).toBe("NOT_RISING ended.term")
    expect(heldOf("beta")).toEqual(before)
  })
})

describe("a result that nobody renews", () => {
  it("gives no lease once its beacon is ten minutes old: that bounds what a withheld withdrawal can do", () => {
    for (let now = 10_000; now < limits.resultMs; now += 10_000) settle(pull("alpha", now), now)
    expect(codeOf(() => pull("alpha", limits.resultMs))).toBe("STALE result")
  })
})

describe("the memory of withdrawn results", () => {
  it("is bounded, and lasts as long as a beacon is believed", () => {
    const memory = new WithdrawnResults()
    const [signer, result] = [filled(32, 1), filled(32, 2)]
    expect(memory.take(signer, result, 0)).toBe(false)
    expect(memory.has(signer, result, 0)).toBe(false)
    memory.know(signer)
    expect(memory.take(signer, result, 0)).toBe(true)
    expect(memory.has(signer, result, limits.beaconMs - 1)).toBe(true)
    expect(memory.has(filled(32, 3), result, 0)).toBe(false)
    expect(memory.has(signer, result, limits.beaconMs)).toBe(false)
    // One after another: the oldest makes room.
    for (let i = 0; i < 4 * limits.nodes; i++) memory.take(signer, crypto.sha256(Uint8Array.of(i, i >> 8)), 1)
    expect(memory.has(signer, result, 1)).toBe(false)
    for (let i = 0; i < 64; i++) memory.know(crypto.sha256(Uint8Array.of(i)))
    expect(memory.take(signer, result, 2)).toBe(false)
  })
})
