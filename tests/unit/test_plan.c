/* SPDX-License-Identifier: Apache-2.0 */
/* What is taken of a plan, and what is refused with which words; and the fetching, from a server that changes its mind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "agent/probe/plan.h"
#include "lib/clock.h"
#include "lib/http.h"
#include "lib/settings.h"

#define HEAD "{\"version\": 1, \"targets\": ["
#define TAIL "]}"

static const unsigned only_stamp_and_tcp[] = { SETTINGS_PROBE_STAMP, SETTINGS_PROBE_TCP };

static bool taken(const char *name, void *userdata)
{
	return !strcmp(name, userdata);
}

static struct plan_bounds bounds_of_test(void)
{
	static struct prefix ten;

	assert_int_equal(prefix_parse("10.0.0.0/8", &ten, NULL), 0);
	return (struct plan_bounds){
		.targets_max = 3, .paths_max = 32, .min_interval_ns = NS_PER_SEC, .networks = &ten, .n_networks = 1,
		.protocols = only_stamp_and_tcp, .n_protocols = 2,
		.protocol = SETTINGS_PROBE_STAMP, .interval_ns = 2 * NS_PER_SEC, .paths = 1, .taken = taken, .userdata = (void *)"mine",
	};
}

static struct plan parse(const char *text, const struct plan_bounds *bounds)
{
	struct error error = { "" };
	struct plan plan;
	int r = plan_parse(text, strlen(text), bounds, &plan, &error);

	if (r)
		print_message("%s: %s\n", text, error.text);
	assert_int_equal(r, 0);
	return plan;
}

static void test_good(void **state)
{
	struct plan_bounds bounds = bounds_of_test();
	struct plan plan = parse(HEAD "{\"name\": \"host-b\", \"address\": \"10.0.0.2\", \"protocol\": \"tcp\", \"port\": 80, \"interval_s\": 1.5, "
				      "\"paths\": 4, \"colour\": \"of a later version\"}, {\"name\": \"h\xc3\xb6st\", \"address\": \"10.0.0.3\"}" TAIL, &bounds);
	struct address address;

	assert_int_equal(plan.n, 2);
	assert_string_equal(plan.targets[0].name, "host-b");
	assert_int_equal(address_parse("10.0.0.2", &address), 0);
	assert_int_equal(address_compare(&plan.targets[0].address, &address), 0);
	assert_int_equal(plan.targets[0].protocol, SETTINGS_PROBE_TCP);
	assert_int_equal(plan.targets[0].port, 80);
	assert_int_equal(plan.targets[0].interval_ns, 1500000000);
	assert_int_equal(plan.targets[0].paths, 4);
	assert_string_equal(plan.targets[1].name, "h\xc3\xb6st");
	assert_int_equal(plan.targets[1].protocol, SETTINGS_PROBE_STAMP);
	assert_int_equal(plan.targets[1].port, 0);
	assert_int_equal(plan.targets[1].interval_ns, 2 * NS_PER_SEC);
	assert_int_equal(plan.targets[1].paths, 1);
	for (size_t i = 0; i < PLAN_REFUSED_COUNT; i++)
		assert_int_equal(plan.refused[i], 0);
	plan_done(&plan);
	plan = parse("{\"targets\": [], \"version\": 1, \"more\": {}}", &bounds);
	assert_int_equal(plan.n, 0);
	plan_done(&plan);
}

/* Without bounds of their own all addresses and protocols are fine. */
static void test_no_bounds(void **state)
{
	struct plan_bounds bounds = { .targets_max = 10, .paths_max = 32, .interval_ns = NS_PER_SEC, .paths = 1 };
	struct plan plan = parse(HEAD "{\"name\": \"a\", \"address\": \"192.0.2.1\", \"protocol\": \"icmp\"}, "
				      "{\"name\": \"mine\", \"address\": \"2001:db8::1\"}" TAIL, &bounds);

	assert_int_equal(plan.n, 2);
	plan_done(&plan);
}

