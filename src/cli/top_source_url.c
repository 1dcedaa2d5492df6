/* SPDX-License-Identifier: Apache-2.0 */
/* Tables from an agent: its connections and its drops, asked for together. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "cli/top_source_internal.h"
#include "cli/top_text.h"

/* The busiest; the agent makes their text in its own loop, and the network has to carry it. */
#define ROWS_MAX 2000
#define RESPONSE_MAX (32u * 1024 * 1024)
#define TIMEOUT_NS (5 * NS_PER_SEC)

int top_source_open_url(struct top_source *s, const char *url, struct error *ret_error)
{
	size_t len = strlen(url);
	int r;

	while (len && url[len - 1] == '/')
		len--;
	if (!strstr(url, "://"))
		buffer_puts(&s->url, "http://");
	buffer_append(&s->url, url, len);
	s->name = s->url.data ? fetch_url_shown(s->url.data) : NULL;
	buffer_printf(&s->connections_url, "%s/api/v1/connections?limit=%d", s->url.data ? s->url.data : "", ROWS_MAX);
	buffer_printf(&s->drops_url, "%s/api/v1/drops", s->url.data ? s->url.data : "");
	s->number = -1;
	if (!s->name || !buffer_ok(&s->url) || !buffer_ok(&s->connections_url) || !buffer_ok(&s->drops_url))
		return -ENOMEM;
	r = fetch_new(s->loop, 2, &s->fetch);
	return r < 0 ? error_set_errno(ret_error, r, "cannot prepare for HTTP") : 0;
}

void top_source_close_url(struct top_source *s)
{
	fetch_free(s->fetch);
	top_table_free(s->coming);
	buffer_done(&s->url);
	buffer_done(&s->connections_url);
	buffer_done(&s->drops_url);
	free(s->name);
}

static int fail(struct top_source *s, int r, const char *what)
{
	char clean[512];

	return error_set(&s->error, r, "%s", top_clean(what, clean, sizeof(clean)));
}

/* Messages begin with the address that was asked; people know whom they asked. */
static const char *without_address(const struct top_source *s, const char *message)
{
	size_t len = strlen(s->name);

	if (strncmp(message, s->name, len))
		return message;
	message = strstr(message + len, ": ");
	return message ? message + 2 : "no answer";
}

/* What an answer holds, or NULL with the reason in *ret_error. */
static json_t *document_of(const struct top_source *s, const struct fetch_response *response, struct error *ret_error)
{
	char line[400], clean[400];
	json_t *document;

	if (response->r < 0) {
		error_set(ret_error, response->r, "%s", top_clean(without_address(s, response->error), clean, sizeof(clean)));
		return NULL;
	}
	if (response->status != 200) {
		/* Its first line is the reason, from an agent; a page, from something else. */
		snprintf(line, sizeof(line), "%.*s", (int)strcspn(response->data, "\r\n"), response->data);
		error_set(ret_error, -EPROTO, "it answers %ld: %s", response->status, top_clean(line, clean, sizeof(clean)));
		return NULL;
	}
	document = json_loadb(response->data, response->len, 0, NULL);
	if (!document)
		error_set(ret_error, -EPROTO, "its answer is no JSON; is this an agent of NetSonde?");
	return document;
}

static int take_connections(struct top_source *s, const json_t *document)
{
	const json_t *data = json_object_get(document, "data"), *rows = json_object_get(data, "connections"), *row;
	struct top_table *table = s->coming;
	json_int_t total, number;
	size_t i;

	if (!json_is_array(rows))
		return fail(s, -EPROTO, "its answer is no table of connections; is this an agent of NetSonde?");
	table->connections = calloc(json_array_size(rows) ? json_array_size(rows) : 1, sizeof(*table->connections));
	if (!table->connections)
		return fail(s, -ENOMEM, "out of memory");
	json_array_foreach(rows, i, row)
		if (!connection_from_json(row, &table->connections[table->n]))
			table->n++;
	total = json_integer_value(json_object_get(data, "total"));
	total += json_integer_value(json_object_get(data, "left_out"));
	table->total = total > (json_int_t)table->n ? (uint64_t)total : table->n;
	table->interval_s = json_number_value(json_object_get(data, "interval"));
	if (!(table->interval_s > 0))
		table->interval_s = 0;
	/* The agent gives the same table again when it was asked too soon; it does not become younger by that. */
	number = json_integer_value(json_object_get(data, "table"));
	if (number != s->number)
		s->number_since = table->taken;
	s->number = number;
	return 0;
}

