/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two hosts for the prober's tests: this process in a network namespace of its own (new for each test), and a child in
 * another, joined by two veth links. The far host answers ICMP and TCP by its kernel, and STAMP by a reflector written
 * here from RFC 8762's figures, which misbehaves when told to.
 *
 *   near e0 10.1.0.1 fd01::1  ---  f0 10.1.0.2 fd01::2 far
 *   near e1 10.2.0.1 fd02::1  ---  f1 10.2.0.2 fd02::2 far
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "agent/probe/hmac_key.h"
#include "agent/probe/prober.h"
#include "agent/probe/prober_internal.h"

#define NEAR4 "10.1.0.1"
#define FAR4 "10.1.0.2"
#define FAR6 "fd01::2"
#define TCP_PORT 8080
#define SECRET "a secret"
#define TIMEOUT_NS (2 * NS_PER_SEC)
#define DEADLINE_NS (10 * NS_PER_SEC)
#define RESULTS_MAX 1024

enum far_mode { FAR_REFLECT, FAR_DROP, FAR_TWICE, FAR_FORGE, FAR_LATE, FAR_NONSENSE, FAR_SHORT };

struct far {
	volatile enum far_mode mode;
	volatile bool authenticated, forge_hmac;
	volatile uint16_t error_estimate;
	volatile uint32_t delay_ms, reflected;
};

struct fixture {
	struct far *far;       /* shared with the child */
	pid_t child;
	int command, done;     /* shell commands for the far host, and that each was run */
	struct loop *loop;
	struct prober *prober;
	struct probe_result results[RESULTS_MAX];
	struct probe_path *result_paths[RESULTS_MAX];
	size_t n_results;
};

/* ---- the far host ---- */

static inline void far_put64(uint8_t *at, uint64_t value)
{
	for (int i = 7; i >= 0; i--, value >>= 8)
		at[i] = (uint8_t)value;
}

static inline uint64_t far_ntp(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return ((uint64_t)t.tv_sec + 2208988800u) << 32 | ((uint64_t)t.tv_nsec << 32) / 1000000000u;
}

static inline void far_reflect(const struct far *far, const uint8_t *in, size_t len, uint8_t ttl, uint64_t received, uint8_t *out)
{
	struct probe_hmac_key key;

	memset(out, 0, len);
	if (!far->authenticated) {
		memcpy(out, in, 4);                       /* sequence: stateless */
		memcpy(out + 24, in, 14);                 /* the sender's sequence, timestamp and error estimate */
		far_put64(out + 16, received);
		out[40] = ttl;
		out[12] = (uint8_t)(far->error_estimate >> 8);
		out[13] = (uint8_t)far->error_estimate;
		far_put64(out + 4, far->mode == FAR_NONSENSE ? received - 1000000 : far_ntp());
		if (far->mode == FAR_FORGE)
			out[28 + 7] ^= 1;
		memcpy(out + 44, in + 44, len - 44);
		return;
	}
	memcpy(out, in, 4);
	memcpy(out + 48, in, 4);
	memcpy(out + 64, in + 16, 10);
	far_put64(out + 32, received);
	out[80] = ttl;
	out[24] = (uint8_t)(far->error_estimate >> 8);
	out[25] = (uint8_t)far->error_estimate;
	far_put64(out + 16, far_ntp());
	hmac_key_init(&key, SECRET, strlen(SECRET));
	hmac_sign(&key, out, out + 96);
	if (far->forge_hmac)
		out[111] ^= 1;
	memcpy(out + 112, in + 112, len - 112);
}

static inline void far_answer(struct far *far, int fd)
{
	struct sockaddr_in6 from;
	socklen_t from_len = sizeof(from);
	uint8_t in[2048], out[2048];
	ssize_t n = recvfrom(fd, in, sizeof(in), 0, (struct sockaddr *)&from, &from_len);
	uint64_t received = far_ntp();
	enum far_mode mode = far->mode;

	if (n < (far->authenticated ? 112 : 44) || mode == FAR_DROP)
		return;
	if (mode == FAR_LATE)
		usleep(far->delay_ms * 1000);
	far_reflect(far, in, (size_t)n, 64, received, out);
	for (int i = 0; i < (mode == FAR_TWICE ? 2 : 1); i++)
		if (sendto(fd, out, mode == FAR_SHORT ? 20 : (size_t)n, 0, (struct sockaddr *)&from, from_len) > 0)
			far->reflected++;
}

