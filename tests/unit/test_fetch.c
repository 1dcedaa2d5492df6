/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP client against our own server in the same loop, and against servers
 * that misbehave, which are raw sockets that send prepared bytes.
 */
#include "net.h"

#include "lib/error.h"
#include "lib/fetch.h"
#include "lib/http.h"

#define BIG_LEN ((size_t)3 * 1024 * 1024)

struct context {
	struct net net;
	struct http_server *server;
	struct fetch *fetch;
	char base[96]; /* "http://127.0.0.1:port" */
	char *zeros;
};

/* Copies of what a callback got. */
struct result {
	struct net *net;
	unsigned calls;
	int r;
	char error[512];
	long status;
	char type[64], header[64];
	struct buffer data;
	double duration_s;
};

static void done(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct result *result = userdata;
	const char *header = fetch_response_header(job, "x-answer");

	result->calls++;
	result->r = response->r;
	result->status = response->status;
	result->duration_s = response->duration_s;
	snprintf(result->error, sizeof(result->error), "%s", response->error);
	snprintf(result->type, sizeof(result->type), "%s", response->content_type);
	snprintf(result->header, sizeof(result->header), "%s", header ? header : "(none)");
	assert_int_equal(response->data[response->len], '\0');
	buffer_clear(&result->data);
	buffer_append(&result->data, response->data, response->len);
	loop_stop(result->net->loop);
}

/* Routes of the good server */

static void handle_text(struct http_request *request, void *userdata)
{
	static const char *const headers[] = { "X-Answer", "forty-two", NULL };

	http_respond(request, &(struct http_response){ .status = 200, .content_type = "text/plain; version=0.0.4",
						       .data = "some text", .len = 9, .headers = headers });
}

static void handle_echo(struct http_request *request, void *userdata)
{
	size_t len;
	const char *body = http_request_body(request, &len);
	const char *encoding = http_request_header(request, "Accept-Encoding");
	const char *test = http_request_header(request, "X-Test");
	const char *expect = http_request_header(request, "Expect");

	http_respond_text(request, 200, "%s %s encoding=%s test=%s expect=%s body=%.*s", http_request_method(request),
			  http_request_peer(request), encoding ? encoding : "", test ? test : "", expect ? expect : "",
			  (int)len, body);
}

static void handle_missing(struct http_request *request, void *userdata)
{
	http_respond_text(request, 500, "out of order");
}

static void handle_gzip(struct http_request *request, void *userdata)
{
	struct context *c = userdata;
	void *data;
	size_t len;

	assert_true(http_accepts_gzip(request));
	assert_int_equal(http_gzip(c->zeros, BIG_LEN, 6, &data, &len), 0);
	assert_true(len < BIG_LEN / 100);
	http_respond(request, &(struct http_response){ .status = 200, .data = data, .len = len,
						       .content_encoding = "gzip" });
	free(data);
}

static void handle_big(struct http_request *request, void *userdata)
{
	struct context *c = userdata;

	http_respond(request, &(struct http_response){ .status = 200, .data = c->zeros, .len = BIG_LEN,
						       .borrowed = true });
}

static void handle_redirect(struct http_request *request, void *userdata)
{
	const char *to = http_request_query(request, "to");
	const char *const headers[] = { "Location", to ? to : "/redirect", NULL };

	http_respond(request, &(struct http_response){ .status = 302, .headers = headers });
}

static const struct http_route routes[] = {
	{ "GET", "/text", handle_text },
	{ "GET", "/echo", handle_echo },
	{ "POST", "/echo", handle_echo },
	{ "GET", "/missing", handle_missing },
	{ "GET", "/gzip", handle_gzip },
	{ "GET", "/big", handle_big },
	{ "GET", "/redirect", handle_redirect },
	{ NULL, NULL, NULL },
};

