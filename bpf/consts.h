/* SPDX-License-Identifier: GPL-2.0 */
/* Every number of the data plane that is not a verdict. */
#ifndef VS_CONSTS_H
#define VS_CONSTS_H

/* The layout of all maps together. Any change to a struct in types.h raises it: the loader then starts a new epoch. */
#define VS_LAYOUT 7

/* Sizes of the maps; schemas/limits.ts holds the same bounds for user space. */
#define VS_MAX_EDGES 1024
#define VS_MAX_POLICIES 4096
#define VS_MAX_SAS 4096
#define VS_MAX_OUTBOUND 16384
#define VS_MAX_FLOWS 65536
#define VS_MAX_EDGE_FLOWS 16384 /* of one edge: a busy one leaves room for the others */
#define VS_MAX_VERDICTS 64
#define VS_MAX_LANES 16
#define VS_MAX_PATHS (4 * VS_MAX_SAS)

/* Frame: Ethernet 14, IPv4 20 or IPv6 40, UDP 8, ESP header 8, IV 8, text, ICV 16. */
#define VS_ETH_LEN 14
#define VS_IP_LEN 20
#define VS_IP6_LEN 40
#define VS_UDP_LEN 8
#define VS_ESP_LEN 8
#define VS_IV_LEN 8
#define VS_ICV_LEN 16
#define VS_TRAILER_LEN 2 /* pad length, next header */
/* What sealing puts before the inner packet, in place of nothing: everything but the Ethernet header. */
#define VS_OUTER_LEN (VS_IP_LEN + VS_UDP_LEN + VS_ESP_LEN + VS_IV_LEN)
#define VS_OUTER6_LEN (VS_IP6_LEN + VS_UDP_LEN + VS_ESP_LEN + VS_IV_LEN)
/* Smallest text: an inner IPv4 header and the trailer, to a multiple of four. */
#define VS_TEXT_MIN 24
/* Shortest UDP datagram that carries one, header included. */
#define VS_SEALED_MIN (VS_UDP_LEN + VS_ESP_LEN + VS_IV_LEN + VS_TEXT_MIN + VS_ICV_LEN)

/*
 * Longest text (ciphertext without ICV): 160 ChaCha20 blocks, enough for a wire with an MTU of 9,000. The room is the next
 * power of two, so that one AND proves to the verifier that an access stays inside.
 */
#define VS_TEXT_MAX 10240
#define VS_TEXT_ROOM 16384
#define VS_HEAD_ROOM 80
#define VS_FRAME_AT(outer_len) (VS_HEAD_ROOM - (outer_len) - VS_ETH_LEN)
#define VS_INNER_MAX (VS_TEXT_MAX - VS_TRAILER_LEN)
/* What parsing an inner packet may read, at most: an ICMPv6 error with the headers that it quotes. */
#define VS_PARSE_LOOK (VS_IP6_LEN + VS_ICMP_LEN + VS_IP6_LEN + 8)

#define VS_CHACHA_BLOCK 64
/* Where in a frame the third of three blocks of keystream is made: behind everything that a text can have. */
#define VS_THIRD_AT (VS_HEAD_ROOM + VS_TEXT_ROOM - VS_CHACHA_BLOCK)
#define VS_POLY_BLOCK 16

#define VS_ETH_P_IP 0x0800
#define VS_ETH_P_ARP 0x0806
#define VS_ETH_P_IPV6 0x86dd
#define VS_PROTO_ANY 0 /* in policies */
#define VS_PROTO_ICMP 1 /* in policies, flows and tuples also that of IPv6 */
#define VS_PROTO_TCP 6
#define VS_PROTO_UDP 17
#define VS_PROTO_ICMPV6 58
#define VS_PROTO_SCTP 132
#define VS_NEXT_IPV4 4 /* RFC 4303 section 2.6: IPv4 in tunnel mode */
#define VS_NEXT_IPV6 41
/* IPv6 extension headers (IANA's registry); ESP and AH are protocols like any other here. */
#define VS_NEXT_HOP_BY_HOP 0
#define VS_NEXT_ROUTING 43
#define VS_NEXT_FRAGMENT 44
#define VS_NEXT_NONE 59
#define VS_NEXT_DESTINATION 60
#define VS_NEXT_MOBILITY 135
#define VS_NEXT_HIP 139
#define VS_NEXT_SHIM6 140
#define VS_ICMP_ECHO_REPLY 0
#define VS_ICMP_ECHO_REQUEST 8
#define VS_ICMP_UNREACHABLE 3
#define VS_ICMP_FRAG_NEEDED 4
#define VS_ICMP_TIME_EXCEEDED 11
#define VS_ICMP_PARAMETER 12
#define VS_ICMP_LEN 8
#define VS_ICMPV6_UNREACHABLE 1
#define VS_ICMPV6_TOO_BIG 2
#define VS_ICMPV6_TIME_EXCEEDED 3
#define VS_ICMPV6_PARAMETER 4
#define VS_ICMPV6_ECHO_REQUEST 128
#define VS_ICMPV6_ECHO_REPLY 129
#define VS_ICMPV6_SOLICIT 135
#define VS_ICMPV6_ADVERTISE 136
#define VS_SCTP_LEN 12
#define VS_SCTP_INIT 1
#define VS_SCTP_ABORT 6
#define VS_SCTP_SHUTDOWN_COMPLETE 14
#define VS_IP_DF 0x4000
#define VS_IP_FRAGMENT 0x3fff /* more-fragments flag and offset */
#define VS_IP_OFFSET 0x1fff
#define VS_TTL 64
/* Explicit congestion notification, the low bits of TOS (RFC 3168). */
#define VS_ECN 3
#define VS_ECT1 1
#define VS_ECT0 2
#define VS_CE 3
#define VS_TOS_CONTROL 0xc0 /* RFC 1812 section 4.3.2.5: precedence of ICMP errors */

