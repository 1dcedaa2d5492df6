/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What we remember of a TCP socket, and how its totals get into the counters.
 *
 * The record holds how much of each total is already counted. Sweep and close may
 * look at one socket at the same time from two CPUs; each moves the counted value
 * forward by compare-and-swap and adds the difference it won: nothing is counted
 * twice, nothing is missed. The sweep reads without the socket's lock, so the
 * reads are ordered such that a torn pair gives too little, never too much; the
 * next look catches up.
 *
 * Payload sent is snd_nxt - isn, widened to 64 bits by bytes_acked, less our SYN
 * and FIN. The kernel's own bytes_sent counts a segment again that a local queue
 * refused. Payload received is bytes_received less the peer's FIN.
 */
#ifndef NETSONDE_TCP_SOCKET_BPF_H
#define NETSONDE_TCP_SOCKET_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "tcp_record.bpf.h"
#include "tcp_row.bpf.h"

__u32 sockets_max = 262144; /* written by the agent */
__u32 watched_count;        /* addresses in `watched`; written by the agent */
__s64 sockets_tracked;      /* records: counted by the last complete sweep, plus those made and less those closed since */

/* Whoever the agent has probes for: when a connection last had a new RTT of the way there. The agent puts its own map in
 * place (peers_share); only it adds and removes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct peer_address);
	__type(value, __u64); /* bpf_ktime_get_ns; 0: not yet */
} watched SEC(".maps");

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

/* Global functions, so that the verifier looks into each once (see observe_ns). */
__noinline __u64 move_u64(__u64 *counted, __u64 now)
{
	if (!counted)
		return 0;
	/* At most one other party (sweep against close) can win in between, once. */
	for (int i = 0; i < 3; i++) {
		__u64 old = READ_ONCE(*counted);

		if ((__s64)(now - old) <= 0)
			return 0;
		if (__sync_val_compare_and_swap(counted, old, now) == old)
			return now - old;
	}
	return 0;
}

__noinline __u32 move_u32(__u32 *counted, __u32 now)
{
	if (!counted)
		return 0;
	for (int i = 0; i < 3; i++) {
		__u32 old = READ_ONCE(*counted);

		if ((__s32)(now - old) <= 0)
			return 0;
		if (__sync_val_compare_and_swap(counted, old, now) == old)
			return now - old;
	}
	return 0;
}

/* Payload sent. acked only says which multiple of 4 GiB next is in. state: read after next, so that a FIN in next is known. */
static __always_inline __u64 payload_sent(struct tcp_sock *tp, __u32 role, __u32 isn, __u64 acked, __u32 next, int state)
{
	__u64 bytes = acked + (__s64)(__s32)(next - isn - (__u32)acked);
	bool fin_queued = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
			  state == TCP_LAST_ACK || state == TCP_TIME_WAIT;

	if (role == ROLE_CLIENT)
		bytes--; /* the SYN; a server's child starts behind its own */
	if (fin_queued && next == READ_ONCE(tp->write_seq))
		bytes--;
	return (__s64)bytes < 0 ? 0 : bytes;
}

static __always_inline bool fin_received(struct sock *sk)
{
	return READ_ONCE(sk->__sk_common.skc_flags) & (1UL << SOCK_DONE);
}

/* Somebody works on the socket. Where spin locks are of another kind (PREEMPT_RT) we cannot tell, so always. */
static __always_inline bool sock_busy(struct sock *sk)
{
	if (!bpf_core_field_exists(sk->sk_lock.slock.rlock.raw_lock.locked))
		return true;
	return READ_ONCE(sk->sk_lock.owned) || READ_ONCE(sk->sk_lock.slock.rlock.raw_lock.locked);
}

/* tcp_info's meaning (tcp_get_info_chrono_stats): busy contains the other two. */
static __always_inline void limits_of(struct tcp_sock *tp, __u32 limits[LIMIT_COUNT])
{
	__u32 type = BPF_CORE_READ_BITFIELD(tp, chrono_type);
	__u32 running = (__u32)bpf_jiffies64() - tp->chrono_start;
	__u32 busy = tp->chrono_stat[TCP_CHRONO_BUSY - 1];
	__u32 window = tp->chrono_stat[TCP_CHRONO_RWND_LIMITED - 1];
	__u32 buffer = tp->chrono_stat[TCP_CHRONO_SNDBUF_LIMITED - 1];

	if ((__s32)running > 0) {
		busy += type == TCP_CHRONO_BUSY ? running : 0;
		window += type == TCP_CHRONO_RWND_LIMITED ? running : 0;
		buffer += type == TCP_CHRONO_SNDBUF_LIMITED ? running : 0;
	}
	limits[LIMIT_BUSY] = busy + window + buffer;
	limits[LIMIT_RECEIVE_WINDOW] = window;
	limits[LIMIT_SEND_BUFFER] = buffer;
}

static __always_inline void resolve(const struct sock *sk, struct sock_state *st, struct peer_address *address)
{
	/* Before the look-up: a change during it must lead to another one. */
	__u32 now = READ_ONCE(resolve_generation);

	peer_address_of(&sk->__sk_common, address);
	if (st->resolved == now)
		return;
	st->slot = slot_of(address, st->role);
	st->resolved = now;
}

/* The kernel's totals of a socket at one look. */
struct totals {
	__u64 sent_bytes, received_bytes; /* payload */
	__u32 sent_segments, received_segments, delivered, srtt_us, mdev_us;
	__u32 limits[LIMIT_COUNT];
	int state;
	bool busy;
};

