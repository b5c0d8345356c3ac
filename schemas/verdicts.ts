/**
 * Every decision of the data plane ends in one of these numbered verdicts. This table is the only place where they are
 * named: `bpf/verdicts.h`, the README's table and the names in summaries are generated from it (`npm run generate`).
 * A number is never reused; a verdict that is no longer given keeps its row with `retired: true`.
 */
export interface Verdict {
  /** The counter's index in the BPF map `verdicts`, 0..VERDICTS_MAX-1. */
  readonly number: number
  /** Upper-case name, as it appears in C (with the prefix VS_V_), JSON and metrics. */
  readonly name: string
  /** `pass` lets the packet go on; `drop` ends it. */
  readonly outcome: "pass" | "drop"
  /** Which program gives it: the sealer, the opener, or the guards of the wire and of the workflow device. */
  readonly by: "seal" | "open" | "guard" | "any"
  /** What happened, for a person who reads a counter. */
  readonly meaning: string
}

/** Size of the counter map; numbers stay below it. */
export const VERDICTS_MAX = 64

const row = (
  number: number,
  name: string,
  outcome: Verdict["outcome"],
  by: Verdict["by"],
  meaning: string,
): Verdict => ({ number, name, outcome, by, meaning })

export const verdicts: ReadonlyArray<Verdict> = [
  row(0, "SEALED", "pass", "seal", "a workflow packet was encrypted and handed to the wire"),
  row(
    1,
    "OPENED",
    "pass",
    "open",
    "a sealed packet was authentic, new and allowed, and went to the application",
  ),
  row(2, "NEIGHBOUR", "pass", "guard", "ARP or neighbour discovery on the wire, needed to find neighbours"),
  row(3, "CONTROL", "pass", "guard", "the node's own connection to its NATS server"),
  row(4, "SEALED_OUT", "pass", "guard", "a frame that the sealer made left through the wire's guard"),
  row(5, "DELIVERED", "pass", "guard", "a packet that the opener released reached the workflow device"),
  row(6, "NOTIFIED", "pass", "guard", "an ICMP error of the sealer's reached the workflow device"),
  row(7, "KEEPALIVE_OUT", "pass", "guard", "a NAT keepalive, one byte, left through the wire's guard"),
  row(
    16,
    "NOT_CONFIGURED",
    "drop",
    "any",
    "the data plane has no configuration yet, or one of another layout",
  ),
  row(17, "NOT_IPV4", "drop", "seal", "an application's frame is neither IPv4 nor IPv6"),
  row(
    18,
    "BAD_IPV4",
    "drop",
    "any",
    "an IPv4 header is malformed, carries options, or disagrees with the frame's length",
  ),
  row(
    19,
    "FRAGMENT",
    "drop",
    "any",
    "a fragment, also one that is the whole packet: it has no ports to judge by",
  ),
  row(
    20,
    "SUPER_PACKET",
    "drop",
    "seal",
    "an unsegmented packet reached the sealer: segmentation offload is on",
  ),
  row(
    21,
    "NO_POLICY",
    "drop",
    "any",
    "no edge of the workflow allows this peer, protocol, port and direction",
  ),
  row(
    22,
    "WRONG_SOURCE",
    "drop",
    "seal",
    "the packet's source is not this node's workflow address of its family",
  ),
  row(23, "NO_KEY", "drop", "seal", "the edge allows the packet, but no key has been released for it"),
  row(24, "LEASE_OVER", "drop", "any", "the key's lease ended and was not renewed"),
  row(25, "SEQUENCE_END", "drop", "seal", "the key's sequence numbers are used up"),
  row(26, "NO_ENDPOINT", "drop", "seal", "the peer's address on the wire is not known"),
  row(27, "TOO_LONG", "drop", "seal", "the sealed packet would exceed the path's MTU"),
  row(28, "FLOW_TABLE_FULL", "drop", "any", "a new flow found no room in the table of flows"),
  row(29, "INTERNAL", "drop", "any", "a kernel helper failed; the packet was dropped"),
  row(
    30,
    "UNKNOWN_SPI",
    "drop",
    "open",
    "a sealed packet names a security association that this node does not hold",
  ),
  row(31, "BAD_ESP", "drop", "open", "a sealed packet is too short, too long or misaligned"),
  row(
    32,
    "REPLAYED",
    "drop",
    "open",
    "the sequence number was seen before or is older than the replay window",
  ),
  row(33, "BAD_TAG", "drop", "open", "the packet is not authentic"),
  row(34, "BAD_PADDING", "drop", "open", "an authentic packet's padding or next header is wrong"),
  row(35, "WRONG_INNER", "drop", "open", "an authentic packet's inner addresses are not those of its edge"),
  row(36, "KEEPALIVE", "drop", "open", "a NAT keepalive: one byte, absorbed"),
  row(
    37,
    "FOREIGN_IN",
    "drop",
    "guard",
    "a frame arrived on the wire that is neither sealed traffic nor the bus nor asks for neighbours",
  ),
  row(
    38,
    "FOREIGN_OUT",
    "drop",
    "guard",
    "something tried to send on the wire that is neither the sealer nor the bus nor asks for neighbours",
  ),
  row(39, "NOT_OPENED", "drop", "guard", "a frame for the workflow device did not come from the opener"),
  row(40, "FLOW_QUOTA", "drop", "any", "a new flow would exceed what one edge may have"),
  row(41, "PATH_MTU", "drop", "open", "the network reported a path's MTU, quoting a packet of ours; noted"),
  row(42, "FORGED_ICMP", "drop", "open", "an ICMP error on the wire that quotes no packet of ours"),
  row(
    43,
    "CONGESTED",
    "drop",
    "open",
    "marked for congestion on the wire, and the inner packet can't carry the mark",
  ),
  row(
    44,
    "STRAY_ICMP",
    "drop",
    "any",
    "an ICMP error inside the tunnel that quotes no packet of a flow that exists",
  ),
  row(45, "OUTER_FRAGMENT", "drop", "guard", "a fragment on the wire, either way: nothing here sends any"),
  row(
    46,
    "BAD_IPV6",
    "drop",
    "any",
    "an IPv6 header is malformed or disagrees with the frame's length, or what follows it is",
  ),
  row(
    47,
    "EXTENSION",
    "drop",
    "any",
    "an IPv6 packet with an extension header, which may change whom it is from or for",
  ),
]
