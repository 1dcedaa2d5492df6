/* SPDX-License-Identifier: Apache-2.0 */
/* A connection as JSON and back: nothing is lost on the way, and nothing that strangers send does harm. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "agent/connections.h"

static struct connection example(void)
{
	struct connection c = {
	    .cookie = 0xf5eb9c0ffee12345,
	    .netns = 4026531840,
	    .state = 1,
	    .server = true,
	    .local_port = 443,
	    .remote_port = 50123,
	    .pid = 4711,
	    .holders = 2,
	    .comm = "nginx: worker",
	    .container = "docker:0123456789ab",
	    .peer = "web",
	    .age_s = NAN,
	    .rtt_s = 0.0123,
	    .jitter_s = 0.001,
	    .min_rtt_s = 0.011,
	    .receive_rtt_s = NAN,
	    .sent_bytes = 1ULL << 53,
	    .received_bytes = 12345678901,
	    .sent_segments = 10,
	    .received_segments = 11,
	    .retransmits = 3,
	    .lost = 1,
	    .busy_s = 1.5,
	    .receive_window_s = 0.5,
	    .send_buffer_s = 0.25,
	    .congestion_window = 10,
	    .slow_start_threshold = 7,
	    .mss = 1448,
	    .unacked = 4,
	    .not_sent_bytes = 100,
	    .unacked_bytes = 5000,
	    .receive_queue_bytes = 77,
	    .send_window_bytes = 65535,
	    .receive_window_bytes = 65536,
	    .since_sent_s = 0.5,
	    .since_received_s = 0.75,
	    .delivery_rate = 1e6,
	    .mptcp = true,
	    .interval_s = 1,
	    .sent_rate = 1e5,
	    .received_rate = 2e5,
	    .retransmit_ratio = 0.25,
	    .input = {.interval_s = 1,
		      .busy_s = 0.5,
		      .receive_window_s = 0.25,
		      .send_buffer_s = 0.125,
		      .waiting_far_s = 0.0625,
		      .streaming_s = 0.03125,
		      .reading_s = 0.015625,
		      .path_full_s = 0.1,
		      .rtt_s = 0.0123,
		      .min_rtt_s = 0.011,
		      .receive_rtt_s = NAN,
		      .sent_bytes = 100000,
		      .received_bytes = 200000,
		      .sent_segments = 70,
		      .retransmits = 3,
		      .received_segments = 140,
		      .reordered = 2},
	};

	assert_int_equal(address_parse("192.0.2.1", &c.local), 0);
	assert_int_equal(address_parse("2001:db8::1", &c.remote), 0);
	verdict_of(&c.input, &c.verdict);
	return c;
}

static void test_round_trip(void **state)
{
	struct connection c = example(), back, again;
	json_t *json = connection_json(&c);
	struct buffer one = BUFFER_INIT, two = BUFFER_INIT;

	assert_non_null(json);
	memset(&back, 0xff, sizeof(back));
	assert_int_equal(connection_from_json(json, &back), 0);
	/* Field by field through the text: padding, and NAN, compare as nothing. */
	assert_int_equal(json_write(json, &one), 0);
	assert_int_equal(json_write(connection_json(&back), &two), 0);
	assert_string_equal(one.data, two.data);
	assert_non_null(strstr(one.data, "\"id\":\"f5eb9c0ffee12345\""));
	assert_non_null(strstr(one.data, "\"state\":\"established\""));
	assert_non_null(strstr(one.data, "\"age_seconds\":null"));
	assert_int_equal(back.cookie, c.cookie);
	assert_int_equal(back.sent_bytes, c.sent_bytes);
	assert_int_equal(back.verdict.cause, c.verdict.cause);
	assert_true(isnan(back.receive_rtt_s) && isnan(back.input.receive_rtt_s));
	again = back;
	assert_string_equal(again.comm, "nginx: worker");
	buffer_done(&one);
	buffer_done(&two);
}

static int read_text(const char *text, struct connection *ret)
{
	json_t *json = json_loads(text, 0, NULL);
	int r;

	assert_non_null(json);
	r = connection_from_json(json, ret);
	json_decref(json);
	return r;
}

#define ENDS "\"local\":\"10.0.0.1\",\"remote\":\"10.0.0.2\""

static void test_what_is_none(void **state)
{
	static const char *const bad[] = {
	    "[]",
	    "{}",
	    "{\"id\":\"1\"}",
	    "{\"id\":5," ENDS "}",
	    "{\"id\":\"\"," ENDS "}",
	    "{\"id\":\"xyz\"," ENDS "}",
	    "{\"id\":\"-1\"," ENDS "}",
	    "{\"id\":\"0x1\"," ENDS "}",
	    "{\"id\":\"12345678901234567\"," ENDS "}",
	    "{\"id\":\"1\",\"local\":\"10.0.0.1\",\"remote\":\"nowhere\"}",
	    "{\"id\":\"1\",\"local\":7,\"remote\":\"10.0.0.2\"}",
	};
	struct connection c;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!read_text(bad[i], &c))
			fail_msg("taken: %s", bad[i]);
	assert_true(connection_from_json(NULL, &c) < 0);
}

static void test_what_is_strange(void **state)
{
	struct connection c;
	char text[2048];

	assert_int_equal(read_text("{\"id\":\"1\"," ENDS "}", &c), 0);
	assert_true(isnan(c.rtt_s) && isnan(c.age_s));
	assert_int_equal(c.state, 0);
	assert_int_equal(c.verdict.cause, CAUSE_IDLE);
	assert_int_equal(
	    read_text(
		"{\"id\":\"1\"," ENDS ",\"pid\":1e300,\"local_port\":70000,\"remote_port\":-1,\"sent_bytes\":-5,"
		"\"received_bytes\":1.5e30,\"rtt_seconds\":\"fast\",\"state\":\"asleep\",\"holders\":true,"
		"\"interval\":[],\"verdict\":{\"side\":\"network\",\"cause\":\"loss\",\"network\":7,\"causes\":3}}",
		&c),
	    0);
	assert_int_equal(c.pid, UINT32_MAX);
	assert_int_equal(c.local_port, UINT16_MAX);
	assert_int_equal(c.remote_port, 0);
	assert_int_equal(c.sent_bytes, 0);
	assert_int_equal(c.received_bytes, INT64_MAX);
	assert_true(isnan(c.rtt_s));
	assert_int_equal(c.state, 0);
	assert_true(c.verdict.network == 1);
	/* Names that are too long, or would move a terminal's cursor. */
	snprintf(text, sizeof(text),
		 "{\"id\":\"1\"," ENDS ",\"process\":\"\\u001b[2Jabcdefghijklmnopqrstuvwxyz\",\"peer\":\"%0500d\","
		 "\"container\":\"d\\u00f6cker\"}",
		 0);
	assert_int_equal(read_text(text, &c), 0);
	assert_string_equal(c.comm, "?[2Jabcdefghijk");
	assert_int_equal(strlen(c.peer), sizeof(c.peer) - 1);
	assert_string_equal(c.container, "d??cker");
}

static void test_states(void **state)
{
	assert_string_equal(connection_state_name(1), "established");
	assert_string_equal(connection_state_name(11), "closing");
	assert_string_equal(connection_state_name(0), "unknown");
	assert_string_equal(connection_state_name(4000000000), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_what_is_none),
		cmocka_unit_test(test_what_is_strange),
		cmocka_unit_test(test_states),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
