// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * The round-trip time of every acknowledgement (collect.tcp.rtt: every_ack), instead of one look per tick. At the root
 * of the cgroup hierarchy, for the sockets of all namespaces: a connection that is established after the agent's start
 * asks for the callback, and each acknowledgement that measured an RTT then adds one observation.
 *
 * Since Linux 6.10 the callback tells the measured RTT; before, only the smoothed one is there. The maps are those of
 * tcp.bpf.c. A connection that is older than the agent never asked, and is looked at per tick as without this.
 */
#include "tcp_record.bpf.h"
#include "tcp_hist.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline void on_rtt(struct bpf_sock_ops *ctx)
{
	struct sock_state *st;
	struct bpf_sock *sk = ctx->sk;
	__u32 rtt_us = ctx->args[0] ? ctx->args[0] : ctx->srtt_us >> 3;

	if (!sk)
		return;
	st = bpf_sk_storage_get(&sockets, sk, 0, 0);
	if (!st || st->phase != PHASE_OPEN)
		return;
	st->every_ack = 1;
	/* A record that has not found its slot yet counts at the next acknowledgement, or at the next look. */
	if (st->resolved && rtt_us)
		observe_ns(st->slot, TCP_HIST_RTT, (__u64)rtt_us * 1000);
}

SEC("sockops")
int tcp_rtt(struct bpf_sock_ops *ctx)
{
	switch (ctx->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		bpf_sock_ops_cb_flags_set(ctx, (int)(ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_RTT_CB_FLAG));
		break;
	case BPF_SOCK_OPS_RTT_CB:
		on_rtt(ctx);
		break;
	}
	return 1;
}
