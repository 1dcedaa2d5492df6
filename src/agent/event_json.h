/* SPDX-License-Identifier: Apache-2.0 */
/* One event as JSON, as docs/http-api.md shows it: what is unknown is left out. */
#pragma once
#include "agent/event_log.h"
#include "lib/json.h"

/* How the codes of one kind read; name NULL, or a NULL from it: as built in. */
struct event_code_names {
	const char *(*name)(uint32_t code, void *userdata);
	void *userdata;
};

/* A new reference; NULL when out of memory. names: one per kind. */
json_t *event_json(const struct event_entry *entry, const struct event_code_names names[static EVENT_KIND_COUNT]);
/* "2026-11-24T08:00:00.123456Z" */
#define EVENT_TIME_TEXT_MAX 40
const char *event_time_format(wall_time time, char buf[static EVENT_TIME_TEXT_MAX]);
