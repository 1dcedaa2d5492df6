/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What bpf/connection.bpf.c writes into its iterator's output: a stream of records,
 * each beginning with its type. A process's record comes before the first of its
 * sockets; a record is never torn. Times are in jiffies.
 */
#ifndef NETSONDE_ABI_CONNECTION_H
#define NETSONDE_ABI_CONNECTION_H
#include "abi.h"

enum connection_record_type { CONNECTION_PROCESS = 1, CONNECTION_LISTENER, CONNECTION_SOCKET };

/* Which connections are told; zeroes: all. Listeners are told in any case. */
struct connection_wanted {
	__abi_u64 cookie;
	__abi_u32 tgid;
	__abi_u32 netns;
	struct peer_address remote, mask; /* remote is masked already */
};
_Static_assert(sizeof(struct connection_wanted) == 48, "no padding");

#define CONNECTION_CGROUP_LEVELS 8
#define CONNECTION_CGROUP_NAME 96 /* with its NUL; longer names are cut */

struct connection_process {
	__abi_u32 type;
	__abi_u32 tgid;
	char comm[16];
	/* From the leaf up, in the cgroup v2 hierarchy, without its root; "" behind the last. */
	char cgroup[CONNECTION_CGROUP_LEVELS][CONNECTION_CGROUP_NAME];
};
_Static_assert(sizeof(struct connection_process) == 24 + 8 * 96, "no padding");

struct connection_listener {
	__abi_u32 type;
	__abi_u32 netns;
	__abi_u32 port;
	__abi_u32 reserved;
};
_Static_assert(sizeof(struct connection_listener) == 16, "no padding");

#define CONNECTION_MPTCP 1         /* a subflow */
#define CONNECTION_CWND_LIMITED 2  /* in the last round trip the congestion window was full */
#define CONNECTION_FAR_TURN 4      /* the last data was ours */
#define CONNECTION_BUFFER_FULL 8   /* the send buffer takes no more, and all that is in it has been sent */

struct connection_record {
	__abi_u32 type;
	__abi_u32 tgid;
	__abi_u64 cookie;
	__abi_u64 age_ns;                      /* since it was established; 0: unknown */
	__abi_u64 sent_bytes, received_bytes;  /* payload, without retransmissions */
	struct peer_address local, remote;
	__abi_u32 netns;
	__abi_u16 local_port, remote_port;
	__abi_u8 state, reserved;
	__abi_u16 flags;
	__abi_u32 rtt_us, jitter_us, min_rtt_us; /* 0: none */
	__abi_u32 receive_rtt_us;                /* the receiver's estimate, from the time stamps of a stream; 0: none */
	__abi_u32 sent_segments, received_segments, retransmits, reordered, lost;
	__abi_u32 sent_data_segments, received_data_segments; /* with retransmitted ones */
	__abi_u32 looked;                        /* when */
	__abi_u32 busy, receive_window_limited, send_buffer_limited; /* since it began; busy contains the others */
	__abi_u32 since_sent, since_received;
	__abi_u32 congestion_window, slow_start_threshold, mss, unacked;
	__abi_u32 send_window, send_window_max, receive_window; /* max: so far */
	__abi_u32 not_sent, unacked_bytes, receive_queue;
	__abi_u32 delivered, delivered_us;       /* segments in this time, of the kernel's last rate sample */
};
_Static_assert(sizeof(struct connection_record) == 200, "no padding");

#endif
