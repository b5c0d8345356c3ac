/**
 * Two nodes in this process: real planes in real namespaces, and between them the cores that decide, the releaser's and
 * each node's, without a bus. Time is what it is.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { BPFFS, ensureBpffs, removePins } from "../../services/common/kernel/bpffs.ts"
import { bootNow } from "../../services/common/kernel/clock.ts"
import { macOf } from "../../services/common/kernel/netdev.ts"
import { parseIpv4 } from "../../services/common/kernel/records.ts"
import { openPlane, type Plane } from "../../services/dataplane-loader/dataplane/plane.ts"
import { carryOut, type Failure } from "../../services/dataplane-loader/kernel-actions.ts"
import { edgeId, type Rules } from "../../services/dataplane-loader/rules.ts"
import type { Workflow } from "../../services/make/edges.ts"
import type { NodeState } from "../../services/make/node-state.ts"
import type { ReleaserOutput } from "../../services/make/releaser.ts"
import { realObject } from "../kernel/compile.ts"
import { makePair, type TestNode } from "../kernel/namespace.ts"
import {
  type Attested,
  attest,
  crypto,
  eventsIn,
  workflow as example,
  newNode,
  newReleaser,
  opened,
  releasesIn,
  vouch,
} from "../support/make-lab.ts"

const IDS = ["alpha", "beta"] as const
const LANES = 2
const LEASE_MS = 60_000
export const UDP_PORT = 7_001
const TCP_PORT = 7_002

/** alpha sends to beta: datagrams by one edge, a bulk transfer by another. */
const workflow: Workflow = {
  ...example,
  nodes: example.nodes
    .slice(0, 2)
    .map((node, i) => ({ ...node, address: `10.77.0.${i + 1}`, wire: `192.0.2.${i + 1}` })),
  edges: [
    { id: "datagrams", from: "source", to: "transform", protocol: "udp", port: UDP_PORT, lanes: LANES },
    { id: "bulk", from: "source", to: "transform", protocol: "tcp", port: TCP_PORT, lanes: LANES },
  ],
}
const PROTOCOL: Readonly<Record<string, number>> = { udp: 17, tcp: 6 }

interface Member {
  readonly id: string
  readonly space: TestNode
  readonly rules: Rules
  plane: Plane
  attested: Attested
  core: NodeState
}

export interface Pair {
  readonly members: readonly [Member, Member]
  /** New keys for both edges, from the first message until the old ones are gone; leases are renewed in time. */
  rotate(): Promise<void>
  /**
   * Another version of the document: a new term that begins with nothing, while each node takes it up when it hears of it,
   * proves itself anew, and goes on with what its kernel holds until new keys serve.
   * @param pauseMs between the two nodes
   */
  newDocument(pauseMs: number): Promise<void>
  /** Opens a member's plane again, with this object. */
  reopen(index: 0 | 1, object: string): Plane
  /** Verdicts that ended packets, of both planes. */
  drops(): Readonly<Record<string, number>>
  readonly events: string[]
  readonly failures: Failure[]
  end(): void
}

const nowMs = (): number => performance.now()
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const PASSING = new Set(["SEALED", "OPENED", "NEIGHBOUR", "CONTROL", "SEALED_OUT", "DELIVERED", "NOTIFIED"])

const rulesOf = (core: NodeState, peer: 0 | 1): Rules => {
  const peerInner = parseIpv4(`10.77.0.${peer + 1}`)
  const edges = [...core.edges.values()].map((edge, index) => ({
    edge,
    record: {
      index,
      id: edgeId(crypto, edge.id),
      peerInner,
      peerWire: parseIpv4(`192.0.2.${peer + 1}`),
      peerPort: 4_500,
      lanes: edge.lanes,
      mtu: 1_500,
    },
    policies: [
      {
        edge: index,
        flags: 0,
        peer: peerInner,
        port: edge.port ?? 0,
        protocol: PROTOCOL[edge.protocol] ?? 0,
        role: edge.role === "initiator" ? (0 as const) : (1 as const),
      },
    ],
  }))
  return { edges } as unknown as Rules
}

let made = 0

