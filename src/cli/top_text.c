/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <wchar.h>

#define INVALID 0xfffd

/* One character of UTF-8 (RFC 3629): its code, or INVALID and one byte. *ret_len bytes, at least 1. */
static uint32_t decode(const char *text, size_t *ret_len)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *s = (const unsigned char *)text;
	size_t len = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
	uint32_t code = len == 1 ? s[0] : len ? s[0] & (0x7fu >> len) : INVALID;

	*ret_len = 1;
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return INVALID;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (len < 2)
		return code;
	if (code < least[len] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
		return INVALID;
	*ret_len = len;
	return code;
}

/* Columns of a character; 0: not to be shown. No width is also what combines, and what turns the direction of writing. */
static size_t columns_of(uint32_t code)
{
	int width;

	if (code < 0x80)
		return code >= ' ' && code <= '~';
	width = code == INVALID ? -1 : wcwidth((wchar_t)code);
	return width > 0 ? (size_t)width : 0;
}

char *top_clean(const char *text, char *to, size_t to_size)
{
	size_t len = 0, n;

	for (; *text; text += n) {
		bool shown = columns_of(decode(text, &n)) > 0;

		if (len + (shown ? n : 1) >= to_size)
			break;
		memcpy(to + len, shown ? text : "?", shown ? n : 1);
		len += shown ? n : 1;
	}
	to[len] = '\0';
	return to;
}

size_t top_width(const char *text)
{
	size_t width = 0, n;

	for (; *text; text += n)
		width += columns_of(decode(text, &n));
	return width;
}

/* Bytes of the longest start of text that takes at most `width` columns; *ret_width: how many it takes. */
static size_t start_of(const char *text, size_t width, size_t *ret_width)
{
	size_t len = 0, taken = 0, n;

	while (text[len]) {
		size_t more = columns_of(decode(text + len, &n));

		if (taken + more > width)
			break;
		taken += more;
		len += n;
	}
	*ret_width = taken;
	return len;
}

/* The longest end likewise. */
static const char *end_of(const char *text, size_t width, size_t *ret_width)
{
	size_t taken = top_width(text), n;

	while (taken > width) {
		taken -= columns_of(decode(text, &n));
		text += n;
	}
	*ret_width = taken;
	return text;
}

struct writer {
	char *to;
	size_t len, size;
};

static void add(struct writer *w, const char *text, size_t len)
{
	if (w->len + len >= w->size)
		return;
	memcpy(w->to + w->len, text, len);
	w->len += len;
}

static void add_blanks(struct writer *w, size_t n)
{
	while (n-- > 0)
		add(w, " ", 1);
}

static void add_cut(struct writer *w, const char *text, size_t width, enum top_fit fit)
{
	const char *ellipsis = wcwidth(0x2026) == 1 ? "\xe2\x80\xa6" : "~";
	size_t tail_width = fit == TOP_MIDDLE ? (width - 1) * 2 / 3 : 0, head_width, head;
	const char *tail = end_of(text, tail_width, &tail_width);

	head = start_of(text, width - 1 - tail_width, &head_width);
	add(w, text, head);
	add(w, ellipsis, strlen(ellipsis));
	add(w, tail, strlen(tail));
	add_blanks(w, width - 1 - tail_width - head_width);
}

char *top_fit(const char *text, size_t width, enum top_fit fit, char *to, size_t to_size)
{
	struct writer w = { to, 0, to_size };
	size_t taken = top_width(text);

	if (taken > width && width > 0) {
		add_cut(&w, text, width, fit);
	} else if (width > 0) {
		add_blanks(&w, fit == TOP_RIGHT ? width - taken : 0);
		add(&w, text, strlen(text));
		add_blanks(&w, fit == TOP_RIGHT ? 0 : width - taken);
	}
	to[w.len] = '\0';
	return to;
}

