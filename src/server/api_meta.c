/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to query: series, label names and values, metadata, targets. See api.h. */
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include "lib/flags.h"
#include "server/api.h"
#include "server/api_common.h"
#include "server/json_text.h"
#include "server/query.h"
#include "server/scrape.h"
#include "server/server.h"

#define MATCHES_MAX 64 /* match[] parameters of one request */

/* One request of the kind "for each series that one of match[] selects in [start, end]". */
struct walk {
	struct http_request *request;
	struct server *server;
	struct api_params params;
	const char *matches[MATCHES_MAX];
	size_t n_matches;
	bool too_many;
	int64_t from_ms, to_ms;
	mono_time deadline;
};

static void keep_match(const char *value, void *userdata)
{
	struct walk *walk = userdata;

	if (walk->n_matches < MATCHES_MAX)
		walk->matches[walk->n_matches++] = value;
	else
		walk->too_many = true;
}

/* Answers itself on failure. */
static int walk_init(struct walk *walk, struct http_request *request, struct server *server)
{
	*walk = (struct walk){ .request = request, .server = server,
				.deadline = { mono_now().ns + QUERY_TIME_MAX_NS } };
	if (api_params_init(&walk->params, request) < 0) {
		api_fail(request, 503, API_UNAVAILABLE, "out of memory");
		return -ENOMEM;
	}
	api_param_each(&walk->params, "match[]", keep_match, walk);
	if (walk->too_many) {
		api_fail(request, 400, API_BAD_DATA, "more than %d match[] parameters", MATCHES_MAX);
		return -EINVAL;
	}
	if (api_time_param(request, &walk->params, "start", INT64_MIN, &walk->from_ms) < 0)
		return -EINVAL;
	return api_time_param(request, &walk->params, "end", INT64_MAX, &walk->to_ms);
}

typedef int (*series_fn)(const struct store_series *series, void *userdata);

/* Answers itself on failure. */
static int walk_select(struct walk *walk, const struct matcher *matchers, size_t n, series_fn fn, void *userdata)
{
	struct error error = { "" };
	int r = store_select(walk->server->store, matchers, n, walk->from_ms, walk->to_ms, walk->deadline, fn, userdata,
			     &error);

	if (r == -ETIME)
		api_fail(walk->request, 422, API_EXECUTION, "%s; select fewer with match[], start and end", error.text);
	else if (r < 0)
		api_fail(walk->request, 503, API_UNAVAILABLE, "%s", error.text[0] ? error.text : "out of memory");
	return r;
}

static int walk_one(struct walk *walk, const char *match, series_fn fn, void *userdata)
{
	const struct matcher *matchers;
	struct query *query;
	struct error error = { "" };
	size_t n;
	int r = query_parse(match, &query, &error);

	if (r < 0) {
		api_fail(walk->request, 400, API_BAD_DATA, "match[]: %s", error.text);
		return r;
	}
	r = query_matchers(query, &matchers, &n, &error);
	if (r < 0)
		api_fail(walk->request, 400, API_BAD_DATA, "match[]: %s", error.text);
	else
		r = walk_select(walk, matchers, n, fn, userdata);
	query_free(query);
	return r;
}

/* Each series at least once. Answers itself on failure. */
static int walk_run(struct walk *walk, series_fn fn, void *userdata)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < walk->n_matches; i++)
		r = walk_one(walk, walk->matches[i], fn, userdata);
	return walk->n_matches > 0 ? r : walk_select(walk, NULL, 0, fn, userdata);
}

/* A sorted set of texts, on the C library's balanced tree. */
struct set { void *root; size_t written; struct buffer *out; };

static int compare_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static int set_add(struct set *set, const char *text)
{
	char *copy;

	if (tfind(text, &set->root, compare_text))
		return 0;
	copy = strdup(text);
	if (!copy || !tsearch(copy, &set->root, compare_text)) {
		free(copy);
		return -ENOMEM;
	}
	return 0;
}

static void set_separate(struct set *set)
{
	if (set->written++ > 0)
		buffer_putc(set->out, ',');
}

