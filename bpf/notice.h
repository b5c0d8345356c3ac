/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the sealer tells the application: that a packet is too long for the edge (RFC 792, RFC 1191, RFC 4443). It is never fragmented, so
 * the sender is told whether it has set DF or not. The message comes from the address that the packet was for: the node has no
 * other that the application's kernel would believe on that device.
 */
#ifndef VS_NOTICE_H
#define VS_NOTICE_H

#include "esp.h"
#include "maps.h"

/* The quote stays where it is, at the beginning of the text; the headers go before it. */
#define VS_NOTICE_AT (VS_HEAD_ROOM - VS_ICMP_LEN - VS_IP_LEN - VS_ETH_LEN)
#define VS_NOTICE_QUOTE (VS_IP_LEN + 8)
#define VS_NOTICE_LEN (VS_HEAD_ROOM - VS_NOTICE_AT + VS_NOTICE_QUOTE)
/* Of an IPv6 packet as much as an ICMPv6 error has room for (RFC 4443 section 2.4): it is longer than the MTU that it is told. */
#define VS_NOTICE6_AT (VS_HEAD_ROOM - VS_ICMP_LEN - VS_IP6_LEN - VS_ETH_LEN)
#define VS_NOTICE6_QUOTE (VS_ERROR6_MAX - VS_IP6_LEN - VS_ICMP_LEN)
#define VS_NOTICE6_LEN (VS_ETH_LEN + VS_ERROR6_MAX)
/* Of a packet that is too long for any edge this much is read: what tells whose it is, and what is quoted of it. */
#define VS_INNER_LOOK VS_NOTICE6_QUOTE
_Static_assert(VS_INNER_LOOK >= VS_PARSE_LOOK, "enough to judge it");

/* Puts the message that begins at `eth` in place of the packet. Gives 1 when the frame is ready for the application, else 0. */
VS_INLINE int vs_notice_send(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, const u8 *eth, u32 len)
{
	if (bpf_skb_change_tail(skb, len, 0) || bpf_skb_store_bytes(skb, 0, eth, len, BPF_F_INVALIDATE_HASH))
		return 0;
	skb->mark = ~c->mark;
	w->opened = 1; /* from here on the packet is in the text alone */
	return 1;
}

/*
 * Makes a Packet Too Big (RFC 4443 section 3.2) of an inner IPv6 packet that is longer than `inner_mtu`. No sender of IPv6 may be
 * told less than 1,280: where the path carries less than that, longer packets are told 1,280, and what is no longer than that but
 * still too long for the path is dropped without a word, since there is nothing that the sender could do. Gives 1 or 0 as above.
 */
VS_GLOBAL int vs_notice6_too_long(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, u32 inner_mtu, u64 now)
{
	const struct vs_ipv6 *quoted;
	struct vs_ipv6 *ip;
	u8 *eth, *icmp;

	if (!c || !w)
		return 0;
	if (inner_mtu < VS_MTU_IPV6)
		inner_mtu = VS_MTU_IPV6;
	if (skb->len <= VS_ETH_LEN + inner_mtu || !vs_rate_ok(VS_RATE_NOTICE, now, VS_NOTICES))
		return 0;
	eth = w->frame + VS_NOTICE6_AT;
	ip = (struct vs_ipv6 *)(eth + VS_ETH_LEN);
	icmp = (u8 *)(ip + 1);
	quoted = (const struct vs_ipv6 *)(w->frame + VS_HEAD_ROOM);
	vs_inner_eth(eth, c, 1);
	ip->start = vs_swap32(6u << 28 | VS_TOS_CONTROL << 20);
	ip->payload_len = vs_swap16(VS_ERROR6_MAX - VS_IP6_LEN);
	ip->next = VS_PROTO_ICMPV6;
	ip->hop_limit = VS_TTL;
	for (u32 i = 0; i < 4; i += 2) {
		vs_put64(ip->saddr + i, vs_get64(quoted->daddr + i));
		vs_put64(ip->daddr + i, vs_get64(quoted->saddr + i));
	}
	vs_put32(icmp, VS_ICMPV6_TOO_BIG);
	vs_put32(icmp + 4, vs_swap32(inner_mtu));
	*(u16 *)(icmp + 2) = vs_checksum6(w, VS_NOTICE6_AT + VS_ETH_LEN, VS_ERROR6_MAX - VS_IP6_LEN, VS_PROTO_ICMPV6);
	return vs_notice_send(skb, c, w, eth, VS_NOTICE6_LEN);
}

/*
 * Makes a Fragmentation Needed of an inner IPv4 packet, whose beginning is in w, that is longer than `inner_mtu`. Gives 1 or 0 as
 * above.
 */
VS_INLINE int vs_notice_too_long(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, u32 inner_mtu, u64 now)
{
	u8 *eth = w->frame + VS_NOTICE_AT;
	struct vs_ipv4 *ip = (struct vs_ipv4 *)(eth + VS_ETH_LEN);
	u8 *icmp = eth + VS_ETH_LEN + VS_IP_LEN;
	const struct vs_ipv4 *quoted = (const struct vs_ipv4 *)(w->frame + VS_HEAD_ROOM);

	if (inner_mtu < VS_MTU_LEAST || skb->len < VS_NOTICE_LEN || !vs_rate_ok(VS_RATE_NOTICE, now, VS_NOTICES))
		return 0;
	vs_inner_eth(eth, c, 0);
	ip->version_ihl = 0x45;
	ip->tos = VS_TOS_CONTROL;
	ip->total_len = vs_swap16(VS_NOTICE_LEN - VS_ETH_LEN);
	ip->id = 0;
	ip->fragment = vs_swap16(VS_IP_DF);
	ip->ttl = VS_TTL;
	ip->protocol = VS_PROTO_ICMP;
	ip->checksum = 0;
	ip->saddr = quoted->daddr;
	ip->daddr = quoted->saddr;
	ip->checksum = vs_checksum((const u8 *)ip, VS_IP_LEN);
	vs_put32(icmp, VS_ICMP_UNREACHABLE | VS_ICMP_FRAG_NEEDED << 8);
	vs_put32(icmp + 4, vs_swap32(inner_mtu));
	*(u16 *)(icmp + 2) = vs_checksum(icmp, VS_ICMP_LEN + VS_NOTICE_QUOTE);
	return vs_notice_send(skb, c, w, eth, VS_NOTICE_LEN);
}

#endif
