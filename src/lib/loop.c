/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop over libuv.
 *
 * Every object embeds its libuv handle. libuv forgets a handle only at the end
 * of a loop iteration, so _free detaches at once (no callback follows) and the
 * memory goes in the close callback; that is what makes _free safe inside the
 * object's own callback. Objects left over are released by loop_free.
 *
 * Timers are timerfds watched with uv_poll, because uv_timer counts whole
 * milliseconds and re-arms relative to the time of its callback, so that a
 * period drifts. The kernel keeps a timerfd's period on absolute times and
 * counts the expirations that nobody read (timerfd_create(2)); setting it
 * clears that count, so a callback never reports an expiry of an earlier
 * setting even when the descriptor was already known to be readable.
 */
#include "lib/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <uv.h>

#include "lib/clock.h"

struct loop {
	uv_loop_t uv;
};

/* The part common to all objects; first member of each, so freeing it frees the object. */
struct object {
	union {
		uv_handle_t handle;
		uv_poll_t poll;
		uv_signal_t signal;
	} uv;
	int timer_fd; /* owned; -1 where the object has none */
	bool freed;
};

struct loop_timer {
	struct object object;
	loop_timer_fn fn;
	void *userdata;
};

struct loop_fd {
	struct object object;
	unsigned events;
	loop_fd_fn fn;
	void *userdata;
};

struct loop_signal {
	struct object object;
	loop_signal_fn fn;
	void *userdata;
};

static void object_closed(uv_handle_t *handle)
{
	struct object *object = handle->data;

	if (object->timer_fd >= 0)
		close(object->timer_fd);
	free(object);
}

static void object_free(struct object *object)
{
	object->freed = true;
	uv_close(&object->uv.handle, object_closed);
}

static void free_leftover(uv_handle_t *handle, void *userdata)
{
	if (!uv_is_closing(handle))
		object_free(handle->data);
}

int loop_new(struct loop **ret_loop)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	r = uv_loop_init(&loop->uv);
	if (r < 0) {
		free(loop);
		return r;
	}
	*ret_loop = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	int r;

	if (!loop)
		return;
	uv_walk(&loop->uv, free_leftover, NULL);
	/* Every handle is closing: this runs the close callbacks and returns. A stop that is pending ends it early. */
	while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0)
		;
	r = uv_loop_close(&loop->uv);
	assert(r == 0);
	(void)r;
	free(loop);
}

int loop_run(struct loop *loop)
{
	int r = uv_run(&loop->uv, UV_RUN_DEFAULT);

	return r < 0 ? r : 0;
}

void loop_stop(struct loop *loop)
{
	uv_stop(&loop->uv);
}

static void timer_readable(uv_poll_t *poll, int status, int events)
{
	struct loop_timer *timer = poll->data;
	uint64_t expirations = 0;

	if (read(timer->object.timer_fd, &expirations, sizeof(expirations)) != sizeof(expirations) || expirations == 0)
		return; /* stopped or set anew since the descriptor became readable */
	timer->fn(timer, expirations - 1, timer->userdata);
}

int loop_timer_new(struct loop *loop, loop_timer_fn fn, void *userdata, struct loop_timer **ret_timer)
{
	struct loop_timer *timer = calloc(1, sizeof(*timer));
	int r;

	if (!timer)
		return -ENOMEM;
	timer->fn = fn;
	timer->userdata = userdata;
	timer->object.timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (timer->object.timer_fd < 0) {
		r = -errno;
		free(timer);
		return r;
	}
	r = uv_poll_init(&loop->uv, &timer->object.uv.poll, timer->object.timer_fd);
	if (r < 0) {
		close(timer->object.timer_fd);
		free(timer);
		return r;
	}
	timer->object.uv.poll.data = timer;
	r = uv_poll_start(&timer->object.uv.poll, UV_READABLE, timer_readable);
	if (r < 0) {
		object_free(&timer->object);
		return r;
	}
	*ret_timer = timer;
	return 0;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NS_PER_SEC), .tv_nsec = (long)(ns % NS_PER_SEC) };
}

