/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the HTTP server listens and what it says when it cannot, and the limits
 * on connections, on time, and on descriptors. At the end of all tests no
 * descriptor is left open.
 */
#include "http_fixture.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Sends one more byte of an endless header. */
static void drip(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct client *client = userdata;

	if (!client->ended)
		send(client->fd, "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void slow_requests_are_cut(void **state)
{
	struct context *c = *state;
	struct client silent, dripping, idle;
	struct loop_timer *timer;
	const mono_time start = mono_now();
	double seconds;

	client_open(&silent, c->net.loop, c->address);
	client_open(&dripping, c->net.loop, c->address);
	client_open(&idle, c->net.loop, c->address);
	client_puts(&silent, "GET /hello HTTP/1.1\r\nHost: local");
	client_puts(&dripping, "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
	assert_int_equal(loop_timer_new(c->net.loop, drip, &dripping, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 200 * NS_PER_MS, 200 * NS_PER_MS), 0);
	NET_WAIT(&c->net, silent.ended && idle.ended);
	assert_int_equal(stats(c).refused, 1); /* who said nothing was not refused anything */
	NET_WAIT(&c->net, dripping.ended);
	seconds = ns_to_seconds(mono_since_ns(mono_now(), start));
	print_message("# dripping client cut after %.1f s at an idle time-out of 1 s\n", seconds);
	assert_true(seconds >= 1.9);
	assert_true(seconds < 10);
	assert_int_equal(stats(c).refused, 2);
	assert_int_equal(c->handled, 0);
	loop_timer_free(timer);
	client_close(&silent);
	client_close(&dripping);
	client_close(&idle);
}

static void open_fails(struct context *c, const char *first, const char *second, int wanted, const char *sentence)
{
	const char *listen[] = { first, second };
	struct http_options options = { .listen = listen, .n_listen = second ? 2 : 1, .routes = routes };
	struct http_server *server = NULL;
	struct error error = { 0 };

	assert_int_equal(http_open(c->net.loop, &options, &server, &error), wanted);
	assert_null(server);
	assert_string_equal(error.text, sentence);
}

static void addresses_in_use_and_absent(void **state)
{
	struct context *c = *state;
	char sentence[256], probe[64];
	socklen_t len;
	struct sockaddr_storage sa = net_address("127.0.0.1:0", &len);
	int fd;

	snprintf(sentence, sizeof(sentence),
		 "cannot listen on %s: the port is in use; give another with --web.listen-address", c->address);
	open_fails(c, c->address, NULL, -EADDRINUSE, sentence);
	open_fails(c, "203.0.113.7:9435", NULL, -EADDRNOTAVAIL,
		   "cannot listen on 203.0.113.7:9435: this host has no such address; give one of its own with "
		   "--web.listen-address");

	/* When the second address fails the first one does not listen either: find a free port, and try. */
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	close(fd);
	snprintf(probe, sizeof(probe), "127.0.0.1:%u", ntohs(((struct sockaddr_in *)&sa)->sin_port));
	open_fails(c, probe, c->address, -EADDRINUSE, sentence);
	assert_int_equal(net_connect(probe, 0), -ECONNREFUSED);
	EXPECT(c, GET("/hello"), " 200 OK");
}

static void addresses_that_are_none(void **state)
{
	static const struct { const char *text, *why; } rows[] = {
		{ "", "there is no port" },
		{ "9435", "there is no port" },
		{ "127.0.0.1", "there is no port" },
		{ "[::1]", "there is no port" },
		{ "127.0.0.1:", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:65536", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:http", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:-1", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1: 1", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:123456789012345678901", "the port is not a number from 0 to 65535" },
		{ "::1:9435", "an IPv6 address needs square brackets" },
		{ "[127.0.0.1]:9435", "that is not an IPv6 address" },
		{ "[fe80::1%nosuchdevice]:9435", "that is not an IPv6 address" },
		{ "[]:1", "that is not an IPv6 address" },
		{ "256.0.0.1:9435", "that is not an IP address" },
		{ "127.1:9435", "that is not an IP address" },
		{ "myhost:9435", "that is not an IP address" },
		{ "http://127.0.0.1:9435", "an IPv6 address needs square brackets" },
	};
	struct context *c = *state;
	char sentence[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(sentence, sizeof(sentence),
			 "cannot listen on \"%s\": %s; write it as 127.0.0.1:9435, [::1]:9435 or :9435", rows[i].text,
			 rows[i].why);
		open_fails(c, rows[i].text, NULL, -EINVAL, sentence);
	}
}

/* In a child process that is an ordinary user. */
static void no_permission(void **state)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
	int first = 1024, status;
	pid_t pid;

	if (file) {
		assert_int_equal(fscanf(file, "%d", &first), 1);
		fclose(file);
	}
	if (first <= 7) {
		print_message("# every port is free for all users here\n");
		skip();
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *listen = "127.0.0.1:7";
		struct http_options options = { .listen = &listen, .n_listen = 1, .routes = routes };
		struct http_server *server = NULL;
		struct error error = { 0 };
		struct loop *loop;
		bool good;

		if (getuid() == 0 && setuid(65534) < 0)
			_exit(2);
		if (loop_new(&loop) < 0)
			_exit(3);
		good = http_open(loop, &options, &server, &error) == -EACCES &&
		       !strcmp(error.text, "cannot listen on 127.0.0.1:7: no permission; ports below 1024 are for root, "
					   "give another with --web.listen-address");
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void both_families_on_one_port(void **state)
{
	struct context c = { 0 };
	struct client client;
	char v4[64], v6[64];
	static const char request[] = GET("/echo");
	int fd;

	open_server(&c, ":0", (struct http_options){ 0 });
	snprintf(v4, sizeof(v4), "127.0.0.1%s", strrchr(c.address, ':'));
	snprintf(v6, sizeof(v6), "[::1]%s", strrchr(c.address, ':'));
	c.address = v4;
	exchange(&c, &client, request, sizeof(request) - 1);
	assert_non_null(strstr(client.got.data, "peer=127.0.0.1:"));
	client_close(&client);
	fd = net_connect(v6, 0);
	close(fd);
	if (fd < 0) {
		close_server(&c);
		print_message("# this host has no IPv6 loopback\n");
		skip();
	}
	c.address = v6;
	exchange(&c, &client, request, sizeof(request) - 1);
	assert_non_null(strstr(client.got.data, "peer=[::1]:"));
	client_close(&client);
	close_server(&c);
}

static void several_addresses(void **state)
{
	const char *listen[] = { "127.0.0.1:0", "127.0.0.2:0", "localhost:0" };
	struct context *c = *state;
	struct http_options options = { .listen = listen, .n_listen = 3, .routes = routes, .userdata = c };
	struct http_server *server;
	struct error error;
	struct client client;
	static const char request[] = GET("/hello");

	assert_int_equal(http_open(c->net.loop, &options, &server, &error), 0);
	for (size_t i = 0; i < 3; i++) {
		client_open(&client, c->net.loop, http_listen_address(server, i));
		assert_memory_equal(http_listen_address(server, i), listen[i == 2 ? 0 : i], 9);
		client_puts(&client, request);
		NET_WAIT(&c->net, client.ended);
		assert_true(client_has(&client, " 200 OK"));
		client_close(&client);
	}
	http_close(server);
}

static void connection_limits(void **state)
{
	struct context c = { 0 };
	struct client clients[5];

	open_server(&c, "0.0.0.0:0", (struct http_options){ .connections_max = 4, .connections_per_client_max = 3 });
	char one[64], two[64];
	snprintf(one, sizeof(one), "127.0.0.1%s", strrchr(c.address, ':'));
	snprintf(two, sizeof(two), "127.0.0.2%s", strrchr(c.address, ':'));

	/* Three from one client are served, the fourth is closed. */
	for (unsigned i = 0; i < 4; i++) {
		client_open(&clients[i], c.net.loop, one);
		client_puts(&clients[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
		NET_WAIT(&c.net, clients[i].ended || client_has(&clients[i], "\r\n\r\nhello"));
		assert_int_equal(clients[i].ended, i == 3);
	}
	client_close(&clients[3]);
	assert_int_equal(stats(&c).refused, 1);
	assert_int_equal(stats(&c).connections, 3);

	/* After one has left there is room again. */
	client_close(&clients[0]);
	NET_POLL(&c.net, stats(&c).connections == 2);
	client_open(&clients[0], c.net.loop, one);
	client_puts(&clients[0], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	NET_WAIT(&c.net, client_has(&clients[0], "\r\n\r\nhello"));
	for (unsigned i = 0; i < 3; i++)
		client_close(&clients[i]);
	NET_POLL(&c.net, stats(&c).connections == 0);
	assert_int_equal(stats(&c).refused, 1);
	close_server(&c);

	/* The limit over all clients. */
	c = (struct context){ 0 };
	open_server(&c, "127.0.0.1:0", (struct http_options){ .connections_max = 4 });
	for (unsigned i = 0; i < 5; i++) {
		client_open(&clients[i], c.net.loop, c.address);
		client_puts(&clients[i], "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
		NET_WAIT(&c.net, clients[i].ended || client_has(&clients[i], "\r\n\r\nhello"));
		assert_int_equal(clients[i].ended, i == 4);
	}
	assert_int_equal(stats(&c).refused, 1);
	assert_int_equal(stats(&c).connections, 4);
	/* Closing the server with open connections. */
	http_close(c.server);
	c.server = NULL;
	for (unsigned i = 0; i < 5; i++) {
		NET_WAIT(&c.net, clients[i].ended);
		client_close(&clients[i]);
	}
	close_server(&c);
}

/* Without descriptors accept pauses, and goes on although no other connection has closed. */
static void out_of_descriptors(void **state)
{
	struct context *c = *state;
	struct client kept, waiting;
	struct loop_timer *tick;
	struct rlimit limit, small;
	int taken[256], n = 0;

	client_open(&kept, c->net.loop, c->address);
	client_puts(&kept, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
	NET_WAIT(&c->net, client_has(&kept, "\r\n\r\nhello"));
	client_open(&waiting, c->net.loop, c->address);
	client_puts(&waiting, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
	assert_int_equal(loop_timer_new(c->net.loop, net_tick, c->net.loop, &tick), 0);
	assert_int_equal(loop_timer_start(tick, NS_PER_MS, NS_PER_MS), 0);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	small = (struct rlimit){ .rlim_cur = 200, .rlim_max = limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
	while (n < 256 && (taken[n] = dup(0)) >= 0)
		n++;
	assert_true(n < 256);
	NET_WAIT(&c->net, stats(c).errors >= 2); /* it tried twice */
	assert_int_equal(stats(c).connections, 1);
	assert_false(client_has(&waiting, "hello"));
	while (n)
		close(taken[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	NET_WAIT(&c->net, client_has(&waiting, "\r\n\r\nhello"));
	assert_in_range(stats(c).errors, 2, 20); /* and did not spin */
	client_close(&kept);
	client_close(&waiting);
	loop_timer_free(tick);
}

/* Clients that ask for 5 MiB each and read nothing: what waits for them is bounded, others are told so, and when they
 * go there is room again. */
static void unsent_answers_are_bounded(void **state)
{
	static const char request[] = GET("/owned");
	struct context c = { 0 };
	struct client last;
	int slow[4];

	open_server(&c, "127.0.0.1:0", (struct http_options){ .unsent_max = 4 * BIG_LEN, .idle_timeout_s = 30 });
	for (size_t i = 0; i < 2; i++) {
		slow[i] = net_connect(c.address, 4096);
		assert_int_equal(send(slow[i], request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
	}
	NET_POLL(&c.net, stats(&c).unsent_answers == 2 * BIG_LEN);
	EXPECT(&c, request, " 503 ", "too much waits to be fetched by slow clients");
	assert_int_equal(stats(&c).answers_refused, 1);
	assert_int_equal(stats(&c).errors, 1);
	EXPECT(&c, GET("/hello"), " 200 OK"); /* small ones are served all the same */
	close(slow[0]);
	NET_POLL(&c.net, stats(&c).unsent_answers == BIG_LEN);
	exchange(&c, &last, request, sizeof(request) - 1);
	assert_true(last.got.len > BIG_LEN);
	client_close(&last);
	NET_POLL(&c.net, stats(&c).unsent_answers == BIG_LEN);
	close(slow[1]);
	NET_POLL(&c.net, stats(&c).unsent_answers == 0);
	close_server(&c);
}

static void read_a_little(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	static char bytes[16384];

	(void)recv(*(int *)userdata, bytes, sizeof(bytes), MSG_DONTWAIT);
}

/* libmicrohttpd cuts one that reads nothing (test_http_stream.c); who reads in drips has a time for the whole answer. */
static void dripping_reader_is_cut(void **state)
{
	static const char request[] = GET("/owned");
	struct context c = { 0 };
	struct loop_timer *timer;
	const mono_time start = mono_now();
	double seconds;
	int fd;

	open_server(&c, "127.0.0.1:0", (struct http_options){ .idle_timeout_s = 4, .answer_timeout_s = 1 });
	fd = net_connect(c.address, 65536);
	assert_int_equal(send(fd, request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
	assert_int_equal(loop_timer_new(c.net.loop, read_a_little, &fd, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 0, 50 * NS_PER_MS), 0);
	NET_POLL(&c.net, stats(&c).unsent_answers == BIG_LEN);
	NET_POLL(&c.net, stats(&c).connections == 0);
	seconds = ns_to_seconds(mono_since_ns(mono_now(), start));
	print_message("# dripping reader cut after %.1f s\n", seconds);
	assert_true(seconds >= 0.9);
	assert_int_equal(stats(&c).answers_cut, 1);
	assert_int_equal(stats(&c).refused, 0);
	assert_int_equal(stats(&c).unsent_answers, 0);
	loop_timer_free(timer);
	close(fd);
	close_server(&c);
}

static unsigned fds_before;

static int group_setup(void **state)
{
	fds_before = net_count_fds();
	return 0;
}

/* One pipe pair of libuv's signal handling stays for the life of the process. */
static int group_teardown(void **state)
{
	unsigned fds = net_count_fds();

	if (fds > fds_before + 2) {
		print_error("%u descriptors were left open\n", fds - fds_before);
		return -1;
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(slow_requests_are_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(addresses_in_use_and_absent, setup, teardown),
		cmocka_unit_test_setup_teardown(addresses_that_are_none, setup, teardown),
		cmocka_unit_test(no_permission),
		cmocka_unit_test(both_families_on_one_port),
		cmocka_unit_test_setup_teardown(several_addresses, setup, teardown),
		cmocka_unit_test(connection_limits),
		cmocka_unit_test_setup_teardown(out_of_descriptors, setup, teardown),
		cmocka_unit_test(unsent_answers_are_bounded),
		cmocka_unit_test(dripping_reader_is_cut),
	};

	return cmocka_run_group_tests_name("http_connection", tests, group_setup, group_teardown);
}
