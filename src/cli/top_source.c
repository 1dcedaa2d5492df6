/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cli/top_source_internal.h"

int top_source_open(struct loop *loop, const struct top_source_options *options, top_source_fn fn, void *userdata,
		    struct top_source **ret_source, struct error *ret_error)
{
	struct top_source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->fn = fn;
	s->userdata = userdata;
	r = options->url ? top_source_open_url(s, options->url, ret_error) :
			   top_source_open_local(s, options->config_file, ret_error);
	if (r < 0) {
		top_source_close(s);
		return r;
	}
	*ret_source = s;
	return 0;
}

void top_source_close(struct top_source *source)
{
	if (!source)
		return;
	top_source_close_local(source);
	top_source_close_url(source);
	free(source->previous_drops);
	free(source);
}

void top_source_ask(struct top_source *source)
{
	if (source->fetch)
		top_source_ask_url(source);
	else
		top_source_ask_local(source);
}

void top_source_rest(struct top_source *source)
{
	loop_timer_stop(source->look);
}

uint64_t top_source_least_period_ns(const struct top_source *source)
{
	return source->cost_ns * SOURCE_COST_RATIO;
}

const char *top_source_name(const struct top_source *source)
{
	return source->name ? source->name : "kernel";
}

void top_table_free(struct top_table *table)
{
	if (!table)
		return;
	free(table->connections);
	free(table->drops);
	free(table);
}

static const struct top_drop *find_drop(const struct top_source *s, const struct top_drop *drop)
{
	for (size_t i = 0; i < s->n_previous_drops; i++)
		if (!strcmp(s->previous_drops[i].reason, drop->reason) && !strcmp(s->previous_drops[i].protocol, drop->protocol))
			return &s->previous_drops[i];
	return NULL;
}

/* What came since the table before; one that was not in it has begun since. A count that fell is of another agent. */
void top_source_rate_drops(struct top_source *s, struct top_table *table)
{
	double seconds = s->has_previous_drops ? ns_to_seconds(mono_since_ns(table->taken, s->previous_drops_taken)) : 0;
	struct top_drop *copy = calloc(table->n_drops ? table->n_drops : 1, sizeof(*copy));

	for (size_t i = 0; i < table->n_drops; i++) {
		struct top_drop *drop = &table->drops[i];
		const struct top_drop *before = find_drop(s, drop);
		uint64_t packets = before ? before->packets : 0;

		drop->rate = seconds > 0 && drop->packets >= packets ? (double)(drop->packets - packets) / seconds : NAN;
	}
	table->drops_interval_s = seconds;
	free(s->previous_drops);
	s->previous_drops = copy;
	s->n_previous_drops = copy ? table->n_drops : 0;
	s->has_previous_drops = copy;
	s->previous_drops_taken = table->taken;
	if (copy && table->n_drops)
		memcpy(copy, table->drops, table->n_drops * sizeof(*copy));
}

void top_source_no_drops(struct top_source *s, struct top_table *table, const char *why)
{
	snprintf(table->no_drops, sizeof(table->no_drops), "%.250s", why);
	s->has_previous_drops = false;
	s->n_previous_drops = 0;
}
