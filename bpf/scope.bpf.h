/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Whose sockets and packets count (collect.scope): by default those of all network
 * namespaces, else those of one, by the inode number that the kernel gave it. Read-only
 * data, so in the default case the verifier takes the comparisons out.
 */
#ifndef NETSONDE_SCOPE_BPF_H
#define NETSONDE_SCOPE_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

const volatile __u32 only_netns; /* 0: all */

/* Of tracing programs, which read through a socket's pointer. */
static __always_inline bool in_scope(const struct sock_common *c)
{
	return !only_netns || c->skc_net.net->ns.inum == only_netns;
}

/* Of programs on packets, whose socket is not for reading: the kernel lets them look only at a copy of its beginning. */
static __always_inline bool socket_in_scope(const struct bpf_sock *sk)
{
	const __u32 at = bpf_core_field_offset(struct sock_common, skc_net);
	const struct net *net;
	__u64 head[8]; /* it is at 48, and the DNS programs have little stack left */

	if (!only_netns)
		return true;
	if (at > sizeof(head) - sizeof(net) || bpf_probe_read_kernel(head, sizeof(head), sk))
		return false;
	__builtin_memcpy(&net, (const char *)head + at, sizeof(net));
	return BPF_CORE_READ(net, ns.inum) == only_netns;
}

#endif
