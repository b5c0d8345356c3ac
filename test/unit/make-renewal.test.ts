/** Renewals that name what they say: releaser, sealer, opener and node as the services join them. */
import { beforeEach, describe, expect, it } from "vitest"
import { Release } from "../../schemas/messages/release.ts"
import { encodeChecked } from "../../services/common/codec/index.ts"
import { openSignedRelease } from "../../services/dataplane-loader/open-release.ts"
import { decodeBody } from "../../services/guest/refusals.ts"
import { makeSealer } from "../../services/key-releaser/seal.ts"
import { type Signed, sign, verify } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import type { KernelAction, NodeState } from "../../services/make/node-state.ts"
import { isLasting, type ReleasePayload, stateDigest } from "../../services/make/release.ts"
import type { ReleaserOutput } from "../../services/make/releaser.ts"
import {
  type Attested,
  attest,
  bootNs,
  crypto,
  filled,
  Kernel,
  newNode,
  newReleaser,
  releasesIn,
  vouch,
} from "../support/make-lab.ts"

const key = crypto.ed25519.generate()
const LEASE_MS = 30_000
const TERM = 5n

type Ids = "alpha" | "beta" | "gamma"

interface Member {
  readonly attested: Attested
  readonly core: NodeState
  readonly kernel: Kernel
}

const memberOf = (attested: Attested, kernel = new Kernel()): Member => {
  const core = newNode(attested)
  core.followTerm(TERM)
  return { attested, core, kernel }
}

/** Three nodes with all edges in use. */
class Lab {
  readonly releaser = newReleaser({ term: TERM, leaseMs: LEASE_MS })
  readonly seal = makeSealer(crypto, key)
  readonly members = new Map<string, Member>()
  nowMs = 0
  /** What goes to each node, newest last. */
  readonly told = new Map<string, Array<Signed>>()
  /** Acknowledgements that are kept from the releaser. */
  readonly deaf = new Set<string>()

  constructor() {
    for (const id of ["alpha", "beta", "gamma"] satisfies Ids[]) this.join(id)
    for (const id of this.members.keys()) this.pull(id)
    this.nowMs += 3_000
    this.deliver(this.releaser.tick(this.nowMs))
    for (const id of this.members.keys()) this.pull(id)
  }

  of(id: Ids): Member {
    const member = this.members.get(id)
    if (member === undefined) throw new Error(id)
    return member
  }

  join(id: Ids): void {
    const attested = attest(id, this.releaser.beacon(this.nowMs))
    this.members.set(id, memberOf(attested, this.members.get(id)?.kernel))
    this.deliver(this.releaser.accept(attested.result, this.nowMs))
  }

  pull(id: string, deliver = true): Signed {
    const { attested, core } = this.of(id as Ids)
    const { session } = attested.result.claims
    const nonce = core.ask(bootNs(this.nowMs))
    const kem_key = attested.kemSecret.publicKey
    const outputs = this.releaser.pull({ node: id, session, nonce, kem_key }, this.nowMs)
    const own = releasesIn(outputs).findLast(({ node }) => node === id)
    if (own === undefined) throw new Error("no release")
    if (!deliver) return this.seal(own)
    this.deliver(outputs)
    return this.newest(id)
  }

  deliver(outputs: ReadonlyArray<ReleaserOutput>): void {
    for (const output of releasesIn(outputs)) {
      const signed = this.seal(output)
      this.told.set(output.node, [...(this.told.get(output.node) ?? []), signed])
      this.take(output.node as Ids, signed)
    }
  }

  open(id: Ids, signed: Signed, core = this.of(id).core) {
    const { dhSecret, kemSecret, result } = this.of(id).attested
    const own = { suite: "xwing-chacha20-poly1305", dhSecret, kemSecret, result: result.digest }
    return openSignedRelease(crypto, signed, key.publicKey, own, core)
  }

  take(id: Ids, signed: Signed): ReadonlyArray<KernelAction> {
    const { core, kernel } = this.of(id)
    const actions = core.accept(this.open(id, signed), vouch)
    kernel.run(actions)
    const ack = core.acknowledgement()
    if (ack !== undefined && !this.deaf.has(id)) this.deliver(this.releaser.ack(ack, this.nowMs))
    return actions
  }

  newest(id: string): Signed {
    const signed = this.told.get(id)?.at(-1)
    if (signed === undefined) throw new Error("nothing was told")
    return signed
  }

  /** The newest that brought its payload. */
  whole(id: string): Signed {
    const signed = this.told.get(id)?.findLast((each) => !isNamed(each))
    if (signed === undefined) throw new Error("none was whole")
    return signed
  }
}

