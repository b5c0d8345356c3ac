/** The init bench's surroundings: a real NATS server, the control plane's services as processes, guests on emulated chips. */
import { type ChildProcess, fork } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { Redacted } from "effect"
import { anchorsOf, DOMAIN, exampleWorkflow, signWorkflow } from "../../infra/lab/domain.ts"
import { emulatedRoot, imageMeasurement, launch, newChip, nodeMeasurement } from "../../infra/lab/hardware.ts"
import { serverConfig } from "../../schemas/generate/permissions.ts"
import { DEFAULT_PREFIX, type Role } from "../../schemas/subjects.ts"
import type { SignedWorkflow, Workflow } from "../../schemas/workflow.ts"
import { type BusConfig, identity, newUser } from "../../services/common/bus/bus.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { scratchDirectory, spawnMortal } from "../support/scratch.ts"
import { closing } from "./closing.ts"
import type { ForPeers, FromWorker, ToWorker, WorkerOrder } from "./init-messages.ts"
import type { Pair } from "./init-topology.ts"

const CONTROL = "cp"
/** A guest's run directory is on a tmpfs, as /run is; so are those of all guests here. */
const MEMORY = "/dev/shm"
const services = fileURLToPath(new URL("../../services/", import.meta.url))

export interface LabOrder {
  readonly nodes: number
  readonly pairs: readonly Pair[]
  readonly workers: number
  readonly object: string
  /** Hex. */
  readonly dataplane: string
  readonly mapsOnDemand: boolean
  readonly leaseSeconds: number
  /** Where CPU profiles go, if anywhere. */
  readonly profile: string | undefined
}

export interface Worker {
  readonly child: ChildProcess
  readonly send: (message: ToWorker) => void
  /** The next message of this kind; rejects when the worker fails or ends. */
  readonly next: <K extends FromWorker["kind"]>(kind: K) => Promise<Extract<FromWorker, { kind: K }>>
}

export interface Lab {
  readonly workers: ReadonlyArray<Worker>
  /** By name: every process that the bench measures. */
  readonly pids: ReadonlyMap<string, number>
  readonly bus: (role: Role, instance: string) => BusConfig
  readonly sign: (version: number) => SignedWorkflow
  /** How many messages clients have sent the server so far. */
  readonly messages: () => Promise<number>
  /** What JetStream holds, in all streams and buckets. */
  readonly stored: () => Promise<{ readonly messages: number; readonly bytes: number }>
  readonly close: () => Promise<void>
}

const name = (index: number): string => `n${index}`

const until = async (what: string, check: () => boolean): Promise<void> => {
  for (let i = 0; i < 3_000; i++) {
    if (check()) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`${what}: not within 30 s`)
}

/** @param carry takes what nodes have for others to where those are */
const workerOf = (child: ChildProcess, carry: (message: ForPeers) => void): Worker => {
  const inbox: FromWorker[] = []
  const waiting = new Set<{
    kind: string
    resolve: (m: FromWorker) => void
    reject: (error: Error) => void
  }>()
  let broken: Error | undefined
  const fail = (error: Error): void => {
    broken ??= error
    for (const each of waiting) each.reject(error)
  }
  child.on("message", (message: FromWorker) => {
    if (message.kind === "failed") return fail(new Error(message.message))
    if (message.kind === "open" || message.kind === "seal") return carry(message)
    const taker = [...waiting].find(({ kind }) => kind === message.kind)
    if (taker === undefined) inbox.push(message)
    else {
      waiting.delete(taker)
      taker.resolve(message)
    }
  })
  // Nobody may be left to take a message.
  child.on("error", fail)
  child.once("exit", (code, signal) => fail(new Error(`a worker ended: ${code ?? signal}`)))
  return {
    child,
    send: (message) => void child.send(message),
    next: (kind) =>
      new Promise((resolve, reject) => {
        const at = inbox.findIndex((message) => message.kind === kind)
        if (at >= 0) resolve(inbox.splice(at, 1)[0] as never)
        else if (broken !== undefined) reject(broken)
        else waiting.add({ kind, resolve: resolve as (m: FromWorker) => void, reject })
      }),
  }
}

