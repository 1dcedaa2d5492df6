/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* What TCP keeps of a peer's durations: one set of histograms by slot, in memory that the agent maps. */
#ifndef NETSONDE_TCP_HIST_BPF_H
#define NETSONDE_TCP_HIST_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi.h"
#include "hist.bpf.h"

/* The size is set by the agent before it loads the object. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct peer_hists);
} hists SEC(".maps");

/* A global function: the verifier looks into it once, not at each call with each of its ways through the buckets. Such
 * functions return a number and trust none of their arguments. */
__noinline int observe_ns(__u32 slot, __u32 which, __u64 ns)
{
	struct peer_hists *h = bpf_map_lookup_elem(&hists, &slot);
	__u32 bucket = hist_bucket(ns);

	/* The verifier must see the bound on the very register that indexes: keep the compiler from deriving it anew. */
	asm volatile("" : "+r"(bucket));
	asm volatile("" : "+r"(which));
	if (!h || bucket >= HIST_BUCKETS || which >= TCP_HIST_COUNT)
		return 0;
	__sync_fetch_and_add(&h->buckets[which][bucket], 1);
	__sync_fetch_and_add(&h->sum_ns[which], ns);
	return 0;
}

#endif
