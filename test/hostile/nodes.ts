/** Nodes as the tests play them: the real attester and loader code over the real bus, on machines and kernels of the test's choice. */
import { Effect } from "effect"
import {
  AttestationResult,
  type AttestNode,
  type EvidenceReply,
  type HelloReply,
  type NodeEvidence,
  type Offer,
} from "../../schemas/messages/attestation.ts"
import type { Signed } from "../../schemas/messages/common.ts"
import { Pull, ReleasePayload } from "../../schemas/messages/release.ts"
import type { SignedResult } from "../../schemas/messages/result.ts"
import type { NodeGuest } from "../../services/attester/answer.ts"
import { DeviceQueue } from "../../services/attester/device-queue.ts"
import { serveAttester } from "../../services/attester/service.ts"
import { Bus, type BusShape, Refused } from "../../services/common/bus/bus.ts"
import { decode, encode } from "../../services/common/codec/index.ts"
import type { Crypto } from "../../services/common/crypto/port.ts"
import type { SecretKey } from "../../services/common/crypto/secret-key.ts"
import { attest, believe } from "../../services/dataplane-loader/attest.ts"
import type { NewAssociation, Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { makeNode } from "../../services/dataplane-loader/node.ts"
import { decodeResult } from "../../services/dataplane-loader/open-release.ts"
import { compileRules } from "../../services/dataplane-loader/rules.ts"
import {
  type Attested,
  beginSession,
  leaveForAttester,
  type Session,
} from "../../services/dataplane-loader/session.ts"
import { sign } from "../../services/make/envelope.ts"
import { labels } from "../../services/make/labels.ts"
import { signResults } from "../../services/make/result.ts"
import { snpEvidence } from "../support/evidence-pieces.ts"
import { reportDataOf } from "../support/node-evidence.ts"
import {
  crypto,
  DATAPLANE,
  hex,
  imageOf,
  type Machine,
  machine,
  pause,
  type WantedEvent,
  type World,
} from "./support.ts"

export interface PlayedNode {
  readonly id: string
  readonly bus: BusShape
  readonly runDirectory: string
  /** What its attester rests on: may be changed between two attestations. */
  machine: Machine
  dataplane: Uint8Array
  boot: Uint8Array
  readonly guest: NodeGuest
}

/** The machine that the workflow wants for the node. */
export const enrolledMachine = (world: World, id: string): Machine => {
  const stage = world.workflow.document.nodes.find((node) => node.id === id)?.stage ?? "source"
  return machine(world.chip(id), { measurement: imageOf(stage) })
}

/** An attester's way to a machine, which may be another one each time. */
export const queueOf = (current: () => Machine): DeviceQueue =>
  new DeviceQueue({
    platform: "sev-snp",
    emulated: true,
    about: "a machine of the test's choice",
    attest: async (data) => snpEvidence(current().report(data)).pieces,
    close: async () => undefined,
  })

/** A node with its own guest and the real attester service, `instance` times on the same bus identity if need be. */
export const playNode = async (
  world: World,
  id: string,
  options: { readonly machine?: Machine; readonly attester?: boolean; readonly name?: string } = {},
): Promise<PlayedNode> => {
  const runDirectory = world.newDirectory(options.name ?? id)
  const node: PlayedNode = {
    id,
    bus: await world.bus("loader", id),
    runDirectory,
    machine: options.machine ?? enrolledMachine(world, id),
    dataplane: DATAPLANE,
    boot: crypto.randomBytes(16),
    guest: {
      crypto,
      trust: world.trust,
      id,
      runDirectory,
      device: queueOf(() => node.machine),
      measureDataplane: () => node.dataplane,
      bootId: () => node.boot,
    },
  }
  if (options.attester === false) return node
  const attesterBus = await world.bus("attester", id)
  const mark = await world.mark()
  world.begin(
    serveAttester({ role: "node", guest: node.guest }).pipe(Effect.provideService(Bus, attesterBus)),
  )
  await world.recorded(mark, { by: `attester-${id}`, type: "vouchsafe.service.ready" })
  await world.recorded(mark, { by: `attester-${id}`, type: "vouchsafe.workflow.applied" })
  return node
}

export const begin = ({ id, runDirectory }: PlayedNode): Session => beginSession(crypto, id, runDirectory)

const TIMEOUT = { timeoutMs: 8_000 }

export const hello = (world: World, node: PlayedNode, session: Session, change: object = {}) =>
  world.run(
    node.bus.request(
      "hello",
      { node: node.id },
      { v: 1, domain: "lab", node: node.id, session: session.id, nonce: session.nonce, term: 0n, ...change },
      TIMEOUT,
    ),
  )

/** Said while no leader can be shown, as for a moment on a machine that stood still, or when a term begins under way. */
const isLeaderless = (code: string): boolean =>
  code === "NO_BEACON" || code === "NO_LEADER" || code === "NO_CONTROL_EVIDENCE"
/** How often a node of a test asks again meanwhile, and after which pause. */
const AGAIN = { times: 20, afterMs: 500 }

/** As nodes do, it asks again while nobody leads. */
export const offerFor = async (world: World, node: PlayedNode, session: Session): Promise<Offer> => {
  let reply: HelloReply = await hello(world, node, session)
  for (let i = 0; i < AGAIN.times && reply.kind !== "offer" && isLeaderless(reply.code); i++) {
    await pause(AGAIN.afterMs)
    reply = await hello(world, node, session)
  }
  if (reply.kind === "offer") return reply
  throw new Error(`no offer: ${reply.code} ${reply.field} ${reply.message}`)
}

/** As the loader does: believes the offer, leaves that for the attester, and asks it. */
export const requestFor = ({ trust, workflow }: World, session: Session, offer: Offer): AttestNode =>
  leaveForAttester(session, workflow.digest, believe({ crypto, trust, workflow, session }, offer))

/** The node's own attester's answer to an offer. */
export const answer = async (
  world: World,
  node: PlayedNode,
  session: Session,
  offer: Offer,
): Promise<NodeEvidence> => {
  const reply = await world.run(
    node.bus.request(
      "attest",
      { node: node.id, identity: node.bus.identity.name },
      requestFor(world, session, offer),
      TIMEOUT,
    ),
  )
  if (reply.kind === "node-evidence") return reply
  throw new Error(`no Evidence: ${JSON.stringify(reply, (_, v) => (typeof v === "bigint" ? `${v}` : v))}`)
}

export const submit = (world: World, node: PlayedNode, evidence: NodeEvidence): Promise<EvidenceReply> =>
  world.run(node.bus.request("evidence", { instance: "v1", node: node.id }, evidence, TIMEOUT))

/** A new session up to the point where its Evidence would be sent. */
export const prepare = async (
  world: World,
  node: PlayedNode,
): Promise<{ session: Session; offer: Offer; evidence: NodeEvidence }> => {
  const session = begin(node)
  const offer = await offerFor(world, node, session)
  return { session, offer, evidence: await answer(world, node, session, offer) }
}

/** Evidence that says something else, vouched for by the hardware all the same. */
export const claiming = (
  device: Machine,
  evidence: NodeEvidence,
  change: Partial<NodeEvidence["claims"]>,
): NodeEvidence => {
  const claims = { ...evidence.claims, ...change }
  const { report, certificates } = device.report(reportDataOf(claims))
  return { ...evidence, claims, evidence: snpEvidence({ report, certificates }) }
}

/** The loader's whole attestation of a session, begun again while nobody leads. */
export const attestSession = async (
  world: World,
  node: PlayedNode,
  session: Session,
  bus: BusShape = node.bus,
): Promise<Attested | Refused> => {
  const once = attest(bus, { crypto, trust: world.trust, workflow: world.workflow, session }).pipe(
    Effect.catch((error) => (error instanceof Refused ? Effect.succeed(error) : Effect.die(error))),
  )
  let found = await world.run(once)
  for (let i = 0; i < AGAIN.times && found instanceof Refused && isLeaderless(found.code); i++) {
    await pause(AGAIN.afterMs)
    found = await world.run(once)
  }
  return found
}

export const attested = async (world: World, node: PlayedNode): Promise<Attested> => {
  const found = await attestSession(world, node, begin(node))
  if (found instanceof Refused) throw new Error(`refused: ${found.code} ${found.field} ${found.message}`)
  return found
}

/** Asks for keys and waits for the event of its refusal. */
export const refusedPull = async (
  world: World,
  { bus, id }: PlayedNode,
  pull: Signed,
  wanted: Omit<WantedEvent, "by" | "type" | "subject">,
): Promise<void> => {
  const event = { by: "releaser-r1", type: "vouchsafe.pull.refused", subject: id, ...wanted }
  await world.insist(event, () => world.run(bus.publish("pull", { node: id }, pull)))
}

/** A standing request's nonce with this counter. */
export const pullNonce = (counter: number): Uint8Array => {
  const nonce = crypto.randomBytes(32)
  new DataView(nonce.buffer, nonce.byteOffset).setBigUint64(0, BigInt(counter))
  return nonce
}

export interface PullParts {
  readonly node: string
  readonly session: Uint8Array
  readonly nonce?: Uint8Array
  readonly result: SignedResult
  readonly kemKey?: Uint8Array
}

export const signedPull = (key: SecretKey, { node, session, result, nonce, kemKey }: PullParts): Signed =>
  sign(
    crypto,
    labels.signedPull,
    key,
    encode(Pull, {
      v: 1,
      node,
      session,
      nonce: nonce ?? pullNonce(1),
      result,
      kem_key: kemKey ?? new Uint8Array(0),
    }),
  )

/** What a refused node can still try: a request on the strength of a result that it signed itself. */
export const forgedResult = (
  signer: SecretKey,
  session: Session,
  claims: AttestationResult,
): SignedResult => {
  const own = {
    ...claims,
    node: session.node,
    session: session.id,
    signing_key: session.signing.publicKey,
    dh_key: session.dh.publicKey,
  }
  const body = encode(AttestationResult, own)
  const [signed] = signResults(crypto, signer, [{ ...own, dhKey: own.dh_key, body }])
  if (signed === undefined) throw new Error("unreachable")
  return signed
}

export const claimsOf = ({ result }: Attested): AttestationResult =>
  decodeResult(result.signed.body) as AttestationResult

/** Keys that a node derived or generated, as its own crypto port saw them. */
export interface Spied {
  readonly crypto: Crypto
  /** Hex, 32 bytes each: private keys, shared secrets, derived keys, release secrets. */
  readonly secrets: Set<string>
  /** Those among them that came out of opened releases. */
  readonly releaseSecrets: Set<string>
  /** Signing keys in the order in which sessions began. */
  readonly signers: SecretKey[]
}

const spy = (): Spied => {
  const secrets = new Set<string>()
  const releaseSecrets = new Set<string>()
  const signers: SecretKey[] = []
  const keep = (bytes: Uint8Array): Uint8Array => {
    // Shorter ones are exporters, which acknowledgements carry openly, and nonces.
    if (bytes.length >= 32) secrets.add(hex(bytes.subarray(0, 32)))
    return bytes
  }
  const observed: Crypto = {
    ...crypto,
    // An edge's keys: 36 bytes for each direction and lane, then the exporter.
    hkdfSha256: (...args) => {
      const okm = crypto.hkdfSha256(...args)
      for (let at = 0; at + 36 <= okm.length; at += 36) keep(okm.subarray(at, at + 36))
      return okm
    },
    hkdfExtractSha256: (...args) => keep(crypto.hkdfExtractSha256(...args)),
    hkdfExpandSha256: (...args) => keep(crypto.hkdfExpandSha256(...args)),
    x25519: {
      ...crypto.x25519,
      generate: () => {
        const key = crypto.x25519.generate()
        keep(key.reveal("x25519"))
        return key
      },
      fromSecret: (secret) => crypto.x25519.fromSecret(keep(secret)),
      sharedSecret: (...args) => keep(crypto.x25519.sharedSecret(...args)),
    },
    shake256: (...args) => keep(crypto.shake256(...args)),
    sha3_256: (...args) => keep(crypto.sha3_256(...args)),
    mlkem768: {
      ...crypto.mlkem768,
      fromSeed: (seed) => {
        keep(seed.subarray(32))
        return crypto.mlkem768.fromSeed(keep(seed))
      },
      decapsulate: (...args) => keep(crypto.mlkem768.decapsulate(...args)),
    },
    ed25519: {
      ...crypto.ed25519,
      generate: () => {
        const key = crypto.ed25519.generate()
        keep(key.reveal("ed25519"))
        // Sessions dispose of theirs; a liar among the tests' nodes needs it longer.
        signers.push(crypto.ed25519.fromSecret(key.reveal("ed25519")))
        return key
      },
    },
    chacha20poly1305: {
      ...crypto.chacha20poly1305,
      open: (...args) => {
        const opened = crypto.chacha20poly1305.open(...args)
        const payload = decode(ReleasePayload, opened, { subject: "payload" })
        if (payload.ok)
          for (const { secret } of payload.value.edges)
            if (secret !== undefined) {
              keep(secret)
              releaseSecrets.add(hex(secret))
            }
        return opened
      },
    },
  }
  return { crypto: observed, secrets, releaseSecrets, signers }
}

/** A kernel that writes down what it is told. */
export interface RecordedPlane {
  readonly plane: Plane
  /** One line for each call that changes something. */
  readonly log: string[]
  /** Traffic keys, hex. */
  readonly keys: Set<string>
}

export const recordedPlane = (): RecordedPlane => {
  const log: string[] = []
  const keys = new Set<string>()
  const nothing = (): never => {
    throw new Error("not a call that a node makes here")
  }
  const install =
    (direction: string) =>
    ({ edge, lane, spi, epoch, key }: NewAssociation): void => {
      keys.add(hex(key))
      log.push(`${direction} edge ${edge} lane ${lane} spi ${spi} epoch ${epoch.term}.${epoch.n}`)
    }
  const plane: Plane = {
    fresh: true,
    forgotten: false,
    measurement: { digest: DATAPLANE } as Plane["measurement"],
    waiting: undefined,
    upgrade: nothing,
    swept: 0,
    configured: () => true,
    configure: nothing,
    moveTo: nothing,
    setEdges: nothing,
    edges: () => ({ edges: [], policies: [] }),
    installInbound: install("inbound"),
    installOutbound: install("outbound"),
    setLease: () => true,
    activate: (edge, lane, spi) => void log.push(`activate edge ${edge} lane ${lane} spi ${spi}`),
    retire: ({ direction, edge, spi }) => {
      log.push(`retire ${direction} edge ${edge} spi ${spi}`)
      return true
    },
    revoke: nothing,
    revokeAll: () => void log.push("revoke all"),
    associations: () => [],
    used: () => [],
    counters: nothing,
    keepAlive: nothing,
    inspect: () => [],
    cutOff: nothing,
    restore: nothing,
    drops: () => [],
    close: nothing,
    teardown: nothing,
  }
  return { plane, log, keys }
}

export interface Life extends RecordedPlane {
  /** The number that the node's kernel knows an edge instance by. */
  readonly indexOf: (instance: string) => number
  readonly spied: Spied
  readonly stop: () => Promise<void>
}

export interface LifeOptions {
  /** Comes for a new leader at once; else it is noticed when requests stay unanswered. */
  readonly hearsLeaders?: boolean
  readonly recorded?: RecordedPlane
}

/** The loader's life on the bus, without a kernel: attests, asks, takes releases, acknowledges, until it is stopped. */
export const live = async (
  world: World,
  node: PlayedNode,
  bus: (spied: Spied) => BusShape = () => node.bus,
  { hearsLeaders = false, recorded = recordedPlane() }: LifeOptions = {},
): Promise<Life> => {
  const spied = spy()
  const own = bus(spied)
  const { workflow, trust } = world
  const rules = compileRules(workflow, {
    crypto,
    nodeId: node.id,
    wireMtu: 1_500,
    wireFamilies: [4],
    espPort: 4_500,
    present: { edges: [], policies: [] },
  })
  const lives = makeNode(own, {
    crypto: spied.crypto,
    trust,
    node: node.id,
    runDirectory: node.runDirectory,
    plane: recorded.plane,
    watch: { whole: true, breaks: 0 },
    backend: "none",
  })
  const stop = world.begin(
    Effect.gen(function* () {
      yield* own.subscribe("release", { node: node.id }, (signed) => lives.onRelease(signed))
      yield* own.subscribe("renew", { node: node.id }, (_, { sender }) => lives.onRenew(sender))
      if (hearsLeaders) yield* own.subscribe("beacon", {}, (beacon) => lives.onBeacon(beacon))
      yield* lives.live(() => ({ workflow, rules }))
    }),
  )
  const indexOf = (instance: string): number => {
    const found = rules.edges.find(({ edge }) => edge.id === instance)
    if (found === undefined) throw new Error(`${node.id} has no edge ${instance}`)
    return found.record.index
  }
  return { ...recorded, spied, stop, indexOf }
}