static void set_visit_string(const void *node, VISIT visit, void *userdata)
{
	struct set *set = userdata;

	if (visit != postorder && visit != leaf)
		return;
	set_separate(set);
	json_text_string(set->out, *(const char *const *)node);
}

/* The texts are JSON already. */
static void set_visit_json(const void *node, VISIT visit, void *userdata)
{
	struct set *set = userdata;

	if (visit != postorder && visit != leaf)
		return;
	set_separate(set);
	buffer_puts(set->out, *(const char *const *)node);
}

static void set_done(struct set *set)
{
	tdestroy(set->root, free);
}

static void send_set(struct http_request *request, struct set *set, void (*visit)(const void *, VISIT, void *),
		     const char *open, const char *close)
{
	struct buffer out = BUFFER_INIT;

	set->out = &out;
	buffer_printf(&out, "{\"status\":\"success\",\"data\":%s", open);
	twalk_r(set->root, visit, set);
	buffer_printf(&out, "%s}\n", close);
	api_send(request, &out);
}

static int add_series(const struct store_series *series, void *userdata)
{
	struct buffer text = BUFFER_INIT;
	int r;

	buffer_puts(&text, "{\"__name__\":");
	json_text_string(&text, series->name);
	for (size_t i = 0; i < series->n_labels; i++) {
		buffer_putc(&text, ',');
		json_text_string(&text, series->labels[i].name);
		buffer_putc(&text, ':');
		json_text_string(&text, series->labels[i].value);
	}
	buffer_putc(&text, '}');
	r = buffer_ok(&text) ? set_add(userdata, text.data) : -ENOMEM;
	buffer_done(&text);
	return r;
}

void api_series(struct http_request *request, void *userdata)
{
	struct set set = { NULL };
	struct walk walk;

	if (walk_init(&walk, request, userdata) == 0) {
		if (walk.n_matches == 0)
			api_fail(request, 400, API_BAD_DATA, "give at least one match[] parameter");
		else if (walk_run(&walk, add_series, &set) == 0)
			send_set(request, &set, set_visit_json, "[", "]");
	}
	set_done(&set);
	api_params_done(&walk.params);
}

static int add_names(const struct store_series *series, void *userdata)
{
	int r = set_add(userdata, "__name__");

	for (size_t i = 0; r == 0 && i < series->n_labels; i++)
		r = set_add(userdata, series->labels[i].name);
	return r;
}

void api_labels(struct http_request *request, void *userdata)
{
	struct set set = { NULL };
	struct walk walk;

	if (walk_init(&walk, request, userdata) == 0 && walk_run(&walk, add_names, &set) == 0)
		send_set(request, &set, set_visit_string, "[", "]");
	set_done(&set);
	api_params_done(&walk.params);
}

struct values { struct set set; const char *label; };

static int add_value(const struct store_series *series, void *userdata)
{
	struct values *values = userdata;

	if (strcmp(values->label, "__name__") == 0)
		return set_add(&values->set, series->name);
	for (size_t i = 0; i < series->n_labels; i++)
		if (strcmp(series->labels[i].name, values->label) == 0)
			return set_add(&values->set, series->labels[i].value);
	return 0;
}

/* NAME of /api/v1/label/NAME/values, or NULL. */
static char *label_of_path(const char *path)
{
	static const char prefix[] = "/api/v1/label/", suffix[] = "/values";
	size_t len = strlen(path), around = sizeof(prefix) - 1 + sizeof(suffix) - 1;

	if (len <= around || strncmp(path, prefix, sizeof(prefix) - 1) != 0 ||
	    strcmp(path + len - (sizeof(suffix) - 1), suffix) != 0)
		return NULL;
	return strndup(path + sizeof(prefix) - 1, len - around);
}

