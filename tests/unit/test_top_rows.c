/* SPDX-License-Identifier: Apache-2.0 */
/* What `netsonde top` shows: text for a terminal, filters, rows of the four views, their order, columns. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "cli/top_columns.h"
#include "cli/top_print.h"
#include "lib/json.h"
#include "top_samples.h"

#define N(array) (sizeof(array) / sizeof((array)[0]))

static void assert_clean(const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; *c; c++)
		if (*c < ' ' || *c == 0x7f)
			fail_msg("byte 0x%02x reaches the terminal", *c);
}

static void test_hostile_text(void **state)
{
	static const struct { const char *text, *clean; } cases[] = {
		{ "nginx", "nginx" }, { "\033[2J\033]0;x\a", "?[2J?]0;x?" }, { "a\nb\tc\r\177", "a?b?c??" },
		{ "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" }, { "\xe6\x9d\xb1\xe4\xba\xac", "\xe6\x9d\xb1\xe4\xba\xac" },
		{ "\xc2\x9b""31m", "?31m" },            /* CSI as one character of C1 */
		{ "a\xe2\x80\xae""cba", "a?cba" },      /* from right to left */
		{ "e\xcc\x81", "e?" },                  /* an accent that combines */
		{ "\xff\xfe\xc3", "???" }, { "\xc0\xaf", "??" }, { "\xed\xa0\x80", "???" }, { "\xf4\x90\x80\x80", "????" },
		{ "\xe6\x9d", "??" }, { "", "" },
	};
	char to[TOP_TEXT_MAX];

	for (size_t i = 0; i < N(cases); i++) {
		assert_string_equal(top_clean(cases[i].text, to, sizeof(to)), cases[i].clean);
		assert_clean(to);
	}
	/* A character that does not fit is left out whole. */
	assert_string_equal(top_clean("ab\xc3\xbc", to, 4), "ab");
	assert_string_equal(top_clean("ab\xc3\xbc", to, 5), "ab\xc3\xbc");
}

static void test_fitting(void **state)
{
	static const struct { const char *text; size_t width; enum top_fit fit; const char *fitted; } cases[] = {
		{ "abc", 5, TOP_LEFT, "abc  " }, { "abc", 5, TOP_RIGHT, "  abc" }, { "abc", 5, TOP_MIDDLE, "abc  " },
		{ "abc", 3, TOP_RIGHT, "abc" }, { "abcdef", 4, TOP_LEFT, "abc\xe2\x80\xa6" }, { "abcdef", 0, TOP_LEFT, "" },
		{ "abcdef", 1, TOP_LEFT, "\xe2\x80\xa6" }, { "abcdef", 1, TOP_MIDDLE, "\xe2\x80\xa6" },
		{ "[2001:db8::1]:443", 11, TOP_MIDDLE, "[200\xe2\x80\xa6" "1]:443" },
		{ "\xe6\x9d\xb1\xe4\xba\xac", 4, TOP_LEFT, "\xe6\x9d\xb1\xe4\xba\xac" },
		{ "\xe6\x9d\xb1\xe4\xba\xac", 3, TOP_LEFT, "\xe6\x9d\xb1\xe2\x80\xa6" },
		{ "\xe6\x9d\xb1\xe4\xba\xac", 2, TOP_LEFT, "\xe2\x80\xa6 " }, /* half of a wide character is none */
	};
	char to[TOP_TEXT_MAX];

	for (size_t i = 0; i < N(cases); i++) {
		top_fit(cases[i].text, cases[i].width, cases[i].fit, to, sizeof(to));
		assert_int_equal(top_width(to), cases[i].width);
		assert_string_equal(to, cases[i].fitted);
	}
}

