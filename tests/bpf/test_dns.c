/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS programs in the running kernel, with datagrams of real sockets in a network
 * namespace of the test's own. Needs root; skipped with that reason otherwise.
 */
#include "dns_fixture.h"

static void test_every_response_code(void **state)
{
	static const enum dns_rcode expected[16] = {
		DNS_NOERROR, DNS_FORMERR, DNS_SERVFAIL, DNS_NXDOMAIN, DNS_NOTIMP, DNS_REFUSED, DNS_RCODE_OTHER, DNS_RCODE_OTHER,
		DNS_RCODE_OTHER, DNS_RCODE_OTHER, DNS_RCODE_OTHER, DNS_RCODE_OTHER, DNS_RCODE_OTHER, DNS_RCODE_OTHER,
		DNS_RCODE_OTHER, DNS_RCODE_OTHER,
	};
	struct sockaddr_storage address;
	uint64_t wanted[DNS_RCODE_COUNT] = { 0 };
	const struct dns_row *row;
	struct fixture f;
	int server, connected, open_client;

	fixture_open(&f);
	server = udp_socket("127.88.1.1", 53);
	connected = udp_socket("127.88.1.2", 0);
	open_client = udp_socket("0.0.0.0", 0);
	assert_int_equal(connect(connected, (struct sockaddr *)&address, endpoint("127.88.1.1", 53, &address)), 0);
	for (uint16_t rcode = 0; rcode < 16; rcode++) {
		for (int i = 0; i <= rcode % 3; i++) {
			exchange(connected, NULL, server, (uint16_t)(100 + rcode), ANSWER(rcode));
			exchange(open_client, "127.88.1.1", server, (uint16_t)(100 + rcode), ANSWER(rcode));
			wanted[expected[rcode]] += 2;
		}
	}
	row = row_wanted(&f, "127.88.1.1");
	for (size_t i = 0; i < DNS_RCODE_COUNT; i++)
		assert_int_equal(lookups(row, (enum dns_rcode)i), wanted[i]);
	assert_int_equal(row->retransmits + row->timeouts + row->late_answers + row->truncated, 0);
	close(server);
	close(connected);
	close(open_client);
	fixture_close(&f);
}

static void test_both_families(void **state)
{
	struct fixture f;
	int server4, server6, client6, dual;

	fixture_open(&f);
	server4 = udp_socket("127.88.2.1", 53);
	server6 = udp_socket("::1", 53);
	client6 = udp_socket("::1", 0);
	dual = udp_socket("::", 0); /* an IPv6 socket that speaks IPv4 */
	for (int i = 0; i < 5; i++)
		exchange(client6, "::1", server6, 7, ANSWER(0));
	for (int i = 0; i < 3; i++)
		exchange(dual, "::ffff:127.88.2.1", server4, 7, ANSWER(3));
	assert_int_equal(lookups(row_wanted(&f, "::1"), DNS_NOERROR), 5);
	assert_int_equal(lookups(row_wanted(&f, "127.88.2.1"), DNS_NXDOMAIN), 3);
	close(server4);
	close(server6);
	close(client6);
	close(dual);
	fixture_close(&f);
}

/* Sent three times, answered three times: one lookup, as long as the user waited. */
static void test_sent_again(void **state)
{
	struct sockaddr_storage from;
	const struct dns_row *row;
	struct fixture f;
	int server, client;
	socklen_t len;

	fixture_open(&f);
	server = udp_socket("127.88.3.1", 53);
	client = udp_socket("127.88.3.2", 0);
	for (int i = 0; i < 3; i++) {
		send_message(client, "127.88.3.1", 9, QUERY);
		take_query(server, &from, &len);
		usleep(20000);
	}
	for (int i = 0; i < 3; i++)
		answer(server, &from, len, 9, ANSWER(0));
	row = row_wanted(&f, "127.88.3.1");
	assert_int_equal(all_lookups(row), 1);
	assert_int_equal(row->retransmits, 2);
	assert_true(row->sum_ns[DNS_NOERROR] >= 60 * NS_PER_MS);
	assert_true(discarded(&f, DNS_DUPLICATE) >= 2);
	/* All of it is over: the same id is a new lookup. */
	exchange(client, "127.88.3.1", server, 9, ANSWER(0));
	assert_int_equal(all_lookups(row), 2);
	assert_int_equal(row->retransmits, 2);
	close(server);
	close(client);
	fixture_close(&f);
}

