/* SPDX-License-Identifier: Apache-2.0 */
/* The process collector: programs started and processes ended. The events that go with them are in the event log. */
#include <errno.h>
#include <stdlib.h>

#include "agent/collector.h"
#include "agent/netns.h"
#include "agent/process_program.h"

static const struct registry_definition families[PROCESS_COUNT_COUNT] = {
	[PROCESS_EXECS] = { { "netsonde_process_execs_total", "Programs started by exec on this host, in containers too; an exec that fails is none.", NULL, METRIC_COUNTER, 0, 0 }, { NULL } },
	[PROCESS_EXITS] = { { "netsonde_process_exits_total", "Processes that ended, counted once however many threads they had; kernel threads are none.", NULL, METRIC_COUNTER, 0, 0 }, { NULL } },
};

struct state {
	struct registry_family *families[PROCESS_COUNT_COUNT];
	struct process_program *program;
	struct self *self; /* borrowed */
};

static bool process_wanted(const struct settings *settings)
{
	return settings->collect.processes;
}

static void process_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	process_program_close(s->program);
	free(s);
}

static int process_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->self = context->self;
	r = registry_register_all(context->registry, families, PROCESS_COUNT_COUNT, s->families, ret_error);
	if (!r)
		r = process_program_open(context->events, context->features, PROCESS_EXIT_BEST,
					 netns_scope(context->settings), &s->program, ret_error);
	if (r < 0) {
		process_close(s);
		return r;
	}
	*ret_state = s;
	return 0;
}

static void show_program(const char *name, int fd, void *userdata)
{
	self_program(userdata, name, fd);
}

static void process_tick(void *opaque, mono_time now)
{
	uint64_t counts[PROCESS_COUNT_COUNT], missed;
	struct state *s = opaque;

	process_program_read(s->program, counts, &missed);
	for (size_t i = 0; i < PROCESS_COUNT_COUNT; i++)
		if (process_program_counts(s->program, (enum process_count)i))
			registry_value(s->families[i], NULL, (double)counts[i]);
	self_lost(s->self, "process_recursion", missed);
	process_program_each(s->program, show_program, s->self);
}

const struct collector collect_process = {
	.name = "processes",
	.wanted = process_wanted,
	.families = families,
	.n_families = PROCESS_COUNT_COUNT,
	.open = process_open,
	.tick = process_tick,
	.close = process_close,
};
