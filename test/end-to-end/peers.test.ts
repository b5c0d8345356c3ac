/** Nodes that appraise each other, from nothing to data through the workflow: `npm start -- --peers evidence`, as a user runs it. */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"
import type { Summary } from "../../infra/lab/summary.ts"

const MAIN = fileURLToPath(new URL("../../infra/lab/main.ts", import.meta.url))

const run = (...args: ReadonlyArray<string>) =>
  new Promise<{ status: number | null; stdout: string; stderr: string }>((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] })
    const text = { stdout: "", stderr: "" }
    for (const name of ["stdout", "stderr"] as const)
      child[name].on("data", (chunk: Buffer) => {
        text[name] += chunk.toString()
      })
    child.on("error", reject)
    child.on("close", (status) => resolve({ status, ...text }))
  })

it("carries data between nodes that have appraised each other themselves", { timeout: 150_000 }, async () => {
  const { status, stdout, stderr } = await run("--once", "--json", "--peers", "evidence")
  const summary = JSON.parse(stdout) as Summary
  expect(summary.problems).toEqual([])
  expect(status).toBe(0)
  expect(summary.edges.map(({ id, from, to }) => [id, from, to])).toEqual([
    ["raw", "n1", "n2"],
    ["packed", "n2", "n3"],
  ])
  expect(summary.pipeline.bytes).toBeGreaterThan(1_000_000)
  expect(summary.pipeline.sha256).toBe(summary.pipeline.sha256_local)
  expect(summary.wire).toMatchObject({ unexpected_frames: 0, marker_hits: 0, lost_frames: 0 })
  for (const [node, peer] of [
    ["n1", "n2"],
    ["n2", "n1"],
    ["n2", "n3"],
    ["n3", "n2"],
  ])
    expect(stderr).toMatch(new RegExp(`${node} has appraised ${peer} itself: sev-snp Milan`))
  expect(stderr).not.toMatch(/REFUSED to take/)
})