int loop_timer_start(struct loop_timer *timer, uint64_t first_ns, uint64_t period_ns)
{
	/* A first time of zero would disarm the timerfd; one nanosecond is "at once". */
	struct itimerspec spec = {
		.it_value = to_timespec(first_ns ? first_ns : 1),
		.it_interval = to_timespec(period_ns),
	};

	return timerfd_settime(timer->object.timer_fd, 0, &spec, NULL) < 0 ? -errno : 0;
}

void loop_timer_stop(struct loop_timer *timer)
{
	static const struct itimerspec off;
	int r = timerfd_settime(timer->object.timer_fd, 0, &off, NULL);

	assert(r == 0);
	(void)r;
}

void loop_timer_free(struct loop_timer *timer)
{
	if (timer)
		object_free(&timer->object);
}

static int to_uv_events(unsigned events)
{
	return (events & LOOP_READABLE ? UV_READABLE : 0) | (events & LOOP_WRITABLE ? UV_WRITABLE : 0);
}

static void fd_ready(uv_poll_t *poll, int status, int uv_events)
{
	struct loop_fd *fd = poll->data;
	unsigned events = 0;

	if (status < 0) {
		/* libuv stops watching on an error condition. Report all that was asked for: the owner's next read or
		 * write returns the real error. Watch on, unless the owner has decided otherwise. */
		fd->fn(fd, fd->events, fd->userdata);
		if (!fd->object.freed && fd->events)
			uv_poll_start(poll, to_uv_events(fd->events), fd_ready);
		return;
	}
	events |= uv_events & UV_READABLE ? LOOP_READABLE : 0;
	events |= uv_events & UV_WRITABLE ? LOOP_WRITABLE : 0;
	fd->fn(fd, events, fd->userdata);
}

int loop_fd_new(struct loop *loop, int fd, unsigned events, loop_fd_fn fn, void *userdata, struct loop_fd **ret_fd)
{
	struct loop_fd *watch = calloc(1, sizeof(*watch));
	int r;

	if (!watch)
		return -ENOMEM;
	watch->fn = fn;
	watch->userdata = userdata;
	watch->object.timer_fd = -1;
	r = uv_poll_init(&loop->uv, &watch->object.uv.poll, fd);
	if (r < 0) {
		free(watch);
		return r;
	}
	watch->object.uv.poll.data = watch;
	r = loop_fd_events(watch, events);
	if (r < 0) {
		object_free(&watch->object);
		return r;
	}
	*ret_fd = watch;
	return 0;
}

int loop_fd_events(struct loop_fd *fd, unsigned events)
{
	fd->events = events;
	if (!events)
		return uv_poll_stop(&fd->object.uv.poll);
	return uv_poll_start(&fd->object.uv.poll, to_uv_events(events), fd_ready);
}

void loop_fd_free(struct loop_fd *fd)
{
	if (fd)
		object_free(&fd->object);
}

static void signal_raised(uv_signal_t *handle, int signum)
{
	struct loop_signal *sig = handle->data;

	sig->fn(sig, signum, sig->userdata);
}

int loop_signal_new(struct loop *loop, int signum, loop_signal_fn fn, void *userdata, struct loop_signal **ret_signal)
{
	struct loop_signal *sig = calloc(1, sizeof(*sig));
	int r;

	if (!sig)
		return -ENOMEM;
	sig->fn = fn;
	sig->userdata = userdata;
	sig->object.timer_fd = -1;
	r = uv_signal_init(&loop->uv, &sig->object.uv.signal);
	if (r < 0) {
		free(sig);
		return r;
	}
	sig->object.uv.signal.data = sig;
	r = uv_signal_start(&sig->object.uv.signal, signal_raised, signum);
	if (r < 0) {
		object_free(&sig->object);
		return r;
	}
	*ret_signal = sig;
	return 0;
}

void loop_signal_free(struct loop_signal *sig)
{
	if (sig)
		object_free(&sig->object);
}
