/**
 * One lab through its life: what no edge allows stays out, what the applications do can't name the wire, a killed loader
 * changes nothing until the lease ends, a new one resumes, and a capture over all of it saw no plaintext.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { createCleanup } from "../../infra/lab/cleanup.ts"
import { activeEdges, collectDropsByNode } from "../../infra/lab/collect.ts"
import { LEASE_SECONDS, PACKED_PORT, RAW_PORT } from "../../infra/lab/domain.ts"
import { moveData, untilReleased } from "../../infra/lab/job.ts"
import { type Lab, startLab } from "../../infra/lab/lab.ts"
import { listensOn } from "../../infra/lab/pipeline.ts"
import { type Machine, preflight } from "../../infra/lab/preflight.ts"

const cleanup = createCleanup()
let machine: Machine
let lab: Lab
const unexpected: string[] = []
const children = new Set<ChildProcess>()

beforeAll(async () => {
  machine = preflight()
  lab = await startLab({ machine, cleanup, say: () => undefined, onEvent: () => undefined })
  await untilReleased(lab)
}, 90_000)

afterAll(async () => {
  for (const child of children) child.kill("SIGKILL")
  expect(await cleanup.run()).toEqual([])
}, 30_000)

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Runs a shell line among a node's applications; gives its status and what it said. */
const inApp = (id: string, line: string): Promise<{ readonly status: number; readonly stdout: string }> =>
  new Promise((resolve) => {
    const args = [`--net=/run/netns/${lab.appNetns(id)}`, "bash", "-c", line]
    execFile("nsenter", args, { timeout: 20_000 }, (error, stdout) =>
      resolve({ status: error === null ? 0 : 1, stdout }),
    )
  })

/** Whether one line gets from one node's application to another's, over TCP. */
const reaches = async (from: string, to: string, port: number): Promise<boolean> => {
  const server = spawn(
    "nsenter",
    [`--net=/run/netns/${lab.appNetns(to)}`, machine.netcat, "-d", "-l", String(port)],
    {
      stdio: ["ignore", "pipe", "ignore"],
    },
  )
  children.add(server)
  let got = ""
  server.stdout.on("data", (chunk: Buffer) => {
    got += chunk.toString()
  })
  const ended = new Promise<void>((resolve) => server.once("close", () => resolve()))
  for (let i = 0; i < 300 && !listensOn(server.pid ?? 0, port); i++) await pause(10)
  const line = `through ${from} ${to} ${port}`
  const sent = await inApp(
    from,
    `echo '${line}' | timeout 3 '${machine.netcat}' -N -w 2 ${lab.place(to).address} ${port}`,
  )
  if (sent.status !== 0) server.kill("SIGKILL")
  await ended
  children.delete(server)
  return sent.status === 0 && got.trim() === line
}

/** Growth of a node's counter of one reason while something happens; waits until the statistics have it. */
const dropsDuring = async (id: string, reason: string, act: () => unknown): Promise<number> => {
  const now = (): number => collectDropsByNode(lab.watch)[id]?.[reason] ?? 0
  const before = now()
  await act()
  for (let i = 0; i < 30 && now() === before; i++) await pause(100)
  return now() - before
}

