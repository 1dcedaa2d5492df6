/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of connections: from this host's kernel, with programs of our own, or from
 * a running agent over HTTP. The agent shares one table among all readers and says
 * its number; one that we have seen before is not counted again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "agent/kbpf.h"
#include "agent/peers.h"
#include "cli/why.h"
#include "lib/fetch.h"
#include "lib/loop.h"
#include "lib/settings.h"

/* A look at the kernel's table; and less often when it takes long, so that we take at most a tenth of a core. */
#define LOCAL_PERIOD_NS (100 * NS_PER_MS)
#define LOCAL_COST_RATIO 10
/* No agent makes tables more often. */
#define URL_PERIOD_NS (500 * NS_PER_MS)
#define URL_LIMIT 10000
#define RESPONSE_MAX (64u * 1024 * 1024)

struct why_source {
	/* This host */
	struct connections *connections;
	struct peers *peers;
	uint64_t cost_ns;
	/* An agent */
	struct loop *loop;
	struct fetch *fetch;
	struct buffer url, query;
	json_int_t table;   /* number of the last one */
	uint64_t left_out;
	/* While one is fetched */
	why_row_fn fn;
	void *userdata;
	bool fresh;
	int r;
	struct error *error;
};

static int open_local(struct why_source *s, const char *config_file, struct error *ret_error)
{
	struct buffer errors = BUFFER_INIT;
	struct settings settings;
	int r = 0;

	kbpf_log_setup();
	if (config_file) {
		r = settings_load(config_file, &settings, &errors);
		if (r < 0) {
			error_set(ret_error, r, "%s", errors.data ? errors.data : strerror(-r));
			buffer_done(&errors);
			return r;
		}
		r = peers_new(&settings, &s->peers, ret_error);
		settings_done(&settings);
	}
	buffer_done(&errors);
	return r < 0 ? r : connections_open(s->peers, NULL, 0, &s->connections, ret_error);
}

static int open_url(struct why_source *s, const char *url, struct error *ret_error)
{
	size_t len = strlen(url);
	int r;

	while (len && url[len - 1] == '/')
		len--;
	buffer_append(&s->url, url, len);
	if (!strstr(url, "/api/"))
		buffer_puts(&s->url, "/api/v1/connections");
	if (!buffer_ok(&s->url))
		return -ENOMEM;
	r = loop_new(&s->loop);
	if (!r)
		r = fetch_new(s->loop, 1, &s->fetch);
	return r < 0 ? error_set_errno(ret_error, r, "cannot prepare for HTTP") : 0;
}

int why_source_open(const char *url, const char *config_file, struct why_source **ret_source, struct error *ret_error)
{
	struct why_source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	r = url ? open_url(s, url, ret_error) : open_local(s, config_file, ret_error);
	if (r < 0) {
		why_source_close(s);
		return r;
	}
	*ret_source = s;
	return 0;
}

void why_source_close(struct why_source *s)
{
	if (!s)
		return;
	connections_close(s->connections);
	peers_free(s->peers);
	fetch_free(s->fetch);
	loop_free(s->loop);
	buffer_done(&s->url);
	buffer_done(&s->query);
	free(s);
}

static void put_peer(struct buffer *out, const char *text)
{
	buffer_puts(out, "&peer=");
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '-')
			buffer_putc(out, (char)c);
		else
			buffer_printf(out, "%%%02X", c);
	}
}

static void narrow_local(struct connections *connections, const struct why_target *t, enum why_kind kind)
{
	struct connections_filter filter = { 0 };

	if (kind == WHY_PID)
		filter.pid = t->pid;
	else if (kind == WHY_ID)
		filter.cookie = t->id;
	else if (kind == WHY_ADDRESS)
		filter.remote = t->prefix;
	else if (kind == WHY_PAIR)
		filter.remote = (struct prefix){ t->remote, 128 };
	else if (kind == WHY_HOST && t->n_addresses == 1)
		filter.remote = (struct prefix){ t->addresses[0], 128 };
	connections_only(connections, &filter);
}

