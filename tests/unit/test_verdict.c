/* SPDX-License-Identifier: Apache-2.0 */
/* The verdict: constructed inputs, and whatever the input, shares that are shares. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "agent/verdict.h"

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-9)

static void assert_sound(const struct verdict *v)
{
	double sum = 0, network, far_host;

	for (size_t i = 0; i < CAUSE_COUNT; i++) {
		assert_true(v->causes[i] >= 0 && v->causes[i] <= 1 + 1e-12);
		sum += v->causes[i];
	}
	NEAR(sum, 1);
	NEAR(v->network + v->far_host + v->this_host, 1);
	network = v->causes[CAUSE_LOSS] + v->causes[CAUSE_DISTANCE] + v->causes[CAUSE_BANDWIDTH];
	far_host = v->causes[CAUSE_RECEIVE_WINDOW] + v->causes[CAUSE_FAR_APPLICATION];
	NEAR(network, v->network);
	NEAR(far_host, v->far_host);
	assert_true(v->loss >= 0 && v->loss <= v->network);
	assert_true(v->idle >= 0 && v->idle <= 1);
	assert_true((unsigned)v->side < VERDICT_SIDE_COUNT && (unsigned)v->cause < CAUSE_COUNT);
	assert_true((v->side == VERDICT_NOTHING) == (v->cause == CAUSE_IDLE));
	assert_true(strlen(verdict_sentence(v)) > 20);
}

static struct verdict judge(const struct verdict_input *in)
{
	struct verdict v;

	memset(&v, 0xff, sizeof(v));
	verdict_of(in, &v);
	assert_sound(&v);
	return v;
}

static void assert_judged(const struct verdict_input *in, enum verdict_cause cause, double least)
{
	struct verdict v = judge(in);

	if (v.cause != cause || v.causes[cause] < least)
		fail_msg("%s with %.2f, where %s was to have %.2f (it has %.2f)", verdict_cause_name(v.cause),
			 v.causes[v.cause], verdict_cause_name(cause), least, v.causes[cause]);
}

static void test_limited_by_window_or_buffer(void **state)
{
	struct verdict_input in = {.interval_s = 10,
				   .busy_s = 9,
				   .receive_window_s = 8,
				   .rtt_s = 0.02,
				   .min_rtt_s = 0.019,
				   .receive_rtt_s = NAN,
				   .sent_bytes = 1000000,
				   .sent_segments = 700};
	struct verdict v = judge(&in);

	assert_int_equal(v.side, VERDICT_FAR_HOST);
	assert_int_equal(v.cause, CAUSE_RECEIVE_WINDOW);
	NEAR(v.far_host, 0.8);
	NEAR(v.network, 0.1);
	NEAR(v.idle, 0.1);
	in.receive_window_s = 1;
	in.send_buffer_s = 7;
	v = judge(&in);
	assert_int_equal(v.cause, CAUSE_SEND_BUFFER);
	NEAR(v.causes[CAUSE_SEND_BUFFER], 0.7);
	NEAR(v.this_host, 0.8); /* with the second in which nothing was outstanding */
}

static void test_the_network(void **state)
{
	struct verdict_input in = { .interval_s = 1, .busy_s = 1, .path_full_s = 1, .rtt_s = 0.1, .min_rtt_s = 0.099,
				    .receive_rtt_s = NAN, .sent_bytes = 1000000, .sent_segments = 700 };

	assert_judged(&in, CAUSE_DISTANCE, 0.99);
	in.retransmits = 21; /* 3 % */
	assert_judged(&in, CAUSE_LOSS, 0.9);
	in.rtt_s = 0.5; /* a full queue drops, too: it is the queue that counts */
	assert_judged(&in, CAUSE_BANDWIDTH, 0.75);
	in.retransmits = 0;
	in.rtt_s = in.min_rtt_s = 50e-6; /* no path is long here */
	assert_judged(&in, CAUSE_BANDWIDTH, 0.99);
	in.rtt_s = in.min_rtt_s = NAN;
	assert_judged(&in, CAUSE_BANDWIDTH, 0.99);
}

