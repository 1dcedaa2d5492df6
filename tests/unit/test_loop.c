/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: timers against the real clock, descriptors, signals, and the
 * promise that everything may be freed from inside its own callback. A test that
 * waits runs under a watchdog timer of the loop itself, except the first, which
 * shows that timers work at all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/loop.h"

#define DEADLINE_NS (20 * NS_PER_SEC)

struct context {
	struct loop *loop;
	struct loop_timer *watchdog;
	bool timed_out;
};

static void give_up(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct context *c = userdata;

	c->timed_out = true;
	loop_stop(c->loop);
}

static int setup(void **state)
{
	static struct context c;

	c = (struct context){ 0 };
	assert_int_equal(loop_new(&c.loop), 0);
	assert_int_equal(loop_timer_new(c.loop, give_up, &c, &c.watchdog), 0);
	assert_int_equal(loop_timer_start(c.watchdog, DEADLINE_NS, 0), 0);
	*state = &c;
	return 0;
}

static int teardown(void **state)
{
	struct context *c = *state;

	loop_timer_free(c->watchdog);
	loop_free(c->loop);
	return 0;
}

static void run(struct context *c)
{
	assert_int_equal(loop_run(c->loop), 0);
	assert_false(c->timed_out);
}

/* Counts calls and stops the loop at the wanted one. */
struct counter {
	struct context *c;
	unsigned calls, stop_at;
	uint64_t missed;
	mono_time at[512];
};

static void count_call(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct counter *n = userdata;

	if (n->calls < sizeof(n->at) / sizeof(n->at[0]))
		n->at[n->calls] = mono_now();
	n->calls++;
	n->missed += missed;
	if (n->calls == n->stop_at)
		loop_stop(n->c->loop);
}

static void timer_once(void **state)
{
	struct context *c = *state;
	struct counter n = { .c = c, .stop_at = 1 };
	struct loop_timer *timer;
	mono_time start;

	assert_int_equal(loop_timer_new(c->loop, count_call, &n, &timer), 0);
	start = mono_now();
	assert_int_equal(loop_timer_start(timer, 3 * NS_PER_MS + 500 * NS_PER_US, 0), 0);
	run(c);
	assert_true(mono_since_ns(n.at[0], start) >= 3 * NS_PER_MS + 500 * NS_PER_US);
	assert_int_equal(n.missed, 0);

	/* At once, and only once: the second timer stops the loop much later. */
	n.calls = 0;
	n.stop_at = 0;
	start = mono_now();
	assert_int_equal(loop_timer_start(timer, 0, 0), 0);
	struct counter later = { .c = c, .stop_at = 1 };
	struct loop_timer *other;
	assert_int_equal(loop_timer_new(c->loop, count_call, &later, &other), 0);
	assert_int_equal(loop_timer_start(other, 50 * NS_PER_MS, 0), 0);
	run(c);
	assert_int_equal(n.calls, 1);
	assert_true(mono_since_ns(n.at[0], start) < 50 * NS_PER_MS);
	loop_timer_free(timer);
	loop_timer_free(other);
}

/* Every expiry lies on start + k * period: lateness of one does not move the next. */
static void timer_periodic_without_drift(void **state)
{
	struct context *c = *state;
	const uint64_t period = 2 * NS_PER_MS;
	struct counter n = { .c = c, .stop_at = 200 };
	struct loop_timer *timer;
	mono_time before, after;
	uint64_t elapsed, late;

	assert_int_equal(loop_timer_new(c->loop, count_call, &n, &timer), 0);
	before = mono_now();
	assert_int_equal(loop_timer_start(timer, period, period), 0);
	after = mono_now();
	run(c);
	elapsed = mono_since_ns(n.at[n.calls - 1], before);
	late = elapsed % period;
	print_message("# %u calls, %llu missed, %llu periods of 2 ms elapsed, the last call %llu us late\n", n.calls,
		      (unsigned long long)n.missed, (unsigned long long)(elapsed / period),
		      (unsigned long long)(late / 1000));
	/* What is reported and what is missed adds up to the elapsed time; one more may pass while we look. */
	assert_in_range(n.calls + n.missed, mono_since_ns(n.at[n.calls - 1], after) / period - 1, elapsed / period);
	loop_timer_free(timer);
}

