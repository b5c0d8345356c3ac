/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ChaCha20 (RFC 8439 section 2.4). Additions, XORs and rotations only: no branch and no index depends on a secret, and the
 * BPF JIT keeps it so, since it translates one instruction after another.
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

/* The words live in sixteen locals named x0..x15: an array would go to the stack as a whole. */
#define VS_CHACHA_LOAD(s)                                                       \
	u32 x0 = s[0], x1 = s[1], x2 = s[2], x3 = s[3], x4 = s[4], x5 = s[5];   \
	u32 x6 = s[6], x7 = s[7], x8 = s[8], x9 = s[9], x10 = s[10];            \
	u32 x11 = s[11], x12 = s[12], x13 = s[13], x14 = s[14], x15 = s[15]

#define VS_CHACHA_ROUNDS                        \
	for (u32 i = 0; i < 10; i++) {          \
		VS_QUARTER(x0, x4, x8, x12);    \
		VS_QUARTER(x1, x5, x9, x13);    \
		VS_QUARTER(x2, x6, x10, x14);   \
		VS_QUARTER(x3, x7, x11, x15);   \
		VS_QUARTER(x0, x5, x10, x15);   \
		VS_QUARTER(x1, x6, x11, x12);   \
		VS_QUARTER(x2, x7, x8, x13);    \
		VS_QUARTER(x3, x4, x9, x14);    \
	}

/*
 * Sets key and nonce. key: 32 bytes, salt: 4 bytes, iv: the 8 bytes as on the wire, read as a little-endian word. The nonce
 * is salt || IV (RFC 7634 section 2). The block counter is set by whoever asks for blocks.
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

/* XORs keystream block `counter` onto the 64 bytes at text + at (at: a multiple of 64, below VS_TEXT_ROOM). */
VS_GLOBAL int vs_chacha20_xor(struct vs_work *w, u32 at, u32 counter)
{
	if (!w)
		return 1;
	w->chacha[12] = counter;
	{
		VS_CHACHA_LOAD(w->chacha);
		VS_CHACHA_ROUNDS

		u8 *text = w->frame + VS_HEAD_ROOM + vs_text_index(at, VS_CHACHA_BLOCK);
#define VS_OUT(i) vs_put32(text + 4 * i, vs_get32(text + 4 * i) ^ (x##i + w->chacha[i]))
		VS_OUT(0); VS_OUT(1); VS_OUT(2); VS_OUT(3); VS_OUT(4); VS_OUT(5); VS_OUT(6); VS_OUT(7);
		VS_OUT(8); VS_OUT(9); VS_OUT(10); VS_OUT(11); VS_OUT(12); VS_OUT(13); VS_OUT(14); VS_OUT(15);
#undef VS_OUT
	}
	return 0;
}

/*
 * The one-time Poly1305 key from block 0 (RFC 8439 section 2.6): eight words, r and then the pad, in key. Poly1305 itself is in
 * poly1305.h; this is here for the sake of the sixteen locals.
 */
VS_INLINE void vs_chacha20_first(struct vs_work *w, u32 key[8])
{
	w->chacha[12] = 0;
	{
		VS_CHACHA_LOAD(w->chacha);
		VS_CHACHA_ROUNDS

		key[0] = x0 + w->chacha[0];
		key[1] = x1 + w->chacha[1];
		key[2] = x2 + w->chacha[2];
		key[3] = x3 + w->chacha[3];
		key[4] = x4 + w->chacha[4];
		key[5] = x5 + w->chacha[5];
		key[6] = x6 + w->chacha[6];
		key[7] = x7 + w->chacha[7];
		(void)x8; (void)x9; (void)x10; (void)x11; (void)x12; (void)x13; (void)x14; (void)x15;
	}
}

#endif
