/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When things happen. The pace timer is set anew after each wake-up, to the time at which the next probes are due; so it
 * is one system call per wake-up, and none while nothing is due. The other timer fires once per second.
 */
#include "agent/probe/sampler.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/probe/sampler_internal.h"
#include "agent/watched.h"
#include "lib/log.h"

#define FRESH_TICKS 3
#define FRESH_MIN_NS NS_PER_SEC /* where ticks are short: connections are quiet for a moment */
#define FLIGHTS_MAX (1u << 22)  /* 256 MB */
#define PEERS_NS (10 * NS_PER_SEC)
/* Results are read this often, also where the agent's tick is longer. */
#define COLLECT_NS (900 * NS_PER_MS)

static struct probe_target_path *path_of(struct probe_schedule_entry *entry)
{
	return (struct probe_target_path *)((char *)entry - offsetof(struct probe_target_path, entry));
}

void sampler_rearm(struct sampler *s)
{
	const uint64_t wake = probe_schedule_wake(&s->schedule), now = mono_now().ns;

	if (wake == UINT64_MAX)
		loop_timer_stop(s->pace);
	else
		loop_timer_start(s->pace, wake > now ? wake - now : 0, 0);
}

static void on_pace(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct sampler *s = userdata;
	const uint64_t now = mono_now().ns;
	struct probe_schedule_entry *entry;

	probe_schedule_begin(&s->schedule, now);
	while ((entry = probe_schedule_next(&s->schedule, now)))
		if (prober_send(path_of(entry)->path) < 0)
			s->ring_full++;
	prober_flush(s->prober);
	sampler_rearm(s);
}

static void collect(struct sampler *s, mono_time now)
{
	prober_collect(s->prober, now);
	s->collected_ns = now.ns;
}

/* What is not probed, in one line: the first reason, and how many there are. */
static void report_targets(struct sampler *s)
{
	const struct probe_target *first = NULL;
	char text[sizeof(s->untargeted)] = "";
	size_t n = 0;

	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++) {
		for (const struct probe_target *t = s->targets[source]; t; t = t->next) {
			if (!t->why[0])
				continue;
			first = first ? first : t;
			n++;
		}
	}
	if (n)
		snprintf(text, sizeof(text), "%.60s is not probed: %.100s%s", first->spec.name, first->why, n > 1 ? "; others neither" : "");
	if (!strcmp(text, s->untargeted))
		return;
	memcpy(s->untargeted, text, sizeof(text));
	if (n)
		features_miss(s->features, "probe_targets", text, "");
	else
		features_enable(s->features, "probe_targets", "all");
}

/* Told when it begins and when it ends. */
static void tell_budget(struct sampler *s)
{
	const bool over = s->schedule.stretch > 1;
	char ratio[32];

	if (over == s->over_budget)
		return;
	s->over_budget = over;
	snprintf(ratio, sizeof(ratio), "%.2f", s->schedule.stretch);
	if (over)
		log_warn("the targets ask for more than the budget of probes; all are probed less often", "intervals_times", ratio,
			 "remedy", "raise probe.budget, or the intervals", NULL);
	else
		log_info("the budget of probes suffices again", NULL);
}

static void tell_start(const struct sampler *s, const struct settings *settings)
{
	char targets[24], reflecting[24], peers[24];

	snprintf(targets, sizeof(targets), "%zu", settings->probe.n_targets);
	snprintf(peers, sizeof(peers), "%u", s->config.peers);
	snprintf(reflecting, sizeof(reflecting), "%zu", settings->probe.n_reflect);
	log_info("probing", "targets", targets, "peers", peers, "plan", s->config.plan_url ? "yes" : "no", "reflecting_interfaces", reflecting, NULL);
}

static void on_second(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct sampler *s = userdata;
	const mono_time now = mono_now();

	prober_tick(s->prober, now);
	if (now.ns >= s->collected_ns + COLLECT_NS)
		collect(s, now);
	resolve_tick(s->resolve, now);
	sampler_tend(s, now.ns);
	if (now.ns >= s->peers_ns + PEERS_NS && (s->config.peers || s->targets[TARGET_PEER])) {
		s->peers_ns = now.ns;
		sampler_update_peers(s);
	}
	report_targets(s);
	tell_budget(s);
}

