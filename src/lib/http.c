/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP server: life cycle, and the way of a request from libmicrohttpd to its
 * handler. Listening sockets are in http_listen.c, connections and their limits
 * in http_connection.c, requests and responses as handlers see them in
 * http_request.c, server-sent events in http_stream.c.
 *
 * One libmicrohttpd daemon per listening address, in external mode: the loop
 * polls the daemon's epoll descriptor, keeps its time-out as a timer, and calls
 * MHD_run. The daemon has no listening socket, it is given accepted ones. A
 * handler sees a request only when its body is complete.
 */
#include "lib/http.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/http_internal.h"

#define CONNECTIONS_MAX_DEFAULT 1024
#define IDLE_TIMEOUT_DEFAULT_S 30
#define BODY_MAX_DEFAULT ((size_t)64 * 1024)
#define UNSENT_MAX_DEFAULT ((size_t)256 * 1024 * 1024)
#define CONNECTION_MEMORY ((size_t)32 * 1024) /* request line, headers and write buffer of one connection */
#define DISCARD_MAX ((size_t)1024 * 1024)     /* of an oversized body before the connection is cut */
#define RUNS_MAX 4                            /* of the daemon in a row, before other events get their turn */

static void listener_arm(struct http_listener *listener, bool wanted, uint64_t ns)
{
	if (wanted)
		loop_timer_start(listener->timer, ns, 0);
	else if (listener->timer_armed)
		loop_timer_stop(listener->timer);
	listener->timer_armed = wanted;
}

/* A resumed stream needs one run to fetch its data and another to send it, hence more than one in a row. */
static void listener_run(struct http_listener *listener)
{
	MHD_UNSIGNED_LONG_LONG ms = 0;
	bool timeout = false;

	for (int i = 0; i < RUNS_MAX; i++) {
		listener->kicked = false;
		MHD_run(listener->daemon);
		ms = 0;
		timeout = MHD_get_timeout(listener->daemon, &ms) == MHD_YES;
		if (!listener->kicked && (!timeout || ms > 0))
			break;
	}
	if (listener->kicked)
		ms = 0;
	listener_arm(listener, timeout || listener->kicked, (uint64_t)ms * NS_PER_MS);
}

static void listener_readable(struct loop_fd *fd, unsigned events, void *userdata)
{
	listener_run(userdata);
}

static void listener_timer(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct http_listener *listener = userdata;

	listener->timer_armed = false;
	listener_run(listener);
}

void http_listener_kick(struct http_listener *listener)
{
	if (listener->kicked)
		return;
	listener->kicked = true;
	listener_arm(listener, true, 0);
}

/* libmicrohttpd answers malformed requests by itself and tells only its log. */
static void daemon_log(void *cls, const char *format, va_list ap)
{
	struct http_listener *listener = cls;

	if (!strncmp(format, "Error processing request", strlen("Error processing request"))) {
		listener->server->stats.requests++;
		listener->server->stats.refused++;
	}
}

/* Requests */

static bool route_path_matches(const struct http_route *route, const char *path)
{
	const size_t len = strlen(route->path);

	if (len && route->path[len - 1] == '*')
		return !strncmp(route->path, path, len - 1);
	return !strcmp(route->path, path);
}

static bool route_method_matches(const struct http_route *route, const char *method)
{
	return !strcmp(route->method, method) || (!strcmp(route->method, "GET") && !strcmp(method, "HEAD"));
}

static void respond_not_allowed(struct http_request *request)
{
	static const char sentence[] = "this address does not take that method\n";
	char allow[64] = "";
	const char *headers[] = { "Allow", allow, NULL };

	for (const struct http_route *route = request->server->routes; route->path; route++) {
		if (!route_path_matches(route, request->path) || strstr(allow, route->method))
			continue;
		if (strlen(allow) + strlen(route->method) + sizeof(", , HEAD") > sizeof(allow))
			break;
		if (allow[0])
			strcat(allow, ", ");
		strcat(allow, route->method);
		if (!strcmp(route->method, "GET"))
			strcat(allow, ", HEAD");
	}
	http_respond(request, &(struct http_response){
		.status = MHD_HTTP_METHOD_NOT_ALLOWED,
		.content_type = "text/plain; charset=utf-8",
		.data = sentence,
		.len = sizeof(sentence) - 1,
		.borrowed = true,
		.headers = headers,
	});
}