/* One entry: why it is refused, and the sentence. */
static const struct { const char *entry; enum plan_refused why; const char *example; } refused[] = {
	{ "5", PLAN_MALFORMED, "a target has no usable name" },
	{ "null", PLAN_MALFORMED, "a target has no usable name" },
	{ "{}", PLAN_MALFORMED, "a target has no usable name" },
	{ "{\"name\": 5, \"address\": \"10.0.0.2\"}", PLAN_MALFORMED, "a target has no usable name" },
	{ "{\"name\": \"\", \"address\": \"10.0.0.2\"}", PLAN_MALFORMED, "a target has no usable name" },
	{ "{\"name\": \"a\\nb\", \"address\": \"10.0.0.2\"}", PLAN_MALFORMED, "a target has no usable name" },
	{ "{\"name\": \"other\", \"address\": \"10.0.0.2\"}", PLAN_MALFORMED, "a target has no usable name" },
	{ "{\"name\": \"a\"}", PLAN_MALFORMED, "a has no address that can be read" },
	{ "{\"name\": \"a\", \"address\": \"host.example.org\"}", PLAN_MALFORMED, "a has no address that can be read" },
	{ "{\"name\": \"a\", \"address\": [\"10.0.0.2\"]}", PLAN_MALFORMED, "a has no address that can be read" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"protocol\": \"udp\"}", PLAN_MALFORMED, "the protocol of a is none of icmp, stamp and tcp" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"protocol\": 1}", PLAN_MALFORMED, "the protocol of a is none of icmp, stamp and tcp" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"port\": 0}", PLAN_MALFORMED, "a has a port that cannot be" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"port\": 65536}", PLAN_MALFORMED, "a has a port that cannot be" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"port\": 8.5}", PLAN_MALFORMED, "a has a port that cannot be" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"paths\": 33}", PLAN_MALFORMED, "the paths of a are not 1 to 32" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"paths\": -1}", PLAN_MALFORMED, "the paths of a are not 1 to 32" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"interval_s\": 0}", PLAN_MALFORMED, "the interval of a is no number of seconds" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"interval_s\": -1}", PLAN_MALFORMED, "the interval of a is no number of seconds" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"interval_s\": \"1s\"}", PLAN_MALFORMED, "the interval of a is no number of seconds" },
	{ "{\"name\": \"mine\", \"address\": \"10.0.0.2\"}", PLAN_NAME, "the name mine is taken" },
	{ "{\"name\": \"a\", \"address\": \"192.0.2.1\"}", PLAN_ADDRESS, "192.0.2.1, the address of a, is in none of probe.plan.networks" },
	{ "{\"name\": \"a\", \"address\": \"224.0.0.1\"}", PLAN_ADDRESS, "a has an address that is no single host's, 224.0.0.1" },
	{ "{\"name\": \"a\", \"address\": \"0.0.0.0\"}", PLAN_ADDRESS, "a has an address that is no single host's, 0.0.0.0" },
	{ "{\"name\": \"a\", \"address\": \"::\"}", PLAN_ADDRESS, "a has an address that is no single host's, ::" },
	{ "{\"name\": \"a\", \"address\": \"ff02::1\"}", PLAN_ADDRESS, "a has an address that is no single host's, ff02::1" },
	{ "{\"name\": \"a\", \"address\": \"fe80::1\"}", PLAN_ADDRESS, "a has an address that is no single host's, fe80::1" },
	{ "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"protocol\": \"icmp\"}", PLAN_PROTOCOL, "icmp, the protocol of a, is none of probe.plan.protocols" },
};

static void test_refused(void **state)
{
	struct plan_bounds bounds = bounds_of_test();

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		char text[512];
		struct plan plan;

		/* What stands around it is taken. */
		snprintf(text, sizeof(text), HEAD "{\"name\": \"x\", \"address\": \"10.0.0.9\"}, %s, {\"name\": \"y\", \"address\": \"10.0.0.9\"}" TAIL,
			 refused[i].entry);
		plan = parse(text, &bounds);
		if (plan.n != 2 || strcmp(plan.example[refused[i].why], refused[i].example))
			print_message("%s: %zu, %s\n", text, plan.n, plan.example[refused[i].why]);
		assert_int_equal(plan.n, 2);
		for (size_t why = 0; why < PLAN_REFUSED_COUNT; why++)
			assert_int_equal(plan.refused[why], why == refused[i].why);
		assert_string_equal(plan.example[refused[i].why], refused[i].example);
		plan_done(&plan);
	}
}

static void test_intervals(void **state)
{
	struct plan_bounds bounds = bounds_of_test();
	struct plan plan = parse(HEAD "{\"name\": \"a\", \"address\": \"10.0.0.2\", \"interval_s\": 0.01}, "
				      "{\"name\": \"b\", \"address\": \"10.0.0.2\", \"interval_s\": 1e300}, "
				      "{\"name\": \"c\", \"address\": \"10.0.0.2\", \"interval_s\": 1}" TAIL, &bounds);

	assert_int_equal(plan.n, 3);
	assert_int_equal(plan.targets[0].interval_ns, NS_PER_SEC);
	assert_int_equal(plan.targets[1].interval_ns, 3600 * NS_PER_SEC);
	assert_int_equal(plan.targets[2].interval_ns, NS_PER_SEC);
	assert_int_equal(plan.refused[PLAN_INTERVAL], 1);
	assert_string_equal(plan.example[PLAN_INTERVAL], "a would be probed more often than probe.plan.min_interval allows");
	plan_done(&plan);
}

