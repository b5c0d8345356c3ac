/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which flows are known. An edge allows its initiator to open flows; a reply is let through because its flow is here, never
 * because its source port looks right. The table is a plain hash: full means that new flows are refused, old ones stay.
 *
 * Nobody but the programs clears it. Each flow has a note in a queue; whoever makes or refreshes a flow takes a few notes from the
 * front, removes the flows that have expired and puts the others' notes back at the end. (A timer for each flow would be exact,
 * but its callback puts a kernel address into the program, which then measures differently after each load.)
 */
#ifndef VS_FLOWS_H
#define VS_FLOWS_H

#include "maps.h"
#include "parse.h"

/* How long a flow may be silent. */
VS_INLINE u64 vs_flow_idle(u8 protocol, u32 state)
{
	if (protocol == VS_PROTO_UDP)
		return VS_UDP_IDLE;
	if (protocol == VS_PROTO_ICMP)
		return VS_ICMP_IDLE;
	if (protocol != VS_PROTO_TCP && protocol != VS_PROTO_SCTP)
		return VS_OTHER_IDLE;
	if (state & VS_FLOW_RESET)
		return VS_TCP_RESET;
	if ((state & VS_FLOW_DONE) == VS_FLOW_DONE)
		return VS_TCP_CLOSED;
	if (state & VS_FLOW_DONE)
		return VS_TCP_HALF_CLOSED;
	if (!(state & VS_FLOW_ANSWERED))
		return VS_TCP_UNANSWERED;
	return protocol == VS_PROTO_TCP ? VS_TCP_IDLE : VS_SCTP_IDLE;
}

VS_INLINE int vs_flow_expired(const struct vs_flow *flow, u8 protocol, u64 now)
{
	u64 seen = *(const volatile u64 *)&flow->seen_ns;
	u32 state = *(const volatile u32 *)&flow->state;

	/* Another CPU may have written a time just after ours, hence signed. */
	return (long long)(now - seen) >= (long long)vs_flow_idle(protocol, state);
}

/* The flow if it exists and has been seen within its time, else NULL. */
VS_INLINE struct vs_flow *vs_flow_live(const struct vs_flow_key *key, u64 now)
{
	struct vs_flow *flow = bpf_map_lookup_elem(&flows, key);

	return flow && !vs_flow_expired(flow, key->protocol, now) ? flow : (void *)0;
}

/* Removes a flow, unless somebody else just has: each is taken off its edge's count once. */
VS_INLINE void vs_flow_remove(const struct vs_flow_key *key)
{
	u32 edge = key->edge;
	u32 *count = bpf_map_lookup_elem(&flow_counts, &edge);

	if (!bpf_map_delete_elem(&flows, key) && count)
		__sync_fetch_and_add(count, -1);
}

/* Looks at the `most` flows that have waited longest, at most VS_SWEEP_FULL. Gives 0. */
VS_GLOBAL int vs_flow_sweep(u64 now, u32 most)
{
	for (u32 i = 0; i < VS_SWEEP_FULL; i++) {
		struct vs_flow_note note = {};
		const struct vs_flow *flow;

		if (i >= most || bpf_map_pop_elem(&flow_queue, &note))
			break;
		flow = bpf_map_lookup_elem(&flows, &note.key);
		if (!flow || flow->ticket != note.ticket)
			continue;
		/* A flow without a note would stay for ever. */
		if (vs_flow_expired(flow, note.key.protocol, now) || bpf_map_push_elem(&flow_queue, &note, BPF_ANY))
			vs_flow_remove(&note.key);
	}
	return 0;
}

/* Puts a new flow and its note into the table. Gives 0 or a negative error. */
VS_INLINE long vs_flow_insert(const struct vs_flow_key *key, u64 now)
{
	struct vs_flow fresh = { .seen_ns = now, .ticket = (u32)now };
	struct vs_flow_note note = { .key = *key, .ticket = (u32)now };
	long failed = bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST);

	if (failed)
		return failed;
	failed = bpf_map_push_elem(&flow_queue, &note, BPF_ANY);
	if (failed)
		bpf_map_delete_elem(&flows, key);
	return failed;
}

/*
 * Makes a flow, or begins one anew that has expired: that keeps its note. Gives VS_GO_ON or a verdict.
 */
VS_GLOBAL int vs_flow_open(const struct vs_flow_key *wanted, u64 now)
{
	struct vs_flow_key own;
	const struct vs_flow_key *key = &own;
	struct vs_flow *flow;
	u32 *count;
	u32 edge;

	if (!wanted)
		return VS_V_INTERNAL;
	/* 6.1 takes no key from a global function's argument. */
	own = *wanted;
	flow = bpf_map_lookup_elem(&flows, key);
	if (flow) {
		*(volatile u32 *)&flow->state = 0;
		*(volatile u64 *)&flow->seen_ns = now;
		return VS_GO_ON;
	}
	edge = key->edge;
	count = bpf_map_lookup_elem(&flow_counts, &edge);
	if (!count)
		return VS_V_INTERNAL;
	vs_flow_sweep(now, VS_SWEEP_NEW);
	/* Signed: user space writes zero when an edge goes, and a removal may be counted just after that. */
	if ((int)__sync_fetch_and_add(count, 1) >= VS_MAX_EDGE_FLOWS) {
		vs_flow_sweep(now, VS_SWEEP_FULL);
		if ((int)*(volatile u32 *)count > VS_MAX_EDGE_FLOWS) {
			__sync_fetch_and_add(count, -1);
			return VS_V_FLOW_QUOTA;
		}
	}
	if (!vs_flow_insert(key, now))
		return VS_GO_ON;
	/* Another CPU may have been first with the same flow. */
	if (!bpf_map_lookup_elem(&flows, key)) {
		vs_flow_sweep(now, VS_SWEEP_FULL);
		if (!vs_flow_insert(key, now))
			return VS_GO_ON;
	}
	__sync_fetch_and_add(count, -1);
	return bpf_map_lookup_elem(&flows, key) ? VS_GO_ON : VS_V_FLOW_TABLE_FULL;
}

/* Follows a TCP or SCTP connection as far as its lifetime goes: answered, closed by either side, reset, or begun anew. */
VS_INLINE void vs_flow_follow(struct vs_flow *flow, u32 tcp_flags, int by_opener)
{
	u32 state = *(const volatile u32 *)&flow->state;
	u32 add = by_opener ? 0 : VS_FLOW_ANSWERED;

	if (tcp_flags & VS_TCP_FIN)
		add |= by_opener ? VS_FLOW_OPENER_DONE : VS_FLOW_ANSWERER_DONE;
	if (tcp_flags & VS_TCP_RST)
		add |= VS_FLOW_RESET;
	if (by_opener && (tcp_flags & (VS_TCP_SYN | VS_TCP_ACK)) == VS_TCP_SYN && state & (VS_FLOW_DONE | VS_FLOW_RESET))
		*(volatile u32 *)&flow->state = 0;
	else if (add & ~state)
		__sync_fetch_and_or(&flow->state, add);
}

/* Notes that a live flow is in use. */
VS_INLINE void vs_flow_touch(struct vs_flow *flow, u64 now, u32 tcp_flags, int by_opener)
{
	u64 seen = *(const volatile u64 *)&flow->seen_ns;

	vs_flow_follow(flow, tcp_flags, by_opener);
	if ((long long)(now - seen) > (long long)VS_FLOW_REFRESH) {
		*(volatile u64 *)&flow->seen_ns = now;
		vs_flow_sweep(now, VS_SWEEP_REFRESH);
	}
}

#endif
