/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decimal text of doubles, both ways.
 *
 * Writing: a double has at most one decimal of up to 15 significant digits that
 * reads back as it, so whichever way such a decimal is found it is the shortest
 * one. Whole numbers below 1e15 and multiples of 1e-9 (times measured in
 * nanoseconds) are found with one integer division; the rest goes through
 * %.15g, %.16g and %.17g until it reads back.
 *
 * Reading: with a mantissa below 2^53 and a power of ten up to 10^22 both are
 * exact doubles, and one multiplication or division rounds once, as strtod
 * would (W. D. Clinger, How to read floating point numbers accurately, 1990).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "lib/decimal.h"

#define EXACT_WHOLE 1e15          /* whole numbers below are written without an exponent */
#define NANO 1e9
#define MANTISSA_EXACT (1ULL << 53)
#define POWER_EXACT 22            /* 10^22 is the last power of ten a double holds exactly */
#define NUMBER_LEN_MAX 512        /* characters; what is longer is no measurement */

size_t decimal_write_u64(char *to, uint64_t value)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[n++] = (char)('0' + value % 10);
		value /= 10;
	} while (value > 0);
	for (size_t i = 0; i < n; i++)
		to[i] = digits[n - 1 - i];
	to[n] = '\0';
	return n;
}

static size_t write_word(char *to, const char *word)
{
	size_t n = strlen(word);

	memcpy(to, word, n + 1);
	return n;
}

/* nanos * 1e-9 without trailing zeros; 0 < nanos < 1e15. */
static size_t write_nanos(char *to, uint64_t nanos)
{
	char digits[DECIMAL_MAX];
	size_t n_digits, n = 0;
	int scale = 9, exponent;

	while (nanos % 10 == 0) {
		nanos /= 10;
		scale--;
	}
	n_digits = decimal_write_u64(digits, nanos);
	exponent = (int)n_digits - 1 - scale;
	if (exponent < -4) {
		to[n++] = digits[0];
		if (n_digits > 1) {
			to[n++] = '.';
			memcpy(to + n, digits + 1, n_digits - 1);
			n += n_digits - 1;
		}
		memcpy(to + n, "e-0", 3);
		n += 3;
		to[n++] = (char)('0' - exponent); /* -5..-9 */
	} else if (exponent < 0) {
		to[n++] = '0';
		to[n++] = '.';
		for (int i = -1; i > exponent; i--)
			to[n++] = '0';
		memcpy(to + n, digits, n_digits);
		n += n_digits;
	} else {
		size_t whole = (size_t)exponent + 1;

		memcpy(to, digits, whole);
		to[whole] = '.';
		memcpy(to + whole + 1, digits + whole, n_digits - whole);
		n = n_digits + 1;
	}
	to[n] = '\0';
	return n;
}

size_t decimal_write(char *to, double value)
{
	double magnitude = fabs(value);
	size_t n = 0;

	if (isnan(value))
		return write_word(to, "NaN");
	if (isinf(value))
		return write_word(to, value > 0 ? "+Inf" : "-Inf");
	if (magnitude < EXACT_WHOLE && magnitude == trunc(magnitude)) {
		if (signbit(value))
			to[n++] = '-';
		return n + decimal_write_u64(to + n, (uint64_t)magnitude);
	}
	if (magnitude < EXACT_WHOLE / NANO) {
		double nanos = nearbyint(magnitude * NANO);

		if (nanos >= 1 && nanos / NANO == magnitude) {
			if (signbit(value))
				to[n++] = '-';
			return n + write_nanos(to + n, (uint64_t)nanos);
		}
	}
	for (int precision = 15; precision <= 17; precision++) {
		n = (size_t)snprintf(to, DECIMAL_MAX, "%.*g", precision, value);
		if (strtod(to, NULL) == value)
			break;
	}
	return n;
}

