/* SPDX-License-Identifier: GPL-2.0 */
/* What may cross the wire besides sealed packets: ARP and the connection to the bus. */
#ifndef VS_GUARD_H
#define VS_GUARD_H

#include "maps.h"
#include "parse.h"

/* The beginning of a frame: IPv4 without options, and the ports; or ARP. Two bytes before it align what follows Ethernet. */
struct vs_frame_start {
	u8 skew[2];
	u8 eth[VS_ETH_LEN];
	union {
		struct {
			struct vs_ipv4 ip;
			be16 sport;
			be16 dport;
			be16 udp_len;
			be16 udp_checksum;
		};
		struct vs_arp arp;
	};
};
/* The shortest frame that we know: a whole ARP message, or IPv4 with a UDP header. */
#define VS_START_LEN 42
/* The longest ARP frame: a shortest Ethernet frame, if the sender fills it up. More would be a message behind the message. */
#define VS_ARP_MAX 60
_Static_assert(sizeof(struct vs_frame_start) == VS_START_LEN + 2, "no hidden padding");

/*
 * Loads the beginning of a frame and judges what is common to both directions: VS_V_NEIGHBOUR for ARP, VS_GO_ON for an IPv4
 * packet that is whole and no fragment, `foreign` for anything else.
 */
VS_INLINE u32 vs_guard_start(struct __sk_buff *skb, struct vs_frame_start *f, u32 foreign)
{
	u32 verdict;

	if (skb->vlan_present || skb->len < VS_START_LEN || bpf_skb_load_bytes(skb, 0, (u8 *)f + sizeof(f->skew), VS_START_LEN))
		return foreign;
	if (skb->protocol == vs_swap16(VS_ETH_P_ARP))
		return vs_arp_ok(&f->arp) ? VS_V_NEIGHBOUR : foreign;
	if (skb->protocol != vs_swap16(VS_ETH_P_IP))
		return foreign;
	verdict = vs_parse_ipv4(&f->ip, skb->len - VS_ETH_LEN);
	return verdict == VS_V_FRAGMENT ? VS_V_OUTER_FRAGMENT : verdict;
}

/* On its way out: the sealer's frame, by its mark and by what the sealer writes, or a segment to the bus. */
VS_INLINE u32 vs_guard_out(struct __sk_buff *skb, const struct vs_config *c)
{
	struct vs_frame_start f;
	u32 verdict = vs_guard_start(skb, &f, VS_V_FOREIGN_OUT);

	if (verdict == VS_V_NEIGHBOUR && skb->len > VS_ARP_MAX)
		return VS_V_FOREIGN_OUT;
	if (verdict != VS_GO_ON)
		return verdict;
	if (f.ip.saddr != c->wire_addr)
		return VS_V_FOREIGN_OUT;
	if (f.ip.protocol == VS_PROTO_UDP && skb->mark == c->mark &&
	    (u16)(vs_swap16(f.sport) - vs_swap16(c->esp_port)) < VS_MAX_LANES)
		return VS_V_SEALED_OUT;
	if (f.ip.protocol == VS_PROTO_TCP && f.ip.daddr == c->bus_addr && f.dport == c->bus_port)
		return VS_V_CONTROL;
	return VS_V_FOREIGN_OUT;
}

#endif
