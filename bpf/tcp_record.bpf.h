/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What we remember of a TCP socket, in storage that hangs on the socket and goes
 * away with it. Made and kept by tcp.bpf.c; other programs share the map and read.
 */
#ifndef NETSONDE_TCP_RECORD_BPF_H
#define NETSONDE_TCP_RECORD_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi.h"

enum phase { PHASE_CONNECTING, PHASE_OPEN, PHASE_CLOSED };

/* Name and PID are of one instant, so a PID that is used again later does not mislead. */
struct owner {
	__u32 pid; /* thread group; 0: unknown */
	char comm[16];
};

/* First, in one cache line, what the sweep needs of an idle socket. */
struct sock_state {
	__u8 role;
	__u8 phase;            /* written last: who sees a phase sees the rest */
	__u8 settled;          /* the last full look found nothing new and held nothing back */
	__u8 every_ack;        /* rtt.bpf.c takes its RTT at each acknowledgement, so a look does not */
	__u32 slot;
	__u32 resolved;        /* resolve_generation of slot */
	__u32 min_rtt_us;      /* at the last full look; 0: none */
	__u32 sent_segments, received_segments;
	__u64 since_ns;        /* CONNECTING: SYN sent; OPEN: established; 0 when we did not see it */
	__u64 sent_bytes, received_bytes;
	__u32 limited_jiffies[LIMIT_COUNT];
	__u32 delivered;       /* tp->delivered at the last RTT sample */
	__u32 isn;             /* OPEN: snd_una when bytes_acked was 0 */
	__u32 looked;          /* low half of the generation of the last look by tcp_sweep_files */
	struct owner owner;    /* who connected; pid 0: accepted, or older than the agent */
	__u32 burst_jiffies;   /* when the running second of retransmissions began, and how many it has */
	__u32 burst_segments;
	__u32 reserved;
};
_Static_assert(sizeof(struct sock_state) == 104, "104 bytes a socket: with the kernel's 72 still a slab of 192");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_state);
} sockets SEC(".maps");

#endif
