/* SPDX-License-Identifier: GPL-2.0 */
/* One packet from the application to the wire. */
#ifndef VS_SEAL_H
#define VS_SEAL_H

#include "aead.h"
#include "endpoint.h"
#include "esp.h"
#include "notice.h"
#include "path.h"
#include "policy.h"

/* What sealing needs, found by vs_seal_find. */
struct vs_seal_by {
	struct vs_headers headers;
	struct vs_sa_key sa_key;
	struct vs_sa_out *sa;
	u32 mtu; /* of the outer packet */
};

/* Whether the packet that w holds is for the edge's peer. */
VS_INLINE int vs_seal_is_peer(const struct vs_work *w, const struct vs_tuple *t, const struct vs_edge *e)
{
	const struct vs_ipv6 *ip = (const struct vs_ipv6 *)(w->frame + VS_HEAD_ROOM);

	return t->v6 ? vs_same6(ip->daddr, &e->peer_inner6) : t->daddr == e->peer_inner;
}

/* The lane's SA and its lease. Gives VS_GO_ON or a verdict. */
VS_INLINE u32 vs_seal_find(struct vs_work *w, const struct vs_tuple *t, u32 edge, u64 now, struct vs_seal_by *by)
{
	const struct vs_edge *e = bpf_map_lookup_elem(&edges, &edge);
	const struct vs_outbound *out;
	struct vs_headers *h = &by->headers;
	struct vs_lane_key lane;
	u32 lanes;

	if (!e || !vs_seal_is_peer(w, t, e))
		return VS_V_NO_ENDPOINT;
	/* Read once: user space may replace the record while we use it. */
	lanes = *(const volatile u16 *)&e->lanes;
	h->peer_wire = *(const volatile be32 *)&e->peer_wire;
	h->peer_port = *(const volatile be16 *)&e->peer_port;
	h->v6 = !h->peer_wire;
	if (h->v6)
		h->peer_wire6 = e->peer_wire6;
	if (!h->peer_port || !lanes || lanes > VS_MAX_LANES || (h->v6 && vs_none6(&h->peer_wire6)))
		return VS_V_NO_ENDPOINT;
	h->edge = edge;
	/* As a fraction of all hashes: a multiplication, where a remainder takes a division. */
	h->lane = (u32)((u64)vs_flow_hash(t) * lanes >> 32);
	if (h->v6)
		vs_endpoint6_apply(h);
	else
		vs_endpoint_apply(edge, h->lane, h);
	lane.edge = edge;
	lane.lane = h->lane;
	out = bpf_map_lookup_elem(&outbound, &lane);
	if (!out)
		return VS_V_NO_KEY;
	by->sa_key.edge = edge;
	by->sa_key.spi = h->spi = w->spi = out->spi;
	if (vs_swap32(by->sa_key.spi) < VS_SPI_MIN)
		return VS_V_NO_KEY;
	by->sa = bpf_map_lookup_elem(&sa_out, &by->sa_key);
	if (!by->sa)
		return VS_V_NO_KEY;
	if (!vs_lease_good(bpf_map_lookup_elem(&lease_out, &by->sa_key), now))
		return VS_V_LEASE_OVER;
	by->mtu = vs_edge_mtu(edge, e->mtu, vs_outer_len(h->v6), now);
	return vs_sealed_len(t->total_len, vs_outer_len(h->v6)) > by->mtu ? VS_V_TOO_LONG : VS_GO_ON;
}

/*
 * Takes a sequence number and sets the cipher up with it. Gives VS_GO_ON or a verdict.
 *
 * The kernel may give the memory of a deleted SA to the next one at once, while we still use it: we would pair the new key with
 * the old counter, and the new SA would come to the same number again. So the SA is looked up again after both were read. An
 * SPI never comes back, so finding the same element means that it was ours all the time.
 */
