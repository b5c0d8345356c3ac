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
	struct vs_frame_start f;
	u32 verdict, total;

	if (!c || !w) {
		vs_count(VS_V_NOT_CONFIGURED);
		return VS_DROP;
	}
	vs_work_begin(w);
	verdict = vs_guard_start(skb, &f, VS_V_FOREIGN_IN);
	if (verdict == VS_GO_ON) {
		total = vs_swap16(f.ip.total_len);
		verdict = VS_V_FOREIGN_IN;
		if (f.ip.daddr != c->wire_addr) {
			/* Not for us: promiscuous neighbours, multicast, a forged destination. */
		} else if (f.ip.protocol == VS_PROTO_TCP) {
			if (f.ip.saddr == c->bus_addr && f.sport == c->bus_port)
				verdict = VS_V_CONTROL;
		} else if (f.ip.protocol == VS_PROTO_ICMP) {
			/* Type and code stand where UDP has its source port. */
			if (f.sport == (VS_ICMP_UNREACHABLE | VS_ICMP_FRAG_NEEDED << 8))
				verdict = vs_path_report(skb, c, w, total - VS_IP_LEN);
		} else if (f.ip.protocol == VS_PROTO_UDP && (u16)(vs_swap16(f.dport) - vs_swap16(c->esp_port)) < VS_MAX_LANES) {
			/* To a lane's own port comes what a NAT before us has translated back. */
			struct vs_outer from = { .addr = f.ip.saddr, .port = f.sport, .tos = f.ip.tos };

			verdict = VS_V_BAD_ESP;
			if (total >= VS_IP_LEN + VS_UDP_LEN && vs_swap16(f.udp_len) == total - VS_IP_LEN)
				verdict = vs_open_packet(skb, c, w, total - VS_IP_LEN, &from);
		}
	}
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
	if (verdict != VS_V_NEIGHBOUR && verdict != VS_V_CONTROL && verdict != VS_V_SEALED_OUT)
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