static void test_numbers(void **state)
{
	char buf[TOP_NUMBER_MAX];

	assert_string_equal(top_seconds(85e-6, buf), "85us");
	assert_string_equal(top_seconds(0.0123, buf), "12.3ms");
	assert_string_equal(top_seconds(0.9999, buf), "1.00s");
	assert_string_equal(top_seconds(12345, buf), "12345s");
	assert_string_equal(top_seconds(NAN, buf), "-");
	assert_string_equal(top_seconds(-1, buf), "-");
	assert_string_equal(top_seconds(0, buf), "0us");
	assert_string_equal(top_rate(0, false, buf), "0");
	assert_string_equal(top_rate(999.6, false, buf), "1.00k");
	assert_string_equal(top_rate(1.25e6, false, buf), "1.25M");
	assert_string_equal(top_rate(1.25e6, true, buf), "10.0M");
	assert_string_equal(top_rate(INFINITY, false, buf), "-");
	assert_string_equal(top_ratio(0, buf), "0");
	assert_string_equal(top_ratio(0.000001, buf), "0.01%");
	assert_string_equal(top_ratio(0.0123, buf), "1.2%");
	assert_string_equal(top_ratio(1, buf), "100%");
	assert_string_equal(top_ratio(NAN, buf), "-");
	assert_string_equal(top_count(0.3, buf), "0.3");
	assert_string_equal(top_count(12345, buf), "12.3k");
	assert_string_equal(top_count(9999, buf), "10.0k");
	assert_string_equal(top_rate_unit(12.3e6, false, buf), "12.3 MB/s");
	assert_string_equal(top_rate_unit(12.3e6, true, buf), "98.4 Mbit/s");
	assert_string_equal(top_rate_unit(NAN, true, buf), "-");
	assert_string_equal(top_bytes_unit(0, buf), "0 B");
	srand(2);
	for (int i = 0; i < 100000; i++) {
		double value = exp((rand() % 8000) / 100.0 - 40);

		assert_true(strlen(top_seconds(fmin(value, 9999), buf)) <= 6);
		assert_true(strlen(top_rate(fmin(value, 1e17), i % 2, buf)) <= 6);
		assert_true(strlen(top_ratio(value, buf)) <= 5);
	}
}

static bool passes(const char *text, const struct connection *c)
{
	struct top_filter filter;
	struct error error;

	if (top_filter_parse(text, false, &filter, &error))
		fail_msg("%s: %s", text, error.text);
	return top_filter_connection(&filter, c);
}

static void test_filters(void **state)
{
	static const char *const hits[] = {
		"", "  ", "nginx", "NGINX", "10.0.0.1:443", "db-net", "estab", "client", "process:ngin", "pid:42", "peer:db", "peer:10.0.0.1",
		"peer:10.0.0.0/24", "remote:10.0.0.1", "remote:443", "local:192.0.2.1", "local:192.0.2.0/24", "port:443", "port:40000",
		"container:docker", "state:established", "role:client", "id:beef", "id:BEEF", "verdict:network", "verdict:loss", "verdict:net",
		"rtt>10ms", "rtt>=20ms", "rtt<=20ms", "rtt<1s", "jitter>1us", "retrans>1%", "retrans>=2", "rate>1k", "out>999", "out<1.1k",
		"out>7.9kbit", "out<8.1kbit/s", "in<3kB/s", "sent<1M", "received>0", "!apache", "!rtt>1s", "!peer:10.0.1.0/24",
		"nginx rtt>10ms verdict:loss !pid:43", "process=nginx", "process=NGINX", "peer=db-net",
		"peer=10.0.0.1", "remote=10.0.0.1:443", "verdict=loss", "docker:0123",
	};
	static const char *const misses[] = {
		"apache", "process:443", "pid:4", "pid:420", "peer:10.0.0.10", "peer:10.0.1.0/24", "port:44", "port:4430", "id:bee",
		"verdict:far", "verdict:idle", "rtt>20ms", "rtt<20ms", "retrans>2%", "rate>1M", "!nginx", "nginx apache", "role:server",
		"remote:fe80::1", "local:10.0.0.1", "process=ngin", "peer=db", "verdict=los", "state=estab",
	};
	struct connection c = sample(0xbeef, "nginx", 42, "10.0.0.1", 443);

	moved(&c, 1000, 2000);
	snprintf(c.peer, sizeof(c.peer), "db-net");
	snprintf(c.container, sizeof(c.container), "docker:0123456789ab");
	c.rtt_s = 0.02;
	c.jitter_s = 0.001;
	c.retransmit_ratio = 0.02;
	judged(&c, VERDICT_NETWORK, CAUSE_LOSS, 0.9);
	for (size_t i = 0; i < N(hits); i++)
		if (!passes(hits[i], &c))
			fail_msg("`%s` leaves out what it should not", hits[i]);
	for (size_t i = 0; i < N(misses); i++)
		if (passes(misses[i], &c))
			fail_msg("`%s` lets through what it should not", misses[i]);
	/* What is not known is neither more nor less. */
	c.rtt_s = NAN;
	c.interval_s = 0;
	assert_false(passes("rtt>1us", &c));
	assert_false(passes("rtt<1h", &c));
	assert_false(passes("rate>=0", &c));
	assert_false(passes("verdict:network", &c));
}

