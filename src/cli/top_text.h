/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text for a terminal: names that may be anything made harmless, cut and padded to
 * columns, and numbers in few characters. Widths are those of the locale's
 * characters (setlocale(LC_CTYPE, "") must have been called); what it cannot show,
 * and whatever moves a cursor or turns the direction of writing, becomes '?'.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "agent/verdict.h"
#include "lib/address.h"

#define TOP_TEXT_MAX 256  /* bytes of a cell, with its NUL */
#define TOP_NUMBER_MAX 24

enum top_fit { TOP_LEFT, TOP_RIGHT, TOP_MIDDLE /* as left; the middle is left out when it is too long, not the end */ };

/* Harmless text of at most to_size - 1 bytes; a character that does not fit whole is left out. Returns to. */
char *top_clean(const char *text, char *to, size_t to_size);
/* Columns that clean text takes. */
size_t top_width(const char *text);
/* Clean text in exactly `width` columns: cut with an ellipsis, or padded with blanks. Returns to. */
char *top_fit(const char *text, size_t width, enum top_fit fit, char *to, size_t to_size);

/* Each returns buf. "-": not known. At most 6 characters, but counts of 10^15 and more. */
const char *top_seconds(double seconds, char buf[static TOP_NUMBER_MAX]);          /* "85us", "12.3ms" */
const char *top_rate(double bytes_per_second, bool bits, char buf[static TOP_NUMBER_MAX]); /* "0", "12.3k", "1.25M" */
const char *top_ratio(double ratio, char buf[static TOP_NUMBER_MAX]);              /* "0", "0.02%", "12%" */
const char *top_count(double count, char buf[static TOP_NUMBER_MAX]);              /* "0", "999", "1.23k", "0.3" */
/* "12.3 MB/s", "98.4 Mbit/s"; "12.3 MB" */
const char *top_rate_unit(double bytes_per_second, bool bits, char buf[static TOP_NUMBER_MAX]);
const char *top_bytes_unit(double bytes, char buf[static TOP_NUMBER_MAX]);
/* "192.0.2.1:80", "[2001:db8::1]:80" */
const char *top_end(const struct address *address, uint16_t port, char buf[static ADDRESS_TEXT_MAX + 10]);
/* Side and cause in few words: "net loss", "far window", "own reader", "idle". */
const char *top_verdict(enum verdict_cause cause);
