/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prober when things go wrong, with real packets: loss, duplicates, late, forged and cut answers, ICMP errors (true
 * ones and forged ones), full rings, missing routes, interfaces that go and come. Needs root; skipped with that reason
 * otherwise.
 */
#include "prober_fixture.h"

#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>

#include "agent/probe/probe_packet.h"

static struct fixture fixture;

static const enum probe_attach attaches[] = { PROBE_ATTACH_TC, PROBE_ATTACH_SOCKET, PROBE_ATTACH_OFF };

static struct probe_path *stamp_path(struct fixture *f, uint64_t timeout_ns)
{
	struct probe_spec spec = spec_of(PROBE_STAMP, FAR4);

	spec.timeout_ns = timeout_ns;
	return add_path(f, &spec);
}

/* By every way of receiving: the counts must be the same, and no answer counted twice. */
static void test_bad_reflectors(void **state)
{
	for (size_t i = 0; i < sizeof(attaches) / sizeof(attaches[0]); i++) {
		struct fixture *f = &fixture;
		struct probe_path *path;
		struct probe_counts counts;

		fixture_open(f, state);
		open_prober(f, attaches[i]);
		path = stamp_path(f, 50 * NS_PER_MS);

		f->far->mode = FAR_DROP;
		for (int k = 0; k < 3; k++)
			assert_int_equal(probe_once(f, path).outcome, PROBE_TIMED_OUT);
		f->far->mode = FAR_TWICE;
		for (int k = 0; k < 5; k++) {
			uint32_t reflected = f->far->reflected + 2;

			assert_int_equal(probe_once(f, path).outcome, PROBE_OK);
			for (uint64_t until = mono_now().ns + DEADLINE_NS; f->far->reflected < reflected && mono_now().ns < until;)
				usleep(100);
		}
		run_until(f, 2, 20 * NS_PER_MS); /* what is in the sockets */
		counts = counts_of(path);
		assert_int_equal(counts.duplicates, 5);
		assert_int_equal(counts.answered, 5);

		f->far->mode = FAR_FORGE;
		assert_int_equal(probe_once(f, path).outcome, PROBE_TIMED_OUT);
		f->far->mode = FAR_SHORT;
		assert_int_equal(probe_once(f, path).outcome, PROBE_TIMED_OUT);
		assert_int_equal(counts_of(path).rejected, 2);

		f->far->mode = FAR_LATE;
		f->far->delay_ms = 120;
		assert_int_equal(probe_once(f, path).outcome, PROBE_TIMED_OUT);
		run_until(f, 2, 200 * NS_PER_MS);
		counts = counts_of(path);
		assert_int_equal(counts.late, 1);
		assert_int_equal(counts.lost, 6);
		assert_int_equal(counts.duplicates, 5);
		assert_int_equal(counts.rejected, 2);
		/* Nothing of all this stays. */
		f->far->mode = FAR_REFLECT;
		assert_int_equal(probe_once(f, path).outcome, PROBE_OK);
		assert_int_equal(prober_rejected(f->prober), 0);
		/* Late for a path that is gone. */
		f->far->mode = FAR_LATE;
		assert_int_equal(prober_send(path), 0);
		prober_remove(path);
		run_until(f, 2, 200 * NS_PER_MS);
		assert_int_equal(prober_rejected(f->prober), 1);
		fixture_close(state);
		*state = NULL;
	}
}

static void test_wrong_hmac(void **state)
{
	for (size_t i = 0; i < sizeof(attaches) / sizeof(attaches[0]); i++) {
		struct probe_spec spec = spec_of(PROBE_STAMP, FAR4);
		struct probe_path *path;

		fixture_open(&fixture, state);
		open_prober(&fixture, attaches[i]);
		spec.secret = (const uint8_t *)SECRET;
		spec.secret_len = strlen(SECRET);
		spec.timeout_ns = 50 * NS_PER_MS;
		path = add_path(&fixture, &spec);
		fixture.far->authenticated = true;
		assert_int_equal(probe_once(&fixture, path).outcome, PROBE_OK);
		fixture.far->forge_hmac = true;
		assert_int_equal(probe_once(&fixture, path).outcome, PROBE_TIMED_OUT);
		assert_int_equal(counts_of(path).rejected, 1);
		prober_remove(path);
		/* The same number, another key. */
		fixture.far->forge_hmac = false;
		spec.secret = (const uint8_t *)"another";
		spec.secret_len = 7;
		path = add_path(&fixture, &spec);
		assert_int_equal(probe_once(&fixture, path).outcome, PROBE_TIMED_OUT);
		assert_int_equal(counts_of(path).rejected, 1);
		fixture_close(state);
		*state = NULL;
	}
}

