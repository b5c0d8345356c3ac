/* SPDX-License-Identifier: GPL-2.0 */
/* Which edge a packet belongs to, if any: the compiled workflow, by peer, protocol, port and who may begin. */
#ifndef VS_POLICY_H
#define VS_POLICY_H

#include "flows.h"

/* A packet seen from this node: the peer, the ports, and which role sends in this direction. */
struct vs_question {
	be32 peer; /* IPv4 only; the other is in the packet */
	be16 own_port;
	be16 peer_port;
	u8 protocol;
	u8 way;      /* VS_EITHER_WAY, VS_REQUEST, VS_REPLY, VS_ERROR */
	u8 opens_as; /* our role if this packet opens its flow: its sender's if it is the initiator */
	u8 v6;
	u32 edge; /* the only edge that will do, or VS_ANY_EDGE */
};

/* What was found: the flow that the packet belongs to, if it lives, and whether the packet may open it. */
struct vs_answer {
	struct vs_flow_key key;
	u32 opens;
	struct vs_flow *live;
};

/* The port that policies speak of. Identifiers of ICMP are none. */
VS_INLINE be16 vs_policy_port(const struct vs_question *q, u32 role)
{
	if (q->protocol == VS_PROTO_ICMP)
		return 0;
	return role == VS_ROLE_INITIATOR ? q->peer_port : q->own_port;
}

/* What the exact port doesn't find: any port of the protocol, then any protocol. Gives an edge, or VS_ANY_EDGE for none. */
VS_GLOBAL int vs_policy_wider(const struct vs_question *q, u32 role)
{
	struct vs_policy_key key = {};
	const struct vs_policy *policy;

	if (!q)
		return VS_ANY_EDGE;
	key.peer = q->peer;
	key.protocol = q->protocol;
	key.role = (u8)role;
	policy = vs_policy_port(q, role) ? bpf_map_lookup_elem(&policies, &key) : (void *)0;
	if (!policy) {
		key.protocol = VS_PROTO_ANY;
		policy = bpf_map_lookup_elem(&policies, &key);
	}
	return policy ? policy->edge : VS_ANY_EDGE;
}

/* The same for an IPv6 packet, whose header is in w, from the exact port on. */
VS_GLOBAL int vs_policy6(const struct vs_work *w, const struct vs_question *q, u32 role)
{
	struct vs_policy6_key key = {};
	const struct vs_policy *policy;
	const struct vs_ipv6 *ip;

	if (!w || !q)
		return VS_ANY_EDGE;
	ip = (const struct vs_ipv6 *)(w->frame + VS_HEAD_ROOM);
	/* The sealer's packets may open flows as the initiator's: the peer is where they go. */
	__builtin_memcpy(key.peer, q->opens_as == VS_ROLE_INITIATOR ? ip->daddr : ip->saddr, sizeof(key.peer));
	key.port = vs_policy_port(q, role);
	key.protocol = q->protocol;
	key.role = (u8)role;
	policy = bpf_map_lookup_elem(&policies6, &key);
	if (!policy && key.port) {
		key.port = 0;
		policy = bpf_map_lookup_elem(&policies6, &key);
	}
	if (!policy) {
		key.protocol = VS_PROTO_ANY;
		policy = bpf_map_lookup_elem(&policies6, &key);
	}
	return policy ? policy->edge : VS_ANY_EDGE;
}

/* The edge that the workflow names for us in `role`, or VS_ANY_EDGE for none. The most specific policy goes first. */
VS_INLINE u32 vs_policy_edge(const struct vs_work *w, const struct vs_question *q, u8 role)
{
	u32 edge;

	if (q->v6) {
		edge = (u32)vs_policy6(w, q, role);
	} else {
		struct vs_policy_key key = {
			.peer = q->peer,
			.port = vs_policy_port(q, role),
			.protocol = q->protocol,
			.role = role,
		};
		const struct vs_policy *policy = bpf_map_lookup_elem(&policies, &key);

		edge = policy ? policy->edge : (u32)vs_policy_wider(q, role);
	}
	return q->edge == VS_ANY_EDGE || edge == q->edge ? edge : VS_ANY_EDGE;
}

VS_INLINE void vs_flow_key_set(struct vs_flow_key *key, u32 edge, const struct vs_question *q, u8 role)
{
	key->edge = edge;
	key->own_port = q->own_port;
	key->peer_port = q->peer_port;
	key->protocol = q->protocol;
	key->role = role;
	key->v6 = q->v6;
	key->pad = 0;
}

/*
 * Gives 1 and fills `a` when an edge allows the packet, else 0. A live flow is stronger than the right to open a new one: where
 * two edges between the same nodes overlap, an answer stays with the edge that its flow began on.
 */
VS_INLINE int vs_judge(const struct vs_work *w, const struct vs_question *q, u64 now, struct vs_answer *a)
{
	u8 answers_as = q->opens_as == VS_ROLE_INITIATOR ? VS_ROLE_RESPONDER : VS_ROLE_INITIATOR;
	u32 forward = VS_ANY_EDGE, back;

	a->opens = 0;
	a->live = (void *)0;
	if (q->way != VS_REPLY) {
		forward = vs_policy_edge(w, q, q->opens_as);
		if (forward != VS_ANY_EDGE) {
			vs_flow_key_set(&a->key, forward, q, q->opens_as);
			a->opens = 1;
			a->live = vs_flow_live(&a->key, now);
			if (a->live)
				return 1;
		}
	}
	if (q->way != VS_REQUEST) {
		back = vs_policy_edge(w, q, answers_as);
		if (back != VS_ANY_EDGE) {
			vs_flow_key_set(&a->key, back, q, answers_as);
			a->opens = 0;
			a->live = vs_flow_live(&a->key, now);
			if (a->live)
				return 1;
		}
	}
	if (forward == VS_ANY_EDGE || q->way == VS_ERROR)
		return 0;
	vs_flow_key_set(&a->key, forward, q, q->opens_as);
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
