/* SPDX-License-Identifier: Apache-2.0 */
/* `netsonde ping` without a network: whom it asks, what it makes of results, and how that is told in lines, tables, pictures and JSON. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "cli/ping.h"
#include "cli/ping_text.h"
#include "lib/json.h"

#define MS 1000000

static const struct ping_options icmp = { .interval_ns = NS_PER_SEC, .timeout_ns = 2 * NS_PER_SEC, .payload = 56, .paths = 1 };

static void test_split(void **state)
{
	static const struct { const char *text; bool ports; const char *host; uint16_t port; } good[] = {
		{ "example.org", false, "example.org", 0 }, { "10.0.0.1", false, "10.0.0.1", 0 }, { "2001:db8::1", false, "2001:db8::1", 0 },
		{ "::1", true, "::1", 0 }, { "fe80::1%eth0", true, "fe80::1%eth0", 0 }, { "[::1]", false, "::1", 0 },
		{ "[fe80::1%eth0]:80", true, "fe80::1%eth0", 80 }, { "example.org:443", true, "example.org", 443 }, { "10.0.0.1:65535", true, "10.0.0.1", 65535 },
	};
	static const struct { const char *text; bool ports; const char *why; } bad[] = {
		{ "", true, "no host" }, { "[]", true, "no host" }, { ":80", true, "no host" }, { "[::1", true, "brackets" }, { "[::1]x", true, "brackets" },
		{ "[::1]80", true, "brackets" }, { "a:0", true, "1 to 65535" }, { "a:65536", true, "1 to 65535" }, { "a:", true, "1 to 65535" },
		{ "a:8o", true, "1 to 65535" }, { "a:-1", true, "1 to 65535" }, { "a:000080", true, "1 to 65535" }, { "a:80", false, "no ports" },
		{ "[::1]:80", false, "no ports" },
	};
	char host[PING_NAME_MAX], giant[PING_NAME_MAX + 1];
	struct error error;
	uint16_t port;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(ping_host_split(good[i].text, good[i].ports, host, &port, &error), 0);
		assert_string_equal(host, good[i].host);
		assert_int_equal(port, good[i].port);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(ping_host_split(bad[i].text, bad[i].ports, host, &port, &error), -EINVAL);
		assert_non_null(strstr(error.text, bad[i].why));
	}
	memset(giant, 'a', sizeof(giant) - 1);
	giant[sizeof(giant) - 1] = '\0';
	assert_int_equal(ping_host_split(giant, true, host, &port, &error), -EINVAL);
}

/* Addresses only: nobody is asked for a name. What is wrong with any of them is said of all. */
static void test_hosts(void **state)
{
	char *names[] = { (char *)(uintptr_t)"10.0.0.1", (char *)(uintptr_t)"224.0.0.1", (char *)(uintptr_t)"::1", (char *)(uintptr_t)"ff02::1",
			  (char *)(uintptr_t)"fe80::1", (char *)(uintptr_t)"255.255.255.255", (char *)(uintptr_t)"10.0.0.1", (char *)(uintptr_t)"0.0.0.0",
			  (char *)(uintptr_t)"a:1", (char *)(uintptr_t)"::ffff:10.0.0.1", (char *)(uintptr_t)"::" };
	static const char *const why[] = { "224.0.0.1: it is a multicast", "ff02::1: it is a multicast", "link-local address needs", "255.255.255.255: it is the broadcast",
					   "0.0.0.0: it is no host", "ICMP has no ports", ":: it is no host" };
	struct ping_options two_paths = icmp, v6 = icmp;
	struct buffer errors = BUFFER_INIT;
	struct ping_hosts hosts;
	const char *at;

	assert_int_equal(ping_hosts_new(names, 11, &icmp, &hosts, &errors), 7);
	assert_int_equal(hosts.n, 4);
	at = errors.data;
	for (size_t i = 0; i < sizeof(why) / sizeof(why[0]); i++) {
		at = strstr(at, why[i]);
		assert_non_null(at);
	}
	assert_string_equal(hosts.items[1].where, "::1");
	assert_string_equal(hosts.items[3].where, "10.0.0.1");
	ping_hosts_done(&hosts);

	two_paths.paths = 2;
	names[1] = names[6];
	buffer_clear(&errors);
	assert_int_equal(ping_hosts_new(names, 2, &two_paths, &hosts, &errors), 0);
	assert_true(hosts.items[1].paths == hosts.paths + 2 && hosts.paths[3].host == hosts.items + 1 && hosts.paths[3].number == 2);
	ping_hosts_done(&hosts);

	v6.family = 6;
	buffer_clear(&errors);
	assert_int_equal(ping_hosts_new(names, 1, &v6, &hosts, &errors), 1);
	assert_int_equal(hosts.n, 0);
	assert_true(errors.len > 0);
	ping_hosts_done(&hosts);
	buffer_done(&errors);
}