static int setup(void **state)
{
	static struct context c;
	const char *listen = "127.0.0.1:0";
	struct http_options options = { .listen = &listen, .n_listen = 1, .routes = routes, .userdata = &c };

	c = (struct context){ 0 };
	net_open(&c.net);
	c.zeros = calloc(1, BIG_LEN);
	assert_non_null(c.zeros);
	assert_int_equal(http_open(c.net.loop, &options, &c.server, NULL), 0);
	snprintf(c.base, sizeof(c.base), "http://%s", http_listen_address(c.server, 0));
	assert_int_equal(fetch_new(c.net.loop, 4, &c.fetch), 0);
	*state = &c;
	return 0;
}

static int teardown(void **state)
{
	struct context *c = *state;

	fetch_free(c->fetch);
	http_close(c->server);
	net_close(&c->net);
	free(c->zeros);
	return 0;
}

static const char *url_of(const struct context *c, const char *path)
{
	static char url[512];

	snprintf(url, sizeof(url), "%s%s", c->base, path);
	return url;
}

/* Fetches and waits. The result is emptied by the caller. */
static void get(struct context *c, struct fetch_request request, struct result *result)
{
	struct error error = { 0 };

	*result = (struct result){ .net = &c->net };
	if (fetch_start(c->fetch, &request, done, result, NULL, &error) < 0)
		fail_msg("%s", error.text);
	assert_int_equal(result->calls, 0); /* never from inside fetch_start */
	NET_WAIT(&c->net, result->calls);
}

static void status_headers_and_data(void **state)
{
	struct context *c = *state;
	struct result result;

	get(c, (struct fetch_request){ .url = url_of(c, "/text") }, &result);
	assert_int_equal(result.r, 0);
	assert_string_equal(result.error, "");
	assert_int_equal(result.status, 200);
	assert_string_equal(result.type, "text/plain; version=0.0.4");
	assert_string_equal(result.header, "forty-two");
	assert_string_equal(result.data.data, "some text");
	assert_true(result.duration_s > 0);
	assert_true(result.duration_s < 5);
	buffer_done(&result.data);

	/* Any status is an answer. */
	get(c, (struct fetch_request){ .url = url_of(c, "/missing") }, &result);
	assert_int_equal(result.r, 0);
	assert_int_equal(result.status, 500);
	assert_string_equal(result.header, "(none)");
	assert_string_equal(result.data.data, "out of order\n");
	buffer_done(&result.data);
}

static void methods_headers_and_body(void **state)
{
	static const char *const headers[] = { "X-Test: yes", NULL };
	struct context *c = *state;
	struct result result;

	get(c, (struct fetch_request){ .url = url_of(c, "/echo"), .headers = headers }, &result);
	assert_int_equal(result.r, 0);
	assert_memory_equal(result.data.data, "GET 127.0.0.1:", 14);
	assert_non_null(strstr(result.data.data, " encoding=gzip test=yes expect= body=\n"));
	buffer_done(&result.data);

	get(c, (struct fetch_request){ .url = url_of(c, "/echo"), .method = "POST", .body = "12345678",
				       .body_len = 5 }, &result);
	assert_memory_equal(result.data.data, "POST ", 5);
	assert_non_null(strstr(result.data.data, " body=12345\n"));
	buffer_done(&result.data);

	get(c, (struct fetch_request){ .url = url_of(c, "/echo"), .method = "POST" }, &result);
	assert_non_null(strstr(result.data.data, " body=\n"));
	buffer_done(&result.data);

	get(c, (struct fetch_request){ .url = url_of(c, "/text"), .method = "HEAD" }, &result);
	assert_int_equal(result.r, 0);
	assert_int_equal(result.status, 200);
	assert_int_equal(result.data.len, 0);
	buffer_done(&result.data);

	get(c, (struct fetch_request){ .url = url_of(c, "/text"), .method = "DELETE" }, &result);
	assert_int_equal(result.status, 405);
	buffer_done(&result.data);
}

