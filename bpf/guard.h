/* SPDX-License-Identifier: GPL-2.0 */
/* What may cross the wire besides sealed packets: ARP, neighbour discovery and the connection to the bus. */
#ifndef VS_GUARD_H
#define VS_GUARD_H

#include "path.h"

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

/* The beginning of an IPv6 frame, as far as the ports, or the type of ICMPv6. */
struct vs_frame_start6 {
	u8 skew[2];
	u8 eth[VS_ETH_LEN];
	struct vs_ipv6 ip;
	be16 sport; /* or type and code */
	be16 dport;
	be16 udp_len;
	be16 udp_checksum;
};
#define VS_START6_LEN 62
_Static_assert(sizeof(struct vs_frame_start6) == VS_START6_LEN + 2, "no hidden padding");

/*
 * A neighbour solicitation or advertisement (RFC 4861 sections 4.3, 4.4): the header, and the options that Linux and others send with
 * it, the sender's address and a nonce (RFC 3971 section 5.3.2).
 */
#define VS_ND_LEN 24
#define VS_ND_OPTION 8
#define VS_ND_OPTIONS 2
struct vs_nd {
	u8 type;
	u8 code;
	be16 checksum;
	be32 flags;
	struct vs_addr6 target;
	u8 options[VS_ND_OPTIONS][VS_ND_OPTION];
};
_Static_assert(sizeof(struct vs_nd) == VS_ND_LEN + VS_ND_OPTIONS * VS_ND_OPTION, "no hidden padding");

VS_INLINE int vs_link_local6(const void *addr)
{
	return ((const u8 *)addr)[0] == 0xfe && (((const u8 *)addr)[1] & 0xc0) == 0x80;
}

/* All nodes, or a group of neighbour solicitation: ff02::1, ff02::1:ffXX:XXXX. */
VS_INLINE int vs_nd_group(const struct vs_addr6 *addr)
{
	u64 first = vs_swap64(addr->word[0]), second = vs_swap64(addr->word[1]);

	return first == 0xff02000000000000ull && (second == 1 || second >> 24 == 0x1ff);
}

/*
 * Whether a frame of `f` is neighbour discovery as it must be (RFC 4861 sections 7.1.1 and 7.1.2), of nothing but a solicitation or an
 * advertisement, with nothing behind it. Router advertisements and redirects are not let through: a node's routes are configured.
 * `own` is the address that must be ours or the link's: the destination of what arrives, the source of what leaves.
 */
VS_INLINE int vs_nd_ok(struct __sk_buff *skb, const struct vs_frame_start6 *f, const void *own, const struct vs_config *c)
{
	u32 len = vs_swap16(f->ip.payload_len);
	u64 words[(sizeof(struct vs_nd) + 7) / 8] = {};
	const struct vs_nd *nd = (const struct vs_nd *)words;

	if (f->ip.hop_limit != 255 || (f->sport != VS_ICMPV6_SOLICIT && f->sport != VS_ICMPV6_ADVERTISE))
		return 0;
	if (len < VS_ND_LEN || len > sizeof(*nd) || len % VS_ND_OPTION || skb->len != VS_ETH_LEN + VS_IP6_LEN + len)
		return 0;
	if (!vs_same6(own, &c->wire_addr6) && !vs_link_local6(own))
		return 0;
	if (bpf_skb_load_bytes(skb, VS_ETH_LEN + VS_IP6_LEN, words, VS_ND_LEN))
		return 0;
	if (nd->target.word[0] == 0 || (u8)nd->target.word[0] == 0xff)
		return 0;
	for (u32 i = 0; i < VS_ND_OPTIONS; i++) {
		u8 *option = (u8 *)words + VS_ND_LEN + i * VS_ND_OPTION;

		if (VS_ND_LEN + i * VS_ND_OPTION >= len)
			break;
		if (bpf_skb_load_bytes(skb, VS_ETH_LEN + VS_IP6_LEN + VS_ND_LEN + i * VS_ND_OPTION, option, VS_ND_OPTION))
			return 0;
		/* Source address, target address, nonce: of one unit each. */
		if (option[1] != 1 || (option[0] != 1 && option[0] != 2 && option[0] != 14))
			return 0;
	}
	return 1;
}

/*
 * Loads the beginning of an IPv6 frame. Gives VS_GO_ON for a packet that is whole and neither a fragment nor longer than its header
 * says in its headers; or a verdict.
 */
VS_INLINE u32 vs_guard_start6(struct __sk_buff *skb, struct vs_frame_start6 *f, u32 foreign)
{
	u32 verdict;

	if (skb->vlan_present || skb->len < VS_START6_LEN ||
	    bpf_skb_load_bytes(skb, 0, (u8 *)f + sizeof(f->skew), VS_START6_LEN))
		return foreign;
	verdict = vs_parse_ipv6(&f->ip, skb->len - VS_ETH_LEN);
	if (verdict == VS_V_FRAGMENT)
		return VS_V_OUTER_FRAGMENT;
	return verdict == VS_V_EXTENSION ? foreign : verdict;
}

