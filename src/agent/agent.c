/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start order tells the privilege story: read the configuration, listen, open
 * the collectors (load and attach), then give everything up and only loop.
 */
#include "agent/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "agent/collectors.h"
#include "agent/exporter.h"
#include "agent/kbpf.h"
#include "agent/pace.h"
#include "agent/privileges.h"
#include "agent/registry.h"
#include "agent/self.h"
#include "lib/clock.h"
#include "lib/flags.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/settings.h"
#include "lib/user.h"

struct agent {
	const struct agent_options *options;
	struct settings settings;
	struct features features;
	struct registry *registry;
	struct self *self;
	struct collectors *collectors;
	struct loop *loop;
	struct exporter *exporter;
	struct loop_timer *tick;
	struct pace pace;
	struct loop_signal *signals[3];
};

static void log_features(const struct agent *a)
{
	for (size_t i = 0; i < a->features.n; i++) {
		const struct feature *f = &a->features.items[i];

		if (f->enabled)
			log_debug("feature", "name", f->name, "mode", f->mode, NULL);
		else if (f->unwanted)
			log_debug("feature off", "name", f->name, "reason", f->reason, NULL);
		else
			log_warn("feature missing", "name", f->name, "reason", f->reason, f->remedy[0] ? "remedy" : NULL, f->remedy, NULL);
	}
}

/* A tick that takes too long is not repeated faster than the host can bear. */
static void adapt(struct agent *a, uint64_t duration_ns)
{
	const uint64_t before = a->pace.interval_ns;
	const char *what = "ticks come as configured again";
	char took[32], interval[32];

	if (!pace_took(&a->pace, duration_ns))
		return;
	if (a->pace.interval_ns > before)
		what = "ticks take long, so they come further apart";
	else if (a->pace.interval_ns > a->pace.configured_ns)
		what = "ticks are quicker, so they come closer together";
	duration_format(duration_ns / NS_PER_MS * NS_PER_MS, took);
	duration_format(a->pace.interval_ns, interval);
	log_warn(what, "took", took, "interval", interval, NULL);
	loop_timer_start(a->tick, a->pace.interval_ns, a->pace.interval_ns);
}

static void tick(struct agent *a, uint64_t missed)
{
	mono_time start = mono_now();
	uint64_t took_ns;

	collectors_sweep(a->collectors, start);
	registry_begin(a->registry);
	self_tick(a->self, a->pace.interval_ns);
	collectors_tick(a->collectors, start);
	registry_commit(a->registry);
	took_ns = mono_since_ns(mono_now(), start);
	exporter_committed(a->exporter, a->pace.interval_ns);
	self_observe(a->self, ns_to_seconds(took_ns), missed);
	adapt(a, took_ns);
}

static void on_tick(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	tick(userdata, missed);
}

static int apply(struct agent *a, const struct settings *settings, struct error *ret_error)
{
	int r = collectors_reload(a->collectors, settings, ret_error);

	if (r < 0)
		return r;
	registry_set_budget(a->registry, settings->collect.series_budget);
	if (settings->collect.tick_ns == a->settings.collect.tick_ns)
		return 0; /* armed anew at each reload, a stream of reloads would stop the measuring */
	pace_init(&a->pace, settings->collect.tick_ns);
	return loop_timer_start(a->tick, settings->collect.tick_ns, settings->collect.tick_ns);
}

static int reload(void *userdata, struct buffer *out)
{
	struct agent *a = userdata;
	struct settings settings;
	struct error error = { "" };
	int r;

	if (!a->options->config_file) {
		buffer_puts(out, "there is no configuration file to reload: the agent was started without --config.file");
		return -ENOENT;
	}
	r = settings_load(a->options->config_file, &settings, out);
	if (r < 0) {
		log_error("reload refused; the running configuration stays", "errors", out->data, NULL);
		return r;
	}
	r = apply(a, &settings, &error);
	if (r < 0) {
		buffer_puts(out, error.text);
		log_error("reload refused; the running configuration stays", "reason", error.text, NULL);
		settings_done(&settings);
		return r;
	}
	settings_done(&a->settings);
	a->settings = settings;
	log_info("configuration reloaded", "file", a->options->config_file, NULL);
	return 0;
}

static void on_signal(struct loop_signal *sig, int signum, void *userdata)
{
	struct agent *a = userdata;
	struct buffer out = BUFFER_INIT;

	if (signum != SIGHUP) {
		log_info("stopping", "signal", strsignal(signum), NULL);
		loop_stop(a->loop);
		return;
	}
	if (reload(a, &out) == -ENOENT && !a->options->config_file)
		log_warn("nothing to reload", "reason", out.data, NULL);
	buffer_done(&out);
}

