/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What the BPF programs and the agent share: what is in the maps, byte for byte.
 * Fixed-width types, explicit padding, every size asserted. Here is the peer table
 * and what the TCP programs keep in it; abi_NAME.h has the rest of program NAME.
 *
 * Memory model of the TCP collector. A *slot* is one line of the peer table: an
 * address, a configured network, or everything else ("other"), each in one role. A slot owns one row of counters and one set of
 * histograms, both in memory-mapped arrays, so the agent reads them without a
 * system call. A socket remembers its slot; the address is looked up once per
 * connection, not per event.
 *
 * Who writes: the programs add atomically; the agent writes only generation,
 * sweep_parity and resolve_generation, and clears a slot that nothing uses any more.
 */
#ifndef NETSONDE_ABI_H
#define NETSONDE_ABI_H

#ifndef __bpf__
#include <stdint.h>
typedef uint8_t __abi_u8;
typedef uint16_t __abi_u16;
typedef uint32_t __abi_u32;
typedef uint64_t __abi_u64;
#else
typedef unsigned char __abi_u8;
typedef unsigned short __abi_u16;
typedef unsigned int __abi_u32;
typedef unsigned long long __abi_u64;
#endif

/*
 * Durations: bucket b of 0..319 is bucket b - HIST_OFFSET of a base-2 exponential
 * histogram of schema 3 in seconds, that is (2^((b-161)/8), 2^((b-160)/8)].
 * Bucket 0 takes everything up to 2^-20 s (0.95 us); the last one everything
 * above 2^(158/8) s (10 days).
 */
#define HIST_BUCKETS 320
#define HIST_OFFSET 160

enum tcp_role { ROLE_CLIENT, ROLE_SERVER, ROLE_COUNT };

enum tcp_outcome {
	OUTCOME_ESTABLISHED, /* the handshake completed */
	OUTCOME_REFUSED,
	OUTCOME_RESET,       /* ended by a received reset after it was established */
	OUTCOME_TIMED_OUT,   /* no answer: to the handshake, or later to data */
	OUTCOME_HOST_UNREACHABLE,
	OUTCOME_NET_UNREACHABLE,
	OUTCOME_OTHER,       /* the handshake ended otherwise, e.g. given up by the application */
	OUTCOME_COUNT
};

enum tcp_retransmit {
	RETRANSMIT_SYN,
	RETRANSMIT_SYNACK,
	RETRANSMIT_FAST,            /* in loss recovery by duplicate ACKs, SACK or RACK */
	RETRANSMIT_TIMEOUT,         /* after a retransmission time-out (RTO) */
	RETRANSMIT_TAIL_LOSS_PROBE, /* RFC 8985, section 7 */
	RETRANSMIT_OTHER,
	RETRANSMIT_COUNT
};

enum tcp_reset_direction { RESET_SENT, RESET_RECEIVED, RESET_DIRECTION_COUNT };

/* The kernel's chrono counters (tcp_chrono in net/tcp.h), in jiffies. */
enum tcp_limit { LIMIT_BUSY, LIMIT_RECEIVE_WINDOW, LIMIT_SEND_BUFFER, LIMIT_COUNT };

enum tcp_hist { TCP_HIST_HANDSHAKE, TCP_HIST_DURATION, TCP_HIST_RTT, TCP_HIST_JITTER, TCP_HIST_COUNT };

/* What a program could not record; each is a value of netsonde_lost_events_total{source}. */
enum tcp_lost {
	LOST_SOCKET,     /* no record for a connection (memory, or the limit): its bytes and RTT are missing */
	LOST_HANDSHAKE,  /* a completed handshake whose duration the kernel did not know (SYN cookies) */
	LOST_ADDRESS,    /* an event whose peer could not be read: counted under "other" */
	LOST_COUNT
};

/* IPv4 as IPv4-mapped IPv6, network order. */
struct peer_address {
	__abi_u32 words[4];
};
_Static_assert(sizeof(struct peer_address) == 16, "key of the slot map");

struct network_key {
	__abi_u32 prefix_bits;
	struct peer_address address;
};
_Static_assert(sizeof(struct network_key) == 20, "key of the longest-prefix map");

/* Every program's rows of the peer table begin with this (src/agent/peers.h). */
struct row_head {
	__abi_u64 touched;    /* generation of the last update; 0: never used */
	__abi_u64 sockets[2]; /* sockets that point at this slot, by sweep_parity: rebuilt by every sweep, cannot drift */
};
_Static_assert(sizeof(struct row_head) == 24, "no padding");

struct peer_row {
	struct row_head head;
	__abi_u64 outcomes[OUTCOME_COUNT];
	__abi_u64 retransmits[RETRANSMIT_COUNT]; /* segments */
	__abi_u64 resets[RESET_DIRECTION_COUNT];
	__abi_u64 sent_bytes, received_bytes;    /* payload; sent counts first transmissions only */
	__abi_u64 sent_segments, received_segments;
	__abi_u64 limited_jiffies[LIMIT_COUNT];
	/* Gauges, rebuilt by every sweep at index sweep_parity. */
	__abi_u64 open[2];                       /* established and not yet closed */
	/* Smallest minimum RTT of the open ones, and of those closed since the sweep before (a close writes into the
	 * half that the next sweep fills); 0: none. */
	__abi_u64 min_rtt_us[2];
};
_Static_assert(sizeof(struct peer_row) == 8 * (1 + 7 + 6 + 2 + 4 + 3 + 6), "no padding");

struct peer_hists {
	__abi_u64 sum_ns[TCP_HIST_COUNT];
	__abi_u64 buckets[TCP_HIST_COUNT][HIST_BUCKETS];
};
_Static_assert(sizeof(struct peer_hists) == 8 * 4 * (1 + HIST_BUCKETS), "no padding");

/* Slots come in pairs, client and server. First the pair of "other", then one per network, then one per peer; a pair is
 * known by its first slot, its base. */
#define SLOT_OTHER 0
#define SLOT_NETWORK(index) (ROLE_COUNT + ROLE_COUNT * (index))

/* Weight of one opened connection beside one byte, when peers compete for a slot. */
#define CANDIDATE_CONNECTION_WEIGHT 1000

/* skb->mark of what our own program at tc takes out of the stack, the answers to our probes: no drops. */
#define OWN_DROP_MARK 0x6e736f6bU

#endif