static void connections_are_reused(void **state)
{
	struct context *c = *state;
	struct result result;
	char first[128] = "";

	for (unsigned i = 0; i < 5; i++) {
		struct http_stats stats;

		get(c, (struct fetch_request){ .url = url_of(c, "/echo") }, &result);
		if (!i)
			snprintf(first, sizeof(first), "%s", result.data.data);
		assert_string_equal(result.data.data, first); /* has the client's port */
		http_stats(c->server, &stats);
		assert_int_equal(stats.connections, 1);
		buffer_done(&result.data);
	}
}

static void many_at_once_under_a_limit(void **state)
{
	struct context *c = *state;
	static struct result results[40];
	struct http_stats stats;

	for (unsigned i = 0; i < 40; i++) {
		struct fetch_request request = { .url = url_of(c, "/big") };

		results[i] = (struct result){ .net = &c->net };
		assert_int_equal(fetch_start(c->fetch, &request, done, &results[i], NULL, NULL), 0);
	}
	for (unsigned i = 0; i < 40; i++) {
		NET_WAIT(&c->net, results[i].calls);
		assert_int_equal(results[i].calls, 1);
		assert_int_equal(results[i].r, 0);
		assert_int_equal(results[i].data.len, BIG_LEN);
		buffer_done(&results[i].data);
	}
	http_stats(c->server, &stats);
	assert_in_range(stats.connections, 1, 4);
}

static void answers_are_bounded(void **state)
{
	struct context *c = *state;
	struct result result;
	char sentence[1024];

	/* Exactly the limit is fine; a byte less is not. The same after decompression. */
	for (unsigned gzip = 0; gzip < 2; gzip++) {
		get(c, (struct fetch_request){ .url = url_of(c, gzip ? "/gzip" : "/big"), .response_max = BIG_LEN },
		    &result);
		assert_int_equal(result.r, 0);
		assert_int_equal(result.data.len, BIG_LEN);
		assert_memory_equal(result.data.data, c->zeros, BIG_LEN);
		buffer_done(&result.data);

		get(c, (struct fetch_request){ .url = url_of(c, gzip ? "/gzip" : "/big"),
					       .response_max = BIG_LEN - 1 }, &result);
		assert_int_equal(result.r, -EFBIG);
		snprintf(sentence, sizeof(sentence), "%s: the answer is larger than %zu bytes",
			 url_of(c, gzip ? "/gzip" : "/big"), BIG_LEN - 1);
		assert_string_equal(result.error, sentence);
		buffer_done(&result.data);
	}
}

static void redirects(void **state)
{
	struct context *c = *state;
	struct result result;

	get(c, (struct fetch_request){ .url = url_of(c, "/redirect?to=/text") }, &result);
	assert_int_equal(result.r, 0);
	assert_int_equal(result.status, 200);
	assert_string_equal(result.data.data, "some text");
	buffer_done(&result.data);
	get(c, (struct fetch_request){ .url = url_of(c, "/redirect?to=file:///etc/hostname") }, &result);
	assert_int_equal(result.r, -EPROTO);
	assert_non_null(strstr(result.error, "redirects to something that is neither http nor https"));
	assert_int_equal(result.data.len, 0);
	buffer_done(&result.data);
	get(c, (struct fetch_request){ .url = url_of(c, "/redirect") }, &result);
	assert_int_equal(result.r, -EPROTO);
	assert_non_null(strstr(result.error, "more than 5 redirects"));
	buffer_done(&result.data);
}

/* A server that is a raw socket: sends `bytes` once something was received, then does `then`. */

enum then { KEEP_OPEN, CLOSE, RESET, DRIP };

struct raw {
	struct net *net;
	int listener, fd;
	struct loop_fd *accepting, *receiving;
	struct loop_timer *drip;
	const char *bytes;
	size_t len;
	enum then then;
	char url[64];
	unsigned requests;
	bool client_left;
};

static void raw_drip(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct raw *raw = userdata;

	if (raw->fd >= 0)
		send(raw->fd, "x", 1, MSG_NOSIGNAL);
}

static void raw_hang_up(struct raw *raw)
{
	loop_fd_free(raw->receiving);
	raw->receiving = NULL;
	if (raw->fd >= 0)
		close(raw->fd);
	raw->fd = -1;
}

