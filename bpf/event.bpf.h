/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * Writing events. Both maps are the agent's (events_share). The allowance is per
 * kind and taken before the ring, so a flood of one kind neither fills the ring
 * nor costs more than a counter. CPUs that meet at the limit may each take one more
 * than it. No wake-up: the agent drains once per tick.
 */
#ifndef NETSONDE_EVENT_BPF_H
#define NETSONDE_EVENT_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "abi_event.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096); /* the shared one is larger */
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct event_control);
} event_control SEC(".maps");

/* kind: a constant. NULL when this kind has had enough, or the ring is full. What is returned is zeroed but for time, kind,
 * missed and count (1), and must go to event_end. */
static __always_inline struct event *event_begin(enum event_kind kind)
{
	struct event_control *c;
	struct event *e;
	__u32 zero = 0;

	c = bpf_map_lookup_elem(&event_control, &zero);
	if (!c)
		return NULL;
	if (c->used[kind] >= c->limit[kind]) {
		__sync_fetch_and_add(&c->suppressed[kind], 1);
		return NULL;
	}
	__sync_fetch_and_add(&c->used[kind], 1);
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&c->lost[kind], 1);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time_ns = bpf_ktime_get_ns();
	e->missed = c->suppressed[kind] + c->lost[kind];
	e->kind = kind;
	e->count = 1;
	__sync_fetch_and_add(&c->sent[kind], 1);
	return e;
}

static __always_inline void event_end(struct event *e)
{
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

#endif
