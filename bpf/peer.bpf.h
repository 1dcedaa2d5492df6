/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The peer table in the kernel: from an address and a role to a slot, and the
 * slot's counters and histograms. Order of the look-up: configured network
 * (longest prefix), own slots, free slots, "other". Totals are exact whichever it
 * is; only the label differs. The maps hold base slots; a role is added.
 *
 * The agent owns the free list: it takes slots back when a peer is idle or a
 * heavier one waits, raises resolve_generation so that sockets look up again,
 * and clears a slot only when a later sweep has seen no socket that points at it.
 * A plain hash with refusals counted, not an LRU: an LRU evicts silently.
 */
#ifndef NETSONDE_PEER_BPF_H
#define NETSONDE_PEER_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "abi.h"
#include "hist.bpf.h"

/* Sizes are set by the agent before it loads the object. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct peer_row);
} rows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct peer_hists);
} hists SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct peer_address);
	__type(value, __u32);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, __u32);
} free_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct network_key);
	__type(value, __u32); /* network index */
} networks SEC(".maps");

/* Peers inside "other" and how much they did since the agent last looked. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct peer_address);
	__type(value, __u64);
} candidates SEC(".maps");

/* Written by the agent. */
__u64 generation = 1;        /* of the snapshot being filled */
__u32 resolve_generation = 1;
__u32 sweep_parity;          /* which half of the gauges the running sweep fills */
__u32 network_count;
/* Written here. */
__u64 lost[LOST_COUNT];
__u64 slots_taken;           /* rises when a peer gets a slot, so that the agent looks for its address */

static __always_inline void lose(enum tcp_lost what)
{
	__sync_fetch_and_add(&lost[what], 1);
}

static __always_inline void add(__u64 *counter, __u64 n)
{
	if (n)
		__sync_fetch_and_add(counter, n);
}

static __always_inline struct peer_row *row_of(__u32 slot)
{
	struct peer_row *row = bpf_map_lookup_elem(&rows, &slot);

	if (row && row->touched != generation)
		row->touched = generation;
	return row;
}

static __always_inline void observe_ns(__u32 slot, enum tcp_hist which, __u64 ns)
{
	struct peer_hists *h = bpf_map_lookup_elem(&hists, &slot);
	__u32 bucket = hist_bucket(ns);

	/* The verifier must see the bound on the very register that indexes: keep the compiler from deriving it anew. */
	asm volatile("" : "+r"(bucket));
	if (!h || bucket >= HIST_BUCKETS)
		return;
	__sync_fetch_and_add(&h->buckets[which][bucket], 1);
	__sync_fetch_and_add(&h->sum_ns[which], ns);
}

/* The remote address of a full, time-wait or request socket: they share sock_common. */
static __always_inline void peer_address_of(const struct sock_common *c, struct peer_address *address)
{
	if (c->skc_family == AF_INET6) {
		address->words[0] = c->skc_v6_daddr.in6_u.u6_addr32[0];
		address->words[1] = c->skc_v6_daddr.in6_u.u6_addr32[1];
		address->words[2] = c->skc_v6_daddr.in6_u.u6_addr32[2];
		address->words[3] = c->skc_v6_daddr.in6_u.u6_addr32[3];
	} else {
		address->words[0] = 0;
		address->words[1] = 0;
		address->words[2] = bpf_htonl(0xffff);
		address->words[3] = c->skc_daddr;
	}
}

static __always_inline __u32 slot_of(const struct peer_address *address, __u32 role)
{
	__u32 *found, base;

	if (network_count) {
		struct network_key n = { .prefix_bits = 128, .address = *address };

		found = bpf_map_lookup_elem(&networks, &n);
		if (found)
			return SLOT_NETWORK(*found) + role;
	}
	found = bpf_map_lookup_elem(&slots, address);
	if (found)
		return *found + role;
	if (bpf_map_pop_elem(&free_slots, &base))
		return SLOT_OTHER + role;
	if (!bpf_map_update_elem(&slots, address, &base, BPF_NOEXIST)) {
		__sync_fetch_and_add(&slots_taken, 1);
		return base + role;
	}
	/* Another CPU was faster, or the map refused: give the slots back. */
	bpf_map_push_elem(&free_slots, &base, BPF_ANY);
	found = bpf_map_lookup_elem(&slots, address);
	return (found ? *found : SLOT_OTHER) + role;
}

static __always_inline void weigh(const struct peer_address *address, __u64 weight)
{
	__u64 *w = bpf_map_lookup_elem(&candidates, address);

	if (w)
		__sync_fetch_and_add(w, weight);
	else if (bpf_map_update_elem(&candidates, address, &weight, BPF_NOEXIST))
		lose(LOST_CANDIDATE);
}

#endif