/** @param graceMs how long old keys still receive after both ends have switched */
export const makeLivingPair = async (graceMs: number): Promise<Pair> => {
  ensureBpffs()
  const root = join(BPFFS, `vspair-${process.pid}-${made++}`)
  mkdirSync(root)
  const spaces = makePair()
  // The kernel's own IPv6 chatter would be counted as dropped.
  for (const { wire, app } of spaces)
    for (const space of [wire, app])
      space.inside(() => {
        for (const which of ["all", "default"])
          writeFileSync(`/proc/sys/net/ipv6/conf/${which}/disable_ipv6`, "1")
      })
  let document = workflow
  let releaser = newReleaser({ workflow, graceMs, leaseMs: LEASE_MS })
  const events: string[] = []
  const failures: Failure[] = []
  const openOf = (index: 0 | 1, object: string): Plane =>
    spaces[index].wire.inside(() =>
      openPlane({ pins: join(root, `node${index}`), object, wire: "wire0", inner: "m1", upgrade: true }),
    )
  const begin = (index: 0 | 1): Member => {
    const id = IDS[index]
    const attested = attest(id, releaser.beacon(nowMs()))
    const core = newNode(attested, { workflow })
    core.followTerm(releaser.term)
    const rules = rulesOf(core, index === 0 ? 1 : 0)
    const plane = openOf(index, realObject)
    plane.configure({
      innerAddress: parseIpv4(`10.77.0.${index + 1}`),
      wireAddress: parseIpv4(`192.0.2.${index + 1}`),
      busAddress: parseIpv4("192.0.2.200"),
      busPort: 4_222,
      espPort: 4_500,
      innerMac: spaces[index].app.inside(() => macOf("m0")),
    })
    plane.setEdges({
      edges: rules.edges.map(({ record }) => record),
      policies: rules.edges.flatMap(({ policies }) => policies),
    })
    return { id, space: spaces[index], rules, plane, attested, core }
  }
  const members = [begin(0), begin(1)] as const
  const memberOf = (id: string): Member => (id === "alpha" ? members[0] : members[1])

  const take = (member: Member, outputs: ReadonlyArray<ReleaserOutput>): ReadonlyArray<ReleaserOutput> =>
    releasesIn(outputs)
      .filter(({ node }) => node === member.id)
      .flatMap((output) => {
        const actions = member.core.accept(opened(output), vouch)
        failures.push(...carryOut(member.plane, member.rules, actions))
        const ack = member.core.acknowledgement()
        return ack === undefined ? [] : releaser.ack(ack, nowMs())
      })

  /** Lets the cores say what they have to say until nobody has anything to add. */
  const exchange = async (first: ReadonlyArray<ReleaserOutput>): Promise<void> => {
    for (let outputs = first; outputs.length > 0; ) {
      events.push(...eventsIn(outputs))
      // Now one end is first, now the other, and the second a while later.
      const order = Math.random() < 0.5 ? IDS : [...IDS].reverse()
      const answers: ReleaserOutput[] = []
      for (const id of order) {
        answers.push(...take(memberOf(id), outputs))
        await sleep(Math.random() * 10)
      }
      outputs = answers
    }
  }
  let renewedMs = 0
  const renew = async (): Promise<void> => {
    renewedMs = nowMs()
    for (const { id, core, attested } of members) {
      const outputs = releaser.pull(
        {
          node: id,
          session: attested.result.claims.session,
          nonce: core.ask(bootNow()),
          kem_key: attested.kemSecret.publicKey,
        },
        nowMs(),
      )
      await exchange(outputs)
    }
  }
  for (const { attested } of members) await exchange(releaser.accept(attested.result, nowMs()))
  await renew()

  const closeAll = (): void => {
    for (const { plane, space } of members) space.wire.inside(() => plane.teardown())
    for (const { wire, app } of spaces) {
      app.remove()
      wire.remove()
    }
    removePins(root)
  }
  return {
    members,
    rotate: async () => {
      if (nowMs() - renewedMs > LEASE_MS / 4) await renew()
      await exchange(releaser.rotate(undefined, nowMs()))
      await sleep(graceMs)
      // The old ones go when their time has come, not with a message.
      await exchange(releaser.tick(nowMs()))
    },
    newDocument: async (pauseMs) => {
      document = { ...document, version: document.version + 1, digest: crypto.sha256(document.digest) }
      releaser = newReleaser({
        workflow: document,
        graceMs,
        leaseMs: LEASE_MS,
        term: releaser.term + 1n,
      })
      for (const member of members) {
        const { edges } = member.rules
        member.plane.setEdges({
          edges: edges.map(({ record }) => record),
          policies: edges.flatMap(({ policies }) => policies),
        })
        member.attested = attest(member.id, releaser.beacon(nowMs()), { workflow: document.digest })
        const { held, memory } = member.core
        member.core = newNode(member.attested, { workflow: document, held, memory })
        member.core.followTerm(releaser.term)
        await exchange(releaser.accept(member.attested.result, nowMs()))
        await sleep(pauseMs)
      }
      await renew()
    },
    reopen: (index, object) => {
      members[index].plane.close()
      members[index].plane = openOf(index, object)
      return members[index].plane
    },
    drops: () => {
      const sum: Record<string, number> = {}
      for (const { plane } of members)
        for (const [name, count] of Object.entries(plane.counters().verdicts))
          if (!PASSING.has(name) && count > 0n) sum[name] = (sum[name] ?? 0) + Number(count)
      return sum
    },
    events,
    failures,
    end: closeAll,
  }
}

