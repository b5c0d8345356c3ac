/** PCR 4: the images that a firmware's boot manager starts, and what they start. */
import type { Bank } from "../eventlog/bank.ts"
import { MeasureError, measureLimits } from "./error.ts"
import { actions, type Step, separator, textStep } from "./steps.ts"

/**
 * @param images in the order in which they are measured: shim, boot loader, kernel; one that is measured twice, twice
 *   (Debian's GRUB 2.06 verifies a kernel twice through shim)
 * @param failed how many boot options were tried before and came back
 * @throws MeasureError LENGTH
 */
export const chainSteps = (bank: Bank, images: readonly Step[], failed = 0): readonly Step[] => {
  if (images.length === 0 || images.length > measureLimits.images)
    throw new MeasureError("LENGTH", "images", `${images.length}`, `1 to ${measureLimits.images}`)
  if (!Number.isInteger(failed) || failed < 0 || failed > measureLimits.images)
    throw new MeasureError("LENGTH", "failedOptions", `${failed}`, `0 to ${measureLimits.images}`)
  const calling = textStep(bank, actions.calling)
  const again = [textStep(bank, actions.returning), calling]
  return [calling, separator(bank), ...Array.from({ length: failed }, () => again).flat(), ...images]
}
