/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start and end of the server. The order tells the privilege story: everything
 * that may need root (a low port, /var/lib) comes first, then root is given up
 * for good, and only then the database is opened and anything is read from the
 * network. server_close is the reverse and safe on a half-started server, so a
 * failure at any step leaves nothing behind.
 */
#include "server/server.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include "lib/fetch.h"
#include "lib/log.h"
#include "lib/process.h"
#include "server/api.h"
#include "server/assets.h"
#include "server/live.h"
#include "server/scrape.h"
#include "server/selfmetrics.h"
#include "server/store.h"

#define DEFAULT_TARGET_NAME "local"
#define DEFAULT_TARGET_URL "http://127.0.0.1:9435/metrics"
/* The page is one origin; uPlot and inline bars set style attributes. */
#define CONTENT_SECURITY_POLICY "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " \
				"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
#define EXPIRE_FIRST_NS NS_PER_SEC
#define EXPIRE_PERIOD_NS (10 * NS_PER_SEC)
#define EXPIRE_PAUSE_NS (20 * NS_PER_MS) /* between two steps of one pass: scrapes and requests come in between */
#define EXPIRE_ROWS 2000                 /* a few ms of work */
#define EXPIRE_CATCH_UP 10               /* how much faster than time the age of samples grows after the clock stepped */
#define EXPIRE_START_MS (3600 * 1000)    /* beyond the newest sample of a database that is opened */

static void on_live(struct http_request *request, void *userdata)
{
	live_handle(request, ((struct server *)userdata)->live);
}

static void on_healthy(struct http_request *request, void *userdata)
{
	http_respond_text(request, 200, "the NetSonde server is healthy");
}

/* Requests are only looked at once the loop runs, and then everything is open. */
static void on_ready(struct http_request *request, void *userdata)
{
	http_respond_text(request, 200, "the NetSonde server is ready");
}

static void on_reload(struct http_request *request, void *userdata)
{
	struct error error = { "" };

	if (server_reload(userdata, &error) < 0)
		http_respond_text(request, 400, "%s", error.text);
	else
		http_respond_text(request, 200, "the configuration was reloaded");
}

/* Without it the route of the web page would answer, for that takes every GET. */
static void on_reload_by_get(struct http_request *request, void *userdata)
{
	const char *allow[] = { "Allow", "POST", NULL };
	const char text[] = "a reload changes something, so it is a POST\n";

	http_respond(request, &(struct http_response){ .status = 405, .content_type = "text/plain; charset=utf-8",
		.data = text, .len = sizeof(text) - 1, .headers = allow });
}

static void fill_routes(struct server *s)
{
	const struct http_route routes[] = {
		{ "GET", "/-/healthy", on_healthy },
		{ "GET", "/-/ready", on_ready },
		{ "POST", "/-/reload", on_reload },
		{ "GET", "/-/reload", on_reload_by_get },
		{ "GET", s->options->telemetry_path, selfmetrics_handle },
		{ "GET", "/api/v1/query", api_query },
		{ "POST", "/api/v1/query", api_query },
		{ "GET", "/api/v1/query_range", api_query_range },
		{ "POST", "/api/v1/query_range", api_query_range },
		{ "GET", "/api/v1/series", api_series },
		{ "POST", "/api/v1/series", api_series },
		{ "GET", "/api/v1/labels", api_labels },
		{ "POST", "/api/v1/labels", api_labels },
		{ "GET", "/api/v1/label/*", api_label_values },
		{ "GET", "/api/v1/metadata", api_metadata },
		{ "GET", "/api/v1/targets", api_targets },
		{ "GET", "/api/v1/status/buildinfo", api_buildinfo },
		{ "GET", "/api/v1/live", on_live },
		{ "GET", "/*", assets_handle },
	};

	_Static_assert(sizeof(routes) / sizeof(routes[0]) < SERVER_ROUTES_MAX, "the table ends with an empty row");
	memcpy(s->routes, routes, sizeof(routes));
}

