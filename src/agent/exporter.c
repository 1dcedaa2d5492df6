/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/exporter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/exposition.h"
#include "lib/http.h"

/* One snapshot in one format; valid while its generation is the registry's. */
struct rendering {
	uint64_t generation;
	struct buffer text;
	void *gzip; /* NULL: not asked for yet */
	size_t gzip_len;
};

struct exporter {
	struct http_server *http;
	struct http_route *routes; /* of the exporter, then of the extras, then the end; http reads it at each request */
	size_t n_routes;
	struct exporter_route extras[EXPORTER_ROUTES_MAX];
	size_t n_extras;
	char *telemetry_path;
	const struct registry *registry;
	const struct features *features;
	int (*reload)(void *userdata, struct buffer *out);
	void *userdata;
	struct rendering renderings[EXPOSITION_N_FORMATS];
	mono_time committed;
	uint64_t tick_ns;
};

static int render(struct exporter *e, enum exposition_format format)
{
	struct rendering *r = &e->renderings[format];

	if (r->generation == registry_generation(e->registry))
		return 0;
	buffer_clear(&r->text);
	free(r->gzip);
	r->gzip = NULL;
	r->generation = 0;
	if (registry_write(e->registry, format, &r->text) < 0)
		return -ENOMEM;
	r->generation = registry_generation(e->registry);
	return 0;
}

static void on_metrics(struct http_request *request, void *userdata)
{
	struct exporter *e = userdata;
	enum exposition_format format = exposition_negotiate(http_request_header(request, "Accept"));
	struct rendering *r = &e->renderings[format];
	char snapshot[128];
	const char *headers[] = { "Netsonde-Snapshot", snapshot, "Vary", "Accept, Accept-Encoding", NULL };
	struct http_response response = { .status = 200, .content_type = exposition_content_type(format), .headers = headers };

	if (!registry_generation(e->registry)) {
		http_respond_text(request, 503, "the first tick is not over yet");
		return;
	}
	if (render(e, format) < 0) {
		http_respond_text(request, 503, "out of memory");
		return;
	}
	snprintf(snapshot, sizeof(snapshot), "generation=%llu; age=%.6f; tick=%.6f", (unsigned long long)r->generation,
		 ns_to_seconds(mono_since_ns(mono_now(), e->committed)), ns_to_seconds(e->tick_ns));
	response.data = r->text.data;
	response.len = r->text.len;
	/* Level 1: three quarters of what level 6 saves, at a third of its time. */
	if (http_accepts_gzip(request) && (r->gzip || !http_gzip(r->text.data, r->text.len, 1, &r->gzip, &r->gzip_len))) {
		response.data = r->gzip;
		response.len = r->gzip_len;
		response.content_encoding = "gzip";
	}
	http_respond(request, &response);
}

static void put_html(struct buffer *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '<')
			buffer_puts(out, "&lt;");
		else if (*text == '>')
			buffer_puts(out, "&gt;");
		else if (*text == '&')
			buffer_puts(out, "&amp;");
		else
			buffer_putc(out, *text);
	}
}

static void put_extra(struct buffer *out, const struct exporter_route *route)
{
	const bool linked = route->handler && !strcmp(route->method, "GET");

	buffer_puts(out, "<li>");
	if (linked)
		buffer_printf(out, "<a href=\"%s\">", route->path);
	put_html(out, route->title);
	if (linked)
		buffer_puts(out, "</a>");
	if (!route->handler) {
		buffer_puts(out, " (off: ");
		put_html(out, route->reason);
		buffer_putc(out, ')');
	}
}

static void on_landing_page(struct http_request *request, void *userdata)
{
	struct exporter *e = userdata;
	struct buffer out = BUFFER_INIT;

	buffer_printf(&out,
		      "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>NetSonde agent</title>"
		      "<h1>NetSonde agent %s</h1><p>Metrics of this host, for Prometheus or a NetSonde server:</p>"
		      "<ul><li><a href=\"%s\">%s</a><li><a href=\"/api/v1/features\">features of this host</a>",
		      NETSONDE_VERSION, e->telemetry_path, e->telemetry_path);
	for (size_t i = 0; i < e->n_extras; i++)
		put_extra(&out, &e->extras[i]);
	buffer_puts(&out, "<li><a href=\"/-/healthy\">healthy</a>, <a href=\"/-/ready\">ready</a></ul></html>\n");
	if (buffer_ok(&out))
		http_respond(request, &(struct http_response){ .status = 200, .content_type = "text/html; charset=utf-8", .data = out.data, .len = out.len });
	else
		http_respond_text(request, 503, "out of memory");
	buffer_done(&out);
}

