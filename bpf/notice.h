/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the sealer tells the application: that a packet is too long for the edge (RFC 792, RFC 1191). It is never fragmented, so
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

/*
 * Makes a Fragmentation Needed of an inner packet, whose beginning is in w, that would exceed `mtu` on the wire. Gives 1 when the
 * frame is ready for the application, else 0.
 */
VS_INLINE int vs_notice_too_long(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, u32 mtu, u64 now)
{
	u8 *eth = w->frame + VS_NOTICE_AT;
	struct vs_ipv4 *ip = (struct vs_ipv4 *)(eth + VS_ETH_LEN);
	u8 *icmp = eth + VS_ETH_LEN + VS_IP_LEN;
	const struct vs_ipv4 *quoted = (const struct vs_ipv4 *)(w->frame + VS_HEAD_ROOM);
	u32 inner_mtu = vs_inner_mtu(mtu);

	if (inner_mtu < VS_MTU_LEAST || skb->len < VS_NOTICE_LEN || !vs_rate_ok(VS_RATE_NOTICE, now, VS_NOTICES))
		return 0;
	vs_inner_eth(eth, c);
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
	if (bpf_skb_change_tail(skb, VS_NOTICE_LEN, 0) || bpf_skb_store_bytes(skb, 0, eth, VS_NOTICE_LEN, BPF_F_INVALIDATE_HASH))
		return 0;
	skb->mark = ~c->mark;
	w->opened = 1; /* from here on the packet is in the text alone */
	return 1;
}

#endif
