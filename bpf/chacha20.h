/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ChaCha20 (RFC 8439 section 2.4). Additions, XORs, rotations and multiplications by a public constant only: no branch and no
 * index depends on a secret, and the BPF JIT keeps it so, since it translates one instruction after another. A 64-bit
 * multiplication takes the same time for all operands on the machines whose JIT we run on; Poly1305 needs it anyway.
 *
 * Three blocks are made at once, or two where a third would be for nobody: see aead.h. What decides, measured on a core that takes
 * six instructions a cycle, is the number of instructions and that no chain of them is waited for:
 *  - BPF has no rotation. Shifts make four instructions of it; (x * (2^32 + 1)) >> (32 - n) is two. It takes two cycles longer,
 *    which made it slower with one block at a time (each quarter-round waits for the last) and makes it faster with more, half a
 *    double round in turn: then one block's work fills the other's waiting. 22 blocks: 2.7 us by shifts and one at a time, 2.6
 *    by shifts and two, 2.1 by multiplications and two, 2.0 by multiplications and three.
 *  - A single block at the end takes half as long again as one of three: 60 ns of a packet of 64 bytes, which needs three in all.
 *  - Four of the words have a register of their own, the rest is loaded and stored around each quarter-round (2 %).
 *  - In a packet's first round three of four columns don't know the block counter: done once, not for each block (4 %).
 *  - One-time key and first text come from one call.
 * What lost: four blocks at once (more blocks that nobody needs than is won by it), taking turns after each quarter-round (10 %
 * slower) or each double round (15 %), shifts for every fourth rotation to relieve the multiplier (4-7 %), the rounds unrolled (no
 * faster, ten times the code), the key copied by 64-bit words (nothing).
 */
#ifndef VS_CHACHA20_H
#define VS_CHACHA20_H

#include "types.h"

#define VS_ROTATE(v, n) ((v) << (n) | (v) >> (32 - (n)))

#define VS_QUARTER(a, b, c, d)                  \
	a += b; d ^= a; d = VS_ROTATE(d, 16);   \
	c += d; b ^= c; b = VS_ROTATE(b, 12);   \
	a += b; d ^= a; d = VS_ROTATE(d, 8);    \
	c += d; b ^= c; b = VS_ROTATE(b, 7)

/*
 * Sets key and nonce. key: 32 bytes, salt: 4 bytes, iv: the 8 bytes as on the wire, read as a little-endian word. The nonce
 * is salt || IV (RFC 7634 section 2). The block counter is given by whoever asks for blocks.
 */
VS_INLINE void vs_chacha20_init(struct vs_work *w, const u8 *key, const u8 *salt, u64 iv)
{
	w->chacha[0] = 0x61707865; /* "expand 32-byte k" */
	w->chacha[1] = 0x3320646e;
	w->chacha[2] = 0x79622d32;
	w->chacha[3] = 0x6b206574;
	for (u32 i = 0; i < 8; i++)
		w->chacha[4 + i] = vs_get32(key + 4 * i);
	w->chacha[13] = vs_get32(salt);
	w->chacha[14] = (u32)iv;
	w->chacha[15] = (u32)(iv >> 32);
}

/* What all blocks of a packet have in common: columns 1, 2 and 3 of the first round. */
VS_INLINE void vs_chacha20_begin(struct vs_work *w)
{
	u32 x[16];

	for (u32 i = 0; i < 16; i++)
		x[i] = w->chacha[i];
	for (u32 i = 1; i < 4; i++) {
		VS_QUARTER(x[i], x[4 + i], x[8 + i], x[12 + i]);
	}
	for (u32 i = 0; i < 16; i++)
		w->begun[i] = x[i];
}

#ifdef __bpf__
/*
 * Registers: 0..3 the quarter-round's words a, b, c, d; 4, 5, 7, 8 words 4..7 of the upper block; 6 w->stream; 9 the constant
 * 2^32 + 1. A rotated word has bits above the 32nd, which the 32-bit instruction that uses it next ignores.
 */
#define VS_ROT(x, n) "r" #x " *= r9; r" #x " >>= 32 - " #n ";"
#define VS_STEP(a, b, d, n) "w" #a " += w" #b "; w" #d " ^= w" #a ";" VS_ROT(d, n)
#define VS_MIX(a, b, c, d) VS_STEP(a, b, d, 16) VS_STEP(c, d, b, 12) VS_STEP(a, b, d, 8) VS_STEP(c, d, b, 7)
#define VS_GET(r, word) "r" #r " = *(u32 *)(r6 + 4 * (" #word "));"
#define VS_PUT(r, word) "*(u32 *)(r6 + 4 * (" #word ")) = r" #r ";"
/* A quarter-round of the lower block, of words a, b, c and d. */
#define VS_LOWER(a, b, c, d)                                                            \
	VS_GET(0, a) VS_GET(1, b) VS_GET(2, c) VS_GET(3, d) VS_MIX(0, 1, 2, 3)          \
	VS_PUT(0, a) VS_PUT(1, b) VS_PUT(2, c) VS_PUT(3, d)