static void request_dispatch(struct http_request *request)
{
	struct http_server *server = request->server;
	const char *foreign = http_request_foreign(request);
	bool path_known = false;

	if (foreign) {
		server->stats.refused++;
		http_respond_text(request, MHD_HTTP_FORBIDDEN, "%s", foreign);
		return;
	}
	if (request->discarded) {
		server->stats.refused++;
		http_respond_text(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than %zu bytes",
				  server->body_max);
		return;
	}
	for (const struct http_route *route = server->routes; route->path; route++) {
		if (!route_path_matches(route, request->path))
			continue;
		path_known = true;
		if (route_method_matches(route, request->method)) {
			route->handler(request, route->userdata ? route->userdata : server->userdata);
			return;
		}
	}
	server->stats.refused++;
	if (path_known)
		respond_not_allowed(request);
	else
		http_respond_text(request, MHD_HTTP_NOT_FOUND, "there is nothing at this address");
}

/* Keeps what fits in the limit; -E2BIG when so much more came that the connection is better cut. */
static int request_receive(struct http_request *request, const char *data, size_t len)
{
	if (request->discarded || len > request->server->body_max - request->body_len) {
		request->discarded += len;
		return request->discarded > DISCARD_MAX ? -E2BIG : 0;
	}
	if (len > request->body_cap - request->body_len) {
		size_t cap = request->body_cap ? request->body_cap : 1024;
		char *body;

		while (cap < request->body_len + len)
			cap *= 2;
		body = realloc(request->body, cap);
		if (!body)
			return -ENOMEM;
		request->body = body;
		request->body_cap = cap;
	}
	memcpy(request->body + request->body_len, data, len);
	request->body_len += len;
	return 0;
}

static struct http_request *request_new(struct http_listener *listener, struct MHD_Connection *connection,
					const char *path, const char *method)
{
	struct http_connection *c = http_connection_of(connection);
	struct http_request *request = c ? calloc(1, sizeof(*request)) : NULL;

	if (!request)
		return NULL;
	request->server = listener->server;
	request->listener = listener;
	request->connection = connection;
	request->path = path;
	request->method = method;
	http_address_format(&c->peer, request->peer);
	c->requests++;
	listener->server->stats.requests++;
	return request;
}

/* A body that is announced as too large is refused before it is sent. */
static bool request_refuse_early(struct http_request *request)
{
	const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);

	if (!length || strtoull(length, NULL, 10) <= request->server->body_max ||
	    (strcmp(request->method, "POST") && strcmp(request->method, "PUT")))
		return false;
	request->server->stats.refused++;
	http_respond_text(request, MHD_HTTP_CONTENT_TOO_LARGE, "the body is larger than %zu bytes",
			  request->server->body_max);
	return request->answered;
}

/* Called once with the headers, then for each piece of the body, then once more when the request is complete. */
static enum MHD_Result access_handler(void *cls, struct MHD_Connection *connection, const char *url,
				      const char *method, const char *version, const char *upload_data,
				      size_t *upload_data_size, void **con_cls)
{
	struct http_request *request = *con_cls;
	struct http_connection *c = http_connection_of(connection);

	if (!request) {
		request = request_new(cls, connection, url, method);
		*con_cls = request;
		if (!request)
			return MHD_NO;
		if (request_refuse_early(request)) {
			c->answering = true;
			c->answering_since = mono_now();
		}
		return MHD_YES;
	}
	if (*upload_data_size) {
		int r = request_receive(request, upload_data, *upload_data_size);

		*upload_data_size = 0;
		if (r == -E2BIG && !c->refused) {
			c->refused = true;
			request->server->stats.refused++;
		}
		return r < 0 ? MHD_NO : MHD_YES;
	}
	if (request->server->closing)
		return MHD_NO;
	c->answering = true;
	c->answering_since = mono_now();
	request_dispatch(request);
	if (!request->answered)
		request->server->stats.errors++;
	return request->answered ? MHD_YES : MHD_NO;
}

static void request_completed(void *cls, struct MHD_Connection *connection, void **con_cls,
			      enum MHD_RequestTerminationCode code)
{
	struct http_request *request = *con_cls;
	struct http_connection *c = http_connection_of(connection);

	if (c) {
		c->answering = c->streaming = false;
		c->waiting_since = mono_now();
		http_connection_answered(c);
	}
	if (request) {
		free(request->body);
		free(request);
	}
	*con_cls = NULL;
}

/* Life cycle */

static int daemon_start(struct http_listener *listener)
{
	struct http_server *server = listener->server;

	listener->daemon = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG, 0,
		NULL, NULL, access_handler, listener,
		MHD_OPTION_EXTERNAL_LOGGER, daemon_log, listener,
		/* Never reached: http_connection.c refuses before. */
		MHD_OPTION_CONNECTION_LIMIT, server->connections_max + 1,
		MHD_OPTION_CONNECTION_TIMEOUT, server->idle_timeout_s,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
		MHD_OPTION_STRICT_FOR_CLIENT, 1,
		MHD_OPTION_NOTIFY_COMPLETED, request_completed, listener,
		MHD_OPTION_NOTIFY_CONNECTION, http_connection_notify, listener,
		MHD_OPTION_END);
	return listener->daemon ? 0 : -ENOMEM; /* of memory or of descriptors; libmicrohttpd does not say */
}

