/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Events: what goes through the ring buffer, and its control block (bpf/event.bpf.h,
 * src/agent/events.c).
 *
 * Every attempt to write an event is counted in exactly one of sent, suppressed and
 * lost. All counters only rise, the allowance too: the agent moves limit ahead of used
 * instead of setting used back, so no event is counted between two clocks.
 */
#ifndef NETSONDE_ABI_EVENT_H
#define NETSONDE_ABI_EVENT_H
#include "abi.h"

enum event_kind {
	EVENT_CONNECT_FAILED,   /* code: errno */
	EVENT_RESET,            /* of an established connection, or of an attempt to connect; code: enum tcp_reset_direction */
	EVENT_RETRANSMIT_BURST, /* many segments of one connection within a second; count: segments */
	EVENT_DROP,             /* code: the kernel's reason; text: the kernel function */
	EVENT_LINK,             /* code: enum event_link; text: the interface's former name when renamed */
	EVENT_EXEC,             /* text: the program */
	EVENT_EXIT,             /* code: wait status */
	EVENT_KIND_COUNT
};

enum event_link { LINK_UP, LINK_DOWN, LINK_ADDED, LINK_REMOVED, LINK_RENAMED, LINK_CHANGE_COUNT };

struct event {
	__abi_u64 time_ns;    /* CLOCK_MONOTONIC */
	__abi_u64 missed;     /* suppressed and lost of this kind so far, when this one was written */
	__abi_u32 kind;
	__abi_u32 pid;        /* thread group; 0: unknown, or none */
	char comm[16];
	struct peer_address local, remote; /* zero: none */
	__abi_u16 local_port, remote_port; /* host order */
	__abi_u16 protocol;   /* IPPROTO_*, 0: none */
	__abi_u8 role;        /* enum tcp_role; for EVENT_DROP: ROLE_COUNT */
	__abi_u8 reserved;
	__abi_u32 netns;      /* inode number; 0: unknown */
	__abi_u32 ifindex;    /* 0: none */
	__abi_u32 code;       /* by kind */
	__abi_u32 count;      /* by kind; else 1 */
	char text[48];        /* by kind, ends with 0 */
};
_Static_assert(sizeof(struct event) == 144, "no padding");

/* One element of a BPF_F_MMAPABLE array. */
struct event_control {
	__abi_u64 limit[EVENT_KIND_COUNT];      /* what used may rise to; written by the agent */
	__abi_u64 used[EVENT_KIND_COUNT];       /* events that were within the limit */
	__abi_u64 sent[EVENT_KIND_COUNT];       /* into the ring, or the agent's own */
	__abi_u64 suppressed[EVENT_KIND_COUNT]; /* over the limit */
	__abi_u64 lost[EVENT_KIND_COUNT];       /* the ring was full */
};
_Static_assert(sizeof(struct event_control) == 8 * 5 * 7, "no padding");

#endif
