/** Stands in for `services/common/kernel/clock.ts` in simulated runs. */
import { now } from "./adversary-virtual.ts"

/** Some guests were started before others; here all were started at once, an hour before the run. */
export const bootNow = (): bigint => 3_600_000_000_000n + BigInt(Math.round(now().nowMs * 1e6))

export const bootId = (): Uint8Array => new Uint8Array(16).fill(0xb0)
