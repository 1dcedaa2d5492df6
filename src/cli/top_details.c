/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_details.h"

#include <math.h>
#include <string.h>

#define BAR_WIDTH 24
#define LABEL "  %-11s "

/* The causes of each side, as in the verdict. */
static const struct {
	enum verdict_cause cause;
	const char *text;
} causes[] = {
	{ CAUSE_LOSS, "loss" }, { CAUSE_DISTANCE, "distance" }, { CAUSE_BANDWIDTH, "bandwidth" },
	{ CAUSE_RECEIVE_WINDOW, "receive window" }, { CAUSE_FAR_APPLICATION, "its application" },
	{ CAUSE_SEND_BUFFER, "send buffer" }, { CAUSE_LOCAL_READER, "slow reading" }, { CAUSE_LOCAL_WRITER, "nothing to send" },
};

static const struct {
	const char *name;
	size_t first, last;
} sides[] = { { "network", 0, 2 }, { "far host", 3, 4 }, { "this host", 5, 7 } };

#define N(array) (sizeof(array) / sizeof((array)[0]))

static const char *known(const char *text)
{
	return strcmp(text, "-") ? text : "unknown";
}

/* At blanks, each line after an indent. */
static void put_wrapped(const char *text, size_t width, struct buffer *out)
{
	size_t column = 0;

	width = width > 24 ? width - 2 : 22;
	while (*text) {
		size_t len = strcspn(text, " ");

		if (column && column + 1 + len > width) {
			buffer_putc(out, '\n');
			column = 0;
		}
		buffer_puts(out, column ? " " : "  ");
		buffer_append(out, text, len);
		column += len + (column > 0);
		text += len;
		text += strspn(text, " ");
	}
	buffer_putc(out, '\n');
}

static void put_shares(const struct verdict *v, struct buffer *out)
{
	for (size_t s = 0; s < N(sides); s++) {
		double share = s == 0 ? v->network : s == 1 ? v->far_host : v->this_host;
		long full = lround(share * BAR_WIDTH);

		buffer_printf(out, LABEL, sides[s].name);
		for (long i = 0; i < BAR_WIDTH; i++)
			buffer_putc(out, i < full ? '#' : '.');
		buffer_printf(out, " %3.0f%%", share * 100);
		for (size_t i = sides[s].first; i <= sides[s].last; i++)
			if (v->causes[causes[i].cause] >= 0.005)
				buffer_printf(out, "  %s %.0f%%", causes[i].text, v->causes[causes[i].cause] * 100);
		buffer_putc(out, '\n');
	}
}

static void put_owner(const struct connection *c, struct buffer *out)
{
	char text[TOP_TEXT_MAX];

	buffer_printf(out, LABEL "%s (PID %u)", "process", top_clean(c->comm, text, sizeof(text)), c->pid);
	if (c->holders > 1)
		buffer_printf(out, " and %u more", c->holders - 1);
	if (c->container[0])
		buffer_printf(out, " in %s", top_clean(c->container, text, sizeof(text)));
	buffer_putc(out, '\n');
}

static void put_identity(const struct connection *c, struct buffer *out)
{
	char local[ADDRESS_TEXT_MAX + 10], remote[ADDRESS_TEXT_MAX + 10], address[ADDRESS_TEXT_MAX], text[TOP_TEXT_MAX];

	buffer_printf(out, "%s %s %s\n\n", top_end(&c->local, c->local_port, local), c->server ? "<-" : "->",
		      top_end(&c->remote, c->remote_port, remote));
	put_owner(c, out);
	if (strcmp(c->peer, address_format(&c->remote, address)))
		buffer_printf(out, LABEL "%s\n", "network", top_clean(c->peer, text, sizeof(text)));
	buffer_printf(out, LABEL "%s, this host is the %s%s\n", "state", connection_state_name(c->state), c->server ? "server" : "client",
		      c->mptcp ? ", subflow of MPTCP" : "");
	buffer_printf(out, LABEL "%llx, network namespace %u\n\n", "ID", (unsigned long long)c->cookie, c->netns);
}

static void put_verdict(const struct connection *c, size_t width, struct buffer *out)
{
	if (!(c->interval_s > 0)) {
		buffer_puts(out, "  New: what it waits for is not known yet.\n\n");
		return;
	}
	put_wrapped(verdict_sentence(&c->verdict), width, out);
	buffer_putc(out, '\n');
	put_shares(&c->verdict, out);
	buffer_putc(out, '\n');
}

