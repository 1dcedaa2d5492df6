/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors with a source line and a caret.
 *
 * A hostile file can hold an error in every second byte, on a line of a
 * megabyte, with a key of a megabyte. So the number of errors kept and written
 * is bounded (the rest is counted and the count is shown), a long source line is
 * shown as a window around the caret, and quoted text is cut. Columns count
 * characters, a tab as one, and the caret line repeats the tabs of the source
 * line, so the two align at any tab width.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/config_report.h"

#define ERRORS_KEPT 200    /* sorted before the first ones are written */
#define ERRORS_WRITTEN 50  /* two screens; who has more fixes these first */
#define WINDOW_CHARS 120   /* of a source line */
#define WINDOW_BEFORE 40   /* characters kept before the caret when the line is cut on the left */

struct config_error {
	size_t offset, len;
	size_t order; /* of discovery, among errors at the same place */
	char *message;
};

void config_report_init(struct config_report *report, const char *name, const char *text, size_t len)
{
	*report = (struct config_report){ .name = name, .text = text, .len = len };
}

void config_report_done(struct config_report *report)
{
	for (size_t i = 0; i < report->n_errors; i++)
		free(report->errors[i].message);
	free(report->errors);
	*report = (struct config_report){ 0 };
}

bool config_report_full(const struct config_report *report)
{
	return report->n_errors >= ERRORS_KEPT;
}

static bool report_grow(struct config_report *report)
{
	if (report->n_errors < report->cap_errors)
		return true;
	size_t cap = report->cap_errors ? report->cap_errors * 2 : 16;
	struct config_error *errors = reallocarray(report->errors, cap, sizeof(*errors));
	if (!errors)
		return false;
	report->errors = errors;
	report->cap_errors = cap;
	return true;
}

void config_report_add(struct config_report *report, size_t offset, size_t len, const char *format, ...)
{
	report->n_total++;
	if (config_report_full(report))
		return;
	if (!report_grow(report)) {
		report->failed = true;
		return;
	}
	struct config_error *error = &report->errors[report->n_errors];
	*error = (struct config_error){ .offset = offset < report->len ? offset : report->len, .len = len,
					.order = report->n_errors };
	va_list args;
	va_start(args, format);
	int r = vasprintf(&error->message, format, args);
	va_end(args);
	if (r < 0) {
		report->failed = true;
		return;
	}
	report->n_errors++;
}

