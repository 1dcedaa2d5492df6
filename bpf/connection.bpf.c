// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * The live TCP connections of all network namespaces, by an iterator over the open
 * files of all tasks: nothing runs while nobody asks, nothing needs to be tracked,
 * and the process is known, for whoever holds the descriptor has the socket.
 * What no process holds (TIME_WAIT, an orphan in FIN_WAIT1) is not in it.
 *
 * Output is abi_connection.h. When the kernel's buffer is full it takes back what we
 * wrote for the file at hand and calls again for the same file, so nothing may be
 * remembered of a call whose write failed.
 *
 * Sockets are read without their lock: a pair of fields may be of two instants.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "abi_connection.h"
#include "tcp_record.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum { SOCK_STREAM = 1, IPPROTO_MPTCP = 262 };

/* An MPTCP connection has at most this many subflows (MPTCP_SUBFLOWS_MAX and the first one). */
#define SUBFLOWS_MAX 9

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

struct mptcp_sock {
	struct list_head conn_list;
};

struct mptcp_subflow_context {
	struct list_head node;
	struct sock *tcp_sock;
};

#pragma clang attribute pop

struct connection_wanted wanted; /* written by the agent */
__u32 last_tgid; /* whose record was written last; cleared by the agent before each run */

struct connection_process process;
struct connection_record record;

/* What a pointer is worth to the verifier: one that it knows is read directly, one that came out of raw memory by a
 * probe. */
#define GET(direct, from, field) ((direct) ? (from)->field : BPF_CORE_READ(from, field))

static __always_inline struct kernfs_node *parent_of(struct kernfs_node *node)
{
	struct kernfs_node___rcu *newer = (void *)node;

	if (bpf_core_field_exists(newer->__parent))
		return newer->__parent;
	return node->parent;
}

static __always_inline int write_process(struct seq_file *seq, struct task_struct *task)
{
	struct kernfs_node *node = task->cgroups->dfl_cgrp->kn, *parent;

	process.type = CONNECTION_PROCESS;
	process.tgid = task->tgid;
	__builtin_memcpy(process.comm, task->comm, sizeof(process.comm));
	for (int i = 0; i < CONNECTION_CGROUP_LEVELS; i++) {
		process.cgroup[i][0] = '\0';
		parent = node ? parent_of(node) : NULL;
		if (parent)
			bpf_probe_read_kernel_str(process.cgroup[i], sizeof(process.cgroup[i]), node->name);
		node = parent;
	}
	return bpf_seq_write(seq, &process, sizeof(process));
}

