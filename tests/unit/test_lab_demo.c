/* SPDX-License-Identifier: Apache-2.0 */
/* The demonstration network's tables, its commands, its tour, and what its name server answers. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <cmocka.h>
#include "lab/impair.h"
#include "lab/scenario.h"
#include "lab/traffic_internal.h"

static void test_tables(void **state)
{
	struct error error;
	for (size_t i = 0; i < scenario_n_hosts; i++) {
		struct impair impair = { 0 };
		if (impair_parse(scenario_hosts[i].link, &impair, &error) < 0)
			fail_msg("%s: %s", scenario_hosts[i].name, error.text);
		assert_true(impair.delay_ns > 0 && impair.rate_bps > 0);
		assert_int_equal(topology_find(scenario_hosts, scenario_n_hosts, scenario_hosts[i].name, NULL), i);
	}
	for (size_t i = 0; i < scenario_n_faults; i++) {
		const struct fault *fault = &scenario_faults[i];
		struct impair impair = { 0 };
		assert_int_equal(scenario_find(fault->name, NULL), i);
		assert_true(topology_find(scenario_hosts, scenario_n_hosts, fault->host, NULL) >= 0);
		if (fault->settings && impair_parse(fault->settings, &impair, &error) < 0)
			fail_msg("%s: %s", fault->name, error.text);
		assert_true(fault->settings || fault->value);
	}
	/* A name of both would make `stop NAME` ambiguous. */
	for (size_t i = 0; i < scenario_n_faults; i++)
		assert_int_equal(topology_find(scenario_hosts, scenario_n_hosts, scenario_faults[i].name, NULL), -ENOENT);
}

static void test_tour(void **state)
{
	uint64_t last = 0;
	for (uint64_t i = 0; i < 4 * scenario_n_faults; i++) {
		struct scenario_step step = scenario_step(i);
		assert_int_equal(step.begins, i % 2 == 0);
		assert_int_equal(step.fault, i / 2 % scenario_n_faults);
		assert_int_equal(step.at_ns - last, step.begins ? SCENARIO_QUIET_NS : SCENARIO_FAULT_NS);
		last = step.at_ns;
	}
}

static void test_commands(void **state)
{
	static const struct { const char *line; enum command_kind kind; size_t index; const char *text; } good[] = {
		{ "", COMMAND_NONE, 0, "" },
		{ " \t\r\n", COMMAND_NONE, 0, "" },
		{ "help", COMMAND_HELP, 0, "" },
		{ "status\n", COMMAND_STATUS, 0, "" },
		{ "quit", COMMAND_QUIT, 0, "" },
		{ "stop", COMMAND_STOP, 0, "" },
		{ "loss", COMMAND_FAULT, 0, "" },
		{ "  loss   web\t5% ", COMMAND_LINK, 2, "both loss=5%" },
		{ "delay site-b 50ms", COMMAND_LINK, 5, "both delay=50ms" },
		{ "reorder client-a 1/10", COMMAND_LINK, 0, "both reorder=1/10" },
		{ "stop loss", COMMAND_STOP_FAULT, 0, "" },
		{ "stop site-b", COMMAND_STOP_LINK, 5, "" },
	};
	static const struct { const char *line, *message; } bad[] = {
		{ "hlep", "unknown command `hlep`; did you mean `help`?" },
		{ "slow-dsn", "unknown command `slow-dsn`; did you mean `slow-dns`?" },
		{ "zzzzzzzz", "unknown command `zzzzzzzz`; `help` lists them" },
		{ "loss web", "expected `loss HOST VALUE`" },
		{ "delay", "expected `delay HOST VALUE`" },
		{ "loss wbe 5%", "there is no host `wbe`; did you mean `web`?" },
		{ "loss web 5", "loss: expected a share such as 1% or 1/100, not `5`" },
		{ "loss web 5% now", "too many words behind `loss`" },
		{ "slow-dns now", "too many words behind `slow-dns`" },
		{ "stop everything", "`everything` is neither a fault nor a host" },
		{ "stop site-b now", "too many words behind `stop`" },
	};
	struct command command;
	struct error error;
	char longest[1000];
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		if (command_parse(good[i].line, &command, &error) < 0)
			fail_msg("%s: %s", good[i].line, error.text);
		assert_int_equal(command.kind, good[i].kind);
		assert_int_equal(command.index, good[i].index);
		assert_string_equal(command.text, good[i].text);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		assert_int_equal(command_parse(bad[i].line, &command, &error) < 0, 1);
		assert_string_equal(error.text, bad[i].message);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(command_parse(longest, &command, &error), -EINVAL);
}

