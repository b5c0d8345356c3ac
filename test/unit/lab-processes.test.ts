/** Processes of the lab: logs, ends, and that nothing outlives its parent. The relay between two listeners. */
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createConnection, createServer, type Server } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterEach, beforeEach, describe, expect, it } from "vitest"
import { createProcesses, firstLine, lastLines, type Processes } from "../../infra/lab/processes.ts"

const lab = (file: string): string => fileURLToPath(new URL(`../../infra/lab/${file}`, import.meta.url))
const env = { PATH: process.env.PATH ?? "" }

let directory: string
let processes: Processes
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "vouchsafe-lab-"))
  processes = createProcesses(directory, env)
})
afterEach(async () => {
  await processes.stopAll()
  rmSync(directory, { recursive: true, force: true })
})

const isAlive = (pid: number): boolean => {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return false
  }
}
const until = async (check: () => boolean): Promise<boolean> => {
  for (let i = 0; i < 300 && !check(); i++) await new Promise((resolve) => setTimeout(resolve, 10))
  return check()
}

describe("processes", () => {
  it("logs what a process says and reports an end that nobody asked for", async () => {
    const ends: string[] = []
    processes.onUnexpectedEnd((one, how) => ends.push(`${one.name} ${how}`))
    const one = processes.start({
      name: "one",
      command: "sh",
      args: ["-c", "echo said; echo wrong >&2; exit 3"],
    })
    expect(await one.ended).toEqual({ code: 3, signal: null })
    expect(lastLines(one.log, 5)).toBe("said\nwrong")
    expect(lastLines(one.log, 1)).toBe("wrong")
    expect(ends).toEqual(["one with status 3"])
  })

  it("does not report an end that was asked for, or that was to come by itself", async () => {
    const ends: string[] = []
    processes.onUnexpectedEnd((one) => ends.push(one.name))
    const asked = processes.start({ name: "asked", command: "sleep", args: ["60"] })
    const short = processes.start({ name: "short", command: "true", args: [], ends: true })
    await asked.stop()
    await short.ended
    expect(ends).toEqual([])
  })

  it("kills what does not end in time, with everything that it started", async () => {
    const stubborn = processes.start({
      name: "stubborn",
      command: "sh",
      args: ["-c", "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"],
      stdout: "pipe",
    })
    const child = Number(await firstLine(stubborn, 5_000))
    await stubborn.stop(100)
    expect((await stubborn.ended).signal).toBe("SIGKILL")
    expect(await until(() => !isAlive(child))).toBe(true)
    await stubborn.stop()
  })

  it("passes on only the environment that it was given", async () => {
    const one = processes.start({ name: "env", command: "env", args: [], env: { ONLY: "this" }, ends: true })
    await one.ended
    expect(
      lastLines(one.log, 20)
        .split("\n")
        .map((line) => line.split("=")[0])
        .sort(),
    ).toEqual(["ONLY", "PATH"])
  })

  it("says why a process was never ready", async () => {
    const one = processes.start({
      name: "mute",
      command: "sh",
      args: ["-c", "echo broken >&2; exit 1"],
      stdout: "pipe",
      ends: true,
    })
    await expect(firstLine(one, 5_000)).rejects.toThrow(/mute ended before it was ready: broken/)
  })

  it("leaves no process behind when the lab itself is killed", async () => {
    const script = `
      import { createProcesses } from ${JSON.stringify(lab("processes.ts"))}
      const all = createProcesses(${JSON.stringify(directory)}, { PATH: process.env.PATH })
      console.log(all.start({ name: "orphan", command: "sleep", args: ["60"] }).pid)
      setInterval(() => {}, 1000)`
    const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    })
    const [chunk] = await new Promise<[Buffer]>((resolve) =>
      parent.stdout.once("data", (data: Buffer) => resolve([data])),
    )
    const orphan = Number(chunk.toString())
    expect(await until(() => isAlive(orphan))).toBe(true)
    parent.kill("SIGKILL")
    expect(await until(() => !isAlive(orphan))).toBe(true)
  })
})

describe("relay", () => {
  it("carries bytes both ways, and the end of one direction before the other's", async () => {
    const target: Server = createServer({ allowHalfOpen: true }, (socket) => {
      const parts: Buffer[] = []
      socket.on("data", (part: Buffer) => parts.push(part))
      socket.on("end", () => socket.end(Buffer.concat([Buffer.from("got "), ...parts])))
    })
    const path = join(directory, "target.sock")
    await new Promise<void>((resolve) => target.listen(path, resolve))
    const near = join(directory, "near.sock")
    const relay = processes.start({
      name: "relay",
      command: process.execPath,
      args: [lab("relay.ts"), `unix:${near}`, `unix:${path}`],
      stdout: "pipe",
    })
    expect(await firstLine(relay, 10_000)).toBe("ready")
    const sent = Buffer.alloc(300_000, "x")
    const answer = await new Promise<Buffer>((resolve, reject) => {
      const parts: Buffer[] = []
      const socket = createConnection({ path: near, allowHalfOpen: true })
      socket.on("error", reject)
      socket.on("data", (part: Buffer) => parts.push(part))
      socket.on("end", () => resolve(Buffer.concat(parts)))
      socket.end(sent)
    })
    expect(answer.equals(Buffer.concat([Buffer.from("got "), sent]))).toBe(true)
    target.close()
  })

  it("drops the near end when the far end can't be reached", async () => {
    const near = join(directory, "near.sock")
    const relay = processes.start({
      name: "relay",
      command: process.execPath,
      args: [lab("relay.ts"), `unix:${near}`, `unix:${join(directory, "nobody.sock")}`],
      stdout: "pipe",
    })
    await firstLine(relay, 10_000)
    const closed = await new Promise<boolean>((resolve) => {
      createConnection(near)
        .on("error", () => undefined)
        .on("close", () => resolve(true))
    })
    expect(closed).toBe(true)
    expect(isAlive(relay.pid)).toBe(true)
  })

  it.each([[[]], [["tcp:127.0.0.1:0", "unix:/x"]], [["unix:/x", "udp:1.2.3.4:5"]]])(
    "refuses %j",
    async (args) => {
      const one = processes.start({
        name: "wrong",
        command: process.execPath,
        args: [lab("relay.ts"), ...args],
        ends: true,
      })
      expect((await one.ended).code).toBe(2)
    },
  )
})
