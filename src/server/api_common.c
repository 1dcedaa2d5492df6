/* SPDX-License-Identifier: Apache-2.0 */
/* See api_common.h. Everything here reads what strangers send. */
#include "server/api_common.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "lib/decimal.h"
#include "lib/flags.h"
#include "server/json_text.h"

#define GZIP_MIN 4096   /* bytes; below that the headers and the CPU time cost more than is saved */
#define GZIP_LEVEL 1    /* a tenth of the time of level 6 for a fifth more bytes on such JSON */
#define TIME_MIN_S (-2208988800.0) /* 1900 */
#define TIME_MAX_S 253402300799.0  /* the end of 9999 */
#define STEP_MAX_S 3.2e9           /* a century */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* application/x-www-form-urlencoded (WHATWG URL, section 5.1) to NUL-separated pairs. out has len + 2 bytes. */
static size_t decode_form(const char *in, size_t len, char *out)
{
	size_t n = 0;
	bool value = false;

	for (size_t i = 0; i <= len; i++) {
		const char c = i < len ? in[i] : '&';

		if (c == '&') {
			/* An empty value for a name without "=". */
			if (!value)
				out[n++] = '\0';
			out[n++] = '\0';
			value = false;
		} else if (c == '=' && !value) {
			out[n++] = '\0';
			value = true;
		} else if (c == '%' && i + 2 < len && hex(in[i + 1]) >= 0 && hex(in[i + 2]) >= 0) {
			const char byte = (char)(hex(in[i + 1]) * 16 + hex(in[i + 2]));

			/* A NUL inside would end the string early and shift the pairs. */
			out[n++] = byte ? byte : '?';
			i += 2;
		} else {
			out[n++] = c == '+' ? ' ' : c ? c : '?';
		}
	}
	return n;
}

int api_params_init(struct api_params *params, const struct http_request *request)
{
	size_t len;
	const char *body;

	*params = (struct api_params){ .request = request };
	if (strcmp(http_request_method(request), "POST") != 0)
		return 0;
	body = http_request_body(request, &len);
	params->form = malloc(2 * len + 2); /* "&&&" becomes two bytes each */
	if (!params->form)
		return -ENOMEM;
	params->form_len = decode_form(body, len, params->form);
	return 0;
}

void api_params_done(struct api_params *params)
{
	free(params->form);
}

struct first { const char *value; };

static void keep_first(const char *value, void *userdata)
{
	struct first *first = userdata;

	if (!first->value)
		first->value = value;
}

size_t api_param_each(const struct api_params *params, const char *name, void (*fn)(const char *value, void *ud),
		      void *ud)
{
	size_t n = http_request_query_each(params->request, name, fn, ud);

	for (size_t i = 0; i < params->form_len;) {
		const char *key = params->form + i, *value = key + strlen(key) + 1;

		if (strcmp(key, name) == 0) {
			fn(value, ud);
			n++;
		}
		i = (size_t)(value - params->form) + strlen(value) + 1;
	}
	return n;
}

const char *api_param(const struct api_params *params, const char *name)
{
	struct first first = { NULL };

	api_param_each(params, name, keep_first, &first);
	return first.value;
}

static int parse_rfc3339(const char *text, double *ret_s)
{
	struct tm tm = { 0 };
	const char *p = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	double fraction = 0;
	int offset = 0;

	if (!p)
		return -EINVAL;
	if (*p == '.') {
		size_t n = strspn(p + 1, "0123456789");

		if (n == 0 || !decimal_read(p, n + 1, &fraction))
			return -EINVAL;
		p += n + 1;
	}
	if (*p == '+' || *p == '-') {
		const int sign = *p == '-' ? -1 : 1;

		if (strlen(p) != 6 || p[3] != ':' || strspn(p + 1, "0123456789") != 2 ||
		    strspn(p + 4, "0123456789") != 2)
			return -EINVAL;
		offset = sign * (atoi(p + 1) * 3600 + atoi(p + 4) * 60);
	} else if (strcasecmp(p, "Z") != 0) {
		return -EINVAL;
	}
	*ret_s = (double)(timegm(&tm) - offset) + fraction;
	return 0;
}

int api_parse_time(const char *text, int64_t *ret_ms)
{
	double s;

	if (!decimal_read(text, strlen(text), &s) && parse_rfc3339(text, &s) < 0)
		return -EINVAL;
	if (!(s >= TIME_MIN_S && s <= TIME_MAX_S))
		return -EINVAL;
	*ret_ms = llround(s * 1e3);
	return 0;
}

int api_parse_step(const char *text, int64_t *ret_ms)
{
	uint64_t ns;
	double s;

	if (!decimal_read(text, strlen(text), &s)) {
		if (duration_parse(text, &ns) < 0)
			return -EINVAL;
		s = (double)ns / 1e9;
	}
	if (!(s >= 0.001 && s <= STEP_MAX_S))
		return -EINVAL;
	*ret_ms = llround(s * 1e3);
	return 0;
}

int api_time_param(struct http_request *request, const struct api_params *params, const char *name, int64_t fallback_ms,
		   int64_t *ret_ms)
{
	const char *text = api_param(params, name);

	if (!text || !*text) {
		*ret_ms = fallback_ms;
		return 0;
	}
	if (api_parse_time(text, ret_ms) == 0)
		return 0;
	api_fail(request, 400, API_BAD_DATA, "`%s` must be Unix seconds or an RFC 3339 time, but is `%s`", name, text);
	return -EINVAL;
}

void api_write_time(struct buffer *out, int64_t t_ms)
{
	time_t s = (time_t)(t_ms / 1000);
	struct tm tm;

	if (t_ms == INT64_MIN || !gmtime_r(&s, &tm)) {
		buffer_puts(out, "\"0001-01-01T00:00:00Z\"");
		return;
	}
	buffer_printf(out, "\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
		      tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(t_ms % 1000));
}

void api_fail(struct http_request *request, unsigned status, const char *type, const char *format, ...)
{
	struct buffer out = BUFFER_INIT;
	char text[1024];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	buffer_printf(&out, "{\"status\":\"error\",\"errorType\":\"%s\",\"error\":", type);
	json_text_string(&out, text);
	buffer_puts(&out, "}\n");
	if (buffer_ok(&out))
		http_respond(request, &(struct http_response){ .status = status, .content_type = "application/json",
			.data = out.data, .len = out.len });
	else
		http_respond_text(request, 503, "out of memory");
	buffer_done(&out);
}

void api_send(struct http_request *request, struct buffer *out)
{
	const char *vary[] = { "Vary", "Accept-Encoding", NULL };
	struct http_response response = { .status = 200, .content_type = "application/json", .owned = true,
					  .headers = vary };
	void *gzip = NULL;
	char *data, *exact;

	if (!buffer_ok(out)) {
		api_fail(request, 503, API_UNAVAILABLE, "out of memory");
		buffer_done(out);
		return;
	}
	if (out->len >= GZIP_MIN && http_accepts_gzip(request) &&
	    http_gzip(out->data, out->len, GZIP_LEVEL, &gzip, &response.len) == 0) {
		response.content_encoding = "gzip";
		data = gzip;
		buffer_done(out);
	} else {
		data = buffer_steal(out, &response.len);
	}
	/* A slow client may keep it for long, so without the room at its end. */
	exact = realloc(data, response.len);
	response.data = exact ? exact : data;
	http_respond(request, &response);
}
