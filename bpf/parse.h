/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Headers, read from memory that holds them already: the same code judges the application's packets, the wire's and, after
 * decryption, the peer's. What we don't understand completely is refused; nothing is skipped over.
 */
#ifndef VS_PARSE_H
#define VS_PARSE_H

#include "types.h"
#include "verdicts.h"

struct vs_ipv4 {
	u8 version_ihl;
	u8 tos;
	be16 total_len;
	be16 id;
	be16 fragment;
	u8 ttl;
	u8 protocol;
	be16 checksum;
	be32 saddr;
	be32 daddr;
};
_Static_assert(sizeof(struct vs_ipv4) == VS_IP_LEN, "RFC 791");

struct vs_ipv6 {
	be32 start; /* version, traffic class, flow label */
	be16 payload_len;
	u8 next;
	u8 hop_limit;
	be32 saddr[4];
	be32 daddr[4];
};
_Static_assert(sizeof(struct vs_ipv6) == VS_IP6_LEN, "RFC 8200");

struct vs_arp {
	be16 hardware;
	be16 protocol;
	u8 hardware_len;
	u8 protocol_len;
	be16 operation;
};

/* Whether a packet may open a flow, answer in one, or, without state, might be either. */
#define VS_EITHER_WAY 0
#define VS_REQUEST 1
#define VS_REPLY 2
/* An ICMP error: it opens nothing and keeps nothing alive, and passes only beside a flow that lives. */
#define VS_ERROR 3

/*
 * What an inner packet is judged by. Ports are those of TCP, UDP and SCTP; an ICMP echo has its identifier in both; other protocols
 * have none. An ICMP error has the protocol and the ports of the flow that it speaks of, as a packet of that flow in the same
 * direction would. ICMPv6 is ICMP. IPv6 addresses stay in the packet; saddr and daddr then are numbers made of them, for the lane.
 */
struct vs_tuple {
	be32 saddr;
	be32 daddr;
	be16 sport;
	be16 dport;
	u8 protocol;
	u8 way;
	u8 tos;
	u8 tcp_flags; /* zero unless TCP, or what comes to the same in SCTP */
	u32 total_len;
	u32 v6;
};

/* No verdict: go on. */
#define VS_GO_ON VS_MAX_VERDICTS

VS_INLINE int vs_same6(const void *a, const struct vs_addr6 *b)
{
	return !((vs_get64(a) ^ vs_get64(&b->word[0])) | (vs_get64((const u8 *)a + 8) ^ vs_get64(&b->word[1])));
}

VS_INLINE int vs_none6(const struct vs_addr6 *a)
{
	return !(a->word[0] | a->word[1]);
}

VS_INLINE u8 vs_class6(const struct vs_ipv6 *ip)
{
	return (u8)(vs_swap32(ip->start) >> 20);
}

/* An IPv4 header without options, whole, of a packet that fits into `room` bytes. Gives VS_GO_ON or a verdict. */
VS_INLINE u32 vs_parse_ipv4(const struct vs_ipv4 *ip, u32 room)
{
	u32 total = vs_swap16(ip->total_len);

	if (ip->version_ihl != 0x45 || total < VS_IP_LEN || total > room)
		return VS_V_BAD_IPV4;
	if (ip->fragment & vs_swap16(VS_IP_FRAGMENT))
		return VS_V_FRAGMENT;
	return VS_GO_ON;
}

/*
 * An IPv6 header without extension headers, whole, of a packet that fits into `room` bytes. Gives VS_GO_ON or a verdict. No
 * extension header is let through: options for the destination and routing headers can give the packet another source or
 * destination than the ones that were judged (RFC 6275 section 6.3, RFC 8754), and no application needs the others. A fragment is one even
 * if it is the whole packet (RFC 6946): whether it is was for the receiver to say.
 */
