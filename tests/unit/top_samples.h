/* SPDX-License-Identifier: Apache-2.0 */
/* Connections to make tables of `netsonde top` from. */
#pragma once
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/top_source.h"

static inline struct connection sample(uint64_t cookie, const char *comm, uint32_t pid, const char *remote, uint16_t port)
{
	struct connection c = {
		.cookie = cookie, .state = 1, .pid = pid, .holders = 1, .local_port = 40000, .remote_port = port, .age_s = NAN,
		.rtt_s = NAN, .jitter_s = NAN, .min_rtt_s = NAN, .receive_rtt_s = NAN, .interval_s = 1,
	};

	snprintf(c.comm, sizeof(c.comm), "%s", comm);
	if (address_parse("192.0.2.1", &c.local) || address_parse(remote, &c.remote))
		abort();
	address_format(&c.remote, c.peer);
	c.input.interval_s = 1;
	verdict_of(&c.input, &c.verdict);
	return c;
}

/* As if it had sent and received that much in its second. */
static inline void moved(struct connection *c, uint64_t sent, uint64_t received)
{
	c->sent_bytes += sent;
	c->received_bytes += received;
	c->input.sent_bytes = sent;
	c->input.received_bytes = received;
	c->sent_rate = (double)sent;
	c->received_rate = (double)received;
	verdict_of(&c->input, &c->verdict);
}

static inline void judged(struct connection *c, enum verdict_side side, enum verdict_cause cause, double share)
{
	c->verdict = (struct verdict){ .side = side, .cause = cause };
	c->verdict.causes[cause] = share;
	c->verdict.causes[CAUSE_LOCAL_WRITER] += 1 - share;
}

/* To be freed with top_table_free. */
static inline struct top_table *sample_table(const struct connection *connections, size_t n)
{
	struct top_table *table = calloc(1, sizeof(*table));

	if (!table)
		abort();
	table->connections = calloc(n ? n : 1, sizeof(*connections));
	if (!table->connections)
		abort();
	if (n)
		memcpy(table->connections, connections, n * sizeof(*connections));
	table->n = table->total = n;
	table->interval_s = table->drops_interval_s = 1;
	return table;
}
