/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For tests of the exposition (include it after cmocka): writes what the parser hands out as text, one
 * line per sample, so that a test compares two texts.
 *
 *   name family type {label="value",...} value [@timestamp_ms]
 *
 * A native histogram is written as its numbers: H(schema zero_threshold
 * zero_count sum; index:count ...).
 */
#pragma once
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "lib/buffer.h"
#include "lib/decimal.h"
#include "lib/exposition_parse.h"

static inline void sample_hist(struct buffer *out, const struct hist *hist)
{
	char text[DECIMAL_MAX];

	decimal_write(text, hist->zero_threshold);
	buffer_printf(out, "H(%d %s %" PRIu64, hist->schema, text, hist->zero_count);
	decimal_write(text, hist->sum);
	buffer_printf(out, " %s;", text);
	for (uint32_t i = 0; i < hist->n; i++)
		if (hist->buckets[i] != 0)
			buffer_printf(out, " %" PRId64 ":%" PRIu64, (int64_t)hist->first + i, hist->buckets[i]);
	buffer_puts(out, ")");
}

static inline int sample_text(const struct exposition_sample *sample, void *userdata)
{
	struct buffer *out = userdata;
	char text[DECIMAL_MAX];

	buffer_printf(out, "%s %s %s {", sample->name, sample->family, metric_type_name(sample->type));
	for (size_t i = 0; i < sample->n_labels; i++) {
		buffer_printf(out, "%s%s=\"", i > 0 ? "," : "", sample->labels[i].name);
		for (const char *s = sample->labels[i].value; *s != '\0'; s++) {
			if (*s == '\n')
				buffer_puts(out, "<LF>");
			else
				buffer_putc(out, *s);
		}
		buffer_putc(out, '"');
	}
	buffer_puts(out, "} ");
	if (sample->hist != NULL) {
		sample_hist(out, sample->hist);
	} else {
		decimal_write(text, sample->value);
		buffer_puts(out, text);
	}
	if (sample->timestamp_ms != EXPOSITION_NO_TIMESTAMP)
		buffer_printf(out, " @%" PRId64, sample->timestamp_ms);
	buffer_putc(out, '\n');
	return buffer_ok(out) ? 0 : -1;
}

/* A copy of exactly len bytes, so that a sanitizer sees a read past the end. */
static inline int parse(const char *type, const void *data, size_t len, struct buffer *out, struct error *error)
{
	char *copy = malloc(len > 0 ? len : 1);
	int r;

	assert_non_null(copy);
	memcpy(copy, data, len);
	buffer_clear(out);
	buffer_puts(out, "");
	error->text[0] = '\0';
	r = exposition_parse(type, copy, len, sample_text, out, error);
	free(copy);
	return r;
}

static inline void refuse(const char *type, const void *data, size_t len, const char *reason)
{
	struct buffer out = BUFFER_INIT;
	struct error error;
	int r = parse(type, data, len, &out, &error);

	if (r != -EBADMSG || strncmp(error.text, reason, strlen(reason)) != 0)
		fail_msg("%.*s\nexpected %s\ngot %d %s", (int)len, (const char *)data, reason, r, error.text);
	buffer_done(&out);
}
