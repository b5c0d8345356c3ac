/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a peer is: what its authentic packets say, else what the signed document says. A packet counts only if its sequence number
 * is the highest that its SA has seen, so neither a forgery nor a replay nor a straggler moves anything.
 */
#ifndef VS_ENDPOINT_H
#define VS_ENDPOINT_H

#include "path.h"

/*
 * A value of `endpoints`: address in the low 32 bits, port above, both as on the wire, and 16 zeros. One word, so that nobody sends
 * to half of it. Zero: nothing was learnt. The key is edge * VS_MAX_LANES + lane, since a NAT gives each lane a port of its own.
 */
VS_INLINE u64 *vs_endpoint(u32 edge, u32 lane)
{
	u32 index = edge * VS_MAX_LANES + lane;

	return bpf_map_lookup_elem(&endpoints, &index);
}

/* Puts what was learnt for the lane, if anything, in place of the document's address. */
VS_INLINE void vs_endpoint_apply(u32 edge, u32 lane, struct vs_headers *h)
{
	const u64 *learnt = vs_endpoint(edge, lane);
	u64 word = learnt ? *(const volatile u64 *)learnt : 0;

	if (!word)
		return;
	h->peer_wire = (be32)word;
	h->peer_port = (be16)(word >> 32);
}

/* Over IPv6 an address and a port are no one word: a lock keeps them together. */
VS_INLINE struct vs_endpoint6 *vs_endpoint6(u32 edge, u32 lane)
{
	u32 index = edge * VS_MAX_LANES + lane;

	return bpf_map_lookup_elem(&endpoints6, &index);
}

/* Copies what was learnt for the lane; gives the port, or zero when nothing was. */
VS_INLINE be16 vs_endpoint6_read(struct vs_endpoint6 *learnt, struct vs_addr6 *addr)
{
	be16 port;

	bpf_spin_lock(&learnt->lock);
	port = learnt->port;
	addr->word[0] = learnt->addr.word[0];
	addr->word[1] = learnt->addr.word[1];
	bpf_spin_unlock(&learnt->lock);
	return port;
}

VS_INLINE void vs_endpoint6_write(struct vs_endpoint6 *learnt, const struct vs_addr6 *addr, be16 port)
{
	u64 first = addr->word[0], second = addr->word[1];

	bpf_spin_lock(&learnt->lock);
	learnt->port = port;
	learnt->addr.word[0] = first;
	learnt->addr.word[1] = second;
	bpf_spin_unlock(&learnt->lock);
}

/* vs_endpoint_apply for a peer that is reached over IPv6. Gives 0. */
VS_GLOBAL int vs_endpoint6_apply(struct vs_headers *h)
{
	struct vs_endpoint6 *learnt;
	struct vs_addr6 addr = {};
	be16 port;

	if (!h)
		return 0;
	learnt = vs_endpoint6(h->edge, h->lane);
	port = learnt ? vs_endpoint6_read(learnt, &addr) : 0;
	if (!port)
		return 0;
	h->peer_wire6 = addr;
	h->peer_port = port;
	return 0;
}

/* A unicast address that is not ours, and a port. */
VS_INLINE int vs_endpoint_plausible(const struct vs_outer *from, const struct vs_config *c)
{
	u8 first = (u8)from->addr;

	return first && first != 127 && first < 224 && from->addr != c->wire_addr && from->port;
}

/*
 * The peer has another address: lanes that it has not spoken on since send there too, to the port that is known to work. The
 * path is another one, so its MTU is to be found again. Gives 0.
 */
VS_GLOBAL int vs_endpoint_moved(u32 edge, u32 documented, u64 word)
{
	u64 *mtu = bpf_map_lookup_elem(&path_mtus, &edge);

	if (mtu)
		*(volatile u64 *)mtu = 0;
	for (u32 lane = 0; lane < VS_MAX_LANES; lane++) {
		struct vs_lane_key key = { .edge = edge, .lane = lane };
		const struct vs_outbound *out = bpf_map_lookup_elem(&outbound, &key);
		u64 *learnt = vs_endpoint(edge, lane);
		u64 known = learnt ? *(volatile u64 *)learnt : 0;

		if (learnt && (known ? (u32)known : documented) != (u32)word)
			*(volatile u64 *)learnt = word;
		if (out)
			vs_path_note((be32)word, out->spi, edge);
	}
	return 0;
}

