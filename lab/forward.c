/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each direction has one buffer: it is read when it is empty and written until it is, so a
 * slow reader slows its sender and nothing is kept for it here. The end of one direction is
 * passed on by itself (shutdown); a failure ends both.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "lab/forward.h"

#define BUFFER_BYTES 65536
#define CONNECTIONS_MAX 64

/* What was read from one socket and waits for the other. */
struct half { int fd; struct loop_fd *watch; size_t at, len; bool ended, passed_on; char data[BUFFER_BYTES]; };

struct connection { struct forward *forward; struct half halves[2]; };

struct forward {
	struct loop *loop;
	struct host *host;
	unsigned to, port;
	int listener;
	struct loop_fd *watch;
	struct connection *connections[CONNECTIONS_MAX];
};

static struct sockaddr_in loopback(unsigned port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void connection_free(struct connection *c)
{
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (c->forward->connections[i] == c)
			c->forward->connections[i] = NULL;
	for (int i = 0; i < 2; i++) {
		loop_fd_free(c->halves[i].watch);
		if (c->halves[i].fd >= 0)
			close(c->halves[i].fd);
	}
	free(c);
}

static bool again(void)
{
	return errno == EAGAIN || errno == EINTR || errno == EINPROGRESS || errno == ENOTCONN;
}

/* From one socket towards the other as far as it goes now. False: broken. */
static bool move(struct half *from, struct half *to)
{
	ssize_t n;
	if (!from->len && !from->ended) {
		n = recv(from->fd, from->data, sizeof(from->data), MSG_DONTWAIT);
		if (n < 0 && !again())
			return false;
		from->at = 0;
		from->len = n > 0 ? (size_t)n : 0;
		from->ended = n == 0;
	}
	if (from->len) {
		n = send(to->fd, from->data + from->at, from->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && !again())
			return false;
		from->at += n > 0 ? (size_t)n : 0;
		from->len -= n > 0 ? (size_t)n : 0;
	}
	if (from->ended && !from->len && !from->passed_on) {
		from->passed_on = true;
		shutdown(to->fd, SHUT_WR);
	}
	return true;
}

static void on_ready(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct connection *c = userdata;
	struct half *h = c->halves;
	int error = 0;
	socklen_t len = sizeof(error);
	/* The far side may have refused. */
	bool good = !getsockopt(h[1].fd, SOL_SOCKET, SO_ERROR, &error, &len) && !error && move(&h[0], &h[1]) &&
		    move(&h[1], &h[0]);
	if (!good || (h[0].passed_on && h[1].passed_on)) {
		connection_free(c);
		return;
	}
	for (int i = 0; i < 2; i++)
		loop_fd_events(h[i].watch, (h[i].len || h[i].ended ? 0 : LOOP_READABLE) |
					   (h[1 - i].len ? LOOP_WRITABLE : 0));
}

static int connection_start(struct forward *forward, int fd, struct connection **ret_connection)
{
	const struct sockaddr_in to = loopback(forward->to);
	struct connection *c = calloc(1, sizeof(*c));
	const int on = 1;
	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->forward = forward;
	c->halves[0].fd = fd;
	c->halves[1].fd = host_socket(forward->host, AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
	int r = c->halves[1].fd < 0 ? c->halves[1].fd : 0;
	if (!r && connect(c->halves[1].fd, (const struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		r = -errno;
	for (int i = 0; !r && i < 2; i++) {
		setsockopt(c->halves[i].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		r = loop_fd_new(forward->loop, c->halves[i].fd, LOOP_READABLE, on_ready, c, &c->halves[i].watch);
	}
	if (r < 0) {
		connection_free(c);
		return r;
	}
	*ret_connection = c;
	return 0;
}

static void on_connection(struct loop_fd *watch, unsigned events, void *userdata)
{
	struct forward *forward = userdata;
	int fd = accept4(forward->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	for (size_t i = 0; fd >= 0 && i < CONNECTIONS_MAX; i++)
		if (!forward->connections[i]) {
			connection_start(forward, fd, &forward->connections[i]);
			return;
		}
	if (fd >= 0)
		close(fd);
}

static int listen_here(struct forward *forward)
{
	struct sockaddr_in address = loopback(0);
	socklen_t len = sizeof(address);
	forward->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (forward->listener < 0 || bind(forward->listener, (const struct sockaddr *)&address, len) < 0 ||
	    listen(forward->listener, CONNECTIONS_MAX) < 0 ||
	    getsockname(forward->listener, (struct sockaddr *)&address, &len) < 0)
		return -errno;
	forward->port = ntohs(address.sin_port);
	return 0;
}

int forward_new(struct loop *loop, struct host *host, unsigned port, struct forward **ret_forward,
		struct error *ret_error)
{
	struct forward *forward = calloc(1, sizeof(*forward));
	if (!forward)
		return error_set(ret_error, -ENOMEM, "out of memory");
	forward->loop = loop;
	forward->host = host;
	forward->to = port;
	int r = listen_here(forward);
	if (!r)
		r = loop_fd_new(loop, forward->listener, LOOP_READABLE, on_connection, forward, &forward->watch);
	if (r < 0) {
		forward_free(forward);
		return error_set_errno(ret_error, r, "cannot listen for connections to %s", host_name(host));
	}
	*ret_forward = forward;
	return 0;
}

void forward_free(struct forward *forward)
{
	if (!forward)
		return;
	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		if (forward->connections[i])
			connection_free(forward->connections[i]);
	loop_fd_free(forward->watch);
	if (forward->listener >= 0)
		close(forward->listener);
	free(forward);
}

unsigned forward_port(const struct forward *forward)
{
	return forward->port;
}
