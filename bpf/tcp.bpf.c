// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * TCP without per-packet work.
 *
 * - tcp_state, at each state change: when a handshake starts, completes or fails,
 *   and when a connection ends; the final totals are taken there.
 * - tcp_state_again: the kernel does not run a tracing program that is already
 *   running on the CPU, so a state change in a packet that interrupts tcp_state is
 *   not seen by it. This twin comes right behind it and finds, by the phase of
 *   the record, what it missed. Both cannot be interrupted at once. It is idle
 *   until the agent sees the kernel count such misses.
 * - tcp_sweep, once per tick over the records of the tracked sockets of all network
 *   namespaces: bytes, segments, RTT, limits since the last look.
 * - tcp_sweep_files: the same by another iterator, where the first is not safe.
 * - tcp_seed, once at start: a record for the sockets that are older than us, with
 *   their totals so far as the base line.
 * - retransmissions and resets at their tracepoints.
 *
 * How totals become counters: tcp_socket.bpf.h. Who is counted where: peer.bpf.h.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "scope.bpf.h"
#include "tcp_event.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Since Linux 6.17 the tracepoint also tells attempts that failed, and says so in a third argument. */
const volatile bool retransmit_tells_error;

/* Seeding only: which local ports listen, to tell accepted sockets from connected ones. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct port);
	__type(value, __u8);
} listeners SEC(".maps");

/* First SYN-ACK of a request whose SYN-ACK was retransmitted: the child socket does not know it.
 * An LRU, since most such requests never complete; a missing entry is counted (LOST_HANDSHAKE). */
struct request_key {
	struct peer_address address;
	__u32 netns;
	__be16 remote_port;
	__u16 local_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct request_key);
	__type(value, __u64); /* ns */
} retried_requests SEC(".maps");

__u32 seed_pass;            /* 0: collect listeners, 1: make records */
__u32 look_again;           /* written by the agent: tcp_state_again works */
__u64 recovered;            /* events that only tcp_state_again saw */
__u64 swept, swept_open;    /* by the running sweep */

static __always_inline enum tcp_outcome outcome_of(int error)
{
	switch (error) {
	case ECONNREFUSED: return OUTCOME_REFUSED;
	case ECONNRESET:
	case EPIPE: return OUTCOME_RESET; /* the kernel says EPIPE for a reset in CLOSE_WAIT */
	case ETIMEDOUT: return OUTCOME_TIMED_OUT;
	case EHOSTUNREACH: return OUTCOME_HOST_UNREACHABLE;
	case ENETUNREACH: return OUTCOME_NET_UNREACHABLE;
	default: return OUTCOME_OTHER;
	}
}

static __always_inline void request_key_of(const struct sock_common *c, struct request_key *key)
{
	peer_address_of(c, &key->address);
	key->netns = c->skc_net.net->ns.inum;
	key->remote_port = c->skc_dport;
	key->local_port = c->skc_num;
}

/* SYN-ACK sent to ACK received; 0 when the kernel does not know. */
static __always_inline __u64 server_handshake_ns(const struct sock *sk, struct tcp_sock *tp, __u64 now)
{
	struct request_key key;
	__u64 *first;

	if (!tp->total_retrans)
		return (__u64)(tp->srtt_us >> 3) * 1000;
	request_key_of(&sk->__sk_common, &key);
	first = bpf_map_lookup_elem(&retried_requests, &key);
	return first && now > *first ? now - *first : 0;
}

static __always_inline void count_outcome(__u32 slot, const struct peer_address *address, enum tcp_outcome outcome)
{
	struct peer_row *row = row_of(slot);

	if (row)
		add(&row->outcomes[outcome], 1);
	if (slot < ROLE_COUNT)
		weigh(address, CANDIDATE_CONNECTION_WEIGHT);
}

static __always_inline void on_syn_sent(struct sock *sk, struct tcp_sock *tp, bool again)
{
	struct sock_state initial = { .role = ROLE_CLIENT, .phase = PHASE_CONNECTING };
	struct sock_state *st;

	if (again) {
		st = bpf_sk_storage_get(&sockets, sk, 0, 0);
		if (st && st->phase == PHASE_CONNECTING)
			return;
		recovered++;
	}
	/* Not always zero: the socket may have tried before. */
	initial.sent_segments = tp->segs_out;
	initial.received_segments = tp->segs_in;
	initial.since_ns = bpf_ktime_get_ns();
	note_owner(&initial.owner);
	if (!track(sk, &initial) && !again)
		lose(LOST_SOCKET);
}