static struct probe_result answer(uint32_t sequence, uint64_t rtt_ns)
{
	return (struct probe_result){ .outcome = PROBE_OK, .sequence = sequence, .sent_ns = 1, .rtt_ns = rtt_ns, .clock = PROBE_CLOCK_TC };
}

/* Two hosts, or one, with addresses that are theirs; everything beyond that is up to the test. */
static void make_hosts(struct ping_hosts *hosts, size_t n, const struct ping_options *options)
{
	char *names[] = { (char *)(uintptr_t)"10.0.0.1", (char *)(uintptr_t)"10.0.0.2", (char *)(uintptr_t)"2001:db8:1:2:3:4:5:6" };
	struct buffer errors = BUFFER_INIT;

	assert_int_equal(ping_hosts_new(names, n, options, hosts, &errors), 0);
	buffer_done(&errors);
}

static void feed(struct ping_path *path, const struct probe_result *result)
{
	size_t allowance = SIZE_MAX;

	ping_stats_add(&path->stats, result, &allowance);
	path->stats.counts.sent++;
}

static void test_stats(void **state)
{
	static const uint64_t rtts[] = { 1000, 3000, 2000, 2000, 9000 };
	struct ping_stats s = { 0 }, other = { 0 };
	struct probe_result r = answer(0, 0);
	size_t allowance = 100;
	double jitter = 0;

	for (size_t i = 0; i < 5; i++) {
		r = answer((uint32_t)i, rtts[i]);
		ping_stats_add(&s, &r, &allowance);
		if (i)
			jitter += (fabs((double)rtts[i] - (double)rtts[i - 1]) - jitter) / 16;
	}
	assert_true(fabs(s.jitter_ns - jitter) < 1e-9 && s.jitters == 1);
	/* The reflector's time is taken off; more than there was is a lie. */
	r = answer(5, 10000);
	r.stamp = r.has_residence = true;
	r.residence_ns = 4000;
	assert_int_equal(probe_result_rtt_ns(&r), 6000);
	r.residence_ns = 20000;
	assert_int_equal(probe_result_rtt_ns(&r), 10000);
	ping_stats_add(&other, &r, &allowance);
	assert_int_equal(other.one_way_unknown, 1);
	r.has_one_way = true;
	r.forward_ns = -300;
	r.clock_error_ns = 700;
	ping_stats_add(&other, &r, &allowance);
	assert_true(other.forward.min_ns == -300 && other.has_clock_error && other.clock_error_ns == 700);
	/* More reasons than places: the rest is in the last. */
	for (int i = 0; i < 12; i++) {
		r = (struct probe_result){ .outcome = PROBE_UNREACHABLE, .error = i < 6 ? EHOSTUNREACH : i };
		ping_stats_add(&other, &r, &allowance);
	}
	assert_true(other.errors[0].n == 6 && other.errors[0].error == EHOSTUNREACH && other.errors[3].n == 4 && !other.errors[3].error);
	s.counts.sent = 30;
	ping_stats_merge(&s, &other);
	assert_true(s.answered == 7 && s.unreachable == 12 && s.errors[0].n == 6 && s.rtt.n == 7 && s.jitters == 2);
	assert_int_equal(ping_stats_pending(&s), 30 - 19);
	ping_stats_done(&s);
	ping_stats_done(&other);
}

