/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server over real sockets on loopback, with requests written byte by
 * byte, so that broken ones are as easy as good ones. Server and clients share
 * one loop and one thread. Streams have their own file, test_http_stream.c.
 */
#include "net.h"

#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <zlib.h>

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

static void handle_hello(struct http_request *request, void *userdata)
{
	static const char *const headers[] = { "X-Extra", "yes", NULL };
	struct context *c = userdata;

	c->handled++;
	http_respond(request, &(struct http_response){
		.status = 200, .content_type = "text/plain", .data = "hello", .len = 5, .headers = headers });
}

static void handle_big(struct http_request *request, void *userdata)
{
	struct context *c = userdata;

	http_respond(request, &(struct http_response){ .status = 200, .data = c->big, .len = BIG_LEN, .borrowed = true,
						       .cache_control = "max-age=3600" });
}

static void join(const char *value, void *ud)
{
	buffer_printf(ud, "[%s]", value);
}

static void handle_echo(struct http_request *request, void *userdata)
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

static void handle_fail(struct http_request *request, void *userdata)
{
	http_respond_text(request, 503, "the store is %s", "closed");
}

static const struct http_route routes[] = {
	{ "GET", "/hello", handle_hello },
	{ "GET", "/big", handle_big },
	{ "GET", "/echo", handle_echo },
	{ "POST", "/echo", handle_echo },
	{ "POST", "/post", handle_echo },
	{ "GET", "/tree/*", handle_echo },
	{ "GET", "/fail", handle_fail },
	{ NULL, NULL, NULL },
};

static void open_server(struct context *c, const char *listen, struct http_options options)
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

static void close_server(struct context *c)
{
	http_close(c->server);
	net_close(&c->net);
	free(c->big);
}

static int setup(void **state)
{
	static struct context c;

	c = (struct context){ 0 };
	open_server(&c, "127.0.0.1:0", (struct http_options){ .idle_timeout_s = 1,
							      .content_security_policy = "default-src 'self'" });
	*state = &c;
	return 0;
}

static int teardown(void **state)
{
	close_server(*state);
	return 0;
}

static struct http_stats stats(const struct context *c)
{
	struct http_stats s;

	http_stats(c->server, &s);
	return s;
}

/* Sends bytes on a new connection and waits until the server closes it. The answer stays in *client. */
static void exchange(struct context *c, struct client *client, const char *bytes, size_t len)
{
	client_open(client, c->net.loop, c->address);
	client_send(client, bytes, len);
	NET_WAIT(&c->net, client->ended);
	if (!client->got.data)
		buffer_puts(&client->got, "");
}

static void expect(struct context *c, const char *request, const char *const *wanted)
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

static void get(void **state)
{
	struct context *c = *state;
	struct client client;
	static const char request[] = GET("/hello");

	EXPECT(c, request, "HTTP/1.1 200 OK\r\n", "\r\nContent-Length: 5\r\n", "\r\nContent-Type: text/plain\r\n",
	       "\r\nX-Content-Type-Options: nosniff\r\n", "\r\nX-Frame-Options: DENY\r\n",
	       "\r\nReferrer-Policy: no-referrer\r\n", "\r\nContent-Security-Policy: default-src 'self'\r\n",
	       "\r\nCache-Control: no-store\r\n", "\r\nX-Extra: yes\r\n", "\r\n\r\nhello");
	exchange(c, &client, request, sizeof(request) - 1);
	assert_null(strstr(client.got.data, "Server:"));
	client_close(&client);
	assert_int_equal(c->handled, 2);
	assert_int_equal(stats(c).requests, 2);
	assert_int_equal(stats(c).refused, 0);
	assert_int_equal(stats(c).errors, 0);
}

static void head(void **state)
{
	struct context *c = *state;
	struct client client;
	static const char request[] = "HEAD /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

	exchange(c, &client, request, sizeof(request) - 1);
	assert_non_null(strstr(client.got.data, "200 OK"));
	assert_non_null(strstr(client.got.data, "Content-Length: 5\r\n"));
	assert_string_equal(client.got.data + client.got.len - 4, "\r\n\r\n");
	client_close(&client);
	EXPECT(c, "HEAD /post HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", " 405 ", "\r\nAllow: POST\r\n");
}

