/** A releaser and nodes in one process, joined by nothing but the values they exchange: what tests of MAKE play with. */
import { type Crypto, native, type SecretKey } from "../../services/common/crypto/index.ts"
import type { Workflow } from "../../services/make/edges.ts"
import { formatEpoch } from "../../services/make/epoch.ts"
import type { HeldEpoch } from "../../services/make/held.ts"
import { type KernelAction, NodeState, type Vouch } from "../../services/make/node-state.ts"
import { type OpenedRelease, releaseDigest } from "../../services/make/release.ts"
import { type ReleaseOutput, Releaser, type ReleaserOutput } from "../../services/make/releaser.ts"
import {
  kemKeyDigest,
  type ResultClaims,
  type SignedResult,
  signResults,
  type VouchedResult,
  vouchPeers,
  vouchResult,
} from "../../services/make/result.ts"
import { defaultSuite } from "../../services/make/suites.ts"

export const crypto: Crypto = native
export const filled = (length: number, value: number) => new Uint8Array(length).fill(value)
export const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

const member = (id: string, stage: string, host: number) => ({
  id,
  stage,
  address: `10.64.0.${host}`,
  wire: `192.0.2.${host}`,
})

/** alpha -> beta by two edges, beta -> gamma by one with two lanes. */
export const workflow: Workflow = {
  domain: "hospital",
  digest: filled(32, 0x77),
  version: 1,
  suite: defaultSuite,
  stages: [{ id: "source" }, { id: "transform" }, { id: "sink" }],
  nodes: [member("alpha", "source", 1), member("beta", "transform", 2), member("gamma", "sink", 3)],
  edges: [
    { id: "bulk", from: "source", to: "transform", protocol: "tcp", port: 8_000, lanes: 1 },
    { id: "ask", from: "source", to: "transform", protocol: "udp", port: 53, lanes: 1 },
    { id: "out", from: "transform", to: "sink", protocol: "tcp", port: 9_000, lanes: 2 },
  ],
}

export const verifierKey = crypto.ed25519.generate()

/** The body is a list of hex texts here; services pack it with their codec. */
const encodeClaims = (claims: ResultClaims): Uint8Array =>
  new TextEncoder().encode(
    JSON.stringify(claims, (_, value) => (value instanceof Uint8Array ? { hex: hex(value) } : value)),
  )
export const decodeClaims = (body: Uint8Array): ResultClaims =>
  JSON.parse(new TextDecoder().decode(body), (_, value) =>
    typeof value?.hex === "string" ? Uint8Array.from(Buffer.from(value.hex, "hex")) : value,
  )

export const vouch: Vouch = (scope, batch) => vouchPeers(crypto, [verifierKey.publicKey], scope, batch)

export const signClaims = (
  all: ReadonlyArray<ResultClaims>,
  key: SecretKey = verifierKey,
): ReadonlyArray<SignedResult> =>
  signResults(
    crypto,
    key,
    all.map((claims) => ({ ...claims, dhKey: claims.dh_key, body: encodeClaims(claims) })),
  )

export const resultFor = (claims: ResultClaims, key: SecretKey = verifierKey): VouchedResult => {
  const [signed] = signClaims([claims], key)
  if (signed === undefined) throw new Error("unreachable")
  return vouchResult(crypto, [key.publicKey], signed, decodeClaims)
}

let serial = 0

export interface Attested {
  readonly dhSecret: SecretKey
  readonly kemSecret: SecretKey
  readonly result: VouchedResult
}

/** A node that has just been appraised: new session, new keys. */
export const attest = (node: string, beacon: Uint8Array, change: Partial<ResultClaims> = {}): Attested => {
  const dhSecret = crypto.x25519.generate()
  const kemSecret = crypto.mlkem768.generate()
  const session = filled(16, 0)
  new DataView(session.buffer).setUint32(0, ++serial)
  const stage = workflow.nodes.find(({ id }) => id === node)?.stage ?? "nowhere"
  const claims: ResultClaims = {
    domain: workflow.domain,
    workflow: workflow.digest,
    node,
    session,
    stage,
    chip: filled(64, node.charCodeAt(0)),
    boot: filled(16, node.charCodeAt(0)),
    signing_key: filled(32, 1),
    dh_key: dhSecret.publicKey,
    kem_key_digest: kemKeyDigest(crypto, kemSecret.publicKey),
    beacon,
    ...change,
  }
  return { dhSecret, kemSecret, result: resultFor(claims) }
}

