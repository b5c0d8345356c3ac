/** What the benchmark measures are appraisals that hold: each throws otherwise. */
import { expect, it } from "vitest"
import { measurePeers } from "./peer-evidence.ts"

it("measures what a peer's Evidence costs a node, in CPU and bytes", { timeout: 120_000 }, () => {
  const cost = measurePeers(8)
  const { cpu_ms: cpu } = cost
  console.info(
    `a peer by Evidence: ${cpu.first.toFixed(2)} ms CPU at first, ${cpu.again.toFixed(2)} ms again, ` +
      `${cost.proof_bytes} bytes; a batch: ${cost.control_cpu_ms.toFixed(2)} ms CPU, ${cost.control_bytes} bytes`,
  )
  expect(cost).toMatchObject({ peers: 8, leaves: 9 })
  expect(cost.proof_bytes).toBeLessThan(16_384)
  expect(cpu.again).toBeGreaterThan(0)
})
