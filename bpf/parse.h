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
 * What an inner packet is judged by. Ports are those of TCP and UDP; an ICMP echo has its identifier in both. An ICMP error has
 * the protocol and the ports of the flow that it speaks of, as a packet of that flow in the same direction would.
 */
struct vs_tuple {
	be32 saddr;
	be32 daddr;
	be16 sport;
	be16 dport;
	u8 protocol;
	u8 way;
	u8 tos;
	u8 tcp_flags; /* zero unless TCP */
	u32 total_len;
};

/* No verdict: go on. */
#define VS_GO_ON VS_MAX_VERDICTS

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
	    quoted->fragment & vs_swap16(VS_IP_OFFSET) || quoted->saddr != t->daddr || quoted->daddr != t->saddr)
		return VS_V_STRAY_ICMP;
	t->way = VS_ERROR;
	t->protocol = quoted->protocol;
	switch (quoted->protocol) {
	case VS_PROTO_TCP:
	case VS_PROTO_UDP:
		t->sport = *(const be16 *)(l4 + 2);
		t->dport = *(const be16 *)l4;
		return VS_GO_ON;
	case VS_PROTO_ICMP:
		/* Nothing answers an error with an error (RFC 1122 section 3.2.2). */
		if (*(const be16 *)l4 != VS_ICMP_ECHO_REQUEST && *(const be16 *)l4 != VS_ICMP_ECHO_REPLY)
			return VS_V_STRAY_ICMP;
		t->sport = t->dport = *(const be16 *)(l4 + 4);
		return VS_GO_ON;
	default:
		return VS_V_STRAY_ICMP;
	}
}

/*
 * Fills t from an inner packet: `packet` points to at least VS_IP_LEN + 20 readable bytes, of which `room` belong to the packet
 * (bytes past its end may be stale; no length that would use them is accepted). Gives VS_GO_ON or a verdict.
 */
VS_INLINE u32 vs_parse_inner(const u8 *packet, u32 room, struct vs_tuple *t)
{
	const struct vs_ipv4 *ip = (const struct vs_ipv4 *)packet;
	const u8 *l4 = packet + VS_IP_LEN;
	u32 verdict, total;
	u16 first, second;

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
	first = *(const be16 *)l4;
	second = *(const be16 *)(l4 + 2);
	switch (ip->protocol) {
	case VS_PROTO_TCP:
		/* Data offset: at least five words, and inside the packet. */
		if (total < VS_IP_LEN + 20 || l4[12] >> 4 < 5 || VS_IP_LEN + (l4[12] >> 4) * 4u > total)
			return VS_V_BAD_IPV4;
		t->tcp_flags = l4[13];
		break;
	case VS_PROTO_UDP:
		if (total < VS_IP_LEN + VS_UDP_LEN || vs_swap16(*(const be16 *)(l4 + 4)) != total - VS_IP_LEN)
			return VS_V_BAD_IPV4;
		break;
	case VS_PROTO_ICMP:
		if (total < VS_IP_LEN + 8)
			return VS_V_BAD_IPV4;
		/* Echo has code 0, so that type and code are one number. */
		if (first == VS_ICMP_ECHO_REQUEST)
			t->way = VS_REQUEST;
		else if (first == VS_ICMP_ECHO_REPLY)
			t->way = VS_REPLY;
		else
			return vs_parse_error(packet, total, t);
		first = second = *(const be16 *)(l4 + 4);
		break;
	default:
		return VS_V_NO_POLICY;
	}
	t->sport = first;
	t->dport = second;
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
