// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * TCP without per-packet work.
 *
 * - tcp_state, at each state change: when a handshake starts, completes or fails,
 *   and when a connection ends; the final totals are taken there.
 * - tcp_sweep, once per tick over the storage of the tracked sockets of all network
 *   namespaces: bytes, segments, RTT, limits since the last look.
 * - tcp_seed, once at start: storage for the sockets that are older than us, with
 *   their totals so far as the base line.
 * - retransmissions and resets at their tracepoints.
 *
 * Exactness: storage holds what was already reported of each total. Sweep and
 * close may look at one socket at the same time from two CPUs; each moves the
 * reported value forward by compare-and-swap and adds only the difference it won,
 * so nothing is counted twice and nothing is missed. Where a kernel field is read
 * while it changes, the order of the reads makes the sum too small, never too large;
 * the next look catches up.
 *
 * Payload bytes sent come from sequence numbers, bytes_acked + (snd_nxt - snd_una)
 * less SYN and FIN: the kernel's own bytes_sent counts a segment again that a local
 * queue refused. Payload received is bytes_received less the peer's FIN.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include "peer.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum phase { PHASE_CONNECTING, PHASE_OPEN, PHASE_CLOSED };

/* What we remember of a socket; the "reported" values are what the counters already contain. */
struct sock_state {
	__u64 started_ns;      /* SYN sent; 0 when we did not see it */
	__u64 established_ns;  /* 0 when we did not see it */
	__u64 sent_bytes, received_bytes;
	__u64 received_seen;   /* bytes_received as the last sweep read it */
	__u32 sent_segments, received_segments;
	__u32 limited_jiffies[LIMIT_COUNT];
	__u32 delivered;       /* tp->delivered at the last RTT sample */
	__u32 slot;
	__u32 resolved;        /* resolve_generation of slot */
	__u32 min_rtt_us;      /* at the last full look; 0: none */
	__u8 role;
	__u8 phase;
	__u8 settled;          /* the last full look found nothing new and held nothing back */
	__u8 reserved;
};
_Static_assert(sizeof(struct sock_state) == 80, "80 bytes a socket");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sock_state);
} sockets SEC(".maps");

/* Seeding only: which local ports listen, to tell accepted sockets from connected ones. */
struct listener {
	__u32 netns;
	__u32 port;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct listener);
	__type(value, __u8);
} listeners SEC(".maps");

/* First SYN-ACK of a request whose SYN-ACK was retransmitted: the child socket does not know it.
 * An LRU, since most such requests never complete; a missing entry is counted (LOST_HANDSHAKE). */
