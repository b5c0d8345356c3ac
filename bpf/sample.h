/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Samples of what was dropped, for a person who asks why. Each CPU has a ring of its own, which user space reads as a whole; at most
 * VS_DROP_SAMPLES of each verdict get in per second, so that a flood of one kind neither hides the others nor costs more than a look
 * at a counter. The counters of verdicts know nothing of this and miss nothing.
 */
#ifndef VS_SAMPLE_H
#define VS_SAMPLE_H

#include "maps.h"
#include "parse.h"

/* An IP header and the ports after it. */
struct vs_sampled {
	struct vs_ipv4 ip;
	be16 sport;
	be16 dport;
};

struct vs_sampled6 {
	struct vs_ipv6 ip;
	be16 sport;
	be16 dport;
};

/* Takes what is told from the 44 bytes at `from`, which are an IPv6 packet's if v6. */
VS_INLINE void vs_sample_packet(struct vs_drop *d, const u64 *from, u32 v6)
{
	const struct vs_sampled *s = (const struct vs_sampled *)from;
	const struct vs_sampled6 *s6 = (const struct vs_sampled6 *)from;

	d->known = v6 ? 6 : 4;
	d->sport = v6 ? s6->sport : s->sport;
	d->dport = v6 ? s6->dport : s->dport;
	d->protocol = v6 ? s6->ip.next : s->ip.protocol;
	d->saddr.word[0] = v6 ? from[1] : s->ip.saddr;
	d->saddr.word[1] = v6 ? from[2] : 0;
	d->daddr.word[0] = v6 ? from[3] : s->ip.daddr;
	d->daddr.word[1] = v6 ? from[4] : 0;
}

#define vs_ordered() __asm__ volatile("" ::: "memory")

/* Whose packet it is: a foreign frame's, the wire's or the application's. The scratch memory speaks of the latter two. */
#define VS_OF_NOBODY 0
#define VS_OF_WIRE 1
#define VS_OF_APPLICATION 2

/* Which drops are news: not what is routine, nor what happens before there is a configuration. */
VS_INLINE int vs_sampled_verdict(u32 verdict)
{
	return verdict >= VS_FIRST_DROP && verdict != VS_V_NOT_CONFIGURED && verdict != VS_V_KEEPALIVE && verdict != VS_V_PATH_MTU;
}

/* Counts a dropped packet of an edge: what its key opened, or its SPI says it is of. Here, since no other packet comes by here. */
VS_INLINE void vs_count_edge(u32 edge, u32 verdict)
{
	struct vs_edge_drops *counts = bpf_map_lookup_elem(&edge_drops, &edge);
	u64 at = verdict;

	/* The verifier forgets the bounds of a spilled number, so this comes right before use. */
	vs_opaque(at);
	at &= VS_MAX_VERDICTS - 1;
	if (counts)
		counts->packets[at] += 1;
}

/* Counts a dropped packet for its edge, if that is known, and notes it. Where w->opened is set, what is told of it is the text's header. Gives 0. */
VS_GLOBAL int vs_sample(struct __sk_buff *skb, u32 verdict, u32 whose)
{
	u64 now = bpf_ktime_get_boot_ns();
	struct vs_work *w = vs_work();
	u64 start[6] = {};
	struct vs_drops *all;
	struct vs_drop *d;
	u32 zero = 0, inner = 0, known = 0, v6 = skb->protocol == vs_swap16(VS_ETH_P_IPV6);
	u64 number;

	if (!w)
		return 0;
	if (whose)
		vs_count_edge(w->edge, verdict);
	if (!vs_rate_ok(verdict, now, VS_DROP_SAMPLES))
		return 0;
	all = bpf_map_lookup_elem(&drops, &zero);
	if (!all)
		return 0;
	if (whose && w->opened) {
		__builtin_memcpy(start, w->frame + VS_HEAD_ROOM, sizeof(struct vs_sampled6));
		inner = known = 1;
		v6 = ((const u8 *)start)[0] >> 4 == 6;
	} else if (v6 ? !bpf_skb_load_bytes(skb, VS_ETH_LEN, start, sizeof(struct vs_sampled6))
		      : skb->protocol == vs_swap16(VS_ETH_P_IP) && !bpf_skb_load_bytes(skb, VS_ETH_LEN, start, sizeof(struct vs_sampled))) {
		inner = whose == VS_OF_APPLICATION;
		known = 1;
	}
	number = all->last + 1;
	d = &all->place[number & (VS_DROP_PLACES - 1)];
	d->number = 0;
	d->check = 0;
	vs_ordered();
	d->when_ns = now;
	d->verdict = verdict;
	d->edge = whose ? w->edge : VS_ANY_EDGE;
	d->spi = whose ? w->spi : 0;
	vs_sample_packet(d, start, v6);
	d->inner = (u8)inner;
	if (!known)
		d->known = 0;
	vs_ordered();
	d->check = number;
	vs_ordered();
	d->number = number;
	all->last = number;
	return 0;
}

/* Counts a packet's verdict; a drop may leave a sample. */
VS_INLINE void vs_end(struct __sk_buff *skb, u32 verdict, u32 whose)
{
	vs_count(verdict);
	if (vs_sampled_verdict(verdict))
		vs_sample(skb, verdict, whose);
}

/* Before a packet is worked on: nothing is known of it. */
VS_INLINE void vs_work_begin(struct vs_work *w)
{
	w->opened = 0;
	w->edge = VS_ANY_EDGE;
	w->spi = 0;
}

#endif
