/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prober with real packets between two network namespaces: every protocol in both families, by every source of
 * times, and what packets look like on the wire. What goes wrong on the way is in test_prober_errors.c. Needs root;
 * skipped with that reason otherwise.
 */
#include "prober_fixture.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>

#include "agent/probe/probe_packet.h"
#include "parse.h"

static struct fixture fixture;

static const char *const far_addresses[2] = { FAR4, FAR6 };

/* Every protocol, both families. tcp: whether that works too. */
static void all_protocols(struct fixture *f, enum probe_clock clock, bool tcp)
{
	for (int v6 = 0; v6 < 2; v6++)
		for (int protocol = 0; protocol < (tcp ? PROBE_PROTOCOL_COUNT : PROBE_TCP); protocol++) {
			struct probe_spec spec = spec_of((enum probe_protocol)protocol, far_addresses[v6]);
			struct probe_path *path = add_path(f, &spec);
			struct probe_counts counts;

			/* More than the ring has places. */
			probe_many(f, path, 100, PROBE_OK, clock);
			counts = counts_of(path);
			assert_int_equal(counts.sent, 100);
			assert_int_equal(counts.answered, 100);
			assert_int_equal(counts.duplicates + counts.reordered + counts.late + counts.rejected + counts.implausible, 0);
			prober_remove(path);
		}
	assert_int_equal(prober_rejected(f->prober), 0);
	assert_int_equal(prober_unsent(f->prober), 0);
}

static void test_tcx(void **state)
{
	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_TC);
	all_protocols(&fixture, PROBE_CLOCK_TC, true);
}

static void test_xdp_generic(void **state)
{
	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_XDP_GENERIC);
	all_protocols(&fixture, PROBE_CLOCK_XDP_GENERIC, true);
}

/* The filter of a packet socket sees packets but cannot take them: the sockets get them as well, and must not count
 * them. */
static void test_packet_socket(void **state)
{
	struct probe_spec spec = spec_of(PROBE_TCP, FAR4);
	struct error error = { .text = "" };
	struct probe_path *path;

	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_SOCKET);
	all_protocols(&fixture, PROBE_CLOCK_TC, false);
	assert_int_equal(prober_add(fixture.prober, &spec, keep_result, &fixture, &path, &error), -EOPNOTSUPP);
	assert_non_null(strstr(error.text, "e0"));
}

static void test_kernel_stamps(void **state)
{
	struct probe_spec spec = spec_of(PROBE_ICMP, FAR4);
	struct error error = { .text = "" };
	struct probe_path *path;
	struct probe_result result;

	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_OFF);
	assert_null(prober_program(fixture.prober));
	/* The kernel takes receive stamps from some ms after the first that wants them. */
	path = add_path(&fixture, &spec);
	do {
		result = probe_once(&fixture, path);
		assert_int_equal(result.outcome, PROBE_OK);
	} while (result.clock != PROBE_CLOCK_KERNEL && result.sequence < 1000);
	prober_remove(path);
	all_protocols(&fixture, PROBE_CLOCK_KERNEL, false);
	spec = spec_of(PROBE_TCP, FAR4);
	assert_int_equal(prober_add(fixture.prober, &spec, keep_result, &fixture, &path, &error), -EOPNOTSUPP);
}

/* In a process without privileges and without capabilities, where the host allows it to a group: started by
 * test_unprivileged, in its network namespace. */