static void raw_received(struct loop_fd *fd, unsigned events, void *userdata)
{
	const struct linger linger = { .l_onoff = 1 };
	struct raw *raw = userdata;
	char buf[4096];

	if (recv(raw->fd, buf, sizeof(buf), MSG_DONTWAIT) <= 0) {
		raw->client_left = true;
		raw_hang_up(raw);
		loop_stop(raw->net->loop);
		return;
	}
	raw->requests++;
	if (raw->len)
		assert_int_equal(send(raw->fd, raw->bytes, raw->len, MSG_NOSIGNAL), (ssize_t)raw->len);
	if (raw->then == RESET)
		setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	if (raw->then == CLOSE || raw->then == RESET)
		raw_hang_up(raw);
	else if (raw->then == DRIP)
		loop_timer_start(raw->drip, 20 * NS_PER_MS, 20 * NS_PER_MS);
}

static void raw_accept(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct raw *raw = userdata;

	raw_hang_up(raw);
	raw->fd = accept(raw->listener, NULL, NULL);
	assert_true(raw->fd >= 0);
	assert_int_equal(loop_fd_new(raw->net->loop, raw->fd, LOOP_READABLE, raw_received, raw, &raw->receiving), 0);
}

static void raw_open(struct raw *raw, struct net *net, const char *bytes, size_t len, enum then then)
{
	socklen_t sa_len;
	struct sockaddr_storage sa = net_address("127.0.0.1:0", &sa_len);

	*raw = (struct raw){ .net = net, .fd = -1, .bytes = bytes, .len = len, .then = then };
	raw->listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(raw->listener, (struct sockaddr *)&sa, sa_len), 0);
	assert_int_equal(listen(raw->listener, 8), 0);
	assert_int_equal(getsockname(raw->listener, (struct sockaddr *)&sa, &sa_len), 0);
	snprintf(raw->url, sizeof(raw->url), "http://127.0.0.1:%u/metrics",
		 ntohs(((struct sockaddr_in *)&sa)->sin_port));
	assert_int_equal(loop_fd_new(net->loop, raw->listener, LOOP_READABLE, raw_accept, raw, &raw->accepting), 0);
	assert_int_equal(loop_timer_new(net->loop, raw_drip, raw, &raw->drip), 0);
}

static void raw_close(struct raw *raw)
{
	raw_hang_up(raw);
	loop_fd_free(raw->accepting);
	loop_timer_free(raw->drip);
	close(raw->listener);
}

static void expect_failure(struct context *c, const char *bytes, size_t len, enum then then, uint64_t timeout_ns, int r,
			   const char *sentence)
{
	struct result result;
	struct raw raw;
	char wanted[256];

	raw_open(&raw, &c->net, bytes, len, then);
	get(c, (struct fetch_request){ .url = raw.url, .timeout_ns = timeout_ns }, &result);
	snprintf(wanted, sizeof(wanted), "%s: %s", raw.url, sentence);
	if (result.r != r || strncmp(result.error, wanted, strlen(wanted)))
		fail_msg("%d \"%s\" instead of %d \"%s\"", result.r, result.error, r, wanted);
	buffer_done(&result.data);
	raw_close(&raw);
}

#define BYTES(text) text, sizeof(text) - 1

static void servers_that_are_not_http(void **state)
{
	struct context *c = *state;

	expect_failure(c, BYTES("SSH-2.0-OpenSSH_9.2p1\r\n"), KEEP_OPEN, 0, -EPROTO, "the answer is not HTTP");
	expect_failure(c, BYTES("<html>hello</html>"), CLOSE, 0, -EPROTO, "the answer is not HTTP");
	expect_failure(c, BYTES("\x15\x03\x01\x00\x02\x02\x16\x00\x00"), CLOSE, 0, -EPROTO, "the answer is not HTTP");
	expect_failure(c, BYTES("HTTP/7.3 999 what\r\n\r\n"), CLOSE, 0, -EPROTO, "the answer is not HTTP");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), KEEP_OPEN, 0, -EPROTO,
		       "the answer is damaged: ");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 10\r\n\r\nnot gzip.."),
		       KEEP_OPEN, 0, -EPROTO, "the compressed answer is damaged");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nContent-Encoding: rot13\r\nContent-Length: 3\r\n\r\nabc"),
		       KEEP_OPEN, 0, -EPROTO, "the compressed answer is damaged");
}