static inline int far_socket(int type, uint16_t port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) || (type == SOCK_STREAM && listen(fd, 100)))
		_exit(1);
	return fd;
}

static inline void far_run(struct far *far, int command, int done)
{
	struct pollfd fds[2] = { { .fd = command, .events = POLLIN }, { .events = POLLIN } };
	char line[1024];

	if (unshare(CLONE_NEWNET))
		_exit(1);
	fds[1].fd = far_socket(SOCK_DGRAM, 862);
	far_socket(SOCK_STREAM, TCP_PORT);
	if (write(done, "", 1) != 1)
		_exit(1);
	for (;;) {
		ssize_t n;

		poll(fds, 2, -1);
		if (fds[1].revents)
			far_answer(far, fds[1].fd);
		if (!fds[0].revents)
			continue;
		n = read(command, line, sizeof(line) - 1);
		if (n <= 0)
			_exit(0);
		line[n] = '\0';
		if (write(done, system(line) ? "1" : "0", 1) != 1)
			_exit(1);
	}
}

/* Runs a shell command on the far host. */
static inline void far_do(struct fixture *f, const char *command)
{
	char result;

	assert_int_equal(write(f->command, command, strlen(command)), strlen(command));
	assert_int_equal(read(f->done, &result, 1), 1);
	if (result != '0')
		fail_msg("on the far host: %s", command);
}

static inline void near_do(const char *command)
{
	if (system(command))
		fail_msg("%s", command);
}

/* ---- links ---- */

static inline void add_link(struct fixture *f, int i)
{
	char command[512];

	snprintf(command, sizeof(command),
		 "ip link add e%d type veth peer name f%d netns %d && ip addr add 10.%d.0.1/24 dev e%d && "
		 "ip addr add fd0%d::1/64 dev e%d nodad && ip link set e%d up", i, i, f->child, i + 1, i, i + 1, i, i);
	near_do(command);
	snprintf(command, sizeof(command), "ip addr add 10.%d.0.2/24 dev f%d && ip addr add fd0%d::2/64 dev f%d nodad && ip link set f%d up",
		 i + 1, i, i + 1, i, i);
	far_do(f, command);
	/* Until the kernel has noticed the carrier, packets go nowhere. */
	snprintf(command, sizeof(command), "timeout 10 sh -c 'until ip -br link show e%d | grep -q \" UP \"; do sleep 0.01; done'", i);
	near_do(command);
	snprintf(command, sizeof(command), "timeout 10 sh -c 'until ip -br link show f%d | grep -q \" UP \"; do sleep 0.01; done'", i);
	far_do(f, command);
}

#define SYSCTLS "for i in all default; do echo 0 >/proc/sys/net/ipv4/conf/$i/rp_filter; echo 0 >/proc/sys/net/ipv6/conf/$i/accept_dad; " \
	"echo 0 >/proc/sys/net/ipv6/conf/$i/router_solicitations; done; ip link set lo up; " \
	"echo 0 >/proc/sys/net/ipv4/icmp_ratelimit; echo 0 >/proc/sys/net/ipv6/icmp/ratelimit"