static __always_inline void on_established(struct sock *sk, struct tcp_sock *tp, int old_state, bool again)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	__u64 now = bpf_ktime_get_ns(), handshake_ns;
	/* A record that is connecting in SYN_RECV is a simultaneous open. */
	bool client = old_state == TCP_SYN_SENT || (st && st->phase == PHASE_CONNECTING);
	struct peer_address address;
	__u32 slot;

	if (again) {
		if (st && st->phase == PHASE_OPEN)
			return;
		recovered++;
	}
	if (st && st->phase == PHASE_CONNECTING) {
		handshake_ns = st->since_ns ? now - st->since_ns : 0;
		st->since_ns = now;
		st->isn = isn_of(tp);
		asm volatile("" ::: "memory");
		st->phase = PHASE_OPEN;
	} else {
		struct sock_state initial = { .role = client ? ROLE_CLIENT : ROLE_SERVER, .phase = PHASE_OPEN };

		initial.since_ns = now;
		initial.isn = isn_of(tp);
		st = track(sk, &initial);
		/* Over the limit tcp_state has counted it already, without a record. Under the limit there is none when the
		 * interrupted program was just taking memory for one. */
		if (!st && again && sockets_tracked >= (__s64)sockets_max)
			return;
		if (!st && !client)
			lose(LOST_SOCKET); /* a client was lost at its SYN */
		handshake_ns = client ? 0 : server_handshake_ns(sk, tp, now);
	}
	if (st) {
		resolve(sk, st, &address);
		slot = st->slot;
	} else {
		peer_address_of(&sk->__sk_common, &address);
		slot = slot_of(&address, client ? ROLE_CLIENT : ROLE_SERVER);
	}
	count_outcome(slot, &address, OUTCOME_ESTABLISHED);
	if (handshake_ns)
		observe_ns(slot, TCP_HIST_HANDSHAKE, handshake_ns);
	else
		lose(LOST_HANDSHAKE);
}

static __always_inline void on_failed_handshake(struct sock *sk, struct sock_state *st, struct tcp_sock *tp)
{
	struct peer_address address;
	struct peer_row *row;

	resolve(sk, st, &address);
	row = row_of(st->slot);
	if (row) {
		add(&row->sent_segments, move_u32(&st->sent_segments, tp->segs_out));
		add(&row->received_segments, move_u32(&st->received_segments, tp->segs_in));
	}
	count_outcome(st->slot, &address, outcome_of(sk->sk_err));
	if (st->role == ROLE_CLIENT)
		tell(EVENT_CONNECT_FAILED, sk, st, sk->sk_err, 1);
}

static __always_inline void on_end(struct sock *sk, struct sock_state *st, struct tcp_sock *tp, int old_state)
{
	enum tcp_outcome end = outcome_of(sk->sk_err);
	struct peer_address address;
	struct peer_row *row;
	__u32 min;

	resolve(sk, st, &address);
	row = row_of(st->slot);
	if (!row)
		return;
	report(sk, tp, st, row, &address, old_state);
	if (end != OUTCOME_OTHER && end != OUTCOME_REFUSED)
		add(&row->outcomes[end], 1);
	if (st->since_ns)
		observe_ns(st->slot, TCP_HIST_DURATION, bpf_ktime_get_ns() - st->since_ns);
	min = min_rtt_us_of(tp);
	if (min) {
		__u64 *best = &row->min_rtt_us[~sweep_parity & 1];

		if (!*best || min < *best)
			*best = min;
	}
}