static void assert_line(struct buffer *out, const char *expected)
{
	assert_string_equal(out->data, expected);
	buffer_clear(out);
}

static void test_lines(void **state)
{
	struct ping_look one = { 0 }, many = { .name_width = 14, .paths = true }, colored = { .colors = true, .timestamps = true };
	struct ping_options tcp = icmp, stamp = icmp;
	struct probe_result r = answer(2, 1053400), none = { .outcome = PROBE_TIMED_OUT, .sequence = 3 };
	struct buffer out = BUFFER_INIT;
	struct ping_hosts hosts;
	wall_time when = { 1700000000123456789 };

	make_hosts(&hosts, 1, &icmp);
	ping_print_result(hosts.paths, &r, &icmp, &one, when, &out);
	assert_line(&out, "64 bytes from 10.0.0.1: seq=3 time=1.053 ms\n");
	ping_print_result(hosts.paths, &none, &icmp, &one, when, &out);
	assert_line(&out, "no answer from 10.0.0.1: seq=4 within 2s\n");
	ping_print_result(hosts.paths, &none, &icmp, &colored, when, &out);
	assert_line(&out, "\033[31m[1700000000.123456] no answer from 10.0.0.1: seq=4 within 2s\033[0m\n");
	none = (struct probe_result){ .outcome = PROBE_UNREACHABLE, .error = EHOSTUNREACH };
	ping_print_result(hosts.paths, &none, &icmp, &one, when, &out);
	assert_line(&out, "no answer from 10.0.0.1: seq=1 Destination host unreachable\n");
	ping_print_result(hosts.paths, &r, &icmp, &many, when, &out);
	assert_line(&out, "10.0.0.1        path=1  seq=3    time=   1.053 ms\n");
	ping_print_result(hosts.paths, &none, &icmp, &many, when, &out);
	assert_line(&out, "10.0.0.1        path=1  seq=1    Destination host unreachable\n");
	ping_print_odd(hosts.paths, 1, 0, &one, when, &out);
	assert_line(&out, "duplicate answer from 10.0.0.1\n");
	ping_print_odd(hosts.paths, 0, 3, &many, when, &out);
	assert_line(&out, "10.0.0.1        3 late answers: counted as lost\n");
	ping_print_start(&hosts, &icmp, &one, &out);
	assert_line(&out, "PING 10.0.0.1: 56 bytes of data, no route to it\n");
	ping_hosts_done(&hosts);

	tcp.protocol = PROBE_TCP;
	make_hosts(&hosts, 1, &tcp);
	r.outcome = PROBE_CLOSED;
	ping_print_result(hosts.paths, &r, &tcp, &one, when, &out);
	assert_line(&out, "answer from 10.0.0.1:443: seq=3 time=1.053 ms (closed)\n");
	ping_hosts_done(&hosts);

	stamp.protocol = PROBE_STAMP;
	stamp.payload = 0;
	make_hosts(&hosts, 3, &stamp);
	r = answer(0, 2000000);
	r.stamp = r.has_residence = r.has_one_way = true;
	r.residence_ns = 40000;
	r.forward_ns = -12300;
	r.backward_ns = 1972300;
	r.clock_error_ns = 500000;
	ping_print_result(hosts.paths, &r, &stamp, &one, when, &out);
	assert_line(&out, "52 bytes from 10.0.0.1:862: seq=1 time=1.960 ms forward=-0.0123 backward=1.972 +-0.500 ms reflector=0.0400 ms\n");
	one.width = 80;
	r.clock_error_ns = UINT64_MAX;
	ping_print_result(hosts.paths, &r, &stamp, &one, when, &out);
	assert_line(&out, "52 bytes from 10.0.0.1:862: seq=1 time=1.960 ms forward=-0.0123 backward=1.972 ms\n");
	ping_print_start(&hosts, &stamp, &many, &out);
	assert_line(&out, "PING 3 hosts: STAMP, 44 bytes of data, one to each every 1s\n");
	ping_hosts_done(&hosts);
	buffer_done(&out);
}

