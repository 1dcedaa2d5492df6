/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /api/v1/connections. The handler runs in the agent's loop, so what it costs is
 * bounded: tables are shared by all readers and rationed, and a row gets its long form
 * and its text one at a time, after filter, order and limit.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/connections_internal.h"
#include "agent/peers.h"

#define REFRESH_MIN_NS (500 * NS_PER_MS)
/* A table that took long is not made again before so many times that long. */
#define REFRESH_COST_RATIO 10
#define LIMIT_DEFAULT 1000
#define LIMIT_MAX 10000
#define PEERS_MAX 16

enum sort { SORT_RATE, SORT_SENT, SORT_RECEIVED, SORT_RTT, SORT_RETRANSMITS, SORT_ID, SORT_COUNT };

static const char *const sort_names[SORT_COUNT] = { "rate", "sent", "received", "rtt", "retransmits", "id" };

struct query {
	struct {
		const char *name;
		struct prefix prefix; /* when it is one; an address is the longest */
		bool is_prefix;
	} peers[PEERS_MAX];
	size_t n_peers;                  /* any of them; 0: any */
	const char *process, *container; /* NULL: any */
	bool has_id;
	uint64_t id, pid, port, limit;          /* 0: any */
	enum sort sort;
};

struct candidate {
	double key; /* the larger the earlier */
	size_t index;
};

static bool parse_number(const char *text, int base, uint64_t max, uint64_t *ret_number)
{
	static const char digits[] = "0123456789abcdef";
	unsigned long long number;

	if (!text[0] || strspn(text, base == 16 ? digits : "0123456789") != strlen(text) ||
	    strlen(text) > (base == 16 ? 16 : 19))
		return false;
	number = strtoull(text, NULL, base);
	if (number > max)
		return false;
	*ret_number = number;
	return true;
}

static bool ask_number(struct http_request *request, const char *name, int base, uint64_t min, uint64_t max,
		       uint64_t *ret_number)
{
	const char *text = http_request_query(request, name);

	if (!text || (parse_number(text, base, max, ret_number) && *ret_number >= min))
		return true;
	if (base == 16)
		http_respond_text(request, 400, "%s=%.40s: the ID of a connection is needed, such as f5eb9", name,
				  text);
	else
		http_respond_text(request, 400, "%s=%.40s: a number from %llu to %llu is needed", name, text,
				  (unsigned long long)min, (unsigned long long)max);
	return false;
}

static bool ask_sort(struct http_request *request, enum sort *ret_sort)
{
	const char *text = http_request_query(request, "sort");

	for (unsigned i = 0; text && i < SORT_COUNT; i++)
		if (!strcmp(text, sort_names[i])) {
			*ret_sort = (enum sort)i;
			return true;
		}
	if (text)
		http_respond_text(
		    request, 400,
		    "sort=%.40s: there is no such order; there are rate, sent, received, rtt, retransmits, id", text);
	return !text;
}

static void add_peer(const char *value, void *userdata)
{
	struct query *q = userdata;

	if (q->n_peers == PEERS_MAX)
		return;
	q->peers[q->n_peers].name = value;
	q->peers[q->n_peers].is_prefix = !prefix_parse(value, &q->peers[q->n_peers].prefix, NULL);
	q->n_peers++;
}

/* False: it has been answered. */
static bool understand(struct http_request *request, struct query *q)
{
	*q = (struct query){
		.process = http_request_query(request, "process"),
		.container = http_request_query(request, "container"), .limit = LIMIT_DEFAULT,
	};
	if (http_request_query_each(request, "peer", add_peer, q) > PEERS_MAX) {
		http_respond_text(request, 400, "peer: there may be at most %d of them", PEERS_MAX);
		return false;
	}
	q->has_id = http_request_query(request, "id");
	return ask_number(request, "id", 16, 0, UINT64_MAX, &q->id) &&
	       ask_number(request, "pid", 10, 1, INT32_MAX, &q->pid) &&
	       ask_number(request, "port", 10, 1, UINT16_MAX, &q->port) &&
	       ask_number(request, "limit", 10, 0, LIMIT_MAX, &q->limit) && ask_sort(request, &q->sort);
}

