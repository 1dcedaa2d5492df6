/* SPDX-License-Identifier: Apache-2.0 */
/* The event log, its JSON, and how it is served: rings per kind, IDs, filters, hostile text, streams that are resumed or slow. */
#include "net.h"

#include <math.h>
#include <netinet/in.h>
#include <time.h>

#include "agent/event_feed.h"
#include "agent/event_json.h"
#include "agent/event_log.h"
#include "lib/http.h"
#include "lib/json.h"

static const struct event_code_names no_names[EVENT_KIND_COUNT];

static const struct event_entry *add(struct event_log *log, enum event_kind kind, uint32_t count, uint64_t missed)
{
	struct event event = { .kind = kind, .count = count, .missed = missed };

	return event_log_add(log, &event, NULL, (wall_time){ 1795507200000000000LL });
}

struct seen {
	uint64_t ids[EVENT_LOG_MAX * EVENT_KIND_COUNT];
	uint32_t kinds;
	size_t n;
};

static void see(const struct event_entry *entry, void *userdata)
{
	struct seen *seen = userdata;

	assert_true(seen->n == 0 || entry->id > seen->ids[seen->n - 1]);
	seen->ids[seen->n++] = entry->id;
	seen->kinds |= 1u << entry->event.kind;
}

static struct seen look(const struct event_log *log, uint32_t kinds, uint64_t since, size_t limit)
{
	const struct event_filter filter = { kinds, since, limit };
	struct seen seen = { .n = 0 };
	size_t told = event_log_each(log, &filter, see, &seen);

	assert_int_equal(told, seen.n);
	return seen;
}

static struct event_log *new_log(void)
{
	struct event_log *log;

	assert_int_equal(event_log_new(&log), 0);
	return log;
}

static void test_a_flood_pushes_out_only_its_own_kind(void **state)
{
	struct event_log *log = new_log();
	struct seen seen;

	assert_int_equal(look(log, 0, 0, SIZE_MAX).n, 0);
	assert_int_equal(event_log_newest(log), 0);
	for (unsigned i = 0; i < 10000; i++) {
		if (i % 1000 == 0)
			add(log, EVENT_LINK, 1, 0); /* IDs 1, 1002, 2003, ... */
		add(log, EVENT_DROP, 1, 0);
	}
	assert_int_equal(event_log_newest(log), 10010);
	assert_int_equal(event_log_total(log, EVENT_DROP), 10000);
	assert_int_equal(event_log_total(log, EVENT_LINK), 10);
	assert_int_equal(event_log_total(log, EVENT_EXIT), 0);
	seen = look(log, 1u << EVENT_LINK, 0, SIZE_MAX);
	assert_int_equal(seen.n, 10);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(seen.ids[i], 1 + 1001 * i);
	seen = look(log, 0, 0, SIZE_MAX);
	assert_int_equal(seen.n, 10 + EVENT_LOG_MAX);
	assert_int_equal(seen.ids[9], 9010);
	assert_int_equal(seen.ids[10], 10010 - EVENT_LOG_MAX + 1);
	assert_int_equal(seen.ids[seen.n - 1], 10010);
	event_log_free(log);
}

static void test_filters(void **state)
{
	struct event_log *log = new_log();
	struct seen seen;

	for (unsigned i = 0; i < 7 * 20; i++) /* kind k has the IDs k + 1, k + 8, ... */
		add(log, i % 7, 1, 0);
	assert_int_equal(look(log, 0, 0, SIZE_MAX).n, 140);
	assert_int_equal(look(log, EVENT_KINDS_ALL, 0, SIZE_MAX).n, 140);
	assert_int_equal(look(log, 0, 0, 0).n, 0);
	seen = look(log, 0, 0, 5);
	assert_int_equal(seen.n, 5);
	assert_int_equal(seen.ids[0], 136);
	seen = look(log, 0, 137, SIZE_MAX);
	assert_int_equal(seen.n, 3);
	assert_int_equal(seen.ids[0], 138);
	assert_int_equal(look(log, 0, 140, SIZE_MAX).n, 0);
	assert_int_equal(look(log, 0, UINT64_MAX, SIZE_MAX).n, 0);
	seen = look(log, 1u << EVENT_EXIT | 1u << EVENT_RESET, 100, SIZE_MAX);
	assert_int_equal(seen.kinds, 1u << EVENT_EXIT | 1u << EVENT_RESET);
	assert_int_equal(seen.n, 11); /* 105, 112, ... 140 and 107, 114, ... 135 */
	seen = look(log, 1u << EVENT_EXIT | 1u << EVENT_RESET, 100, 3);
	assert_int_equal(seen.n, 3);
	assert_int_equal(seen.ids[2], 140);
	event_log_free(log);
}