static void test_full_ring(void **state)
{
	struct fixture *f = &fixture;
	struct probe_path *path;

	fixture_open(f, state);
	open_prober(f, PROBE_ATTACH_TC);
	for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
		struct probe_spec spec = spec_of((enum probe_protocol)protocol, FAR4);

		spec.ring = 3; /* at least 8 */
		spec.timeout_ns = 60 * NS_PER_MS;
		path = add_path(f, &spec);
		near_do("ip neigh replace " FAR4 " dev e0 lladdr 02:00:00:00:00:99"); /* nobody */
		f->n_results = 0;
		for (int i = 0; i < 8; i++)
			assert_int_equal(prober_send(path), 0);
		assert_int_equal(prober_send(path), -EAGAIN);
		assert_int_equal(probe_path_pending(path), 8);
		prober_flush(f->prober);
		assert_int_equal(prober_send(path), -EAGAIN);
		/* A place is free again when its probe's time is over, whether or not somebody has collected. */
		usleep(80000);
		assert_int_equal(prober_send(path), 0);
		assert_true(f->n_results >= 1 && f->results[0].outcome == PROBE_TIMED_OUT && f->results[0].sequence == 0);
		assert_true(run_until(f, 9, DEADLINE_NS));
		for (uint32_t i = 0; i < 9; i++)
			assert_true(f->results[i].outcome == PROBE_TIMED_OUT && f->results[i].sequence == i);
		near_do("ip neigh del " FAR4 " dev e0");
		assert_int_equal(probe_once(f, path).outcome, PROBE_OK);
		prober_remove(path);
	}
}

static void expect_error(struct fixture *f, const struct probe_spec *spec, int error)
{
	struct probe_path *path = add_path(f, spec);
	struct probe_result result = probe_once(f, path);

	if (result.outcome != PROBE_UNREACHABLE || result.error != error)
		fail_msg("protocol %d, IPv%d: outcome %d, error %d and not %d", spec->protocol, address_is_ipv4(&spec->address) ? 4 : 6,
			 result.outcome, result.error, error);
	assert_int_equal(counts_of(path).unreachable, 1);
	prober_remove(path);
}

static struct probe_spec spec_from(enum probe_protocol protocol, const char *source, const char *destination)
{
	struct probe_spec spec = spec_of(protocol, destination);

	assert_int_equal(address_parse(source, &spec.source), 0);
	spec.has_source = true;
	return spec;
}

static void errors_of(struct fixture *f, bool tcp)
{
	static const char *const sources[PROBE_PROTOCOL_COUNT] = { "10.1.0.11", "10.1.0.12", "10.1.0.13" };
	static const char *const beyond[2] = { "10.9.0.1", "fd09::1" }, *const forbidden[2] = { "10.8.0.1", "fd08::1" };
	static const char *const far[2] = { FAR4, FAR6 };
	struct probe_spec spec;

	for (int v6 = 0; v6 < 2; v6++)
		for (int protocol = 0; protocol < (tcp ? PROBE_PROTOCOL_COUNT : PROBE_TCP); protocol++) {
			/* By a router that knows no way, by one that may not, and of a TTL of one. A router tells an
			 * address of IPv4 five times that it knows no way, and then once in a second. */
			spec = spec_from((enum probe_protocol)protocol, v6 ? "fd01::1" : sources[protocol], beyond[v6]);
			expect_error(f, &spec, ENETUNREACH);
			spec = spec_from((enum probe_protocol)protocol, v6 ? "fd01::1" : sources[protocol], forbidden[v6]);
			expect_error(f, &spec, EACCES);
			spec = spec_of((enum probe_protocol)protocol, v6 ? "fd02::7" : "10.2.0.7");
			spec.ttl = 1;
			expect_error(f, &spec, ETIME);
		}
	for (int v6 = 0; v6 < 2; v6++) {
		spec = spec_of(PROBE_STAMP, far[v6]);
		spec.port = 9; /* nobody listens */
		expect_error(f, &spec, ECONNREFUSED);
		/* Larger than the link, and than a link behind it. */
		spec = spec_of(PROBE_ICMP, far[v6]);
		spec.payload = 2000;
		spec.dont_fragment = true;
		expect_error(f, &spec, EMSGSIZE);
		spec = spec_of(PROBE_ICMP, v6 ? "fd02::7" : "10.2.0.7");
		spec.payload = 1400;
		spec.dont_fragment = true;
		expect_error(f, &spec, EMSGSIZE);
		/* This host knows no way. */
		spec = spec_of(PROBE_ICMP, v6 ? "2001:db8::1" : "192.0.2.1");
		expect_error(f, &spec, ENETUNREACH);
		spec = spec_of(PROBE_ICMP, v6 ? "fd07::1" : "10.7.0.1");
		expect_error(f, &spec, EACCES);
	}
	/* Nobody answers for the address. */
	spec = spec_of(PROBE_ICMP, "10.1.0.77");
	spec.timeout_ns = 5 * NS_PER_SEC;
	expect_error(f, &spec, EHOSTUNREACH);
}

