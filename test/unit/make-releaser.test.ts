import { beforeEach, describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { MakeError } from "../../services/make/errors.ts"
import { type AckEdge, type EdgeRelease, openRelease, sealRelease } from "../../services/make/release.ts"
import { kemKeyDigest } from "../../services/make/result.ts"
import { defaultSuite, offeredSuites } from "../../services/make/suites.ts"
import {
  attest,
  crypto,
  eventsIn,
  filled,
  newNode,
  newReleaser,
  opened,
  releasesIn,
  vouch,
  workflow,
} from "../support/make-lab.ts"
import {
  begin,
  beginAnew,
  codeOf,
  current,
  edgesOf,
  established,
  fail,
  join,
  LEASE_MS,
  log,
  nodes,
  pull,
  releaser,
  settle,
} from "./releaser-play.ts"

beforeEach(beginAnew)

describe("a re-attested node", () => {
  it("gets new epochs, and keeps the old ones in the meantime when it didn't reboot", () => {
    established()
    const before = current("ask:alpha:beta")
    const held = nodes.get("alpha")?.state.held.map(({ exporter: _, ...each }) => each) ?? []
    const again = attest("alpha", releaser.beacon(2_000))
    log.push(...releaser.accept(again.result, 2_000))
    expect(current("ask:alpha:beta")).toEqual(before)
    const state = newNode(again, { held })
    state.followTerm(5n)
    nodes.set("alpha", { attested: again, state })
    const outputs = pull("alpha", 2_000)
    expect(edgesOf(outputs, "alpha").map(({ state: s, epoch }) => `${s} ${epoch}`)).toEqual([
      "active 1",
      "install 2",
      "active 1",
      "install 2",
    ])
    settle(outputs, 2_000)
    expect(current("ask:alpha:beta")).toEqual({ term: 5n, n: 2n })
  })

  it("ends the epochs on their way, also when nothing can be sealed to its new keys", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    const first = releasesIn(pull("beta"))
    const pending = () => releaser.edges().find(({ instance }) => instance === "ask:alpha:beta")?.pending
    expect(pending()).toEqual({ term: 5n, n: 1n })
    const broken = filled(1_184, 0xff)
    const again = attest("alpha", releaser.beacon(0), { kem_key_digest: kemKeyDigest(crypto, broken) })
    const outputs = releaser.accept(again.result, 0)
    expect(pending()).toBeUndefined()
    expect(edgesOf(outputs, "beta")).toEqual([])
    const { session } = again.result.claims
    const request = { node: "alpha", session, nonce: newNode(again).ask(0n), kem_key: broken }
    expect(codeOf(() => releaser.pull(request, 0))).toMatch(/^KEY /)
    expect(pending()).toBeUndefined()
    // What beta confirms now is of no use to anybody.
    settle(first.filter(({ node }) => node === "beta"))
    expect(current("ask:alpha:beta")).toBeUndefined()
  })

  it("has lost everything when it did", () => {
    established()
    const outputs = releaser.accept(
      attest("alpha", releaser.beacon(2_000), { boot: filled(16, 0xbb) }).result,
      2_000,
    )
    expect(eventsIn(outputs)).toContain("edge-stopped")
    expect(edgesOf(outputs, "beta")).toEqual([])
    expect(current("ask:alpha:beta")).toBeUndefined()
  })

  it("changes nothing when the result is the one in force", () => {
    established()
    const result = nodes.get("alpha")?.attested.result ?? fail("alpha")
    expect(releaser.accept(result, limits.beaconMs * 2)).toEqual([])
  })
})

