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
VS_INLINE u32 vs_edge_mtu(u32 edge, u32 mtu, u32 outer_len, u64 now)
{
	const u64 *reported = bpf_map_lookup_elem(&path_mtus, &edge);

	/* The programs have no room for more. */
	if (mtu > outer_len + VS_TEXT_MAX + VS_ICV_LEN)
		mtu = outer_len + VS_TEXT_MAX + VS_ICV_LEN;
	return reported ? vs_path_mtu(*(const volatile u64 *)reported, mtu, now) : mtu;
}

/* Notes which edge's packets go to `addr` under `spi`: a report quotes no more than that. */
VS_INLINE void vs_path_note(be32 addr, be32 spi, u32 edge)
{
	struct vs_path_key key = { .addr = addr, .spi = spi };

	bpf_map_update_elem(&paths, &key, &edge, BPF_ANY);
}

VS_GLOBAL int vs_path6_note(const struct vs_addr6 *addr, be32 spi, u32 edge)
{
	struct vs_path6_key key = { .spi = spi };

	if (!addr)
		return 0;
	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	bpf_map_update_elem(&paths6, &key, &edge, BPF_ANY);
	return 0;
}

/* Whether an SPI of an edge is good now and `low` was one of its sequence numbers just before. */
VS_INLINE int vs_report_is_recent(u32 edge, be32 spi, be32 low, u64 now)
{
	struct vs_sa_key key = { .edge = edge, .spi = spi };
	const struct vs_sa_out *sa = bpf_map_lookup_elem(&sa_out, &key);

	if (!sa || !vs_lease_good(bpf_map_lookup_elem(&lease_out, &key), now))
		return 0;
	return (u32)*(const volatile u64 *)&sa->seq - vs_swap32(low) < VS_ERROR_RECENT;
}

/* Lowers an edge's MTU, or confirms it; it rises again by itself. Gives the verdict. */
VS_INLINE u32 vs_path_lower(u32 edge, u32 mtu, u64 now)
{
	const struct vs_edge *e = bpf_map_lookup_elem(&edges, &edge);
	u64 *reported = bpf_map_lookup_elem(&path_mtus, &edge);

	if (!e || !reported)
		return VS_V_FORGED_ICMP;
	if (mtu <= vs_path_mtu(*(volatile u64 *)reported, e->mtu, now) && mtu < e->mtu)
		*(volatile u64 *)reported = ((now >> VS_MTU_UNIT) + VS_MTU_UNITS) << 16 | mtu;
	return VS_V_PATH_MTU;
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

/* Whether the quoted packet can be one that we have sealed lately. Fills edge. */
VS_INLINE int vs_report_is_ours(const struct vs_report *r, const struct vs_config *c, u64 now, u32 *edge)
{
	struct vs_path_key path = { .addr = r->ip.daddr, .spi = r->spi };
	const u32 *found = bpf_map_lookup_elem(&paths, &path);

	if (!found || r->ip.version_ihl != 0x45 || r->ip.fragment & vs_swap16(VS_IP_OFFSET) || r->ip.protocol != VS_PROTO_UDP ||
	    r->ip.saddr != c->wire_addr || (u16)(vs_swap16(r->sport) - vs_swap16(c->esp_port)) >= VS_MAX_LANES)
		return 0;
	*edge = *found;
	return vs_report_is_recent(*edge, r->spi, r->seq, now);
}

/* A Fragmentation Needed of `len` bytes from the wire. Gives its verdict. */
VS_INLINE u32 vs_path_report(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, u32 len)
{
	const struct vs_report *r = (const struct vs_report *)(w->frame + VS_HEAD_ROOM);
	u64 now = bpf_ktime_get_boot_ns();
	u32 edge, mtu;

	if (len < sizeof(*r) || len > VS_ERROR_MAX - VS_IP_LEN)
		return VS_V_FORGED_ICMP;
	vs_put32(w->frame + VS_HEAD_ROOM + vs_text_index(len, 1), 0);
	if (bpf_skb_load_bytes(skb, VS_ETH_LEN + VS_IP_LEN, w->frame + VS_HEAD_ROOM, vs_copy_size(len)))
		return VS_V_INTERNAL;
	mtu = vs_swap16(r->mtu);
	if (vs_fold((u32)vs_frame_sum(w, VS_HEAD_ROOM, (len + 3) & ~3u)) || mtu < VS_MTU_LEAST || vs_swap16(r->ip.total_len) <= mtu ||
	    !vs_report_is_ours(r, c, now, &edge))
		return VS_V_FORGED_ICMP;
	return vs_path_lower(edge, mtu < VS_MTU_FLOOR ? VS_MTU_FLOOR : mtu, now);
}

/* An ICMPv6 Packet Too Big that quotes a packet of ours (RFC 4443 section 3.2), after the addresses that it came with. */
struct vs_report6 {
	struct vs_addr6 from;
	struct vs_addr6 to;
	u8 type;
	u8 code;
	be16 checksum;
	be32 mtu;
	struct vs_ipv6 ip;
	be16 sport;
	be16 dport;
	be16 udp_len;
	be16 udp_checksum;
	be32 spi;
	be32 seq;
};
#define VS_REPORT6_LEN 64
_Static_assert(sizeof(struct vs_report6) == 32 + VS_REPORT6_LEN, "no hidden padding");

/*
 * A Packet Too Big (type 2, code 0) of `len` bytes from the wire to our address. Nobody may be told less than every link of IPv6 carries: such a
 * report is discarded (RFC 8201 section 4). Gives its verdict.
 */
VS_GLOBAL int vs_path6_report(struct __sk_buff *skb, const struct vs_config *c, struct vs_work *w, u32 len)
{
	const struct vs_report6 *r;
	struct vs_path6_key path = {};
	u64 now = bpf_ktime_get_boot_ns();
	const u32 *found;
	u32 mtu;

	if (!c || !w || len < VS_REPORT6_LEN || len > VS_ERROR6_MAX - VS_IP6_LEN)
		return VS_V_FORGED_ICMP;
	r = (const struct vs_report6 *)(w->frame + VS_HEAD_ROOM);
	vs_put32(w->frame + VS_HEAD_ROOM + vs_text_index(32 + len, 1), 0);
	if (bpf_skb_load_bytes(skb, VS_ETH_LEN + 8, w->frame + VS_HEAD_ROOM, vs_copy_size(32 + len)))
		return VS_V_INTERNAL;
	mtu = vs_swap32(r->mtu);
	if (vs_checksum6(w, VS_HEAD_ROOM - 8, len, VS_PROTO_ICMPV6) || mtu < VS_MTU_IPV6 ||
	    vs_parse_ipv6(&r->ip, ~0u) != VS_GO_ON || r->ip.next != VS_PROTO_UDP ||
	    VS_IP6_LEN + (u32)vs_swap16(r->ip.payload_len) <= mtu || !vs_same6(r->ip.saddr, &c->wire_addr6) ||
	    (u16)(vs_swap16(r->sport) - vs_swap16(c->esp_port)) >= VS_MAX_LANES)
		return VS_V_FORGED_ICMP;
	__builtin_memcpy(path.addr, r->ip.daddr, sizeof(path.addr));
	path.spi = r->spi;
	found = bpf_map_lookup_elem(&paths6, &path);
	if (!found || !vs_report_is_recent(*found, r->spi, r->seq, now))
		return VS_V_FORGED_ICMP;
	return vs_path_lower(*found, mtu, now);
}

#endif