struct request_key {
	__u8 address[16];
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

__u32 sockets_max = 262144; /* written by the agent */
__u32 seed_pass;            /* 0: collect listeners, 1: create storage */
__u32 seeded;               /* from here on, a socket without storage is a loss */
__u64 swept, swept_open;    /* by the running sweep */
__u64 sockets_tracked;      /* by the last complete sweep; written by the agent */
__u64 sweep_jiffies, sweep_ns; /* one instant in both clocks, for the length of a jiffy */

static __always_inline __u64 move_u64(__u64 *reported, __u64 now)
{
	/* At most one other party (sweep against close) can win in between, once. */
	for (int i = 0; i < 3; i++) {
		__u64 old = *(volatile __u64 *)reported;

		if ((__s64)(now - old) <= 0)
			return 0;
		if (__sync_val_compare_and_swap(reported, old, now) == old)
			return now - old;
	}
	return 0;
}

static __always_inline __u32 move_u32(__u32 *reported, __u32 now)
{
	for (int i = 0; i < 3; i++) {
		__u32 old = *(volatile __u32 *)reported;

		if ((__s32)(now - old) <= 0)
			return 0;
		if (__sync_val_compare_and_swap(reported, old, now) == old)
			return now - old;
	}
	return 0;
}

#define READ_ONCE(x) (*(volatile typeof(x) *)&(x))

/* state: the one that says which of our FINs may be in the sequence space (at close, the state before it). */
static __always_inline __u64 payload_sent(struct tcp_sock *tp, __u32 role, int state)
{
	__u64 acked = READ_ONCE(tp->bytes_acked);
	__u32 next = READ_ONCE(tp->snd_nxt);
	__u32 first = READ_ONCE(tp->snd_una);
	__u64 bytes = acked + (__s64)(__s32)(next - first);
	bool fin_queued = state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING ||
			  state == TCP_LAST_ACK || state == TCP_TIME_WAIT;

	if (role == ROLE_CLIENT)
		bytes--; /* the SYN; a server's child starts behind its own */
	if (fin_queued && next == READ_ONCE(tp->write_seq))
		bytes--;
	return (__s64)bytes < 0 ? 0 : bytes;
}

static __always_inline __u64 payload_received(const struct sock *sk, __u64 bytes)
{
	if ((READ_ONCE(((struct sock *)sk)->__sk_common.skc_flags) & (1UL << SOCK_DONE)) && bytes)
		bytes--;
	return bytes;
}

/* A FIN is in bytes_received a moment before SOCK_DONE tells. So the last byte of what has moved since the sweep before
 * is held back: until the next sweep, or the close. */
static __always_inline __u64 payload_received_for_sure(const struct sock *sk, struct tcp_sock *tp, struct sock_state *st,
						       bool *moved)
{
	__u64 bytes = READ_ONCE(tp->bytes_received);
	__u64 payload = payload_received(sk, bytes);

	*moved = bytes != st->received_seen;
	if (payload && payload == bytes && *moved)
		payload--;
	st->received_seen = bytes;
	return payload;
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

static __always_inline void resolve(const struct sock *sk, struct sock_state *st, struct peer_key *key)
{
	peer_key_of(&sk->__sk_common, st->role, key);
	if (st->resolved == resolve_generation)
		return;
	st->slot = slot_of(key);
	st->resolved = resolve_generation;
}

/* Adds what the socket did since it was last looked at. state and closing: at close, the state before it, and true.
 * Returns whether there was anything new. */
static __always_inline bool report(const struct sock *sk, struct tcp_sock *tp, struct sock_state *st, struct peer_row *row,
				   const struct peer_key *key, int state, bool closing)
{
	__u32 limits[LIMIT_COUNT], segments_sent, segments_received;
	bool moved = false;
	__u64 sent = move_u64(&st->sent_bytes, payload_sent(tp, st->role, state));
	__u64 received = move_u64(&st->received_bytes, closing ? payload_received(sk, READ_ONCE(tp->bytes_received)) :
								 payload_received_for_sure(sk, tp, st, &moved));

	segments_sent = move_u32(&st->sent_segments, tp->segs_out);
	segments_received = move_u32(&st->received_segments, tp->segs_in);
	add(&row->sent_bytes, sent);
	add(&row->received_bytes, received);
	add(&row->sent_segments, segments_sent);
	add(&row->received_segments, segments_received);
	limits_of(tp, limits);
	for (int i = 0; i < LIMIT_COUNT; i++)
		add(&row->limited_jiffies[i], move_u32(&st->limited_jiffies[i], limits[i]));
	/* A new RTT is there when something was delivered; an idle connection's old one says nothing about now. */
	if (st->phase == PHASE_OPEN && tp->srtt_us && move_u32(&st->delivered, tp->delivered)) {
		observe_ns(st->slot, TCP_HIST_RTT, (__u64)(tp->srtt_us >> 3) * 1000);
		observe_ns(st->slot, TCP_HIST_JITTER, (__u64)(tp->mdev_us >> 2) * 1000);
	}
	if (st->slot < ROLE_COUNT && sent + received)
		weigh(key, sent + received);
	return moved || sent || received || segments_sent || segments_received;
}

static __always_inline void base_line(const struct sock *sk, struct tcp_sock *tp, struct sock_state *st, int state)
{
	st->sent_bytes = payload_sent(tp, st->role, state);
	st->received_bytes = payload_received(sk, READ_ONCE(tp->bytes_received));
	st->sent_segments = tp->segs_out;
	st->received_segments = tp->segs_in;
	limits_of(tp, st->limited_jiffies);
	st->delivered = tp->delivered;
}

static __always_inline struct sock_state *track(struct sock *sk, __u32 role, enum phase phase)
{
	struct sock_state *st;

	if (sockets_tracked >= sockets_max) {
		lose(LOST_SOCKET);
		return NULL;
	}
	st = bpf_sk_storage_get(&sockets, sk, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!st) {
		lose(LOST_SOCKET);
		return NULL;
	}
	/* A socket that connects again after a failure has storage already. */
	__builtin_memset(st, 0, sizeof(*st));
	st->role = role;
	st->phase = phase;
	return st;
}

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
	struct peer_key peer;

	peer_key_of(c, ROLE_SERVER, &peer);
	__builtin_memcpy(key->address, peer.address, sizeof(key->address));
	key->netns = c->skc_net.net->ns.inum;
	key->remote_port = c->skc_dport;
	key->local_port = c->skc_num;
}

/* SYN-ACK sent to ACK received. */
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

static __always_inline void on_syn_sent(struct sock *sk, struct tcp_sock *tp)
{
	struct sock_state *st = track(sk, ROLE_CLIENT, PHASE_CONNECTING);

	if (!st)
		return;
	st->started_ns = bpf_ktime_get_ns();
	base_line(sk, tp, st, TCP_SYN_SENT);
}

static __always_inline void on_established(struct sock *sk, struct tcp_sock *tp)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	__u64 now = bpf_ktime_get_ns(), handshake_ns;
	struct peer_row *row;
	struct peer_key key;
	__u32 slot;

