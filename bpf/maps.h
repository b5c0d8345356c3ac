/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The maps. Keys and values are declared by size, not by type: a pinned map with BTF types can be read with `cat`, without a
 * bpf() call that anything could refuse. Only those with a lock have types, since the kernel must find it.
 */
#ifndef VS_MAPS_H
#define VS_MAPS_H

#include "types.h"
#include <bpf/bpf_helpers.h>

#define VS_MAP(name, kind, key, value, entries)   \
	struct {                                  \
		__uint(type, kind);               \
		__uint(key_size, sizeof(key));    \
		__uint(value_size, sizeof(value)); \
		__uint(max_entries, entries);     \
	} name SEC(".maps")

VS_MAP(config, BPF_MAP_TYPE_ARRAY, u32, struct vs_config, 1);
VS_MAP(policies, BPF_MAP_TYPE_HASH, struct vs_policy_key, struct vs_policy, VS_MAX_POLICIES);
VS_MAP(policies6, BPF_MAP_TYPE_HASH, struct vs_policy6_key, struct vs_policy, VS_MAX_POLICIES);
VS_MAP(edges, BPF_MAP_TYPE_HASH, u32, struct vs_edge, VS_MAX_EDGES);
VS_MAP(outbound, BPF_MAP_TYPE_HASH, struct vs_lane_key, struct vs_outbound, VS_MAX_OUTBOUND);
VS_MAP(sa_out, BPF_MAP_TYPE_HASH, struct vs_sa_key, struct vs_sa_out, VS_MAX_SAS);
VS_MAP(sa_in, BPF_MAP_TYPE_HASH, be32, struct vs_sa_in, VS_MAX_SAS);
VS_MAP(lease_out, BPF_MAP_TYPE_HASH, struct vs_sa_key, u64, VS_MAX_SAS);
VS_MAP(lease_in, BPF_MAP_TYPE_HASH, be32, u64, VS_MAX_SAS);
VS_MAP(flows, BPF_MAP_TYPE_HASH, struct vs_flow_key, struct vs_flow, VS_MAX_FLOWS);
VS_MAP(flow_counts, BPF_MAP_TYPE_ARRAY, u32, u32, VS_MAX_EDGES);
VS_MAP(endpoints, BPF_MAP_TYPE_ARRAY, u32, u64, VS_MAX_EDGES *VS_MAX_LANES);
VS_MAP(path_mtus, BPF_MAP_TYPE_ARRAY, u32, u64, VS_MAX_EDGES);
VS_MAP(paths, BPF_MAP_TYPE_LRU_HASH, struct vs_path_key, u32, VS_MAX_PATHS);
VS_MAP(paths6, BPF_MAP_TYPE_LRU_HASH, struct vs_path6_key, u32, VS_MAX_PATHS);
VS_MAP(rates, BPF_MAP_TYPE_PERCPU_ARRAY, u32, struct vs_rate, VS_MAX_RATES);
VS_MAP(drops, BPF_MAP_TYPE_PERCPU_ARRAY, u32, struct vs_drops, 1);
VS_MAP(edge_stats, BPF_MAP_TYPE_PERCPU_ARRAY, u32, struct vs_edge_stats, VS_MAX_EDGES *VS_MAX_LANES);
VS_MAP(edge_drops, BPF_MAP_TYPE_PERCPU_ARRAY, u32, struct vs_edge_drops, VS_MAX_EDGES);
VS_MAP(verdicts, BPF_MAP_TYPE_PERCPU_ARRAY, u32, u64, VS_MAX_VERDICTS);
VS_MAP(scratch, BPF_MAP_TYPE_PERCPU_ARRAY, u32, struct vs_work, 1);

/* Twice as many as there can be flows: what user space removes leaves its note behind until that comes up. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(value_size, sizeof(struct vs_flow_note));
	__uint(max_entries, 2 * VS_MAX_FLOWS);
} flow_queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, be32);
	__type(value, struct vs_window);
	__uint(max_entries, VS_MAX_SAS);
} windows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, u32);
	__type(value, struct vs_endpoint6);
	__uint(max_entries, VS_MAX_EDGES *VS_MAX_LANES);
} endpoints6 SEC(".maps");

/* The configuration, or NULL while there is none that we understand. */
VS_INLINE const struct vs_config *vs_configured(void)
{
	u32 zero = 0;
	const struct vs_config *c = bpf_map_lookup_elem(&config, &zero);

	/* A mark of zero would make every unmarked frame look like ours; its complement marks the sealer's own messages. */
	return c && c->layout == VS_LAYOUT && c->mark && ~c->mark ? c : (void *)0;
}

VS_INLINE struct vs_work *vs_work(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

/* Every packet that a program sees is counted here once. */
VS_INLINE void vs_count(u32 verdict)
{
	u64 *count = bpf_map_lookup_elem(&verdicts, &verdict);

	if (count)
		*count += 1;
}

/* Whether something may happen once more: at most `most` times in a second on this CPU. */
VS_INLINE int vs_rate_ok(u32 what, u64 now, u64 most)
{
	struct vs_rate *rate = bpf_map_lookup_elem(&rates, &what);

	if (!rate)
		return 0;
	if (now - rate->since_ns >= VS_SECOND) {
		rate->since_ns = now;
		rate->count = 0;
	}
	if (rate->count >= most)
		return 0;
	rate->count += 1;
	return 1;
}

/* Whether a lease is good now. None in the map is none at all. */
VS_INLINE int vs_lease_good(const u64 *deadline, u64 now)
{
	return deadline && now < *deadline;
}

#endif
