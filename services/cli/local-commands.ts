/** Commands that need no bus: keys, documents, reference values, and the configuration of a NATS server. */
import { mkdirSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { type NatsUser, nameOf, serverConfig } from "../../schemas/generate/permissions.ts"
import type { Chip } from "../../schemas/platforms.ts"
import type { Role } from "../../schemas/subjects.ts"
import type { Workflow } from "../../schemas/workflow.ts"
import { identity, newUser } from "../common/bus/bus.ts"
import { crypto } from "../common/crypto/index.ts"
import { toHex } from "../common/hex.ts"
import { measureObject } from "../common/kernel/measure.ts"
import { measureFiles } from "../evidence/index.ts"
import { protocolWorkflow } from "../guest/protocol-workflow.ts"
import { compileWorkflow, type EdgeInstance, unreachablePairs } from "../make/edges.ts"
import { revokedNodes } from "../make/standing.ts"
import { workflowDigest } from "../make/transcript.ts"
import { parseWorkflow } from "../make/workflow-document.ts"
import { readDocument } from "./document-file.ts"
import { createOperatorKey } from "./operator-key.ts"
import { type Output, UsageError, warn } from "./output.ts"

export const keygen = (out: Output, path: string): void => {
  const key = toHex(createOperatorKey(crypto, resolve(path)))
  out.result({ file: resolve(path), public_key: key }, [
    `The operator's key is in ${resolve(path)} (keep it offline).`,
    `Its public half, for the anchors of every guest: ${key}`,
  ])
}

/** Which families of workflow addresses both ends of an edge have. */
const familiesOf = (document: Workflow, { initiator, responder }: EdgeInstance): ReadonlyArray<4 | 6> => {
  const ends = document.nodes.filter(({ id }) => id === initiator || id === responder)
  const four = ends.every(({ address }) => address !== undefined)
  const six = ends.every(({ address6 }) => address6 !== undefined)
  return [...(four ? [4 as const] : []), ...(six ? [6 as const] : [])]
}

/**
 * Decodes, checks that it is consistent, and shows what it allows; says nothing about signatures. All pairs of nodes that
 * can't reach each other are told on stderr before the first of them ends the check.
 */
export const checkWorkflow = (out: Output, path: string): void => {
  const bytes = readDocument(path)
  const document = parseWorkflow(new TextDecoder().decode(bytes))
  const digest = workflowDigest(crypto, bytes)
  const workflow = protocolWorkflow({ document, digest })
  for (const { edge, initiator, responder, why } of unreachablePairs(workflow))
    warn(`unreachable: edge ${edge} from ${initiator} to ${responder}: ${why}`)
  const instances = compileWorkflow(workflow)
  out.result(
    {
      workflow: document.workflow,
      version: document.version,
      digest: toHex(digest),
      nodes: document.nodes.length,
      addresses: document.nodes.map(({ id, address, address6, wire }) => ({
        id,
        address: address ?? null,
        address6: address6 ?? null,
        wire,
      })),
      edges: instances.map((instance) => ({
        id: instance.id,
        protocol: instance.protocol,
        port: instance.port ?? null,
        lanes: instance.lanes,
        families: familiesOf(document, instance),
      })),
    },
    [
      `${document.workflow} version ${document.version} of domain ${document.domain}, until ${document.not_after}`,
      `digest ${toHex(digest)}`,
      ...document.nodes.map(({ id, stage, chip, address, address6, wire }) => {
        const machine =
          chip === "any"
            ? "ANY MACHINE (identity: any)"
            : chip === "pending"
              ? "no machine yet (pending)"
              : describeChip(chip)
        const own = [address, address6].filter((one) => one !== undefined).join(" ")
        return `node  ${id.padEnd(12)} ${stage.padEnd(14)} ${own.padEnd(15)} on the wire ${wire}, ${machine}`
      }),
      ...instances.map((instance) => {
        const { initiator, responder, protocol, port, edge } = instance
        const families = familiesOf(document, instance).map((family) => `IPv${family}`)
        const what = `${protocol}${port === undefined ? "" : `/${port}`}`
        return `edge  ${edge.padEnd(12)} ${initiator} -> ${responder}  ${what} by ${families.join(" and ")}`
      }),
      ...[...revokedNodes(document)].map((id) => `node  ${id} is REVOKED`),
      ...Object.entries(document.stages).flatMap(([id, { until = {} }]) =>
        Object.entries(until).map(([value, end]) => {
          const over = Date.now() < Date.parse(end) ? "until" : "OVER since"
          return `stage ${id.padEnd(12)} takes ${value.slice(0, 16)}... ${over} ${end}`
        }),
      ),
      ...document.roots
        .filter((root) => root.emulated)
        .map(() => "accepts EMULATED hardware of a lab's root"),
    ],
  )
}

const describeChip = (chip: Chip): string =>
  Object.entries(chip)
    .map(([kind, id]) => `${kind} ${id.length > 24 ? `${id.slice(0, 16)}...` : id}`)
    .join(", ")

export const measureDataplane = (out: Output, object: string): void => {
  const { digest, programs } = measureObject(object)
  out.result(
    { dataplane: toHex(digest), programs: programs.map((p) => ({ name: p.name, digest: toHex(p.digest) })) },
    [
      `dataplane: ${toHex(digest)}`,
      ...programs.map((program) => `  ${program.name.padEnd(12)} ${toHex(program.digest)}`),
      "Valid for this object on this kernel; name it in the stages of the workflow.",
    ],
  )
}

/** Of an emulated guest only: real hardware measures memory, not files. */
export const measureGuest = (out: Output, base: string, paths: ReadonlyArray<string>): void => {
  const measurement = toHex(measureFiles(base, [...paths]))
  out.result({ measurement, emulated: true }, [
    `measurement: ${measurement}`,
    "EMULATED: a digest over files, the launch measurement of a lab's guest.",
  ])
}

const ROLES: ReadonlyArray<Role> = ["attester", "verifier", "releaser", "loader", "operator", "auditor"]

const parseIdentity = (text: string): { role: Role; instance: string } => {
  const role = ROLES.find((each) => text.startsWith(`${each}-`))
  if (role === undefined) {
    throw new UsageError(`"${text}" is no identity: <role>-<instance>, with a role of ${ROLES.join(", ")}`)
  }
  return identity(role, text.slice(role.length + 1))
}

export interface BusOrder {
  readonly directory: string
  readonly host: string
  readonly port: number
  readonly identities: ReadonlyArray<string>
}

/** Writes a server configuration with exactly the permissions of these identities, and a seed file for each. */
export const makeBus = (out: Output, order: BusOrder): void => {
  if (order.identities.length === 0) throw new UsageError("name at least one identity, such as verifier-v1")
  const directory = resolve(order.directory)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const users = order.identities.map(parseIdentity).map(({ role, instance }): NatsUser => {
    const { seed, publicKey } = newUser()
    writeFileSync(join(directory, `${role}-${instance}.nk`), seed, { mode: 0o600, flag: "wx" })
    seed.fill(0)
    return { role, instance, publicKey }
  })
  const path = join(directory, "nats.conf")
  const { host, port } = order
  writeFileSync(
    path,
    serverConfig({ identities: users, host, port, storeDir: join(directory, "jetstream") }),
    {
      mode: 0o600,
    },
  )
  out.result(
    { config: path, identities: users.map((who) => ({ name: nameOf(who), seed: `${nameOf(who)}.nk` })) },
    [
      `nats-server -c ${path}`,
      ...users.map((who) => `seed of ${nameOf(who)}: ${join(directory, `${nameOf(who)}.nk`)}`),
    ],
  )
}
