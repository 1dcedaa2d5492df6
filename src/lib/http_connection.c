/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of the HTTP server: accepting, and the limits.
 *
 * Accepted here and handed to libmicrohttpd, which would keep its limits
 * silently: at its connection limit it stops to accept and lets clients hang,
 * and once it runs out of descriptors it does not accept again before one of its
 * own connections closes, which with long-lived streams may be never. Here a
 * connection over a limit is closed and counted, and without descriptors accept
 * pauses for a moment.
 *
 * libmicrohttpd's idle time-out starts again with every byte, which a client
 * exploits that drips its request, or fetches its answer in drips; the sweep
 * bounds the time for a whole one.
 */
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/http_internal.h"

#define ACCEPTS_MAX 64                     /* in a row, before other events get their turn */
#define ACCEPT_PAUSE_NS (100 * NS_PER_MS)  /* without descriptors or memory; a retry costs one system call */

static bool over_a_limit(const struct http_server *server, const struct sockaddr_storage *peer)
{
	unsigned same = 0;

	if (server->stats.connections >= server->connections_max)
		return true;
	if (!server->connections_per_client_max)
		return false;
	for (const struct http_connection *c = server->connections; c; c = c->next)
		same += http_address_same_host(&c->peer, peer);
	return same >= server->connections_per_client_max;
}

/* False when nothing more can be accepted now. */
static bool accept_one(struct http_listener *listener)
{
	struct http_server *server = listener->server;
	struct sockaddr_storage peer = { 0 };
	socklen_t len = sizeof(peer);
	int fd = accept4(listener->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
			server->stats.errors++;
			loop_fd_events(listener->acceptable, 0);
			loop_timer_start(listener->pause, ACCEPT_PAUSE_NS, 0);
			return false;
		}
		return errno != EAGAIN; /* all others are errors of one connection that is gone again, accept(2) */
	}
	if (over_a_limit(server, &peer)) {
		server->stats.refused++;
		close(fd);
		return true;
	}
	/* Closes the descriptor when it fails. */
	if (MHD_add_connection(listener->daemon, fd, (const struct sockaddr *)&peer, len) != MHD_YES)
		server->stats.errors++;
	http_listener_kick(listener);
	return true;
}

static void listener_acceptable(struct loop_fd *fd, unsigned events, void *userdata)
{
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		if (!accept_one(userdata))
			break;
	}
}

static void pause_over(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct http_listener *listener = userdata;

	loop_fd_events(listener->acceptable, LOOP_READABLE);
}

int http_accept_start(struct http_listener *listener)
{
	struct loop *loop = listener->server->loop;
	int r = loop_timer_new(loop, pause_over, listener, &listener->pause);

	if (r < 0)
		return r;
	return loop_fd_new(loop, listener->fd, LOOP_READABLE, listener_acceptable, listener, &listener->acceptable);
}

void http_accept_stop(struct http_listener *listener)
{
	loop_fd_free(listener->acceptable);
	loop_timer_free(listener->pause);
}

struct http_connection *http_connection_of(struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

	return info ? info->socket_context : NULL;
}

static struct http_connection *connection_new(struct http_server *server, struct MHD_Connection *connection)
{
	const union MHD_ConnectionInfo *fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	const union MHD_ConnectionInfo *address;
	struct http_connection *c = calloc(1, sizeof(*c));
	int on = 1;

	if (!c)
		return NULL;
	c->server = server;
	c->fd = fd->connect_fd;
	c->waiting_since = mono_now();
	address = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	memcpy(&c->peer, address->client_addr,
	       address->client_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6));
	/* A frame of a stream must not wait for the acknowledgement of the one before. */
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->next = server->connections;
	if (c->next)
		c->next->prev = c;
	else
		loop_timer_start(server->sweep, server->idle_timeout_s * NS_PER_SEC / 2,
				 server->idle_timeout_s * NS_PER_SEC / 2);
	server->connections = c;
	server->stats.connections++;
	return c;
}

/* A client that sent something and got neither a handler nor an answer was cut while its request was incomplete. */
static bool connection_starved(const struct http_connection *c)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return c->requests == 0 && getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_bytes_received > 1 && /* the end of the connection counts as one byte */
	       info.tcpi_data_segs_out == 0;
}

static void connection_free(struct http_connection *c)
{
	struct http_server *server = c->server;

	if (!c->refused && connection_starved(c))
		server->stats.refused++;
	if (c->prev)
		c->prev->next = c->next;
	else
		server->connections = c->next;
	if (c->next)
		c->next->prev = c->prev;
	if (!server->connections)
		loop_timer_stop(server->sweep);
	server->stats.connections--;
	http_connection_answered(c);
	free(c);
}

void http_connection_notify(void *cls, struct MHD_Connection *connection, void **socket_context,
			    enum MHD_ConnectionNotificationCode code)
{
	struct http_listener *listener = cls;

	if (code == MHD_CONNECTION_NOTIFY_STARTED) {
		*socket_context = connection_new(listener->server, connection);
	} else if (*socket_context) {
		connection_free(*socket_context);
		*socket_context = NULL;
	}
}

void http_connection_answered(struct http_connection *c)
{
	c->server->stats.unsent_answers -= c->unsent;
	c->unsent = 0;
}

static bool answer_is_stuck(const struct http_connection *c, mono_time now)
{
	return c->answering && !c->streaming && !c->refused &&
	       mono_since_ns(now, c->answering_since) >= c->server->answer_timeout_s * NS_PER_SEC;
}

/* Cuts clients that drip their request (twice the idle time-out is enough to be idle and then to send one), and those
 * that do not fetch their answer. */
void http_connections_sweep(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct http_server *server = userdata;
	const uint64_t limit_ns = 2 * server->idle_timeout_s * NS_PER_SEC;
	const mono_time now = mono_now();

	for (struct http_connection *c = server->connections; c; c = c->next) {
		if (answer_is_stuck(c, now)) {
			server->stats.answers_cut++;
		} else {
			if (c->answering || c->refused || mono_since_ns(now, c->waiting_since) < limit_ns)
				continue;
			server->stats.refused++;
		}
		c->refused = true;
		/* libmicrohttpd owns the socket: it sees the end and closes it. */
		shutdown(c->fd, SHUT_RDWR);
	}
}
