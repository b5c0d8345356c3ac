/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ChaCha20 (RFC 8439 section 2.4). Additions, XORs, rotations and multiplications by a public constant only: no branch and no
 * index depends on a secret, and the BPF JIT keeps it so, since it translates one instruction after another. A 64-bit
 * multiplication takes the same time for all operands on the machines whose JIT we run on; Poly1305 needs it anyway.
 *
 * Two blocks are made at once, since that is what the processor's width asks for. What decides, measured on a core that takes
 * six instructions a cycle, is the number of instructions and that no chain of them is waited for:
 *  - BPF has no rotation. Shifts make four instructions of it; (x * (2^32 + 1)) >> (32 - n) is two. It takes two cycles longer,
 *    which made it slower with one block at a time (each quarter-round waits for the last) and makes it faster with two, half a
 *    double round in turn: then one block's work fills the other's waiting. 22 blocks: 2.7 us by shifts and one at a time, 2.6
 *    by shifts and two, 2.1 by multiplications and two.
 *  - Four of the 32 words have a register of their own, the rest is loaded and stored around each quarter-round (2 %).
 *  - In a packet's first round three of four columns don't know the block counter: done once, not for each block (4 %).
 *  - One-time key and first block of text come from one call: one block less for every packet.
 * What lost: three and four blocks at once (3 % faster a block, and more than that lost to blocks that nobody needs), taking
 * turns after each quarter-round (10 % slower) or each double round (15 %), shifts for every fourth rotation to relieve the
 * multiplier (4-7 %), the rounds unrolled (no faster, ten times the code).
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

/*
 * One block of keystream into the lower half of w->stream. The words live in sixteen locals named x0..x15: an array would go to
 * the stack as a whole.
 */
VS_GLOBAL int vs_chacha20_one(struct vs_work *w, u32 counter)
{
	if (!w)
		return 1;
	u32 x0 = w->begun[0], x1 = w->begun[1], x2 = w->begun[2], x3 = w->begun[3], x4 = w->begun[4], x5 = w->begun[5];
	u32 x6 = w->begun[6], x7 = w->begun[7], x8 = w->begun[8], x9 = w->begun[9], x10 = w->begun[10], x11 = w->begun[11];
	u32 x12 = counter, x13 = w->begun[13], x14 = w->begun[14], x15 = w->begun[15];

	VS_QUARTER(x0, x4, x8, x12);
	for (u32 i = 0; i < 10; i++) {
		VS_QUARTER(x0, x5, x10, x15);
		VS_QUARTER(x1, x6, x11, x12);
		VS_QUARTER(x2, x7, x8, x13);
		VS_QUARTER(x3, x4, x9, x14);
		if (i == 9)
			break;
		VS_QUARTER(x0, x4, x8, x12);
		VS_QUARTER(x1, x5, x9, x13);
		VS_QUARTER(x2, x6, x10, x14);
		VS_QUARTER(x3, x7, x11, x15);
	}
#define VS_OUT(i) w->stream[i] = x##i + w->chacha[i]
	VS_OUT(0); VS_OUT(1); VS_OUT(2); VS_OUT(3); VS_OUT(4); VS_OUT(5); VS_OUT(6); VS_OUT(7);
	VS_OUT(8); VS_OUT(9); VS_OUT(10); VS_OUT(11); VS_OUT(13); VS_OUT(14); VS_OUT(15);
#undef VS_OUT
	w->stream[12] = x12 + counter;
	return 0;
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
#else
VS_INLINE void vs_chacha20_two(struct vs_work *w, u32 counter)
{
	vs_chacha20_one(w, counter + 1);
	memcpy(w->stream + 16, w->stream, VS_CHACHA_BLOCK);
	vs_chacha20_one(w, counter);
}
#endif

/* XORs the block of keystream that begins at word `from` of w->stream onto the 64 bytes at text + at (at: a multiple of 64). */
VS_INLINE void vs_chacha20_xor(struct vs_work *w, u32 from, u32 at)
{
	u8 *text = w->frame + VS_HEAD_ROOM + vs_text_index(at, VS_CHACHA_BLOCK);

	for (u32 i = 0; i < VS_CHACHA_BLOCK; i += 8)
		vs_put64(text + i, vs_get64(text + i) ^ vs_get64((const u8 *)(w->stream + from) + i));
}

#endif
