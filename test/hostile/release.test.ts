import { afterAll, beforeAll, describe, expect, it } from "vitest"
import type { AttestNode, AttestRequest } from "../../schemas/messages/attestation.ts"
import { Signed } from "../../schemas/messages/common.ts"
import { Ack, type EdgeRelease, Pull } from "../../schemas/messages/release.ts"
import type { PeerBatch, PeerResult, SignedResult } from "../../schemas/messages/result.ts"
import { answerNode } from "../../services/attester/answer.ts"
import { Refused } from "../../services/common/bus/bus.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import type { SecretKey } from "../../services/common/crypto/index.ts"
import { decodeResult } from "../../services/dataplane-loader/open-release.ts"
import type { Attested } from "../../services/dataplane-loader/session.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { resultDigest } from "../../services/make/result.ts"
import {
  attested,
  attestSession,
  begin,
  claimsOf,
  forgedResult,
  type Life,
  live,
  type PlayedNode,
  playNode,
  pullNonce,
  signedPull,
} from "./nodes.ts"
import { type Bending, decoded, freshPull, pullIn, type Rogue, releaseIn, takeOver } from "./rogue.ts"
import {
  bent,
  chipOf,
  crypto,
  filled,
  flipped,
  hex,
  imageOf,
  insistently,
  machine,
  pause,
  startWorld,
  until,
  type WantedEvent,
  type World,
} from "./support.ts"

const LEASE_SECONDS = 6
let world: World
const nodes = new Map<string, PlayedNode>()
const lives = new Map<string, Life>()
/** Also those that have ended: their secrets are looked for at the end. */
const everyLife: Life[] = []

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
const start = async (id: string, ...rest: [] | [Parameters<typeof live>[2]]): Promise<Life> => {
  const life = await live(world, nodeOf(id), ...rest)
  lives.set(id, life)
  everyLife.push(life)
  return life
}
const signerOf = (id: string): SecretKey => {
  const signer = lifeOf(id).spied.signers.at(-1)
  if (signer === undefined) throw new Error(`${id} has no session`)
  return signer
}

beforeAll(async () => {
  world = await startWorld({
    leaseSeconds: LEASE_SECONDS,
    nodes: [
      { id: "n1", stage: "source" },
      { id: "n2", stage: "transform" },
      { id: "n3", stage: "sink" },
      { id: "liar", stage: "source" },
      { id: "misled", stage: "source" },
      { id: "late", stage: "source" },
      { id: "spot", stage: "source", any: true },
    ],
  })
  for (const { id } of world.workflow.document.nodes) nodes.set(id, await playNode(world, id))
  for (const id of ["n1", "n2", "n3"]) await start(id)
  for (const subject of ["raw:n1:n2", "packed:n2:n3"])
    await world.recorded(0, { by: "releaser-r1", type: "vouchsafe.edge.active", subject })
  for (const id of ["n1", "n2", "n3"])
    await until(`${id} sends`, () => lifeOf(id).log.find((line) => line.startsWith("activate")))
  // So that there are requests, and releases, that later ones have overtaken.
  await until("n1's third request", () => (world.sent("pull.n1").length >= 3 ? true : undefined))
  for (const id of ["n1", "n2"])
    await until(`a renewal of ${id}'s that changes nothing`, () => releasesOf(id, "named").at(-1), 60_000)
})
afterAll(() => world?.stop())

const say = (subject: string, signed: Signed): void => world.say(subject, encode(Signed, signed))

/** Puts a message on the bus until its refusal is on record. */
const expectRefused = async (wanted: WantedEvent, put: () => void): Promise<void> => {
  const event = await world.insist(wanted, put)
  expect(event.data.message).toBeTruthy()
}

const captured = (subject: string, i = -1): Signed => {
  const data = world.sent(subject).at(i)
  if (data === undefined) throw new Error(`nothing was said on ${subject}`)
  return decoded(Signed, data)
}

/** So far: those that have their payload with them, or those that name what was told before. */
const releasesOf = (id: string, how: "whole" | "named"): ReadonlyArray<Signed> =>
  world
    .sent(`release.${id}`)
    .filter((data) => (releaseIn(data).state === undefined) === (how === "whole"))
    .map((data) => decoded(Signed, data))
