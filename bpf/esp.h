/* SPDX-License-Identifier: GPL-2.0 */
/* ESP in tunnel mode (RFC 4303) in UDP (RFC 3948) over either family: outer headers, padding, trailer. */
#ifndef VS_ESP_H
#define VS_ESP_H

#include "parse.h"
#ifdef __bpf__
#include <bpf/bpf_helpers.h>
#endif

/* Length of the text that carries an inner packet: padded so that it ends on four bytes with the trailer. */
VS_INLINE u32 vs_text_len(u32 inner_len)
{
	return (inner_len + VS_TRAILER_LEN + 3) & ~3u;
}

/* Puts padding 1, 2, 3, its length and the next header after inner_len bytes of text. */
VS_INLINE void vs_esp_pad(struct vs_work *w, u32 inner_len, u8 next)
{
	u8 *end = w->frame + VS_HEAD_ROOM + vs_text_index(inner_len, 1);
	u32 pad = vs_text_len(inner_len) - inner_len - VS_TRAILER_LEN;

	/* Four cases spelt out: stores at fixed distances, and nothing to prove to the verifier. */
	if (pad == 0) {
		end[0] = 0; end[1] = next;
	} else if (pad == 1) {
		end[0] = 1; end[1] = 1; end[2] = next;
	} else if (pad == 2) {
		end[0] = 1; end[1] = 2; end[2] = 2; end[3] = next;
	} else {
		end[0] = 1; end[1] = 2; end[2] = 3; end[3] = 3; end[4] = next;
	}
}

/*
 * The inner packet's length in an authentic text of len bytes, or 0 when the trailer is wrong. The pad length may be up to 255
 * (RFC 4303 section 2.4), its bytes must count 1, 2, 3, ... VS_UNPAD_V6 is set beside the length if the next header says IPv6.
 */
#define VS_UNPAD_V6 0x10000
VS_GLOBAL int vs_esp_unpad(const struct vs_work *w, u32 len)
{
	u32 pad, inner_len, v6, wrong = 0;
	const u8 *end;

	if (!w)
		return 0;
	end = w->frame + vs_text_index(len, 1);
	/* `end` is VS_HEAD_ROOM before the end of the text: the trailer is at a fixed distance after it. */
	v6 = end[VS_HEAD_ROOM - 1] == VS_NEXT_IPV6 ? VS_UNPAD_V6 : 0;
	if (!v6 && end[VS_HEAD_ROOM - 1] != VS_NEXT_IPV4)
		return 0;
	pad = end[VS_HEAD_ROOM - 2];
	if (pad + VS_TRAILER_LEN >= len)
		return 0;
	inner_len = len - VS_TRAILER_LEN - pad;
	for (u32 i = 0; i < 255; i++) {
		if (i >= pad)
			break;
		wrong |= w->frame[VS_HEAD_ROOM + vs_text_index(inner_len + i, 1)] ^ (i + 1);
	}
	return wrong ? 0 : (int)(inner_len | v6);
}

/* Associated data: SPI and sequence number, 64 bits of it with ESN, else 32 (RFC 7634 section 2.1). */
VS_INLINE void vs_esp_aad(struct vs_work *w, be32 spi, u64 seq, u32 flags)
{
	be32 low = vs_swap32((u32)seq);

	if (flags & VS_SA_ESN) {
		w->aad[0] = spi | (u64)vs_swap32((u32)(seq >> 32)) << 32;
		w->aad[1] = low;
		w->aad_len = 12;
	} else {
		w->aad[0] = spi | (u64)low << 32;
		w->aad[1] = 0;
		w->aad_len = 8;
	}
}

/* What sealing puts before an inner packet, over IPv6 or IPv4. */
VS_INLINE u32 vs_outer_len(u32 v6)
{
	return v6 ? VS_OUTER6_LEN : VS_OUTER_LEN;
}

/* Length of the outer packet that carries an inner packet, and of the longest inner packet that fits into an outer one. */
VS_INLINE u32 vs_sealed_len(u32 inner_len, u32 outer_len)
{
	return outer_len + vs_text_len(inner_len) + VS_ICV_LEN;
}

VS_INLINE u32 vs_inner_mtu(u32 outer_mtu, u32 outer_len)
{
	if (outer_mtu < outer_len + VS_TRAILER_LEN + VS_ICV_LEN)
		return 0;
	return ((outer_mtu - outer_len - VS_ICV_LEN) & ~3u) - VS_TRAILER_LEN;
}

