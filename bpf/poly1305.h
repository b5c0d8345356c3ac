/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Poly1305 (RFC 8439 section 2.5) over whole blocks, which is all that the AEAD construction has.
 *
 * The accumulator is h0 + h1 2^32 + h2 2^64 + h3 2^96 + h4 2^128 with limbs in 64-bit registers that may exceed 32 bits: each
 * block's carries move up by one limb only and are not chased to the end, which halves the latency of a block.
 *
 * Why nothing overflows: r0..r3 < 2^28 and s1..s3 < 1.25 * 2^28. Suppose that, a message block added, h0 <= 3.3, h1..h3 <= 2.9
 * (in units of 2^32) and h4 <= 4. Then, in units of 2^60 and leaving out h4's terms below 2^31,
 *   d0 <= 3.3 + 1.25 * 8.7 = 14.2,  d1 <= 6.2 + 1.25 * 5.8 = 13.5,  d2 <= 9.1 + 1.25 * 2.9 = 12.8,  d3 <= 12.0: all below 2^64.
 * A low half and a message word are at most 1 each and a carry is d / 16, so h1 <= 2.89, h2 <= 2.85, h3 <= 2.8 the next time;
 * h4 before its reduction is at most 4 * 2^28 / 2^32 + 12 / 16 = 1.0, and h0 <= 2 + 5/4 * 1.0 = 3.25. The bounds hold again.
 */
#ifndef VS_POLY1305_H
#define VS_POLY1305_H

#include "chacha20.h"

/* Splits a one-time key: r, clamped (section 2.5), and the pad. */
VS_INLINE void vs_poly1305_init(struct vs_work *w, const u32 key[8])
{
	w->r[0] = key[0] & 0x0fffffff;
	w->r[1] = key[1] & 0x0ffffffc;
	w->r[2] = key[2] & 0x0ffffffc;
	w->r[3] = key[3] & 0x0ffffffc;
	for (u32 i = 1; i < 4; i++)
		w->s[i] = w->r[i] + (w->r[i] >> 2); /* r is a multiple of 4 there: this is r * 5 / 4, exactly */
	w->pad[0] = key[4] | (u64)key[5] << 32;
	w->pad[1] = key[6] | (u64)key[7] << 32;
}

/* Takes the one-time key for the nonce that vs_chacha20_init has set. */
VS_GLOBAL int vs_poly1305_key(struct vs_work *w)
{
	u32 key[8];

	if (!w)
		return 1;
	vs_chacha20_first(w, key);
	vs_poly1305_init(w, key);
	return 0;
}

#define VS_LOW32 0xffffffffull

/* h = (h + block + 2^128) * r, partly reduced. The locals h0..h4 and the pointer w must be in scope. */
#define VS_POLY_STEP(lo, hi)                                                                    \
	do {                                                                                    \
		u64 lo_ = (lo), hi_ = (hi), d0_, d1_, d2_, d3_;                                 \
		h0 += lo_ & VS_LOW32;                                                           \
		h1 += lo_ >> 32;                                                                \
		h2 += hi_ & VS_LOW32;                                                           \
		h3 += hi_ >> 32;                                                                \
		h4 += 1;                                                                        \
		d0_ = h0 * w->r[0] + h1 * w->s[3] + h2 * w->s[2] + h3 * w->s[1];                \
		d1_ = h0 * w->r[1] + h1 * w->r[0] + h2 * w->s[3] + h3 * w->s[2] + h4 * w->s[1]; \
		d2_ = h0 * w->r[2] + h1 * w->r[1] + h2 * w->r[0] + h3 * w->s[3] + h4 * w->s[2]; \
		d3_ = h0 * w->r[3] + h1 * w->r[2] + h2 * w->r[1] + h3 * w->r[0] + h4 * w->s[3]; \
		h4 = h4 * w->r[0] + (d3_ >> 32);                                                \
		h3 = (d3_ & VS_LOW32) + (d2_ >> 32);                                            \
		h2 = (d2_ & VS_LOW32) + (d1_ >> 32);                                            \
		h1 = (d1_ & VS_LOW32) + (d0_ >> 32);                                            \
		h0 = (d0_ & VS_LOW32) + (h4 >> 2) * 5; /* 2^130 = 5 */                          \
		h4 &= 3;                                                                        \
	} while (0)

