/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the HTTP server and its answers: good ones, malformed ones, ones
 * that are too large, and ones that a foreign site's script might send. Limits of
 * connections are in test_http_connection.c, streams in test_http_stream.c.
 */
#include "http_fixture.h"

#include <zlib.h>

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

#define MUTANTS 150

/* Valid requests with some bytes changed: whatever comes back, the server goes on and leaks nothing. */
static void mutated_requests(void **state)
{
	static const char good[] =
		"POST /echo?x=1&all=%20 HTTP/1.1\r\nHost: localhost\r\nX-Test: value\r\nConnection: close\r\n"
		"Transfer-Encoding: chunked\r\nAccept-Encoding: gzip;q=0.5, *\r\n\r\n5\r\nabcde\r\n0\r\n\r\n";
	struct context *c = *state;
	uint64_t seed = 20240607;
	char bytes[sizeof(good)];
	static struct client clients[MUTANTS];

	print_message("# seed %llu\n", (unsigned long long)seed);
	for (unsigned round = 0; round < 4; round++) {
		static char sent[MUTANTS][sizeof(good)];

		for (unsigned i = 0; i < MUTANTS; i++) {
			memcpy(bytes, good, sizeof(good));
			for (unsigned n = 1 + next_random(&seed) % 4; n; n--)
				bytes[next_random(&seed) % (sizeof(good) - 1)] = (char)next_random(&seed);
			memcpy(sent[i], bytes, sizeof(good));
			client_open(&clients[i], c->net.loop, c->address);
			client_send(&clients[i], sent[i], sizeof(good) - 1);
		}
		for (unsigned i = 0; i < MUTANTS; i++) {
			/* The request may have become one that waits for more: end it from our side. */
			NET_WAIT(&c->net, clients[i].ended || !clients[i].to_send_len);
			shutdown(clients[i].fd, SHUT_WR);
		}
		for (unsigned i = 0; i < MUTANTS; i++) {
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

/* Of GETs below own_site_path: what a page of another site may make the browser of a user ask. */
static void foreign_gets_are_refused(void **state)
{
	static const struct {
		const char *headers;
		bool served;
	} rows[] = {
		{ "", true },
		{ "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\n", true },
		{ "Sec-Fetch-Site: same-site\r\nSec-Fetch-Mode: cors\r\n", true },
		{ "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\n", true },
		{ "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", true },
		{ "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", true },
		{ "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", false },
		{ "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", false },
		{ "Sec-Fetch-Site: cross-site\r\n", false },
		{ "Origin: http://localhost\r\n", true },
		{ "Origin: http://evil.example\r\n", false },
	};
	struct context c = { 0 };
	char request[300];

	open_server(&c, "127.0.0.1:0", (struct http_options){ .own_site_path = "/tree/" });
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(request, sizeof(request), "GET /tree/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n%s\r\n",
			 rows[i].headers);
		if (rows[i].served)
			EXPECT(&c, request, " 200 OK", "path=/tree/x");
		else
			EXPECT(&c, request, " 403 ", "a page of another site must not ask here\n");
	}
	EXPECT(&c, "GET /hello HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nConnection: close\r\n\r\n",
	       " 200 OK");
	close_server(&c);
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
		cmocka_unit_test_setup_teardown(foreign_host_is_refused, setup, teardown),
		cmocka_unit_test(foreign_host_is_served_elsewhere),
		cmocka_unit_test_setup_teardown(cross_site_post_is_refused, setup, teardown),
		cmocka_unit_test(foreign_gets_are_refused),
		cmocka_unit_test_setup_teardown(gzip_round_trip, setup, teardown),
	};

	return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