static __always_inline void on_close(struct sock *sk, struct tcp_sock *tp, int old_state, bool again)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	bool handshake = old_state == TCP_SYN_SENT || old_state == TCP_SYN_RECV;
	struct peer_address address;

	if (!st) {
		if (old_state == TCP_SYN_SENT && !again) { /* there was no room for its record */
			peer_address_of(&sk->__sk_common, &address);
			count_outcome(slot_of(&address, ROLE_CLIENT), &address, outcome_of(sk->sk_err));
		}
		return;
	}
	if (st->phase == PHASE_CLOSED)
		return;
	if (again)
		recovered++;
	if (handshake) {
		on_failed_handshake(sk, st, tp);
	} else {
		if (st->phase == PHASE_CONNECTING) { /* its ESTABLISHED was missed */
			st->since_ns = 0;
			st->isn = isn_of(tp);
			resolve(sk, st, &address);
			count_outcome(st->slot, &address, OUTCOME_ESTABLISHED);
			lose(LOST_HANDSHAKE);
		}
		on_end(sk, st, tp, old_state);
	}
	st->phase = PHASE_CLOSED;
	__sync_fetch_and_add(&sockets_tracked, -1); /* its memory goes with the socket, which is mostly now */
}

static __always_inline void on_state(struct sock *sk, int old_state, int new_state, bool again)
{
	struct tcp_sock *tp;

	if (!in_scope(&sk->__sk_common))
		return;
	if (new_state != TCP_SYN_SENT && new_state != TCP_ESTABLISHED && new_state != TCP_CLOSE) {
		if (new_state == TCP_LISTEN && !again && sk->sk_protocol == IPPROTO_TCP)
			note_listener(sk);
		return;
	}
	if (old_state == TCP_LISTEN || sk->sk_protocol != IPPROTO_TCP)
		return;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return;
	if (new_state == TCP_SYN_SENT)
		on_syn_sent(sk, tp, again);
	else if (new_state == TCP_ESTABLISHED)
		on_established(sk, tp, old_state, again);
	else
		on_close(sk, tp, old_state, again);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old_state, int new_state)
{
	on_state(sk, old_state, new_state, false);
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_again, struct sock *sk, int old_state, int new_state)
{
	if (look_again)
		on_state(sk, old_state, new_state, true);
	return 0;
}

/* Into the gauges of the running sweep. */
static __always_inline void count_open(struct peer_row *row, __u32 half, __u32 min_rtt_us)
{
	row->open[half]++;
	swept_open++;
	if (min_rtt_us && (!row->min_rtt_us[half] || min_rtt_us < row->min_rtt_us[half]))
		row->min_rtt_us[half] = min_rtt_us;
}

/* A socket with something new, or that has to find its slot again. */
static __always_inline void sweep_fully(struct sock *sk, struct tcp_sock *tp, __u32 half)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct peer_address address;
	struct peer_row *row;

	if (!st)
		return;
	resolve(sk, st, &address);
	row = bpf_map_lookup_elem(&rows, &st->slot);
	if (!row)
		return;
	row->head.sockets[half]++;
	/* Before it is established the sequence numbers are being set up, after the close all is counted. */
	if (st->phase != PHASE_OPEN || sk->__sk_common.skc_state == TCP_CLOSE)
		return;
	touch(&row->head);
	st->min_rtt_us = min_rtt_us_of(tp);
	st->settled = !report(sk, tp, st, row, &address, 0);
	count_open(row, half, st->min_rtt_us);
}

/* Most sockets are idle, and all that is theirs is cold memory, so what counts is how many cache lines we touch. Without a
 * segment since the last full look there is nothing new. Time limited by the peer or by us goes on, but is a total, so the
 * next look has it. */
static __always_inline void sweep_socket(struct sock *sk, struct tcp_sock *tp, const struct sock_state *st)
{
	__u32 half = sweep_parity & 1, slot;
	struct peer_row *row;

	swept++;
	if (!st->settled || st->phase != PHASE_OPEN || st->resolved != resolve_generation ||
	    st->sent_segments != tp->segs_out || st->received_segments != tp->segs_in ||
	    sk->__sk_common.skc_state == TCP_CLOSE) {
		sweep_fully(sk, tp, half);
		return;
	}
	slot = st->slot;
	row = bpf_map_lookup_elem(&rows, &slot);
	if (!row)
		return;
	row->head.sockets[half]++;
	count_open(row, half, st->min_rtt_us);
}

