/** The text that Prometheus reads, and the server that gives it to nobody who asks otherwise. */
import { Effect } from "effect"
import { expect, test } from "vitest"
import { messages } from "../../schemas/generate/messages.ts"
import type { Stats } from "../../schemas/messages/stats.ts"
import { verdicts } from "../../schemas/verdicts.ts"
import { statusLines } from "../../services/cli/bus-commands.ts"
import {
  metrics,
  metricsText,
  readMetricsAddress,
  serveMetrics,
} from "../../services/dataplane-loader/metrics.ts"

const stats = messages.stats.example as Stats
const text = metricsText(stats)

test("every line is a comment, or a name, labels and a number", () => {
  for (const line of text.trimEnd().split("\n"))
    expect(line).toMatch(
      /^(# (HELP|TYPE) vouchsafe_\w+ .+|vouchsafe_\w+(\{\w+="[^"\n]*"(,\w+="[^"\n]*")*\})? \d+(\.\d+)?)$/,
    )
  expect(text.endsWith("\n")).toBe(true)
})

test("every metric is announced once, and counters end as counters do", () => {
  const names = metrics.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  for (const { name, type } of metrics) expect(name.endsWith("_total")).toBe(type === "counter")
})

test("each verdict of the table has its line, also one that was never given", () => {
  for (const { name, outcome } of verdicts)
    expect(text).toContain(
      `vouchsafe_packets_total{verdict="${name}",outcome="${outcome}"} ${stats.verdicts[name] ?? 0}\n`,
    )
})

test("each edge has its counters, epoch and lease", () => {
  const [edge] = stats.edges
  const labels = `{edge="${edge?.instance}",peer="${edge?.peer}",role="${edge?.role}"}`
  expect(text).toContain(`vouchsafe_edge_rekeys_total${labels} ${edge?.rekeys}\n`)
  expect(text).toContain(`vouchsafe_edge_lease_seconds${labels} ${(edge?.lease_left_ms ?? 0) / 1_000}\n`)
  expect(text).toContain(`vouchsafe_edge_epoch${labels} ${edge?.epoch}\n`)
  const dropped = `${labels.slice(0, -1)},verdict="REPLAYED"}`
  expect(text).toContain(`vouchsafe_edge_dropped_packets_total${dropped} ${edge?.drops.REPLAYED}\n`)
})

test("`vouchsafe status` shows what was dropped of each edge, and of the node", () => {
  const lines = statusLines([{ ...stats, verdicts: { SEALED: 5, REPLAYED: 2, NO_POLICY: 3, BAD_TAG: 0 } }])
  expect(lines).toContain("    drops of it: REPLAYED 2")
  expect(lines).toContain("  drops: REPLAYED 2, NO_POLICY 3")
  const quiet = statusLines([
    { ...stats, edges: stats.edges.map((edge) => ({ ...edge, drops: {} })), verdicts: {} },
  ])
  expect(quiet.filter((line) => line.includes("drops"))).toEqual([])
})

test("a label can't break out of its line", () => {
  expect(metricsText({ ...stats, stage: 'a"} 1\nb\\' })).toContain('stage="a\\"} 1\\nb\\\\"')
})

test.each([
  ["127.0.0.1:9464", { host: "127.0.0.1", port: 9464 }],
  ["[::1]:80", { host: "::1", port: 80 }],
  ["localhost:9464", undefined],
  [":9464", undefined],
  ["127.0.0.1", undefined],
  ["127.0.0.1:0", undefined],
  ["127.0.0.1:70000", undefined],
  ["300.0.0.1:80", undefined],
  ["[::1", undefined],
])("%s", (given, wanted) => {
  expect(readMetricsAddress(given)).toEqual(wanted)
})

test("the server answers GET /metrics on its one address, and ends with its scope", async () => {
  const at = { host: "127.0.0.1", port: 20_000 + (process.pid % 20_000) }
  const url = `http://${at.host}:${at.port}`
  await Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        let broken = false
        yield* serveMetrics(at, () => {
          if (broken) throw new Error("no counters now")
          return stats
        })
        yield* Effect.promise(async () => {
          const answer = await fetch(`${url}/metrics`)
          expect([answer.status, answer.headers.get("content-type")]).toEqual([
            200,
            "text/plain; version=0.0.4; charset=utf-8",
          ])
          expect(await answer.text()).toBe(text)
          expect((await fetch(`${url}/`)).status).toBe(404)
          expect((await fetch(`${url}/metrics?x`)).status).toBe(404)
          expect((await fetch(`${url}/metrics`, { method: "POST", body: "x" })).status).toBe(405)
          broken = true
          expect((await fetch(`${url}/metrics`)).status).toBe(503)
          await expect(fetch(`http://127.0.0.2:${at.port}/metrics`)).rejects.toThrow()
        })
      }),
    ),
  )
  await expect(fetch(`${url}/metrics`)).rejects.toThrow()
})