static int listener_open(struct http_listener *listener, const char *text, struct error *ret_error)
{
	struct loop *loop = listener->server->loop;
	int r = http_listen(text, listener, ret_error);

	if (r < 0)
		return r;
	r = daemon_start(listener);
	if (r == 0)
		r = loop_timer_new(loop, listener_timer, listener, &listener->timer);
	if (r == 0)
		r = loop_fd_new(loop, MHD_get_daemon_info(listener->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
				LOOP_READABLE, listener_readable, listener, &listener->readable);
	if (r == 0)
		r = http_accept_start(listener);
	return r < 0 ? error_set_errno(ret_error, r, "cannot serve %s", text) : 0;
}

static void listener_close(struct http_listener *listener)
{
	http_accept_stop(listener);
	if (listener->fd >= 0)
		close(listener->fd);
	loop_fd_free(listener->readable);
	loop_timer_free(listener->timer);
	if (listener->daemon)
		MHD_stop_daemon(listener->daemon);
}

static int server_init(struct http_server *server, struct loop *loop, const struct http_options *options)
{
	int r;

	server->loop = loop;
	server->routes = options->routes;
	server->userdata = options->userdata;
	server->connections_max = options->connections_max ? options->connections_max : CONNECTIONS_MAX_DEFAULT;
	server->connections_per_client_max = options->connections_per_client_max;
	server->idle_timeout_s = options->idle_timeout_s ? options->idle_timeout_s : IDLE_TIMEOUT_DEFAULT_S;
	server->body_max = options->body_max ? options->body_max : BODY_MAX_DEFAULT;
	server->unsent_max = (options->unsent_max ? options->unsent_max : UNSENT_MAX_DEFAULT) / 2;
	server->answer_timeout_s = options->answer_timeout_s ? options->answer_timeout_s : HTTP_ANSWER_MAX_S;
	server->own_site_path = options->own_site_path;
	if (options->content_security_policy) {
		server->content_security_policy = strdup(options->content_security_policy);
		if (!server->content_security_policy)
			return -ENOMEM;
	}
	server->listeners = calloc(options->n_listen, sizeof(*server->listeners));
	if (!server->listeners)
		return -ENOMEM;
	r = loop_timer_new(loop, http_connections_sweep, server, &server->sweep);
	if (r < 0)
		return r;
	return loop_timer_new(loop, http_streams_heartbeat, server, &server->heartbeat);
}

int http_open(struct loop *loop, const struct http_options *options, struct http_server **ret_server,
	      struct error *ret_error)
{
	struct http_server *server = calloc(1, sizeof(*server));
	int r;

	assert(options->n_listen > 0 && options->routes);
	if (!server)
		return error_set_errno(ret_error, -ENOMEM, "cannot start the HTTP server");
	r = server_init(server, loop, options);
	if (r < 0)
		error_set_errno(ret_error, r, "cannot start the HTTP server");
	for (size_t i = 0; r == 0 && i < options->n_listen; i++) {
		server->listeners[i].server = server;
		server->listeners[i].fd = -1;
		server->n_listeners++;
		r = listener_open(&server->listeners[i], options->listen[i], ret_error);
	}
	if (r < 0) {
		http_close(server);
		return r;
	}
	*ret_server = server;
	return 0;
}

void http_close(struct http_server *server)
{
	if (!server)
		return;
	server->closing = true;
	/* A daemon with suspended connections cannot be stopped. */
	http_streams_end(server);
	for (size_t i = 0; i < server->n_listeners; i++) {
		/* Lets streams end properly and answers go out, as far as that is possible without waiting. */
		for (int run = 0; server->listeners[i].daemon && run < RUNS_MAX; run++)
			MHD_run(server->listeners[i].daemon);
		listener_close(&server->listeners[i]);
	}
	assert(!server->connections && !server->streams);
	loop_timer_free(server->sweep);
	loop_timer_free(server->heartbeat);
	free(server->listeners);
	free(server->content_security_policy);
	free(server);
}

void http_stats(const struct http_server *server, struct http_stats *ret_stats)
{
	*ret_stats = server->stats;
}

const char *http_listen_address(const struct http_server *server, size_t index)
{
	assert(index < server->n_listeners);
	return server->listeners[index].address;
}
