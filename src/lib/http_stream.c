/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Server-sent events (WHATWG HTML, section 9.2) on libmicrohttpd's response
 * from a callback.
 *
 * A stream owns a queue of whole frames, bounded in frames and in bytes; so are
 * the bytes of all queues together, where the longest queue pays. The
 * daemon takes bytes from its head when the socket has room; only frames of
 * which nothing was taken yet can be dropped, so the client never sees half of
 * one. With an empty queue the connection is suspended, and resumed by the next
 * frame.
 *
 * A suspended connection notices neither a time-out nor that its client is
 * gone. The heartbeat does: it looks for the client's end of the connection,
 * and its bytes provoke a reset from a host that forgot it.
 *
 * The response's free callback is the one place where a stream ends, whatever
 * the reason: the client left, a time-out, http_close.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/http_internal.h"

#define QUEUE_BYTES_MAX ((size_t)4 * 1024 * 1024) /* per client; some seconds of frames of a large site */
#define HEARTBEAT_NS (5 * NS_PER_SEC)             /* below the idle time-outs of usual proxies */
#define BLOCK ((size_t)16 * 1024)                 /* bytes taken by the daemon at once */
#define RETRY "retry: 1000\n\n"                   /* ms after which a browser reconnects */
#define HEARTBEAT ":\n\n"

struct frame {
	struct frame *next;
	bool event;         /* its loss counts; that of a heartbeat does not */
	size_t len;
	char data[];
};

struct http_stream {
	struct http_stream *prev, *next;
	struct http_server *server;
	struct http_listener *listener;
	struct MHD_Connection *connection;
	int fd;
	struct frame *head, *tail;
	size_t taken;       /* bytes of the head that the daemon has */
	size_t frames, bytes;
	size_t frames_max;
	bool suspended;
	bool ended;         /* nothing more is sent */
	uint64_t dropped;
	uint64_t gap;       /* dropped in front of the next frame that is not begun, and not told yet */
	const char *gap_event; /* NULL: it is not told */
	http_stream_close_fn on_close;
	void *userdata;
};

static void count_frame(struct http_stream *stream, const struct frame *frame, bool added)
{
	size_t *all = &stream->server->stats.unsent_streams;

	stream->frames += added ? 1 : -1;
	stream->bytes = added ? stream->bytes + frame->len : stream->bytes - frame->len;
	*all = added ? *all + frame->len : *all - frame->len;
}

static void pop_head(struct http_stream *stream)
{
	struct frame *frame = stream->head;

	stream->head = frame->next;
	if (!stream->head)
		stream->tail = NULL;
	count_frame(stream, frame, false);
	stream->taken = 0;
	free(frame);
}

static void count_dropped(struct http_stream *stream)
{
	stream->dropped++;
	stream->gap++;
	stream->server->stats.stream_frames_dropped++;
}

/* Drops the oldest frame that was not begun. False when there is none. */
static bool drop_oldest(struct http_stream *stream)
{
	struct frame *begun = stream->taken ? stream->head : NULL;
	struct frame *oldest = begun ? begun->next : stream->head;

	if (!oldest)
		return false;
	if (oldest->event)
		count_dropped(stream);
	if (begun) {
		begun->next = oldest->next;
		if (!begun->next)
			stream->tail = begun;
		count_frame(stream, oldest, false);
		free(oldest);
	} else {
		pop_head(stream);
	}
	return true;
}

static void wake(struct http_stream *stream)
{
	if (!stream->suspended)
		return;
	stream->suspended = false;
	MHD_resume_connection(stream->connection);
	http_listener_kick(stream->listener);
}

static size_t droppable(const struct http_stream *stream)
{
	return stream->bytes - (stream->taken ? stream->head->len : 0);
}

/* So that slow clients do not take the frames of those that keep up. */
static bool drop_of_the_longest(struct http_server *server)
{
	struct http_stream *longest = server->streams;

	for (struct http_stream *stream = longest; stream; stream = stream->next)
		if (droppable(stream) > droppable(longest))
			longest = stream;
	return drop_oldest(longest);
}