/* A connection had a new round-trip time in the last three ticks. */
static void look_at_connections(struct sampler *s, uint64_t now_ns)
{
	const uint64_t fresh_ns = FRESH_TICKS * s->tick_ns > FRESH_MIN_NS ? FRESH_TICKS * s->tick_ns : FRESH_MIN_NS;

	if (peers_read_watched(s->peers) < 0)
		return; /* then nothing is fresh any more, in three ticks */
	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++) {
		for (struct probe_target *t = s->targets[source]; t; t = t->next) {
			const uint64_t at = t->watched ? watched_ns(t->watched) : 0;

			sampler_set_passive(s, t, at && now_ns <= at + fresh_ns);
		}
	}
}

void sampler_tick(struct sampler *sampler, mono_time now)
{
	/* Ticks come further apart when they take long. */
	if (sampler->ticked_ns)
		sampler->tick_ns = now.ns - sampler->ticked_ns;
	sampler->ticked_ns = now.ns;
	collect(sampler, mono_now());
	look_at_connections(sampler, now.ns);
}

static enum probe_attach attach_of(unsigned attach)
{
	_Static_assert((int)SETTINGS_ATTACH_OFF == (int)PROBE_ATTACH_OFF && (int)SETTINGS_ATTACH_TC == (int)PROBE_ATTACH_TC, "one order");
	_Static_assert((int)SETTINGS_PROBE_TCP == (int)PROBE_TCP && (int)SETTINGS_PROBE_STAMP == (int)PROBE_STAMP, "one order");
	return (enum probe_attach)attach;
}

/* Enough for what is configured, and for as many targets with the default intervals as may come. */
static uint32_t flights_for(const struct settings *settings)
{
	const struct settings_probe *p = &settings->probe;
	uint64_t n = 0, paths = p->max_targets;

	for (size_t i = 0; i < p->n_targets; i++) {
		const struct settings_probe_target *t = &p->targets[i];
		const uint64_t fastest = p->adapt ? adapt_fast_interval(t->interval_ns) : t->interval_ns;

		n += (uint64_t)t->paths * probe_target_ring((enum probe_protocol)t->protocol, t->timeout_ns, fastest);
		paths -= t->paths;
	}
	n += paths * probe_target_ring(PROBE_ICMP, p->defaults.timeout_ns,
				 p->adapt ? adapt_fast_interval(p->defaults.interval_ns) : p->defaults.interval_ns);
	return n < FLIGHTS_MAX ? (uint32_t)n : FLIGHTS_MAX; /* targets beyond it are told to find no room */
}

static int open_prober(struct sampler *s, const struct settings *settings, struct error *ret_error)
{
	static const struct key none;
	const struct settings_probe *p = &settings->probe;
	const struct key *key = &none;
	int r = p->reflector.key_file && p->n_reflect ? sampler_key(s, p->reflector.key_file, &key, ret_error) : 0;
	const struct prober_options options = {
		.attach = attach_of(p->attach), .paths_max = p->max_targets, .flights_max = flights_for(settings),
		.reflect = {
			.reflect = p->n_reflect, .reflect_icmp = p->reflector.icmp,
			.reflect_authenticated_only = p->reflector.authenticated_only, .reflect_port = (uint16_t)p->reflector.port,
			.reflect_rate = p->reflector.rate, .reflect_burst = p->reflector.rate / 10 + 1,
		},
		.reflect_secret = key->secret, .reflect_secret_len = key->len, .clock_error_ns = p->clock_error_ns,
	};

	if (!r)
		r = prober_open(s->loop, &options, s->features, &s->prober, ret_error);
	if (!r)
		r = probe_devices_lock(prober_devices(s->prober), ret_error);
	return r == -EBUSY || !s->prober ? r : 0; /* a lock that nobody can hold is done without */
}

static void reflect(struct sampler *s, const struct settings *settings)
{
	char missing[200] = "";

	for (size_t i = 0; i < settings->probe.n_reflect; i++) {
		struct error error = { "" };
		const size_t len = strlen(missing);

		if (probe_devices_use(prober_devices(s->prober), settings->probe.reflect[i], true, NULL, &error) < 0)
			snprintf(missing + len, sizeof(missing) - len, "%s%.150s", len ? "; " : "", error.text);
	}
	if (missing[0])
		features_miss(s->features, "probe_reflect", missing, "");
	else if (settings->probe.n_reflect)
		features_enable(s->features, "probe_reflect", "bpf");
}

static int open_timers(struct sampler *s)
{
	uint64_t seed = mono_now().ns;
	int r;

	/* Right after the boot there may be no random number yet; the clock does for phases. */
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
		seed = mono_now().ns;
	probe_schedule_init(&s->schedule, s->config.packets, s->config.bytes, seed);
	r = resolve_new(s->loop, &s->resolve);
	if (!r)
		r = loop_timer_new(s->loop, on_pace, s, &s->pace);
	if (!r)
		r = loop_timer_new(s->loop, on_second, s, &s->second);
	return r < 0 ? r : loop_timer_start(s->second, NS_PER_SEC, NS_PER_SEC);
}

