/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP server (libmicrohttpd, wrapped in lib/http*.c only), driven by the loop:
 * no threads, so handlers share the loop's data without locks and must be quick.
 *
 * Limits that are always on: request line and headers (32 KiB memory pool),
 * body, connections, connections per client address, idle time-out, twice that
 * for a whole request, HTTP_ANSWER_MAX_S for sending an answer, and the memory of
 * what clients have not fetched yet (unsent_max: half of it is for answers, half
 * for streams). Each refusal is counted. Methods other than a
 * route's get 405 with Allow, unknown paths 404. Security headers (nosniff, frame
 * denial, referrer, CSP given by the options) go on every response but the plain
 * ones that libmicrohttpd itself gives to malformed requests. HEAD is GET
 * without the body.
 *
 * Against scripts of foreign sites in a local user's browser: on a loopback
 * address a Host header that is neither an IP literal nor "localhost" gets 403
 * (DNS rebinding), and everywhere a request other than GET and HEAD that the
 * browser marks as coming from another site does (cross-site request forgery), and
 * so does a GET below own_site_path unless the user himself went there. The first
 * needs a loopback address to listen on: behind ":9435" or an address of the LAN the
 * Host header may rightly be any name, so there a foreign page that rebinds its name
 * to that address is not told from a colleague. Browsers send their marks only to
 * https and to this host; elsewhere Origin stands in, which plain GETs do not have.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/error.h"
#include "lib/loop.h"

#define HTTP_ANSWER_MAX_S 600          /* an answer that is not fetched by then is cut off */
#define HTTP_ANSWER_SMALL (64u * 1024) /* bytes; such answers are bounded by the number of connections */

struct http_server;
struct http_request;
struct http_stream;

/* Must answer by exactly one of http_respond*, http_stream_open. */
typedef void (*http_handler)(struct http_request *request, void *userdata);

struct http_route {
	const char *method; /* "GET" (serves HEAD too), "POST" */
	const char *path;   /* exact; a trailing '*' matches any rest */
	http_handler handler;
	void *userdata;     /* of this route's handler; NULL: the server's */
};

struct http_options {
	/* "127.0.0.1:9435", "[::1]:9435", "localhost:9435" (127.0.0.1), ":9435" (all addresses, both families) */
	const char *const *listen;
	size_t n_listen;
	const struct http_route *routes; /* borrowed, ended by a NULL path; first match wins */
	void *userdata;
	unsigned connections_max;            /* 0: 1024 */
	unsigned connections_per_client_max; /* 0: no limit of its own */
	unsigned idle_timeout_s;             /* 0: 30; streams may be idle for ever */
	size_t body_max;                     /* bytes; 0: 64 KiB */
	size_t unsent_max;                   /* bytes of answers and of stream queues; 0: 256 MiB */
	unsigned answer_timeout_s;           /* 0: HTTP_ANSWER_MAX_S */
	const char *content_security_policy; /* NULL: none */
	const char *own_site_path;           /* beginning of the paths that pages of other sites may not ask; NULL: none */
};

struct http_stats {
	uint64_t requests; /* all, also refused and malformed ones */
	uint64_t errors;   /* answers of status 500 or more; connections lost for want of memory or descriptors */
	/* Turned away before a handler: connections over a limit; requests that are malformed, too large, incomplete
	 * at the time-out, foreign, or for an unknown path or method. */
	uint64_t refused;
	unsigned connections, streams; /* now; a stream is a connection too */
	uint64_t stream_frames_dropped;
	uint64_t answers_refused; /* large ones, with 503, because too much was unsent */
	uint64_t answers_cut;     /* not fetched within answer_timeout_s */
	size_t unsent_answers, unsent_streams; /* bytes now */
};

/* Port in use, no permission and bad addresses are told apart in ret_error ("cannot listen on 127.0.0.1:9435:
 * the port is in use; give another with --web.listen-address"). On failure nothing listens. */
int http_open(struct loop *loop, const struct http_options *options, struct http_server **ret_server,
	      struct error *ret_error);
/* Streams are ended. Safe on NULL; not from inside a handler or on_close. */
void http_close(struct http_server *server);
void http_stats(const struct http_server *server, struct http_stats *ret_stats);
/* The address really bound (port 0 resolved), "127.0.0.1:43215"; index < n_listen. Borrowed. */
const char *http_listen_address(const struct http_server *server, size_t index);

const char *http_request_path(const struct http_request *request);
const char *http_request_method(const struct http_request *request);
const char *http_request_header(const struct http_request *request, const char *name);  /* NULL when absent */
/* First value, decoded; NULL when absent. */
const char *http_request_query(const struct http_request *request, const char *name);
/* Calls fn for each value of `name` in order. Returns how many. */
size_t http_request_query_each(const struct http_request *request, const char *name,
			       void (*fn)(const char *value, void *ud), void *ud);
const void *http_request_body(const struct http_request *request, size_t *ret_len);     /* POST */
const char *http_request_peer(const struct http_request *request);                      /* "192.0.2.1:4711" */

struct http_response {
	unsigned status;            /* 200, ... */
	const char *content_type;
	const void *data;           /* copied unless `borrowed` or `owned` */
	size_t len;
	bool borrowed;              /* data lives as long as the server (embedded assets) */
	bool owned;                 /* data is from malloc and is freed here, also when it cannot be sent */
	const char *content_encoding; /* data is encoded so ("gzip"), or NULL */
	const char *cache_control;  /* NULL: "no-store" */
	const char *const *headers; /* more: name, value, ..., NULL; or NULL */
};
void http_respond(struct http_request *request, const struct http_response *response);
/* text/plain, one sentence and a newline. */
void http_respond_text(struct http_request *request, unsigned status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
bool http_accepts_gzip(const struct http_request *request);
/* gzip `len` bytes at a level 1..9 into *ret_data (free() it). */
int http_gzip(const void *data, size_t len, int level, void **ret_data, size_t *ret_len);

/*
 * Server-sent events (WHATWG HTML, section 9.2). The stream has a queue bounded by
 * frames (at least 2) and bytes (4 MiB); when a browser is slow the oldest whole
 * frame is dropped and counted. A comment is sent as a heartbeat every 5 s, which
 * also finds clients that are gone. on_close is called once, also from
 * http_close; the stream is invalid afterwards, and nothing may be sent on it
 * from inside.
 */
typedef void (*http_stream_close_fn)(struct http_stream *stream, void *userdata);
/* NULL when out of memory: then on_close is not called, and the request is still to be answered. */
struct http_stream *http_stream_open(struct http_request *request, size_t queue_frames_max,
				     http_stream_close_fn on_close, void *userdata);
/* One event; data may contain newlines (each becomes a data: line). event NULL: unnamed. Copied once per stream. Goes
 * out in the loop's next iteration, from wherever it is called. */
void http_stream_send(struct http_stream *stream, const char *event, const char *data, size_t len);
/* The same with an ID, which the browser gives back as Last-Event-ID when it reconnects. */
void http_stream_send_id(struct http_stream *stream, const char *id, const char *event, const char *data, size_t len);
/* From now on the client is told where frames were dropped: in their place it gets an event of this name (borrowed) with
 * the data {"frames":N}. */
void http_stream_tell_gaps(struct http_stream *stream, const char *event);
uint64_t http_stream_dropped(const struct http_stream *stream);