/*
 * A marked UDP datagram from a lane's port, whose payload begins at `at`: a frame of the sealer's, or, under the complement of its mark,
 * what user space may send beside it, a keepalive of one byte (RFC 3948 section 2.3) and nothing else. Gives its verdict.
 */
VS_INLINE u32 vs_guard_marked(struct __sk_buff *skb, const struct vs_config *c, u32 at, u32 udp_len)
{
	u8 byte = 0;

	if (skb->mark == c->mark)
		return udp_len >= VS_SEALED_MIN ? VS_V_SEALED_OUT : VS_V_FOREIGN_OUT;
	if (udp_len != VS_UDP_LEN + 1 || skb->len != at + 1 || bpf_skb_load_bytes(skb, at, &byte, 1) || byte != 0xff)
		return VS_V_FOREIGN_OUT;
	return VS_V_KEEPALIVE_OUT;
}

/* An IPv6 frame on its way out. Gives its verdict. */
VS_GLOBAL int vs_guard_out6(struct __sk_buff *skb, const struct vs_config *c)
{
	struct vs_frame_start6 f = {};
	u32 verdict;

	if (!c)
		return VS_V_FOREIGN_OUT;
	verdict = vs_guard_start6(skb, &f, VS_V_FOREIGN_OUT);
	if (verdict != VS_GO_ON)
		return verdict;
	if (vs_none6(&c->wire_addr6))
		return VS_V_FOREIGN_OUT;
	if (f.ip.next == VS_PROTO_ICMPV6) {
		/* Before an address is used, its owner asks for it from no address at all (RFC 4862 section 5.4.2). */
		const void *own = vs_none6((const struct vs_addr6 *)f.ip.saddr) && f.sport == VS_ICMPV6_SOLICIT
					  ? (const void *)&c->wire_addr6
					  : (const void *)f.ip.saddr;

		return vs_nd_ok(skb, &f, own, c) ? VS_V_NEIGHBOUR : VS_V_FOREIGN_OUT;
	}
	if (!vs_same6(f.ip.saddr, &c->wire_addr6))
		return VS_V_FOREIGN_OUT;
	if (f.ip.next == VS_PROTO_UDP && (skb->mark == c->mark || skb->mark == ~c->mark) &&
	    (u16)(vs_swap16(f.sport) - vs_swap16(c->esp_port)) < VS_MAX_LANES)
		return vs_guard_marked(skb, c, VS_START6_LEN, vs_swap16(f.udp_len));
	if (f.ip.next == VS_PROTO_TCP && f.dport == c->bus_port && !vs_none6(&c->bus_addr6) &&
	    vs_same6(f.ip.daddr, &c->bus_addr6))
		return VS_V_CONTROL;
	return VS_V_FOREIGN_OUT;
}

/*
 * What TCP from the bus's address and port is: nobody, the bus neither, opens a connection into the wire's namespace, where services
 * may listen for this machine alone. `at` is where its header begins.
 */
VS_INLINE u32 vs_guard_bus(struct __sk_buff *skb, u32 at)
{
	u8 flags;

	if (bpf_skb_load_bytes(skb, at + VS_TCP_FLAGS, &flags, sizeof(flags)))
		return VS_V_FOREIGN_IN;
	return (flags & (VS_TCP_SYN | VS_TCP_ACK)) == VS_TCP_SYN ? VS_V_FOREIGN_IN : VS_V_CONTROL;
}

/*
 * An IPv6 frame that arrived. Gives its verdict, or VS_GO_ON for a datagram to our ESP port: then w->from says where it is from. It
 * is as long as the IP header says, which its UDP header repeats.
 */
