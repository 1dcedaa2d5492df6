/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the HTTP server share; nobody else includes this, so that
 * <microhttpd.h> stays inside lib/http*.c.
 *
 * Ownership: the server owns listeners, connections and streams. A request
 * belongs to libmicrohttpd's request (freed when that completes); a stream
 * belongs to its libmicrohttpd response (freed with it).
 */
#pragma once
#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "lib/clock.h"
#include "lib/error.h"
#include "lib/http.h"
#include "lib/loop.h"

#define HTTP_ADDRESS_TEXT_MAX 80 /* "[IPv6%zone]:port" with room to spare */

struct http_listener {
	struct http_server *server;
	int fd;                    /* owned; -1 before it listens */
	struct loop_fd *acceptable;
	struct loop_timer *pause;  /* until accept is tried again */
	struct MHD_Daemon *daemon;
	struct loop_fd *readable;  /* the daemon's epoll descriptor */
	struct loop_timer *timer;  /* the daemon's next time-out, or "at once" after a kick */
	bool timer_armed;
	bool kicked;               /* work was added since the daemon last ran */
	bool loopback;             /* reachable only from this host: check Host */
	char address[HTTP_ADDRESS_TEXT_MAX];
};

/* One accepted connection. */
struct http_connection {
	struct http_connection *prev, *next;
	struct http_server *server;
	struct sockaddr_storage peer;
	int fd;                    /* libmicrohttpd's; never closed here */
	mono_time waiting_since;   /* for a whole request; meaningless while one is being answered */
	bool answering, streaming;
	mono_time answering_since;
	size_t unsent;             /* bytes of the answer, held in memory until it is out */
	bool refused;              /* already counted as such */
	uint64_t requests;
};

struct http_request {
	struct http_server *server;
	struct http_listener *listener;
	struct MHD_Connection *connection;
	const char *method;
	const char *path;
	char *body;
	size_t body_len, body_cap;
	size_t discarded;          /* bytes of a body beyond the limit */
	bool answered;
	char peer[HTTP_ADDRESS_TEXT_MAX];
};

struct http_server {
	struct loop *loop;
	const struct http_route *routes;
	void *userdata;
	struct http_listener *listeners;
	size_t n_listeners;
	unsigned connections_max, connections_per_client_max, idle_timeout_s;
	size_t body_max;
	size_t unsent_max;            /* of answers, and again of streams */
	unsigned answer_timeout_s;
	char *content_security_policy;
	const char *own_site_path;
	struct http_connection *connections;
	struct http_stream *streams;
	struct loop_timer *sweep;     /* runs while there are connections */
	struct loop_timer *heartbeat; /* runs while there are streams */
	bool closing;                 /* nothing new is begun */
	struct http_stats stats;
};

/* Runs the listener's daemon soon: from the loop, never from inside the caller. */
void http_listener_kick(struct http_listener *listener);

/* Binds and listens; fills fd, address and loopback of the listener. */
int http_listen(const char *text, struct http_listener *listener, struct error *ret_error);
/* "192.0.2.1:4711", "[2001:db8::1]:4711"; an IPv4-mapped address as IPv4. Returns buf. */
const char *http_address_format(const struct sockaddr_storage *sa, char buf[static HTTP_ADDRESS_TEXT_MAX]);
bool http_address_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

int http_accept_start(struct http_listener *listener);
void http_accept_stop(struct http_listener *listener);
/* NULL when there was no memory for it. */
struct http_connection *http_connection_of(struct MHD_Connection *connection);
void http_connection_notify(void *cls, struct MHD_Connection *connection, void **socket_context,
			    enum MHD_ConnectionNotificationCode code);
void http_connection_answered(struct http_connection *connection); /* nothing of the answer is left */
void http_connections_sweep(struct loop_timer *timer, uint64_t missed, void *userdata);

/* The sentence why this request must not be served (a foreign site's script in the user's browser), or NULL. */
const char *http_request_foreign(const struct http_request *request);
/* Puts the headers that every response carries. */
bool http_add_common_headers(const struct http_server *server, struct MHD_Response *response);

/* Ends every stream: on_close is called, connections are resumed so that the daemon can finish them. */
void http_streams_end(struct http_server *server);
void http_streams_heartbeat(struct loop_timer *timer, uint64_t missed, void *userdata);
