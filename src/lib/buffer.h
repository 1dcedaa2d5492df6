/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growable run of bytes. Out of memory is sticky: after the first failed
 * growth every append is a no-op and buffer_ok() is false, so a writer checks
 * once at its end. data is always NUL-terminated beyond len (when not NULL), so
 * a buffer of text can be handed to printf.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct buffer {
	char *data;   /* owned; NULL until the first append */
	size_t len;   /* bytes in use, without the NUL */
	size_t cap;   /* bytes allocated */
	bool failed;  /* an allocation failed; the content is incomplete */
};

#define BUFFER_INIT { 0 }

void buffer_init(struct buffer *b);
void buffer_done(struct buffer *b);   /* frees; leaves an empty buffer; safe on a zeroed one */
void buffer_clear(struct buffer *b);  /* len = 0, failed = false; keeps the memory */
bool buffer_ok(const struct buffer *b);

/* Makes room for `extra` more bytes plus a NUL and returns where they go (then
 * add to len yourself), or NULL when out of memory. */
char *buffer_reserve(struct buffer *b, size_t extra);

void buffer_append(struct buffer *b, const void *data, size_t len);
void buffer_puts(struct buffer *b, const char *s);
void buffer_putc(struct buffer *b, char c);
void buffer_printf(struct buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Hands the bytes to the caller (free() them), leaves an empty buffer. NULL when failed. */
char *buffer_steal(struct buffer *b, size_t *ret_len);
