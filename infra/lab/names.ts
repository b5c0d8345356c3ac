/** What everything of one run is called, so that nothing of another run is ever touched. */

/** Workflow addresses live in these prefixes; the wire has its own, which applications never see. */
export const WORKFLOW_PREFIX = "10.77.0.0/24"
export const WORKFLOW_PREFIX6 = "fd77::/64"
export const BUS_PORT = 4222
export const ESP_PORT = 4500
export const WIRE_MTU = 1500

/** By which IP the nodes reach each other on the wire, whatever their applications speak. */
export type Underlay = "ipv4" | "ipv6"

export interface WireNet {
  /** What every address on the wire begins with, and how long the prefix is that all share. */
  readonly begin: string
  readonly prefixLength: number
  readonly busAddress: string
  /** What an application's packet may have, so that its sealed packet fits the wire. */
  readonly innerMtu: number
}

/**
 * UDP 8 + ESP 8 + IV 8 + ICV 16 and the outer header, 20 of IPv4 or 40 of IPv6, leave 1,440 or 1,420 for the packet with its
 * padding to four and the 2-byte trailer.
 */
export const wireNets: Readonly<Record<Underlay, WireNet>> = {
  ipv4: { begin: "10.99.0.", prefixLength: 24, busAddress: "10.99.0.1", innerMtu: 1438 },
  ipv6: { begin: "2001:db8:99::", prefixLength: 64, busAddress: "2001:db8:99::1", innerMtu: 1418 },
}

export interface RunNames {
  /** The lab's process id: a run is alive exactly as long as that process is. */
  readonly id: string
  /** Root-only directory of the run, in memory. */
  readonly directory: string
  readonly pinsRoot: string
  /** Name of a network namespace, as `ip netns` lists it. */
  netns(part: string): string
  /** Path of a network namespace, as nsenter wants it. */
  netnsPath(part: string): string
  pins(node: string): string
}

/** The names of the run `id`. `id` must be digits: it becomes part of paths. */
export const runNames = (id: string): RunNames => {
  if (!/^[1-9]\d{0,9}$/.test(id)) throw new Error(`not a run id: ${JSON.stringify(id)}`)
  const netns = (part: string): string => `vs-${id}-${part}`
  const pinsRoot = `/sys/fs/bpf/vouchsafe-${id}`
  return {
    id,
    directory: `/run/vouchsafe-${id}`,
    pinsRoot,
    netns,
    netnsPath: (part) => `/run/netns/${netns(part)}`,
    pins: (node) => `${pinsRoot}/${node}`,
  }
}

/** A node's place in the lab. `index` counts from 1 and decides its addresses. */
export interface NodePlace {
  readonly id: string
  readonly index: number
  readonly address: string
  readonly address6: string
  readonly wire: string
  readonly wireMac: string
  readonly innerMac: string
  /** Parts of the names of its two namespaces. */
  readonly wireNs: string
  readonly appNs: string
}

export const nodePlace = (id: string, index: number, underlay: Underlay = "ipv4"): NodePlace => {
  const last = index.toString(16).padStart(2, "0")
  return {
    id,
    index,
    address: `10.77.0.${index}`,
    address6: `fd77::${index}`,
    wire: `${wireNets[underlay].begin}${10 + index}`,
    wireMac: `02:76:73:00:01:${last}`,
    innerMac: `02:76:73:00:02:${last}`,
    wireNs: `${id}-wire`,
    appNs: `${id}-app`,
  }
}