void api_label_values(struct http_request *request, void *userdata)
{
	struct values values = { .label = NULL };
	char *label = label_of_path(http_request_path(request));
	struct walk walk;

	values.label = label;
	if (!label || (strcmp(label, "__name__") != 0 && !metric_label_name_valid(label))) {
		api_fail(request, 400, API_BAD_DATA,
			 "the address must be /api/v1/label/NAME/values with a valid label name");
		free(label);
		return;
	}
	if (walk_init(&walk, request, userdata) == 0 && walk_run(&walk, add_value, &values) == 0)
		send_set(request, &values.set, set_visit_string, "[", "]");
	set_done(&values.set);
	api_params_done(&walk.params);
	free(label);
}

struct metadata { struct set set; const char *metric; };

static int add_metadata(const struct store_series *series, void *userdata)
{
	struct metadata *metadata = userdata;
	struct buffer text = BUFFER_INIT;
	const char *type = series->type == METRIC_UNKNOWN ? "unknown" : metric_type_name(series->type);
	int r;

	if (metadata->metric && strcmp(metadata->metric, series->name) != 0)
		return 0;
	json_text_string(&text, series->name);
	buffer_printf(&text, ":[{\"type\":\"%s\",\"help\":\"\",\"unit\":\"\"}]", type);
	r = buffer_ok(&text) ? set_add(&metadata->set, text.data) : -ENOMEM;
	buffer_done(&text);
	return r;
}

void api_metadata(struct http_request *request, void *userdata)
{
	struct metadata metadata = { .metric = NULL };
	struct walk walk;

	if (walk_init(&walk, request, userdata) == 0) {
		metadata.metric = api_param(&walk.params, "metric");
		walk.n_matches = 0;
		if (walk_run(&walk, add_metadata, &metadata) == 0)
			send_set(request, &metadata.set, set_visit_json, "{", "}");
	}
	set_done(&metadata.set);
	api_params_done(&walk.params);
}

static void write_target(struct buffer *out, const struct server *server, const struct target_info *info)
{
	char interval[32], timeout[32];

	buffer_puts(out, "{\"discoveredLabels\":{},\"labels\":{\"instance\":");
	json_text_string(out, info->name);
	buffer_puts(out, ",\"job\":\"" SCRAPE_JOB "\"},\"scrapePool\":\"" SCRAPE_JOB "\",\"scrapeUrl\":");
	json_text_string(out, info->url);
	buffer_puts(out, ",\"globalUrl\":");
	json_text_string(out, info->url);
	buffer_puts(out, ",\"lastError\":");
	json_text_string(out, info->error);
	buffer_puts(out, ",\"lastScrape\":");
	api_write_time(out, info->scraped ? wall_ms(info->last_scrape) : INT64_MIN);
	buffer_puts(out, ",\"lastScrapeDuration\":");
	json_text_number(out, info->last_duration_s);
	buffer_printf(out, ",\"health\":\"%s\",\"scrapeInterval\":\"%s\",\"scrapeTimeout\":\"%s\",\"locked\":%s}",
		      !info->scraped ? "unknown" : info->up ? "up" : "down",
		      duration_format(scrape_interval_ns(server->scrape), interval),
		      duration_format(scrape_timeout_ns(server->scrape), timeout), info->locked ? "true" : "false");
}

void api_targets(struct http_request *request, void *userdata)
{
	struct server *server = userdata;
	struct buffer out = BUFFER_INIT;

	buffer_puts(&out, "{\"status\":\"success\",\"data\":{\"activeTargets\":[");
	for (size_t i = 0; i < scrape_count(server->scrape); i++) {
		struct target_info info;

		scrape_info(server->scrape, i, &info);
		if (i > 0)
			buffer_putc(&out, ',');
		write_target(&out, server, &info);
	}
	buffer_puts(&out, "],\"droppedTargets\":[]}}\n");
	api_send(request, &out);
}

void api_buildinfo(struct http_request *request, void *userdata)
{
	struct buffer out = BUFFER_INIT;

	buffer_puts(&out, "{\"status\":\"success\",\"data\":{\"application\":\"NetSonde\","
			  "\"version\":\"" NETSONDE_VERSION "\"}}\n");
	api_send(request, &out);
}
