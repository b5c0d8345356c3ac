/** Commands that go over the bus as the operator: apply and show the workflow, read events, watch nodes. */
import { Effect, Logger } from "effect"
import type { EdgeStats, Stats } from "../../schemas/messages/stats.ts"
import { verdicts } from "../../schemas/verdicts.ts"
import { Bus, busConfig } from "../common/bus/bus.ts"
import type { StoredEvent } from "../common/bus/types.ts"
import { crypto } from "../common/crypto/index.ts"
import { toHex } from "../common/hex.ts"
import { workflowDigest } from "../make/transcript.ts"
import { parseWorkflow, workflowSigningBytes } from "../make/workflow-document.ts"
import { readDocument } from "./document-file.ts"
import { warnOfEarlierEnd } from "./earlier-end.ts"
import { readOperatorKey } from "./operator-key.ts"
import type { Output } from "./output.ts"

/** Runs with a connection as `operator-<VOUCHSAFE_INSTANCE>`; the settings come from the environment. */
export const onBus = <A, E>(
  run: (bus: Bus["Service"]) => Effect.Effect<A, E, import("effect").Scope.Scope>,
): Promise<A> =>
  Effect.runPromise(
    Effect.gen(function* () {
      const settings = yield* busConfig("operator")
      return yield* Effect.scoped(Effect.flatMap(Bus, run)).pipe(Effect.provide(Bus.layer(settings)))
    }).pipe(Effect.provide(Logger.layer([]))),
  )

/** Signs the file's bytes and stores them where every guest of the domain looks. */
export const applyWorkflow = async (out: Output, path: string, keyPath: string): Promise<void> => {
  const document = readDocument(path)
  const parsed = parseWorkflow(new TextDecoder().decode(document))
  using key = readOperatorKey(crypto, keyPath)
  const signature = crypto.ed25519.sign(workflowSigningBytes(document), key)
  const signed = { v: 1 as const, document, signatures: [{ key: key.publicKey, signature }] }
  const revision = await onBus((bus) =>
    bus.ensureStreams.pipe(
      Effect.andThen(warnOfEarlierEnd(bus, parsed)),
      Effect.andThen(bus.workflows.put(parsed.domain, signed)),
    ),
  )
  const digest = toHex(workflowDigest(crypto, document))
  out.result({ workflow: parsed.workflow, version: parsed.version, digest, revision }, [
    `${parsed.workflow} version ${parsed.version} is signed and applied (digest ${digest.slice(0, 16)}...).`,
    "Guests say so in events of type vouchsafe.workflow.applied, or why they refuse it.",
  ])
}

const BATCH = 256
const POLL_MS = 300

const line = ({ sequence, identity, event }: StoredEvent): string => {
  const { code, field, message, edge, epoch, stage } = event.data
  const what = event.type.replace("vouchsafe.", "")
  const details = [
    event.subject,
    stage,
    event.data.emulated === true ? "EMULATED" : undefined,
    edge === event.subject ? undefined : edge,
    epoch === undefined ? undefined : `epoch ${epoch}`,
    code === undefined ? undefined : `${code}${field ? ` (${field})` : ""}`,
    message,
  ]
  return `${String(sequence).padStart(6)}  ${event.time}  ${identity.padEnd(14)} ${what.padEnd(22)} ${details.filter((d) => d !== undefined).join("  ")}`
}

/** Prints stored events, oldest first; with `follow` it goes on until interrupted. */
export const showEvents = (out: Output, options: { after: number; follow: boolean }): Promise<void> =>
  onBus((bus) =>
    Effect.gen(function* () {
      let after = options.after
      for (;;) {
        const found = yield* bus.history({ after, most: BATCH })
        for (const stored of found) {
          out.item(stored, line(stored))
          after = stored.sequence
        }
        if (found.length === BATCH) continue
        if (!options.follow) return
        yield* Effect.sleep(POLL_MS)
      }
    }),
  )

/** Longer than the interval in which every loader publishes, loaded machines included. */
const LISTEN_MS = 2_700

const passing = new Set(verdicts.filter(({ outcome }) => outcome === "pass").map(({ name }) => name))

const countsOf = (counts: Stats["verdicts"]): string =>
  Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ")

const edgeLines = (edge: EdgeStats): ReadonlyArray<string> => [
  `  ${edge.instance.padEnd(28)} ${edge.state.padEnd(8)} epoch ${edge.term}.${edge.epoch}  lease ${(edge.lease_left_ms / 1000).toFixed(1)} s  sealed ${edge.sealed_packets}  opened ${edge.opened_packets}`,
  ...(Object.keys(edge.drops).length === 0 ? [] : [`    drops of it: ${countsOf(edge.drops)}`]),
]

/** A node's state, its edges, and what was dropped: of each edge where that was known, and in all. */
export const statusLines = (stats: ReadonlyArray<Stats>): ReadonlyArray<string> =>
  stats.flatMap((node) => {
    const drops = Object.fromEntries(
      Object.entries(node.verdicts).filter(([name, count]) => count > 0 && !passing.has(name)),
    )
    return [
      `${node.node.padEnd(12)} ${node.stage.padEnd(14)} ${node.state.padEnd(10)} ${node.backend}  data plane ${node.dataplane.slice(0, 12)}`,
      ...node.edges.flatMap(edgeLines),
      ...(Object.keys(drops).length === 0 ? [] : [`  drops: ${countsOf(drops)}`]),
    ]
  })

/** Listens long enough to hear every loader and prints the newest of each. */
export const showStatus = async (out: Output): Promise<void> => {
  const stats = await onBus((bus) =>
    Effect.gen(function* () {
      const heard = new Map<string, Stats>()
      yield* bus.subscribe("stats", {}, (one) => Effect.sync(() => heard.set(one.node, one)))
      yield* Effect.sleep(LISTEN_MS)
      return [...heard.values()].sort((a, b) => (a.node < b.node ? -1 : 1))
    }),
  )
  out.result(
    stats,
    stats.length === 0 ? ["No loader was heard: is any running on this bus?"] : statusLines(stats),
  )
}
