/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See scrape.h. Owns the targets, the HTTP client they share, and the timers of
 * the next commit and of the checkpoint after it. The store is borrowed.
 */
#include "server/scrape.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "server/query.h"

#define CONNECTIONS_MAX 1024
#define SPACING_MAX_NS (100 * NS_PER_MS)
#define CHECKPOINT_DELAY_NS (20 * NS_PER_MS) /* after a commit: its frames are out by then, the next scrape is not yet in */
#define GOLDEN_RATIO 0.6180339887498949

struct scrape {
	struct loop *loop;
	struct store *store;
	struct fetch *fetch;
	scrape_commit_fn fn;
	void *userdata;
	struct target **targets;
	size_t n_targets;
	uint64_t interval_ns, timeout_ns;
	uint64_t n_created;          /* targets ever, for their places in the interval */
	unsigned in_flight;
	struct loop_timer *flush;
	bool flush_armed;
	struct loop_timer *checkpoint;
	bool checkpoint_armed;
	mono_time last_commit;
	bool failing;
	struct hist commit_duration;
	uint64_t commits, commits_failed, samples_lost;
	struct ingest_dropped gone;  /* of targets that were removed */
};

static size_t pending(struct scrape *s, int64_t *ret_t_ms)
{
	size_t n = 0;

	*ret_t_ms = INT64_MIN;
	for (size_t i = 0; i < s->n_targets; i++) {
		size_t waiting = ingest_pending(target_ingest(s->targets[i]));

		n += waiting;
		if (waiting > 0 && target_time_ms(s->targets[i]) > *ret_t_ms)
			*ret_t_ms = target_time_ms(s->targets[i]);
	}
	return n;
}

static int write_tick(struct scrape *s, struct error *error)
{
	int r = store_begin(s->store, error);

	if (r < 0)
		return r;
	/* A failed append has rolled back already (store.h). */
	for (size_t i = 0; r == 0 && i < s->n_targets; i++)
		r = ingest_write(target_ingest(s->targets[i]), s->store, error);
	return r < 0 ? r : store_commit(s->store, error);
}

static void note_result(struct scrape *s, int r, const struct error *error)
{
	if (r < 0 && !s->failing)
		log_error("cannot store a tick; it is lost, trying again with the next", "error", error->text, NULL);
	else if (r == 0 && s->failing)
		log_info("ticks are stored again", NULL);
	s->failing = r < 0;
}

/* Leaves nothing waiting, whatever happens. */
static void commit(struct scrape *s)
{
	struct error error = { "" };
	const mono_time start = mono_now();
	int64_t t_ms;
	size_t n = pending(s, &t_ms);
	int r;

	if (s->flush_armed)
		loop_timer_stop(s->flush);
	s->flush_armed = false;
	if (n == 0)
		return;
	r = write_tick(s, &error);
	for (size_t i = 0; i < s->n_targets; i++)
		ingest_clear(target_ingest(s->targets[i]));
	s->last_commit = mono_now();
	(void)hist_observe(&s->commit_duration, ns_to_seconds(mono_since_ns(s->last_commit, start)));
	if (r < 0) {
		s->commits_failed++;
		s->samples_lost += n;
	} else {
		s->commits++;
	}
	note_result(s, r, &error);
	if (r == 0 && s->fn)
		s->fn(t_ms, s->userdata);
	/* What fn sends goes out in the loop's next iteration; it must not wait for the disk. Not armed anew by commits
	 * that follow closely, which would put it off for ever. */
	if (!s->checkpoint_armed && store_checkpoint_due(s->store))
		s->checkpoint_armed = loop_timer_start(s->checkpoint, CHECKPOINT_DELAY_NS, 0) == 0;
}

static void on_checkpoint(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct scrape *s = userdata;

	s->checkpoint_armed = false;
	store_checkpoint(s->store);
}

static void on_flush(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct scrape *s = userdata;

	s->flush_armed = false;
	commit(s);
}

static void on_started(void *userdata)
{
	struct scrape *s = userdata;

	s->in_flight++;
}

