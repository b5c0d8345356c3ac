/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The structs that maps hold, as the loader writes them. Integers are in host order unless their type says be.
 * What the kernel counts (sequence numbers, windows, flows) never shares a value with what user space writes: a renewal
 * would otherwise rewind a counter, and a nonce would be used twice.
 */
#ifndef VS_TYPES_H
#define VS_TYPES_H

#include <linux/bpf.h>
#include "consts.h"
#include "platform.h"

/* An IPv6 address as on the wire. */
struct vs_addr6 {
	u64 word[2];
};

struct vs_config {
	u32 layout; /* VS_LAYOUT, or nothing passes */
	be32 inner_addr;
	be32 wire_addr;
	be32 bus_addr;
	be16 bus_port;
	be16 esp_port;
	u32 wire_ifindex;
	u32 inner_ifindex;
	u32 mark; /* not zero; how sealer and opener tell the guards what is theirs */
	u8 inner_mac[6];
	u8 pad[2];
	/* All zeros, like an IPv4 address of zero: none. */
	struct vs_addr6 inner_addr6;
	struct vs_addr6 wire_addr6;
	struct vs_addr6 bus_addr6;
};
_Static_assert(sizeof(struct vs_config) == 88, "ABI");

struct vs_policy_key {
	be32 peer;
	be16 port; /* the responder's port; zero: any */
	u8 protocol; /* zero: any, with port zero */
	u8 role;
};
_Static_assert(sizeof(struct vs_policy_key) == 8, "ABI");

/* The same for a peer's IPv6 address, in a map of its own: so one for IPv4 is looked up by eight bytes. */
struct vs_policy6_key {
	be32 peer[4];
	be16 port;
	u8 protocol;
	u8 role;
};
_Static_assert(sizeof(struct vs_policy6_key) == 20, "ABI");

struct vs_policy {
	u32 edge;
	u32 flags;
};
_Static_assert(sizeof(struct vs_policy) == 8, "ABI");

struct vs_edge {
	be32 peer_inner;
	be32 peer_wire; /* zero: the peer is reached over IPv6 */
	be16 peer_port;
	u16 lanes;
	u32 mtu;
	struct vs_addr6 peer_inner6;
	struct vs_addr6 peer_wire6;
};
_Static_assert(sizeof(struct vs_edge) == 48, "ABI");

/* Where a peer was last seen, over IPv6. Without a port: nowhere. */
struct vs_endpoint6 {
	struct bpf_spin_lock lock;
	be16 port;
	u16 pad;
	struct vs_addr6 addr;
};
_Static_assert(sizeof(struct vs_endpoint6) == 24, "ABI");

struct vs_lane_key {
	u32 edge;
	u32 lane;
};
_Static_assert(sizeof(struct vs_lane_key) == 8, "ABI");

struct vs_outbound {
	be32 spi;
	u32 pad;
};
_Static_assert(sizeof(struct vs_outbound) == 8, "ABI");

struct vs_sa_key {
	u32 edge;
	be32 spi;
};
_Static_assert(sizeof(struct vs_sa_key) == 8, "ABI");

struct vs_sa_out {
	u64 seq; /* last one given out; the kernel's alone after insertion */
	u8 key[32];
	u8 salt[4];
	u32 flags;
};
_Static_assert(sizeof(struct vs_sa_out) == 48, "ABI");

struct vs_sa_in {
	u32 edge;
	u32 lane;
	u8 key[32];
	u8 salt[4];
	u32 flags;
};
_Static_assert(sizeof(struct vs_sa_in) == 48, "ABI");

struct vs_window {
	struct bpf_spin_lock lock;
	u32 pad;
	u64 top; /* highest authentic sequence number */
	u64 bits[VS_WINDOW_WORDS];
};
_Static_assert(sizeof(struct vs_window) == 272, "ABI");

struct vs_flow_key {
	u32 edge;
	be16 own_port;
	be16 peer_port;
	u8 protocol;
	u8 role;
	u8 v6; /* 1: between the IPv6 addresses */
	u8 pad;
};
_Static_assert(sizeof(struct vs_flow_key) == 12, "ABI");