VS_INLINE u32 vs_parse_ipv6(const struct vs_ipv6 *ip, u32 room)
{
	if ((ip->start & vs_swap32(0xf0000000)) != vs_swap32(0x60000000) || room < VS_IP6_LEN ||
	    vs_swap16(ip->payload_len) > room - VS_IP6_LEN)
		return VS_V_BAD_IPV6;
	switch (ip->next) {
	case VS_NEXT_FRAGMENT:
		return VS_V_FRAGMENT;
	case VS_NEXT_HOP_BY_HOP:
	case VS_NEXT_ROUTING:
	case VS_NEXT_NONE:
	case VS_NEXT_DESTINATION:
	case VS_NEXT_MOBILITY:
	case VS_NEXT_HIP:
	case VS_NEXT_SHIM6:
		return VS_V_EXTENSION;
	}
	return VS_GO_ON;
}

/* Takes from the first eight bytes of a quoted packet, after its IP header, what a packet the other way would have. */
VS_INLINE u32 vs_parse_quoted(const u8 *l4, u8 protocol, u16 request, u16 reply, struct vs_tuple *t)
{
	t->way = VS_ERROR;
	t->protocol = protocol;
	t->sport = t->dport = 0;
	switch (protocol) {
	case VS_PROTO_TCP:
	case VS_PROTO_UDP:
	case VS_PROTO_SCTP:
		t->sport = *(const be16 *)(l4 + 2);
		t->dport = *(const be16 *)l4;
		return VS_GO_ON;
	case VS_PROTO_ICMP:
		/* Nothing answers an error with an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4). */
		if (*(const be16 *)l4 != request && *(const be16 *)l4 != reply)
			return VS_V_STRAY_ICMP;
		t->sport = t->dport = *(const be16 *)(l4 + 4);
		return VS_GO_ON;
	}
	return VS_GO_ON;
}

/*
 * Finishes t for an ICMP message that is no echo: an error about a packet from its receiver to its sender, which it quotes. Gives
 * VS_GO_ON or a verdict.
 */
VS_INLINE u32 vs_parse_error(const u8 *packet, u32 total, struct vs_tuple *t)
{
	const struct vs_ipv4 *quoted = (const struct vs_ipv4 *)(packet + VS_IP_LEN + VS_ICMP_LEN);
	const u8 *l4 = (const u8 *)quoted + VS_IP_LEN;
	u8 type = packet[VS_IP_LEN], code = packet[VS_IP_LEN + 1];

	if (type == VS_ICMP_UNREACHABLE ? code > 15 : type == VS_ICMP_TIME_EXCEEDED ? code > 1 : type != VS_ICMP_PARAMETER || code > 2)
		return VS_V_NO_POLICY;
	if (total < VS_IP_LEN + VS_ICMP_LEN + VS_IP_LEN + 8 || quoted->version_ihl != 0x45 ||
	    quoted->fragment & vs_swap16(VS_IP_OFFSET) || quoted->saddr != t->daddr || quoted->daddr != t->saddr ||
	    quoted->protocol == VS_PROTO_ICMPV6)
		return VS_V_STRAY_ICMP;
	return vs_parse_quoted(l4, quoted->protocol, VS_ICMP_ECHO_REQUEST, VS_ICMP_ECHO_REPLY, t);
}

/* The same for ICMPv6 (RFC 4443 section 3). */
VS_INLINE u32 vs_parse_error6(const u8 *packet, u32 total, struct vs_tuple *t)
{
	const struct vs_ipv6 *ip = (const struct vs_ipv6 *)packet;
	const struct vs_ipv6 *quoted = (const struct vs_ipv6 *)(packet + VS_IP6_LEN + VS_ICMP_LEN);
	const u8 *l4 = (const u8 *)quoted + VS_IP6_LEN;
	u8 type = packet[VS_IP6_LEN], code = packet[VS_IP6_LEN + 1];

	if (type == VS_ICMPV6_UNREACHABLE ? code > 8
	    : type == VS_ICMPV6_TOO_BIG	  ? code > 0
	    : type == VS_ICMPV6_TIME_EXCEEDED
		    ? code > 1
		    : type != VS_ICMPV6_PARAMETER || code > 3)
		return VS_V_NO_POLICY;
	/* No length of the quoted packet is asked for: only its beginning is there. */
	if (total < VS_PARSE_LOOK || vs_parse_ipv6(quoted, ~0u) != VS_GO_ON ||
	    !vs_same6(quoted->saddr, (const struct vs_addr6 *)ip->daddr) ||
	    !vs_same6(quoted->daddr, (const struct vs_addr6 *)ip->saddr) || quoted->next == VS_PROTO_ICMP)
		return VS_V_STRAY_ICMP;
	return vs_parse_quoted(l4, quoted->next == VS_PROTO_ICMPV6 ? VS_PROTO_ICMP : quoted->next, VS_ICMPV6_ECHO_REQUEST,
			       VS_ICMPV6_ECHO_REPLY, t);
}

