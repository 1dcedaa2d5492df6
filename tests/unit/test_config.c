/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration reader: what every kind of mistake is answered with, word for
 * word; what good files load to; and what the example loads to. The schema engine
 * by itself is tested in test_config_engine.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "config_bad_inputs.h"
#include "config_messages.h"
#include "lib/config.h"
#include "lib/settings.h"

static void expect_bad(const char *text, size_t len, const char *messages)
{
	struct settings settings, zero;
	struct buffer errors = BUFFER_INIT, got = BUFFER_INIT;
	memset(&settings, 0xaa, sizeof(settings));
	memset(&zero, 0, sizeof(zero));
	assert_int_equal(settings_parse(text, len, "t.yaml", &settings, &errors), -EINVAL);
	messages_of(&errors, &got);
	assert_string_equal(got.data ? got.data : "", messages);
	assert_memory_equal(&settings, &zero, sizeof(zero));
	buffer_done(&errors);
	buffer_done(&got);
}

static void test_bad_inputs(void **state)
{
	for (size_t i = 0; i < sizeof(bad_inputs) / sizeof(*bad_inputs); i++)
		expect_bad(bad_inputs[i].text, strlen(bad_inputs[i].text), bad_inputs[i].messages);
	print_message("# %zu bad inputs\n", sizeof(bad_inputs) / sizeof(*bad_inputs));
}

/* Whether a prefix is good is prefix_parse's affair, and so is the sentence about it. */
static void test_bad_prefixes(void **state)
{
	static const char *const texts[] = {"10.0.0.1/8", "10.0.0.0/33",  "10.0.0.0/", "foo",
					    "5",	  "fd00::1::/64", "1.2.3"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		char text[128], messages[1200];
		struct prefix prefix;
		struct error error = { 0 };
		assert_int_equal(prefix_parse(texts[i], &prefix, &error), -EINVAL);
		snprintf(text, sizeof(text), "networks: {web: [%s]}\n", texts[i]);
		snprintf(messages, sizeof(messages), "1:18: %s\n", error.text);
		expect_bad(text, strlen(text), messages);
	}
}

