/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP client (libcurl multi, wrapped here only), driven by the loop. Keeps
 * connections alive between fetches of one host. Only http and https, also after
 * redirects (at most 5); no proxy, whatever the environment says; never blocks
 * (name resolution runs in curl's thread). The answer's size is bounded while it
 * arrives. Passwords of a URL do not get into messages.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/error.h"
#include "lib/loop.h"

struct fetch;
struct fetch_job;

struct fetch_request {
	const char *url;
	const char *method;              /* NULL: GET */
	const char *const *headers;      /* "Accept: ...", ..., NULL; or NULL */
	const void *body;                /* copied; NULL: none */
	size_t body_len;
	uint64_t timeout_ns;             /* whole transfer; 0: 10 s */
	size_t response_max;             /* bytes after decompression; 0: 64 MiB */
};

struct fetch_response {
	/* 0: an HTTP answer came (any status); else -ETIMEDOUT, -ECONNREFUSED, -EFBIG, -EHOSTUNREACH (also: the name is
	 * unknown), -EPROTO (not HTTP, damaged, not trusted), -EIO */
	int r;
	const char *error;         /* one sentence when r != 0, else "" */
	long status;
	const char *content_type;  /* "" when absent */
	const char *data;          /* decompressed, NUL-terminated beyond len */
	size_t len;
	double duration_s;         /* start to last byte */
};

/* Everything in the response is valid only during the call, and so is the job. Never called from inside fetch_start.
 * May start and cancel jobs and free the fetch. */
typedef void (*fetch_fn)(struct fetch_job *job, const struct fetch_response *response, void *userdata);

/* The URL without user and password, for people to read; any text goes. free() it; NULL when out of memory. */
char *fetch_url_shown(const char *url);

/* connections_max 0: no limit. A job that waits for its turn does so within its time-out. */
int fetch_new(struct loop *loop, unsigned connections_max, struct fetch **ret_fetch);
void fetch_free(struct fetch *fetch); /* cancels what is under way, without calls */
/* -EINVAL for a bad URL. ret_job may be NULL. */
int fetch_start(struct fetch *fetch, const struct fetch_request *request, fetch_fn fn, void *userdata,
		struct fetch_job **ret_job, struct error *ret_error);
void fetch_cancel(struct fetch_job *job); /* no call follows; NULL is fine */
/* A response header by name, only inside the callback; NULL when absent. */
const char *fetch_response_header(struct fetch_job *job, const char *name);
