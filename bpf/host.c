// SPDX-License-Identifier: GPL-2.0
/*
 * The ciphers, the window and the parsers outside the kernel, for sanitizers and for lengths that a test run can't have.
 *
 *   host serve         requests on standard input, answers on standard output, until the input ends:
 *                        's' | 'o'  struct vs_request, text, 16 bytes   ->  u32 status, text, 16 bytes  (seal, open)
 *                        'p'        32 bytes of one-time key, u32 len, text  ->  16 bytes  (Poly1305 of text and lengths)
 *                        'w'        u64 sequence number              ->  u8 look, u8 accepted        (one window)
 *                        'r'        u64 top, u32 low                 ->  u64                         (RFC 4303 appendix A)
 *                        'z'                                         ->  nothing; the window is empty again
 *   host fuzz N SEED   N rounds of hostile packets through parsers and padding, held against what must be true of any answer
 */
#include <stdio.h>
#include <stdlib.h>
#include "aead-test.h"
#include "esp.h"
#include "replay.h"

static struct vs_work work;
static struct vs_window window;

static void need(void *to, size_t len)
{
	if (len && fread(to, len, 1, stdin) != 1)
		exit(2);
}

static void give(const void *from, size_t len)
{
	if (len && fwrite(from, len, 1, stdout) != 1)
		exit(2);
}

static void aead(int opens)
{
	struct vs_request r;
	u32 status;

	need(&r, sizeof(r));
	if (r.len > VS_TEXT_MAX || r.aad_len > 16)
		exit(3);
	need(work.frame + VS_HEAD_ROOM, r.len + VS_ICV_LEN);
	status = vs_answer_request(&work, &r, opens);
	give(&status, sizeof(status));
	give(work.frame + VS_HEAD_ROOM, r.len + VS_ICV_LEN);
}

static void poly(void)
{
	u32 key[8], len;

	need(key, sizeof(key));
	need(&len, sizeof(len));
	if (len > VS_TEXT_MAX || len % VS_POLY_BLOCK)
		exit(3);
	need(work.frame + VS_HEAD_ROOM, len);
	work.aad_len = 0;
	vs_poly1305_init(&work, key);
	vs_poly1305_tag(&work, len);
	give(work.tag, sizeof(work.tag));
}

static int serve(void)
{
	for (int op = getchar(); op != EOF; op = getchar()) {
		u64 seq;
		u32 low;
		u8 answer[2];

		switch (op) {
		case 's':
		case 'o':
			aead(op == 'o');
			break;
		case 'p':
			poly();
			break;
		case 'w':
			need(&seq, sizeof(seq));
			answer[0] = (u8)vs_window_may_accept(&window, seq);
			answer[1] = (u8)vs_window_accept(&window, seq);
			give(answer, sizeof(answer));
			break;
		case 'r':
			need(&seq, sizeof(seq));
			need(&low, sizeof(low));
			seq = vs_esn(seq, low);
			give(&seq, sizeof(seq));
			break;
		case 'z':
			memset(&window, 0, sizeof(window));
			break;
		default:
			return 3;
		}
	}
	return 0;
}

static u64 state;

static u32 random32(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (u32)(state >> 16);
}