/* A query as resolvers send it: one question, recursion desired, EDNS behind it. */
static size_t query_make(const char *name, unsigned type, uint8_t query[static 512])
{
	static const uint8_t head[] = { 0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1 };
	static const uint8_t edns[] = { 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0 };
	size_t at = sizeof(head);
	memcpy(query, head, sizeof(head));
	while (*name) {
		size_t len = strcspn(name, ".");
		query[at++] = (uint8_t)len;
		memcpy(query + at, name, len);
		at += len;
		name += len + (name[len] == '.');
	}
	query[at++] = 0;
	const uint8_t tail[] = { 0, (uint8_t)type, 0, 1 };
	memcpy(query + at, tail, sizeof(tail));
	memcpy(query + at + sizeof(tail), edns, sizeof(edns));
	return at + sizeof(tail) + sizeof(edns);
}

static const char *const names[] = { "client-a", "web" };

static size_t ask(const char *name, unsigned type, uint8_t out[static 512])
{
	uint8_t query[512];
	size_t len = query_make(name, type, query), n = named_answer(query, len, names, 2, out);
	assert_true(n >= 12 && n <= 512);
	assert_memory_equal(out, query, 2);             /* the id */
	assert_int_equal(out[2], 0x85);                 /* answer, authoritative, recursion desired */
	assert_memory_equal(out + 4, "\0\1", 2);        /* the question again, and nothing of EDNS */
	assert_memory_equal(out + 8, "\0\0\0\0", 4);
	assert_memory_equal(out + 12, query + 12, len - 12 - 11);
	return n;
}

static void test_names(void **state)
{
	uint8_t out[512], address[16];
	size_t n = ask("web.lab", 1, out);
	inet_pton(AF_INET, "198.18.2.2", address);
	assert_int_equal(out[3], 0x80);
	assert_int_equal(out[7], 1);
	assert_memory_equal(out + n - 4, address, 4);
	n = ask("WEB", 28, out);
	inet_pton(AF_INET6, "2001:db8:2::2", address);
	assert_int_equal(out[7], 1);
	assert_memory_equal(out + n - 16, address, 16);
	ask("web.lab", 16, out);                        /* no such record */
	assert_true(out[3] == 0x80 && !out[7]);
	ask("nobody.lab", 1, out);
	assert_true(out[3] == 0x83 && !out[7]);
	ask("web.example", 1, out);
	assert_true(out[3] == 0x83 && !out[7]);
}

static void test_bad_queries(void **state)
{
	uint8_t query[512], out[512], copy[512];
	size_t len = query_make("web.lab", 1, query);
	for (size_t cut = 0; cut < 12 + 9 + 4; cut++) { /* from a copy of just that size, for the sanitizer */
		uint8_t *exact = malloc(cut ? cut : 1);
		memcpy(exact, query, cut);
		assert_int_equal(named_answer(exact, cut, names, 2, out), 0);
		free(exact);
	}
	memcpy(copy, query, len);
	copy[2] |= 0x80; /* an answer: two servers must not talk to each other */
	assert_int_equal(named_answer(copy, len, names, 2, out), 0);
	memcpy(copy, query, len);
	copy[5] = 2;
	assert_int_equal(named_answer(copy, len, names, 2, out), 0);
	memcpy(copy, query, len);
	copy[12] = 0xc0; /* a pointer in the question */
	assert_int_equal(named_answer(copy, len, names, 2, out), 0);
	memcpy(copy, query, len);
	copy[12] = 63; /* a label beyond the end */
	assert_int_equal(named_answer(copy, len, names, 2, out), 0);
	memset(copy + 12, 1, sizeof(copy) - 12); /* labels without an end */
	assert_int_equal(named_answer(copy, sizeof(copy), names, 2, out), 0);
	srand(1);
	for (int i = 0; i < 20000; i++) {
		memcpy(copy, query, len);
		for (int k = 0; k < 3; k++)
			copy[(size_t)rand() % len] = (uint8_t)rand();
		assert_true(named_answer(copy, len, names, 2, out) <= 512);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tables), cmocka_unit_test(test_tour), cmocka_unit_test(test_commands),
		cmocka_unit_test(test_names), cmocka_unit_test(test_bad_queries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