describe("a running lab", () => {
  it("lets the edges' traffic through", async () => {
    expect(await reaches("n1", "n2", RAW_PORT)).toBe(true)
    expect(await reaches("n2", "n3", PACKED_PORT)).toBe(true)
  })

  it("drops and counts what no edge names: another node, port, direction, protocol", {
    timeout: 60_000,
  }, async () => {
    const tries: ReadonlyArray<[string, () => unknown]> = [
      ["n1", () => reaches("n1", "n3", PACKED_PORT)],
      ["n1", () => reaches("n1", "n2", PACKED_PORT)],
      ["n2", () => reaches("n2", "n1", RAW_PORT)],
      ["n3", () => reaches("n3", "n2", PACKED_PORT)],
      [
        "n1",
        () =>
          inApp(
            "n1",
            `echo x | timeout 1 '${machine.netcat}' -u -w 1 ${lab.place("n2").address} ${RAW_PORT}`,
          ),
      ],
    ]
    for (const [id, act] of tries) {
      let through: unknown
      const dropped = await dropsDuring(id, "NO_POLICY", async () => {
        through = await act()
      })
      expect(through).not.toBe(true)
      expect(dropped).toBeGreaterThan(0)
    }
  })

  it("gives the refused node nothing", async () => {
    expect(await reaches("n4", "n3", PACKED_PORT)).toBe(false)
    expect(await reaches("n2", "n4", PACKED_PORT)).toBe(false)
    expect([...activeEdges(lab.watch)].some((instance) => instance.includes("n4"))).toBe(false)
  })

  it("shows applications no device but their own and loopback, and no way to a wire address", async () => {
    const { stdout } = await inApp(
      "n1",
      "ip -o link | cut -d: -f2 | cut -d@ -f1 | tr -d ' ' | sort | paste -sd,",
    )
    expect(stdout.trim()).toBe("lo,m0")
    const { wire } = lab.place("n2")
    expect((await inApp("n1", `ip route get ${wire}`)).status).not.toBe(0)
  })

  it("keeps frames off the wire that an application forces past every queue", async () => {
    const frame = Buffer.alloc(60)
    frame.writeUInt16BE(0x0800, 12)
    Buffer.concat([lab.tag, lab.tag]).copy(frame, 20)
    const before = lab.capture.counts().intruder_frames
    const sender = new URL("../../infra/lab/intruder-main.ts", import.meta.url).pathname
    expect(
      lab.exec(lab.appNetns("n1"), [
        process.execPath,
        sender,
        "m0",
        ...Array(10).fill(frame.toString("hex")),
      ]),
    ).toBe("10\n")
    await pause(600)
    expect(lab.capture.counts().intruder_frames).toBe(before)
    expect(() =>
      lab.exec(lab.appNetns("n1"), [process.execPath, sender, "wire0", frame.toString("hex")]),
    ).toThrow()
  })
})

describe("a loader that is killed", () => {
  it("leaves traffic flowing until the lease is over, then nothing flows, and a new one resumes", {
    timeout: 150_000,
  }, async () => {
    lab.processes.onUnexpectedEnd((one) => unexpected.push(one.name))
    const loader = lab.loader("n2")
    const killedAt = performance.now()
    loader.expectEnd()
    process.kill(loader.pid, "SIGKILL")
    await loader.ended
    expect(await reaches("n1", "n2", RAW_PORT)).toBe(true)
    expect(await reaches("n2", "n3", PACKED_PORT)).toBe(true)

    const left = (LEASE_SECONDS + 1) * 1_000 - (performance.now() - killedAt)
    await pause(left)
    expect(await reaches("n1", "n2", RAW_PORT)).toBe(false)
    expect(await reaches("n2", "n3", PACKED_PORT)).toBe(false)

    const was = lab.watch.events.length
    lab.startLoader("n2")
    await lab.watch.until(
      () => "n2's new session",
      40_000,
      (seen) =>
        seen.events
          .slice(was)
          .some(({ event }) => event.type === "vouchsafe.attestation.accepted" && event.data.node === "n2") ||
        undefined,
    )
    let resumed = false
    for (let i = 0; i < 20 && !resumed; i++) {
      resumed = (await reaches("n1", "n2", RAW_PORT)) && (await reaches("n2", "n3", PACKED_PORT))
    }
    expect(resumed).toBe(true)
    expect(unexpected).toEqual([])
  })
})

describe("the wire", () => {
  it("saw no marker and nothing but ARP, ESP and the bus, from start to end", {
    timeout: 60_000,
  }, async () => {
    const moved = await moveData(lab, machine.netcat)
    expect(moved.sha256).toBe(moved.sha256_local)
    await lab.stopServices()
    const wire = await lab.capture.stop()
    expect(wire).toMatchObject({ unexpected_frames: 0, marker_hits: 0, lost_frames: 0, samples: [] })
    expect(wire.esp_frames).toBeGreaterThan(10_000)
    expect(wire.control_frames).toBeGreaterThan(100)
    expect(wire.neighbour_frames).toBeGreaterThan(0)
  })
})