static void block_then_count(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct counter *n = userdata;

	count_call(timer, missed, userdata);
	if (n->calls == 1) {
		const struct timespec block = { .tv_nsec = 35 * 1000000 };

		nanosleep(&block, NULL); /* the thing under test: a callback that takes 3.5 periods */
	}
}

static void timer_counts_missed_periods(void **state)
{
	struct context *c = *state;
	struct counter n = { .c = c, .stop_at = 2 };
	struct loop_timer *timer;
	uint64_t periods;

	assert_int_equal(loop_timer_new(c->loop, block_then_count, &n, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 10 * NS_PER_MS, 10 * NS_PER_MS), 0);
	run(c);
	/* 35 ms are three or four periods of 10 ms, and more when the machine is busy. */
	periods = mono_since_ns(n.at[1], n.at[0]) / (10 * NS_PER_MS);
	assert_true(periods >= 3);
	assert_in_range(n.missed + 1, periods - 1, periods + 1);
	loop_timer_free(timer);
}

struct pair {
	struct context *c;
	struct loop_timer *self, *victim;
	unsigned calls, victim_calls;
};

static void victim_called(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct pair *p = userdata;

	p->victim_calls++;
}

static void stop_self(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct pair *p = userdata;

	p->calls++;
	loop_timer_stop(timer);
}

static void free_self(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct pair *p = userdata;

	p->calls++;
	loop_timer_free(timer);
	p->self = NULL;
}

static void end_of_test(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct context *c = userdata;

	loop_stop(c->loop);
}

/* Runs the loop for a while, for what must not happen. */
static void run_for(struct context *c, uint64_t ns)
{
	struct loop_timer *end;

	assert_int_equal(loop_timer_new(c->loop, end_of_test, c, &end), 0);
	assert_int_equal(loop_timer_start(end, ns, 0), 0);
	run(c);
	loop_timer_free(end);
}

static void timer_stopped_inside_callback(void **state)
{
	struct context *c = *state;
	struct pair p = { .c = c };

	assert_int_equal(loop_timer_new(c->loop, stop_self, &p, &p.self), 0);
	assert_int_equal(loop_timer_start(p.self, NS_PER_MS, NS_PER_MS), 0);
	run_for(c, 20 * NS_PER_MS);
	assert_int_equal(p.calls, 1);
	/* It can be started again. */
	assert_int_equal(loop_timer_start(p.self, NS_PER_MS, NS_PER_MS), 0);
	run_for(c, 20 * NS_PER_MS);
	assert_int_equal(p.calls, 2);
	loop_timer_free(p.self);
}

static void timer_freed_inside_callback(void **state)
{
	struct context *c = *state;
	struct pair p = { .c = c };

	assert_int_equal(loop_timer_new(c->loop, free_self, &p, &p.self), 0);
	assert_int_equal(loop_timer_start(p.self, NS_PER_MS, NS_PER_MS), 0);
	run_for(c, 20 * NS_PER_MS);
	assert_int_equal(p.calls, 1);
	assert_null(p.self);
	loop_timer_free(NULL);
}

static void stop_victim(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct pair *p = userdata;
	const struct timespec block = { .tv_nsec = 5 * 1000000 };

	if (!p->calls++) {
		nanosleep(&block, NULL); /* until both have expired, whichever is served first */
		return;
	}
	/* The victim is due in this very iteration, or was served before us. */
	p->victim_calls = 0;
	loop_timer_stop(p->victim);
	loop_timer_stop(p->self);
}

static void timer_stopped_while_due(void **state)
{
	struct context *c = *state;

	for (int order = 0; order < 2; order++) {
		struct pair p = { .c = c };

		if (order)
			assert_int_equal(loop_timer_new(c->loop, victim_called, &p, &p.victim), 0);
		assert_int_equal(loop_timer_new(c->loop, stop_victim, &p, &p.self), 0);
		if (!order)
			assert_int_equal(loop_timer_new(c->loop, victim_called, &p, &p.victim), 0);
		assert_int_equal(loop_timer_start(p.self, NS_PER_MS, NS_PER_MS), 0);
		assert_int_equal(loop_timer_start(p.victim, NS_PER_MS, NS_PER_MS), 0);
		run_for(c, 30 * NS_PER_MS);
		assert_int_equal(p.victim_calls, 0);
		assert_int_equal(p.calls, 2);
		loop_timer_free(p.self);
		loop_timer_free(p.victim);
	}
}