const STREAM = fileURLToPath(new URL("stream.ts", import.meta.url))

export interface Streams {
  /** Ends both and gives what the four processes say. */
  stop(): Promise<{
    readonly udp: { sent: number; stalls: number }
    readonly got: { datagrams: number; distinct: number; highest: number; longest_gap_ms: number }
    readonly tcp: { bytes: number; error: number }
    readonly arrived: { bytes: number; error: number }
  }>
}

/** A numbered stream and a bulk transfer from the first node to the second, each as fast as it gets answers. */
export const startStreams = async ([first, second]: Pair["members"]): Promise<Streams> => {
  const directory = mkdtempSync(join(tmpdir(), "vsstream-"))
  const stopFile = join(directory, "stop")
  const start = (member: Member, mode: string, port: number) => {
    const args = [STREAM, mode, "10.77.0.2", String(port), stopFile]
    const child: ChildProcess = member.space.app.inside(() =>
      // Below this process in rank: the cores that rotate must get their turn beside applications that take all there is.
      spawn("nice", ["-n", "19", process.execPath, ...args], { stdio: ["ignore", "pipe", "pipe"] }),
    )
    let [text, said] = ["", ""]
    child.stdout?.on("data", (chunk) => {
      text += String(chunk)
    })
    const ready = new Promise<void>((resolve) => {
      child.stderr?.on("data", (chunk) => {
        said += String(chunk)
        if (said.includes("ready")) resolve()
      })
      child.once("exit", () => resolve())
    })
    const ended = new Promise<unknown>((resolve, reject) => {
      child.once("exit", (code, signal) => {
        if (code === 0) resolve(JSON.parse(text))
        else reject(new Error(`${mode} ended with ${code ?? signal}: ${said}`))
      })
    })
    ended.catch(() => undefined)
    return { child, ready, ended }
  }
  const receivers = [start(second, "udp-receive", UDP_PORT), start(second, "tcp-receive", TCP_PORT)] as const
  await Promise.all(receivers.map(({ ready }) => ready))
  const senders = [start(first, "udp-send", UDP_PORT), start(first, "tcp-send", TCP_PORT)] as const
  const all = [...senders, ...receivers]
  return {
    stop: async () => {
      writeFileSync(stopFile, "")
      const clock = setTimeout(() => {
        for (const { child } of all) child.kill("SIGKILL")
      }, 30_000)
      try {
        const [udp, tcp, got, arrived] = await Promise.all(all.map(({ ended }) => ended))
        return { udp, tcp, got, arrived } as Awaited<ReturnType<Streams["stop"]>>
      } finally {
        clearTimeout(clock)
        rmSync(directory, { recursive: true })
      }
    },
  }
}