VS_INLINE u32 vs_seal_number(struct vs_work *w, struct vs_seal_by *by)
{
	struct vs_sa_out *sa = by->sa;
	u32 flags = sa->flags;
	u64 last = flags & VS_SA_ESN ? VS_LAST_SEQUENCE_ESN : VS_LAST_SEQUENCE;
	u64 next;

	/* Held against the end before and after: the counter must not run on from refused packets until it wraps. */
	if (*(volatile u64 *)&sa->seq >= last)
		return VS_V_SEQUENCE_END;
	next = __sync_fetch_and_add(&sa->seq, 1) + 1;
	if (next > last)
		return VS_V_SEQUENCE_END;
	vs_chacha20_init(w, sa->key, sa->salt, vs_swap64(next));
	if (bpf_map_lookup_elem(&sa_out, &by->sa_key) != sa)
		return VS_V_NO_KEY;
	if (next % VS_PATH_EVERY == 1) {
		if (by->headers.v6)
			vs_path6_note(&by->headers.peer_wire6, by->sa_key.spi, by->sa_key.edge);
		else
			vs_path_note(by->headers.peer_wire, by->sa_key.spi, by->sa_key.edge);
	}
	vs_esp_aad(w, by->sa_key.spi, next, flags);
	by->headers.seq = next;
	return VS_GO_ON;
}

VS_INLINE void vs_seal_account(u32 edge, u32 lane, u32 bytes)
{
	u32 index = edge * VS_MAX_LANES + lane;
	struct vs_edge_stats *stats = bpf_map_lookup_elem(&edge_stats, &index);

	if (!stats)
		return;
	stats->sealed_packets += 1;
	stats->sealed_bytes += bytes;
}

/*
 * Puts the sealed packet in place of the inner one. `outer_len` is a number that the compiler knows; `inner_v6` tells what the packet
 * was. Gives VS_GO_ON or a verdict.
 */
VS_INLINE u32 vs_seal_replace(struct __sk_buff *skb, const struct vs_work *w, u32 outer_len, u32 inner_v6, u32 text_len)
{
	u32 outer_v6 = outer_len == VS_OUTER6_LEN;

	/*
	 * All is stored anew below: what it grows by goes in at the front, in one go, where there is room more often than at the end. Only
	 * change_tail cuts what the frame had behind its packet, and ends a checksum that a driver computed over the old bytes:
	 * CHECKSUM_COMPLETE, which bpf_csum_update is for, becomes NONE.
	 */
	if ((bpf_csum_update(skb, 0) >= 0 || skb->len > VS_ETH_LEN + text_len + VS_ICV_LEN) &&
	    bpf_skb_change_tail(skb, VS_ETH_LEN + text_len + VS_ICV_LEN, 0))
		return VS_V_INTERNAL;
	/* The packet's protocol is the kernel's to change: it takes or gives 20 bytes as if it translated the header. */
	if (outer_v6 != inner_v6 && bpf_skb_change_proto(skb, vs_swap16(outer_v6 ? VS_ETH_P_IPV6 : VS_ETH_P_IP), 0))
		return VS_V_INTERNAL;
	/* No ENCAP flags: they would stay with the packet across a veth, and the peer's change_tail would fail. */
	if (bpf_skb_adjust_room(skb, (s32)(VS_ETH_LEN + outer_len + text_len + VS_ICV_LEN - skb->len), BPF_ADJ_ROOM_MAC, 0))
		return VS_V_INTERNAL;
	if (bpf_skb_store_bytes(skb, 0, w->frame + VS_FRAME_AT(outer_len),
				vs_copy_size(VS_ETH_LEN + outer_len + text_len + VS_ICV_LEN), BPF_F_INVALIDATE_HASH))
		return VS_V_INTERNAL;
	return VS_GO_ON;
}

/* Whether the packet that w holds comes from this node's own workflow address. */
VS_INLINE int vs_seal_is_own(const struct vs_work *w, const struct vs_tuple *t, const struct vs_config *c)
{
	const struct vs_ipv6 *ip = (const struct vs_ipv6 *)(w->frame + VS_HEAD_ROOM);

	return t->v6 ? !vs_none6(&c->inner_addr6) && vs_same6(ip->saddr, &c->inner_addr6) : t->saddr && t->saddr == c->inner_addr;
}

