/**
 * What `peers: evidence` costs a node for each of its peers: CPU of one thread and bytes from the bucket. The whole way from
 * stored bytes to a verdict, by emulated SNP machines; a chain of certificates is verified once and remembered, as in a loader.
 */
import { parseArgs } from "node:util"
import { createEmulatedChip, createEmulatedRoot, type EmulatedChip } from "../../services/evidence/index.ts"
import { appraisePeer, readPeerProof } from "../../services/guest/appraise-peer.ts"
import { OwnNonces } from "../../services/make/own-nonces.ts"
import { openControlProof } from "../../services/make/proof.ts"
import {
  appraiserOf,
  crypto,
  leafOf,
  type PeerSaid,
  peerWorkflow,
  vouchedPeer,
} from "../support/peer-proofs.ts"
import { now } from "../unit/evidence-support.ts"
import { machine, quantile } from "./machine.ts"

export interface PeerCost {
  readonly peers: number
  readonly leaves: number
  /** Of one peer's result and Evidence; of what peers of one batch share. */
  readonly proof_bytes: number
  readonly control_bytes: number
  /** One peer, its machine's certificates new and known: hosts of clouds give the same chain with every report. */
  readonly cpu_ms: { readonly first: number; readonly again: number }
  /** What peers of one batch share, once. */
  readonly control_cpu_ms: number
}

const cpuMs = (run: () => void): number => {
  const before = process.threadCpuUsage()
  run()
  const { user, system } = process.threadCpuUsage(before)
  return (user + system) / 1_000
}

const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

const CONTROLS = 50

/** @param peers each with a chip of its own, all under one control plane's Evidence together with the asking node */
export const measurePeers = (peers: number): PeerCost => {
  const root = createEmulatedRoot({ now })
  const chips: EmulatedChip[] = Array.from({ length: peers + 1 }, () => createEmulatedChip(root, { now }))
  const workflow = peerWorkflow(root, chips)
  const nonce = crypto.randomBytes(32)
  const leaves = [leafOf("n1", nonce), ...chips.slice(1).map((_, i) => leafOf(`n${i + 2}`, filled(32, i)))]
  // Peers attest again: the second time their certificates are known.
  const say = (): readonly PeerSaid[] =>
    chips.slice(1).map((chip, i) => vouchedPeer(workflow, `n${i + 2}`, chip, { leaves }))
  const rounds = [say(), say(), say(), say(), say()] as const
  const nonces = new OwnNonces(crypto, "n1")
  nonces.made(nonce, 1n)
  const [warmingUp, lasting] = [1, 2].map(() => appraiserOf(workflow, "n1", { nonces }))
  /** One that has met nobody yet for each of the first two rounds; then it has met all. */
  const appraiser = (round: number) =>
    (round === 0 ? warmingUp : lasting) ?? appraiserOf(workflow, "n1", { nonces })
  const [example] = rounds[0]
  if (example === undefined) throw new RangeError("at least one peer")

  const control = () => openControlProof(crypto, example.control, example.evidence.claims.control)
  const hashed = control()
  const controlMs = cpuMs(() => {
    for (let i = 0; i < CONTROLS; i++) control()
  })
  // By the round: the clock of a thread's CPU is coarse. The first round of all compiles the code.
  const costs = rounds.map((round, i) =>
    cpuMs(() => {
      for (const { wanted, proof } of round)
        appraisePeer(appraiser(i), readPeerProof(crypto, wanted, proof), hashed, now, BigInt(2 + i))
    }),
  )
  const [, first = 0, ...again] = costs
  return {
    peers,
    leaves: leaves.length,
    proof_bytes: example.proof.length,
    control_bytes: example.control.length,
    cpu_ms: { first: first / peers, again: quantile(again, 0.5) / peers },
    control_cpu_ms: controlMs / CONTROLS,
  }
}

export const benchPeerEvidence = async (args: readonly string[]): Promise<void> => {
  const { values } = parseArgs({
    args: [...args],
    options: { json: { type: "boolean" }, peers: { type: "string", default: "99" } },
  })
  const peers = Number(values.peers)
  if (!Number.isInteger(peers) || peers < 1 || peers > 255) throw new RangeError("--peers: 1 to 255")
  const cost = measurePeers(peers)
  if (values.json === true) {
    process.stdout.write(`${JSON.stringify({ ...machine(), ...cost })}\n`)
    return
  }
  const { cpu_ms: cpu } = cost
  process.stdout.write(
    `${peers} peers by Evidence, emulated SNP, one thread:\n` +
      `  each peer     ${cpu.first.toFixed(2)} ms CPU at first, ${cpu.again.toFixed(2)} ms again, ` +
      `${cost.proof_bytes} bytes\n` +
      `  each batch    ${cost.control_cpu_ms.toFixed(2)} ms CPU, ${cost.control_bytes} bytes for ${cost.leaves} leaves\n` +
      `  all of them   ${(peers * cpu.again).toFixed(0)} ms CPU, ${((peers * cost.proof_bytes + cost.control_bytes) / 1e6).toFixed(2)} MB\n`,
  )
}
