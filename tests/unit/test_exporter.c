/* SPDX-License-Identifier: Apache-2.0 */
/* Routes that other modules add to the exporter: each with data of its own, or with the reason why it is not there. */
#include "net.h"

#include "agent/exporter.h"
#include "lib/error.h"

struct fixture {
	struct net net;
	struct features features;
	struct registry *registry;
	struct exporter *exporter;
};

static void say(struct http_request *request, void *userdata)
{
	http_respond_text(request, 200, "this is %s", (const char *)userdata);
}

static int nothing(void *userdata, struct buffer *out)
{
	return 0;
}

static void fixture_open(struct fixture *f, const char *path)
{
	const char *listen = "127.0.0.1:0";
	struct exporter_options options = { .listen = &listen, .n_listen = 1, .telemetry_path = path, .reload = nothing };

	memset(f, 0, sizeof(*f));
	net_open(&f->net);
	assert_int_equal(registry_new(1000, &f->registry), 0);
	options.registry = f->registry;
	options.features = &f->features;
	assert_int_equal(exporter_open(f->net.loop, &options, &f->exporter, NULL), 0);
}

static void fixture_close(struct fixture *f)
{
	exporter_close(f->exporter);
	registry_free(f->registry);
	net_close(&f->net);
}

static void expect(struct fixture *f, const char *method, const char *path, const char *wanted)
{
	struct client client;
	char request[256];

	snprintf(request, sizeof(request), "%s %s HTTP/1.0\r\nHost: localhost\r\n\r\n", method, path);
	client_open(&client, f->net.loop, exporter_listen_address(f->exporter, 0));
	client_puts(&client, request);
	NET_WAIT(&f->net, client.ended);
	if (!client_has(&client, wanted))
		fail_msg("%s %s: no `%s` in: %s", method, path, wanted, client.got.data);
	client_close(&client);
}

static char one[] = "one", two[] = "two";

static void test_each_route_has_its_own_data(void **state)
{
	struct fixture f;

	fixture_open(&f, "/metrics");
	assert_int_equal(exporter_add(f.exporter, &(struct exporter_route){ "GET", "/api/v1/one", "the one", say, one }), 0);
	assert_int_equal(exporter_add(f.exporter, &(struct exporter_route){ "POST", "/api/v1/two", "the other", say, two }), 0);
	assert_int_equal(exporter_add(f.exporter, &(struct exporter_route){ "GET", "/api/v1/one", "again", say, two }), -EEXIST);
	assert_int_equal(exporter_add(f.exporter, &(struct exporter_route){ "GET", "/metrics", "mine", say, two }), -EEXIST);
	expect(&f, "GET", "/api/v1/one", "\r\n\r\nthis is one\n");
	expect(&f, "POST", "/api/v1/two", "\r\n\r\nthis is two\n");
	expect(&f, "GET", "/api/v1/two", " 405 ");
	expect(&f, "GET", "/api/v1/three", " 404 ");
	expect(&f, "GET", "/-/healthy", " 200 ");
	expect(&f, "GET", "/", "<li><a href=\"/metrics\">/metrics</a><li><a href=\"/api/v1/features\">features of this host</a>"
	       "<li><a href=\"/api/v1/one\">the one</a><li>the other<li><a href=\"/-/healthy\">");
	fixture_close(&f);
}

static void test_what_is_off_says_why(void **state)
{
	struct fixture f;

	fixture_open(&f, "/metrics");
	assert_int_equal(exporter_add(f.exporter, &(struct exporter_route){ .method = "GET", .path = "/a", .title = "as", .status = 404,
				      .reason = "turned off by collect.a" }), 0);
	assert_int_equal(exporter_add(f.exporter, &(struct exporter_route){ .method = "GET", .path = "/b", .title = "bs",
				      .reason = "this kernel has no <b> & needs it" }), 0);
	expect(&f, "GET", "/a", " 404 ");
	expect(&f, "GET", "/a", "\r\n\r\nturned off by collect.a\n");
	expect(&f, "GET", "/b", " 503 ");
	expect(&f, "GET", "/b", "\r\n\r\nthis kernel has no <b> & needs it\n");
	expect(&f, "GET", "/", "<li>as (off: turned off by collect.a)<li>bs (off: this kernel has no &lt;b&gt; &amp; needs it)<li>");
	fixture_close(&f);
}

/* A reason names what others chose the name of, and is cut to what there is room for. */
static void test_features_with_any_reason(void **state)
{
	struct fixture f;
	char reason[400];

	fixture_open(&f, "/metrics");
	for (size_t i = 0; i + 1 < sizeof(reason); i++)
		reason[i] = i % 2 ? (char)0xc3 : (char)0xa4; /* after the first byte U+00E4, of two bytes each: cut within one */
	reason[0] = 'a';
	reason[sizeof(reason) - 1] = '\0';
	features_miss(&f.features, "long", reason, "");
	features_miss(&f.features, "bytes", "x\xff", "\xfe");
	expect(&f, "GET", "/api/v1/features", "\"feature\":\"long\"");
	expect(&f, "GET", "/api/v1/features", "\"reason\":\"x\xef\xbf\xbd\"");
	fixture_close(&f);
}

static void test_routes_are_bounded(void **state)
{
	static char paths[EXPORTER_ROUTES_MAX][8];
	struct exporter_route route = { "GET", "/more", "more", say, one };
	struct fixture f;

	fixture_open(&f, "/m");
	for (unsigned i = 0; i < EXPORTER_ROUTES_MAX; i++) {
		snprintf(paths[i], sizeof(paths[i]), "/%u", i);
		route.path = paths[i];
		assert_int_equal(exporter_add(f.exporter, &route), 0);
	}
	route.path = "/more";
	assert_int_equal(exporter_add(f.exporter, &route), -ENOSPC);
	expect(&f, "GET", "/15", "this is one");
	expect(&f, "GET", "/more", " 404 ");
	fixture_close(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_route_has_its_own_data),
		cmocka_unit_test(test_what_is_off_says_why),
		cmocka_unit_test(test_features_with_any_reason),
		cmocka_unit_test(test_routes_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
