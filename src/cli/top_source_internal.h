/* SPDX-License-Identifier: Apache-2.0 */
/* The two kinds of source, for top_source*.c only. */
#pragma once
#include <math.h>
#include <stdio.h>
#include "agent/drop_program.h"
#include "agent/peers.h"
#include "cli/top_source.h"
#include "lib/buffer.h"
#include "lib/fetch.h"
#include "lib/json.h"

/* A table takes at most a fifth of the time, and the looks between two of them a twentieth. */
#define SOURCE_COST_RATIO 5
#define SOURCE_LOOK_COST_RATIO 20
#define SOURCE_LOOK_NS (200 * NS_PER_MS)
/* 250 MB. More are counted, not listed. */
#define SOURCE_LOCAL_MAX 100000

/* What a connection did since the last table that was given. */
struct source_seen {
	uint64_t cookie;
	struct verdict_input input;
};

struct top_source {
	struct loop *loop;
	top_source_fn fn;
	void *userdata;
	uint64_t cost_ns;   /* of the last table */
	char *name;

	/* This host */
	struct connections *connections;
	struct peers *peers;
	struct drop_program *drop_program; /* NULL: no_drops says why */
	char no_drops[256];
	struct loop_timer *look;
	struct source_seen *seen;          /* ordered by cookie, as the table of connections is */
	size_t n_seen;
	uint64_t look_cost_ns;
	mono_time last_table;
	bool has_table;

	/* An agent */
	struct fetch *fetch;
	struct buffer url, connections_url, drops_url;
	struct top_table *coming;
	unsigned asked;     /* answers that are still out */
	mono_time asked_at;
	struct error error; /* of the connections; "": none yet */
	json_int_t number;  /* of the agent's last table */
	mono_time number_since;

	struct top_drop *previous_drops;
	size_t n_previous_drops;
	bool has_previous_drops;
	mono_time previous_drops_taken;
};

int top_source_open_local(struct top_source *s, const char *config_file, struct error *ret_error);
void top_source_close_local(struct top_source *s);
void top_source_ask_local(struct top_source *s);

int top_source_open_url(struct top_source *s, const char *url, struct error *ret_error);
void top_source_close_url(struct top_source *s);
void top_source_ask_url(struct top_source *s);

/* Fills in the rates of table->drops, from table->taken. */
void top_source_rate_drops(struct top_source *s, struct top_table *table);
void top_source_no_drops(struct top_source *s, struct top_table *table, const char *why);
