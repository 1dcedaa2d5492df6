/* SPDX-License-Identifier: Apache-2.0 */
/* What a metric may be called: families, label names, UTF-8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "lib/metric.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static void test_family_rules(void **state)
{
	static const struct {
		struct metric_family family;
		const char *error; /* NULL: fine */
	} table[] = {
		{ { "x_total", "h", NULL, METRIC_COUNTER, 0, 0 }, NULL },
		{ { "x_bytes_total", "h", "bytes", METRIC_COUNTER, 0, 0 }, NULL },
		{ { "x_seconds", "h", "seconds", METRIC_HISTOGRAM, -20, 4 }, NULL },
		{ { "x_build_info", "h", NULL, METRIC_GAUGE, 0, 0 }, NULL },
		{ { "x_open", "h", NULL, METRIC_GAUGE, 0, 0 }, NULL },
		{ { NULL, "h", NULL, METRIC_GAUGE, 0, 0 }, "metric name \"\" should be" },
		{ { "9x", "h", NULL, METRIC_GAUGE, 0, 0 }, "metric name \"9x\" should be" },
		{ { "x-y", "h", NULL, METRIC_GAUGE, 0, 0 }, "metric name \"x-y\" should be" },
		{ { "x\xc3\xa9", "h", NULL, METRIC_GAUGE, 0, 0 }, "should be letters" },
		{ { "a:b", "h", NULL, METRIC_GAUGE, 0, 0 }, "colons are for recording rules" },
		{ { "x", "h", NULL, METRIC_SUMMARY, 0, 0 }, "is of type summary" },
		{ { "x", "h", NULL, METRIC_COUNTER, 0, 0 }, "counter x should end in _total" },
		{ { "_total", "h", NULL, METRIC_COUNTER, 0, 0 }, "should end in _total" },
		{ { "x_total_total", "h", NULL, METRIC_COUNTER, 0, 0 }, "should not have _total" },
		{ { "x_info_total", "h", NULL, METRIC_COUNTER, 0, 0 }, "should not have _info" },
		{ { "x_total", "h", NULL, METRIC_GAUGE, 0, 0 }, "gauge x_total should not have _total" },
		{ { "x_bucket", "h", NULL, METRIC_GAUGE, 0, 0 }, "should not have _bucket" },
		{ { "x_count", "h", NULL, METRIC_GAUGE, 0, 0 }, "should not have _count" },
		{ { "x_sum", "h", NULL, METRIC_HISTOGRAM, 0, 0 }, "should not have _sum" },
		{ { "x_created", "h", NULL, METRIC_GAUGE, 0, 0 }, "should not have _created" },
		{ { "x_info", "h", NULL, METRIC_HISTOGRAM, 0, 0 }, "should not have _info" },
		{ { "x_gsum", "h", NULL, METRIC_GAUGE, 0, 0 }, "should not have _gsum" },
		{ { "x", NULL, NULL, METRIC_GAUGE, 0, 0 }, "has no help" },
		{ { "x", "", NULL, METRIC_GAUGE, 0, 0 }, "has no help" },
		{ { "x", "\xff", NULL, METRIC_GAUGE, 0, 0 }, "help is not UTF-8" },
		{ { "x_ms", "h", "seconds", METRIC_GAUGE, 0, 0 }, "its name should end in _seconds" },
		{ { "xseconds", "h", "seconds", METRIC_GAUGE, 0, 0 }, "its name should end in _seconds" },
		{ { "_seconds", "h", "seconds", METRIC_GAUGE, 0, 0 }, "its name should end in _seconds" },
		{ { "x_total", "h", "bytes", METRIC_COUNTER, 0, 0 }, "its name should end in _bytes_total" },
		{ { "x_B", "h", "B", METRIC_GAUGE, 0, 0 }, "unit \"B\" should be" },
		{ { "x_", "h", "", METRIC_GAUGE, 0, 0 }, "unit \"\" should be" },
		{ { "x", "h", NULL, METRIC_HISTOGRAM, 4, -20 }, "classic buckets from 2^4 to 2^-20" },
		{ { "x", "h", NULL, METRIC_HISTOGRAM, -65, 4 }, "classic buckets" },
		{ { "x", "h", NULL, METRIC_HISTOGRAM, 0, 64 }, "classic buckets" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct error error = { "" };
		int r = metric_family_check(&table[i].family, &error);

		if (table[i].error == NULL)
			assert_int_equal(r, 0);
		else if (r != -EINVAL || strstr(error.text, table[i].error) == NULL)
			fail_msg("%s: %d, %s", table[i].family.name, r, error.text);
	}
	assert_int_equal(metric_family_check(&table[6].family, NULL), -EINVAL);
}

static void test_names(void **state)
{
	assert_true(metric_name_valid("a"));
	assert_true(metric_name_valid("_a:9"));
	assert_true(metric_name_valid(":"));
	assert_false(metric_name_valid(""));
	assert_false(metric_name_valid("9"));
	assert_false(metric_name_valid("a b"));
	assert_true(metric_label_name_valid("_a9"));
	assert_false(metric_label_name_valid(""));
	assert_false(metric_label_name_valid("a:b"));
	assert_false(metric_label_name_valid("__a"));
	assert_false(metric_label_name_valid("9a"));
}

static void test_utf8(void **state)
{
	static const char *const good[] = {
		"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
		"\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf",
	};
	static const char *const bad[] = { /* the first byte is where it goes wrong */
		"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xe0\xa0", "\xed\xa0\x80",
		"\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe2\x82\x41", "\xf0\x90\x80",
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(metric_utf8_prefix(good[i], strlen(good[i])), strlen(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(metric_utf8_prefix(bad[i], strlen(bad[i])), 0);
	assert_int_equal(metric_utf8_prefix("ab\0c", 4), 2);
	assert_int_equal(metric_utf8_prefix("a\xc3\xa9\xff", 4), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_family_rules),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
