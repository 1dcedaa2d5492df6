/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests and responses as handlers see them, and the checks against scripts
 * of foreign sites that run in the browser of a user of this host:
 *
 * - DNS rebinding: the script's own host name is made to resolve to 127.0.0.1,
 *   so the browser lets it read the dashboard. The Host header then still has
 *   the foreign name; on a loopback address only IP literals and "localhost"
 *   are served.
 * - Cross-site request forgery: a script may send a POST anywhere without being
 *   able to read the answer. The browser says so in Sec-Fetch-Site (W3C Fetch
 *   Metadata), or else in Origin (RFC 6454).
 * - A script may make the server work by GETs whose answers it cannot read. Where
 *   that costs something only a user who follows a link may come from elsewhere.
 * Clients that are no browsers send neither and are not concerned.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/http_internal.h"

#define HOST_MAX 256 /* bytes of a Host header that is looked at; a DNS name has at most 253 */

const char *http_request_path(const struct http_request *request)
{
	return request->path;
}

const char *http_request_method(const struct http_request *request)
{
	return request->method;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
	return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const void *http_request_body(const struct http_request *request, size_t *ret_len)
{
	*ret_len = request->body_len;
	return request->body_len ? request->body : "";
}

const char *http_request_peer(const struct http_request *request)
{
	return request->peer;
}

struct query_walk {
	const char *name;
	void (*fn)(const char *value, void *ud);
	void *ud;
	const char *first;
	size_t n;
};

static enum MHD_Result query_step(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct query_walk *walk = cls;

	if (strcmp(key, walk->name))
		return MHD_YES;
	value = value ? value : ""; /* "?name" without "=" */
	if (!walk->n++)
		walk->first = value;
	if (walk->fn)
		walk->fn(value, walk->ud);
	return MHD_YES;
}

const char *http_request_query(const struct http_request *request, const char *name)
{
	struct query_walk walk = { .name = name };

	MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, query_step, &walk);
	return walk.first;
}

size_t http_request_query_each(const struct http_request *request, const char *name,
			       void (*fn)(const char *value, void *ud), void *ud)
{
	struct query_walk walk = { .name = name, .fn = fn, .ud = ud };

	MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, query_step, &walk);
	return walk.n;
}

/* "localhost", "localhost:port", "192.0.2.1:port", "[::1]:port". The port does not matter. */
static bool host_is_own(const char *host)
{
	const bool ipv6 = host[0] == '[';
	unsigned char address[sizeof(struct in6_addr)];
	char name[HOST_MAX];
	size_t len;

	host += ipv6;
	len = strcspn(host, ipv6 ? "]" : ":");
	if (len >= sizeof(name))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	if (ipv6)
		return host[len] == ']' && (!host[len + 1] || host[len + 1] == ':') &&
		       inet_pton(AF_INET6, name, address) == 1;
	return !strcasecmp(name, "localhost") || inet_pton(AF_INET, name, address) == 1;
}

/* Every Host header must pass: clients and servers may differ in which of two they believe. */
static enum MHD_Result host_step(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
	bool *foreign = cls;

	if (!strcasecmp(key, MHD_HTTP_HEADER_HOST) && value && value[0] && !host_is_own(value))
		*foreign = true;
	return MHD_YES;
}

static bool cross_site(const struct http_request *request)
{
	const char *site = http_request_header(request, "Sec-Fetch-Site");
	const char *origin = http_request_header(request, "Origin");
	const char *host = http_request_header(request, MHD_HTTP_HEADER_HOST);

	if (site)
		return strcmp(site, "same-origin") && strcmp(site, "none");
	if (!origin)
		return false;
	origin = strstr(origin, "://");
	return !origin || !host || strcasecmp(origin + 3, host);
}

/* Of a GET: from a script, a picture or a frame of another site, and not by a link the user followed. */
static bool foreign_get(const struct http_request *request)
{
	const char *site = http_request_header(request, "Sec-Fetch-Site");
	const char *mode = http_request_header(request, "Sec-Fetch-Mode");
	const char *dest = http_request_header(request, "Sec-Fetch-Dest");

	if (!site)
		return cross_site(request);
	if (strcmp(site, "cross-site"))
		return false;
	return !mode || strcmp(mode, "navigate") || (dest && strcmp(dest, "document"));
}

const char *http_request_foreign(const struct http_request *request)
{
	const char *own = request->server->own_site_path;
	bool foreign = false;

	if (request->listener->loopback)
		MHD_get_connection_values(request->connection, MHD_HEADER_KIND, host_step, &foreign);
	if (foreign)
		return "this host name is not served on a loopback address (protection against DNS rebinding): "
		       "use the IP address or localhost";
	if (strcmp(request->method, "GET") && strcmp(request->method, "HEAD") && cross_site(request))
		return "a page of another site must not change anything here";
	if (own && !strncmp(request->path, own, strlen(own)) && foreign_get(request))
		return "a page of another site must not ask here";
	return NULL;
}

