/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What TCP counts of a peer: one row by slot, in memory that the agent maps, so
 * that it reads them without a system call. The histograms are in tcp_hist.bpf.h.
 */
#ifndef NETSONDE_TCP_ROW_BPF_H
#define NETSONDE_TCP_ROW_BPF_H
#include "peer.bpf.h"
#include "tcp_hist.bpf.h"

/* The size is set by the agent before it loads the object. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct peer_row);
} rows SEC(".maps");

__u64 lost[LOST_COUNT];

static __always_inline void lose(enum tcp_lost what)
{
	__sync_fetch_and_add(&lost[what], 1);
}

static __always_inline struct peer_row *row_of(__u32 slot)
{
	struct peer_row *row = bpf_map_lookup_elem(&rows, &slot);

	if (row)
		touch(&row->head);
	return row;
}

#endif
