/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Which flows are known. An edge allows its initiator to open flows; a reply is let through because its flow is here, never
 * because its source port looks right. The table is a plain hash: full means that new flows are refused, old ones stay.
 */
#ifndef VS_FLOWS_H
#define VS_FLOWS_H

#include "maps.h"
#include "parse.h"

VS_INLINE u64 vs_flow_idle(u8 protocol)
{
	if (protocol == VS_PROTO_TCP)
		return VS_TCP_IDLE;
	return protocol == VS_PROTO_UDP ? VS_UDP_IDLE : VS_ICMP_IDLE;
}

VS_INLINE void vs_flow_key_set(struct vs_flow_key *key, u32 edge, be16 own_port, be16 peer_port, u8 protocol, u8 role)
{
	key->edge = edge;
	key->own_port = own_port;
	key->peer_port = peer_port;
	key->protocol = protocol;
	key->role = role;
	key->pad[0] = 0;
	key->pad[1] = 0;
}

/* Whether the flow exists and has been seen within its protocol's time. */
VS_INLINE int vs_flow_alive(const struct vs_flow_key *key, u64 now)
{
	const struct vs_flow *flow = bpf_map_lookup_elem(&flows, key);
	u64 seen;

	if (!flow)
		return 0;
	seen = *(const volatile u64 *)&flow->seen_ns;
	/* Another CPU may have written a time just after ours, hence signed. */
	return (long long)(now - seen) < (long long)vs_flow_idle(key->protocol);
}

/*
 * Notes that the flow is in use: an entry is refreshed (an expired one so taken over), a missing one made if `create`.
 * Gives 0, or a negative error when the table is full or the entry has gone.
 */
VS_INLINE long vs_flow_touch(const struct vs_flow_key *key, u64 now, int create)
{
	struct vs_flow *flow = bpf_map_lookup_elem(&flows, key);
	struct vs_flow fresh = { .seen_ns = now };
	long failed;

	if (flow) {
		u64 seen = *(const volatile u64 *)&flow->seen_ns;

		if ((long long)(now - seen) > (long long)VS_FLOW_REFRESH)
			*(volatile u64 *)&flow->seen_ns = now;
		return 0;
	}
	if (!create)
		return -1;
	failed = bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST);
	/* Another CPU may have been first with the same flow. */
	return failed && !bpf_map_lookup_elem(&flows, key) ? failed : 0;
}

#endif
