/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection table in the running kernel, with real sockets in a network
 * namespace of the test's own. Other processes of the machine have connections too,
 * so rows are found by the cookie that the socket itself tells (SO_COOKIE), and
 * compared with its own TCP_INFO. Needs root; skipped with that reason otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <net/if.h>
/* The kernel's: the C library's has an older struct tcp_info. */
#include <linux/tcp.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/connections.h"
#include "agent/jiffies.h"
#include "agent/kbpf.h"
#include "agent/peers.h"

#define STATE_ESTABLISHED 1
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

static int own_namespace(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, r;

	if (unshare(CLONE_NEWNET | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
	close(fd);
	return r;
}

static struct connections *open_table(uint32_t rows_max)
{
	struct connections *table;
	struct error error = { "" };

	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	if (connections_open(NULL, NULL, rows_max, &table, &error))
		fail_msg("%s", error.text);
	return table;
}

static void refresh(struct connections *table)
{
	assert_int_equal(connections_refresh(table, mono_now()), 0);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
	return cookie;
}

static bool find_cookie(struct connections *table, uint64_t cookie, struct connection *ret)
{
	bool found = false;

	for (size_t i = 0; i < connections_count(table); i++) {
		struct connection c;

		connections_get(table, i, &c);
		if (c.cookie != cookie)
			continue;
		assert_false(found); /* one row per socket */
		found = true;
		*ret = c;
	}
	return found;
}

static struct connection row_of(struct connections *table, int fd)
{
	struct connection c;

	if (!find_cookie(table, cookie_of(fd), &c))
		fail_msg("the table has no row of descriptor %d", fd);
	return c;
}

static void loopback(int family, struct sockaddr_storage *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->ss_family = (sa_family_t)family;
	if (family == AF_INET)
		((struct sockaddr_in *)ret)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		((struct sockaddr_in6 *)ret)->sin6_addr = in6addr_loopback;
}

static int listen_on(int family, int protocol, struct sockaddr_storage *ret_address)
{
	socklen_t len = sizeof(*ret_address);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, protocol);

	loopback(family, ret_address);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)ret_address, len), 0);
	assert_int_equal(listen(fd, 4096), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, &len), 0);
	return fd;
}

static int connect_to(const struct sockaddr_storage *to, int protocol)
{
	int fd = socket(to->ss_family, SOCK_STREAM | SOCK_CLOEXEC, protocol);

	assert_true(fd >= 0);
	if (connect(fd, (const struct sockaddr *)to, sizeof(*to)))
		fail_msg("connect: %s", strerror(errno));
	return fd;
}

struct pair {
	int listener, client, server;
};

static struct pair make_pair(int family, int protocol)
{
	struct sockaddr_storage address;
	struct pair p;

	p.listener = listen_on(family, protocol, &address);
	p.client = connect_to(&address, protocol);
	p.server = accept4(p.listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(p.server >= 0);
	return p;
}

static void close_pair(struct pair *p)
{
	close(p->client);
	close(p->server);
	close(p->listener);
}

static void move(int from, int to, size_t len)
{
	static char data[65536];

	while (len) {
		size_t piece = len < sizeof(data) ? len : sizeof(data);

		assert_int_equal(send(from, data, piece, MSG_NOSIGNAL), (ssize_t)piece);
		for (size_t got = 0; got < piece;) {
			ssize_t n = recv(to, data, piece - got, 0);

			assert_true(n > 0);
			got += (size_t)n;
		}
		len -= piece;
	}
}

/* Until the last acknowledgement has come, so that nothing moves while we compare. */
static void wait_quiet(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	for (int i = 0; i < 500; i++, len = sizeof(info)) {
		assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
		if (!info.tcpi_unacked)
			return;
		poll(NULL, 0, 10);
	}
	fail_msg("data is still not acknowledged");
}

#define SAME(name, ours, theirs) do { \
	if ((double)(ours) != (double)(theirs)) \
		fail_msg("%s: %.9g in the table, %.9g in TCP_INFO", name, (double)(ours), (double)(theirs)); \
} while (0)

static double us(uint32_t value)
{
	return value / 1e6;
}

