/* SPDX-License-Identifier: Apache-2.0 */
/* What the keys of `netsonde top` do, and what happens to the cursor while the rows change below it. */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "cli/top_details.h"
#include "cli/top_live.h"
#include "top_samples.h"

#define ROWS 30

/* Thirty connections of three processes with three peers; connection i has rate (i + turn) % 30. */
static struct top_table *table_at(unsigned turn)
{
	struct connection c[ROWS];

	for (unsigned i = 0; i < ROWS; i++) {
		static const char *const peers[] = { "10.0.0.1", "10.0.0.2", "2001:db8::3" };
		char comm[16];

		snprintf(comm, sizeof(comm), "worker%u", i % 3);
		c[i] = sample(i + 1, comm, 100 + i % 3, peers[i % 3], (uint16_t)(1000 + i));
		moved(&c[i], (i + turn) % ROWS, 0);
	}
	return sample_table(c, ROWS);
}

static void begin(struct top_live *live)
{
	memset(live, 0, sizeof(*live));
	for (unsigned i = 0; i < TOP_VIEWS; i++)
		live->look.column[i] = top_column_default((enum top_view)i);
	live->page = 10;
	assert_int_equal(top_live_table(live, table_at(0), mono_now()), 0);
}

static void press(struct top_live *live, int key)
{
	assert_int_equal(top_live_key(live, key), 0);
	assert_true(live->cursor < (live->rows.n ? live->rows.n : 1));
	assert_true(live->first <= live->cursor && live->cursor < live->first + live->page);
}

static void type(struct top_live *live, const char *text)
{
	for (; *text; text++)
		press(live, (unsigned char)*text);
}

static uint64_t selected(const struct top_live *live)
{
	return live->rows.order[live->cursor]->key;
}

static void test_the_cursor(void **state)
{
	struct top_live live;

	begin(&live);
	assert_int_equal(selected(&live), ROWS);
	/* At the top it is whoever comes to the top. */
	assert_int_equal(top_live_table(&live, table_at(1), mono_now()), 0);
	assert_int_equal(live.cursor, 0);
	assert_int_equal(selected(&live), ROWS - 1);
	/* A row that was chosen is followed. */
	press(&live, TOP_KEY_DOWN);
	press(&live, 'j');
	assert_int_equal(selected(&live), ROWS - 3);
	assert_int_equal(top_live_table(&live, table_at(2), mono_now()), 0);
	assert_int_equal(selected(&live), ROWS - 3);
	assert_int_equal(live.cursor, 1);
	press(&live, TOP_KEY_END);
	assert_int_equal(live.cursor, ROWS - 1);
	assert_int_equal(live.first, ROWS - 10);
	press(&live, TOP_KEY_DOWN);
	assert_int_equal(live.cursor, ROWS - 1);
	press(&live, TOP_KEY_PAGE_UP);
	assert_int_equal(live.cursor, ROWS - 11);
	press(&live, TOP_KEY_HOME);
	press(&live, TOP_KEY_UP);
	assert_int_equal(live.cursor, 0);
	assert_false(live.follows);
	press(&live, TOP_KEY_PAGE_DOWN);
	assert_int_equal(live.cursor, 10);
	/* All rows go, and come back. */
	assert_int_equal(top_live_table(&live, sample_table(NULL, 0), mono_now()), 0);
	press(&live, TOP_KEY_DOWN);
	press(&live, TOP_KEY_ENTER);
	assert_int_equal(live.mode, TOP_LIST);
	assert_int_equal(top_live_table(&live, table_at(0), mono_now()), 0);
	assert_true(live.cursor < ROWS);
	top_live_done(&live);
}

