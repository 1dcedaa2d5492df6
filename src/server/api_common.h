/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the JSON endpoints share: parameters of GET and POST alike, times and
 * steps as Prometheus' API takes them, and its envelope
 * {"status":"success","data":...} or {"status":"error","errorType":...,"error":...}.
 */
#pragma once
#include <stdint.h>
#include "lib/buffer.h"
#include "lib/http.h"

#define API_BAD_DATA "bad_data"       /* 400: the request is wrong */
#define API_EXECUTION "execution"     /* 422: it is right, but cannot be evaluated */
#define API_UNAVAILABLE "unavailable" /* 503: the server cannot answer now */
#define API_NOT_FOUND "not_found"     /* 404 */

/* The form in a POST body, or the query of the address. */
struct api_params {
	const struct http_request *request;
	char *form;   /* decoded pairs: name NUL value NUL ...; NULL for GET */
	size_t form_len;
};
int api_params_init(struct api_params *params, const struct http_request *request); /* -ENOMEM */
void api_params_done(struct api_params *params);
const char *api_param(const struct api_params *params, const char *name); /* the first, or NULL */
size_t api_param_each(const struct api_params *params, const char *name, void (*fn)(const char *value, void *ud),
		      void *ud);

/* Unix seconds with a fraction, or RFC 3339. Within years 1900..9999. */
int api_parse_time(const char *text, int64_t *ret_ms);
/* Seconds with a fraction, or "15s". At least 1 ms. */
int api_parse_step(const char *text, int64_t *ret_ms);
/* A time parameter with a default. Answers 400 itself when it is bad, then returns -EINVAL. */
int api_time_param(struct http_request *request, const struct api_params *params, const char *name, int64_t fallback_ms,
		   int64_t *ret_ms);
/* RFC 3339 in UTC with ms; t_ms INT64_MIN is the year 1, as Prometheus shows what never was. */
void api_write_time(struct buffer *out, int64_t t_ms);

void api_fail(struct http_request *request, unsigned status, const char *type, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Sends `out`, the whole body, gzip'ed where that pays, and frees it. */
void api_send(struct http_request *request, struct buffer *out);