/* An acknowledgement that waits for the answer looks like a long round trip. */
static void test_a_question_and_its_answer(void **state)
{
	struct verdict_input in = {.interval_s = 1,
				   .busy_s = 0.9,
				   .rtt_s = 0.04,
				   .min_rtt_s = 0.001,
				   .receive_rtt_s = NAN,
				   .sent_bytes = 2500,
				   .received_bytes = 25000,
				   .sent_segments = 25,
				   .received_segments = 25};

	assert_judged(&in, CAUSE_FAR_APPLICATION, 0.8);
	in.min_rtt_s = 0.039;
	assert_judged(&in, CAUSE_DISTANCE, 0.85);
	in.busy_s = 0.1;
	in.waiting_far_s = 0.8;
	assert_judged(&in, CAUSE_FAR_APPLICATION, 0.79);
	in.waiting_far_s = 0;
	assert_judged(&in, CAUSE_LOCAL_WRITER, 0.89);
	in.busy_s = 0.9;
	in.retransmits = 5;
	assert_judged(&in, CAUSE_LOSS, 0.8);
}

static void test_what_comes_in(void **state)
{
	struct verdict_input in = {.interval_s = 2,
				   .waiting_far_s = 2,
				   .streaming_s = 2,
				   .rtt_s = 0.01,
				   .min_rtt_s = 0.01,
				   .receive_rtt_s = 0.01,
				   .received_bytes = 10000000,
				   .received_segments = 7000};

	assert_judged(&in, CAUSE_FAR_APPLICATION, 0.99);
	in.receive_rtt_s = 0.15;
	assert_judged(&in, CAUSE_BANDWIDTH, 0.9);
	in.streaming_s = 0; /* with pauses its round trip says nothing */
	assert_judged(&in, CAUSE_FAR_APPLICATION, 0.99);
	in.reordered = 2000;
	assert_judged(&in, CAUSE_LOSS, 0.8);
	in.reading_s = 2;
	assert_judged(&in, CAUSE_LOCAL_READER, 0.99);
}

static void test_nobody_waits(void **state)
{
	struct verdict_input in = { .interval_s = 5, .rtt_s = 0.01, .min_rtt_s = 0.01, .receive_rtt_s = NAN };
	struct verdict v = judge(&in);

	assert_int_equal(v.side, VERDICT_NOTHING);
	assert_int_equal(v.cause, CAUSE_IDLE);
	NEAR(v.this_host, 1);
	in.waiting_far_s = 5; /* no traffic either, but somebody who waits */
	v = judge(&in);
	assert_int_equal(v.cause, CAUSE_FAR_APPLICATION);
	in.waiting_far_s = 0;
	in.sent_bytes = 1;
	v = judge(&in);
	assert_int_equal(v.cause, CAUSE_LOCAL_WRITER);
	in.interval_s = 0;
	v = judge(&in);
	assert_int_equal(v.cause, CAUSE_IDLE);
}

static double random_seconds(double max)
{
	switch (rand() % 12) {
	case 0: return NAN;
	case 1: return INFINITY;
	case 2: return -1;
	case 3: return 0;
	case 4: return 1e-300;
	case 5: return -INFINITY;
	case 6: return 1e300;
	default: return max * rand() / RAND_MAX;
	}
}

static uint64_t random_count(void)
{
	switch (rand() % 4) {
	case 0: return 0;
	case 1: return UINT64_MAX;
	default: return (uint64_t)rand() % 10000;
	}
}

static struct verdict_input random_input(void)
{
	double max = rand() % 2 ? 1 : 100;

	return (struct verdict_input){
	    .interval_s = random_seconds(max),
	    .busy_s = random_seconds(max),
	    .receive_window_s = random_seconds(max),
	    .send_buffer_s = random_seconds(max),
	    .waiting_far_s = random_seconds(max),
	    .streaming_s = random_seconds(max),
	    .reading_s = random_seconds(max),
	    .path_full_s = random_seconds(max),
	    .rtt_s = random_seconds(1),
	    .min_rtt_s = random_seconds(1),
	    .receive_rtt_s = random_seconds(1),
	    .sent_bytes = random_count(),
	    .received_bytes = random_count(),
	    .sent_segments = random_count(),
	    .retransmits = random_count(),
	    .received_segments = random_count(),
	    .reordered = random_count(),
	};
}

static void test_any_input_gives_shares(void **state)
{
	struct verdict sum = { 0 };
	double seconds = 0;

	srand(1);
	for (int i = 0; i < 200000; i++) {
		struct verdict_input in = random_input();
		struct verdict v = judge(&in);

		verdict_add(&sum, &seconds, &v, random_seconds(10) < 1e100 ? (double)(rand() % 100) : NAN);
		if (seconds > 0)
			assert_sound(&sum);
	}
	assert_true(seconds > 0 && isfinite(seconds));
}

