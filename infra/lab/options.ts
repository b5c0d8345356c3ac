/** The command line of the lab. */

import type { Workflow } from "../../schemas/workflow.ts"
import type { Underlay } from "./names.ts"

export type Peers = NonNullable<Workflow["peers"]>

export type ControlPlanes = 1 | 2

export interface Options {
  readonly once: boolean
  readonly json: boolean
  readonly underlay: Underlay
  readonly peers: Peers
  readonly controlPlanes: ControlPlanes
}

export const usage = `usage: npm start [-- --once] [--json] [--underlay ipv4|ipv6] [--peers results|evidence]
                     [--control-planes 1|2]

Attests a lab of nodes, gives them keys and moves real data through an encrypted workflow on this machine.
  --once   end after the summary; status 0 only if everything in it is as it must be
  --json   print the summary as one JSON object on stdout, everything else on stderr
  --underlay ipv4|ipv6
           by which IP the nodes are on the wire (ipv4 if not said); applications speak both
  --peers results|evidence
           whether nodes believe a verifier's result about each other (results if not said), or only what each has
           found in the other's raw Evidence itself
  --control-planes 1|2
           with 2, a second guest's verifier and key-releaser stand by (1 if not said): kill those that lead, and see
           that traffic goes on
  --help   print this
Without --once the lab stays up until Ctrl-C.
`

export type Parsed =
  | { readonly kind: "run"; readonly options: Options }
  | { readonly kind: "help" }
  | { readonly kind: "wrong"; readonly argument: string }

/** Takes the arguments after the program's name. Anything unknown is refused, not ignored. */
export const parseOptions = (args: ReadonlyArray<string>): Parsed => {
  let once = false
  let json = false
  let underlay: Underlay = "ipv4"
  let peers: Peers = "results"
  let controlPlanes: ControlPlanes = 1
  const rest = [...args]
  for (let argument = rest.shift(); argument !== undefined; argument = rest.shift()) {
    if (argument === "--once") once = true
    else if (argument === "--underlay") {
      const value = rest.shift()
      if (value !== "ipv4" && value !== "ipv6")
        return { kind: "wrong", argument: [argument, value].join(" ").trimEnd() }
      underlay = value
    } else if (argument === "--peers") {
      const value = rest.shift()
      if (value !== "results" && value !== "evidence")
        return { kind: "wrong", argument: [argument, value].join(" ").trimEnd() }
      peers = value
    } else if (argument === "--control-planes") {
      const value = rest.shift()
      if (value !== "1" && value !== "2")
        return { kind: "wrong", argument: [argument, value].join(" ").trimEnd() }
      controlPlanes = value === "1" ? 1 : 2
    } else if (argument === "--json") json = true
    else if (argument === "--help" || argument === "-h") return { kind: "help" }
    else return { kind: "wrong", argument }
  }
  return { kind: "run", options: { once, json, underlay, peers, controlPlanes } }
}
