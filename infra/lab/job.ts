/** What the lab is there to show: nodes attested, one refused, an intruder ignored, real data through the workflow. */
import { fileURLToPath } from "node:url"
import {
  activeEdges,
  addDrops,
  collectDropsByNode,
  trafficFingerprint,
  wasAccepted,
  wasRefused,
} from "./collect.ts"
import { PACKED_PORT, RAW_PORT } from "./domain.ts"
import { plain, sealedLooking } from "./intruder.ts"
import type { Lab } from "./lab.ts"
import { choosePayload, type PipelineResult, runPipeline } from "./pipeline.ts"
import type { Seen } from "./watch.ts"

/** Long enough for a slow machine; a healthy one needs a tenth. */
const ATTEST_MS = 60_000
const RELEASE_MS = 30_000
const COUNT_MS = 10_000

/** Edge instances that must get keys: all between nodes that are accepted. */
export const wantedEdges = (
  lab: Lab,
): ReadonlyArray<{ readonly id: string; readonly from: string; readonly to: string }> =>
  lab.workflow.edges.flatMap(({ id, from, to }) => {
    const of = (stage: string) => lab.nodes.filter((n) => n.stage === stage && !lab.tampered.has(n.id))
    return of(from).flatMap((a) => of(to).map((b) => ({ id, from: a.id, to: b.id })))
  })

export interface Milestones {
  /** Milliseconds of the Unix clock. */
  readonly attested: number
  readonly released: number
}

/** Waits until every node has its verdict and every edge its keys. */
export const untilReleased = async (lab: Lab): Promise<Milestones> => {
  const genuine = lab.nodes.filter(({ id }) => !lab.tampered.has(id))
  const unanswered = (seen: Seen): string[] => [
    ...genuine.filter(({ id }) => wasAccepted(seen, id) === undefined).map(({ id }) => id),
    ...[...lab.tampered].filter((id) => wasRefused(seen, id) === undefined),
  ]
  await lab.watch.until(
    () => `a verdict about ${unanswered(lab.watch).join(", ")}`,
    ATTEST_MS,
    (seen) => (unanswered(seen).length === 0 ? true : undefined),
  )
  const attested = Math.max(...genuine.map(({ id }) => wasAccepted(lab.watch, id)?.at ?? 0))
  const wanted = wantedEdges(lab).map(({ id, from, to }) => `${id}:${from}:${to}`)
  const keyless = (seen: Seen): string[] => {
    const active = activeEdges(seen)
    return wanted.filter((instance) => !active.has(instance))
  }
  await lab.watch.until(
    () => `keys for ${keyless(lab.watch).join(", ")}`,
    RELEASE_MS,
    (seen) => (keyless(seen).length === 0 ? true : undefined),
  )
  const activated = lab.watch.events
    .filter(({ event }) => event.type === "vouchsafe.edge.active")
    .map(({ at }) => at)
  return { attested, released: activated.length > 0 ? Math.max(...activated) : Date.now() }
}

export interface Intrusion {
  readonly sealed_looking: number
  readonly plain: number
}

const FRAMES_PER_TARGET = 5

/** The refused node's owner, who is root there, goes past its guard and sends to all others. Waits until they have counted it. */
export const intrude = async (lab: Lab): Promise<Intrusion> => {
  const [from] = lab.tampered
  if (from === undefined) return { sealed_looking: 0, plain: 0 }
  const sender = lab.place(from)
  const targets = lab.nodes.filter(({ id }) => !lab.tampered.has(id))
  const frames: Buffer[] = []
  for (const target of targets) {
    for (let i = 0; i < FRAMES_PER_TARGET; i++) {
      frames.push(sealedLooking(sender, target, 0x0bad_0000 + i, lab.tag))
      frames.push(plain(sender, target, RAW_PORT, lab.tag))
    }
  }
  const each = targets.length * FRAMES_PER_TARGET
  const before = addDrops(collectDropsByNode(lab.watch))
  lab.exec(lab.names.netns(sender.wireNs), [
    process.execPath,
    fileURLToPath(new URL("intruder-main.ts", import.meta.url)),
    "wire0",
    ...frames.map((frame) => frame.toString("hex")),
  ])
  await lab.watch
    .until(
      () => "the intruder's frames in the nodes' counters",
      COUNT_MS,
      (seen) => {
        const now = addDrops(collectDropsByNode(seen))
        const grown = (name: string): number => (now[name] ?? 0) - (before[name] ?? 0)
        return grown("UNKNOWN_SPI") >= each && grown("FOREIGN_IN") >= each ? true : undefined
      },
    )
    // That they were not counted is a finding of the summary, which says it better.
    .catch(() => undefined)
  return { sealed_looking: each, plain: each }
}

/** Moves the payload through the workflow and waits until the nodes' counters stand still. */
export const moveData = async (
  lab: Lab,
  netcat: string,
): Promise<PipelineResult & { readonly began: number }> => {
  const nodeOf = (stage: string): string => {
    const node = lab.nodes.find((n) => n.stage === stage && !lab.tampered.has(n.id))
    if (node === undefined) throw new Error(`no node takes the stage ${stage}`)
    return node.id
  }
  const place = (stage: string) => {
    const id = nodeOf(stage)
    const { address, address6 } = lab.place(id)
    // One edge by each family, whatever the wire speaks.
    return { netns: lab.appNetns(id), address: stage === "sink" ? address6 : address }
  }
  const payload = choosePayload(lab.names.directory, lab.marker)
  const began = Date.now()
  const result = await runPipeline({
    processes: lab.processes,
    directory: lab.names.directory,
    netcat,
    payload,
    source: place("source"),
    transform: place("transform"),
    sink: place("sink"),
    rawPort: RAW_PORT,
    packedPort: PACKED_PORT,
  })
  await untilCounted(lab)
  return { ...result, began }
}

/** Statistics of what goes on come every two seconds: when a bit more brings nothing new, all is in. */
const QUIET_MS = 2_800

const untilCounted = async (lab: Lab): Promise<void> => {
  let last = trafficFingerprint(lab.watch)
  let since = performance.now()
  await lab.watch
    .until(
      () => "counters that stand still",
      COUNT_MS,
      (seen) => {
        const now = trafficFingerprint(seen)
        if (now !== last) {
          last = now
          since = performance.now()
        }
        return performance.now() - since > QUIET_MS ? true : undefined
      },
    )
    .catch(() => undefined)
}
