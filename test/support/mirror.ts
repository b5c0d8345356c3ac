/** A mirror of AMD's and Intel's services on this machine that answers as it is told to, or badly. */
import { createServer, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"

export interface Served {
  readonly body: Uint8Array
  readonly headers?: Readonly<Record<string, string>>
}

/** What is wrong with an answer. */
export type Fault =
  | "none"
  /** Never answers. */
  | "silent"
  /** Sends a byte now and then. */
  | "slow"
  /** Sends without end. */
  | "endless"
  /** Says a short length and sends more, or the other way round. */
  | "short"
  | "redirect"
  | "error"
  /** A page where collateral should be. */
  | "page"
  | "empty"
  | "closed"

export interface Mirror {
  readonly url: string
  /** Paths with their queries. */
  readonly pages: Map<string, Served>
  /** By path, or `*` for all. */
  readonly faults: Map<string, Fault>
  readonly asked: string[]
  readonly stop: () => Promise<void>
}

const misbehave = (fault: Fault, to: ServerResponse, page: Served): void => {
  switch (fault) {
    case "silent":
      return
    case "slow": {
      to.writeHead(200)
      const drip = setInterval(() => to.write("0"), 200)
      to.on("close", () => clearInterval(drip))
      return
    }
    case "endless": {
      to.writeHead(200)
      const more = (): void => {
        while (!to.destroyed && to.write(Buffer.alloc(65_536, 0x30)));
        if (!to.destroyed) to.once("drain", more)
      }
      more()
      return
    }
    case "short":
      to.writeHead(200, { "content-length": page.body.length })
      to.write(page.body.subarray(0, page.body.length >> 1))
      setTimeout(() => to.destroy(), 20)
      return
    case "redirect":
      to.writeHead(302, { location: "/elsewhere" }).end()
      return
    case "error":
      to.writeHead(503, { "retry-after": "1" }).end("busy")
      return
    case "page":
      to.writeHead(200, { "content-type": "text/html" }).end("<html>sign in</html>")
      return
    case "empty":
      to.writeHead(200).end()
      return
    case "closed":
      to.destroy()
      return
    default:
      to.writeHead(200, page.headers).end(page.body)
  }
}

export const startMirror = async (): Promise<Mirror> => {
  const pages = new Map<string, Served>()
  const faults = new Map<string, Fault>()
  const asked: string[] = []
  const server: Server = createServer((request, response) => {
    const path = request.url ?? ""
    asked.push(path)
    const page = pages.get(path)
    const fault = faults.get(path) ?? faults.get("*") ?? "none"
    if (page === undefined && fault === "none") response.writeHead(404).end()
    else misbehave(fault, response, page ?? { body: new Uint8Array(100) })
  })
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    pages,
    faults,
    asked,
    stop: () =>
      new Promise((stopped) => {
        server.closeAllConnections()
        server.close(() => stopped())
      }),
  }
}
