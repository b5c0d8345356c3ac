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
};
_Static_assert(sizeof(struct vs_config) == 40, "ABI");

struct vs_policy_key {
	be32 peer;
	be16 port; /* the responder's port; zero: any */
	u8 protocol;
	u8 role;
};
_Static_assert(sizeof(struct vs_policy_key) == 8, "ABI");

struct vs_policy {
	u32 edge;
	u32 flags;
};
_Static_assert(sizeof(struct vs_policy) == 8, "ABI");

struct vs_edge {
	be32 peer_inner;
	be32 peer_wire;
	be16 peer_port;
	u16 lanes;
	u32 mtu;
};
_Static_assert(sizeof(struct vs_edge) == 16, "ABI");

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
	u8 pad[2];
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

/* A flow's place in the queue of those to be looked at. */
struct vs_flow_note {
	struct vs_flow_key key;
	u32 ticket;
};
_Static_assert(sizeof(struct vs_flow_note) == 16, "ABI");

struct vs_edge_stats {
	u64 sealed_packets;
	u64 sealed_bytes; /* of inner IP packets */
	u64 opened_packets;
	u64 opened_bytes;
};
_Static_assert(sizeof(struct vs_edge_stats) == 32, "ABI");

/* One packet that was dropped. `number` and `check` are equal once it is all there. */
struct vs_drop {
	u64 number; /* from 1, on each CPU */
	u64 when_ns;
	u32 verdict;
	u32 edge; /* VS_ANY_EDGE: not known */
	be32 spi; /* zero: not known */
	be32 saddr;
	be32 daddr;
	be16 sport;
	be16 dport;
	u8 protocol;
	u8 inner; /* 1: the addresses are those of the inner packet; of the outer, or of a foreign frame */
	u8 known; /* 1: it was an IPv4 packet, and the addresses are there */
	u8 pad[5];
	u64 check;
};
_Static_assert(sizeof(struct vs_drop) == 56, "ABI");

struct vs_drops {
	u64 last; /* number of the newest */
	struct vs_drop place[VS_DROP_PLACES];
};
_Static_assert(sizeof(struct vs_drops) == 8 + 56 * VS_DROP_PLACES, "ABI");

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
	u32 aad_len;    /* 0..16 */
	u32 opened;     /* the text is an authentic inner packet */
	u32 edge;       /* what is known of the packet so far, for samples */
	be32 spi;
	u8 frame[VS_HEAD_ROOM + VS_TEXT_ROOM + VS_ICV_LEN]; /* begins at VS_FRAME_AT, its text at VS_HEAD_ROOM */
};
_Static_assert(__builtin_offsetof(struct vs_work, frame) % 8 == 0, "words of the text are aligned");

#endif