static inline void fixture_open(struct fixture *f, void **state)
{
	int to_child[2], from_child[2];
	char byte;

	*f = (struct fixture){ .child = -1 };
	*state = f;
	if (geteuid()) {
		print_message("skipped: network namespaces and raw sockets need root\n");
		skip();
	}
	assert_int_equal(unshare(CLONE_NEWNET), 0);
	f->far = mmap(NULL, sizeof(*f->far), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(f->far != MAP_FAILED && !pipe2(to_child, O_CLOEXEC) && !pipe2(from_child, O_CLOEXEC));
	f->far->error_estimate = 0x8001;
	f->child = fork();
	assert_true(f->child >= 0);
	if (!f->child) {
		close(to_child[1]);
		close(from_child[0]);
		far_run(f->far, to_child[0], from_child[1]);
	}
	close(to_child[0]);
	close(from_child[1]);
	f->command = to_child[1];
	f->done = from_child[0];
	assert_int_equal(read(f->done, &byte, 1), 1);
	near_do(SYSCTLS);
	far_do(f, SYSCTLS);
	add_link(f, 0);
	assert_int_equal(loop_new(&f->loop), 0);
}

/* cmocka's teardown: also of a test that failed half-way. */
static inline int fixture_close(void **state)
{
	struct fixture *f = *state;

	if (!f)
		return 0;
	prober_close(f->prober);
	loop_free(f->loop);
	if (f->child > 0) {
		close(f->command);
		close(f->done);
		kill(f->child, SIGKILL);
		waitpid(f->child, NULL, 0);
		munmap(f->far, sizeof(*f->far));
	}
	return 0;
}

/* ---- probing ---- */

static inline void open_prober(struct fixture *f, enum probe_attach attach)
{
	const struct prober_options options = {
		.attach = attach, .paths_max = 64, .flights_max = 4096, .unprivileged = true, .clock_error_ns = 1000,
	};
	struct error error = { .text = "" };

	if (prober_open(f->loop, &options, NULL, &f->prober, &error) < 0)
		fail_msg("%s", error.text);
	if (attach != PROBE_ATTACH_OFF && probe_sockets_raw(f->prober->sockets))
		assert_non_null(prober_program(f->prober));
}

static inline void keep_result(struct probe_path *path, const struct probe_result *result, void *userdata)
{
	struct fixture *f = userdata;

	assert_true(f->n_results < RESULTS_MAX);
	f->result_paths[f->n_results] = path;
	f->results[f->n_results++] = *result;
}

static inline struct probe_spec spec_of(enum probe_protocol protocol, const char *address)
{
	struct probe_spec spec = {
		.protocol = protocol, .port = protocol == PROBE_TCP ? TCP_PORT : 0, .timeout_ns = TIMEOUT_NS, .ring = 64,
	};

	assert_int_equal(address_parse(address, &spec.address), 0);
	return spec;
}

static inline struct probe_path *add_path(struct fixture *f, const struct probe_spec *spec)
{
	struct error error = { .text = "" };
	struct probe_path *path = NULL;

	if (prober_add(f->prober, spec, keep_result, f, &path, &error) < 0)
		fail_msg("%s", error.text);
	return path;
}

struct turn {
	struct fixture *f;
	bool (*done)(struct fixture *f);
	size_t wanted;
	uint64_t until_ns;
	bool reached;
};

static inline void turn_tick(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct turn *turn = userdata;

	prober_collect(turn->f->prober, mono_now());
	turn->reached = turn->f->n_results >= turn->wanted;
	if (turn->reached || mono_now().ns > turn->until_ns)
		loop_stop(turn->f->loop);
}

/* Lets the loop run until there are as many results, or the time is up. */
static inline bool run_until(struct fixture *f, size_t results, uint64_t for_ns)
{
	struct turn turn = { .f = f, .wanted = results, .until_ns = mono_now().ns + for_ns };
	struct loop_timer *timer;

	assert_int_equal(loop_timer_new(f->loop, turn_tick, &turn, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 0, NS_PER_MS), 0);
	assert_int_equal(loop_run(f->loop), 0);
	loop_timer_free(timer);
	return turn.reached;
}

/* One probe and its result. */
static inline struct probe_result probe_once(struct fixture *f, struct probe_path *path)
{
	size_t before = f->n_results = 0;

	assert_int_equal(prober_send(path), 0);
	prober_flush(f->prober);
	if (!run_until(f, before + 1, DEADLINE_NS))
		fail_msg("no result");
	assert_int_equal(f->n_results, 1);
	return f->results[0];
}

/* n probes, one after another; all must be answered, by this clock. Returns the smallest round trip. */
static inline uint64_t probe_many(struct fixture *f, struct probe_path *path, size_t n, enum probe_outcome outcome, enum probe_clock clock)
{
	uint64_t least = UINT64_MAX;
	uint32_t first = path->next;

	for (size_t i = 0; i < n; i++) {
		struct probe_result result = probe_once(f, path);

		assert_int_equal(result.outcome, outcome);
		assert_int_equal(result.sequence, first + i);
		assert_int_equal(result.clock, clock);
		if (!result.rtt_ns || result.rtt_ns >= NS_PER_SEC)
			fail_msg("a round trip of %llu ns", (unsigned long long)result.rtt_ns);
		if (result.rtt_ns < least)
			least = result.rtt_ns;
	}
	return least;
}

static inline struct probe_counts counts_of(const struct probe_path *path)
{
	struct probe_counts counts;

	probe_path_counts(path, &counts);
	assert_true(counts.sent == counts.answered + counts.lost + counts.unreachable + probe_path_pending(path));
	return counts;
}
