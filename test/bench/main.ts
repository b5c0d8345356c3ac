/** `npm run bench -- NAME [--json]`: measurements, each in a file of its name. */
import { benchAead } from "./aead.ts"
import { closeAll } from "./closing.ts"
import { benchInit } from "./init.ts"
import { benchInSitu } from "./insitu.ts"
import { benchPath } from "./path.ts"
import { benchPeerEvidence } from "./peer-evidence.ts"
import { benchVerify } from "./verify.ts"

const benches: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  aead: benchAead,
  init: benchInit,
  insitu: benchInSitu,
  path: benchPath,
  "peer-evidence": benchPeerEvidence,
  verify: benchVerify,
}

const usage = `npm run bench -- NAME [--json] [OPTIONS]

  aead                                 sealing and opening a packet, beside OpenSSL's same cipher
  path                                 throughput, latency, CPU and connections, beside other systems
  insitu                               what the programs cost a packet where they run, as the kernel counts it
  verify                               milliseconds of a verification of each kind of evidence
  peer-evidence [--peers N]            what it costs a node to appraise a peer's raw Evidence itself
  init [--nodes N] [--topology mesh|chain|tree|random-8]
                                       from nothing to every edge's keys confirmed at both ends,
                                       and its first packet let in
       [--steady SECONDS | --renewals N]
                                       and then what nodes that only renew cost the control plane and the bus

  Root is needed for all but verify and peer-evidence. --plot FILE: where aead, path and init (over N) put their picture.
`

let ending = false
const ended = async (code: number): Promise<void> => {
  if (ending) return
  ending = true
  // What the bench was waiting for fails now, one thing after another.
  process.on("unhandledRejection", () => {})
  await closeAll()
  process.exit(code)
}
// npm passes on what it gets itself, so that one Ctrl-C arrives twice.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void ended(130))

const [name = "", ...args] = process.argv.slice(2)
const bench = Object.hasOwn(benches, name) ? benches[name] : undefined
if (args.includes("--help") || name === "--help") process.stdout.write(usage)
else if (bench === undefined) {
  process.stderr.write(`bench: name one of: ${Object.keys(benches).join(", ")}\n\n${usage}`)
  process.exitCode = 64
} else
  try {
    await bench(args)
  } catch (error) {
    // Wrong arguments, by parseArgs or our own; anything else is a fault whose place one wants to see.
    const wrong = (error instanceof TypeError && "code" in error) || error instanceof RangeError
    if (!wrong && !ending) throw error
    if (!ending) process.stderr.write(`bench: ${(error as Error).message}\n\n${usage}`)
    await ended(64)
  }
