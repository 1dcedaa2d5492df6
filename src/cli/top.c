/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde top`: connections, peers, processes and drops as they are now, on a
 * terminal or for a script; from this host's kernel or from an agent. Here are the
 * flags and the loop: ask for a table, take it, show it, ask again.
 */
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/commands.h"
#include "cli/top_draw.h"
#include "cli/top_print.h"
#include "cli/top_source.h"
#include "lib/log.h"
#include "lib/loop.h"

#define LOCAL_AGENT "http://127.0.0.1:9435"
/* Rates need two tables; on the screen the second one does not wait for a whole interval. */
#define SECOND_NS (400 * NS_PER_MS)
#define INTERVAL_MIN_NS (100 * NS_PER_MS)
#define INTERVAL_MAX_NS (3600 * NS_PER_SEC)
/* How old the data is shall be seen between tables, too. */
#define CLOCK_NS (500 * NS_PER_MS)

struct top_flags {
	const char *url, *config_file, *view, *sort, *filter;
	uint64_t interval_ns, count;
	bool batch, json, bits, reverse;
};

static const struct flag flags[] = {
	{ .name = "view", .letter = 'v', .type = FLAG_CHOICE, .offset = offsetof(struct top_flags, view), .value = "VIEW",
	  .choices = "connections|peers|processes|drops", .help = "What to begin with." },
	{ .name = "sort", .letter = 's', .type = FLAG_STRING, .offset = offsetof(struct top_flags, sort), .value = "COLUMN",
	  .help = "Column to sort by: rate, rtt, retrans, why, process, ...; a wrong one gets the list." },
	{ .name = "reverse", .letter = 'r', .type = FLAG_SWITCH, .offset = offsetof(struct top_flags, reverse), .help = "Turn the order around." },
	{ .name = "filter", .letter = 'f', .type = FLAG_STRING, .offset = offsetof(struct top_flags, filter), .value = "TERMS",
	  .help = "Only rows for which all terms hold." },
	{ .name = "interval", .letter = 'i', .type = FLAG_DURATION, .offset = offsetof(struct top_flags, interval_ns), .value = "DURATION",
	  .help = "From table to table." },
	{ .name = "delay", .letter = 'd', .type = FLAG_DURATION, .offset = offsetof(struct top_flags, interval_ns), .value = "DURATION",
	  .help = "The same as --interval.", .hidden = true },
	{ .name = "bits", .type = FLAG_SWITCH, .offset = offsetof(struct top_flags, bits), .help = "Bits per second instead of bytes." },
	{ .name = "batch", .letter = 'b', .type = FLAG_SWITCH, .offset = offsetof(struct top_flags, batch),
	  .help = "Print tables of text, as is done where standard output is no terminal." },
	{ .name = "json", .letter = 'j', .type = FLAG_SWITCH, .offset = offsetof(struct top_flags, json), .help = "Print tables as JSON, one object a line." },
	{ .name = "count", .letter = 'n', .type = FLAG_UINT, .offset = offsetof(struct top_flags, count), .value = "NUMBER",
	  .help = "How many tables --batch and --json print; 0: no end." },
	{ .name = "url", .letter = 'u', .type = FLAG_STRING, .offset = offsetof(struct top_flags, url), .value = "URL",
	  .help = "Ask a running agent, such as " LOCAL_AGENT ", instead of this host's kernel." },
	{ .name = "config.file", .type = FLAG_STRING, .offset = offsetof(struct top_flags, config_file), .value = "FILE",
	  .help = "Configuration file with the names of networks, without --url." },
	{ 0 }
};

const struct flag_command top_command = {
	.name = "top",
	.summary = "show live connections, peers, processes and drops",
	.description =
		"Shows TCP connections with their process, container, RTT, jitter, retransmissions and throughput, and whom each waits "
		"for: the network, the far host or this host; the same added up by peer and by process; and what the kernel drops, by "
		"reason. The key ? explains keys, filters and columns.\n\nFilters are terms between blanks: a text, process:nginx (or process=nginx for the whole name), "
		"peer:10.0.0.0/8, pid:1, port:443, container:web, state:close_wait, verdict:network, rtt>10ms, retrans>1%, rate>1M, "
		"and ! in front of any for its opposite. Rows of peers and processes are made of the connections that match.\n\nNeeds "
		"root, or CAP_BPF and CAP_PERFMON; no agent has to run. With --url, or when these rights are missing and an agent "
		"answers at " LOCAL_AGENT ", it shows that agent's tables: of more than 2000 connections the busiest. For "
		"scripts the exit status is 1 when the last table did not come.",
	.flags = flags,
};

struct top {
	struct top_flags flags;
	struct loop *loop;
	struct top_source *source;
	struct top_live live;
	struct top_screen *screen;   /* NULL: for a script */
	struct loop_timer *next, *clock;
	struct loop_fd *input;
	struct loop_signal *signals[5];
	mono_time asked;
	bool guessed;                /* nobody named the agent */
	bool scripted;               /* no screen is wanted */
	bool answered;               /* a table came */
	uint64_t printed;
	int status;
	struct error error;          /* for standard error, when the terminal is ours no more */
};

static void draw(struct top *t)
{
	if (t->screen)
		top_draw(t->screen, &t->live, mono_now());
}

static void give_up(struct top *t, const char *what)
{
	error_set(&t->error, -EIO, "%s", what);
	t->status = 1;
	loop_stop(t->loop);
}

static void ask(struct top *t)
{
	t->asked = mono_now();
	top_source_ask(t->source);
}

/* Not sooner than what it costs allows. */
static void ask_later(struct top *t, uint64_t period_ns)
{
	uint64_t least = top_source_least_period_ns(t->source), passed = mono_since_ns(mono_now(), t->asked);

	if (period_ns < least)
		period_ns = least;
	loop_timer_start(t->next, passed < period_ns ? period_ns - passed : 0, 0);
}

static void on_next(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct top *t = userdata;

	if (!t->live.paused)
		ask(t);
}

static int print(struct top *t)
{
	struct buffer out = BUFFER_INIT;
	int r = 0;

	if (t->flags.json)
		r = top_write_json(&t->live, &out);
	else
		top_write_batch(&t->live, &out);
	if (!r && !buffer_ok(&out))
		r = -ENOMEM;
	if (!r && (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout)))
		r = -EIO;
	buffer_done(&out);
	return r;
}

/* A table, or none, for a script. The first one is only what the rates of the next are since. */
static void take_scripted(struct top *t, const char *error)
{
	if (error) {
		fprintf(stderr, "netsonde top: %s\n", error);
		t->status = 1;
	} else if (t->answered) {
		t->status = print(t) < 0;
		if (t->status) {
			give_up(t, "cannot write");
			return;
		}
	}
	if (t->answered && ++t->printed == t->flags.count)
		loop_stop(t->loop);
}

static void on_key(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct top *t = userdata;
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	bool was_paused = t->live.paused;
	int key, r = 0, keys = 0;

	while (!t->live.quit && r >= 0 && (key = top_screen_key(t->screen)) != TOP_KEY_NONE) {
		keys++;
		if (key == TOP_KEY_REDRAW)
			top_screen_redraw(t->screen);
		else
			r = top_live_key(&t->live, key);
	}
	if (r < 0)
		give_up(t, strerror(-r));
	if (t->live.quit || (!keys && poll(&input, 1, 0) > 0 && input.revents & (POLLHUP | POLLERR)))
		loop_stop(t->loop);
	if (t->live.paused && !was_paused)
		top_source_rest(t->source);
	if (!t->live.paused && was_paused)
		ask(t);
	draw(t);
}

static void on_clock(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	draw(userdata);
}

static void on_signal(struct loop_signal *sig, int signum, void *userdata)
{
	struct top *t = userdata;

	if (signum != SIGWINCH) {
		loop_stop(t->loop);
		return;
	}
	top_screen_resized(t->screen);
	draw(t);
}

static int open_screen(struct top *t)
{
	static const int signums[] = { SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	int r = 0;

	/* Before ncurses, which takes those that nobody has. */
	for (size_t i = 0; i < sizeof(signums) / sizeof(signums[0]) && !r; i++)
		r = loop_signal_new(t->loop, signums[i], on_signal, t, &t->signals[i]);
	if (!r)
		r = top_screen_open(&t->screen, &t->error);
	if (!r)
		r = loop_fd_new(t->loop, STDIN_FILENO, LOOP_READABLE, on_key, t, &t->input);
	if (!r)
		r = loop_timer_new(t->loop, on_clock, t, &t->clock);
	if (!r)
		r = loop_timer_start(t->clock, CLOCK_NS, CLOCK_NS);
	return r;
}

static void on_table(struct top_table *table, const char *error, void *userdata)
{
	struct top *t = userdata;
	bool first = !t->answered;
	int r = 0;

	if (!table && first && (t->scripted || t->guessed)) {
		if (t->guessed)
			error_set(&t->error, -EIO, "this host's kernel can be looked into as root only (or with CAP_BPF and CAP_PERFMON), and no agent "
				  "answers at " LOCAL_AGENT ": %s; run it as root, or name an agent with --url", error);
		else
			error_set(&t->error, -EIO, "no table from %s: %s", top_source_name(t->source), error);
		t->status = 1;
		loop_stop(t->loop);
		return;
	}
	if (table)
		r = top_live_table(&t->live, table, mono_now());
	else
		top_live_error(&t->live, error, mono_now());
	if (!r && !t->scripted && !t->screen)
		r = open_screen(t);
	if (r < 0) {
		give_up(t, t->error.text[0] ? t->error.text : strerror(-r));
		return;
	}
	if (t->scripted)
		take_scripted(t, error);
	t->answered |= table != NULL;
	ask_later(t, first && table && !t->scripted && SECOND_NS < t->flags.interval_ns ? SECOND_NS : t->flags.interval_ns);
	draw(t);
}

/* The look as the flags want it. */
static int prepare(struct top *t, struct error *ret_error)
{
	const struct top_flags *f = &t->flags;
	struct top_look *look = &t->live.look;
	int r;

	if (f->interval_ns < INTERVAL_MIN_NS || f->interval_ns > INTERVAL_MAX_NS)
		return error_set(ret_error, -EINVAL, "--interval must be from 100ms to 1h");
	for (unsigned i = 0; i < TOP_VIEWS; i++)
		look->column[i] = top_column_default((enum top_view)i);
	top_view_parse(f->view, &look->view);
	look->bits = f->bits;
	look->reverse[look->view] = f->reverse;
	if (f->sort) {
		r = top_column_parse(f->sort, look->view, &look->column[look->view], ret_error);
		if (r < 0)
			return r;
	}
	if (f->filter) {
		r = top_filter_parse(f->filter, look->view == TOP_DROPS, top_live_filter(&t->live), ret_error);
		if (r < 0)
			return r;
	}
	t->live.interval_ns = f->interval_ns;
	t->scripted = f->batch || f->json || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO);
	return 0;
}

static int open_source(struct top *t)
{
	struct top_source_options options = { t->flags.url, t->flags.config_file };
	char name[TOP_TEXT_MAX] = "";
	int r = top_source_open(t->loop, &options, on_table, t, &t->source, &t->error);

	if (r == -EPERM && !options.url) {
		t->guessed = true;
		options.url = LOCAL_AGENT;
		t->error = (struct error){ "" };
		r = top_source_open(t->loop, &options, on_table, t, &t->source, &t->error);
	}
	if (r < 0)
		return r;
	gethostname(name, sizeof(name) - 1);
	top_clean(t->flags.url ? "" : name, t->live.host, sizeof(t->live.host));
	top_clean(top_source_name(t->source), t->live.source, sizeof(t->live.source));
	return 0;
}

static int run(struct top *t)
{
	int r = loop_new(&t->loop);

	if (!r)
		r = open_source(t);
	if (!r)
		r = loop_timer_new(t->loop, on_next, t, &t->next);
	/* An agent that nobody named may not be there: then a sentence says so, and no screen. */
	if (!r && !t->scripted && !t->guessed)
		r = open_screen(t);
	if (!r) {
		draw(t);
		loop_timer_start(t->next, 0, 0);
		r = loop_run(t->loop);
	}
	return r;
}

static void done(struct top *t)
{
	top_screen_close(t->screen);
	top_source_close(t->source);
	loop_free(t->loop);
	top_live_done(&t->live);
}

int cmd_top(int argc, char **argv)
{
	struct top t = { .flags = { .view = "connections", .interval_ns = NS_PER_SEC, .count = 1 } };
	int r = flags_parse(&top_command, argc, argv, &t.flags, NULL, NULL, &t.error);

	if (r == FLAGS_E_HELP)
		return 0;
	setlocale(LC_CTYPE, "");
	if (!r)
		r = prepare(&t, &t.error);
	if (r < 0) {
		fprintf(stderr, "netsonde top: %s\n", t.error.text);
		return 2;
	}
	log_setup("top", "error", "logfmt", NULL);
	r = run(&t);
	done(&t);
	if (r < 0 || t.error.text[0])
		fprintf(stderr, "netsonde top: %s\n", t.error.text[0] ? t.error.text : strerror(-r));
	return r < 0 ? 1 : t.status;
}