/* Carries to the end, reduces mod 2^130 - 5, adds the pad, and leaves the tag in w->tag. */
VS_INLINE void vs_poly1305_finish(struct vs_work *w, u64 h0, u64 h1, u64 h2, u64 h3, u64 h4)
{
	u64 g0, g1, g2, g3, g4, mask, lo, hi;

	h1 += h0 >> 32; h0 &= VS_LOW32;
	h2 += h1 >> 32; h1 &= VS_LOW32;
	h3 += h2 >> 32; h2 &= VS_LOW32;
	h4 += h3 >> 32; h3 &= VS_LOW32;
	h0 += (h4 >> 2) * 5; h4 &= 3;
	h1 += h0 >> 32; h0 &= VS_LOW32;
	h2 += h1 >> 32; h1 &= VS_LOW32;
	h3 += h2 >> 32; h2 &= VS_LOW32;
	h4 += h3 >> 32; h3 &= VS_LOW32;

	/* h + 5 reaches 2^130 exactly when h is at least the prime: then its low bits are h minus the prime. */
	g0 = h0 + 5;
	g1 = h1 + (g0 >> 32);
	g2 = h2 + (g1 >> 32);
	g3 = h3 + (g2 >> 32);
	g4 = h4 + (g3 >> 32);
	mask = 0 - (g4 >> 2); /* all ones to take g; g4 is at most 4 */
	vs_opaque(mask);      /* or the compiler may turn the selection into a branch on the hash */
	h0 ^= mask & (h0 ^ (g0 & VS_LOW32));
	h1 ^= mask & (h1 ^ (g1 & VS_LOW32));
	h2 ^= mask & (h2 ^ (g2 & VS_LOW32));
	h3 ^= mask & (h3 ^ (g3 & VS_LOW32));

	/* tag = (h + pad) mod 2^128, limb by limb: a carry out of a 64-bit sum would cost a comparison. */
	h0 += w->pad[0] & VS_LOW32;
	h1 += (w->pad[0] >> 32) + (h0 >> 32);
	h2 += (w->pad[1] & VS_LOW32) + (h1 >> 32);
	h3 += (w->pad[1] >> 32) + (h2 >> 32);
	lo = (h0 & VS_LOW32) | h1 << 32;
	hi = (h2 & VS_LOW32) | h3 << 32;
	w->tag[0] = lo;
	w->tag[1] = hi;
}

/*
 * The tag of RFC 8439 section 2.8: associated data, text (len bytes, followed in the frame by zeros up to a multiple of 16)
 * and both lengths. The key must be in w->r, w->s and w->pad. The tag goes to w->tag.
 */
VS_GLOBAL int vs_poly1305_tag(struct vs_work *w, u32 len)
{
	u64 h0 = 0, h1 = 0, h2 = 0, h3 = 0, h4 = 0;
	u32 blocks;

	if (!w)
		return 1;
	if (len > VS_TEXT_MAX)
		return 1;
	if (w->aad_len)
		VS_POLY_STEP(w->aad[0], w->aad[1]);
	blocks = (len + VS_POLY_BLOCK - 1) / VS_POLY_BLOCK;
	for (u32 i = 0; i < VS_TEXT_MAX / VS_POLY_BLOCK; i++) {
		if (i >= blocks)
			break;
		u8 *text = w->frame + VS_HEAD_ROOM + vs_text_index(i * VS_POLY_BLOCK, VS_POLY_BLOCK);
		VS_POLY_STEP(vs_get64(text), vs_get64(text + 8));
	}
	VS_POLY_STEP(w->aad_len, len);
	vs_poly1305_finish(w, h0, h1, h2, h3, h4);
	return 0;
}

#endif
