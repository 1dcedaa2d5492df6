/* SPDX-License-Identifier: Apache-2.0 */
/* The two query endpoints; see api.h. Answers are written straight into a buffer: they can have 100,000s of points. */
#include "server/api.h"
#include <errno.h>
#include "server/api_common.h"
#include "server/json_text.h"
#include "server/query.h"
#include "server/scrape.h"
#include "server/server.h"

struct range { int64_t start_ms, end_ms, step_ms; };

static void write_vector(struct buffer *out, const struct query_result *result)
{
	for (size_t i = 0, n = 0; i < result->n; i++) {
		const struct query_series *s = &result->series[i];

		if (s->n == 0)
			continue;
		buffer_puts(out, n++ > 0 ? ",{\"metric\":" : "{\"metric\":");
		json_text_labels(out, s->labels, s->n_labels);
		buffer_puts(out, ",\"value\":[");
		json_text_seconds(out, s->t_ms[0]);
		buffer_putc(out, ',');
		json_text_value(out, s->values[0]);
		buffer_puts(out, "]}");
	}
}

static void write_matrix(struct buffer *out, const struct query_result *result)
{
	for (size_t i = 0, n = 0; i < result->n; i++) {
		const struct query_series *s = &result->series[i];

		if (s->n == 0)
			continue;
		buffer_puts(out, n++ > 0 ? ",{\"metric\":" : "{\"metric\":");
		json_text_labels(out, s->labels, s->n_labels);
		buffer_puts(out, ",\"values\":[");
		for (size_t k = 0; k < s->n; k++) {
			buffer_puts(out, k > 0 ? ",[" : "[");
			json_text_seconds(out, s->t_ms[k]);
			buffer_putc(out, ',');
			json_text_value(out, s->values[k]);
			buffer_putc(out, ']');
		}
		buffer_puts(out, "]}");
	}
}

static void write_scalar(struct buffer *out, const struct query_result *result, int64_t t_ms)
{
	const double value = result->n > 0 && result->series[0].n > 0 ? result->series[0].values[0] : 0;

	json_text_seconds(out, t_ms);
	buffer_putc(out, ',');
	json_text_value(out, value);
}

/* 422 for what the query itself makes impossible, 503 for a failing store or no memory. */
static void fail_evaluation(struct http_request *request, int r, const struct error *error)
{
	if (r == -EINVAL || r == -E2BIG || r == -ERANGE || r == -ETIME)
		api_fail(request, 422, API_EXECUTION, "%s", error->text);
	else
		api_fail(request, 503, API_UNAVAILABLE, "%s",
			 error->text[0] ? error->text : "the query could not be evaluated");
}

static void evaluate(struct http_request *request, struct server *server, const char *text, const struct range *range,
		     bool instant)
{
	struct buffer out = BUFFER_INIT;
	struct query_result result = { 0 };
	struct error error = { "" };
	struct query *query;
	bool scalar;
	int r;

	r = query_parse(text, &query, &error);
	if (r < 0) {
		api_fail(request, 400, API_BAD_DATA, "%s", error.text);
		return;
	}
	r = query_eval(query, server->store, range->start_ms, range->end_ms, range->step_ms,
		       &(struct query_options){ .lookback_ms = scrape_lookback_ms(server->scrape) }, &result, &error);
	scalar = instant && query_is_scalar(query);
	query_free(query);
	if (r < 0) {
		fail_evaluation(request, r, &error);
		return;
	}
	buffer_printf(&out, "{\"status\":\"success\",\"data\":{\"resultType\":\"%s\",\"result\":[",
		      scalar ? "scalar" : instant ? "vector" : "matrix");
	if (scalar)
		write_scalar(&out, &result, range->end_ms);
	else if (instant)
		write_vector(&out, &result);
	else
		write_matrix(&out, &result);
	buffer_puts(&out, "]}}\n");
	query_result_done(&result);
	api_send(request, &out);
}

void api_query(struct http_request *request, void *userdata)
{
	struct api_params params;
	struct range range = { .step_ms = 1 };
	const char *text;

	if (api_params_init(&params, request) < 0) {
		api_fail(request, 503, API_UNAVAILABLE, "out of memory");
		return;
	}
	text = api_param(&params, "query");
	if (!text || !*text)
		api_fail(request, 400, API_BAD_DATA, "the parameter `query` is missing");
	else if (api_time_param(request, &params, "time", wall_ms(wall_now()), &range.start_ms) == 0) {
		range.end_ms = range.start_ms;
		evaluate(request, userdata, text, &range, true);
	}
	api_params_done(&params);
}

/* Answers itself when the range is bad. */
static int range_params(struct http_request *request, const struct api_params *params, struct range *range)
{
	const char *step = api_param(params, "step");

	if (!api_param(params, "start") || !api_param(params, "end") || !step) {
		api_fail(request, 400, API_BAD_DATA, "the parameters `start`, `end` and `step` are needed");
		return -EINVAL;
	}
	if (api_time_param(request, params, "start", 0, &range->start_ms) < 0 ||
	    api_time_param(request, params, "end", 0, &range->end_ms) < 0)
		return -EINVAL;
	if (api_parse_step(step, &range->step_ms) < 0) {
		api_fail(request, 400, API_BAD_DATA,
			 "`step` must be seconds or a duration of at least 1 ms, but is `%s`", step);
		return -EINVAL;
	}
	if (range->end_ms < range->start_ms) {
		api_fail(request, 400, API_BAD_DATA, "`end` is before `start`");
		return -EINVAL;
	}
	if ((range->end_ms - range->start_ms) / range->step_ms >= QUERY_POINTS_MAX) {
		api_fail(request, 400, API_BAD_DATA,
			 "more than %d points per series; use a larger step or a shorter range", QUERY_POINTS_MAX);
		return -EINVAL;
	}
	return 0;
}

void api_query_range(struct http_request *request, void *userdata)
{
	struct api_params params;
	struct range range;
	const char *text;

	if (api_params_init(&params, request) < 0) {
		api_fail(request, 503, API_UNAVAILABLE, "out of memory");
		return;
	}
	text = api_param(&params, "query");
	if (!text || !*text)
		api_fail(request, 400, API_BAD_DATA, "the parameter `query` is missing");
	else if (range_params(request, &params, &range) == 0)
		evaluate(request, userdata, text, &range, false);
	api_params_done(&params);
}