static void test_views_and_order(void **state)
{
	struct top_live live;

	begin(&live);
	press(&live, '2');
	assert_int_equal(live.look.view, TOP_PEERS);
	assert_int_equal(live.rows.n, 3);
	press(&live, TOP_KEY_TAB);
	assert_int_equal(live.look.view, TOP_PROCESSES);
	press(&live, '4');
	assert_int_equal(live.rows.n, 0);
	press(&live, TOP_KEY_TAB);
	assert_int_equal(live.look.view, TOP_CONNECTIONS);
	press(&live, TOP_KEY_BACK_TAB);
	assert_int_equal(live.look.view, TOP_DROPS);
	press(&live, '1');
	press(&live, 'r');
	assert_int_equal(selected(&live), 1);
	/* The menu begins at the column that is sorted by. */
	press(&live, 's');
	assert_int_equal(live.mode, TOP_SORT);
	press(&live, TOP_KEY_HOME);
	press(&live, TOP_KEY_ENTER);
	assert_int_equal(live.look.column[TOP_CONNECTIONS], TOP_PROCESS);
	assert_false(live.look.reverse[TOP_CONNECTIONS]);
	assert_string_equal(live.rows.order[0]->connection->comm, "worker0");
	press(&live, '>');
	assert_int_equal(live.look.column[TOP_CONNECTIONS], TOP_PID);
	press(&live, '<');
	press(&live, '<');
	assert_int_equal(live.look.column[TOP_CONNECTIONS], TOP_WHY);
	press(&live, TOP_KEY_SORT);
	press(&live, TOP_KEY_DOWN);
	press(&live, TOP_KEY_ESCAPE);
	assert_int_equal(live.look.column[TOP_CONNECTIONS], TOP_WHY);
	/* Another view has an order of its own. */
	press(&live, '2');
	assert_int_equal(live.look.column[TOP_PEERS], TOP_RATE);
	press(&live, 'b');
	assert_true(live.look.bits);
	press(&live, ' ');
	assert_true(live.paused);
	press(&live, 'p');
	assert_false(live.paused);
	press(&live, 'q');
	assert_true(live.quit);
	top_live_done(&live);
}

static void test_typing_a_filter(void **state)
{
	struct top_live live;

	begin(&live);
	press(&live, '/');
	type(&live, "worker1 q");
	assert_false(live.quit);
	assert_int_equal(live.rows.n, 0);
	press(&live, TOP_KEY_BACKSPACE);
	press(&live, TOP_KEY_BACKSPACE);
	assert_int_equal(live.rows.n, 10); /* while it is typed */
	type(&live, " rtt>");
	assert_true(live.complaint[0]);
	assert_int_equal(live.rows.n, 0); /* of " rtt", the last that was one */
	press(&live, TOP_KEY_ENTER);
	assert_int_equal(live.mode, TOP_FILTER); /* not with a mistake in it */
	press(&live, TOP_KEY_ESCAPE);
	assert_int_equal(live.mode, TOP_LIST);
	assert_int_equal(live.rows.n, ROWS);
	press(&live, '/');
	type(&live, "port:1003");
	press(&live, TOP_KEY_ENTER);
	assert_int_equal(live.rows.n, 1);
	/* It holds in the views of connections; drops have their own. */
	press(&live, '2');
	assert_int_equal(live.rows.n, 1);
	press(&live, '4');
	assert_int_equal(top_live_filter(&live)->n, 0);
	press(&live, '3');
	press(&live, '/');
	assert_string_equal(live.input, "port:1003");
	press(&live, 'U' - '@');
	type(&live, "\xc3\xbc");
	assert_string_equal(live.input, "\xc3\xbc");
	press(&live, TOP_KEY_BACKSPACE);
	assert_string_equal(live.input, "");
	press(&live, TOP_KEY_BACKSPACE);
	for (int i = 0; i < 1000; i++)
		press(&live, 'x');
	assert_int_equal(strlen(live.input), TOP_FILTER_MAX - 1);
	press(&live, 1);
	press(&live, TOP_KEY_HOME);
	assert_int_equal(strlen(live.input), TOP_FILTER_MAX - 1);
	press(&live, TOP_KEY_ESCAPE);
	press(&live, TOP_KEY_ESCAPE);
	assert_int_equal(top_live_filter(&live)->n, 0);
	top_live_done(&live);
}

static void test_from_a_peer_to_its_connections(void **state)
{
	struct top_live live;

	begin(&live);
	press(&live, '/');
	type(&live, "port:1003 worker0");
	press(&live, TOP_KEY_ENTER);
	press(&live, '2');
	press(&live, TOP_KEY_ENTER);
	assert_int_equal(live.look.view, TOP_CONNECTIONS);
	assert_string_equal(top_live_filter(&live)->text, "peer=10.0.0.1");
	assert_int_equal(live.rows.n, 10);
	press(&live, TOP_KEY_ESCAPE);
	assert_int_equal(live.look.view, TOP_PEERS);
	assert_string_equal(top_live_filter(&live)->text, "port:1003 worker0");
	press(&live, TOP_KEY_ESCAPE);
	assert_int_equal(live.rows.n, 3);
	press(&live, '3');
	press(&live, TOP_KEY_END);
	press(&live, TOP_KEY_ENTER);
	assert_int_equal(live.rows.n, 10);
	assert_int_equal(strncmp(top_live_filter(&live)->text, "pid:10", 6), 0);
	top_live_done(&live);
}

