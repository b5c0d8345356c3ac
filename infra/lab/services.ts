/** The lab's service processes and what each is told. They share no memory and meet on the bus only. */
import { join } from "node:path"
import type { LabBus } from "./bus.ts"
import { guestDirectory } from "./domain.ts"
import { CHECKOUT } from "./hardware.ts"
import type { NodePlace, RunNames } from "./names.ts"
import type { Program } from "./processes.ts"

/** Guests of the control plane; the first alone unless more are asked for. */
export const CONTROL_PLANES = [
  { control: "cp", verifier: "v1", releaser: "r1" },
  { control: "cp2", verifier: "v2", releaser: "r2" },
] as const
export type ControlGuest = (typeof CONTROL_PLANES)[number]

export interface ServiceContext {
  readonly names: RunNames
  readonly bus: LabBus
  readonly anchors: string
}

const main = (service: string): string => join(CHECKOUT, "services", service, "main.ts")

interface Who {
  readonly service: "attester" | "verifier" | "key-releaser" | "dataplane-loader"
  /** As in the NATS identity. */
  readonly role: string
  readonly instance: string
  readonly guest: string
  readonly url: string
}

const program = (context: ServiceContext, who: Who, env: Readonly<Record<string, string>>): Program => {
  const identity = `${who.role}-${who.instance}`
  return {
    name: identity,
    command: process.execPath,
    args: [main(who.service)],
    env: {
      VOUCHSAFE_NATS_URL: who.url,
      VOUCHSAFE_NATS_SEED: context.bus.seed(identity),
      VOUCHSAFE_INSTANCE: who.instance,
      VOUCHSAFE_RUN_DIR: guestDirectory(context.names.directory, who.guest),
      VOUCHSAFE_ANCHORS: context.anchors,
      VOUCHSAFE_LOG: "text",
      ...env,
    },
  }
}

/** State of a guest's emulated machine. */
export const deviceFile = (names: RunNames, guest: string): string =>
  join(guestDirectory(names.directory, guest), "snp-guest.json")

const deviceOf = (names: RunNames, guest: string): string => `emulated-snp:${deviceFile(names, guest)}`

/** Verifier, key-releaser and their attester: one guest, on the machine's own loopback. */
export const controlPlane = (context: ServiceContext, own: ControlGuest): ReadonlyArray<Program> => {
  const { url } = context.bus
  const guest = own.control
  const control = { VOUCHSAFE_CONTROL_NODE: guest }
  return [
    program(
      context,
      { service: "attester", role: "attester", instance: guest, guest, url },
      {
        VOUCHSAFE_NODE: guest,
        VOUCHSAFE_ROLE: "control-plane",
        VOUCHSAFE_ATTESTATION: deviceOf(context.names, guest),
      },
    ),
    program(context, { service: "verifier", role: "verifier", instance: own.verifier, guest, url }, control),
    program(
      context,
      { service: "key-releaser", role: "releaser", instance: own.releaser, guest, url },
      control,
    ),
  ]
}

const inWireNamespace = (context: ServiceContext, node: NodePlace, one: Program): Program => ({
  ...one,
  netns: context.names.netns(node.wireNs),
})

export const nodeAttester = (context: ServiceContext, node: NodePlace): Program =>
  inWireNamespace(
    context,
    node,
    program(
      context,
      { service: "attester", role: "attester", instance: node.id, guest: node.id, url: context.bus.wireUrl },
      {
        VOUCHSAFE_NODE: node.id,
        VOUCHSAFE_ROLE: "node",
        VOUCHSAFE_ATTESTATION: deviceOf(context.names, node.id),
        VOUCHSAFE_WIRE_DEVICE: "wire0",
        VOUCHSAFE_INNER_DEVICE: "m1",
      },
    ),
  )

export const nodeLoader = (context: ServiceContext, node: NodePlace, object: string): Program =>
  inWireNamespace(
    context,
    node,
    program(
      context,
      {
        service: "dataplane-loader",
        role: "loader",
        instance: node.id,
        guest: node.id,
        url: context.bus.wireUrl,
      },
      {
        VOUCHSAFE_NODE: node.id,
        VOUCHSAFE_OBJECT: object,
        VOUCHSAFE_PINS: context.names.pins(node.id),
        VOUCHSAFE_WIRE_DEVICE: "wire0",
        VOUCHSAFE_INNER_DEVICE: "m1",
        VOUCHSAFE_INNER_MAC: node.innerMac,
        VOUCHSAFE_WIRE_ADDRESS: node.wire,
      },
    ),
  )
