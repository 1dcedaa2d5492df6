/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of probes: what a target inherits, how rates and the like are written, and what makes no sense together. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "config_messages.h"
#include "lib/settings.h"

#define SECOND UINT64_C(1000000000)
#define TARGETS(entries) "probe: {targets: [" entries "]}\n"

static struct settings load(const char *text)
{
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	int r = settings_parse(text, strlen(text), "t.yaml", &settings, &errors);

	if (r)
		print_message("%s\n%s", text, errors.data);
	assert_int_equal(r, 0);
	buffer_done(&errors);
	return settings;
}

static void test_good(void **state)
{
	struct settings settings = load(
		"probe:\n"
		"  targets:\n"
		"    - {name: gateway, address: 10.0.0.1}\n"
		"    - {name: site-b, address: host.example.org, protocol: stamp, port: 1862, interval: 100ms, timeout: 500ms,\n"
		"       size: 1400, dscp: 46, ttl: 3, paths: 8, interface: eth1, source: 10.0.0.5, key_file: /etc/k, passive: off}\n"
		"    - {name: web, address: \"fe80::1\", interface: eth0, protocol: tcp, dscp: 0}\n"
		"  defaults: {interval: 2s, timeout: 3s, protocol: icmp, size: 100, dscp: 10, paths: 2}\n"
		"  budget: {packets: 2k/s, bytes: 4MB/s}\n"
		"  peers: top 50\n"
		"  plan: {url: \"http://h/plan\", interval: 10s, targets: 5, min_interval: 500ms, networks: [10.0.0.0/8], protocols: [stamp, tcp]}\n"
		"  passive: off\n"
		"  adapt: off\n"
		"  attach: tc\n"
		"  reflect: [eth1, eth2]\n"
		"  reflector: {port: 863, icmp: on, rate: 5/s, key_file: /etc/r, authenticated_only: on}\n"
		"  clock_error: 1us\n"
		"  max_targets: 2k\n");
	const struct settings_probe_target *t = settings.probe.targets;

	assert_true(settings_probe_wanted(&settings));
	assert_int_equal(settings.probe.n_targets, 3);
	/* What stands behind the list holds for it too. */
	assert_string_equal(t[0].name, "gateway");
	assert_int_equal(t[0].protocol, SETTINGS_PROBE_ICMP);
	assert_int_equal(t[0].interval_ns, 2 * SECOND);
	assert_int_equal(t[0].timeout_ns, 3 * SECOND);
	assert_int_equal(t[0].size, 100);
	assert_int_equal(t[0].dscp, 10);
	assert_int_equal(t[0].paths, 2);
	assert_int_equal(t[0].port, 0);
	assert_int_equal(t[0].ttl, 0);
	assert_true(t[0].passive);
	assert_null(t[0].interface);
	assert_string_equal(t[1].address, "host.example.org");
	assert_int_equal(t[1].protocol, SETTINGS_PROBE_STAMP);
	assert_int_equal(t[1].port, 1862);
	assert_int_equal(t[1].interval_ns, SECOND / 10);
	assert_int_equal(t[1].timeout_ns, SECOND / 2);
	assert_int_equal(t[1].size, 1400);
	assert_int_equal(t[1].dscp, 46);
	assert_int_equal(t[1].ttl, 3);
	assert_int_equal(t[1].paths, 8);
	assert_string_equal(t[1].interface, "eth1");
	assert_string_equal(t[1].source, "10.0.0.5");
	assert_string_equal(t[1].key_file, "/etc/k");
	assert_false(t[1].passive);
	assert_int_equal(t[2].protocol, SETTINGS_PROBE_TCP);
	assert_int_equal(t[2].dscp, 0);
	assert_int_equal(settings.probe.budget.packets, 2000);
	assert_int_equal(settings.probe.budget.bytes, 4000000);
	assert_int_equal(settings.probe.peers, 50);
	assert_string_equal(settings.probe.plan.url, "http://h/plan");
	assert_int_equal(settings.probe.plan.interval_ns, 10 * SECOND);
	assert_int_equal(settings.probe.plan.targets, 5);
	assert_int_equal(settings.probe.plan.min_interval_ns, SECOND / 2);
	assert_int_equal(settings.probe.plan.n_networks, 1);
	assert_int_equal(settings.probe.plan.n_protocols, 2);
	assert_int_equal(settings.probe.plan.protocols[0], SETTINGS_PROBE_STAMP);
	assert_int_equal(settings.probe.plan.protocols[1], SETTINGS_PROBE_TCP);
	assert_false(settings.probe.passive || settings.probe.adapt);
	assert_int_equal(settings.probe.attach, SETTINGS_ATTACH_TC);
	assert_int_equal(settings.probe.n_reflect, 2);
	assert_int_equal(settings.probe.reflector.port, 863);
	assert_int_equal(settings.probe.reflector.rate, 5);
	assert_true(settings.probe.reflector.icmp && settings.probe.reflector.authenticated_only);
	assert_string_equal(settings.probe.reflector.key_file, "/etc/r");
	assert_int_equal(settings.probe.clock_error_ns, 1000);
	assert_int_equal(settings.probe.max_targets, 2000);
	settings_done(&settings);
}