/* One of the upper block; b is a register. */
#define VS_UPPER(a, b, c, d)                                                            \
	VS_GET(0, 16 + a) VS_GET(2, 16 + c) VS_GET(3, 16 + d) VS_MIX(0, b, 2, 3)        \
	VS_PUT(0, 16 + a) VS_PUT(2, 16 + c) VS_PUT(3, 16 + d)
#define VS_COLUMNS                                                                                      \
	VS_LOWER(0, 4, 8, 12) VS_LOWER(1, 5, 9, 13) VS_LOWER(2, 6, 10, 14) VS_LOWER(3, 7, 11, 15)       \
	VS_UPPER(0, 4, 8, 12) VS_UPPER(1, 5, 9, 13) VS_UPPER(2, 7, 10, 14) VS_UPPER(3, 8, 11, 15)
#define VS_DIAGONALS                                                                                    \
	VS_LOWER(0, 5, 10, 15) VS_LOWER(1, 6, 11, 12) VS_LOWER(2, 7, 8, 13) VS_LOWER(3, 4, 9, 14)       \
	VS_UPPER(0, 5, 10, 15) VS_UPPER(1, 7, 11, 12) VS_UPPER(2, 8, 8, 13) VS_UPPER(3, 4, 9, 14)
#define VS_ROUNDS(what)                                                                                 \
	__asm__ volatile(what : "+r"(y4), "+r"(y5), "+r"(y6), "+r"(y7) : "r"(x), "r"(twice) : "r0", "r1", "r2", "r3", "memory")

/* Keystream blocks `counter` and `counter` + 1 into w->stream. */
VS_GLOBAL int vs_chacha20_two(struct vs_work *w, u32 counter)
{
	if (!w)
		return 1;
	register u32 *x __asm__("r6") = w->stream;
	register u64 twice __asm__("r9") = 0x100000001ull;
	register u64 y4 __asm__("r4") = w->begun[4];
	register u64 y5 __asm__("r5") = w->begun[5];
	register u64 y6 __asm__("r7") = w->begun[6];
	register u64 y7 __asm__("r8") = w->begun[7];

	for (u32 i = 0; i < 16; i += 2) {
		u64 both = vs_get64(w->begun + i);

		vs_put64(w->stream + i, both);
		if (i != 4 && i != 6)
			vs_put64(w->stream + 16 + i, both);
	}
	w->chacha[12] = counter;
	w->stream[12] = counter;
	w->stream[28] = counter + 1;
	VS_ROUNDS(VS_LOWER(0, 4, 8, 12) VS_UPPER(0, 4, 8, 12) VS_DIAGONALS);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 9; i++)
		VS_ROUNDS(VS_COLUMNS VS_DIAGONALS);
	w->stream[20] = (u32)y4;
	w->stream[21] = (u32)y5;
	w->stream[22] = (u32)y6;
	w->stream[23] = (u32)y7;
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 16; i++) {
		u32 start = w->chacha[i];

		w->stream[i] += start;
		w->stream[16 + i] += start;
	}
	w->stream[28] += 1;
	return 0;
}
/* A quarter-round of the third block, which lies in the frame. */
#define VS_GET3(r, word) "r" #r " = *(u32 *)(r6 + %[third] + 4 * (" #word "));"
#define VS_PUT3(r, word) "*(u32 *)(r6 + %[third] + 4 * (" #word ")) = r" #r ";"
#define VS_THIRD(a, b, c, d)                                                            \
	VS_GET3(0, a) VS_GET3(1, b) VS_GET3(2, c) VS_GET3(3, d) VS_MIX(0, 1, 2, 3)      \
	VS_PUT3(0, a) VS_PUT3(1, b) VS_PUT3(2, c) VS_PUT3(3, d)
#define VS_COLUMNS3                                                                             \
	VS_COLUMNS VS_THIRD(0, 4, 8, 12) VS_THIRD(1, 5, 9, 13) VS_THIRD(2, 6, 10, 14) VS_THIRD(3, 7, 11, 15)