static bool peer_matches(const struct connections *c, const struct query *q, const struct peer_address *remote)
{
	struct address address;
	const char *network;

	memcpy(&address, remote, sizeof(address));
	network = c->peers ? peers_network(c->peers, &address) : NULL;
	for (size_t i = 0; i < q->n_peers; i++)
		if (q->peers[i].is_prefix ? prefix_contains(&q->peers[i].prefix, &address) :
					    network && !strcmp(network, q->peers[i].name))
			return true;
	return false;
}

static bool matches(const struct connections *c, const struct query *q, size_t index)
{
	const struct row *row = table_row(c, index);
	const struct connection_record *r = &row->record;
	const struct table_process *p = &c->processes[row->process];

	if ((q->has_id && r->cookie != q->id) || (q->pid && r->tgid != q->pid) ||
	    (q->port && r->local_port != q->port && r->remote_port != q->port))
		return false;
	if ((q->process && strcmp(p->comm, q->process)) || (q->container && strcmp(p->container, q->container)))
		return false;
	return !q->n_peers || peer_matches(c, q, &r->remote);
}

static double key_of(const struct connections *c, enum sort sort, size_t index)
{
	const struct connection_record *r = &table_row(c, index)->record;
	const struct row_change *change = &c->changes[index];

	switch (sort) {
	case SORT_RATE:
		return change->interval ? (double)(change->sent_bytes + change->received_bytes) / change->interval : 0;
	case SORT_SENT: return (double)r->sent_bytes;
	case SORT_RECEIVED: return (double)r->received_bytes;
	case SORT_RTT: return r->rtt_us;
	case SORT_RETRANSMITS: return r->retransmits;
	default: return 0; /* the order that they have */
	}
}

static int compare_candidates(const void *left, const void *right)
{
	const struct candidate *a = left, *b = right;

	if (a->key != b->key)
		return a->key > b->key ? -1 : 1;
	return a->index < b->index ? -1 : a->index > b->index;
}

/* The text of the rows: each made, written and forgotten in turn. */
static int write_rows(struct connections *c, const struct candidate *candidates, size_t n, struct buffer *out)
{
	struct connection connection;
	int r = 0;

	for (size_t i = 0; i < n && !r; i++) {
		connections_get(c, candidates[i].index, &connection);
		buffer_puts(out, i ? "," : "");
		r = json_write(connection_json(&connection), out);
	}
	return r;
}

static int write_document(struct connections *c, const struct query *q, struct buffer *out)
{
	struct candidate *candidates = calloc(c->n ? c->n : 1, sizeof(*candidates));
	size_t n = 0;
	int r;

	if (!candidates)
		return -ENOMEM;
	for (size_t i = 0; i < c->n; i++)
		if (matches(c, q, i))
			candidates[n++] = (struct candidate){ key_of(c, q->sort, i), i };
	qsort(candidates, n, sizeof(*candidates), compare_candidates);
	buffer_printf(out,
		      "{\"status\":\"success\",\"data\":{\"table\":%llu,\"interval\":", (unsigned long long)c->table);
	r = json_write(json_number(c->interval_s), out);
	buffer_printf(out, ",\"total\":%zu,\"left_out\":%llu,\"matched\":%zu,\"connections\":[", c->n,
		      (unsigned long long)c->left_out, n);
	if (!r)
		r = write_rows(c, candidates, n < q->limit ? n : (size_t)q->limit, out);
	buffer_puts(out, "]}}\n");
	free(candidates);
	return r ? r : buffer_ok(out) ? 0 : -ENOMEM;
}

static bool is_stale(const struct connections *c, mono_time now)
{
	uint64_t age = mono_since_ns(now, c->refreshed), cost = c->cost_ns * REFRESH_COST_RATIO;

	return !c->index || age >= (cost > REFRESH_MIN_NS ? cost : REFRESH_MIN_NS);
}

void connections_handle(struct http_request *request, void *userdata)
{
	struct http_response response = { .status = 200, .content_type = "application/json", .owned = true };
	struct connections *c = userdata;
	struct buffer out = BUFFER_INIT;
	mono_time now = mono_now();
	struct query query;
	int r = 0;

	if (!understand(request, &query))
		return;
	if (is_stale(c, now))
		r = connections_refresh(c, now);
	if (r < 0) {
		http_respond_text(request, 503, "cannot list the connections: %s", strerror(-r));
		return;
	}
	if (write_document(c, &query, &out) < 0) {
		buffer_done(&out);
		http_respond_text(request, 503, "out of memory");
		return;
	}
	response.data = buffer_steal(&out, &response.len);
	http_respond(request, &response);
}
