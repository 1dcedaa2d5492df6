/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_columns.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "lib/flags.h"

#define C (1 << TOP_CONNECTIONS)
#define P (1 << TOP_PEERS)
#define S (1 << TOP_PROCESSES)
#define D (1 << TOP_DROPS)

/* In the order of the screen. */
static const struct {
	const char *name, *title;
	unsigned views;
	unsigned char min, max; /* width; max > min: grows with what room there is. 0: never shown, only sorted by */
	unsigned char rank;     /* the higher, the sooner it is left out */
	bool text;              /* sorted from A */
	enum top_fit fit;
	const char *help;
} columns[TOP_COLUMNS] = {
	[TOP_PROCESS] = { "process", "PROCESS", C | P | S, 9, 15, 0, true, TOP_LEFT, "the process that holds the socket" },
	[TOP_PID] = { "pid", "PID", C | S, 7, 7, 4, true, TOP_RIGHT, "its number, as the host's first PID namespace counts" },
	[TOP_CONTAINER] = { "container", "CONTAINER", C | S, 12, 26, 5, true, TOP_LEFT, "the container it runs in" },
	[TOP_PEER] = { "peer", "PEER", C | P, 15, 39, 6, true, TOP_MIDDLE, "the far end: a configured network, else its address" },
	[TOP_REMOTE] = { "remote", "REMOTE", C, 21, 47, 0, true, TOP_MIDDLE, "the far end's address and port" },
	[TOP_LOCAL] = { "local", "LOCAL", C, 21, 47, 8, true, TOP_MIDDLE, "this end's address and port" },
	[TOP_STATE] = { "state", "STATE", C, 11, 11, 10, true, TOP_LEFT, "of the connection" },
	[TOP_ROLE] = { "role", "ROLE", C, 6, 6, 9, true, TOP_LEFT, "client: this end connected; server: the far end did" },
	[TOP_CONNECTIONS_COUNT] = { "connections", "CONNS", P | S, 6, 6, 2, false, TOP_RIGHT, "connections" },
	[TOP_PROCESSES_COUNT] = { "processes", "PROCS", P, 6, 6, 6, false, TOP_RIGHT, "processes that talk to the peer" },
	[TOP_PEERS_COUNT] = { "peers", "PEERS", S, 6, 6, 6, false, TOP_RIGHT, "peers that the process talks to" },
	[TOP_RTT] = { "rtt", "RTT", C | P | S, 6, 6, 1, false, TOP_RIGHT, "round-trip time, smoothed by the kernel" },
	[TOP_JITTER] = { "jitter", "JITTER", C | P | S, 7, 7, 3, false, TOP_RIGHT, "how far round trips are from that" },
	[TOP_RETRANS] = { "retrans", "RETR", C | P | S, 5, 5, 1, false, TOP_RIGHT, "data segments sent again, of those sent in the interval" },
	[TOP_OUT] = { "out", "OUT/s", C | P | S, 6, 6, 1, false, TOP_RIGHT, "payload sent per second, bytes or bits" },
	[TOP_IN] = { "in", "IN/s", C | P | S, 6, 6, 1, false, TOP_RIGHT, "payload received per second" },
	[TOP_RATE] = { "rate", "OUT+IN/s", C | P | S, 0, 0, 99, false, TOP_RIGHT, "both" },
	[TOP_SENT] = { "sent", "SENT", C | P | S, 6, 6, 7, false, TOP_RIGHT, "payload bytes since the connection began" },
	[TOP_RECEIVED] = { "received", "RCVD", C | P | S, 6, 6, 7, false, TOP_RIGHT, "likewise" },
	[TOP_WHY] = { "why", "WAITS FOR", C | P | S, 17, 17, 0, false, TOP_LEFT, "whom it waits for, and for what share of the time" },
	[TOP_REASON] = { "reason", "REASON", D, 20, 40, 0, true, TOP_LEFT, "why the kernel dropped the packet" },
	[TOP_PROTOCOL] = { "protocol", "PROTOCOL", D, 9, 9, 0, true, TOP_LEFT, "of the packet" },
	[TOP_DROP_RATE] = { "rate", "DROPS/s", D, 8, 8, 0, false, TOP_RIGHT, "packets per second" },
	[TOP_DROP_COUNT] = { "count", "PACKETS", D, 8, 8, 0, false, TOP_RIGHT, "packets since counting began" },
};

