/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The same ciphers, window and parsers run in the kernel and, for vectors, fuzzing and sanitizers, in a host program. What
 * differs between the two is here and nowhere else.
 */
#ifndef VS_PLATFORM_H
#define VS_PLATFORM_H

#include <linux/types.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __u16 be16; /* as on the wire */
typedef __u32 be32;

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "words are loaded as little endian without swapping");

#define VS_INLINE static inline __attribute__((always_inline))

#ifdef __bpf__
/*
 * A global function: the verifier checks it once, alone, for any arguments of these types. Static ones are checked anew at
 * every call, and the ciphers called from a loop of 160 blocks then exceed the limit of a million instructions.
 */
#define VS_GLOBAL __attribute__((noinline))
/* Unaligned words are fine on every machine whose JIT we run on; the verifier knows which those are. */
typedef u32 __attribute__((may_alias)) vs_word32;
typedef u64 __attribute__((may_alias)) vs_word64;
VS_INLINE u32 vs_get32(const void *p) { return *(const volatile vs_word32 *)p; }
VS_INLINE u64 vs_get64(const void *p) { return *(const volatile vs_word64 *)p; }
VS_INLINE void vs_put32(void *p, u32 v) { *(volatile vs_word32 *)p = v; }
VS_INLINE void vs_put64(void *p, u64 v) { *(volatile vs_word64 *)p = v; }
#else
#include <string.h>
#define VS_GLOBAL static __attribute__((noinline))
VS_INLINE u32 vs_get32(const void *p) { u32 v; memcpy(&v, p, sizeof(v)); return v; }
VS_INLINE u64 vs_get64(const void *p) { u64 v; memcpy(&v, p, sizeof(v)); return v; }
VS_INLINE void vs_put32(void *p, u32 v) { memcpy(p, &v, sizeof(v)); }
VS_INLINE void vs_put64(void *p, u64 v) { memcpy(p, &v, sizeof(v)); }
#endif

/* The compiler must take v as unknown from here on: it keeps a mask that it believes to be implied, or a full comparison. */
#define vs_opaque(v) __asm__ volatile("" : "+r"(v))

VS_INLINE u16 vs_swap16(u16 v) { return __builtin_bswap16(v); }
VS_INLINE u32 vs_swap32(u32 v) { return __builtin_bswap32(v); }
VS_INLINE u64 vs_swap64(u64 v) { return __builtin_bswap64(v); }

/* An index below 2^14 in steps of `step`. 6.1's verifier forgets the bounds of a spilled number, so this comes right before use. */
#define vs_text_index(at, step)                         \
	({                                              \
		u64 vs_index_ = (at);                   \
		vs_opaque(vs_index_);                   \
		vs_index_ & (VS_TEXT_ROOM - (step));    \
	})

/* The same for the size of a copy to or from the frame, which must not be zero. */
#define vs_copy_size(len) (1 + vs_text_index((u64)(len) - 1, 1))

#endif
