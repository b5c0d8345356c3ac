/**
 * What the node tells on the bus, as Prometheus reads it (text format 0.0.4): counters, times and epochs, nothing secret.
 * Served on one address by request only. In the wire's namespace the guard lets nobody reach it from outside.
 */
import { createServer, type ServerResponse } from "node:http"
import { isIPv6 } from "node:net"
import { Config, ConfigProvider, Effect } from "effect"
import type { EdgeStats, Stats } from "../../schemas/messages/stats.ts"
import { verdicts } from "../../schemas/verdicts.ts"

export interface MetricsAddress {
  readonly host: string
  readonly port: number
}

/** ADDRESS:PORT, an IPv6 address in brackets. Undefined for anything else, names included. */
export const readMetricsAddress = (text: string): MetricsAddress | undefined => {
  const [, four, six, digits = ""] =
    /^(?:(\d{1,3}(?:\.\d{1,3}){3})|\[([0-9a-f:.]+)\]):(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (port < 1 || port > 65_535) return undefined
  if (four?.split(".").every((part) => Number(part) <= 255)) return { host: four, port }
  return six !== undefined && isIPv6(six) ? { host: six, port } : undefined
}

export const metricsConfig = Config.String("VOUCHSAFE_METRICS").pipe(
  Config.withDefault(""),
  Config.mapEffect((text): Effect.Effect<MetricsAddress | undefined, Config.ConfigError> => {
    const found = readMetricsAddress(text)
    if (found !== undefined || text === "") return Effect.succeed(found)
    const message = "VOUCHSAFE_METRICS: is not an address and a port, such as 127.0.0.1:9464 or [::1]:9464"
    return Effect.fail(new Config.ConfigError(new ConfigProvider.SourceError({ message })))
  }),
)

type Labels = Readonly<Record<string, string>>
type Sample = readonly [labels: Labels, value: number | bigint]

/** A label's value: quoted, with the three characters escaped that the format has a meaning for. */
const quoted = (text: string): string =>
  `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n")}"`

const line = (name: string, [labels, value]: Sample): string => {
  const texts = Object.entries(labels).map(([label, text]) => `${label}=${quoted(text)}`)
  return `${name}${texts.length === 0 ? "" : `{${texts.join(",")}}`} ${value}`
}

interface Metric {
  readonly name: string
  readonly type: "counter" | "gauge"
  readonly help: string
  readonly samples: (stats: Stats) => ReadonlyArray<Sample>
}

const labelsOf = ({ instance, peer, role }: EdgeStats): Labels => ({ edge: instance, peer, role })

const byEdge =
  (value: (edge: EdgeStats) => number | bigint) =>
  ({ edges }: Stats): ReadonlyArray<Sample> =>
    edges.map((edge) => [labelsOf(edge), value(edge)])

const STATES = ["denied", "attesting", "refused", "accepted", "released", "tampered"] as const

/** Labels are bounded: edges and peers by the workflow, verdicts by their table. */
export const metrics: ReadonlyArray<Metric> = [
  {
    name: "vouchsafe_info",
    type: "gauge",
    help: "What this node runs; always 1.",
    samples: ({ node, stage, backend, dataplane }) => [[{ node, stage, backend, dataplane }, 1]],
  },
  {
    name: "vouchsafe_state",
    type: "gauge",
    help: "1 for the state that the node is in, 0 for the others.",
    samples: ({ state }) => STATES.map((one) => [{ state: one }, one === state ? 1 : 0]),
  },
  {
    name: "vouchsafe_packets_total",
    type: "counter",
    help: "Packets by the verdict that each program gave them.",
    samples: ({ verdicts: counted }) =>
      verdicts.map(({ name, outcome }) => [{ verdict: name, outcome }, counted[name] ?? 0]),
  },
  {
    name: "vouchsafe_edge_sealed_packets_total",
    type: "counter",
    help: "Packets of the edge that were sealed and sent.",
    samples: byEdge((edge) => edge.sealed_packets),
  },
  {
    name: "vouchsafe_edge_sealed_bytes_total",
    type: "counter",
    help: "Bytes of inner IP packets that were sealed and sent.",
    samples: byEdge((edge) => edge.sealed_bytes),
  },
  {
    name: "vouchsafe_edge_opened_packets_total",
    type: "counter",
    help: "Packets of the edge that were authentic, new and allowed.",
    samples: byEdge((edge) => edge.opened_packets),
  },
  {
    name: "vouchsafe_edge_opened_bytes_total",
    type: "counter",
    help: "Bytes of inner IP packets that were authentic, new and allowed.",
    samples: byEdge((edge) => edge.opened_bytes),
  },
  {
    name: "vouchsafe_edge_dropped_packets_total",
    type: "counter",
    help: "Packets known to be the edge's that were dropped, by verdict; an inbound one before it is authentic by its SPI.",
    samples: ({ edges }) =>
      edges.flatMap((edge) =>
        Object.entries(edge.drops).map(([verdict, count]): Sample => [{ ...labelsOf(edge), verdict }, count]),
      ),
  },
  {
    name: "vouchsafe_edge_rekeys_total",
    type: "counter",
    help: "How often the edge switched to new keys since the loader started.",
    samples: byEdge((edge) => edge.rekeys),
  },
  {
    name: "vouchsafe_edge_active",
    type: "gauge",
    help: "1 while the edge sends under keys that both ends have confirmed.",
    samples: byEdge((edge) => (edge.state === "active" ? 1 : 0)),
  },
  {
    name: "vouchsafe_edge_term",
    type: "gauge",
    help: "Term of the keys in use, 0 without any.",
    samples: byEdge((edge) => edge.term),
  },
  {
    name: "vouchsafe_edge_epoch",
    type: "gauge",
    help: "Epoch of the keys in use within the term, 0 without any.",
    samples: byEdge((edge) => edge.epoch),
  },
  {
    name: "vouchsafe_edge_lease_seconds",
    type: "gauge",
    help: "Seconds until the keys in use stop by themselves, unless they are renewed.",
    samples: byEdge((edge) => edge.lease_left_ms / 1_000),
  },
]

export const metricsText = (stats: Stats): string =>
  metrics
    .flatMap(({ name, type, help, samples }) => [
      `# HELP ${name} ${help}`,
      `# TYPE ${name} ${type}`,
      ...samples(stats).map((sample) => line(name, sample)),
    ])
    .join("\n")
    .concat("\n")

/** A kernel that doesn't give its counters at the moment is no reason to end. */
const answer = (response: ServerResponse, stats: () => Stats): void => {
  try {
    const text = metricsText(stats())
    response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" }).end(text)
  } catch {
    response.writeHead(503).end()
  }
}

const CONNECTIONS_MAX = 8
const TIMEOUT_MS = 5_000

/** Answers `GET /metrics` on this address, and nothing else, until the scope closes. */
export const serveMetrics = ({ host, port }: MetricsAddress, stats: () => Stats) =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer((request, response) => {
        request.resume()
        if (request.url !== "/metrics") response.writeHead(404).end()
        else if (request.method !== "GET") response.writeHead(405, { allow: "GET" }).end()
        else answer(response, stats)
      })
      server.maxConnections = CONNECTIONS_MAX
      server.requestTimeout = TIMEOUT_MS
      server.headersTimeout = TIMEOUT_MS
      server.keepAliveTimeout = TIMEOUT_MS
      server.once("error", (error) => resume(Effect.die(error)))
      server.listen({ host, port, exclusive: true }, () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      }),
  )
