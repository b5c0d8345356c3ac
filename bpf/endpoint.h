/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a peer is: what its authentic packets say, else what the signed document says. A packet counts only if its sequence number
 * is the highest that its SA has seen, so neither a forgery nor a replay nor a straggler moves anything.
 */
#ifndef VS_ENDPOINT_H
#define VS_ENDPOINT_H

#include "path.h"

/* Where a sealed packet came from, as its outer headers say: nobody has authenticated that. */
struct vs_outer {
	be32 addr;
	be16 port;
	u8 tos;
	u8 pad;
};

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
VS_INLINE void vs_endpoint_apply(u32 edge, u32 lane, struct vs_edge *e)
{
	const u64 *learnt = vs_endpoint(edge, lane);
	u64 word = learnt ? *(const volatile u64 *)learnt : 0;

	if (!word)
		return;
	e->peer_wire = (be32)word;
	e->peer_port = (be16)(word >> 32);
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

/* The newest authentic packet of a lane came from there. */
VS_INLINE void vs_endpoint_learn(u32 edge, u32 lane, const struct vs_edge *e, const struct vs_outer *from, const struct vs_config *c)
{
	u64 *learnt = vs_endpoint(edge, lane);
	be16 port = from->port;
	u64 known, word;
	u32 before;

	if (!learnt)
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