static void unprivileged(void **state)
{
	struct fixture *f = &fixture;
	struct error error = { .text = "" };
	struct probe_path *path;
	struct probe_spec spec;

	*f = (struct fixture){ .child = -1 };
	*state = f;
	assert_int_equal(setgid(65534), 0);
	assert_int_equal(setuid(65534), 0);
	assert_int_equal(loop_new(&f->loop), 0);
	open_prober(f, PROBE_ATTACH_AUTO);
	assert_null(prober_program(f->prober));
	for (int v6 = 0; v6 < 2; v6++) {
		spec = spec_of(PROBE_ICMP, far_addresses[v6]);
		path = add_path(f, &spec);
		probe_many(f, path, 100, PROBE_OK, PROBE_CLOCK_USER);
		spec = spec_of(PROBE_ICMP, v6 ? "fd09::1" : "10.9.0.1"); /* by the far host, which knows no way */
		path = add_path(f, &spec);
		assert_int_equal(probe_once(f, path).error, ENETUNREACH);
	}
	spec = spec_of(PROBE_STAMP, FAR4);
	assert_int_equal(prober_add(f->prober, &spec, keep_result, f, &path, &error), -EOPNOTSUPP);
}

/* As the agent: opened by root, then without any privileges, and only then there are paths and interfaces. */
static void dropped(void **state)
{
	struct fixture *f = &fixture;

	*f = (struct fixture){ .child = -1 };
	*state = f;
	assert_int_equal(loop_new(&f->loop), 0);
	open_prober(f, PROBE_ATTACH_TC);
	assert_int_equal(setgid(65534), 0);
	assert_int_equal(setuid(65534), 0);
	all_protocols(f, PROBE_CLOCK_TC, true);
	for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
		struct probe_spec spec = spec_of((enum probe_protocol)protocol, "10.2.0.2");

		spec.dscp = 46;
		spec.ttl = 5;
		probe_many(f, add_path(f, &spec), 10, PROBE_OK, PROBE_CLOCK_TC);
	}
	/* What TCP's search for answers needs. */
	probe_sockets_tcp(f->prober->sockets, true);
	probe_sockets_tcp(f->prober->sockets, false);
}

/* Another process, in the same network namespace, that runs one test which cannot be taken back. */
static void run_child(const char *name)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		dup2(STDERR_FILENO, STDOUT_FILENO); /* its TAP is not ours */
		execl("/proc/self/exe", "test_prober", name, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_dropped_privileges(void **state)
{
	fixture_open(&fixture, state);
	add_link(&fixture, 1);
	run_child("dropped");
}

static void test_unprivileged(void **state)
{
	fixture_open(&fixture, state);
	near_do("echo 0 65535 >/proc/sys/net/ipv4/ping_group_range; ip route add 10.9.0.0/16 via " FAR4 "; ip route add fd09::/16 via " FAR6);
	far_do(&fixture, "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding");
	run_child("unprivileged");
}

static void test_without_ipv6(void **state)
{
	fixture_open(&fixture, state);
	near_do("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
	open_prober(&fixture, PROBE_ATTACH_TC);
	for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
		struct probe_spec spec = spec_of((enum probe_protocol)protocol, FAR4);
		struct probe_path *path;

		probe_many(&fixture, add_path(&fixture, &spec), 5, PROBE_OK, PROBE_CLOCK_TC);
		spec = spec_of((enum probe_protocol)protocol, FAR6);
		path = add_path(&fixture, &spec);
		assert_int_equal(probe_once(&fixture, path).outcome, PROBE_UNREACHABLE);
	}
}

static void test_tcp_refused(void **state)
{
	struct probe_spec spec = spec_of(PROBE_TCP, FAR4);

	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_TC);
	spec.port = 1;
	probe_many(&fixture, add_path(&fixture, &spec), 20, PROBE_CLOSED, PROBE_CLOCK_TC);
}

/* Whether the parts add up: the far host's clock is ours. */
static void check_stamp(struct fixture *f, const struct probe_spec *spec, enum probe_clock clock)
{
	struct probe_path *path = add_path(f, spec);

	for (int i = 0; i < 20; i++) {
		struct probe_result r = probe_once(f, path);

		assert_true(r.outcome == PROBE_OK && r.stamp && r.has_residence && r.has_one_way);
		assert_int_equal(r.clock, clock);
		assert_true(r.residence_ns > 0 && r.residence_ns < r.rtt_ns);
		/* NTP's fraction is 0.23 ns; the wall clock may be slewed meanwhile. */
		assert_true(llabs((long long)r.rtt_ns - (r.forward_ns + r.backward_ns + (long long)r.residence_ns)) < 1000);
		assert_true(r.forward_ns > -1000 && r.backward_ns > -1000);
		/* 0x8001 is 2^-32 s, rounded up. */
		assert_true(r.clock_error_ns >= 1 && r.clock_error_ns < NS_PER_SEC);
	}
	prober_remove(path);
}

