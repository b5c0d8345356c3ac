/** The command line of the lab. */

export interface Options {
  readonly once: boolean
  readonly json: boolean
}

export const usage = `usage: npm start [-- --once] [--json]

Attests a lab of nodes, gives them keys and moves real data through an encrypted workflow on this machine.
  --once   end after the summary; status 0 only if everything in it is as it must be
  --json   print the summary as one JSON object on stdout, everything else on stderr
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
  for (const argument of args) {
    if (argument === "--once") once = true
    else if (argument === "--json") json = true
    else if (argument === "--help" || argument === "-h") return { kind: "help" }
    else return { kind: "wrong", argument }
  }
  return { kind: "run", options: { once, json } }
}