/* A unicast address of the network's that is not ours, and a port. */
VS_INLINE int vs_endpoint6_plausible(const struct vs_outer *from, const struct vs_config *c)
{
	u64 first = vs_swap64(from->addr6.word[0]), second = vs_swap64(from->addr6.word[1]);

	if (first >> 56 == 0xff || first >> 54 == 0xfe80 >> 6)
		return 0; /* multicast, link-local */
	if (!first && (second >> 32 == 0 || second >> 32 == 0xffff))
		return 0; /* unspecified, loopback, IPv4 in disguise */
	return !vs_same6(&from->addr6, &c->wire_addr6) && from->port;
}

/* vs_endpoint_moved over IPv6; `documented` is the edge's record's address. Gives 0. */
VS_GLOBAL int vs_endpoint6_moved(u32 edge, const struct vs_addr6 *documented, const struct vs_outer *to)
{
	u64 *mtu = bpf_map_lookup_elem(&path_mtus, &edge);

	if (mtu)
		*(volatile u64 *)mtu = 0;
	if (!documented || !to)
		return 0;
	for (u32 lane = 0; lane < VS_MAX_LANES; lane++) {
		struct vs_lane_key key = { .edge = edge, .lane = lane };
		const struct vs_outbound *out = bpf_map_lookup_elem(&outbound, &key);
		struct vs_endpoint6 *learnt = vs_endpoint6(edge, lane);
		struct vs_addr6 known = {};

		if (learnt && !vs_same6(vs_endpoint6_read(learnt, &known) ? &known : documented, &to->addr6))
			vs_endpoint6_write(learnt, &to->addr6, to->port);
		if (out)
			vs_path6_note(&to->addr6, out->spi, edge);
	}
	return 0;
}

/* vs_endpoint_learn over IPv6. Gives 1 when the peer has another address: then vs_endpoint6_moved is to be called. */
VS_GLOBAL int vs_endpoint6_learn(u32 edge, u32 lane, const struct vs_edge *e, struct vs_outer *from, const struct vs_config *c)
{
	struct vs_endpoint6 *learnt = vs_endpoint6(edge, lane);
	struct vs_addr6 known = {};
	be16 port;

	if (!learnt || !e || !from || !c)
		return 0;
	if (from->port == vs_swap16((u16)(vs_swap16(e->peer_port) + lane)))
		from->port = e->peer_port;
	port = vs_endpoint6_read(learnt, &known);
	if (!port) {
		known = e->peer_wire6;
		port = e->peer_port;
	}
	if ((port == from->port && vs_same6(&known, &from->addr6)) || !vs_endpoint6_plausible(from, c))
		return 0;
	vs_endpoint6_write(learnt, &from->addr6, from->port);
	return !vs_same6(&known, &from->addr6);
}

/* The newest authentic packet of a lane came from there. */
VS_INLINE void vs_endpoint_learn(u32 edge, u32 lane, const struct vs_edge *e, struct vs_outer *from, const struct vs_config *c)
{
	u64 *learnt = vs_endpoint(edge, lane);
	be16 port = from->port;
	u64 known, word;
	u32 before;

	if (!e->peer_wire) {
		if (from->v6 && vs_endpoint6_learn(edge, lane, e, from, c))
			vs_endpoint6_moved(edge, &e->peer_wire6, from);
		return;
	}
	/* A peer that the document has in the other family can answer there only. */
	if (!learnt || from->v6)
		return;
	/* A lane's own source port: nobody translates it, and the peer listens where the document says. */
	if (port == vs_swap16((u16)(vs_swap16(e->peer_port) + lane)))
		port = e->peer_port;
	word = from->addr | (u64)port << 32;
	known = *(volatile u64 *)learnt;
	before = known ? (u32)known : e->peer_wire;
	if (word == (known ? known : (e->peer_wire | (u64)e->peer_port << 32)) || !vs_endpoint_plausible(from, c))
		return;
	*(volatile u64 *)learnt = word;
	if (before != from->addr)
		vs_endpoint_moved(edge, e->peer_wire, word);
}

#endif
