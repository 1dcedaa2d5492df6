/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the tests of the HTTP server share: a server on loopback with a few
 * routes, and requests written byte by byte, so that broken ones are as easy as
 * good ones. Server and clients share one loop and one thread.
 */
#pragma once
#include "net.h"

#include "lib/error.h"
#include "lib/http.h"

#define BODY_MAX 1000
#define BIG_LEN ((size_t)5 * 1024 * 1024)

struct context {
	struct net net;
	struct http_server *server;
	const char *address;
	char *big;
	unsigned handled;
};

static inline void handle_hello(struct http_request *request, void *userdata)
{
	static const char *const headers[] = { "X-Extra", "yes", NULL };
	struct context *c = userdata;

	c->handled++;
	http_respond(request, &(struct http_response){
		.status = 200, .content_type = "text/plain", .data = "hello", .len = 5, .headers = headers });
}

static inline void handle_big(struct http_request *request, void *userdata)
{
	struct context *c = userdata;

	http_respond(request, &(struct http_response){ .status = 200, .data = c->big, .len = BIG_LEN, .borrowed = true,
						       .cache_control = "max-age=3600" });
}

/* As /big, but the bytes are the server's until the client has them. */
static inline void handle_owned(struct http_request *request, void *userdata)
{
	struct context *c = userdata;
	char *copy = malloc(BIG_LEN);

	assert_non_null(copy);
	memcpy(copy, c->big, BIG_LEN);
	http_respond(request, &(struct http_response){ .status = 200, .data = copy, .len = BIG_LEN, .owned = true });
}

static inline void join(const char *value, void *ud)
{
	buffer_printf(ud, "[%s]", value);
}

static inline void handle_echo(struct http_request *request, void *userdata)
{
	struct context *c = userdata;
	const char *x = http_request_query(request, "x");
	size_t len, n;
	const void *body = http_request_body(request, &len);
	struct buffer out = BUFFER_INIT;

	c->handled++;
	buffer_printf(&out, "method=%s path=%s peer=%s x=%s gzip=%d all=", http_request_method(request),
		      http_request_path(request), http_request_peer(request), x ? x : "(none)",
		      http_accepts_gzip(request));
	n = http_request_query_each(request, "all", join, &out);
	buffer_printf(&out, " n=%zu header=%s body=", n,
		      http_request_header(request, "x-test") ? http_request_header(request, "x-test") : "(none)");
	buffer_append(&out, body, len);
	buffer_puts(&out, ".");
	http_respond(request, &(struct http_response){ .status = 200, .content_type = "text/plain", .data = out.data,
						       .len = out.len });
	buffer_done(&out);
}

static inline void handle_fail(struct http_request *request, void *userdata)
{
	http_respond_text(request, 503, "the store is %s", "closed");
}

static const struct http_route routes[] = {
	{ "GET", "/hello", handle_hello },
	{ "GET", "/big", handle_big },
	{ "GET", "/owned", handle_owned },
	{ "GET", "/echo", handle_echo },
	{ "POST", "/echo", handle_echo },
	{ "POST", "/post", handle_echo },
	{ "GET", "/tree/*", handle_echo },
	{ "GET", "/fail", handle_fail },
	{ NULL, NULL, NULL },
};

static inline void open_server(struct context *c, const char *listen, struct http_options options)
{
	struct error error = { 0 };

	net_open(&c->net);
	c->big = malloc(BIG_LEN);
	assert_non_null(c->big);
	for (size_t i = 0; i < BIG_LEN; i++)
		c->big[i] = (char)('a' + i % 23);
	options.listen = &listen;
	options.n_listen = 1;
	options.routes = routes;
	options.userdata = c;
	options.body_max = BODY_MAX;
	if (http_open(c->net.loop, &options, &c->server, &error) < 0)
		fail_msg("%s", error.text);
	c->address = http_listen_address(c->server, 0);
}

static inline void close_server(struct context *c)
{
	http_close(c->server);
	net_close(&c->net);
	free(c->big);
}

static inline int setup(void **state)
{
	static struct context c;

	c = (struct context){ 0 };
	open_server(&c, "127.0.0.1:0", (struct http_options){ .idle_timeout_s = 1,
							      .content_security_policy = "default-src 'self'" });
	*state = &c;
	return 0;
}

static inline int teardown(void **state)
{
	close_server(*state);
	return 0;
}

static inline struct http_stats stats(const struct context *c)
{
	struct http_stats s;

	http_stats(c->server, &s);
	return s;
}

/* Sends bytes on a new connection and waits until the server closes it. The answer stays in *client. */
static inline void exchange(struct context *c, struct client *client, const char *bytes, size_t len)
{
	client_open(client, c->net.loop, c->address);
	client_send(client, bytes, len);
	NET_WAIT(&c->net, client->ended);
	if (!client->got.data)
		buffer_puts(&client->got, "");
}

static inline void expect(struct context *c, const char *request, const char *const *wanted)
{
	struct client client;

	exchange(c, &client, request, strlen(request));
	for (; *wanted; wanted++) {
		if (!strstr(client.got.data, *wanted))
			fail_msg("no \"%s\" in the answer to\n%s\nwhich is\n%.2000s", *wanted, request, client.got.data);
	}
	client_close(&client);
}

#define EXPECT(c, request, ...) expect(c, request, (const char *const[]){ __VA_ARGS__, NULL })
#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