export const openLab = async (order: LabOrder): Promise<Lab> => {
  const directory = scratchDirectory("bench", existsSync(MEMORY) ? MEMORY : tmpdir())
  const ids = Array.from({ length: order.nodes }, (_, i) => name(i))
  for (const part of ["seeds", "guests", "nats"]) mkdirSync(join(directory, part), { mode: 0o700 })
  const children: ChildProcess[] = []
  const pids = new Map<string, number>()
  const close = closing(async (): Promise<void> => {
    for (const child of children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const gone = once(child, "exit")
      child.kill("SIGTERM")
      const late = setTimeout(() => child.kill("SIGKILL"), 8_000)
      await gone
      clearTimeout(late)
    }
    rmSync(directory, { recursive: true, force: true })
  })
  try {
    // Hardware, and who is who on it.
    const root = emulatedRoot()
    const image = imageMeasurement()
    const operator = crypto.ed25519.generate()
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
    const guest = (id: string): string => join(directory, "guests", id)
    for (const id of [CONTROL, ...ids]) mkdirSync(guest(id), { mode: 0o700 })
    const controlChip = newChip(root)
    const anchors = join(directory, "anchors.json")
    const control = { root: root.hardwareRoot, measurement: hex(image), chip: hex(controlChip.chipId) }
    writeFileSync(anchors, JSON.stringify(anchorsOf(operator.publicKey, control)), { mode: 0o600 })
    launch(controlChip, { measurement: image, stateFile: join(guest(CONTROL), "snp-guest.json") })
    const measurement = nodeMeasurement(image, anchors)
    const nodes = ids.map((id, i) => {
      const chip = newChip(root)
      launch(chip, { measurement, stateFile: join(guest(id), "snp-guest.json") })
      const host = `${(i >> 8) & 255}.${i & 255}`
      return {
        id,
        stage: "source",
        chip: { sev_snp: hex(chip.chipId) },
        address: `10.77.${host}`,
        wire: `10.99.${host}`,
      }
    })

    // The server, with a user for each identity.
    const identities: ReadonlyArray<readonly [Role, string]> = [
      ["verifier", "v1"],
      ["releaser", "r1"],
      ["attester", CONTROL],
      ["operator", "bench"],
      ...ids.flatMap((id) => [["loader", id] as const, ["attester", id] as const]),
    ]
    const seed = (role: Role, instance: string): string => join(directory, "seeds", `${role}-${instance}.nk`)
    const users = identities.map(([role, instance]) => {
      const user = newUser()
      writeFileSync(seed(role, instance), user.seed, { mode: 0o600 })
      return { role, instance, domain: DOMAIN, publicKey: user.publicKey }
    })
    const nats = join(directory, "nats")
    const config = join(nats, "nats.conf")
    const settings = serverConfig({ identities: users, port: -1, storeDir: join(nats, "store") })
    writeFileSync(config, `${settings}\nhttp: "127.0.0.1:-1"\n`)
    const server = spawnMortal("nats-server", ["-c", config, "--ports_file_dir", nats], { stdio: "ignore" })
    children.push(server)
    pids.set("nats-server", server.pid ?? 0)
    const ports = join(nats, `nats-server_${server.pid}.ports`)
    let [url, monitor] = ["", ""]
    await until("nats-server", () => {
      if (!existsSync(ports)) return false
      const listed = readFileSync(ports, "utf8")
      url = /nats:\/\/127\.0\.0\.1:\d+/.exec(listed)?.[0] ?? ""
      monitor = /http:\/\/127\.0\.0\.1:\d+/.exec(listed)?.[0] ?? ""
      return url !== "" && monitor !== ""
    })
    const bus = (role: Role, instance: string): BusConfig => ({
      url,
      prefix: DEFAULT_PREFIX,
      seed: Redacted.make(new Uint8Array(readFileSync(seed(role, instance)))),
      identity: identity(role, instance),
    })

    const flags = (who: string): string[] =>
      order.profile === undefined
        ? []
        : ["--cpu-prof", `--cpu-prof-dir=${order.profile}`, `--cpu-prof-name=${who}.cpuprofile`]
    const service = (what: string, role: Role, instance: string, env: Record<string, string>): void => {
      const child = spawnMortal(process.execPath, [...flags(what), join(services, what, "main.ts")], {
        stdio: ["ignore", "ignore", process.env.VOUCHSAFE_BENCH_LOG === undefined ? "ignore" : "inherit"],
        env: {
          PATH: process.env.PATH,
          VOUCHSAFE_NATS_URL: url,
          VOUCHSAFE_NATS_SEED: seed(role, instance),
          VOUCHSAFE_INSTANCE: instance,
          VOUCHSAFE_RUN_DIR: guest(CONTROL),
          VOUCHSAFE_ANCHORS: anchors,
          VOUCHSAFE_CONTROL_NODE: CONTROL,
          ...env,
        },
      })
      children.push(child)
      pids.set(what, child.pid ?? 0)
    }
    service("attester", "attester", CONTROL, {
      VOUCHSAFE_ROLE: "control-plane",
      VOUCHSAFE_ATTESTATION: `emulated-snp:${join(guest(CONTROL), "snp-guest.json")}`,
    })
    service("verifier", "verifier", "v1", {})
    service("key-releaser", "releaser", "r1", {})

    const shares = Array.from({ length: order.workers }, (_, w) =>
      ids.filter((_, i) => i % order.workers === w),
    )
    const placeOf = new Map(shares.flatMap((share, w) => share.map((id) => [id, w] as const)))
    const place = ({ to }: { readonly to: string }): number => placeOf.get(to) ?? -1
    const carry = (message: ForPeers): void => {
      if (message.kind === "open")
        for (const [w, packets] of Map.groupBy(message.packets, place))
          workers[w]?.send({ kind: "open", packets })
      else
        for (const [w, edges] of Map.groupBy(message.edges, place)) workers[w]?.send({ kind: "seal", edges })
    }
    const workers: ReadonlyArray<Worker> = shares.map((share, w) => {
      const child = fork(fileURLToPath(new URL("init-worker.ts", import.meta.url)), [], {
        execArgv: [],
        stdio: ["ignore", "inherit", "inherit", "ipc"],
      })
      children.push(child)
      pids.set(`nodes-${w}`, child.pid ?? 0)
      const own: WorkerOrder = {
        url,
        prefix: DEFAULT_PREFIX,
        directory,
        anchors,
        object: order.object,
        dataplane: order.dataplane,
        mapsOnDemand: order.mapsOnDemand,
        profile: order.profile === undefined ? undefined : join(order.profile, `nodes-${w}.cpuprofile`),
        nodes: share,
      }
      child.send(own)
      return workerOf(child, carry)
    })

    const example = exampleWorkflow({
      root: root.hardwareRoot,
      nodes: [],
      measurement: hex(measurement),
      dataplane: order.dataplane,
      notAfter: new Date(Date.now() + 86_400_000),
    })
    const sign = (version: number): SignedWorkflow => {
      const { source } = example.stages
      const document: Workflow = {
        ...example,
        version,
        lease_seconds: order.leaseSeconds,
        stages: source === undefined ? {} : { source },
        nodes,
        edges: [
          {
            id: "e",
            from: "source",
            to: "source",
            protocol: "tcp",
            port: 5_000,
            lanes: 1,
            pairs: order.pairs.map(([a, b]) => [name(a), name(b)]),
          },
        ],
      }
      // JSON is YAML, and shorter.
      return signWorkflow(JSON.stringify(document), operator)
    }
    const messages = async (): Promise<number> => {
      const answer = (await (await fetch(`${monitor}/varz`)).json()) as { readonly in_msgs: number }
      return answer.in_msgs
    }
    const stored = async () =>
      (await (await fetch(`${monitor}/jsz`)).json()) as { readonly messages: number; readonly bytes: number }
    return { workers, pids, bus, sign, messages, stored, close }
  } catch (error) {
    await close()
    throw error
  }
}
