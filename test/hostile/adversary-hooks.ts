/** Puts the simulated bus and clock in the place of the real ones: load with `--import` before anything else. */
import { registerHooks } from "node:module"

const replaced: ReadonlyArray<readonly [string, string]> = [
  ["/services/common/bus/nats.ts", "./adversary-bus.ts"],
  ["/services/common/kernel/clock.ts", "./adversary-clock.ts"],
  ["/services/make/workflow-document.ts", "./adversary-documents.ts"],
  ["/services/evidence/snp/chain.ts", "./adversary-chains.ts"],
]

registerHooks({
  resolve: (specifier, context, next) => {
    const found = next(specifier, context)
    const [, by] = replaced.find(([path]) => found.url.endsWith(path)) ?? []
    const url = by === undefined ? found.url : new URL(by, import.meta.url).href
    // What stands in for a module may be made of it.
    return url === context.parentURL ? found : { ...found, url }
  },
})
