/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection did between two looks, above all whose the idle time was. One
 * jiffy is 1 ms here. A little world plays two applications; the looks see it only
 * every so often, and what they make of it is compared with what was played.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "agent/connections_internal.h"

#define HZ 1000

/* The socket at an instant, and what was played since the last look. */
struct world {
	struct connection_record record, last; /* now, and at the last look */
	uint32_t now, last_sent, last_received;
	struct row_change change;
	int64_t waiting, interval, busy, reading; /* summed over the looks */
};

static void begin(struct world *w)
{
	*w = (struct world){ .now = UINT32_MAX - 500 }; /* jiffies wrap around during the play */
	w->last_sent = w->last_received = w->now;
	w->last.looked = w->now;
}

static void send_data(struct world *w, uint32_t bytes)
{
	w->record.sent_bytes += bytes;
	w->record.sent_data_segments += bytes / 1000 + 1;
	w->last_sent = w->now;
	w->record.flags |= CONNECTION_FAR_TURN;
}

static void receive_data(struct world *w, uint32_t bytes)
{
	w->record.received_bytes += bytes;
	w->record.received_data_segments += bytes / 1000 + 1;
	w->last_received = w->now;
	w->record.flags &= (uint8_t)~CONNECTION_FAR_TURN;
}

static void look(struct world *w)
{
	struct connection_record now = w->record;
	struct row_base base;

	now.looked = w->now;
	now.since_sent = w->now - w->last_sent;
	now.since_received = w->now - w->last_received;
	now.flags = row_flags(&now, HZ);
	row_base_of(&w->last, &w->change, &base);
	row_change_of(&base, &now, HZ, &w->change);
	w->last = now;
	w->interval += w->change.interval;
	w->busy += w->change.busy;
	w->waiting += w->change.waiting_far;
	w->reading += w->change.reading;
}

typedef void (*play_fn)(struct world *w, unsigned ms);

/* Plays for a while and looks every `every` ms. */
static void play(struct world *w, play_fn fn, unsigned every, unsigned ms)
{
	begin(w);
	for (unsigned i = 1; i <= ms; i++) {
		w->now++;
		fn(w, i);
		if (i % every == 0)
			look(w);
	}
}

static void slow_writer(struct world *w, unsigned ms)
{
	if (ms % 35 == 0)
		send_data(w, 1000);
}

static void very_slow_writer(struct world *w, unsigned ms)
{
	if (ms % 700 == 0)
		send_data(w, 1000);
}

static void stream_in(struct world *w, unsigned ms)
{
	receive_data(w, 10000);
}

static void slow_stream_in(struct world *w, unsigned ms)
{
	if (ms % 700 == 0)
		receive_data(w, 1000);
}

/* The answer takes 150 ms, the next question 10. */
static void slow_answer(struct world *w, unsigned ms)
{
	if (ms % 160 == 0)
		send_data(w, 100);
	else if (ms % 160 == 150)
		receive_data(w, 1000);
}

/* The other way: we are the ones who think. */
static void slow_question(struct world *w, unsigned ms)
{
	if (ms % 160 == 0)
		send_data(w, 100);
	else if (ms % 160 == 10)
		receive_data(w, 1000);
}

static void assert_waiting(play_fn fn, unsigned every, double least, double most)
{
	struct world w;
	double share;

	play(&w, fn, every, 5000);
	share = (double)w.waiting / (double)w.interval;
	if (share < least || share > most)
		fail_msg("looks every %u ms: the far host has %.2f of the idle time, where %.2f..%.2f were played",
			 every, share, least, most);
}

static void test_whose_the_idle_time_is(void **state)
{
	static const unsigned every[] = { 100, 500, 1000 };

	for (size_t i = 0; i < sizeof(every) / sizeof(every[0]); i++) {
		assert_waiting(slow_writer, every[i], 0, 0.1);
		assert_waiting(very_slow_writer, every[i], 0, 0.3);
		assert_waiting(stream_in, every[i], 0.9, 1);
		assert_waiting(slow_stream_in, every[i], 0.7, 1);
	}
	/* With two speakers the looks decide, so few of them say less: half a second is no multiple of the play. */
	assert_waiting(slow_answer, 100, 0.8, 1);
	assert_waiting(slow_question, 100, 0, 0.2);
	assert_waiting(slow_answer, 500, 0.6, 1);
	assert_waiting(slow_question, 500, 0, 0.4);
}

/* One that nobody answers for more than a minute is idle, and nobody waits. */
static void no_answer(struct world *w, unsigned ms)
{
	if (ms == 1)
		send_data(w, 100);
}

static void test_waiting_ends_after_a_minute(void **state)
{
	struct world w;

	play(&w, no_answer, 1000, 200000);
	assert_in_range(w.waiting, 57000, 61000);
}

/* A guess that was wrong is taken back: the total is right in the end. */
static void late_correction(struct world *w, unsigned ms)
{
	if (ms == 1 || ms == 4950)
		send_data(w, 100);
}