/*
 * Takes the ports from the `len` bytes after the IP header, of which 20 are readable, for any protocol but ICMP. A header that
 * isn't whole is `bad`.
 */
VS_INLINE u32 vs_parse_ports(const u8 *l4, u32 len, u32 bad, struct vs_tuple *t)
{
	switch (t->protocol) {
	case VS_PROTO_TCP:
		/* Data offset: at least five words, and inside the packet. */
		if (len < 20 || l4[12] >> 4 < 5 || (l4[12] >> 4) * 4u > len)
			return bad;
		t->tcp_flags = l4[VS_TCP_FLAGS];
		break;
	case VS_PROTO_UDP:
		if (len < VS_UDP_LEN || vs_swap16(*(const be16 *)(l4 + 4)) != len)
			return bad;
		break;
	case VS_PROTO_SCTP:
		/* The common header and that of the first chunk. */
		if (len < VS_SCTP_LEN + 4)
			return bad;
		t->tcp_flags = l4[12] == VS_SCTP_INIT ? VS_TCP_SYN
			       : l4[12] == VS_SCTP_ABORT || l4[12] == VS_SCTP_SHUTDOWN_COMPLETE ? VS_TCP_RST
												: 0;
		break;
	default:
		t->sport = t->dport = 0;
		return VS_GO_ON;
	}
	t->sport = *(const be16 *)l4;
	t->dport = *(const be16 *)(l4 + 2);
	return VS_GO_ON;
}

/*
 * Fills t from an inner IPv4 packet: `packet` points to at least VS_PARSE_LOOK readable bytes, of which `room` belong to the packet
 * (bytes past its end may be stale; no length that would use them is accepted). Gives VS_GO_ON or a verdict.
 */
VS_INLINE u32 vs_parse_inner(const u8 *packet, u32 room, struct vs_tuple *t)
{
	const struct vs_ipv4 *ip = (const struct vs_ipv4 *)packet;
	const u8 *l4 = packet + VS_IP_LEN;
	u32 verdict, total;
	u16 first;

	if (room < VS_IP_LEN)
		return VS_V_BAD_IPV4;
	verdict = vs_parse_ipv4(ip, room);
	if (verdict != VS_GO_ON)
		return verdict;
	total = vs_swap16(ip->total_len);
	t->saddr = ip->saddr;
	t->daddr = ip->daddr;
	t->tos = ip->tos;
	t->protocol = ip->protocol;
	t->way = VS_EITHER_WAY;
	t->tcp_flags = 0;
	t->total_len = total;
	t->v6 = 0;
	if (ip->protocol == VS_PROTO_ICMPV6)
		return VS_V_NO_POLICY; /* the other family's, which no edge means */
	if (ip->protocol != VS_PROTO_ICMP)
		return vs_parse_ports(l4, total - VS_IP_LEN, VS_V_BAD_IPV4, t);
	if (total < VS_IP_LEN + VS_ICMP_LEN)
		return VS_V_BAD_IPV4;
	first = *(const be16 *)l4;
	/* Echo has code 0, so that type and code are one number. */
	if (first == VS_ICMP_ECHO_REQUEST)
		t->way = VS_REQUEST;
	else if (first == VS_ICMP_ECHO_REPLY)
		t->way = VS_REPLY;
	else
		return vs_parse_error(packet, total, t);
	t->sport = t->dport = *(const be16 *)(l4 + 4);
	return VS_GO_ON;
}