static void test_wrong_filters(void **state)
{
	static const struct { const char *text; bool drops; const char *complaint; } cases[] = {
		{ "proces:nginx", false, "did you mean process?" }, { "rtt:5ms", false, "as in rtt>10ms" }, { "rtt>5", false, "as in rtt>10ms" },
		{ "rtt>", false, "needs a value" }, { "process>5", false, "as in process:text" }, { "pid:abc", false, "is a number" },
		{ "pid:", false, "needs a value" }, { "peer:10.0.0.1/99", false, "" }, { "peer:10.0.0.1/8", false, "host bits" },
		{ "!", false, "needs a term" }, { "retrans>1ms", false, "as in retrans>1%" }, { "rate>1s", false, "no value" },
		{ "speed>5", false, "there is no column" }, { "reason>5", true, "as in reason:text" },
		{ "rate>-1", true, "no value" }, { "a a a a a a a a a a a a a a a a a", false, "at most 16 terms" },
	};
	struct top_filter filter = { .text = "kept", .n = 0 };
	struct error error;
	char text[TOP_FILTER_MAX + 1];

	for (size_t i = 0; i < N(cases); i++) {
		int r = top_filter_parse(cases[i].text, cases[i].drops, &filter, &error);

		if (!r || !strstr(error.text, cases[i].complaint))
			fail_msg("`%s`: %d, %s", cases[i].text, r, error.text);
		assert_string_equal(filter.text, "kept");
	}
	memset(text, 'a', TOP_FILTER_MAX);
	text[TOP_FILTER_MAX] = '\0';
	assert_true(top_filter_parse(text, false, &filter, &error) < 0);
	text[TOP_FILTER_MAX - 1] = '\0';
	assert_int_equal(top_filter_parse(text, false, &filter, &error), 0);
	/* A text where there is no such column. */
	assert_int_equal(top_filter_parse("process:nginx", true, &filter, &error), 0);
}

/* Whatever is typed. */
static void test_any_filter(void **state)
{
	static const char alphabet[] = "rtpidveo:<>=!/%.0123456789kMmsbit[]\xc3\xbc \033";
	struct connection c = sample(1, "nginx", 42, "10.0.0.1", 443);
	struct top_drop drop = { .reason = "no_socket", .protocol = "udp", .packets = 3, .rate = NAN };
	struct top_filter filter;
	struct error error;
	unsigned good = 0;
	char text[40];

	srand(3);
	for (int i = 0; i < 300000; i++) {
		size_t len = (size_t)rand() % sizeof(text);

		for (size_t k = 0; k < len; k++)
			text[k] = alphabet[(size_t)rand() % (sizeof(alphabet) - 1)];
		text[len] = '\0';
		if (top_filter_parse(text, i % 2, &filter, &error))
			continue;
		good++;
		if (i % 2)
			top_filter_drop(&filter, &drop);
		else
			top_filter_connection(&filter, &c);
	}
	assert_true(good > 1000);
}

static void make(struct top_rows *rows, const struct top_table *table, enum top_view view, const char *text)
{
	struct top_filter filter;

	assert_int_equal(top_filter_parse(text, view == TOP_DROPS, &filter, NULL), 0);
	assert_int_equal(top_rows_make(rows, table, view, &filter), 0);
	top_rows_sort(rows, top_column_default(view), false);
}

static struct top_table *five(void)
{
	struct connection c[5] = {
		sample(1, "nginx", 10, "10.0.0.1", 443), sample(2, "nginx", 10, "10.0.0.1", 444), sample(3, "nginx", 11, "10.0.0.2", 443),
		sample(4, "curl", 12, "10.0.0.2", 80), sample(5, "ssh", 13, "2001:db8::5", 22),
	};