static void put_path(const struct connection *c, bool bits, struct buffer *out)
{
	char a[TOP_NUMBER_MAX], b[TOP_NUMBER_MAX], d[TOP_NUMBER_MAX];
	const struct verdict_input *in = &c->input;

	buffer_printf(out, LABEL "%s, at least %s, varies by %s", "round trip", known(top_seconds(c->rtt_s, a)),
		      known(top_seconds(c->min_rtt_s, b)), known(top_seconds(c->jitter_s, d)));
	if (isfinite(c->receive_rtt_s))
		buffer_printf(out, "; as a receiver sees it %s", top_seconds(c->receive_rtt_s, a));
	if (c->interval_s > 0) {
		buffer_printf(out, "\n" LABEL "out %s, in %s", "now", top_rate_unit(c->sent_rate, bits, a),
			      top_rate_unit(c->received_rate, bits, b));
		if (c->delivery_rate > 0)
			buffer_printf(out, "; the kernel thinks the path takes %s", top_rate_unit(c->delivery_rate, bits, a));
		buffer_printf(out, "\n" LABEL "%llu of %llu data segments sent again (%s)", "loss now", (unsigned long long)in->retransmits,
			      (unsigned long long)in->sent_segments, top_ratio(c->retransmit_ratio, a));
		buffer_printf(out, ", %llu of %llu received behind a gap", (unsigned long long)in->reordered,
			      (unsigned long long)in->received_segments);
	}
	buffer_printf(out, "\n" LABEL "sent %s in %s segments, received %s in %s segments\n", "in all", top_bytes_unit((double)c->sent_bytes, a),
		      top_count((double)c->sent_segments, b), top_bytes_unit((double)c->received_bytes, d),
		      top_count((double)c->received_segments, (char[TOP_NUMBER_MAX]){ 0 }));
	buffer_printf(out, LABEL "%llu segments sent again, %llu held for lost now\n\n", "", (unsigned long long)c->retransmits,
		      (unsigned long long)c->lost);
}

static void put_kernel(const struct connection *c, struct buffer *out)
{
	char a[TOP_NUMBER_MAX], b[TOP_NUMBER_MAX], d[TOP_NUMBER_MAX];

	buffer_printf(out, LABEL "busy %s, of it waiting for the receive window %s, the send buffer %s\n", "since begun",
		      known(top_seconds(c->busy_s, a)), known(top_seconds(c->receive_window_s, b)), known(top_seconds(c->send_buffer_s, d)));
	buffer_printf(out, LABEL "the far host offers %s, this host %s\n", "windows", top_bytes_unit((double)c->send_window_bytes, a),
		      top_bytes_unit((double)c->receive_window_bytes, b));
	buffer_printf(out, LABEL "%u segments of %u bytes", "congestion", c->congestion_window, c->mss);
	if (c->slow_start_threshold)
		buffer_printf(out, ", slow start up to %u", c->slow_start_threshold);
	buffer_printf(out, ", %u on their way\n", c->unacked);
	buffer_printf(out, LABEL "%s not sent yet, %s not acknowledged, %s not read yet\n", "buffers", top_bytes_unit((double)c->not_sent_bytes, a),
		      top_bytes_unit((double)c->unacked_bytes, b), top_bytes_unit((double)c->receive_queue_bytes, d));
	buffer_printf(out, LABEL "sent %s ago, received %s ago\n", "last data", known(top_seconds(c->since_sent_s, a)),
		      known(top_seconds(c->since_received_s, b)));
}

void top_write_details(const struct connection *connection, bool bits, size_t width, struct buffer *out)
{
	put_identity(connection, out);
	put_verdict(connection, width, out);
	put_path(connection, bits, out);
	put_kernel(connection, out);
}

static void put_columns(const struct top_live *live, struct buffer *out)
{
	enum top_column columns[TOP_COLUMNS];
	size_t n = top_live_columns(live, columns);

	buffer_printf(out, "\nColumns of the %s\n", top_view_name(live->look.view));
	for (size_t i = 0; i < n; i++)
		buffer_printf(out, "  %-11s %s\n", top_column_title(columns[i]), top_column_help(columns[i]));
}

void top_write_help(const struct top_live *live, struct buffer *out)
{
	buffer_puts(out,
		    "Keys\n"
		    "  1 2 3 4 Tab connections, peers, processes, drops\n"
		    "  arrows      move, also PgUp PgDn Home End; the cursor stays with its row\n"
		    "  Enter       all about a connection; the connections of a peer or process\n"
		    "  s F6        choose the column to sort by;  < >  the one beside it;  r  reverse\n"
		    "  /           filter, below;  Esc  no filter, or back\n"
		    "  Space p     pause, and go on\n"
		    "  b           bits or bytes per second\n"
		    "  ? h         this help;  Ctrl-L  draw again;  q  quit\n"
		    "\nFilter: terms between blanks, all must hold; ! in front of one means not\n"
		    "  nginx 10.0.0.1:443           that text anywhere in the row\n"
		    "  process:ngi process=nginx    that text in the column, or no more than it;\n"
		    "                               likewise peer container state role\n"
		    "  peer:10.0.0.0/8 pid:1 port:443   remote: local: an address or prefix; id:\n"
		    "  verdict:network verdict:loss whom it waits for, and why\n"
		    "  rtt>10ms jitter>1ms retrans>1% rate>1M out<8Mbit in>=1k sent>1G received>1G\n"
		    "  of drops: reason:no_socket protocol:udp rate>1 count>100\n"
		    "\nWaits for: where the time went since the table before, and its share\n"
		    "  net   loss, distance (round trips), bandwidth (the path is full)\n"
		    "  far   window (the far host takes no more), app (its data is waited for)\n"
		    "  own   buffer (send buffer too small), reader (slow), writer (no more to send)\n"
		    "  idle  no traffic, and nobody waits\n"
		    "A connection inside this host is seen at both ends, and its traffic twice.\n");
	put_columns(live, out);
}