/* With hooks and without: errors are not the hooks' work, but they must not be in the way. */
static void test_errors(void **state)
{
	for (int i = 0; i < 2; i++) {
		fixture_open(&fixture, state);
		add_link(&fixture, 1);
		near_do("for i in 11 12 13; do ip addr add 10.1.0.$i/24 dev e0; done; "
			"ip addr flush dev e1; ip link set e1 mtu 1300; "
			"for i in 8 9; do ip route add 10.$i.0.0/16 via " FAR4 "; ip route add fd0$i::/16 via " FAR6 "; done; "
			"ip route add 10.2.0.0/24 via " FAR4 "; ip route add fd02::/64 via " FAR6 "; "
			"ip route add prohibit 10.7.0.0/16; ip route add prohibit fd07::/16; "
			"cd /proc/sys/net/ipv4/neigh/e0; echo 50 >retrans_time_ms; echo 1 >mcast_solicit");
		far_do(&fixture, "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; "
				 "ip link set f1 mtu 1300; "
				 "ip route add prohibit 10.8.0.0/16; ip route add prohibit fd08::/16");
		open_prober(&fixture, i ? PROBE_ATTACH_OFF : PROBE_ATTACH_TC);
		errors_of(&fixture, !i);
		fixture_close(state);
		*state = NULL;
	}
}

/* An ICMP error from `from` whose quotation is this packet, behind an IP header. */
static void send_error(const struct probe_ends *ends, uint8_t protocol, const uint8_t *packet, size_t len)
{
	uint8_t error[8 + 20 + 256] = { ICMP_DEST_UNREACH, ICMP_HOST_UNREACH };
	struct sockaddr_in to = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	uint16_t sum;

	error[8] = 0x45;
	error[8 + 9] = protocol;
	memcpy(error + 8 + 12, ends->source.bytes + 12, 4);
	memcpy(error + 8 + 16, ends->destination.bytes + 12, 4);
	memcpy(error + 28, packet, len);
	sum = probe_checksum(error, 28 + len, 0);
	error[2] = (uint8_t)(sum >> 8);
	error[3] = (uint8_t)sum;
	inet_pton(AF_INET, NEAR4, &to.sin_addr);
	assert_true(fd >= 0 && sendto(fd, error, 28 + len, 0, (struct sockaddr *)&to, sizeof(to)) == (ssize_t)(28 + len));
	close(fd);
}

