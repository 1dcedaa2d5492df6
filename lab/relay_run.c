/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One round of the loop: wait until a packet arrives, one is due, or somebody says
 * something.
 *
 * The process stays on one CPU: a veth queues packets per CPU, and what is sent
 * from two of them can change its order. The wait ends by a timer of absolute time (timerfd, which has no slack). For
 * the last `spin_ns` before a packet is due it does not sleep at all.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include "lab/relay.h"
#include "lab/relay_run.h"

#define LINE_MAX_BYTES 4096

enum { WATCH_INPUT, WATCH_SIGNAL, WATCH_TIMER, WATCH_A, WATCH_B, N_WATCH };

struct program {
	struct relay relay;
	struct pollfd watch[N_WATCH];
	uint64_t timer_ns; /* what the timer is set to; UINT64_MAX: not set */
	uint64_t spin_ns;
	char line[LINE_MAX_BYTES];
	size_t line_len;
	bool ending;
};

static int counts_print(struct program *p)
{
	struct buffer out = BUFFER_INIT;
	int r = relay_write_counts(&p->relay, &out);
	if (!r && fwrite(out.data, 1, out.len, stdout) != out.len)
		r = -EIO;
	fflush(stdout);
	buffer_done(&out);
	return r;
}

static int line_obey(struct program *p, const char *line)
{
	struct error error = { 0 };
	if (!strcmp(line, "counts"))
		return counts_print(p);
	if (relay_set(&p->relay, line, &error) < 0)
		printf("error: %s\n", error.text);
	else
		puts("ok");
	fflush(stdout);
	return 0;
}

static int input_read(struct program *p)
{
	ssize_t n = read(STDIN_FILENO, p->line + p->line_len, sizeof(p->line) - p->line_len - 1);
	int r = 0;
	if (n < 0 && errno != EINTR && errno != EAGAIN)
		return -errno;
	if (!n)
		p->ending = true;
	if (n <= 0)
		return 0;
	p->line_len += (size_t)n;
	p->line[p->line_len] = '\0';
	for (char *end; !r && (end = strchr(p->line, '\n'));) {
		*end++ = '\0';
		r = line_obey(p, p->line);
		p->line_len -= (size_t)(end - p->line);
		memmove(p->line, end, p->line_len + 1);
	}
	if (p->line_len == sizeof(p->line) - 1)
		return -E2BIG;
	return r;
}

/* Sets the timer to when sleeping must end. Returns false when there is no time to sleep. */
static bool sleep_prepare(struct program *p)
{
	uint64_t next = relay_next_ns(&p->relay);
	if (next != UINT64_MAX) {
		if (next <= relay_now_ns() + p->spin_ns)
			return false;
		next -= p->spin_ns;
	}
	if (next == p->timer_ns)
		return true;
	struct itimerspec when = { 0 };
	if (next != UINT64_MAX)
		when.it_value = (struct timespec){ (time_t)(next / 1000000000), (long)(next % 1000000000) };
	timerfd_settime(p->watch[WATCH_TIMER].fd, TFD_TIMER_ABSTIME, &when, NULL);
	p->timer_ns = next;
	return true;
}

static int loop(struct program *p)
{
	while (!p->ending) {
		int n = poll(p->watch, N_WATCH, sleep_prepare(p) ? -1 : 0);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && p->watch[WATCH_TIMER].revents) {
			uint64_t expirations;
			p->timer_ns = UINT64_MAX;
			if (read(p->watch[WATCH_TIMER].fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
				return -errno;
		}
		bool told = n > 0 && p->watch[WATCH_INPUT].revents;
		/* What came before a command is in the counters that it prints, and meets the settings before it. */
		int r = told ? relay_catch_up(&p->relay) : relay_turn(&p->relay);
		if (r >= 0 && told)
			r = input_read(p);
		if (n > 0 && p->watch[WATCH_SIGNAL].revents)
			p->ending = true;
		if (r < 0)
			return r;
	}
	return 0;
}

static int setup(struct program *p, const struct relay_options *options, struct error *error)
{
	const struct { unsigned which; const char *text; } texts[] = {
		{ 3, options->both }, { 1, options->a_to_b }, { 2, options->b_to_a },
	};
	int r = 0;
	schedule_init(&p->relay.waiting, (size_t)options->memory_mb * 1000000);
	for (uint64_t i = 0; i < 2; i++)
		direction_init(&p->relay.directions[i], options->seed, i);
	for (size_t i = 0; !r && i < sizeof(texts) / sizeof(*texts); i++)
		for (int side = 0; !r && side < 2; side++)
			if (texts[i].text && texts[i].which & 1U << side)
				r = impair_parse(texts[i].text, &p->relay.directions[side].impair, error);
	if (!r && options->log)
		r = record_open(options->log, &p->relay.record, error);
	for (int i = 0; !r && i < 2; i++)
		r = port_open(options->devices[i], &p->relay.ports[i], error);
	return r;
}

static int watch(struct program *p, struct error *error)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	const int fds[N_WATCH] = { STDIN_FILENO, signalfd(-1, &signals, SFD_CLOEXEC),
				   timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
				   port_fd(p->relay.ports[0]), port_fd(p->relay.ports[1]) };
	for (int i = 0; i < N_WATCH; i++) {
		p->watch[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
		if (fds[i] < 0)
			return error_set_errno(error, -errno, "cannot wait for packets");
	}
	p->timer_ns = UINT64_MAX;
	return 0;
}

/* On the CPU it runs on now. Without this a link can reorder; nothing else depends on it. */
static void stay(void)
{
	cpu_set_t here;
	int cpu = sched_getcpu();
	CPU_ZERO(&here);
	if (cpu >= 0 && cpu < CPU_SETSIZE) {
		CPU_SET(cpu, &here);
		sched_setaffinity(0, sizeof(here), &here);
	}
}

static int run_first(struct error *error)
{
	struct sched_param priority = { .sched_priority = 10 };
	if (mlockall(MCL_CURRENT) < 0 || sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
		return error_set_errno(error, -errno, "cannot run in real time");
	return 0;
}

int relay_run(const struct relay_options *options, struct error *ret_error)
{
	struct program *p = calloc(1, sizeof(*p));
	if (!p)
		return error_set(ret_error, -ENOMEM, "out of memory");
	p->spin_ns = options->spin_ns;
	int r = setup(p, options, ret_error);
	if (!r)
		r = watch(p, ret_error);
	if (!r && options->realtime)
		r = run_first(ret_error);
	if (!r) {
		stay();
		puts("ready");
		fflush(stdout);
		r = loop(p);
		if (r < 0)
			error_set_errno(ret_error, r, "the relay broke");
		int written = counts_print(p);
		if (!r && written < 0)
			r = error_set_errno(ret_error, written, "cannot write the results");
	}
	for (int i = 0; i < 2; i++)
		port_close(p->relay.ports[i]);
	int closed = record_close(p->relay.record);
	if (!r && closed < 0)
		r = error_set_errno(ret_error, closed, "cannot write the log");
	schedule_done(&p->relay.waiting);
	free(p);
	return r;
}
