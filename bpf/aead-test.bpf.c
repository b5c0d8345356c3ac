// SPDX-License-Identifier: GPL-2.0
/*
 * Entry points for tests, never loaded by the product: the same ciphers and window, reached through BPF_PROG_TEST_RUN with
 * requests as packets. Each gives VS_PASS when its request was understood, and writes the answer into the packet.
 */
#include "aead-test.h"
#include "replay.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(struct vs_work));
	__uint(max_entries, 1);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, u32);
	__type(value, struct vs_window);
	__uint(max_entries, 16);
} windows SEC(".maps");

/* A frame: 14 bytes in place of an Ethernet header, then the request. */
VS_INLINE int vs_run(struct __sk_buff *skb, int opens)
{
	u32 zero = 0, len, failed;
	struct vs_work *w = bpf_map_lookup_elem(&scratch, &zero);
	struct vs_request request;

	if (!w || bpf_skb_load_bytes(skb, VS_ETH_LEN, &request, sizeof(request)))
		return VS_DROP;
	len = request.len & (VS_TEXT_ROOM - 1);
	if (len > VS_TEXT_MAX || request.aad_len > 16)
		return VS_DROP;
	if (bpf_skb_load_bytes(skb, VS_ETH_LEN + sizeof(request), w->frame + VS_HEAD_ROOM, vs_copy_size(len + VS_ICV_LEN)))
		return VS_DROP;
	failed = vs_answer_request(w, &request, opens);
	if (bpf_skb_store_bytes(skb, VS_ETH_LEN + __builtin_offsetof(struct vs_request, status), &failed, sizeof(failed), 0))
		return VS_DROP;
	if (bpf_skb_store_bytes(skb, VS_ETH_LEN + sizeof(request), w->frame + VS_HEAD_ROOM, vs_copy_size(len + VS_ICV_LEN), 0))
		return VS_DROP;
	return VS_PASS;
}

SEC("tc")
int test_seal(struct __sk_buff *skb)
{
	return vs_run(skb, 0);
}

SEC("tc")
int test_open(struct __sk_buff *skb)
{
	return vs_run(skb, 1);
}

/* Window `id`: the low half of a sequence number comes in; the reconstructed number and whether it was accepted go out. */
struct vs_window_request {
	u32 id;
	u32 low;
	u64 seq;
	u32 exact; /* 1: take seq as it is; 0: reconstruct it from low */
	u32 may;
	u32 accepted;
	u32 unused;
};

SEC("tc")
int test_window(struct __sk_buff *skb)
{
	struct vs_window_request r;
	struct vs_window *w;

	if (bpf_skb_load_bytes(skb, VS_ETH_LEN, &r, sizeof(r)))
		return VS_DROP;
	w = bpf_map_lookup_elem(&windows, &r.id);
	if (!w)
		return VS_DROP;
	if (!r.exact)
		r.seq = vs_esn(w->top, r.low);
	r.may = vs_window_may_accept(w, r.seq);
	bpf_spin_lock(&w->lock);
	r.accepted = vs_window_accept(w, r.seq);
	bpf_spin_unlock(&w->lock);
	return bpf_skb_store_bytes(skb, VS_ETH_LEN, &r, sizeof(r), 0) ? VS_DROP : VS_PASS;
}

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, 16);
	__uint(max_entries, 1);
} sums SEC(".maps");

/*
 * Sealer and opener rely on bpf_skb_change_tail to end a driver's checksum, growing or cutting. bpf_csum_update fails exactly
 * when there is none; its answers before and after go to `sums`, since the run itself ends with the kernel's EBADMSG.
 */
VS_INLINE int vs_tail(struct __sk_buff *skb, u32 len)
{
	u32 zero = 0;
	long long *sum = bpf_map_lookup_elem(&sums, &zero);

	if (!sum)
		return VS_DROP;
	sum[0] = bpf_csum_update(skb, 0);
	if (bpf_skb_change_tail(skb, len, 0))
		return VS_DROP;
	sum[1] = bpf_csum_update(skb, 0);
	return VS_PASS;
}

SEC("tc")
int test_grow(struct __sk_buff *skb)
{
	return vs_tail(skb, skb->len + 18);
}

SEC("tc")
int test_cut(struct __sk_buff *skb)
{
	return vs_tail(skb, skb->len - 18);
}

/* What a test run costs without any work: figures are given minus this. */
SEC("tc")
int test_empty(struct __sk_buff *skb)
{
	(void)skb;
	return VS_PASS;
}