static void test_bad_bytes(void **state)
{
	static const struct { const char *text; size_t len; const char *messages; } cases[] = {
		{ "collect: {}\n\0", 13, "2:1: this is not a text file: it contains a NUL byte\n" },
		{ "\x7f" "ELF\2\1\1\0\0", 9, "1:1: control character 0x7f is not allowed here\n" },
		{ "# caf\xe9\n", 7, "1:6: byte 0xe9 is not UTF-8; save the file as UTF-8\n" },
		{ "# \xc0\xaf\n", 5, "1:3: byte 0xc0 is not UTF-8; save the file as UTF-8\n" },
		{ "# \xed\xa0\x80\n", 6, "1:3: byte 0xed is not UTF-8; save the file as UTF-8\n" },
		{ "# \xf4\x90\x80\x80\n", 7, "1:3: byte 0xf4 is not UTF-8; save the file as UTF-8\n" },
		{ "# \xe2\x82", 4, "1:3: byte 0xe2 is not UTF-8; save the file as UTF-8\n" },
		{ "\xff\xfe" "a\0:\0", 6, "1:1: this is UTF-16; save the file as UTF-8\n" },
		{ "\xfe\xff\0a\0:", 6, "1:1: this is UTF-16; save the file as UTF-8\n" },
		{ "# \x1b[2J\n", 7, "1:3: control character 0x1b is not allowed here\n" },
		{ "# \xc2\x9b\n", 5, "1:3: control character 0x9b is not allowed here\n" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		expect_bad(cases[i].text, cases[i].len, cases[i].messages);
}

static void expect_output(const char *text, const char *output)
{
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	assert_int_equal(settings_parse(text, strlen(text), "t.yaml", &settings, &errors), -EINVAL);
	assert_string_equal(errors.data, output);
	buffer_done(&errors);
}

static void test_all_errors_at_once(void **state)
{
	expect_output("server:\n"
		      "  scrape:\n"
		      "    intervall: 2s\n"
		      "collect:\n"
		      "  top_peers: 5000\n"
		      "  tick: 5\n"
		      "networks: {a: [10.0.0.0/8], b: [10.0.0.0/8]}\n",
		      "t.yaml:3:5: error: unknown key `intervall` in `server.scrape`; did you mean `interval`?\n"
		      "    intervall: 2s\n"
		      "    ^~~~~~~~~\n"
		      "t.yaml:5:14: error: `top_peers` must be 0 to 4096, not 5000\n"
		      "  top_peers: 5000\n"
		      "             ^~~~\n"
		      "t.yaml:6:9: error: expected a duration such as 1s or 250ms, not `5`; write `5s`\n"
		      "  tick: 5\n"
		      "        ^\n"
		      "t.yaml:7:33: error: duplicate prefix `10.0.0.0/8`; it is first used on line 7\n"
		      "networks: {a: [10.0.0.0/8], b: [10.0.0.0/8]}\n"
		      "                                ^~~~~~~~~~\n"
		      "t.yaml: 4 errors\n");
}

static void test_carets(void **state)
{
	/* A tab before the caret is repeated, a character of several bytes takes one column, CR LF is one line end. */
	expect_output("collect:\t{tick:\t5s0}\r\n",
		      "t.yaml:1:17: error: expected a duration such as 1s or 250ms, not `5s0`\n"
		      "collect:\t{tick:\t5s0}\n"
		      "        \t      \t^~~\n"
		      "t.yaml: 1 error\n");
	expect_output("networks: {\"\xc3\xa4\xe2\x82\xac\": [x\xc3\xa4]}\n",
		      "t.yaml:1:19: error: expected an address or prefix such as 10.1.0.0/16, not `x\xc3\xa4`\n"
		      "networks: {\"\xc3\xa4\xe2\x82\xac\": [x\xc3\xa4]}\n"
		      "                  ^~\n"
		      "t.yaml: 1 error\n");
	/* CR alone ends a line too. */
	expect_output("collect: {}\r\rtick: 1s\r\n",
		      "t.yaml:3:1: error: `tick` belongs under `collect`, not at the top level\n"
		      "tick: 1s\n"
		      "^~~~\n"
		      "t.yaml: 1 error\n");
}

static void test_long_lines(void **state)
{
	struct settings settings;
	struct buffer text = BUFFER_INIT, errors = BUFFER_INIT;
	buffer_puts(&text, "server: {store: {path: x}, ");
	for (int i = 0; i < 1000; i++)
		buffer_putc(&text, ' ');
	for (int i = 0; i < 100000; i++)
		buffer_putc(&text, 'k');
	buffer_puts(&text, ": 1}\n");
	assert_int_equal(settings_parse(text.data, text.len, "t.yaml", &settings, &errors), -EINVAL);
	assert_true(errors.len < 800);
	assert_non_null(strstr(errors.data, "t.yaml:1:1028: error: unknown key `kkkk"));
	assert_non_null(strstr(errors.data, "\n...   "));
	assert_non_null(strstr(errors.data, "kkk...\n"));
	buffer_done(&text);
	buffer_done(&errors);
}

static void test_many_errors(void **state)
{
	struct settings settings;
	struct buffer text = BUFFER_INIT, errors = BUFFER_INIT;
	for (int i = 0; i < 20000; i++)
		buffer_printf(&text, "key%d: 1\n", i);
	assert_int_equal(settings_parse(text.data, text.len, "t.yaml", &settings, &errors), -EINVAL);
	assert_true(errors.len < 10000);
	assert_non_null(strstr(errors.data, "t.yaml:50:1: error: unknown key `key49`"));
	assert_null(strstr(errors.data, "t.yaml:51:1:"));
	assert_non_null(strstr(errors.data, "\nt.yaml: 20000 errors (50 are shown)\n"));
	buffer_done(&text);
	buffer_done(&errors);
}

static struct settings load_good(const char *text)
{
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	int r = settings_parse(text, strlen(text), "t.yaml", &settings, &errors);
	if (r)
		print_message("%s\n%s", text, errors.data);
	assert_int_equal(r, 0);
	assert_int_equal(errors.len, 0);
	buffer_done(&errors);
	return settings;
}

static void assert_defaults(const struct settings *settings)
{
	assert_int_equal(settings->n_networks, 0);
	assert_null(settings->networks);
	assert_int_equal(settings->collect.tick_ns, UINT64_C(1000000000));
	assert_true(settings->collect.tcp);
	assert_int_equal(settings->collect.tcp_rtt, SETTINGS_RTT_PER_TICK);
	assert_int_equal(settings->collect.scope, SETTINGS_SCOPE_MACHINE);
	assert_false(settings->collect.udp || settings->collect.dns);
	assert_true(settings->collect.lookups && settings->collect.drops);
	assert_true(settings->collect.processes && settings->collect.interfaces);
	assert_int_equal(settings->collect.n_flows + settings->collect.n_namespaces, 0);
	assert_null(settings->collect.flows);
	assert_null(settings->collect.namespaces);
	assert_int_equal(settings->collect.memory_budget, 64000000);
	assert_int_equal(settings->collect.events_per_second, 100);
	assert_int_equal(settings->collect.top_peers, 100);
	assert_int_equal(settings->collect.series_budget, 20000);
	assert_int_equal(settings->collect.max_sockets, 262144);
	assert_false(settings_probe_wanted(settings));
	assert_int_equal(settings->probe.defaults.interval_ns, UINT64_C(1000000000));
	assert_int_equal(settings->probe.defaults.timeout_ns, UINT64_C(2000000000));
	assert_int_equal(settings->probe.budget.packets, 1000);
	assert_int_equal(settings->probe.budget.bytes, 1000000);
	assert_int_equal(settings->probe.reflector.port, 862);
	assert_int_equal(settings->probe.max_targets, 1000);
	assert_int_equal(settings->server.scrape.interval_ns, UINT64_C(1000000000));
	assert_int_equal(settings->server.scrape.timeout_ns, UINT64_C(10000000000));
	assert_int_equal(settings->server.scrape.n_targets, 0);
	assert_string_equal(settings->server.store.path, "netsonde.db");
	assert_int_equal(settings->server.store.retention_raw_ns, UINT64_C(172800000000000));
}

static void test_defaults(void **state)
{
	static const char *const texts[] = {"",
					    "\n",
					    "# nothing\n",
					    "\xef\xbb\xbf",
					    "---\n",
					    "--- {}\n...\n",
					    "~",
					    "{}",
					    "collect:\nserver:\nnetworks:\n",
					    "server: {scrape: {targets: }, store: ~}\ncollect: null\n",
					    "server:\n  scrape:\n    targets: []\n",
					    "collect: {tcp: {}, flows: [], namespaces: }\n",
					    "collect:\n  tcp: {rtt: per_tick}\n",
					    "%YAML 1.2\n---\nnetworks: {}\n"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct settings settings = load_good(texts[i]);
		assert_defaults(&settings);
		settings_done(&settings);
		settings_done(&settings);
	}
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	assert_int_equal(settings_load(NULL, &settings, &errors), 0);
	assert_defaults(&settings);
	settings_done(&settings);
	buffer_done(&errors);
}

static void test_example(void **state)
{
	struct buffer example = BUFFER_INIT;
	settings_write_example(&example);
	assert_true(buffer_ok(&example));
	struct settings settings = load_good(example.data);
	assert_defaults(&settings);
	settings_done(&settings);
	for (const char *line = example.data, *end; (end = strchr(line, '\n')); line = end + 1)
		assert_true(end - line <= 80);
	/* What it says "for example" must load too: uncomment it in place of the empty value. */
	static const struct { const char *key, *text; size_t n; } shown_keys[] = {
		{ "networks: ", "networks: %.*s\n", 2 },
		{ "targets: ", "probe: {targets: %.*s}\n", 1 },
		{ "reflect: ", "probe: {reflect: %.*s}\n", 1 },
		{ "protocols: ", "probe: {plan: {url: \"http://a/\", protocols: %.*s}}\n", 1 },
		{ "targets: [{name: host-a", "server: {scrape: {targets: [{name: host-a%.*s}}\n", 1 },
		{ "flows: ", "collect: {flows: %.*s}\n", 2 },
		{ "namespaces: ", "collect: {namespaces: %.*s}\n", 2 },
	};
	for (size_t i = 0; i < sizeof(shown_keys) / sizeof(*shown_keys); i++) {
		char mark[64];
		struct buffer text = BUFFER_INIT;
		snprintf(mark, sizeof(mark), "# Example: %s", shown_keys[i].key);
		const char *shown = strstr(example.data, mark);
		assert_non_null(shown);
		const char *value = shown + strlen(mark);
		buffer_printf(&text, shown_keys[i].text, (int)strcspn(value, "\n"), value);
		settings = load_good(text.data);
		assert_int_equal(settings.n_networks + settings.server.scrape.n_targets + settings.collect.n_flows +
				 settings.collect.n_namespaces + settings.probe.n_targets + settings.probe.n_reflect +
				 settings.probe.plan.n_protocols, shown_keys[i].n);
		settings_done(&settings);
		buffer_done(&text);
	}
	buffer_done(&example);
}

static void assert_prefix(const struct prefix *prefix, const char *text)
{
	struct prefix expected;
	assert_int_equal(prefix_parse(text, &expected, NULL), 0);
	assert_memory_equal(&prefix->address, &expected.address, sizeof(expected.address));
	assert_int_equal(prefix->bits, expected.bits);
}

static void test_good_values(void **state)
{
	struct settings settings = load_good(
		"networks:\n"
		"  web: [10.1.0.0/16]\n"
		"  \"my db\":\n"
		"    - 10.2.0.0/24\n"
		"    - fd00:2::/64\n"
		"    - ::1\n"
		"  empty:\n"
		"collect: {tick: 250ms, tcp: no, top_peers: 0, series_budget: 20k, max_sockets: 1M}\n"
		"server:\n"
		"  scrape:\n"
		"    interval: 1m30s\n"
		"    timeout: '1.5s'\n"
		"    targets:\n"
		"      - name: host-a\n"
		"        url: http://10.0.0.2:9435/metrics?x=1#y\n"
		"      - {url: \"https://user:p@[fd00::1]:443/\", name: 'h\xc3\xb6st b'}\n"
		"  store: {path: /var/lib/x y.db, retention: {raw: 1y}}\n");
	assert_int_equal(settings.n_networks, 3);
	assert_string_equal(settings.networks[0].name, "web");
	assert_int_equal(settings.networks[0].n_prefixes, 1);
	assert_prefix(&settings.networks[0].prefixes[0], "10.1.0.0/16");
	assert_string_equal(settings.networks[1].name, "my db");
	assert_int_equal(settings.networks[1].n_prefixes, 3);
	assert_prefix(&settings.networks[1].prefixes[1], "fd00:2::/64");
	assert_prefix(&settings.networks[1].prefixes[2], "::1");
	assert_int_equal(settings.networks[2].n_prefixes, 0);
	assert_int_equal(settings.collect.tick_ns, 250000000);
	assert_false(settings.collect.tcp);
	assert_int_equal(settings.collect.top_peers, 0);
	assert_int_equal(settings.collect.series_budget, 20000);
	assert_int_equal(settings.collect.max_sockets, 1000000);
	assert_int_equal(settings.server.scrape.interval_ns, UINT64_C(90000000000));
	assert_int_equal(settings.server.scrape.timeout_ns, UINT64_C(1500000000));
	assert_int_equal(settings.server.scrape.n_targets, 2);
	assert_string_equal(settings.server.scrape.targets[0].name, "host-a");
	assert_string_equal(settings.server.scrape.targets[0].url, "http://10.0.0.2:9435/metrics?x=1#y");
	assert_string_equal(settings.server.scrape.targets[1].name, "h\xc3\xb6st b");
	assert_string_equal(settings.server.scrape.targets[1].url, "https://user:p@[fd00::1]:443/");
	assert_string_equal(settings.server.store.path, "/var/lib/x y.db");
	assert_int_equal(settings.server.store.retention_raw_ns, UINT64_C(31536000000000000));
	settings_done(&settings);
	assert_null(settings.networks);
}

static void test_collect_values(void **state)
{
	struct settings settings = load_good(
		"collect:\n"
		"  scope: namespace\n"
		"  tcp: {rtt: every_ack}\n"
		"  udp: on\n"
		"  dns: yes\n"
		"  lookups: off\n"
		"  drops: no\n"
		"  processes: false\n"
		"  interfaces: off\n"
		"  flows: [abcdefghijklmno, \"12\", on]\n"
		"  namespaces:\n"
		"    - blue\n"
		"    - /proc/1/ns/net\n"
		"  memory_budget: 1GiB\n"
		"  events_per_second: 5k\n");
	assert_true(settings.collect.tcp && settings.collect.udp && settings.collect.dns);
	assert_int_equal(settings.collect.scope, SETTINGS_SCOPE_NAMESPACE);
	assert_int_equal(settings.collect.tcp_rtt, SETTINGS_RTT_EVERY_ACK);
	assert_false(settings.collect.lookups || settings.collect.drops);
	assert_false(settings.collect.processes || settings.collect.interfaces);
	assert_int_equal(settings.collect.n_flows, 3);
	assert_string_equal(settings.collect.flows[0], "abcdefghijklmno");
	assert_string_equal(settings.collect.flows[1], "12");
	assert_string_equal(settings.collect.flows[2], "on");
	assert_int_equal(settings.collect.n_namespaces, 2);
	assert_string_equal(settings.collect.namespaces[0], "blue");
	assert_string_equal(settings.collect.namespaces[1], "/proc/1/ns/net");
	assert_int_equal(settings.collect.memory_budget, 1 << 30);
	assert_int_equal(settings.collect.events_per_second, 5000);
	settings_done(&settings);
	assert_null(settings.collect.flows);
	assert_null(settings.collect.namespaces);
}

static void test_sizes(void **state)
{
	static const struct { const char *written; uint32_t bytes; } cases[] = {
		{ "64000000", 64000000 }, { "64000000B", 64000000 }, { "64000k", 64000000 }, { "64000KB", 64000000 },
		{ "65536Ki", 67108864 },  { "65536kib", 67108864 },  { "64M", 64000000 },   { "64m", 64000000 },
		{ "64MB", 64000000 },	  { "64Mi", 67108864 },	     { "64MiB", 67108864 }, { "1G", 1000000000 },
		{ "1GB", 1000000000 },	  { "1Gi", 1073741824 },     { "3GiB", 3221225472 }, { "4G", 4000000000 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[64];
		snprintf(text, sizeof(text), "collect: {memory_budget: %s}", cases[i].written);
		struct settings settings = load_good(text);
		assert_int_equal(settings.collect.memory_budget, cases[i].bytes);
		settings_done(&settings);
	}
}

static void test_quoting(void **state)
{
	static const struct { const char *written, *read;
	} cases[] = {
	    {"a.db", "a.db"},
	    {"a.db   # comment", "a.db"},
	    {"a#b", "a#b"},
	    {"a b  c", "a b  c"},
	    {"a,b", "a,b"},
	    {"a:b", "a:b"},
	    {"-x", "-x"},
	    {"?x", "?x"},
	    {"12", "12"},
	    {"on", "on"},
	    {"'null'", "null"},
	    {"'it''s'", "it's"},
	    {"''''", "'"},
	    {"''''''''''''''''''''''", "''''''''''"},
	    {"'a\\b'", "a\\b"},
	    {"'  x '", "  x "},
	    {"\"\\x41\\u00e4\\U0001F600\"", "A\xc3\xa4\xf0\x9f\x98\x80"},
	    {"\"\\\"\\\\\\/\"", "\"\\/"},
	    {"\"a # b\"", "a # b"},
	    {"\"'\"", "'"},
	    {"\xc3\xa4\xc3\xb6", "\xc3\xa4\xc3\xb6"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char text[128];
		snprintf(text, sizeof(text), "server:\n  store:\n    path: %s\n", cases[i].written);
		struct settings settings = load_good(text);
		assert_string_equal(settings.server.store.path, cases[i].read);
		settings_done(&settings);
	}
}

/* Texts on which libfyaml 0.7 alone spends minutes or loses memory, and others made to be expensive. */
static void test_hostile_texts(void **state)
{
	static const struct { const char *before, *repeated, *after; size_t times;
	} cases[] = {
	    {"a: |\n", "\n", " y\n", 1000000},
	    {"a: >+\n x\n", "\n", " y\n", 1000000},
	    {"a: x", "\n", " y\n", 1000000},
	    {"a: \"x", "\n", " \"\n", 1000000},
	    {"a: '", "''", "'\n", 500000},
	    {"", "[", "", 1000000},
	    {"", "- ", "", 500000},
	    {"", "{a: ", "", 250000},
	    {"", "? ", "", 500000},
	    {"", "a:\n", "", 300000},
	    {"a: &a [", "&b x,", "]\n", 200000},
	    {"networks: {a: [", "::1,", "::2]}\n", 250000},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct settings settings;
		struct buffer text = BUFFER_INIT, errors = BUFFER_INIT;
		struct timespec start, end;
		buffer_puts(&text, cases[i].before);
		for (size_t k = 0; k < cases[i].times; k++)
			buffer_puts(&text, cases[i].repeated);
		buffer_puts(&text, cases[i].after);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
		assert_int_equal(settings_parse(text.data, text.len, "t.yaml", &settings, &errors), -EINVAL);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
		/* Work that grew with the square of the size would take minutes here; ten seconds allow for sanitizers.
		 */
		assert_true(end.tv_sec - start.tv_sec < 10);
		assert_true(errors.len < 40000);
		buffer_done(&text);
		buffer_done(&errors);
	}
}

static void test_range_ends(void **state)
{
	static const char *const texts[] = {"collect: {tick: 20ms}",
					    "collect: {tick: 60s}",
					    "collect: {top_peers: 4096}",
					    "collect: {series_budget: 100}",
					    "collect: {series_budget: 10M}",
					    "collect: {max_sockets: 1024}",
					    "collect: {max_sockets: 4000000}",
					    "collect: {memory_budget: 8M, events_per_second: 1}",
					    "collect: {memory_budget: 4000000000, events_per_second: 100k}",
					    "collect: {flows: [a, b, c, d, e, f, g, h]}",
					    "server: {scrape: {interval: 20ms, timeout: 10ms}}",
					    "server: {scrape: {interval: 1h, timeout: 60m}}",
					    "server: {store: {retention: {raw: 1m}}}",
					    "server: {store: {retention: {raw: 10y}}}"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		struct settings settings = load_good(texts[i]);
		settings_done(&settings);
	}
	static const char *const switches[] = {"on",	  "true", "yes",   "ON", "True",
					       "\"yes\"", "off",  "false", "no", "Off"};
	for (size_t i = 0; i < sizeof(switches) / sizeof(*switches); i++) {
		char text[64];
		snprintf(text, sizeof(text), "collect: {tcp: %s}", switches[i]);
		struct settings settings = load_good(text);
		assert_int_equal(settings.collect.tcp, i < 6);
		settings_done(&settings);
	}
}

static void expect_file_error(const char *path, int r, const char *message)
{
	struct settings settings, zero;
	struct buffer errors = BUFFER_INIT;
	char line[4200];
	memset(&settings, 0xaa, sizeof(settings));
	memset(&zero, 0, sizeof(zero));
	assert_int_equal(settings_load(path, &settings, &errors), r);
	snprintf(line, sizeof(line), "%s: error: %s\n", path, message);
	assert_string_equal(errors.data, line);
	assert_memory_equal(&settings, &zero, sizeof(zero));
	buffer_done(&errors);
}

static void write_file(const char *path, const void *data, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	close(fd);
}

static void test_files(void **state)
{
	char dir[] = "/tmp/netsonde-config-XXXXXX", path[64];
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/n.yaml", dir);
	expect_file_error(path, -ENOENT, "cannot read the configuration: No such file or directory");
	expect_file_error(dir, -EISDIR, "cannot read the configuration: Is a directory");
	assert_int_equal(symlink(path, path), 0);
	expect_file_error(path, -ELOOP, "cannot read the configuration: Too many levels of symbolic links");
	assert_int_equal(unlink(path), 0);
	expect_file_error("/proc/self/mem", -EIO, "cannot read the configuration: Input/output error");
	if (geteuid()) {
		write_file(path, "", 0);
		assert_int_equal(chmod(path, 0), 0);
		expect_file_error(path, -EACCES, "cannot read the configuration: Permission denied");
		assert_int_equal(unlink(path), 0);
	}

	size_t size = CONFIG_FILE_MAX;
	char *big = malloc(size + 1);
	assert_non_null(big);
	memset(big, '\n', size + 1);
	write_file(path, big, size + 1);
	expect_file_error(path, -EFBIG, "larger than 1 MiB, which no configuration is");
	expect_file_error("/dev/zero", -EFBIG, "larger than 1 MiB, which no configuration is");
	memcpy(big + size - 11, "\ntick: 1s  ", 11);
	write_file(path, big, size);
	free(big);
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	assert_int_equal(settings_load(path, &settings, &errors), -EINVAL);
	assert_non_null(strstr(errors.data, "/n.yaml:1048567:1: error: `tick` belongs under `collect`"));
	buffer_clear(&errors);

	write_file(path, "collect: {tick: 2s}\n", 20);
	assert_int_equal(settings_load(path, &settings, &errors), 0);
	assert_int_equal(settings.collect.tick_ns, UINT64_C(2000000000));
	settings_done(&settings);
	buffer_done(&errors);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_inputs),	 cmocka_unit_test(test_bad_prefixes),
		cmocka_unit_test(test_bad_bytes),	 cmocka_unit_test(test_all_errors_at_once),
		cmocka_unit_test(test_carets),		 cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_many_errors),	 cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_example),		 cmocka_unit_test(test_good_values),
		cmocka_unit_test(test_collect_values),	 cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_quoting),		 cmocka_unit_test(test_hostile_texts),
		cmocka_unit_test(test_range_ends),	 cmocka_unit_test(test_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