bool http_add_common_headers(const struct http_server *server, struct MHD_Response *response)
{
	const char *csp = server->content_security_policy;

	return MHD_add_response_header(response, "X-Content-Type-Options", "nosniff") == MHD_YES &&
	       MHD_add_response_header(response, "X-Frame-Options", "DENY") == MHD_YES &&
	       MHD_add_response_header(response, "Referrer-Policy", "no-referrer") == MHD_YES &&
	       (!csp || MHD_add_response_header(response, "Content-Security-Policy", csp) == MHD_YES);
}

static bool add_headers(const struct http_server *server, const struct http_response *r, struct MHD_Response *response)
{
	const char *cache_control = r->cache_control ? r->cache_control : "no-store";

	if (!http_add_common_headers(server, response) ||
	    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, cache_control) != MHD_YES)
		return false;
	if (r->content_type &&
	    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, r->content_type) != MHD_YES)
		return false;
	if (r->content_encoding &&
	    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_ENCODING, r->content_encoding) != MHD_YES)
		return false;
	for (const char *const *h = r->headers; h && h[0]; h += 2) {
		if (MHD_add_response_header(response, h[0], h[1]) != MHD_YES)
			return false;
	}
	return true;
}

static struct MHD_Response *response_new(const struct http_response *r)
{
	/* libmicrohttpd only reads the buffer, its type is older than const. */
	union { const void *in; void *out; } data = { .in = r->data };
	struct MHD_Response *response;

	response = MHD_create_response_from_buffer(r->len, data.out,
						   r->borrowed ? MHD_RESPMEM_PERSISTENT :
						   r->owned    ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_MUST_COPY);
	if (!response && r->owned)
		free(data.out);
	return response;
}

/* Whether the answer may wait in memory until the client has fetched it. */
static bool account_for(struct http_request *request, const struct http_response *r)
{
	struct http_server *server = request->server;

	if (r->borrowed)
		return true;
	if (r->len > HTTP_ANSWER_SMALL &&
	    (r->len > server->unsent_max || server->stats.unsent_answers > server->unsent_max - r->len)) {
		server->stats.answers_refused++;
		return false;
	}
	http_connection_of(request->connection)->unsent += r->len;
	server->stats.unsent_answers += r->len;
	return true;
}

void http_respond(struct http_request *request, const struct http_response *r)
{
	struct MHD_Response *response;

	assert(!request->answered && !(r->borrowed && r->owned));
	if (!account_for(request, r)) {
		if (r->owned) {
			union { const void *in; void *out; } data = { .in = r->data };

			free(data.out);
		}
		http_respond_text(request, MHD_HTTP_SERVICE_UNAVAILABLE,
				  "too much waits to be fetched by slow clients; ask for less, or again later");
		return;
	}
	response = response_new(r);
	if (!response)
		return; /* out of memory: the caller of the handler closes the connection and counts it */
	if (add_headers(request->server, r, response))
		request->answered = MHD_queue_response(request->connection, r->status, response) == MHD_YES;
	MHD_destroy_response(response);
	if (request->answered && r->status >= 500)
		request->server->stats.errors++;
}

void http_respond_text(struct http_request *request, unsigned status, const char *format, ...)
{
	char text[1024];
	va_list ap;
	int len;

	va_start(ap, format);
	len = vsnprintf(text, sizeof(text) - 1, format, ap);
	va_end(ap);
	if (len < 0)
		len = 0;
	if ((size_t)len > sizeof(text) - 2)
		len = sizeof(text) - 2;
	text[len++] = '\n';
	http_respond(request, &(struct http_response){
		.status = status,
		.content_type = "text/plain; charset=utf-8",
		.data = text,
		.len = (size_t)len,
	});
}

/* The weight of one element of Accept-Encoding, without its name: ";q=0.5". */
static double weight(const char *parameters, size_t len)
{
	char text[32];
	const char *q;

	if (len >= sizeof(text))
		return 0;
	memcpy(text, parameters, len);
	text[len] = '\0';
	q = strcasestr(text, "q=");
	return q ? strtod(q + 2, NULL) : 1;
}

bool http_accepts_gzip(const struct http_request *request)
{
	const char *p = http_request_header(request, MHD_HTTP_HEADER_ACCEPT_ENCODING);
	double any = 0;

	while (p && *p) {
		size_t len, name;

		p += strspn(p, " \t,");
		len = strcspn(p, ",");
		name = strcspn(p, " \t;,");
		if ((name == 4 && !strncasecmp(p, "gzip", 4)) || (name == 6 && !strncasecmp(p, "x-gzip", 6)))
			return weight(p + name, len - name) > 0;
		if (name == 1 && *p == '*')
			any = weight(p + name, len - name);
		p += len;
	}
	return any > 0;
}
