/** What a test of the wire has begun and must end: namespaces, nodes, scripts, pins; all of it, also when a part fails. */
import { macOf } from "../../services/common/kernel/netdev.ts"
import { type Association, byteSource } from "../kernel/packets.ts"
import { keysOf, type Script, startScript } from "./python.ts"
import {
  ip,
  makeNode,
  makeSpace,
  type Node,
  removeAllPins,
  type Space,
  wireAddress,
  workflowAddress,
} from "./space.ts"

export interface World {
  readonly space: () => Space
  readonly node: (i: number, wire: Space) => Node
  /** Starts a script in a namespace. */
  readonly script: (where: Space, name: string, args?: ReadonlyArray<string>) => Script
  readonly later: (step: () => unknown) => void
  /** Ends everything, the last first. */
  readonly end: () => Promise<void>
}

export const makeWorld = (): World => {
  const steps: Array<() => unknown> = [removeAllPins]
  const keep = <A>(made: A, end: (made: A) => unknown): A => {
    steps.push(() => end(made))
    return made
  }
  return {
    space: () => keep(makeSpace(), (space) => space.remove()),
    node: (i, wire) => keep(makeNode(i, wire), (node) => node.remove()),
    script: (where, name, args = []) =>
      keep(
        where.inside(() => startScript(name, args)),
        (script) => script.stop(),
      ),
    later: (step) => void steps.push(step),
    end: async () => {
      const failures: Array<unknown> = []
      for (const step of steps.splice(0).reverse())
        try {
          await step()
        } catch (error) {
          failures.push(error)
        }
      if (failures.length > 0) throw failures[0]
    },
  }
}

/** What applications send holds this; nothing on a wire may. */
export const MARKER = "the marker that no wire may carry"

const bytes = byteSource(79)
export const newAssociation = (spi: number, esn = true): Association => ({
  spi,
  key: bytes(32),
  salt: bytes(4),
  esn,
})

export const macText = (mac: Uint8Array): string =>
  Array.from(mac, (byte) => byte.toString(16).padStart(2, "0")).join(":")

export interface Pair {
  readonly node: Node
  readonly far: Space
  /** The far end's script; it holds the keys of both directions. */
  readonly peer: Script
  readonly nodeMac: string
  readonly peerMac: string
}

/** Node 1 on a veth whose other end, far0, has no kernel's addresses: there scapy is node 2. */
export const makePair = async (world: World, toPeer: Association, toNode: Association): Promise<Pair> => {
  const far = world.space()
  const wire = world.space()
  ip("-n", wire.name, "link", "add", "wire0", "type", "veth", "peer", "name", "far0", "netns", far.name)
  ip("-n", far.name, "link", "set", "far0", "up")
  const node = world.node(1, wire)
  const nodeMac = macText(wire.inside(() => macOf("wire0")))
  const order = {
    device: "far0",
    association: [keysOf(toPeer)],
    marker: Buffer.from(MARKER).toString("hex"),
    wire: wireAddress(2),
    inner: workflowAddress(2),
    node: wireAddress(1),
    mac: nodeMac,
    seal: keysOf(toNode),
    asked: 7000,
  }
  const peer = world.script(far, "peer.py", [JSON.stringify(order)])
  const { mac } = (await peer.ask({ do: "ready" })) as { mac: string }
  return { node, far, peer, nodeMac, peerMac: mac }
}

export interface SealedFrame {
  readonly kind: "sealed"
  readonly spi: number
  readonly low: number
  readonly iv: string
  readonly total: number
  readonly inner: number
  readonly udpSum: number
  readonly flags: number
  readonly protocol: number
  readonly wrong: ReadonlyArray<string>
}

export interface Report {
  readonly all: ReadonlyArray<SealedFrame | { readonly kind: "arp" | "other" }>
  /** Frames that are neither ARP nor open under a known SA. */
  readonly other: ReadonlyArray<{ readonly frame: string; readonly tagged: boolean }>
  /** Frames with the marker in them. */
  readonly marked: number
  /** Frames that the capture missed. */
  readonly lost: number
}
