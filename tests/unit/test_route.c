/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of rtnetlink made here, whole, cut at every length and damaged; and, as root, the kernel's real answers in
 * a network namespace of the test's own, also for a user without privileges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <net/if.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/probe/route.h"
#include "agent/probe/rtnl.h"

static void test_attributes(void **state)
{
	uint8_t data[64];
	const struct rtattr first = { .rta_len = RTA_LENGTH(3), .rta_type = 7 };
	const struct rtattr second = { .rta_len = RTA_LENGTH(4), .rta_type = NLA_F_NESTED | 9 };
	const uint32_t value = 0x01020304;
	const size_t whole = RTA_SPACE(3) + RTA_SPACE(4);
	size_t len = 0;

	(void)state;
	memset(data, 0, sizeof(data));
	memcpy(data + 1, &first, sizeof(first)); /* at an odd address */
	memcpy(data + 1 + sizeof(first), "abc", 3);
	memcpy(data + 1 + RTA_SPACE(3), &second, sizeof(second));
	memcpy(data + 1 + RTA_SPACE(3) + sizeof(second), &value, sizeof(value));
	assert_memory_equal(rtnl_find(data + 1, whole, 7, 3, &len), "abc", 3);
	assert_int_equal(len, 3);
	assert_null(rtnl_find(data + 1, whole, 7, 4, NULL));
	assert_null(rtnl_find(data + 1, whole, 8, 0, NULL));
	assert_int_equal(rtnl_find_u32(data + 1, whole, 9), value);
	for (len = 0; len < whole; len++)
		assert_int_equal(rtnl_find_u32(data + 1, len, 9), 0);
	/* Lengths that lead nowhere. */
	for (unsigned bad = 0; bad < 65536; bad++) {
		uint16_t n = (uint16_t)bad;

		memcpy(data + 1, &n, sizeof(n));
		if (RTA_ALIGN(bad) != RTA_SPACE(3))
			assert_int_not_equal(rtnl_find_u32(data + 1, whole, 9), value);
	}
}

/* A socket pair stands where the kernel would: it answers whatever it is told to. */
static int ask_forged(const void *answer, size_t len, struct rtnl_answer *ret_answer)
{
	struct rtnl_request q = RTNL_ROUTE_INIT(RTM_GETROUTE);
	int pair[2], r;

	q.header.nlmsg_seq = 5;
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(send(pair[1], answer, len, 0), len);
	r = rtnl_ask(pair[0], &q, RTM_NEWROUTE, sizeof(struct rtmsg), ret_answer);
	close(pair[0]);
	close(pair[1]);
	return r;
}

static void test_answers(void **state)
{
	struct { struct nlmsghdr header; struct rtmsg route; struct rtattr attribute; uint32_t value; } good = {
		.header = { .nlmsg_len = sizeof(good), .nlmsg_type = RTM_NEWROUTE, .nlmsg_seq = 5 },
		.attribute = { .rta_len = RTA_LENGTH(4), .rta_type = RTA_OIF }, .value = 42,
	}, bad;
	struct { struct nlmsghdr header; struct nlmsgerr error; } refused = {
		.header = { .nlmsg_len = sizeof(refused), .nlmsg_type = NLMSG_ERROR, .nlmsg_seq = 5 },
		.error = { .error = -ENETUNREACH },
	};
	static uint8_t large[RTNL_ANSWER_MAX + 1];
	struct rtnl_answer answer;

	(void)state;
	assert_int_equal(ask_forged(&good, sizeof(good), &answer), 0);
	assert_int_equal(rtnl_find_u32(answer.attributes, answer.attributes_len, RTA_OIF), 42);
	for (size_t len = 1; len < sizeof(good); len++)
		assert_int_equal(ask_forged(&good, len, &answer), -EBADMSG);
	bad = good;
	bad.header.nlmsg_seq = 4; /* of an earlier question; then nothing comes any more */
	assert_int_equal(ask_forged(&bad, sizeof(bad), &answer), -EPROTO);
	bad = good;
	bad.header.nlmsg_len = NLMSG_HDRLEN + 3;
	assert_int_equal(ask_forged(&bad, sizeof(bad), &answer), -EBADMSG);
	bad = good;
	bad.header.nlmsg_type = RTM_NEWLINK;
	assert_int_equal(ask_forged(&bad, sizeof(bad), &answer), -EBADMSG);
	memcpy(large, &good, sizeof(good));
	assert_int_equal(ask_forged(large, sizeof(large), &answer), -EBADMSG);
	assert_int_equal(ask_forged(&refused, sizeof(refused), &answer), -ENETUNREACH);
	refused.error.error = 0; /* an acknowledgement is no answer */
	assert_int_equal(ask_forged(&refused, sizeof(refused), &answer), -EPROTO);
	refused.error.error = 17;
	assert_int_equal(ask_forged(&refused, sizeof(refused), &answer), -EPROTO);
}

