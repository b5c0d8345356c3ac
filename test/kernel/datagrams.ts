/** One datagram and its answer, between ordinary programs in the present network namespace. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { createInterface } from "node:readline"

const PYTHON = "/usr/bin/python3"

const ECHO = `
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, sender = one.recvfrom(65536)
    one.sendto(data, sender)
`

const ASK = `
import socket, sys
address, port, own, seconds, text = sys.argv[1:]
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("", int(own)))
one.settimeout(float(seconds))
one.sendto(text.encode(), (address, int(port)))
try:
    print(one.recv(65536).decode(), end="")
except socket.timeout:
    pass
`

/** Sends back what comes to a port, once its promise is kept: nothing that is sent then comes too early. */
export const startEcho = (port: number): { readonly child: ChildProcess; readonly ready: Promise<void> } => {
  const child = spawn(PYTHON, ["-c", ECHO, String(port)], { stdio: ["ignore", "pipe", "inherit"] })
  const ready = new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", () => resolve())
    child.once("exit", (code) => reject(new Error(`the echo at port ${port} ended with ${code}`)))
  })
  ready.catch(() => undefined)
  return { child, ready }
}

/** How long is waited for an answer that has to come, and after which silence none will. */
const ANSWER_MS = 20_000
const SILENT_MS = 300

/** Sends a datagram, from a port of its own choice if that is not 0, and gives what comes back; "" when nothing does. */
const ask = (withinMs: number, address: string, port: number, text: string, from = 0): string => {
  const args = ["-c", ASK, address, String(port), String(from), String(withinMs / 1_000), text]
  return execFileSync(PYTHON, args, { encoding: "utf8" })
}

/** What comes back of a datagram that should be answered. */
export const answerTo = (...about: [address: string, port: number, text: string, from?: number]): string =>
  ask(ANSWER_MS, ...about)

/** What comes back, within 0.3 s, of one that should not. */
export const echoOf = (...about: [address: string, port: number, text: string, from?: number]): string =>
  ask(SILENT_MS, ...about)
