/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/event_feed.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/buffer.h"
#include "lib/clock.h"

#define QUEUE_FRAMES_MAX 8192 /* per stream; about 3 MB, below the limit in bytes of lib/http_stream.c */

struct reader {
	struct reader *prev, *next;
	struct event_feed *feed;
	struct http_stream *stream;
	struct event_filter filter;
};

struct event_feed {
	const struct event_log *log;
	const struct event_code_names *names;
	long long run;
	size_t slack;
	struct reader *readers;
	size_t n_readers;
	struct buffer text; /* of the event being sent */
};

/* A request, understood. */
struct wanted {
	struct event_filter filter;
	bool resumed;         /* by Last-Event-ID */
	const char *bad_kind; /* NULL: none */
};

int event_feed_new(const struct event_log *log, const struct event_code_names *names, struct event_feed **ret_feed)
{
	struct event_feed *feed = calloc(1, sizeof(*feed));

	if (!feed)
		return -ENOMEM;
	feed->log = log;
	feed->names = names;
	feed->run = (long long)(wall_now().ns / (int64_t)NS_PER_SEC);
	*ret_feed = feed;
	return 0;
}

void event_feed_free(struct event_feed *feed)
{
	if (!feed)
		return;
	assert(!feed->readers);
	buffer_done(&feed->text);
	free(feed);
}

void event_feed_set_slack(struct event_feed *feed, size_t frames)
{
	feed->slack = frames < QUEUE_FRAMES_MAX ? frames : QUEUE_FRAMES_MAX;
}

static void send_to(struct reader *reader, const struct event_entry *entry)
{
	const struct buffer *text = &reader->feed->text;
	char id[48];

	snprintf(id, sizeof(id), "%lld-%llu", reader->feed->run, (unsigned long long)entry->id);
	http_stream_send_id(reader->stream, id, event_kind_name(entry->event.kind), text->data, text->len);
}

static bool write_text(struct event_feed *feed, const struct event_entry *entry)
{
	buffer_clear(&feed->text);
	return json_write(event_json(entry, feed->names), &feed->text) == 0;
}

void event_feed_send(struct event_feed *feed, const struct event_entry *entry)
{
	bool written = false;

	for (struct reader *reader = feed->readers; reader; reader = reader->next) {
		if (!event_filter_takes(&reader->filter, entry))
			continue;
		if (!written && !write_text(feed, entry))
			return; /* out of memory: the readers see the missing ID */
		written = true;
		send_to(reader, entry);
	}
}

/* Requests */

static void take_kind(const char *value, void *userdata)
{
	struct wanted *wanted = userdata;
	int kind = event_kind_parse(value);

	if (kind < 0)
		wanted->bad_kind = value;
	else
		wanted->filter.kinds |= 1u << kind;
}

/* Digits only: strtoull alone takes signs and spaces too. */
static bool parse_number(const char *text, uint64_t *ret_value)
{
	unsigned long long value;

	if (!text[0] || text[strspn(text, "0123456789")])
		return false;
	errno = 0;
	value = strtoull(text, NULL, 10);
	if (errno)
		return false;
	*ret_value = value;
	return true;
}

/* "17", or "RUN-17" as in the stream. Of another run, all of this one is new. */
static bool parse_id(const struct event_feed *feed, const char *text, uint64_t *ret_id)
{
	const char *dash = strchr(text, '-');
	char run[24];
	uint64_t id;

	if (!parse_number(dash ? dash + 1 : text, &id))
		return false;
	snprintf(run, sizeof(run), "%lld", feed->run);
	if (dash && (strlen(run) != (size_t)(dash - text) || strncmp(run, text, (size_t)(dash - text))))
		id = 0;
	*ret_id = id > event_log_newest(feed->log) ? 0 : id;
	return true;
}

/* False: answered. */
static bool understand(struct http_request *request, const struct event_feed *feed, struct wanted *wanted)
{
	const char *last = http_request_header(request, "Last-Event-ID");
	const char *since = http_request_query(request, "since"), *limit = http_request_query(request, "limit");
	char kinds[256] = "";
	uint64_t number;

	*wanted = (struct wanted){ .filter.limit = SIZE_MAX };
	http_request_query_each(request, "kind", take_kind, wanted);
	if (wanted->bad_kind) {
		for (unsigned i = 0; i < EVENT_KIND_COUNT; i++)
			snprintf(kinds + strlen(kinds), sizeof(kinds) - strlen(kinds), "%s%s", i ? ", " : "", event_kind_name(i));
		http_respond_text(request, 400, "kind=%.40s: there is no such kind of event; there are %s", wanted->bad_kind, kinds);
		return false;
	}
	if (since && !parse_id(feed, since, &wanted->filter.since)) {
		http_respond_text(request, 400, "since=%.40s: the ID of an event is needed, such as 17", since);
		return false;
	}
	if (limit && !parse_number(limit, &number)) {
		http_respond_text(request, 400, "limit=%.40s: a number of events is needed, such as 100", limit);
		return false;
	}
	/* A reader that comes back repeats its address; where it was counts more. */
	wanted->resumed = last && parse_id(feed, last, &wanted->filter.since);
	if (limit && !wanted->resumed)
		wanted->filter.limit = number < SIZE_MAX ? (size_t)number : SIZE_MAX;
	return true;
}