const bodyOf = (signed: Signed) =>
  decodeBody(Release, verify(crypto, labels.signedRelease, [key.publicKey], signed), "release")
const isNamed = (signed: Signed): boolean => bodyOf(signed).state !== undefined
/** By the releaser itself, with something else in it. */
const changed = (signed: Signed, change: Partial<Release>, by = key): Signed =>
  sign(crypto, labels.signedRelease, by, encodeChecked(Release, { ...bodyOf(signed), ...change }))

const deadlines = ({ core }: Member) => core.held.map(({ deadlineBootNs }) => deadlineBootNs)
const refusal = (code: string, field: string) => expect.objectContaining({ code, field })

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})

describe("a renewal that changes nothing", () => {
  it("names what was told, in some hundred bytes, and prolongs every lease as the whole would", () => {
    const whole = lab.whole("beta")
    expect(bodyOf(whole).enc).toHaveLength(1_120)
    lab.nowMs += 10_000
    const named = lab.pull("beta")
    expect(isNamed(named)).toBe(true)
    expect(named.body.length).toBeLessThan(400)
    expect(bodyOf(named)).toMatchObject({ enc: new Uint8Array(0), ciphertext: new Uint8Array(0) })
    const held = lab.of("beta").core.held
    expect(held).toHaveLength(3)
    expect(held.every(({ active }) => active)).toBe(true)
    expect(deadlines(lab.of("beta"))).toEqual(held.map(() => bootNs(lab.nowMs + LEASE_MS)))
    // And again, named by the same name: what it named was told once.
    lab.nowMs += 10_000
    const again = lab.pull("beta")
    expect(bodyOf(again).state).toEqual(bodyOf(named).state)
    expect(deadlines(lab.of("beta"))).toEqual(held.map(() => bootNs(lab.nowMs + LEASE_MS)))
  })

  it("does to the kernel what the whole release does", () => {
    lab.nowMs += 10_000
    const named = lab.pull("beta", false)
    const { core } = lab.of("beta")
    const opened = lab.open("beta", named)
    const actions = core.accept(opened, vouch)
    expect(actions.map(({ kind }) => kind)).toEqual(["setLease", "setLease", "setLease"])
    expect(core.accept(opened, vouch)).toEqual(actions)
    const { edges } = opened.payload
    expect(core.acknowledgement()?.edges.map(({ instance }) => instance)).toEqual(
      edges.map(({ instance }) => instance),
    )
  })

  it("is told whole while the last is not acknowledged, however often it is asked for", () => {
    lab.nowMs += 10_000
    lab.deaf.add("beta")
    expect(isNamed(lab.pull("beta"))).toBe(true)
    for (let i = 0; i < 3; i++) expect(isNamed(lab.pull("beta"))).toBe(false)
    lab.deaf.clear()
    expect(isNamed(lab.pull("beta"))).toBe(false)
    expect(isNamed(lab.pull("beta"))).toBe(true)
  })

  it("is told whole, and goes out again by itself, when the node took it for what it doesn't know", () => {
    lab.nowMs += 10_000
    lab.pull("beta", false)
    lab.nowMs += 1_100
    const [again] = releasesIn(lab.releaser.tick(lab.nowMs)).filter(({ node }) => node === "beta")
    expect(again?.renews).toBe(false)
  })

  it("is whole to a new session, which never took what the old one was told", () => {
    lab.pull("beta")
    const before = lab.pull("beta")
    expect(isNamed(before)).toBe(true)
    lab.join("beta")
    expect(isNamed(lab.pull("beta"))).toBe(false)
    expect(() =>
      lab.open("beta", changed(before, { session: lab.of("beta").attested.result.claims.session })),
    ).toThrow(refusal("STALE", "state"))
  })
})

describe("a node alone, whose state is nothing", () => {
  const releaser = newReleaser({ term: TERM })
  let nowMs = 0
  const join = () => {
    const attested = attest("alpha", releaser.beacon(nowMs))
    const { core } = memberOf(attested)
    releaser.accept(attested.result, nowMs)
    return () => {
      nowMs += 1_000
      const { session } = attested.result.claims
      const kem_key = attested.kemSecret.publicKey
      const request = { node: "alpha", session, nonce: core.ask(bootNs(nowMs)), kem_key }
      const [output] = releasesIn(releaser.pull(request, nowMs))
      if (output === undefined) throw new Error("no release")
      const { sequence } = output.header
      releaser.ack({ node: "alpha", session, term: TERM, sequence, edges: [] }, nowMs)
      return output
    }
  }

  it("is told so whole in each session, and under each result, before it is named", () => {
    const pull = join()
    expect([pull(), pull(), pull()].map(({ renews }) => renews)).toEqual([false, true, true])
    const again = join()
    const [first, second] = [again(), again()]
    expect(first.payload).toBe(second.payload)
    expect([first.renews, second.renews]).toEqual([false, true])
    // Nor does the sealer name what it sealed for another result, whoever says that it may.
    const seal = makeSealer(crypto, key)
    seal(first)
    expect(isNamed(seal(second))).toBe(true)
    const { recipient } = second
    expect(isNamed(seal({ ...second, recipient: { ...recipient, result: filled(32, 9) } }))).toBe(false)
    expect(isNamed(makeSealer(crypto, key)(second))).toBe(false)
  })
})

