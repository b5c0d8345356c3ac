/** Puts the simulated bus and clock in the place of the real ones: load with `--import` before anything else. */
import { registerHooks } from "node:module"

const replaced: ReadonlyArray<readonly [string, string]> = [
  ["/services/common/bus/nats.ts", "./adversary-bus.ts"],
  ["/services/common/kernel/clock.ts", "./adversary-clock.ts"],
]

registerHooks({
  resolve: (specifier, context, next) => {
    const found = next(specifier, context)
    const [, by] = replaced.find(([path]) => found.url.endsWith(path)) ?? []
    return by === undefined ? found : { ...found, url: new URL(by, import.meta.url).href }
  },
})