/*
 * Gives the packet's verdict. With VS_V_SEALED the frame is ready for the wire; what the other ones leave is dropped, unless
 * `notice` was set: then it is a message to the application.
 */
VS_INLINE u32 vs_seal_packet(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, int *notice)
{
	u8 *text = w->frame + VS_HEAD_ROOM;
	struct vs_seal_by by = {};
	struct vs_question q = {};
	struct vs_answer a = {};
	struct vs_tuple t = {};
	u64 now = bpf_ktime_get_boot_ns();
	u32 verdict, room, text_len;
	int v6 = skb->protocol == vs_swap16(VS_ETH_P_IPV6);

	if (skb->gso_segs > 1 || skb->gso_size)
		return VS_V_SUPER_PACKET;
	if ((!v6 && skb->protocol != vs_swap16(VS_ETH_P_IP)) || skb->vlan_present)
		return VS_V_NOT_IPV4;
	if (skb->len < VS_ETH_LEN + VS_IP_LEN)
		return v6 ? VS_V_BAD_IPV6 : VS_V_BAD_IPV4;
	room = skb->len - VS_ETH_LEN;
	/* Of what is too long for any edge only what tells whose it is. */
	if (bpf_skb_load_bytes(skb, VS_ETH_LEN, text, vs_copy_size(room > VS_INNER_MAX ? VS_INNER_LOOK : room)))
		return VS_V_INTERNAL;

	verdict = v6 ? vs_parse_inner6(text, room, &t) : vs_parse_inner(text, room, &t);
	if (verdict != VS_GO_ON)
		return verdict;
	/* A short packet in a frame that was only looked at: what follows in the scratch is some other packet's. */
	if (room > VS_INNER_MAX && t.total_len <= VS_INNER_MAX)
		return v6 ? VS_V_BAD_IPV6 : VS_V_BAD_IPV4;
	if (!vs_seal_is_own(w, &t, c))
		return VS_V_WRONG_SOURCE;
	q.peer = t.daddr;
	q.own_port = t.sport;
	q.peer_port = t.dport;
	q.protocol = t.protocol;
	q.way = t.way;
	q.opens_as = VS_ROLE_INITIATOR;
	q.v6 = (u8)t.v6;
	q.edge = VS_ANY_EDGE;
	if (!vs_judge(w, &q, now, &a))
		return t.way == VS_ERROR ? VS_V_STRAY_ICMP : VS_V_NO_POLICY;

	w->edge = a.key.edge;
	verdict = vs_seal_find(w, &t, a.key.edge, now, &by);
	if (verdict == VS_V_TOO_LONG && t.way != VS_ERROR) {
		u32 inner_mtu = vs_inner_mtu(by.mtu, vs_outer_len(by.headers.v6));

		*notice = t.v6 ? vs_notice6_too_long(skb, c, w, inner_mtu, now) : vs_notice_too_long(skb, c, w, inner_mtu, now);
	}
	if (verdict != VS_GO_ON)
		return verdict;
	/* Only now: a flow that can't be sealed takes no place in the table. */
	verdict = vs_answer_use(&a, now, &t);
	if (verdict != VS_GO_ON)
		return verdict;
	verdict = vs_seal_number(w, &by);
	if (verdict != VS_GO_ON)
		return verdict;

	text_len = vs_text_len(t.total_len);
	by.headers.text_len = text_len;
	by.headers.tos = t.tos;
	vs_esp_pad(w, t.total_len, t.v6 ? VS_NEXT_IPV6 : VS_NEXT_IPV4);
	if (vs_aead_seal(w, text_len))
		return VS_V_INTERNAL;
	if (by.headers.v6) {
		vs_esp_head6(w, c, &by.headers);
		verdict = vs_seal_replace(skb, w, VS_OUTER6_LEN, t.v6, text_len);
	} else {
		vs_esp_head(w, c, &by.headers);
		verdict = vs_seal_replace(skb, w, VS_OUTER_LEN, t.v6, text_len);
	}
	if (verdict != VS_GO_ON)
		return verdict;
	skb->mark = c->mark;
	vs_seal_account(a.key.edge, by.headers.lane, t.total_len);
	return VS_V_SEALED;
}

#endif