describe("what has changed", () => {
  it("is told whole: a new epoch, its confirmation, the end of the old one", () => {
    expect(isNamed(lab.pull("alpha"))).toBe(true)
    const from = lab.told.get("alpha")?.length ?? 0
    lab.deliver(lab.releaser.rotate("bulk", lab.nowMs))
    lab.nowMs += 3_000
    lab.deliver(lab.releaser.tick(lab.nowMs))
    const since = lab.told.get("alpha")?.slice(from) ?? []
    expect(since.length).toBeGreaterThanOrEqual(3)
    for (const signed of since) expect(isNamed(signed)).toBe(false)
    expect(isNamed(lab.pull("alpha"))).toBe(true)
  })

  it("takes away the name of what was told before it, also while it waits for the other end", () => {
    const withheld = lab.pull("alpha", false)
    expect(isNamed(withheld)).toBe(true)
    expect(lab.open("alpha", withheld).payload.edges).toHaveLength(2)
    lab.deaf.add("alpha").add("beta")
    lab.deliver(lab.releaser.rotate("bulk", lab.nowMs))
    expect(lab.of("alpha").core.held).toHaveLength(3)
    expect(() => lab.open("alpha", withheld)).toThrow(refusal("STALE", "state"))
  })

  it("is told whole when a peer is revoked, and no name from before prolongs what ended", () => {
    lab.nowMs += 1_000
    const earlier = lab.pull("alpha")
    expect(isNamed(earlier)).toBe(true)
    const withheld = lab.pull("alpha", false)
    expect(isNamed(withheld)).toBe(true)
    // Nobody listens to who is revoked.
    lab.deaf.add("beta")
    lab.deliver(lab.releaser.revoke("beta", lab.nowMs))
    expect(isNamed(lab.newest("alpha"))).toBe(false)
    expect(lab.of("alpha").core.held).toEqual([])
    for (const old of [earlier, withheld]) {
      expect(() => lab.take("alpha", old)).toThrow(refusal("STALE", "state"))
      expect(lab.of("alpha").core.held).toEqual([])
    }
  })

  it("at the node itself is not undone by a name: what the kernel gave up stays away", () => {
    const { core } = lab.of("beta")
    const [one] = core.held
    if (one === undefined) throw new Error("nothing held")
    core.gaveUp(one.instance, one.epoch)
    lab.nowMs += 1_000
    const named = lab.pull("beta", false)
    expect(isNamed(named)).toBe(true)
    const actions = core.accept(lab.open("beta", named), vouch)
    expect(actions.map(({ kind }) => kind)).toEqual(["setLease", "setLease"])
    expect(core.held.map(({ instance }) => instance)).not.toContain(one.instance)
    const ack = core.acknowledgement()
    expect(ack?.edges).toHaveLength(2)
    if (ack === undefined) throw new Error("nothing to acknowledge")
    // The releaser sees it by the acknowledgement of a name as by any other.
    const after = lab.releaser.ack(ack, lab.nowMs)
    expect(
      releasesIn(after).some(({ payload }) => payload.edges.some(({ state }) => state === "install")),
    ).toBe(true)
  })
})

