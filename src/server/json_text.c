/* SPDX-License-Identifier: Apache-2.0 */
/* See json_text.h. */
#include "server/json_text.h"
#include <math.h>
#include <string.h>
#include "lib/decimal.h"

#define UTF8_MAX 4                 /* bytes of the longest character */
#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

static void escape(struct buffer *out, unsigned char c)
{
	switch (c) {
	case '"':
		buffer_puts(out, "\\\"");
		break;
	case '\\':
		buffer_puts(out, "\\\\");
		break;
	case '\n':
		buffer_puts(out, "\\n");
		break;
	case '\t':
		buffer_puts(out, "\\t");
		break;
	default:
		buffer_printf(out, "\\u%04x", c);
	}
}

/* Bytes of whole characters at s that are not ASCII: what stands behind them may need its own treatment. */
static size_t foreign_prefix(const char *s, const char *end)
{
	size_t n = 0;

	while (n < UTF8_MAX && s + n < end && (unsigned char)s[n] >= 0x80)
		n++;
	return metric_utf8_prefix(s, n);
}

void json_text_string(struct buffer *out, const char *s)
{
	const char *end = s + strlen(s), *plain = s;

	buffer_putc(out, '"');
	while (s < end) {
		const unsigned char c = (unsigned char)*s;
		size_t n = 1;

		if (c >= 0x80)
			n = foreign_prefix(s, end);
		if (n > 0 && c >= 0x20 && c != '"' && c != '\\') {
			s += n;
			continue;
		}
		buffer_append(out, plain, (size_t)(s - plain));
		if (n == 0)
			buffer_puts(out, REPLACEMENT);
		else
			escape(out, c);
		plain = ++s;
	}
	buffer_append(out, plain, (size_t)(s - plain));
	buffer_putc(out, '"');
}

void json_text_value(struct buffer *out, double value)
{
	char text[DECIMAL_MAX + 2];
	size_t len;

	text[0] = '"';
	len = decimal_write(text + 1, value);
	text[len + 1] = '"';
	buffer_append(out, text, len + 2);
}

void json_text_number(struct buffer *out, double value)
{
	char text[DECIMAL_MAX];

	if (isfinite(value))
		buffer_append(out, text, decimal_write(text, value));
	else
		buffer_puts(out, "null");
}

void json_text_seconds(struct buffer *out, int64_t ms)
{
	const uint64_t abs = ms < 0 ? -(uint64_t)ms : (uint64_t)ms;
	char text[DECIMAL_MAX + 4];
	size_t len;

	if (ms < 0)
		buffer_putc(out, '-');
	len = decimal_write_u64(text, abs / 1000);
	text[len++] = '.';
	text[len++] = (char)('0' + abs / 100 % 10);
	text[len++] = (char)('0' + abs / 10 % 10);
	text[len++] = (char)('0' + abs % 10);
	buffer_append(out, text, len);
}

void json_text_labels(struct buffer *out, const struct label *labels, size_t n)
{
	buffer_putc(out, '{');
	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			buffer_putc(out, ',');
		json_text_string(out, labels[i].name);
		buffer_putc(out, ':');
		json_text_string(out, labels[i].value);
	}
	buffer_putc(out, '}');
}
