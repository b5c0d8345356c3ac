/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The path MTU of each edge: what the endpoint record says, or less while the network has reported less. A report counts only if
 * it quotes a packet that we can have sent just now. Whoever sees the wire can forge that, and can't do more than bring the edge
 * down to VS_MTU_FLOOR for ten minutes; who doesn't see it would have to guess an SPI and a sequence number.
 */
#ifndef VS_PATH_H
#define VS_PATH_H

#include "esp.h"
#include "maps.h"

/*
 * A value of `path_mtus`: the MTU in the low 16 bits, above them when it ends, in units of 2^30 ns (1.07 s) of the boot clock.
 * One word, so that nobody sees half of it. Zero: nothing was reported.
 */
#define VS_MTU_UNIT 30
#define VS_MTU_UNITS (VS_MTU_SECONDS * VS_SECOND >> VS_MTU_UNIT)

/* What a value of `path_mtus` makes of the endpoint record's MTU. */
VS_INLINE u32 vs_path_mtu(u64 reported, u32 mtu, u64 now)
{
	u32 less = (u32)(reported & 0xffff);

	return less < mtu && now >> VS_MTU_UNIT < reported >> 16 ? less : mtu;
}

/* The MTU that outer packets of an edge have to keep to. */
VS_INLINE u32 vs_edge_mtu(u32 edge, u32 mtu, u64 now)
{
	const u64 *reported = bpf_map_lookup_elem(&path_mtus, &edge);

	/* The programs have no room for more. */
	if (mtu > VS_OUTER_LEN + VS_TEXT_MAX + VS_ICV_LEN)
		mtu = VS_OUTER_LEN + VS_TEXT_MAX + VS_ICV_LEN;
	return reported ? vs_path_mtu(*(const volatile u64 *)reported, mtu, now) : mtu;
}

/* Notes which edge's packets go to `addr` under `spi`: a report quotes no more than that. */
VS_INLINE void vs_path_note(be32 addr, be32 spi, u32 edge)
{
	struct vs_path_key key = { .addr = addr, .spi = spi };

	bpf_map_update_elem(&paths, &key, &edge, BPF_ANY);
}

/* An ICMP message that quotes a packet of ours. */
struct vs_report {
	u8 type;
	u8 code;
	be16 checksum;
	be16 unused;
	be16 mtu;
	struct vs_ipv4 ip;
	be16 sport;
	be16 dport;
	be16 udp_len;
	be16 udp_checksum;
	be32 spi;
	be32 seq;
};
_Static_assert(sizeof(struct vs_report) == 44, "no hidden padding");

/* Whether `len` bytes (at most VS_ERROR_MAX) of text, zeros after them, have a right checksum. */
VS_INLINE int vs_report_sum_ok(const struct vs_work *w, u32 len)
{
	u64 sum = 0;

	for (u32 i = 0; i < VS_ERROR_MAX; i += 4) {
		if (i >= len)
			break;
		sum += vs_get32(w->frame + VS_HEAD_ROOM + i);
	}
	return !vs_fold(sum);
}

/* Whether the quoted packet can be one that we have sealed lately. Fills edge. */
VS_INLINE int vs_report_is_ours(const struct vs_report *r, const struct vs_config *c, u64 now, u32 *edge)
{
	struct vs_path_key path = { .addr = r->ip.daddr, .spi = r->spi };
	const u32 *found = bpf_map_lookup_elem(&paths, &path);
	struct vs_sa_key key = { .spi = r->spi };
	const struct vs_sa_out *sa;

	if (!found || r->ip.version_ihl != 0x45 || r->ip.fragment & vs_swap16(VS_IP_OFFSET) || r->ip.protocol != VS_PROTO_UDP ||
	    r->ip.saddr != c->wire_addr || (u16)(vs_swap16(r->sport) - vs_swap16(c->esp_port)) >= VS_MAX_LANES)
		return 0;
	*edge = key.edge = *found;
	sa = bpf_map_lookup_elem(&sa_out, &key);
	if (!sa || !vs_lease_good(bpf_map_lookup_elem(&lease_out, &key), now))
		return 0;
	return (u32)*(const volatile u64 *)&sa->seq - vs_swap32(r->seq) < VS_ERROR_RECENT;
}

/* A Fragmentation Needed of `len` bytes from the wire. Gives its verdict. */
VS_INLINE u32 vs_path_report(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, u32 len)
{
	const struct vs_report *r = (const struct vs_report *)(w->frame + VS_HEAD_ROOM);
	u64 now = bpf_ktime_get_boot_ns();
	const struct vs_edge *e;
	u64 *reported;
	u32 edge, mtu;

	if (len < sizeof(*r) || len > VS_ERROR_MAX - VS_IP_LEN)
		return VS_V_FORGED_ICMP;
	vs_put32(w->frame + VS_HEAD_ROOM + vs_text_index(len, 1), 0);
	if (bpf_skb_load_bytes(skb, VS_ETH_LEN + VS_IP_LEN, w->frame + VS_HEAD_ROOM, vs_copy_size(len)))
		return VS_V_INTERNAL;
	mtu = vs_swap16(r->mtu);
	if (!vs_report_sum_ok(w, len) || mtu < VS_MTU_LEAST || vs_swap16(r->ip.total_len) <= mtu ||
	    !vs_report_is_ours(r, c, now, &edge))
		return VS_V_FORGED_ICMP;
	e = bpf_map_lookup_elem(&edges, &edge);
	reported = bpf_map_lookup_elem(&path_mtus, &edge);
	if (!e || !reported)
		return VS_V_FORGED_ICMP;
	if (mtu < VS_MTU_FLOOR)
		mtu = VS_MTU_FLOOR;
	/* Only ever lowered, or confirmed; it rises again by itself. */
	if (mtu <= vs_path_mtu(*(volatile u64 *)reported, e->mtu, now) && mtu < e->mtu)
		*(volatile u64 *)reported = ((now >> VS_MTU_UNIT) + VS_MTU_UNITS) << 16 | mtu;
	return VS_V_PATH_MTU;
}

#endif