const newest = (id: string, how: "whole" | "named"): Signed => {
  const release = releasesOf(id, how).at(-1)
  if (release === undefined) throw new Error(`${id} was told nothing ${how}`)
  return release
}

describe("a release that comes over the bus", () => {
  /** Of the session that runs. */
  const earliest = (subject: string): Signed => {
    const releases = world.sent(subject)
    const sessionOf = (data: Uint8Array): string => hex(releaseIn(data).session)
    const session = sessionOf(releases.at(-1) ?? new Uint8Array(0))
    return captured(
      subject,
      releases.findIndex((data) => sessionOf(data) === session),
    )
  }
  const releases: ReadonlyArray<readonly [string, () => Signed, string, string]> = [
    [
      "with a bit of its body changed",
      () => {
        const release = captured("release.n1")
        return { ...release, body: flipped(release.body) }
      },
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "without its last byte",
      () => {
        const release = captured("release.n1")
        return { ...release, body: release.body.slice(0, -1) }
      },
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "with a bit of its signature changed",
      () => {
        const release = captured("release.n1")
        return { ...release, signature: flipped(release.signature) }
      },
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "under another releaser's key",
      () => sign(crypto, labels.signedRelease, crypto.ed25519.generate(), captured("release.n1").body),
      "NOT_AUTHENTIC",
      "key",
    ],
    [
      "under the node's own key",
      () => sign(crypto, labels.signedRelease, signerOf("n1"), captured("release.n1").body),
      "NOT_AUTHENTIC",
      "key",
    ],
    ["that was made for another node", () => newest("n2", "whole"), "NOT_AUTHENTIC", "ciphertext"],
    ["that names what another node was told", () => newest("n2", "named"), "STALE", "state"],
    ["that answers an older request", () => earliest("release.n1"), "STALE", "nonce"],
  ]
  it.each(releases)("%s is refused, recorded, and changes nothing", async (_, make, code, field) => {
    const before = [...lifeOf("n1").log]
    await expectRefused(
      { by: "loader-n1", type: "vouchsafe.release.refused", subject: "n1", code, field },
      () => say("release.n1", make()),
    )
    expect(lifeOf("n1").log).toEqual(before)
  })

  it("a second time changes nothing either", async () => {
    const before = [...lifeOf("n1").log]
    const acks = world.sent("ack.n1").length
    say("release.n1", captured("release.n1"))
    await until("its acknowledgement, or the next one's", () =>
      world.sent("ack.n1").length > acks ? true : undefined,
    )
    expect(lifeOf("n1").log).toEqual(before)
  })

  it("of an earlier session is refused by the next", async () => {
    const earlier = { whole: newest("n1", "whole"), named: newest("n1", "named") }
    const session = hex(releaseIn(world.sent("release.n1").at(-1) ?? new Uint8Array(0)).session)
    const mark = await world.mark()
    await lifeOf("n1").stop()
    await start("n1")
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.edge.active", subject: "raw:n1:n2" })
    await until("keys of the new session", () => lifeOf("n1").log.find((line) => line.startsWith("activate")))
    const now = releaseIn(world.sent("release.n1").at(-1) ?? new Uint8Array(0))
    expect(hex(now.session)).not.toBe(session)
    const refused = { by: "loader-n1", type: "vouchsafe.release.refused", subject: "n1" } as const
    const unopened = { ...refused, code: "NOT_AUTHENTIC", field: "ciphertext" }
    await expectRefused(unopened, () => say("release.n1", earlier.whole))
    await expectRefused({ ...refused, code: "STALE", field: "state" }, () => say("release.n1", earlier.named))
  })
})

