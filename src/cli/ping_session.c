/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When `netsonde ping` sends, and when it looks. Probe number k goes to path k mod P at start + k * interval / P: the probes of all
 * paths are spread over the interval, and no two leave closer together than that, but for those that are due within SLOT_NS. What
 * was missed while the process was stopped is not caught up with.
 *
 * Answers that are taken in the kernel wake nobody, so they are looked for every few milliseconds while some are on their way: that
 * delays a line on the screen, never a time. It ends when the fate of the last probe is known, by the deadline, or by a signal.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "agent/features.h"
#include "agent/privileges.h"
#include "cli/ping.h"
#include "lib/loop.h"

#define SLOT_NS (2 * NS_PER_MS)        /* timers finer than that cost more than the probes */
#define LOOK_NS (10 * NS_PER_MS)       /* nobody sees that a line is so much late */
#define LOOK_QUIET_NS (100 * NS_PER_MS)
#define TICK_NS NS_PER_SEC             /* prober_tick */
#define RING_SPARE 2                   /* probes, beyond those of a time-out and a half */

struct ping_session {
	struct ping_hosts *hosts;
	const struct ping_options *options;
	struct ping_look look;
	struct loop *loop;
	struct prober *prober;
	struct loop_timer *send, *collect, *tick, *deadline;
	struct loop_signal *signals[4];
	struct buffer out;
	size_t n_paths, allowance;
	mono_time start;             /* of the schedule; later when some was missed */
	mono_time began;
	wall_time began_wall;
	uint64_t next, end;          /* number of the next probe; of the one after the last, or UINT64_MAX */
	bool collecting;             /* the timer runs */
	int status;
};

static uint64_t pending(const struct ping_session *s)
{
	uint64_t n = 0;

	for (size_t i = 0; i < s->n_paths; i++)
		n += probe_path_pending(s->hosts->paths[i].path);
	return n;
}

static wall_time wall_of(uint64_t mono_ns)
{
	return (wall_time){ wall_now().ns - (int64_t)mono_now().ns + (int64_t)mono_ns };
}

/* What has been written so far leaves; a reader that is gone ends the session. */
static void flush(struct ping_session *s)
{
	bool ok = buffer_ok(&s->out);

	if (ok && s->out.len)
		ok = fwrite(s->out.data, 1, s->out.len, stdout) == s->out.len && !fflush(stdout);
	buffer_clear(&s->out);
	if (ok)
		return;
	s->status = 2;
	loop_stop(s->loop);
}

static void on_result(struct probe_path *engine_path, const struct probe_result *result, void *userdata)
{
	struct ping_path *path = userdata;
	struct ping_session *s = path->host->session;
	bool answered = result->outcome == PROBE_OK || result->outcome == PROBE_CLOSED;

	ping_stats_add(&path->stats, result, &s->allowance);
	if (s->options->quiet)
		return;
	if (s->options->json)
		ping_json_result(path, result, s->options, wall_of(result->sent_ns), &s->out);
	else
		ping_print_result(path, result, s->options, &s->look, answered ? wall_of(result->sent_ns + result->rtt_ns) : wall_now(), &s->out);
}

/* Duplicates and late answers, which the engine only counts. */
static void take_counts(struct ping_session *s)
{
	for (size_t i = 0; i < s->n_paths; i++) {
		struct ping_path *path = s->hosts->paths + i;
		struct probe_counts before = path->stats.counts;

		probe_path_counts(path->path, &path->stats.counts);
		if (!s->options->json && !s->options->quiet &&
		    (path->stats.counts.duplicates != before.duplicates || path->stats.counts.late != before.late))
			ping_print_odd(path, path->stats.counts.duplicates - before.duplicates, path->stats.counts.late - before.late, &s->look,
				       wall_now(), &s->out);
	}
}

static void take_all(struct ping_session *s)
{
	prober_collect(s->prober, mono_now());
	take_counts(s);
	flush(s);
}

static void on_collect(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct ping_session *s = userdata;

	take_all(s);
	if (pending(s))
		return;
	loop_timer_stop(s->collect);
	s->collecting = false;
	if (s->next == s->end)
		loop_stop(s->loop);
}

static void start_collecting(struct ping_session *s)
{
	uint64_t period = s->options->quiet ? LOOK_QUIET_NS : LOOK_NS;

	if (!s->collecting)
		loop_timer_start(s->collect, period, period);
	s->collecting = true;
}

