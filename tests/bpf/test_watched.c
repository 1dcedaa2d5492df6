/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watched addresses and the busiest peers, with the TCP programs in the running kernel and real connections in a
 * network namespace of the test's own. Needs root; skipped with that reason otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/kbpf.h"
#include "agent/peers.h"
#include "agent/tcp_program.h"
#include "lib/settings.h"

struct fixture {
	struct settings settings;
	struct features features;
	struct tcp_program *program;
	struct peers *peers;
	mono_time now; /* moved by hand */
};

static int own_namespace(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd, r;

	if (unshare(CLONE_NEWNET))
		return -errno;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;
	close(fd);
	return r;
}

static void fixture_open(struct fixture *f, enum tcp_sweep_mode mode)
{
	static const char yaml[] = "probe: {peers: 3, max_targets: 3}";
	struct buffer errors = BUFFER_INIT;
	struct error error = { "" };

	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	memset(f, 0, sizeof(*f));
	assert_int_equal(settings_parse(yaml, strlen(yaml), "test", &f->settings, &errors), 0);
	f->now = mono_now();
	if (peers_new(&f->settings, &f->peers, &error) || tcp_program_open(f->peers, NULL, 1024, mode, &f->program, &error) ||
	    tcp_program_attach(f->program, &f->features, &error))
		fail_msg("%s", error.text);
}

static void fixture_close(struct fixture *f)
{
	tcp_program_close(f->program);
	peers_free(f->peers);
	settings_done(&f->settings);
}

static void sweep(struct fixture *f)
{
	peers_begin(f->peers);
	assert_int_equal(tcp_program_sweep(f->program), 0);
	f->now.ns += NS_PER_SEC;
	peers_end(f->peers, f->now);
	assert_int_equal(peers_read_watched(f->peers), 0);
}

static struct address address_of(const char *text)
{
	struct address address;

	assert_int_equal(address_parse(text, &address), 0);
	return address;
}

/* A connection from one address to another of this host; its client's end. */
struct connection { int client, server; };

static struct connection connect_pair(const char *from, const char *to)
{
	struct sockaddr_in local = { .sin_family = AF_INET, .sin_addr.s_addr = inet_addr(from) };
	struct sockaddr_in remote = { .sin_family = AF_INET, .sin_addr.s_addr = inet_addr(to) };
	socklen_t len = sizeof(remote);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	struct connection c = { .client = socket(AF_INET, SOCK_STREAM, 0) };

	assert_int_equal(bind(listener, (struct sockaddr *)&remote, len), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&remote, &len), 0);
	assert_int_equal(bind(c.client, (struct sockaddr *)&local, sizeof(local)), 0);
	assert_int_equal(connect(c.client, (struct sockaddr *)&remote, len), 0);
	c.server = accept(listener, NULL, NULL);
	close(listener);
	return c;
}

static void transfer(const struct connection *c, size_t len)
{
	static char data[65536];

	for (size_t n; len; len -= n) {
		n = len < sizeof(data) ? len : sizeof(data);
		assert_int_equal(send(c->client, data, n, MSG_NOSIGNAL), n);
		assert_int_equal(recv(c->server, data, n, MSG_WAITALL), n);
	}
}

static void disconnect(const struct connection *c)
{
	close(c->client);
	close(c->server);
}