static void test_words(void **state)
{
	static const struct { const char *text; uint32_t peers; uint64_t clock_error_ns; bool wanted; } cases[] = {
		{ "probe: {peers: off}", 0, 0, false },
		{ "probe: {peers: 50}", 50, 0, true },
		{ "probe: {peers: top   7}", 7, 0, true },
		{ "probe: {clock_error: none}", 0, 0, false },
		{ "probe: {clock_error: 100us}", 0, 100000, false },
		{ "probe: {targets: [], reflect: [], plan: {interval: 1h}, reflector: {icmp: on}}", 0, 0, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct settings settings = load(cases[i].text);

		assert_int_equal(settings.probe.peers, cases[i].peers);
		assert_int_equal(settings.probe.clock_error_ns, cases[i].clock_error_ns);
		assert_int_equal(settings_probe_wanted(&settings), cases[i].wanted);
		settings_done(&settings);
	}
}

static const struct { const char *text, *messages; } bad[] = {
	{ "probe: {budget: {packets: 1000}}\n", "1:27: expected a rate such as 1000/s, not `1000`; write `1000/s`\n" },
	{ "probe: {budget: {packets: 1000/m}}\n", "1:27: expected a rate such as 1000/s, not `1000/m`\n" },
	{ "probe: {budget: {packets: /s}}\n", "1:27: expected a rate such as 1000/s, not `/s`\n" },
	{ "probe: {budget: {packets: 0/s}}\n", "1:27: `packets` must be 1/s to 2000000/s, not 0/s\n" },
	{ "probe: {budget: {packets: -5}}\n", "1:27: `packets` must be 1/s to 2000000/s, not -5\n" },
	{ "probe: {budget: {bytes: 1MB}}\n", "1:25: expected a size per second such as 1MB/s, not `1MB`\n" },
	{ "probe: {budget: {bytes: 1k/s}}\n", "1:25: `bytes` must be 20000/s to 4000M/s, not 1k/s\n" },
	{ "probe: {peers: all}\n", "1:16: expected a number such as `top 50` or off, not `all`\n" },
	{ "probe: {peers: top}\n", "1:16: expected a number such as `top 50` or off, not `top`\n" },
	{ "probe: {peers: 0}\n", "1:16: `peers` must be 1 to 4096 or off, not 0\n" },
	{ "probe: {peers: [1]}\n", "1:16: expected a number such as `top 50` or off, not a list\n" },
	{ "probe: {clock_error: 5}\n", "1:22: expected a duration such as 1s or 250ms or none, not `5`; write `5s`\n" },
	{ "probe: {attach: native}\n", "1:17: expected auto, xdp, xdp_generic, tc, socket or off, not `native`\n" },
	{ TARGETS("{name: a}"), "1:19: an entry of `probe.targets` needs `address`\n" },
	{ TARGETS("{name: a, address: 10.0.0.1}, {name: a, address: 10.0.0.2}"), "1:56: duplicate name `a`; it is first used on line 1\n" },
	{ TARGETS("{name: other, address: 10.0.0.1}"), "1:26: `other` cannot name a target: it stands for what belongs to none\n" },
	{ TARGETS("{name: a, address: 10.0.0.256}"), "1:38: expected an address such as 10.0.0.1 or a host name\n" },
	{ TARGETS("{name: a, address: \"10.0.0.1:80\"}"), "1:39: write the address without its port, and that as `port: NUMBER`\n" },
	{ TARGETS("{name: a, address: \"[fd00::1]:80\"}"), "1:39: write the address without its port, and that as `port: NUMBER`\n" },
	{ TARGETS("{name: a, address: \"h.example:80\"}"), "1:39: write the address without its port, and that as `port: NUMBER`\n" },
	{ TARGETS("{name: a, address: \"fd00::1::80\"}"), "1:39: expected an address such as 10.0.0.1 or a host name\n" },
	{ TARGETS("{name: a, address: 10.0.0.0/24}"), "1:38: expected one address such as 10.0.0.1 or a host name, not a network\n" },
	{ TARGETS("{name: a, address: \"http://h/\"}"), "1:39: expected an address such as 10.0.0.1 or a host name, not a URL\n" },
	{ TARGETS("{name: a, address: \"a b\"}"), "1:39: expected an address such as 10.0.0.1 or a host name\n" },
	{ TARGETS("{name: a, address: -a.b}"), "1:38: expected an address such as 10.0.0.1 or a host name\n" },
	{ TARGETS("{name: a, address: a..b}"), "1:38: expected an address such as 10.0.0.1 or a host name\n" },
	{ TARGETS("{name: a, address: \"fe80::1%eth0\"}"),
	  "1:39: write the address without `%`, and the interface as `interface: NAME`\n" },
	{ TARGETS("{name: a, address: \"fe80::1\"}"), "1:39: a link-local address needs `interface`\n" },
	{ TARGETS("{name: a, address: 224.0.0.1}"), "1:38: 224.0.0.1 is not the address of one host\n" },
	{ TARGETS("{name: a, address: \"ff02::1\"}"), "1:39: ff02::1 is not the address of one host\n" },
	{ TARGETS("{name: a, address: 0.0.0.0}"), "1:38: 0.0.0.0 is not the address of one host\n" },
	{ TARGETS("{name: a, address: \"::\"}"), "1:39: :: is not the address of one host\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, port: 80}"),
	  "1:54: ICMP has no ports; is `protocol: tcp` or `protocol: stamp` meant?\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, key_file: /k}"), "1:58: only STAMP is authenticated by a key; write `protocol: stamp`\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, protocol: stamp, key_file: k}"),
	  "1:75: expected the path of a file that begins with `/`\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, protocol: tcp, size: 60}"), "1:69: a TCP SYN carries no data, so it has no `size`\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, protocol: tcp, interval: 10ms}"),
	  "1:73: TCP probes every 10ms can have a `timeout` of at most 1s700ms\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, protocol: tcp, interval: 10ms, timeout: 5s}"),
	  "1:88: TCP probes every 10ms can have a `timeout` of at most 1s700ms\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, source: \"fd00::1\"}"),
	  "1:57: `source` and `address` must both be IPv4 or both be IPv6\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, source: here}"), "1:56: expected an address of this host such as 10.0.0.5\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, ttl: 0}"), "1:53: `ttl` must be 1 to 255, not 0\n" },
	{ TARGETS("{name: a, address: 10.0.0.1, interval: 1ms}"), "1:58: `interval` must be 10ms to 1h, not 1ms\n" },
	/* An entry with a mistake of its own is not looked at as a whole. */
	{ TARGETS("{name: a, address: 10.0.0.1, port: 80, prot: tcp}"),
	  "1:58: unknown key `prot` in `probe.targets`; did you mean `port`?\n" },
	{ "probe:\n  max_targets: 3\n  targets:\n    - {name: a, address: 10.0.0.1, paths: 2}\n    - {name: b, address: 10.0.0.1, paths: 2}\n",
	  "2:16: 4 targets and paths are more than `max_targets`, 3\n" },
	{ "probe: {plan: {networks: [10.0.0.0/8]}}\n", "1:15: `plan` needs `url`: there is nothing to bound without it\n" },
	{ "probe: {plan: {url: \"http://a/\", protocols: [icmp, udp, icmp]}}\n",
	  "1:52: expected icmp, stamp or tcp, not `udp`\n1:57: duplicate value `icmp`; it is first used on line 1\n" },
	{ "probe: {reflector: {authenticated_only: on}}\n",
	  "1:41: `authenticated_only` needs `key_file`: without a key nothing would be answered\n" },
	{ "probe: {reflect: [eth1], attach: socket}\n",
	  "1:34: nothing is reflected (`reflect`) without a program on the interface that can send packets; write `attach: auto`\n" },
	{ "probe: {attach: off, reflect: [eth1]}\n",
	  "1:17: nothing is reflected (`reflect`) without a program on the interface that can send packets; write `attach: auto`\n" },
	{ "probe: {peers: 5}\ncollect: {tcp: off}\n",
	  "1:16: `peers` are known by collect.tcp, collect.udp or collect.flows, which are all off\n" },
};

static void test_bad(void **state)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buffer errors = BUFFER_INIT, got = BUFFER_INIT;
		struct settings settings;

		assert_int_equal(settings_parse(bad[i].text, strlen(bad[i].text), "t.yaml", &settings, &errors), -EINVAL);
		messages_of(&errors, &got);
		assert_string_equal(got.data, bad[i].messages);
		buffer_done(&errors);
		buffer_done(&got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