void why_source_narrow(struct why_source *s, const struct why_target *t, enum why_kind kind)
{
	struct buffer *q = &s->query;
	char text[ADDRESS_TEXT_MAX];

	if (s->connections) {
		narrow_local(s->connections, t, kind);
		return;
	}
	buffer_clear(q);
	s->table = -1;
	if (kind == WHY_PID)
		buffer_printf(q, "&pid=%u", t->pid);
	else if (kind == WHY_ID)
		buffer_printf(q, "&id=%llx", (unsigned long long)t->id);
	else if (kind == WHY_PAIR)
		buffer_printf(q, "&port=%u", t->remote_port);
	else if (kind == WHY_NETWORK || kind == WHY_ADDRESS)
		put_peer(q, t->text);
	for (size_t i = 0; kind == WHY_HOST && i < t->n_addresses; i++)
		put_peer(q, address_format(&t->addresses[i], text));
}

static int table_local(struct why_source *s, why_row_fn fn, void *userdata, struct error *ret_error)
{
	mono_time start = mono_now();
	struct connection connection;
	int r = connections_refresh(s->connections, start);

	if (r < 0)
		return error_set_errno(ret_error, r, "cannot list the connections");
	for (size_t i = 0; i < connections_count(s->connections) && !r; i++) {
		connections_get(s->connections, i, &connection);
		r = fn(&connection, userdata);
	}
	s->cost_ns = mono_since_ns(mono_now(), start);
	return r;
}

static int take_document(struct why_source *s, const json_t *document)
{
	const json_t *data = json_object_get(document, "data"), *row;
	const json_t *rows = json_object_get(data, "connections");
	json_int_t table = json_integer_value(json_object_get(data, "table"));
	struct connection connection;
	size_t i;
	int r = 0;

	if (!json_is_array(rows))
		return error_set(s->error, -EPROTO, "%s gave no table of connections", s->url.data);
	s->fresh = table != s->table;
	s->table = table;
	s->left_out = (uint64_t)json_integer_value(json_object_get(data, "matched")) - json_array_size(rows);
	json_array_foreach(rows, i, row) {
		if (s->fresh && !r && !connection_from_json(row, &connection))
			r = s->fn(&connection, s->userdata);
	}
	return r;
}

static void on_answer(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct why_source *s = userdata;
	json_t *document;

	if (response->r < 0) {
		s->r = error_set(s->error, response->r, "cannot ask the agent: %s", response->error);
	} else if (response->status != 200) {
		s->r = error_set(s->error, -EPROTO, "%s answered %ld: %.200s", s->url.data, response->status,
				 response->data);
	} else {
		document = json_loadb(response->data, response->len, 0, NULL);
		s->r = take_document(s, document);
		json_decref(document);
	}
	loop_stop(s->loop);
}

static int table_url(struct why_source *s, struct error *ret_error)
{
	struct buffer url = BUFFER_INIT;
	struct fetch_request request = { .response_max = RESPONSE_MAX };
	int r = -ENOMEM;

	/* Of all, those that do something; of what is watched, always the same. */
	buffer_printf(&url, "%s?limit=%d&sort=%s%s", s->url.data, URL_LIMIT, s->query.len ? "id" : "rate",
		      s->query.len ? s->query.data : "");
	s->r = 0;
	s->error = ret_error;
	request.url = url.data;
	if (buffer_ok(&url))
		r = fetch_start(s->fetch, &request, on_answer, s, NULL, ret_error);
	if (!r)
		r = loop_run(s->loop);
	buffer_done(&url);
	return r < 0 ? r : s->r;
}

int why_source_table(struct why_source *s, why_row_fn fn, void *userdata, bool *ret_fresh, struct error *ret_error)
{
	int r;

	if (s->connections) {
		*ret_fresh = true;
		return table_local(s, fn, userdata, ret_error);
	}
	s->fn = fn;
	s->userdata = userdata;
	r = table_url(s, ret_error);
	*ret_fresh = s->fresh;
	return r;
}

uint64_t why_source_period_ns(const struct why_source *s)
{
	uint64_t cost = s->cost_ns * LOCAL_COST_RATIO;

	if (!s->connections)
		return URL_PERIOD_NS;
	return cost > LOCAL_PERIOD_NS ? cost : LOCAL_PERIOD_NS;
}

bool why_source_asks(const struct why_source *s)
{
	return !s->connections;
}

uint64_t why_source_left_out(const struct why_source *s)
{
	return s->connections ? connections_left_out(s->connections) : s->left_out;
}
