/**
 * Stands in for `services/common/bus/nats.ts` in simulated runs: the same connection, to a server that somebody hostile
 * runs. Everything above it is the services' own code.
 */
import { BusError } from "../../services/common/bus/types.ts"
import { now } from "./adversary-virtual.ts"

export interface Message {
  readonly subject: string
  readonly reply: string | undefined
  readonly data: Uint8Array
  readonly header: (name: string) => string | undefined
  readonly status: number
}

/** One message on its way: what a server knows of it. */
export interface Sent {
  /** The connection's identity, and whose connection it really is. */
  readonly from: string
  readonly owner: string
  readonly subject: string
  readonly reply: string | undefined
  readonly data: Uint8Array
  readonly headers: Readonly<Record<string, string>>
  readonly status: number
}

export interface Listening {
  readonly link: Link
  readonly pattern: string
  readonly queue: string | undefined
  readonly onMessage: (message: Message) => void
}

export interface Link {
  readonly identity: string
  readonly owner: string
  up: boolean
}

const split = new Map<string, ReadonlyArray<string>>()
const tokensOf = (subject: string): ReadonlyArray<string> => {
  const found = split.get(subject) ?? subject.split(".")
  if (split.size > 20_000) split.clear()
  split.set(subject, found)
  return found
}

export const fits = (pattern: string, subject: string): boolean => {
  if (pattern === subject) return true
  const [wanted, found] = [tokensOf(pattern), tokensOf(subject)]
  for (const [i, part] of wanted.entries()) {
    if (part === ">") return found.length > i
    if (found[i] === undefined || (part !== "*" && part !== found[i])) return false
  }
  return wanted.length === found.length
}

/** The server: knows who listens, and leaves to its owner what becomes of a message. */
export class Server {
  readonly #listening = new Set<Listening>()
  /** Most listen to one subject, and to no others. */
  readonly #exactly = new Map<string, Set<Listening>>()
  readonly #widely = new Set<Listening>()
  readonly #owner: (sent: Sent) => void
  /** Sees what is handed to whom. */
  onHand: ((to: Link, sent: Sent) => void) | undefined
  #inboxes = 0

  constructor(owner: (sent: Sent) => void) {
    this.#owner = owner
  }

  get listening(): ReadonlySet<Listening> {
    return this.#listening
  }

  listen(each: Listening): void {
    this.#listening.add(each)
    if (/[*>]/.test(each.pattern)) {
      this.#widely.add(each)
      return
    }
    const known = this.#exactly.get(each.pattern)
    if (known === undefined) this.#exactly.set(each.pattern, new Set([each]))
    else known.add(each)
  }

  forget(each: Listening): void {
    this.#listening.delete(each)
    this.#widely.delete(each)
    const known = this.#exactly.get(each.pattern)
    known?.delete(each)
    if (known?.size === 0) this.#exactly.delete(each.pattern)
  }

  send(sent: Sent): void {
    this.#owner(sent)
  }

  /** Hands it to whoever listens and is to hear it; of a queue group, to the one that `choose` names. */
  deliver(sent: Sent, choose: (most: number) => number, hears: (link: Link) => boolean = () => true): void {
    const found = [...(this.#exactly.get(sent.subject) ?? [])]
    for (const each of this.#widely) if (fits(each.pattern, sent.subject)) found.push(each)
    if (found.length === 0) return
    const groups = Map.groupBy(found, ({ queue }) => queue)
    for (const [queue, group] of groups) {
      const chosen = queue === undefined ? group : [group[choose(group.length)]]
      for (const each of chosen) if (each !== undefined && hears(each.link)) this.hand(each, sent)
    }
  }

  /** Hands it to one listener, whatever it listens to. */
  hand({ link, onMessage }: Listening, sent: Sent): void {
    if (!link.up) return
    const { subject, reply, data, headers, status } = sent
    this.onHand?.(link, sent)
    // Nobody shares memory with anybody over a bus.
    const own = Uint8Array.from(data)
    onMessage({ subject, reply, data: own, status, header: (name) => headers[name] })
  }

  inbox(identity: string): string {
    this.#inboxes += 1
    return `_INBOX.${identity}.${this.#inboxes}`
  }
}

let server: Server | undefined
let owner = ""

/** Connections that are made from now on go to this server and are the owner's. */
export const serveBy = (next: Server | undefined): void => {
  server = next
}
export const connectAs = (next: string): void => {
  owner = next
}

/** Of a process that was killed, nothing is heard any more. */
export const cut = (identity: string, of: string): void => {
  for (const each of [...(server?.listening ?? [])]) {
    if (each.link.identity !== identity || each.link.owner !== of) continue
    each.link.up = false
    server?.forget(each)
  }
}

const timeout = (subject: string) =>
  new BusError({ reason: "Timeout", subject, message: "no answer in time" })

export const connect = async ({ name }: { readonly name: string }) => {
  const at = server
  if (at === undefined) throw new BusError({ reason: "Closed", subject: "", message: "no server" })
  const link: Link = { identity: name, owner, up: true }
  const base = { from: name, owner: link.owner, headers: {}, status: 0 }
  const listen = (pattern: string, queue: string | undefined, onMessage: (message: Message) => void) => {
    const each: Listening = { link, pattern, queue, onMessage }
    at.listen(each)
    return () => at.forget(each)
  }
  return {
    request: (
      subject: string,
      data: Uint8Array,
      timeoutMs: number,
      headers: Readonly<Record<string, string>> = {},
    ): Promise<Message> =>
      new Promise((resolve, reject) => {
        const reply = at.inbox(name)
        const late = now().after(timeoutMs, () => {
          ended()
          reject(timeout(subject))
        })
        const ended = listen(reply, undefined, (message) => {
          late()
          ended()
          resolve(message)
        })
        at.send({ ...base, subject, reply, data: Uint8Array.from(data), headers })
      }),
    publish: (subject: string, data: Uint8Array): void => {
      if (link.up) at.send({ ...base, subject, reply: undefined, data: Uint8Array.from(data) })
    },
    subscribe: (subject: string, queue: string | undefined, onMessage: (message: Message) => void) => {
      const ended = listen(subject, queue, onMessage)
      return { drain: async () => ended() }
    },
    flush: async () => undefined,
    closed: new Promise<string>(() => undefined),
    close: async () => {
      link.up = false
      for (const each of [...at.listening]) if (each.link === link) at.forget(each)
    },
  }
}

export const mayRetry = (): boolean => false
export const newUser = (): never => {
  throw new Error("nobody needs a key here")
}
