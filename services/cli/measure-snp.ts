/** `vouchsafe measure snp`. */
import { parseArgs } from "node:util"
import { toHex } from "../common/hex.ts"
import { measureLimits, measureSnp, vmms } from "../evidence/measure/index.ts"
import { hashFile, hashInitrd, readFirmware } from "./measure-files.ts"
import { type Measurement, needed, oneOf, shared, text, whole, withoutKernel } from "./measure-options.ts"
import { UsageError } from "./output.ts"

/** @throws UsageError, MeasureError */
export const snp = (args: readonly string[]): Measurement => {
  const { values } = parseArgs({
    args: [...args],
    strict: true,
    options: {
      ...shared,
      ovmf: text,
      vcpus: text,
      "vcpu-type": text,
      "guest-features": { type: "string", default: "0x1" },
      vmm: { type: "string", default: "qemu" },
    },
  })
  const { kernel, initrd, cmdline } = values
  const features = values["guest-features"]
  if (!/^(0x[0-9a-f]{1,16}|\d{1,19})$/i.test(features))
    throw new UsageError("--guest-features must be a number such as 0x1")
  if (kernel === undefined) withoutKernel(values)
  const vmm = oneOf(values.vmm, "--vmm", vmms)
  const type = values["vcpu-type"]
  const measurement = measureSnp(readFirmware(needed(values.ovmf, "--ovmf FILE")), {
    vcpus: whole(needed(values.vcpus, "--vcpus N"), "--vcpus", measureLimits.vcpus),
    ...(vmm === "qemu" && { vcpuType: needed(type, "--vcpu-type TYPE") }),
    features: BigInt(features),
    vmm,
    ...(kernel !== undefined && {
      load: {
        kernel: hashFile(kernel, "kernel", measureLimits.imageBytes, ["sha256"]),
        ...(initrd !== undefined && { initrd: hashInitrd(initrd, ["sha256"]) }),
        commandLine: cmdline ?? "",
      },
    }),
  })
  const alone =
    "No kernel is in it: this firmware boots what it finds, and the measurement says nothing of that."
  return {
    json: values.json,
    measured: {
      agrees: true,
      values: { measurement: toHex(measurement) },
      stage: { sev_snp: { measurements: [toHex(measurement)] } },
      notes: kernel === undefined ? [alone] : [],
    },
  }
}