static const char *const view_names[TOP_VIEWS] = { "connections", "peers", "processes", "drops" };

const char *top_view_name(enum top_view view)
{
	return view_names[view];
}

int top_view_parse(const char *name, enum top_view *ret_view)
{
	for (unsigned i = 0; i < TOP_VIEWS; i++)
		if (!strcmp(name, view_names[i])) {
			*ret_view = (enum top_view)i;
			return 0;
		}
	return -EINVAL;
}

const char *top_column_name(enum top_column column)
{
	return columns[column].name;
}

const char *top_column_title(enum top_column column)
{
	return columns[column].title;
}

const char *top_column_help(enum top_column column)
{
	return columns[column].help;
}

enum top_fit top_column_fit(enum top_column column)
{
	return columns[column].fit;
}

bool top_column_in(enum top_column column, enum top_view view)
{
	return columns[column].views >> view & 1;
}

int top_column_parse(const char *name, enum top_view view, enum top_column *ret_column, struct error *ret_error)
{
	char list[TOP_COLUMNS * 16] = "";
	const char *names[TOP_COLUMNS], *nearest;
	size_t n = 0;

	for (unsigned i = 0; i < TOP_COLUMNS; i++) {
		if (!top_column_in((enum top_column)i, view))
			continue;
		if (!strcmp(name, columns[i].name)) {
			*ret_column = (enum top_column)i;
			return 0;
		}
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", n ? ", " : "", columns[i].name);
		names[n++] = columns[i].name;
	}
	nearest = flags_nearest(name, names, n);
	return error_set(ret_error, -EINVAL, "the view of %s has no column `%s`%s%s%s; it has %s", view_names[view], name,
			 nearest ? "; did you mean `" : "", nearest ? nearest : "", nearest ? "`?" : "", list);
}

enum top_column top_column_default(enum top_view view)
{
	return view == TOP_DROPS ? TOP_DROP_RATE : TOP_RATE;
}

static enum top_style number_cell(double value, const char *text)
{
	return !isfinite(value) || !strcmp(text, "0") ? TOP_DIM : TOP_PLAIN;
}

static enum top_style verdict_cell(const struct top_row *row, char text[static TOP_TEXT_MAX])
{
	static const enum top_style styles[VERDICT_SIDE_COUNT] = { TOP_DIM, TOP_NETWORK, TOP_FAR, TOP_OWN };
	const struct verdict *v = &row->verdict;

	if (!(row->interval_s > 0)) {
		strcpy(text, "-");
		return TOP_DIM;
	}
	if (v->side == VERDICT_NOTHING)
		snprintf(text, TOP_TEXT_MAX, "%s", top_verdict(v->cause));
	else
		snprintf(text, TOP_TEXT_MAX, "%s %.0f%%", top_verdict(v->cause), v->causes[v->cause] * 100);
	/* How most connections spend their lives: the local application has no more to send, or a server no request. */
	if (row->quiet && v->cause == CAUSE_FAR_APPLICATION && row->connection->server)
		return TOP_DIM;
	return v->cause == CAUSE_LOCAL_WRITER ? TOP_PLAIN : styles[v->side];
}

static enum top_style process_cell(const struct top_row *row, char text[static TOP_TEXT_MAX])
{
	char name[TOP_TEXT_MAX];

	top_clean(row->connection->comm, name, sizeof(name));
	if (row->processes > 1)
		snprintf(text, TOP_TEXT_MAX, "%.64s +%u", name, row->processes - 1);
	else
		snprintf(text, TOP_TEXT_MAX, "%.64s", name);
	return TOP_PLAIN;
}

static double number_of(enum top_column column, const struct top_row *row)
{
	switch (column) {
	case TOP_PID: return row->connection->pid;
	case TOP_CONNECTIONS_COUNT: return row->connections;
	case TOP_PROCESSES_COUNT: return row->processes;
	case TOP_PEERS_COUNT: return row->peers;
	case TOP_RTT: return row->rtt_s;
	case TOP_JITTER: return row->jitter_s;
	case TOP_RETRANS: return row->retransmit_ratio;
	case TOP_OUT: return row->sent_rate;
	case TOP_IN: return row->received_rate;
	case TOP_RATE: return row->sent_rate + row->received_rate;
	case TOP_SENT: return row->sent_bytes;
	case TOP_RECEIVED: return row->received_bytes;
	case TOP_DROP_RATE: return row->drop->rate;
	case TOP_DROP_COUNT: return (double)row->drop->packets;
	default: return NAN;
	}
}