/* Three digits and a unit of `units`, each 1000 times the one before. */
static const char *scaled(double value, const char *space, const char *const *units, size_t n, char buf[static TOP_NUMBER_MAX])
{
	size_t unit = 0;

	if (!isfinite(value) || value < 0)
		return strcpy(buf, "-");
	while (value >= 999.5 && unit + 1 < n) {
		value /= 1000;
		unit++;
	}
	if (value < 0.05 && !unit)
		snprintf(buf, TOP_NUMBER_MAX, "0%s%s", space, units[0]);
	else if (value < 9.995 && unit)
		snprintf(buf, TOP_NUMBER_MAX, "%.2f%s%s", value, space, units[unit]);
	else if (value < 99.95 && (unit || (value < 9.95 && value != floor(value))))
		snprintf(buf, TOP_NUMBER_MAX, "%.1f%s%s", value, space, units[unit]);
	else
		snprintf(buf, TOP_NUMBER_MAX, "%.0f%s%s", value, space, units[unit]);
	return buf;
}

#define SCALED(value, space, ...) \
	scaled(value, space, (const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *), buf)

const char *top_seconds(double seconds, char buf[static TOP_NUMBER_MAX])
{
	if (seconds >= 999.5)
		snprintf(buf, TOP_NUMBER_MAX, "%.0fs", fmin(seconds, 99999));
	else
		SCALED(seconds * 1e6, "", "us", "ms", "s");
	return buf;
}

const char *top_rate(double bytes_per_second, bool bits, char buf[static TOP_NUMBER_MAX])
{
	return SCALED(bytes_per_second * (bits ? 8 : 1), "", "", "k", "M", "G", "T", "P");
}

const char *top_ratio(double ratio, char buf[static TOP_NUMBER_MAX])
{
	double percent = ratio * 100;

	if (!isfinite(percent) || percent < 0)
		return strcpy(buf, "-");
	if (percent == 0)
		return strcpy(buf, "0");
	snprintf(buf, TOP_NUMBER_MAX, "%.*f%%", percent < 0.095 ? 2 : percent < 9.95 ? 1 : 0, fmin(fmax(percent, 0.01), 999));
	return buf;
}

const char *top_count(double count, char buf[static TOP_NUMBER_MAX])
{
	return SCALED(count, "", "", "k", "M", "G", "T", "P");
}

const char *top_rate_unit(double bytes_per_second, bool bits, char buf[static TOP_NUMBER_MAX])
{
	if (bits)
		return SCALED(bytes_per_second * 8, " ", "bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s");
	return SCALED(bytes_per_second, " ", "B/s", "kB/s", "MB/s", "GB/s", "TB/s");
}

const char *top_bytes_unit(double bytes, char buf[static TOP_NUMBER_MAX])
{
	return SCALED(bytes, " ", "B", "kB", "MB", "GB", "TB", "PB");
}

const char *top_end(const struct address *address, uint16_t port, char buf[static ADDRESS_TEXT_MAX + 10])
{
	char text[ADDRESS_TEXT_MAX];

	address_format(address, text);
	snprintf(buf, ADDRESS_TEXT_MAX + 10, address_is_ipv4(address) ? "%s:%u" : "[%s]:%u", text, port);
	return buf;
}

const char *top_verdict(enum verdict_cause cause)
{
	static const char *const words[CAUSE_COUNT] = {
		[CAUSE_IDLE] = "idle", [CAUSE_LOSS] = "net loss", [CAUSE_DISTANCE] = "net distance", [CAUSE_BANDWIDTH] = "net bandwidth",
		[CAUSE_RECEIVE_WINDOW] = "far window", [CAUSE_FAR_APPLICATION] = "far app", [CAUSE_SEND_BUFFER] = "own buffer",
		[CAUSE_LOCAL_READER] = "own reader", [CAUSE_LOCAL_WRITER] = "own writer",
	};

	return (unsigned)cause < CAUSE_COUNT ? words[cause] : words[CAUSE_IDLE];
}