static void servers_that_break_off(void **state)
{
	struct context *c = *state;

	expect_failure(c, BYTES(""), CLOSE, 0, -EPROTO, "the connection was closed without an answer");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789"), CLOSE, 0, -EIO,
		       "the answer was cut off after 10 bytes");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n"), CLOSE, 0, -EIO,
		       "the answer was cut off after 4 bytes");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"), RESET, 0, -EIO,
		       "the connection broke: Connection reset by peer");
}

static void servers_that_take_too_long(void **state)
{
	struct context *c = *state;
	mono_time start = mono_now();
	double seconds;

	expect_failure(c, BYTES(""), KEEP_OPEN, 100 * NS_PER_MS, -ETIMEDOUT, "no answer within 100ms");
	seconds = ns_to_seconds(mono_since_ns(mono_now(), start));
	print_message("# a time-out of 100 ms took %.1f ms\n", seconds * 1e3);
	assert_true(seconds >= 0.1);
	assert_true(seconds < 1);
	expect_failure(c, BYTES(""), KEEP_OPEN, NS_PER_SEC, -ETIMEDOUT, "no answer within 1s");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nX-Endless: "), DRIP, 150 * NS_PER_MS, -ETIMEDOUT,
		       "no answer within 150ms");
	expect_failure(c, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"), KEEP_OPEN, 100 * NS_PER_MS,
		       -ETIMEDOUT, "the answer was not complete within 100ms (3 bytes came)");
}

static void endless_answer_is_bounded(void **state)
{
	struct context *c = *state;
	struct result result;
	struct raw raw;

	raw_open(&raw, &c->net, BYTES("HTTP/1.1 200 OK\r\n\r\n"), DRIP);
	get(c, (struct fetch_request){ .url = raw.url, .response_max = 5 }, &result);
	assert_int_equal(result.r, -EFBIG);
	assert_int_equal(result.data.len, 5);
	buffer_done(&result.data);
	NET_WAIT(&c->net, raw.client_left);
	raw_close(&raw);
}

static void nobody_there(void **state)
{
	struct context *c = *state;
	struct result result;
	struct raw raw;
	char url[128], wanted[256];

	raw_open(&raw, &c->net, BYTES(""), CLOSE);
	snprintf(url, sizeof(url), "http://user:secret@%s", raw.url + strlen("http://"));
	raw_close(&raw);
	get(c, (struct fetch_request){ .url = url }, &result);
	assert_int_equal(result.r, -ECONNREFUSED);
	snprintf(wanted, sizeof(wanted), "%s: connection refused", raw.url); /* and no password */
	assert_string_equal(result.error, wanted);
	assert_int_equal(result.status, 0);
	assert_string_equal(result.type, "");
	buffer_done(&result.data);

	/* A label of 64 letters cannot be in the DNS: no server is asked. */
	get(c, (struct fetch_request){
		.url = "http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.invalid/" }, &result);
	assert_int_equal(result.r, -EHOSTUNREACH);
	assert_non_null(strstr(result.error, ".invalid/: the host name cannot be resolved"));
	buffer_done(&result.data);
}

