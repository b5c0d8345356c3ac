/** One core's share of the throughput run: verifies as many as it is told, mixed, with warm caches. */
import { parentPort } from "node:worker_threads"
import { native } from "../../services/common/crypto/index.ts"
import { subjects } from "./evidence.ts"

const all = subjects()
const verifyMixed = (count: number): void => {
  for (let i = 0; i < count; i++) all[i % all.length]?.verify(native, "warm")
}

verifyMixed(4 * all.length)
parentPort?.on("message", (count: number) => {
  verifyMixed(count)
  parentPort?.postMessage("done")
})
parentPort?.postMessage("ready")
