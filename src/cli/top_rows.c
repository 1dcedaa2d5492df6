/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/top_columns.h"

/* The summands of a row while it is made. */
struct sums {
	double rtt, jitter, rtt_all, jitter_all;
	unsigned n_rtt, n_jitter, n_rtt_all, n_jitter_all;
	uint64_t segments, retransmits;
	double verdict_s, busiest;
};

static void add_mean(double value, bool moved, double *sum, unsigned *n, double *sum_all, unsigned *n_all)
{
	if (!isfinite(value))
		return;
	*sum += moved ? value : 0;
	*n += moved;
	*sum_all += value;
	(*n_all)++;
}

static void add_connection(struct top_row *row, struct sums *s, const struct connection *c)
{
	bool moved = c->input.sent_bytes || c->input.received_bytes;
	double rate = c->sent_rate + c->received_rate;

	row->connections++;
	row->sent_bytes += (double)c->sent_bytes;
	row->received_bytes += (double)c->received_bytes;
	add_mean(c->rtt_s, moved, &s->rtt, &s->n_rtt, &s->rtt_all, &s->n_rtt_all);
	add_mean(c->jitter_s, moved, &s->jitter, &s->n_jitter, &s->jitter_all, &s->n_jitter_all);
	if (!row->connection || rate > s->busiest) {
		row->connection = c;
		s->busiest = rate;
	}
	if (!(c->interval_s > 0))
		return;
	row->interval_s = fmax(row->interval_s, c->interval_s);
	row->quiet &= !moved;
	row->sent_rate += c->sent_rate;
	row->received_rate += c->received_rate;
	s->segments += c->input.sent_segments;
	s->retransmits += c->input.retransmits;
	if (c->verdict.side != VERDICT_NOTHING)
		verdict_add(&row->verdict, &s->verdict_s, &c->verdict, c->interval_s);
}

static double mean(double sum, unsigned n, double sum_all, unsigned n_all)
{
	return n ? sum / n : n_all ? sum_all / n_all : NAN;
}

static double ratio(uint64_t part, uint64_t whole)
{
	return part ? fmin(1, (double)part / (double)(whole ? whole : 1)) : 0;
}

static void finish_row(struct top_row *row, const struct sums *s)
{
	row->rtt_s = mean(s->rtt, s->n_rtt, s->rtt_all, s->n_rtt_all);
	row->jitter_s = mean(s->jitter, s->n_jitter, s->jitter_all, s->n_jitter_all);
	row->retransmit_ratio = ratio(s->retransmits, s->segments);
	if (!(s->verdict_s > 0))
		verdict_of(&(struct verdict_input){ 0 }, &row->verdict);
	if (!(row->interval_s > 0))
		row->retransmit_ratio = row->sent_rate = row->received_rate = NAN;
}

static uint64_t hash(uint64_t h, const char *text)
{
	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 1099511628211ULL; /* FNV-1a: names rows, no more */
	return h;
}

static int compare_text_then_pid(const void *left, const void *right)
{
	const struct connection *a = *(const struct connection *const *)left, *b = *(const struct connection *const *)right;
	int order = strcmp(a->peer, b->peer);

	return order ? order : a->pid < b->pid ? -1 : a->pid > b->pid;
}

static int compare_pid_then_text(const void *left, const void *right)
{
	const struct connection *a = *(const struct connection *const *)left, *b = *(const struct connection *const *)right;

	if (a->pid != b->pid)
		return a->pid < b->pid ? -1 : 1;
	return strcmp(a->peer, b->peer);
}

/* One row per run of connections with the same peer, or the same process. */
static void make_groups(struct top_rows *to, const struct connection **list, size_t n)
{
	bool by_peer = to->view == TOP_PEERS;
	size_t end;

	if (!n) /* then there may be no list */
		return;
	qsort(list, n, sizeof(*list), by_peer ? compare_text_then_pid : compare_pid_then_text);
	for (size_t i = 0; i < n; i = end) {
		struct top_row *row = &to->rows[to->n++];
		struct sums sums = { 0 };

		*row = (struct top_row){ .quiet = true, .key = by_peer ? hash(14695981039346656037ULL, list[i]->peer) : list[i]->pid };
		for (end = i; end < n; end++) {
			bool same_peer = !strcmp(list[end]->peer, list[i]->peer), same_pid = list[end]->pid == list[i]->pid;
			const struct connection *before = end > i ? list[end - 1] : NULL;

			if (by_peer ? !same_peer : !same_pid)
				break;
			row->processes += !before || before->pid != list[end]->pid;
			row->peers += !before || strcmp(before->peer, list[end]->peer);
			add_connection(row, &sums, list[end]);
		}
		finish_row(row, &sums);
	}
}

static void make_single(struct top_rows *to, const struct connection **list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct top_row *row = &to->rows[to->n++];
		struct sums sums = { 0 };

		*row = (struct top_row){ .quiet = true, .key = list[i]->cookie, .processes = list[i]->holders, .peers = 1 };
		add_connection(row, &sums, list[i]);
		finish_row(row, &sums);
		if (row->interval_s > 0) {
			row->retransmit_ratio = list[i]->retransmit_ratio;
			row->verdict = list[i]->verdict;
		}
	}
}