static uint64_t due_ns(const struct ping_session *s, uint64_t k)
{
	uint64_t interval = s->options->interval_ns, paths = s->n_paths;

	return s->start.ns + k / paths * interval + k % paths * interval / paths;
}

/* Sends what is due. More than an interval late, and the schedule moves: no burst for what was slept through. */
static void on_send(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct ping_session *s = userdata;
	uint64_t now = mono_now().ns, due = due_ns(s, s->next);

	if (now > due + s->options->interval_ns)
		s->start.ns += now - due;
	for (; s->next < s->end && due_ns(s, s->next) <= now; s->next++) {
		struct ping_path *path = s->hosts->paths + s->next % s->n_paths;

		path->stats.unsent += prober_send(path->path) < 0;
	}
	prober_flush(s->prober);
	start_collecting(s);
	flush(s);
	if (s->next == s->end)
		return;
	due = due_ns(s, s->next);
	loop_timer_start(s->send, due > now + SLOT_NS ? due - now : SLOT_NS, 0);
}

static void on_tick(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct ping_session *s = userdata;

	prober_tick(s->prober, mono_now());
}

static void on_deadline(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct ping_session *s = userdata;

	loop_stop(s->loop);
}

static void on_signal(struct loop_signal *sig, int signum, void *userdata)
{
	struct ping_session *s = userdata;
	struct buffer line = BUFFER_INIT;

	if (signum != SIGQUIT) {
		loop_stop(s->loop);
		return;
	}
	take_all(s);
	ping_hosts_sum(s->hosts);
	ping_print_interim(s->hosts, &line);
	if (buffer_ok(&line))
		fprintf(stderr, "\r%s", line.data);
	buffer_done(&line);
}

static uint32_t ring_of(const struct ping_options *options)
{
	uint64_t ring = (options->timeout_ns + options->timeout_ns / 2) / options->interval_ns + RING_SPARE;

	/* All that will ever be sent is enough, too. */
	if (options->count && options->count < ring)
		ring = options->count;
	return (uint32_t)(ring < 8 ? 8 : ring);
}

static int add_path(struct ping_session *s, struct ping_path *path, struct error *ret_error)
{
	const struct ping_options *o = s->options;
	const struct ping_host *host = path->host;
	struct probe_spec spec = {
		.address = host->address, .ifindex = host->ifindex, .source = o->source, .has_source = o->has_source, .protocol = o->protocol,
		.port = ping_port(host, o), .payload = o->payload, .dscp = o->dscp, .ttl = o->ttl, .dont_fragment = o->dont_fragment,
		.path = (uint8_t)(path->number - 1), .timeout_ns = o->timeout_ns, .ring = ring_of(o),
		.secret = o->secret, .secret_len = o->secret_len,
	};

	return prober_add(s->prober, &spec, on_result, path, &path->path, ret_error);
}

static uint32_t power_of_two(uint32_t n)
{
	uint32_t power = 1;

	while (power < n)
		power *= 2;
	return power;
}