static void bad_urls(void **state)
{
	static const struct { const char *url, *sentence; } rows[] = {
		{ "", "\"\" is not a URL such as http://10.0.0.2:9435/metrics" },
		{ "10.0.0.2:9435/metrics", "\"10.0.0.2:9435/metrics\" is not a URL such as" },
		{ "http://", "\"http://\" is not a URL such as" },
		{ "http://host:99999/", "\"http://host:99999/\" is not a URL such as" },
		{ "ftp://host/", "\"ftp://host/\": only http and https can be fetched" },
		{ "file:///etc/passwd", "\"file:///etc/passwd\": only http and https can be fetched" },
	};
	struct context *c = *state;
	struct result result = { .net = &c->net };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct fetch_request request = { .url = rows[i].url };
		struct fetch_job *job = NULL;
		struct error error = { 0 };

		assert_int_equal(fetch_start(c->fetch, &request, done, &result, &job, &error), -EINVAL);
		assert_null(job);
		if (strncmp(error.text, rows[i].sentence, strlen(rows[i].sentence)))
			fail_msg("\"%s\" gives \"%s\"", rows[i].url, error.text);
	}
	assert_int_equal(result.calls, 0);
}

static void passwords_are_not_shown(void **state)
{
	static const struct {
		const char *url, *shown;
	} rows[] = {
		{ "http://host:1/metrics", "http://host:1/metrics" },
		{ "http://user:pass@host:1/a@b?c@d#e@f", "http://host:1/a@b?c@d#e@f" },
		{ "https://user@host", "https://host" },
		{ "http://u:p@ss@[::1]:1/", "http://[::1]:1/" },
		{ "ftp://u:p ass@host/", "ftp://host/" },
		{ "u:pass@host/metrics", "host/metrics" },
		{ "http://u:pass@", "http://" },
		{ "", "" },
	};
	struct context *c = *state;
	struct fetch_request request = { .url = "ftp://u:secret@host/" };
	struct error error = { 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *shown = fetch_url_shown(rows[i].url);

		assert_string_equal(shown, rows[i].shown);
		free(shown);
	}
	assert_int_equal(fetch_start(c->fetch, &request, done, NULL, NULL, &error), -EINVAL);
	assert_null(strstr(error.text, "secret"));
	request.url = "http://u:sec ret@host:x/";
	assert_int_equal(fetch_start(c->fetch, &request, done, NULL, NULL, &error), -EINVAL);
	assert_null(strstr(error.text, "sec ret"));
}

