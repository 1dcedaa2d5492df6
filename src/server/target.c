/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See target.h. The timer is armed once per request, when the one before is over,
 * so "never two at once" needs no flag: there is nothing that could start a
 * second. Log lines only when the state changes; the reason of each failure is
 * in target_info.
 */
#include "server/target.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/log.h"
#include "server/phase.h"
#include "server/scrape.h"

#define RESPONSE_MAX (64u << 20)             /* bytes; 100,000 samples of 200 bytes are 20 MB */
#define TIMEOUT_FLOOR_NS NS_PER_SEC
#define LATE_FLOOR_NS (20 * NS_PER_MS)

struct target {
	char *name, *url, *shown_url; /* shown: without the password */
	struct fetch *fetch;
	struct loop_timer *timer;
	struct fetch_job *job;      /* NULL: none under way */
	struct ingest *ingest;
	struct phase phase;
	struct target_events events;
	uint64_t interval_ns, timeout_ns;

	mono_time due, sent;        /* of the request under way or the last one */
	wall_time sent_wall;
	int64_t last_ms;            /* time of the newest samples that were taken */

	bool generation_known;      /* the last good answer had one, and its samples were taken */
	uint64_t generation;

	bool scraped, up;
	enum target_outcome outcome;
	double duration_s;
	mono_time data;
	struct error error;
	uint64_t outcomes[TARGET_N_OUTCOMES], skipped, late;
};

static const char *const request_headers[] = {
	"Accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.8,"
	"application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
	NULL,
};

const char *target_outcome_name(enum target_outcome outcome)
{
	static const char *const names[TARGET_N_OUTCOMES] = {
		[TARGET_OK] = "ok", [TARGET_UNCHANGED] = "unchanged", [TARGET_TIMEOUT] = "timeout",
		[TARGET_CONNECTION] = "connection", [TARGET_STATUS] = "http_status", [TARGET_CONTENT] = "content",
		[TARGET_TOO_LARGE] = "too_large", [TARGET_CLOCK] = "clock", [TARGET_INTERNAL] = "internal",
	};

	return names[outcome];
}

uint64_t target_timeout_ns(uint64_t interval_ns, uint64_t timeout_ns)
{
	uint64_t most = interval_ns > TIMEOUT_FLOOR_NS ? interval_ns : TIMEOUT_FLOOR_NS;

	return timeout_ns < most ? timeout_ns : most;
}

static bool outcome_up(enum target_outcome outcome)
{
	return outcome == TARGET_OK || outcome == TARGET_UNCHANGED;
}

static void note_state(struct target *t, enum target_outcome outcome)
{
	const bool up = outcome_up(outcome);

	if (up && (!t->scraped || !t->up))
		log_info("target is up", "target", t->name, "url", t->shown_url, NULL);
	else if (!up && (!t->scraped || t->up || t->outcome != outcome))
		log_warn("target is down; trying again each interval", "target", t->name, "url", t->shown_url,
			 "error", t->error.text, NULL);
	t->scraped = true;
	t->up = up;
	t->outcome = outcome;
	t->outcomes[outcome]++;
}

static void arm(struct target *t)
{
	const mono_time now = mono_now();
	uint64_t skipped;

	t->due = phase_next(&t->phase, t->due, now, t->interval_ns, &skipped);
	t->skipped += skipped;
	if (loop_timer_start(t->timer, mono_since_ns(t->due, now), 0) < 0)
		log_error("cannot arm a timer; the target is not asked any more", "target", t->name, NULL);
}

static void finish(struct target *t, enum target_outcome outcome, double duration_s)
{
	size_t scraped = 0;

	t->duration_s = duration_s;
	if (outcome == TARGET_OK) {
		ingest_accept(t->ingest);
		scraped = ingest_samples_scraped(t->ingest);
	} else if (outcome == TARGET_UNCHANGED) {
		ingest_keep(t->ingest);
		scraped = ingest_samples_scraped(t->ingest);
	} else if (outcome != TARGET_CLOCK) {
		ingest_reject(t->ingest);
	}
	if (outcome_up(outcome)) {
		t->error.text[0] = '\0';
	} else {
		t->generation_known = false;
		phase_reset(&t->phase);
	}
	if (outcome != TARGET_CLOCK) {
		ingest_report(t->ingest, outcome_up(outcome), duration_s, scraped);
		t->last_ms = wall_ms(t->sent_wall);
	}
	note_state(t, outcome);
	arm(t);
	t->events.finished(t->events.userdata);
}