	if (st && st->phase == PHASE_CONNECTING) {
		handshake_ns = st->started_ns ? now - st->started_ns : 0;
	} else {
		st = track(sk, ROLE_SERVER, PHASE_OPEN);
		handshake_ns = server_handshake_ns(sk, tp, now);
		if (!handshake_ns)
			lose(LOST_HANDSHAKE);
	}
	if (st) {
		st->phase = PHASE_OPEN;
		st->established_ns = now;
		resolve(sk, st, &key);
		slot = st->slot;
	} else {
		/* Over the limit: still counted, without bytes and RTT. */
		peer_key_of(&sk->__sk_common, ROLE_SERVER, &key);
		slot = slot_of(&key);
	}
	row = row_of(slot);
	if (!row)
		return;
	add(&row->outcomes[OUTCOME_ESTABLISHED], 1);
	if (handshake_ns)
		observe_ns(slot, TCP_HIST_HANDSHAKE, handshake_ns);
	if (slot < ROLE_COUNT)
		weigh(&key, CANDIDATE_CONNECTION_WEIGHT);
}

static __always_inline void on_close(struct sock *sk, struct tcp_sock *tp, int old_state)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct peer_row *row;
	struct peer_key key;
	int error = sk->sk_err;

	if (!st) {
		/* A socket that failed to listen or connect before it had a peer has none either; those are no loss. */
		if (seeded && (old_state == TCP_ESTABLISHED || old_state == TCP_SYN_SENT || old_state == TCP_LAST_ACK))
			lose(LOST_SOCKET);
		return;
	}
	if (st->phase == PHASE_CLOSED)
		return;
	resolve(sk, st, &key);
	row = row_of(st->slot);
	if (!row)
		return;
	report(sk, tp, st, row, &key, old_state, true);
	if (st->phase == PHASE_CONNECTING) {
		add(&row->outcomes[outcome_of(error)], 1);
		if (st->slot < ROLE_COUNT)
			weigh(&key, CANDIDATE_CONNECTION_WEIGHT);
	} else {
		enum tcp_outcome end = outcome_of(error);

		if (end != OUTCOME_OTHER && end != OUTCOME_REFUSED)
			add(&row->outcomes[end], 1);
		if (st->established_ns)
			observe_ns(st->slot, TCP_HIST_DURATION, bpf_ktime_get_ns() - st->established_ns);
		if (tp->rtt_min.s[0].v != ~0U && tp->srtt_us) {
			__u64 min = tp->rtt_min.s[0].v, *best = &row->min_rtt_us[~sweep_parity & 1];

			if (!*best || min < *best)
				*best = min;
		}
	}
	st->phase = PHASE_CLOSED;
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old_state, int new_state)
{
	struct tcp_sock *tp;

	if (new_state != TCP_SYN_SENT && new_state != TCP_ESTABLISHED && new_state != TCP_CLOSE)
		return 0;
	if (old_state == TCP_LISTEN || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	if (new_state == TCP_SYN_SENT)
		on_syn_sent(sk, tp);
	else if (new_state == TCP_ESTABLISHED)
		on_established(sk, tp);
	else
		on_close(sk, tp, old_state);
	return 0;
}

SEC("iter/bpf_sk_storage_map")
int tcp_sweep(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct sock_state *st;
	struct sock *sk = ctx->sk;
	struct peer_row *row;
	struct tcp_sock *tp;
	struct peer_key key;
	__u32 half = sweep_parity & 1;
	int state;

	if (!sk) {
		sweep_jiffies = bpf_jiffies64();
		sweep_ns = bpf_ktime_get_ns();
		return 0;
	}
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	tp = bpf_skc_to_tcp_sock(sk);
	if (!st || !tp)
		return 0;
	swept++;
	state = sk->__sk_common.skc_state;
	resolve(sk, st, &key);
	row = bpf_map_lookup_elem(&rows, &st->slot);
	if (!row)
		return 0;
	row->sockets[half]++;
	if (st->phase == PHASE_CLOSED || state == TCP_CLOSE)
		return 0;
	/* Most sockets are idle, and their kernel state is cold memory: without a segment since the last full look there is
	 * nothing new in it. Time limited by the peer or by us goes on, but is a total, so the next look has it. */
	if (!st->settled || st->sent_segments != tp->segs_out || st->received_segments != tp->segs_in) {
		__u32 min = tp->rtt_min.s[0].v;

		st->min_rtt_us = tp->srtt_us && min != ~0U ? min : 0;
		if (row->touched != generation)
			row->touched = generation;
		st->settled = !report(sk, tp, st, row, &key, state, false);
	}
	if (st->phase == PHASE_OPEN) {
		row->open[half]++;
		swept_open++;
		if (st->min_rtt_us && (!row->min_rtt_us[half] || st->min_rtt_us < row->min_rtt_us[half]))
			row->min_rtt_us[half] = st->min_rtt_us;
	}
	return 0;
}

/* Two passes: the first finds the listening ports, the second gives storage to the other sockets. */
SEC("iter/task_file")
int tcp_seed(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct listener key = {};
	struct sock_state *st;
	struct socket *socket;
	struct tcp_sock *tp;
	struct sock *sk;
	__u8 one = 1;
	int state;

	if (!file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	state = sk->__sk_common.skc_state;
	key.netns = sk->__sk_common.skc_net.net->ns.inum;
	key.port = sk->__sk_common.skc_num;
	if (seed_pass == 0) {
		if (state == TCP_LISTEN)
			bpf_map_update_elem(&listeners, &key, &one, BPF_ANY);
		return 0;
	}
	if (state == TCP_LISTEN || state == TCP_CLOSE)
		return 0;
	if (bpf_sk_storage_get(&sockets, sk, 0, 0))
		return 0;
	st = track(sk, bpf_map_lookup_elem(&listeners, &key) ? ROLE_SERVER : ROLE_CLIENT,
		   state == TCP_SYN_SENT ? PHASE_CONNECTING : PHASE_OPEN);
	if (st)
		base_line(sk, tp, st, state);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit, struct sock *sk, struct sk_buff *skb)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	enum tcp_retransmit type = RETRANSMIT_OTHER;
	struct sock_state *st;
	struct peer_row *row;
	struct peer_key key;
	__u16 segments = 0;
	__u32 ca_state;
	int state;

	if (!tp)
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
		resolve(sk, st, &key);
		row = row_of(st->slot);
	} else {
		peer_key_of(&sk->__sk_common, ROLE_CLIENT, &key);
		row = row_of(slot_of(&key));
	}
	/* The kernel's own counter (RetransSegs) counts the segments of a large skb, not the call. */
	bpf_probe_read_kernel(&segments, sizeof(segments),
			      (void *)skb + bpf_core_field_offset(struct sk_buff, cb) +
				      bpf_core_field_offset(struct tcp_skb_cb, tcp_gso_segs));
	if (row)
		add(&row->retransmits[type], segments ? segments : 1);
	return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(tcp_retransmit_synack, struct sock *sk, struct request_sock *req)
{
	struct tcp_request_sock *treq = bpf_skc_to_tcp_request_sock(req);
	struct request_key request;
	struct peer_row *row;
	struct peer_key key;
	__u64 first_ns;

	peer_key_of(&req->__req_common, ROLE_SERVER, &key);
	row = row_of(slot_of(&key));
	if (row)
		add(&row->retransmits[RETRANSMIT_SYNACK], 1);
	if (!treq || !treq->snt_synack)
		return 0;
	request_key_of(&req->__req_common, &request);
	first_ns = treq->snt_synack * 1000;
	bpf_map_update_elem(&retried_requests, &request, &first_ns, BPF_ANY);
	return 0;
}

static __always_inline void count_reset(const struct peer_key *key, enum tcp_reset_direction direction)
{
	struct peer_row *row = row_of(slot_of(key));

	if (row)
		add(&row->resets[direction], 1);
}

/* The source of the packet that we answer with a reset: there may be no socket. */
static __always_inline bool peer_key_of_packet(struct sk_buff *skb, struct peer_key *key)
{
	__u8 header[40];
	void *at = skb->head + skb->network_header;
	__u32 *words = (__u32 *)key->address;

	if (bpf_probe_read_kernel(header, 20, at))
		return false;
	if (header[0] >> 4 == 4) {
		words[0] = words[1] = 0;
		words[2] = bpf_htonl(0xffff);
		__builtin_memcpy(&words[3], header + 12, 4);
		return true;
	}
	if (header[0] >> 4 != 6 || bpf_probe_read_kernel(header, 40, at))
		return false;
	__builtin_memcpy(key->address, header + 8, 16);
	return true;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_send_reset, struct sock *sk, struct sk_buff *skb)
{
	struct peer_key key = { .role = ROLE_SERVER };
	struct sock_state *st;
	int state = 0;

	/* sk may be NULL, which older verifiers do not know: they drop the test, and the read below then yields 0. */
	if (sk)
		state = sk->__sk_common.skc_state;
	if (state && state != TCP_LISTEN) {
		st = bpf_sk_storage_get(&sockets, sk, 0, 0);
		peer_key_of(&sk->__sk_common, st ? st->role : ROLE_SERVER, &key);
		count_reset(&key, RESET_SENT);
	} else if (skb && peer_key_of_packet(skb, &key)) { /* a listener or a closed port has no peer: the packet has */
		count_reset(&key, RESET_SENT);
	} else {
		struct peer_row *row = row_of(SLOT_OTHER(ROLE_SERVER));

		lose(LOST_ADDRESS);
		if (row)
			add(&row->resets[RESET_SENT], 1);
	}
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, struct sock *sk)
{
	struct sock_state *st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	struct peer_key key;

	peer_key_of(&sk->__sk_common, st ? st->role : ROLE_SERVER, &key);
	count_reset(&key, RESET_RECEIVED);
	return 0;
}
