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
 *
 * The text itself goes through VS_POLY_TIMES instead. The product is a matrix of r and s, constant along its diagonals, times h;
 * halved twice, such a product needs nine multiplications instead of sixteen (see there): 5 ns a block instead of 6.7,
 * where one multiplication a cycle is the limit. Its sums and differences are exact modulo 2^64, and the d above are below 2^64,
 * so they come out the same.
 * What lost: compiled C of the same product (its spills are in the chain from block to block: 6.4 ns), h4's four multiplications
 * packed into two (2 % of a packet), Horner's rule in two lanes (r^2 isn't clamped: its limbs are too long for these).
 */
#ifndef VS_POLY1305_H
#define VS_POLY1305_H

#include "chacha20.h"

/* Splits a one-time key of eight words: r, clamped (section 2.5), and the pad. */
VS_INLINE void vs_poly1305_init(struct vs_work *w, const u32 *key)
{
	w->r[0] = key[0] & 0x0fffffff;
	w->r[1] = key[1] & 0x0ffffffc;
	w->r[2] = key[2] & 0x0ffffffc;
	w->r[3] = key[3] & 0x0ffffffc;
	for (u32 i = 1; i < 4; i++)
		w->s[i] = w->r[i] + (w->r[i] >> 2); /* r is a multiple of 4 there: this is r * 5 / 4, exactly */
	for (u32 i = 0; i < 9; i += 3) {
		/* The blocks [a b; c a] of the matrix that the halving leaves: A, B - A and C - A, of what each needs a, b - a, c - a. */
		u64 a = w->r[0], b = w->s[3], c = w->r[1];

		if (i == 3) {
			a = w->s[2] - a;
			b = w->s[1] - b;
			c = w->s[3] - c;
		} else if (i == 6) {
			a = w->r[2] - a;
			b = w->r[1] - b;
			c = w->r[3] - c;
		}
		w->t[i] = a;
		w->t[i + 1] = b - a;
		w->t[i + 2] = c - a;
	}
	w->pad[0] = key[4] | (u64)key[5] << 32;
	w->pad[1] = key[6] | (u64)key[7] << 32;
}

/* Takes the one-time key for the nonce that vs_chacha20_init has set. The keystream that was made with it stays: see aead.h. */
VS_INLINE void vs_poly1305_key(struct vs_work *w, u32 three)
{
	vs_chacha20_begin(w);
	if (three)
		vs_chacha20_three(w, 0);
	else
		vs_chacha20_two(w, 0);
	vs_poly1305_init(w, w->stream);
}

#define VS_LOW32 0xffffffffull

/* h = (h + block + 2^128) * r, partly reduced. The array h and the pointer w must be in scope. */
#define VS_POLY_STEP(lo, hi)										\
	do {												\
		u64 lo_ = (lo), hi_ = (hi), d0_, d1_, d2_, d3_;						\
		h[0] += lo_ & VS_LOW32;									\
		h[1] += lo_ >> 32;									\
		h[2] += hi_ & VS_LOW32;									\
		h[3] += hi_ >> 32;									\
		h[4] += 1;										\
		d0_ = h[0] * w->r[0] + h[1] * w->s[3] + h[2] * w->s[2] + h[3] * w->s[1];		\
		d1_ = h[0] * w->r[1] + h[1] * w->r[0] + h[2] * w->s[3] + h[3] * w->s[2] + h[4] * w->s[1];\
		d2_ = h[0] * w->r[2] + h[1] * w->r[1] + h[2] * w->r[0] + h[3] * w->s[3] + h[4] * w->s[2];\
		d3_ = h[0] * w->r[3] + h[1] * w->r[2] + h[2] * w->r[1] + h[3] * w->r[0] + h[4] * w->s[3];\
		h[4] = h[4] * w->r[0] + (d3_ >> 32);							\
		h[3] = (d3_ & VS_LOW32) + (d2_ >> 32);							\
		h[2] = (d2_ & VS_LOW32) + (d1_ >> 32);							\
		h[1] = (d1_ & VS_LOW32) + (d0_ >> 32);							\
		h[0] = (d0_ & VS_LOW32) + (h[4] >> 2) * 5; /* 2^130 = 5 */				\
		h[4] &= 3;										\
	} while (0)

#ifdef __bpf__
/*
 * One block's multiplication and partial reduction, by hand so that the chain stays in registers: h0..h3, with the block added,
 * in the registers of these names, h4 with its bit in 9, w in 6; a, b, c and 8 are free. The new h0..h3 are in b, c, a and h3.
 *
 * With x = h0 + h2, y = h1 + h3 and the products of three matrices [a b; c a], each by three multiplications as
 * m = a (first + second), m + (b - a) second, m + (c - a) first:
 *   d0, d1 = A (x, y) + (B - A) (h2, h3)     A = [r0 s3; r1 r0], B = [s2 s1; s3 s2]
 *   d2, d3 = A (x, y) + (C - A) (h0, h1)     C = [r2 r1; r3 r2]
 */
