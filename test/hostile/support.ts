/**
 * A domain under attack: a real server, the control plane's real processes, emulated machines, and a wiretap that may
 * also say anything on the bus. Nodes are played by the services' own code, so that each of their steps can be bent.
 */
import type { ChildProcess } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect, Exit, Logger, Scope } from "effect"
import type { Msg } from "nats"
import { signWorkflow, workflowText } from "../../infra/lab/domain.ts"
import { CHECKOUT, emulatedRoot } from "../../infra/lab/hardware.ts"
import type { Chip, SevSnp } from "../../schemas/platforms.ts"
import { DEFAULT_PREFIX, type Role, type SubjectName } from "../../schemas/subjects.ts"
import type { Anchors, Stage, Workflow } from "../../schemas/workflow.ts"
import type { BusShape, StoredEvent } from "../../services/common/bus/bus.ts"
import { newUser } from "../../services/common/bus/bus.ts"
import { loadTrust, type Trust } from "../../services/common/config/anchors.ts"
import { crypto, type SecretKey } from "../../services/common/crypto/index.ts"
import {
  createEmulatedChip,
  createEmulatedRoot,
  type EmulatedChip,
  type EmulatedRoot,
  encodeGuest,
  encodeRoot,
  type Launch,
  launchGuest,
  readRoot,
  writeState,
} from "../../services/evidence/index.ts"
import { defaultSuite } from "../../services/make/suites.ts"
import { type VerifiedWorkflow, verifyWorkflow } from "../../services/make/workflow-document.ts"
import { openBus } from "../support/buses.ts"
import { startNats, type TestNats, type TestUser } from "../support/nats.ts"
import { type Raw, rawUser } from "../support/raw.ts"
import { scratchDirectory, spawnMortal } from "../support/scratch.ts"

export { crypto }

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
export const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value)
/** The same bytes but for one bit. */
export const flipped = (bytes: Uint8Array, at = bytes.length >> 1): Uint8Array =>
  Uint8Array.from(bytes, (byte, i) => (i === at ? byte ^ 0x10 : byte))
export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** Waits until `look` gives something; fails with `what` after `ms`. */
export const until = async <A>(
  what: string,
  look: () => A | undefined | Promise<A | undefined>,
  ms = 15_000,
): Promise<A> => {
  for (const end = performance.now() + ms; ; ) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > end) throw new Error(`${what}: not within ${ms} ms`)
    await pause(20)
  }
}

/** Says something, and says it again each time that `comes` has waited in vain for what comes of it. */
export const insistently = async <A>(say: () => unknown, comes: (ms: number) => Promise<A>): Promise<A> => {
  for (let left = 9; ; left--) {
    await say()
    try {
      return await comes(4_000)
    } catch (error) {
      if (left === 0) throw error
    }
  }
}

const FOREIGN_ROOT_FILE = join(CHECKOUT, ".cache", "emulated-root-foreign.json")

/** Another maker's root, which no workflow here names. Two keys of 4,096 bits, so it is kept. */
export const foreignRoot = (): EmulatedRoot => {
  if (existsSync(FOREIGN_ROOT_FILE)) {
    try {
      return readRoot(FOREIGN_ROOT_FILE)
    } catch {
      // Of another version: a new one is as good.
    }
  }
  const root = createEmulatedRoot({ now: new Date() })
  mkdirSync(join(CHECKOUT, ".cache"), { recursive: true })
  writeState(FOREIGN_ROOT_FILE, encodeRoot(root))
  return root
}

export const chipOf = (
  root: EmulatedRoot,
  change: Omit<Parameters<typeof createEmulatedChip>[1], "now"> = {},
): EmulatedChip => createEmulatedChip(root, { now: new Date(), ...change })

/** A machine that vouches for whatever it is asked to. */
export interface Machine {
  readonly report: (reportData: Uint8Array) => {
    readonly report: Uint8Array
    readonly certificates: ReadonlyArray<Uint8Array>
  }
}