static enum top_style text_cell(const char *text, char to[static TOP_TEXT_MAX])
{
	top_clean(text, to, TOP_TEXT_MAX);
	return TOP_PLAIN;
}

enum top_style top_cell(const struct top_row *row, enum top_column column, bool bits, char ret_text[static TOP_TEXT_MAX])
{
	const struct connection *c = row->connection;
	double value = number_of(column, row);
	char buf[ADDRESS_TEXT_MAX + 10];

	switch (column) {
	case TOP_PROCESS: return process_cell(row, ret_text);
	case TOP_CONTAINER: return text_cell(c->container, ret_text);
	case TOP_PEER: return text_cell(c->peer, ret_text);
	case TOP_REMOTE: return text_cell(top_end(&c->remote, c->remote_port, buf), ret_text);
	case TOP_LOCAL: return text_cell(top_end(&c->local, c->local_port, buf), ret_text);
	case TOP_STATE: return text_cell(connection_state_name(c->state), ret_text);
	case TOP_ROLE: return text_cell(c->server ? "server" : "client", ret_text);
	case TOP_REASON: return text_cell(row->drop->reason, ret_text);
	case TOP_PROTOCOL: return text_cell(row->drop->protocol, ret_text);
	case TOP_WHY: return verdict_cell(row, ret_text);
	case TOP_PID:
		snprintf(ret_text, TOP_TEXT_MAX, "%u", c->pid);
		return TOP_PLAIN;
	case TOP_RTT:
	case TOP_JITTER:
		snprintf(ret_text, TOP_TEXT_MAX, "%s", top_seconds(value, buf));
		return number_cell(value, ret_text);
	case TOP_RETRANS:
		snprintf(ret_text, TOP_TEXT_MAX, "%s", top_ratio(value, buf));
		return value >= 0.01 ? TOP_LOSS_HIGH : value > 0 ? TOP_LOSS : TOP_DIM;
	case TOP_OUT:
	case TOP_IN:
	case TOP_RATE:
		snprintf(ret_text, TOP_TEXT_MAX, "%s", top_rate(value, bits, buf));
		return number_cell(value, ret_text);
	default:
		snprintf(ret_text, TOP_TEXT_MAX, "%s", top_count(value, buf));
		return column == TOP_DROP_RATE && value > 0 ? TOP_LOSS : number_cell(value, ret_text);
	}
}

static const char *text_of(enum top_column column, const struct top_row *row)
{
	switch (column) {
	case TOP_PROCESS: return row->connection->comm;
	case TOP_CONTAINER: return row->connection->container;
	case TOP_PEER: return row->connection->peer;
	case TOP_STATE: return connection_state_name(row->connection->state);
	case TOP_ROLE: return row->connection->server ? "server" : "client";
	case TOP_REASON: return row->drop->reason;
	default: return row->drop->protocol;
	}
}

static int compare_end(const struct address *a, uint16_t a_port, const struct address *b, uint16_t b_port)
{
	int order = address_compare(a, b);

	return order ? order : a_port < b_port ? -1 : a_port > b_port;
}

/* The network first, then the far host, this host, nothing; the larger share first; what is not known last. */
static int compare_verdicts(const struct top_row *a, const struct top_row *b, bool reverse)
{
	static const int ranks[VERDICT_SIDE_COUNT] = { [VERDICT_NETWORK] = 0, [VERDICT_FAR_HOST] = 1, [VERDICT_THIS_HOST] = 2, [VERDICT_NOTHING] = 3 };
	bool a_known = a->interval_s > 0, b_known = b->interval_s > 0;
	const struct verdict *va = &a->verdict, *vb = &b->verdict;
	double share_a = va->causes[va->cause], share_b = vb->causes[vb->cause];
	int order;

	if (!a_known || !b_known)
		return b_known - a_known;
	if (ranks[va->side] != ranks[vb->side])
		order = ranks[va->side] < ranks[vb->side] ? -1 : 1;
	else if (va->cause != vb->cause)
		order = va->cause < vb->cause ? -1 : 1;
	else
		order = share_a > share_b ? -1 : share_a < share_b;
	return reverse ? -order : order;
}

static int compare_numbers(double a, double b, bool reverse)
{
	if (isnan(a) || isnan(b))
		return isnan(a) - isnan(b);
	if (reverse)
		return a < b ? -1 : a > b;
	return a > b ? -1 : a < b;
}