VS_GLOBAL int vs_guard_in6(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w)
{
	struct vs_frame_start6 f = {};
	u32 verdict, len;

	if (!c || !w)
		return VS_V_FOREIGN_IN;
	verdict = vs_guard_start6(skb, &f, VS_V_FOREIGN_IN);
	if (verdict != VS_GO_ON)
		return verdict;
	len = vs_swap16(f.ip.payload_len);
	if (vs_none6(&c->wire_addr6))
		return VS_V_FOREIGN_IN;
	if (f.ip.next == VS_PROTO_ICMPV6 && f.sport != VS_ICMPV6_TOO_BIG) {
		const void *own = vs_nd_group((const struct vs_addr6 *)f.ip.daddr) ? (const void *)&c->wire_addr6
										  : (const void *)f.ip.daddr;

		return vs_nd_ok(skb, &f, own, c) ? VS_V_NEIGHBOUR : VS_V_FOREIGN_IN;
	}
	if (!vs_same6(f.ip.daddr, &c->wire_addr6))
		return VS_V_FOREIGN_IN;
	if (f.ip.next == VS_PROTO_ICMPV6)
		return vs_path6_report(skb, c, w, len);
	if (f.ip.next == VS_PROTO_TCP)
		return f.sport == c->bus_port && !vs_none6(&c->bus_addr6) && vs_same6(f.ip.saddr, &c->bus_addr6)
			       ? vs_guard_bus(skb, VS_ETH_LEN + VS_IP6_LEN)
			       : VS_V_FOREIGN_IN;
	if (f.ip.next != VS_PROTO_UDP || (u16)(vs_swap16(f.dport) - vs_swap16(c->esp_port)) >= VS_MAX_LANES)
		return VS_V_FOREIGN_IN;
	if (len < VS_UDP_LEN || vs_swap16(f.udp_len) != len)
		return VS_V_BAD_ESP;
	__builtin_memcpy(&w->from.addr6, f.ip.saddr, sizeof(w->from.addr6));
	w->from.addr = 0;
	w->from.port = f.sport;
	w->from.tos = vs_class6(&f.ip);
	w->from.v6 = 1;
	w->from.len = (u16)len;
	return VS_GO_ON;
}

/*
 * Any other frame that arrived. Gives its verdict, or VS_GO_ON for a datagram to our ESP port: then w->from says where it is from. It
 * is as long as the IP header says, which its UDP header repeats.
 */
VS_INLINE u32 vs_guard_in(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w)
{
	struct vs_frame_start f;
	u32 verdict = vs_guard_start(skb, &f, VS_V_FOREIGN_IN);
	u32 len;

	if (verdict != VS_GO_ON)
		return verdict;
	len = vs_swap16(f.ip.total_len) - VS_IP_LEN;
	/* Not for us: promiscuous neighbours, multicast, a forged destination. */
	if (f.ip.daddr != c->wire_addr || !f.ip.daddr)
		return VS_V_FOREIGN_IN;
	if (f.ip.protocol == VS_PROTO_TCP)
		return f.ip.saddr == c->bus_addr && f.ip.saddr && f.sport == c->bus_port
			       ? vs_guard_bus(skb, VS_ETH_LEN + VS_IP_LEN)
			       : VS_V_FOREIGN_IN;
	/* Type and code stand where UDP has its source port. */
	if (f.ip.protocol == VS_PROTO_ICMP)
		return f.sport == (VS_ICMP_UNREACHABLE | VS_ICMP_FRAG_NEEDED << 8) ? vs_path_report(skb, c, w, len) : VS_V_FOREIGN_IN;
	/* To a lane's own port comes what a NAT before us has translated back. */
	if (f.ip.protocol != VS_PROTO_UDP || (u16)(vs_swap16(f.dport) - vs_swap16(c->esp_port)) >= VS_MAX_LANES)
		return VS_V_FOREIGN_IN;
	if (len < VS_UDP_LEN || vs_swap16(f.udp_len) != len)
		return VS_V_BAD_ESP;
	w->from.addr = f.ip.saddr;
	w->from.port = f.sport;
	w->from.tos = f.ip.tos;
	w->from.v6 = 0;
	w->from.len = (u16)len;
	return VS_GO_ON;
}

/* On its way out: the sealer's frame, by its mark and by what the sealer writes, a keepalive, or a segment to the bus. */
VS_INLINE u32 vs_guard_out(struct __sk_buff *skb, const struct vs_config *c)
{
	struct vs_frame_start f;
	u32 verdict;

	if (skb->protocol == vs_swap16(VS_ETH_P_IPV6))
		return (u32)vs_guard_out6(skb, c);
	verdict = vs_guard_start(skb, &f, VS_V_FOREIGN_OUT);
	if (verdict == VS_V_NEIGHBOUR && skb->len > VS_ARP_MAX)
		return VS_V_FOREIGN_OUT;
	if (verdict != VS_GO_ON)
		return verdict;
	if (f.ip.saddr != c->wire_addr || !f.ip.saddr)
		return VS_V_FOREIGN_OUT;
	if (f.ip.protocol == VS_PROTO_UDP && (skb->mark == c->mark || skb->mark == ~c->mark) &&
	    (u16)(vs_swap16(f.sport) - vs_swap16(c->esp_port)) < VS_MAX_LANES)
		return vs_guard_marked(skb, c, VS_START_LEN, vs_swap16(f.udp_len));
	if (f.ip.protocol == VS_PROTO_TCP && f.ip.daddr == c->bus_addr && f.ip.daddr && f.dport == c->bus_port)
		return VS_V_CONTROL;
	return VS_V_FOREIGN_OUT;
}

#endif