/* closing: the state before the close; 0 in a sweep. */
static __always_inline void read_totals(struct sock *sk, struct tcp_sock *tp, const struct sock_state *st, int closing,
					struct totals *t)
{
	__u64 acked = READ_ONCE(tp->bytes_acked);
	__u32 next = READ_ONCE(tp->snd_nxt);

	t->state = closing ? closing : READ_ONCE(sk->__sk_common.skc_state);
	t->sent_bytes = payload_sent(tp, st->role, st->isn, acked, next, t->state);
	/* A FIN is in bytes_received a moment before SOCK_DONE tells, both under the socket's lock. So when the lock is free
	 * after bytes_received was read, SOCK_DONE is right; when it is not, the last byte may be a FIN and waits for the next look. */
	t->received_bytes = READ_ONCE(tp->bytes_received);
	t->busy = !closing && sock_busy(sk);
	asm volatile("" ::: "memory");
	if (t->received_bytes && (t->busy || fin_received(sk)))
		t->received_bytes--;
	t->sent_segments = tp->segs_out;
	t->received_segments = tp->segs_in;
	t->delivered = tp->delivered;
	t->srtt_us = tp->srtt_us >> 3;
	t->mdev_us = tp->mdev_us >> 2;
	limits_of(tp, t->limits);
}

const volatile __u32 watched_netns; /* of the agent */

__noinline int note_watched(const struct peer_address *address)
{
	struct peer_address key; /* before Linux 6.4 a map takes no key from a function's argument */
	__u64 *when;

	if (!address)
		return 0;
	key = *address;
	when = bpf_map_lookup_elem(&watched, &key);
	if (when)
		*when = bpf_ktime_get_ns();
	return 0;
}

/* Adds what the socket did since it was last looked at. Returns whether there was anything new. */
static __always_inline bool report(struct sock *sk, struct tcp_sock *tp, struct sock_state *st, struct peer_row *row,
				   const struct peer_address *address, int closing)
{
	__u32 segments_sent, segments_received;
	__u64 sent, received;
	struct totals t;

	read_totals(sk, tp, st, closing, &t);
	asm volatile("" ::: "memory");
	/* The kernel may give a closed socket's memory to a new connection at once, while a sweep looks at it. As long as the
	 * record was not closed, what was read is of its own connection. */
	if (!closing && (t.state == TCP_CLOSE || READ_ONCE(st->phase) != PHASE_OPEN))
		return true;
	sent = move_u64(&st->sent_bytes, t.sent_bytes);
	received = move_u64(&st->received_bytes, t.received_bytes);
	segments_sent = move_u32(&st->sent_segments, t.sent_segments);
	segments_received = move_u32(&st->received_segments, t.received_segments);
	add(&row->sent_bytes, sent);
	add(&row->received_bytes, received);
	add(&row->sent_segments, segments_sent);
	add(&row->received_segments, segments_received);
	for (int i = 0; i < LIMIT_COUNT; i++)
		add(&row->limited_jiffies[i], move_u32(&st->limited_jiffies[i], t.limits[i]));
	/* A new RTT is there when something was delivered; an idle connection's old one says nothing about now. */
	if (t.srtt_us && move_u32(&st->delivered, t.delivered)) {
		if (!st->every_ack)
			observe_ns(st->slot, TCP_HIST_RTT, (__u64)t.srtt_us * 1000);
		observe_ns(st->slot, TCP_HIST_JITTER, (__u64)t.mdev_us * 1000);
		/* Another namespace may have another way there. */
		if (watched_count && sk->__sk_common.skc_net.net->ns.inum == watched_netns)
			note_watched(address);
	}
	if (st->slot < ROLE_COUNT && sent + received)
		weigh(address, sent + received);
	return t.busy || sent || received || segments_sent || segments_received;
}

static __always_inline __u32 min_rtt_us_of(struct tcp_sock *tp)
{
	__u32 min = tp->rtt_min.s[0].v;

	return tp->srtt_us && min != ~0U ? min : 0;
}

static __always_inline __u32 isn_of(struct tcp_sock *tp)
{
	return tp->snd_una - (__u32)tp->bytes_acked;
}

/* The record of a socket, new or used again, with what `initial` says; it is never seen half-made. NULL when there is no
 * room, which the caller counts. */
static __always_inline struct sock_state *track(struct sock *sk, struct sock_state *initial)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);

	if (!st) {
		if (sockets_tracked >= (__s64)sockets_max)
			return NULL;
		st = bpf_sk_storage_get(&sockets, sk, initial, BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (st)
			__sync_fetch_and_add(&sockets_tracked, 1);
		return st;
	}
	if (st->phase == PHASE_CLOSED)
		__sync_fetch_and_add(&sockets_tracked, 1);
	/* The sweep looks at no record that is CLOSED. */
	st->phase = PHASE_CLOSED;
	asm volatile("" ::: "memory");
	st->role = initial->role;
	st->settled = 0;
	st->resolved = 0;
	st->min_rtt_us = 0;
	st->sent_segments = initial->sent_segments;
	st->received_segments = initial->received_segments;
	st->since_ns = initial->since_ns;
	st->sent_bytes = initial->sent_bytes;
	st->received_bytes = initial->received_bytes;
	__builtin_memcpy(st->limited_jiffies, initial->limited_jiffies, sizeof(st->limited_jiffies));
	st->delivered = initial->delivered;
	st->isn = initial->isn;
	st->every_ack = 0;
	st->owner = initial->owner;
	st->burst_segments = 0;
	asm volatile("" ::: "memory");
	st->phase = initial->phase;
	return st;
}

#endif