static int open_loop(struct agent *a, struct error *ret_error)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	struct exporter_options exporter = {
		.listen = a->options->listen, .n_listen = a->options->n_listen, .telemetry_path = a->options->telemetry_path,
		.registry = a->registry, .features = &a->features, .reload = reload, .userdata = a,
	};
	int r = loop_new(&a->loop);

	if (!r)
		r = exporter_open(a->loop, &exporter, &a->exporter, ret_error);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && !r; i++)
		r = loop_signal_new(a->loop, signals[i], on_signal, a, &a->signals[i]);
	if (!r)
		r = loop_timer_new(a->loop, on_tick, a, &a->tick);
	return r;
}

static int start(struct agent *a, struct error *ret_error)
{
	struct buffer errors = BUFFER_INIT;
	struct user user;
	int r = settings_load(a->options->config_file, &a->settings, &errors);

	if (r < 0) {
		error_set(ret_error, r, "%s", errors.data ? errors.data : strerror(-r));
		buffer_done(&errors);
		return r;
	}
	buffer_done(&errors);
	r = user_find(a->options->user, &user, ret_error);
	if (!r)
		r = registry_new(a->settings.collect.series_budget, &a->registry);
	if (!r)
		r = self_new(a->registry, &a->features, &a->self, ret_error);
	if (!r)
		r = open_loop(a, ret_error);
	if (!r)
		r = collectors_open(&a->settings, a->registry, &a->features, a->self, a->loop, &a->collectors, ret_error);
	if (!r)
		r = collectors_add_routes(a->collectors, a->exporter);
	if (r < 0)
		return r;
	log_features(a);
	/* Everything is open and attached. From here on the process can load nothing, and attach only what is loaded for probes. */
	r = privileges_drop(&user, settings_probe_wanted(&a->settings), &a->features, ret_error);
	if (r < 0)
		return r;
	pace_init(&a->pace, a->settings.collect.tick_ns);
	tick(a, 0);
	return loop_timer_start(a->tick, a->pace.interval_ns, a->pace.interval_ns);
}

int agent_run(const struct agent_options *options)
{
	struct agent a = { .options = options };
	struct error error = { "" };
	int r;

	signal(SIGPIPE, SIG_IGN); /* the log may go to a pipe whose reader ends first */
	kbpf_log_setup();
	r = start(&a, &error);
	if (r < 0) {
		log_error("cannot start", "reason", error.text[0] ? error.text : strerror(-r), NULL);
	} else {
		for (size_t i = 0; i < options->n_listen; i++)
			log_info("listening", "address", exporter_listen_address(a.exporter, i), "path", options->telemetry_path, NULL);
		r = loop_run(a.loop);
	}
	exporter_close(a.exporter);
	collectors_free(a.collectors);
	loop_timer_free(a.tick);
	for (size_t i = 0; i < sizeof(a.signals) / sizeof(a.signals[0]); i++)
		loop_signal_free(a.signals[i]);
	loop_free(a.loop);
	self_free(a.self);
	registry_free(a.registry);
	settings_done(&a.settings);
	return r;
}

void agent_probe(struct features *features)
{
	struct collectors *collectors = NULL;
	struct registry *registry = NULL;
	struct buffer errors = BUFFER_INIT;
	struct error error = { "" };
	struct settings settings;

	kbpf_log_setup();
	*features = (struct features){ 0 };
	if (!settings_load(NULL, &settings, &errors)) {
		/* Off by default; but could this host? */
		settings.collect.udp = settings.collect.dns = true;
		settings.probe.peers = 1;
		if (!registry_new(settings.collect.series_budget, &registry))
			collectors_open(&settings, registry, features, NULL, NULL, &collectors, &error);
		collectors_free(collectors);
		registry_free(registry);
		settings_done(&settings);
	}
	buffer_done(&errors);
}

int agent_write_metrics(struct buffer *out)
{
	struct features features = { 0 };
	struct registry *registry = NULL;
	struct self *self = NULL;
	struct error error = { "" };
	int r = registry_new(1, &registry);

	if (!r)
		r = self_new(registry, &features, &self, &error);
	if (!r)
		r = collectors_describe(registry, &error);
	if (!r)
		registry_write_markdown(registry, out);
	self_free(self);
	registry_free(registry);
	return r;
}
