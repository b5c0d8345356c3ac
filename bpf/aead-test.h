/* SPDX-License-Identifier: GPL-2.0 */
/* How tests ask the ciphers, in the kernel (aead-test.bpf.c) and on the host (host.c). */
#ifndef VS_AEAD_TEST_H
#define VS_AEAD_TEST_H

#include "aead.h"

/* Followed by len bytes of text and 16 bytes of, or for, the tag. The answer has the same form. */
struct vs_request {
	u8 key[32];
	u64 iv;
	u64 aad[2];
	u8 salt[4];
	u32 aad_len; /* 0..16 */
	u32 len;     /* 0..VS_TEXT_MAX */
	u32 status;  /* answer: 0, or 1 when not authentic */
};
_Static_assert(sizeof(struct vs_request) == 72, "test/kernel/packets.ts writes it");

/* Seals or opens the text of w as r says. */
VS_INLINE u32 vs_answer_request(struct vs_work *w, const struct vs_request *r, int opens)
{
	w->aad[0] = r->aad[0];
	w->aad[1] = r->aad[1];
	w->aad_len = r->aad_len;
	vs_chacha20_init(w, r->key, r->salt, r->iv);
	return (u32)(opens ? vs_aead_open(w, r->len) : vs_aead_seal(w, r->len));
}

#endif