/* Lines of `ip -b`, or, if "6 " is before them, of `ip -6 -b`. */
static void ip(const char *batch)
{
	const bool six = !strncmp(batch, "6 ", 2);
	FILE *pipe = popen(six ? "PATH=$PATH:/usr/sbin:/sbin ip -6 -b -" : "PATH=$PATH:/usr/sbin:/sbin ip -b -", "w");

	assert_non_null(pipe);
	fputs(batch + (six ? 2 : 0), pipe);
	assert_int_equal(pclose(pipe), 0);
}

static const char network[] =
	"link set lo up\n"
	"link add v0 type veth peer name v1\n"
	"link add v2 type veth peer name v3\n"
	"link set v0 addrgenmode none\nlink set v1 addrgenmode none\nlink set v2 addrgenmode none\n"
	"link set v0 up\nlink set v1 up\nlink set v2 up\nlink set v3 up\n"
	"addr add 10.0.0.1/24 dev v0\naddr add 10.0.0.9/24 dev v0\naddr add 10.0.5.1/24 dev v2\n"
	"addr add fd00::1/64 dev v0 nodad\naddr add fe80::1/64 dev v0 nodad\naddr add fe80::3/64 dev v2 nodad\n"
	"route add 10.1.0.0/16 via 10.0.0.2\n"
	"route add 10.6.0.0/16 via 10.0.0.2 src 10.0.0.9\n"
	"route add unreachable 10.2.0.0/16\nroute add prohibit 10.3.0.0/16\nroute add blackhole 10.4.0.0/16\n"
	"route add 10.7.0.0/16 dev v2 table 77\nrule add from 10.0.0.9 to 10.7.0.0/16 table 77\n"
	"route add fd01::/64 via fd00::2\n"
	"route add unreachable fd02::/64\nroute add prohibit fd03::/64\nroute add blackhole fd04::/64\n";

static const struct row {
	const char *destination, *source, *by;
	int expected;
	const char *interface, *uses;
	bool local;
} rows[] = {
	{ "10.0.0.2", NULL, NULL, 0, "v0", "10.0.0.1", false },
	{ "10.0.5.7", NULL, NULL, 0, "v2", "10.0.5.1", false },
	{ "10.0.0.2", "10.0.0.9", NULL, 0, "v0", "10.0.0.9", false },
	{ "10.0.0.2", "192.0.2.1", NULL, -ENETUNREACH, NULL, NULL, false }, /* not ours */
	{ "10.0.0.2", "fd00::1", NULL, -EINVAL, NULL, NULL, false },
	{ "10.1.2.3", NULL, NULL, 0, "v0", "10.0.0.1", false },
	{ "10.6.0.1", NULL, NULL, 0, "v0", "10.0.0.9", false },
	{ "10.2.0.1", NULL, NULL, -EHOSTUNREACH, NULL, NULL, false },
	{ "10.3.0.1", NULL, NULL, -EACCES, NULL, NULL, false },
	{ "10.4.0.1", NULL, NULL, -EINVAL, NULL, NULL, false },
	{ "10.7.0.1", NULL, NULL, -ENETUNREACH, NULL, NULL, false },
	{ "10.7.0.1", "10.0.0.9", NULL, 0, "v2", "10.0.0.9", false }, /* by a rule */
	{ "192.0.2.1", NULL, NULL, -ENETUNREACH, NULL, NULL, false },
	{ "192.0.2.1", NULL, "v2", 0, "v2", "10.0.5.1", false }, /* as SO_BINDTODEVICE has it */
	{ "10.0.0.1", NULL, NULL, 0, "lo", "10.0.0.1", true },
	{ "127.0.0.1", NULL, NULL, 0, "lo", "127.0.0.1", true },
	{ "fd00::2", NULL, NULL, 0, "v0", "fd00::1", false },
	{ "fd01::1", NULL, NULL, 0, "v0", "fd00::1", false },
	{ "fd02::1", NULL, NULL, -EHOSTUNREACH, NULL, NULL, false },
	{ "fd03::1", NULL, NULL, -EACCES, NULL, NULL, false },
	{ "fd04::1", NULL, NULL, -EINVAL, NULL, NULL, false },
	{ "2001:db8::1", NULL, NULL, -ENETUNREACH, NULL, NULL, false },
	{ "fd00::1", NULL, NULL, 0, "lo", "fd00::1", true },
	{ "::1", NULL, NULL, 0, "lo", "::1", true },
	{ "fe80::99", NULL, "v0", 0, "v0", "fe80::1", false },
	{ "fe80::99", NULL, "v2", 0, "v2", "fe80::3", false },
	{ "fe80::3", NULL, "v2", 0, "lo", "fe80::3", true },
};

