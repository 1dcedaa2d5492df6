/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The buffer, with out of memory made to happen by sizes that no allocator has;
 * and the small modules beside it: errors, the clocks, and JSON text, which is
 * written into a buffer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/json.h"

/* Read by AddressSanitizer, which else ends the program where malloc would return NULL. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static void test_append(void **unused)
{
	struct buffer b = BUFFER_INIT;
	char expected[5000];
	size_t len;

	assert_null(b.data);
	for (int i = 0; i < 5000; i++) {
		expected[i] = (char)(i * 7);
		buffer_putc(&b, expected[i]);
		assert_int_equal(b.len, i + 1);
		assert_true(b.len < b.cap);
		assert_int_equal(b.data[b.len], '\0');
	}
	assert_memory_equal(b.data, expected, 5000);
	len = b.cap;
	buffer_clear(&b);
	assert_int_equal(b.len, 0);
	assert_int_equal(b.cap, len);
	assert_string_equal(b.data, "");
	buffer_puts(&b, "one");
	buffer_append(&b, " two", 4);
	buffer_append(&b, NULL, 0);
	buffer_puts(&b, "");
	assert_string_equal(b.data, "one two");
	assert_true(buffer_ok(&b));
	buffer_done(&b);
	assert_true(!b.data && b.len == 0 && b.cap == 0);
	buffer_done(&b);
	buffer_clear(&b);
	assert_true(buffer_ok(&b));
}

static void test_printf(void **unused)
{
	struct buffer b = BUFFER_INIT;
	char line[600];

	buffer_printf(&b, "%s", "");
	assert_string_equal(b.data, "");
	memset(line, 'x', sizeof(line) - 1);
	/* Each length once, so that every distance to the end of the room is met. */
	for (int n = 0; n < 600; n++) {
		buffer_clear(&b);
		free(buffer_steal(&b, NULL));
		buffer_printf(&b, "%.*s|%d", n, line, n);
		assert_int_equal(strspn(b.data, "x"), n);
		assert_int_equal(atoi(b.data + n + 1), n);
		assert_int_equal(strlen(b.data), b.len);
		assert_true(b.len < b.cap);
	}
	buffer_done(&b);
}

static void test_reserve_and_steal(void **unused)
{
	struct buffer b = BUFFER_INIT;
	size_t len = 99;
	char *to = buffer_reserve(&b, 1000), *data;

	assert_non_null(to);
	assert_true(b.cap > 1000);
	assert_int_equal(b.len, 0);
	memcpy(to, "abc", 4);
	b.len += 3;
	buffer_puts(&b, "d");
	data = buffer_steal(&b, &len);
	assert_string_equal(data, "abcd");
	assert_int_equal(len, 4);
	assert_null(b.data);
	free(data);
	/* Nothing is not a failure. */
	data = buffer_steal(&b, &len);
	assert_string_equal(data, "");
	assert_int_equal(len, 0);
	free(data);
}

static void assert_sticky(struct buffer *b)
{
	size_t len = b->len;

	assert_false(buffer_ok(b));
	buffer_puts(b, "more");
	buffer_putc(b, 'm');
	buffer_printf(b, "%d", 1);
	assert_null(buffer_reserve(b, 0));
	assert_int_equal(b->len, len);
	assert_string_equal(b->data, "kept");
}

static void test_failure_is_sticky(void **unused)
{
	static const size_t sizes[] = { SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2, SIZE_MAX / 2 - 1, SIZE_MAX / 2 - 5 };
	struct buffer b = BUFFER_INIT;
	size_t len = 7;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		buffer_clear(&b);
		buffer_puts(&b, "kept");
		assert_null(buffer_reserve(&b, sizes[i]));
		assert_sticky(&b);
	}
	/* A clear starts anew; stealing says the failure and leaves nothing. */
	buffer_clear(&b);
	assert_true(buffer_ok(&b));
	buffer_puts(&b, "kept");
	assert_null(buffer_reserve(&b, SIZE_MAX));
	assert_null(buffer_steal(&b, &len));
	assert_int_equal(len, 7);
	assert_true(!b.data && buffer_ok(&b));
}