static void test_a_wrong_guess_is_taken_back(void **state)
{
	struct world w;

	play(&w, late_correction, 100, 4900);
	assert_true(w.waiting > 4500); /* it seemed to wait for an answer */
	play(&w, late_correction, 100, 5000);
	assert_in_range(w.waiting, 0, 100);
}

static void test_reading(void **state)
{
	struct connection_record r = { .receive_queue = 100, .receive_window = 60000, .since_received = 5 };

	assert_false(row_flags(&r, HZ) & ROW_READING); /* it has just come */
	r.since_received = 10;
	assert_true(row_flags(&r, HZ) & ROW_READING);
	r.since_received = 0;
	r.receive_queue = 60000; /* data streams in, and fills the window */
	assert_true(row_flags(&r, HZ) & ROW_READING);
	r.receive_queue = 0;
	r.since_received = 1000;
	assert_false(row_flags(&r, HZ) & ROW_READING);
}

static void test_counters(void **state)
{
	struct row_base base = {
	    .looked = UINT32_MAX - 10, .busy = UINT32_MAX - 5, .sent_segments = UINT32_MAX, .sent_bytes = 5};
	struct connection_record now = {.looked = 89,
					.busy = 40,
					.receive_window_limited = 30,
					.send_buffer_limited = 500,
					.sent_data_segments = 9,
					.sent_bytes = 105};
	struct row_change c;

	row_change_of(&base, &now, HZ, &c);
	assert_int_equal(c.interval, 100);
	assert_int_equal(c.busy, 46);
	assert_int_equal(c.receive_window, 30);
	assert_int_equal(c.send_buffer, 16); /* no more than there was busy time */
	assert_int_equal(c.sent_segments, 10);
	assert_int_equal(c.sent_bytes, 100);
	/* Nothing runs backwards. */
	now.busy = UINT32_MAX - 50;
	now.sent_bytes = 0;
	row_change_of(&base, &now, HZ, &c);
	assert_int_equal(c.busy, 0);
	assert_int_equal(c.sent_bytes, 0);
}

static void test_a_full_send_buffer(void **state)
{
	struct row_base base = { .flags = CONNECTION_BUFFER_FULL };
	struct connection_record now = { .looked = 100, .busy = 100, .flags = CONNECTION_BUFFER_FULL };
	struct row_change c;

	row_change_of(&base, &now, HZ, &c);
	assert_int_equal(c.send_buffer, 100);
	assert_int_equal(c.path_full, 0);
	base.flags = 0;
	row_change_of(&base, &now, HZ, &c);
	assert_int_equal(c.send_buffer, 50);
}

static uint32_t random_u32(void)
{
	return rand() % 3 ? (uint32_t)(rand() % 1000) : (uint32_t)rand() << 1 ^ (uint32_t)rand();
}

/* What is on its way fills the window, though the kernel could send a little more. */
static void test_a_full_window(void **state)
{
	struct connection_record r = { .looked = 100, .busy = 100, .not_sent = 1, .unacked = 12, .unacked_bytes = 17000,
				       .send_window = 19000, .send_window_max = 20000, .congestion_window = 24 };
	struct row_base base;
	struct row_change c = { 0 };

	r.flags = row_flags(&r, HZ);
	row_base_of(&r, &c, &base);
	base.looked = base.busy = 0;
	row_change_of(&base, &r, HZ, &c);
	assert_int_equal(c.receive_window, 100);
	assert_int_equal(c.path_full, 0);
	r.send_window = r.send_window_max = 64000;
	assert_false(row_flags(&r, HZ) & ROW_WINDOW);
	r.send_window_max = 500000; /* the rest of its buffer is taken */
	assert_true(row_flags(&r, HZ) & ROW_WINDOW);
	r.not_sent = 0; /* but nobody wants it */
	assert_false(row_flags(&r, HZ) & ROW_WINDOW);
}

/* Whatever the kernel says, no part is larger than its whole. */
static void test_any_records(void **state)
{
	struct row_change c = { 0 };
	struct row_base base;
	struct connection_record r[2] = { 0 };

	srand(1);
	for (int i = 0; i < 200000; i++) {
		struct connection_record *now = &r[i & 1];

		for (size_t k = 0; k < sizeof(*now); k += 4) {
			uint32_t word = random_u32();

			memcpy((char *)now + k, &word, 4);
		}
		now->flags = row_flags(now, HZ);
		row_base_of(&r[~i & 1], &c, &base);
		row_change_of(&base, now, HZ, &c);
		assert_true(c.busy <= c.interval && c.interval <= INT32_MAX);
		assert_true((uint64_t)c.receive_window + c.send_buffer + c.path_full <= c.busy);
		assert_true(c.reading <= c.interval);
		assert_true(c.streaming <= (c.waiting_far > 0 ? (uint32_t)c.waiting_far : 0));
		if (c.sent_bytes || c.received_bytes)
			assert_true(c.pending <= c.interval);
		assert_true(c.guessed <= c.pending);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whose_the_idle_time_is),
		cmocka_unit_test(test_waiting_ends_after_a_minute),
		cmocka_unit_test(test_a_wrong_guess_is_taken_back),
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_a_full_send_buffer),
		cmocka_unit_test(test_a_full_window),
		cmocka_unit_test(test_any_records),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
