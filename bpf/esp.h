/* SPDX-License-Identifier: GPL-2.0 */
/* ESP in tunnel mode (RFC 4303) in UDP (RFC 3948): outer headers, padding, trailer. */
#ifndef VS_ESP_H
#define VS_ESP_H

#include "parse.h"

/* Length of the text that carries an inner packet: padded so that it ends on four bytes with the trailer. */
VS_INLINE u32 vs_text_len(u32 inner_len)
{
	return (inner_len + VS_TRAILER_LEN + 3) & ~3u;
}

/* Puts padding 1, 2, 3, its length and the next header after inner_len bytes of text. */
VS_INLINE void vs_esp_pad(struct vs_work *w, u32 inner_len)
{
	u8 *end = w->frame + VS_HEAD_ROOM + vs_text_index(inner_len, 1);
	u32 pad = vs_text_len(inner_len) - inner_len - VS_TRAILER_LEN;

	/* Four cases spelt out: stores at fixed distances, and nothing to prove to the verifier. */
	if (pad == 0) {
		end[0] = 0; end[1] = VS_NEXT_IPV4;
	} else if (pad == 1) {
		end[0] = 1; end[1] = 1; end[2] = VS_NEXT_IPV4;
	} else if (pad == 2) {
		end[0] = 1; end[1] = 2; end[2] = 2; end[3] = VS_NEXT_IPV4;
	} else {
		end[0] = 1; end[1] = 2; end[2] = 3; end[3] = 3; end[4] = VS_NEXT_IPV4;
	}
}

/*
 * The inner packet's length in an authentic text of len bytes, or 0 when the trailer is wrong. The pad length may be up to 255
 * (RFC 4303 section 2.4), its bytes must count 1, 2, 3, ...
 */
VS_INLINE u32 vs_esp_unpad(const struct vs_work *w, u32 len)
{
	const u8 *end = w->frame + vs_text_index(len, 1);
	u32 pad, inner_len, wrong = 0;

	/* `end` is VS_HEAD_ROOM before the end of the text: the trailer is at a fixed distance after it. */
	if (end[VS_HEAD_ROOM - 1] != VS_NEXT_IPV4)
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
	return wrong ? 0 : inner_len;
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

/* Length of the outer packet that carries an inner packet, and of the longest inner packet that fits into an outer one. */
VS_INLINE u32 vs_sealed_len(u32 inner_len)
{
	return VS_OUTER_LEN + vs_text_len(inner_len) + VS_ICV_LEN;
}

VS_INLINE u32 vs_inner_mtu(u32 outer_mtu)
{
	if (outer_mtu < VS_OUTER_LEN + VS_TRAILER_LEN + VS_ICV_LEN)
		return 0;
	return ((outer_mtu - VS_OUTER_LEN - VS_ICV_LEN) & ~3u) - VS_TRAILER_LEN;
}

/* The Ethernet header of what goes to the application. */
VS_INLINE void vs_inner_eth(u8 *eth, const struct vs_config *c)
{
	for (u32 i = 0; i < 6; i++)
		eth[i] = c->inner_mac[i];
	*(u16 *)(eth + 6) = 2; /* locally administered, unicast: the source is nobody on a shared medium */
	*(u16 *)(eth + 8) = 0;
	*(u16 *)(eth + 10) = 0x0200;
	*(be16 *)(eth + 12) = vs_swap16(VS_ETH_P_IP);
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

/* Everything before the text of a frame on its way out. The Ethernet addresses are replaced by the kernel's neighbour code. */
VS_INLINE void vs_esp_head(struct vs_work *w, const struct vs_config *c, const struct vs_edge *e, u32 lane, be32 spi, u64 seq,
			   u8 tos, u32 text_len)
{
	u8 *at = w->frame + VS_FRAME_AT;
	struct vs_ipv4 *ip = (struct vs_ipv4 *)(at + VS_ETH_LEN);
	be16 *udp = (be16 *)(at + VS_ETH_LEN + VS_IP_LEN);
	u32 total = VS_OUTER_LEN + text_len + VS_ICV_LEN;

	/* Locally administered unicast addresses: bpf_redirect_neigh refuses a multicast destination. */
	*(u16 *)at = 2;
	vs_put32(at + 2, 0x01000000);
	*(u16 *)(at + 6) = 2;
	vs_put32(at + 8, 0x02000000);
	*(be16 *)(at + 12) = vs_swap16(VS_ETH_P_IP);

	ip->version_ihl = 0x45;
	ip->tos = tos;
	ip->total_len = vs_swap16((u16)total);
	ip->id = 0;
	ip->fragment = vs_swap16(VS_IP_DF);
	ip->ttl = VS_TTL;
	ip->protocol = VS_PROTO_UDP;
	ip->checksum = 0;
	ip->saddr = c->wire_addr;
	ip->daddr = e->peer_wire;
	ip->checksum = vs_checksum((const u8 *)ip, VS_IP_LEN);

	udp[0] = vs_swap16((u16)(vs_swap16(c->esp_port) + lane));
	udp[1] = e->peer_port;
	udp[2] = vs_swap16((u16)(total - VS_IP_LEN));
	udp[3] = 0; /* RFC 3948 section 2.1: zero over IPv4; the ICV protects what matters */

	vs_put32(at + VS_ETH_LEN + VS_IP_LEN + VS_UDP_LEN, spi);
	vs_put32(at + VS_ETH_LEN + VS_IP_LEN + VS_UDP_LEN + 4, vs_swap32((u32)seq));
	vs_put64(at + VS_ETH_LEN + VS_IP_LEN + VS_UDP_LEN + VS_ESP_LEN, vs_swap64(seq));
}

#endif