static void test_details(void **state)
{
	struct top_live live;
	struct top_table *table;

	begin(&live);
	press(&live, TOP_KEY_ENTER);
	assert_int_equal(live.mode, TOP_DETAILS);
	assert_int_equal(live.shown.cookie, ROWS);
	assert_true(live.shown.sent_rate == ROWS - 1);
	assert_int_equal(top_live_table(&live, table_at(1), mono_now()), 0);
	assert_true(live.shown.sent_rate == 0 && !live.ended);
	table = table_at(0);
	table->n = 5; /* it has ended */
	assert_int_equal(top_live_table(&live, table, mono_now()), 0);
	assert_true(live.ended && live.shown.cookie == ROWS);
	top_live_error(&live, "gone\033[2J", (mono_time){ 5 });
	assert_string_equal(live.error, "gone?[2J");
	assert_int_equal(live.failing_since.ns, 5);
	top_live_error(&live, "gone", (mono_time){ 6 });
	assert_int_equal(live.failing_since.ns, 5);
	press(&live, 'q');
	assert_int_equal(live.mode, TOP_LIST);
	assert_false(live.quit);
	press(&live, '?');
	press(&live, TOP_KEY_PAGE_DOWN);
	press(&live, TOP_KEY_PAGE_UP);
	press(&live, TOP_KEY_UP);
	assert_int_equal(live.scroll, 0);
	press(&live, TOP_KEY_ESCAPE);
	assert_int_equal(live.mode, TOP_LIST);
	top_live_done(&live);
}

static void assert_lines(const struct buffer *text, size_t width)
{
	size_t len = 0;

	for (size_t i = 0; i < text->len; i++) {
		unsigned char c = (unsigned char)text->data[i];

		assert_true(c == '\n' || c >= ' ');
		len = c == '\n' ? 0 : len + ((c & 0xc0) != 0x80);
		if (len > width)
			fail_msg("longer than %zu: %.*s", width, 120, text->data + i - width);
	}
	assert_true(text->len && text->data[text->len - 1] == '\n');
}

static void test_long_texts(void **state)
{
	struct connection c = sample(0xabc, "\033evil", 7, "2001:db8::1", 443);
	struct buffer out = BUFFER_INIT;
	struct top_live live;

	snprintf(c.container, sizeof(c.container), "docker:\n0123456789ab");
	moved(&c, 1000000, 5);
	c.holders = 3;
	for (unsigned cause = 0; cause < CAUSE_COUNT; cause++) {
		judged(&c, VERDICT_NETWORK, (enum verdict_cause)cause, 0.6);
		buffer_clear(&out);
		top_write_details(&c, false, 80, &out);
		assert_lines(&out, 100);
		assert_non_null(strstr(out.data, "?evil (PID 7) and 2 more in docker:?0123456789ab"));
	}
	c.interval_s = 0;
	buffer_clear(&out);
	top_write_details(&c, true, 80, &out);
	assert_non_null(strstr(out.data, "not known yet"));
	begin(&live);
	for (unsigned view = 0; view < TOP_VIEWS; view++) {
		press(&live, (int)('1' + view));
		buffer_clear(&out);
		top_write_help(&live, &out);
		assert_lines(&out, 80);
	}
	top_live_done(&live);
	buffer_done(&out);
}

/* Whatever is pressed. */
static void test_any_keys(void **state)
{
	struct top_live live;

	begin(&live);
	srand(4);
	for (int i = 0; i < 50000; i++) {
		int key = rand() % 3 ? rand() % 0x100 : TOP_KEY_FIRST + rand() % (TOP_KEY_QUIT + 1 - TOP_KEY_FIRST);

		press(&live, key);
		if (i % 50 == 0)
			assert_int_equal(top_live_table(&live, rand() % 4 ? table_at((unsigned)i) : sample_table(NULL, 0), mono_now()), 0);
		if (i % 20 == 0)
			press(&live, TOP_KEY_ESCAPE);
	}
	top_live_done(&live);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_cursor), cmocka_unit_test(test_views_and_order), cmocka_unit_test(test_typing_a_filter),
		cmocka_unit_test(test_from_a_peer_to_its_connections), cmocka_unit_test(test_details),
		cmocka_unit_test(test_long_texts), cmocka_unit_test(test_any_keys),
	};

	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return 1;
	return cmocka_run_group_tests_name("top_live", tests, NULL, NULL);
}