/* The Ethernet header of what goes to the application. */
VS_INLINE void vs_inner_eth(u8 *eth, const struct vs_config *c, u32 v6)
{
	for (u32 i = 0; i < 6; i++)
		eth[i] = c->inner_mac[i];
	*(u16 *)(eth + 6) = 2; /* locally administered, unicast: the source is nobody on a shared medium */
	*(u16 *)(eth + 8) = 0;
	*(u16 *)(eth + 10) = 0x0200;
	*(be16 *)(eth + 12) = vs_swap16(v6 ? VS_ETH_P_IPV6 : VS_ETH_P_IP);
}

/* The inner packet's ECN field after decapsulation (RFC 6040 section 4.2), or -1: the packet must be dropped. */
VS_INLINE int vs_ecn_combine(u8 inner, u8 outer)
{
	inner &= VS_ECN;
	outer &= VS_ECN;
	if (outer == VS_CE)
		return inner ? VS_CE : -1;
	return outer == VS_ECT1 && inner == VS_ECT0 ? VS_ECT1 : inner;
}

/*
 * Gives the inner packet the congestion marks of the outer one; its DSCP stays its own (RFC 4301 section 5.1.2.1). A checksum
 * that was wrong stays wrong (RFC 1624). Gives VS_GO_ON or a verdict.
 */
VS_INLINE u32 vs_ecn_open(struct vs_ipv4 *ip, u8 outer_tos)
{
	int ecn = vs_ecn_combine(ip->tos, outer_tos);
	u16 before = *(const u16 *)ip;
	u32 sum;

	if (ecn < 0)
		return VS_V_CONGESTED;
	if (ecn == (ip->tos & VS_ECN))
		return VS_GO_ON;
	ip->tos = (u8)((ip->tos & ~VS_ECN) | ecn);
	sum = (u16)~ip->checksum + (u16)~before + *(const volatile u16 *)ip;
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->checksum = (u16)~sum;
	return VS_GO_ON;
}

/*
 * The same for IPv6. Its header has no checksum, and ECN is two bits of the second byte.
 */
VS_INLINE u32 vs_ecn_open6(u8 *ip, u8 outer_tos)
{
	int ecn = vs_ecn_combine(ip[1] >> 4, outer_tos);

	if (ecn < 0)
		return VS_V_CONGESTED;
	ip[1] = (u8)((ip[1] & ~(VS_ECN << 4)) | ecn << 4);
	return VS_GO_ON;
}

/*
 * The sum (RFC 1071, not yet complemented) of `len` bytes of the frame from `at` on, both multiples of four: the kernel's own code
 * adds them up, half a kilobyte a call, which is what every kernel takes. Outside of the frame nothing is read, and the sum is wrong.
 */
#define VS_SUM_STEP 512
VS_GLOBAL int vs_frame_sum(struct vs_work *w, u32 at, u32 len)
{
	u32 sum = 0;

	if (!w)
		return 0;
	for (u32 i = 0; i < VS_TEXT_MAX + VS_SUM_STEP; i += VS_SUM_STEP) {
		u32 left = len - i;

		if (i >= len)
			break;
		if (left > VS_SUM_STEP)
			left = VS_SUM_STEP;
#ifdef __bpf__
		{
			u64 size = left, from = at + i;

			vs_opaque(size);
			vs_opaque(from);
			size &= 2 * VS_SUM_STEP - 4;
			from &= VS_TEXT_ROOM - 4;
			if (size > VS_SUM_STEP || from > VS_TEXT_ROOM - VS_SUM_STEP)
				break;
			sum = (u32)bpf_csum_diff((void *)0, 0, (be32 *)(w->frame + from), (u32)size, sum);
		}
#else
		{
			u64 wide = sum;

			for (u32 j = 0; j < left; j += 4)
				wide += vs_get32(w->frame + at + i + j);
			while (wide >> 32)
				wide = (wide & 0xffffffff) + (wide >> 32);
			sum = (u32)wide;
		}
#endif
	}
	return (int)sum;
}

/*
 * The checksum of what an IPv6 packet carries, with its pseudo-header (RFC 8200 section 8.1): `len` bytes after the header that lies
 * at `ip` in w, padded with zeros to a multiple of four. Zero if the right one is there.
 */
VS_INLINE u16 vs_checksum6(struct vs_work *w, u32 ip, u32 len, u8 next)
{
	u32 sum = (u32)vs_frame_sum(w, ip + 8, 32 + ((len + 3) & ~3u));

	return vs_fold((u64)sum + vs_swap32(len) + vs_swap32(next));
}

/* What a sealed packet's headers are made of. */
struct vs_headers {
	struct vs_addr6 peer_wire6;
	u64 seq;
	u32 peer_wire;
	be32 spi;
	u32 lane;
	u32 edge;
	u32 text_len;
	be16 peer_port;
	u8 tos;
	u8 v6; /* over IPv6 */
};