static void compare_with_info(struct connections *table, int fd)
{
	double tick = 1.0 / jiffies_per_second();
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	struct connection c;

	refresh(table);
	assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	c = row_of(table, fd);
	SAME("state", c.state, info.tcpi_state);
	SAME("rtt", c.rtt_s, us(info.tcpi_rtt));
	SAME("jitter", c.jitter_s, us(info.tcpi_rttvar));
	SAME("minimum rtt", c.min_rtt_s, us(info.tcpi_min_rtt));
	SAME("sent bytes", c.sent_bytes, info.tcpi_bytes_sent - info.tcpi_bytes_retrans);
	SAME("received bytes", c.received_bytes, info.tcpi_bytes_received);
	SAME("sent segments", c.sent_segments, info.tcpi_segs_out);
	SAME("received segments", c.received_segments, info.tcpi_segs_in);
	SAME("retransmits", c.retransmits, info.tcpi_total_retrans);
	SAME("lost", c.lost, info.tcpi_lost);
	SAME("unacked", c.unacked, info.tcpi_unacked);
	SAME("not sent", c.not_sent_bytes, info.tcpi_notsent_bytes);
	SAME("congestion window", c.congestion_window, info.tcpi_snd_cwnd);
	SAME("slow start threshold", c.slow_start_threshold,
	     info.tcpi_snd_ssthresh < 0x7fffffff ? info.tcpi_snd_ssthresh : 0);
	SAME("mss", c.mss, info.tcpi_snd_mss);
	SAME("send window", c.send_window_bytes, info.tcpi_snd_wnd);
	/* These go on, or are rounded to milliseconds. */
	assert_true(fabs(c.busy_s - (double)info.tcpi_busy_time / 1e6) <= 0.05 + tick);
	assert_true(fabs(c.receive_window_s - (double)info.tcpi_rwnd_limited / 1e6) <= 0.05 + tick);
	assert_true(fabs(c.send_buffer_s - (double)info.tcpi_sndbuf_limited / 1e6) <= 0.05 + tick);
	assert_true(fabs(c.since_sent_s - info.tcpi_last_data_sent / 1e3) <= 0.05 + tick);
	assert_true(fabs(c.since_received_s - info.tcpi_last_data_recv / 1e3) <= 0.05 + tick);
	if (info.tcpi_delivery_rate)
		assert_true(fabs(c.delivery_rate / (double)info.tcpi_delivery_rate - 1) < 0.01);
}

static void fields_equal_tcp_info(int family)
{
	struct connections *table = open_table(0);
	struct pair p = make_pair(family, 0);

	move(p.client, p.server, 300000);
	move(p.server, p.client, 5000);
	wait_quiet(p.client);
	wait_quiet(p.server);
	compare_with_info(table, p.client);
	compare_with_info(table, p.server);
	close_pair(&p);
	connections_close(table);
}

static void test_fields_equal_tcp_info(void **state)
{
	fields_equal_tcp_info(AF_INET);
	fields_equal_tcp_info(AF_INET6);
}

/* With a sender that the reader has stopped: the fields that are 0 when all is well. */
static void test_fields_under_pressure(void **state)
{
	struct connections *table = open_table(0);
	struct pair p = make_pair(AF_INET, 0);
	static const char data[65536];
	struct connection c;
	int queued = 0;

	fcntl(p.client, F_SETFL, O_NONBLOCK);
	for (int still = 0; still < 20; still++) {
		while (send(p.client, data, sizeof(data), MSG_NOSIGNAL) > 0)
			still = 0;
		poll(NULL, 0, 10);
	}
	compare_with_info(table, p.client);
	poll(NULL, 0, 50);
	refresh(table);
	c = row_of(table, p.client);
	assert_true(c.not_sent_bytes > 0);
	assert_true(c.receive_window_s > 0);
	assert_int_equal(c.verdict.cause, CAUSE_RECEIVE_WINDOW);
	c = row_of(table, p.server);
	assert_int_equal(ioctl(p.server, FIONREAD, &queued), 0);
	assert_int_equal(c.receive_queue_bytes, queued);
	assert_true(queued > 0);
	assert_int_equal(c.verdict.cause, CAUSE_LOCAL_READER);
	close_pair(&p);
	connections_close(table);
}

