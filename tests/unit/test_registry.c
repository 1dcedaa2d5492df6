/* SPDX-License-Identifier: Apache-2.0 */
/* The registry: snapshots are whole, grouped by family, within the budget, and independent of the caller's memory. */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* after the above: */
#include <cmocka.h>

#include "agent/registry.h"
#include "lib/buffer.h"

static const char *const peer_labels[] = { "peer", NULL };
static const char *const no_labels[] = { NULL };
static const struct metric_family requests = { "requests_total", "Requests.", NULL, METRIC_COUNTER, 0, 0 };
static const struct metric_family temperature = { "temperature", "Temperature.", NULL, METRIC_GAUGE, 0, 0 };
static const struct metric_family latency = { "latency_seconds", "Latency.", "seconds", METRIC_HISTOGRAM, -2, 1 };

static struct registry *new_registry(uint32_t budget)
{
	struct registry *registry;

	assert_int_equal(registry_new(budget, &registry), 0);
	return registry;
}

static struct registry_family *add_family(struct registry *registry, const struct metric_family *family, const char *const *labels)
{
	struct registry_family *f;
	struct error error = { "" };

	if (registry_register(registry, family, labels, &f, &error))
		fail_msg("%s", error.text);
	return f;
}

static void assert_text(const struct registry *registry, const char *expected)
{
	struct buffer out = BUFFER_INIT;

	assert_int_equal(registry_write(registry, EXPOSITION_TEXT, &out), 0);
	assert_string_equal(out.data ? out.data : "", expected);
	buffer_done(&out);
}

static void test_snapshot_is_whole_and_grouped(void **state)
{
	struct registry *registry = new_registry(1000);
	struct registry_family *r = add_family(registry, &requests, peer_labels), *t = add_family(registry, &temperature, no_labels);
	char volatile_label[] = "a";
	const char *labels[] = { volatile_label };

	assert_text(registry, "");
	assert_int_equal(registry_generation(registry), 0);
	registry_begin(registry);
	registry_value(r, labels, 1);
	registry_value(t, NULL, 20.5);
	volatile_label[0] = 'b';
	registry_value(r, labels, 2);
	assert_text(registry, ""); /* nothing is seen before the commit */
	registry_commit(registry);
	assert_int_equal(registry_generation(registry), 1);
	assert_int_equal(registry_series(registry), 3);
	const char *first = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{peer=\"a\"} 1\n"
			    "requests_total{peer=\"b\"} 2\n# HELP temperature Temperature.\n# TYPE temperature gauge\ntemperature 20.5\n";
	assert_text(registry, first);
	registry_begin(registry);
	registry_value(t, NULL, 21);
	assert_text(registry, first); /* the committed one, while the next is filled */
	registry_commit(registry);
	assert_text(registry, "# HELP temperature Temperature.\n# TYPE temperature gauge\ntemperature 21\n");
	registry_free(registry);
}

static void test_histograms_are_copied(void **state)
{
	struct registry *registry = new_registry(1000);
	struct registry_family *f = add_family(registry, &latency, peer_labels);
	const char *label = "x";
	struct hist hist;

	hist_init(&hist, HIST_SCHEMA, ldexp(1, -20));
	assert_int_equal(hist_observe(&hist, 0.3), 0);
	assert_int_equal(hist_observe(&hist, 1.5), 0);
	registry_begin(registry);
	registry_histogram(f, &label, &hist);
	registry_commit(registry);
	hist_done(&hist);
	assert_text(registry, "# HELP latency_seconds Latency.\n# TYPE latency_seconds histogram\n"
			      "latency_seconds_bucket{peer=\"x\",le=\"0.25\"} 0\nlatency_seconds_bucket{peer=\"x\",le=\"0.5\"} 1\n"
			      "latency_seconds_bucket{peer=\"x\",le=\"1.0\"} 1\nlatency_seconds_bucket{peer=\"x\",le=\"2.0\"} 2\n"
			      "latency_seconds_bucket{peer=\"x\",le=\"+Inf\"} 2\nlatency_seconds_sum{peer=\"x\"} 1.8\n"
			      "latency_seconds_count{peer=\"x\"} 2\n");
	registry_free(registry);
}

static void test_budget_is_hard_and_counted(void **state)
{
	struct registry *registry = new_registry(10);
	struct registry_family *h = add_family(registry, &latency, peer_labels), *r = add_family(registry, &requests, peer_labels);
	struct hist hist;
	uint64_t dropped;
	char text[16];
	const char *label = text;

	hist_init(&hist, HIST_SCHEMA, ldexp(1, -20));
	registry_begin(registry);
	for (int i = 0; i < 2; i++) { /* 7 lines each: the second does not fit */
		snprintf(text, sizeof(text), "p%d", i);
		registry_histogram(h, &label, &hist);
	}
	for (int i = 0; i < 5; i++)
		registry_value(r, &label, i);
	registry_commit(registry);
	assert_int_equal(registry_series(registry), 10);
	assert_string_equal(registry_dropped(registry, 0, &dropped), "latency_seconds");
	assert_int_equal(dropped, 7);
	assert_string_equal(registry_dropped(registry, 1, &dropped), "requests_total");
	assert_int_equal(dropped, 2);
	registry_set_budget(registry, 100);
	registry_begin(registry);
	for (int i = 0; i < 5; i++)
		registry_value(r, &label, i);
	registry_commit(registry);
	registry_dropped(registry, 1, &dropped);
	assert_int_equal(dropped, 2);
	hist_done(&hist);
	registry_free(registry);
}

static void test_bad_names_are_refused_at_registration(void **state)
{
	struct registry *registry = new_registry(10);
	static const struct metric_family bad = { "requests", "A counter without _total.", NULL, METRIC_COUNTER, 0, 0 };
	static const char *const bad_label[] = { "le gal", NULL };
	struct registry_family *f;
	struct error error = { "" };

	assert_int_equal(registry_register(registry, &bad, no_labels, &f, &error), -EINVAL);
	assert_non_null(strstr(error.text, "_total"));
	assert_int_equal(registry_register(registry, &requests, bad_label, &f, &error), -EINVAL);
	add_family(registry, &requests, no_labels);
	assert_int_equal(registry_register(registry, &requests, no_labels, &f, &error), -EEXIST);
	registry_free(registry);
}

static void test_many_ticks_keep_their_memory(void **state)
{
	struct registry *registry = new_registry(100000);
	struct registry_family *r = add_family(registry, &requests, peer_labels);
	char text[32];
	const char *label = text;

	for (int tick = 0; tick < 20; tick++) {
		registry_begin(registry);
		for (int i = 0; i < 5000; i++) {
			snprintf(text, sizeof(text), "peer-%d", i);
			registry_value(r, &label, tick + i);
		}
		registry_commit(registry);
	}
	assert_int_equal(registry_series(registry), 5000);
	assert_int_equal(registry_generation(registry), 20);
	registry_free(registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshot_is_whole_and_grouped),
		cmocka_unit_test(test_histograms_are_copied),
		cmocka_unit_test(test_budget_is_hard_and_counted),
		cmocka_unit_test(test_bad_names_are_refused_at_registration),
		cmocka_unit_test(test_many_ticks_keep_their_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