static void test_too_many_and_doubles(void **state)
{
	struct plan_bounds bounds = bounds_of_test();
	struct plan plan = parse(HEAD "{\"name\": \"a\", \"address\": \"10.0.0.1\"}, {\"name\": \"b\", \"address\": \"10.0.0.2\"}, "
				      "{\"name\": \"a\", \"address\": \"10.0.0.3\"}, {\"name\": \"d\", \"address\": \"10.0.0.4\"}, "
				      "{\"name\": \"e\", \"address\": \"10.0.0.5\"}" TAIL, &bounds);

	assert_int_equal(plan.n, 2);
	assert_string_equal(plan.targets[0].name, "a");
	assert_int_equal(plan.targets[0].address.bytes[15], 1);
	assert_string_equal(plan.targets[1].name, "b");
	assert_int_equal(plan.refused[PLAN_NAME], 1);
	assert_int_equal(plan.refused[PLAN_TOO_MANY], 2);
	assert_string_equal(plan.example[PLAN_TOO_MANY], "only 3 targets are allowed by probe.plan.targets");
	plan_done(&plan);
	bounds.targets_max = 0;
	plan = parse(HEAD "{\"name\": \"a\", \"address\": \"10.0.0.1\"}" TAIL, &bounds);
	assert_int_equal(plan.n, 0);
	plan_done(&plan);
}

static void test_no_plan(void **state)
{
	static const struct { const char *text, *reason; } cases[] = {
		{ "", "it is not JSON: line 1: '[' or '{' expected near end of file" },
		{ "<html>", "it is not JSON: line 1: '[' or '{' expected near '<'" },
		{ "[]", "it is no object with `version` and `targets`" },
		{ "{}", "it is no object with `version` and `targets`" },
		{ "{\"version\": 1}", "it is no object with `version` and `targets`" },
		{ "{\"version\": 1, \"targets\": {}}", "it is no object with `version` and `targets`" },
		{ "{\"version\": \"1\", \"targets\": []}", "it is no object with `version` and `targets`" },
		{ "{\"version\": 2, \"targets\": []}", "its version is 2, and this agent knows version 1" },
		{ "{\"version\": 1, \"version\": 1, \"targets\": []}", "it is not JSON: line 1: duplicate object key near '\"version\"'" },
	};
	struct plan_bounds bounds = bounds_of_test();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct error error = { "" };
		struct plan plan;

		assert_int_equal(plan_parse(cases[i].text, strlen(cases[i].text), &bounds, &plan, &error), -EINVAL);
		assert_string_equal(error.text, cases[i].reason);
	}
}

/* What would take a hundred times its size of memory is not read at all; a plan that is only too long is. */
static void test_hostile(void **state)
{
	static const char entry[] = "{\"name\": \"a\", \"address\": \"10.0.0.1\", \"port\": 1, \"interval_s\": 1, \"paths\": 1},";
	struct plan_bounds bounds = bounds_of_test();
	const size_t len = 2 * (PLAN_VALUES_MAX(bounds.targets_max) + 1), entries = PLAN_VALUES_MAX(bounds.targets_max) / 6 - 10;
	char *text = malloc(len + entries * strlen(entry) + 100), *end = text;
	struct error error = { "" };
	struct plan plan;

	assert_non_null(text);
	end += sprintf(end, HEAD);
	for (size_t i = 0; i < entries; i++)
		end += sprintf(end, "%s", entry);
	end += sprintf(end, "0" TAIL);
	plan = parse(text, &bounds);
	assert_int_equal(plan.n, 1);
	assert_int_equal(plan.refused[PLAN_TOO_MANY], entries + 1 - bounds.targets_max);
	plan_done(&plan);
	memset(text, '[', len);
	assert_int_equal(plan_parse(text, len, &bounds, &plan, &error), -EINVAL);
	assert_string_equal(error.text, "it has more than 65584 values, far more than the 3 targets of probe.plan.targets take");
	free(text);
}

/* Fetching */

struct server {
	struct loop *loop;
	struct http_server *http;
	struct plan_source *source;
	struct loop_timer *deadline;
	const char *const *answers; /* one after the other; "": status 503; after the last one the loop ends */
	unsigned asked;
	uint64_t interval_ns;
	char came[200];             /* what the source handed on, in brackets */
	const char *unreadable;     /* this text is refused */
};

