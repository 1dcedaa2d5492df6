/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The newest events of each kind, in memory. Every kind has its own ring of
 * EVENT_LOG_MAX, so one kind never pushes out another. IDs rise by one with every
 * event of any kind, from 1.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "abi_event.h"
#include "lib/clock.h"

#define EVENT_LOG_MAX 256 /* per kind */
#define EVENT_DEVICE_MAX 64 /* a name as the device label of metrics has it, with a namespace in front; longer ones are cut */
#define EVENT_KINDS_ALL ((1u << EVENT_KIND_COUNT) - 1)

struct event_log;

struct event_entry {
	uint64_t id;
	wall_time time;
	uint64_t suppressed;  /* of this kind since the event of it before: over the allowance, or lost */
	char device[EVENT_DEVICE_MAX]; /* "": unknown, or none */
	struct event event;
};

struct event_filter {
	uint32_t kinds;       /* a bit per kind; 0: all */
	uint64_t since;       /* only IDs above */
	size_t limit;         /* only the newest so many; SIZE_MAX: all */
};

int event_log_new(struct event_log **ret_log);
void event_log_free(struct event_log *log);

/* event->kind must be one. device: NULL or "" when unknown. What is returned is valid until the next one is added. */
const struct event_entry *event_log_add(struct event_log *log, const struct event *event, const char *device, wall_time time);
uint64_t event_log_newest(const struct event_log *log); /* ID; 0: none yet */
uint64_t event_log_total(const struct event_log *log, enum event_kind kind);
/* Are all events that the filter asks for (but for its limit) still here? */
bool event_log_complete(const struct event_log *log, const struct event_filter *filter);
bool event_filter_takes(const struct event_filter *filter, const struct event_entry *entry); /* but for its limit */
/* Calls fn for what the filter takes, by rising ID. Returns how many. */
size_t event_log_each(const struct event_log *log, const struct event_filter *filter,
		      void (*fn)(const struct event_entry *entry, void *userdata), void *userdata);

const char *event_kind_name(unsigned kind);
int event_kind_parse(const char *name); /* the kind, or -EINVAL */
