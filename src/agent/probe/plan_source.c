/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching a plan. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/plan.h"
#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/fetch.h"
#include "lib/log.h"

#define TIMEOUT_NS (10 * NS_PER_SEC)
#define RETRY_NS (10 * NS_PER_SEC) /* after a failure, where the interval is longer */

struct plan_source {
	struct fetch *fetch;
	struct fetch_job *job;
	struct loop_timer *timer;
	char *url, *shown;
	uint64_t interval_ns;
	plan_fn fn;
	void *userdata;
	struct buffer text; /* of the last plan that came */
	bool unreadable;    /* and that one is of no use */
	bool failing;       /* and told so */
	uint64_t fetched, failed;
};

static void fail(struct plan_source *s, const char *reason)
{
	s->failed++;
	if (!s->failing)
		log_warn("no plan; the targets of the last one stay", "url", s->shown, "reason", reason, NULL);
	s->failing = true;
}

void plan_source_refuse(struct plan_source *source, const char *reason)
{
	source->unreadable = true;
	fail(source, reason);
}

static void take(struct plan_source *s, const char *text, size_t len)
{
	s->fetched++;
	if (s->text.len == len && len && !memcmp(s->text.data, text, len)) {
		s->failing = s->unreadable;
		return;
	}
	buffer_clear(&s->text);
	buffer_append(&s->text, text, len);
	if (!buffer_ok(&s->text)) {
		buffer_clear(&s->text);
		fail(s, strerror(ENOMEM));
		return;
	}
	s->failing = s->unreadable = false;
	s->fn(s->text.data ? s->text.data : "", s->text.len, s->userdata);
}

static void again(struct plan_source *s, bool failed)
{
	const uint64_t wait = failed && s->interval_ns > RETRY_NS ? RETRY_NS : s->interval_ns;

	loop_timer_start(s->timer, wait, 0);
}

static void on_answer(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct plan_source *s = userdata;
	const bool was_failing = s->failing;
	char reason[64];

	s->job = NULL;
	if (response->r < 0) {
		fail(s, response->error);
	} else if (response->status != 200) {
		snprintf(reason, sizeof(reason), "the answer has status %ld", response->status);
		fail(s, reason);
	} else {
		take(s, response->data, response->len);
		if (was_failing && !s->failing)
			log_info("the plan can be fetched again", "url", s->shown, NULL);
	}
	again(s, response->r < 0 || response->status != 200);
}

static void on_timer(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct plan_source *s = userdata;
	static const char *const headers[] = { "Accept: application/json", NULL };
	const struct fetch_request request = {
		.url = s->url, .headers = headers, .timeout_ns = TIMEOUT_NS, .response_max = PLAN_BYTES_MAX,
	};
	struct error error = { "" };

	if (fetch_start(s->fetch, &request, on_answer, s, &s->job, &error) < 0) {
		fail(s, error.text);
		again(s, true);
	}
}

int plan_source_new(struct loop *loop, const char *url, uint64_t interval_ns, plan_fn fn, void *userdata, struct plan_source **ret_source,
		    struct error *ret_error)
{
	struct plan_source *s = calloc(1, sizeof(*s));
	int r = -ENOMEM;

	if (!s)
		return r;
	*s = (struct plan_source){ .interval_ns = interval_ns, .fn = fn, .userdata = userdata };
	s->url = strdup(url);
	s->shown = fetch_url_shown(url);
	if (s->url && s->shown)
		r = fetch_new(loop, 1, &s->fetch);
	if (!r)
		r = loop_timer_new(loop, on_timer, s, &s->timer);
	if (!r)
		r = loop_timer_start(s->timer, 0, 0);
	if (r < 0) {
		plan_source_free(s);
		return error_set_errno(ret_error, r, "cannot fetch a plan");
	}
	*ret_source = s;
	return 0;
}

void plan_source_free(struct plan_source *source)
{
	if (!source)
		return;
	loop_timer_free(source->timer);
	fetch_free(source->fetch);
	buffer_done(&source->text);
	free(source->url);
	free(source->shown);
	free(source);
}

void plan_source_interval(struct plan_source *source, uint64_t interval_ns)
{
	if (source->interval_ns == interval_ns)
		return;
	source->interval_ns = interval_ns;
	if (!source->job)
		loop_timer_start(source->timer, 0, 0);
}

const char *plan_source_text(const struct plan_source *source, size_t *ret_len)
{
	*ret_len = source->text.len;
	return source->text.data;
}

void plan_source_counts(const struct plan_source *source, uint64_t *ret_fetched, uint64_t *ret_failed)
{
	*ret_fetched = source->fetched;
	*ret_failed = source->failed;
}