static void stamp_details(struct fixture *f, enum probe_clock clock)
{
	struct probe_spec spec = spec_of(PROBE_STAMP, FAR4);
	struct probe_result result;
	struct probe_path *path;

	check_stamp(f, &spec, clock);
	spec.payload = 400;
	check_stamp(f, &spec, clock);
	/* The reflector's clock is not synchronised. */
	f->far->error_estimate = 0x0001;
	path = add_path(f, &spec);
	result = probe_once(f, path);
	assert_true(result.has_residence && !result.has_one_way && result.clock_error_ns == UINT64_MAX);
	f->far->error_estimate = 0x8001;
	f->far->mode = FAR_NONSENSE;
	result = probe_once(f, path);
	assert_true(result.outcome == PROBE_OK && !result.has_residence && !result.has_one_way);
	assert_int_equal(counts_of(path).implausible, 1);
	f->far->mode = FAR_REFLECT;
	prober_remove(path);
	spec.secret = (const uint8_t *)SECRET;
	spec.secret_len = strlen(SECRET);
	f->far->authenticated = true;
	for (int v6 = 0; v6 < 2; v6++) {
		assert_int_equal(address_parse(far_addresses[v6], &spec.address), 0);
		spec.payload = v6 ? 0 : 200;
		check_stamp(f, &spec, clock);
	}
	f->far->authenticated = false;
}

static void test_stamp_by_hooks(void **state)
{
	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_TC);
	stamp_details(&fixture, PROBE_CLOCK_TC);
}

static void test_stamp_by_sockets(void **state)
{
	struct probe_spec spec = spec_of(PROBE_ICMP, FAR4);
	struct probe_path *path;

	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_OFF);
	path = add_path(&fixture, &spec);
	while (probe_once(&fixture, path).clock != PROBE_CLOCK_KERNEL && path->next < 1000)
		;
	stamp_details(&fixture, PROBE_CLOCK_KERNEL);
}

/* ---- on the wire ---- */

static int open_wire(void)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex("e0") };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0 && !bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return fd;
}

/* The next packet of this protocol that left; its IP packet's length. */
static size_t next_sent(int fd, uint8_t protocol, uint8_t *frame, size_t size, struct packet *ret_packet)
{
	struct sockaddr_ll from;
	socklen_t from_len = sizeof(from);
	ssize_t n;

	while ((n = recvfrom(fd, frame, size, 0, (struct sockaddr *)&from, &from_len)) > 0) {
		struct packet_bytes bytes = { .data = frame, .len = (uint32_t)n };

		if (from.sll_pkttype != PACKET_OUTGOING)
			continue;
		packet_parse(&bytes, 0, PACKET_ETHERNET, ret_packet);
		if (ret_packet->tcp_flags & PACKET_RST)
			continue; /* the polite end of the one before */
		if (ret_packet->protocol == protocol && (protocol != IPPROTO_ICMPV6 || frame[ret_packet->transport_offset] == 128))
			return ret_packet->length;
	}
	return 0;
}

static void check_sum(const uint8_t *frame, const struct packet *packet, uint8_t protocol)
{
	struct probe_ends ends;
	const uint8_t *transport = frame + packet->transport_offset;
	size_t len = packet->length - (packet->transport_offset - packet->network_offset);

	memcpy(&ends.source, &packet->source, 16);
	memcpy(&ends.destination, &packet->destination, 16);
	assert_int_equal(probe_checksum(transport, len, protocol == IPPROTO_ICMP ? 0 : probe_checksum_pseudo(&ends, protocol, len)), 0);
}

