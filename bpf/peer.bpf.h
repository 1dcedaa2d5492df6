/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The peer table in the kernel: from an address and a role to a slot. One set of
 * maps for all programs, so a peer has one label everywhere; each program keeps
 * rows of its own by slot, which begin with struct row_head. Order of the look-up: configured network
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

/* The agent puts its own maps in the place of these before it loads the object (peers_share); so sizes here mean nothing. */
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

/* Written by the agent, in every object that includes this. */
__u64 generation = 1;        /* of the snapshot being filled */
__u32 resolve_generation = 1;
__u32 sweep_parity;          /* which half of the gauges the running sweep fills */
__u32 network_count;
__u32 slots_may_be_free = 1; /* cleared here */
/* Written here. */
__u64 lost_candidates;       /* addresses in "other" that could not be weighed for promotion */
__u64 slots_taken;           /* rises when a peer gets a slot, so that the agent looks for its address */

static __always_inline void add(__u64 *counter, __u64 n)
{
	if (n)
		__sync_fetch_and_add(counter, n);
}

static __always_inline void touch(struct row_head *head)
{
	if (head->touched != generation)
		head->touched = generation;
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
	/* The queue has one lock for all CPUs, so an empty one is not asked for every packet. */
	if (!slots_may_be_free)
		return SLOT_OTHER + role;
	if (bpf_map_pop_elem(&free_slots, &base)) {
		slots_may_be_free = 0;
		return SLOT_OTHER + role;
	}
	if (!bpf_map_update_elem(&slots, address, &base, BPF_NOEXIST)) {
		__sync_fetch_and_add(&slots_taken, 1);
		return base + role;
	}
	/* Another CPU was faster, or the map refused: give the slots back. */
	bpf_map_push_elem(&free_slots, &base, BPF_ANY);
	slots_may_be_free = 1;
	found = bpf_map_lookup_elem(&slots, address);
	return (found ? *found : SLOT_OTHER) + role;
}

static __always_inline void weigh(const struct peer_address *address, __u64 weight)
{
	__u64 *w = bpf_map_lookup_elem(&candidates, address);

	if (w)
		__sync_fetch_and_add(w, weight);
	else if (bpf_map_update_elem(&candidates, address, &weight, BPF_NOEXIST))
		add(&lost_candidates, 1);
}

#endif
