// SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0)
/* Writers of events for test_events.c, run by BPF_PROG_TEST_RUN: each run is one attempt, and counts itself. */
#include "event.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

__u64 floods, trickles; /* attempts so far */

SEC("tc")
int flood(void *ctx)
{
	struct event *e = event_begin(EVENT_DROP);

	__sync_fetch_and_add(&floods, 1);
	if (e)
		event_end(e);
	return 0;
}

/* One at a time: its events are numbered. */
SEC("tc")
int trickle(void *ctx)
{
	struct event *e = event_begin(EVENT_RESET);

	if (e) {
		e->pid = trickles;
		e->ifindex = 1;
		event_end(e);
	}
	trickles++;
	return 0;
}