static void add_remedy(struct error *error)
{
	char binary[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", binary, sizeof(binary) - 1);
	size_t len = strlen(error->text);

	if (n > 0)
		snprintf(error->text + len, sizeof(error->text) - len,
			 "\nnetsonde ping: for everybody who may run it: sudo setcap cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon=ep %.*s", (int)n,
			 binary);
}

/* All of it that takes privileges. */
static int open_prober(struct ping_session *s, struct features *features, struct error *ret_error)
{
	struct prober_options options = {
		.attach = s->options->attach, .paths_max = (uint32_t)s->n_paths, .unprivileged = true,
		.flights_max = (uint32_t)s->n_paths * power_of_two(ring_of(s->options)),
	};
	int r = prober_open(s->loop, &options, features, &s->prober, ret_error);

	if (!r && s->options->attach != PROBE_ATTACH_AUTO && s->options->attach != PROBE_ATTACH_OFF && !prober_program(s->prober))
		r = error_set(ret_error, -EPERM, "--attach: the programs that take the times cannot be loaded here");
	if (r == -EPERM || r == -EACCES)
		add_remedy(ret_error);
	for (size_t i = 0; i < s->n_paths && !r; i++) {
		struct error why = { "" };

		r = add_path(s, s->hosts->paths + i, &why);
		if (r < 0)
			error_set(ret_error, r, "%s: %s", s->hosts->paths[i].host->name, why.text[0] ? why.text : strerror(-r));
	}
	return r;
}

/* What the person should know before the first line: why times will not be as good as they could be. */
static void explain(struct ping_session *s, const struct features *features)
{
	s->look.unhooked = PROBE_CLOCK_KERNEL;
	s->look.explained = s->options->attach == PROBE_ATTACH_OFF;
	for (size_t i = 0; i < features->n; i++) {
		const struct feature *f = features->items + i;

		if (!strcmp(f->name, "probe_sockets") && !strcmp(f->mode, "ping"))
			s->look.unhooked = PROBE_CLOCK_USER;
		if (strcmp(f->name, "probe_programs") != 0 || f->enabled)
			continue;
		fprintf(stderr, "netsonde ping: times are not taken by BPF: %s; %s\n", f->reason, f->remedy);
		s->look.explained = true;
	}
	if (s->look.unhooked != PROBE_CLOCK_USER)
		return;
	fputs("netsonde ping: without CAP_NET_RAW times are those of this program's own clock; with sudo the kernel takes them\n", stderr);
	s->look.explained = true;
}

static int drop_privileges(struct features *features, struct error *ret_error)
{
	struct user user;
	int r = user_find("auto", &user, ret_error);

	return r < 0 ? r : privileges_drop(&user, true, features, ret_error);
}

static int open_timers(struct ping_session *s)
{
	static const int signums[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	int r = 0;

	for (size_t i = 0; i < sizeof(signums) / sizeof(signums[0]) && !r; i++)
		r = loop_signal_new(s->loop, signums[i], on_signal, s, &s->signals[i]);
	if (!r)
		r = loop_timer_new(s->loop, on_send, s, &s->send);
	if (!r)
		r = loop_timer_new(s->loop, on_collect, s, &s->collect);
	if (!r)
		r = loop_timer_new(s->loop, on_tick, s, &s->tick);
	if (!r)
		r = loop_timer_new(s->loop, on_deadline, s, &s->deadline);
	if (!r)
		r = loop_timer_start(s->tick, TICK_NS, TICK_NS);
	if (!r && s->options->deadline_ns)
		r = loop_timer_start(s->deadline, s->options->deadline_ns, 0);
	return r;
}

static int open_all(struct ping_session *s, struct error *ret_error)
{
	struct features *features = calloc(1, sizeof(*features));
	int r = features ? loop_new(&s->loop) : -ENOMEM;

	if (!r)
		r = open_prober(s, features, ret_error);
	if (!r)
		explain(s, features);
	if (!r)
		r = drop_privileges(features, ret_error);
	if (!r)
		r = open_timers(s);
	free(features);
	return r;
}

/* 0: every host answered; with a count and a deadline, every probe. */
static int status_of(const struct ping_session *s)
{
	bool all = s->options->count && s->options->deadline_ns;
	uint64_t wanted = all ? s->options->count * s->hosts->paths_each : 1;

	for (size_t i = 0; i < s->hosts->n; i++)
		if (s->hosts->items[i].stats.answered < wanted)
			return 1;
	return 0;
}

static void conclude(struct ping_session *s)
{
	uint64_t duration_ns = mono_since_ns(mono_now(), s->began);

	take_all(s);
	ping_hosts_sum(s->hosts);
	if (s->options->json)
		ping_json_summary(s->hosts, s->options, s->began_wall, duration_ns, &s->out);
	else
		ping_print_summary(s->hosts, s->options, &s->look, duration_ns, &s->out);
	flush(s);
}

static void begin(struct ping_session *s)
{
	s->began = s->start = mono_now();
	s->began_wall = wall_now();
	s->end = s->options->count ? s->options->count * s->n_paths : UINT64_MAX;
	if (!s->options->json) {
		ping_print_start(s->hosts, s->options, &s->look, &s->out);
		flush(s);
	}
}

int ping_session_run(struct ping_hosts *hosts, const struct ping_options *options, const struct ping_look *look, struct error *ret_error)
{
	struct ping_session s = {
		.hosts = hosts, .options = options, .look = *look, .n_paths = hosts->n * hosts->paths_each, .allowance = PING_SAMPLES_MAX,
	};
	int r;

	for (size_t i = 0; i < hosts->n; i++)
		hosts->items[i].session = &s;
	r = open_all(&s, ret_error);
	if (!r) {
		begin(&s);
		r = loop_timer_start(s.send, 0, 0);
	}
	if (!r)
		r = loop_run(s.loop);
	if (!r) {
		conclude(&s);
		r = s.status ? s.status : status_of(&s);
	}
	for (size_t i = 0; i < s.n_paths; i++)
		hosts->paths[i].path = NULL;
	prober_close(s.prober);
	loop_free(s.loop);
	buffer_done(&s.out);
	return r;
}