/* The iterator's own pointer to the record saves the way from the socket to it. */
SEC("iter/bpf_sk_storage_map")
int tcp_sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	const struct sock_state *st = ctx->value;
	struct sock *sk = ctx->sk;
	struct tcp_sock *tp;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (st && tp)
		sweep_socket(sk, tp, st);
	return 0;
}

/* The same over the files of all tasks, for kernels whose storage iterator is not safe (agent/tcp_program.c). Slower, and
 * without the sockets that no file holds any more: their rest is counted at their close. */
SEC("iter/task_file")
int tcp_sweep_files(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct sock_state *st;
	struct socket *socket;
	struct tcp_sock *tp;
	struct sock *sk;

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!st || st->looked == (__u32)generation)
		return 0;
	st->looked = (__u32)generation; /* one socket may be behind many descriptors */
	sweep_socket(sk, tp, st);
	return 0;
}

/* Two passes: the first finds the listening ports, the second makes records for the other sockets. Without the socket's
 * lock: a torn base line is off by what moves at that instant. */
SEC("iter/task_file")
int tcp_seed(struct bpf_iter__task_file *ctx)
{
	struct sock_state initial = { .phase = PHASE_OPEN };
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct port key = {};
	struct owner owner = {};
	struct socket *socket;
	struct tcp_sock *tp;
	struct sock *sk;
	__u8 one = 1;
	int state;

	if (!file || !task)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || sk->sk_protocol != IPPROTO_TCP || !in_scope(&sk->__sk_common))
		return 0;
	state = sk->__sk_common.skc_state;
	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.number = sk->__sk_common.skc_num;
	owner.pid = task->tgid;
	bpf_probe_read_kernel_str(owner.comm, sizeof(owner.comm), task->comm);
	if (seed_pass == 0) {
		if (state == TCP_LISTEN) {
			bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
			bpf_map_update_elem(&port_owners, &key, &owner, BPF_NOEXIST);
		}
		return 0;
	}
	if (state == TCP_LISTEN || state == TCP_CLOSE || bpf_sk_storage_get(&sockets, sk, 0, 0))
		return 0;
	initial.role = bpf_map_lookup_elem(&listeners, &key) ? ROLE_SERVER : ROLE_CLIENT;
	initial.owner = owner;
	if (state == TCP_SYN_SENT) {
		initial.phase = PHASE_CONNECTING;
	} else {
		struct totals t;

		initial.isn = isn_of(tp);
		read_totals(sk, tp, &initial, 0, &t);
		initial.sent_bytes = t.sent_bytes;
		initial.received_bytes = t.received_bytes;
		initial.sent_segments = t.sent_segments;
		initial.received_segments = t.received_segments;
		initial.delivered = t.delivered;
		__builtin_memcpy(initial.limited_jiffies, t.limits, sizeof(t.limits));
	}
	if (!track(sk, &initial))
		lose(LOST_SOCKET);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int tcp_retransmit(unsigned long long *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	void *skb = (void *)ctx[1];
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	enum tcp_retransmit type = RETRANSMIT_OTHER;
	struct sock_state *st;
	struct peer_row *row;
	struct peer_address address;
	__u16 segments = 0;
	__u32 ca_state;
	int state;

	if (!tp || (retransmit_tells_error && (int)ctx[2]) || !in_scope(&sk->__sk_common))
		return 0;
	state = sk->__sk_common.skc_state;
	ca_state = BPF_CORE_READ_BITFIELD(&tp->inet_conn, icsk_ca_state);
	if (state == TCP_SYN_SENT)
		type = RETRANSMIT_SYN;
	else if (state == TCP_SYN_RECV)
		type = RETRANSMIT_SYNACK;
	else if (ca_state == TCP_CA_LOSS)
		type = RETRANSMIT_TIMEOUT;
	else if (ca_state == TCP_CA_RECOVERY)
		type = RETRANSMIT_FAST;
	else if (tp->inet_conn.icsk_pending == ICSK_TIME_LOSS_PROBE)
		type = RETRANSMIT_TAIL_LOSS_PROBE;

	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (st) {
		resolve(sk, st, &address);
		row = row_of(st->slot);
	} else {
		peer_address_of(&sk->__sk_common, &address);
		row = row_of(slot_of(&address, ROLE_CLIENT));
	}
	/* The kernel's own counter (RetransSegs) counts the segments of a large skb, not the call. */
	bpf_probe_read_kernel(&segments, sizeof(segments),
			      skb + bpf_core_field_offset(struct sk_buff, cb) +
				      bpf_core_field_offset(struct tcp_skb_cb, tcp_gso_segs));
	segments = segments ? segments : 1;
	if (row)
		add(&row->retransmits[type], segments);
	if (st)
		tell_burst(sk, st, segments);
	return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp_retransmit_synack, struct sock *sk, struct request_sock *req)
{
	struct tcp_request_sock *treq = bpf_skc_to_tcp_request_sock(req);
	struct request_key request;
	struct peer_row *row;
	__u64 first_ns;

	if (!in_scope(&req->__req_common))
		return 0;
	request_key_of(&req->__req_common, &request);
	row = row_of(slot_of(&request.address, ROLE_SERVER));
	if (row)
		add(&row->retransmits[RETRANSMIT_SYNACK], 1);
	if (!treq || !treq->snt_synack)
		return 0;
	first_ns = treq->snt_synack * 1000;
	bpf_map_update_elem(&retried_requests, &request, &first_ns, BPF_ANY);
	return 0;
}

