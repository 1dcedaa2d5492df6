/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events over real sockets: order and completeness for many
 * clients, the bounded queue for one that does not read, clients that leave, the
 * end of the server, and how long a frame takes.
 */
#include "net.h"

#include "lib/error.h"
#include "lib/http.h"

#define STREAMS_MAX 64

struct context {
	struct net net;
	struct http_server *server;
	const char *address;
	struct http_stream *streams[STREAMS_MAX];
	unsigned n_streams;
	unsigned closed[STREAMS_MAX]; /* calls of on_close */
	size_t queue_max;
};

struct slot {
	struct context *context;
	unsigned index;
};

static struct slot slots[STREAMS_MAX];

static void closed(struct http_stream *stream, void *userdata)
{
	struct slot *slot = userdata;

	assert_ptr_equal(stream, slot->context->streams[slot->index]);
	slot->context->closed[slot->index]++;
	slot->context->streams[slot->index] = NULL;
	loop_stop(slot->context->net.loop);
}

static void handle_live(struct http_request *request, void *userdata)
{
	struct context *c = userdata;
	struct slot *slot = &slots[c->n_streams];

	assert_true(c->n_streams < STREAMS_MAX);
	*slot = (struct slot){ .context = c, .index = c->n_streams };
	c->streams[c->n_streams] = http_stream_open(request, c->queue_max, closed, slot);
	assert_non_null(c->streams[c->n_streams]);
	c->n_streams++;
	loop_stop(c->net.loop);
}

static const struct http_route routes[] = {
	{ "GET", "/live", handle_live },
	{ NULL, NULL, NULL },
};

static int setup(void **state)
{
	static struct context c;
	const char *listen = "127.0.0.1:0";
	struct http_options options = { .listen = &listen, .n_listen = 1, .routes = routes, .userdata = &c };

	c = (struct context){ .queue_max = 1000 };
	net_open(&c.net);
	assert_int_equal(http_open(c.net.loop, &options, &c.server, NULL), 0);
	c.address = http_listen_address(c.server, 0);
	*state = &c;
	return 0;
}

static int teardown(void **state)
{
	struct context *c = *state;

	http_close(c->server);
	net_close(&c->net);
	for (unsigned i = 0; i < c->n_streams; i++)
		assert_int_equal(c->closed[i], 1);
	return 0;
}

static struct http_stats stats(const struct context *c)
{
	struct http_stats s;

	http_stats(c->server, &s);
	return s;
}

static const char request[] = "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";

static void open_stream(struct context *c, struct client *client)
{
	client_open(client, c->net.loop, c->address);
	client_puts(client, request);
	NET_WAIT(&c->net, client_has(client, "retry: 1000\n\n"));
}

/* Removes the framing of chunked transfer coding in place. Returns false when the body is not at its end. */
static bool unchunk(struct buffer *b, size_t *ret_len)
{
	char *body = strstr(b->data, "\r\n\r\n"), *in, *out, *end = b->data + b->len;
	size_t n;

	assert_non_null(body);
	in = out = body + 4;
	for (;;) {
		char *line = memmem(in, (size_t)(end - in), "\r\n", 2);

		if (!line)
			break;
		n = strtoul(in, NULL, 16);
		if (n == 0 || (size_t)(end - line) < n + 4)
			break;
		memmove(out, line + 2, n);
		out += n;
		in = line + 2 + n + 2;
	}
	*ret_len = (size_t)(out - (body + 4));
	n = (size_t)(end - in);
	memmove(b->data, body + 4, *ret_len);
	b->data[*ret_len] = '\0';
	return n == 5 && in[0] == '0';
}

