/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection_from_json on any JSON: what it takes is a connection whose texts end
 * and are printable, whose shares are shares, and which, written and read again,
 * stays what it is.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/connections.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int truth)
{
	if (!truth)
		abort();
}

static void demand_text(const char *text, size_t room)
{
	const char *end = memchr(text, '\0', room);

	demand(end != NULL);
	for (; text < end; text++)
		demand(*text >= ' ' && *text <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *json = json_loadb((const char *)data, size, 0, NULL);
	struct buffer one = BUFFER_INIT, two = BUFFER_INIT;
	struct connection c, again;

	if (!json || connection_from_json(json, &c) < 0) {
		json_decref(json);
		return 0;
	}
	json_decref(json);
	demand_text(c.comm, sizeof(c.comm));
	demand_text(c.container, sizeof(c.container));
	demand_text(c.peer, sizeof(c.peer));
	demand(c.verdict.network >= 0 && c.verdict.network <= 1 && c.verdict.idle >= 0 && c.verdict.idle <= 1);
	demand(!json_write(connection_json(&c), &one));
	json = json_loadb(one.data, one.len, 0, NULL);
	demand(json && !connection_from_json(json, &again));
	json_decref(json);
	demand(!json_write(connection_json(&again), &two));
	demand(!strcmp(one.data, two.data));
	buffer_done(&one);
	buffer_done(&two);
	return 0;
}