static __always_inline __u32 netns_of(const struct sock *sk, bool direct)
{
	return direct ? sk->__sk_common.skc_net.net->ns.inum : BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline int write_listener(struct seq_file *seq, __u32 netns, __u32 port)
{
	struct connection_listener listener = { .type = CONNECTION_LISTENER, .netns = netns, .port = port };

	return bpf_seq_write(seq, &listener, sizeof(listener));
}

static __always_inline void mapped(struct peer_address *address, __be32 v4)
{
	address->words[0] = address->words[1] = 0;
	address->words[2] = bpf_htonl(0xffff);
	address->words[3] = v4;
}

/* A field at a time: a probe of the whole struct could not be told from a direct copy. */
static __always_inline void take_addresses(const struct sock *sk, bool direct)
{
	if (GET(direct, sk, __sk_common.skc_family) == AF_INET) {
		mapped(&record.local, GET(direct, sk, __sk_common.skc_rcv_saddr));
		mapped(&record.remote, GET(direct, sk, __sk_common.skc_daddr));
	} else {
		for (int i = 0; i < 4; i++) {
			record.local.words[i] = GET(direct, sk, __sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32[i]);
			record.remote.words[i] = GET(direct, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32[i]);
		}
	}
	record.local_port = GET(direct, sk, __sk_common.skc_num);
	record.remote_port = bpf_ntohs(GET(direct, sk, __sk_common.skc_dport));
}

static __always_inline bool remote_wanted(void)
{
	__u32 differ = 0;

	for (int i = 0; i < 4; i++)
		differ |= (record.remote.words[i] & wanted.mask.words[i]) ^ wanted.remote.words[i];
	return !differ;
}

/* tcp_info's meaning (tcp_get_info_chrono_stats). */
static __always_inline void take_limits(struct tcp_sock *tp, bool direct)
{
	__u32 type = direct ? BPF_CORE_READ_BITFIELD(tp, chrono_type) : BPF_CORE_READ_BITFIELD_PROBED(tp, chrono_type);
	__u32 running = record.looked - GET(direct, tp, chrono_start);
	__u32 busy = GET(direct, tp, chrono_stat[TCP_CHRONO_BUSY - 1]);
	__u32 window = GET(direct, tp, chrono_stat[TCP_CHRONO_RWND_LIMITED - 1]);
	__u32 buffer = GET(direct, tp, chrono_stat[TCP_CHRONO_SNDBUF_LIMITED - 1]);

	if ((__s32)running > 0) {
		busy += type == TCP_CHRONO_BUSY ? running : 0;
		window += type == TCP_CHRONO_RWND_LIMITED ? running : 0;
		buffer += type == TCP_CHRONO_SNDBUF_LIMITED ? running : 0;
	}
	record.busy = busy + window + buffer;
	record.receive_window_limited = window;
	record.send_buffer_limited = buffer;
}

/*
 * Who spoke last? A jiffy is long beside a round trip, so when both spoke in the same one: snd_wl1 is where the peer
 * stood in its own stream when it last acknowledged. Is that its end, then it has acknowledged what we sent and said
 * nothing since; had it answered, the answer would have come with or after it.
 */
static __always_inline bool far_turn(struct tcp_sock *tp, __u32 received, bool direct)
{
	if (record.since_sent != record.since_received)
		return record.since_sent < record.since_received;
	return GET(direct, tp, snd_wl1) == received;
}

static __always_inline void take_sequences(struct tcp_sock *tp, int state, bool direct)
{
	/* A FIN is no payload. */
	__u32 fin = state == TCP_CLOSE_WAIT || state == TCP_CLOSING || state == TCP_LAST_ACK;
	__u32 copied = GET(direct, tp, copied_seq), received = GET(direct, tp, rcv_nxt);
	__u32 acked = GET(direct, tp, snd_una), next = GET(direct, tp, snd_nxt), end = GET(direct, tp, write_seq);
	__u64 bytes = GET(direct, tp, bytes_received), again = GET(direct, tp, bytes_retrans);

	record.received_bytes = bytes ? bytes - fin : 0;
	bytes = GET(direct, tp, bytes_sent);
	record.sent_bytes = bytes > again ? bytes - again : 0;
	record.not_sent = (__s32)(end - next) > 0 ? end - next : 0;
	record.unacked_bytes = (__s32)(next - acked) > 0 ? next - acked : 0;
	record.receive_queue = (__s32)(received - copied) > (__s32)fin ? received - copied - fin : 0;
	if (state != TCP_SYN_SENT && far_turn(tp, received, direct))
		record.flags |= CONNECTION_FAR_TURN;
}

static __always_inline void take_times(struct tcp_sock *tp, bool direct)
{
	__u32 min = GET(direct, tp, rtt_min.s[0].v);
	__s32 sent, received;

	record.looked = bpf_jiffies64();
	sent = record.looked - GET(direct, tp, lsndtime);
	received = record.looked - GET(direct, tp, inet_conn.icsk_ack.lrcvtime);
	record.since_sent = sent < 0 ? 0 : sent;
	record.since_received = received < 0 ? 0 : received;
	record.rtt_us = GET(direct, tp, srtt_us) >> 3;
	record.jitter_us = GET(direct, tp, mdev_us) >> 2;
	record.min_rtt_us = record.rtt_us && min != ~0U ? min : 0;
	record.receive_rtt_us = GET(direct, tp, rcv_rtt_est.rtt_us) >> 3;
}

static __always_inline void take_counters(struct tcp_sock *tp, bool direct)
{
	__u32 limited =
	    direct ? BPF_CORE_READ_BITFIELD(tp, is_cwnd_limited) : BPF_CORE_READ_BITFIELD_PROBED(tp, is_cwnd_limited);

	record.flags |= limited ? CONNECTION_CWND_LIMITED : 0;
	record.sent_segments = GET(direct, tp, segs_out);
	record.received_segments = GET(direct, tp, segs_in);
	record.sent_data_segments = GET(direct, tp, data_segs_out);
	record.received_data_segments = GET(direct, tp, data_segs_in);
	record.retransmits = GET(direct, tp, total_retrans);
	record.reordered = GET(direct, tp, rcv_ooopack);
	record.lost = GET(direct, tp, lost_out);
	record.congestion_window = GET(direct, tp, snd_cwnd);
	record.slow_start_threshold = GET(direct, tp, snd_ssthresh);
	record.mss = GET(direct, tp, mss_cache);
	record.unacked = GET(direct, tp, packets_out);
	record.send_window = GET(direct, tp, snd_wnd);
	record.send_window_max = GET(direct, tp, max_window);
	record.receive_window = GET(direct, tp, rcv_wnd);
	record.delivered = GET(direct, tp, rate_delivered);
	record.delivered_us = GET(direct, tp, rate_interval_us);
}

/* Only from what the collector of TCP remembers; alone, as in `netsonde top`, the map is empty. */
static __always_inline __u64 age_of(struct sock *sk)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);

	return st && st->phase == PHASE_OPEN && st->since_ns ? bpf_ktime_get_ns() - st->since_ns : 0;
}