int top_column_compare(enum top_column column, const struct top_row *a, const struct top_row *b, bool reverse)
{
	const struct connection *ca = a->connection, *cb = b->connection;
	const char *text_a, *text_b;
	int order;

	if (column == TOP_WHY)
		return compare_verdicts(a, b, reverse);
	if (column == TOP_PID)
		return compare_numbers(ca->pid, cb->pid, !reverse);
	if (!columns[column].text)
		return compare_numbers(number_of(column, a), number_of(column, b), reverse);
	if (column == TOP_REMOTE) {
		order = compare_end(&ca->remote, ca->remote_port, &cb->remote, cb->remote_port);
	} else if (column == TOP_LOCAL) {
		order = compare_end(&ca->local, ca->local_port, &cb->local, cb->local_port);
	} else {
		text_a = text_of(column, a);
		text_b = text_of(column, b);
		if (!text_a[0] || !text_b[0])
			return !text_a[0] - !text_b[0];
		order = strcasecmp(text_a, text_b);
		order = order ? order : strcmp(text_a, text_b);
	}
	return reverse ? -order : order;
}

static bool says_something(const struct top_rows *rows, enum top_column column)
{
	if (!columns[column].max || !top_column_in(column, rows->view))
		return false;
	if (column == TOP_CONTAINER)
		return rows->summary.has_containers;
	return column != TOP_PEER || rows->view == TOP_PEERS || rows->summary.has_networks;
}

/* Of all texts; for what is printed once and for all. */
static size_t widest(const struct top_rows *rows, enum top_column column, bool bits)
{
	size_t width = strlen(columns[column].title);
	char text[TOP_TEXT_MAX];

	for (size_t i = 0; i < rows->n; i++) {
		top_cell(rows->order[i], column, bits, text);
		if (top_width(text) > width)
			width = top_width(text);
	}
	return width;
}

/* The higher, the sooner it is left out. A peer's name is what its view is about. */
static unsigned rank_of(enum top_column column, enum top_view view)
{
	return column == TOP_PEER && view == TOP_PEERS ? 0 : columns[column].rank;
}

static size_t max_of(enum top_column column, const struct top_summary *summary)
{
	size_t max = columns[column].max, needed = column == TOP_PEER ? summary->peer_width : summary->end_width;

	if (column != TOP_PEER && column != TOP_REMOTE && column != TOP_LOCAL)
		return max;
	return needed < max ? needed : max;
}

/* One column more for each that needs it. */
static bool grow(struct top_place *places, size_t n, const struct top_summary *summary, size_t *room)
{
	bool grown = false;

	for (size_t i = 0; i < n && *room; i++)
		if (places[i].width < max_of(places[i].column, summary)) {
			places[i].width++;
			(*room)--;
			grown = true;
		}
	return grown;
}

static void put_first(struct top_place *places, size_t n, enum top_column column)
{
	size_t at = 0;

	while (at < n && places[at].column != column)
		at++;
	if (at < n) {
		struct top_place place = places[at];

		memmove(&places[1], &places[0], at * sizeof(place));
		places[0] = place;
	}
}

size_t top_layout(const struct top_rows *rows, size_t width, bool bits, struct top_place ret_places[static TOP_COLUMNS])
{
	size_t n = 0, room = width, worst;

	for (unsigned i = 0; i < TOP_COLUMNS; i++) {
		enum top_column column = (enum top_column)i;

		if (says_something(rows, column))
			ret_places[n++] = (struct top_place){ column, width == SIZE_MAX ? widest(rows, column, bits) : columns[i].min };
	}
	if (rows->view == TOP_PEERS)
		put_first(ret_places, n, TOP_PEER);
	if (width == SIZE_MAX)
		return n;
	for (;;) {
		size_t needed = 0;

		worst = 0;
		for (size_t i = 0; i < n; i++) {
			needed += ret_places[i].width + (i > 0);
			/* Of equals the last one goes first. */
			if (rank_of(ret_places[i].column, rows->view) >= rank_of(ret_places[worst].column, rows->view))
				worst = i;
		}
		if (needed <= width || n <= 1) {
			room = needed <= width ? width - needed : 0;
			break;
		}
		memmove(&ret_places[worst], &ret_places[worst + 1], (--n - worst) * sizeof(*ret_places));
	}
	while (room && grow(ret_places, n, &rows->summary, &room))
		;
	return n;
}