describe("a result is refused", () => {
  it("when it is another domain's, workflow's, stage's, or nobody's", () => {
    const beacon = releaser.beacon(0)
    const refusedWith = (name: string, change: Parameters<typeof attest>[2]) =>
      codeOf(() => releaser.accept(attest(name, beacon, change).result, 0))
    expect(refusedWith("alpha", { domain: "bank" })).toBe("NOT_VOUCHED result.domain")
    expect(refusedWith("alpha", { workflow: filled(32, 1) })).toBe("NOT_VOUCHED result.workflow")
    expect(refusedWith("alpha", { stage: "sink" })).toBe("NOT_VOUCHED result.stage")
    expect(refusedWith("mallory", {})).toBe("NOT_VOUCHED result.node")
  })

  it("when its beacon isn't this releaser's of this term, or is too old", () => {
    const old = releaser.beacon(0)
    expect(codeOf(() => releaser.accept(attest("alpha", filled(32, 1)).result, 0))).toBe("STALE beacon")
    expect(codeOf(() => releaser.accept(attest("alpha", newReleaser().beacon(0)).result, 0))).toBe(
      "STALE beacon",
    )
    expect(codeOf(() => releaser.accept(attest("alpha", old).result, limits.beaconMs))).toBe("STALE beacon")
  })

  it("when a newer one is in force, or replaced it", () => {
    const old = attest("alpha", releaser.beacon(0))
    const beacon = releaser.beacon(2_000)
    const first = attest("alpha", beacon)
    releaser.accept(first.result, 2_000)
    expect(codeOf(() => releaser.accept(old.result, 2_000))).toBe("STALE result.beacon")
    releaser.accept(attest("alpha", beacon).result, 2_000)
    expect(codeOf(() => releaser.accept(first.result, 2_000))).toBe("STALE result")
  })

  it("when another machine holds the node's place and its lease", () => {
    established()
    const double = attest("alpha", releaser.beacon(1_000), { chip: filled(64, 0xcc) })
    expect(codeOf(() => releaser.accept(double.result, 1_000))).toBe("INCUMBENT result.chip")
    releaser.tick(LEASE_MS)
    expect(codeOf(() => releaser.accept(double.result, LEASE_MS))).toBe("accepted")
  })
})

describe("requests and acknowledgements", () => {
  it("are refused from whom there is no result, from another session, and replayed", () => {
    const alpha = join("alpha")
    const { session } = alpha.result.claims
    const nonce = nodes.get("alpha")?.state.ask(0n) ?? fail("nonce")
    const whole = { node: "alpha", session, nonce, kem_key: alpha.kemSecret.publicKey }
    const refusal = (change: Partial<typeof whole>) => codeOf(() => releaser.pull({ ...whole, ...change }, 0))
    expect(refusal({ node: "beta" })).toBe("NOT_VOUCHED node")
    expect(refusal({ session: filled(16, 9) })).toBe("MISDIRECTED session")
    expect(refusal({ kem_key: crypto.mlkem768.generate().publicKey })).toBe("NOT_VOUCHED kem_key")
    expect(refusal({ kem_key: new Uint8Array(0) })).toBe("NOT_VOUCHED kem_key")
    expect(refusal({})).toBe("accepted")
    expect(refusal({})).toBe("STALE nonce")
    expect(refusal({ nonce: filled(31, 1) })).toBe("MALFORMED nonce")
  })

  it("are refused from a vouched node whose keys nothing can be sealed to, and nobody else suffers", () => {
    const outOfRange = filled(1_184, 0xff)
    const kemKeys: ReadonlyArray<readonly [Uint8Array, string]> = [
      [outOfRange, "KEY keys"],
      [new Uint8Array(0), "MALFORMED kemKey"],
      [filled(1_183, 1), "MALFORMED kemKey"],
    ]
    for (const [kem_key, code] of kemKeys) {
      const alpha = join("alpha", 0, { kem_key_digest: kemKeyDigest(crypto, kem_key) })
      const nonce = nodes.get("alpha")?.state.ask(0n) ?? fail("nonce")
      const { session } = alpha.result.claims
      expect(codeOf(() => releaser.pull({ node: "alpha", session, nonce, kem_key }, 0))).toBe(code)
    }
    const weak = attest("beta", releaser.beacon(0), { dh_key: filled(32, 0) })
    releaser.accept(weak.result, 0)
    const { session } = weak.result.claims
    const kem_key = weak.kemSecret.publicKey
    const nonce = crypto.randomBytes(32)
    expect(codeOf(() => releaser.pull({ node: "beta", session, nonce, kem_key }, 0))).toBe("KEY keys")
    join("gamma")
    expect(releasesIn(pull("gamma"))).toHaveLength(1)
  })

  it("are held against the very release that they acknowledge", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    const outputs = pull("beta")
    const release = releasesIn(outputs).find(({ node }) => node === "alpha") ?? fail("release")
    const { state } = nodes.get("alpha") ?? fail("alpha")
    state.accept(opened(release), vouch)
    const ack = state.acknowledgement() ?? fail("ack")
    const [edge] = ack.edges
    const doubled: ReadonlyArray<AckEdge> = edge === undefined ? [] : [edge, edge]
    expect(codeOf(() => releaser.ack({ ...ack, sequence: 99n }, 0))).toBe("STALE sequence")
    expect(codeOf(() => releaser.ack({ ...ack, term: 4n }, 0))).toBe("MISDIRECTED term")
    expect(codeOf(() => releaser.ack({ ...ack, session: filled(16, 9) }, 0))).toBe("MISDIRECTED session")
    expect(codeOf(() => releaser.ack({ ...ack, edges: doubled }, 0))).toBe("MALFORMED edges")
    expect(releaser.ack(ack, 0)).toEqual([])
    expect(releaser.ack({ ...ack, sequence: 1n, edges: [] }, 0), "overtaken").toEqual([])
  })
})