static void push(struct http_stream *stream, struct frame *frame)
{
	struct http_server *server = stream->server;
	bool fits = frame->len <= QUEUE_BYTES_MAX;

	while (fits && (stream->frames >= stream->frames_max || stream->bytes + frame->len > QUEUE_BYTES_MAX))
		fits = drop_oldest(stream);
	while (fits && server->stats.unsent_streams + frame->len > server->unsent_max)
		fits = drop_of_the_longest(server);
	if (!fits) {
		if (frame->event)
			count_dropped(stream);
		free(frame);
		return;
	}
	frame->next = NULL;
	if (stream->tail)
		stream->tail->next = frame;
	else
		stream->head = frame;
	stream->tail = frame;
	count_frame(stream, frame, true);
	wake(stream);
}

static void push_raw(struct http_stream *stream, const char *text)
{
	const size_t len = strlen(text);
	struct frame *frame = malloc(sizeof(*frame) + len);

	if (!frame)
		return; /* a heartbeat or a hint, not data */
	frame->event = false;
	frame->len = len;
	memcpy(frame->data, text, len);
	push(stream, frame);
}

static struct frame *frame_new(const char *id, const char *event, const char *data, size_t len);

/* Puts the word about a gap in front of what is queued. It does not count against the queue's limits. */
static void tell_gap(struct http_stream *stream)
{
	char data[48];
	int len = snprintf(data, sizeof(data), "{\"frames\":%llu}", (unsigned long long)stream->gap);
	struct frame *frame = frame_new(NULL, stream->gap_event, data, (size_t)len);

	if (!frame)
		return; /* the next one tells it */
	frame->event = false;
	frame->next = stream->head;
	stream->head = frame;
	if (!stream->tail)
		stream->tail = frame;
	count_frame(stream, frame, true);
	stream->gap = 0;
}

/* The daemon's reader: gives what is queued, or suspends the connection. */
static ssize_t take(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct http_stream *stream = cls;
	size_t n = 0;

	while (n < max) {
		size_t len;

		if (stream->gap && stream->gap_event && !stream->taken)
			tell_gap(stream);
		if (!stream->head)
			break;
		len = stream->head->len - stream->taken;
		if (len > max - n)
			len = max - n;
		memcpy(buf + n, stream->head->data + stream->taken, len);
		n += len;
		stream->taken += len;
		if (stream->taken == stream->head->len)
			pop_head(stream);
	}
	if (n)
		return (ssize_t)n;
	if (stream->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	stream->suspended = true;
	MHD_suspend_connection(stream->connection);
	return 0;
}

static void call_on_close(struct http_stream *stream)
{
	http_stream_close_fn on_close = stream->on_close;

	stream->on_close = NULL;
	if (on_close)
		on_close(stream, stream->userdata);
}

static void stream_free(void *cls)
{
	struct http_stream *stream = cls;
	struct http_server *server = stream->server;

	stream->ended = true;
	call_on_close(stream);
	if (stream->prev)
		stream->prev->next = stream->next;
	else
		server->streams = stream->next;
	if (stream->next)
		stream->next->prev = stream->prev;
	if (!server->streams)
		loop_timer_stop(server->heartbeat);
	server->stats.streams--;
	while (stream->head)
		pop_head(stream);
	free(stream);
}

static struct http_stream *stream_new(struct http_request *request, size_t queue_frames_max)
{
	struct http_server *server = request->server;
	struct http_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return NULL;
	stream->server = server;
	stream->listener = request->listener;
	stream->connection = request->connection;
	stream->fd = MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
	stream->frames_max = queue_frames_max > 1 ? queue_frames_max : 2; /* one may be begun and cannot be dropped */
	stream->next = server->streams;
	if (stream->next)
		stream->next->prev = stream;
	else
		loop_timer_start(server->heartbeat, HEARTBEAT_NS, HEARTBEAT_NS);
	server->streams = stream;
	server->stats.streams++;
	return stream;
}

struct http_stream *http_stream_open(struct http_request *request, size_t queue_frames_max,
				     http_stream_close_fn on_close, void *userdata)
{
	struct http_stream *stream;
	struct MHD_Response *response;

	assert(!request->answered);
	stream = stream_new(request, queue_frames_max);
	if (!stream)
		return NULL;
	response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, take, stream, stream_free);
	if (!response) {
		stream_free(stream);
		return NULL;
	}
	/* Proxies that buffer answers must not buffer this one (X-Accel-Buffering is nginx's switch). */
	if (http_add_common_headers(request->server, response) &&
	    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream") == MHD_YES &&
	    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store") == MHD_YES &&
	    MHD_add_response_header(response, "X-Accel-Buffering", "no") == MHD_YES)
		request->answered = MHD_queue_response(request->connection, MHD_HTTP_OK, response) == MHD_YES;
	if (request->answered) {
		stream->on_close = on_close;
		stream->userdata = userdata;
		http_connection_of(request->connection)->streaming = true;
		push_raw(stream, RETRY);
	}
	MHD_destroy_response(response); /* the connection has its own reference, or the stream ends here */
	return request->answered ? stream : NULL;
}