	moved(&c[0], 1000, 10);
	moved(&c[1], 500, 0);
	moved(&c[2], 0, 9000);
	moved(&c[3], 100, 100);
	c[0].rtt_s = 0.010;
	c[1].rtt_s = 0.030;
	c[2].rtt_s = 0.5;
	c[4].rtt_s = 7; /* of a connection at rest */
	c[0].input.sent_segments = 99;
	c[0].input.retransmits = 1;
	c[1].input.sent_segments = 1;
	c[0].retransmit_ratio = 1.0 / 99;
	judged(&c[0], VERDICT_NETWORK, CAUSE_LOSS, 1);
	judged(&c[1], VERDICT_NETWORK, CAUSE_LOSS, 0.5);
	judged(&c[2], VERDICT_FAR_HOST, CAUSE_FAR_APPLICATION, 0.75);
	return sample_table(c, 5);
}

static void test_aggregation(void **state)
{
	struct top_table *table = five();
	struct top_rows rows = { 0 };
	const struct top_row *row;

	make(&rows, table, TOP_PEERS, "");
	assert_int_equal(rows.n, 3);
	assert_int_equal(rows.connections, 5);
	row = rows.order[0];
	assert_string_equal(row->connection->peer, "10.0.0.2");
	assert_int_equal(row->connections, 2);
	assert_int_equal(row->processes, 2);
	assert_true(row->sent_rate == 100 && row->received_rate == 9100);
	assert_true(row->rtt_s == 0.5);
	row = rows.order[1];
	assert_string_equal(row->connection->peer, "10.0.0.1");
	assert_int_equal(row->connection->cookie, 1); /* the busiest */
	assert_int_equal(row->processes, 1);
	assert_true(fabs(row->rtt_s - 0.02) < 1e-9);
	assert_true(fabs(row->retransmit_ratio - 0.01) < 1e-9);
	assert_int_equal(row->verdict.cause, CAUSE_LOSS);
	assert_true(fabs(row->verdict.causes[CAUSE_LOSS] - 0.75) < 1e-9);
	row = rows.order[2];
	assert_int_equal(row->verdict.side, VERDICT_NOTHING);
	assert_true(row->rtt_s == 7 && row->quiet);
	assert_true(fabs(rows.summary.sent_rate - 1600) < 1e-9 && fabs(rows.summary.received_rate - 9110) < 1e-9);
	assert_true(fabs(rows.summary.retransmit_ratio - 0.01) < 1e-9);

	make(&rows, table, TOP_PROCESSES, "");
	assert_int_equal(rows.n, 4);
	assert_int_equal(rows.order[0]->connection->pid, 11);
	assert_int_equal(rows.order[1]->connection->pid, 10);
	assert_int_equal(rows.order[1]->connections, 2);
	assert_int_equal(rows.order[1]->peers, 1);
	/* A filter is about connections, so the rows are of what matched. */
	make(&rows, table, TOP_PEERS, "process:nginx");
	assert_int_equal(rows.n, 2);
	assert_int_equal(rows.connections, 3);
	assert_int_equal(rows.order[0]->connections, 1);
	assert_true(fabs(rows.summary.sent_rate - 1600) < 1e-9);
	make(&rows, table, TOP_CONNECTIONS, "nothing-like-this");
	assert_int_equal(rows.n, 0);
	top_rows_done(&rows);
	top_table_free(table);
}

static void assert_order(struct top_rows *rows, enum top_column column, bool reverse, const char *expected)
{
	char order[32] = "";

	top_rows_sort(rows, column, reverse);
	for (size_t i = 0; i < rows->n; i++)
		snprintf(order + i, sizeof(order) - i, "%c", (char)('0' + rows->order[i]->key));
	assert_string_equal(order, expected);
}

