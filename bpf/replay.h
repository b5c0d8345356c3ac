/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Sequence numbers on arrival: RFC 4303 section 3.4.3 and appendix A. The window is a ring of 32 words; the word of sequence
 * number s is (s / 64) mod 32. Entering a new word clears it, so 31 words and more are always valid: VS_WINDOW_USABLE.
 */
#ifndef VS_REPLAY_H
#define VS_REPLAY_H

#include "types.h"

/*
 * The 64-bit sequence number that a packet with these low 32 bits must mean, given the highest authentic one. The high half is
 * never sent. A guess that is wrong makes the tag wrong.
 */
VS_INLINE u64 vs_esn(u64 top, u32 low)
{
	u32 top_low = (u32)top;
	u64 high = top >> 32;
	u32 bottom = top_low - (VS_WINDOW_USABLE - 1); /* may wrap, as the appendix wants */

	if (top_low >= VS_WINDOW_USABLE - 1)
		high += low < bottom; /* below the window: it has wrapped since */
	else if (low >= bottom && high)
		high -= 1; /* the window reaches back into the former subspace; there is none before the first */
	return high << 32 | low;
}

/* Whether seq is new, as far as can be told without the lock: saves the cipher's work on an obvious replay. */
VS_INLINE int vs_window_may_accept(const struct vs_window *w, u64 seq)
{
	u64 top = *(const volatile u64 *)&w->top;

	if (seq == 0)
		return 0;
	if (seq > top)
		return 1;
	if (top - seq >= VS_WINDOW_USABLE)
		return 0;
	return !(w->bits[seq / 64 % VS_WINDOW_WORDS] >> (seq % 64) & 1);
}

/*
 * Marks seq and gives 1 if it was new, else 0. The caller holds the window's lock and has verified the packet. No calls in
 * here: the verifier allows none under a lock.
 */
VS_INLINE int vs_window_accept(struct vs_window *w, u64 seq)
{
	u64 top = w->top;
	u64 word = seq / 64;
	u64 bit = 1ull << (seq % 64);
	u64 *slot = &w->bits[word % VS_WINDOW_WORDS];

	if (seq == 0)
		return 0;
	if (seq > top) {
		u64 entered = word - top / 64;

		for (u32 i = 1; i <= VS_WINDOW_WORDS; i++) {
			if (i > entered)
				break;
			w->bits[(top / 64 + i) % VS_WINDOW_WORDS] = 0;
		}
		w->top = seq;
	} else if (top - seq >= VS_WINDOW_USABLE) {
		return 0;
	}
	if (*slot & bit)
		return 0;
	*slot |= bit;
	return 1;
}

#endif