static int refuse_target(const char *text, struct error *ret_error)
{
	char *shown = fetch_url_shown(text); /* without a password that is in it */
	int r = error_set(ret_error, -EINVAL, "--target wants NAME=URL, but got `%s`", shown ? shown : "");

	free(shown);
	return r;
}

static int check_options(const struct server_options *o, struct error *ret_error)
{
	if (o->telemetry_path[0] != '/' || strchr(o->telemetry_path, '*'))
		return error_set(ret_error, -EINVAL, "the telemetry path must start with / and have no *, but is `%s`",
				 o->telemetry_path);
	for (size_t i = 0; i < o->n_targets; i++) {
		const char *equals = strchr(o->targets[i], '=');

		if (!equals || equals == o->targets[i])
			return refuse_target(o->targets[i], ret_error);
	}
	return 0;
}

static int load_settings(const struct server *s, struct settings *ret_settings, struct error *ret_error)
{
	struct buffer errors = BUFFER_INIT;
	int r = settings_load(s->options->config_file, ret_settings, &errors);

	if (r < 0) {
		while (errors.len > 0 && errors.data[errors.len - 1] == '\n')
			errors.data[--errors.len] = '\0';
		error_set(ret_error, r, "%s",
			  errors.len > 0 ? errors.data : "cannot read the configuration: out of memory");
	}
	buffer_done(&errors);
	return r;
}

typedef int (*targets_fn)(struct server *s, const struct scrape_config *config, struct error *ret_error);

/* Calls fn with the targets in force: those of the command line, else of the file, else the agent of this host. Under
 * `netsonde run` that agent is one of them in any case, unless one of the name is configured. */
static int with_targets(struct server *s, const struct settings *settings, targets_fn fn, struct error *ret_error)
{
	const struct server_options *o = s->options;
	size_t n = o->n_targets > 0 ? o->n_targets : settings->server.scrape.n_targets;
	struct scrape_target *targets = calloc(n + 1, sizeof(*targets));
	char **names = calloc(n + 1, sizeof(*names));
	int r = targets && names ? 0 : error_set(ret_error, -ENOMEM, "out of memory");
	bool local;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (o->n_targets == 0) {
			targets[i] = (struct scrape_target){ settings->server.scrape.targets[i].name,
							     settings->server.scrape.targets[i].url };
			continue;
		}
		names[i] = strndup(o->targets[i], strcspn(o->targets[i], "="));
		targets[i] = (struct scrape_target){ names[i], strchr(o->targets[i], '=') + 1 };
		if (!names[i])
			r = error_set(ret_error, -ENOMEM, "out of memory");
	}
	local = n == 0 || o->local_agent;
	for (size_t i = 0; r == 0 && i < n; i++)
		local &= strcmp(targets[i].name, DEFAULT_TARGET_NAME) != 0;
	if (r == 0 && local)
		targets[n++] = (struct scrape_target){ DEFAULT_TARGET_NAME, o->local_agent ? o->local_agent : DEFAULT_TARGET_URL };
	if (r == 0)
		r = fn(s, &(struct scrape_config){ targets, n, settings->server.scrape.interval_ns,
						   settings->server.scrape.timeout_ns }, ret_error);
	for (size_t i = 0; names && i < o->n_targets; i++)
		free(names[i]);
	free(names);
	free(targets);
	return r;
}

static int check_targets(struct server *s, const struct scrape_config *config, struct error *ret_error)
{
	return scrape_check(config, ret_error);
}

static int configure_targets(struct server *s, const struct scrape_config *config, struct error *ret_error)
{
	return scrape_configure(s->scrape, config, ret_error);
}