/** A guest launched on a chip. */
export const machine = (
  chip: EmulatedChip,
  launch: Partial<Launch> & Pick<Launch, "measurement">,
): Machine => {
  const guest = launchGuest(chip, launch)
  return { report: (reportData) => ({ report: guest.report(reportData), certificates: chip.certificates }) }
}

export const CONTROL_IMAGE = filled(48, 0xc0)
/** Each stage has an image of its own. */
export const imageOf = (stage: string): Uint8Array => filled(48, stage.charCodeAt(stage.length - 1))
export const DATAPLANE = filled(48, 0xd5)

const snpOf = (measurement: Uint8Array): SevSnp => ({
  measurements: [hex(measurement)],
  policy: { debug: false, migration_agent: false, vmpl_max: 0 },
  tcb: { minimum: [{ bootloader: 3, tee: 0, snp: 8, microcode: 115 }] },
})

export const anchorsOf = (operator: SecretKey, root: EmulatedRoot, chip: EmulatedChip): Anchors => ({
  domain: "lab",
  operator_keys: [hex(operator.publicKey)],
  operator_threshold: 1,
  control_plane: {
    roots: [root.hardwareRoot],
    assurance: "emulated",
    platforms: ["sev-snp"],
    sev_snp: snpOf(CONTROL_IMAGE),
    chips: [{ sev_snp: hex(chip.chipId) }],
  },
})

/** source -> transform -> sink, a vault that takes no emulated machine, and the nodes that a test file wants. */
export const workflowOf = (
  root: EmulatedRoot,
  nodes: ReadonlyArray<{ id: string; stage: string; chip: Chip | "any" }>,
  leaseSeconds: number,
): Workflow => {
  const stage = (id: string): Stage => ({
    assurance: "emulated",
    platforms: ["sev-snp"],
    sev_snp: snpOf(imageOf(id)),
    dataplane: [hex(DATAPLANE)],
  })
  return {
    workflow: "example",
    domain: "lab",
    version: 1,
    not_after: new Date(Date.now() + 86_400_000).toISOString().replace(/\.\d+Z$/, "Z"),
    suite: defaultSuite,
    lease_seconds: leaseSeconds,
    roots: [root.hardwareRoot],
    stages: {
      source: stage("source"),
      transform: stage("transform"),
      sink: stage("sink"),
      vault: { ...stage("vault"), assurance: "hardware" },
    },
    nodes: nodes.map((node, i) => ({ ...node, address: `10.77.0.${i + 1}`, wire: `10.99.0.${i + 11}` })),
    edges: [
      { id: "raw", from: "source", to: "transform", protocol: "tcp", port: 5000, lanes: 1 },
      { id: "packed", from: "transform", to: "sink", protocol: "tcp", port: 5001, lanes: 2 },
    ],
  }
}

export interface WorldOptions {
  /** Somebody between the server and all services: given its URL, gives the one that services connect to. */
  readonly between?: (url: string) => Promise<string>
  /** More settings of the first verifier. */
  readonly verifier?: Readonly<Record<string, string>>
  /** Nodes of the workflow; `any` gives up the pin to one chip. */
  readonly nodes: ReadonlyArray<{ readonly id: string; readonly stage: string; readonly any?: boolean }>
  /** Nodes that have users on the bus, but no place in the workflow. */
  readonly strangers?: ReadonlyArray<string>
  readonly leaseSeconds?: number
  /** Two guests of the control plane: `cp2` with `v2` and `r2` beside the first. */
  readonly twice?: boolean
  /** Other demands than those of emulated SNP machines. */
  readonly adapt?: (workflow: Workflow) => Workflow
  /** Another machine of the control plane: what the anchors want of it, and its attester's settings. */
  readonly control?: {
    readonly demands: Anchors["control_plane"]
    readonly attester: Readonly<Record<string, string>>
  }
}