size_t config_utf8_len(const char *text, size_t len)
{
	const unsigned char *b = (const unsigned char *)text;
	if (!len)
		return 0;
	if (b[0] < 0x80)
		return 1;
	size_t n = b[0] >= 0xc2 && b[0] < 0xe0	 ? 2
		   : b[0] >= 0xe0 && b[0] < 0xf0 ? 3
		   : b[0] >= 0xf0 && b[0] < 0xf5 ? 4
						 : 0;
	if (!n || n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((b[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates and code points beyond U+10FFFF. */
	if ((b[0] == 0xe0 && b[1] < 0xa0) || (b[0] == 0xed && b[1] > 0x9f) || (b[0] == 0xf0 && b[1] < 0x90) ||
	    (b[0] == 0xf4 && b[1] > 0x8f))
		return 0;
	return n;
}

/* Bytes to step over one character; a byte that is not UTF-8 counts as one. */
static size_t char_step(const char *text, size_t len)
{
	size_t n = config_utf8_len(text, len);
	return n ? n : 1;
}

static bool is_control(const char *text, size_t n)
{
	const unsigned char *b = (const unsigned char *)text;
	return b[0] < 0x20 || b[0] == 0x7f || (n == 1 && b[0] >= 0x80) || (n == 2 && b[0] == 0xc2 && b[1] < 0xa0);
}

const char *config_quote(const char *text, size_t len, char buf[static CONFIG_QUOTE_MAX])
{
	size_t out = 0, chars = 0;
	for (size_t i = 0; i < len; chars++) {
		size_t n = char_step(text + i, len - i);
		/* Room for one escaped character, the dots and the NUL. */
		if (chars == 60 || out + 4 * n + 4 > CONFIG_QUOTE_MAX) {
			memcpy(buf + out, "...", 3);
			out += 3;
			break;
		}
		if (is_control(text + i, n)) {
			for (size_t k = 0; k < n; k++, out += 4)
				snprintf(buf + out, 5, "\\x%02x", (unsigned char)text[i + k]);
		} else {
			memcpy(buf + out, text + i, n);
			out += n;
		}
		i += n;
	}
	buf[out] = '\0';
	return buf;
}

/* YAML ends a line at LF, CR LF or CR alone. */
static bool ends_line(const struct config_report *report, size_t i)
{
	return report->text[i] == '\n' ||
	       (report->text[i] == '\r' && (i + 1 >= report->len || report->text[i + 1] != '\n'));
}

struct place { size_t line, start, end; /* bytes, without the line's end */ };

static struct place place_of(const struct config_report *report, size_t offset)
{
	struct place place = { .line = 1 };
	for (size_t i = 0; i < offset && i < report->len; i++)
		if (ends_line(report, i)) {
			place.line++;
			place.start = i + 1;
		}
	place.end = place.start;
	while (place.end < report->len && report->text[place.end] != '\n' && report->text[place.end] != '\r')
		place.end++;
	return place;
}

size_t config_report_line(const struct config_report *report, size_t offset)
{
	return place_of(report, offset).line;
}

/* Source text for a terminal: what would move its cursor, or is no character at all, becomes a question mark. */
static void write_plain(const char *text, size_t len, struct buffer *out)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = char_step(text + i, len - i);
		if (text[i] != '\t' && is_control(text + i, n))
			buffer_putc(out, '?');
		else
			buffer_append(out, text + i, n);
	}
}

/* The source line, or a window of it, and the caret below. */
static void write_source(const struct config_report *report, const struct config_error *error, struct place place,
			 size_t column, struct buffer *out)
{
	const char *text = report->text;
	size_t start = place.start, skip = column > WINDOW_CHARS ? column - 1 - WINDOW_BEFORE : 0;
	for (size_t i = 0; i < skip; i++)
		start += char_step(text + start, place.end - start);
	size_t end = start;
	for (size_t i = 0; i < WINDOW_CHARS && end < place.end; i++)
		end += char_step(text + end, place.end - end);
	buffer_puts(out, skip ? "..." : "");
	write_plain(text + start, end - start, out);
	buffer_puts(out, end < place.end ? "...\n" : "\n");

	buffer_puts(out, skip ? "   " : "");
	size_t at = error->offset < place.end ? error->offset : place.end;
	for (size_t i = start; i < at; i += char_step(text + i, at - i))
		buffer_putc(out, text[i] == '\t' ? '\t' : ' ');
	buffer_putc(out, '^');
	size_t stop = error->len < end - (at < end ? at : end) ? at + error->len : end;
	for (size_t i = at + (at < stop ? char_step(text + at, stop - at) : 0); i < stop;
	     i += char_step(text + i, stop - i))
		buffer_putc(out, '~');
	buffer_putc(out, '\n');
}

static void write_error(const struct config_report *report, const struct config_error *error, struct buffer *out)
{
	struct place place = place_of(report, error->offset);
	size_t column = 1, at = error->offset < place.end ? error->offset : place.end;
	for (size_t i = place.start; i < at; i += char_step(report->text + i, at - i))
		column++;
	buffer_printf(out, "%s:%zu:%zu: error: %s\n", report->name, place.line, column, error->message);
	write_source(report, error, place, column, out);
}

static int error_order(const void *left, const void *right)
{
	const struct config_error *a = left, *b = right;
	if (a->offset != b->offset)
		return a->offset < b->offset ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

void config_report_write(struct config_report *report, struct buffer *out)
{
	if (report->n_errors > 1)
		qsort(report->errors, report->n_errors, sizeof(*report->errors), error_order);
	size_t written = report->n_errors < ERRORS_WRITTEN ? report->n_errors : ERRORS_WRITTEN;
	for (size_t i = 0; i < written; i++)
		write_error(report, &report->errors[i], out);
	buffer_printf(out, "%s: %zu error%s", report->name, report->n_total, report->n_total == 1 ? "" : "s");
	if (written < report->n_total)
		buffer_printf(out, " (%zu are shown)", written);
	buffer_putc(out, '\n');
}