describe("a node believes no name", () => {
  let named: Signed
  beforeEach(() => {
    lab.nowMs += 1_000
    named = lab.pull("beta", false)
  })
  const refused = (signed: Signed, code: string, field: string) => {
    const before = deadlines(lab.of("beta"))
    expect(() => lab.take("beta", signed)).toThrow(refusal(code, field))
    expect(deadlines(lab.of("beta"))).toEqual(before)
  }

  it("but that of the newest release it took", () => {
    refused(changed(named, { state: filled(32, 1) }), "STALE", "state")
    const flipped = Uint8Array.from(bodyOf(named).state ?? [])
    flipped[31] = (flipped[31] ?? 0) ^ 1
    refused(changed(named, { state: flipped }), "STALE", "state")
    expect(() => lab.take("beta", named)).not.toThrow()
  })

  it("of another node, session, releaser or term", () => {
    lab.pull("gamma")
    const other = lab.pull("gamma", false)
    refused(changed(other, { node: "beta" }), "STALE", "state")
    const { domain, workflow, session, sequence, nonce } = bodyOf(named)
    const header = {
      domain,
      workflow,
      node: "beta",
      session,
      releaser: "releaser-1",
      term: TERM,
      sequence,
      nonce,
      suite: "",
    }
    const names = [
      header,
      { ...header, node: "gamma" },
      { ...header, session: filled(16, 1) },
      { ...header, releaser: "releaser-2" },
      { ...header, term: TERM + 1n },
      { ...header, domain: "bank" },
      { ...header, workflow: filled(32, 1) },
    ].map((each) => Buffer.from(stateDigest(crypto, each, filled(32, 2), filled(9, 3))).toString("hex"))
    names.push(Buffer.from(stateDigest(crypto, header, filled(32, 4), filled(9, 3))).toString("hex"))
    names.push(Buffer.from(stateDigest(crypto, header, filled(32, 2), filled(9, 4))).toString("hex"))
    expect(new Set(names).size).toBe(names.length)
  })

  it("under another's signature, or with a header that is wrong in any field", () => {
    refused(changed(named, {}, crypto.ed25519.generate()), "NOT_AUTHENTIC", "key")
    refused({ ...named, signature: filled(64, 1) }, "NOT_AUTHENTIC", "signature")
    for (const [change, code, field] of [
      [{ domain: "bank" }, "MISDIRECTED", "domain"],
      [{ workflow: filled(32, 1) }, "MISDIRECTED", "workflow"],
      [{ node: "gamma" }, "MISDIRECTED", "node"],
      [{ session: filled(16, 1) }, "MISDIRECTED", "session"],
      [{ term: TERM - 1n }, "NOT_RISING", "term"],
      [{ term: TERM + 1n }, "NOT_RISING", "term"],
      [{ nonce: filled(32, 1) }, "STALE", "nonce"],
      [{ sequence: 1n }, "NOT_RISING", "sequence"],
      [{ suite: "chacha20-poly1305" }, "MISDIRECTED", "suite"],
    ] as const)
      refused(changed(named, change), code, field)
  })

  it("beside a payload, sealed or not", () => {
    const { enc, ciphertext } = bodyOf(lab.whole("beta"))
    refused(changed(named, { enc }), "MALFORMED", "state")
    refused(changed(named, { ciphertext }), "MALFORMED", "state")
    refused(changed(named, { enc, ciphertext }), "MALFORMED", "state")
    // Nor an empty payload without a name.
    const { state: _, ...nameless } = bodyOf(named)
    const body = encodeChecked(Release, nameless)
    refused(sign(crypto, labels.signedRelease, key, body), "MALFORMED", "enc")
  })

  it("that answers an older request, and so prolongs nothing", () => {
    lab.pull("beta")
    refused(named, "STALE", "nonce")
  })

  it("with the number of another release", () => {
    lab.take("beta", named)
    const { sequence, nonce } = bodyOf(named)
    expect(lab.take("beta", named).map(({ kind }) => kind)).toEqual(["setLease", "setLease", "setLease"])
    expect(sequence).toBeGreaterThan(1n)
    refused(changed(named, { sequence, nonce, releaser: "releaser-2" }), "NOT_RISING", "sequence")
  })

  it("in a term that it follows anew", () => {
    const { core } = lab.of("beta")
    core.followTerm(TERM + 1n)
    refused(changed(named, { term: TERM + 1n }), "STALE", "state")
  })
})

describe("what lasts", () => {
  const entry = {
    instance: "bulk:alpha:beta",
    term: TERM,
    epoch: 1n,
    state: "active" as const,
    peer: "beta",
    inbound: [300],
    outbound: [301],
  }
  const payload: ReleasePayload = { lease_ms: LEASE_MS, batches: [], edges: [entry] }

  it("installs nothing, holds no secret, and ends nothing of terms before", () => {
    expect(isLasting(payload)).toBe(true)
    expect(isLasting({ ...payload, edges: [entry, { ...entry, epoch: 0n, state: "retire" }] })).toBe(true)
    expect(isLasting({ ...payload, edges: [] })).toBe(true)
    expect(isLasting({ ...payload, edges: [{ ...entry, state: "install" }] })).toBe(false)
    expect(isLasting({ ...payload, edges: [{ ...entry, secret: filled(32, 1) }] })).toBe(false)
    expect(isLasting({ ...payload, ended: [{ instance: entry.instance, term: 4n }] })).toBe(false)
    const batch = { key: filled(32, 1), size: 1, signature: filled(64, 1), proof: filled(0, 0), peers: [] }
    expect(isLasting({ ...payload, batches: [batch] })).toBe(false)
  })
})