describe("a request that comes over the bus", () => {
  const stolen = (): { result: SignedResult; session: Uint8Array; session1: Uint8Array } => {
    const pulls = world.sent("pull.n1").map(pullIn)
    const [first, last] = [pulls[0], pulls.at(-1)]
    if (first === undefined || last === undefined) throw new Error("n1 has not asked")
    return { result: last.result, session: last.session, session1: first.session }
  }
  const forged = (signer: SecretKey): SignedResult => {
    const genuine = decodedClaims(stolen().result)
    const session = { ...begin(nodeOf("late")), node: "n1", id: stolen().session, signing: signer }
    return forgedResult(crypto.ed25519.generate(), session, genuine)
  }
  const decodedClaims = (result: SignedResult) =>
    claimsOf({ result: { signed: result } } as unknown as Attested)

  /** n1's newest request of whose answers each is acknowledged: no more come by themselves. */
  const settled = (): Signed => {
    const acked = new Set(
      world.sent("ack.n1").map((data) => decoded(Ack, decoded(Signed, data).body).sequence),
    )
    const releases = world.sent("release.n1").map(releaseIn)
    const pull = world.sent("pull.n1").findLast((data) => {
      const answers = releases.filter(({ nonce }) => hex(nonce) === hex(pullIn(data).nonce))
      return answers.length > 0 && answers.every(({ sequence }) => acked.has(sequence))
    })
    if (pull === undefined) throw new Error("n1 has acknowledged nothing")
    return decoded(Signed, pull)
  }

  const pulls: ReadonlyArray<readonly [string, string, () => Signed, string | RegExp, string | undefined]> = [
    ["again", "n1", () => settled(), "STALE", "nonce"],
    ["of an earlier session", "n1", () => captured("pull.n1", 0), "STALE", undefined],
    ["on another node's subject", "n2", () => settled(), "MISDIRECTED", "pull.node"],
    [
      "with a bit of its body changed",
      "n1",
      () => {
        const pull = settled()
        return { ...pull, body: flipped(pull.body) }
      },
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "with a bit of its key changed",
      "n1",
      () => {
        const pull = settled()
        return { ...pull, key: flipped(pull.key) }
      },
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "on a stolen result, signed by another key",
      "n1",
      () => signedPull(crypto.ed25519.generate(), { node: "n1", ...stolen(), nonce: pullNonce(99) }),
      "NOT_VOUCHED",
      "pull.key",
    ],
    [
      "of another node on a stolen result",
      "late",
      () => signedPull(crypto.ed25519.generate(), { node: "late", ...stolen(), nonce: pullNonce(99) }),
      "NOT_VOUCHED",
      "pull.key",
    ],
    [
      "on a result of an unknown verifier",
      "n1",
      () => {
        const result = forged(signerOf("n1"))
        return signedPull(signerOf("n1"), { node: "n1", ...stolen(), result, nonce: pullNonce(99) })
      },
      /^(NOT_VOUCHED|NOT_AUTHENTIC)$/,
      undefined,
    ],
    [
      "of the right key for another session",
      "n1",
      () =>
        signedPull(signerOf("n1"), {
          node: "n1",
          ...stolen(),
          session: stolen().session1,
          nonce: pullNonce(99),
        }),
      "MISDIRECTED",
      "session",
    ],
    [
      "with another KEM key than the result names",
      "n1",
      () =>
        signedPull(signerOf("n1"), {
          node: "n1",
          ...stolen(),
          nonce: pullNonce(99),
          kemKey: crypto.mlkem768.generate().publicKey,
        }),
      "NOT_VOUCHED",
      "kem_key",
    ],
    [
      "signed as an acknowledgement",
      "n1",
      () => sign(crypto, labels.signedAck, signerOf("n1"), settled().body),
      "NOT_AUTHENTIC",
      "signature",
    ],
  ]
  it.each(pulls)("%s is refused and gets no release", async (_, subject, make, code, field) => {
    const pull = make()
    const body = decode(Pull, pull.body, { subject: "pull" })
    const nonce = body.ok ? body.value.nonce : new Uint8Array(0)
    const answers = () =>
      world.sent(`release.${subject}`).filter((data) => hex(releaseIn(data).nonce) === hex(nonce)).length
    const before = answers()
    await expectRefused(
      {
        by: "releaser-r1",
        type: "vouchsafe.pull.refused",
        subject,
        code,
        ...(field === undefined ? {} : { field }),
      },
      () => say(`pull.${subject}`, pull),
    )
    expect(answers()).toBe(before)
  })

  it("as the first of a vouched node leaves the acceptance on record, though itself refused", async () => {
    const { session, result } = await attested(world, nodeOf("late"))
    const mark = await world.mark()
    const pull = { node: "late", session: session.id, result: result.signed, nonce: pullNonce(0) }
    const refused = { by: "releaser-r1", type: "vouchsafe.pull.refused", subject: "late", code: "STALE" }
    await world.insist(refused, () => say("pull.late", signedPull(session.signing, pull)))
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.accepted", subject: "late" })
    expect(world.sent("release.late")).toEqual([])
  })
})