/* Where there is a record its role is known; a reset without one came to, or from, something that listens. */
static __always_inline void count_reset(struct sock *sk, const struct peer_address *address, enum tcp_reset_direction direction)
{
	struct sock_state *st = sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : NULL;
	struct peer_row *row = row_of(slot_of(address, st ? st->role : ROLE_SERVER));

	if (row)
		add(&row->resets[direction], 1);
	/* A refused connect is told as such, and a reset of what nobody listens to is not worth a line. */
	if (sk && sk->__sk_common.skc_state != TCP_SYN_SENT)
		tell(EVENT_RESET, sk, st, direction, 1);
}

/* The source of the packet that we answer with a reset: there may be no socket. */
static __always_inline bool peer_address_of_packet(struct sk_buff *skb, struct peer_address *address)
{
	__u8 header[40];
	void *at = skb->head + skb->network_header;

	if (bpf_probe_read_kernel(header, 20, at))
		return false;
	if (header[0] >> 4 == 4) {
		address->words[0] = address->words[1] = 0;
		address->words[2] = bpf_htonl(0xffff);
		__builtin_memcpy(&address->words[3], header + 12, 4);
		return true;
	}
	if (header[0] >> 4 != 6 || bpf_probe_read_kernel(header, 40, at))
		return false;
	__builtin_memcpy(address, header + 8, 16);
	return true;
}

/* A packet for which there is no socket is still at its device. */
static __always_inline bool reset_in_scope(const struct sock *sk, const struct sk_buff *skb)
{
	if (!only_netns)
		return true;
	if (sk)
		return in_scope(&sk->__sk_common);
	return skb && skb->dev->nd_net.net->ns.inum == only_netns;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_send_reset, struct sock *sk, struct sk_buff *skb)
{
	struct peer_address address;
	int state = 0;

	/* sk may be NULL, which older verifiers do not know: they drop the test, and the read below then yields 0. */
	if (sk)
		state = sk->__sk_common.skc_state;
	if (!reset_in_scope(sk, skb))
		return 0;
	if (state && state != TCP_LISTEN) {
		peer_address_of(&sk->__sk_common, &address);
		count_reset(sk, &address, RESET_SENT);
	} else if (skb && peer_address_of_packet(skb, &address)) { /* a listener or a closed port has no peer: the packet has */
		count_reset(NULL, &address, RESET_SENT);
	} else {
		struct peer_row *row = row_of(SLOT_OTHER + ROLE_SERVER);

		lose(LOST_ADDRESS);
		if (row)
			add(&row->resets[RESET_SENT], 1);
	}
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, struct sock *sk)
{
	struct peer_address address;

	if (!in_scope(&sk->__sk_common))
		return 0;
	peer_address_of(&sk->__sk_common, &address);
	count_reset(sk, &address, RESET_RECEIVED);
	return 0;
}
