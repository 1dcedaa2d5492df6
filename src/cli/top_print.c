/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_print.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include "lib/json.h"

void top_write_summary(const struct top_table *table, const struct top_summary *summary, bool bits, struct buffer *out)
{
	char a[TOP_NUMBER_MAX];

	buffer_printf(out, "%llu connection%s", (unsigned long long)table->total, table->total == 1 ? "" : "s");
	if (table->total > table->n)
		buffer_printf(out, " (%zu listed)", table->n);
	buffer_printf(out, "  out %s", top_rate_unit(summary->sent_rate, bits, a));
	buffer_printf(out, "  in %s", top_rate_unit(summary->received_rate, bits, a));
	buffer_printf(out, "  retrans %s", top_ratio(summary->retransmit_ratio, a));
	if (!table->no_drops[0])
		buffer_printf(out, "  drops %s/s", top_count(summary->drop_rate, a));
}

static const char *now_text(const char *format, char *to, size_t size)
{
	time_t seconds = (time_t)(wall_now().ns / (int64_t)NS_PER_SEC);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(to, size, format, &tm))
		to[0] = '\0';
	return to;
}

static void put_cells(const struct top_live *live, const struct top_place *places, size_t n, const struct top_row *row,
		      struct buffer *out)
{
	char text[TOP_TEXT_MAX], cell[TOP_TEXT_MAX];

	for (size_t i = 0; i < n; i++) {
		enum top_fit fit = top_column_fit(places[i].column);

		if (row)
			top_cell(row, places[i].column, live->look.bits, text);
		else
			snprintf(text, sizeof(text), "%s", top_column_title(places[i].column));
		/* No blanks at the end of a line. */
		if (i + 1 < n || fit == TOP_RIGHT)
			top_fit(text, places[i].width, fit == TOP_RIGHT ? TOP_RIGHT : TOP_LEFT, cell, sizeof(cell));
		else
			snprintf(cell, sizeof(cell), "%s", text);
		buffer_puts(out, i ? "  " : "");
		buffer_puts(out, cell);
	}
	buffer_putc(out, '\n');
}

void top_write_batch(const struct top_live *live, struct buffer *out)
{
	const struct top_table *table = live->table;
	struct top_place places[TOP_COLUMNS];
	size_t n = top_layout(&live->rows, SIZE_MAX, live->look.bits, places);
	char time[40], interval[TOP_NUMBER_MAX], text[TOP_TEXT_MAX];
	const struct top_filter *filter = &live->look.filters[live->look.view == TOP_DROPS];

	top_seconds(live->look.view == TOP_DROPS ? table->drops_interval_s : table->interval_s, interval);
	buffer_printf(out, "netsonde top  %s  %s  %s  over %s\n", live->host, live->source, now_text("%Y-%m-%dT%H:%M:%SZ", time, sizeof(time)),
		      interval);
	top_write_summary(table, &live->rows.summary, live->look.bits, out);
	if (filter->n)
		buffer_printf(out, "  filter: %s (%zu)", top_clean(filter->text, text, sizeof(text)), live->rows.connections);
	buffer_putc(out, '\n');
	put_cells(live, places, n, NULL, out);
	for (size_t i = 0; i < live->rows.n; i++)
		put_cells(live, places, n, live->rows.order[i], out);
	if (live->look.view == TOP_DROPS && table->no_drops[0])
		buffer_printf(out, "drops are not known: %s\n", top_clean(table->no_drops, text, sizeof(text)));
	buffer_putc(out, '\n');
}

static json_t *drop_json(const struct top_drop *drop)
{
	return json_pack("{s:o, s:o, s:I, s:o}", "reason", json_text(drop->reason, sizeof(drop->reason)), "protocol",
			 json_text(drop->protocol, sizeof(drop->protocol)), "count", (json_int_t)drop->packets, "rate", json_number(drop->rate));
}

/* A peer or a process. */
static json_t *group_json(const struct top_row *row, enum top_view view)
{
	const struct connection *c = row->connection;
	json_t *object = json_pack("{s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o}", "connections", (json_int_t)row->connections,
				   "rtt_seconds", json_number(row->rtt_s), "jitter_seconds", json_number(row->jitter_s),
				   "retransmit_ratio", json_number(row->retransmit_ratio), "sent_rate_bytes", json_number(row->sent_rate),
				   "received_rate_bytes", json_number(row->received_rate), "sent_bytes", (json_int_t)row->sent_bytes,
				   "received_bytes", (json_int_t)row->received_bytes, "verdict",
				   row->interval_s > 0 ? verdict_json(&row->verdict) : json_null());
	int r;

	if (view == TOP_PEERS) {
		r = json_object_set_new(object, "peer", json_text(c->peer, sizeof(c->peer)));
		r |= json_object_set_new(object, "processes", json_integer(row->processes));
	} else {
		r = json_object_set_new(object, "pid", json_integer(c->pid));
		r |= json_object_set_new(object, "process", json_text(c->comm, sizeof(c->comm)));
		r |= json_object_set_new(object, "container", json_text(c->container, sizeof(c->container)));
		r |= json_object_set_new(object, "peers", json_integer(row->peers));
	}
	if (!r)
		return object;
	json_decref(object);
	return NULL;
}

static json_t *row_json(const struct top_row *row, enum top_view view)
{
	if (view == TOP_DROPS)
		return drop_json(row->drop);
	return view == TOP_CONNECTIONS ? connection_json(row->connection) : group_json(row, view);
}

static int write_head(const struct top_live *live, struct buffer *out)
{
	const struct top_table *table = live->table;
	const struct top_summary *summary = &live->rows.summary;
	char time[40];
	json_t *head = json_pack("{s:s, s:o, s:o, s:s, s:o, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "time",
				 now_text("%Y-%m-%dT%H:%M:%SZ", time, sizeof(time)), "host", json_text(live->host, sizeof(live->host)), "source",
				 json_text(live->source, sizeof(live->source)), "view", top_view_name(live->look.view), "interval_seconds",
				 json_number(table->interval_s), "total", (json_int_t)table->total, "known", (json_int_t)table->n,
				 "matched", (json_int_t)live->rows.connections, "sent_rate_bytes", json_number(summary->sent_rate),
				 "received_rate_bytes", json_number(summary->received_rate), "retransmit_ratio",
				 json_number(summary->retransmit_ratio), "drop_rate", json_number(summary->drop_rate));
	int r;

	if (head && table->no_drops[0] && json_object_set_new(head, "no_drops", json_text(table->no_drops, sizeof(table->no_drops)))) {
		json_decref(head);
		return -ENOMEM;
	}
	r = json_write(head, out);
	if (!r)
		out->len--; /* the rows go on where it ends */
	return r;
}

int top_write_json(const struct top_live *live, struct buffer *out)
{
	int r = write_head(live, out);

	/* Row by row: together they would take a hundred times the memory. */
	buffer_printf(out, ",\"%s\":[", top_view_name(live->look.view));
	for (size_t i = 0; i < live->rows.n && !r; i++) {
		buffer_puts(out, i ? "," : "");
		r = json_write(row_json(live->rows.order[i], live->look.view), out);
	}
	buffer_puts(out, "]}\n");
	return r ? r : buffer_ok(out) ? 0 : -ENOMEM;
}