static void test_complete(void **state)
{
	struct event_log *log = new_log();
	struct event_filter all = { 0, 0, SIZE_MAX }, links = { 1u << EVENT_LINK, 0, SIZE_MAX };

	add(log, EVENT_LINK, 1, 0);
	for (unsigned i = 0; i < EVENT_LOG_MAX; i++)
		add(log, EVENT_DROP, 1, 0);
	assert_true(event_log_complete(log, &all));
	add(log, EVENT_DROP, 1, 0); /* ID 2 is gone */
	assert_false(event_log_complete(log, &all));
	assert_true(event_log_complete(log, &links));
	all.since = 1;
	assert_false(event_log_complete(log, &all));
	all.since = 2;
	assert_true(event_log_complete(log, &all));
	event_log_free(log);
}

static void test_what_was_missed_is_told_once(void **state)
{
	struct event_log *log = new_log();

	assert_int_equal(add(log, EVENT_DROP, 1, 0)->suppressed, 0);
	assert_int_equal(add(log, EVENT_DROP, 1, 40)->suppressed, 40);
	assert_int_equal(add(log, EVENT_RESET, 1, 7)->suppressed, 7);
	assert_int_equal(add(log, EVENT_DROP, 1, 38)->suppressed, 0); /* read before, but later in the ring */
	assert_int_equal(add(log, EVENT_DROP, 1, 45)->suppressed, 5);
	assert_int_equal(add(log, EVENT_RESET, 1, 7)->suppressed, 0);
	event_log_free(log);
}

static void test_kinds_have_names(void **state)
{
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++)
		assert_int_equal(event_kind_parse(event_kind_name(i)), i);
	assert_int_equal(event_kind_parse(""), -EINVAL);
	assert_int_equal(event_kind_parse("Reset"), -EINVAL);
	assert_string_equal(event_kind_name(99), "unknown");
}

/* JSON */

static void assert_json(const struct event_entry *entry, const struct event_code_names *names, const char *expected)
{
	struct buffer out = BUFFER_INIT;

	assert_int_equal(json_write(event_json(entry, names), &out), 0);
	assert_string_equal(out.data, expected);
	buffer_done(&out);
}

static struct peer_address ipv4(const char *text)
{
	struct peer_address address = { { 0, 0, htonl(0xffff), 0 } };

	assert_int_equal(inet_pton(AF_INET, text, &address.words[3]), 1);
	return address;
}

static const char *reason(uint32_t code, void *userdata)
{
	assert_string_equal(userdata, "mine");
	return code == 77 ? "no_socket" : NULL;
}