describe("an acknowledgement that comes over the bus", () => {
  const acks: ReadonlyArray<readonly [string, string, () => Signed, string, string]> = [
    [
      "of a foreign signer",
      "n1",
      () => sign(crypto, labels.signedAck, crypto.ed25519.generate(), captured("ack.n1").body),
      "NOT_AUTHENTIC",
      "key",
    ],
    [
      "with a bit of its body changed",
      "n1",
      () => ({ ...captured("ack.n1"), body: flipped(captured("ack.n1").body) }),
      "NOT_AUTHENTIC",
      "signature",
    ],
    ["on another node's subject", "n2", () => captured("ack.n1"), "NOT_AUTHENTIC", "key"],
    ["of an earlier session", "n1", () => captured("ack.n1", 0), "NOT_AUTHENTIC", "key"],
    ["of a node that nothing vouches for", "liar", () => captured("ack.n1"), "NOT_VOUCHED", "ack.node"],
    [
      "of a release that was never sent",
      "n1",
      () => {
        const ack = decoded(Ack, captured("ack.n1").body)
        const body = encode(Ack, { ...ack, sequence: ack.sequence + 1_000n })
        return sign(crypto, labels.signedAck, signerOf("n1"), body)
      },
      "STALE",
      "sequence",
    ],
    [
      "in another term",
      "n1",
      () => {
        const ack = decoded(Ack, captured("ack.n1").body)
        return sign(crypto, labels.signedAck, signerOf("n1"), encode(Ack, { ...ack, term: ack.term + 1n }))
      },
      "MISDIRECTED",
      "term",
    ],
  ]
  it.each(acks)("%s is refused", async (_, subject, make, code, field) => {
    await expectRefused({ by: "releaser-r1", type: "vouchsafe.ack.refused", subject, code, field }, () =>
      say(`ack.${subject}`, make()),
    )
  })

  it("with wrong exporters activates nothing; both ends get a new epoch until they agree", async () => {
    let lying = true
    const lie = (key: () => SecretKey) => (ack: Signed) => {
      if (!lying) return ack
      const { edges, ...rest } = decoded(Ack, ack.body)
      const changed = edges.map((edge) => ({ ...edge, exporter: flipped(edge.exporter) }))
      return sign(crypto, labels.signedAck, key(), encode(Ack, { ...rest, edges: changed }))
    }
    const mark = await world.mark()
    await start("liar", ({ signers }) => {
      const key = () => {
        const signer = signers.at(-1)
        if (signer === undefined) throw new Error("no session")
        return signer
      }
      return bent(nodeOf("liar").bus, { send: { ack: lie(key) } })
    })
    const instance = "raw:liar:n2"
    const told = async (type: string) =>
      (await world.events()).filter(
        ({ sequence, event }) => sequence > mark && event.type === type && event.subject === instance,
      )
    const installs = await until("a second epoch after a disagreement", async () => {
      const disagreed = await told("vouchsafe.edge.disagrees")
      const begun = await told("vouchsafe.edge.install")
      return disagreed.length >= 2 && begun.length >= 2 ? begun : undefined
    })
    const epochs = installs.map(({ event }) => event.data.epoch ?? 0n)
    expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => Number(a - b)))
    expect(await told("vouchsafe.edge.active")).toEqual([])
    const activated = (id: string) =>
      lifeOf(id).log.filter((line) => line.startsWith(`activate edge ${lifeOf(id).indexOf(instance)} `))
    expect(activated("liar")).toEqual([])
    expect(activated("n2")).toEqual([])

    lying = false
    const active = await world.recorded(mark, {
      by: "releaser-r1",
      type: "vouchsafe.edge.active",
      subject: instance,
    })
    expect(active.data.epoch).toBeGreaterThan(epochs.at(0) ?? 0n)
    for (const id of ["liar", "n2"])
      await until(`${id} sends`, () => (activated(id).length === 1 ? true : undefined))
  })
})