export interface World {
  readonly nats: TestNats
  readonly root: EmulatedRoot
  readonly operator: SecretKey
  readonly trust: Trust
  readonly workflow: VerifiedWorkflow
  readonly controlChip: EmulatedChip
  /** Where the control plane's services leave their public keys. */
  readonly controlDirectory: string
  /** The enrolled chip of each node. */
  readonly chip: (node: string) => EmulatedChip
  /** Whoever runs the server: may say and hear anything. */
  readonly wire: Raw
  /** Every message since the start, inboxes and the streams' own included. */
  readonly captured: ReadonlyArray<Msg>
  /** Payloads on one subject of the table, in order, without what the wire itself has said. */
  readonly sent: (subject: string) => ReadonlyArray<Uint8Array>
  /** The wire says this on a subject of the table. */
  readonly say: (subject: string, data: Uint8Array) => void
  /** A connection with an identity's own permissions and no code of ours behind it. */
  readonly raw: (role: Role, instance: string) => Promise<Raw>
  readonly bus: (role: Role, instance: string) => Promise<BusShape>
  readonly run: <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) => Promise<A>
  /** Runs until the world ends, or until what it gives is called. */
  readonly begin: (effect: Effect.Effect<unknown, unknown, Scope.Scope>) => () => Promise<void>
  readonly newDirectory: (name: string) => string
  /** Everything in the stream EVENTS. */
  readonly events: () => Promise<ReadonlyArray<StoredEvent>>
  /** The first event after stream sequence `after` that fits. */
  readonly recorded: (after: number, wanted: WantedEvent, ms?: number) => Promise<StoredEvent["event"]>
  /**
   * Says something by `say`, and gives the event that comes of it. Says it again while none does, as real parties would: a service that
   * stood still or began anew for a moment answers nobody. So what is said must fare the same each time.
   */
  readonly insist: (wanted: WantedEvent, say: () => unknown) => Promise<StoredEvent["event"]>
  /** The last stream sequence: events after it are younger than now. */
  readonly mark: () => Promise<number>
  /** What the service processes have written. */
  readonly logs: () => string
  /** Ends a process of the control plane as a power cut would, and gives when. */
  readonly kill: (role: Role, instance: string) => number
  /** Begins one again that was killed. */
  readonly again: (role: Role, instance: string) => void
  /** Throws when a service process has ended. */
  readonly allRun: () => void
  readonly stop: () => Promise<void>
}

export interface WantedEvent {
  readonly by: string
  readonly type: string
  readonly subject?: string
  readonly code?: string | RegExp
  readonly field?: string
}

const fits = ({ identity, event }: StoredEvent, wanted: WantedEvent): boolean =>
  identity === wanted.by &&
  event.type === wanted.type &&
  (wanted.subject === undefined || event.subject === wanted.subject) &&
  (wanted.code === undefined ||
    (typeof wanted.code === "string"
      ? event.data.code === wanted.code
      : wanted.code.test(event.data.code ?? ""))) &&
  (wanted.field === undefined || event.data.field === wanted.field)

/** Lets one more user in, who may do everything; the server takes it up without a restart. */
const addSuperuser = async (nats: TestNats): Promise<Raw> => {
  const { seed, publicKey } = newUser()
  const path = join(nats.directory, "nats.conf")
  const text = readFileSync(path, "utf8")
  const opened = text.replace("  users: [\n", `  users: [\n    { nkey: ${publicKey} }\n`)
  if (opened === text) throw new Error("the server's configuration has no list of users")
  writeFileSync(path, opened)
  const ports = readdirSync(nats.directory).find((name) => /^nats-server_\d+\.ports$/.test(name))
  process.kill(Number(/\d+/.exec(ports ?? "")?.[0]), "SIGHUP")
  const asSuperuser = { ...nats, seed: () => Uint8Array.from(seed) }
  return until("the superuser's connection", () =>
    rawUser(asSuperuser, { role: "operator", instance: "superuser" }).catch(() => undefined),
  )
}

/** Marks what the wire says; services don't look at it where nothing is answered. */
const OURS = "_INBOX.operator-superuser.said"

const CONTROL: ReadonlyArray<TestUser> = [
  { role: "operator", instance: "lab" },
  { role: "auditor", instance: "lab" },
  { role: "attester", instance: "cp" },
  { role: "verifier", instance: "v1" },
  { role: "releaser", instance: "r1" },
]