static void format_of_a_frame(void **state)
{
	struct context *c = *state;
	struct client client;
	size_t len;
	bool ended;

	open_stream(c, &client);
	assert_true(client_has(&client, "HTTP/1.1 200 OK\r\n"));
	assert_true(client_has(&client, "Content-Type: text/event-stream\r\n"));
	assert_true(client_has(&client, "Cache-Control: no-store\r\n"));
	assert_true(client_has(&client, "X-Content-Type-Options: nosniff\r\n"));
	http_stream_send(c->streams[0], NULL, "one", 3);
	http_stream_send(c->streams[0], "tick", "two\nthree\r\nfour\rfive", 20);
	http_stream_send(c->streams[0], "empty", NULL, 0);
	http_stream_send(c->streams[0], NULL, "\n", 1);
	http_stream_send(c->streams[0], "last", "data: x\n\nevent: forged", 22);
	NET_WAIT(&c->net, client_has(&client, "forged"));
	http_close(c->server);
	c->server = NULL;
	NET_WAIT(&c->net, client.ended);
	ended = unchunk(&client.got, &len);
	assert_true(ended); /* an orderly end, so that the browser reconnects and does not report an error */
	assert_string_equal(client.got.data,
			    "retry: 1000\n\n"
			    "data: one\n\n"
			    "event: tick\ndata: two\ndata: three\ndata: four\ndata: five\n\n"
			    "event: empty\ndata: \n\n"
			    "data: \ndata: \n\n"
			    "event: last\ndata: data: x\ndata: \ndata: event: forged\n\n");
	client_close(&client);
}

#define CLIENTS 50
#define FRAMES 300

struct sender {
	struct context *c;
	unsigned sent;
};

static void send_to_all(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct sender *s = userdata;
	char text[64];

	snprintf(text, sizeof(text), "frame %u", s->sent++);
	for (unsigned i = 0; i < s->c->n_streams; i++) {
		if (s->c->streams[i])
			http_stream_send(s->c->streams[i], "f", text, strlen(text));
	}
	if (s->sent == FRAMES)
		loop_timer_stop(timer);
}

static void check_frames(struct client *client, unsigned n)
{
	char *p, wanted[64];
	size_t len;

	unchunk(&client->got, &len);
	p = client->got.data;
	assert_memory_equal(p, "retry: 1000\n\n", 13);
	p += 13;
	for (unsigned i = 0; i < n; i++) {
		snprintf(wanted, sizeof(wanted), "event: f\ndata: frame %u\n\n", i);
		if (!strncmp(p, ":\n\n", 3))
			p += 3; /* a heartbeat */
		if (strncmp(p, wanted, strlen(wanted)))
			fail_msg("frame %u is \"%.40s\"", i, p);
		p += strlen(wanted);
	}
}

static void many_clients_get_every_frame_in_order(void **state)
{
	struct context *c = *state;
	static struct client clients[CLIENTS];
	struct sender sender = { .c = c };
	struct loop_timer *timer;
	char last[64];

	for (unsigned i = 0; i < CLIENTS; i++)
		open_stream(c, &clients[i]);
	assert_int_equal(stats(c).streams, CLIENTS);
	assert_int_equal(loop_timer_new(c->net.loop, send_to_all, &sender, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 0, 2 * NS_PER_MS), 0);
	snprintf(last, sizeof(last), "frame %u\n\n", FRAMES - 1);
	for (unsigned i = 0; i < CLIENTS; i++) {
		NET_WAIT(&c->net, client_has(&clients[i], last));
		check_frames(&clients[i], FRAMES);
		client_close(&clients[i]);
	}
	assert_int_equal(stats(c).stream_frames_dropped, 0);
	loop_timer_free(timer);
}

#define BIG_FRAME 20000

/* Sends numbered frames of 20 kB to stream 0 (does not read) and small ones to stream 1. */
static void send_big(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct sender *s = userdata;
	static char text[BIG_FRAME];
	int len;

	memset(text, 'x', sizeof(text));
	len = snprintf(text, sizeof(text), "frame %u", s->sent++);
	text[len] = ' ';
	if (s->c->streams[0])
		http_stream_send(s->c->streams[0], "f", text, sizeof(text));
	if (s->c->streams[1])
		http_stream_send(s->c->streams[1], "f", text, (size_t)len);
	if (s->sent == FRAMES)
		loop_timer_stop(timer);
}