#define HOLD(what)                                                          \
	do {                                                                \
		if (!(what)) {                                              \
			fprintf(stderr, "round %lu: %s\n", round, #what);   \
			return 1;                                           \
		}                                                           \
	} while (0)

/* A packet of `room` bytes in memory that ends where the parser may read no further, so that the sanitizer sees any step too far. */
static int fuzz_parser(unsigned long round)
{
	u32 room = random32() % 128, readable = room < VS_PARSE_LOOK ? VS_PARSE_LOOK : room;
	u8 *packet = malloc(readable);
	struct vs_tuple t = { 0 };
	u32 verdict;

	for (u32 i = 0; i < readable; i++)
		packet[i] = (u8)random32();
	/* Mostly nearly right, or nothing but the first check is ever reached. */
	if (random32() % 16)
		packet[0] = 0x45;
	if (random32() % 16) {
		packet[2] = 0;
		packet[3] = (u8)(random32() % 8 ? room : random32());
	}
	if (random32() % 8)
		packet[6] = packet[7] = 0;
	if (random32() % 8)
		packet[9] = (u8[]){ 1, 6, 17, 132, 50, 58 }[random32() % 6];
	if (random32() % 4) {
		packet[24] = 0;
		packet[25] = (u8)(packet[3] - 20);
	}
	if (packet[9] == 1 && random32() % 4)
		packet[20] = packet[21] = (u8)(random32() % 2 * 8), packet[21] = 0;
	else if (packet[9] == 1 && random32() % 4)
		packet[20] = (u8[]){ 3, 11, 12, 5 }[random32() % 4], packet[21] = (u8)(random32() % 18);
	if (packet[9] == 1 && room >= 48 && random32() % 8) {
		packet[28] = 0x45;
		packet[34] = packet[35] = 0;
		packet[37] = (u8[]){ 1, 6, 17, 132, 50, 58 }[random32() % 6];
		memcpy(packet + 40, packet + 16, 4);
		memcpy(packet + 44, packet + 12, 4);
		if (packet[37] == 1 && room >= 56)
			packet[48] = (u8)(random32() % 2 * 8), packet[49] = 0;
	}
	verdict = vs_parse_inner(packet, room, &t);
	HOLD(verdict == VS_GO_ON || verdict == VS_V_BAD_IPV4 || verdict == VS_V_FRAGMENT || verdict == VS_V_NO_POLICY ||
	     (verdict == VS_V_STRAY_ICMP && packet[9] == 1));
	if (verdict == VS_GO_ON) {
		HOLD(packet[0] == 0x45 && !(packet[6] & 0x3f) && !packet[7]);
		HOLD(t.total_len >= (packet[9] == 50 ? 20 : 28) || packet[9] != 1);
		HOLD(t.total_len >= 20 && t.total_len <= room && t.total_len == (u32)(packet[2] << 8 | packet[3]));
		HOLD(packet[9] != 58 && t.protocol != 58);
		HOLD(t.protocol != 1 || (t.sport == t.dport && t.way != VS_EITHER_WAY));
		HOLD(t.protocol == 1 || t.way == VS_EITHER_WAY || t.way == VS_ERROR);
		HOLD((t.way == VS_ERROR) == (packet[9] == 1 && packet[20] % 8 != 0));
		HOLD(t.way != VS_ERROR || (t.total_len >= 56 && t.protocol == packet[37] && !memcmp(packet + 40, &t.daddr, 4)));
		HOLD(vs_flow_hash(&t) == vs_flow_hash(&t));
	}
	free(packet);
	return 0;
}

/* The same for IPv6: whatever passes has no extension header, and every length in it is inside the packet. */
static int fuzz_parser6(unsigned long round)
{
	u32 room = random32() % 160, readable = room < VS_PARSE_LOOK ? VS_PARSE_LOOK : room;
	static const u8 nexts[] = { 0, 1, 6, 17, 43, 44, 50, 58, 59, 60, 132, 135, 139, 140 };
	u8 *packet = malloc(readable);
	struct vs_tuple t = { 0 };
	u32 verdict;

	for (u32 i = 0; i < readable; i++)
		packet[i] = (u8)random32();
	if (random32() % 16)
		packet[0] = (u8)(0x60 | packet[0] >> 4);
	if (random32() % 16) {
		packet[4] = 0;
		packet[5] = (u8)(room < 40 || random32() % 8 == 0 ? random32() : room - 40);
	}
	if (random32() % 8)
		packet[6] = random32() % 2 ? nexts[random32() % sizeof(nexts)] : 58;
	if (random32() % 4) {
		packet[44] = 0;
		packet[45] = packet[5];
	}
	if (packet[6] == 58 && random32() % 2)
		packet[40] = (u8)(128 + random32() % 4), packet[41] = 0;
	else if (packet[6] == 58)
		packet[40] = (u8)(random32() % 6), packet[41] = (u8)(random32() % 10);
	if (packet[6] == 58 && room >= 96 && random32() % 8) {
		packet[48] = 0x60;
		packet[54] = random32() % 2 ? nexts[random32() % sizeof(nexts)] : 58;
		memcpy(packet + 56, packet + 24, 16);
		memcpy(packet + 72, packet + 8, 16);
		if (packet[54] == 58)
			packet[88] = (u8)(128 + random32() % 3), packet[89] = 0;
	}
	verdict = vs_parse_inner6(packet, room, &t);
	HOLD(verdict == VS_GO_ON || verdict == VS_V_BAD_IPV6 || verdict == VS_V_FRAGMENT || verdict == VS_V_EXTENSION ||
	     verdict == VS_V_NO_POLICY || (verdict == VS_V_STRAY_ICMP && packet[6] == 58));
	if (verdict == VS_GO_ON) {
		int error = packet[6] == 58 && packet[40] < 128;
		u8 next = error ? packet[54] : packet[6];

		HOLD(packet[0] >> 4 == 6 && t.v6 && t.total_len == 40u + (u32)(packet[4] << 8 | packet[5]) && t.total_len <= room);
		HOLD(next != 0 && next != 1 && next != 43 && next != 44 && next != 59 && next != 60 && next != 135 && next != 139 &&
		     next != 140);
		HOLD(t.protocol == (next == 58 ? 1 : next));
		HOLD((t.way == VS_ERROR) == error && (t.protocol == 1 || error || t.way == VS_EITHER_WAY));
		HOLD(packet[6] != 58 || (error ? packet[40] >= 1 && packet[40] <= 4 : packet[40] <= 129 && !packet[41]));
		HOLD(!error || (t.total_len >= 96 && !memcmp(packet + 56, packet + 24, 16) && !memcmp(packet + 72, packet + 8, 16)));
		HOLD(next == 6 || next == 17 || next == 132 || next == 58 || (!t.sport && !t.dport));
	}
	free(packet);
	return 0;
}

/* What was padded comes back; what was not is refused, or is a shorter packet with right padding. */
static int fuzz_padding(unsigned long round)
{
	u32 inner = random32() % 4 ? random32() % 300 + 20 : random32() % (VS_INNER_MAX - 20) + 20;
	u32 len = vs_text_len(inner), got;
	u8 next = random32() % 2 ? VS_NEXT_IPV6 : VS_NEXT_IPV4;
	u8 *end = work.frame + VS_HEAD_ROOM + len;

	HOLD(len % 4 == 0 && len >= inner + 2 && len <= inner + 5 && len <= VS_TEXT_MAX);
	vs_esp_pad(&work, inner, next);
	HOLD((u32)vs_esp_unpad(&work, len) == (inner | (next == VS_NEXT_IPV6 ? VS_UNPAD_V6 : 0)));
	for (u32 i = 0; i < 1 + random32() % 6; i++)
		end[-1 - (int)(random32() % 6)] = (u8)random32();
	if (random32() % 2)
		end[-1] = VS_NEXT_IPV4;
	got = (u32)vs_esp_unpad(&work, len);
	HOLD(!got || (got >= VS_UNPAD_V6) == (end[-1] == VS_NEXT_IPV6));
	got &= VS_UNPAD_V6 - 1;
	HOLD(got < len);
	if (got) {
		HOLD((end[-1] == VS_NEXT_IPV4 || end[-1] == VS_NEXT_IPV6) && got + end[-2] + 2u == len);
		for (u32 i = 0; i < end[-2]; i++)
			HOLD(work.frame[VS_HEAD_ROOM + got + i] == (u8)(i + 1));
	}
	return 0;
}

static u32 sum16(const u8 *from, u32 len)
{
	u32 sum = 0;

	for (u32 i = 0; i < len; i += 2)
		sum += (u32)(from[i] << 8 | from[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The header checksum sums to all ones, whatever is in the header; so does that of UDP over IPv6, whatever is in the packet. */
static int fuzz_head(unsigned long round)
{
	struct vs_config c = { .wire_addr = random32(), .esp_port = (be16)random32(), .wire_addr6 = { { random32(), random32() } } };
	struct vs_headers h = { .peer_wire = random32(), .peer_port = (be16)random32(), .spi = random32(), .seq = random32(),
				.lane = random32() % VS_MAX_LANES, .edge = random32() % VS_MAX_EDGES, .tos = (u8)random32(),
				.text_len = random32() % (random32() % 16 ? 256 : VS_TEXT_MAX) & ~3u };
	const u8 *ip = work.frame + VS_FRAME_AT(VS_OUTER_LEN) + VS_ETH_LEN;
	u32 len = VS_OUTER6_LEN - VS_IP6_LEN + h.text_len + VS_ICV_LEN, sum;

	vs_esp_head(&work, &c, &h);
	HOLD(sum16(ip, VS_IP_LEN) == 0xffff);
	for (u32 i = 0; i < h.text_len; i++)
		work.frame[VS_HEAD_ROOM + i] = (u8)random32();
	vs_esp_head6(&work, &c, &h);
	ip = work.frame + VS_FRAME_AT(VS_OUTER6_LEN) + VS_ETH_LEN;
	sum = sum16(ip + 8, 32 + len) + len + VS_PROTO_UDP;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	HOLD(sum == 0xffff && (ip[46] || ip[47]));
	HOLD(ip[0] >> 4 == 6 && (u32)(ip[4] << 8 | ip[5]) == len);
	return 0;
}

/* Forged text of any length: refused, and no byte outside the frame is touched. */
static int fuzz_open(unsigned long round)
{
	u32 len = random32() % (VS_TEXT_MAX + 16);
	u8 key[32] = { (u8)round }, salt[4] = { 0 };

	vs_chacha20_init(&work, key, salt, random32());
	vs_esp_aad(&work, random32(), random32(), random32() & VS_SA_ESN);
	HOLD(vs_aead_open(&work, len) == 1);
	return 0;
}

static int fuzz(unsigned long rounds, u64 seed)
{
	state = seed | 1;
	for (unsigned long round = 0; round < rounds; round++)
		if (fuzz_parser(round) || fuzz_parser6(round) || fuzz_padding(round) || fuzz_head(round) || (round % 64 == 0 && fuzz_open(round)))
			return 1;
	printf("%lu rounds\n", rounds);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "serve"))
		return serve();
	if (argc == 4 && !strcmp(argv[1], "fuzz"))
		return fuzz(strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
	fprintf(stderr, "host serve | host fuzz ROUNDS SEED\n");
	return 2;
}