int sampler_open(struct loop *loop, const struct settings *settings, struct peers *peers, struct features *features,
		 struct sampler **ret_sampler, struct error *ret_error)
{
	struct sampler *s = calloc(1, sizeof(*s));
	struct wish_list wishes = { 0 };
	int r;

	if (!s)
		return -ENOMEM;
	*s = (struct sampler){ .loop = loop, .peers = peers, .features = features, .tick_ns = settings->collect.tick_ns };
	r = sampler_config_read(s, settings, &s->config, &wishes, ret_error);
	if (!r)
		r = open_prober(s, settings, ret_error);
	if (!r)
		r = open_timers(s);
	if (r < 0) {
		wish_list_done(&wishes);
		sampler_close(s);
		return r;
	}
	reflect(s, settings);
	sampler_apply(s, TARGET_CONFIGURED, &wishes);
	sampler_update_plan(s, "");
	resolve_tick(s->resolve, mono_now());
	s->untargeted[0] = ' '; /* neither text: the first report tells */
	report_targets(s);
	tell_start(s, settings);
	*ret_sampler = s;
	return 0;
}

void sampler_close(struct sampler *sampler)
{
	struct wish_list none = { 0 };

	if (!sampler)
		return;
	plan_source_free(sampler->plan);
	for (size_t source = 0; sampler->second && source < TARGET_SOURCE_COUNT; source++)
		sampler_apply(sampler, (enum probe_target_source)source, &none);
	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++)
		free(sampler->names[source].sorted);
	loop_timer_free(sampler->pace);
	loop_timer_free(sampler->second);
	resolve_free(sampler->resolve);
	prober_close(sampler->prober);
	probe_schedule_done(&sampler->schedule);
	wish_list_done(&sampler->wished);
	sampler_config_done(&sampler->prepared);
	sampler_config_done(&sampler->config);
	sampler_keys_free(sampler);
	free(sampler);
}

int sampler_prepare(struct sampler *sampler, const struct settings *settings, struct error *ret_error)
{
	struct sampler_config config;
	struct wish_list wishes;
	int r = sampler_config_read(sampler, settings, &config, &wishes, ret_error);

	if (r < 0)
		return r;
	wish_list_done(&sampler->wished);
	sampler_config_done(&sampler->prepared);
	sampler->wished = wishes;
	sampler->prepared = config;
	return 0;
}

void sampler_reload(struct sampler *sampler, const struct settings *settings)
{
	struct sampler_config former = sampler->config;

	sampler->config = sampler->prepared;
	sampler->prepared = (struct sampler_config){ 0 };
	if (former.passive != sampler->config.passive || former.adapt != sampler->config.adapt)
		sampler_restart(sampler);
	probe_schedule_budget(&sampler->schedule, sampler->config.packets, sampler->config.bytes);
	sampler_update_peers(sampler); /* they may be fewer now */
	sampler_make_room(sampler, &sampler->wished);
	sampler_apply(sampler, TARGET_CONFIGURED, &sampler->wished);
	sampler_update_plan(sampler, former.plan_url ? former.plan_url : "");
	sampler_update_peers(sampler); /* some may be configured or planned now */
	sampler_config_done(&former);
	report_targets(sampler);
}

const struct probe_target *sampler_targets(const struct sampler *sampler, enum probe_target_source source)
{
	return sampler->targets[source];
}

uint64_t sampler_interval_ns(const struct sampler *sampler, const struct probe_target *target)
{
	return probe_schedule_interval(&sampler->schedule, &target->paths[0].entry);
}

const struct probe_schedule *sampler_schedule(const struct sampler *sampler)
{
	return &sampler->schedule;
}

struct prober *sampler_prober(const struct sampler *sampler)
{
	return sampler->prober;
}

void sampler_stats(const struct sampler *sampler, struct sampler_stats *ret_stats)
{
	*ret_stats = (struct sampler_stats){
		.late = sampler->schedule.skipped, .ring_full = sampler->ring_full, .lookup_failures = resolve_failures(sampler->resolve),
		.has_plan = sampler->plan, .paths = sampler->paths, .paths_max = sampler->config.max_targets,
	};
	if (sampler->plan)
		plan_source_counts(sampler->plan, &ret_stats->plan_fetched, &ret_stats->plan_failed);
	memcpy(ret_stats->refused, sampler->plan_refused, sizeof(ret_stats->refused));
}
