/* SPDX-License-Identifier: Apache-2.0 */
/* Tables from this host's kernel: several looks make one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "agent/kbpf.h"
#include "cli/top_source_internal.h"
#include "lib/settings.h"

static int open_networks(struct top_source *s, const char *config_file, struct error *ret_error)
{
	struct buffer errors = BUFFER_INIT;
	struct settings settings;
	int r = settings_load(config_file, &settings, &errors);

	if (r < 0) {
		error_set(ret_error, r, "%s", errors.data ? errors.data : strerror(-r));
	} else {
		r = peers_new(&settings, &s->peers, ret_error);
		settings_done(&settings);
	}
	buffer_done(&errors);
	return r;
}

/* A look between two tables, unless they are rare or cheap enough without. */
static void look_later(struct top_source *s)
{
	uint64_t period = s->look_cost_ns * SOURCE_LOOK_COST_RATIO;

	loop_timer_start(s->look, period > SOURCE_LOOK_NS ? period : SOURCE_LOOK_NS, 0);
}

/* A table in the kernel's words, and added up what each connection did since the last one that was given. */
static int look(struct top_source *s)
{
	mono_time start = mono_now();
	struct source_seen *seen;
	size_t n, old = 0;
	int r = connections_refresh(s->connections, start);

	if (r < 0)
		return r;
	n = connections_count(s->connections);
	seen = calloc(n ? n : 1, sizeof(*seen));
	if (!seen)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct connection c;

		connections_get(s->connections, i, &c);
		while (old < s->n_seen && s->seen[old].cookie < c.cookie)
			old++;
		seen[i].cookie = c.cookie;
		if (old < s->n_seen && s->seen[old].cookie == c.cookie)
			seen[i].input = s->seen[old].input;
		if (c.input.interval_s > 0)
			verdict_input_add(&seen[i].input, &c.input);
	}
	free(s->seen);
	s->seen = seen;
	s->n_seen = n;
	s->look_cost_ns = mono_since_ns(mono_now(), start);
	return 0;
}

static void on_look(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct top_source *s = userdata;

	/* An error will be told when the table is asked for. */
	look(s);
	look_later(s);
}

int top_source_open_local(struct top_source *s, const char *config_file, struct error *ret_error)
{
	struct error error = { "" };
	int r = 0;

	kbpf_log_setup();
	if (config_file)
		r = open_networks(s, config_file, ret_error);
	if (!r)
		r = connections_open(s->peers, NULL, SOURCE_LOCAL_MAX, &s->connections, ret_error);
	if (!r)
		r = loop_timer_new(s->loop, on_look, s, &s->look);
	if (r < 0)
		return r;
	r = drop_program_open(NULL, 0, &s->drop_program, &error);
	if (!r)
		r = drop_program_attach(s->drop_program, NULL, &error);
	if (r < 0) {
		drop_program_close(s->drop_program);
		s->drop_program = NULL;
		snprintf(s->no_drops, sizeof(s->no_drops), "%.250s", error.text[0] ? error.text : strerror(-r));
	}
	return 0;
}

void top_source_close_local(struct top_source *s)
{
	loop_timer_free(s->look);
	connections_close(s->connections);
	peers_free(s->peers);
	drop_program_close(s->drop_program);
	free(s->seen);
}

/* As if there had been one look. */
static void conclude(struct connection *c, const struct verdict_input *in)
{
	c->input = *in;
	c->interval_s = in->interval_s;
	c->sent_rate = c->received_rate = c->retransmit_ratio = 0;
	if (in->interval_s > 0) {
		c->sent_rate = (double)in->sent_bytes / in->interval_s;
		c->received_rate = (double)in->received_bytes / in->interval_s;
	}
	if (in->retransmits)
		c->retransmit_ratio = fmin(1, (double)in->retransmits / (double)(in->sent_segments ? in->sent_segments : 1));
	verdict_of(in, &c->verdict);
}

static int take_drops(struct top_source *s, struct top_table *table)
{
	const struct drop_count *counts;
	size_t n;

	if (!s->drop_program) {
		top_source_no_drops(s, table, s->no_drops);
		return 0;
	}
	drop_program_read(s->drop_program);
	n = drop_program_counts(s->drop_program, &counts);
	table->drops = calloc(n ? n : 1, sizeof(*table->drops));
	if (!table->drops)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct top_drop *drop = &table->drops[table->n_drops++];

		snprintf(drop->reason, sizeof(drop->reason), "%s", counts[i].reason);
		snprintf(drop->protocol, sizeof(drop->protocol), "%s", counts[i].protocol);
		drop->packets = counts[i].packets;
	}
	top_source_rate_drops(s, table);
	return 0;
}

static int take_table(struct top_source *s, struct top_table *table)
{
	int r = look(s);

	if (r < 0)
		return r;
	table->taken = mono_now();
	table->connections = calloc(s->n_seen ? s->n_seen : 1, sizeof(*table->connections));
	if (!table->connections)
		return -ENOMEM;
	for (size_t i = 0; i < s->n_seen; i++) {
		connections_get(s->connections, i, &table->connections[i]);
		conclude(&table->connections[i], &s->seen[i].input);
		s->seen[i].input = (struct verdict_input){ 0 };
	}
	table->n = s->n_seen;
	table->total = s->n_seen + connections_left_out(s->connections);
	table->interval_s = s->has_table ? ns_to_seconds(mono_since_ns(table->taken, s->last_table)) : 0;
	s->last_table = table->taken;
	s->has_table = true;
	return take_drops(s, table);
}

void top_source_ask_local(struct top_source *s)
{
	mono_time start = mono_now();
	struct top_table *table = calloc(1, sizeof(*table));
	struct error error = { "" };
	int r = table ? take_table(s, table) : -ENOMEM;

	s->cost_ns = mono_since_ns(mono_now(), start);
	look_later(s);
	if (r < 0) {
		top_table_free(table);
		error_set_errno(&error, r, "cannot list the connections");
		s->fn(NULL, error.text, s->userdata);
		return;
	}
	s->fn(table, NULL, s->userdata);
}