VS_INLINE u32 vs_mix6(const be32 *addr)
{
	return addr[0] ^ addr[1] * 0x9e3779b1u ^ addr[2] * 0x85ebca77u ^ addr[3] * 0xc2b2ae3du;
}

/* The same from an inner IPv6 packet. */
VS_INLINE u32 vs_parse_inner6(const u8 *packet, u32 room, struct vs_tuple *t)
{
	const struct vs_ipv6 *ip = (const struct vs_ipv6 *)packet;
	const u8 *l4 = packet + VS_IP6_LEN;
	u32 verdict, len;
	u16 first;

	if (room < VS_IP6_LEN)
		return VS_V_BAD_IPV6;
	verdict = vs_parse_ipv6(ip, room);
	if (verdict != VS_GO_ON)
		return verdict;
	len = vs_swap16(ip->payload_len);
	t->saddr = vs_mix6(ip->saddr);
	t->daddr = vs_mix6(ip->daddr);
	t->tos = vs_class6(ip);
	t->protocol = ip->next;
	t->way = VS_EITHER_WAY;
	t->tcp_flags = 0;
	t->total_len = VS_IP6_LEN + len;
	t->v6 = 1;
	if (ip->next == VS_PROTO_ICMP)
		return VS_V_NO_POLICY;
	if (ip->next != VS_PROTO_ICMPV6)
		return vs_parse_ports(l4, len, VS_V_BAD_IPV6, t);
	if (len < VS_ICMP_LEN)
		return VS_V_BAD_IPV6;
	t->protocol = VS_PROTO_ICMP;
	first = *(const be16 *)l4;
	if (first == VS_ICMPV6_ECHO_REQUEST)
		t->way = VS_REQUEST;
	else if (first == VS_ICMPV6_ECHO_REPLY)
		t->way = VS_REPLY;
	else
		return vs_parse_error6(packet, VS_IP6_LEN + len, t);
	t->sport = t->dport = *(const be16 *)(l4 + 4);
	return VS_GO_ON;
}

/*
 * Which lane carries a flow: a mix of what identifies it, so that a flow keeps to one lane and keeps its order. Both directions
 * give the same number: where a lane's packets come from is where its answers go.
 */
VS_INLINE u32 vs_flow_hash(const struct vs_tuple *t)
{
	u64 mix = (u64)(t->saddr ^ t->daddr) << 32 | (u32)(t->saddr + t->daddr);

	mix ^= ((u64)(u16)(t->sport ^ t->dport) << 32 | (u64)(u16)(t->sport + t->dport) << 16 | t->protocol) * 0x9e3779b97f4a7c15ull;
	mix ^= mix >> 29;
	mix *= 0xbf58476d1ce4e5b9ull;
	return (u32)(mix >> 32);
}

/* ARP for IPv4 over Ethernet, request or reply (RFC 826). */
VS_INLINE int vs_arp_ok(const struct vs_arp *arp)
{
	return arp->hardware == vs_swap16(1) && arp->protocol == vs_swap16(VS_ETH_P_IP) && arp->hardware_len == 6 &&
	       arp->protocol_len == 4 && (arp->operation == vs_swap16(1) || arp->operation == vs_swap16(2));
}

/* A sum of 32-bit words as the checksum of RFC 1071, in the order of the wire. */
VS_INLINE u16 vs_fold(u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)~sum;
}

/* The checksum over `len` bytes, a multiple of four that the compiler knows. */
VS_INLINE u16 vs_checksum(const u8 *from, u32 len)
{
	u64 sum = 0;

	for (u32 i = 0; i < len; i += 4)
		sum += vs_get32(from + i);
	return vs_fold(sum);
}

#endif
