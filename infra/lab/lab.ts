/** The lab: hardware, network, bus, control plane and nodes, from nothing to attested, and all of it gone again. */

import { execFileSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { mkdirSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { limits } from "../../schemas/limits.ts"
import type { Stats } from "../../schemas/messages/stats.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { crypto } from "../../services/common/crypto/index.ts"
import { toHex } from "../../services/common/hex.ts"
import { removePins } from "../../services/common/kernel/bpffs.ts"
import { measureObject } from "../../services/common/kernel/measure.ts"
import { compileCache } from "../../services/common/process/compile-cache.ts"
import { type LabBus, startBus } from "./bus.ts"
import { type Capture, startCapture } from "./capture.ts"
import type { Cleanup } from "./cleanup.ts"
import { type Client, connectOperator } from "./client.ts"
import {
  anchorsOf,
  DOMAIN,
  exampleWorkflow,
  guestDirectory,
  type LabNode,
  signWorkflow,
  workflowText,
} from "./domain.ts"
import { CHECKOUT, emulatedRoot, imageMeasurement, launch, newChip, nodeMeasurement } from "./hardware.ts"
import {
  BUS_PORT,
  ESP_PORT,
  nodePlace,
  type RunNames,
  runNames,
  type Underlay,
  WIRE_MTU,
  wireNets,
} from "./names.ts"
import { BRIDGE_NS, BUS_NS, createNetwork, planNetwork, removeNetwork } from "./network.ts"
import type { ControlPlanes } from "./options.ts"
import type { Machine } from "./preflight.ts"
import { createProcesses, lastLines, type Processes, type Running } from "./processes.ts"
import {
  CONTROL_PLANES,
  controlPlane,
  deviceFile,
  nodeAttester,
  nodeLoader,
  type ServiceContext,
} from "./services.ts"
import { ownerPath, ownerText } from "./sweep.ts"
import { tamper } from "./tamper.ts"
import { type SeenEvent, startWatch, type Watch } from "./watch.ts"

export const OBJECT = join(CHECKOUT, "bpf", "build", "vouchsafe.bpf.o")

/** The operator's identity that is left for a person at another terminal. */
export const PERSON = "me"

const underlayName = { ipv4: "IPv4", ipv6: "IPv6" } as const

/** Nodes of the example; the last one's data plane is tampered with, and it must be refused. */
const EXAMPLE = [
  { id: "n1", stage: "source", tampered: false },
  { id: "n2", stage: "transform", tampered: false },
  { id: "n3", stage: "sink", tampered: false },
  { id: "n4", stage: "sink", tampered: true },
] as const

export interface LabTimes {
  /** Milliseconds of the Unix clock. */
  readonly began: number
  readonly networkUp: number
  readonly busUp: number
  readonly servicesStarted: number
}

export interface Lab {
  readonly names: RunNames
  readonly machine: Machine
  readonly underlay: Underlay
  readonly controlPlanes: ControlPlanes
  readonly nodes: ReadonlyArray<LabNode>
  /** Ids of the nodes that must be refused. */
  readonly tampered: ReadonlySet<string>
  readonly workflow: Workflow
  /** Hex digest of the genuine data plane on this kernel. */
  readonly dataplane: string
  readonly bus: LabBus
  readonly processes: Processes
  readonly watch: Watch
  readonly capture: Capture
  readonly marker: string
  /** In every frame that the lab's own intruder sends. */
  readonly tag: Buffer
  readonly times: LabTimes
  /** Starts a node's loader: one that was held back, or again after it ended or was killed. */
  startLoader(id: string): Running
  loader(id: string): Running
  /** A service by its identity's name, e.g. `verifier-v1`, `attester-n1`, `loader-n1`. */
  service(identity: string): Running
  /** Starts a service again after it ended or was killed. */
  startService(identity: string): Running
  /** Ends every service but leaves network and capture; for looking at the wire to the very end. */
  stopServices(): Promise<void>
  place(id: string): LabNode
  /** Full name of a node's application namespace. */
  appNetns(id: string): string
  /** Runs a program in a namespace and gives its stdout; throws when it fails. */
  exec(netns: string, command: ReadonlyArray<string>): string
}

/** What a lab may have otherwise than the example. */
export interface LabVariation {
  readonly underlay?: Underlay
  readonly leaseSeconds?: number
  readonly peers?: Workflow["peers"]
  readonly controlPlanes?: ControlPlanes
  /** Somebody looks on, and may kill what another guest stands by for. */
  readonly attended?: boolean
  /** In addition to the example's. */
  readonly edges?: Workflow["edges"]
  /** Nodes whose loader isn't started with the others. */
  readonly heldBack?: ReadonlyArray<string>
  /** Other demands, machines or edges than the example's. */
  readonly adapt?: (workflow: Workflow) => Workflow
  /** More settings of a service, or others, by its identity. */
  readonly settings?: Readonly<Record<string, Readonly<Record<string, string>>>>
}

export interface LabOrder {
  readonly machine: Machine
  readonly cleanup: Cleanup
  /** What happens, a line each. */
  readonly say: (line: string) => void
  readonly onEvent: (seen: SeenEvent) => void
  readonly variation?: LabVariation
}

const createRunDirectory = (names: RunNames, cleanup: Cleanup): void => {
  mkdirSync(names.directory, { mode: 0o700 })
  cleanup.add("files", () => rmSync(names.directory, { recursive: true, force: true }))
  writeFileSync(ownerPath(names), ownerText(process.pid))
  mkdirSync(join(names.directory, "log"), { mode: 0o700 })
  mkdirSync(join(names.directory, "guests"), { mode: 0o700 })
}

/** With another guest standing by, the end of one is what people want to see; without anybody who kills, it is a crash. */
export const mayBeKilled = ({ controlPlanes, attended }: LabVariation): boolean =>
  controlPlanes === 2 && attended === true

const controlGuests = ({ controlPlanes = 1 }: LabVariation) => CONTROL_PLANES.slice(0, controlPlanes)

interface Hardware {
  readonly nodes: ReadonlyArray<LabNode>
  readonly anchors: string
  readonly workflow: Workflow
  readonly operator: ReturnType<typeof crypto.ed25519.generate>
}

/** A chip and a launched guest for the control plane and for each node, the anchors in them, and the workflow that names them. */
const createHardware = (names: RunNames, dataplane: string, variation: LabVariation): Hardware => {
  const root = emulatedRoot()
  const image = imageMeasurement()
  const operator = crypto.ed25519.generate()
  const controls = controlGuests(variation).map((guest) => ({ guest, chip: newChip(root) }))
  const [chip = "", ...others] = controls.map((one) => toHex(one.chip.chipId))
  const control = { root: root.hardwareRoot, measurement: toHex(image), chip, others }
  const anchors = join(names.directory, "anchors.json")
  writeFileSync(anchors, JSON.stringify(anchorsOf(operator.publicKey, control)), { mode: 0o600 })
  const guests = [...controls.map(({ guest }) => guest.control), ...EXAMPLE.map(({ id }) => id)]
  for (const guest of guests) mkdirSync(guestDirectory(names.directory, guest), { mode: 0o700 })
  for (const { guest, chip: own } of controls)
    launch(own, { measurement: image, stateFile: deviceFile(names, guest.control) })
  const measurement = nodeMeasurement(image, anchors)
  const nodes = EXAMPLE.map(({ id, stage }, i): LabNode => {
    const chip = newChip(root)
    launch(chip, { measurement, stateFile: deviceFile(names, id) })
    return { ...nodePlace(id, i + 1, variation.underlay), stage, chip: toHex(chip.chipId) }
  })
  const example = exampleWorkflow({
    root: root.hardwareRoot,
    nodes,
    measurement: toHex(measurement),
    dataplane,
    notAfter: new Date(Date.now() + 30 * 86_400_000),
  })
  const { leaseSeconds = example.lease_seconds, edges = [], peers, adapt = (same) => same } = variation
  const workflow = adapt({
    ...example,
    lease_seconds: leaseSeconds,
    ...(peers && { peers }),
    edges: [...example.edges, ...edges],
  })
  return { nodes, anchors, workflow, operator }
}

const serviceEnvironment = (): Record<string, string> => {
  const cache = compileCache()
  return {
    PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/root",
    LANG: "C.UTF-8",
    ...(cache !== undefined && { NODE_COMPILE_CACHE: cache }),
  }
}

/** What a person needs when a process dies that shouldn't. */
const obituary = (process: Running, how: string): string =>
  `${process.name} ended ${how}${lastLines(process.log, 4)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => `\n             ${line.slice(0, 300)}`)
    .join("")}`

/** Starts everything. What was made is registered with `cleanup` as it is made, so a failure half-way leaves nothing. */
export const startLab = async (order: LabOrder): Promise<Lab> => {
  const { machine, cleanup, say, variation = {} } = order
  const began = Date.now()
  const names = runNames(String(process.pid))
  createRunDirectory(names, cleanup)
  cleanup.add("pins", () => removePins(names.pinsRoot))

  const { underlay = "ipv4" } = variation
  const { busAddress } = wireNets[underlay]
  const places = EXAMPLE.map(({ id }, i) => nodePlace(id, i + 1, underlay))
  const plan = planNetwork(names, places, underlay)
  cleanup.add("network", () => removeNetwork(plan.namespaces, machine.makesNetnsDirectory))
  await createNetwork(plan)
  const networkUp = Date.now()
  say(
    `network: ${places.length} nodes on one untrusted ${underlayName[underlay]} wire, applications apart from it`,
  )

  const processes = createProcesses(join(names.directory, "log"), serviceEnvironment())
  cleanup.add("processes", () => processes.stopAll())

  const marker = randomBytes(16).toString("hex")
  const tag = randomBytes(16)
  const capture = await startCapture(processes, names.netns(BRIDGE_NS), {
    devices: ["bus", ...places.map(({ id }) => id)],
    markers: [Buffer.from(marker).toString("hex")],
    tag: tag.toString("hex"),
    bus: busAddress,
    busPort: BUS_PORT,
    espPort: ESP_PORT,
    lanesMax: limits.lanes,
    mtu: WIRE_MTU,
  })

  const starting = startBus({
    processes,
    directory: names.directory,
    domain: DOMAIN,
    busNetns: names.netns(BUS_NS),
    wireAddress: busAddress,
    identities: [
      { role: "operator", instance: "lab" },
      { role: "operator", instance: PERSON },
      { role: "auditor", instance: "lab" },
      ...controlGuests(variation).flatMap(({ control, verifier, releaser }) => [
        { role: "attester", instance: control } as const,
        { role: "verifier", instance: verifier } as const,
        { role: "releaser", instance: releaser } as const,
      ]),
      ...places.flatMap(({ id }) => [
        { role: "attester", instance: id } as const,
        { role: "loader", instance: id } as const,
      ]),
    ],
  })
  starting.catch(() => undefined)
  const dataplane = Buffer.from(measureObject(OBJECT).digest).toString("hex")
  const { nodes, anchors, workflow, operator } = createHardware(names, dataplane, variation)
  const bus = await starting
  const busUp = Date.now()
  say(`bus: nats-server ${bus.version} with JetStream at ${bus.url}`)

  const stats = new Map<string, Stats>()
  const client: Client = await connectOperator(bus.url, "lab", bus.seed("operator-lab"), (one) =>
    stats.set(one.node, one),
  )
  cleanup.add("bus client", () => client.close())
  await client.ensureStreams()
  const watch = startWatch(client, stats, order.onEvent)
  cleanup.add("watch", () => watch.stop())
  const context: ServiceContext = { names, bus, anchors }
  const tampered = new Set(EXAMPLE.filter((one) => one.tampered).map(({ id }) => id as string))
  const altered = join(names.directory, "tampered.bpf.o")
  tamper(OBJECT, altered)
  const place = (id: string): LabNode => {
    const found = nodes.find((node) => node.id === id)
    if (found === undefined) throw new Error(`the lab has no node ${id}`)
    return found
  }
  const loaderOf = (id: string): string => `loader-${id}`
  const control = controlGuests(variation).flatMap((guest) => controlPlane(context, guest))
  const programs = [
    ...control,
    ...nodes.flatMap((node) => [
      nodeAttester(context, node),
      nodeLoader(context, node, tampered.has(node.id) ? altered : OBJECT),
    ]),
  ].map((one) => ({ ...one, env: { ...one.env, ...variation.settings?.[one.name] } }))
  const spare = mayBeKilled(variation) ? new Set(control.map(({ name }) => name)) : new Set<string>()
  processes.onUnexpectedEnd((process, how) =>
    spare.has(process.name) ? say(obituary(process, how)) : watch.fail(new Error(obituary(process, how))),
  )
  const services = new Map<string, Running>()
  const startService = (identity: string): Running => {
    const program = programs.find(({ name }) => name === identity)
    if (program === undefined) throw new Error(`the lab has no service ${identity}`)
    const running = processes.start(program)
    services.set(identity, running)
    return running
  }
  const service = (identity: string): Running => {
    const found = services.get(identity)
    if (found === undefined) throw new Error(`${identity} was not started`)
    return found
  }
  const heldBack = new Set(variation.heldBack?.map(loaderOf))
  for (const { name } of programs) if (!heldBack.has(name)) startService(name)
  const servicesStarted = Date.now()
  await client.apply(DOMAIN, signWorkflow(workflowText(workflow), operator))
  writeFileSync(join(names.directory, "workflow.yaml"), workflowText(workflow))
  say(`workflow ${workflow.workflow} signed and applied: source -> transform -> sink`)

  return {
    names,
    machine,
    underlay,
    controlPlanes: variation.controlPlanes ?? 1,
    nodes,
    tampered,
    workflow,
    dataplane,
    bus,
    processes,
    watch,
    capture,
    marker,
    tag,
    times: { began, networkUp, busUp, servicesStarted },
    startLoader: (id) => startService(loaderOf(id)),
    loader: (id) => service(loaderOf(id)),
    service,
    startService,
    place,
    appNetns: (id) => names.netns(place(id).appNs),
    exec: (netns, [command = "true", ...args]) =>
      execFileSync("nsenter", [`--net=/run/netns/${netns}`, command, ...args], {
        encoding: "utf8",
        timeout: 30_000,
        stdio: ["ignore", "pipe", "pipe"],
      }),
    stopServices: async () => {
      await watch.stop()
      await client.close()
      await Promise.all([...services.values()].map((one) => one.stop()))
    },
  }
}
