/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Active probes: what the BPF program, the prober and (without BPF) its fallback share.
 *
 * A *session* is what is measured from here to one address in one way: a target's
 * path. A *flight* is one probe on its way; each session owns a ring of them, and probe number n is in ring position
 * n & mask. All are in memory-mapped arrays. User space only paces: it fills a flight and sends its packet; the
 * programs write the times and recognise the answer; user space reads flights that are over, whenever it likes, and
 * at the latest when it needs their place again. So an answer wakes nobody, and no answer is lost by a slow reader.
 *
 * A flight's life is in its state, which only compare-and-swap changes:
 *   user: FREE, DONE, LOST, LATE -> (new sequence) ARMED   about to be sent, sent_ns is user space's clock
 *   egress: ARMED -> SENT                                 sent_ns is the hook's now
 *   ingress: SENT or ARMED -> TAKEN -> ANSWERED           the first genuine answer
 *   user: ANSWERED -> DONE                                its result was read
 *   user: ARMED or SENT -> LOST                           the time-out passed
 *   ingress: LOST -> LATE                                 an answer after all; only counted
 * An answer that comes behind its time-out, but before user space gave the probe up, is ANSWERED too: user space sees
 * it by both times, and counts it as lost and late. So a late user space changes no result.
 * A genuine answer to TAKEN, ANSWERED, DONE or LATE is a duplicate within the time-out of its probe; later it is a
 * replay, and rejected. Rejected answers change no measurement and go on to the stack; all others end at the hook.
 *
 * What is genuine: from the session's address (and port), to the session's identifier or port, with a ring position
 * whose cookie is the one that was sent. Cookies are random numbers that only the two ends and the path have seen:
 * nothing else in an answer is believed. For STAMP with a key the answer's HMAC counts too.
 */
#ifndef NETSONDE_ABI_PROBE_H
#define NETSONDE_ABI_PROBE_H
#include "abi.h"

enum probe_protocol { PROBE_ICMP, PROBE_STAMP, PROBE_TCP, PROBE_PROTOCOL_COUNT };

/* Where a time was taken, best first. The one of a round trip is the worse of both. */
enum probe_clock {
	PROBE_CLOCK_HARDWARE,    /* by the network card; XDP metadata */
	PROBE_CLOCK_XDP,         /* in the driver */
	PROBE_CLOCK_XDP_GENERIC,
	PROBE_CLOCK_TC,          /* tc (tcx), or the filter of a packet socket, which is a few lines beside it */
	PROBE_CLOCK_KERNEL,      /* SO_TIMESTAMPING: software stamp of the kernel, read by user space */
	PROBE_CLOCK_USER,        /* user space's clock */
	PROBE_CLOCK_COUNT
};

enum probe_stage {
	PROBE_FREE, PROBE_ARMED, PROBE_SENT, PROBE_TAKEN, PROBE_ANSWERED, PROBE_DONE, PROBE_LOST, PROBE_LATE,
};
#define PROBE_STATE(sequence, stage) ((__abi_u64)(sequence) << 8 | (__abi_u64)(stage))
#define PROBE_STAGE(state) ((enum probe_stage)((state) & 0xff))
#define PROBE_SEQUENCE(state) ((__abi_u32)((state) >> 8))

struct probe_flight {
	__abi_u64 state;
	/* ICMP: the payload's first 8 bytes; STAMP: the sender's timestamp as it is in the packet (both as loaded from
	 * memory, not swapped); TCP: the initial sequence number, host order, its low 8 bits the ring position's. */
	__abi_u64 cookie;
	__abi_u64 sent_ns, received_ns;   /* CLOCK_MONOTONIC, t1 and t4 */
	/* STAMP only: */
	__abi_u64 sent_wall_ns;           /* t1 by CLOCK_TAI (bpf_ktime_get_tai_ns); 0: not known */
	/* t2, t3 as in the answer, host order: NTP 32.32, or PTP if its error estimate says Z. */
	__abi_u64 remote_received, remote_sent;
	__abi_u16 remote_error;           /* its error estimate, host order */
	__abi_u8 clock;                   /* enum probe_clock, of the answer */
	__abi_u8 flags;                   /* enum probe_flight_flags */
	__abi_u32 ifindex;                /* where the answer came in; 0: not known */
};
_Static_assert(sizeof(struct probe_flight) == 64, "a cache line");

enum probe_flight_flags {
	PROBE_SENT_BY_HOOK = 1, /* sent_ns is the egress hook's (else user space's) */
	PROBE_REFUSED = 2,      /* TCP: answered by a reset: the host is there, the port is closed */
};

struct probe_key {
	struct peer_address address; /* the far end */
	__abi_u16 port;              /* ours: ICMP identifier, UDP or TCP source port; host order */
	__abi_u16 protocol;          /* enum probe_protocol */
};
_Static_assert(sizeof(struct probe_key) == 20, "key of the session map: no padding");