static void test_percent(void **state)
{
	static const struct { uint64_t part, all; const char *text; } cases[] = {
		{ 0, 0, "0%" }, { 0, 7, "0%" }, { 1, 3, "33.3%" }, { 7, 7, "100%" }, { 1, 300, "0.333%" }, { 99999, 100000, "99.9%" },
		{ 1, 1000000000, "0.001%" }, { 1, 2, "50%" },
	};
	char text[PING_NUMBER_MAX];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(ping_percent(cases[i].part, cases[i].all, text), cases[i].text);
}

static void test_summary_of_one(void **state)
{
	struct ping_look look = { .width = 80 };
	struct buffer out = BUFFER_INIT;
	struct ping_hosts hosts;
	struct probe_result r, none = { .outcome = PROBE_TIMED_OUT };

	make_hosts(&hosts, 1, &icmp);
	for (uint32_t i = 1; i <= 10; i++) {
		r = answer(i, i * MS);
		feed(hosts.paths, &r);
	}
	feed(hosts.paths, &none);
	hosts.paths->stats.counts.sent = 12;
	hosts.paths->stats.counts.duplicates = 1;
	hosts.paths->stats.counts.late = 2;
	ping_hosts_sum(&hosts);
	ping_print_summary(&hosts, &icmp, &look, 11234567890, &out);
	assert_line(&out, "\n--- 10.0.0.1 ---\n"
			  "12 packets transmitted, 10 received, 9.09% packet loss, 1 on the way, time 11234ms\n"
			  "1 duplicate, 2 late\n"
			  "milliseconds      min      p50      p90      p99      max     mean       sd\n"
			  "round trip      1.000    5.000    9.000   10.000   10.000    5.500    3.028\n"
			  "jitter 0.441 ms, timed by tc\n");
	ping_print_interim(&hosts, &out);
	assert_line(&out, "10/11 packets, 9.09% loss, min/p50/p99/max = 1.000/5.000/10.00/10.00 ms\n");
	ping_hosts_done(&hosts);

	make_hosts(&hosts, 1, &icmp);
	none = (struct probe_result){ .outcome = PROBE_UNREACHABLE, .error = ENETUNREACH };
	feed(hosts.paths, &none);
	ping_hosts_sum(&hosts);
	look.histogram = 1;
	ping_print_summary(&hosts, &icmp, &look, 1000000, &out);
	assert_line(&out, "\n--- 10.0.0.1 ---\n1 packets transmitted, 0 received, 100% packet loss, time 1ms\n"
			  "1 unreachable (Destination network unreachable)\n");
	ping_hosts_done(&hosts);
	buffer_done(&out);
}

static size_t longest_line(const char *text)
{
	size_t longest = 0;

	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
		longest = (size_t)(end - line) > longest ? (size_t)(end - line) : longest;
	return longest;
}