static enum target_outcome judge_transfer(struct target *t, const struct fetch_response *response)
{
	if (response->r == 0 && response->status == 200)
		return TARGET_OK;
	if (response->r == 0) {
		error_set(&t->error, 0, "the target answered with the HTTP status %ld instead of 200",
			  response->status);
		return TARGET_STATUS;
	}
	error_set(&t->error, 0, "%s", response->error);
	switch (response->r) {
	case -ETIMEDOUT:
		return TARGET_TIMEOUT;
	case -EFBIG:
		return TARGET_TOO_LARGE;
	case -ENOMEM:
		return TARGET_INTERNAL;
	default:
		return TARGET_CONNECTION;
	}
}

static enum target_outcome judge_content(struct target *t, const struct fetch_response *response)
{
	int r = exposition_parse(response->content_type, response->data, response->len, ingest_sample, t->ingest,
				 &t->error);

	switch (r) {
	case 0:
		return TARGET_OK;
	case -E2BIG:
		error_set(&t->error, r, "more than %d samples in one scrape", INGEST_SAMPLES_MAX);
		return TARGET_TOO_LARGE;
	case -EFBIG:
		error_set(&t->error, r, "the native histograms need more than %u MiB of buckets", INGEST_HIST_BYTES >> 20);
		return TARGET_TOO_LARGE;
	case -ENOMEM:
		error_set(&t->error, r, "out of memory");
		return TARGET_INTERNAL;
	default:
		return TARGET_CONTENT;
	}
}

static void trace(const struct target *t, const struct phase_snapshot *snapshot, bool same)
{
	char generation[24], age[32];

	if (!log_enabled(LOG_DEBUG))
		return;
	snprintf(generation, sizeof(generation), "%llu", (unsigned long long)snapshot->generation);
	snprintf(age, sizeof(age), "%.6f", ns_to_seconds(snapshot->age_ns));
	log_debug("snapshot", "target", t->name, "generation", generation, "age_s", age, "same", same ? "yes" : "no",
		  "aimed", t->phase.aimed ? "yes" : "no", NULL);
}

static enum target_outcome judge(struct target *t, const struct fetch_response *response)
{
	struct phase_snapshot snapshot = { 0 };
	enum target_outcome outcome = judge_transfer(t, response);
	bool same, agent;

	if (outcome != TARGET_OK)
		return outcome;
	agent = phase_parse(fetch_response_header(t->job, "Netsonde-Snapshot"), &snapshot);
	same = agent && t->generation_known && snapshot.generation == t->generation;
	if (agent) {
		/* A smaller one is another process: its commits have nothing to do with those before. */
		if (t->generation_known && snapshot.generation < t->generation)
			phase_reset(&t->phase);
		trace(t, &snapshot, same);
		phase_observe(&t->phase, t->sent, &snapshot, same);
		t->data.ns = mono_since_ns(t->sent, (mono_time){ snapshot.age_ns });
	} else {
		phase_reset(&t->phase);
		t->data = t->sent;
	}
	if (same)
		return TARGET_UNCHANGED;
	outcome = judge_content(t, response);
	t->generation_known = agent && outcome == TARGET_OK;
	t->generation = snapshot.generation;
	return outcome;
}

/* What waits must be stored before the next scrape takes its place. */
static bool begin(struct target *t)
{
	const int64_t now_ms = wall_ms(t->sent_wall);
	char seconds[32];

	if (ingest_pending(t->ingest) > 0)
		t->events.commit(t->events.userdata);
	ingest_begin(t->ingest, now_ms);
	if (now_ms > t->last_ms)
		return true;
	snprintf(seconds, sizeof(seconds), "%.3f", (double)(t->last_ms - now_ms) / 1e3);
	if (t->last_ms - now_ms > CLOCK_WAIT_MS) {
		log_warn("the clock of this host went back; its new time is used", "target", t->name, "seconds", seconds, NULL);
		return true;
	}
	error_set(&t->error, 0,
		  "the clock of this host went back by %s s; waiting until it passes the newest stored sample", seconds);
	return false;
}

static void on_response(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct target *t = userdata;
	enum target_outcome outcome = begin(t) ? judge(t, response) : TARGET_CLOCK;

	t->job = NULL;
	finish(t, outcome, response->duration_s);
}

