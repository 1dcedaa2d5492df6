/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the sentence of a struct error. The sentence is formatted beside the
 * target first, so an argument may point into the very error that is being
 * replaced ("in file x: " in front of the sentence of a callee). A sentence
 * that does not fit is cut between characters and ends in "...".
 */
#include "lib/error.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void cut_between_characters(char *text, size_t size)
{
	static const char dots[] = "...";
	size_t end = size - sizeof(dots);

	/* Bytes 10xxxxxx continue a UTF-8 character: its first byte has to go as well. */
	while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80)
		end--;
	memcpy(text + end, dots, sizeof(dots));
}

static void write_sentence(struct error *ret_error, const char *format, va_list arguments, const char *suffix)
{
	char text[sizeof(ret_error->text)];
	int n = vsnprintf(text, sizeof(text), format, arguments);

	if (n < 0) {
		/* Only an unconvertible %ls or a sentence beyond INT_MAX: the format itself still says something. */
		n = snprintf(text, sizeof(text), "%s", format);
	}
	if (suffix && (size_t)n < sizeof(text))
		n += snprintf(text + n, sizeof(text) - (size_t)n, ": %s", suffix);
	if ((size_t)n >= sizeof(text))
		cut_between_characters(text, sizeof(text));
	memcpy(ret_error->text, text, strlen(text) + 1);
}

int error_set(struct error *ret_error, int r, const char *format, ...)
{
	va_list arguments;

	if (ret_error) {
		va_start(arguments, format);
		write_sentence(ret_error, format, arguments, NULL);
		va_end(arguments);
	}
	return r;
}

int error_set_errno(struct error *ret_error, int r, const char *format, ...)
{
	va_list arguments;

	assert(r < 0);
	if (ret_error) {
		va_start(arguments, format);
		write_sentence(ret_error, format, arguments, strerror(-r));
		va_end(arguments);
	}
	return r;
}
