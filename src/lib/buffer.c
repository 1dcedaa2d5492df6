/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The growable run of bytes. Invariants: cap is 0 with data NULL, or
 * len < cap and data[len] is NUL. Growth doubles, so appending byte by byte
 * costs amortised constant time. Every size is checked for overflow before it
 * is used; a size that does not fit counts as out of memory.
 */
#include "lib/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_CAP_MIN 64 /* bytes: holds one short line, smaller blocks cost malloc as much */

void buffer_init(struct buffer *b)
{
	*b = (struct buffer)BUFFER_INIT;
}

void buffer_done(struct buffer *b)
{
	free(b->data);
	buffer_init(b);
}

void buffer_clear(struct buffer *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

bool buffer_ok(const struct buffer *b)
{
	return !b->failed;
}

char *buffer_reserve(struct buffer *b, size_t extra)
{
	size_t need, cap;
	char *data;

	if (b->failed)
		return NULL;
	/* Half the address space leaves room for the NUL and for the doubling below. */
	if (extra > SIZE_MAX / 2 - 1 || b->len > SIZE_MAX / 2 - 1 - extra) {
		b->failed = true;
		return NULL;
	}
	need = b->len + extra + 1;
	if (need > b->cap) {
		cap = b->cap ? b->cap : BUFFER_CAP_MIN;
		while (cap < need)
			cap *= 2;
		data = realloc(b->data, cap);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
		b->data[b->len] = '\0';
	}
	return b->data + b->len;
}

void buffer_append(struct buffer *b, const void *data, size_t len)
{
	char *to = buffer_reserve(b, len);

	if (!to)
		return;
	if (len > 0)
		memcpy(to, data, len);
	to[len] = '\0';
	b->len += len;
}

void buffer_puts(struct buffer *b, const char *s)
{
	buffer_append(b, s, strlen(s));
}

void buffer_putc(struct buffer *b, char c)
{
	buffer_append(b, &c, 1);
}

void buffer_printf(struct buffer *b, const char *format, ...)
{
	va_list arguments;
	char *to = buffer_reserve(b, 0);
	size_t room;
	int n;

	if (!to)
		return;
	room = b->cap - b->len;
	va_start(arguments, format);
	n = vsnprintf(to, room, format, arguments);
	va_end(arguments);
	if (n < 0)
		goto fail;
	if ((size_t)n >= room) {
		*to = '\0'; /* when growing fails nothing of the first try may stay visible */
		to = buffer_reserve(b, (size_t)n);
		if (!to)
			return;
		va_start(arguments, format);
		n = vsnprintf(to, (size_t)n + 1, format, arguments);
		va_end(arguments);
		if (n < 0)
			goto fail;
	}
	b->len += (size_t)n;
	return;
fail:
	b->data[b->len] = '\0';
	b->failed = true;
}

char *buffer_steal(struct buffer *b, size_t *ret_len)
{
	char *data;

	/* An empty buffer still gives a string to free: NULL means failure only. */
	if (!buffer_reserve(b, 0)) {
		buffer_done(b);
		return NULL;
	}
	data = b->data;
	if (ret_len)
		*ret_len = b->len;
	buffer_init(b);
	return data;
}
