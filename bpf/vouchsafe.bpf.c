// SPDX-License-Identifier: GPL-2.0
/*
 * The programs of the data plane, at TC (TCX from Linux 6.6):
 *
 *   application namespace       wire namespace
 *      m0  ------------------- m1                    wire0 ------------ network
 *            ingress: vs_seal ->|-- redirect_neigh -->|-> egress: vs_guard
 *            egress: vs_inner <-|<----- redirect -----|<- ingress: vs_open
 *
 * Each counts one verdict for each packet it sees; what no rule lets through is dropped.
 */
#include "guard.h"
#include "open.h"
#include "sample.h"
#include "seal.h"

char LICENSE[] SEC("license") = "GPL";

/* Application packets, from m1's ingress. Never passed on as they are. */
SEC("tc")
int vs_seal(struct __sk_buff *skb)
{
	const struct vs_config *c = vs_configured();
	struct vs_work *w = vs_work();
	u32 verdict = VS_V_NOT_CONFIGURED;
	int notice = 0;

	if (c && w) {
		vs_work_begin(w);
		verdict = vs_seal_packet(skb, c, w, &notice);
	}
	vs_end(skb, verdict, VS_OF_APPLICATION);
	if (notice && c)
		return bpf_redirect(c->inner_ifindex, 0);
	/* The kernel finds the neighbour for the outer destination; a static address would outlive the neighbour. */
	return verdict == VS_V_SEALED && c ? bpf_redirect_neigh(c->wire_ifindex, (void *)0, 0, 0) : VS_DROP;
}

/* Everything that arrives on the wire. */
SEC("tc")
int vs_open(struct __sk_buff *skb)
{
	const struct vs_config *c = vs_configured();
	struct vs_work *w = vs_work();
	u32 verdict;

	if (!c || !w) {
		vs_count(VS_V_NOT_CONFIGURED);
		return VS_DROP;
	}
	vs_work_begin(w);
	if (skb->protocol == vs_swap16(VS_ETH_P_IPV6))
		verdict = (u32)vs_guard_in6(skb, c, w);
	else
		verdict = vs_guard_in(skb, c, w);
	if (verdict == VS_GO_ON)
		verdict = vs_open_packet(skb, c, w, VS_ETH_LEN + (w->from.v6 ? VS_IP6_LEN : VS_IP_LEN), w->from.len);
	vs_end(skb, verdict, VS_OF_WIRE);
	if (verdict == VS_V_NEIGHBOUR || verdict == VS_V_CONTROL)
		return VS_PASS;
	/* m1's egress, not m0's ingress: m0 then coalesces what it gets. */
	return verdict == VS_V_OPENED ? bpf_redirect(c->inner_ifindex, 0) : VS_DROP;
}

/* Everything that is about to leave on the wire: the second line, the first being that no application can reach it. */
SEC("tc")
int vs_guard(struct __sk_buff *skb)
{
	const struct vs_config *c = vs_configured();
	u32 verdict = c ? vs_guard_out(skb, c) : VS_V_NOT_CONFIGURED;

	vs_end(skb, verdict, VS_OF_NOBODY);
	if (verdict != VS_V_NEIGHBOUR && verdict != VS_V_CONTROL && verdict != VS_V_SEALED_OUT && verdict != VS_V_KEEPALIVE_OUT)
		return VS_DROP;
	skb->mark = 0;
	return VS_PASS;
}

/* Everything that is about to reach the application: only what the opener let through, and the sealer's own messages. */
SEC("tc")
int vs_inner(struct __sk_buff *skb)
{
	const struct vs_config *c = vs_configured();
	u32 verdict = VS_V_NOT_CONFIGURED;

	if (c)
		verdict = skb->mark == c->mark	? VS_V_DELIVERED
			  : skb->mark == ~c->mark ? VS_V_NOTIFIED
						  : VS_V_NOT_OPENED;
	vs_end(skb, verdict, VS_OF_NOBODY);
	if (verdict != VS_V_DELIVERED && verdict != VS_V_NOTIFIED)
		return VS_DROP;
	skb->mark = 0;
	return VS_PASS;
}