describe("an overtaken acknowledgement", () => {
  it("doesn't undo what a newer one has confirmed", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    pull("beta")
    const { state } = nodes.get("alpha") ?? fail("alpha")
    const [older, newer] = [1_000, 3_000].map((nowMs) => {
      const outputs = releaser.tick(nowMs)
      const release = releasesIn(outputs).find(({ node }) => node === "alpha") ?? fail("release")
      state.accept(opened(release), vouch)
      return state.acknowledgement() ?? fail("ack")
    })
    releaser.ack(newer ?? fail("newer"), 3_000)
    expect(releaser.ack({ ...(older ?? fail("older")), edges: [] }, 3_000)).toEqual([])
  })
})

describe("a revoked node", () => {
  it("gets a last release that names nothing; its peers' edges stop; then it gets nothing at all", () => {
    established()
    const outputs = releaser.revoke("alpha", 100)
    expect(eventsIn(outputs)).toEqual(expect.arrayContaining(["node-revoked", "edge-stopped"]))
    expect(
      releasesIn(outputs)
        .map(({ node, payload }) => [node, payload.edges])
        .sort(),
    ).toEqual([
      ["alpha", []],
      ["beta", []],
    ])
    expect(codeOf(() => pull("alpha", 200))).toBe("REVOKED node")
    expect(codeOf(() => releaser.accept(attest("alpha", releaser.beacon(200)).result, 200))).toBe(
      "REVOKED node",
    )
    expect(releaser.revoke("alpha", 300)).toEqual([])
    expect(edgesOf(pull("beta", 300), "beta")).toEqual([])
    expect(codeOf(() => releaser.revoke("mallory", 0))).toBe("NOT_VOUCHED node")
  })
})

describe("nodes that a new document doesn't take", () => {
  it("go together: each of all nodes gets one release, whose edges are those that stay", () => {
    established()
    const outputs = releaser.expel(["alpha", "beta"], 100)
    expect(eventsIn(outputs).filter((event) => event === "node-revoked")).toHaveLength(2)
    expect(
      releasesIn(outputs)
        .map(({ node, payload }) => [node, payload.edges])
        .sort(),
    ).toEqual([
      ["alpha", []],
      ["beta", []],
    ])
    expect(releaser.vouched()).toEqual([])
    expect(releaser.expel(["alpha", "beta"], 200)).toEqual([])
    for (const name of ["alpha", "beta"]) expect(codeOf(() => pull(name, 200))).toBe("REVOKED node")
  })
})

describe("a node's clock", () => {
  /** For a minute both ask every ten seconds; alpha's clock goes `rate` times as fast as ours. */
  const minute = (rate: number): void => {
    established()
    for (let nowMs = 10_000; nowMs <= 60_000 && releaser.vouched().length === 2; nowMs += 10_000)
      for (const name of ["alpha", "beta"]) {
        if (releaser.vouched().length < 2) return
        settle(pull(name, nowMs), nowMs, (ack) => ({
          ...ack,
          boot_ns: BigInt(Math.round(1e12 + nowMs * (ack.node === "alpha" ? rate : 1) * 1e6)),
        }))
      }
  }
  const drifting = () => log.filter((output) => output.kind === "event" && output.event === "node-drifts")

  it("that is slow ends the result in force, for which a newer one may come", () => {
    minute(0.9)
    expect(drifting()).toMatchObject([{ node: "alpha" }])
    expect(releaser.vouched().map(({ node }) => node)).toEqual(["beta"])
    expect(edgesOf(log, "beta")).toEqual([])
    const { attested } = nodes.get("alpha") ?? fail("alpha")
    expect(codeOf(() => releaser.accept(attested.result, 60_000))).toBe("WITHDRAWN result")
    expect(codeOf(() => join("alpha", 60_000))).toBe("accepted")
  })

  it("that is fast, or ours having stood still, is told and stops nothing", () => {
    minute(1.5)
    expect(drifting()[0]).toMatchObject({ node: "alpha" })
    expect(drifting().length).toBeLessThan(4)
    expect(releaser.vouched()).toHaveLength(2)
    expect(edgesOf(log, "beta").length).toBeGreaterThan(0)
  })
})