static int make_connections(struct top_rows *to, const struct top_table *table, const struct top_filter *filter)
{
	const struct connection **list = calloc(table->n ? table->n : 1, sizeof(const struct connection *));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < table->n; i++)
		if (top_filter_connection(filter, &table->connections[i]))
			list[to->connections++] = &table->connections[i];
	if (to->view == TOP_CONNECTIONS)
		make_single(to, list, to->connections);
	else
		make_groups(to, list, to->connections);
	free(list);
	return 0;
}

static void make_drops(struct top_rows *to, const struct top_table *table, const struct top_filter *filter)
{
	for (size_t i = 0; i < table->n_drops; i++) {
		const struct top_drop *drop = &table->drops[i];

		if (!top_filter_drop(filter, drop))
			continue;
		to->rows[to->n++] = (struct top_row){ .key = hash(hash(14695981039346656037ULL, drop->reason), drop->protocol), .drop = drop };
	}
	to->connections = to->n;
}

static void widen(size_t *width, size_t to)
{
	if (to > *width)
		*width = to;
}

/* What decides on columns and their widths, so that it is not looked for at each drawing. */
static void measure(const struct connection *c, struct top_summary *s)
{
	char text[ADDRESS_TEXT_MAX + 10];

	s->has_containers |= c->container[0] != '\0';
	widen(&s->peer_width, strlen(c->peer));
	if (!s->has_networks)
		s->has_networks = strcmp(c->peer, address_format(&c->remote, text)) != 0;
	if (address_is_ipv4(&c->remote) && address_is_ipv4(&c->local))
		return;
	widen(&s->end_width, strlen(top_end(&c->remote, c->remote_port, text)));
	widen(&s->end_width, strlen(top_end(&c->local, c->local_port, text)));
}

static void summarize(const struct top_table *table, struct top_summary *s)
{
	uint64_t segments = 0, retransmits = 0;
	bool known = false;

	s->end_width = strlen("255.255.255.255:65535");
	s->peer_width = strlen("255.255.255.255");
	for (size_t i = 0; i < table->n; i++) {
		const struct connection *c = &table->connections[i];

		measure(c, s);
		if (!(c->interval_s > 0))
			continue;
		known = true;
		s->sent_rate += c->sent_rate;
		s->received_rate += c->received_rate;
		segments += c->input.sent_segments;
		retransmits += c->input.retransmits;
	}
	s->retransmit_ratio = ratio(retransmits, segments);
	if (!known && (table->n || !(table->interval_s > 0)))
		s->sent_rate = s->received_rate = s->retransmit_ratio = NAN;
	for (size_t i = 0; i < table->n_drops; i++)
		s->drop_rate += isfinite(table->drops[i].rate) ? table->drops[i].rate : 0;
	if (table->no_drops[0] || !(table->drops_interval_s > 0))
		s->drop_rate = NAN;
}

int top_rows_make(struct top_rows *rows, const struct top_table *table, enum top_view view, const struct top_filter *filter)
{
	struct top_rows made = { .view = view };
	size_t room = view == TOP_DROPS ? table->n_drops : table->n;
	int r = 0;

	made.rows = calloc(room ? room : 1, sizeof(*made.rows));
	made.order = calloc(room ? room : 1, sizeof(struct top_row *));
	if (!made.rows || !made.order)
		r = -ENOMEM;
	else if (view == TOP_DROPS)
		make_drops(&made, table, filter);
	else
		r = make_connections(&made, table, filter);
	if (r < 0) {
		top_rows_done(&made);
		return r;
	}
	for (size_t i = 0; i < made.n; i++)
		made.order[i] = &made.rows[i];
	summarize(table, &made.summary);
	top_rows_done(rows);
	*rows = made;
	return 0;
}

struct sort {
	enum top_column column;
	bool reverse;
};

/* What is equal keeps one order through all tables: the busier, then the key. */
static int compare_rows(const void *left, const void *right, void *userdata)
{
	const struct top_row *a = *(struct top_row *const *)left, *b = *(struct top_row *const *)right;
	const struct sort *sort = userdata;
	int order = top_column_compare(sort->column, a, b, sort->reverse);

	if (!order && !a->drop)
		order = top_column_compare(TOP_RATE, a, b, false);
	return order ? order : a->key < b->key ? -1 : a->key > b->key;
}

void top_rows_sort(struct top_rows *rows, enum top_column column, bool reverse)
{
	struct sort sort = { column, reverse };

	if (rows->n) /* else there may be no list */
		qsort_r(rows->order, rows->n, sizeof(struct top_row *), compare_rows, &sort);
}

void top_rows_done(struct top_rows *rows)
{
	free(rows->rows);
	free(rows->order);
	*rows = (struct top_rows){ .view = rows->view };
}

size_t top_rows_find(const struct top_rows *rows, uint64_t key)
{
	for (size_t i = 0; i < rows->n; i++)
		if (rows->order[i]->key == key)
			return i;
	return SIZE_MAX;
}
