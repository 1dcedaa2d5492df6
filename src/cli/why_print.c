/* SPDX-License-Identifier: Apache-2.0 */
/* What was found, for people and as JSON. The verdict comes first, then what it rests on. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "cli/why.h"
#include "lib/json.h"

#define BAR_WIDTH 30
#define WORST_SHOWN 5
#define JSON_ROWS_MAX 1000

static const struct {
	enum verdict_cause cause;
	const char *text;
} causes[] = {
    {CAUSE_LOSS, "loss"},
    {CAUSE_DISTANCE, "distance"},
    {CAUSE_BANDWIDTH, "bandwidth"},
    {CAUSE_RECEIVE_WINDOW, "receive window"},
    {CAUSE_FAR_APPLICATION, "its application"},
    {CAUSE_SEND_BUFFER, "send buffer"},
    {CAUSE_LOCAL_READER, "slow reading"},
    {CAUSE_LOCAL_WRITER, "nothing to send"},
};

/* Which of the causes above are of a side. */
static const struct {
	const char *name;
	size_t first, last;
} sides[] = { { "network", 0, 2 }, { "far host", 3, 4 }, { "this host", 5, 7 } };

#define N(array) (sizeof(array) / sizeof((array)[0]))

static void print_shares(const struct verdict *v, FILE *out)
{
	for (size_t s = 0; s < N(sides); s++) {
		double share = s == 0 ? v->network : s == 1 ? v->far_host : v->this_host;
		int full = (int)lround(share * BAR_WIDTH);

		fprintf(out, "  %-10s", sides[s].name);
		for (int i = 0; i < BAR_WIDTH; i++)
			fputc(i < full ? '#' : '.', out);
		fprintf(out, " %3.0f %%", share * 100);
		for (size_t i = sides[s].first; i <= sides[s].last; i++)
			if (v->causes[causes[i].cause] >= 0.005)
				fprintf(out, "  %s %.0f %%", causes[i].text, v->causes[causes[i].cause] * 100);
		fputc('\n', out);
	}
}

/* The shortest text with three digits: "12.3 ms". Returns buf. */
static const char *seconds_text(double seconds, char buf[static 32])
{
	if (!isfinite(seconds))
		snprintf(buf, 32, "unknown");
	else if (seconds >= 1)
		snprintf(buf, 32, "%.3g s", seconds);
	else if (seconds >= 1e-3)
		snprintf(buf, 32, "%.3g ms", seconds * 1e3);
	else
		snprintf(buf, 32, "%.3g us", seconds * 1e6);
	return buf;
}

/* Returns buf. */
static const char *bytes_text(double bytes, char buf[static 32])
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	size_t unit = 0;

	while (bytes >= 999.5 && unit + 1 < N(units)) {
		bytes /= 1000;
		unit++;
	}
	snprintf(buf, 32, unit ? "%.3g %s" : "%.0f %s", bytes, units[unit]);
	return buf;
}

/* "192.0.2.1:80", "[2001:db8::1]:80" */
static const char *end_text(const struct address *address, uint16_t port, char buf[static ADDRESS_TEXT_MAX + 10])
{
	char text[ADDRESS_TEXT_MAX];

	address_format(address, text);
	snprintf(buf, ADDRESS_TEXT_MAX + 10, address_is_ipv4(address) ? "%s:%u" : "[%s]:%u", text, port);
	return buf;
}

static void print_name(const struct connection *c, FILE *out)
{
	char local[ADDRESS_TEXT_MAX + 10], remote[ADDRESS_TEXT_MAX + 10];

	fprintf(out, "%s-%s", end_text(&c->local, c->local_port, local), end_text(&c->remote, c->remote_port, remote));
}

static void print_owner(const struct connection *c, FILE *out)
{
	fprintf(out, "%s (PID %u", c->comm, c->pid);
	if (c->holders > 1)
		fprintf(out, " and %u more", c->holders - 1);
	fputc(')', out);
	if (c->container[0])
		fprintf(out, " in %s", c->container);
}

static void print_network(const struct why_seen *seen, FILE *out)
{
	const struct connection *c = &seen->connection;
	const struct verdict_input *in = &c->input;
	char a[32], b[32], d[32];

	fprintf(out, "  sent        %s/s; %s in all\n", bytes_text(c->sent_rate, a),
		bytes_text((double)c->sent_bytes, b));
	fprintf(out, "  received    %s/s; %s in all\n", bytes_text(c->received_rate, a),
		bytes_text((double)c->received_bytes, b));
	fprintf(out, "  round trip  %s, at least %s, varies by %s\n", seconds_text(c->rtt_s, a),
		seconds_text(c->min_rtt_s, b), seconds_text(c->jitter_s, d));
	fprintf(out, "  loss        %llu of %llu data segments sent were sent again (%.2g %%); %llu are lost now\n",
		(unsigned long long)in->retransmits, (unsigned long long)in->sent_segments, c->retransmit_ratio * 100,
		(unsigned long long)c->lost);
	fprintf(out, "              %llu of %llu data segments received came behind a gap\n",
		(unsigned long long)in->reordered, (unsigned long long)in->received_segments);
}