static void test_json(void **state)
{
	static char mine[] = "mine";
	struct event_code_names names[EVENT_KIND_COUNT] = { [EVENT_DROP] = { reason, mine } };
	struct event_entry entry = {
		.id = 17, .time = { 1795507200123456789LL }, .suppressed = 3, .device = "eth0",
		.event = { .kind = EVENT_CONNECT_FAILED, .pid = 4711, .comm = "curl", .local = ipv4("10.0.0.1"), .local_port = 40000,
			   .remote = ipv4("10.0.0.2"), .remote_port = 443, .protocol = IPPROTO_TCP, .role = ROLE_CLIENT, .netns = 4026531840u,
			   .ifindex = 2, .code = ECONNREFUSED, .count = 1 },
	};
	struct event *event = &entry.event;

	assert_json(&entry, names,
		    "{\"id\":17,\"time\":\"2026-11-24T08:00:00.123456Z\",\"kind\":\"connect_failed\",\"pid\":4711,\"process\":\"curl\","
		    "\"device\":\"eth0\",\"netns\":4026531840,\"protocol\":\"tcp\",\"role\":\"client\","
		    "\"local\":{\"address\":\"10.0.0.1\",\"port\":40000},\"remote\":{\"address\":\"10.0.0.2\",\"port\":443},"
		    "\"code\":\"refused\",\"count\":1,\"suppressed\":3}");
	/* What is unknown is left out; an interface without a name goes by its number. */
	entry = (struct event_entry){ .id = 1, .event = { .kind = EVENT_DROP, .ifindex = 9, .protocol = IPPROTO_UDP, .role = ROLE_COUNT,
							  .code = 77, .count = 1, .text = "udp_rcv" } };
	assert_json(&entry, names,
		    "{\"id\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\"kind\":\"drop\",\"ifindex\":9,\"protocol\":\"udp\","
		    "\"code\":\"no_socket\",\"count\":1,\"text\":\"udp_rcv\",\"suppressed\":0}");
	event->code = 78;
	event->protocol = 200;
	assert_json(&entry, names,
		    "{\"id\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\"kind\":\"drop\",\"ifindex\":9,\"protocol\":\"200\","
		    "\"code\":\"78\",\"count\":1,\"text\":\"udp_rcv\",\"suppressed\":0}");
	entry = (struct event_entry){ .id = 1, .time = { -1000 }, .event = { .kind = EVENT_EXIT, .pid = 5, .code = 3 << 8, .count = 1 } };
	assert_json(&entry, names,
		    "{\"id\":1,\"time\":\"1969-12-31T23:59:59.999999Z\",\"kind\":\"exit\",\"pid\":5,\"status\":3,\"code\":\"exited\","
		    "\"count\":1,\"suppressed\":0}");
	event->code = 9 | 0x80;
	assert_json(&entry, names,
		    "{\"id\":1,\"time\":\"1969-12-31T23:59:59.999999Z\",\"kind\":\"exit\",\"pid\":5,\"signal\":\"KILL\",\"code\":\"killed\","
		    "\"count\":1,\"suppressed\":0}");
	entry = (struct event_entry){ .id = 1, .device = "b", .event = { .kind = EVENT_LINK, .code = LINK_RENAMED, .count = 1, .text = "a" } };
	assert_json(&entry, names,
		    "{\"id\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\"kind\":\"link\",\"device\":\"b\",\"code\":\"renamed\",\"count\":1,"
		    "\"text\":\"a\",\"suppressed\":0}");
	entry = (struct event_entry){ .id = 1, .event = { .kind = EVENT_EXEC, .pid = 5, .comm = "sh", .count = 1, .text = "/bin/sh" } };
	assert_json(&entry, names,
		    "{\"id\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\"kind\":\"exec\",\"pid\":5,\"process\":\"sh\",\"count\":1,"
		    "\"text\":\"/bin/sh\",\"suppressed\":0}");
}

static uint64_t random_next(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return *seed >> 33;
}

/* Whatever bytes the kernel's texts and codes have, the result is JSON, in UTF-8, and says the same name again. */
static void test_json_of_hostile_bytes(void **state)
{
	uint64_t seed = 1;

	for (unsigned run = 0; run < 20000; run++) {
		struct event_entry entry = { .id = run };
		unsigned char *bytes = (unsigned char *)&entry.event;
		struct buffer out = BUFFER_INIT;
		json_error_t error;
		json_t *back;

		for (size_t i = 0; i < sizeof(entry.event); i++)
			bytes[i] = (unsigned char)random_next(&seed);
		for (size_t i = 0; i < sizeof(entry.device); i++)
			entry.device[i] = (char)random_next(&seed);
		entry.time.ns = (int64_t)(random_next(&seed) << 33 ^ random_next(&seed));
		entry.event.kind %= EVENT_KIND_COUNT;
		assert_int_equal(json_write(event_json(&entry, no_names), &out), 0);
		back = json_loadb(out.data, out.len, 0, &error); /* refuses what is not UTF-8 */
		if (!back)
			fail_msg("%s: %s", error.text, out.data);
		assert_string_equal(json_string_value(json_object_get(back, "kind")), event_kind_name(entry.event.kind));
		json_decref(back);
		buffer_done(&out);
	}
}