static void on_finished(void *userdata)
{
	struct scrape *s = userdata;
	uint64_t spacing = s->interval_ns / 10 < SPACING_MAX_NS ? s->interval_ns / 10 : SPACING_MAX_NS;
	uint64_t since = mono_since_ns(mono_now(), s->last_commit), delay;

	s->in_flight--;
	if (s->flush_armed && s->in_flight > 0)
		return;
	delay = s->in_flight > 0 ? SCRAPE_FLUSH_NS : 0;
	if (since < spacing && spacing - since > delay)
		delay = spacing - since;
	if (delay == 0) {
		commit(s);
		return;
	}
	if (loop_timer_start(s->flush, delay, 0) < 0)
		commit(s);
	else
		s->flush_armed = true;
}

static void on_commit(void *userdata)
{
	commit(userdata);
}

int scrape_new(struct loop *loop, struct store *store, scrape_commit_fn fn, void *userdata, struct scrape **ret_scrape,
	       struct error *ret_error)
{
	struct scrape *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(ret_error, -ENOMEM, "out of memory");
	s->loop = loop;
	s->store = store;
	s->fn = fn;
	s->userdata = userdata;
	hist_init(&s->commit_duration, HIST_SCHEMA, 0);
	r = loop_timer_new(loop, on_flush, s, &s->flush);
	if (r == 0)
		r = loop_timer_new(loop, on_checkpoint, s, &s->checkpoint);
	if (r == 0)
		r = fetch_new(loop, CONNECTIONS_MAX, &s->fetch);
	if (r < 0) {
		scrape_free(s);
		return error_set_errno(ret_error, r, "cannot start the HTTP client");
	}
	*ret_scrape = s;
	return 0;
}

void scrape_free(struct scrape *s)
{
	if (!s)
		return;
	commit(s);
	for (size_t i = 0; i < s->n_targets; i++)
		target_free(s->targets[i]);
	free(s->targets);
	fetch_free(s->fetch);
	loop_timer_free(s->flush);
	loop_timer_free(s->checkpoint);
	hist_done(&s->commit_duration);
	free(s);
}

/* The running target that a configured one is, or NULL. */
static struct target *find_target(const struct scrape *s, const struct scrape_target *wanted)
{
	for (size_t i = 0; i < s->n_targets; i++)
		if (strcmp(target_name(s->targets[i]), wanted->name) == 0 &&
		    strcmp(target_url(s->targets[i]), wanted->url) == 0)
			return s->targets[i];
	return NULL;
}

static int refuse_url(const struct scrape_target *t, struct error *ret_error)
{
	char *shown = fetch_url_shown(t->url);
	int r = error_set(ret_error, -EINVAL, "the url of target `%s` must start with http:// or https://, but is `%s`",
			  t->name, shown ? shown : "");

	free(shown);
	return r;
}

int scrape_check(const struct scrape_config *c, struct error *ret_error)
{
	if (c->n_targets > SCRAPE_TARGETS_MAX)
		return error_set(ret_error, -EINVAL, "%zu targets are too many; one server takes %d", c->n_targets,
				 SCRAPE_TARGETS_MAX);
	if (c->interval_ns == 0 || c->timeout_ns == 0)
		return error_set(ret_error, -EINVAL, "the scrape interval and timeout must not be 0");
	for (size_t i = 0; i < c->n_targets; i++) {
		const struct scrape_target *t = &c->targets[i];

		if (!*t->name)
			return error_set(ret_error, -EINVAL, "target %zu has an empty name", i + 1);
		if (strncmp(t->url, "http://", 7) != 0 && strncmp(t->url, "https://", 8) != 0)
			return refuse_url(t, ret_error);
		for (size_t j = 0; j < i; j++)
			if (strcmp(c->targets[j].name, t->name) == 0)
				return error_set(ret_error, -EINVAL,
						 "two targets are called `%s`; names must be unique", t->name);
	}
	return 0;
}