static void on_timer(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct target *t = userdata;
	const struct fetch_request request = {
		.url = t->url,
		.headers = request_headers,
		.timeout_ns = target_timeout_ns(t->interval_ns, t->timeout_ns),
		.response_max = RESPONSE_MAX,
	};
	const uint64_t late_ns = t->interval_ns / 10 > LATE_FLOOR_NS ? t->interval_ns / 10 : LATE_FLOOR_NS;
	int r;

	t->sent = mono_now();
	t->sent_wall = wall_now();
	if (mono_since_ns(t->sent, t->due) > late_ns)
		t->late++;
	t->events.started(t->events.userdata);
	r = fetch_start(t->fetch, &request, on_response, t, &t->job, &t->error);
	if (r < 0) {
		t->job = NULL;
		finish(t, begin(t) ? TARGET_INTERNAL : TARGET_CLOCK, 0);
	}
}

int target_new(struct loop *loop, struct fetch *fetch, const char *name, const char *url,
	       const struct target_events *events, uint64_t interval_ns, uint64_t timeout_ns, uint64_t first_ns,
	       struct target **ret_target)
{
	struct target *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	t->fetch = fetch;
	t->events = *events;
	t->last_ms = INT64_MIN;
	t->name = strdup(name);
	t->url = strdup(url);
	phase_reset(&t->phase);
	target_set_times(t, interval_ns, timeout_ns);
	t->shown_url = fetch_url_shown(url);
	r = t->name && t->url && t->shown_url ? ingest_new(name, SCRAPE_JOB, &t->ingest) : -ENOMEM;
	if (r == 0)
		r = loop_timer_new(loop, on_timer, t, &t->timer);
	t->due = (mono_time){ mono_now().ns + first_ns };
	if (r == 0)
		r = loop_timer_start(t->timer, first_ns, 0);
	if (r < 0) {
		target_free(t);
		return r;
	}
	*ret_target = t;
	return 0;
}

void target_free(struct target *t)
{
	if (!t)
		return;
	fetch_cancel(t->job);
	loop_timer_free(t->timer);
	ingest_free(t->ingest);
	free(t->name);
	free(t->url);
	free(t->shown_url);
	free(t);
}

void target_set_times(struct target *t, uint64_t interval_ns, uint64_t timeout_ns)
{
	const mono_time now = mono_now();
	const uint64_t left = mono_since_ns(t->due, now);

	t->interval_ns = interval_ns;
	t->timeout_ns = timeout_ns;
	/* The rest of a longer interval: what is left of it modulo the new one keeps the targets apart. */
	if (!t->timer || t->job || left <= interval_ns)
		return;
	t->due.ns = now.ns + left % interval_ns;
	if (loop_timer_start(t->timer, mono_since_ns(t->due, now), 0) < 0)
		log_error("cannot arm a timer; the target is not asked any more", "target", t->name, NULL);
}

bool target_busy(const struct target *t)
{
	return t->job != NULL;
}

void target_stop(struct target *t)
{
	int64_t now_ms = wall_ms(wall_now());

	fetch_cancel(t->job);
	t->job = NULL;
	loop_timer_stop(t->timer);
	if (t->last_ms == INT64_MIN)
		return;
	/* One that was scraped in this very millisecond ends in the next. */
	t->last_ms = now_ms > t->last_ms ? now_ms : t->last_ms + 1;
	ingest_stop(t->ingest, t->last_ms);
}

const char *target_name(const struct target *t)
{
	return t->name;
}

const char *target_url(const struct target *t)
{
	return t->url;
}

struct ingest *target_ingest(struct target *t)
{
	return t->ingest;
}

int64_t target_time_ms(const struct target *t)
{
	return t->last_ms;
}

void target_info(const struct target *t, struct target_info *ret_info)
{
	*ret_info = (struct target_info){
		.name = t->name, .url = t->shown_url, .error = t->error.text,
		.scraped = t->scraped, .up = t->up, .locked = phase_locked(&t->phase),
		.last_scrape = t->sent_wall, .last_duration_s = t->duration_s, .data = t->data,
		.skipped = t->skipped, .late = t->late,
	};
	memcpy(ret_info->outcomes, t->outcomes, sizeof(t->outcomes));
}
