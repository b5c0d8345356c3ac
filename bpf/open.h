/* SPDX-License-Identifier: GPL-2.0 */
/* One packet from the wire to the application. */
#ifndef VS_OPEN_H
#define VS_OPEN_H

#include "aead.h"
#include "endpoint.h"
#include "esp.h"
#include "policy.h"
#include "replay.h"

/* The UDP payload is loaded so that its text falls on VS_HEAD_ROOM: UDP, ESP header and IV lie before it. */
#define VS_UDP_AT (VS_HEAD_ROOM - VS_IV_LEN - VS_ESP_LEN - VS_UDP_LEN)
#define VS_ESP_AT (VS_UDP_AT + VS_UDP_LEN)

/* What an authentic packet is to be judged by. */
struct vs_opened {
	u32 edge;
	u32 lane;
	u32 newest; /* no higher sequence number was seen before it */
	u32 inner_len;
	u32 v6; /* the inner packet is IPv6 */
};

/* The sequence number is new and the packet authentic: marks it, once. The window goes with its SA; none is none of ours. */
VS_INLINE u32 vs_open_mark(struct vs_window *window, be32 spi, u64 seq, u32 *newest)
{
	int accepted, higher;

	bpf_spin_lock(&window->lock);
	higher = seq > window->top;
	accepted = vs_window_accept(window, seq);
	bpf_spin_unlock(&window->lock);
	if (!accepted)
		return VS_V_REPLAYED;
	*newest = higher;
	/* A window deleted meanwhile may be another SA's by now: then nothing says that this packet came only once. */
	return bpf_map_lookup_elem(&windows, &spi) == window ? VS_GO_ON : VS_V_UNKNOWN_SPI;
}

/*
 * Authenticates and decrypts `text_len` bytes of text that lie in w with their headers. Fills `o` but for the length. Gives VS_GO_ON or a
 * verdict.
 */
VS_INLINE u32 vs_open_text(struct vs_work *w, u32 text_len, u64 now, struct vs_opened *o)
{
	be32 spi = *(const be32 *)(w->frame + VS_ESP_AT);
	u32 low = vs_swap32(*(const be32 *)(w->frame + VS_ESP_AT + 4));
	u64 iv = vs_get64(w->frame + VS_ESP_AT + VS_ESP_LEN);
	const struct vs_sa_in *sa;
	struct vs_window *window;
	u64 seq;

	w->spi = spi;
	if (!spi)
		return VS_V_BAD_ESP; /* the non-ESP marker: nobody here speaks IKE */
	if (vs_swap32(spi) < VS_SPI_MIN)
		return VS_V_UNKNOWN_SPI;
	sa = bpf_map_lookup_elem(&sa_in, &spi);
	if (!sa)
		return VS_V_UNKNOWN_SPI;
	o->edge = w->edge = sa->edge;
	o->lane = sa->lane;
	if (!vs_lease_good(bpf_map_lookup_elem(&lease_in, &spi), now))
		return VS_V_LEASE_OVER;
	window = bpf_map_lookup_elem(&windows, &spi);
	if (!window)
		return VS_V_UNKNOWN_SPI;

	/* The high half is never taken from the IV: a peer's IV need not be its sequence number, and Linux's isn't. */
	seq = sa->flags & VS_SA_ESN ? vs_esn(*(const volatile u64 *)&window->top, low) : low;
	if (!vs_window_may_accept(window, seq))
		return VS_V_REPLAYED;
	vs_chacha20_init(w, sa->key, sa->salt, iv);
	vs_esp_aad(w, spi, seq, sa->flags);
	if (vs_aead_open(w, text_len))
		return VS_V_BAD_TAG;
	w->opened = 1;
	return vs_open_mark(window, spi, seq, &o->newest);
}

/* Holds the decrypted packet against its edge and the workflow. Gives VS_GO_ON and the inner length, or a verdict. */
VS_INLINE u32 vs_open_judge(struct vs_work *w, const struct vs_config *c, u32 text_len, u64 now, struct vs_opened *o)
{
	const struct vs_ipv6 *ip6 = (const struct vs_ipv6 *)(w->frame + VS_HEAD_ROOM);
	const struct vs_edge *e = bpf_map_lookup_elem(&edges, &o->edge);
	struct vs_question q = {};
	struct vs_answer a = {};
	struct vs_tuple t = {};
	u32 verdict, len = (u32)vs_esp_unpad(w, text_len);

	if (!len)
		return VS_V_BAD_PADDING;
	o->v6 = len >= VS_UNPAD_V6;
	len &= VS_UNPAD_V6 - 1;
	verdict = o->v6 ? vs_parse_inner6(w->frame + VS_HEAD_ROOM, len, &t) : vs_parse_inner(w->frame + VS_HEAD_ROOM, len, &t);
	if (verdict != VS_GO_ON)
		return verdict;
	if (t.total_len != len)
		return o->v6 ? VS_V_BAD_IPV6 : VS_V_BAD_IPV4;
	if (!e)
		return VS_V_NO_ENDPOINT;
	if (o->v6 ? !vs_same6(ip6->saddr, &e->peer_inner6) || !vs_same6(ip6->daddr, &c->inner_addr6) || vs_none6(&e->peer_inner6) ||
			    vs_none6(&c->inner_addr6)
		  : t.saddr != e->peer_inner || t.daddr != c->inner_addr || !t.saddr || !t.daddr)
		return VS_V_WRONG_INNER;
	if (o->newest && o->lane < VS_MAX_LANES)
		vs_endpoint_learn(o->edge, o->lane, e, &w->from, c);
	q.peer = t.saddr;
	q.own_port = t.dport;
	q.peer_port = t.sport;
	q.protocol = t.protocol;
	q.way = t.way;
	q.opens_as = VS_ROLE_RESPONDER;
	q.v6 = (u8)t.v6;
	q.edge = o->edge;
	if (!vs_judge(w, &q, now, &a))
		return t.way == VS_ERROR ? VS_V_STRAY_ICMP : VS_V_NO_POLICY;
	verdict = vs_answer_use(&a, now, &t);
	if (verdict != VS_GO_ON)
		return verdict;
	o->inner_len = len;
	return VS_GO_ON;
}