const SECOND: ReadonlyArray<TestUser> = [
  { role: "attester", instance: "cp2" },
  { role: "verifier", instance: "v2" },
  { role: "releaser", instance: "r2" },
]

/** Ready is said before the workflow and the first beacon have reached everybody. */
const answersHellos = async ({ bus, run }: World, node: string): Promise<void> => {
  const loader = await bus("loader", node)
  const [session, nonce] = [crypto.randomBytes(16), crypto.randomBytes(32)]
  const hello = { v: 1, domain: "lab", node, session, nonce, term: 0n } as const
  await until(
    "an offer",
    async () => {
      const reply = await run(loader.request("hello", { node }, hello, { timeoutMs: 5_000 }))
      return reply.kind === "offer" ? true : undefined
    },
    60_000,
  )
}

type Undo = () => unknown

/** All of what was made, the last first, whatever fails; again is safe. */
const undoAll = async (made: Undo[]): Promise<void> => {
  const failures: unknown[] = []
  for (const undo of made.splice(0).reverse()) {
    try {
      await undo()
    } catch (error) {
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
}

const endChild = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise((resolve) => child.once("exit", resolve))
  child.kill("SIGTERM")
  const late = setTimeout(() => child.kill("SIGKILL"), 3_000)
  await ended
  clearTimeout(late)
}

/** When it fails half-way, what was made is gone again. */
export const startWorld = async (options: WorldOptions): Promise<World> => {
  const made: Undo[] = []
  try {
    return await makeWorld(options, made)
  } catch (error) {
    await undoAll(made)
    throw error
  }
}

const makeWorld = async (options: WorldOptions, made: Undo[]): Promise<World> => {
  const root = emulatedRoot()
  const operator = crypto.ed25519.generate()
  const controlChip = chipOf(root)
  const chips = new Map(options.nodes.map(({ id }) => [id, chipOf(root)]))
  const chip = (node: string): EmulatedChip => {
    const found = chips.get(node)
    if (found === undefined) throw new Error(`no node ${node}`)
    return found
  }
  const ids = [...chips.keys(), ...(options.strangers ?? [])]
  const second = options.twice === true ? SECOND : []
  const nats = await startNats([
    ...CONTROL,
    ...second,
    ...ids.flatMap((instance): TestUser[] => [
      { role: "loader", instance },
      { role: "attester", instance },
    ]),
  ])
  made.push(() => nats.stop())
  const directory = scratchDirectory("hostile")
  made.push(() => rmSync(directory, { recursive: true, force: true }))
  const newDirectory = (name: string): string => {
    const path = join(directory, name)
    mkdirSync(path, { mode: 0o700 })
    return path
  }
  const wire = await addSuperuser(nats)
  made.push(() => wire.close())
  const captured = await wire.listen(">")

  const anchorsPath = join(directory, "anchors.json")
  const secondChip = chipOf(root)
  const anchors = anchorsOf(operator, root, controlChip)
  const chipIds = options.twice === true ? [controlChip, secondChip] : [controlChip]
  const own = { ...anchors.control_plane, chips: chipIds.map(({ chipId }) => ({ sev_snp: hex(chipId) })) }
  const demanded = { ...anchors, control_plane: options.control?.demands ?? own }
  writeFileSync(anchorsPath, JSON.stringify(demanded), { mode: 0o600 })
  const trust = loadTrust(anchorsPath)
  const nodes = options.nodes.map(({ id, stage, any }) => ({
    id,
    stage,
    chip: any === true ? ("any" as const) : { sev_snp: hex(chip(id).chipId) },
  }))
  const { adapt = (same) => same } = options
  const document = adapt(workflowOf(root, nodes, options.leaseSeconds ?? 30))
  const signed = signWorkflow(workflowText(document), operator)
  const workflow = verifyWorkflow(crypto, signed, trust, Date.now())

  const children: Array<{ name: string; child: ChildProcess }> = []
  made.push(async () => {
    for (const { child } of children) await endChild(child)
  })
  const scope = Scope.makeUnsafe()
  made.push(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const run: World["run"] = (effect) =>
    Effect.runPromise(effect.pipe(Scope.provide(scope), Effect.provide(Logger.layer([]))))
  const url = (await options.between?.(nats.url)) ?? nats.url
  const elsewhere: TestNats = { ...nats, config: (...who) => ({ ...nats.config(...who), url }) }
  const bus: World["bus"] = (role, instance) => {
    const outside = role === "operator" || role === "auditor"
    return run(openBus(outside ? nats : elsewhere, role, instance))
  }
  const operatorBus = await bus("operator", "lab")
  await run(Effect.retry(operatorBus.ensureStreams, { times: 9 }))
  await run(operatorBus.workflows.put("lab", signed))

  const controlDirectory = newDirectory("cp")
  const stateFile = join(controlDirectory, "snp-guest.json")
  writeState(stateFile, encodeGuest(launchGuest(controlChip, { measurement: CONTROL_IMAGE })))
  const recipes = new Map<string, () => void>()
  let log = ""
  const start = (
    service: string,
    role: Role,
    instance: string,
    env: Record<string, string>,
    runDirectory = controlDirectory,
  ): void => {
    const seedPath = join(directory, `${role}-${instance}.seed`)
    writeFileSync(seedPath, nats.seed(role, instance), { mode: 0o600 })
    const name = `${role}-${instance}`
    recipes.set(name, () => start(service, role, instance, env, runDirectory))
    const child = spawnMortal(process.execPath, [join(CHECKOUT, "services", service, "main.ts")], {
      env: {
        PATH: process.env.PATH,
        VOUCHSAFE_NATS_URL: url,
        VOUCHSAFE_NATS_SEED: seedPath,
        VOUCHSAFE_INSTANCE: instance,
        VOUCHSAFE_RUN_DIR: runDirectory,
        VOUCHSAFE_ANCHORS: anchorsPath,
        ...env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    })
    for (const stream of [child.stdout, child.stderr])
      stream?.on("data", (chunk: Buffer) => {
        log += chunk.toString()
      })
    children.push({ name, child })
  }
  start("attester", "attester", "cp", {
    VOUCHSAFE_ROLE: "control-plane",
    ...(options.control?.attester ?? { VOUCHSAFE_ATTESTATION: `emulated-snp:${stateFile}` }),
  })
  start("verifier", "verifier", "v1", { VOUCHSAFE_CONTROL_NODE: "cp", ...options.verifier })
  start("key-releaser", "releaser", "r1", { VOUCHSAFE_CONTROL_NODE: "cp" })
  if (options.twice === true) {
    const place = newDirectory("cp2")
    const state = join(place, "snp-guest.json")
    writeState(state, encodeGuest(launchGuest(secondChip, { measurement: CONTROL_IMAGE })))
    const attestation = { VOUCHSAFE_ROLE: "control-plane", VOUCHSAFE_ATTESTATION: `emulated-snp:${state}` }
    start("attester", "attester", "cp2", attestation, place)
    start("verifier", "verifier", "v2", { VOUCHSAFE_CONTROL_NODE: "cp2" }, place)
    start("key-releaser", "releaser", "r2", { VOUCHSAFE_CONTROL_NODE: "cp2" }, place)
  }
  const kill: World["kill"] = (role, instance) => {
    const at = children.findIndex(({ name }) => name === `${role}-${instance}`)
    const [killed] = children.splice(at, 1)
    if (at < 0 || killed === undefined) throw new Error(`no ${role}-${instance} runs`)
    killed.child.kill("SIGKILL")
    return performance.now()
  }
  const allRun = (): void => {
    for (const { name, child } of children)
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${name} has ended:\n${log}`)
  }

  const auditor = await bus("auditor", "lab")
  const history: StoredEvent[] = []
  let reading: Promise<unknown> = Promise.resolve()
  const events = (): Promise<ReadonlyArray<StoredEvent>> => {
    const next = reading.then(async () => {
      const after = history.at(-1)?.sequence ?? 0
      // Where a server stood still there is no answer in time.
      const asking = Effect.retry(auditor.history({ after, most: 5_000 }), { times: 9 })
      history.push(...(await run(asking)))
      return history
    })
    reading = next.catch(() => undefined)
    return next
  }
  const recorded: World["recorded"] = async (after, wanted, ms) => {
    const look = async () =>
      (await events()).find((stored) => stored.sequence > after && fits(stored, wanted))
    const found = await until(`an event ${JSON.stringify(wanted)}`, look, ms).catch((error: unknown) => {
      const instead = history.filter(({ sequence }) => sequence > after).slice(-20)
      const lines = instead.map(
        ({ identity, event: { type, subject, data } }) =>
          `${identity} ${type} ${subject ?? ""} ${data.code ?? ""} ${data.field ?? ""} ${data.message ?? ""}`,
      )
      throw new Error(`${String(error)}; recorded instead:\n${lines.join("\n")}`)
    })
    return found.event
  }
  const mark: World["mark"] = async () => (await events()).at(-1)?.sequence ?? 0
  const insist: World["insist"] = async (wanted, say) => {
    const after = await mark()
    return insistently(say, (ms) => recorded(after, wanted, ms))
  }
  const sent = (at: string): ReadonlyArray<Uint8Array> =>
    captured
      .filter(({ subject, reply }) => subject === `${DEFAULT_PREFIX}.${at}` && reply !== OURS)
      .map(({ data }) => data)

  const world: World = {
    nats,
    root,
    operator,
    trust,
    workflow,
    controlChip,
    controlDirectory,
    chip,
    wire,
    captured,
    sent,
    say: (at, data) => wire.send(`${DEFAULT_PREFIX}.${at}`, data, OURS),
    raw: (role, instance) => rawUser(nats, { role, instance }),
    bus,
    run,
    begin: (effect) => {
      const own = Scope.makeUnsafe()
      const quiet = effect.pipe(Scope.provide(own), Effect.provide(Logger.layer([])))
      const fiber = Effect.runFork(quiet)
      const end = async (): Promise<void> => {
        fiber.interruptUnsafe()
        await Effect.runPromise(Scope.close(own, Exit.void))
      }
      Effect.runSync(Scope.addFinalizer(scope, Effect.promise(end)))
      return end
    },
    newDirectory,
    events,
    recorded,
    insist,
    mark,
    logs: () => log,
    kill,
    again: (role, instance) => recipes.get(`${role}-${instance}`)?.(),
    allRun,
    stop: () => undoAll(made),
  }
  try {
    const everybody = [...CONTROL, ...second].filter(({ role }) => role !== "operator" && role !== "auditor")
    for (const by of everybody.map(({ role, instance }) => `${role}-${instance}`))
      await recorded(0, { by, type: "vouchsafe.service.ready" }, 60_000)
    await answersHellos(world, ids[0] ?? "")
    return world
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${log}`, { cause: error })
  }
}

type Change = (value: never) => unknown

export interface Bend {
  /** What this side sends, and what it gets back, as somebody on the way changes it. */
  readonly send?: Partial<Record<SubjectName, Change>>
  readonly reply?: Partial<Record<SubjectName, Change>>
}

/** The same bus with somebody on the way. */
export const bent = (bus: BusShape, { send = {}, reply = {} }: Bend): BusShape => {
  const change = (by: Change | undefined, value: unknown): unknown =>
    by === undefined ? value : by(value as never)
  const request = (name: SubjectName, tokens: never, value: never, options: never) =>
    bus
      .request(name as never, tokens, change(send[name], value) as never, options)
      .pipe(Effect.flatMap((answer) => Effect.promise(async () => change(reply[name], answer))))
  const publish = (name: SubjectName, tokens: never, value: never) =>
    bus.publish(name as never, tokens, change(send[name], value) as never)
  return { ...bus, request: request as BusShape["request"], publish: publish as BusShape["publish"] }
}
