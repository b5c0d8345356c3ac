/** `npm run bench -- NAME [--json]`: measurements, each in a file of its name. */
import { benchAead } from "./aead.ts"
import { benchInit } from "./init.ts"
import { benchInSitu } from "./insitu.ts"
import { benchPath } from "./path.ts"
import { benchVerify } from "./verify.ts"

const benches: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  aead: benchAead,
  init: benchInit,
  insitu: benchInSitu,
  path: benchPath,
  verify: benchVerify,
}

const [name = "", ...args] = process.argv.slice(2)
const bench = Object.hasOwn(benches, name) ? benches[name] : undefined
if (bench === undefined) {
  process.stderr.write(`bench: name one of: ${Object.keys(benches).join(", ")}\n`)
  process.exitCode = 64
} else await bench(args)