static void test_order(void **state)
{
	struct top_table *table = five();
	struct top_rows rows = { 0 };

	make(&rows, table, TOP_CONNECTIONS, "");
	assert_order(&rows, TOP_RATE, false, "31245");
	assert_order(&rows, TOP_RATE, true, "54213");
	/* 4 has none, and what is not known is last both ways. */
	assert_order(&rows, TOP_RTT, false, "53214");
	assert_order(&rows, TOP_RTT, true, "12354");
	/* Names from A, then the busier one. */
	assert_order(&rows, TOP_PROCESS, false, "43125");
	assert_order(&rows, TOP_PROCESS, true, "53124");
	assert_order(&rows, TOP_PID, false, "12345");
	assert_order(&rows, TOP_REMOTE, false, "12435");
	assert_order(&rows, TOP_OUT, false, "12435");
	assert_order(&rows, TOP_RETRANS, false, "13245");
	/* Network, far host, this host, nothing. */
	assert_order(&rows, TOP_WHY, false, "12345");
	assert_order(&rows, TOP_WHY, true, "54321");
	table->connections[1].interval_s = 0;
	make(&rows, table, TOP_CONNECTIONS, "");
	assert_order(&rows, TOP_WHY, false, "13452");
	assert_order(&rows, TOP_RATE, true, "54132");
	assert_int_equal(top_rows_find(&rows, 3), 3);
	assert_true(top_rows_find(&rows, 99) == SIZE_MAX);
	top_rows_done(&rows);
	top_table_free(table);
}

static void test_drops(void **state)
{
	struct top_table *table = sample_table(NULL, 0);
	struct top_drop drops[] = { { "no_socket", "udp", 100, 2 }, { "tcp_old_data", "tcp", 1000, 0 }, { "no\033socket", "icmp", 3, NAN } };
	struct top_rows rows = { 0 };
	struct buffer out = BUFFER_INIT;
	struct top_live live = { .table = table, .look = { .view = TOP_DROPS } };

	table->drops = calloc(3, sizeof(*drops));
	memcpy(table->drops, drops, sizeof(drops));
	table->n_drops = 3;
	make(&rows, table, TOP_DROPS, "");
	assert_string_equal(rows.order[0]->drop->protocol, "udp");
	assert_string_equal(rows.order[2]->drop->protocol, "icmp");
	assert_true(rows.summary.drop_rate == 2);
	top_rows_sort(&rows, TOP_DROP_COUNT, false);
	assert_string_equal(rows.order[0]->drop->protocol, "tcp");
	make(&rows, table, TOP_DROPS, "protocol:udp count>5 rate<1k");
	assert_int_equal(rows.n, 1);
	make(&rows, table, TOP_DROPS, "socket");
	assert_int_equal(rows.n, 2);
	live.rows = rows;
	top_write_batch(&live, &out);
	assert_non_null(strstr(out.data, "no?socket"));
	assert_null(strchr(out.data, '\033'));
	buffer_done(&out);
	snprintf(table->no_drops, sizeof(table->no_drops), "no permission");
	make(&rows, table, TOP_DROPS, "");
	assert_true(isnan(rows.summary.drop_rate));
	top_rows_done(&rows);
	top_table_free(table);
}

static bool has_column(const struct top_place *places, size_t n, enum top_column column)
{
	for (size_t i = 0; i < n; i++)
		if (places[i].column == column)
			return true;
	return false;
}

static void test_layout(void **state)
{
	static const enum top_column important[] = { TOP_PROCESS, TOP_REMOTE, TOP_RTT, TOP_RETRANS, TOP_OUT, TOP_IN, TOP_WHY };
	struct top_table *table = five();
	struct top_rows rows = { 0 };
	struct top_place places[TOP_COLUMNS];

	for (unsigned view = 0; view < TOP_VIEWS; view++) {
		make(&rows, table, (enum top_view)view, "");
		for (size_t width = 1; width < 400; width++) {
			size_t n = top_layout(&rows, width, false, places), needed = n - 1;

			assert_true(n >= 1);
			for (size_t i = 0; i < n; i++) {
				assert_true(top_column_in(places[i].column, (enum top_view)view));
				needed += places[i].width;
			}
			assert_true(needed <= width || n == 1);
			if (width < 80)
				continue;
			for (size_t i = 0; i < N(important); i++)
				if (top_column_in(important[i], (enum top_view)view))
					assert_true(has_column(places, n, important[i]));
		}
	}
	/* What nobody has is no column, however wide the terminal. */
	make(&rows, table, TOP_CONNECTIONS, "");
	assert_false(has_column(places, top_layout(&rows, 399, false, places), TOP_CONTAINER));
	assert_false(has_column(places, top_layout(&rows, 399, false, places), TOP_PEER));
	snprintf(table->connections[0].container, CONTAINER_NAME_MAX, "docker:0123456789ab");
	snprintf(table->connections[0].peer, sizeof(table->connections[0].peer), "web");
	make(&rows, table, TOP_CONNECTIONS, "");
	assert_true(has_column(places, top_layout(&rows, 399, false, places), TOP_CONTAINER));
	assert_true(has_column(places, top_layout(&rows, 399, false, places), TOP_PEER));
	top_rows_done(&rows);
	top_table_free(table);
}

