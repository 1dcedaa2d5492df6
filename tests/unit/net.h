/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the network tests share: a loop under a watchdog, and clients on real
 * sockets of the same loop that collect what they receive. A test waits by
 * running the loop until a condition holds; when it does not within the
 * deadline, the test fails with what it waited for.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/loop.h"

#define DEADLINE_NS (30 * NS_PER_SEC)

struct net {
	struct loop *loop;
	struct loop_timer *watchdog;
	bool timed_out;
};

static inline void net_give_up(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct net *net = userdata;

	net->timed_out = true;
	loop_stop(net->loop);
}

static inline void net_open(struct net *net)
{
	*net = (struct net){ 0 };
	assert_int_equal(loop_new(&net->loop), 0);
	assert_int_equal(loop_timer_new(net->loop, net_give_up, net, &net->watchdog), 0);
}

static inline void net_close(struct net *net)
{
	loop_timer_free(net->watchdog);
	loop_free(net->loop);
}

/* Runs the loop until the condition holds; whoever can make it true stops the loop. */
#define NET_WAIT(net, condition)                                                        \
	do {                                                                            \
		assert_int_equal(loop_timer_start((net)->watchdog, DEADLINE_NS, 0), 0); \
		while (!(condition)) {                                                  \
			assert_int_equal(loop_run((net)->loop), 0);                     \
			if ((net)->timed_out)                                           \
				fail_msg("waited in vain for %s", #condition);          \
		}                                                                       \
		loop_timer_stop((net)->watchdog);                                       \
	} while (0)


static inline void net_tick(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	loop_stop(userdata);
}

/* Lets the loop run for a while, for what must not happen. */
static inline void net_run_for(struct net *net, uint64_t ns)
{
	const mono_time start = mono_now();
	struct loop_timer *tick;

	assert_int_equal(loop_timer_new(net->loop, net_tick, net->loop, &tick), 0);
	assert_int_equal(loop_timer_start(tick, ns, NS_PER_MS), 0);
	NET_WAIT(net, mono_since_ns(mono_now(), start) >= ns);
	loop_timer_free(tick);
}

/* As NET_WAIT, for a condition that becomes true without stopping the loop. */
#define NET_POLL(net, condition)                                                                        \
	do {                                                                                            \
		const mono_time poll_start = mono_now();                                                \
		while (!(condition)) {                                                                  \
			if (mono_since_ns(mono_now(), poll_start) > DEADLINE_NS)                        \
				fail_msg("waited in vain for %s", #condition);                          \
			net_run_for(net, NS_PER_MS);                                                    \
		}                                                                                       \
	} while (0)

struct client {
	struct loop *loop;
	int fd;
	struct loop_fd *watch;
	struct buffer got;
	bool ended;         /* the server closed */
	bool quiet;         /* does not stop the loop */
	mono_time last;     /* of the last bytes */
	const char *to_send;
	size_t to_send_len;
};

static inline void client_ready(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct client *c = userdata;
	char *room;
	ssize_t n;

	if (events & LOOP_WRITABLE && c->to_send_len) {
		n = send(c->fd, c->to_send, c->to_send_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			c->to_send += n;
			c->to_send_len -= (size_t)n;
		} else if (errno != EAGAIN) {
			c->to_send_len = 0;
		}
	}
	if (!c->to_send_len)
		loop_fd_events(fd, LOOP_READABLE);
	if (events & LOOP_READABLE) {
		room = buffer_reserve(&c->got, 65536);
		assert_non_null(room);
		n = recv(c->fd, room, 65536, MSG_DONTWAIT);
		if (n > 0) {
			c->last = mono_now();
			c->got.len += (size_t)n;
			c->got.data[c->got.len] = '\0';
		} else if (n == 0 || errno != EAGAIN) {
			c->ended = true;
			loop_fd_events(fd, 0);
		}
	}
	if (!c->quiet || c->ended)
		loop_stop(c->loop);
}

static inline struct sockaddr_storage net_address(const char *text, socklen_t *ret_len)
{
	struct sockaddr_storage sa = { 0 };
	struct sockaddr_in *sin = (struct sockaddr_in *)&sa;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&sa;
	const char *port = strrchr(text, ':');
	char host[64] = "";

	assert_non_null(port);
	if (text[0] == '[') {
		memcpy(host, text + 1, (size_t)(port - text) - 2);
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons((uint16_t)atoi(port + 1));
		assert_int_equal(inet_pton(AF_INET6, host, &sin6->sin6_addr), 1);
		*ret_len = sizeof(*sin6);
	} else {
		memcpy(host, text, (size_t)(port - text));
		sin->sin_family = AF_INET;
		sin->sin_port = htons((uint16_t)atoi(port + 1));
		assert_int_equal(inet_pton(AF_INET, host, &sin->sin_addr), 1);
		*ret_len = sizeof(*sin);
	}
	return sa;
}

/* Connects (loopback: at once) without watching. receive_buffer 0: the system's. */
static inline int net_connect(const char *address, int receive_buffer)
{
	socklen_t len;
	struct sockaddr_storage sa = net_address(address, &len);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	if (receive_buffer)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer)), 0);
	if (connect(fd, (struct sockaddr *)&sa, len) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static inline void client_open(struct client *c, struct loop *loop, const char *address)
{
	*c = (struct client){ .loop = loop };
	c->fd = net_connect(address, 0);
	assert_true(c->fd >= 0);
	assert_int_equal(loop_fd_new(loop, c->fd, LOOP_READABLE, client_ready, c, &c->watch), 0);
}

/* data is borrowed until it is sent. */
static inline void client_send(struct client *c, const void *data, size_t len)
{
	c->to_send = data;
	c->to_send_len = len;
	assert_int_equal(loop_fd_events(c->watch, LOOP_READABLE | LOOP_WRITABLE), 0);
}

static inline void client_puts(struct client *c, const char *text)
{
	client_send(c, text, strlen(text));
}

static inline bool client_has(const struct client *c, const char *text)
{
	return c->got.len && strstr(c->got.data, text);
}

static inline void client_close(struct client *c)
{
	loop_fd_free(c->watch);
	if (c->fd >= 0)
		close(c->fd);
	buffer_done(&c->got);
}

/* Ends with a reset instead of an orderly close. */
static inline void client_reset(struct client *c)
{
	const struct linger linger = { .l_onoff = 1 };

	assert_int_equal(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	client_close(c);
}

static inline unsigned net_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}