static void client_that_does_not_read_loses_the_oldest(void **state)
{
	struct context *c = *state;
	struct client good, slow = { .loop = c->net.loop };
	struct sender sender = { .c = c };
	struct loop_timer *timer;
	unsigned received = 0, previous = 0, gaps = 0;
	uint64_t dropped;
	size_t len, left;
	char *p;

	c->queue_max = 20;
	slow.fd = net_connect(c->address, 4096);
	assert_true(slow.fd >= 0);
	assert_int_equal(send(slow.fd, request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
	NET_WAIT(&c->net, c->n_streams == 1);
	c->queue_max = 1000;
	open_stream(c, &good);
	assert_int_equal(loop_timer_new(c->net.loop, send_big, &sender, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 0, 2 * NS_PER_MS), 0);
	NET_WAIT(&c->net, client_has(&good, "frame 299\n\n"));
	check_frames(&good, FRAMES);
	dropped = http_stream_dropped(c->streams[0]);
	assert_true(dropped > 0);
	assert_int_equal(http_stream_dropped(c->streams[1]), 0);
	assert_int_equal(stats(c).stream_frames_dropped, dropped);

	/* Now it reads: whole frames in order, the newest among them, and what is missing is what was counted. */
	assert_int_equal(loop_fd_new(c->net.loop, slow.fd, LOOP_READABLE, client_ready, &slow, &slow.watch), 0);
	NET_WAIT(&c->net, client_has(&slow, "frame 299 "));
	http_close(c->server);
	c->server = NULL;
	NET_WAIT(&c->net, slow.ended);
	assert_true(unchunk(&slow.got, &len));
	p = slow.got.data;
	for (left = len; left;) {
		char *end = memmem(p, left, "\n\n", 2);
		unsigned number;

		assert_non_null(end);
		if (p[0] == 'e') { /* and not a hint or a heartbeat */
			assert_int_equal(sscanf(p, "event: f\ndata: frame %u ", &number), 1);
			assert_int_equal((size_t)(end - p), strlen("event: f\ndata: ") + BIG_FRAME);
			assert_true(number == 0 || number > previous);
			gaps += number > previous + 1;
			previous = number;
			received++;
		}
		left -= (size_t)(end + 2 - p);
		p = end + 2;
	}
	print_message("# the slow client got %u of %u frames, %llu were dropped, in %u gaps\n", received, FRAMES,
		      (unsigned long long)dropped, gaps);
	assert_int_equal(received + dropped, FRAMES);
	assert_int_equal(previous, FRAMES - 1);
	client_close(&good);
	client_close(&slow);
	loop_timer_free(timer);
}

/* The limit in bytes, and a frame that is larger than the whole queue. */
static void queue_is_bounded_in_bytes(void **state)
{
	struct context *c = *state;
	struct client client;
	const size_t mib = 1024 * 1024;
	char *big = malloc(5 * mib);

	assert_non_null(big);
	memset(big, 'b', 5 * mib);
	open_stream(c, &client);
	for (unsigned i = 0; i < 10; i++)
		http_stream_send(c->streams[0], NULL, big, mib);
	assert_int_equal(http_stream_dropped(c->streams[0]), 7); /* three of 1 MiB and a little fit in 4 MiB */
	http_stream_send(c->streams[0], NULL, big, 5 * mib);
	assert_int_equal(http_stream_dropped(c->streams[0]), 8);
	http_stream_send(c->streams[0], NULL, "end", 3);
	NET_WAIT(&c->net, client_has(&client, "data: end\n\n"));
	assert_true(client.got.len > 3 * mib);
	client_close(&client);
	free(big);
}

static void clients_that_leave_are_noticed(void **state)
{
	struct context *c = *state;
	struct client closing, resetting, staying;
	mono_time start;
	double seconds;

	open_stream(c, &closing);
	open_stream(c, &resetting);
	open_stream(c, &staying);
	start = mono_now();
	client_close(&closing);
	client_reset(&resetting);
	NET_WAIT(&c->net, c->closed[0] && c->closed[1]);
	seconds = ns_to_seconds(mono_since_ns(mono_now(), start));
	print_message("# a client that left while its stream was idle was noticed after %.2f s\n", seconds);
	assert_true(seconds < 6);
	assert_int_equal(stats(c).streams, 1);
	NET_WAIT(&c->net, client_has(&staying, ":\n\n")); /* the heartbeat */
	assert_int_equal(c->closed[2], 0);

	/* While frames are sent it does not take a heartbeat. */
	start = mono_now();
	client_reset(&staying);
	http_stream_send(c->streams[2], NULL, "x", 1);
	NET_WAIT(&c->net, c->closed[2]);
	assert_true(mono_since_ns(mono_now(), start) < NS_PER_SEC);
	assert_int_equal(stats(c).connections, 0);
}

/* A stalled client whose system still acknowledges is cut by the idle time-out of the server. */
static void stalled_client_is_cut(void **state)
{
	struct context *c = *state;
	const char *listen = "127.0.0.1:0";
	struct http_options options = { .listen = &listen, .n_listen = 1, .routes = routes, .userdata = c,
					.idle_timeout_s = 1 };
	struct http_server *server;
	struct sender sender = { .c = c };
	struct loop_timer *timer;
	struct client good;
	int fd;

	assert_int_equal(http_open(c->net.loop, &options, &server, NULL), 0);
	fd = net_connect(http_listen_address(server, 0), 4096);
	assert_true(fd >= 0);
	assert_int_equal(send(fd, request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
	NET_WAIT(&c->net, c->n_streams == 1);
	client_open(&good, c->net.loop, http_listen_address(server, 0));
	client_puts(&good, request);
	NET_WAIT(&c->net, c->n_streams == 2);
	assert_int_equal(loop_timer_new(c->net.loop, send_big, &sender, &timer), 0);
	assert_int_equal(loop_timer_start(timer, 0, 2 * NS_PER_MS), 0);
	NET_WAIT(&c->net, sender.sent == FRAMES && c->closed[0]);
	/* An idle stream is no idle connection. */
	net_run_for(&c->net, 3 * NS_PER_SEC);
	assert_int_equal(c->closed[1], 0);
	assert_false(good.ended);
	loop_timer_free(timer);
	client_close(&good);
	close(fd);
	http_close(server);
}

/* 20 clients that do not read share half of 8 MiB; the one that does loses nothing. */
static void queues_are_bounded_together(void **state)
{
	enum { SLOW = 20 };
	static char text[BIG_FRAME];
	struct context *c = *state;
	const char *listen = "127.0.0.1:0";
	const size_t limit = 4 * 1024 * 1024;
	struct http_options options = { .listen = &listen, .n_listen = 1, .routes = routes, .userdata = c,
					.unsent_max = 2 * limit };
	struct http_server *server;
	struct http_stats s = { 0 };
	struct client good;
	int fd[SLOW];

	memset(text, 'x', sizeof(text));
	assert_int_equal(http_open(c->net.loop, &options, &server, NULL), 0);
	for (unsigned i = 0; i < SLOW; i++) {
		fd[i] = net_connect(http_listen_address(server, 0), 4096);
		assert_int_equal(send(fd[i], request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
	}
	NET_POLL(&c->net, c->n_streams == SLOW);
	client_open(&good, c->net.loop, http_listen_address(server, 0));
	client_puts(&good, request);
	NET_WAIT(&c->net, c->n_streams == SLOW + 1);
	for (unsigned sent = 1; sent <= 2 * FRAMES; sent++) {
		size_t all = sent * sizeof(text);

		for (unsigned i = 0; i <= SLOW; i++)
			http_stream_send(c->streams[i], NULL, text, sizeof(text));
		http_stats(server, &s);
		assert_true(s.unsent_streams <= limit);
		NET_WAIT(&c->net, good.got.len > all);
	}
	assert_true(s.stream_frames_dropped > 0);
	assert_true(s.unsent_streams > limit / 2);
	assert_int_equal(http_stream_dropped(c->streams[SLOW]), 0);
	for (unsigned i = 0; i < SLOW; i++)
		assert_true(http_stream_dropped(c->streams[i]) > 0);
	client_close(&good);
	for (unsigned i = 0; i < SLOW; i++)
		close(fd[i]);
	NET_POLL(&c->net, (http_stats(server, &s), s.streams == 0));
	assert_int_equal(s.unsent_streams, 0);
	http_close(server);
}

static void head_and_early_close(void **state)
{
	struct context *c = *state;
	struct client client;

	/* HEAD opens a stream that ends at once. */
	client_open(&client, c->net.loop, c->address);
	client_puts(&client, "HEAD /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
	NET_WAIT(&c->net, client.ended);
	assert_true(client_has(&client, "Content-Type: text/event-stream\r\n"));
	assert_false(client_has(&client, "retry"));
	NET_WAIT(&c->net, c->closed[0]);
	client_close(&client);

	/* The client is gone before the answer is sent. */
	client_open(&client, c->net.loop, c->address);
	assert_int_equal(send(client.fd, request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
	client_reset(&client);
	net_run_for(&c->net, 50 * NS_PER_MS);
	assert_int_equal(stats(c).connections, 0);
	assert_int_equal(stats(c).streams, 0);

	/* HTTP/1.0 has no chunks: the end of the connection is the end of the stream. */
	client_open(&client, c->net.loop, c->address);
	client_puts(&client, "GET /live HTTP/1.0\r\n\r\n");
	NET_WAIT(&c->net, client_has(&client, "\r\n\r\nretry: 1000\n\n"));
	client_close(&client);
}

static void closing_the_server_ends_streams(void **state)
{
	struct context *c = *state;
	struct client clients[3];
	static char text[100000];
	size_t len;

	memset(text, 'z', sizeof(text));
	for (unsigned i = 0; i < 3; i++)
		open_stream(c, &clients[i]);
	http_stream_send(c->streams[1], "queued", "but not taken yet", 17);
	for (unsigned i = 0; i < 100; i++)
		http_stream_send(c->streams[2], "much", text, sizeof(text));
	http_close(c->server);
	c->server = NULL;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(c->closed[i], 1);
		NET_WAIT(&c->net, clients[i].ended);
	}
	assert_true(unchunk(&clients[0].got, &len));
	assert_true(unchunk(&clients[1].got, &len));
	assert_non_null(strstr(clients[1].got.data, "event: queued\ndata: but not taken yet\n\n"));
	for (unsigned i = 0; i < 3; i++)
		client_close(&clients[i]);
}

#define LATENCIES 400

struct latency {
	struct context *c;
	mono_time sent;
	unsigned n;
};

static void send_one(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct latency *l = userdata;

	l->sent = mono_now();
	http_stream_send(l->c->streams[0], NULL, "x", 1);
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void a_frame_goes_out_at_once(void **state)
{
	struct context *c = *state;
	struct latency l = { .c = c };
	struct loop_timer *timer;
	struct client client;
	static uint64_t ns[LATENCIES];
	size_t len;

	open_stream(c, &client);
	net_run_for(&c->net, NS_PER_MS);
	assert_int_equal(loop_timer_new(c->net.loop, send_one, &l, &timer), 0);
	for (unsigned i = 0; i < LATENCIES; i++) {
		len = client.got.len;
		assert_int_equal(loop_timer_start(timer, 2 * NS_PER_MS, 0), 0);
		NET_WAIT(&c->net, client.got.len > len && client_has(&client, "data: x\n\n\r\n"));
		ns[i] = mono_since_ns(client.last, l.sent);
		client.got.len = 0;
	}
	qsort(ns, LATENCIES, sizeof(ns[0]), compare);
	print_message("# from send to receive in another socket: p50 %.3f ms, p99 %.3f ms, max %.3f ms\n",
		      (double)ns[LATENCIES / 2] / 1e6, (double)ns[LATENCIES * 99 / 100] / 1e6,
		      (double)ns[LATENCIES - 1] / 1e6);
	assert_true(ns[LATENCIES / 2] < 5 * NS_PER_MS);
	client_close(&client);
	loop_timer_free(timer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(format_of_a_frame, setup, teardown),
		cmocka_unit_test_setup_teardown(many_clients_get_every_frame_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(client_that_does_not_read_loses_the_oldest, setup, teardown),
		cmocka_unit_test_setup_teardown(queue_is_bounded_in_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(clients_that_leave_are_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(stalled_client_is_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(queues_are_bounded_together, setup, teardown),
		cmocka_unit_test_setup_teardown(head_and_early_close, setup, teardown),
		cmocka_unit_test_setup_teardown(closing_the_server_ends_streams, setup, teardown),
		cmocka_unit_test_setup_teardown(a_frame_goes_out_at_once, setup, teardown),
	};

	return cmocka_run_group_tests_name("http_stream", tests, NULL, NULL);
}