export const newReleaser = (change: Partial<ConstructorParameters<typeof Releaser>[0]> = {}) =>
  new Releaser({ crypto, workflow, releaser: "releaser-1", term: 5n, ...change })

export const newNode = (
  { dhSecret, result }: Attested,
  change: Partial<ConstructorParameters<typeof NodeState>[0]> = {},
): NodeState => {
  const { node: nodeId, session } = result.claims
  return new NodeState({ crypto, workflow, nodeId, session, dhSecret, result, ...change })
}

export const releasesIn = (outputs: ReadonlyArray<ReleaserOutput>): ReadonlyArray<ReleaseOutput> =>
  outputs.filter((output) => output.kind === "release")
export const eventsIn = (outputs: ReadonlyArray<ReleaserOutput>): ReadonlyArray<string> =>
  outputs.flatMap((output) => (output.kind === "event" ? [output.event] : []))

const asJson = (value: unknown): Uint8Array =>
  new TextEncoder().encode(
    JSON.stringify(value, (_, each) =>
      each instanceof Uint8Array ? hex(each) : typeof each === "bigint" ? `${each}n` : each,
    ),
  )

/** The digest of a release, packed as JSON: services pack it with their codec. */
export const withDigest = ({ header, payload }: Omit<OpenedRelease, "digest">): OpenedRelease => ({
  header,
  payload,
  digest: releaseDigest(crypto, header, asJson(payload)),
})

/** As it is after transport: nothing shared with the sender. */
export const opened = ({ header, payload }: ReleaseOutput): OpenedRelease =>
  withDigest(structuredClone({ header, payload }))

const NS_PER_MS = 1_000_000n
export const bootNs = (ms: number): bigint => BigInt(Math.round(ms)) * NS_PER_MS

/**
 * The kernel's side: carries out actions as the maps would, and fails loudly when an insertion isn't one, or comes before
 * what must come first.
 */
export class Kernel {
  readonly inbound = new Map<number, { instance: string; epoch: string; key: string }>()
  readonly outbound = new Map<string, { key: string; deadlineBootNs: bigint | undefined }>()
  readonly selected = new Map<string, string>()
  readonly everOutbound: Set<string>

  constructor(everOutbound: Set<string> = new Set()) {
    this.everOutbound = everOutbound
  }

  run(actions: ReadonlyArray<KernelAction>): void {
    const order = ["installInbound", "installOutbound", "setLease", "activate", "retire"]
    let last = 0
    for (const action of actions) {
      const rank = order.indexOf(action.kind)
      if (rank < last) throw new Error(`${action.kind} comes too late`)
      last = rank
      this.#do(action)
    }
  }

  #do(action: KernelAction): void {
    const { instance } = action
    const epoch = formatEpoch(action.epoch)
    const name = `${instance} ${epoch}`
    switch (action.kind) {
      case "installInbound":
        for (const { spi, key } of action.keys) {
          if (this.inbound.has(spi)) throw new Error(`inbound ${spi} is in use`)
          this.inbound.set(spi, { instance, epoch, key: hex(key) })
        }
        return
      case "installOutbound":
        if (this.everOutbound.has(name)) throw new Error(`${name} is installed a second time`)
        this.everOutbound.add(name)
        this.outbound.set(name, {
          key: action.keys.map(({ key }) => hex(key)).join(),
          deadlineBootNs: undefined,
        })
        return
      case "setLease": {
        const entry = this.outbound.get(name)
        if (entry === undefined) throw new Error(`lease for ${name}, which isn't there`)
        entry.deadlineBootNs = action.deadlineBootNs
        return
      }
      case "activate": {
        if (this.outbound.get(name)?.deadlineBootNs === undefined)
          throw new Error(`${name} can't be used yet`)
        this.selected.set(instance, name)
        return
      }
      case "retire":
        for (const spi of action.inbound) this.inbound.delete(spi)
        this.outbound.delete(name)
        if (this.selected.get(instance) === name) this.selected.delete(instance)
    }
  }
}

/** What a loader that starts in the same boot finds. */
export const adopt = (node: NodeState): ReadonlyArray<HeldEpoch> =>
  node.held.map(({ instance, epoch, inbound, outbound, active, deadlineBootNs }) => ({
    instance,
    epoch,
    inbound,
    outbound,
    active,
    deadlineBootNs,
  }))