static void text_from(const json_t *object, const char *name, char *to, size_t size)
{
	const char *text = json_string_value(json_object_get(object, name));

	top_clean(text ? text : "?", to, size);
}

static int take_drops(struct top_source *s, const json_t *document)
{
	const json_t *rows = json_object_get(json_object_get(document, "data"), "drops"), *row;
	struct top_table *table = s->coming;
	size_t i;

	if (!json_is_array(rows))
		return -EPROTO;
	table->drops = calloc(json_array_size(rows) ? json_array_size(rows) : 1, sizeof(*table->drops));
	if (!table->drops)
		return -ENOMEM;
	json_array_foreach(rows, i, row) {
		struct top_drop *drop = &table->drops[table->n_drops++];
		json_int_t count = json_integer_value(json_object_get(row, "count"));

		text_from(row, "reason", drop->reason, sizeof(drop->reason));
		text_from(row, "protocol", drop->protocol, sizeof(drop->protocol));
		drop->packets = count > 0 ? (uint64_t)count : 0;
	}
	top_source_rate_drops(s, table);
	return 0;
}

/* Both answers are there. */
static void conclude(struct top_source *s)
{
	struct top_table *table = s->coming;
	char text[sizeof(s->error.text) + 64];

	s->coming = NULL;
	s->cost_ns = mono_since_ns(mono_now(), s->asked_at);
	if (s->error.text[0]) {
		s->cost_ns = 0;
		top_table_free(table);
		snprintf(text, sizeof(text), "%s", s->error.text);
		s->fn(NULL, text, s->userdata);
		return;
	}
	table->taken = s->number_since;
	s->fn(table, NULL, s->userdata);
}

static void on_connections(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct top_source *s = userdata;
	json_t *document;

	s->coming->taken = mono_now();
	document = document_of(s, response, &s->error);
	if (document)
		take_connections(s, document);
	json_decref(document);
	if (--s->asked == 0)
		conclude(s);
}

static void on_drops(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct top_source *s = userdata;
	struct error error = { "" };
	json_t *document = document_of(s, response, &error);
	mono_time taken = s->coming->taken;

	s->coming->taken = mono_now();
	if (!document || take_drops(s, document) < 0)
		top_source_no_drops(s, s->coming, error.text[0] ? error.text : "the agent's answer is none");
	s->coming->taken = taken;
	json_decref(document);
	if (--s->asked == 0)
		conclude(s);
}

void top_source_ask_url(struct top_source *s)
{
	struct fetch_request request = { .response_max = RESPONSE_MAX, .timeout_ns = TIMEOUT_NS };
	struct error error = { "" };
	int r;

	if (s->asked)
		return;
	s->coming = calloc(1, sizeof(*s->coming));
	s->error = (struct error){ "" };
	s->asked_at = mono_now();
	r = s->coming ? 0 : -ENOMEM;
	request.url = s->connections_url.data;
	if (!r)
		r = fetch_start(s->fetch, &request, on_connections, s, NULL, &error);
	if (r < 0) {
		top_table_free(s->coming);
		s->coming = NULL;
		s->fn(NULL, error.text[0] ? error.text : "out of memory", s->userdata);
		return;
	}
	s->asked = 1;
	request.url = s->drops_url.data;
	r = fetch_start(s->fetch, &request, on_drops, s, NULL, &error);
	if (r < 0)
		top_source_no_drops(s, s->coming, error.text);
	else
		s->asked = 2;
}