static void check_ends(struct connections *table, int fd, bool server)
{
	struct connection c = row_of(table, fd);
	struct sockaddr_storage local, remote;
	char text[ADDRESS_TEXT_MAX], name[16] = "";
	socklen_t len = sizeof(local);
	struct stat netns;

	assert_int_equal(getsockname(fd, (struct sockaddr *)&local, &len), 0);
	len = sizeof(remote);
	assert_int_equal(getpeername(fd, (struct sockaddr *)&remote, &len), 0);
	/* The port is at the same place in both families. */
	assert_int_equal(c.local_port, ntohs(((struct sockaddr_in *)&local)->sin_port));
	assert_int_equal(c.remote_port, ntohs(((struct sockaddr_in *)&remote)->sin_port));
	assert_string_equal(address_format(&c.remote, text), local.ss_family == AF_INET ? "127.0.0.1" : "::1");
	assert_string_equal(address_format(&c.local, text), local.ss_family == AF_INET ? "127.0.0.1" : "::1");
	assert_string_equal(c.peer, text);
	assert_int_equal(c.server, server);
	assert_int_equal(c.pid, getpid());
	assert_int_equal(c.holders, 1);
	prctl(PR_GET_NAME, name);
	assert_string_equal(c.comm, name);
	assert_int_equal(stat("/proc/self/ns/net", &netns), 0);
	assert_int_equal(c.netns, netns.st_ino);
	assert_false(c.mptcp);
	assert_true(isnan(c.age_s));
}

/* Also sockets that are older than the program, which is the same to it. */
static void test_who_and_where(void **state)
{
	struct pair four = make_pair(AF_INET, 0), six = make_pair(AF_INET6, 0);
	struct connections *table = open_table(0);

	refresh(table);
	check_ends(table, four.client, false);
	check_ends(table, four.server, true);
	check_ends(table, six.client, false);
	check_ends(table, six.server, true);
	/* Nobody listens any more: then it cannot be known. */
	close(four.listener);
	refresh(table);
	assert_false(row_of(table, four.server).server);
	assert_true(row_of(table, six.server).server);
	four.listener = -1;
	close_pair(&four);
	close_pair(&six);
	connections_close(table);
}

static void test_ipv4_in_an_ipv6_socket(void **state)
{
	struct connections *table = open_table(0);
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_ANY_INIT };
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(any);
	char text[ADDRESS_TEXT_MAX];
	struct connection c;
	int listener = socket(AF_INET6, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), server;

	assert_int_equal(bind(listener, (struct sockaddr *)&any, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&any, &len), 0);
	to.sin_port = any.sin6_port;
	assert_int_equal(connect(client, (struct sockaddr *)&to, sizeof(to)), 0);
	server = accept(listener, NULL, NULL);
	refresh(table);
	c = row_of(table, server);
	assert_string_equal(address_format(&c.remote, text), "127.0.0.1");
	assert_string_equal(address_format(&c.local, text), "127.0.0.1");
	close(server);
	close(client);
	close(listener);
	connections_close(table);
}