describe("a releaser", () => {
  it("refuses a lease or term outside the limits", () => {
    expect(() => newReleaser({ leaseMs: limits.leaseMsMax + 1 })).toThrow(MakeError)
    expect(() => newReleaser({ term: 0n })).toThrow(MakeError)
  })

  it("never puts a secret where it doesn't belong: events hold ids only", () => {
    established()
    const events = log.filter(({ kind }) => kind === "event")
    expect(events.length).toBeGreaterThan(3)
    for (const event of events)
      for (const value of Object.values(event)) expect(value).not.toBeInstanceOf(Uint8Array)
  })

  it("seals by the suite of its workflow, and by no other", () => {
    for (const suite of offeredSuites) {
      const own = { ...workflow, suite }
      begin({ workflow: own })
      const attested = attest("alpha", releaser.beacon(0))
      const { dhSecret, kemSecret, result } = attested
      releaser.accept(result, 0)
      const state = newNode(attested, { workflow: own })
      state.followTerm(5n)
      const { session } = result.claims
      const nonce = state.ask(0n)
      const request = { node: "alpha", session, nonce, kem_key: kemSecret.publicKey }
      const [output] = releasesIn(releaser.pull(request, 0))
      if (output === undefined) return fail("no release")
      expect(output.header.suite).toBe(suite)
      const sealed = sealRelease(crypto, output.recipient, output.header, filled(10, 1))
      expect(sealed.enc).toHaveLength(suite === "chacha20-poly1305" ? 32 : 1_120)
      const opener = { suite, dhSecret, kemSecret, result: result.digest }
      expect(openRelease(crypto, opener, output.header, sealed)).toEqual(filled(10, 1))
      expect(() => state.accept(opened(output), vouch)).not.toThrow()
    }
    expect(codeOf(() => newReleaser({ workflow: { ...workflow, suite: "none" } }))).toBe("MALFORMED suite")
  })

  it("gives a 40-node mesh its keys, every index unique at its receiver", () => {
    const ids = Array.from({ length: 40 }, (_, i) => `n${i}`)
    const mesh = newReleaser({
      workflow: {
        domain: "hospital",
        digest: filled(32, 0x77),
        version: 1,
        suite: defaultSuite,
        stages: [{ id: "all" }],
        nodes: ids.map((id, i) => ({ id, stage: "all", address: `10.0.0.${i}`, wire: `192.0.2.${i}` })),
        edges: [{ id: "m", from: "all", to: "all", protocol: "tcp", port: 1, lanes: 1 }],
      },
    })
    const last = new Map<string, ReadonlyArray<EdgeRelease>>()
    for (const id of ids) {
      const { result, kemSecret } = attest(id, mesh.beacon(0), { stage: "all" })
      mesh.accept(result, 0)
      const nonce = crypto.randomBytes(32)
      const { session } = result.claims
      const outputs = mesh.pull({ node: id, session, nonce, kem_key: kemSecret.publicKey }, 0)
      for (const { node, payload } of releasesIn(outputs)) last.set(node, payload.edges)
    }
    for (const edges of last.values()) {
      expect(edges).toHaveLength(78)
      expect(new Set(edges.flatMap(({ inbound }) => inbound)).size).toBe(78)
    }
  })
})

describe("a reign that ends", () => {
  it("leaves nothing behind that releases would have been sealed under", () => {
    join("alpha")
    join("beta")
    pull("alpha")
    const [told] = releasesIn(pull("beta")).filter(({ node }) => node === "beta")
    const ahead = told?.recipient.ahead ?? fail("nothing was made ahead")
    releaser.end()
    expect(ahead.take()).toBeUndefined()
  })
})