/* Puts the opened packet in place of the sealed one. */
VS_INLINE u32 vs_open_replace(struct __sk_buff *skb, struct vs_work *w, const struct vs_config *c, const struct vs_opened *o)
{
	u32 inner_len = o->inner_len, outer_v6 = w->from.v6;
	u8 *eth = w->frame + VS_HEAD_ROOM - VS_ETH_LEN;

	/* As in vs_seal_replace. */
	if (outer_v6 != o->v6 && bpf_skb_change_proto(skb, vs_swap16(o->v6 ? VS_ETH_P_IPV6 : VS_ETH_P_IP), 0))
		return VS_V_INTERNAL;
	/*
	 * Always shorter than it was, and all of it is stored anew below: no header has to be taken out of the middle. Besides
	 * cutting, this ends a checksum that a driver computed over the sealed bytes (CHECKSUM_COMPLETE becomes NONE): the
	 * application's stack computes its own. The kernel doesn't cut before the transport header, which a veth hands on from
	 * the sender, where it was the inner packet's: of short packets one byte is cut, and the rest taken from the front.
	 */
	if (bpf_skb_change_tail(skb, VS_ETH_LEN + inner_len, 0) &&
	    (bpf_skb_change_tail(skb, skb->len - 1, 0) ||
	     bpf_skb_adjust_room(skb, (s32)(VS_ETH_LEN + inner_len - skb->len), BPF_ADJ_ROOM_MAC, 0)))
		return VS_V_INTERNAL;
	vs_inner_eth(eth, c, o->v6);
	if (bpf_skb_store_bytes(skb, 0, eth, vs_copy_size(VS_ETH_LEN + inner_len), BPF_F_INVALIDATE_HASH))
		return VS_V_INTERNAL;
	return VS_GO_ON;
}

/* A UDP datagram of `len` bytes, header included, to our ESP port, that begins at `at`. w->from is set. Gives its verdict. */
VS_INLINE u32 vs_open_packet(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, u32 at, u32 len)
{
	u64 now = bpf_ktime_get_boot_ns();
	struct vs_edge_stats *stats;
	struct vs_opened o = {};
	u32 verdict, text_len, index;

	if (len == VS_UDP_LEN + 1) {
		u8 byte = 0;

		if (bpf_skb_load_bytes(skb, at + VS_UDP_LEN, &byte, 1))
			return VS_V_INTERNAL;
		return byte == 0xff ? VS_V_KEEPALIVE : VS_V_BAD_ESP;
	}
	if (len < VS_SEALED_MIN)
		return VS_V_BAD_ESP;
	text_len = len - (VS_UDP_LEN + VS_ESP_LEN + VS_IV_LEN + VS_ICV_LEN);
	if (text_len > VS_TEXT_MAX || text_len % 4)
		return VS_V_BAD_ESP;
	/* Merged by receive offload: more than one packet, none of them whole. */
	if (skb->gso_segs > 1 || skb->gso_size)
		return VS_V_BAD_ESP;
	if (bpf_skb_load_bytes(skb, at, w->frame + VS_UDP_AT, vs_copy_size(len)))
		return VS_V_INTERNAL;

	verdict = vs_open_text(w, text_len, now, &o);
	if (verdict != VS_GO_ON)
		return verdict;
	verdict = vs_open_judge(w, c, text_len, now, &o);
	if (verdict != VS_GO_ON)
		return verdict;
	verdict = o.v6 ? vs_ecn_open6(w->frame + VS_HEAD_ROOM, w->from.tos)
		       : vs_ecn_open((struct vs_ipv4 *)(w->frame + VS_HEAD_ROOM), w->from.tos);
	if (verdict != VS_GO_ON)
		return verdict;
	verdict = vs_open_replace(skb, w, c, &o);
	if (verdict != VS_GO_ON)
		return verdict;
	skb->mark = c->mark;
	index = o.edge * VS_MAX_LANES + o.lane;
	stats = bpf_map_lookup_elem(&edge_stats, &index);
	if (stats) {
		stats->opened_packets += 1;
		stats->opened_bytes += o.inner_len;
	}
	return VS_V_OPENED;
}

#endif