/* The document */

struct list {
	const struct event_feed *feed;
	json_t *events;
};

static void append(const struct event_entry *entry, void *userdata)
{
	struct list *list = userdata;

	/* Takes the reference; a NULL fails, and the count below tells. */
	json_array_append_new(list->events, event_json(entry, list->feed->names));
}

static json_t *document(const struct event_feed *feed, const struct event_filter *filter)
{
	struct list list = { .feed = feed, .events = json_array() };
	size_t n = event_log_each(feed->log, filter, append, &list);

	if (json_array_size(list.events) != n) {
		json_decref(list.events);
		return NULL;
	}
	return json_pack("{s:s, s:{s:I, s:I, s:b, s:o}}", "status", "success", "data",
			 "run", (json_int_t)feed->run, "newest", (json_int_t)event_log_newest(feed->log),
			 "complete", event_log_complete(feed->log, filter), "events", list.events);
}

static void respond_document(struct http_request *request, const struct event_feed *feed, const struct event_filter *filter)
{
	struct buffer out = BUFFER_INIT;
	struct http_response response = { .status = 200, .content_type = "application/json", .owned = true };

	if (json_write(document(feed, filter), &out) < 0) {
		buffer_done(&out);
		http_respond_text(request, 503, "out of memory");
		return;
	}
	response.data = buffer_steal(&out, &response.len);
	http_respond(request, &response);
}

/* The stream */

static void on_close(struct http_stream *stream, void *userdata)
{
	struct reader *reader = userdata;

	if (reader->prev)
		reader->prev->next = reader->next;
	else
		reader->feed->readers = reader->next;
	if (reader->next)
		reader->next->prev = reader->prev;
	reader->feed->n_readers--;
	free(reader);
}

static void replay(const struct event_entry *entry, void *userdata)
{
	struct reader *reader = userdata;

	if (write_text(reader->feed, entry))
		send_to(reader, entry);
}

static void greet(struct reader *reader)
{
	struct event_feed *feed = reader->feed;

	buffer_clear(&feed->text);
	if (json_write(json_pack("{s:s, s:I, s:I, s:b}", "version", NETSONDE_VERSION, "run", (json_int_t)feed->run,
				 "newest", (json_int_t)event_log_newest(feed->log),
				 "complete", event_log_complete(feed->log, &reader->filter)), &feed->text) == 0)
		http_stream_send(reader->stream, "hello", feed->text.data, feed->text.len);
}

static void open_stream(struct http_request *request, struct event_feed *feed, const struct event_filter *filter)
{
	size_t frames = (size_t)EVENT_LOG_MAX * EVENT_KIND_COUNT + 2 + feed->slack;
	struct reader *reader;

	if (feed->n_readers >= EVENT_STREAMS_MAX) {
		http_respond_text(request, 503, "%d streams of events are open, which is as many as there may be", EVENT_STREAMS_MAX);
		return;
	}
	reader = calloc(1, sizeof(*reader));
	if (reader)
		reader->stream = http_stream_open(request, frames < QUEUE_FRAMES_MAX ? frames : QUEUE_FRAMES_MAX, on_close, reader);
	if (!reader || !reader->stream) {
		free(reader);
		http_respond_text(request, 503, "out of memory");
		return;
	}
	reader->feed = feed;
	reader->filter = *filter;
	reader->next = feed->readers;
	if (reader->next)
		reader->next->prev = reader;
	feed->readers = reader;
	feed->n_readers++;
	http_stream_tell_gaps(reader->stream, "lost");
	greet(reader);
	event_log_each(feed->log, filter, replay, reader);
}

static bool wants_document(const struct http_request *request)
{
	const char *accept = http_request_header(request, "Accept");

	return accept && strcasestr(accept, "application/json") && !strcasestr(accept, "text/event-stream");
}

void event_feed_handle(struct http_request *request, struct event_feed *feed)
{
	struct wanted wanted;

	if (!understand(request, feed, &wanted))
		return;
	if (wants_document(request))
		respond_document(request, feed, &wanted.filter);
	else if (!strcmp(http_request_method(request), "HEAD")) /* a stream without a body would never end */
		http_respond(request, &(struct http_response){ .status = 200, .content_type = "text/event-stream" });
	else
		open_stream(request, feed, &wanted.filter);
}