#define VS_DIAGONALS3                                                                           \
	VS_DIAGONALS VS_THIRD(0, 5, 10, 15) VS_THIRD(1, 6, 11, 12) VS_THIRD(2, 7, 8, 13) VS_THIRD(3, 4, 9, 14)
#define VS_ROUNDS3(what)                                                                                \
	__asm__ volatile(what : "+r"(y4), "+r"(y5), "+r"(y6), "+r"(y7)                                  \
			 : "r"(x), "r"(twice),                                                          \
			   [third] "i"(__builtin_offsetof(struct vs_work, frame) + VS_THIRD_AT -        \
				       __builtin_offsetof(struct vs_work, stream))                      \
			 : "r0", "r1", "r2", "r3", "memory")

/* Keystream blocks from `counter` on: two into w->stream, the third into the frame, at VS_THIRD_AT. */
VS_GLOBAL int vs_chacha20_three(struct vs_work *w, u32 counter)
{
	u32 *third;

	if (!w)
		return 1;
	third = (u32 *)(w->frame + VS_THIRD_AT);
	register u32 *x __asm__("r6") = w->stream;
	register u64 twice __asm__("r9") = 0x100000001ull;
	register u64 y4 __asm__("r4") = w->begun[4];
	register u64 y5 __asm__("r5") = w->begun[5];
	register u64 y6 __asm__("r7") = w->begun[6];
	register u64 y7 __asm__("r8") = w->begun[7];

	for (u32 i = 0; i < 16; i += 2) {
		u64 both = vs_get64(w->begun + i);

		vs_put64(w->stream + i, both);
		vs_put64(third + i, both);
		if (i != 4 && i != 6)
			vs_put64(w->stream + 16 + i, both);
	}
	w->chacha[12] = counter;
	w->stream[12] = counter;
	w->stream[28] = counter + 1;
	third[12] = counter + 2;
	VS_ROUNDS3(VS_LOWER(0, 4, 8, 12) VS_UPPER(0, 4, 8, 12) VS_THIRD(0, 4, 8, 12) VS_DIAGONALS3);
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 9; i++)
		VS_ROUNDS3(VS_COLUMNS3 VS_DIAGONALS3);
	w->stream[20] = (u32)y4;
	w->stream[21] = (u32)y5;
	w->stream[22] = (u32)y6;
	w->stream[23] = (u32)y7;
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 16; i++) {
		u32 start = w->chacha[i];

		w->stream[i] += start;
		w->stream[16 + i] += start;
		third[i] += start;
	}
	w->stream[28] += 1;
	third[12] += 2;
	return 0;
}
#else
/* One block of keystream. */
VS_INLINE void vs_chacha20_one(const struct vs_work *w, u32 counter, u32 *out)
{
	u32 x[16];

	for (u32 i = 0; i < 16; i++)
		x[i] = w->begun[i];
	x[12] = counter;
	VS_QUARTER(x[0], x[4], x[8], x[12]);
	for (u32 i = 0; i < 10; i++) {
		for (u32 j = 0; j < 4; j++) {
			VS_QUARTER(x[j], x[4 + (j + 1) % 4], x[8 + (j + 2) % 4], x[12 + (j + 3) % 4]);
		}
		for (u32 j = 0; i < 9 && j < 4; j++) {
			VS_QUARTER(x[j], x[4 + j], x[8 + j], x[12 + j]);
		}
	}
	for (u32 i = 0; i < 16; i++)
		out[i] = x[i] + (i == 12 ? counter : w->chacha[i]);
}

VS_INLINE void vs_chacha20_two(struct vs_work *w, u32 counter)
{
	vs_chacha20_one(w, counter, w->stream);
	vs_chacha20_one(w, counter + 1, w->stream + 16);
}

VS_INLINE void vs_chacha20_three(struct vs_work *w, u32 counter)
{
	vs_chacha20_two(w, counter);
	vs_chacha20_one(w, counter + 2, (u32 *)(w->frame + VS_THIRD_AT));
}
#endif

/* XORs a block of keystream onto the 64 bytes at text + at (at: a multiple of 64). */
VS_INLINE void vs_chacha20_xor(struct vs_work *w, const u32 *stream, u32 at)
{
	u8 *text = w->frame + VS_HEAD_ROOM + vs_text_index(at, VS_CHACHA_BLOCK);

	for (u32 i = 0; i < VS_CHACHA_BLOCK; i += 8)
		vs_put64(text + i, vs_get64(text + i) ^ vs_get64((const u8 *)stream + i));
}

#endif
