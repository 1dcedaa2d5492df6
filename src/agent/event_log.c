/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/event_log.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[EVENT_KIND_COUNT] = {
	[EVENT_CONNECT_FAILED] = "connect_failed",
	[EVENT_RESET] = "reset",
	[EVENT_RETRANSMIT_BURST] = "retransmit_burst",
	[EVENT_DROP] = "drop",
	[EVENT_LINK] = "link",
	[EVENT_EXEC] = "exec",
	[EVENT_EXIT] = "exit",
};

/* One kind's newest events: number n of them (from 0) is at n % EVENT_LOG_MAX. */
struct kind_log {
	struct event_entry entries[EVENT_LOG_MAX];
	uint64_t total;
	uint64_t missed;      /* highest seen in an event */
	uint64_t overwritten; /* newest ID that is gone; 0: none */
};

struct event_log {
	uint64_t newest;
	struct kind_log kinds[EVENT_KIND_COUNT];
};

int event_log_new(struct event_log **ret_log)
{
	struct event_log *log = calloc(1, sizeof(*log));

	if (!log)
		return -ENOMEM;
	*ret_log = log;
	return 0;
}

void event_log_free(struct event_log *log)
{
	free(log);
}

/* CPUs read the counter and get their place in the ring in different orders: only a rise counts, so nothing is told twice. */
static uint64_t missed_since(struct kind_log *kind, uint64_t missed)
{
	uint64_t n = missed > kind->missed ? missed - kind->missed : 0;

	kind->missed += n;
	return n;
}

const struct event_entry *event_log_add(struct event_log *log, const struct event *event, const char *device, wall_time time)
{
	struct kind_log *kind;
	struct event_entry *entry;

	assert(event->kind < EVENT_KIND_COUNT);
	kind = &log->kinds[event->kind];
	entry = &kind->entries[kind->total % EVENT_LOG_MAX];
	if (kind->total >= EVENT_LOG_MAX)
		kind->overwritten = entry->id;
	entry->id = ++log->newest;
	entry->time = time;
	entry->suppressed = missed_since(kind, event->missed);
	snprintf(entry->device, sizeof(entry->device), "%s", device ? device : "");
	entry->event = *event;
	kind->total++;
	return entry;
}

uint64_t event_log_newest(const struct event_log *log)
{
	return log->newest;
}

uint64_t event_log_total(const struct event_log *log, enum event_kind kind)
{
	return log->kinds[kind].total;
}

static bool wants(const struct event_filter *filter, unsigned kind)
{
	return !filter->kinds || filter->kinds & 1u << kind;
}

bool event_log_complete(const struct event_log *log, const struct event_filter *filter)
{
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++)
		if (wants(filter, i) && log->kinds[i].overwritten > filter->since)
			return false;
	return true;
}

bool event_filter_takes(const struct event_filter *filter, const struct event_entry *entry)
{
	return entry->id > filter->since && wants(filter, entry->event.kind);
}

/* Number of the kind's oldest event in the log that the filter takes; its total when there is none. */
static uint64_t first_taken(const struct kind_log *kind, const struct event_filter *filter)
{
	uint64_t n = kind->total > EVENT_LOG_MAX ? kind->total - EVENT_LOG_MAX : 0;

	while (n < kind->total && kind->entries[n % EVENT_LOG_MAX].id <= filter->since)
		n++;
	return n;
}

size_t event_log_each(const struct event_log *log, const struct event_filter *filter,
		      void (*fn)(const struct event_entry *entry, void *userdata), void *userdata)
{
	uint64_t next[EVENT_KIND_COUNT], left = 0;
	size_t told = 0;

	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++) {
		next[i] = wants(filter, i) ? first_taken(&log->kinds[i], filter) : log->kinds[i].total;
		left += log->kinds[i].total - next[i];
	}
	for (; left > 0; left--) {
		const struct event_entry *oldest = NULL;

		for (unsigned i = 0; i < EVENT_KIND_COUNT; i++) {
			const struct event_entry *entry = &log->kinds[i].entries[next[i] % EVENT_LOG_MAX];

			if (next[i] < log->kinds[i].total && (!oldest || entry->id < oldest->id))
				oldest = entry;
		}
		next[oldest->event.kind]++;
		if (left > filter->limit)
			continue;
		fn(oldest, userdata);
		told++;
	}
	return told;
}

const char *event_kind_name(unsigned kind)
{
	return kind < EVENT_KIND_COUNT ? kind_names[kind] : "unknown";
}

int event_kind_parse(const char *name)
{
	for (int i = 0; i < EVENT_KIND_COUNT; i++)
		if (!strcmp(kind_names[i], name))
			return i;
	return -EINVAL;
}