static void test_what_is_sent(void **state)
{
	static const uint8_t protocols[2][PROBE_PROTOCOL_COUNT] = { { IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP },
								    { IPPROTO_ICMPV6, IPPROTO_UDP, IPPROTO_TCP } };
	uint8_t frame[2048], *ip;
	struct packet packet;
	int wire;

	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_TC);
	wire = open_wire();
	for (int v6 = 0; v6 < 2; v6++)
		for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
			struct probe_spec spec = spec_of((enum probe_protocol)protocol, far_addresses[v6]);
			struct probe_path *path;
			uint16_t first_sum = 0;
			uint32_t label = 0;

			spec.dscp = 46;
			spec.ttl = 77;
			spec.payload = 1000;
			spec.dont_fragment = true;
			path = add_path(&fixture, &spec);
			for (int i = 0; i < 3; i++) {
				size_t length, transport;

				probe_once(&fixture, path);
				length = next_sent(wire, protocols[v6][protocol], frame, sizeof(frame), &packet);
				transport = packet.transport_offset;
				ip = frame + packet.network_offset;
				assert_int_equal(length, (v6 ? 40 : 20) + (protocol == PROBE_TCP ? 24 : 1008));
				assert_int_equal(v6 ? (ip[0] & 15) << 4 | ip[1] >> 4 : ip[1], 46 << 2);
				assert_int_equal(v6 ? ip[7] : ip[8], 77);
				if (!v6)
					assert_true(ip[6] & 0x40);
				check_sum(frame, &packet, protocols[v6][protocol]);
				assert_true(protocol == PROBE_ICMP || packet.source_port - path->prober->block.port_first < 64);
				/* What spreads load must be the same for all of a path: checksum or ports, and the
				 * flow label. */
				if (v6) {
					uint32_t now = (uint32_t)(ip[1] & 15) << 16 | (uint32_t)ip[2] << 8 | ip[3];

					assert_true(now && (!i || now == label));
					label = now;
				}
				if (protocol == PROBE_ICMP) {
					uint16_t sum = (uint16_t)(frame[transport + 2] << 8 | frame[transport + 3]);

					assert_true(!i || sum == first_sum);
					first_sum = sum;
				}
			}
			prober_remove(path);
		}
	close(wire);
}

static void test_paths_are_different(void **state)
{
	struct probe_path *paths[PROBE_PATHS_MAX];
	struct error error = { .text = "" };
	struct probe_path *extra;
	struct probe_spec spec;

	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_TC);
	for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
		for (uint8_t i = 0; i < 8; i++) {
			spec = spec_of((enum probe_protocol)protocol, FAR6);
			spec.path = i;
			paths[i] = add_path(&fixture, &spec);
			for (uint8_t k = 0; k < i; k++) {
				assert_int_not_equal(paths[i]->key.port, paths[k]->key.port);
				assert_int_not_equal(paths[i]->flow_label, paths[k]->flow_label);
			}
		}
		fixture.n_results = 0;
		for (int i = 0; i < 8; i++)
			assert_int_equal(prober_send(paths[i]), 0);
		prober_flush(fixture.prober);
		assert_true(run_until(&fixture, 8, DEADLINE_NS));
		for (int i = 0; i < 8; i++) {
			assert_int_equal(fixture.results[i].outcome, PROBE_OK);
			assert_int_equal(counts_of(paths[i]).answered, 1);
			prober_remove(paths[i]);
		}
	}
	/* As many as there is room for, and no more. */
	spec = spec_of(PROBE_ICMP, FAR4);
	spec.ring = 8;
	for (int i = 0; i < 64; i++)
		add_path(&fixture, &spec);
	assert_int_equal(prober_add(fixture.prober, &spec, keep_result, &fixture, &extra, &error), -ENOSPC);
}

