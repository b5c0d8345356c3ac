/** Python beside the tests: scapy and python3-cryptography judge what the data plane does. One process for a whole file. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import type { Association } from "../kernel/packets.ts"

export const toHex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
export const fromHex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"))

/** An SA as the scripts take it. */
export const keysOf = (sa: Association) => ({
  spi: sa.spi,
  key: toHex(sa.key),
  salt: toHex(sa.salt),
  esn: sa.esn,
})

export interface Script {
  /** Sends a line of JSON and gives the next line that comes back. */
  readonly ask: (message: unknown) => Promise<unknown>
  /** Closes its stdin and waits for its end; throws when it failed. */
  readonly stop: () => Promise<void>
  readonly process: ChildProcessWithoutNullStreams
}

/** Starts a script of this directory in the present network namespace. Python writes no caches beside it. */
export const startScript = (name: string, args: ReadonlyArray<string> = []): Script => {
  const path = fileURLToPath(new URL(name, import.meta.url))
  const child = spawn("/usr/bin/python3", ["-B", path, ...args], { stdio: "pipe" })
  const waiting: Array<{ done: (line: unknown) => void; failed: (error: Error) => void }> = []
  let said = ""
  child.stderr.on("data", (chunk) => {
    said = `${said}${String(chunk)}`.slice(-4000)
  })
  const ended = new Promise<number>((resolve) => child.once("close", (code) => resolve(code ?? 1)))
  void ended.then((code) => {
    for (const one of waiting.splice(0)) one.failed(new Error(`${name} ended with ${code}: ${said}`))
  })
  createInterface({ input: child.stdout }).on("line", (line) => waiting.shift()?.done(JSON.parse(line)))
  child.stdin.on("error", () => undefined)
  return {
    process: child,
    ask: (message) =>
      new Promise((done, failed) => {
        if (child.exitCode !== null) {
          failed(new Error(`${name} has ended: ${said}`))
          return
        }
        waiting.push({ done, failed })
        child.stdin.write(`${JSON.stringify(message)}\n`)
      }),
    stop: async () => {
      child.stdin.end()
      const timer = setTimeout(() => child.kill("SIGKILL"), 10_000)
      const code = await ended
      clearTimeout(timer)
      if (code !== 0) throw new Error(`${name} ended with ${code}: ${said}`)
    },
  }
}

/** What scapy read in a frame, and what was in it. */
export interface Described {
  readonly type: number
  readonly version: number
  readonly ihl: number
  readonly tos: number
  readonly total: number
  readonly id: number
  readonly flags: string
  readonly fragment: number
  readonly ttl: number
  readonly protocol: number
  readonly sumRight: boolean
  readonly source: string
  readonly target: string
  readonly from: number
  readonly to: number
  readonly udpLength: number
  readonly udpSum: number
  readonly spi: number
  readonly low: number
  readonly iv: string
  readonly frame: number
}

export interface Opened extends Described {
  readonly error?: string
  readonly inner: string
  readonly innerClass: string
  /** Bytes of text: payload, padding, pad length and next header. */
  readonly text: number
  readonly padding: string
  readonly padLength: number
  readonly next: number
  readonly payload: string
  readonly wrongSums: ReadonlyArray<string>
}

export interface OuterFields {
  readonly source: string
  readonly target: string
  readonly from: number
  readonly to: number
  readonly tos?: number
  /** scapy's names: id, flags, ttl, options, ... */
  readonly ip?: Readonly<Record<string, unknown>>
  readonly udpSum?: number
}

export type Kind = "udp" | "tcp" | "icmp"

export interface BuildRequest {
  readonly kind: Kind
  readonly length: number
  readonly source: string
  readonly target: string
  readonly sport: number
  readonly dport: number
  readonly tos?: number
}

export interface SealRequest {
  readonly keys: ReturnType<typeof keysOf>
  readonly sequence: bigint
  readonly inner: Uint8Array
  readonly outer: OuterFields
  readonly iv?: Uint8Array
}

export interface CraftRequest {
  readonly keys: ReturnType<typeof keysOf>
  readonly sequence: bigint
  readonly payload: Uint8Array
  readonly outer: OuterFields
  /** Padding, pad length and next header; by default as they should be. */
  readonly trailer?: Uint8Array
  readonly iv?: Uint8Array
  /** Keeps so many bytes of ESP; outer lengths say the same. */
  readonly cut?: number
}

export interface Judge {
  readonly open: (
    frames: ReadonlyArray<{ frame: Uint8Array; keys: ReturnType<typeof keysOf>; high?: number }>,
  ) => Promise<ReadonlyArray<Opened>>
  readonly build: (requests: ReadonlyArray<BuildRequest>) => Promise<ReadonlyArray<Uint8Array>>
  /** By scapy's SA; a random IV unless one is given. */
  readonly seal: (requests: ReadonlyArray<SealRequest>) => Promise<ReadonlyArray<Uint8Array>>
  /** By the bare cipher, whatever the text. */
  readonly craft: (requests: ReadonlyArray<CraftRequest>) => Promise<ReadonlyArray<Uint8Array>>
  readonly stop: () => Promise<void>
}

const plain = (value: unknown): unknown =>
  value instanceof Uint8Array ? toHex(value) : typeof value === "bigint" ? String(value) : value

const questions = (ask: string, requests: ReadonlyArray<object>): ReadonlyArray<object> =>
  requests.map((request) =>
    Object.fromEntries([["ask", ask], ...Object.entries(request).map(([key, value]) => [key, plain(value)])]),
  )

export const startJudge = (): Judge => {
  const script = startScript("judge.py")
  const bytes = async (ask: string, requests: ReadonlyArray<object>): Promise<ReadonlyArray<Uint8Array>> =>
    ((await script.ask(questions(ask, requests))) as ReadonlyArray<string>).map(fromHex)
  return {
    open: async (frames) => (await script.ask(questions("open", frames))) as ReadonlyArray<Opened>,
    build: (requests) => bytes("build", requests),
    seal: (requests) => bytes("seal", requests),
    craft: (requests) => bytes("craft", requests),
    stop: script.stop,
  }
}