static void unknown_path_and_method(void **state)
{
	struct context *c = *state;

	EXPECT(c, GET("/nothing"), "HTTP/1.1 404 Not Found\r\n", "there is nothing at this address\n",
	       "Content-Type: text/plain", "X-Content-Type-Options: nosniff");
	EXPECT(c, GET("/hello/"), " 404 ");
	EXPECT(c, GET("/HELLO"), " 404 ");
	EXPECT(c, GET("/tree"), " 404 ");
	EXPECT(c, GET("/tree/"), " 200 ", "path=/tree/ ");
	EXPECT(c, GET("/tree/a/b%20c"), " 200 ", "path=/tree/a/b c ");
	EXPECT(c, "DELETE /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", " 405 ",
	       "\r\nAllow: GET, HEAD, POST\r\n");
	EXPECT(c, "OPTIONS /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", " 405 ",
	       "\r\nAllow: GET, HEAD\r\n");
	EXPECT(c, "FOO /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", " 405 ");
	assert_int_equal(stats(c).refused, 7);
	assert_int_equal(stats(c).requests, 9);
}

static void failures_are_counted(void **state)
{
	struct context *c = *state;

	EXPECT(c, GET("/fail"), " 503 ", "\r\n\r\nthe store is closed\n");
	assert_int_equal(stats(c).errors, 1);
}

static void query(void **state)
{
	struct context *c = *state;

	EXPECT(c, GET("/echo?x=a%20b%26c+d&all=1&all=&all=3&other&all"), " x=a b&c d ", "all=[1][][3][]", " n=4 ");
	EXPECT(c, GET("/echo"), " x=(none) ", "all= n=0");
	EXPECT(c, GET("/echo?x"), " x= ");
	EXPECT(c, GET("/echo?x=%ff%zz%"), " 200 ");
	EXPECT(c, GET("/echo?&&&=&x=1"), " x=1 ");
	EXPECT(c, "GET /echo HTTP/1.0\r\nX-TEST: v\r\n\r\n", " header=v ", "peer=127.0.0.1:", "method=GET");
}

static void accept_encoding(void **state)
{
	static const struct { const char *value; int gzip; } rows[] = {
		{ "gzip", 1 }, { "GZip", 1 }, { "deflate, gzip;q=1.0, *;q=0.5", 1 }, { "gzip;q=0", 0 },
		{ "gzip; q=0.0", 0 }, { "gzip ; q=0.001", 1 }, { "*", 1 }, { "*;q=0", 0 }, { "gzip;q=0, *", 0 },
		{ "identity", 0 }, { "gzipped", 0 }, { "", 0 }, { ",,,", 0 }, { "br, ,gzip", 1 }, { "x-gzip", 1 },
	};
	struct context *c = *state;
	char request[256], wanted[16];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(request, sizeof(request),
			 "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAccept-Encoding: %s\r\n\r\n",
			 rows[i].value);
		snprintf(wanted, sizeof(wanted), " gzip=%d ", rows[i].gzip);
		EXPECT(c, request, wanted);
	}
	EXPECT(c, GET("/echo"), " gzip=0 ");
}