static void watching(enum tcp_sweep_mode mode)
{
	const struct address watched = address_of("127.77.1.1"), twice = watched, idle = address_of("127.77.1.9");
	struct watched_address *a, *b, *c, *none;
	struct connection to_watched, to_other;
	struct fixture f;
	uint64_t before, first;

	fixture_open(&f, mode);
	to_watched = connect_pair("127.77.1.2", "127.77.1.1");
	to_other = connect_pair("127.77.1.3", "127.77.1.4");
	sweep(&f);
	assert_int_equal(peers_watch(f.peers, &watched, &a), 0);
	assert_int_equal(peers_watch(f.peers, &twice, &b), 0);
	assert_int_equal(peers_watch(f.peers, &idle, &c), 0);
	assert_ptr_equal(a, b);
	sweep(&f);
	assert_int_equal(watched_ns(a), 0); /* nothing moved since */

	before = mono_now().ns;
	transfer(&to_watched, 1000);
	transfer(&to_other, 1000);
	sweep(&f);
	first = watched_ns(a);
	assert_true(first >= before && first <= mono_now().ns);
	assert_int_equal(watched_ns(c), 0);
	/* An idle connection's old round trip says nothing about now. */
	sweep(&f);
	assert_int_equal(watched_ns(a), first);
	/* What a connection did in its last moments counts too. */
	transfer(&to_watched, 1000);
	disconnect(&to_watched);
	sweep(&f);
	assert_true(watched_ns(a) > first);

	/* Room for three, of which one is taken twice. */
	assert_int_equal(peers_watch(f.peers, &(struct address){ .bytes = { 1 } }, &none), 0);
	assert_int_equal(peers_watch(f.peers, &(struct address){ .bytes = { 2 } }, &none), -ENOSPC);
	peers_unwatch(f.peers, b);
	assert_int_equal(peers_watch(f.peers, &(struct address){ .bytes = { 2 } }, &none), -ENOSPC);
	peers_unwatch(f.peers, a);
	assert_int_equal(peers_watch(f.peers, &(struct address){ .bytes = { 2 } }, &none), 0);
	disconnect(&to_other);
	fixture_close(&f);
}

static void test_watching(void **state)
{
	watching(TCP_SWEEP_BEST);
}

static void test_watching_by_files(void **state)
{
	watching(TCP_SWEEP_FILES);
}

static bool nobody(const struct address *address, void *userdata)
{
	return false;
}

static bool is(const struct address *address, void *userdata)
{
	return !address_compare(address, userdata);
}

/* Of this test's addresses only: the programs see the connections of the whole machine. */
static size_t busiest_of_test(const struct fixture *f, bool (*favoured)(const struct address *, void *), void *userdata,
			      struct address ret_busiest[static 8])
{
	const struct address mine = address_of("127.77.2.0");
	struct address all[128];
	size_t n = peers_busiest(f->peers, favoured, userdata, all, 128), kept = 0;

	for (size_t i = 0; i < n && kept < 8; i++)
		if (!memcmp(all[i].bytes, mine.bytes, 15))
			ret_busiest[kept++] = all[i];
	return kept;
}

static void test_busiest(void **state)
{
	struct address busiest[8], one, light = address_of("127.77.2.11"), heavy = address_of("127.77.2.12");
	struct connection a, b;
	struct fixture f;

	fixture_open(&f, TCP_SWEEP_BEST);
	a = connect_pair("127.77.2.1", "127.77.2.11");
	b = connect_pair("127.77.2.2", "127.77.2.12");
	for (int i = 0; i < 20; i++) { /* the peers are weighed every few seconds */
		transfer(&a, 300000);
		transfer(&b, 400000);
		sweep(&f);
	}
	/* Both ends of both; the ends of one connection did the same. */
	assert_int_equal(busiest_of_test(&f, nobody, NULL, busiest), 4);
	assert_true(!address_compare(&busiest[0], &heavy) || !address_compare(&busiest[1], &heavy));
	assert_true(address_compare(&busiest[0], &light) && address_compare(&busiest[1], &light));
	assert_int_equal(peers_busiest(f.peers, nobody, NULL, &one, 1), 1);
	/* Who is favoured counts twice. */
	assert_int_equal(busiest_of_test(&f, is, &light, busiest), 4);
	assert_int_equal(address_compare(&busiest[0], &light), 0);
	/* Who does nothing any more is none after a while. */
	for (int i = 0; i < 250; i++)
		sweep(&f);
	assert_int_equal(busiest_of_test(&f, nobody, NULL, busiest), 0);
	disconnect(&a);
	disconnect(&b);
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_watching),
		cmocka_unit_test(test_watching_by_files),
		cmocka_unit_test(test_busiest),
	};

	kbpf_log_setup();
	if (!geteuid() && own_namespace()) {
		print_error("cannot make a network namespace: %s\n", strerror(errno));
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
