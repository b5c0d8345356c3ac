/**
 * The lab's network. Each node has a *wire namespace* (its device on the untrusted wire, the far end of its internal
 * veth) and an *application namespace* (only the near end and loopback). All wires meet at a bridge in a namespace of
 * its own; the bus is one more machine on that bridge.
 */
import { execFile } from "node:child_process"
import { existsSync, readdirSync, rmdirSync } from "node:fs"
import { promisify } from "node:util"
import {
  BUS_ADDRESS,
  ESP_PORT,
  INNER_MTU,
  type NodePlace,
  type RunNames,
  WIRE_MTU,
  WORKFLOW_PREFIX,
} from "./names.ts"

const run = promisify(execFile)

export const BRIDGE_NS = "bridge"
export const BUS_NS = "bus"

/** No IPv6 before any link goes up: neighbour discovery and its kin must not appear on the wire. */
const NO_IPV6 =
  "for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done 2>/dev/null || true"

const bridgeScript = (ports: ReadonlyArray<string>): string => `
${NO_IPV6}
ip -batch - <<END
link add br0 type bridge stp_state 0 mcast_snooping 0 forward_delay 0
${ports.map((port) => `link set ${port} master br0 up`).join("\n")}
link set br0 up
link set lo up
END`

const busScript = (): string => `
${NO_IPV6}
ethtool -K wire0 tso off gso off tx off >/dev/null 2>&1
ip -batch - <<END
addr add ${BUS_ADDRESS}/24 dev wire0
link set wire0 mtu ${WIRE_MTU} up
link set lo up
END`

/** The kernel keeps its hands off the ESP port, and answers nobody by redirects. */
const wireScript = (node: NodePlace): string => `
${NO_IPV6}
echo ${ESP_PORT} >/proc/sys/net/ipv4/ip_local_reserved_ports
echo 0 >/proc/sys/net/ipv4/ip_forward
for f in all default; do
  echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter
  echo 0 >/proc/sys/net/ipv4/conf/$f/accept_redirects
  echo 0 >/proc/sys/net/ipv4/conf/$f/send_redirects
done
ethtool -K wire0 tso off gso off tx off >/dev/null 2>&1
ip -batch - <<END
addr add ${node.wire}/24 dev wire0
link set wire0 mtu ${WIRE_MTU} up
link set m1 up
link set lo up
END`

/**
 * Segmentation and checksum offloads are off at the near end, so that the sealer sees finished packets of at most one
 * MTU; receive offload is on, so that applications get them in bulk.
 */
const appScript = (node: NodePlace): string => `
${NO_IPV6}
ethtool -K m0 tso off gso off sg off tx off gro on >/dev/null 2>&1
ip -batch - <<END
addr add ${node.address}/32 dev m0
link set m0 mtu ${INNER_MTU} arp off up
link set lo up
route add ${WORKFLOW_PREFIX} dev m0 src ${node.address}
END`

export interface NetworkPlan {
  /** Lines for one `ip -batch` in the machine's own namespace. */
  readonly create: ReadonlyArray<string>
  /** A shell script per namespace, to be run inside it. */
  readonly scripts: ReadonlyArray<{ readonly ns: string; readonly script: string }>
  /** All namespaces, by their full names. */
  readonly namespaces: ReadonlyArray<string>
}

/** What to run, nothing run yet. */
export const planNetwork = (names: RunNames, nodes: ReadonlyArray<NodePlace>): NetworkPlan => {
  const bridge = names.netns(BRIDGE_NS)
  const bus = names.netns(BUS_NS)
  const namespaces = [bridge, bus, ...nodes.flatMap((n) => [names.netns(n.wireNs), names.netns(n.appNs)])]
  const links = nodes.flatMap((n) => [
    `link add wire0 address ${n.wireMac} netns ${names.netns(n.wireNs)} type veth peer name ${n.id} netns ${bridge}`,
    `link add m0 address ${n.innerMac} netns ${names.netns(n.appNs)} type veth peer name m1 netns ${names.netns(n.wireNs)}`,
  ])
  return {
    namespaces,
    create: [
      ...namespaces.map((ns) => `netns add ${ns}`),
      `link add wire0 netns ${bus} type veth peer name bus netns ${bridge}`,
      ...links,
    ],
    scripts: [
      { ns: bus, script: busScript() },
      ...nodes.flatMap((n) => [
        { ns: names.netns(n.wireNs), script: wireScript(n) },
        { ns: names.netns(n.appNs), script: appScript(n) },
      ]),
      { ns: bridge, script: bridgeScript(["bus", ...nodes.map((n) => n.id)]) },
    ],
  }
}

const sh = async (command: string, args: ReadonlyArray<string>, input?: string): Promise<void> => {
  const child = run(command, args, { timeout: 30_000 })
  child.child.stdin?.end(input)
  try {
    await child
  } catch (error) {
    const { stderr, message } = error as Error & { stderr?: string }
    throw new Error(`${command} ${args.slice(0, 2).join(" ")}: ${(stderr || message).trim()}`)
  }
}

/** Makes the whole network. On failure the caller's teardown removes what was made. */
export const createNetwork = async (plan: NetworkPlan): Promise<void> => {
  await sh("ip", ["-batch", "-"], `${plan.create.join("\n")}\n`)
  await Promise.all(
    plan.scripts.map(({ ns, script }) => sh("nsenter", [`--net=/run/netns/${ns}`, "sh", "-euc", script])),
  )
}

/** Removes namespaces by their full names, and with them every device in them; those that are gone already are no error. */
export const removeNetwork = async (
  namespaces: ReadonlyArray<string>,
  madeDirectory: boolean,
): Promise<void> => {
  const present = namespaces.filter((ns) => existsSync(`/run/netns/${ns}`))
  if (present.length > 0) {
    await sh("ip", ["-batch", "-"], present.map((ns) => `netns del ${ns}\n`).join(""))
  }
  // `ip netns` mounts /run/netns onto itself the first time it is used. If that was us and nobody else came, undo it.
  if (madeDirectory && existsSync("/run/netns") && readdirSync("/run/netns").length === 0) {
    await sh("umount", ["/run/netns"]).catch(() => undefined)
    try {
      rmdirSync("/run/netns")
    } catch {
      // Somebody came after all.
    }
  }
}
