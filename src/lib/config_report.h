/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The errors found in one file: collected in any order while the file is read,
 * written in the order of the file. Positions are byte offsets into the text
 * until then. Only for config*.c.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/buffer.h"

struct config_error;

struct config_report {
	const char *name; /* the file, as the user wrote it */
	const char *text;
	size_t len;
	struct config_error *errors;
	size_t n_errors, cap_errors;
	size_t n_total; /* with those that were only counted */
	bool failed;    /* out of memory */
};

void config_report_init(struct config_report *report, const char *name, const char *text, size_t len);
void config_report_done(struct config_report *report);
/* True when enough is kept: further errors are only counted, so composing a costly sentence is not worth it. */
bool config_report_full(const struct config_report *report);
/* One error about the `len` bytes at `offset`. */
void config_report_add(struct config_report *report, size_t offset, size_t len, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The 1-based line of a byte. */
size_t config_report_line(const struct config_report *report, size_t offset);
/* Writes the errors and "NAME: N errors" to out. */
void config_report_write(struct config_report *report, struct buffer *out);

#define CONFIG_QUOTE_MAX 128
/* Text from the file made safe and short for a message: no control characters, at most 60 characters. */
const char *config_quote(const char *text, size_t len, char buf[static CONFIG_QUOTE_MAX]);
/* Bytes of the UTF-8 sequence at `text`, 0 when it is not one (RFC 3629). */
size_t config_utf8_len(const char *text, size_t len);