/* A child that holds what it inherited until its pipe is closed. */
static pid_t start_child(int *ret_pipe)
{
	int ends[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		close(ends[1]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(read(ends[0], &byte, 1) != 0);
	}
	assert_true(pid > 0);
	close(ends[0]);
	*ret_pipe = ends[1];
	return pid;
}

static void end_child(pid_t pid, int child_pipe)
{
	int status;

	close(child_pipe);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_shared_by_fork(void **state)
{
	struct pair p = make_pair(AF_INET, 0);
	struct connections *table = open_table(0);
	struct connection c;
	int child_pipe, copy = dup(p.client);
	pid_t child = start_child(&child_pipe);
	uint64_t cookie = cookie_of(p.server);

	refresh(table);
	c = row_of(table, p.client);
	assert_int_equal(c.holders, 2); /* processes, not descriptors */
	assert_int_equal(c.pid, child < getpid() ? child : getpid());
	/* Of one process: also what it shares with one of a lower PID. */
	connections_only(table, &(struct connections_filter){ .pid = (uint32_t)child });
	refresh(table);
	c = row_of(table, p.client);
	assert_int_equal(c.pid, child);
	assert_int_equal(c.holders, 1);
	assert_true(c.server == false && row_of(table, p.server).server); /* listeners are known all the same */
	connections_only(table, NULL);
	/* Now it is the child's alone. */
	close(p.server);
	p.server = -1;
	refresh(table);
	assert_true(find_cookie(table, cookie, &c));
	assert_int_equal(c.pid, child);
	assert_int_equal(c.holders, 1);
	end_child(child, child_pipe);
	/* Nobody's: an orphan that says goodbye, and not in the table. */
	refresh(table);
	assert_false(find_cookie(table, cookie, &c));
	close(copy);
	close_pair(&p);
	connections_close(table);
}

static size_t count_mine(struct connections *table)
{
	size_t mine = 0;

	refresh(table);
	for (size_t i = 0; i < connections_count(table); i++) {
		struct connection c;

		connections_get(table, i, &c);
		mine += c.pid == (uint32_t)getpid();
	}
	return mine;
}

static void test_filters(void **state)
{
	struct connections *table = open_table(0);
	struct pair four = make_pair(AF_INET, 0), six = make_pair(AF_INET6, 0);
	struct connections_filter filter = { 0 };
	struct connection c;
	size_t all = count_mine(table);

	connections_only(table, &filter);
	assert_int_equal(count_mine(table), all);
	filter.cookie = cookie_of(six.server);
	connections_only(table, &filter);
	assert_int_equal(count_mine(table), 1);
	assert_int_equal(connections_count(table), 1);
	assert_true(find_cookie(table, filter.cookie, &c) && c.server);
	filter.cookie = 0;
	assert_int_equal(prefix_parse("127.0.0.0/8", &filter.remote, NULL), 0);
	connections_only(table, &filter);
	assert_int_equal(count_mine(table), all - 2);
	assert_false(find_cookie(table, cookie_of(six.server), &c));
	assert_int_equal(prefix_parse("::1", &filter.remote, NULL), 0);
	connections_only(table, &filter);
	assert_int_equal(count_mine(table), 2);
	assert_int_equal(prefix_parse("127.0.0.2", &filter.remote, NULL), 0);
	connections_only(table, &filter);
	assert_int_equal(count_mine(table), 0);
	close_pair(&four);
	close_pair(&six);
	connections_close(table);
}

static void test_changes_and_rates(void **state)
{
	struct connections *table = open_table(0);
	struct pair p = make_pair(AF_INET, 0);
	struct connection c;

	refresh(table);
	assert_true(row_of(table, p.client).interval_s <= 0);
	poll(NULL, 0, 50);
	move(p.client, p.server, 100000);
	move(p.server, p.client, 300);
	poll(NULL, 0, 50);
	refresh(table);
	c = row_of(table, p.client);
	assert_true(c.interval_s >= 0.09 && c.interval_s < 30);
	assert_int_equal(c.input.sent_bytes, 100000);
	assert_int_equal(c.input.received_bytes, 300);
	assert_true(fabs(c.sent_rate * c.interval_s - 100000) < 1);
	assert_true(fabs(c.received_rate * c.interval_s - 300) < 1);
	c = row_of(table, p.server);
	assert_int_equal(c.input.sent_bytes, 300);
	assert_int_equal(c.input.received_bytes, 100000);
	/* Given back when nobody asks, and taken again when somebody does. */
	connections_tidy(table, mono_now());
	assert_true(connections_count(table) > 0);
	connections_tidy(table, (mono_time){ mono_now().ns + 61 * NS_PER_SEC });
	assert_int_equal(connections_count(table), 0);
	refresh(table);
	assert_true(row_of(table, p.client).interval_s <= 0);
	close_pair(&p);
	connections_close(table);
}

static void test_states(void **state)
{
	struct connections *table = open_table(0);
	struct sockaddr_in nowhere = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(9)};
	struct pair p = make_pair(AF_INET, 0);
	int unused = socket(AF_INET, SOCK_STREAM, 0), refused = socket(AF_INET, SOCK_STREAM, 0);
	struct connection c;

	assert_true(connect(refused, (struct sockaddr *)&nowhere, sizeof(nowhere)) < 0);
	move(p.client, p.server, 1000);
	assert_int_equal(shutdown(p.client, SHUT_WR), 0);
	wait_quiet(p.client); /* the FIN is acknowledged, too */
	refresh(table);
	c = row_of(table, p.client);
	assert_string_equal(connection_state_name(c.state), "fin_wait2");
	assert_int_equal(c.sent_bytes, 1000); /* a FIN is no payload */
	c = row_of(table, p.server);
	assert_string_equal(connection_state_name(c.state), "close_wait");
	assert_int_equal(c.received_bytes, 1000);
	assert_int_equal(c.receive_queue_bytes, 0);
	/* No connections. */
	assert_false(find_cookie(table, cookie_of(unused), &c));
	assert_false(find_cookie(table, cookie_of(refused), &c));
	assert_false(find_cookie(table, cookie_of(p.listener), &c));
	close(unused);
	close(refused);
	close_pair(&p);
	connections_close(table);
}

static void test_mptcp(void **state)
{
	struct connections *table;
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	uint16_t local_port;
	size_t found = 0;
	uint64_t ids[2] = { 0 };
	int probe = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);
	struct pair p;

	if (probe < 0) {
		print_message("skipped: this kernel has no MPTCP\n");
		skip();
	}
	close(probe);
	table = open_table(0);
	p = make_pair(AF_INET, IPPROTO_MPTCP);
	move(p.client, p.server, 5000);
	assert_int_equal(getsockname(p.client, (struct sockaddr *)&address, &len), 0);
	local_port = ntohs(((struct sockaddr_in *)&address)->sin_port);
	for (int round = 0; round < 2; round++) {
		refresh(table);
		for (size_t i = 0; i < connections_count(table); i++) {
			struct connection c;

			connections_get(table, i, &c);
			if (c.pid != (uint32_t)getpid() || (c.local_port != local_port && c.remote_port != local_port))
				continue;
			assert_true(c.mptcp);
			assert_int_equal(c.state, STATE_ESTABLISHED);
			assert_int_equal(c.local_port == local_port ? c.sent_bytes : c.received_bytes, 5000);
			assert_int_equal(c.server, c.local_port != local_port);
			if (c.local_port == local_port)
				ids[round] = c.cookie;
			found++;
		}
	}
	assert_int_equal(found, 4); /* both ends, twice */
	assert_true(ids[0] && ids[0] == ids[1]);
	close_pair(&p);
	connections_close(table);
}