static struct address address_of(const char *text)
{
	struct address a;

	assert_int_equal(address_parse(text, &a), 0);
	return a;
}

static int check_row(struct routes *routes, const struct row *row, bool is_last)
{
	struct route_query query = { .destination = address_of(row->destination) };
	struct route route = { 0 };
	char source[ADDRESS_TEXT_MAX];
	int r;

	query.ifindex = row->by ? if_nametoindex(row->by) : 0;
	if (row->source) {
		query.source = address_of(row->source);
		query.has_source = true;
	}
	r = routes_find(routes, &query, &route);
	if (r == row->expected && (r || (route.ifindex == if_nametoindex(row->interface) && route.local == row->local &&
					 !strcmp(address_format(&route.source, source), row->uses))))
		return 0;
	if (!is_last)
		return 1;
	print_error("%s from %s by %s: %d, interface %u, local %d, source %s\n", row->destination,
		    row->source ? row->source : "any", row->by ? row->by : "any", r, route.ifindex, route.local, address_format(&route.source, source));
	return 1;
}

/* How many are wrong, when the kernel has had its time: a work queue brings IPv6 addresses into force. */
static int check_rows(struct routes *routes)
{
	int wrong = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int k = 0; k < 500 && check_row(routes, &rows[i], false); k++)
			usleep(10000);
		wrong += check_row(routes, &rows[i], true);
	}
	return wrong;
}

static void open_network(const char *lines, struct routes **ret_routes)
{
	if (geteuid()) {
		print_message("skipped: a network namespace needs root\n");
		skip();
	}
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	ip(lines);
	assert_int_equal(routes_open(ret_routes), 0);
}

static void test_routes(void **state)
{
	struct routes *routes;

	(void)state;
	open_network(network, &routes);
	assert_int_equal(check_rows(routes), 0);
	routes_close(routes);
}

static void test_unprivileged(void **state)
{
	struct routes *routes;
	int status;
	pid_t pid;

	(void)state;
	open_network(network, &routes);
	routes_close(routes);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(setuid(65534) || routes_open(&routes) || check_rows(routes));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_changes(void **state)
{
	static const char *const batches[] = {
		"route add 10.9.0.0/16 dev lo\n", "route del 10.9.0.0/16\n", "route add fd09::/64 dev lo\n",
		"rule add from 10.9.0.1 table 78\n", "6 rule add from fd09::1 table 78\n", "addr add 10.0.0.10/24 dev lo\n",
		"addr add fd00::10/64 dev lo nodad\n",
	};
	struct routes *routes;
	FILE *many;

	(void)state;
	open_network("link set lo up\n", &routes); /* other interfaces change by themselves for a while */
	assert_true(routes_changed(routes));
	assert_false(routes_changed(routes));
	for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
		ip(batches[i]);
		assert_true(routes_changed(routes));
		assert_false(routes_changed(routes));
	}
	/* More than its queue holds. */
	many = popen("PATH=$PATH:/usr/sbin:/sbin ip -b -", "w");
	for (int i = 0; i < 1000; i++)
		fprintf(many, "route add 10.10.%d.%d/32 dev lo\n", i / 250, i % 250);
	assert_int_equal(pclose(many), 0);
	assert_true(routes_changed(routes));
	while (routes_changed(routes))
		;
	ip("route add 10.9.0.0/16 dev lo\n");
	assert_true(routes_changed(routes));
	routes_close(routes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_unprivileged),
		cmocka_unit_test(test_changes),
	};

	return cmocka_run_group_tests_name("route", tests, NULL, NULL);
}