int server_reload(struct server *s, struct error *ret_error)
{
	struct settings settings;
	struct error error = { "" };
	int r;

	s->reloads++;
	r = load_settings(s, &settings, &error);
	if (r == 0) {
		if (!s->options->store_path && strcmp(settings.server.store.path, s->settings.server.store.path) != 0)
			r = error_set(&error, -EBUSY, "server.store.path cannot change while the server runs (`%s`, was `%s`); "
				      "restart it", settings.server.store.path, s->settings.server.store.path);
		else
			r = with_targets(s, &settings, configure_targets, &error);
		if (r < 0)
			settings_done(&settings);
	}
	s->reload_ok = r == 0;
	if (r < 0) {
		s->reloads_failed++;
		log_error("cannot reload the configuration; the old one stays in force", "error", error.text, NULL);
		return error_set(ret_error, r, "%s", error.text);
	}
	settings_done(&s->settings);
	s->settings = settings;
	log_info("the configuration was reloaded", NULL);
	return 0;
}

static void on_stop_signal(struct loop_signal *sig, int signum, void *userdata)
{
	struct server *s = userdata;

	log_info("ending", "signal", signum == SIGINT ? "SIGINT" : "SIGTERM", NULL);
	loop_stop(s->loop);
}

static void on_hup(struct loop_signal *sig, int signum, void *userdata)
{
	(void)server_reload(userdata, NULL);
}

/* The time by which samples are old. Never later than the clock; and when that steps forward (by mistake, say, by a year)
 * this goes after it ten times as fast as time, so that a mistake can be put right before the history is gone. */
static int64_t expire_time_ms(struct server *s)
{
	const int64_t wall = wall_ms(wall_now());
	const mono_time now = mono_now();
	const uint64_t passed_ms = mono_since_ns(now, s->expire_looked) / NS_PER_MS;

	s->expire_ms += (int64_t)(passed_ms * EXPIRE_CATCH_UP);
	if (s->expire_ms > wall)
		s->expire_ms = wall;
	s->expire_looked = now;
	return s->expire_ms;
}

/* Before the first scrape, whose time may be wrong. */
static void start_expire_time(struct server *s)
{
	const int64_t newest = store_newest_ms(s->store, "up");

	s->expire_ms = newest == INT64_MIN ? wall_ms(wall_now()) : newest + EXPIRE_START_MS;
	s->expire_looked = mono_now();
}

static void on_expire(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct server *s = userdata;
	const int64_t keep_ms = (int64_t)(s->settings.server.store.retention_raw_ns / NS_PER_MS);
	struct error error = { "" };
	const int64_t now_ms = expire_time_ms(s);
	bool more = false;
	int64_t n = 0;

	if (keep_ms > 0)
		n = store_expire(s->store, now_ms - keep_ms, EXPIRE_ROWS, &more, &error);
	if (n < 0 && !s->expire_failing)
		log_error("cannot delete old samples; trying again", "error", error.text, NULL);
	s->expire_failing = n < 0;
	(void)loop_timer_start(s->expire, more ? EXPIRE_PAUSE_NS : EXPIRE_PERIOD_NS, 0);
}

/* Each target and each browser is a descriptor; the usual soft limit of 1024 is for programs that use select(). */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int find_store_path(struct server *s, struct error *ret_error)
{
	const char *path = s->options->store_path;
	struct buffer full = BUFFER_INIT;
	char *dir = NULL;
	int r;

	if (path || s->settings.server.store.path[0] == '/') {
		s->store_path = strdup(path ? path : s->settings.server.store.path);
		return s->store_path ? 0 : error_set(ret_error, -ENOMEM, "out of memory");
	}
	r = user_state_dir(&s->user, &dir, ret_error);
	if (r < 0)
		return r;
	buffer_printf(&full, "%s/%s", dir, s->settings.server.store.path);
	free(dir);
	s->store_path = buffer_steal(&full, NULL);
	return s->store_path ? 0 : error_set(ret_error, -ENOMEM, "out of memory");
}