size_t decimal_write_bound(char *to, double value)
{
	size_t n = decimal_write(to, value);

	if (isfinite(value) && strpbrk(to, ".e") == NULL)
		n += write_word(to + n, ".0");
	return n;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool read_word(const char *s, size_t len, bool negative, double *ret_value)
{
	if ((len == 3 && strncasecmp(s, "inf", 3) == 0) || (len == 8 && strncasecmp(s, "infinity", 8) == 0))
		*ret_value = negative ? -INFINITY : INFINITY;
	else if (len == 3 && strncasecmp(s, "nan", 3) == 0)
		*ret_value = NAN;
	else
		return false;
	return true;
}

/* What the digits of a number say, as far as they fit. */
struct reading {
	uint64_t mantissa; /* beyond MANTISSA_EXACT when digits were left out */
	int64_t power;     /* of ten */
	unsigned digits;   /* before and after the point */
};

static const char *read_digits(const char *s, const char *end, bool fraction, struct reading *reading)
{
	for (; s < end && is_digit(*s); s++) {
		reading->digits++;
		if (reading->mantissa >= UINT64_MAX / 10 - 1)
			continue;
		reading->mantissa = reading->mantissa * 10 + (uint64_t)(*s - '0');
		if (fraction)
			reading->power--;
	}
	return s;
}

static const char *read_exponent(const char *s, const char *end, struct reading *reading)
{
	bool negative = false;
	int64_t exponent = 0;

	if (s < end && (*s == '+' || *s == '-'))
		negative = *s++ == '-';
	if (s == end || !is_digit(*s))
		return NULL;
	for (; s < end && is_digit(*s); s++)
		if (exponent < 100000)
			exponent = exponent * 10 + (*s - '0');
	reading->power += negative ? -exponent : exponent;
	return s;
}

static bool read_slowly(const char *s, size_t len, double *ret_value)
{
	char text[NUMBER_LEN_MAX + 1];

	if (len > NUMBER_LEN_MAX)
		return false;
	memcpy(text, s, len);
	text[len] = '\0';
	*ret_value = strtod(text, NULL);
	return true;
}

bool decimal_read(const char *s, size_t len, double *ret_value)
{
	static const double power_of_ten[POWER_EXACT + 1] = {
		1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
		1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
	};
	const char *start = s, *end = s + len;
	struct reading reading = { 0 };
	bool negative = false;
	double value;

	if (s < end && (*s == '+' || *s == '-'))
		negative = *s++ == '-';
	if (s < end && !is_digit(*s) && *s != '.')
		return read_word(s, (size_t)(end - s), negative, ret_value);
	s = read_digits(s, end, false, &reading);
	if (s < end && *s == '.')
		s = read_digits(s + 1, end, true, &reading);
	if (reading.digits == 0)
		return false;
	if (s < end && (*s == 'e' || *s == 'E')) {
		s = read_exponent(s + 1, end, &reading);
		if (s == NULL)
			return false;
	}
	if (s != end)
		return false;
	if (reading.mantissa > MANTISSA_EXACT || reading.power < -POWER_EXACT || reading.power > POWER_EXACT)
		return read_slowly(start, len, ret_value);
	value = (double)reading.mantissa;
	if (reading.power < 0)
		value /= power_of_ten[-reading.power];
	else
		value *= power_of_ten[reading.power];
	*ret_value = negative ? -value : value;
	return true;
}

bool decimal_read_i64(const char *s, size_t len, int64_t *ret_value)
{
	const char *end = s + len;
	bool negative = false;
	int64_t value = 0;

	if (s < end && (*s == '+' || *s == '-'))
		negative = *s++ == '-';
	if (s == end)
		return false;
	for (; s < end; s++) {
		if (!is_digit(*s) || __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_sub_overflow(value, *s - '0', &value)) /* downwards: INT64_MIN has no positive twin */
			return false;
	}
	if (!negative && value == INT64_MIN)
		return false;
	*ret_value = negative ? value : -value;
	return true;
}