/* A finer look at the same time gives the same verdict. */
static void test_pieces_add_up(void **state)
{
	struct verdict_input whole = {.interval_s = 3,
				      .busy_s = 2,
				      .receive_window_s = 0.6,
				      .send_buffer_s = 0.3,
				      .waiting_far_s = 0.6,
				      .streaming_s = 0.3,
				      .reading_s = 0.3,
				      .path_full_s = 0.6,
				      .rtt_s = 0.03,
				      .min_rtt_s = 0.02,
				      .receive_rtt_s = 0.05,
				      .sent_bytes = 30000,
				      .received_bytes = 3000,
				      .sent_segments = 300,
				      .retransmits = 30,
				      .received_segments = 60,
				      .reordered = 3};
	struct verdict_input sum = { 0 }, piece = whole;
	struct verdict a, b;

	piece.interval_s /= 3, piece.busy_s /= 3, piece.receive_window_s /= 3, piece.send_buffer_s /= 3,
	    piece.waiting_far_s /= 3;
	piece.streaming_s /= 3, piece.reading_s /= 3, piece.path_full_s /= 3;
	piece.sent_bytes /= 3, piece.received_bytes /= 3, piece.sent_segments /= 3, piece.retransmits /= 3;
	piece.received_segments /= 3, piece.reordered /= 3;
	for (int i = 0; i < 3; i++)
		verdict_input_add(&sum, &piece);
	a = judge(&whole);
	b = judge(&sum);
	assert_int_equal(a.cause, b.cause);
	for (size_t i = 0; i < CAUSE_COUNT; i++)
		NEAR(a.causes[i], b.causes[i]);
	assert_int_equal(sum.sent_bytes, whole.sent_bytes);
	/* An unknown round trip does not spoil a known one, nor one that nobody waited for. */
	piece = (struct verdict_input){ .interval_s = 1, .rtt_s = NAN, .min_rtt_s = NAN, .receive_rtt_s = NAN };
	verdict_input_add(&sum, &piece);
	piece.rtt_s = 5;
	verdict_input_add(&sum, &piece);
	NEAR(sum.rtt_s, 0.03);
	NEAR(sum.min_rtt_s, 0.02);
	NEAR(sum.receive_rtt_s, 0.05);
}

static void test_mean_of_connections(void **state)
{
	struct verdict_input far_host = {
	    .interval_s = 1, .busy_s = 1, .receive_window_s = 1, .rtt_s = NAN, .min_rtt_s = NAN};
	struct verdict_input own = { .interval_s = 1, .sent_bytes = 1, .rtt_s = NAN, .min_rtt_s = NAN };
	struct verdict a = judge(&far_host), b = judge(&own), sum = { 0 };
	double seconds = 0;

	verdict_add(&sum, &seconds, &a, 1);
	verdict_add(&sum, &seconds, &b, 3);
	assert_sound(&sum);
	NEAR(sum.far_host, 0.25);
	NEAR(sum.this_host, 0.75);
	NEAR(sum.idle, 0.75);
	assert_int_equal(sum.cause, CAUSE_LOCAL_WRITER);
	NEAR(seconds, 4);
}

static void test_names(void **state)
{
	enum verdict_side side;
	enum verdict_cause cause;

	for (unsigned i = 0; i < VERDICT_SIDE_COUNT; i++) {
		assert_int_equal(verdict_side_parse(verdict_side_name(i), &side), 0);
		assert_int_equal(side, i);
	}
	for (unsigned i = 0; i < CAUSE_COUNT; i++) {
		assert_int_equal(verdict_cause_parse(verdict_cause_name(i), &cause), 0);
		assert_int_equal(cause, i);
	}
	assert_true(verdict_side_parse("host", &side) < 0);
	assert_true(verdict_cause_parse("", &cause) < 0);
	assert_string_equal(verdict_cause_name(CAUSE_COUNT), "idle");
	assert_string_equal(verdict_side_name(VERDICT_SIDE_COUNT), "nothing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limited_by_window_or_buffer),
		cmocka_unit_test(test_the_network),
		cmocka_unit_test(test_a_question_and_its_answer),
		cmocka_unit_test(test_what_comes_in),
		cmocka_unit_test(test_nobody_waits),
		cmocka_unit_test(test_any_input_gives_shares),
		cmocka_unit_test(test_pieces_add_up),
		cmocka_unit_test(test_mean_of_connections),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