static void waiting_for_a_turn_counts(void **state)
{
	struct context *c = *state;
	struct result results[3] = { { .net = &c->net }, { .net = &c->net }, { .net = &c->net } };
	struct fetch *one;
	struct raw raw;
	mono_time start = mono_now();

	assert_int_equal(fetch_new(c->net.loop, 1, &one), 0);
	raw_open(&raw, &c->net, BYTES(""), KEEP_OPEN);
	for (unsigned i = 0; i < 3; i++) {
		struct fetch_request request = { .url = raw.url, .timeout_ns = 200 * NS_PER_MS };

		assert_int_equal(fetch_start(one, &request, done, &results[i], NULL, NULL), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		NET_WAIT(&c->net, results[i].calls);
		assert_int_equal(results[i].r, -ETIMEDOUT);
		buffer_done(&results[i].data);
	}
	assert_true(mono_since_ns(mono_now(), start) < 390 * NS_PER_MS);
	fetch_free(one);
	raw_close(&raw);
}

static void cancelled_jobs_do_not_call(void **state)
{
	struct context *c = *state;
	struct result result = { .net = &c->net }, other;
	struct fetch_request request = { 0 };
	struct fetch_job *job;
	struct raw raw;

	/* Before it began, while it waits for the answer, and NULL. */
	request.url = url_of(c, "/text");
	assert_int_equal(fetch_start(c->fetch, &request, done, &result, &job, NULL), 0);
	fetch_cancel(job);
	raw_open(&raw, &c->net, BYTES(""), KEEP_OPEN);
	request.url = raw.url;
	assert_int_equal(fetch_start(c->fetch, &request, done, &result, &job, NULL), 0);
	NET_POLL(&c->net, raw.requests == 1);
	fetch_cancel(job);
	NET_WAIT(&c->net, raw.client_left);
	fetch_cancel(NULL);
	get(c, (struct fetch_request){ .url = url_of(c, "/text") }, &other);
	assert_int_equal(other.r, 0);
	assert_int_equal(result.calls, 0);
	buffer_done(&other.data);
	raw_close(&raw);
}

/* What a callback may do: start another, cancel another, cancel itself, free everything. */
struct chain {
	struct context *c;
	struct fetch *fetch;
	struct fetch_job *victim;
	unsigned calls, wanted;
	bool free_at_end;
};

static void go_on(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	struct chain *chain = userdata;
	struct fetch_request request = { .url = url_of(chain->c, "/text") };

	assert_int_equal(response->r, 0);
	fetch_cancel(chain->victim);
	chain->victim = NULL;
	fetch_cancel(job);
	if (++chain->calls < chain->wanted) {
		assert_int_equal(fetch_start(chain->fetch, &request, go_on, chain, NULL, NULL), 0);
		return;
	}
	if (chain->free_at_end) {
		fetch_free(chain->fetch);
		chain->fetch = NULL;
	}
	assert_string_equal(response->data, "some text"); /* still there */
	loop_stop(chain->c->net.loop);
}

static void victim_done(struct fetch_job *job, const struct fetch_response *response, void *userdata)
{
	fail_msg("a cancelled job was delivered");
}

static void callbacks_may_do_everything(void **state)
{
	struct context *c = *state;

	for (unsigned free_at_end = 0; free_at_end < 2; free_at_end++) {
		struct chain chain = { .c = c, .wanted = 10, .free_at_end = free_at_end };
		struct fetch_request request = { .url = url_of(c, "/text") };
		struct raw raw, other; /* each keeps one connection */

		assert_int_equal(fetch_new(c->net.loop, 0, &chain.fetch), 0);
		raw_open(&raw, &c->net, BYTES(""), KEEP_OPEN);
		raw_open(&other, &c->net, BYTES(""), KEEP_OPEN);
		assert_int_equal(fetch_start(chain.fetch, &request, go_on, &chain, NULL, NULL), 0);
		request.url = raw.url;
		assert_int_equal(fetch_start(chain.fetch, &request, victim_done, NULL, &chain.victim, NULL), 0);
		/* One more that is under way when all is freed. */
		request.url = other.url;
		assert_int_equal(fetch_start(chain.fetch, &request, victim_done, NULL, NULL, NULL), 0);
		NET_WAIT(&c->net, chain.calls == chain.wanted);
		net_run_for(&c->net, 5 * NS_PER_MS);
		fetch_free(chain.fetch);
		raw_close(&raw);
		raw_close(&other);
	}
	fetch_free(NULL);
}

/* A kept connection that the server has closed meanwhile is no error. */
static void kept_connection_was_closed(void **state)
{
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	struct context *c = *state;
	struct result result;
	struct raw raw;

	raw_open(&raw, &c->net, BYTES(answer), KEEP_OPEN);
	for (unsigned i = 0; i < 3; i++) {
		get(c, (struct fetch_request){ .url = raw.url }, &result);
		assert_int_equal(result.r, 0);
		assert_string_equal(result.data.data, "ok");
		buffer_done(&result.data);
		raw_hang_up(&raw);
	}
	raw_close(&raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(status_headers_and_data, setup, teardown),
		cmocka_unit_test_setup_teardown(methods_headers_and_body, setup, teardown),
		cmocka_unit_test_setup_teardown(connections_are_reused, setup, teardown),
		cmocka_unit_test_setup_teardown(many_at_once_under_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(redirects, setup, teardown),
		cmocka_unit_test_setup_teardown(servers_that_are_not_http, setup, teardown),
		cmocka_unit_test_setup_teardown(servers_that_break_off, setup, teardown),
		cmocka_unit_test_setup_teardown(servers_that_take_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(endless_answer_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_there, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_urls, setup, teardown),
		cmocka_unit_test_setup_teardown(passwords_are_not_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(waiting_for_a_turn_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(cancelled_jobs_do_not_call, setup, teardown),
		cmocka_unit_test_setup_teardown(callbacks_may_do_everything, setup, teardown),
		cmocka_unit_test_setup_teardown(kept_connection_was_closed, setup, teardown),
	};

	return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