struct descriptors {
	struct context *c;
	int fds[2];
	char got[64];
	size_t len;
	unsigned writable;
	bool free_inside;
	struct loop_fd *watch;
};

static void read_all(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct descriptors *d = userdata;
	ssize_t n;

	if (events & LOOP_WRITABLE) {
		d->writable++;
		assert_int_equal(loop_fd_events(fd, LOOP_READABLE), 0);
	}
	if (!(events & LOOP_READABLE))
		return;
	n = read(d->fds[0], d->got + d->len, sizeof(d->got) - 1 - d->len);
	if (n > 0)
		d->len += (size_t)n;
	else
		loop_stop(d->c->loop); /* the other side is closed */
	if (d->free_inside) {
		loop_fd_free(fd);
		d->watch = NULL;
		loop_stop(d->c->loop);
	}
}

static void write_soon(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct descriptors *d = userdata;

	assert_int_equal(write(d->fds[1], "ping", 4), 4);
}

static void close_soon(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct descriptors *d = userdata;

	close(d->fds[1]);
}

static void fd_readable_writable_and_end(void **state)
{
	struct context *c = *state;
	struct descriptors d = { .c = c };
	struct loop_timer *writer, *closer;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, d.fds), 0);
	assert_int_equal(loop_fd_new(c->loop, d.fds[0], LOOP_READABLE | LOOP_WRITABLE, read_all, &d, &d.watch), 0);
	assert_int_equal(loop_timer_new(c->loop, write_soon, &d, &writer), 0);
	assert_int_equal(loop_timer_new(c->loop, close_soon, &d, &closer), 0);
	loop_timer_start(writer, 5 * NS_PER_MS, 0);
	loop_timer_start(closer, 30 * NS_PER_MS, 0);
	run(c);
	assert_int_equal(d.writable, 1);
	assert_string_equal(d.got, "ping");
	loop_fd_free(d.watch);
	loop_timer_free(writer);
	loop_timer_free(closer);
	close(d.fds[0]);
}

static void fd_paused_and_freed_inside(void **state)
{
	struct context *c = *state;
	struct descriptors d = { .c = c, .free_inside = true };

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, d.fds), 0);
	assert_int_equal(write(d.fds[1], "x", 1), 1);
	assert_int_equal(loop_fd_new(c->loop, d.fds[0], LOOP_READABLE, read_all, &d, &d.watch), 0);
	assert_int_equal(loop_fd_events(d.watch, 0), 0);
	run_for(c, 10 * NS_PER_MS);
	assert_int_equal(d.len, 0);
	assert_int_equal(loop_fd_events(d.watch, LOOP_READABLE), 0);
	run(c);
	assert_int_equal(d.len, 1);
	assert_null(d.watch);
	close(d.fds[0]);
	close(d.fds[1]);
}

/* An error condition is reported as readiness, so that the owner's next call sees the error, again and again. */
static void count_ready(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct counter *n = userdata;

	assert_true(events & LOOP_WRITABLE);
	if (++n->calls == n->stop_at)
		loop_stop(n->c->loop);
}

static void fd_error_condition_is_reported(void **state)
{
	struct context *c = *state;
	struct counter n = { .c = c, .stop_at = 3 };
	struct loop_fd *watch;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	close(fds[0]); /* polling the write end of a pipe without a reader gives an error */
	assert_int_equal(loop_fd_new(c->loop, fds[1], LOOP_WRITABLE, count_ready, &n, &watch), 0);
	run(c);
	assert_int_equal(n.calls, 3);
	loop_fd_free(watch);
	close(fds[1]);
}

