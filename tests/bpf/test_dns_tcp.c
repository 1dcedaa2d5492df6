/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The DNS programs in the running kernel, with real TCP connections in a network
 * namespace of the test's own: messages cut anywhere, many in a segment, zones,
 * nonsense. Needs root; skipped with that reason otherwise.
 */
#include <netinet/tcp.h>

#include "dns_fixture.h"

struct connection {
	int listener, client, server;
};

static void send_exactly(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void receive_exactly(int fd, size_t len)
{
	uint8_t data[4096];

	while (len) {
		ssize_t n = recv(fd, data, len < sizeof(data) ? len : sizeof(data), 0);

		assert_true(n > 0);
		len -= (size_t)n;
	}
}

static void connection_open(struct connection *c, const char *address)
{
	struct sockaddr_storage local;
	socklen_t len = endpoint(address, 53, &local);
	int one = 1;

	c->listener = socket(local.ss_family, SOCK_STREAM, 0);
	setsockopt(c->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	assert_int_equal(bind(c->listener, (struct sockaddr *)&local, len), 0);
	assert_int_equal(listen(c->listener, 5), 0);
	c->client = socket(local.ss_family, SOCK_STREAM, 0);
	assert_int_equal(connect(c->client, (struct sockaddr *)&local, len), 0);
	c->server = accept(c->listener, NULL, NULL);
	setsockopt(c->client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(c->server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void connection_close(struct connection *c)
{
	close(c->client);
	close(c->server);
	close(c->listener);
}

/* With its prefix; `extra` bytes of body behind the question. */
static size_t put_message(uint8_t *to, uint16_t id, uint16_t flags, size_t extra)
{
	size_t len = MESSAGE + extra;

	to[0] = (uint8_t)(len >> 8);
	to[1] = (uint8_t)len;
	make_message(to + 2, id, flags);
	memset(to + 2 + MESSAGE, 0xff, extra);
	return 2 + len;
}

static void test_tcp_many_messages_per_segment(void **state)
{
	enum { N = 200 };
	static uint8_t data[N * (2 + MESSAGE + 100)];
	const char *const addresses[] = { "127.88.10.1", "::1" };
	struct connection c;
	struct fixture f;

	for (size_t a = 0; a < 2; a++) {
		const struct dns_row *row;
		size_t len = 0;

		fixture_open(&f);
		connection_open(&c, addresses[a]);
		for (uint16_t id = 0; id < N; id++)
			len += put_message(data + len, id, QUERY, 0);
		send_exactly(c.client, data, len);
		receive_exactly(c.server, len);
		len = 0;
		for (uint16_t id = N; id-- > 0;)
			len += put_message(data + len, id, ANSWER(id % 4 ? 0 : 3), id % 100);
		send_exactly(c.server, data, len);
		receive_exactly(c.client, len);
		row = row_wanted(&f, addresses[a]);
		assert_int_equal(lookups(row, DNS_NOERROR), N - N / 4);
		assert_int_equal(lookups(row, DNS_NXDOMAIN), N / 4);
		assert_int_equal(row->retransmits, 0);
		connection_close(&c);
		fixture_close(&f);
	}
}

/* Cut at every place, a byte at a time too: in the prefix, between it and the header, in the header, in the body. */
static void test_tcp_messages_over_segments(void **state)
{
	uint8_t data[3 * (2 + MESSAGE + 40)];
	const struct dns_row *row;
	struct connection c;
	struct fixture f;
	uint16_t id = 0;
	size_t len, step;

	fixture_open(&f);
	connection_open(&c, "127.88.11.1");
	for (step = 1; step < sizeof(data); step++) {
		len = 0;
		for (uint16_t i = 0; i < 3; i++)
			len += put_message(data + len, (uint16_t)(id + i), QUERY, 0);
		for (size_t at = 0; at < len; at += step)
			send_exactly(c.client, data + at, len - at < step ? len - at : step);
		receive_exactly(c.server, len);
		len = 0;
		for (uint16_t i = 0; i < 3; i++)
			len += put_message(data + len, (uint16_t)(id + i), ANSWER(2), 40);
		for (size_t at = 0; at < len; at += step)
			send_exactly(c.server, data + at, len - at < step ? len - at : step);
		receive_exactly(c.client, len);
		id = (uint16_t)(id + 3);
	}
	row = row_wanted(&f, "127.88.11.1");
	assert_int_equal(lookups(row, DNS_SERVFAIL), id);
	assert_int_equal(all_lookups(row), id);
	assert_int_equal(row->retransmits, 0);
	connection_close(&c);
	fixture_close(&f);
}

/* One query, a thousand answers: one lookup. */
static void test_tcp_zone_transfer(void **state)
{
	static uint8_t data[2 + 65535];
	struct connection c;
	struct fixture f;
	size_t len;

	fixture_open(&f);
	connection_open(&c, "127.88.12.1");
	len = put_message(data, 77, QUERY, 0);
	send_exactly(c.client, data, len);
	receive_exactly(c.server, len);
	dns_program_stats(f.program, &f.before);
	for (int i = 0; i < 50; i++) {
		len = put_message(data, 77, ANSWER(0), 20000 + (size_t)i);
		send_exactly(c.server, data, len);
		receive_exactly(c.client, len);
	}
	len = put_message(data, 78, QUERY, 0);
	send_exactly(c.client, data, len);
	receive_exactly(c.server, len);
	len = put_message(data, 78, ANSWER(0), 0);
	send_exactly(c.server, data, len);
	receive_exactly(c.client, len);
	assert_int_equal(all_lookups(row_wanted(&f, "127.88.12.1")), 2);
	assert_true(discarded(&f, DNS_UNSOLICITED) < 49);
	assert_true(discarded(&f, DNS_UNPARSED) == 0);
	connection_close(&c);
	fixture_close(&f);
}

/* A connection that is older than the programs, and one whose server loses the framing: found again at a whole message. */
static void test_tcp_finds_its_place(void **state)
{
	const uint8_t nonsense[] = { 0, 3, 1, 2, 3 };
	uint8_t data[2 + MESSAGE];
	const struct dns_row *row;
	struct connection c;
	struct fixture f;

	if (geteuid())
		skip();
	connection_open(&c, "127.88.13.1");
	fixture_open(&f);
	for (uint16_t id = 1; id <= 3; id++) {
		put_message(data, id, QUERY, 0);
		send_exactly(c.client, data, sizeof(data));
		receive_exactly(c.server, sizeof(data));
		put_message(data, id, ANSWER(0), 0);
		send_exactly(c.server, data, sizeof(data));
		receive_exactly(c.client, sizeof(data));
		if (id == 2) {
			uint64_t broken = discarded(&f, DNS_BROKEN), unparsed = discarded(&f, DNS_UNPARSED);

			send_exactly(c.server, nonsense, sizeof(nonsense));
			receive_exactly(c.client, sizeof(nonsense));
			assert_true(discarded(&f, DNS_BROKEN) > broken);
			put_message(data, id, ANSWER(0), 0);
			for (size_t at = 0; at < sizeof(data); at += sizeof(data) / 2) { /* not to be told while it is lost */
				send_exactly(c.server, data + at, sizeof(data) / 2);
				receive_exactly(c.client, sizeof(data) / 2);
			}
			assert_true(discarded(&f, DNS_UNPARSED) >= unparsed + 2);
		}
	}
	row = row_wanted(&f, "127.88.13.1");
	assert_int_equal(lookups(row, DNS_NOERROR), 3);
	connection_close(&c);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp_many_messages_per_segment),
		cmocka_unit_test(test_tcp_messages_over_segments),
		cmocka_unit_test(test_tcp_zone_transfer),
		cmocka_unit_test(test_tcp_finds_its_place),
	};

	if (!geteuid() && own_namespace()) {
		print_error("cannot make a network namespace: %s\n", strerror(errno));
		return 1;
	}
	kbpf_log_setup();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
