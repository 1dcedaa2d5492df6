/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written is valid JSON whatever it is made of, and reads back the same:
 * fixed cases, and random bytes (fixed seed, printed) read back by jansson.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "lib/json.h"
#include "server/json_text.h"

#define SEED 4711u

static void assert_text(const char *in, const char *expected)
{
	struct buffer out = BUFFER_INIT;

	json_text_string(&out, in);
	assert_true(buffer_ok(&out));
	assert_string_equal(out.data, expected);
	buffer_done(&out);
}

static void test_strings(void **state)
{
	assert_text("", "\"\"");
	assert_text("plain", "\"plain\"");
	assert_text("a\"b\\c\n\t\x01", "\"a\\\"b\\\\c\\n\\t\\u0001\"");
	assert_text("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"");
	/* A quote right behind a character of several bytes. */
	assert_text("\xc3\xbf-\"\xc3\xbf\"\\", "\"\xc3\xbf-\\\"\xc3\xbf\\\"\\\\\"");
	assert_text("\xc3", "\"\xef\xbf\xbd\"");
	assert_text("\xc3\"", "\"\xef\xbf\xbd\\\"\"");
	assert_text("\xed\xa0\x80x", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\"");
	assert_text("\xf5\xff", "\"\xef\xbf\xbd\xef\xbf\xbd\"");
}

/* Mostly the bytes that matter. */
static char random_byte(unsigned *seed)
{
	static const char bytes[] = "\"\\\n\x7f\x1f a\xc3\xa4\xbf\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\xff";
	const int r = rand_r(seed) % 256;

	return r < 200 ? bytes[(size_t)r % (sizeof(bytes) - 1)] : (char)r;
}

static void test_random_strings_read_back(void **state)
{
	unsigned seed = SEED;

	print_message("# seed %u\n", SEED);
	for (int i = 0; i < 20000; i++) {
		struct buffer out = BUFFER_INIT;
		size_t len = (size_t)rand_r(&seed) % 24;
		char text[32];
		json_t *value;

		for (size_t k = 0; k < len; k++)
			text[k] = random_byte(&seed);
		text[len] = '\0';
		json_text_string(&out, text);
		value = json_loadb(out.data, out.len, JSON_DECODE_ANY, NULL);
		assert_non_null(value);
		if (metric_utf8_prefix(text, len) == len)
			assert_string_equal(json_string_value(value), text);
		json_decref(value);
		buffer_done(&out);
	}
}

static void test_numbers(void **state)
{
	struct buffer out = BUFFER_INIT;

	json_text_value(&out, 1.5);
	json_text_value(&out, NAN);
	json_text_value(&out, INFINITY);
	json_text_value(&out, -INFINITY);
	assert_string_equal(out.data, "\"1.5\"\"NaN\"\"+Inf\"\"-Inf\"");
	buffer_clear(&out);
	json_text_number(&out, 0.25);
	buffer_putc(&out, ' ');
	json_text_number(&out, NAN);
	assert_string_equal(out.data, "0.25 null");
	buffer_clear(&out);
	json_text_seconds(&out, 1435781430781);
	buffer_putc(&out, ' ');
	json_text_seconds(&out, 5);
	buffer_putc(&out, ' ');
	json_text_seconds(&out, -1500);
	assert_string_equal(out.data, "1435781430.781 0.005 -1.500");
	buffer_clear(&out);
	json_text_labels(&out, (const struct label[]){ { "a", "x\"" }, { "b", "" } }, 2);
	assert_string_equal(out.data, "{\"a\":\"x\\\"\",\"b\":\"\"}");
	buffer_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_random_strings_read_back),
		cmocka_unit_test(test_numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