static void print_buffers(const struct connection *c, FILE *out)
{
	char a[32], b[32], d[32];

	fprintf(out, "  windows     far host offers %s, this host %s; congestion window %u segments of %u bytes",
		bytes_text((double)c->send_window_bytes, a), bytes_text((double)c->receive_window_bytes, b),
		c->congestion_window, c->mss);
	if (c->slow_start_threshold)
		fprintf(out, ", slow start up to %u", c->slow_start_threshold);
	fprintf(out, "\n  buffers     %s not sent yet, %s not acknowledged, %s not read yet\n",
		bytes_text((double)c->not_sent_bytes, a), bytes_text((double)c->unacked_bytes, b),
		bytes_text((double)c->receive_queue_bytes, d));
	fprintf(out, "  last data   sent %s ago, received %s ago\n", seconds_text(c->since_sent_s, a),
		seconds_text(c->since_received_s, b));
}

static void print_one(const struct why_seen *seen, FILE *out)
{
	const struct connection *c = &seen->connection;

	fputc('\n', out);
	print_name(c, out);
	fprintf(out, "\n  ID          %llx, %s, this host is the %s%s\n  peer        %s\n  process     ",
		(unsigned long long)c->cookie, connection_state_name(c->state), c->server ? "server" : "client",
		c->mptcp ? ", subflow of MPTCP" : "", c->peer);
	print_owner(c, out);
	fprintf(out, "\n  observed    %.1f s, %u looks\n", seen->observed_s, seen->looks);
	print_network(seen, out);
	print_buffers(c, out);
}

static void print_row(const struct why_seen *seen, FILE *out)
{
	const struct connection *c = &seen->connection;
	const struct verdict *v = &c->verdict;
	char a[32], b[32], d[32];

	fprintf(out, "%-16s %3.0f %3.0f %3.0f  %9s  %5.1f %%  %9s/s  %9s/s  ", verdict_cause_name(v->cause),
		v->network * 100, v->far_host * 100, v->this_host * 100, seconds_text(c->rtt_s, a),
		c->retransmit_ratio * 100, bytes_text(c->sent_rate, b), bytes_text(c->received_rate, d));
	print_name(c, out);
	fputs("  ", out);
	print_owner(c, out);
	fputc('\n', out);
}

static void print_many(const struct why_result *result, FILE *out)
{
	double sent = 0, received = 0;
	uint64_t segments = 0, retransmits = 0;
	char a[32], b[32];

	for (size_t i = 0; i < result->n; i++) {
		const struct connection *c = &result->seen[i]->connection;

		sent += c->sent_rate;
		received += c->received_rate;
		segments += c->input.sent_segments;
		retransmits += c->input.retransmits;
	}
	fprintf(out, "\n%zu connections, %zu of them idle and not counted; observed %.1f s, %u looks\n", result->n,
		result->idle, result->interval_s, result->looks);
	fprintf(out, "  sent %s/s, received %s/s, %llu of %llu data segments sent again\n", bytes_text(sent, a),
		bytes_text(received, b), (unsigned long long)retransmits, (unsigned long long)segments);
	fputs("\ncause            net far own round trip    again         sent     received  connection, the worst "
	      "first\n",
	      out);
	for (size_t i = 0; i < result->n && i < WORST_SHOWN; i++)
		print_row(result->seen[i], out);
	if (result->n > WORST_SHOWN)
		fprintf(out, "and %zu more\n", result->n - WORST_SHOWN);
}

void why_print(const struct why_result *result, FILE *out)
{
	fprintf(out, "%s\n\n", verdict_sentence(&result->verdict));
	print_shares(&result->verdict, out);
	if (result->n == 1)
		print_one(result->seen[0], out);
	else
		print_many(result, out);
}

static const char *kind_name(enum why_kind kind)
{
	static const char *const names[WHY_KIND_COUNT] = {"connection", "process",    "address",
							  "network",	"connection", "host"};

	return names[kind];
}

int why_write_json(const struct why_result *result, struct buffer *out)
{
	json_t *rows = json_array();
	int r = 0;

	for (size_t i = 0; i < result->n && i < JSON_ROWS_MAX; i++)
		r |= json_array_append_new(rows, connection_json(&result->seen[i]->connection));
	if (r) {
		json_decref(rows);
		return -ENOMEM;
	}
	return json_write(json_pack("{s:s, s:s, s:f, s:i, s:I, s:I, s:o, s:o}", "target", result->target->text, "kind",
				    kind_name(result->kind), "interval_seconds", result->interval_s, "looks",
				    (int)result->looks, "total", (json_int_t)result->n, "idle",
				    (json_int_t)result->idle, "verdict", verdict_json(&result->verdict), "connections",
				    rows),
			  out);
}