static void test_summary_of_many(void **state)
{
	struct ping_look look = { .name_width = 20 };
	struct buffer out = BUFFER_INIT;
	struct ping_hosts hosts;
	struct probe_result r = answer(0, 20 * MS), none = { .outcome = PROBE_TIMED_OUT };

	make_hosts(&hosts, 3, &icmp);
	for (size_t i = 0; i < 3; i++) {
		feed(hosts.paths, &r);
		feed(hosts.paths + 2, &none);
	}
	feed(hosts.paths, &none);
	ping_hosts_sum(&hosts);
	look.width = 80;
	ping_print_summary(&hosts, &icmp, &look, 5000000000, &out);
	assert_line(&out, "\nhost                   sent   recv   loss      min      p50      p99      max\n"
			  "10.0.0.1                  4      3    25%   20.000   20.000   20.000   20.000\n"
			  "10.0.0.2                  0      0      -        -        -        -        -\n"
			  "2001:db8:1:2:3:4:5:6      3      0   100%        -        -        -        -\n"
			  "\n3 hosts: 1 answered (1 with loss), 2 did not: 10.0.0.2, 2001:db8:1:2:3:4:5:6\n"
			  "7 packets transmitted, 3 received, 57.1% packet loss, time 5000ms\n"
			  "round trips in milliseconds, timed by tc\n");
	/* Whatever the width, tables fit. */
	for (look.width = 40; look.width < 200; look.width++) {
		char *sentence;

		buffer_clear(&out);
		ping_print_summary(&hosts, &icmp, &look, 5000000000, &out);
		sentence = strstr(out.data, "\n3 hosts");
		assert_non_null(sentence);
		sentence[1] = '\0';
		assert_true(longest_line(out.data) <= look.width);
		assert_non_null(strstr(out.data, "loss"));
		assert_true(!strstr(out.data, "jitter") == (look.width < 20 + 3 * 7 + 5 * 9));
	}
	ping_hosts_done(&hosts);
	buffer_done(&out);
}

/* The numbers of all rows are the answers, and every row fits, whatever the distribution. */
static void test_histogram(void **state)
{
	struct buffer out = BUFFER_INIT;
	size_t allowance = SIZE_MAX;
	uint64_t random = 88172645463325252u;

	for (unsigned round = 0; round < 400; round++) {
		struct ping_look look = { .utf8 = round & 1, .width = 40 + round % 80 };
		struct ping_stats s = { .timed_out = round % 3 };
		uint64_t n = 1 + round * 7 % 500, sum = 0, rows = 0, spread, base;

		random = random * 6364136223846793005u + 1442695040888963407u;
		spread = 1 + (random >> 33) % (UINT64_C(1) << round % 40);
		base = (random >> 20) % (UINT64_C(1) << round * 3 % 37);
		for (uint64_t i = 0; i < n; i++) {
			struct probe_result r;

			random = random * 6364136223846793005u + 1442695040888963407u;
			r = answer((uint32_t)i, base + (random >> 33) % spread);
			if (i % 50 == 49)
				r.rtt_ns *= 100;
			ping_stats_add(&s, &r, &allowance);
		}
		buffer_clear(&out);
		ping_histogram(&s, &look, &out);
		for (char *line = strchr(out.data + 1, '\n') + 1, *end; (end = strchr(line, '\n')); line = end + 1, rows++) {
			size_t columns = 0;
			char *last = end;

			for (char *c = line; c < end; c++)
				columns += (*c & 0xc0) != 0x80;
			assert_true(columns <= look.width);
			while (last > line && last[-1] != ' ')
				last--;
			/* A row without a bar ends with its label. */
			if (end > line && strpbrk(line, look.utf8 ? "\xe2" : "#") && strpbrk(line, look.utf8 ? "\xe2" : "#") < end)
				sum += strtoull(last, NULL, 10);
		}
		assert_int_equal(sum, n + s.timed_out);
		assert_true(rows > 0 && rows <= 22);
		ping_stats_done(&s);
	}
	buffer_done(&out);
}

static void test_pictures(void **state)
{
	struct ping_look look = { .width = 40 };
	struct ping_stats s = { .timed_out = 1 };
	struct buffer out = BUFFER_INIT;
	size_t allowance = SIZE_MAX;
	struct probe_result r;

	for (uint64_t i = 0; i < 20; i++) {
		r = answer(0, i < 19 ? MS + i % 3 * 10000 : 30 * MS);
		ping_stats_add(&s, &r, &allowance);
	}
	ping_histogram(&s, &look, &out);
	assert_line(&out, "\n  from ms\n"
			  "    1.000 ############################ 7\n"
			  "    1.002\n"
			  "    1.004\n"
			  "    1.006\n"
			  "    1.008\n"
			  "    1.010 ######################## 6\n"
			  "    1.012\n"
			  "    1.014\n"
			  "    1.016\n"
			  "    1.018\n"
			  "    1.020 ######################## 6\n"
			  "  > 1.022 #### 1\n"
			  "no answer #### 1\n");
	ping_stats_done(&s);
	s = (struct ping_stats){ 0 };
	for (uint64_t rtt = 1000; rtt < 1000000000; rtt *= 10) {
		r = answer(0, rtt);
		ping_stats_add(&s, &r, &allowance);
	}
	look.utf8 = true;
	ping_histogram(&s, &look, &out);
	assert_non_null(strstr(out.data, "\n  0.001 \xe2\x96\x88"));
	assert_non_null(strstr(out.data, "\n  0.002\n  0.005\n   0.01 "));
	ping_stats_done(&s);
	buffer_done(&out);
}