static void test_names(void **state)
{
	struct error error;
	enum top_column column;
	enum top_view view;

	for (unsigned v = 0; v < TOP_VIEWS; v++) {
		assert_int_equal(top_view_parse(top_view_name((enum top_view)v), &view), 0);
		assert_int_equal(view, v);
		for (unsigned c = 0; c < TOP_COLUMNS; c++) {
			if (!top_column_in((enum top_column)c, view))
				continue;
			assert_int_equal(top_column_parse(top_column_name((enum top_column)c), view, &column, NULL), 0);
			assert_int_equal(column, c);
		}
		assert_true(top_column_in(top_column_default(view), view));
	}
	assert_true(top_column_parse("retran", TOP_CONNECTIONS, &column, &error) < 0);
	assert_non_null(strstr(error.text, "did you mean `retrans`?"));
	assert_true(top_column_parse("rtt", TOP_DROPS, &column, &error) < 0);
	assert_non_null(strstr(error.text, "it has reason, protocol, rate, count"));
}

/* Names of others in every text column, and numbers that are none, through both outputs. */
static void test_hostile_rows(void **state)
{
	struct connection c = sample(1, "\033[31m\xc2\x9b\n", 1, "10.0.0.1", 443);
	struct top_table *table;
	struct top_live live = { .look = { .view = TOP_CONNECTIONS } };
	char text[TOP_TEXT_MAX];

	snprintf(c.container, sizeof(c.container), "\r\xff\xfe\033");
	memset(c.peer, 0x1b, sizeof(c.peer) - 1);
	c.sent_rate = INFINITY;
	c.received_rate = -5;
	c.rtt_s = -1;
	c.jitter_s = 1e300;
	c.retransmit_ratio = 1e300;
	c.state = 77;
	table = sample_table(&c, 1);
	live.table = table;
	for (unsigned view = 0; view < TOP_DROPS; view++) {
		struct buffer out = BUFFER_INIT;
		json_t *json;

		live.look.view = (enum top_view)view;
		make(&live.rows, table, live.look.view, "");
		for (unsigned i = 0; i < TOP_COLUMNS; i++) {
			if (!top_column_in((enum top_column)i, live.look.view))
				continue;
			top_cell(live.rows.order[0], (enum top_column)i, false, text);
			assert_clean(text);
		}
		top_write_batch(&live, &out);
		for (size_t i = 0; i < out.len; i++)
			assert_true((unsigned char)out.data[i] >= ' ' || out.data[i] == '\n');
		buffer_clear(&out);
		assert_int_equal(top_write_json(&live, &out), 0);
		assert_true(strchr(out.data, '\n') == out.data + out.len - 1);
		json = json_loads(out.data, 0, NULL);
		assert_int_equal(json_array_size(json_object_get(json, top_view_name(live.look.view))), 1);
		json_decref(json);
		buffer_done(&out);
	}
	top_rows_done(&live.rows);
	top_table_free(table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_text), cmocka_unit_test(test_fitting), cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_filters), cmocka_unit_test(test_wrong_filters), cmocka_unit_test(test_any_filter),
		cmocka_unit_test(test_aggregation), cmocka_unit_test(test_order), cmocka_unit_test(test_drops),
		cmocka_unit_test(test_layout), cmocka_unit_test(test_names), cmocka_unit_test(test_hostile_rows),
	};

	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return 1;
	return cmocka_run_group_tests_name("top_rows", tests, NULL, NULL);
}