/* A batch of many paths and protocols leaves and comes back as one. */
static void test_a_mixed_batch(void **state)
{
	struct probe_path *paths[48];

	fixture_open(&fixture, state);
	open_prober(&fixture, PROBE_ATTACH_TC);
	for (int i = 0; i < 48; i++) {
		struct probe_spec spec = spec_of((enum probe_protocol)(i % PROBE_PROTOCOL_COUNT), far_addresses[i / 3 % 2]);

		spec.dont_fragment = i & 4;
		paths[i] = add_path(&fixture, &spec);
	}
	for (int round = 0; round < 10; round++)
		for (int i = 0; i < 48; i++)
			assert_int_equal(prober_send(paths[i]), 0); /* flushes by itself where the batch is full */
	prober_flush(fixture.prober);
	assert_true(run_until(&fixture, 480, DEADLINE_NS));
	for (int i = 0; i < 48; i++)
		assert_int_equal(counts_of(paths[i]).answered, 10);
}

/* Answers come back by a link that no path leaves by. */
static void test_asymmetric_route(void **state)
{
	for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
		struct probe_spec spec = spec_of((enum probe_protocol)protocol, FAR4);
		struct probe_path *path;
		struct probe_result result;
		uint64_t until;
		int lost = 0;

		fixture_open(&fixture, state);
		add_link(&fixture, 1);
		/* fd02:: and 10.2.0.1 are known there, so is their link address. */
		far_do(&fixture, "ip route add 10.1.0.1/32 via 10.2.0.1 dev f1 src 10.1.0.2");
		open_prober(&fixture, PROBE_ATTACH_TC);
		spec.timeout_ns = 100 * NS_PER_MS;
		path = add_path(&fixture, &spec);
		assert_string_equal(probe_path_device(path)->name, "e0");
		until = mono_now().ns + DEADLINE_NS;
		do {
			result = probe_once(&fixture, path);
			lost += result.outcome == PROBE_TIMED_OUT;
			assert_true(mono_now().ns < until);
		} while (result.outcome != PROBE_OK);
		/* TCP's answers are only looked for when some are missing. */
		assert_int_equal(lost, protocol == PROBE_TCP ? 3 : 0);
		assert_int_not_equal(result.clock, PROBE_CLOCK_TC);
		probe_many(&fixture, path, 10, PROBE_OK, PROBE_CLOCK_TC);
		fixture_close(state);
		*state = NULL;
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest without[] = { cmocka_unit_test_teardown(unprivileged, fixture_close) };
	const struct CMUnitTest then_without[] = { cmocka_unit_test_teardown(dropped, fixture_close) };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_tcx, fixture_close),
		cmocka_unit_test_teardown(test_xdp_generic, fixture_close),
		cmocka_unit_test_teardown(test_packet_socket, fixture_close),
		cmocka_unit_test_teardown(test_kernel_stamps, fixture_close),
		cmocka_unit_test_teardown(test_unprivileged, fixture_close),
		cmocka_unit_test_teardown(test_dropped_privileges, fixture_close),
		cmocka_unit_test_teardown(test_without_ipv6, fixture_close),
		cmocka_unit_test_teardown(test_tcp_refused, fixture_close),
		cmocka_unit_test_teardown(test_stamp_by_hooks, fixture_close),
		cmocka_unit_test_teardown(test_stamp_by_sockets, fixture_close),
		cmocka_unit_test_teardown(test_what_is_sent, fixture_close),
		cmocka_unit_test_teardown(test_paths_are_different, fixture_close),
		cmocka_unit_test_teardown(test_a_mixed_batch, fixture_close),
		cmocka_unit_test_teardown(test_asymmetric_route, fixture_close),
	};

	kbpf_log_setup();
	if (argc > 1 && !strcmp(argv[1], "unprivileged"))
		return cmocka_run_group_tests(without, NULL, NULL);
	if (argc > 1 && !strcmp(argv[1], "dropped"))
		return cmocka_run_group_tests(then_without, NULL, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