describe("a releaser that was taken over can't make a node", () => {
  let rogue: Rogue
  let timer: NodeJS.Timeout

  beforeAll(async () => {
    rogue = takeOver(world, "misled")
    try {
      await start("misled")
      await freshPull(rogue)
    } finally {
      rogue.restore()
    }
    // Else the node would soon begin a new session, with the real releaser.
    timer = setInterval(rogue.answer, 10)
    await until("an acknowledgement for the rogue's term", () =>
      world.sent("ack.misled").find((data) => decoded(Ack, decoded(Signed, data).body).term === rogue.term),
    )
  })
  afterAll(() => clearInterval(timer))

  const edge = (change: Partial<EdgeRelease> = {}): EdgeRelease => ({
    instance: "raw:misled:n2",
    term: rogue.term,
    epoch: 1n,
    state: "install",
    peer: "n2",
    inbound: [300],
    outbound: [301],
    secret: filled(32, 0x5e),
    ...change,
  })
  const resultOf = (id: string): SignedResult =>
    pullIn(world.sent(`pull.${id}`).at(-1) ?? new Uint8Array(0)).result
  /** What the release says of n2: by the result of another node, or changed. */
  const told = (id = "n2", peer: Partial<PeerResult> = {}, batch: Partial<PeerBatch> = {}) => {
    const { body, index, path, batch: signed } = resultOf(id)
    const { key, size, signature } = signed
    const own = { node: "n2", dh_key: decodeResult(body).dh_key, result: resultDigest(crypto, body), index }
    const whole = { key, size, signature, proof: Buffer.concat(path), peers: [{ ...own, ...peer }] }
    return { batches: [{ ...whole, ...batch }] }
  }
  const withEdge = (change: Partial<EdgeRelease>, peers = told()): Bending => ({
    payload: { ...peers, edges: [edge(change)] },
  })

  const bendings: ReadonlyArray<readonly [string, () => Bending, string, string]> = [
    ["follow one for another node", () => ({ header: { node: "n1" } }), "MISDIRECTED", "node"],
    [
      "follow one for another session",
      () => ({ header: { session: filled(16, 1) } }),
      "MISDIRECTED",
      "session",
    ],
    ["follow one of another domain", () => ({ header: { domain: "elsewhere" } }), "MISDIRECTED", "domain"],
    [
      "follow one of another workflow",
      () => ({ header: { workflow: filled(32, 1) } }),
      "MISDIRECTED",
      "workflow",
    ],
    [
      "follow a higher term without Evidence",
      () => ({ header: { term: rogue.term + 1n } }),
      "NOT_RISING",
      "term",
    ],
    ["follow a lower term", () => ({ header: { term: rogue.term - 1n } }), "NOT_RISING", "term"],
    ["take an answer to nothing", () => ({ header: { nonce: filled(32, 1) } }), "STALE", "nonce"],
    [
      "take an older sequence",
      () => ({ header: { sequence: rogue.answered() - 1n } }),
      "NOT_RISING",
      "sequence",
    ],
    [
      "take another release with a used sequence",
      () => ({ header: { sequence: rogue.answered() }, payload: { lease_ms: 5_000 } }),
      "NOT_RISING",
      "sequence",
    ],
    [
      "open one that is sealed to another key",
      () => ({ recipient: { dhKey: crypto.x25519.generate().publicKey } }),
      "NOT_AUTHENTIC",
      "ciphertext",
    ],
    [
      "open one that is sealed to another KEM key",
      () => ({ recipient: { kemKey: crypto.mlkem768.generate().publicKey } }),
      "NOT_AUTHENTIC",
      "ciphertext",
    ],
    [
      "open one whose KEM ciphertext was changed",
      () => ({ outer: (release) => ({ ...release, enc: flipped(release.enc) }) }),
      "NOT_AUTHENTIC",
      "ciphertext",
    ],
    [
      "open one of a weaker suite that it offers too",
      () => ({ header: { suite: "chacha20-poly1305" } }),
      "MISDIRECTED",
      "suite",
    ],
    [
      "open one that is sealed for another result",
      () => ({ recipient: { result: filled(32, 1) } }),
      "NOT_AUTHENTIC",
      "ciphertext",
    ],
    [
      "open one whose header was changed after sealing",
      () => ({ outer: (release) => ({ ...release, sequence: release.sequence + 5n }) }),
      "NOT_AUTHENTIC",
      "ciphertext",
    ],
    [
      "open one whose seal was changed",
      () => ({ outer: (release) => ({ ...release, ciphertext: flipped(release.ciphertext) }) }),
      "NOT_AUTHENTIC",
      "ciphertext",
    ],
    [
      "open one of an unknown suite",
      () => ({ outer: (release) => ({ ...release, suite: "rot13" }) }),
      "MALFORMED",
      "suite",
    ],
    ["take an edge of others", () => withEdge({ instance: "raw:n1:n2" }), "NO_SUCH_EDGE", "edges.instance"],
    ["take a new edge", () => withEdge({ instance: "packed:misled:n3" }), "NO_SUCH_EDGE", "edges.instance"],
    ["take another peer", () => withEdge({ peer: "n3" }), "MISDIRECTED", "edges.peer"],
    [
      "believe another node's result for its peer",
      () => withEdge({}, told("n3")),
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "believe another key for its peer",
      () => withEdge({}, told("n2", { dh_key: filled(32, 9) })),
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "believe a changed result for its peer",
      () => withEdge({}, told("n2", { result: filled(32, 9) })),
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "believe a batch that nobody signed",
      () => withEdge({}, told("n2", {}, { signature: filled(64, 9) })),
      "NOT_AUTHENTIC",
      "signature",
    ],
    [
      "believe a batch of its own signing",
      () => withEdge({}, told("n2", {}, { key: filled(32, 9) })),
      "NOT_AUTHENTIC",
      "key",
    ],
    ["do without its peer's result", () => withEdge({}, { batches: [] }), "MALFORMED", "batches.peers"],
    [
      "believe a peer by more hashes than it takes",
      () => withEdge({}, told("n2", {}, { proof: filled(32 * 13, 9) })),
      "MALFORMED",
      "batches.proof",
    ],
    [
      "install an epoch of another term",
      () => withEdge({ term: rogue.term - 1n }),
      "NOT_RISING",
      "edges.term",
    ],
    [
      "use one index twice",
      () => ({ payload: { ...told(), edges: [edge(), edge({ state: "active", epoch: 2n })] } }),
      "NOT_RISING",
      "edges.epoch",
    ],
    [
      "use more lanes than the workflow has",
      () => withEdge({ inbound: [300, 302] }),
      "MALFORMED",
      "edges.inbound",
    ],
  ]
  it.each(bendings)("%s", async (_, make, code, field) => {
    const before = [...lifeOf("misled").log]
    const wanted = { by: "loader-misled", type: "vouchsafe.release.refused", subject: "misled", code, field }
    // A new request may overtake it, and is then what it fails for: so once is not enough.
    await world.insist(wanted, () => rogue.release(make()))
    expect(lifeOf("misled").log).toEqual(before)
  })

  it("though the same edge, unbent, is installed", async () => {
    await until("an installed edge", async () => {
      rogue.release(withEdge({}))
      await pause(100)
      return lifeOf("misled").log.find((line) => line.startsWith("inbound"))
    })
    expect(lifeOf("misled").log[0]).toContain(`spi 300 epoch ${rogue.term}.1`)
  })

  it("and hears the real releaser no more, which it records", async () => {
    await world.recorded(0, {
      by: "loader-misled",
      type: "vouchsafe.release.refused",
      subject: "misled",
      code: "NOT_AUTHENTIC",
      field: "key",
    })
  })
})

