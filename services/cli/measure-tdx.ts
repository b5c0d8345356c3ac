/** `vouchsafe measure tdx`. */
import { parseArgs } from "node:util"
import { toHex } from "../common/hex.ts"
import { replayEventLog, rtmrsOf } from "../evidence/index.ts"
import { directRtmrSteps, measureTdx, pageOrders, registerOf, type Step } from "../evidence/measure/index.ts"
import { readFirmware } from "./measure-files.ts"
import {
  difference,
  directBoot,
  type Measurement,
  needed,
  oneOf,
  readLog,
  shared,
  shown,
  text,
} from "./measure-options.ts"

/** @throws UsageError, MeasureError, EventLogError */
export const tdx = (args: readonly string[]): Measurement => {
  const { values } = parseArgs({
    args: [...args],
    strict: true,
    options: {
      ...shared,
      firmware: text,
      "page-order": { type: "string", default: "page" },
      "qemu-memory": text,
      ccel: text,
    },
  })
  const order = oneOf(values["page-order"], "--page-order", pageOrders)
  const mrtd = toHex(measureTdx(readFirmware(needed(values.firmware, "--firmware FILE")), order))
  const { kernel, initrd, cmdline } = values
  const boot = directBoot({ kernel, initrd, cmdline }, values["qemu-memory"], "sha384")
  const computed = boot === undefined ? new Map<1 | 2, readonly Step[]>() : directRtmrSteps(boot)
  const log = values.ccel === undefined ? undefined : readLog(values.ccel)
  const rtmrs = new Map<number, string>()
  let agrees = true
  const notes: string[] = []
  if (log !== undefined) {
    rtmrsOf(replayEventLog(log, "sha384")).forEach((value, i) => void rtmrs.set(i, toHex(value)))
    const fromLog = [...rtmrs.keys()].filter((i) => !computed.has(i as 1 | 2))
    notes.push(`RTMRs ${fromLog.join(", ")} are those of the log: good if the machine that it is from was.`)
  } else
    notes.push("RTMR 0 holds memory map, ACPI tables and variables of the VMM: take it from a CCEL (--ccel).")
  for (const [i, steps] of computed) {
    rtmrs.set(i, toHex(registerOf("sha384", steps)))
    const parted = log && difference(log, "sha384", i + 1, steps)
    agrees &&= parted === undefined
    if (parted !== undefined) notes.push(`RTMR ${i} isn't that of the log, ${parted}.`)
  }
  if (!rtmrs.has(1)) notes.push("A stage needs RTMRs 1 and 2 too: give --kernel (booted directly) or --ccel.")
  const sorted = [...rtmrs].sort(([a], [b]) => a - b)
  return {
    json: values.json,
    measured: {
      agrees,
      values: {
        mrtd,
        rtmrs: Object.fromEntries(sorted),
        steps: Object.fromEntries([...computed].map(([i, steps]) => [i, shown(steps)])),
      },
      stage: {
        tdx: {
          mrtd: [mrtd],
          ...(rtmrs.size > 0 && { rtmrs: Object.fromEntries(sorted.map(([i, value]) => [i, [value]])) }),
        },
      },
      notes,
    },
  }
}