#define MANY 5000

static int compare_cookies(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

static void test_ten_thousand(void **state)
{
	struct connections *table = open_table(0), *small = open_table(1000);
	struct rlimit files;
	struct sockaddr_storage address;
	int (*fds)[2] = calloc(MANY, sizeof(*fds)), listener;
	uint64_t *cookies = calloc(MANY, sizeof(*cookies));
	mono_time start, end;
	size_t before, mine = 0, known = 0;
	uint64_t last = 0;

	refresh(table);
	before = connections_count(table);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = 2 * MANY + 100;
	files.rlim_max = files.rlim_max > files.rlim_cur ? files.rlim_max : files.rlim_cur;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
	listener = listen_on(AF_INET, 0, &address);
	for (int i = 0; i < MANY; i++) {
		fds[i][0] = connect_to(&address, 0);
		fds[i][1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		assert_true(fds[i][1] >= 0);
		cookies[i] = cookie_of(fds[i][0]);
	}
	refresh(table);
	start = mono_now();
	refresh(table);
	end = mono_now();
	print_message("a table of %zu connections took %.1f ms\n", connections_count(table),
		      ns_to_seconds(mono_since_ns(end, start)) * 1e3);
	assert_true(connections_count(table) >= 2 * MANY && connections_count(table) <= 2 * MANY + before + 1000);
	qsort(cookies, MANY, sizeof(*cookies), compare_cookies);
	for (size_t i = 0; i < connections_count(table); i++, last++) {
		struct connection c;

		connections_get(table, i, &c);
		assert_true(c.cookie >= last); /* each once, in order */
		last = c.cookie;
		mine += c.pid == (uint32_t)getpid();
		known += bsearch(&c.cookie, cookies, MANY, sizeof(*cookies), compare_cookies) != NULL;
	}
	assert_int_equal(mine, 2 * MANY);
	assert_int_equal(known, MANY);
	/* One with less room says what it left out. */
	refresh(small);
	assert_int_equal(connections_count(small), 1000);
	assert_true(connections_left_out(small) >= 2 * MANY - 1000);
	for (int i = 0; i < MANY; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
	close(listener);
	free(fds);
	free(cookies);
	connections_close(small);
	connections_close(table);
}

#define HIERARCHY_V1 "netsonde-test"

static bool hierarchy_v1_is_there(void)
{
	char text[4096];
	int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return strstr(text, HIERARCHY_V1);
}

/* The kernel ends a hierarchy some time after it was unmounted, if its groups had been gone by then: they go some time
 * after rmdir(2). Else it takes another round. */
static void leave_hierarchy(const char *directory, const char *type, const char *options)
{
	assert_int_equal(umount2(directory, 0), 0);
	for (int i = 1; i < 1000 && hierarchy_v1_is_there(); i++) {
		poll(NULL, 0, 20);
		if (i % 100 == 0 && !mount("none", directory, type, 0, options))
			umount2(directory, 0);
	}
	rmdir(directory);
	assert_false(hierarchy_v1_is_there());
}

/* In a cgroup that looks like a container's; the hierarchy is mounted for us alone. */
static void in_container(const char *type, const char *options)
{
	static const char group[] = "/docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope";
	char directory[] = "/tmp/netsonde-cgroup-XXXXXX", path[256], inner[300], procs[320], number[16];
	struct connections *table;
	struct connection before, c;
	struct pair p;
	int child_pipe, fd;
	pid_t child;

	if (geteuid() || !mkdtemp(directory))
		skip();
	if (mount("none", directory, type, 0, options)) {
		print_message("skipped: cannot mount this cgroup hierarchy\n");
		rmdir(directory);
		skip();
	}
	table = open_table(0);
	p = make_pair(AF_INET, 0);
	snprintf(path, sizeof(path), "%s%s", directory, group);
	snprintf(inner, sizeof(inner), "%s/inside", path);
	snprintf(procs, sizeof(procs), "%s/cgroup.procs", inner);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(mkdir(inner, 0755), 0);
	refresh(table);
	before = row_of(table, p.client);
	child = start_child(&child_pipe);
	fd = open(procs, O_WRONLY);
	assert_true(fd >= 0);
	snprintf(number, sizeof(number), "%d", child);
	assert_int_equal(write(fd, number, strlen(number)), (ssize_t)strlen(number));
	close(fd);
	connections_only(table, &(struct connections_filter){ .pid = (uint32_t)child });
	refresh(table);
	c = row_of(table, p.client);
	end_child(child, child_pipe);
	rmdir(inner);
	rmdir(path);
	leave_hierarchy(directory, type, options);
	assert_string_equal(before.container, "");
	assert_string_equal(c.container, "docker:0123456789ab");
	close_pair(&p);
	connections_close(table);
}

static void test_container(void **state)
{
	in_container("cgroup2", NULL);
}

/* Older hosts: the kernel's program does not see these hierarchies, /proc does. */
static void test_container_of_cgroup_v1(void **state)
{
	char link[64] = "";

	if (readlink("/proc/self/ns/pid", link, sizeof(link) - 1) < 0 || strcmp(link, "pid:[4026531836]")) {
		print_message("skipped: not in the initial PID namespace\n");
		skip();
	}
	in_container("cgroup", "none,name=" HIERARCHY_V1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_equal_tcp_info),
		cmocka_unit_test(test_fields_under_pressure),
		cmocka_unit_test(test_who_and_where),
		cmocka_unit_test(test_ipv4_in_an_ipv6_socket),
		cmocka_unit_test(test_shared_by_fork),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_changes_and_rates),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_mptcp),
		cmocka_unit_test(test_ten_thousand),
		cmocka_unit_test(test_container),
		cmocka_unit_test(test_container_of_cgroup_v1),
	};

	if (!geteuid() && own_namespace()) {
		print_error("cannot make a network namespace: %s\n", strerror(errno));
		return 1;
	}
	kbpf_log_setup();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