static void fd_that_cannot_be_watched(void **state)
{
	struct context *c = *state;
	struct counter n = { .c = c };
	struct loop_fd *watch = NULL;
	FILE *file = tmpfile();

	assert_non_null(file);
	assert_int_equal(loop_fd_new(c->loop, fileno(file), LOOP_READABLE, count_ready, &n, &watch), -EPERM);
	assert_int_equal(loop_fd_new(c->loop, -1, LOOP_READABLE, count_ready, &n, &watch), -EBADF);
	assert_null(watch);
	fclose(file);
}

static void epoll_in_epoll_ready(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct context *c = userdata;

	loop_stop(c->loop);
}

/* libmicrohttpd and ring buffers hand out epoll descriptors. */
static void fd_of_epoll(void **state)
{
	struct context *c = *state;
	struct epoll_event event = { .events = EPOLLIN };
	struct loop_fd *watch;
	int fds[2], ep = epoll_create1(0);

	assert_int_equal(pipe(fds), 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, fds[0], &event), 0);
	assert_int_equal(loop_fd_new(c->loop, ep, LOOP_READABLE, epoll_in_epoll_ready, c, &watch), 0);
	assert_int_equal(write(fds[1], "x", 1), 1);
	run(c);
	loop_fd_free(watch);
	close(ep);
	close(fds[0]);
	close(fds[1]);
}

struct signals {
	struct context *c;
	unsigned calls;
	bool free_inside;
	struct loop_signal *sig;
};

static void signal_came(struct loop_signal *sig, int signum, void *userdata)
{
	struct signals *s = userdata;

	assert_int_equal(signum, SIGUSR1);
	s->calls++;
	if (s->free_inside) {
		loop_signal_free(sig);
		s->sig = NULL;
	}
	loop_stop(s->c->loop);
}

static void signal_raise(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	raise(SIGUSR1);
}

static void signals_arrive(void **state)
{
	struct context *c = *state;
	struct signals s = { .c = c };
	struct loop_timer *timer;

	assert_int_equal(loop_signal_new(c->loop, SIGUSR1, signal_came, &s, &s.sig), 0);
	assert_int_equal(loop_timer_new(c->loop, signal_raise, NULL, &timer), 0);
	loop_timer_start(timer, 0, 0);
	run(c);
	assert_int_equal(s.calls, 1);
	s.free_inside = true;
	loop_timer_start(timer, 0, 0);
	run(c);
	assert_int_equal(s.calls, 2);
	assert_null(s.sig);
	loop_timer_free(timer);
}

/* Objects that nobody freed go with the loop (the sanitizer would see a leak). */
static void leftovers_go_with_the_loop(void **state)
{
	struct loop *loop;
	struct counter n = { 0 };
	struct signals s = { 0 };
	struct loop_timer *timer;
	struct loop_fd *watch;
	int fds[2];

	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(pipe(fds), 0);
	assert_int_equal(loop_timer_new(loop, count_call, &n, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 0, NS_PER_US), 0);
	assert_int_equal(loop_fd_new(loop, fds[0], LOOP_READABLE, count_ready, &n, &watch), 0);
	assert_int_equal(loop_signal_new(loop, SIGUSR2, signal_came, &s, &s.sig), 0);
	loop_stop(loop); /* a stop that nobody served does not keep loop_free from its work */
	loop_free(loop);
	assert_int_equal(n.calls, 0);
	close(fds[0]);
	close(fds[1]);
	loop_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(timer_once, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_periodic_without_drift, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_counts_missed_periods, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_stopped_inside_callback, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_freed_inside_callback, setup, teardown),
		cmocka_unit_test_setup_teardown(timer_stopped_while_due, setup, teardown),
		cmocka_unit_test_setup_teardown(fd_readable_writable_and_end, setup, teardown),
		cmocka_unit_test_setup_teardown(fd_paused_and_freed_inside, setup, teardown),
		cmocka_unit_test_setup_teardown(fd_error_condition_is_reported, setup, teardown),
		cmocka_unit_test_setup_teardown(fd_that_cannot_be_watched, setup, teardown),
		cmocka_unit_test_setup_teardown(fd_of_epoll, setup, teardown),
		cmocka_unit_test_setup_teardown(signals_arrive, setup, teardown),
		cmocka_unit_test(leftovers_go_with_the_loop),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
