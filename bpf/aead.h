/* SPDX-License-Identifier: GPL-2.0 */
/* ChaCha20-Poly1305 (RFC 8439 section 2.8) in place, on the text of a vs_work. */
#ifndef VS_AEAD_H
#define VS_AEAD_H

#include "poly1305.h"

/*
 * Keystream is made three blocks at a time, two where that leaves none unused: of all blocks, the one-time key's among them, the first
 * two if there is one more than a multiple of three, and the last two if not. Whether the first are three:
 */
VS_INLINE u32 vs_aead_three(u32 len)
{
	return len > VS_CHACHA_BLOCK && (len + 2 * VS_CHACHA_BLOCK - 1) / VS_CHACHA_BLOCK % 3 != 1;
}

/*
 * Encrypts or decrypts len bytes of text, after vs_poly1305_key. Up to 63 bytes after them are changed too: nothing that matters lies
 * there.
 */
VS_INLINE void vs_aead_xor(struct vs_work *w, u32 len, u32 three)
{
	const u32 *third = (const u32 *)(w->frame + VS_THIRD_AT);
	u32 first = three ? 2 : 1;

	if (!len)
		return;
	vs_chacha20_xor(w, w->stream + 16, 0);
	if (three)
		vs_chacha20_xor(w, third, VS_CHACHA_BLOCK);
	for (u32 at = first * VS_CHACHA_BLOCK; at < VS_TEXT_MAX; at += 3 * VS_CHACHA_BLOCK) {
		u32 counter = at / VS_CHACHA_BLOCK + 1;

		if (at >= len)
			break;
		if (at + 2 * VS_CHACHA_BLOCK >= len) {
			vs_chacha20_two(w, counter);
			vs_chacha20_xor(w, w->stream, at);
			vs_chacha20_xor(w, w->stream + 16, at + VS_CHACHA_BLOCK);
			break;
		}
		vs_chacha20_three(w, counter);
		vs_chacha20_xor(w, w->stream, at);
		vs_chacha20_xor(w, w->stream + 16, at + VS_CHACHA_BLOCK);
		vs_chacha20_xor(w, third, at + 2 * VS_CHACHA_BLOCK);
	}
}

/*
 * Encrypts len bytes (at most VS_TEXT_MAX) of text and puts the ICV after them. vs_chacha20_init must have been called, w->aad
 * and w->aad_len set. Gives 0, or 1 and an unusable text when len is too long.
 */
VS_GLOBAL int vs_aead_seal(struct vs_work *w, u32 len)
{
	u32 three = vs_aead_three(len);
	u8 *end;

	if (!w || len > VS_TEXT_MAX)
		return 1;
	vs_poly1305_key(w, three);
	vs_aead_xor(w, len, three);
	end = w->frame + VS_HEAD_ROOM + vs_text_index(len, 1);
	vs_put64(end, 0);
	vs_put64(end + 8, 0);
	vs_poly1305_tag(w, len);
	vs_put64(end, w->tag[0]);
	vs_put64(end + 8, w->tag[1]);
	return 0;
}

/*
 * Verifies the ICV after len bytes of text and only then decrypts them. Gives 0 when authentic, else 1 and the text is still
 * ciphertext. The ICV is consumed.
 */
VS_GLOBAL int vs_aead_open(struct vs_work *w, u32 len)
{
	u64 tag0, tag1, difference;
	u32 three = vs_aead_three(len);
	u8 *end;

	if (!w || len > VS_TEXT_MAX)
		return 1;
	end = w->frame + VS_HEAD_ROOM + vs_text_index(len, 1);
	tag0 = vs_get64(end);
	tag1 = vs_get64(end + 8);
	vs_put64(end, 0);
	vs_put64(end + 8, 0);
	vs_poly1305_key(w, three);
	vs_poly1305_tag(w, len);
	/*
	 * All 128 bits become one word before anything is decided. The compiler can't go back to comparing word by word and
	 * leaving early: the empty assembly takes `difference` as an input that must exist, complete, in a register.
	 */
	difference = (tag0 ^ w->tag[0]) | (tag1 ^ w->tag[1]);
	vs_opaque(difference);
	if (difference)
		return 1;
	vs_aead_xor(w, len, three);
	return 0;
}

#endif
