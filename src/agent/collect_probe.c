/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector of active probes: what the sampler knows becomes samples. The work of probing is not here
 * (agent/probe/); at a tick everything is plain memory, and one read of the kernel for what connections measured.
 *
 * Without a loop (`netsonde doctor`) nothing is sent: it only says what could be loaded.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/collector.h"
#include "agent/kbpf.h"
#include "agent/probe/probe_hardware.h"
#include "agent/probe/sampler.h"
#include "lib/log.h"

/* The buckets of the text formats: 2^-20 s (0.95 us) .. 2^4 s (16 s). */
#define LATENCY_FIRST (-20)
#define LATENCY_LAST 4

static const char *const clock_names[PROBE_CLOCK_COUNT] = { "hardware", "xdp", "xdp_generic", "tc", "kernel", "user" };
static const char *const action_names[PROBE_ACTION_COUNT] = { "pass", "drop", "reflect" };
static const char *const refused_names[REFLECT_REFUSED_COUNT] = { "malformed", "unauthentic", "rate" };

enum family {
	RTT, JITTER, VARIATION, SENT, RECEIVED, LOST, UNREACHABLE, REFUSED, DUPLICATE, REORDERED, LATE, REJECTED, ONE_WAY, CLOCK_ERROR, CLOCK_SYNC,
	REFLECTOR, UP, INTERVAL, PASSIVE, LIMITED, PATH_RTT, PATH_SENT, PATH_LOST, XDP_PACKETS, DEVICE_INFO, REFLECT_REFUSED, TARGETS,
	BUDGET, WANTED, STRETCH, SKIPPED, LOOKUP_FAILURES, PLAN_FETCHES, PLAN_REFUSED, N_FAMILIES,
};

