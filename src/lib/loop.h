/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop (libuv, wrapped here only): one thread, file descriptors,
 * timers, signals. Timers are timerfds: nanosecond arming, absolute periods
 * that do not drift, and a count of the periods that were missed.
 * Every _free is safe on NULL and from inside the object's own callback.
 */
#pragma once
#include <stdint.h>
#include "lib/error.h"

struct loop;
struct loop_timer;
struct loop_fd;
struct loop_signal;

#define LOOP_READABLE 1u
#define LOOP_WRITABLE 2u

int loop_new(struct loop **ret_loop);
void loop_free(struct loop *loop); /* with all objects that are left */
int loop_run(struct loop *loop);   /* until loop_stop, or at once when there is no object; 0 or -errno */
void loop_stop(struct loop *loop);

/* missed: periods that elapsed beyond the one reported (0 when on time). */
typedef void (*loop_timer_fn)(struct loop_timer *timer, uint64_t missed, void *userdata);
int loop_timer_new(struct loop *loop, loop_timer_fn fn, void *userdata, struct loop_timer **ret_timer);
/* First after first_ns (0: at once), then each period_ns (0: once). Re-arms a running timer. */
int loop_timer_start(struct loop_timer *timer, uint64_t first_ns, uint64_t period_ns);
void loop_timer_stop(struct loop_timer *timer);
void loop_timer_free(struct loop_timer *timer);

/* Level-triggered: called again while the condition lasts. An error or hang-up shows as readiness. */
typedef void (*loop_fd_fn)(struct loop_fd *fd, unsigned events, void *userdata);
int loop_fd_new(struct loop *loop, int fd, unsigned events, loop_fd_fn fn, void *userdata, struct loop_fd **ret_fd);
int loop_fd_events(struct loop_fd *fd, unsigned events); /* 0 pauses */
void loop_fd_free(struct loop_fd *fd);                   /* does not close the descriptor; call it before you do */

typedef void (*loop_signal_fn)(struct loop_signal *sig, int signum, void *userdata);
int loop_signal_new(struct loop *loop, int signum, loop_signal_fn fn, void *userdata, struct loop_signal **ret_signal);
void loop_signal_free(struct loop_signal *sig);