#define VS_ADD(x, y) "r" #x " += r" #y ";"
#define VS_MOV(x, y) "r" #x " = r" #y ";"
#define VS_LOW(x) "w" #x " = w" #x ";"
#define VS_MUL(x, k, y) "r" #x " = *(u64 *)(r6 + %[" #k "]); r" #x " *= r" #y ";"
#define VS_CARRY(x, to) VS_MOV(8, x) "r8 >>= 32;" VS_ADD(to, 8)
#define VS_POLY_TIMES(h0, h1, h2, h3, a, b, c)                                                                      \
	VS_MUL(b, t4, h3) VS_MUL(c, t5, h2) VS_MOV(a, h2) VS_ADD(a, h3) VS_ADD(h3, h1) VS_ADD(h2, h0)                   \
	"r8 = *(u64 *)(r6 + %[t3]); r" #a " *= r8;" VS_ADD(b, a) VS_ADD(c, a)                                           \
	VS_MUL(a, t1, h3) VS_ADD(h3, h2) VS_MUL(8, t0, h3) VS_ADD(a, 8) VS_MUL(h3, t2, h2) VS_ADD(h3, 8)                \
	VS_ADD(b, a) VS_ADD(c, h3)                                                                                      \
	VS_MOV(h2, h0) VS_ADD(h2, h1) "r8 = *(u64 *)(r6 + %[t6]); r" #h2 " *= r8;"                                      \
	VS_MUL(8, t7, h1) VS_ADD(8, h2) VS_ADD(a, 8) VS_MUL(8, t8, h0) VS_ADD(8, h2) VS_ADD(h3, 8)                      \
	VS_MUL(8, s3, 9) VS_ADD(h3, 8) VS_MUL(h1, t0, 9) VS_CARRY(h3, h1)                                               \
	VS_MUL(8, s1, 9) VS_ADD(c, 8) VS_MUL(8, s2, 9) VS_ADD(a, 8)                                                     \
	VS_LOW(h3) VS_CARRY(a, h3) VS_LOW(a) VS_CARRY(c, a) VS_LOW(c) VS_CARRY(b, c) VS_LOW(b)                          \
	/* (h1 >> 2) * 5 without waiting for a multiplication; then h4, and the next block's bit. */                    \
	VS_MOV(8, h1) "r8 &= -4;" VS_ADD(b, 8) VS_MOV(8, h1) "r8 >>= 2;" VS_ADD(b, 8)                                   \
	VS_MOV(9, h1) "r9 &= 3; r9 += 1;"
#define VS_AT(name, field) [name] "i"(__builtin_offsetof(struct vs_work, field))
#define VS_POLY_CONSTANTS                                                                                               \
	VS_AT(t0, t[0]), VS_AT(t1, t[1]), VS_AT(t2, t[2]), VS_AT(t3, t[3]), VS_AT(t4, t[4]), VS_AT(t5, t[5]),           \
	VS_AT(t6, t[6]), VS_AT(t7, t[7]), VS_AT(t8, t[8]), VS_AT(s1, s[1]), VS_AT(s2, s[2]), VS_AT(s3, s[3])

/* Takes pairs of blocks into h, at most as many as len bytes begin. Gives the length that was taken. */
VS_INLINE u32 vs_poly1305_pairs(struct vs_work *work, u32 len, u64 h[5])
{
	register u64 h0 __asm__("r0") = h[0];
	register u64 h1 __asm__("r1") = h[1];
	register u64 h2 __asm__("r2") = h[2];
	register u64 h3 __asm__("r3") = h[3];
	register u64 h4 __asm__("r9") = h[4] + 1;
	register u64 a __asm__("r4");
	register u64 b __asm__("r5");
	register u64 c __asm__("r7");
	u32 at;

	for (at = 0; at < VS_TEXT_MAX; at += 2 * VS_POLY_BLOCK) {
		register struct vs_work *w __asm__("r6") = work;
		u8 *text = work->frame + VS_HEAD_ROOM + vs_text_index(at, VS_POLY_BLOCK);

		if (at + VS_POLY_BLOCK >= len)
			break;
		h0 += vs_get32(text);
		h1 += vs_get32(text + 4);
		h2 += vs_get32(text + 8);
		h3 += vs_get32(text + 12);
		__asm__ volatile(VS_POLY_TIMES(0, 1, 2, 3, 4, 5, 7)
				 : "+r"(h0), "+r"(h1), "+r"(h2), "+r"(h3), "=r"(a), "=r"(b), "=r"(c), "+r"(h4)
				 : "r"(w), VS_POLY_CONSTANTS : "r8");
		b += vs_get32(text + 16);
		c += vs_get32(text + 20);
		a += vs_get32(text + 24);
		h3 += vs_get32(text + 28);
		__asm__ volatile(VS_POLY_TIMES(5, 7, 4, 3, 2, 0, 1)
				 : "=r"(h0), "=r"(h1), "=r"(h2), "+r"(h3), "+r"(a), "+r"(b), "+r"(c), "+r"(h4)
				 : "r"(w), VS_POLY_CONSTANTS : "r8");
	}
	h[0] = h0;
	h[1] = h1;
	h[2] = h2;
	h[3] = h3;
	h[4] = h4 - 1;
	return at;
}
#else
VS_INLINE u32 vs_poly1305_pairs(struct vs_work *w, u32 len, u64 h[5])
{
	u32 at;

	for (at = 0; at + VS_POLY_BLOCK < len; at += 2 * VS_POLY_BLOCK) {
		u8 *text = w->frame + VS_HEAD_ROOM + at;

		VS_POLY_STEP(vs_get64(text), vs_get64(text + 8));
		VS_POLY_STEP(vs_get64(text + 16), vs_get64(text + 24));
	}
	return at;
}
#endif

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
	u64 h[5] = { 0 };
	u32 at;

	if (!w)
		return 1;
	if (len > VS_TEXT_MAX)
		return 1;
	if (w->aad_len)
		VS_POLY_STEP(w->aad[0], w->aad[1]);
	at = vs_poly1305_pairs(w, len, h);
	if (at < len) {
		u8 *text = w->frame + VS_HEAD_ROOM + vs_text_index(at, VS_POLY_BLOCK);

		VS_POLY_STEP(vs_get64(text), vs_get64(text + 8));
	}
	VS_POLY_STEP(w->aad_len, len);
	vs_poly1305_finish(w, h[0], h[1], h[2], h[3], h[4]);
	return 0;
}

#endif
