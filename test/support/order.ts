/** The order of test files where no earlier run has left their times, as in a fresh checkout: what takes long begins first. */
import { relative } from "node:path"
import type { TestSpecification } from "vitest/node"
import { BaseSequencer } from "vitest/node"

/** Short to read, long to run, the longest first: by their size these would come last, and each alone. */
const LONG: ReadonlyArray<string> = [
  "test/hostile/failover.test.ts",
  "test/kernel/guest-6.1.test.ts",
  "test/hostile/verifiers.test.ts",
  "test/model/model.test.ts",
  "test/hostile/proxy.test.ts",
  "test/end-to-end/loader.test.ts",
  "test/end-to-end/start.test.ts",
  "test/hostile/lifecycle.test.ts",
  "test/end-to-end/wire.test.ts",
  "test/end-to-end/rekey.test.ts",
  "test/end-to-end/watch.test.ts",
  "test/hostile/reboot.test.ts",
  "test/kernel/settle.test.ts",
  "test/hardware/measured-boot.test.ts",
  "test/end-to-end/takeover.test.ts",
]

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const root = this.ctx.config.root
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONG.indexOf(relative(root, moduleId))
      return at < 0 ? LONG.length : at
    }
    // Array.sort is stable: the others stay as they are by default, by time or size.
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b))
  }
}
