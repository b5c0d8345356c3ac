/* SPDX-License-Identifier: GPL-2.0 */
/* Which edge a packet belongs to, if any: the compiled workflow, by peer, protocol, port and who may begin. */
#ifndef VS_POLICY_H
#define VS_POLICY_H

#include "flows.h"

/* A packet seen from this node: the peer, the ports, and which role sends in this direction. */
struct vs_question {
	be32 peer;
	be16 own_port;
	be16 peer_port;
	u8 protocol;
	u8 way;      /* VS_EITHER_WAY, VS_REQUEST, VS_REPLY, VS_ERROR */
	u8 opens_as; /* our role if this packet opens its flow */
	u8 pad;
	u32 edge; /* the only edge that will do, or VS_ANY_EDGE */
};

/* What was found: the flow that the packet belongs to, if it lives, and whether the packet may open it. */
struct vs_answer {
	struct vs_flow_key key;
	u32 opens;
	struct vs_flow *live;
};

/* The edge that the workflow names for us in `role`, or VS_ANY_EDGE for none. The exact port goes before any port. */
VS_INLINE u32 vs_policy_edge(const struct vs_question *q, u8 role)
{
	struct vs_policy_key key = {
		.peer = q->peer,
		.port = role == VS_ROLE_INITIATOR ? q->peer_port : q->own_port,
		.protocol = q->protocol,
		.role = role,
	};
	const struct vs_policy *policy;

	if (q->protocol == VS_PROTO_ICMP)
		key.port = 0; /* identifiers are no ports */
	policy = bpf_map_lookup_elem(&policies, &key);
	if (!policy && key.port) {
		key.port = 0;
		policy = bpf_map_lookup_elem(&policies, &key);
	}
	if (!policy)
		return VS_ANY_EDGE;
	if (q->edge != VS_ANY_EDGE && policy->edge != q->edge)
		return VS_ANY_EDGE;
	return policy->edge;
}

/*
 * Gives 1 and fills `a` when an edge allows the packet, else 0. A live flow is stronger than the right to open a new one: where
 * two edges between the same nodes overlap, an answer stays with the edge that its flow began on.
 */
VS_INLINE int vs_judge(const struct vs_question *q, u64 now, struct vs_answer *a)
{
	u8 answers_as = q->opens_as == VS_ROLE_INITIATOR ? VS_ROLE_RESPONDER : VS_ROLE_INITIATOR;
	u32 forward = VS_ANY_EDGE, back;

	a->opens = 0;
	a->live = (void *)0;
	if (q->way != VS_REPLY) {
		forward = vs_policy_edge(q, q->opens_as);
		if (forward != VS_ANY_EDGE) {
			vs_flow_key_set(&a->key, forward, q->own_port, q->peer_port, q->protocol, q->opens_as);
			a->opens = 1;
			a->live = vs_flow_live(&a->key, now);
			if (a->live)
				return 1;
		}
	}
	if (q->way != VS_REQUEST) {
		back = vs_policy_edge(q, answers_as);
		if (back != VS_ANY_EDGE) {
			vs_flow_key_set(&a->key, back, q->own_port, q->peer_port, q->protocol, answers_as);
			a->opens = 0;
			a->live = vs_flow_live(&a->key, now);
			if (a->live)
				return 1;
		}
	}
	if (forward == VS_ANY_EDGE || q->way == VS_ERROR)
		return 0;
	vs_flow_key_set(&a->key, forward, q->own_port, q->peer_port, q->protocol, q->opens_as);
	a->opens = 1;
	return 1;
}

/* Keeps or makes the flow of a packet that was allowed. Gives VS_GO_ON or a verdict. */
VS_INLINE u32 vs_answer_use(const struct vs_answer *a, u64 now, const struct vs_tuple *t)
{
	if (!a->live)
		return (u32)vs_flow_open(&a->key, now);
	if (t->way != VS_ERROR)
		vs_flow_touch(a->live, now, t->tcp_flags, (int)a->opens);
	return VS_GO_ON;
}

#endif