/* The process's record first, when it is its first socket. */
static __always_inline int write_socket(struct seq_file *seq, struct task_struct *task, struct sock *sk,
					struct tcp_sock *tp, __u64 cookie, __u16 flags, bool direct)
{
	__u32 tgid = task->tgid;
	int state = GET(direct, sk, __sk_common.skc_state);

	if (state == TCP_CLOSE)
		return 0;
	if (state == TCP_LISTEN)
		return write_listener(seq, netns_of(sk, direct), GET(direct, sk, __sk_common.skc_num));
	if ((wanted.tgid && tgid != wanted.tgid) || (wanted.cookie && cookie != wanted.cookie) ||
	    (wanted.netns && netns_of(sk, direct) != wanted.netns))
		return 0;
	take_addresses(sk, direct);
	if (!remote_wanted())
		return 0;
	record.type = CONNECTION_SOCKET;
	record.tgid = tgid;
	record.cookie = cookie;
	record.age_ns = direct ? age_of(sk) : 0;
	record.netns = netns_of(sk, direct);
	record.state = state;
	record.flags = flags;
	take_times(tp, direct);
	take_limits(tp, direct);
	take_sequences(tp, state, direct);
	take_counters(tp, direct);
	if (!record.not_sent && record.unacked < record.congestion_window &&
	    GET(direct, sk, sk_wmem_queued) >= GET(direct, sk, sk_sndbuf))
		record.flags |= CONNECTION_BUFFER_FULL;
	if (last_tgid != tgid && write_process(seq, task))
		return -1;
	if (bpf_seq_write(seq, &record, sizeof(record)))
		return -1;
	last_tgid = tgid;
	return 0;
}

/* A subflow's own cookie may not have been made yet, and only its owner could make it; so one from what it has. */
static __always_inline __u64 subflow_id(const struct sock *ssk, __u64 cookie)
{
	__u64 id = cookie * 0x9e3779b97f4a7c15ULL;

	id ^= (__u64)BPF_CORE_READ(ssk, __sk_common.skc_num) << 32 | BPF_CORE_READ(ssk, __sk_common.skc_dport);
	id *= 0xff51afd7ed558ccdULL;
	id ^= (__u64)BPF_CORE_READ(ssk, __sk_common.skc_rcv_saddr) << 32 | BPF_CORE_READ(ssk, __sk_common.skc_daddr);
	return id * 0xc4ceb9fe1a85ec53ULL | 1ULL << 63;
}

/* The application's descriptor is of the MPTCP socket; the TCP sockets under it have none. */
static __always_inline void write_subflows(struct seq_file *seq, struct task_struct *task, struct sock *sk)
{
	__u64 cookie = bpf_get_socket_cookie(sk);
	struct list_head *head, *at;
	__u32 last = last_tgid;

	if (!bpf_core_type_exists(struct mptcp_sock) || !bpf_core_type_exists(struct mptcp_subflow_context))
		return;
	head = &((struct mptcp_sock *)sk)->conn_list;
	bpf_probe_read_kernel(&at, sizeof(at), &head->next);
	for (int i = 0; i < SUBFLOWS_MAX && at && at != head; i++) {
		struct mptcp_subflow_context *subflow =
			(void *)at - bpf_core_field_offset(struct mptcp_subflow_context, node);
		struct sock *ssk = BPF_CORE_READ(subflow, tcp_sock);
		__u32 family = BPF_CORE_READ(ssk, __sk_common.skc_family);

		/* The list may have changed under us: memory that is no TCP socket any more. */
		if ((family == AF_INET || family == AF_INET6) && BPF_CORE_READ(ssk, sk_protocol) == IPPROTO_TCP &&
		    write_socket(seq, task, ssk, (struct tcp_sock *)ssk, subflow_id(ssk, cookie), CONNECTION_MPTCP,
				 false)) {
			last_tgid = last; /* what the earlier ones wrote is taken back too */
			return;
		}
		bpf_probe_read_kernel(&at, sizeof(at), &at->next);
	}
}

SEC("iter/task_file")
int connection_list(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct tcp_sock *tp;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk || sk->sk_type != SOCK_STREAM)
		return 0;
	if (sk->sk_protocol == IPPROTO_MPTCP) {
		write_subflows(ctx->meta->seq, task, sk);
		return 0;
	}
	tp = bpf_skc_to_tcp_sock(sk);
	if (tp && sk->sk_protocol == IPPROTO_TCP)
		write_socket(ctx->meta->seq, task, sk, tp, bpf_get_socket_cookie(sk), 0, true);
	return 0;
}
