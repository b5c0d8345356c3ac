/**
 * The lab's network. Each node has a *wire namespace* (its device on the untrusted wire, the far end of its internal
 * veth) and an *application namespace* (only the near end and loopback). All wires meet at a bridge in a namespace of
 * its own; the bus is one more machine on that bridge.
 */
import { execFile } from "node:child_process"
import { existsSync, readdirSync, rmdirSync } from "node:fs"
import { promisify } from "node:util"
import {
  ESP_PORT,
  type NodePlace,
  type RunNames,
  type Underlay,
  WIRE_MTU,
  WORKFLOW_PREFIX,
  WORKFLOW_PREFIX6,
  wireNets,
} from "./names.ts"

const run = promisify(execFile)

export const BRIDGE_NS = "bridge"
export const BUS_NS = "bus"

/** No IPv6 before any link goes up: where it isn't asked for, neighbour discovery and its kin must not appear. */
const NO_IPV6 =
  "for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done 2>/dev/null || true"

/**
 * IPv6 on one device, which is down: with the addresses that it is given and none of its own making, believing no router
 * and asking for none. Nobody else can have its addresses, so it doesn't ask (RFC 4862, section 5.4).
 */
const ipv6On = (device: string): string => `
cd /proc/sys/net/ipv6/conf/${device}
for f in accept_ra accept_redirects accept_source_route autoconf accept_dad dad_transmits router_solicitations; do
  echo 0 >$f
done
echo 0 >disable_ipv6
cd /`

/**
 * IPv6 on a wire device. It has a link-local address too, as neighbour discovery asks from there. It reports the groups that
 * it listens to (RFC 3810), as nobody can forbid, and has done so within milliseconds of the link's going up.
 */
const wireIpv6On = (device: string): string => `
${ipv6On(device)}
echo 1 >/proc/sys/net/ipv6/conf/${device}/mldv2_unsolicited_report_interval`

const wireAddress = (underlay: Underlay, address: string): string =>
  `addr add ${address}/${wireNets[underlay].prefixLength} dev wire0${underlay === "ipv6" ? " nodad" : ""}`

const bridgeScript = (ports: ReadonlyArray<string>): string => `
${NO_IPV6}
ip -batch - <<END
link add br0 type bridge stp_state 0 mcast_snooping 0 forward_delay 0
${ports.map((port) => `link set ${port} master br0 up`).join("\n")}
link set br0 up
link set lo up
END`

const busScript = (underlay: Underlay): string => `
${NO_IPV6}
${underlay === "ipv6" ? wireIpv6On("wire0") : ""}
ethtool -K wire0 tso off gso off tx off >/dev/null 2>&1
ip -batch - <<END
${wireAddress(underlay, wireNets[underlay].busAddress)}
link set wire0 mtu ${WIRE_MTU} up
link set lo up
END`

/** The kernel keeps its hands off the ESP port, and answers nobody by redirects. */
const wireScript = (node: NodePlace, underlay: Underlay): string => `
${NO_IPV6}
${underlay === "ipv6" ? wireIpv6On("wire0") : ""}
echo ${ESP_PORT} >/proc/sys/net/ipv4/ip_local_reserved_ports
echo 0 >/proc/sys/net/ipv4/ip_forward
for f in all default; do
  echo 0 >/proc/sys/net/ipv4/conf/$f/rp_filter
  echo 0 >/proc/sys/net/ipv4/conf/$f/accept_redirects
  echo 0 >/proc/sys/net/ipv4/conf/$f/send_redirects
done
ethtool -K wire0 tso off gso off tx off >/dev/null 2>&1
ip -batch - <<END
${wireAddress(underlay, node.wire)}
link set wire0 mtu ${WIRE_MTU} up
link set m1 up
link set lo up
END`

/**
 * Segmentation and checksum offloads are off at the near end, so that the sealer sees finished packets of at most one
 * MTU; receive offload is on, so that applications get them in bulk. The near end asks for no neighbour, of neither family:
 * whatever has a workflow address is behind the far end. It has no link-local address, so it says nothing by itself.
 */
const appScript = (node: NodePlace, underlay: Underlay): string => `
${NO_IPV6}
${ipv6On("lo")}
${ipv6On("m0")}
ethtool -K m0 tso off gso off sg off tx off gro on >/dev/null 2>&1
ip -batch - <<END
link set m0 mtu ${wireNets[underlay].innerMtu} arp off addrgenmode none
addr add ${node.address}/32 dev m0
addr add ${node.address6}/128 dev m0 nodad
link set m0 up
link set lo up
route add ${WORKFLOW_PREFIX} dev m0 src ${node.address}
route add ${WORKFLOW_PREFIX6} dev m0 src ${node.address6}
END`

export interface NetworkPlan {
  /** Lines for one `ip -batch` in the machine's own namespace. */
  readonly create: ReadonlyArray<string>
  /** A shell script per namespace, to be run inside it. */
  readonly scripts: ReadonlyArray<{ readonly ns: string; readonly script: string }>
  /** All namespaces, by their full names. */
  readonly namespaces: ReadonlyArray<string>
  /** Namespaces whose wire device reports its groups when it goes up; until then the network isn't ready. */
  readonly reporting: ReadonlyArray<string>
}

/** What to run, nothing run yet. */
export const planNetwork = (
  names: RunNames,
  nodes: ReadonlyArray<NodePlace>,
  underlay: Underlay = "ipv4",
): NetworkPlan => {
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
      { ns: bus, script: busScript(underlay) },
      ...nodes.flatMap((n) => [
        { ns: names.netns(n.wireNs), script: wireScript(n, underlay) },
        { ns: names.netns(n.appNs), script: appScript(n, underlay) },
      ]),
      { ns: bridge, script: bridgeScript(["bus", ...nodes.map((n) => n.id)]) },
    ],
    reporting: underlay === "ipv6" ? [bus, ...nodes.map((n) => names.netns(n.wireNs))] : [],
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
  await Promise.all(
    plan.reporting.map((ns) => sh("nsenter", [`--net=/run/netns/${ns}`, "sh", "-euc", UNTIL_REPORTED])),
  )
}

/** Ends when the wire device has sent its reports and has sent no other for a tenth of a second. */
const UNTIL_REPORTED = `
reports() { sed -n 's/^Icmp6OutType143[^0-9]*//p' /proc/net/dev_snmp6/wire0; }
n=0
seen=
while [ $n -lt 200 ]; do
  now=$(reports)
  [ -n "$now" ] && [ "$now" = "$seen" ] && exit 0
  seen=$now
  n=$((n+1))
  sleep 0.1
done
echo "wire0 reported no group" >&2
exit 1`

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
