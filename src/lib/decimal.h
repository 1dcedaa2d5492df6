/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers as the exposition formats spell them: the shortest decimal that reads
 * back as the same double, +Inf, -Inf, NaN. Independent of printf and strtod
 * where that is fast and exact; what is left to them needs LC_NUMERIC to be "C",
 * which no part of the program changes.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DECIMAL_MAX 32 /* bytes any of the writers needs, with the NUL (the longest is 24 characters and ".0") */

/* Each writes a NUL-terminated text to `to` (DECIMAL_MAX bytes) and returns its length. */
size_t decimal_write(char *to, double value);
/* As decimal_write, but a whole number gets ".0", as OpenMetrics wants it for le and quantile. */
size_t decimal_write_bound(char *to, double value);
size_t decimal_write_u64(char *to, uint64_t value);

/* The whole of s[0..len) as a number: decimal digits with an optional sign, point and exponent; inf, infinity and
 * nan in any case. False for everything else, hexadecimal included. */
bool decimal_read(const char *s, size_t len, double *ret_value);
/* The same for a signed whole number. */
bool decimal_read_i64(const char *s, size_t len, int64_t *ret_value);
