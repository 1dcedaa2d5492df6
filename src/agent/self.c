/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/self.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "agent/kbpf.h"
#include "lib/clock.h"
#include "lib/process.h"

struct self {
	struct registry *registry;
	const struct features *features;
	struct registry_family *build_info, *feature_enabled, *tick_duration, *tick_interval, *ticks_missed, *series_dropped;
	struct registry_family *lost, *map_entries, *map_max_entries, *bpf_seconds, *bpf_runs;
	struct registry_family *process[PROCESS_METRICS];
	struct process_reader *reader;
	struct hist tick;
	uint64_t missed;
	struct utsname kernel;
};

static int register_families(struct self *s, struct error *ret_error)
{
	static const struct metric_family build_info = { "netsonde_build_info", "Version of this agent and of the kernel it runs on; always 1.", NULL, METRIC_GAUGE, 0, 0 };
	static const struct metric_family feature = { "netsonde_feature_enabled", "1 when the feature works, in the mode named; 0 when this host lacks it (see netsonde doctor).", NULL, METRIC_GAUGE, 0, 0 };
	static const struct metric_family tick = { "netsonde_tick_duration_seconds", "Time a tick takes: reading the kernel's counters and publishing them.", "seconds", METRIC_HISTOGRAM, -20, 4 };
	static const struct metric_family interval = { "netsonde_tick_interval_seconds", "Time from tick to tick: collect.tick, or longer while ticks take too long.", "seconds", METRIC_GAUGE, 0, 0 };
	static const struct metric_family missed = { "netsonde_ticks_missed_total", "Ticks left out because the one before took too long.", NULL, METRIC_COUNTER, 0, 0 };
	static const struct metric_family dropped = { "netsonde_series_dropped_total", "Series left out of a snapshot by the series budget.", NULL, METRIC_COUNTER, 0, 0 };
	static const struct metric_family lost = { "netsonde_lost_events_total", "What could not be recorded, by where it was lost.", NULL, METRIC_COUNTER, 0, 0 };
	static const struct metric_family entries = { "netsonde_map_entries", "Entries in a kernel map.", NULL, METRIC_GAUGE, 0, 0 };
	static const struct metric_family max_entries = { "netsonde_map_max_entries", "How many entries the map can hold.", NULL, METRIC_GAUGE, 0, 0 };
	static const struct metric_family seconds = { "netsonde_bpf_run_seconds_total", "Time spent in a BPF program, while the kernel's BPF statistics are on.", "seconds", METRIC_COUNTER, 0, 0 };
	static const struct metric_family runs = { "netsonde_bpf_runs_total", "Runs of a BPF program, while the kernel's BPF statistics are on.", NULL, METRIC_COUNTER, 0, 0 };
	static const char *const source[] = { "source", NULL }, *const map[] = { "map", NULL }, *const program[] = { "program", NULL };
	static const char *const none[] = { NULL }, *const versions[] = { "version", "kernel", NULL };
	static const char *const feature_mode[] = { "feature", "mode", NULL }, *const family[] = { "family", NULL };
	int r = registry_register(s->registry, &build_info, versions, &s->build_info, ret_error);

	if (!r)
		r = registry_register(s->registry, &feature, feature_mode, &s->feature_enabled, ret_error);
	if (!r)
		r = registry_register(s->registry, &tick, none, &s->tick_duration, ret_error);
	if (!r)
		r = registry_register(s->registry, &interval, none, &s->tick_interval, ret_error);
	if (!r)
		r = registry_register(s->registry, &missed, none, &s->ticks_missed, ret_error);
	if (!r)
		r = registry_register(s->registry, &dropped, family, &s->series_dropped, ret_error);
	if (!r)
		r = registry_register(s->registry, &lost, source, &s->lost, ret_error);
	if (!r)
		r = registry_register(s->registry, &entries, map, &s->map_entries, ret_error);
	if (!r)
		r = registry_register(s->registry, &max_entries, map, &s->map_max_entries, ret_error);
	if (!r)
		r = registry_register(s->registry, &seconds, program, &s->bpf_seconds, ret_error);
	if (!r)
		r = registry_register(s->registry, &runs, program, &s->bpf_runs, ret_error);
	for (size_t i = 0; i < PROCESS_METRICS && !r; i++)
		r = registry_register(s->registry, &process_families[i], none, &s->process[i], ret_error);
	return r;
}

int self_new(struct registry *registry, const struct features *features, struct self **ret_self, struct error *ret_error)
{
	struct self *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->registry = registry;
	s->features = features;
	hist_init(&s->tick, HIST_SCHEMA, ldexp(1, -20));
	uname(&s->kernel);
	r = register_families(s, ret_error);
	if (!r)
		r = process_reader_new(&s->reader);
	if (r < 0) {
		self_free(s);
		return r;
	}
	*ret_self = s;
	return 0;
}

void self_free(struct self *self)
{
	if (!self)
		return;
	process_reader_free(self->reader);
	hist_done(&self->tick);
	free(self);
}

void self_tick(struct self *self, uint64_t interval_ns)
{
	const char *versions[] = { NETSONDE_VERSION, self->kernel.release };
	double process[PROCESS_METRICS];

	registry_value(self->build_info, versions, 1);
	for (size_t i = 0; i < self->features->n; i++) {
		const char *labels[] = { self->features->items[i].name, self->features->items[i].mode };

		registry_value(self->feature_enabled, labels, self->features->items[i].enabled);
	}
	if (self->tick.count)
		registry_histogram(self->tick_duration, NULL, &self->tick);
	registry_value(self->tick_interval, NULL, ns_to_seconds(interval_ns));
	registry_value(self->ticks_missed, NULL, (double)self->missed);
	for (size_t i = 0; i < registry_families(self->registry); i++) {
		uint64_t dropped;
		const char *name = registry_dropped(self->registry, i, &dropped);

		if (dropped)
			registry_value(self->series_dropped, &name, (double)dropped);
	}
	process_read(self->reader, process);
	for (size_t i = 0; i < PROCESS_METRICS; i++)
		if (!isnan(process[i]))
			registry_value(self->process[i], NULL, process[i]);
}

void self_observe(struct self *self, double seconds, uint64_t missed)
{
	hist_observe(&self->tick, seconds);
	self->missed += missed;
}

void self_lost(struct self *self, const char *source, uint64_t n)
{
	registry_value(self->lost, &source, (double)n);
}

void self_map(struct self *self, const char *map, uint64_t entries, uint64_t max)
{
	registry_value(self->map_entries, &map, (double)entries);
	registry_value(self->map_max_entries, &map, (double)max);
}

void self_program(struct self *self, const char *name, int program_fd)
{
	uint64_t runs, ns;

	if (!kbpf_run_stats(program_fd, &runs, &ns))
		return;
	registry_value(self->bpf_seconds, &name, ns_to_seconds(ns));
	registry_value(self->bpf_runs, &name, (double)runs);
}