/* A place in the interval for each new target: multiples of the golden ratio stay spread however many come. */
static uint64_t place(struct scrape *s, uint64_t interval_ns)
{
	double whole;

	return (uint64_t)(modf((double)s->n_created++ * GOLDEN_RATIO, &whole) * (double)interval_ns);
}

static bool contains(struct target *const *targets, size_t n, const struct target *t)
{
	for (size_t i = 0; i < n; i++)
		if (targets[i] == t)
			return true;
	return false;
}

static void add_dropped(struct ingest_dropped *to, const struct ingest_dropped *from)
{
	to->duplicate += from->duplicate;
	to->new_series += from->new_series;
	to->long_text += from->long_text;
}

/* From here on nothing can fail. */
static void replace_targets(struct scrape *s, struct target **targets, const struct scrape_config *config)
{
	for (size_t i = 0; i < s->n_targets; i++) {
		if (contains(targets, config->n_targets, s->targets[i]))
			continue;
		if (target_busy(s->targets[i]))
			s->in_flight--;
		target_stop(s->targets[i]);
	}
	/* The stale markers, while the targets are still in the set. */
	commit(s);
	for (size_t i = 0; i < s->n_targets; i++) {
		if (contains(targets, config->n_targets, s->targets[i]))
			continue;
		add_dropped(&s->gone, ingest_dropped(target_ingest(s->targets[i])));
		target_free(s->targets[i]);
	}
	free(s->targets);
	s->targets = targets;
	s->n_targets = config->n_targets;
	s->interval_ns = config->interval_ns;
	s->timeout_ns = config->timeout_ns;
	for (size_t i = 0; i < s->n_targets; i++)
		target_set_times(s->targets[i], s->interval_ns, s->timeout_ns);
}

int scrape_configure(struct scrape *s, const struct scrape_config *config, struct error *ret_error)
{
	const struct target_events events = { on_started, on_finished, on_commit, s };
	struct target **targets;
	size_t n = 0;
	int r;

	r = scrape_check(config, ret_error);
	if (r < 0)
		return r;
	targets = calloc(config->n_targets + 1, sizeof(*targets));
	for (; targets && n < config->n_targets; n++) {
		const struct scrape_target *t = &config->targets[n];

		targets[n] = find_target(s, t);
		if (!targets[n] && target_new(s->loop, s->fetch, t->name, t->url, &events, config->interval_ns,
					      config->timeout_ns, place(s, config->interval_ns), &targets[n]) < 0)
			break;
	}
	if (targets && n == config->n_targets) {
		/* What waits is of targets that may go: store it before their stale markers take its place. */
		commit(s);
		replace_targets(s, targets, config);
		return 0;
	}
	for (size_t i = 0; targets && i < n; i++)
		if (!contains(s->targets, s->n_targets, targets[i]))
			target_free(targets[i]);
	free(targets);
	return error_set(ret_error, -ENOMEM, "cannot create the targets: out of memory or file descriptors");
}

uint64_t scrape_interval_ns(const struct scrape *s)
{
	return s->interval_ns;
}

int64_t scrape_lookback_ms(const struct scrape *s)
{
	const int64_t ms = (int64_t)(s->interval_ns / NS_PER_MS * 5 / 2);

	return ms > QUERY_LOOKBACK_MS ? ms : QUERY_LOOKBACK_MS;
}

uint64_t scrape_timeout_ns(const struct scrape *s)
{
	return target_timeout_ns(s->interval_ns, s->timeout_ns);
}

size_t scrape_count(const struct scrape *s)
{
	return s->n_targets;
}

void scrape_info(const struct scrape *s, size_t index, struct target_info *ret_info)
{
	target_info(s->targets[index], ret_info);
}

void scrape_stats(const struct scrape *s, struct scrape_stats *ret_stats)
{
	*ret_stats = (struct scrape_stats){
		.commits = s->commits, .commits_failed = s->commits_failed, .samples_lost = s->samples_lost,
		.dropped = s->gone, .commit_duration = &s->commit_duration,
	};
	for (size_t i = 0; i < s->n_targets; i++)
		add_dropped(&ret_stats->dropped, ingest_dropped(target_ingest(s->targets[i])));
}