static void post(void **state)
{
	struct context *c = *state;

	EXPECT(c, "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 7\r\n\r\nsomeone",
	       "method=POST", "body=someone.");
	EXPECT(c, "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "body=.");
	EXPECT(c, "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
	       "4\r\nsome\r\n3\r\none\r\n0\r\n\r\n", "body=someone.");
	EXPECT(c, "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"
	       "Content-Length: 3\r\n\r\nabc", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", "body=abc.");
}

static char *request_with_body(const char *path, size_t body, size_t announced, size_t *ret_len)
{
	char *text = malloc(body + 256);
	int head;

	assert_non_null(text);
	head = snprintf(text, 256, "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
			"Content-Length: %zu\r\n\r\n", path, announced);
	memset(text + head, 'b', body);
	*ret_len = (size_t)head + body;
	return text;
}

static void body_limit(void **state)
{
	struct context *c = *state;
	struct client client;
	size_t len;
	char *text;

	text = request_with_body("/echo", BODY_MAX, BODY_MAX, &len);
	exchange(c, &client, text, len);
	assert_non_null(strstr(client.got.data, " 200 OK"));
	client_close(&client);
	free(text);
	assert_int_equal(stats(c).refused, 0);

	/* Announced as too large: refused before the body comes. */
	text = request_with_body("/echo", 0, BODY_MAX + 1, &len);
	exchange(c, &client, text, len);
	assert_non_null(strstr(client.got.data, " 413 "));
	assert_non_null(strstr(client.got.data, "the body is larger than 1000 bytes\n"));
	client_close(&client);
	free(text);
	assert_int_equal(stats(c).refused, 1);
	assert_int_equal(c->handled, 1);
}

/* Sizes that are not announced: discarded up to a point, then the connection is cut. */
static void chunked_body_limit(void **state)
{
	static const char head_text[] = "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
					"Transfer-Encoding: chunked\r\n\r\n";
	struct context *c = *state;
	struct client client;
	struct buffer b = BUFFER_INIT;
	char chunk[1000];

	memset(chunk, 'c', sizeof(chunk));
	for (unsigned n = 2; n <= 3000; n += 2998) {
		buffer_clear(&b);
		buffer_puts(&b, head_text);
		for (unsigned i = 0; i < n; i++) {
			buffer_puts(&b, "3e8\r\n");
			buffer_append(&b, chunk, sizeof(chunk));
			buffer_puts(&b, "\r\n");
		}
		buffer_puts(&b, "0\r\n\r\n");
		exchange(c, &client, b.data, b.len);
		if (n == 2)
			assert_non_null(strstr(client.got.data, " 413 "));
		else
			assert_null(strstr(client.got.data, " 200 "));
		client_close(&client);
	}
	assert_int_equal(stats(c).refused, 2);
	assert_int_equal(c->handled, 0);
	buffer_done(&b);
	EXPECT(c, GET("/hello"), " 200 OK");
}

static unsigned count_text(const struct client *client, const char *text)
{
	unsigned n = 0;

	for (const char *p = client->got.data; p && (p = strstr(p, text)); p++)
		n++;
	return n;
}

static void pipelined_requests(void **state)
{
	struct context *c = *state;
	struct client client;
	struct buffer b = BUFFER_INIT;

	client_open(&client, c->net.loop, c->address);
	for (unsigned i = 0; i < 40; i++)
		buffer_printf(&b, "GET /echo?x=%u HTTP/1.1\r\nHost: localhost\r\n\r\n", i);
	client_send(&client, b.data, b.len);
	NET_WAIT(&c->net, count_text(&client, "HTTP/1.1 200 OK") == 40 && client_has(&client, " x=39 "));
	for (unsigned i = 0; i + 1 < 40; i++) {
		char a[16], z[16];

		snprintf(a, sizeof(a), " x=%u ", i);
		snprintf(z, sizeof(z), " x=%u ", i + 1);
		assert_true(strstr(client.got.data, a) < strstr(client.got.data, z));
	}
	assert_false(client.ended);
	assert_int_equal(stats(c).connections, 1);
	client_close(&client);
	buffer_done(&b);
}

/* A body that a GET brings along must not be read as the next request. */
static void body_of_a_get_is_not_a_request(void **state)
{
	struct context *c = *state;

	EXPECT(c, "GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 34\r\n\r\n"
	       "GET /hello HTTP/1.1\r\nHost: evil\r\n\r\n"
	       "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", " 404 ", "method=GET path=/echo ");
	assert_int_equal(c->handled, 1);
}

static void large_answer(void **state)
{
	struct context *c = *state;
	struct client client;
	static const char request[] = GET("/big");
	const char *body;

	exchange(c, &client, request, sizeof(request) - 1);
	body = strstr(client.got.data, "\r\n\r\n") + 4;
	assert_int_equal(client.got.len - (size_t)(body - client.got.data), BIG_LEN);
	assert_memory_equal(body, c->big, BIG_LEN);
	assert_non_null(strstr(client.got.data, "Cache-Control: max-age=3600\r\n"));
	client_close(&client);
}

static void malformed_requests(void **state)
{
	static const struct { const char *bytes; size_t len; } rows[] = {
#define ROW(text) { text, sizeof(text) - 1 }
		ROW("\r\n\r\n\r\n\r\n"),
		ROW("garbage\r\n\r\n"),
		ROW("GET\r\n\r\n"),
		ROW("GET /hello\r\n\r\n"),
		ROW("GET /hello HTTP/9.9\r\nHost: localhost\r\n\r\n"),
		ROW("GET /hello HTTP/1.1\r\n\r\n"),
		ROW("GET /hello HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n"),
		ROW("GET /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: minus\r\n\r\n"),
		ROW("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"),
		ROW("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
		ROW("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
		ROW("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"),
		ROW("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n"),
		ROW("\x00\x00\x00\x00\r\n\r\n"),
		ROW("GET \xff\xfe\xfd HTTP/1.1\r\nHost: \xff\r\n\r\n"),
		ROW("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		ROW("SSH-2.0-OpenSSH_9.2\r\n"),
		ROW("GET /hello HTTP/1.1\r\nHost: localhost\r\n half a request"),
		ROW("GE"),
#undef ROW
	};
	struct context *c = *state;
	struct client client;
	uint64_t refused;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		refused = stats(c).refused;
		exchange(c, &client, rows[i].bytes, rows[i].len);
		if (strstr(client.got.data, " 200 "))
			fail_msg("row %zu was served: %s", i, client.got.data);
		if (stats(c).refused != refused + 1)
			fail_msg("row %zu: %d refusals instead of 1; the answer is \"%.60s\"", i,
				 (int)(stats(c).refused - refused), client.got.data);
		client_close(&client);
	}
	assert_int_equal(c->handled, 0);
	EXPECT(c, GET("/hello"), " 200 OK");
}

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (uint32_t)(*state >> 33);
}

/* Valid requests with some bytes changed: whatever comes back, the server goes on and leaks nothing. */
static void mutated_requests(void **state)
{
	static const char good[] =
		"POST /echo?x=1&all=%20 HTTP/1.1\r\nHost: localhost\r\nX-Test: value\r\nConnection: close\r\n"
		"Transfer-Encoding: chunked\r\nAccept-Encoding: gzip;q=0.5, *\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
	struct context *c = *state;
	uint64_t seed = 20240607;
	char bytes[sizeof(good)];
	struct client clients[10];

	print_message("# seed %llu\n", (unsigned long long)seed);
	for (unsigned round = 0; round < 60; round++) {
		char sent[10][sizeof(good)];

		for (unsigned i = 0; i < 10; i++) {
			memcpy(bytes, good, sizeof(good));
			for (unsigned n = 1 + next_random(&seed) % 4; n; n--)
				bytes[next_random(&seed) % (sizeof(good) - 1)] = (char)next_random(&seed);
			memcpy(sent[i], bytes, sizeof(good));
			client_open(&clients[i], c->net.loop, c->address);
			client_send(&clients[i], sent[i], sizeof(good) - 1);
		}
		for (unsigned i = 0; i < 10; i++) {
			/* The request may have become one that waits for more: end it from our side. */
			NET_WAIT(&c->net, clients[i].ended || !clients[i].to_send_len);
			shutdown(clients[i].fd, SHUT_WR);
		}
		for (unsigned i = 0; i < 10; i++) {
			NET_WAIT(&c->net, clients[i].ended);
			client_close(&clients[i]);
		}
	}
	EXPECT(c, GET("/hello"), " 200 OK");
	assert_int_equal(stats(c).connections, 0);
}

static void huge_headers(void **state)
{
	struct context *c = *state;
	struct client client;
	struct buffer b = BUFFER_INIT;

	buffer_puts(&b, "GET /hello HTTP/1.1\r\nHost: localhost\r\n");
	for (unsigned i = 0; i < 4000; i++)
		buffer_printf(&b, "X-Header-%u: some value that is not so short\r\n", i);
	buffer_puts(&b, "\r\n");
	exchange(c, &client, b.data, b.len);
	assert_null(strstr(client.got.data, " 200 "));
	client_close(&client);
	assert_int_equal(stats(c).refused, 1);

	buffer_clear(&b);
	buffer_puts(&b, "GET /");
	for (unsigned i = 0; i < 100000; i++)
		buffer_putc(&b, 'u');
	buffer_puts(&b, " HTTP/1.1\r\nHost: localhost\r\n\r\n");
	exchange(c, &client, b.data, b.len);
	assert_null(strstr(client.got.data, " 200 "));
	client_close(&client);
	assert_int_equal(stats(c).refused, 2);
	assert_int_equal(c->handled, 0);
	buffer_done(&b);
	EXPECT(c, GET("/hello"), " 200 OK");
}

/* Sends one byte of an endless header for each call. */
static void drip(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct client *client = userdata;

	if (!client->ended)
		send(client->fd, "a", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void slow_requests_are_cut(void **state)
{
	struct context *c = *state;
	struct client silent, dripping, idle;
	struct loop_timer *timer;
	const mono_time start = mono_now();
	double seconds;

	client_open(&silent, c->net.loop, c->address);
	client_open(&dripping, c->net.loop, c->address);
	client_open(&idle, c->net.loop, c->address);
	client_puts(&silent, "GET /hello HTTP/1.1\r\nHost: local");
	client_puts(&dripping, "GET /hello HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
	assert_int_equal(loop_timer_new(c->net.loop, drip, &dripping, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 200 * NS_PER_MS, 200 * NS_PER_MS), 0);
	NET_WAIT(&c->net, silent.ended && idle.ended);
	assert_int_equal(stats(c).refused, 1); /* who said nothing was not refused anything */
	NET_WAIT(&c->net, dripping.ended);
	seconds = ns_to_seconds(mono_since_ns(mono_now(), start));
	print_message("# dripping client cut after %.1f s at an idle time-out of 1 s\n", seconds);
	assert_true(seconds >= 1.9);
	assert_true(seconds < 10);
	assert_int_equal(stats(c).refused, 2);
	assert_int_equal(c->handled, 0);
	loop_timer_free(timer);
	client_close(&silent);
	client_close(&dripping);
	client_close(&idle);
}

static void foreign_host_is_refused(void **state)
{
	static const struct { const char *host; bool served; } rows[] = {
		{ "localhost", true }, { "LocalHost:1234", true }, { "127.0.0.1", true }, { "127.0.0.1:9436", true },
		{ "[::1]", true }, { "[::1]:9436", true }, { "192.0.2.1", true }, { "", true },
		{ "evil.example", false }, { "evil.example:9436", false }, { "localhost.evil.example", false },
		{ "127.0.0.1.evil.example", false }, { "[::1", false }, { "[::1]x", false }, { "[evil]", false },
		{ "::1", false }, { "localhost@evil", false }, { "1.2.3", false },
	};
	struct context *c = *state;
	char request[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(request, sizeof(request), "GET /hello HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
			 rows[i].host);
		if (rows[i].served)
			EXPECT(c, request, " 200 OK");
		else
			EXPECT(c, request, " 403 ", "DNS rebinding", "use the IP address or localhost\n");
	}
	EXPECT(c, "GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n", " 403 ");
	EXPECT(c, "GET /hello HTTP/1.0\r\n\r\n", " 200 OK");
	assert_int_equal(stats(c).refused, 11);
}

static void foreign_host_is_served_elsewhere(void **state)
{
	struct context c = { 0 };
	struct client client;
	char address[64];
	static const char request[] = "GET /hello HTTP/1.1\r\nHost: monitor.example\r\nConnection: close\r\n\r\n";

	open_server(&c, "0.0.0.0:0", (struct http_options){ 0 });
	snprintf(address, sizeof(address), "127.0.0.1%s", strrchr(c.address, ':'));
	c.address = address;
	exchange(&c, &client, request, sizeof(request) - 1);
	assert_non_null(strstr(client.got.data, " 200 OK"));
	assert_null(strstr(client.got.data, "Content-Security-Policy"));
	client_close(&client);
	close_server(&c);
}

static void cross_site_post_is_refused(void **state)
{
	static const struct { const char *headers; bool served; } rows[] = {
		{ "", true },
		{ "Sec-Fetch-Site: same-origin\r\n", true },
		{ "Sec-Fetch-Site: none\r\n", true },
		{ "Sec-Fetch-Site: cross-site\r\n", false },
		{ "Sec-Fetch-Site: same-site\r\n", false },
		{ "Origin: http://localhost\r\n", true },
		{ "Origin: http://evil.example\r\n", false },
		{ "Origin: null\r\n", false },
	};
	struct context *c = *state;
	char request[512];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(request, sizeof(request), "POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s"
			 "Content-Length: 2\r\n\r\nok", rows[i].headers);
		if (rows[i].served)
			EXPECT(c, request, " 200 OK", "body=ok.");
		else
			EXPECT(c, request, " 403 ", "a page of another site must not change anything here\n");
	}
	EXPECT(c, "GET /hello HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n\r\n",
	       " 200 OK"); /* a link from elsewhere */
}

static void gzip_round_trip(void **state)
{
	static const size_t sizes[] = { 0, 1, 100, 70000, BIG_LEN };
	struct context *c = *state;
	char *back = malloc(BIG_LEN + 1);

	assert_non_null(back);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int level = 1; level <= 9; level += 4) {
			z_stream z = { 0 };
			void *data;
			size_t len;

			assert_int_equal(http_gzip(c->big, sizes[i], level, &data, &len), 0);
			assert_int_equal(inflateInit2(&z, 31), Z_OK); /* gzip only */
			z.next_in = data;
			z.avail_in = (uInt)len;
			z.next_out = (Bytef *)back;
			z.avail_out = (uInt)BIG_LEN + 1;
			assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
			assert_int_equal(z.total_out, sizes[i]);
			assert_int_equal(z.avail_in, 0);
			assert_memory_equal(back, c->big, sizes[i]);
			inflateEnd(&z);
			free(data);
		}
	}
	free(back);
}

static void open_fails(struct context *c, const char *first, const char *second, int wanted, const char *sentence)
{
	const char *listen[] = { first, second };
	struct http_options options = { .listen = listen, .n_listen = second ? 2 : 1, .routes = routes };
	struct http_server *server = NULL;
	struct error error = { 0 };

	assert_int_equal(http_open(c->net.loop, &options, &server, &error), wanted);
	assert_null(server);
	assert_string_equal(error.text, sentence);
}

static void addresses_in_use_and_absent(void **state)
{
	struct context *c = *state;
	char sentence[256], probe[64];
	socklen_t len;
	struct sockaddr_storage sa = net_address("127.0.0.1:0", &len);
	int fd;

	snprintf(sentence, sizeof(sentence),
		 "cannot listen on %s: the port is in use; give another with --web.listen-address", c->address);
	open_fails(c, c->address, NULL, -EADDRINUSE, sentence);
	open_fails(c, "203.0.113.7:9435", NULL, -EADDRNOTAVAIL,
		   "cannot listen on 203.0.113.7:9435: this host has no such address; give one of its own with "
		   "--web.listen-address");

	/* When the second address fails the first one does not listen either: find a free port, and try. */
	fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	close(fd);
	snprintf(probe, sizeof(probe), "127.0.0.1:%u", ntohs(((struct sockaddr_in *)&sa)->sin_port));
	open_fails(c, probe, c->address, -EADDRINUSE, sentence);
	assert_int_equal(net_connect(probe, 0), -ECONNREFUSED);
	EXPECT(c, GET("/hello"), " 200 OK");
}

static void addresses_that_are_none(void **state)
{
	static const struct { const char *text, *why; } rows[] = {
		{ "", "there is no port" },
		{ "9435", "there is no port" },
		{ "127.0.0.1", "there is no port" },
		{ "[::1]", "there is no port" },
		{ "127.0.0.1:", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:65536", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:http", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:-1", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1: 1", "the port is not a number from 0 to 65535" },
		{ "127.0.0.1:123456789012345678901", "the port is not a number from 0 to 65535" },
		{ "::1:9435", "an IPv6 address needs square brackets" },
		{ "[127.0.0.1]:9435", "that is not an IPv6 address" },
		{ "[fe80::1%nosuchdevice]:9435", "that is not an IPv6 address" },
		{ "[]:1", "that is not an IPv6 address" },
		{ "256.0.0.1:9435", "that is not an IP address" },
		{ "127.1:9435", "that is not an IP address" },
		{ "myhost:9435", "that is not an IP address" },
		{ "http://127.0.0.1:9435", "an IPv6 address needs square brackets" },
	};
	struct context *c = *state;
	char sentence[256];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(sentence, sizeof(sentence),
			 "cannot listen on \"%s\": %s; write it as 127.0.0.1:9435, [::1]:9435 or :9435", rows[i].text,
			 rows[i].why);
		open_fails(c, rows[i].text, NULL, -EINVAL, sentence);
	}
}

/* In a child process that is an ordinary user. */
static void no_permission(void **state)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r");
	int first = 1024, status;
	pid_t pid;

	if (file) {
		assert_int_equal(fscanf(file, "%d", &first), 1);
		fclose(file);
	}
	if (first <= 7) {
		print_message("# every port is free for all users here\n");
		skip();
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const char *listen = "127.0.0.1:7";
		struct http_options options = { .listen = &listen, .n_listen = 1, .routes = routes };
		struct http_server *server = NULL;
		struct error error = { 0 };
		struct loop *loop;
		bool good;

		if (getuid() == 0 && setuid(65534) < 0)
			_exit(2);
		if (loop_new(&loop) < 0)
			_exit(3);
		good = http_open(loop, &options, &server, &error) == -EACCES &&
		       !strcmp(error.text, "cannot listen on 127.0.0.1:7: no permission; ports below 1024 are for root, "
					   "give another with --web.listen-address");
		_exit(good ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void both_families_on_one_port(void **state)
{
	struct context c = { 0 };
	struct client client;
	char v4[64], v6[64];
	static const char request[] = GET("/echo");
	int fd;

	open_server(&c, ":0", (struct http_options){ 0 });
	snprintf(v4, sizeof(v4), "127.0.0.1%s", strrchr(c.address, ':'));
	snprintf(v6, sizeof(v6), "[::1]%s", strrchr(c.address, ':'));
	c.address = v4;
	exchange(&c, &client, request, sizeof(request) - 1);
	assert_non_null(strstr(client.got.data, "peer=127.0.0.1:"));
	client_close(&client);
	fd = net_connect(v6, 0);
	close(fd);
	if (fd < 0) {
		close_server(&c);
		print_message("# this host has no IPv6 loopback\n");
		skip();
	}
	c.address = v6;
	exchange(&c, &client, request, sizeof(request) - 1);
	assert_non_null(strstr(client.got.data, "peer=[::1]:"));
	client_close(&client);
	close_server(&c);
}

static void several_addresses(void **state)
{
	const char *listen[] = { "127.0.0.1:0", "127.0.0.2:0", "localhost:0" };
	struct context *c = *state;
	struct http_options options = { .listen = listen, .n_listen = 3, .routes = routes, .userdata = c };
	struct http_server *server;
	struct error error;
	struct client client;
	static const char request[] = GET("/hello");

	assert_int_equal(http_open(c->net.loop, &options, &server, &error), 0);
	for (size_t i = 0; i < 3; i++) {
		client_open(&client, c->net.loop, http_listen_address(server, i));
		assert_memory_equal(http_listen_address(server, i), listen[i == 2 ? 0 : i], 9);
		client_puts(&client, request);
		NET_WAIT(&c->net, client.ended);
		assert_true(client_has(&client, " 200 OK"));
		client_close(&client);
	}
	http_close(server);
}

static void connection_limits(void **state)
{
	struct context c = { 0 };
	struct client clients[5];

	open_server(&c, "0.0.0.0:0", (struct http_options){ .connections_max = 4, .connections_per_client_max = 3 });
	char one[64], two[64];
	snprintf(one, sizeof(one), "127.0.0.1%s", strrchr(c.address, ':'));
	snprintf(two, sizeof(two), "127.0.0.2%s", strrchr(c.address, ':'));

	/* Three from one client are served, the fourth is closed. */
	for (unsigned i = 0; i < 4; i++) {
		client_open(&clients[i], c.net.loop, one);
		client_puts(&clients[i], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
		NET_WAIT(&c.net, clients[i].ended || client_has(&clients[i], "\r\n\r\nhello"));
		assert_int_equal(clients[i].ended, i == 3);
	}
	client_close(&clients[3]);
	assert_int_equal(stats(&c).refused, 1);
	assert_int_equal(stats(&c).connections, 3);

	/* After one has left there is room again. */
	client_close(&clients[0]);
	NET_WAIT(&c.net, (net_run_for(&c.net, NS_PER_MS), stats(&c).connections == 2));
	client_open(&clients[0], c.net.loop, one);
	client_puts(&clients[0], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
	NET_WAIT(&c.net, client_has(&clients[0], "\r\n\r\nhello"));
	for (unsigned i = 0; i < 3; i++)
		client_close(&clients[i]);
	NET_WAIT(&c.net, (net_run_for(&c.net, NS_PER_MS), stats(&c).connections == 0));
	assert_int_equal(stats(&c).refused, 1);
	close_server(&c);

	/* The limit over all clients. */
	c = (struct context){ 0 };
	open_server(&c, "127.0.0.1:0", (struct http_options){ .connections_max = 4 });
	for (unsigned i = 0; i < 5; i++) {
		client_open(&clients[i], c.net.loop, c.address);
		client_puts(&clients[i], "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
		NET_WAIT(&c.net, clients[i].ended || client_has(&clients[i], "\r\n\r\nhello"));
		assert_int_equal(clients[i].ended, i == 4);
	}
	assert_int_equal(stats(&c).refused, 1);
	assert_int_equal(stats(&c).connections, 4);
	/* Closing the server with open connections. */
	http_close(c.server);
	c.server = NULL;
	for (unsigned i = 0; i < 5; i++) {
		NET_WAIT(&c.net, clients[i].ended);
		client_close(&clients[i]);
	}
	close_server(&c);
}

/* Without descriptors accept pauses, and goes on although no other connection has closed. */
static void out_of_descriptors(void **state)
{
	struct context *c = *state;
	struct client kept, waiting;
	struct loop_timer *tick;
	struct rlimit limit, small;
	int taken[256], n = 0;

	client_open(&kept, c->net.loop, c->address);
	client_puts(&kept, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
	NET_WAIT(&c->net, client_has(&kept, "\r\n\r\nhello"));
	client_open(&waiting, c->net.loop, c->address);
	client_puts(&waiting, "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
	assert_int_equal(loop_timer_new(c->net.loop, net_tick, c->net.loop, &tick), 0);
	assert_int_equal(loop_timer_start(tick, NS_PER_MS, NS_PER_MS), 0);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	small = (struct rlimit){ .rlim_cur = 200, .rlim_max = limit.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &small), 0);
	while (n < 256 && (taken[n] = dup(0)) >= 0)
		n++;
	assert_true(n < 256);
	NET_WAIT(&c->net, stats(c).errors >= 2); /* it tried twice */
	assert_int_equal(stats(c).connections, 1);
	assert_false(client_has(&waiting, "hello"));
	while (n)
		close(taken[--n]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	NET_WAIT(&c->net, client_has(&waiting, "\r\n\r\nhello"));
	assert_in_range(stats(c).errors, 2, 20); /* and did not spin */
	client_close(&kept);
	client_close(&waiting);
	loop_timer_free(tick);
}

static unsigned fds_before;

static int group_setup(void **state)
{
	fds_before = net_count_fds();
	return 0;
}

/* One pipe pair of libuv's signal handling stays for the life of the process. */
static int group_teardown(void **state)
{
	unsigned fds = net_count_fds();

	if (fds > fds_before + 2) {
		print_error("%u descriptors were left open\n", fds - fds_before);
		return -1;
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(get, setup, teardown),
		cmocka_unit_test_setup_teardown(head, setup, teardown),
		cmocka_unit_test_setup_teardown(unknown_path_and_method, setup, teardown),
		cmocka_unit_test_setup_teardown(failures_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(query, setup, teardown),
		cmocka_unit_test_setup_teardown(accept_encoding, setup, teardown),
		cmocka_unit_test_setup_teardown(post, setup, teardown),
		cmocka_unit_test_setup_teardown(body_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(chunked_body_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(pipelined_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(body_of_a_get_is_not_a_request, setup, teardown),
		cmocka_unit_test_setup_teardown(large_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(malformed_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(mutated_requests, setup, teardown),
		cmocka_unit_test_setup_teardown(huge_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(slow_requests_are_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(foreign_host_is_refused, setup, teardown),
		cmocka_unit_test(foreign_host_is_served_elsewhere),
		cmocka_unit_test_setup_teardown(cross_site_post_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(gzip_round_trip, setup, teardown),
		cmocka_unit_test_setup_teardown(addresses_in_use_and_absent, setup, teardown),
		cmocka_unit_test_setup_teardown(addresses_that_are_none, setup, teardown),
		cmocka_unit_test(no_permission),
		cmocka_unit_test(both_families_on_one_port),
		cmocka_unit_test_setup_teardown(several_addresses, setup, teardown),
		cmocka_unit_test(connection_limits),
		cmocka_unit_test_setup_teardown(out_of_descriptors, setup, teardown),
	};

	return cmocka_run_group_tests_name("http", tests, group_setup, group_teardown);
}