static void test_error(void **unused)
{
	struct error e = { "old" };
	char text[2000];

	assert_int_equal(error_set(NULL, -EINVAL, "unseen"), -EINVAL);
	assert_int_equal(error_set(&e, 5, "line %d: %s", 7, "what"), 5);
	assert_string_equal(e.text, "line 7: what");
	/* In front of the sentence of a callee. */
	assert_int_equal(error_set(&e, -EIO, "in file x: %s", e.text), -EIO);
	assert_string_equal(e.text, "in file x: line 7: what");
	assert_int_equal(error_set_errno(&e, -ENOENT, "cannot open %s", "x"), -ENOENT);
	assert_string_equal(e.text, "cannot open x: No such file or directory");
	assert_int_equal(error_set_errno(NULL, -ENOENT, "unseen"), -ENOENT);

	/* Cut within a character ("é", two bytes) at either place. */
	for (int shift = 0; shift < 2; shift++) {
		size_t n;

		memset(text, 0, sizeof(text));
		for (int i = 0; i < 900; i++)
			memcpy(text + shift + 2 * i, "\xc3\xa9", 2);
		memset(text, 'x', (size_t)shift);
		error_set(&e, -EINVAL, "%s", text);
		n = strlen(e.text);
		assert_true(n < sizeof(e.text) && n > sizeof(e.text) - 3);
		assert_string_equal(e.text + n - 3, "...");
		assert_int_equal((unsigned char)e.text[n - 4], 0xa9);
	}
	/* The suffix of errno is cut the same way. */
	memset(text, 'y', sizeof(text));
	text[sizeof(e.text) - 10] = '\0';
	error_set_errno(&e, -ENOENT, "%s", text);
	assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
	assert_string_equal(e.text + sizeof(e.text) - 11, "y: No s...");
}

static void test_clocks(void **unused)
{
	mono_time a = mono_now(), b;
	wall_time w = wall_now();
	struct timespec t;

	do {
		b = mono_now();
		assert_true(b.ns >= a.ns);
	} while (b.ns == a.ns);
	assert_true(mono_since_ns(b, a) == b.ns - a.ns);
	assert_true(mono_since_ns(a, b) == 0);
	/* The same clocks as the kernel's, within a minute. */
	clock_gettime(CLOCK_MONOTONIC, &t);
	assert_true((uint64_t)t.tv_sec - a.ns / NS_PER_SEC < 60);
	assert_true(time(NULL) - w.ns / (int64_t)NS_PER_SEC < 60 && time(NULL) - w.ns / (int64_t)NS_PER_SEC >= 0);
	assert_true(wall_ms((wall_time){ 1234567890123456789 }) == 1234567890123);
	assert_true(ns_to_seconds(1500000000) == 1.5);
}

static void test_json(void **unused)
{
	struct buffer out = BUFFER_INIT;
	json_t *loop;

	buffer_puts(&out, "data: ");
	assert_int_equal(json_write(json_pack("{s:s, s:[o,o,o,o]}", "k", "a\"\n", "v", json_number(0.5), json_number(NAN),
					      json_number(INFINITY), json_number(-INFINITY)), &out), 0);
	assert_string_equal(out.data, "data: {\"k\":\"a\\\"\\n\",\"v\":[0.5,null,null,null]}");
	buffer_clear(&out);
	assert_int_equal(json_write(json_string("x"), &out), 0);
	assert_string_equal(out.data, "\"x\"");

	/* What fails on the way (here: not UTF-8) is reported and appends nothing. */
	assert_int_equal(json_write(NULL, &out), -ENOMEM);
	assert_int_equal(json_write(json_pack("[s]", "\xff"), &out), -ENOMEM);
	loop = json_pack("[i,[]]", 1);
	json_array_append(json_array_get(loop, 1), loop);
	json_incref(loop);
	assert_int_equal(json_write(loop, &out), -EINVAL);
	assert_string_equal(out.data, "\"x\"");
	json_array_clear(json_array_get(loop, 1));
	json_decref(loop);

	/* A buffer that has failed stays so; the value is released all the same. */
	assert_null(buffer_reserve(&out, SIZE_MAX));
	assert_int_equal(json_write(json_string("y"), &out), -ENOMEM);
	buffer_done(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_append),
		cmocka_unit_test(test_printf),
		cmocka_unit_test(test_reserve_and_steal),
		cmocka_unit_test(test_failure_is_sticky),
		cmocka_unit_test(test_error),
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
