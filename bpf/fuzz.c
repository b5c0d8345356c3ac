// SPDX-License-Identifier: GPL-2.0
/*
 * The four programs as they are, in a host program under sanitizers, with fuzz/bpf/bpf_helpers.h for a kernel. Built with
 * -fsanitize=fuzzer it is a libFuzzer target; with -DVS_REPLAY it runs inputs and writes down what came of each, to be held against the
 * kernel. The maps' contents are in the file that VS_FUZZ_STATE names: u8 length and characters of the map's name, key, value, for
 * each entry.
 *
 * An input's first byte says what the others are:
 *   0 a frame from the wire      1 one from the application    2 one that leaves on the wire, 3 the same with the mark
 *   4 one for the application, with the mark
 *   5 text that a peer has sealed: byte 1 is the SA among those that sa_in holds, bit 7 of it the outer packet's family
 *   6 a series of sequence numbers for one window
 * Seven more says the same, and that the kernel refuses to cut the packet once.
 */
#include "vouchsafe.bpf.c"
#include <stdint.h>
#include <stdio.h>

#define MUST(what)                                                             \
	do {                                                                   \
		if (!(what)) {                                                 \
			fprintf(stderr, "%d: %s is wrong\n", __LINE__, #what); \
			abort();                                               \
		}                                                              \
	} while (0)

enum { FROM_WIRE, FROM_APPLICATION, LEAVING, LEAVING_MARKED, DELIVERING, SEALED_TEXT, NUMBERS, KINDS };

static struct host_skb packet;
static struct vs_work other;
static u32 verdict_of_run, retval_of_run;

static void load_entry(FILE *from, struct host_map *map)
{
	u8 key[32], *value = malloc(map->value_size);

	MUST(fread(key, map->key_size, 1, from) == 1 && fread(value, map->value_size, 1, from) == 1);
	MUST(!host_update(map, key, value, BPF_ANY));
	free(value);
}

static void load_state(const char *path)
{
	FILE *from = path ? fopen(path, "rb") : NULL;
	int length;

	MUST(from);
	while ((length = fgetc(from)) != EOF) {
		char name[32] = { 0 };

		MUST(length < 32 && fread(name, (size_t)length, 1, from) == 1);
#define KNOWN(map)                                         \
	if (!strcmp(name, #map)) {                         \
		load_entry(from, HOST_MAP(&map));          \
		continue;                                  \
	}
		KNOWN(config) KNOWN(policies) KNOWN(policies6) KNOWN(edges) KNOWN(outbound) KNOWN(sa_out) KNOWN(sa_in)
		KNOWN(lease_out) KNOWN(lease_in) KNOWN(windows) KNOWN(flows) KNOWN(flow_counts) KNOWN(paths) KNOWN(paths6)
		MUST(!"a map that is known");
	}
	fclose(from);
	host_snapshot();
}

/* A frame as the kernel's test run has it. */
static void put_frame(const u8 *from, u32 len, u32 mark)
{
	u16 type;

	memset(&packet.skb, 0, sizeof(packet.skb));
	memcpy(packet.data, from, len);
	memcpy(&type, packet.data + 12, sizeof(type));
	packet.skb.len = len;
	packet.skb.mark = mark;
	packet.skb.protocol = vs_swap16(type) >= 0x600 ? type : vs_swap16(4);
}

static u64 counted(u32 verdict)
{
	u64 *count = host_find(HOST_MAP(&verdicts), &verdict)->value;

	return *count;
}

/*
 * The sealer cuts only what a frame has behind its packet. No stack puts a transport header there, so that the kernel would refuse;
 * who writes whole frames can say so of its own, and loses it.
 */
static int uncut(int (*program)(struct __sk_buff *))
{
	return program == vs_seal && host_refused_cut;
}

/* Whether what a program has returned and left behind is what its verdict says. */
static void check_outcome(const struct vs_config *c, int (*program)(struct __sk_buff *))
{
	u32 passes = 0, redirects = 0;

	switch (verdict_of_run) {
	case VS_V_NEIGHBOUR:
	case VS_V_CONTROL:
		MUST(program == vs_open || program == vs_guard);
		passes = 1;
		break;
	case VS_V_SEALED_OUT:
		MUST(program == vs_guard);
		passes = 1;
		break;
	case VS_V_DELIVERED:
	case VS_V_NOTIFIED:
		MUST(program == vs_inner);
		passes = 1;
		break;
	case VS_V_SEALED:
		MUST(program == vs_seal && packet.skb.mark == c->mark);
		redirects = 1;
		break;
	case VS_V_OPENED:
		MUST(program == vs_open && packet.skb.mark == c->mark);
		redirects = 1;
		break;
	case VS_V_TOO_LONG:
		redirects = packet.skb.mark == ~c->mark;
		break;
	default:
		MUST(verdict_of_run >= VS_FIRST_DROP && verdict_of_run != VS_V_NOT_CONFIGURED);
		MUST(verdict_of_run != VS_V_INTERNAL || uncut(program));
	}
	MUST(retval_of_run == (passes ? VS_PASS : redirects ? 7 : VS_DROP));
}

static void run(int (*program)(struct __sk_buff *), const u8 *frame, u32 len, u32 mark)
{
	struct vs_config *c = host_find(HOST_MAP(&config), &(u32){ 0 })->value;
	u32 given = 0;

	put_frame(frame, len, mark);
	retval_of_run = (u32)program(&packet.skb);
	for (u32 i = 0; i < VS_MAX_VERDICTS; i++) {
		MUST(counted(i) <= 1);
		if (counted(i)) {
			verdict_of_run = i;
			given++;
		}
	}
	MUST(given == 1);
	if (getenv("VS_FUZZ_TELL"))
		fprintf(stderr, "verdict %u, return value %u, %u bytes of %u\n", verdict_of_run, retval_of_run, packet.skb.len, len);
	check_outcome(c, program);
}

/* What was sealed opens again, to the packet that it was. */
static void check_sealed(const u8 *frame, u32 len)
{
	u32 esp = VS_ETH_LEN + VS_UDP_LEN + (packet.data[14] >> 4 == 6 ? VS_IP6_LEN : VS_IP_LEN), text = esp + 16;
	u32 text_len = packet.skb.len - text - VS_ICV_LEN, inner;
	const struct vs_sa_out *sa = NULL;

	MUST(packet.skb.len > text + VS_ICV_LEN && text_len <= VS_TEXT_MAX);
	for (struct host_entry *e = HOST_MAP(&sa_out)->first; e; e = e->next)
		if (!memcmp(((struct vs_sa_key *)(void *)e->key)->spi ? e->key + 4 : e->key, packet.data + esp, 4))
			sa = e->value;
	MUST(sa);
	memset(&other, 0xa5, sizeof(other));
	memcpy(other.frame + VS_HEAD_ROOM, packet.data + text, text_len + VS_ICV_LEN);
	vs_chacha20_init(&other, sa->key, sa->salt, vs_get64(packet.data + esp + 8));
	vs_esp_aad(&other, vs_get32(packet.data + esp), vs_swap64(vs_get64(packet.data + esp + 8)), sa->flags);
	MUST(!vs_aead_open(&other, text_len));
	inner = (u32)vs_esp_unpad(&other, text_len) & (VS_UNPAD_V6 - 1);
	MUST(inner >= VS_IP_LEN && inner <= len - VS_ETH_LEN);
	MUST(!memcmp(other.frame + VS_HEAD_ROOM, frame + VS_ETH_LEN, inner));
}

/* A frame whose text a peer has sealed with the `which`th SA. Gives its length. */
static u32 seal_text(u8 *frame, u8 which, const u8 *text, u32 len)
{
	const struct vs_config *c = host_find(HOST_MAP(&config), &(u32){ 0 })->value;
	struct vs_config theirs = *c;
	struct host_entry *e = HOST_MAP(&sa_in)->first;
	struct vs_headers h = { .lane = which % 4, .text_len = len, .peer_wire = c->wire_addr, .peer_wire6 = c->wire_addr6,
				.peer_port = c->esp_port, .tos = which >> 5 & 3 };
	const struct vs_sa_in *sa;
	const struct vs_window *w;
	u32 outer = which & 0x80 ? VS_OUTER6_LEN : VS_OUTER_LEN;

	for (u32 i = which & 7; i && e->next; i--)
		e = e->next;
	sa = e->value;
	memcpy(&h.spi, e->key, 4);
	w = host_lookup(HOST_MAP(&windows), &h.spi);
	h.seq = w->top + 1;
	memset(&other, 0xa5, sizeof(other));
	memcpy(other.frame + VS_HEAD_ROOM, text, len);
	vs_chacha20_init(&other, sa->key, sa->salt, vs_swap64(h.seq));
	vs_esp_aad(&other, h.spi, h.seq, sa->flags);
	MUST(!vs_aead_seal(&other, len));
	theirs.wire_addr = c->wire_addr + vs_swap32(1);
	theirs.wire_addr6.word[1] += 1ull << 56;
	if (which & 0x80)
		vs_esp_head6(&other, &theirs, &h);
	else
		vs_esp_head(&other, &theirs, &h);
	memcpy(frame, other.frame + VS_FRAME_AT(outer), VS_ETH_LEN + outer + len + VS_ICV_LEN);
	return VS_ETH_LEN + outer + len + VS_ICV_LEN;
}

/* What a text says of itself, read once more: its pad length leaves an IP packet of just the length that its header has. */
static void check_opened(const u8 *text, u32 len)
{
	u32 inner = len - 2 - text[len - 2];

	MUST(text[len - 2] + 2u < len && packet.skb.len == VS_ETH_LEN + inner);
	MUST(text[0] >> 4 == 4 ? inner == (u32)(text[2] << 8 | text[3]) : inner == 40u + (u32)(text[4] << 8 | text[5]));
	MUST(text[len - 1] == (text[0] >> 4 == 4 ? 4 : 41));
	MUST(!memcmp(packet.data + VS_ETH_LEN + 2, text + 2, 8) && !memcmp(packet.data + VS_ETH_LEN + 12, text + 12, inner - 12));
}

/* One window against a list of all that it has taken. Two bytes are a step: ahead, behind, or a low half that is anything. */
static void numbers(const u8 *data, u32 len)
{
	static u64 taken[2048];
	struct vs_window w = { .top = 0 };
	u32 count = 0;
	u64 start;

	if (len < 8)
		return;
	memcpy(&start, data, sizeof(start));
	w.top = start >> 1;
	for (u32 at = 8; at + 2 <= len && count < 2000; at += 2) {
		u32 step = (u32)(data[at] & 0x3f) << 8 | data[at + 1], fresh, accepted;
		u64 seq = data[at] & 0x80 ? w.top - step : data[at] & 0x40 ? w.top + step * 65537ull : w.top + step;
		u64 lowest = w.top < VS_WINDOW_USABLE ? 0 : w.top - VS_WINDOW_USABLE + 1;

		if (seq >> 63)
			continue;
		/* Its low half stands for it, unless it is below the window: from there it means the next one above. */
		if (seq >= lowest && seq - lowest <= 0xffffffff)
			MUST(vs_esn(w.top, (u32)seq) == seq);
		fresh = seq > 0 && (seq > w.top || w.top - seq < VS_WINDOW_USABLE);
		for (u32 i = 0; i < count; i++)
			fresh &= taken[i] != seq;
		MUST((u32)vs_window_may_accept(&w, seq) == fresh);
		accepted = (u32)vs_window_accept(&w, seq);
		MUST(accepted == fresh);
		if (accepted)
			taken[count++] = seq;
	}
}

static u8 frame_of_run[HOST_ROOM];
static u32 len_of_run;

/* Runs one input; gives 0 if it is none, or none that a test run can repeat. */
static int one(const u8 *data, size_t size)
{
	static int (*const programs[])(struct __sk_buff *) = { vs_open, vs_seal, vs_guard, vs_guard, vs_inner, vs_open };
	const struct vs_config *c = host_find(HOST_MAP(&config), &(u32){ 0 })->value;
	u32 kind = size ? data[0] % KINDS : 0, len, marked = kind == LEAVING_MARKED || kind == DELIVERING;

	if (size < 2)
		return 0;
	host_refuses_cut = data[0] / KINDS & 1;
	host_refused_cut = 0;
	host_summed = data[0] / KINDS >> 1 & 1;
	data++;
	len = (u32)size - 1;
	if (kind == NUMBERS) {
		numbers(data, len);
		return 0;
	}
	host_reset();
	if (kind == SEALED_TEXT) {
		u32 text_len = (len - 1) & ~3u;

		if (text_len < VS_TEXT_MIN || text_len > VS_TEXT_MAX)
			return 0;
		len_of_run = seal_text(frame_of_run, data[0], data + 1, text_len);
		run(vs_open, frame_of_run, len_of_run, 0);
		MUST(verdict_of_run != VS_V_BAD_TAG && verdict_of_run != VS_V_REPLAYED);
		MUST(data[text_len - 1] + 2u < text_len || verdict_of_run == VS_V_BAD_PADDING);
		if (verdict_of_run == VS_V_OPENED) {
			MUST(!host_summed);
			check_opened(data + 1, text_len);
		}
		return 1;
	}
	/* What a test run takes. */
	if (len < 60 || len > HOST_ROOM / 2)
		return 0;
	memcpy(frame_of_run, data, len);
	len_of_run = len;
	run(programs[kind], data, len, marked ? c->mark : 0);
	if (verdict_of_run == VS_V_SEALED) {
		MUST(!host_summed);
		check_sealed(data, len);
	}
	/* In a test run nothing makes the kernel refuse. */
	return verdict_of_run != VS_V_INTERNAL;
}

#ifdef VS_REPLAY
static void put32(u32 v)
{
	fwrite(&v, sizeof(v), 1, stdout);
}

/* fuzz-replay FILE...: for each that is a packet u32 kind, length, verdict, retval, mark, length, and then both frames. */
int main(int argc, char **argv)
{
	static u8 data[HOST_ROOM];

	load_state(getenv("VS_FUZZ_STATE"));
	for (int i = 1; i < argc; i++) {
		FILE *from = fopen(argv[i], "rb");
		size_t size;

		MUST(from);
		size = fread(data, 1, sizeof(data), from);
		fclose(from);
		if (!one(data, size))
			continue;
		put32(data[0] % KINDS);
		put32(len_of_run);
		put32(verdict_of_run);
		put32(retval_of_run);
		put32(packet.skb.mark);
		put32(packet.skb.len);
		fwrite(frame_of_run, len_of_run, 1, stdout);
		fwrite(packet.data, packet.skb.len, 1, stdout);
	}
	return 0;
}
#else
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	load_state(getenv("VS_FUZZ_STATE"));
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	one(data, size);
	return 0;
}
#endif