/* Somebody says that a probe cannot be delivered. Only who has seen it is believed. */
static void test_forged_errors(void **state)
{
	struct fixture *f = &fixture;

	fixture_open(f, state);
	open_prober(f, PROBE_ATTACH_TC);
	for (int protocol = 0; protocol < PROBE_PROTOCOL_COUNT; protocol++) {
		static const uint8_t numbers[] = { IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_TCP };
		struct probe_spec spec = spec_of((enum probe_protocol)protocol, FAR4);
		uint8_t packet[64];
		size_t len = protocol == PROBE_TCP ? 24 : protocol == PROBE_STAMP ? 52 : 24;
		struct probe_ends ends;
		struct probe_path *path;
		uint64_t cookie;

		spec.timeout_ns = 300 * NS_PER_MS;
		near_do("ip neigh replace " FAR4 " dev e0 lladdr 02:00:00:00:00:99");
		path = add_path(f, &spec);
		f->n_results = 0;
		assert_int_equal(prober_send(path), 0);
		prober_flush(f->prober);
		cookie = path->flights[0].cookie;
		ends = (struct probe_ends){ .source = path->source, .destination = path->destination, .source_port = path->key.port,
					    .destination_port = (uint16_t)path->session->remote_port };
		for (int k = 0; k < 3; k++) {
			/* A guessed cookie in a long quotation, a guessed one in the shortest, and the true one. */
			uint64_t guess = k < 2 ? cookie ^ 1ull << 20 : cookie;

			if (protocol == PROBE_ICMP)
				probe_packet_icmp(packet, &ends, 16, 0, guess, k == 1 ? path->checksum ^ 0x100 : path->checksum);
			else if (protocol == PROBE_STAMP)
				probe_packet_stamp(packet, &ends, 44, 0, guess, f->prober->error_estimate, NULL);
			else
				probe_packet_tcp(packet, &ends, (uint32_t)guess);
			send_error(&ends, numbers[protocol], packet, k == 1 ? 8 : len);
			assert_int_equal(run_until(f, 1, 30 * NS_PER_MS), k == 2);
			assert_int_equal(counts_of(path).rejected, k == 0 ? 1 : 2);
		}
		assert_int_equal(f->results[0].error, EHOSTUNREACH);
		/* Also in the shortest quotation the true one is known. */
		f->n_results = 0;
		assert_int_equal(prober_send(path), 0);
		memcpy(packet, f->prober->messages[f->prober->n_queued - 1].packet, len); /* TCP: behind a reset */
		prober_flush(f->prober);
		send_error(&ends, numbers[protocol], packet, 8);
		assert_true(run_until(f, 1, 100 * NS_PER_MS));
		assert_int_equal(f->results[0].error, EHOSTUNREACH);
		/* An answer that was there before the error is collected counts. */
		near_do("ip neigh del " FAR4 " dev e0");
		assert_int_equal(probe_once(f, path).outcome, PROBE_OK);
		prober_remove(path);
	}
}

static bool tick_until(struct fixture *f, struct probe_path *path, enum probe_outcome wanted)
{
	for (uint64_t until = mono_now().ns + DEADLINE_NS; mono_now().ns < until;) {
		prober_tick(f->prober, mono_now());
		if (probe_once(f, path).outcome == wanted)
			return true;
		usleep(10000);
	}
	return false;
}

static void test_routes_and_links_that_change(void **state)
{
	struct fixture *f = &fixture;
	struct probe_spec icmp = spec_of(PROBE_ICMP, "10.5.0.1"), tcp = spec_of(PROBE_TCP, "10.5.0.1");
	struct probe_path *path, *tcp_path;
	struct probe_result result;

	fixture_open(f, state);
	far_do(f, "ip addr add 10.5.0.1/32 dev lo");
	open_prober(f, PROBE_ATTACH_TC);
	icmp.timeout_ns = tcp.timeout_ns = 100 * NS_PER_MS;
	path = add_path(f, &icmp);
	tcp_path = add_path(f, &tcp); /* who knows by which interface */
	assert_null(probe_path_device(path));
	assert_int_equal(probe_once(f, path).error, ENETUNREACH);
	assert_int_equal(probe_once(f, tcp_path).error, ENETUNREACH);
	near_do("ip route add 10.5.0.0/24 via " FAR4);
	assert_true(tick_until(f, path, PROBE_OK));
	assert_true(tick_until(f, tcp_path, PROBE_OK));
	assert_string_equal(probe_path_device(path)->name, "e0");
	result = probe_once(f, path);
	assert_int_equal(result.clock, PROBE_CLOCK_TC);
	/* Another link takes over. */
	add_link(f, 1);
	near_do("ip route replace 10.5.0.0/24 via 10.2.0.2");
	for (uint64_t until = mono_now().ns + DEADLINE_NS; strcmp(probe_path_device(path)->name, "e1") && mono_now().ns < until;)
		prober_tick(f->prober, mono_now());
	assert_string_equal(probe_path_device(path)->name, "e1");
	result = probe_once(f, path);
	assert_true(result.outcome == PROBE_OK && result.clock == PROBE_CLOCK_TC);
	/* It goes, and comes back as another. */
	near_do("ip link del e1");
	assert_true(tick_until(f, path, PROBE_UNREACHABLE));
	add_link(f, 1);
	near_do("ip route replace 10.5.0.0/24 via 10.2.0.2");
	assert_true(tick_until(f, path, PROBE_OK));
	for (int i = 0; i < 5; i++) {
		result = probe_once(f, path);
		assert_true(result.outcome == PROBE_OK && result.clock == PROBE_CLOCK_TC);
	}
	assert_true(tick_until(f, tcp_path, PROBE_OK));
}

