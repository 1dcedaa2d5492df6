// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/*
 * The hooks with nothing in them: what the kernel's statistics cost by themselves, to be subtracted. Only the first is
 * loaded by itself; the others have no hook yet and are attached where bench/empty_hook.c is told.
 */
#include "kernel.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/inet_sock_set_state")
int empty(void *ctx)
{
	return 0;
}

SEC("?tp_btf")
int empty_tracepoint(void *ctx)
{
	return 0;
}

SEC("?cgroup_skb/egress")
int empty_egress(void *ctx)
{
	return 1; /* let it pass, here and in the next two */
}

SEC("?cgroup_skb/ingress")
int empty_ingress(void *ctx)
{
	return 1;
}

SEC("?sockops")
int empty_sockops(void *ctx)
{
	return 1;
}

SEC("?tc")
int empty_tc(void *ctx)
{
	return -1; /* TCX_NEXT */
}

SEC("?xdp.frags")
int empty_xdp(void *ctx)
{
	return 2; /* XDP_PASS */
}

SEC("?uprobe")
int empty_uprobe(void *ctx)
{
	return 0;
}