static void test_json_text(void **state)
{
	static const struct { const char *in; size_t max; const char *out; } rows[] = {
		{ "", 9, "\"\"" }, { "a\"b\\c\n\x01", 99, "\"a\\\"b\\\\c\\n\\u0001\"" }, { "abc", 2, "\"ab\"" }, { "\xc3\xa9", 9, "\"\xc3\xa9\"" },
		{ "\xc3\xa9", 1, "\"\xef\xbf\xbd\"" }, { "a\xff\xfe" "b", 9, "\"a\xef\xbf\xbd\xef\xbf\xbd" "b\"" },
		{ "\xed\xa0\x80", 9, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buffer out = BUFFER_INIT;

		assert_int_equal(json_write(json_text(rows[i].in, rows[i].max), &out), 0);
		assert_string_equal(out.data, rows[i].out);
		buffer_done(&out);
	}
}

/* Over HTTP; 1.0, so that no framing of chunks is in the text. */

struct served {
	struct net net;
	struct event_log *log;
	struct event_feed *feed;
	struct http_server *server;
};

static void handle(struct http_request *request, void *userdata)
{
	event_feed_handle(request, userdata);
}

static void serve(struct served *s, size_t slack)
{
	static struct http_route routes[] = { { "GET", "/events", handle }, { NULL } };
	const char *listen = "127.0.0.1:0";
	struct http_options options = { .listen = &listen, .n_listen = 1, .routes = routes };

	s->log = new_log();
	assert_int_equal(event_feed_new(s->log, no_names, &s->feed), 0);
	event_feed_set_slack(s->feed, slack);
	routes[0].userdata = s->feed; /* of the route, not of the server */
	net_open(&s->net);
	assert_int_equal(http_open(s->net.loop, &options, &s->server, NULL), 0);
}

static void end(struct served *s)
{
	http_close(s->server);
	event_feed_free(s->feed);
	event_log_free(s->log);
	net_close(&s->net);
}

/* Opens; the head of the request may have more lines. */
static void ask(struct served *s, struct client *client, const char *query, const char *lines)
{
	char request[512];
	int len = snprintf(request, sizeof(request), "GET /events%s HTTP/1.0\r\nHost: localhost\r\n%s\r\n", query, lines);

	client_open(client, s->net.loop, http_listen_address(s->server, 0));
	assert_int_equal(send(client->fd, request, (size_t)len, 0), len);
}

static void answer(struct served *s, const char *query, const char *lines, const char *wanted)
{
	struct client client;

	ask(s, &client, query, lines);
	NET_WAIT(&s->net, client_has(&client, "\r\n\r\n") && (client_has(&client, wanted) || client.ended));
	if (!client_has(&client, wanted))
		fail_msg("%s: %s", query, client.got.data);
	client_close(&client);
}

static void log_and_send(struct served *s, enum event_kind kind, uint32_t count)
{
	event_feed_send(s->feed, add(s->log, kind, count, 0));
}

static unsigned occurrences(const struct client *client, const char *text)
{
	unsigned n = 0;

	for (const char *at = client->got.data; at && (at = strstr(at, text)); at++)
		n++;
	return n;
}

#define JSON "Accept: application/json\r\n"

static void test_requests(void **state)
{
	struct served s;

	serve(&s, 0);
	for (unsigned i = 0; i < 7 * 3; i++)
		add(s.log, i % 7, i, 0);
	answer(&s, "?kind=reset&kind=quake", "", "kind=quake: there is no such kind of event; there are connect_failed, reset, "
	       "retransmit_burst, drop, link, exec, exit");
	answer(&s, "?since=x", "", "400");
	answer(&s, "?since=-", "", "400");
	answer(&s, "?limit=-1", "", "limit=-1: a number of events is needed");
	answer(&s, "?limit=99999999999999999999999", JSON, "400");
	answer(&s, "", JSON, "\"newest\":21,\"complete\":true,\"events\":[{\"id\":1,");
	answer(&s, "?kind=exit&kind=link&since=13", JSON, "\"events\":[{\"id\":14,");
	answer(&s, "?kind=exit&limit=1", JSON, "\"events\":[{\"id\":21,");
	answer(&s, "?since=21", JSON, "\"events\":[]}}");
	answer(&s, "?since=22", JSON, "\"events\":[{\"id\":1,"); /* of a run before: all of this one is new */
	answer(&s, "?since=7-20", JSON, "\"events\":[{\"id\":1,");
	answer(&s, "?limit=0", JSON, "\"events\":[]}}");
	end(&s);
}

static void test_stream_replays_goes_on_and_is_resumed(void **state)
{
	struct client all, some, again;
	char lines[128], *id;
	struct served s;

	serve(&s, 0);
	for (unsigned i = 0; i < 7; i++)
		add(s.log, i, 1, 0);
	ask(&s, &all, "", "");
	ask(&s, &some, "?kind=reset&limit=0", "Accept: text/event-stream\r\n");
	NET_WAIT(&s.net, client_has(&all, "\"id\":7,") && client_has(&some, "event: hello\ndata: {\"version\":"));
	log_and_send(&s, EVENT_LINK, 1);  /* 8 */
	log_and_send(&s, EVENT_RESET, 1); /* 9 */
	NET_WAIT(&s.net, client_has(&all, "\"id\":9,") && client_has(&some, "\"id\":9,"));
	assert_int_equal(occurrences(&all, "event: "), 10); /* and hello */
	assert_int_equal(occurrences(&all, "event: reset\ndata: {"), 2);
	assert_int_equal(occurrences(&some, "event: "), 2);
	id = strstr(some.got.data, "id: ");
	assert_non_null(id);
	snprintf(lines, sizeof(lines), "Last-Event-ID: %.*s\r\n", (int)strcspn(id + 4, "\n"), id + 4);
	client_close(&some);
	log_and_send(&s, EVENT_RESET, 1); /* 10, missed by the one that left */
	ask(&s, &again, "?kind=reset&limit=0", lines);
	NET_WAIT(&s.net, client_has(&again, "\"id\":10,"));
	assert_int_equal(occurrences(&again, "event: "), 2);
	client_close(&again);
	client_close(&all);
	end(&s);
}

static void test_streams_are_bounded(void **state)
{
	struct client clients[EVENT_STREAMS_MAX];
	struct served s;

	serve(&s, 0);
	for (size_t i = 0; i < EVENT_STREAMS_MAX; i++) {
		ask(&s, &clients[i], "", "");
		NET_WAIT(&s.net, client_has(&clients[i], "event: hello"));
	}
	answer(&s, "", "", " 503 ");
	client_close(&clients[0]);
	for (size_t i = 1; i < EVENT_STREAMS_MAX; i++)
		client_close(&clients[i]);
	log_and_send(&s, EVENT_LINK, 1); /* finds out that they left */
	net_run_for(&s.net, 50 * NS_PER_MS);
	log_and_send(&s, EVENT_LINK, 1);
	net_run_for(&s.net, 50 * NS_PER_MS);
	answer(&s, "", "", " 200 ");
	end(&s);
}

/* A reader that does not read until the end: what it got, and what it was told that it lost, is all there was, in order. */
static void test_slow_reader_sees_its_gap(void **state)
{
	enum { EVENTS = 40000 };
	struct client slow;
	struct served s;
	unsigned got = 0, lost = 0, expected = 1;
	char request[] = "GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n", *line;

	serve(&s, 0);
	slow = (struct client){ .loop = s.net.loop };
	slow.fd = net_connect(http_listen_address(s.server, 0), 4096);
	assert_true(slow.fd >= 0);
	assert_int_equal(send(slow.fd, request, sizeof(request) - 1, 0), (ssize_t)sizeof(request) - 1);
	net_run_for(&s.net, 50 * NS_PER_MS);
	for (unsigned i = 0; i < EVENTS; i++) {
		log_and_send(&s, EVENT_DROP, i);
		if (i % 1000 == 0)
			net_run_for(&s.net, 2 * NS_PER_MS); /* some go out in between */
	}
	assert_int_equal(loop_fd_new(s.net.loop, slow.fd, LOOP_READABLE, client_ready, &slow, &slow.watch), 0);
	NET_WAIT(&s.net, client_has(&slow, "\"count\":39999,") && client_has(&slow, "\"id\":40000,"));
	line = slow.got.data;
	for (char *next; line && (next = strchr(line, '\n')); line = next + 1) {
		unsigned n;

		if (sscanf(line, "data: {\"frames\":%u}", &n) == 1) {
			lost += n;
			expected += n;
		} else if (sscanf(line, "data: {\"id\":%u,", &n) == 1) {
			assert_int_equal(n, expected); /* so the gap is told just where it is */
			expected = n + 1;
			got++;
		}
	}
	print_message("# a reader that was too slow got %u of %u events and was told of %u\n", got, EVENTS, lost);
	assert_int_equal(got + lost, EVENTS);
	assert_true(lost > 1000);
	client_close(&slow);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_flood_pushes_out_only_its_own_kind),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_what_was_missed_is_told_once),
		cmocka_unit_test(test_kinds_have_names),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_of_hostile_bytes),
		cmocka_unit_test(test_json_text),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_stream_replays_goes_on_and_is_resumed),
		cmocka_unit_test(test_streams_are_bounded),
		cmocka_unit_test(test_slow_reader_sees_its_gap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
