/* SPDX-License-Identifier: GPL-2.0 */
/* Generated from schemas/verdicts.ts by `npm run generate`. Do not edit. */
#ifndef VS_VERDICTS_H
#define VS_VERDICTS_H

#define VS_V_SEALED           0 /* pass: a workflow packet was encrypted and handed to the wire */
#define VS_V_OPENED           1 /* pass: a sealed packet was authentic, new and allowed, and went to the application */
#define VS_V_NEIGHBOUR        2 /* pass: ARP or neighbour discovery on the wire, needed to find neighbours */
#define VS_V_CONTROL          3 /* pass: the node's own connection to its NATS server */
#define VS_V_SEALED_OUT       4 /* pass: a frame that the sealer made left through the wire's guard */
#define VS_V_DELIVERED        5 /* pass: a packet that the opener released reached the workflow device */
#define VS_V_NOTIFIED         6 /* pass: an ICMP error of the sealer's reached the workflow device */
#define VS_V_KEEPALIVE_OUT    7 /* pass: a NAT keepalive, one byte, left through the wire's guard */
#define VS_V_NOT_CONFIGURED  16 /* drop: the data plane has no configuration yet, or one of another layout */
#define VS_V_NOT_IPV4        17 /* drop: an application's frame is neither IPv4 nor IPv6 */
#define VS_V_BAD_IPV4        18 /* drop: an IPv4 header is malformed, carries options, or disagrees with the frame's length */
#define VS_V_FRAGMENT        19 /* drop: a fragment, also one that is the whole packet: it has no ports to judge by */
#define VS_V_SUPER_PACKET    20 /* drop: an unsegmented packet reached the sealer: segmentation offload is on */
#define VS_V_NO_POLICY       21 /* drop: no edge of the workflow allows this peer, protocol, port and direction */
#define VS_V_WRONG_SOURCE    22 /* drop: the packet's source is not this node's workflow address of its family */
#define VS_V_NO_KEY          23 /* drop: the edge allows the packet, but no key has been released for it */
#define VS_V_LEASE_OVER      24 /* drop: the key's lease ended and was not renewed */
#define VS_V_SEQUENCE_END    25 /* drop: the key's sequence numbers are used up */
#define VS_V_NO_ENDPOINT     26 /* drop: the peer's address on the wire is not known */
#define VS_V_TOO_LONG        27 /* drop: the sealed packet would exceed the path's MTU */
#define VS_V_FLOW_TABLE_FULL 28 /* drop: a new flow found no room in the table of flows */
#define VS_V_INTERNAL        29 /* drop: a kernel helper failed; the packet was dropped */
#define VS_V_UNKNOWN_SPI     30 /* drop: a sealed packet names a security association that this node does not hold */
#define VS_V_BAD_ESP         31 /* drop: a sealed packet is too short, too long or misaligned */
#define VS_V_REPLAYED        32 /* drop: the sequence number was seen before or is older than the replay window */
#define VS_V_BAD_TAG         33 /* drop: the packet is not authentic */
#define VS_V_BAD_PADDING     34 /* drop: an authentic packet's padding or next header is wrong */
#define VS_V_WRONG_INNER     35 /* drop: an authentic packet's inner addresses are not those of its edge */
#define VS_V_KEEPALIVE       36 /* drop: a NAT keepalive: one byte, absorbed */
#define VS_V_FOREIGN_IN      37 /* drop: a frame arrived on the wire that is neither sealed traffic nor the bus nor asks for neighbours */
#define VS_V_FOREIGN_OUT     38 /* drop: something tried to send on the wire that is neither the sealer nor the bus nor asks for neighbours */
#define VS_V_NOT_OPENED      39 /* drop: a frame for the workflow device did not come from the opener */
#define VS_V_FLOW_QUOTA      40 /* drop: a new flow would exceed what one edge may have */
#define VS_V_PATH_MTU        41 /* drop: the network reported a path's MTU, quoting a packet of ours; noted */
#define VS_V_FORGED_ICMP     42 /* drop: an ICMP error on the wire that quotes no packet of ours */
#define VS_V_CONGESTED       43 /* drop: marked for congestion on the wire, and the inner packet can't carry the mark */
#define VS_V_STRAY_ICMP      44 /* drop: an ICMP error inside the tunnel that quotes no packet of a flow that exists */
#define VS_V_OUTER_FRAGMENT  45 /* drop: a fragment on the wire, either way: nothing here sends any */
#define VS_V_BAD_IPV6        46 /* drop: an IPv6 header is malformed or disagrees with the frame's length, or what follows it is */
#define VS_V_EXTENSION       47 /* drop: an IPv6 packet with an extension header, which may change whom it is from or for */

_Static_assert(VS_MAX_VERDICTS == 64, "the size of the map of verdicts");

#endif