static int start_privileged(struct server *s, struct error *ret_error)
{
	const struct http_options http = {
		.listen = s->options->listen, .n_listen = s->options->n_listen, .routes = s->routes, .userdata = s,
		.content_security_policy = CONTENT_SECURITY_POLICY, .own_site_path = "/api/",
	};
	int r;

	r = load_settings(s, &s->settings, ret_error);
	if (r < 0)
		return r;
	s->settings_loaded = true;
	r = with_targets(s, &s->settings, check_targets, ret_error);
	if (r == 0)
		r = user_find(s->options->user, &s->user, ret_error);
	if (r < 0)
		return r;
	raise_descriptor_limit();
	r = loop_new(&s->loop);
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot start the event loop");
	r = process_reader_new(&s->process);
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot read this process's own figures in /proc");
	fill_routes(s);
	r = http_open(s->loop, &http, &s->http, ret_error);
	return r < 0 ? r : find_store_path(s, ret_error);
}

static int start_signals(struct server *s, struct error *ret_error)
{
	int r = loop_signal_new(s->loop, SIGTERM, on_stop_signal, s, &s->signals[0]);

	if (r == 0)
		r = loop_signal_new(s->loop, SIGINT, on_stop_signal, s, &s->signals[1]);
	if (r == 0)
		r = loop_signal_new(s->loop, SIGHUP, on_hup, s, &s->signals[2]);
	return r < 0 ? error_set_errno(ret_error, r, "cannot receive signals") : 0;
}

static int start_unprivileged(struct server *s, struct error *ret_error)
{
	int r = store_open(s->store_path, &s->store, ret_error);

	if (r < 0)
		return r;
	start_expire_time(s);
	r = live_new(s->store, &s->live);
	if (r < 0)
		return error_set(ret_error, r, "out of memory");
	r = scrape_new(s->loop, s->store, live_commit, s->live, &s->scrape, ret_error);
	if (r < 0)
		return r;
	live_set_scrape(s->live, s->scrape);
	r = with_targets(s, &s->settings, configure_targets, ret_error);
	if (r < 0)
		return r;
	r = loop_timer_new(s->loop, on_expire, s, &s->expire);
	if (r == 0)
		r = loop_timer_start(s->expire, EXPIRE_FIRST_NS, 0);
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot start a timer");
	return start_signals(s, ret_error);
}

/* The newest tick is committed, and the streams get it, before anything is taken away. */
static void server_close(struct server *s)
{
	scrape_free(s->scrape);
	if (s->live)
		live_set_scrape(s->live, NULL);
	http_close(s->http);
	live_free(s->live);
	loop_timer_free(s->expire);
	for (size_t i = 0; i < sizeof(s->signals) / sizeof(s->signals[0]); i++)
		loop_signal_free(s->signals[i]);
	store_close(s->store);
	process_reader_free(s->process);
	loop_free(s->loop);
	if (s->settings_loaded)
		settings_done(&s->settings);
	free(s->store_path);
}

static void announce(const struct server *s)
{
	char uid[16];

	for (size_t i = 0; i < s->options->n_listen; i++)
		log_info("listening", "address", http_listen_address(s->http, i), "path", "/", NULL);
	snprintf(uid, sizeof(uid), "%u", (unsigned)s->user.uid);
	log_info("the server is ready", "database", s->store_path, "user", s->user.name, "uid", uid, "version",
		 NETSONDE_VERSION, NULL);
}

int server_run(const struct server_options *options, struct error *ret_error)
{
	struct server s = { .options = options, .reload_ok = true };
	int r;

	/* A browser that goes away is an error of write(2), not the end of the server. */
	signal(SIGPIPE, SIG_IGN);
	r = check_options(options, ret_error);
	if (r < 0)
		return r;
	r = start_privileged(&s, ret_error);
	if (r == 0)
		/* From here on an ordinary user, for good: what follows reads bytes from the network. */
		r = user_drop(&s.user, ret_error);
	if (r == 0)
		r = start_unprivileged(&s, ret_error);
	if (r == 0) {
		announce(&s);
		r = loop_run(s.loop);
		if (r < 0)
			error_set_errno(ret_error, r, "the event loop failed");
	}
	server_close(&s);
	return r;
}