static void test_answers_out_of_order(void **state)
{
	enum { N = 50 };
	struct sockaddr_storage from;
	const struct dns_row *row;
	struct fixture f;
	int server, client;
	socklen_t len;

	fixture_open(&f);
	server = udp_socket("127.88.4.1", 53);
	client = udp_socket("127.88.4.2", 0);
	for (uint16_t id = 0; id < N; id++) {
		send_message(client, "127.88.4.1", id, QUERY);
		assert_int_equal(take_query(server, &from, &len), id);
	}
	for (uint16_t id = N; id-- > 0;)
		answer(server, &from, len, id, ANSWER(id % 2 ? 0 : 2));
	row = row_wanted(&f, "127.88.4.1");
	assert_int_equal(lookups(row, DNS_NOERROR), N / 2);
	assert_int_equal(lookups(row, DNS_SERVFAIL), N / 2);
	assert_int_equal(row->retransmits, 0);
	close(server);
	close(client);
	fixture_close(&f);
}

/* The same id at the same time to two servers, and from two sockets of one port: all are different queries. */
static void test_what_makes_a_query(void **state)
{
	struct sockaddr_storage from[3];
	socklen_t len[3];
	struct fixture f;
	int servers[2], clients[2], one = 1;
	struct sockaddr_storage local;

	fixture_open(&f);
	servers[0] = udp_socket("127.88.5.1", 53);
	servers[1] = udp_socket("127.88.5.2", 53);
	for (int i = 0; i < 2; i++) {
		char address[] = "127.88.5.3";

		address[9] = (char)('3' + i);
		clients[i] = socket(AF_INET, SOCK_DGRAM, 0);
		setsockopt(clients[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		assert_int_equal(bind(clients[i], (struct sockaddr *)&local, endpoint(address, 5353, &local)), 0);
	}
	send_message(clients[0], "127.88.5.1", 1, QUERY);
	take_query(servers[0], &from[0], &len[0]);
	send_message(clients[0], "127.88.5.2", 1, QUERY);
	take_query(servers[1], &from[1], &len[1]);
	send_message(clients[1], "127.88.5.1", 1, QUERY);
	take_query(servers[0], &from[2], &len[2]);
	answer(servers[0], &from[2], len[2], 1, ANSWER(5));
	answer(servers[1], &from[1], len[1], 1, ANSWER(0));
	answer(servers[0], &from[0], len[0], 1, ANSWER(3));
	assert_int_equal(lookups(row_wanted(&f, "127.88.5.1"), DNS_REFUSED), 1);
	assert_int_equal(lookups(row_wanted(&f, "127.88.5.1"), DNS_NXDOMAIN), 1);
	assert_int_equal(lookups(row_wanted(&f, "127.88.5.2"), DNS_NOERROR), 1);
	assert_int_equal(row_wanted(&f, "127.88.5.1")->retransmits + row_wanted(&f, "127.88.5.2")->retransmits, 0);
	for (int i = 0; i < 2; i++) {
		close(servers[i]);
		close(clients[i]);
	}
	fixture_close(&f);
}

static void test_timeouts_and_late_answers(void **state)
{
	struct sockaddr_storage from;
	const struct dns_row *row;
	struct fixture f;
	int server, client;
	socklen_t len;

	fixture_open(&f);
	server = udp_socket("127.88.6.1", 53);
	client = udp_socket("127.88.6.2", 0);
	for (uint16_t id = 1; id <= 5; id++) {
		send_message(client, "127.88.6.1", id, QUERY);
		take_query(server, &from, &len);
	}
	sweep(&f, 1);
	row = row_wanted(&f, "127.88.6.1");
	assert_int_equal(row->timeouts, 0);
	answer(server, &from, len, 5, ANSWER(0)); /* in time */
	dns_program_set_times(f.program, NS_PER_MS, 3600 * NS_PER_SEC);
	usleep(2000);
	answer(server, &from, len, 1, ANSWER(0)); /* too late, though no sweep has said so */
	assert_int_equal(row->timeouts, 1);
	sweep(&f, 1);
	assert_int_equal(row->timeouts, 4);
	sweep(&f, 1);
	assert_int_equal(row->timeouts, 4);
	answer(server, &from, len, 2, ANSWER(0));
	assert_int_equal(row->late_answers, 2);
	send_message(client, "127.88.6.1", 3, QUERY); /* once more, after it was given up: a new lookup */
	assert_int_equal(row->retransmits, 0);
	dns_program_set_times(f.program, NS_PER_MS, 2 * NS_PER_MS);
	usleep(3000);
	sweep(&f, 1);
	assert_int_equal(row->timeouts, 5);
	answer(server, &from, len, 4, ANSWER(0)); /* too late to be known */
	assert_int_equal(row->late_answers, 2);
	assert_true(discarded(&f, DNS_UNSOLICITED) >= 1);
	assert_int_equal(all_lookups(row), 1);
	close(server);
	close(client);
	fixture_close(&f);
}

/* Whoever sends nonsense changes no server's numbers, and the nonsense is counted. */
static void test_nonsense(void **state)
{
	struct sockaddr_storage from, to;
	uint8_t message[MESSAGE], garbage[600];
	const struct dns_row *row;
	struct dns_row before;
	struct fixture f;
	int server, stranger, client;
	socklen_t len, to_len;

	fixture_open(&f);
	server = udp_socket("127.88.7.1", 53);
	stranger = udp_socket("127.88.7.9", 53);
	client = udp_socket("127.88.7.2", 0);
	send_message(client, "127.88.7.1", 1, QUERY);
	take_query(server, &from, &len);
	row = row_wanted(&f, "127.88.7.1");
	before = *row;
	srand(77);
	for (int i = 0; i < 300; i++) { /* with the right id */
		for (size_t k = 0; k < sizeof(garbage); k++)
			garbage[k] = (uint8_t)rand();
		memcpy(garbage, (uint8_t[]){ 0, 1, 0x80, 0x80, 0xff, 0xff }, 6);
		assert_true(sendto(server, garbage, (size_t)i, 0, (struct sockaddr *)&from, len) == i);
	}
	assert_true(discarded(&f, DNS_BROKEN) >= 300);
	answer(server, &from, len, 2, ANSWER(0));    /* another id */
	answer(stranger, &from, len, 1, ANSWER(0));  /* another server */
	assert_true(discarded(&f, DNS_UNSOLICITED) >= 2);
	answer(server, &from, len, 1, 0xa800); /* an update's answer (RFC 2136), not a lookup's */
	answer(server, &from, len, 1, QUERY);  /* a query to us */
	assert_memory_equal(row, &before, sizeof(before));
	assert_null(row_of(&f, "127.88.7.9"));
	/* What we send ourselves: too short; two questions; more records than fit; an update. */
	to_len = endpoint("127.88.7.1", 53, &to);
	make_message(message, 50, QUERY);
	assert_int_equal(sendto(client, message, 11, 0, (struct sockaddr *)&to, to_len), 11);
	message[5] = 2;
	assert_int_equal(sendto(client, message, MESSAGE, 0, (struct sockaddr *)&to, to_len), MESSAGE);
	message[5] = 1;
	message[11] = 2;
	assert_int_equal(sendto(client, message, MESSAGE, 0, (struct sockaddr *)&to, to_len), MESSAGE);
	make_message(message, 51, 0x2800);
	assert_int_equal(sendto(client, message, MESSAGE, 0, (struct sockaddr *)&to, to_len), MESSAGE);
	assert_true(discarded(&f, DNS_BROKEN) >= 303);
	answer(server, &from, len, 50, ANSWER(0));
	answer(server, &from, len, 51, ANSWER(0));
	assert_memory_equal(row, &before, sizeof(before));
	answer(server, &from, len, 1, ANSWER(0)); /* and the one that was waited for */
	assert_int_equal(all_lookups(row), 1);
	close(server);
	close(stranger);
	close(client);
	fixture_close(&f);
}

static void test_truncated_and_header_only(void **state)
{
	const uint8_t refusal[12] = { 0, 3, 0x80, 0x01, 0, 1 }; /* a FORMERR that says one question and has none */
	struct sockaddr_storage from;
	const struct dns_row *row;
	struct fixture f;
	int server, client;
	socklen_t len;

	fixture_open(&f);
	server = udp_socket("127.88.8.1", 53);
	client = udp_socket("127.88.8.2", 0);
	exchange(client, "127.88.8.1", server, 1, ANSWER_CUT);
	exchange(client, "127.88.8.1", server, 2, ANSWER(0));
	send_message(client, "127.88.8.1", 3, QUERY);
	take_query(server, &from, &len);
	assert_int_equal(sendto(server, refusal, sizeof(refusal), 0, (struct sockaddr *)&from, len), sizeof(refusal));
	row = row_wanted(&f, "127.88.8.1");
	assert_int_equal(lookups(row, DNS_NOERROR), 2);
	assert_int_equal(lookups(row, DNS_FORMERR), 1);
	assert_int_equal(row->truncated, 1);
	close(server);
	close(client);
	fixture_close(&f);
}

/* A raw socket gets a copy of every datagram; it must not be taken for a second answer, nor what it sends for a query. */
static void test_raw_socket(void **state)
{
	struct fixture f;
	int server, client, raw;

	fixture_open(&f);
	server = udp_socket("127.88.9.1", 53);
	client = udp_socket("127.88.9.2", 0);
	raw = socket(AF_INET, SOCK_RAW, IPPROTO_UDP);
	assert_true(raw >= 0);
	dns_program_stats(f.program, &f.before);
	for (uint16_t id = 0; id < 50; id++)
		exchange(client, "127.88.9.1", server, id, ANSWER(0));
	assert_int_equal(all_lookups(row_wanted(&f, "127.88.9.1")), 50);
	assert_true(discarded(&f, DNS_UNSOLICITED) + discarded(&f, DNS_DUPLICATE) < 50);
	close(server);
	close(client);
	close(raw);
	fixture_close(&f);
}

static void test_full(void **state)
{
	enum { EXTRA = 300 };
	struct dns_program_stats stats;
	const struct dns_row *row;
	struct fixture f;
	int clients[2];

	fixture_open(&f);
	clients[0] = udp_socket("127.88.14.2", 0);
	clients[1] = udp_socket("127.88.14.3", 0);
	for (uint32_t i = 0; i < DNS_PENDING_MAX + EXTRA; i++)
		send_message(clients[i >> 15], "127.88.14.1", (uint16_t)i, QUERY); /* nobody is there, nothing comes back */
	dns_program_stats(f.program, &stats);
	assert_true(stats.lost[DNS_LOST_QUERY] - f.before.lost[DNS_LOST_QUERY] >= EXTRA);
	sweep(&f, 1);
	dns_program_stats(f.program, &stats);
	assert_int_equal(stats.pending, DNS_PENDING_MAX);
	row = row_wanted(&f, "127.88.14.1");
	assert_int_equal(row->timeouts, 0);
	/* Full, it keeps nothing that has been counted; then there is room again. */
	dns_program_set_times(f.program, 1, 3600 * NS_PER_SEC);
	sweep(&f, 1);
	assert_in_range(row->timeouts, DNS_PENDING_MAX - 100, DNS_PENDING_MAX);
	for (int i = 0; i < 10; i++)
		sweep(&f, 1);
	dns_program_stats(f.program, &stats);
	assert_true(stats.pending < 100);
	close(clients[0]);
	close(clients[1]);
	fixture_close(&f);
}

static void test_servers(void **state)
{
	struct dns_program_stats stats;
	const struct dns_row *other;
	struct fixture f;
	int client;

	fixture_open(&f);
	client = udp_socket("127.88.15.250", 0);
	for (int i = 1; i <= DNS_SERVERS + 10; i++) {
		char address[32];

		snprintf(address, sizeof(address), "127.88.15.%d", i);
		send_message(client, address, 1, QUERY);
	}
	assert_non_null(row_of(&f, "127.88.15.1"));
	assert_null(row_of(&f, "127.88.15.74"));
	dns_program_set_times(f.program, 1, 1);
	sweep(&f, 1);
	other = dns_program_row(f.program, DNS_OTHER);
	assert_non_null(other);
	assert_true(other->timeouts >= 10);
	dns_program_stats(f.program, &stats);
	assert_int_equal(stats.servers, DNS_SERVERS);
	/* After ten minutes all leave but the one that is asked, and a minute later their rows are free. */
	sweep(&f, 300);
	send_message(client, "127.88.15.2", 2, QUERY);
	sweep(&f, 1);
	sweep(&f, 301);
	assert_non_null(row_of(&f, "127.88.15.2"));
	assert_null(row_of(&f, "127.88.15.1"));
	sweep(&f, 61);
	dns_program_stats(f.program, &stats);
	assert_in_range(stats.servers, 1, 1 + 5); /* the machine's own resolver may be there */
	send_message(client, "127.88.15.74", 1, QUERY);
	assert_int_equal(row_wanted(&f, "127.88.15.74")->timeouts, 0);
	close(client);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_response_code),
		cmocka_unit_test(test_both_families),
		cmocka_unit_test(test_sent_again),
		cmocka_unit_test(test_answers_out_of_order),
		cmocka_unit_test(test_what_makes_a_query),
		cmocka_unit_test(test_timeouts_and_late_answers),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_truncated_and_header_only),
		cmocka_unit_test(test_raw_socket),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_servers),
	};

	if (!geteuid() && own_namespace()) {
		print_error("cannot make a network namespace: %s\n", strerror(errno));
		return 1;
	}
	kbpf_log_setup();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