static void serve(struct http_request *request, void *userdata)
{
	struct server *s = userdata;
	const char *answer = s->answers[s->asked];

	if (!answer) {
		loop_stop(s->loop);
		http_respond_text(request, 503, "the test is over");
		return;
	}
	s->asked++;
	if (*answer)
		http_respond(request, &(struct http_response){ .status = 200, .content_type = "application/json", .data = answer, .len = strlen(answer) });
	else
		http_respond_text(request, 503, "not now");
}

static void take(const char *text, size_t len, void *userdata)
{
	struct server *s = userdata;
	const size_t end = strlen(s->came);

	snprintf(s->came + end, sizeof(s->came) - end, "[%.*s]", (int)len, text);
	if (s->unreadable && !strcmp(text, s->unreadable))
		plan_source_refuse(s->source, "nobody can read this");
}

static void too_late(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct server *s = userdata;

	loop_stop(s->loop);
}

static void run(struct server *s)
{
	static const char *const listen[] = { "127.0.0.1:0" };
	const struct http_route routes[] = { { "GET", "/plan", serve, s }, { 0 } };
	const struct http_options options = { .listen = listen, .n_listen = 1, .routes = routes, .userdata = s };
	char url[64];

	if (!s->loop)
		assert_int_equal(loop_new(&s->loop), 0);
	assert_int_equal(http_open(s->loop, &options, &s->http, NULL), 0);
	assert_int_equal(loop_timer_new(s->loop, too_late, s, &s->deadline), 0);
	assert_int_equal(loop_timer_start(s->deadline, 20 * NS_PER_SEC, 0), 0);
	snprintf(url, sizeof(url), "http://%s/plan", http_listen_address(s->http, 0));
	assert_int_equal(plan_source_new(s->loop, url, s->interval_ns ? s->interval_ns : 5 * NS_PER_MS, take, s, &s->source, NULL), 0);
	assert_int_equal(loop_run(s->loop), 0);
	assert_null(s->answers[s->asked]);
}

static void end(struct server *s)
{
	plan_source_free(s->source);
	http_close(s->http);
	loop_free(s->loop);
}

static void test_fetching(void **state)
{
	static const char *const answers[] = { "A", "A", "", "A", "B", "", "", "A", "damaged", "damaged", "B", NULL };
	struct server server = { .answers = answers, .unreadable = "damaged" };
	uint64_t fetched, failed;
	const char *text;
	size_t len;

	run(&server);
	/* Each text once while it is the same. */
	assert_string_equal(server.came, "[A][B][A][damaged][B]");
	plan_source_counts(server.source, &fetched, &failed);
	assert_int_equal(fetched, 8);
	assert_int_equal(failed, 3 + 1);
	text = plan_source_text(server.source, &len);
	assert_int_equal(len, 1);
	assert_string_equal(text, "B");
	end(&server);
}

static void test_nobody_there(void **state)
{
	static const char *const answers[] = { "A", NULL };
	struct server server = { .answers = answers };
	uint64_t fetched, failed = 0;

	run(&server);
	http_close(server.http);
	server.http = NULL;
	/* Goes on asking, and keeps what it has. */
	assert_int_equal(loop_timer_start(server.deadline, 200 * NS_PER_MS, 0), 0);
	assert_int_equal(loop_run(server.loop), 0);
	plan_source_counts(server.source, &fetched, &failed);
	assert_int_equal(fetched, 1);
	assert_true(failed > 3);
	assert_string_equal(server.came, "[A]");
	end(&server);
}

static void change_interval(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct server *s = userdata;

	assert_string_equal(s->came, "[A]");
	plan_source_interval(s->source, 5 * NS_PER_MS);
}

/* Another interval is in force at once, and what came before is known still. */
static void test_interval(void **state)
{
	static const char *const answers[] = { "A", "A", "B", NULL };
	struct server server = { .answers = answers, .interval_ns = 3600 * NS_PER_SEC };
	struct loop_timer *timer;

	assert_int_equal(loop_new(&server.loop), 0);
	assert_int_equal(loop_timer_new(server.loop, change_interval, &server, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 200 * NS_PER_MS, 0), 0);
	run(&server);
	assert_string_equal(server.came, "[A][B]");
	loop_timer_free(timer);
	end(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),      cmocka_unit_test(test_no_bounds),            cmocka_unit_test(test_refused),
		cmocka_unit_test(test_intervals), cmocka_unit_test(test_too_many_and_doubles), cmocka_unit_test(test_no_plan),
		cmocka_unit_test(test_hostile),   cmocka_unit_test(test_fetching),             cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_interval),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