describe("a second machine in the place of a node whose lease runs", () => {
  it("is refused, and the first goes on; it may have the place when the lease is over", async () => {
    await start("spot")
    await world.recorded(0, { by: "releaser-r1", type: "vouchsafe.edge.active", subject: "raw:spot:n2" })
    const usurper = await playNode(world, "spot", {
      attester: false,
      name: "usurper",
      machine: machine(chipOf(world.root), { measurement: imageOf("source") }),
    })
    const session = begin(usurper)
    let wanted: AttestNode | undefined
    const bus = bent(usurper.bus, {
      send: {
        attest: (request: AttestRequest) => {
          if (request.kind === "attest-node") wanted = request
          return request
        },
      },
      reply: {
        // Its own attester's answer; on the bus, the first machine's has said no.
        attest: () => {
          if (wanted === undefined) throw new Error("nothing was asked")
          return answerNode(usurper.guest, world.workflow, wanted)
        },
      },
    })
    const found = await attestSession(world, usurper, session, bus)
    if (found instanceof Refused) throw new Error(`${found.code} ${found.field}`)
    const chips = new Set([hex(claimsOf(found).chip), hex(world.chip("spot").chipId)])
    expect(chips.size).toBe(2)

    let counter = 0
    const ask = () =>
      say(
        "pull.spot",
        signedPull(session.signing, {
          node: "spot",
          session: session.id,
          result: found.result.signed,
          nonce: pullNonce(++counter),
          kemKey: session.kem.publicKey,
        }),
      )
    const sessions = () => world.sent("release.spot").map((data) => hex(releaseIn(data).session))
    await expectRefused(
      {
        by: "releaser-r1",
        type: "vouchsafe.pull.refused",
        subject: "spot",
        code: "INCUMBENT",
        field: "result.chip",
      },
      ask,
    )
    const before = sessions().length
    await until("the incumbent's next release", () => (sessions().length > before ? true : undefined))
    expect(sessions()).not.toContain(hex(session.id))

    await lifeOf("spot").stop()
    const mark = await world.mark()
    await world.recorded(mark, { by: "releaser-r1", type: "vouchsafe.node.lapsed", subject: "spot" })
    await insistently(ask, (ms) =>
      until("the successor's release", () => sessions().find((one) => one === hex(session.id)), ms),
    )
  })
})