/* A process that was away longer than the time-out, without hooks: the answers wait in the sockets. */
static void test_a_late_reader_loses_nothing(void **state)
{
	struct fixture *f = &fixture;

	fixture_open(f, state);
	open_prober(f, PROBE_ATTACH_OFF);
	for (int protocol = 0; protocol < PROBE_TCP; protocol++) {
		struct probe_spec spec = spec_of((enum probe_protocol)protocol, FAR4);
		struct probe_path *path;

		spec.timeout_ns = 50 * NS_PER_MS;
		path = add_path(f, &spec);
		while (probe_once(f, path).clock != PROBE_CLOCK_KERNEL && path->next < 1000)
			;
		f->n_results = 0;
		for (int i = 0; i < 40; i++) {
			assert_int_equal(prober_send(path), 0);
			prober_flush(f->prober);
		}
		usleep(120000);
		prober_collect(f->prober, mono_now());
		assert_int_equal(f->n_results, 40);
		for (size_t i = 0; i < 40; i++)
			assert_true(f->results[i].outcome == PROBE_OK && f->results[i].clock == PROBE_CLOCK_KERNEL &&
				    f->results[i].rtt_ns < 50 * NS_PER_MS);
	}
}

/* The host has no room: said so, and counted apart. */
static void test_no_room(void **state)
{
	struct fixture *f = &fixture;
	struct probe_spec spec = spec_of(PROBE_ICMP, FAR4);
	struct probe_path *path;
	size_t refused = 0;

	fixture_open(f, state);
	near_do("tc qdisc add dev e0 root tbf rate 8kbit burst 2000 limit 4000");
	open_prober(f, PROBE_ATTACH_TC);
	spec.timeout_ns = 50 * NS_PER_MS;
	spec.payload = 1000;
	path = add_path(f, &spec);
	f->n_results = 0;
	for (int i = 0; i < 20; i++)
		assert_int_equal(prober_send(path), 0);
	prober_flush(f->prober);
	assert_true(run_until(f, 20, DEADLINE_NS));
	for (size_t i = 0; i < 20; i++)
		refused += f->results[i].outcome == PROBE_UNREACHABLE && f->results[i].error == ENOBUFS;
	assert_true(refused >= 10 && refused < 20);
	assert_int_equal(prober_unsent(f->prober), refused);
	assert_int_equal(counts_of(path).unreachable, refused);
}

/* Paths come and go: nothing of them stays. */
static void test_paths_come_and_go(void **state)
{
	struct fixture *f = &fixture;
	uint32_t first;

	fixture_open(f, state);
	open_prober(f, PROBE_ATTACH_TC);
	for (int i = 0; i < 500; i++) {
		struct probe_spec spec = spec_of((enum probe_protocol)(i % PROBE_PROTOCOL_COUNT), i & 1 ? FAR4 : FAR6);
		struct probe_path *path;

		spec.ring = 8u << i % 5;
		if (i % PROBE_PROTOCOL_COUNT == PROBE_STAMP && i & 4) {
			spec.secret = (const uint8_t *)&i;
			spec.secret_len = sizeof(i);
		}
		path = add_path(f, &spec);
		assert_int_equal(prober_send(path), 0);
		if (i & 2)
			prober_flush(f->prober);
		prober_remove(path);
	}
	assert_int_equal(f->prober->n_free, 64);
	assert_int_equal(probe_rings_take(f->prober->rings, f->prober->flights_max, &first), 0);
	probe_rings_give(f->prober->rings, first, f->prober->flights_max);
	for (size_t i = 0; i < PROBE_HMAC_KEYS_MAX; i++)
		assert_int_equal(f->prober->keys[i].users, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_bad_reflectors, fixture_close),
		cmocka_unit_test_teardown(test_wrong_hmac, fixture_close),
		cmocka_unit_test_teardown(test_full_ring, fixture_close),
		cmocka_unit_test_teardown(test_errors, fixture_close),
		cmocka_unit_test_teardown(test_forged_errors, fixture_close),
		cmocka_unit_test_teardown(test_routes_and_links_that_change, fixture_close),
		cmocka_unit_test_teardown(test_a_late_reader_loses_nothing, fixture_close),
		cmocka_unit_test_teardown(test_no_room, fixture_close),
		cmocka_unit_test_teardown(test_paths_come_and_go, fixture_close),
	};

	kbpf_log_setup();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