/* Path MTUs that the network reports: held for ten minutes (RFC 1191 section 6.3), never below what any host takes. */
#define VS_MTU_FLOOR 576
#define VS_MTU_LEAST 68 /* RFC 791; less is no MTU */
#define VS_MTU_SECONDS 600
/* RFC 8200 section 5: every link of IPv6 carries this much, and nobody may be told less (RFC 8201 section 4). */
#define VS_MTU_IPV6 1280
/* An ICMP error is at most this long (RFC 1812 section 4.3.2.3), and quotes one of the packets sealed last. */
#define VS_ERROR_MAX 576
#define VS_ERROR6_MAX VS_MTU_IPV6 /* RFC 4443 section 2.4 */
#define VS_ERROR_RECENT 65536
/* Sequence numbers come to 1 modulo this when the sealer notes again which edge an SPI belongs to. */
#define VS_PATH_EVERY 4096

/* ICMP errors that the sealer makes, for each CPU and second. */
#define VS_NOTICES 100

/* Verdicts from here on end a packet. Samples of what was dropped: places for each CPU, and how many a second of each verdict. */
#define VS_FIRST_DROP 16
#define VS_DROP_PLACES 32
#define VS_DROP_SAMPLES 4

/* What `rates` counts: each verdict, and the above. */
#define VS_RATE_NOTICE VS_MAX_VERDICTS
#define VS_MAX_RATES (VS_MAX_VERDICTS + 1)

/* SPIs 1..255 are reserved by IANA; zero is the non-ESP marker of RFC 3948. */
#define VS_SPI_MIN 256

#define VS_SA_ESN 1u

/*
 * Where sequence numbers stop. Without ESN the last one is 2^32-1. With ESN the end leaves 2^32 numbers unused: senders on
 * other CPUs that read the counter just before it got there still add to it, and it must never come near to wrapping.
 */
#define VS_LAST_SEQUENCE 0xffffffffull
#define VS_LAST_SEQUENCE_ESN 0xfffffffeffffffffull

/* Anti-replay ring: 32 words of 64 bits. A word is cleared as a whole when it is entered, so one word is not usable. */
#define VS_WINDOW_WORDS 32
#define VS_WINDOW_BITS (VS_WINDOW_WORDS * 64)
#define VS_WINDOW_USABLE (VS_WINDOW_BITS - 64)

/* Judges any edge's packet; the sealer doesn't know the edge before. */
#define VS_ANY_EDGE 0xffffffffu

#define VS_ROLE_INITIATOR 0 /* we open flows to the peer's port */
#define VS_ROLE_RESPONDER 1 /* the peer opens flows to our port */

#define VS_SECOND 1000000000ull
#define VS_TCP_IDLE (7200 * VS_SECOND)
#define VS_TCP_UNANSWERED (60 * VS_SECOND)
#define VS_TCP_HALF_CLOSED (300 * VS_SECOND)
#define VS_TCP_CLOSED (30 * VS_SECOND) /* a lost last ACK can still be asked for again */
#define VS_TCP_RESET (10 * VS_SECOND)
#define VS_UDP_IDLE (180 * VS_SECOND)
#define VS_SCTP_IDLE (300 * VS_SECOND) /* ten heartbeats (RFC 9260 section 16) */
#define VS_ICMP_IDLE (30 * VS_SECOND)
#define VS_OTHER_IDLE (180 * VS_SECOND)
/* A live flow's time is written at most this often, so that CPUs do not fight over its cache line. */
#define VS_FLOW_REFRESH (VS_SECOND / 8)

/* What is known of a flow besides its time. */
#define VS_FLOW_ANSWERED 1u
#define VS_FLOW_OPENER_DONE 2u /* FIN of the side that opened it */
#define VS_FLOW_ANSWERER_DONE 4u
#define VS_FLOW_DONE (VS_FLOW_OPENER_DONE | VS_FLOW_ANSWERER_DONE)
#define VS_FLOW_RESET 8u

/* Flows looked at for expiry when one is refreshed, when one is made, and when there is no room for a new one. */
#define VS_SWEEP_REFRESH 1
#define VS_SWEEP_NEW 2
#define VS_SWEEP_FULL 32

/* Where a TCP header has its flags (RFC 9293 section 3.1), and those that count. */
#define VS_TCP_FLAGS 13
#define VS_TCP_FIN 1u
#define VS_TCP_SYN 2u
#define VS_TCP_RST 4u
#define VS_TCP_ACK 16u

/* TC actions; TCX has the same values. */
#define VS_PASS 0
#define VS_DROP 2

#endif
