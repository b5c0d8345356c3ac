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

/* An IPv4 header and the ports after it. */
struct vs_sampled {
	struct vs_ipv4 ip;
	be16 sport;
	be16 dport;
};

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

/* Notes a dropped packet. Where w->opened is set, what is told of it is the text's header. Gives 0. */
VS_GLOBAL int vs_sample(struct __sk_buff *skb, u32 verdict, u32 whose)
{
	u64 now = bpf_ktime_get_boot_ns();
	struct vs_work *w = vs_work();
	struct vs_sampled s = {};
	struct vs_drops *all;
	struct vs_drop *d;
	u32 zero = 0, inner = 0, known = 0;
	u64 number;

	if (!w || !vs_rate_ok(verdict, now, VS_DROP_SAMPLES))
		return 0;
	all = bpf_map_lookup_elem(&drops, &zero);
	if (!all)
		return 0;
	if (whose && w->opened) {
		__builtin_memcpy(&s, w->frame + VS_HEAD_ROOM, sizeof(s));
		inner = known = 1;
	} else if (skb->protocol == vs_swap16(VS_ETH_P_IP) && !bpf_skb_load_bytes(skb, VS_ETH_LEN, &s, sizeof(s))) {
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
	d->saddr = s.ip.saddr;
	d->daddr = s.ip.daddr;
	d->sport = s.sport;
	d->dport = s.dport;
	d->protocol = s.ip.protocol;
	d->inner = (u8)inner;
	d->known = (u8)known;
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