/* Length of a line, and of the line ending after it: LF, CR or both (HTML, section 9.2.5). */
static size_t line_length(const char *data, size_t len, size_t *ret_ending)
{
	size_t n = 0;

	while (n < len && data[n] != '\n' && data[n] != '\r')
		n++;
	*ret_ending = n == len ? 0 : (data[n] == '\r' && n + 1 < len && data[n + 1] == '\n') ? 2 : 1;
	return n;
}

static char *put(char *to, const char *from, size_t len)
{
	memcpy(to, from, len);
	return to + len;
}

static struct frame *frame_new(const char *id, const char *event, const char *data, size_t len)
{
	size_t lines = 1, ending, n, event_len = event ? strlen(event) : 0, id_len = id ? strlen(id) : 0;
	struct frame *frame;
	char *p;

	if (!len)
		data = "";
	for (size_t i = 0; i < len; i++)
		lines += data[i] == '\n' || data[i] == '\r';
	frame = malloc(sizeof(*frame) + id_len + event_len + len + lines * strlen("data: \n") +
		       strlen("id: \nevent: \n\n"));
	if (!frame)
		return NULL;
	p = frame->data;
	if (id) {
		p = put(p, "id: ", 4);
		p = put(p, id, id_len);
		*p++ = '\n';
	}
	if (event) {
		p = put(p, "event: ", 7);
		p = put(p, event, event_len);
		*p++ = '\n';
	}
	do {
		n = line_length(data, len, &ending);
		p = put(p, "data: ", 6);
		p = put(p, data, n);
		*p++ = '\n';
		data += n + ending;
		len -= n + ending;
	} while (ending);
	*p++ = '\n';
	frame->event = true;
	frame->len = (size_t)(p - frame->data);
	return frame;
}

void http_stream_send_id(struct http_stream *stream, const char *id, const char *event, const char *data, size_t len)
{
	struct frame *frame;

	assert((!event || !strpbrk(event, "\r\n")) && (!id || !strpbrk(id, "\r\n")));
	if (stream->ended)
		return;
	frame = frame_new(id, event, data, len);
	if (!frame) {
		count_dropped(stream);
		return;
	}
	push(stream, frame);
}

void http_stream_send(struct http_stream *stream, const char *event, const char *data, size_t len)
{
	http_stream_send_id(stream, NULL, event, data, len);
}

void http_stream_tell_gaps(struct http_stream *stream, const char *event)
{
	stream->gap_event = event;
	stream->gap = 0;
}

uint64_t http_stream_dropped(const struct http_stream *stream)
{
	return stream->dropped;
}

static bool client_is_gone(const struct http_stream *stream)
{
	char byte;

	return recv(stream->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void http_streams_heartbeat(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct http_server *server = userdata;

	for (struct http_stream *stream = server->streams; stream; stream = stream->next) {
		if (client_is_gone(stream)) {
			stream->ended = true;
			shutdown(stream->fd, SHUT_RDWR); /* also ends a send that waits for room */
			wake(stream);
		} else if (!stream->head) {
			push_raw(stream, HEARTBEAT);
		}
	}
}

void http_streams_end(struct http_server *server)
{
	for (struct http_stream *stream = server->streams; stream; stream = stream->next) {
		stream->ended = true;
		wake(stream);
	}
}
