import { existsSync, readFileSync } from "node:fs"
import { c, lastErrno } from "./bpf.ts"
import { fromErrno, invalid } from "./errors.ts"

const CLOCK_BOOTTIME = 7
const OFFSETS = "/proc/self/timens_offsets"

let checked = false

/**
 * The programs hold deadlines against the kernel's own boot clock. In a time namespace with an offset this process would
 * read another one, and every lease would be off by it.
 */
const refuseTimeNamespace = (): void => {
  if (checked) return
  if (existsSync(OFFSETS)) {
    const line = readFileSync(OFFSETS, "utf8")
      .split("\n")
      .find((text) => text.startsWith("boottime"))
    if (line === undefined || !/^boottime\s+0\s+0\s*$/.test(line))
      throw invalid("read", "CLOCK_BOOTTIME", "this process is in a time namespace with an offset")
  }
  checked = true
}

/** CLOCK_BOOTTIME in nanoseconds: what bpf_ktime_get_boot_ns() gives in the kernel. Counts suspended time. */
export const bootNow = (): bigint => {
  refuseTimeNamespace()
  const spec = new Uint8Array(16)
  if (c().clockGetTime(CLOCK_BOOTTIME, spec) !== 0) throw fromErrno("read", "CLOCK_BOOTTIME", lastErrno())
  const view = new DataView(spec.buffer)
  return view.getBigInt64(0, true) * 1_000_000_000n + view.getBigInt64(8, true)
}

/** The kernel's random id of this boot, 16 bytes. */
export const bootId = (): Uint8Array => {
  const path = "/proc/sys/kernel/random/boot_id"
  const text = readFileSync(path, "utf8").trim()
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(text)) throw invalid("read", path, "is not a UUID")
  return Uint8Array.from(Buffer.from(text.replaceAll("-", ""), "hex"))
}