describe("what the nodes keep to themselves", () => {
  const forms = (secret: string): ReadonlyArray<string | Buffer> => {
    const bytes = Buffer.from(secret, "hex")
    return [bytes, secret, secret.toUpperCase(), bytes.toString("base64"), bytes.toString("base64url")]
  }
  const found = (secret: string, places: ReadonlyArray<Buffer>): boolean =>
    forms(secret).some((form) => places.some((place) => place.includes(form)))

  it("is in no message on the bus, no event and no log", async () => {
    const { captured } = world
    const bus = Buffer.concat(captured.flatMap(({ subject, data }) => [Buffer.from(` ${subject} `), data]))
    const events = JSON.stringify(await world.events(), (_, value) => {
      if (value instanceof Uint8Array) return hex(value)
      return typeof value === "bigint" ? value.toString() : value
    })
    const places = [bus, Buffer.from(events), Buffer.from(world.logs())]

    const secrets = new Set(everyLife.flatMap(({ spied }) => [...spied.secrets]))
    const traffic = everyLife.flatMap(({ keys }) => [...keys])
    const released = everyLife.flatMap(({ spied }) => [...spied.releaseSecrets])
    expect(traffic.length).toBeGreaterThan(10)
    expect(released.length).toBeGreaterThan(5)
    for (const key of [...traffic, ...released]) expect(secrets.has(key)).toBe(true)
    expect([...secrets].filter((secret) => found(secret, places))).toEqual([])

    // The search finds what is there: public keys on the bus, digests in events, and all encodings.
    expect(found(hex(signerOf("n1").publicKey), [bus])).toBe(true)
    expect(found(hex(world.workflow.digest), [Buffer.from(events)])).toBe(true)
    const [planted = ""] = traffic
    for (const form of forms(planted))
      expect(found(planted, [Buffer.concat([bus, Buffer.from(form)])])).toBe(true)
    world.allRun()
  })
})
