/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde why`: what do the connections with a peer, or of a process, wait for?
 * Looks at them several times a second for a while, and says it in a sentence, with
 * the numbers behind it.
 */
#include <errno.h>
#include <math.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/commands.h"
#include "cli/why.h"
#include "lib/log.h"

struct why_flags {
	const char *config_file, *url;
	uint64_t interval_ns;
	bool json;
};

static const struct flag flags[] = {
    {.name = "interval",
     .type = FLAG_DURATION,
     .offset = offsetof(struct why_flags, interval_ns),
     .value = "DURATION",
     .help = "How long to look."},
    {.name = "url",
     .type = FLAG_STRING,
     .offset = offsetof(struct why_flags, url),
     .value = "URL",
     .help = "Ask a running agent, such as http://127.0.0.1:9435, instead of this host's kernel."},
    {.name = "config.file",
     .type = FLAG_STRING,
     .offset = offsetof(struct why_flags, config_file),
     .value = "FILE",
     .help = "Configuration file with the names of networks."},
    {.name = "json",
     .type = FLAG_SWITCH,
     .offset = offsetof(struct why_flags, json),
     .help = "Print one JSON object instead of text."},
    {0}};

const struct flag_command why_command = {
    .name = "why",
    .summary = "say what connections wait for: network, far host or this host",
    .arguments = "PEER|PID|CONNECTION",
    .description =
	"Looks for a while at the TCP connections with a peer (an address or prefix, a configured network's name, a "
	"host's "
	"name), of a process (its PID), or at one connection (its ID, or LOCAL:PORT-REMOTE:PORT), and says what they "
	"wait "
	"for: the network (loss, distance, bandwidth), the far host (its receive window, its application) or this host "
	"(send buffer, reader, writer).\n\nWithout --url it needs root, or CAP_BPF and CAP_PERFMON; no agent has to "
	"run. Time "
	"with data outstanding is measured by the kernel; who ended the time without is seen in about ten looks a "
	"second, and "
	"with --url in two. The exit status is 1 when no such connection was found.",
    .flags = flags,
    .arguments_min = 1,
    .arguments_max = 1,
};

/* Both ends of the loop below. */
#define INTERVAL_MIN_NS (200 * NS_PER_MS)
#define INTERVAL_MAX_NS (3600 * NS_PER_SEC)
/* With very many connections an agent makes its next table only after some time. */
#define SECOND_LOOK_MAX_NS (60 * NS_PER_SEC)

struct watch {
	const struct why_target *target;
	struct why_source *source;
	enum why_kind kind;                /* WHY_KIND_COUNT: not known yet */
	size_t matches[WHY_KIND_COUNT];    /* in the table at hand */
	void *tree;                        /* of struct why_seen, by cookie */
	struct why_seen **seen;
	size_t n, room;
	unsigned looks;
	bool counting;                     /* not the first table: its changes are of a time before ours */
};

static int compare_seen(const void *left, const void *right)
{
	const struct why_seen *a = left, *b = right;

	return a->connection.cookie < b->connection.cookie ? -1 : a->connection.cookie > b->connection.cookie;
}

static struct why_seen *find_seen(struct watch *w, const struct connection *c)
{
	struct why_seen key = { .connection = { .cookie = c->cookie } }, *new_one, **grown;
	void *node = tfind(&key, &w->tree, compare_seen);

	if (node)
		return *(struct why_seen **)node;
	if (w->n == w->room) {
		grown = reallocarray(w->seen, w->room ? w->room * 2 : 64, sizeof(*w->seen));
		if (!grown)
			return NULL;
		w->seen = grown;
		w->room = w->room ? w->room * 2 : 64;
	}
	new_one = calloc(1, sizeof(*new_one));
	if (!new_one)
		return NULL;
	new_one->connection = *c;
	new_one->connection.input = (struct verdict_input){ 0 };
	if (!tsearch(new_one, &w->tree, compare_seen)) {
		free(new_one);
		return NULL;
	}
	return w->seen[w->n++] = new_one;
}

static int count_matches(const struct connection *c, void *userdata)
{
	struct watch *w = userdata;

	for (unsigned kind = 0; kind < WHY_KIND_COUNT; kind++)
		w->matches[kind] += why_target_matches(w->target, (enum why_kind)kind, c);
	return 0;
}

static int take_row(const struct connection *c, void *userdata)
{
	struct watch *w = userdata;
	struct verdict_input sum;
	struct why_seen *seen;

	if (!why_target_matches(w->target, w->kind, c))
		return 0;
	seen = find_seen(w, c);
	if (!seen)
		return -ENOMEM;
	sum = seen->connection.input;
	seen->connection = *c;
	seen->looks++;
	if (w->counting && c->input.interval_s > 0)
		verdict_input_add(&sum, &c->input);
	seen->connection.input = sum;
	return 0;
}

/* A table that has what the argument may mean: all, or only what it means as one kind. */
static int look_for(struct watch *w, enum why_kind kind, struct error *ret_error)
{
	bool fresh;

	memset(w->matches, 0, sizeof(w->matches));
	why_source_narrow(w->source, w->target, kind);
	return why_source_table(w->source, count_matches, w, &fresh, ret_error);
}

/* Which of its meanings does the argument have? 1: known now. */
static int find_kind(struct watch *w, struct error *ret_error)
{
	bool ask = why_source_asks(w->source);
	int r = ask ? 0 : look_for(w, WHY_KIND_COUNT, ret_error);

	for (unsigned kind = 0; kind < WHY_KIND_COUNT && r >= 0; kind++) {
		if (!w->target->possible[kind] || (kind == WHY_HOST && !w->target->n_addresses))
			continue;
		if (ask)
			r = look_for(w, (enum why_kind)kind, ret_error);
		if (r < 0 || !w->matches[kind])
			continue;
		w->kind = (enum why_kind)kind;
		why_source_narrow(w->source, w->target, w->kind);
		return 1;
	}
	return r;
}

static void progress(const struct watch *w, mono_time start, uint64_t interval_ns)
{
	double seconds = ns_to_seconds(mono_since_ns(mono_now(), start));

	if (!isatty(STDERR_FILENO))
		return;
	if (w->kind == WHY_KIND_COUNT)
		fprintf(stderr, "\r\033[Klooking for %s: %.1f of %.1f s", w->target->text, seconds,
			ns_to_seconds(interval_ns));
	else
		fprintf(stderr, "\r\033[Kwatching %zu connection%s: %.1f of %.1f s", w->n, w->n == 1 ? "" : "s",
			seconds, ns_to_seconds(interval_ns));
}

static void sleep_until(mono_time when)
{
	struct timespec t = { .tv_sec = (time_t)(when.ns / NS_PER_SEC), .tv_nsec = (long)(when.ns % NS_PER_SEC) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* Once it is known what is meant, one more table. */
static int look(struct watch *w, struct why_target *target, mono_time *start, struct error *ret_error)
{
	bool fresh = false;
	int r;

	if (w->kind == WHY_KIND_COUNT) {
		r = find_kind(w, ret_error);
		if (r <= 0) {
			why_target_resolve(target);
			return r;
		}
		*start = mono_now(); /* the interval begins with what is looked at */
	}
	r = why_source_table(w->source, take_row, w, &fresh, ret_error);
	w->looks += fresh;
	w->counting |= fresh;
	return r;
}

/* Looks until the interval is over; at what was found at least twice, since one look shows no time, if that does not
 * take for ever. */
static int watch_run(struct watch *w, uint64_t interval_ns, struct why_target *target, struct error *ret_error)
{
	mono_time start = mono_now(), next;
	uint64_t end;
	int r;

	for (;;) {
		r = look(w, target, &start, ret_error);
		progress(w, start, interval_ns);
		end = start.ns + interval_ns;
		if (w->kind != WHY_KIND_COUNT && w->looks < 2)
			end += SECOND_LOOK_MAX_NS;
		next = mono_now();
		if (r < 0 || next.ns >= end)
			break;
		next.ns += why_source_period_ns(w->source);
		sleep_until(next.ns < end ? next : (mono_time){ end });
	}
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	if (r >= 0 && why_source_left_out(w->source))
		fprintf(stderr,
			"netsonde why: %llu more connections match than there is room for; these are not looked at\n",
			(unsigned long long)why_source_left_out(w->source));
	return r;
}

/* Seconds in which it waited for somebody, but its own writer. */
static double waited(const struct why_seen *seen)
{
	const struct verdict *v = &seen->connection.verdict;

	return seen->observed_s * (1 - v->causes[CAUSE_IDLE] - v->causes[CAUSE_LOCAL_WRITER]);
}

static int compare_worst(const void *left, const void *right)
{
	const struct why_seen *a = *(struct why_seen *const *)left, *b = *(struct why_seen *const *)right;
	uint64_t moved_a = a->connection.input.sent_bytes + a->connection.input.received_bytes;
	uint64_t moved_b = b->connection.input.sent_bytes + b->connection.input.received_bytes;

	if (waited(a) != waited(b))
		return waited(a) > waited(b) ? -1 : 1;
	if (moved_a != moved_b)
		return moved_a > moved_b ? -1 : 1;
	return a->connection.cookie < b->connection.cookie ? -1 : a->connection.cookie > b->connection.cookie;
}

static void conclude(struct watch *w, struct why_result *result)
{
	double total = 0;

	for (size_t i = 0; i < w->n; i++) {
		struct why_seen *seen = w->seen[i];
		struct connection *c = &seen->connection;

		seen->observed_s = c->interval_s = c->input.interval_s;
		verdict_of(&c->input, &c->verdict);
		c->sent_rate = c->interval_s > 0 ? (double)c->input.sent_bytes / c->interval_s : 0;
		c->received_rate = c->interval_s > 0 ? (double)c->input.received_bytes / c->interval_s : 0;
		c->retransmit_ratio = c->input.retransmits
					  ? fmin(1, (double)c->input.retransmits /
							(double)(c->input.sent_segments ? c->input.sent_segments : 1))
					  : 0;
		if (c->verdict.side == VERDICT_NOTHING)
			result->idle++;
		else
			verdict_add(&result->verdict, &total, &c->verdict, seen->observed_s);
		result->interval_s = fmax(result->interval_s, seen->observed_s);
	}
	if (result->idle == w->n)
		verdict_of(&(struct verdict_input){ 0 }, &result->verdict);
	if (w->n)
		qsort(w->seen, w->n, sizeof(*w->seen), compare_worst);
	result->target = w->target;
	result->kind = w->kind;
	result->seen = w->seen;
	result->n = w->n;
	result->looks = w->looks;
}

static int show(const struct why_result *result, bool json)
{
	struct buffer out = BUFFER_INIT;
	int r = 0;

	if (!json) {
		why_print(result, stdout);
	} else {
		r = why_write_json(result, &out);
		if (!r)
			puts(out.data);
		buffer_done(&out);
	}
	return r || fflush(stdout) || ferror(stdout);
}

static int watch_and_show(struct watch *w, const struct why_flags *f, struct why_target *target)
{
	struct buffer hint = BUFFER_INIT;
	struct why_result result = { 0 };
	struct error error = { "" };
	int r = watch_run(w, f->interval_ns, target, &error);

	if (r < 0) {
		fprintf(stderr, "netsonde why: %s\n", error.text[0] ? error.text : strerror(-r));
		return 1;
	}
	if (!w->n) {
		why_suggest(target, w->source, &hint);
		fprintf(stderr, "netsonde why: %s\n", hint.data ? hint.data : "not found");
		buffer_done(&hint);
		return 1;
	}
	conclude(w, &result);
	return show(&result, f->json);
}

static void forget(void *seen)
{
	free(seen);
}

int cmd_why(int argc, char **argv)
{
	struct why_flags f = { .interval_ns = 3 * NS_PER_SEC };
	struct watch watch = { .kind = WHY_KIND_COUNT };
	struct why_target target;
	struct error error = { "" };
	char **arguments;
	size_t n;
	int r = flags_parse(&why_command, argc, argv, &f, &arguments, &n, &error);

	if (r == FLAGS_E_HELP)
		return 0;
	if (!r && (f.interval_ns < INTERVAL_MIN_NS || f.interval_ns > INTERVAL_MAX_NS))
		r = error_set(&error, -EINVAL, "--interval must be from 200ms to 1h");
	if (!r)
		r = why_target_parse(arguments[0], &target, &error);
	if (r < 0) {
		fprintf(stderr, "netsonde why: %s\n", error.text);
		return 2;
	}
	log_setup("why", "error", "logfmt", NULL);
	r = why_source_open(f.url, f.config_file, &watch.source, &error);
	if (r < 0) {
		fprintf(stderr, "netsonde why: %s\n", error.text[0] ? error.text : strerror(-r));
		return 1;
	}
	watch.target = &target;
	r = watch_and_show(&watch, &f, &target);
	why_source_close(watch.source);
	free(watch.seen);
	tdestroy(watch.tree, forget);
	return r;
}