static void on_healthy(struct http_request *request, void *userdata)
{
	http_respond_text(request, 200, "healthy");
}

static void on_ready(struct http_request *request, void *userdata)
{
	struct exporter *e = userdata;

	if (registry_generation(e->registry))
		http_respond_text(request, 200, "ready");
	else
		http_respond_text(request, 503, "the first tick is not over yet");
}

static void on_reload(struct http_request *request, void *userdata)
{
	struct exporter *e = userdata;
	struct buffer out = BUFFER_INIT;

	if (e->reload(e->userdata, &out) < 0)
		http_respond_text(request, 400, "%s", out.data ? out.data : "the configuration cannot be read");
	else
		http_respond_text(request, 200, "reloaded");
	buffer_done(&out);
}

static void on_features(struct http_request *request, void *userdata)
{
	struct exporter *e = userdata;
	struct buffer out = BUFFER_INIT;

	features_write_json(e->features, &out);
	if (buffer_ok(&out))
		http_respond(request, &(struct http_response){ .status = 200, .content_type = "application/json", .data = out.data, .len = out.len });
	else
		http_respond_text(request, 503, "out of memory");
	buffer_done(&out);
}

/* http has no NULL for a route's own userdata, so every extra comes through here. */
static void on_extra(struct http_request *request, void *userdata)
{
	const struct exporter_route *route = userdata;

	if (route->handler)
		route->handler(request, route->userdata);
	else
		http_respond_text(request, route->status ? route->status : 503, "%s", route->reason);
}

int exporter_add(struct exporter *e, const struct exporter_route *route)
{
	struct exporter_route *extra;

	if (e->n_extras == EXPORTER_ROUTES_MAX)
		return -ENOSPC;
	for (size_t i = 0; i < e->n_routes; i++)
		if (!strcmp(e->routes[i].path, route->path) && !strcmp(e->routes[i].method, route->method))
			return -EEXIST;
	extra = &e->extras[e->n_extras++];
	*extra = *route;
	e->routes[e->n_routes + 1] = (struct http_route){ NULL };
	e->routes[e->n_routes++] = (struct http_route){ route->method, route->path, on_extra, extra };
	return 0;
}

static bool path_is_safe(const char *path)
{
	return path[0] == '/' && path[1] && !path[strspn(path, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~")];
}

int exporter_open(struct loop *loop, const struct exporter_options *options, struct exporter **ret_exporter, struct error *ret_error)
{
	const struct http_route routes[] = {
		{ "GET", options->telemetry_path, on_metrics },
		{ "GET", "/", on_landing_page },
		{ "GET", "/-/healthy", on_healthy },
		{ "GET", "/-/ready", on_ready },
		{ "POST", "/-/reload", on_reload },
		{ "GET", "/api/v1/features", on_features },
	};
	const size_t n = sizeof(routes) / sizeof(routes[0]);
	struct exporter *e;
	int r = -ENOMEM;

	if (!path_is_safe(options->telemetry_path))
		return error_set(ret_error, -EINVAL, "--web.telemetry-path `%s`: a path such as /metrics is needed", options->telemetry_path);
	e = calloc(1, sizeof(*e));
	if (!e)
		return r;
	e->registry = options->registry;
	e->features = options->features;
	e->reload = options->reload;
	e->userdata = options->userdata;
	e->telemetry_path = strdup(options->telemetry_path);
	e->routes = calloc(n + EXPORTER_ROUTES_MAX + 1, sizeof(e->routes[0]));
	if (e->telemetry_path && e->routes) {
		struct http_options http = { .listen = options->listen, .n_listen = options->n_listen, .userdata = e,
					     .content_security_policy = "default-src 'none'" };

		memcpy(e->routes, routes, sizeof(routes));
		e->n_routes = n;
		e->routes[0].path = e->telemetry_path;
		http.routes = e->routes;
		r = http_open(loop, &http, &e->http, ret_error);
	}
	if (r < 0) {
		exporter_close(e);
		return r;
	}
	*ret_exporter = e;
	return 0;
}

void exporter_close(struct exporter *exporter)
{
	if (!exporter)
		return;
	http_close(exporter->http);
	for (size_t i = 0; i < EXPOSITION_N_FORMATS; i++) {
		buffer_done(&exporter->renderings[i].text);
		free(exporter->renderings[i].gzip);
	}
	free(exporter->routes);
	free(exporter->telemetry_path);
	free(exporter);
}

void exporter_committed(struct exporter *exporter, uint64_t tick_ns)
{
	exporter->committed = mono_now();
	exporter->tick_ns = tick_ns;
}

const char *exporter_listen_address(const struct exporter *exporter, size_t index)
{
	return http_listen_address(exporter->http, index);
}