struct vs_flow {
	u64 seen_ns;
	u32 ticket; /* tells this flow from an earlier one with the same key */
	u32 state;  /* VS_FLOW_ bits */
};
_Static_assert(sizeof(struct vs_flow) == 16, "ABI");

/* How often something has happened since, on one CPU. */
struct vs_rate {
	u64 since_ns;
	u64 count;
};
_Static_assert(sizeof(struct vs_rate) == 16, "ABI");

/* Where a sealed packet went, as an ICMP error will quote it. */
struct vs_path_key {
	be32 addr;
	be32 spi;
};
_Static_assert(sizeof(struct vs_path_key) == 8, "ABI");

struct vs_path6_key {
	be32 addr[4];
	be32 spi;
};
_Static_assert(sizeof(struct vs_path6_key) == 20, "ABI");

/* A flow's place in the queue of those to be looked at. */
struct vs_flow_note {
	struct vs_flow_key key;
	u32 ticket;
};
_Static_assert(sizeof(struct vs_flow_note) == 16, "ABI");

/* Of one lane; the key is edge * VS_MAX_LANES + lane. */
struct vs_edge_stats {
	u64 sealed_packets;
	u64 sealed_bytes; /* of inner IP packets */
	u64 opened_packets;
	u64 opened_bytes;
};
_Static_assert(sizeof(struct vs_edge_stats) == 32, "ABI");

/* Packets of an edge that were dropped, by verdict. */
struct vs_edge_drops {
	u64 packets[VS_MAX_VERDICTS];
};
_Static_assert(sizeof(struct vs_edge_drops) == 8 * VS_MAX_VERDICTS, "ABI");

/* One packet that was dropped. `number` and `check` are equal once it is all there. */
struct vs_drop {
	u64 number; /* from 1, on each CPU */
	u64 when_ns;
	u32 verdict;
	u32 edge; /* VS_ANY_EDGE: not known */
	be32 spi; /* zero: not known */
	be16 sport;
	be16 dport;
	struct vs_addr6 saddr; /* an IPv4 address has the first four bytes */
	struct vs_addr6 daddr;
	u8 protocol;
	u8 inner; /* 1: the addresses are those of the inner packet; of the outer, or of a foreign frame */
	u8 known; /* 4 or 6: it was a packet of that version, and the addresses are there */
	u8 pad[5];
	u64 check;
};
_Static_assert(sizeof(struct vs_drop) == 80, "ABI");

struct vs_drops {
	u64 last; /* number of the newest */
	struct vs_drop place[VS_DROP_PLACES];
};
_Static_assert(sizeof(struct vs_drops) == 8 + 80 * VS_DROP_PLACES, "ABI");

/* Where a sealed packet came from, as its outer headers say: nobody has authenticated that. */
struct vs_outer {
	struct vs_addr6 addr6;
	be32 addr;
	be16 port;
	u8 tos;
	u8 v6; /* 1: it came over IPv6, and addr6 counts */
	u16 len; /* of the UDP datagram */
	u8 pad[6];
};

/* Where one packet is worked on, one per CPU: too large for the stack, and free of the limits of packet pointers. */
struct vs_work {
	u32 chacha[16]; /* RFC 8439 section 2.3: constants, key, block counter, nonce */
	u32 begun[16];  /* the same after what the first round does without the block counter */
	u32 stream[32]; /* keystream: two blocks, the lower one first */
	u64 r[4];       /* Poly1305: clamped multiplier */
	u64 s[4];       /* r + r/4, for limbs that wrap past 2^130; s[0] is not used */
	u64 t[9];       /* sums and differences of both, for fewer multiplications: see poly1305.h */
	u64 pad[2];
	u64 aad[2];     /* associated data, zero-padded */
	u64 tag[2];
	struct vs_outer from; /* of a sealed packet that arrived */
	u32 aad_len;    /* 0..16 */
	u32 opened;     /* the text is an authentic inner packet */
	u32 edge;       /* what is known of the packet so far, for samples */
	be32 spi;
	u8 frame[VS_HEAD_ROOM + VS_TEXT_ROOM + VS_ICV_LEN]; /* begins at VS_FRAME_AT of its outer header, its text at VS_HEAD_ROOM */
};
_Static_assert(__builtin_offsetof(struct vs_work, frame) % 8 == 0, "words of the text are aligned");

#endif
