/* SPDX-License-Identifier: GPL-2.0 */
/*
 * No cipher, for measuring what everything else costs. The bench alone compiles with it (-DVS_AEAD_H -include null-aead.h, which
 * empties bpf/aead.h); the product's sources have no switch for it, and what it makes has another digest than any that attests.
 */
#ifndef VS_NULL_AEAD_H
#define VS_NULL_AEAD_H

#include "chacha20.h"

VS_GLOBAL int vs_aead_seal(struct vs_work *w, u32 len)
{
	u8 *end;

	if (!w || len > VS_TEXT_MAX)
		return 1;
	end = w->frame + VS_HEAD_ROOM + vs_text_index(len, 1);
	vs_put64(end, 0);
	vs_put64(end + 8, 0);
	return 0;
}

/* Takes every packet for authentic. */
VS_GLOBAL int vs_aead_open(struct vs_work *w, u32 len)
{
	return !w || len > VS_TEXT_MAX;
}

#endif
