/**
 * Peers by Evidence, against a control plane that was taken over whole: its verifier signs what it likes with a key that its
 * genuine Evidence binds, its releaser hands that out, and the bus serves what it likes. Nothing of it gets a key installed.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { limits } from "../../schemas/limits.ts"
import { AttestationResult, NodeEvidence } from "../../schemas/messages/attestation.ts"
import { NodeProof } from "../../schemas/messages/peer.ts"
import type { SignedResult } from "../../schemas/messages/result.ts"
import type { BusShape } from "../../services/common/bus/bus.ts"
import { encode } from "../../services/common/codec/index.ts"
import type { Attested } from "../../services/dataplane-loader/session.ts"
import { packEvidence } from "../../services/make/proof.ts"
import { resultDigest, signResults } from "../../services/make/result.ts"
import {
  attested,
  claiming,
  claimsOf,
  enrolledMachine,
  type Life,
  live,
  type PlayedNode,
  playNode,
} from "./nodes.ts"
import { decoded, freshPull, type Rogue, takeOver } from "./rogue.ts"
import { crypto, filled, flipped, hex, pause, startWorld, until, type World } from "./support.ts"

const NODES = [
  { id: "n1", stage: "source" },
  { id: "n2", stage: "transform" },
  { id: "n3", stage: "sink" },
] as const

const byEvidence = (nodes: Parameters<typeof startWorld>[0]["nodes"], leaseSeconds: number) =>
  startWorld({ nodes, leaseSeconds, adapt: (workflow) => ({ ...workflow, peers: "evidence" }) })

const installs = ({ log }: Life) => log.filter((line) => /^(inbound|outbound|activate)/.test(line))

describe("nodes that appraise each other", () => {
  let world: World
  const nodes = new Map<string, PlayedNode>()
  const lives = new Map<string, Life>()
  const start = async (id: string) => {
    const node = nodes.get(id) ?? (await playNode(world, id))
    nodes.set(id, node)
    lives.set(id, await live(world, node))
  }
  const sends = (id: string) =>
    until(`${id} sends`, () => lives.get(id)?.log.find((line) => line.startsWith("activate")), 60_000)
  beforeAll(async () => {
    world = await byEvidence(NODES, 6)
  })
  afterAll(() => world?.stop())

  it("get keys after each has appraised the other, over a nonce of its own", async () => {
    await start("n2")
    await until("n2 is vouched for", () => (world.sent("pull.n2").length > 0 ? true : undefined))
    await start("n1")
    await sends("n1")
    await sends("n2")
    for (const [by, peer] of [
      ["n1", "n2"],
      ["n2", "n1"],
    ] as const)
      expect(
        (await world.events()).some(
          ({ identity, event }) =>
            identity === `loader-${by}` &&
            event.type === "vouchsafe.peer.accepted" &&
            event.data.peer === peer,
        ),
      ).toBe(true)
    // n2 came first: its Evidence could not contain a nonce that n1 had not made yet, so it was asked for another.
    expect(world.sent("hello.n2").length).toBeGreaterThan(1)
    expect(world.sent("renew.n1.loader-n2")).toEqual([])
  }, 90_000)

  it("ask for nothing more once they are known, and keep their keys", async () => {
    const asked = world.sent("renew.n2.loader-n1").length
    const before = lives.get("n1")?.log.length
    expect(before).toBeGreaterThan(0)
    await pause(9_000)
    expect(world.sent("renew.n2.loader-n1").length).toBe(asked)
    expect(lives.get("n1")?.log.length).toBe(before)
    world.allRun()
  }, 30_000)
})

describe("a control plane that lies about a peer", () => {
  let world: World
  let rogue: Rogue
  let n1: Life
  let timer: NodeJS.Timeout
  let verifier: BusShape
  let [old, young, third]: Attested[] = []
  const liar = crypto.ed25519.generate()
  const nodes = new Map<string, PlayedNode>()
  let serial = 0

  const nodeOf = (id: string): PlayedNode => {
    const node = nodes.get(id)
    if (node === undefined) throw new Error(`no node ${id}`)
    return node
  }
  const one = (found: Attested | undefined): Attested => {
    if (found === undefined) throw new Error("not attested")
    return found
  }

  beforeAll(async () => {
    world = await byEvidence(NODES, 30)
    for (const { id } of NODES) nodes.set(id, await playNode(world, id))
    verifier = await world.bus("verifier", "v1")
    old = await attested(world, nodeOf("n2"))
    rogue = takeOver(world, "n1", [liar.publicKey])
    try {
      n1 = await live(world, nodeOf("n1"))
      await freshPull(rogue)
      young = await attested(world, nodeOf("n2"))
      third = await attested(world, nodeOf("n3"))
    } finally {
      rogue.restore()
    }
    timer = setInterval(rogue.answer, 10)
  }, 90_000)
  afterAll(() => {
    clearInterval(timer)
    return world?.stop()
  })

  /** What the real verifier has put into the bucket for a node. */
  const proofOf = ({ result }: Attested): NodeProof => {
    const stored = world.captured.findLast(({ subject }) => subject === `$KV.proofs.${hex(result.digest)}`)
    return decoded(NodeProof, stored?.data ?? new Uint8Array(0))
  }
  const evidenceOf = (found: Attested): NodeEvidence => decoded(NodeEvidence, proofOf(found).evidence)

  /** A result of the liar's, right but for the change. */
  const vouch = (change: Partial<AttestationResult> = {}, from = one(young)) => {
    const claims = { ...claimsOf(from), issued_ms: ++serial, ...change }
    const body = encode(AttestationResult, claims)
    const [signed] = signResults(crypto, liar, [{ ...claims, dhKey: claims.dh_key, body }])
    if (signed === undefined) throw new Error("unreachable")
    return signed
  }
  const store = async (signed: SignedResult, evidence: Uint8Array) => {
    const proof = { v: 1, kind: "node", body: signed.body, evidence } as const
    await world.run(verifier.proofs.put(resultDigest(crypto, signed.body), proof))
    return signed
  }
  /** Whoever runs the bus puts something under a result's digest. */
  const serve = async (signed: SignedResult, bytes: Uint8Array) => {
    world.wire.send(`$KV.proofs.${hex(resultDigest(crypto, signed.body))}`, bytes)
    await pause(200)
    return signed
  }
  const right = () => proofOf(one(young)).evidence

  /** The releaser has n1 install keys with n2 on the strength of a result. */
  const release = ({ body, batch, index, path }: SignedResult, epoch: bigint) => {
    const { dh_key } = decoded(AttestationResult, body)
    const { key, size, signature } = batch
    rogue.release({
      payload: {
        batches: [
          {
            ...{ key, size, signature },
            proof: Buffer.concat(path),
            peers: [{ node: "n2", dh_key, result: resultDigest(crypto, body), index }],
          },
        ],
        edges: [
          {
            instance: "raw:n1:n2",
            term: rogue.term,
            epoch,
            state: "install",
            peer: "n2",
            inbound: [1_000 + Number(epoch)],
            outbound: [2_000 + Number(epoch)],
            secret: crypto.randomBytes(32),
          },
        ],
      },
    })
  }

  const lies: ReadonlyArray<readonly [string, () => Promise<SignedResult>, string, string]> = [
    ["with Evidence that nobody has seen", async () => vouch(), "MISSING", "proof"],
    [
      "with a key that isn't in the peer's Evidence",
      () => store(vouch({ dh_key: crypto.x25519.generate().publicKey }), right()),
      "NOT_VOUCHED",
      "proof.body.dh_key",
    ],
    [
      "with a signing key that isn't",
      () => store(vouch({ signing_key: filled(32, 1) }), right()),
      "NOT_VOUCHED",
      "proof.body.signing_key",
    ],
    [
      "with another session",
      () => store(vouch({ session: filled(16, 1) }), right()),
      "SESSION",
      "proof.session",
    ],
    [
      "with Evidence whose claims it has changed",
      async () => {
        const evidence = evidenceOf(one(young))
        const dh_key = crypto.x25519.generate().publicKey
        const { packed, digest } = packEvidence(crypto, {
          ...evidence,
          claims: { ...evidence.claims, dh_key },
        })
        return store(vouch({ dh_key, evidence: digest }), packed)
      },
      "REPORT_DATA",
      "proof.report-data",
    ],
    [
      "with genuine Evidence of another data plane",
      async () => {
        const bent = claiming(enrolledMachine(world, "n2"), evidenceOf(one(young)), {
          dataplane: filled(48, 1),
        })
        const { packed, digest } = packEvidence(crypto, bent)
        return store(vouch({ evidence: digest }), packed)
      },
      "DATAPLANE",
      "proof.dataplane",
    ],
    [
      "with the Evidence of a node that isn't this one's peer",
      () => store(vouch({ node: "n2", stage: "transform" }, one(third)), proofOf(one(third)).evidence),
      "STALE",
      "control.leaves",
    ],
    [
      "with its Evidence of before this node came",
      async () => one(old).result.signed as SignedResult,
      "STALE",
      "control.leaves",
    ],
  ]

  const deceptions: ReadonlyArray<readonly [string, () => Promise<SignedResult>, string, string]> = [
    [
      "other bytes under the digest",
      async () => {
        const signed = vouch()
        return serve(
          signed,
          encode(NodeProof, { v: 1, kind: "node", body: signed.body, evidence: flipped(right()) }),
        )
      },
      "NOT_AUTHENTIC",
      "proof.evidence",
    ],
    [
      "another node's proof under the digest",
      async () => serve(vouch(), encode(NodeProof, proofOf(one(third)))),
      "NOT_AUTHENTIC",
      "proof.body",
    ],
    ["nothing that can be read", async () => serve(vouch(), filled(300, 0xc1)), "MALFORMED", "proof"],
    ["more than the bound", async () => serve(vouch(), filled(limits.proofBytes + 256, 1)), "LIMIT", "proof"],
  ]

  let epoch = 0n
  const refused = async (lie: () => Promise<SignedResult>, code: string, field: string) => {
    const signed = await lie()
    const type = code === "STALE" ? "vouchsafe.peer.stale" : "vouchsafe.peer.refused"
    const wanted = { by: "loader-n1", type, code, field }
    // A new request may overtake it: so once is not enough.
    const { data } = await world.insist(wanted, () => release(signed, ++epoch))
    expect(data).toMatchObject({ node: "n1", peer: "n2" })
    await pause(100)
    expect(installs(n1)).toEqual([])
  }

  it.each(lies)("is not believed %s", (_, lie, code, field) => refused(lie, code, field), 60_000)
  it.each(deceptions)("nor a bus that serves %s", (_, lie, code, field) => refused(lie, code, field), 60_000)

  it("and the peer has been asked for younger Evidence", () => {
    expect(world.sent("renew.n2.loader-n1").length).toBeGreaterThan(0)
  })

  it("is believed where genuine Evidence shows the same: the tests above can tell", async () => {
    const signed = await store(vouch(), right())
    await until("an installation", () => {
      if (installs(n1).length > 0) return true
      release(signed, ++epoch)
      return pause(300).then(() => undefined)
    })
    expect(installs(n1).some((line) => line.startsWith("inbound"))).toBe(true)
    world.allRun()
  }, 30_000)
})