static void test_json(void **state)
{
	struct ping_options stamp = icmp;
	struct buffer out = BUFFER_INIT;
	struct ping_hosts hosts;
	struct probe_result r = answer(4, 2000000), none = { .outcome = PROBE_UNREACHABLE, .error = EMSGSIZE, .sequence = 5 };
	json_t *o, *host;

	stamp.protocol = PROBE_STAMP;
	stamp.paths = 2;
	make_hosts(&hosts, 2, &stamp);
	r.stamp = r.has_residence = true;
	r.residence_ns = 500000;
	feed(hosts.paths + 1, &r);
	feed(hosts.paths + 1, &none);
	assert_int_equal(ping_json_result(hosts.paths + 1, &r, &stamp, (wall_time){ 1500000000 }, &out), 0);
	assert_string_equal(out.data, "{\"type\":\"probe\",\"host\":\"10.0.0.1\",\"address\":\"10.0.0.1\",\"protocol\":\"stamp\",\"port\":862,\"path\":2,"
				      "\"sequence\":5,\"sent\":1.5,\"outcome\":\"answered\",\"rtt_seconds\":0.0015,\"timestamp\":\"tc\","
				      "\"residence_seconds\":0.0005}\n");
	buffer_clear(&out);
	assert_int_equal(ping_json_result(hosts.paths + 1, &none, &stamp, (wall_time){ 0 }, &out), 0);
	assert_non_null(strstr(out.data, "\"outcome\":\"unreachable\",\"error\":\"packet_too_big\",\"reason\":\"Packet too big for the way\"}\n"));
	buffer_clear(&out);
	ping_hosts_sum(&hosts);
	assert_int_equal(ping_json_summary(&hosts, &stamp, (wall_time){ 0 }, 3000000000, &out), 0);
	o = json_loads(out.data, 0, NULL);
	assert_non_null(o);
	assert_true(strchr(out.data, '\n') == out.data + out.len - 1);
	host = json_array_get(json_object_get(o, "hosts"), 0);
	assert_int_equal(json_integer_value(json_object_get(host, "sent")), 2);
	assert_int_equal(json_integer_value(json_object_get(host, "received")), 1);
	assert_int_equal(json_integer_value(json_object_get(host, "lost")), 1);
	assert_int_equal(json_integer_value(json_object_get(host, "one_way_unknown")), 1);
	assert_true(json_real_value(json_object_get(host, "loss_ratio")) == 0.5);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(host, "errors"), "packet_too_big")), 1);
	assert_true(json_real_value(json_object_get(json_object_get(host, "rtt_seconds"), "p50")) == 0.0015);
	assert_int_equal(json_array_size(json_object_get(host, "paths")), 2);
	/* Nothing was sent to it yet. */
	host = json_array_get(json_object_get(o, "hosts"), 1);
	assert_true(json_is_null(json_object_get(host, "loss_ratio")));
	assert_null(json_object_get(host, "rtt_seconds"));
	json_decref(o);
	ping_hosts_done(&hosts);
	buffer_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split),	       cmocka_unit_test(test_hosts),	       cmocka_unit_test(test_stats),
		cmocka_unit_test(test_lines),	       cmocka_unit_test(test_percent),	       cmocka_unit_test(test_summary_of_one),
		cmocka_unit_test(test_summary_of_many), cmocka_unit_test(test_histogram),      cmocka_unit_test(test_pictures),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
