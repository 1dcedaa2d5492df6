/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See live.h. Three reference-counted layers: clients share sets (a list of
 * queries in the client's order), sets share queries. At a commit first every
 * query is evaluated, once, then every set's frame is written, once.
 */
#include "server/live.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/buffer.h"
#include "lib/clock.h"
#include "server/api_common.h"
#include "server/json_text.h"
#include "server/query.h"
#include "server/scrape.h"

#define LIVE_CHEAP_NS (LIVE_TIME_MAX_NS / 100)
#define LIVE_TIME_MIN_NS (20 * NS_PER_MS)

struct live_query {
	struct live_query *next;
	unsigned refs;
	char *text;
	struct query *query;
	bool cheap;           /* the last evaluation was */
	bool fast_before;     /* its evaluation before was quick */
	uint64_t served;      /* number of the commit it had its last turn at */
	struct buffer json;   /* "result":[...] or "error":"..." */
};

struct live_set {
	struct live_set *next;
	struct live_client *clients;
	struct live_query **queries; /* in the order of the request */
	size_t n;
};

struct live_client {
	struct live_client *prev, *next; /* in its set */
	struct live *live;
	struct live_set *set;
	struct http_stream *stream;
};

struct live {
	struct store *store;
	struct scrape *scrape;
	struct live_query *queries;
	struct live_set *sets;
	unsigned n_queries, n_clients;
	uint64_t commits, frames, results_dropped;
	mono_time evaluated;          /* when the queries were */
	struct hist frame_duration;
	struct buffer targets, frame; /* of the commit under way */
};

int live_new(struct store *store, struct live **ret_live)
{
	struct live *live = calloc(1, sizeof(*live));

	if (!live)
		return -ENOMEM;
	live->store = store;
	hist_init(&live->frame_duration, HIST_SCHEMA, 0);
	*ret_live = live;
	return 0;
}

void live_set_scrape(struct live *live, struct scrape *scrape)
{
	live->scrape = scrape;
}

static void query_unref(struct live *live, struct live_query *query)
{
	if (--query->refs > 0)
		return;
	for (struct live_query **at = &live->queries; *at; at = &(*at)->next) {
		if (*at == query) {
			*at = query->next;
			live->n_queries--;
			break;
		}
	}
	query_free(query->query);
	buffer_done(&query->json);
	free(query->text);
	free(query);
}

static void set_free(struct live *live, struct live_set *set)
{
	for (size_t i = 0; i < set->n; i++)
		query_unref(live, set->queries[i]);
	free(set->queries);
	free(set);
}

void live_free(struct live *live)
{
	if (!live)
		return;
	while (live->sets) {
		struct live_set *set = live->sets;

		live->sets = set->next;
		while (set->clients) {
			struct live_client *client = set->clients;

			set->clients = client->next;
			free(client);
		}
		set_free(live, set);
	}
	hist_done(&live->frame_duration);
	buffer_done(&live->targets);
	buffer_done(&live->frame);
	free(live);
}

/* -EINVAL with the parser's sentence, -ENOSPC, -ENOMEM. */
static int query_ref(struct live *live, const char *text, struct live_query **ret_query, struct error *ret_error)
{
	struct live_query *query;
	int r;

	for (query = live->queries; query; query = query->next) {
		if (strcmp(query->text, text) == 0) {
			query->refs++;
			*ret_query = query;
			return 0;
		}
	}
	if (live->n_queries >= LIVE_DISTINCT_MAX)
		return error_set(ret_error, -ENOSPC, "more than %d different live queries at once", LIVE_DISTINCT_MAX);
	query = calloc(1, sizeof(*query));
	if (!query)
		return error_set(ret_error, -ENOMEM, "out of memory");
	query->text = strdup(text);
	r = query->text ? query_parse(text, &query->query, ret_error) : error_set(ret_error, -ENOMEM, "out of memory");
	if (r < 0) {
		free(query->text);
		free(query);
		return r;
	}
	query->refs = 1;
	query->next = live->queries;
	live->queries = query;
	live->n_queries++;
	*ret_query = query;
	return 0;
}

struct request_queries { const char *texts[LIVE_QUERIES_MAX]; size_t n; };

static void keep_query(const char *value, void *userdata)
{
	struct request_queries *queries = userdata;

	if (queries->n < LIVE_QUERIES_MAX)
		queries->texts[queries->n] = value;
	queries->n++;
}

/* A set of these queries, not in the list yet. Takes references; gives them back on failure. */
static int set_new(struct live *live, const struct request_queries *texts, struct live_set **ret_set,
		   struct error *ret_error)
{
	struct live_set *set = calloc(1, sizeof(*set));
	int r = 0;

	if (set)
		set->queries = calloc(texts->n + 1, sizeof(set->queries[0]));
	if (!set || !set->queries) {
		free(set);
		return error_set(ret_error, -ENOMEM, "out of memory");
	}
	while (r == 0 && set->n < texts->n) {
		r = query_ref(live, texts->texts[set->n], &set->queries[set->n], ret_error);
		if (r == 0)
			set->n++;
	}
	if (r < 0) {
		set_free(live, set);
		return r;
	}
	*ret_set = set;
	return 0;
}

/* The running set with the same queries in the same order, else `set` itself, which is in the list from now on. */
static struct live_set *set_share(struct live *live, struct live_set *set)
{
	for (struct live_set *other = live->sets; other; other = other->next) {
		if (other->n == set->n && memcmp(other->queries, set->queries, set->n * sizeof(set->queries[0])) == 0) {
			set_free(live, set);
			return other;
		}
	}
	set->next = live->sets;
	live->sets = set;
	return set;
}

static void set_drop_unused(struct live *live, struct live_set *set)
{
	if (set->clients)
		return;
	for (struct live_set **at = &live->sets; *at; at = &(*at)->next) {
		if (*at == set) {
			*at = set->next;
			break;
		}
	}
	set_free(live, set);
}

static void on_close(struct http_stream *stream, void *userdata)
{
	struct live_client *client = userdata;
	struct live *live = client->live;

	if (client->prev)
		client->prev->next = client->next;
	else
		client->set->clients = client->next;
	if (client->next)
		client->next->prev = client->prev;
	live->n_clients--;
	set_drop_unused(live, client->set);
	free(client);
}

static void send_hello(struct live *live, struct http_stream *stream)
{
	struct buffer out = BUFFER_INIT;
	const uint64_t interval_ns = live->scrape ? scrape_interval_ns(live->scrape) : 0;

	buffer_printf(&out, "{\"version\":\"" NETSONDE_VERSION "\",\"interval_ms\":");
	json_text_number(&out, (double)interval_ns / (double)NS_PER_MS);
	buffer_puts(&out, ",\"now\":");
	json_text_seconds(&out, wall_ms(wall_now()));
	buffer_putc(&out, '}');
	if (buffer_ok(&out))
		http_stream_send(stream, "hello", out.data, out.len);
	buffer_done(&out);
}

static void open_client(struct http_request *request, struct live *live, struct live_set *set)
{
	struct live_client *client = calloc(1, sizeof(*client));

	if (client) {
		client->live = live;
		client->set = set;
		client->stream = http_stream_open(request, LIVE_QUEUE_FRAMES, on_close, client);
	}
	if (!client || !client->stream) {
		if (!client)
			api_fail(request, 503, API_UNAVAILABLE, "out of memory");
		free(client);
		set_drop_unused(live, set);
		return;
	}
	client->next = set->clients;
	if (client->next)
		client->next->prev = client;
	set->clients = client;
	live->n_clients++;
	send_hello(live, client->stream);
}

void live_handle(struct http_request *request, struct live *live)
{
	struct request_queries texts = { .n = 0 };
	struct error error = { "" };
	struct live_set *set = NULL;
	int r;

	http_request_query_each(request, "query", keep_query, &texts);
	if (texts.n > LIVE_QUERIES_MAX) {
		api_fail(request, 400, API_BAD_DATA, "%zu queries are too many for one stream; the limit is %d",
			 texts.n, LIVE_QUERIES_MAX);
		return;
	}
	/* HEAD is answered like GET, but a stream without a body would never end. */
	if (strcmp(http_request_method(request), "HEAD") == 0) {
		http_respond(request, &(struct http_response){ .status = 200, .content_type = "text/event-stream" });
		return;
	}
	r = set_new(live, &texts, &set, &error);
	if (r < 0) {
		api_fail(request, r == -EINVAL ? 400 : 503, r == -EINVAL ? API_BAD_DATA : API_UNAVAILABLE, "%s",
			 error.text);
		return;
	}
	open_client(request, live, set_share(live, set));
}

static void write_error(struct buffer *out, const char *text)
{
	buffer_clear(out);
	buffer_puts(out, "\"error\":");
	json_text_string(out, text);
}

static void leave_out(struct live *live, struct live_query *query)
{
	live->results_dropped++;
	write_error(&query->json, "there was no time for the query in this frame");
}

static void evaluate(struct live *live, struct live_query *query, int64_t t_ms, uint64_t time_ns)
{
	const struct query_options options = { .time_max_ns = time_ns,
					       .lookback_ms = live->scrape ? scrape_lookback_ms(live->scrape) : 0 };
	struct query_result result = { 0 };
	struct error error = { "" };
	struct buffer *out = &query->json;
	int r;

	r = query_eval(query->query, live->store, t_ms, t_ms, 1, &options, &result, &error);
	if (r == -ETIME) {
		leave_out(live, query);
		return;
	}
	if (r < 0) {
		write_error(out, error.text[0] ? error.text : "the query could not be evaluated");
		return;
	}
	buffer_clear(out);
	buffer_puts(out, "\"result\":[");
	for (size_t i = 0, n = 0; i < result.n; i++) {
		const struct query_series *s = &result.series[i];

		if (s->n == 0)
			continue;
		buffer_puts(out, n++ > 0 ? ",{\"metric\":" : "{\"metric\":");
		json_text_labels(out, s->labels, s->n_labels);
		buffer_puts(out, ",\"value\":");
		json_text_value(out, s->values[0]);
		buffer_putc(out, '}');
	}
	buffer_putc(out, ']');
	query_result_done(&result);
}

/* The cheap ones first, so that an expensive one delays only others like it; then who has waited longest. */
static int compare_turn(const void *a, const void *b)
{
	const struct live_query *x = *(struct live_query *const *)a, *y = *(struct live_query *const *)b;

	if (x->cheap != y->cheap)
		return x->cheap ? -1 : 1;
	return x->served < y->served ? -1 : x->served > y->served;
}

/* As much as there was since the last time, within limits: when commits follow closely, at least half of the time is left
 * for everything else. */
static uint64_t time_for_all(const struct live *live, mono_time now)
{
	const uint64_t idle = mono_since_ns(now, live->evaluated);

	return idle < LIVE_TIME_MIN_NS ? LIVE_TIME_MIN_NS : idle > LIVE_TIME_MAX_NS ? LIVE_TIME_MAX_NS : idle;
}

static void evaluate_all(struct live *live, int64_t t_ms)
{
	const mono_time start = mono_now();
	const uint64_t most = time_for_all(live, start);
	struct live_query *order[LIVE_DISTINCT_MAX];
	size_t n = 0;

	for (struct live_query *query = live->queries; query; query = query->next)
		order[n++] = query;
	qsort(order, n, sizeof(order[0]), compare_turn);
	live->commits++;
	for (size_t i = 0; i < n; i++) {
		const mono_time before = mono_now();
		const uint64_t used = mono_since_ns(before, start);
		bool fast;

		if (used >= most) {
			leave_out(live, order[i]);
			continue;
		}
		evaluate(live, order[i], t_ms, most - used);
		order[i]->served = live->commits;
		fast = mono_since_ns(mono_now(), before) < LIVE_CHEAP_NS;
		order[i]->cheap = fast || order[i]->fast_before; /* one disturbed evaluation costs no rank */
		order[i]->fast_before = fast;
	}
	live->evaluated = mono_now();
}

static void write_targets(struct live *live)
{
	const mono_time now = mono_now();
	struct buffer *out = &live->targets;

	buffer_clear(out);
	for (size_t i = 0; live->scrape && i < scrape_count(live->scrape); i++) {
		struct target_info info;

		scrape_info(live->scrape, i, &info);
		buffer_puts(out, i > 0 ? ",{\"name\":" : "{\"name\":");
		json_text_string(out, info.name);
		buffer_printf(out, ",\"up\":%s,\"age_s\":", info.up ? "true" : "false");
		if (info.data.ns > 0)
			buffer_printf(out, "%.3f}", ns_to_seconds(mono_since_ns(now, info.data)));
		else
			buffer_puts(out, "null}");
	}
}

static void write_frame(struct live *live, const struct live_set *set, int64_t t_ms)
{
	struct buffer *out = &live->frame;

	buffer_clear(out);
	buffer_puts(out, "{\"t\":");
	json_text_seconds(out, t_ms);
	buffer_puts(out, ",\"results\":[");
	for (size_t i = 0; i < set->n; i++) {
		const struct buffer *json = &set->queries[i]->json;

		buffer_printf(out, "%s{\"query\":%zu,", i > 0 ? "," : "", i);
		if (buffer_ok(json))
			buffer_append(out, json->data, json->len);
		else
			buffer_puts(out, "\"error\":\"out of memory\"");
		buffer_putc(out, '}');
	}
	buffer_puts(out, "],\"targets\":[");
	if (live->targets.len > 0)
		buffer_append(out, live->targets.data, live->targets.len);
	buffer_puts(out, "]}");
}

void live_commit(int64_t t_ms, void *userdata)
{
	struct live *live = userdata;
	const mono_time start = mono_now();

	if (!live->sets)
		return;
	evaluate_all(live, t_ms);
	write_targets(live);
	for (struct live_set *set = live->sets; set; set = set->next) {
		write_frame(live, set, t_ms);
		if (!buffer_ok(&live->frame))
			continue;
		for (struct live_client *client = set->clients, *next; client; client = next) {
			next = client->next;
			http_stream_send(client->stream, "frame", live->frame.data, live->frame.len);
			live->frames++;
		}
	}
	(void)hist_observe(&live->frame_duration, ns_to_seconds(mono_since_ns(mono_now(), start)));
}

void live_stats(const struct live *live, struct live_stats *ret_stats)
{
	*ret_stats = (struct live_stats){.clients = live->n_clients,
					 .queries = live->n_queries,
					 .frames = live->frames,
					 .results_dropped = live->results_dropped,
					 .frame_duration = &live->frame_duration};
}
