/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decimal numbers: spellings one by one, random doubles written and read back,
 * and the reader against strtod.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/decimal.h"

#define SEED 9435u
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static uint64_t random_state;

static uint64_t random_u64(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u; /* splitmix64 */

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static uint64_t random_below(uint64_t n)
{
	return random_u64() % n;
}

static double random_double(void)
{
	uint64_t bits = random_u64();
	double value;

	switch (random_below(6)) {
	case 0:
		return (double)random_below(1000000);
	case 1:
		return (double)random_below(1000000000000ull) / 1e9;
	case 2:
		return (double)random_u64() * 0x1p-64;
	case 3:
		return -(double)random_below(100000) / 1000;
	case 4:
		return random_below(3) == 0 ? INFINITY : (double)random_u64();
	default:
		memcpy(&value, &bits, sizeof(value));
		return value;
	}
}

static void test_decimal_spelling(void **state)
{
	static const struct {
		double value;
		const char *text, *bound;
	} table[] = {
		{ 0, "0", "0.0" },
		{ -0.0, "-0", "-0.0" },
		{ 1, "1", "1.0" },
		{ -17, "-17", "-17.0" },
		{ 999999999999999, "999999999999999", "999999999999999.0" },
		{ 1e15, "1e+15", "1e+15" },
		{ 0.5, "0.5", "0.5" },
		{ 0.1, "0.1", "0.1" },
		{ 0.30000000000000004, "0.30000000000000004", "0.30000000000000004" },
		{ 123456.789, "123456.789", "123456.789" },
		{ 0.000123, "0.000123", "0.000123" },
		{ 0.0001, "0.0001", "0.0001" },
		{ 0.0000123, "1.23e-05", "1.23e-05" },
		{ 1e-9, "1e-09", "1e-09" },
		{ -2.5e-8, "-2.5e-08", "-2.5e-08" },
		{ 5e-324, "4.94065645841247e-324", "4.94065645841247e-324" },
		{ 1.7976931348623157e308, "1.7976931348623157e+308", "1.7976931348623157e+308" },
		{ 0x1p-20, "9.5367431640625e-07", "9.5367431640625e-07" },
		{ 0x1p-10, "0.0009765625", "0.0009765625" },
		{ 0x1p4, "16", "16.0" },
		{ 0x1p20, "1048576", "1048576.0" },
		{ INFINITY, "+Inf", "+Inf" },
		{ -INFINITY, "-Inf", "-Inf" },
		{ NAN, "NaN", "NaN" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char text[DECIMAL_MAX];

		assert_int_equal(decimal_write(text, table[i].value), strlen(table[i].text));
		assert_string_equal(text, table[i].text);
		assert_int_equal(decimal_write_bound(text, table[i].value), strlen(table[i].bound));
		assert_string_equal(text, table[i].bound);
	}
}

/* Reads back as the same bits, and no spelling with fewer digits does. */
static void test_decimal_round_trip(void **state)
{
	for (int i = 0; i < 200000; i++) {
		double value = random_double(), back;
		char text[DECIMAL_MAX], other[512];
		size_t len = decimal_write(text, value), digits = 0;

		assert_int_equal(len, strlen(text));
		assert_true(decimal_read(text, len, &back));
		if (isnan(value)) {
			assert_true(isnan(back));
			continue;
		}
		if (back != value || signbit(back) != signbit(value))
			fail_msg("%a is written as %s", value, text);
		if (!isfinite(value))
			continue;
		for (size_t j = 0; j < len && text[j] != 'e'; j++)
			if (text[j] >= '0' && text[j] <= '9' && (digits > 0 || text[j] != '0'))
				digits++;
		if (digits > 15) {
			snprintf(other, sizeof(other), "%.*g", (int)digits - 1, value);
			if (strtod(other, NULL) == value)
				fail_msg("%s is shorter than %s", other, text);
		}
	}
}

static void test_decimal_read(void **state)
{
	static const char *const good[] = {
		"0", "-0", "+1", "1.", ".5", "1e5", "1E+5", "1e-5", "00012", "1.7976931348623157e308", "1e999",
		"1e-999",
		"123456789012345678901234567890", "0.000000000000000000000000000001234", "9007199254740993",
		"2.2250738585072011e-308", "8.5e22", "1e23", "9007199254740992e22",
		"1.00000000000000011102230246251565404",
	};
	static const char *const bad[] = {
		"", "+", "-", ".", "e5", "1e", "1e+", "0x10", "0x1p3", "1_000", "1,5", " 1", "1 ", "--1", "+-1",
		"1.2.3",
		"infin", "nane", "NaN(1)", "1f", "inf1",
	};
	double value;
	char *end;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (!decimal_read(good[i], strlen(good[i]), &value))
			fail_msg("%s was refused", good[i]);
		if (value != strtod(good[i], &end))
			fail_msg("%s was read as %a", good[i], value);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (decimal_read(bad[i], strlen(bad[i]), &value))
			fail_msg("%s was read as %g", bad[i], value);
	assert_true(decimal_read("+inf", 4, &value) && value == INFINITY);
	assert_true(decimal_read("-Infinity", 9, &value) && value == -INFINITY);
	assert_true(decimal_read("nan", 3, &value) && isnan(value));
	for (int i = 0; i < 100000; i++) {
		char text[64];
		int n = snprintf(text, sizeof(text), "%.*e", (int)random_below(20), random_double());

		assert_true(decimal_read(text, (size_t)n, &value));
		if (value != strtod(text, NULL) && !isnan(value))
			fail_msg("%s was read as %a", text, value);
	}
}

static void test_decimal_read_i64(void **state)
{
	int64_t value;

	assert_true(decimal_read_i64("-9223372036854775808", 20, &value) && value == INT64_MIN);
	assert_true(decimal_read_i64("+9223372036854775807", 20, &value) && value == INT64_MAX);
	assert_false(decimal_read_i64("9223372036854775808", 19, &value));
	assert_false(decimal_read_i64("-9223372036854775809", 20, &value));
	assert_false(decimal_read_i64("", 0, &value));
	assert_false(decimal_read_i64("-", 1, &value));
	assert_false(decimal_read_i64("1.5", 3, &value));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decimal_spelling),
		cmocka_unit_test(test_decimal_round_trip),
		cmocka_unit_test(test_decimal_read),
		cmocka_unit_test(test_decimal_read_i64),
	};

	random_state = SEED;
	print_message("# seed %u\n", SEED);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