/* A short cut to most sessions, beside the map of all: a bucket by probe_key_hash. Written by user space only. */
struct probe_shortcut {
	struct probe_shortcut_way {
		struct probe_key key;
		__abi_u32 index;       /* in the array of sessions; PROBE_SESSION_NONE: free */
		__abi_u32 first, mask; /* as the session has them */
	} ways[2];
};
_Static_assert(sizeof(struct probe_shortcut) == 64, "a cache line");

struct probe_session {
	/* Written by user space before its key is in the map. */
	__abi_u32 first, mask;       /* its ring: flights[first .. first + mask]; a power of two, of TCP at most 256 */
	__abi_u32 protocol;          /* enum probe_protocol */
	__abi_u32 remote_port;       /* host order; ICMP: 0 */
	__abi_u64 timeout_ns;
	__abi_u32 key;               /* 1 + index in probe_hmac_keys; 0: not authenticated */
	__abi_u32 payload;           /* ICMP: bytes behind the header; an answer with more or fewer is none. Others: 0 */
	/* Written by whoever recognises answers. */
	__abi_u64 highest;           /* 1 + largest sequence answered so far */
	__abi_u64 reordered;         /* first answers to an earlier probe than one already answered (RFC 4737: NextExp) */
	__abi_u64 duplicates, late, rejected;
};
_Static_assert(sizeof(struct probe_session) == 72, "no padding");

/* Answers that look like ours (our identifiers, our ports) and belong to no session. */
#define PROBE_SESSION_NONE 0 /* the first session is nobody's; its `rejected` counts these */

#define PROBE_PORTS_MAX 64    /* identifiers and source ports of one prober: a block from a random or free start */
#define PROBE_PATHS_MAX 32    /* of one target */
#define PROBE_ICMP_PAYLOAD_MIN 16 /* 8 of the cookie, 2 that keep a path's checksum constant, 6 to spare */
#define PROBE_RING_MAX 65536  /* ICMP's sequence number has 16 bits */

/* HMAC-SHA-256 with the key's part done (RFC 2104, section 4): the states after the padded key's blocks. */
struct probe_hmac_key {
	__abi_u32 inner[8], outer[8];
};
#define PROBE_HMAC_KEYS_MAX 64

/* netsonde_xdp_packets_total{device, action} */
enum probe_action { PROBE_PASS, PROBE_DROP, PROBE_REFLECT, PROBE_ACTION_COUNT };
#define PROBE_DEVICES_MAX 16

/* Packets that one CPU saw of one device. */
struct probe_packet_counts {
	__abi_u64 packets[PROBE_ACTION_COUNT], reserved;
};
_Static_assert(sizeof(struct probe_packet_counts) == 32, "half a cache line");

/* A device that the programs look at; ifindex 0: no such entry. */
struct probe_device_entry {
	__abi_u32 ifindex;
	__abi_u8 slot, is_ip, reflect, reserved; /* is_ip: packets begin with the IP header: tun, ppp, wireguard */
};
_Static_assert(sizeof(struct probe_device_entry) == 8, "written at once");
#define PROBE_DEVICE_BUCKETS 2048

/* Why the reflector did not answer what was addressed to it. */
enum reflect_refused {
	/* Too short, lengths that contradict each other, a wrong checksum, from a port that is not answered (a system port, a
	 * reflector's), or itself an answer. It goes on to the stack. */
	REFLECT_MALFORMED,
	REFLECT_UNAUTHENTIC,  /* HMAC wrong, or missing where one is demanded */
	REFLECT_RATE,         /* the source asks more often than it may */
	REFLECT_REFUSED_COUNT
};

/* All zero: nothing is reflected, and the verifier drops the code. */
struct reflect_settings {
	__abi_u8 on, icmp, authenticated_only, pad;
	__abi_u32 port;              /* host order; never 0 when on */
	__abi_u32 key;               /* 1 + index in probe_hmac_keys; 0: none */
	__abi_u32 pad2;
	/* Of one source: 1e9 / rate, and (burst - 1) * interval_ns. interval_ns 0: no limit. */
	__abi_u64 interval_ns, tolerance_ns;
};
_Static_assert(sizeof(struct reflect_settings) == 32, "no padding");

/* Ethernet address of a device; all zero: not known, or it has none. Then every frame that is for one host is taken as its own. */
struct reflect_mac {
	union {
		__abi_u8 bytes[8];   /* 6 of them */
		__abi_u16 halves[4];
		__abi_u32 words[2];
	};
};
_Static_assert(sizeof(struct reflect_mac) == 8, "no padding");

/* Whose an address of this host is. */
struct reflect_address {
	__abi_u32 ifindex; /* REFLECT_EVERYWHERE: the loopback's or several interfaces', so it is answered by each that reflects */
	__abi_u32 round;   /* user space's: when it was last seen */
};
_Static_assert(sizeof(struct reflect_address) == 8, "no padding");
#define REFLECT_EVERYWHERE 0

/* The reflector's wall clock. Written by user space once per tick. */
struct reflect_clock {
	__abi_u64 tai_offset_ns;     /* TAI - UTC */
	__abi_u16 error_estimate;    /* host order, as STAMP has it; 0: not known yet */
	__abi_u16 pad[3];
};
_Static_assert(sizeof(struct reflect_clock) == 16, "no padding");

#endif