/* What both families have after the IP header. */
VS_INLINE void vs_esp_udp(u8 *udp, const struct vs_config *c, const struct vs_headers *h)
{
	be16 *ports = (be16 *)udp;

	ports[0] = vs_swap16((u16)(vs_swap16(c->esp_port) + h->lane));
	ports[1] = h->peer_port;
	ports[2] = vs_swap16((u16)(VS_UDP_LEN + VS_ESP_LEN + VS_IV_LEN + h->text_len + VS_ICV_LEN));
	ports[3] = 0; /* RFC 3948 section 2.1: zero over IPv4; the ICV protects what matters */
	vs_put32(udp + VS_UDP_LEN, h->spi);
	vs_put32(udp + VS_UDP_LEN + 4, vs_swap32((u32)h->seq));
	vs_put64(udp + VS_UDP_LEN + VS_ESP_LEN, vs_swap64(h->seq));
}

/* Locally administered unicast addresses: bpf_redirect_neigh refuses a multicast destination. The kernel replaces them. */
VS_INLINE void vs_outer_eth(u8 *eth, u16 type)
{
	*(u16 *)eth = 2;
	vs_put32(eth + 2, 0x01000000);
	*(u16 *)(eth + 6) = 2;
	vs_put32(eth + 8, 0x02000000);
	*(be16 *)(eth + 12) = vs_swap16(type);
}

/*
 * Everything before the text of a frame on its way out over IPv6. The UDP checksum is a real one: a zero is for receivers that were
 * told to take it (RFC 6935), Linux by a socket option and not at all without a socket. So the text and its ICV must be there. The
 * flow label is one number for each lane (RFC 6438 section 3): the network can spread lanes by it and learns no more than their ports say.
 * Gives 0.
 */
VS_GLOBAL int vs_esp_head6(struct vs_work *w, const struct vs_config *c, const struct vs_headers *h)
{
	const u32 ip_at = VS_FRAME_AT(VS_OUTER6_LEN) + VS_ETH_LEN;
	struct vs_ipv6 *ip;
	u32 len, label;
	u16 sum;

	if (!w || !c || !h)
		return 0;
	ip = (struct vs_ipv6 *)(w->frame + ip_at);
	len = VS_OUTER6_LEN - VS_IP6_LEN + h->text_len + VS_ICV_LEN;
	label = (h->edge * VS_MAX_LANES + h->lane + 1) * 0x9e3779b1u >> 12;
	vs_outer_eth((u8 *)ip - VS_ETH_LEN, VS_ETH_P_IPV6);
	ip->start = vs_swap32(6u << 28 | (u32)h->tos << 20 | label);
	ip->payload_len = vs_swap16((u16)len);
	ip->next = VS_PROTO_UDP;
	ip->hop_limit = VS_TTL;
	vs_put64(ip->saddr, c->wire_addr6.word[0]);
	vs_put64(ip->saddr + 2, c->wire_addr6.word[1]);
	vs_put64(ip->daddr, h->peer_wire6.word[0]);
	vs_put64(ip->daddr + 2, h->peer_wire6.word[1]);
	vs_esp_udp((u8 *)(ip + 1), c, h);
	sum = vs_checksum6(w, ip_at, len, VS_PROTO_UDP);
	/* Zero would say that there is none. */
	*((u16 *)(ip + 1) + 3) = sum ? sum : 0xffff;
	return 0;
}

/* Everything before the text of a frame on its way out over IPv4. */
VS_INLINE void vs_esp_head(struct vs_work *w, const struct vs_config *c, const struct vs_headers *h)
{
	u8 *at = w->frame + VS_FRAME_AT(VS_OUTER_LEN);
	struct vs_ipv4 *ip = (struct vs_ipv4 *)(at + VS_ETH_LEN);
	u32 total = VS_OUTER_LEN + h->text_len + VS_ICV_LEN;

	vs_outer_eth(at, VS_ETH_P_IP);
	ip->version_ihl = 0x45;
	ip->tos = h->tos;
	ip->total_len = vs_swap16((u16)total);
	ip->id = 0;
	ip->fragment = vs_swap16(VS_IP_DF);
	ip->ttl = VS_TTL;
	ip->protocol = VS_PROTO_UDP;
	ip->checksum = 0;
	ip->saddr = c->wire_addr;
	ip->daddr = h->peer_wire;
	ip->checksum = vs_checksum((const u8 *)ip, VS_IP_LEN);
	vs_esp_udp(at + VS_ETH_LEN + VS_IP_LEN, c, h);
}

#endif