#define TARGET { "target", NULL }
#define TARGET_PROTOCOL { "target", "protocol", NULL }
static const struct registry_definition families[N_FAMILIES] = {
	[RTT] = { { "netsonde_probe_rtt_seconds", "Round-trip time of probes, without the time a STAMP reflector kept them, by where the worse of both times was taken.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, { "target", "protocol", "timestamp", NULL } },
	[JITTER] = { { "netsonde_probe_jitter_seconds", "Jitter of the round-trip time (RFC 3550, section 6.4.1), the mean of the target's paths.", "seconds", METRIC_GAUGE, 0, 0 }, TARGET_PROTOCOL },
	[VARIATION] = { { "netsonde_probe_delay_variation_seconds", "Round-trip time above the smallest of the last one to two minutes (RFC 5481, PDV).", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, TARGET_PROTOCOL },
	[SENT] = { { "netsonde_probe_sent_total", "Probes sent.", NULL, METRIC_COUNTER, 0, 0 }, TARGET_PROTOCOL },
	[RECEIVED] = { { "netsonde_probe_received_total", "Probes that were answered in time, the first answer of each.", NULL, METRIC_COUNTER, 0, 0 }, TARGET_PROTOCOL },
	[LOST] = { { "netsonde_probe_lost_total", "Probes of which nothing was heard within their time-out.", NULL, METRIC_COUNTER, 0, 0 }, TARGET_PROTOCOL },
	[UNREACHABLE] = { { "netsonde_probe_unreachable_total", "Probes that could not reach the target, as a router, the target or this host's kernel said.", NULL, METRIC_COUNTER, 0, 0 }, { "target", "protocol", "reason", NULL } },
	[REFUSED] = { { "netsonde_probe_refused_total", "TCP probes that were answered by a reset, as the port is closed; they count as received.", NULL, METRIC_COUNTER, 0, 0 }, TARGET },
	[DUPLICATE] = { { "netsonde_probe_duplicate_total", "Further answers to a probe within its time-out.", NULL, METRIC_COUNTER, 0, 0 }, TARGET_PROTOCOL },
	[REORDERED] = { { "netsonde_probe_reordered_total", "First answers that came after the answer to a later probe (RFC 4737).", NULL, METRIC_COUNTER, 0, 0 }, TARGET_PROTOCOL },
	[LATE] = { { "netsonde_probe_late_total", "First answers after the time-out; their probes are counted as lost.", NULL, METRIC_COUNTER, 0, 0 }, TARGET_PROTOCOL },
	[REJECTED] = { { "netsonde_probe_rejected_total", "Packets that looked like answers and were none: forged, replayed or damaged; of the target other, those that belong to no target.", NULL, METRIC_COUNTER, 0, 0 }, TARGET_PROTOCOL },
	[ONE_WAY] = { { "netsonde_probe_one_way_delay_seconds", "Delay to the target (forward) and from it (backward) by STAMP, while both clocks are synchronised.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, { "target", "direction", NULL } },
	[CLOCK_ERROR] = { { "netsonde_probe_clock_error_seconds", "How far the one-way delays may be off, by the error that both clocks state; +Inf when it is not known.", "seconds", METRIC_GAUGE, 0, 0 }, TARGET },
	[CLOCK_SYNC] = { { "netsonde_probe_clock_synchronized", "1 when both clocks are synchronised; otherwise no one-way delays are measured.", NULL, METRIC_GAUGE, 0, 0 }, TARGET },
	[REFLECTOR] = { { "netsonde_probe_reflector_seconds", "Time that a STAMP reflector kept a probe, by its own clock.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, TARGET },
	[UP] = { { "netsonde_probe_up", "1 when the target answers, or TCP connections to it do; 0 after three probes in a row without an answer, or while it cannot be probed.", NULL, METRIC_GAUGE, 0, 0 }, TARGET },
	[INTERVAL] = { { "netsonde_probe_interval_seconds", "Time from one probe of a path to the next at the moment.", "seconds", METRIC_GAUGE, 0, 0 }, TARGET },
	[PASSIVE] = { { "netsonde_probe_passive", "1 while TCP connections measure the way to the target, so that it is not probed.", NULL, METRIC_GAUGE, 0, 0 }, TARGET },
	[LIMITED] = { { "netsonde_probe_rate_limited", "1 while the target's answers seem to be rate limited: it lost probes only when it was probed faster; there once that was seen.", NULL, METRIC_GAUGE, 0, 0 }, TARGET },
	[PATH_RTT] = { { "netsonde_probe_path_rtt_seconds", "Last round-trip time of each path of a target with several.", "seconds", METRIC_GAUGE, 0, 0 }, { "target", "path", NULL } },
	[PATH_SENT] = { { "netsonde_probe_path_sent_total", "Probes sent on each path of a target with several.", NULL, METRIC_COUNTER, 0, 0 }, { "target", "path", NULL } },
	[PATH_LOST] = { { "netsonde_probe_path_lost_total", "Probes without an answer, lost or unreachable, on each path of a target with several.", NULL, METRIC_COUNTER, 0, 0 }, { "target", "path", NULL } },
	[XDP_PACKETS] = { { "netsonde_xdp_packets_total", "Packets that the probe's receiving program saw on an interface, by what it did with them.", NULL, METRIC_COUNTER, 0, 0 }, { "device", "action", NULL } },
	[DEVICE_INFO] = { { "netsonde_probe_device_info", "How probes are timed on an interface when they are received and sent; always 1.", NULL, METRIC_GAUGE, 0, 0 }, { "device", "receive", "send", NULL } },
	[REFLECT_REFUSED] = { { "netsonde_probe_reflect_refused_total", "Probes of others that the reflector did not answer.", NULL, METRIC_COUNTER, 0, 0 }, { "reason", NULL } },
	[TARGETS] = { { "netsonde_probe_targets", "Targets of probes, by who asked for them.", NULL, METRIC_GAUGE, 0, 0 }, { "source", NULL } },
	[BUDGET] = { { "netsonde_probe_budget_packets", "Probes per second that the budget allows.", NULL, METRIC_GAUGE, 0, 0 }, { NULL } },
	[WANTED] = { { "netsonde_probe_wanted_packets", "Probes per second that the targets' intervals ask for at the moment.", NULL, METRIC_GAUGE, 0, 0 }, { NULL } },
	[STRETCH] = { { "netsonde_probe_stretch_ratio", "By how much all intervals are longer than asked for, to stay below the budget; 1 when they are not.", NULL, METRIC_GAUGE, 0, 0 }, { NULL } },
	[SKIPPED] = { { "netsonde_probe_skipped_total", "Probes that were due and not sent: the agent was held up (late), or too many of the path were on their way (ring_full).", NULL, METRIC_COUNTER, 0, 0 }, { "reason", NULL } },
	[LOOKUP_FAILURES] = { { "netsonde_probe_lookup_failures_total", "Look-ups of targets' host names that failed.", NULL, METRIC_COUNTER, 0, 0 }, { NULL } },
	[PLAN_FETCHES] = { { "netsonde_probe_plan_fetches_total", "Attempts to get the plan, by how they ended.", NULL, METRIC_COUNTER, 0, 0 }, { "outcome", NULL } },
	[PLAN_REFUSED] = { { "netsonde_probe_plan_refused", "What the present plan asks for and the configuration does not allow, by reason.", NULL, METRIC_GAUGE, 0, 0 }, { "reason", NULL } },
};

struct state {
	struct registry_family *families[N_FAMILIES];
	struct sampler *sampler; /* NULL: doctor */
	struct self *self;       /* borrowed */
	struct hist merged;      /* of a target's paths */
};

static bool probe_wanted(const struct settings *settings)
{
	return settings_probe_wanted(settings);
}

static void probe_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	sampler_close(s->sampler);
	hist_done(&s->merged);
	free(s);
}

/* Which of these programs were loaded, best first. */
static void report_hooks(struct features *features, const char *feature, const struct probe_program *program, const enum probe_hook *hooks,
			 const char *const *modes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (probe_program_fd(program, hooks[i]) < 0)
			continue;
		features_enable(features, feature, modes[i]);
		return;
	}
	features_miss(features, feature, "the kernel does not take the program", "needs Linux 6.1 or newer");
}

/* Loads what an agent would load, and closes it again. */
static int try_here(struct features *features, struct error *ret_error)
{
	static const enum probe_hook receive[] = { PROBE_HOOK_XDP, PROBE_HOOK_TC_RECEIVE, PROBE_HOOK_SOCKET };
	static const enum probe_hook send[] = { PROBE_HOOK_TC_SEND, PROBE_HOOK_SOCKET };
	static const char *const receive_modes[] = { "xdp", "tcx", "packet_socket" }, *const send_modes[] = { "tcx", "packet_socket" };
	const struct prober_options options = { .paths_max = 8, .reflect = { .reflect = true } };
	const struct probe_program *program;
	struct prober *prober = NULL;
	struct loop *loop;
	int r = loop_new(&loop);

	if (r < 0)
		return r;
	r = prober_open(loop, &options, features, &prober, ret_error);
	program = r < 0 ? NULL : prober_program(prober);
	if (program) {
		report_hooks(features, "probe_receive", program, receive, receive_modes, 3);
		report_hooks(features, "probe_send", program, send, send_modes, 2);
		report_hooks(features, "probe_reflect", program, receive, receive_modes, 2);
	}
	prober_close(prober);
	loop_free(loop);
	return r;
}

static int probe_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->self = context->self;
	hist_init(&s->merged, HIST_SCHEMA, 0);
	r = registry_register_all(context->registry, families, N_FAMILIES, s->families, ret_error);
	if (!r && !context->loop)
		r = try_here(context->features, ret_error);
	else if (!r)
		r = sampler_open(context->loop, context->settings, context->peers, context->features, &s->sampler, ret_error);
	if (r < 0) {
		probe_close(s);
		return r;
	}
	features_enable(context->features, "probe", "sampler");
	*ret_state = s;
	return 0;
}

static int probe_prepare(void *opaque, const struct settings *settings, struct error *ret_error)
{
	struct state *s = opaque;

	return sampler_prepare(s->sampler, settings, ret_error);
}

static int probe_reload(void *opaque, const struct settings *settings, struct error *ret_error)
{
	struct state *s = opaque;

	sampler_reload(s->sampler, settings);
	return 0;
}

/* One histogram of all paths; without a copy where there is one path. NULL: empty. */
static const struct hist *merge(struct state *s, const struct probe_target *t, size_t offset)
{
	const struct hist *first = (const struct hist *)((const char *)&t->paths[0].stats + offset);

	if (t->spec.paths == 1)
		return first->count ? first : NULL;
	if (hist_copy(&s->merged, first) < 0)
		return NULL;
	for (uint32_t i = 1; i < t->spec.paths; i++)
		if (hist_merge(&s->merged, (const struct hist *)((const char *)&t->paths[i].stats + offset)) < 0)
			return NULL;
	return s->merged.count ? &s->merged : NULL;
}

static void show_hist(struct state *s, enum family family, const struct probe_target *t, const char *const *labels, size_t offset)
{
	const struct hist *hist = merge(s, t, offset);

	if (hist)
		registry_histogram(s->families[family], labels, hist);
}

static void show_counts(struct state *s, const struct probe_target *t, const char *const *labels)
{
	struct probe_counts c;
	const char *reason[] = { labels[0], labels[1], NULL };

	probe_target_counts(t, &c);
	registry_value(s->families[SENT], labels, (double)c.sent);
	registry_value(s->families[RECEIVED], labels, (double)c.answered);
	registry_value(s->families[LOST], labels, (double)c.lost);
	registry_value(s->families[DUPLICATE], labels, (double)c.duplicates);
	registry_value(s->families[REORDERED], labels, (double)c.reordered);
	registry_value(s->families[LATE], labels, (double)c.late);
	registry_value(s->families[REJECTED], labels, (double)c.rejected);
	if (t->spec.probe.protocol == PROBE_TCP)
		registry_value(s->families[REFUSED], labels, (double)t->refused);
	for (size_t i = 0; i < UNREACHABLE_COUNT; i++) {
		reason[2] = probe_target_unreachable_names[i];
		if (t->unreachable[i])
			registry_value(s->families[UNREACHABLE], reason, (double)t->unreachable[i]);
	}
}

static void show_delays(struct state *s, const struct probe_target *t, const char *const *labels)
{
	const char *rtt[] = { labels[0], labels[1], NULL };
	const double jitter = probe_target_jitter(t);

	for (size_t i = 0; i < PROBE_CLOCK_COUNT; i++) {
		rtt[2] = clock_names[i];
		show_hist(s, RTT, t, rtt, offsetof(struct probe_stats, rtt) + i * sizeof(struct hist));
	}
	show_hist(s, VARIATION, t, labels, offsetof(struct probe_stats, variation));
	if (!isnan(jitter))
		registry_value(s->families[JITTER], labels, jitter);
}

/* Of the path with the last answer. */
static const struct probe_stats *latest(const struct probe_target *t)
{
	const struct probe_stats *latest = &t->paths[0].stats;

	for (uint32_t i = 1; i < t->spec.paths; i++)
		if (t->paths[i].stats.last_answer_ns > latest->last_answer_ns)
			latest = &t->paths[i].stats;
	return latest;
}

static void show_stamp(struct state *s, const struct probe_target *t)
{
	const struct probe_stats *last = latest(t);
	const char *labels[] = { t->spec.name, "forward" };
	bool known;

	if (!last->answered)
		return;
	show_hist(s, ONE_WAY, t, labels, offsetof(struct probe_stats, forward));
	labels[1] = "backward";
	show_hist(s, ONE_WAY, t, labels, offsetof(struct probe_stats, backward));
	show_hist(s, REFLECTOR, t, labels, offsetof(struct probe_stats, residence));
	known = last->clock_error_ns != UINT64_MAX;
	registry_value(s->families[CLOCK_ERROR], labels, known ? ns_to_seconds(last->clock_error_ns) : INFINITY);
	registry_value(s->families[CLOCK_SYNC], labels, known);
}

static void show_paths(struct state *s, const struct probe_target *t)
{
	for (uint32_t i = 0; t->spec.paths > 1 && i < t->spec.paths; i++) {
		const struct probe_target_path *path = &t->paths[i];
		char number[16];
		const char *labels[] = { t->spec.name, number };
		struct probe_counts c;

		snprintf(number, sizeof(number), "%u", i + 1);
		probe_target_path_counts(path, &c);
		registry_value(s->families[PATH_SENT], labels, (double)c.sent);
		registry_value(s->families[PATH_LOST], labels, (double)(c.lost + c.unreachable));
		if (path->stats.last_rtt_ns)
			registry_value(s->families[PATH_RTT], labels, ns_to_seconds(path->stats.last_rtt_ns));
	}
}

static void show_target(struct state *s, const struct probe_target *t)
{
	const char *labels[] = { t->spec.name, probe_target_protocol_names[t->spec.probe.protocol] };
	const int up = probe_target_up(t);

	show_counts(s, t, labels);
	show_delays(s, t, labels);
	if (t->spec.probe.protocol == PROBE_STAMP)
		show_stamp(s, t);
	show_paths(s, t);
	if (up >= 0)
		registry_value(s->families[UP], labels, up);
	if (t->watched)
		registry_value(s->families[PASSIVE], labels, t->passive);
	if (t->paths[0].entry.place)
		registry_value(s->families[INTERVAL], labels, ns_to_seconds(sampler_interval_ns(s->sampler, t)));
	if (t->was_limited)
		registry_value(s->families[LIMITED], labels, adapt_is_limited(&t->adapt));
}

static void show_targets(struct state *s)
{
	/* Totals first: they are what is needed when the series budget has no room for every target. */
	registry_value(s->families[REJECTED], (const char *const[]){ "other", "other" },
		       (double)prober_rejected(sampler_prober(s->sampler)));
	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++) {
		size_t n = 0;

		for (const struct probe_target *t = sampler_targets(s->sampler, (enum probe_target_source)source); t; t = t->next)
			n++;
		registry_value(s->families[TARGETS], &probe_target_source_names[source], (double)n);
	}
	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++)
		for (const struct probe_target *t = sampler_targets(s->sampler, (enum probe_target_source)source); t; t = t->next)
			show_target(s, t);
}

static void show_devices(struct state *s)
{
	struct prober *prober = sampler_prober(s->sampler);
	const struct probe_devices *devices = prober_devices(prober);
	const struct probe_program *program = prober_program(prober);

	for (size_t i = 0; i < probe_devices_count(devices); i++) {
		const struct probe_device *d = probe_devices_at(devices, i);

		if (!d->ifindex)
			continue;
		registry_value(s->families[DEVICE_INFO], (const char *const[]){ d->name, d->receive_mode, d->send_mode }, 1);
		for (size_t a = 0; program && d->slot != PROBE_SLOT_NONE && a < PROBE_ACTION_COUNT; a++)
			registry_value(s->families[XDP_PACKETS], (const char *const[]){ d->name, action_names[a] },
				       (double)probe_program_packets(program, d->slot, (enum probe_action)a));
	}
}

static void show_program(const char *name, int fd, void *userdata)
{
	self_program(userdata, name, fd);
}

static void show_reflector(struct state *s, const struct probe_program *program)
{
	struct probe_program_stats stats;

	probe_program_each(program, show_program, s->self);
	if (!probe_program_reflects(program))
		return;
	probe_program_stats(program, &stats);
	for (size_t i = 0; i < REFLECT_REFUSED_COUNT; i++)
		registry_value(s->families[REFLECT_REFUSED], &refused_names[i], (double)stats.reflect_refused[i]);
}

static void show_pace(struct state *s, const struct sampler_stats *stats)
{
	const struct probe_schedule *schedule = sampler_schedule(s->sampler);
	static const char *const late = "late", *const ring_full = "ring_full";

	registry_value(s->families[BUDGET], NULL, schedule->packets_max);
	registry_value(s->families[WANTED], NULL, probe_schedule_wanted(schedule));
	registry_value(s->families[STRETCH], NULL, schedule->stretch);
	registry_value(s->families[SKIPPED], &late, (double)stats->late);
	registry_value(s->families[SKIPPED], &ring_full, (double)stats->ring_full);
	registry_value(s->families[LOOKUP_FAILURES], NULL, (double)stats->lookup_failures);
}

static void show_plan(struct state *s, const struct sampler_stats *stats)
{
	static const char *const fetched = "fetched", *const failed = "failed";

	if (!stats->has_plan)
		return;
	registry_value(s->families[PLAN_FETCHES], &fetched, (double)stats->plan_fetched);
	registry_value(s->families[PLAN_FETCHES], &failed, (double)stats->plan_failed);
	for (size_t i = 0; i < PLAN_REFUSED_COUNT; i++)
		registry_value(s->families[PLAN_REFUSED], &plan_refused_names[i], (double)stats->refused[i]);
}

static void probe_tick(void *opaque, mono_time now)
{
	struct state *s = opaque;
	struct sampler_stats stats;
	const struct prober *prober;

	if (!s->sampler)
		return;
	sampler_tick(s->sampler, now);
	sampler_stats(s->sampler, &stats);
	prober = sampler_prober(s->sampler);
	self_lost(s->self, "probe_send", prober_unsent(prober));
	self_lost(s->self, "probe_receive", prober_overflows(prober));
	self_map(s->self, "probe_paths", stats.paths, stats.paths_max);
	show_pace(s, &stats);
	show_plan(s, &stats);
	show_devices(s);
	if (prober_program(sampler_prober(s->sampler)))
		show_reflector(s, prober_program(sampler_prober(s->sampler)));
	probe_hardware_each(probe_devices_hardware(prober_devices(sampler_prober(s->sampler))), show_program, s->self);
	show_targets(s);
}

const struct probe_devices *collect_probe_devices(const void *state)
{
	const struct state *s = state;

	return s->sampler ? prober_devices(sampler_prober(s->sampler)) : NULL;
}

const struct collector collect_probe = {
	.name = "probe",
	.key = "probe",
	.wanted = probe_wanted,
	.families = families,
	.n_families = N_FAMILIES,
	.open = probe_open,
	.tick = probe_tick,
	.prepare = probe_prepare,
	.reload = probe_reload,
	.close = probe_close,
};
