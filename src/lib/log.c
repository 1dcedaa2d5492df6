/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines as logfmt or JSON, one write(2) each, so that lines of several
 * processes on one pipe do not mix (up to PIPE_BUF, pipe(7)).
 *
 * Both formats share one escaping, that of JSON strings (RFC 8259, section 7).
 * Beyond what JSON demands it also escapes what can change how a terminal shows
 * a line: DEL, the C1 controls (U+0080..9F), line and paragraph separators and
 * the bidirectional controls. A byte that is not UTF-8 becomes U+FFFD.
 *
 * This is the one module with mutable file-scope state: log_setup writes it at
 * the start of the program, before any thread; the counters are atomic.
 */
#include "lib/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/buffer.h"
#include "lib/clock.h"

#define WRITE_WAIT_MS 100 /* for a full non-blocking pipe; longer would hold up the event loop */

static const char *const level_names[] = { "debug", "info", "warn", "error" };

static struct {
	char component[32];
	enum log_level level;
	bool json;
	bool terminal;
} state = { .component = "netsonde", .level = LOG_INFO };

static atomic_ulong lost_lines;
static atomic_bool torn; /* the last line was written in part */

int log_setup(const char *component, const char *level, const char *format, struct error *ret_error)
{
	size_t n_levels = sizeof(level_names) / sizeof(level_names[0]), l = LOG_INFO;
	bool json = format && strcmp(format, "json") == 0;

	if (level)
		for (l = 0; l < n_levels && strcmp(level, level_names[l]) != 0; l++)
			;
	if (l == n_levels)
		return error_set(ret_error, -EINVAL, "unknown log level \"%.40s\"; known are debug, info, warn and error",
				 level);
	if (format && !json && strcmp(format, "logfmt") != 0)
		return error_set(ret_error, -EINVAL, "unknown log format \"%.40s\"; known are logfmt and json", format);
	snprintf(state.component, sizeof(state.component), "%s", component);
	state.level = (enum log_level)l;
	state.json = json;
	state.terminal = isatty(STDERR_FILENO) == 1;
	return 0;
}

bool log_enabled(enum log_level level)
{
	return level >= state.level;
}

/* Bytes of the UTF-8 character at s (RFC 3629: shortest form, no surrogates, up to U+10FFFF), 0 when there is none. */
static size_t utf8_length(const unsigned char *s, size_t len, uint32_t *ret_code)
{
	static const uint32_t shortest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t n = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : (s[0] & 0xf8) == 0xf0 ? 4 : 0;
	uint32_t code = n == 1 ? s[0] : s[0] & (0x7fu >> n);

	if (n == 0 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if (code < shortest[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	*ret_code = code;
	return n;
}

static bool must_escape(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

static void put_quoted(struct buffer *out, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t full = strlen(text), n;
	size_t len = full <= LOG_VALUE_MAX ? full : LOG_VALUE_MAX;
	uint32_t code;

	/* Not within a character; 4 is its longest, so that a run of stray bytes does not eat up the value. */
	while (len < full && (s[len] & 0xc0) == 0x80 && len > LOG_VALUE_MAX - 4)
		len--;
	buffer_putc(out, '"');
	for (size_t i = 0; i < len; i += n) {
		n = utf8_length(s + i, len - i, &code);
		if (n == 0) {
			n = 1;
			buffer_puts(out, "\\ufffd");
		} else if (code == '"' || code == '\\') {
			buffer_putc(out, '\\');
			buffer_putc(out, (char)code);
		} else if (code == '\n' || code == '\r' || code == '\t') {
			buffer_puts(out, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t");
		} else if (must_escape(code)) {
			buffer_printf(out, "\\u%04x", code);
		} else {
			buffer_append(out, s + i, n);
		}
	}
	if (len < full)
		buffer_printf(out, "... (%zu bytes)", full);
	buffer_putc(out, '"');
}

/* A logfmt value needs no quotes when nobody could take it for anything else. */
static bool is_bare(const char *text)
{
	size_t len = strlen(text);

	if (len == 0 || len > LOG_VALUE_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		if (text[i] <= ' ' || text[i] >= 0x7f || strchr("\"=\\", text[i]))
			return false;
	return true;
}

static void put_pair(struct buffer *out, const char *key, const char *value, bool always_quoted)
{
	if (state.json) {
		buffer_putc(out, out->len > 0 ? ',' : '{');
		put_quoted(out, key);
		buffer_putc(out, ':');
	} else {
		if (out->len > 0)
			buffer_putc(out, ' ');
		for (const char *k = key; *k; k++)
			buffer_putc(out, *k > ' ' && *k < 0x7f && !strchr("\"=\\", *k) ? *k : '_');
		buffer_putc(out, '=');
	}
	if (!value)
		buffer_puts(out, "null");
	else if (state.json || always_quoted || !is_bare(value))
		put_quoted(out, value);
	else
		buffer_puts(out, value);
}

static void put_time(struct buffer *out)
{
	wall_time now = wall_now();
	time_t seconds = (time_t)(now.ns / (int64_t)NS_PER_SEC);
	unsigned ms = (unsigned)(now.ns / (int64_t)NS_PER_MS % 1000);
	struct tm t = { 0 };
	char text[40];

	if (!state.json && state.terminal) {
		localtime_r(&seconds, &t);
		buffer_printf(out, "%02d:%02d:%02d.%03u", t.tm_hour, t.tm_min, t.tm_sec, ms);
		return;
	}
	gmtime_r(&seconds, &t);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &t);
	snprintf(text + strlen(text), sizeof(text) - strlen(text), ".%03uZ", ms);
	put_pair(out, "ts", text, false);
}

/* One write when the other side takes it whole, which it does unless a pipe is full. */
static bool write_line(const char *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(STDERR_FILENO, data + done, len - done);
		struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN && poll(&p, 1, WRITE_WAIT_MS) > 0)
			continue;
		else if (errno != EINTR)
			break;
	}
	if (done > 0)
		atomic_store(&torn, done < len);
	return done == len;
}

void log_event(enum log_level level, const char *message, ...)
{
	struct buffer line = BUFFER_INIT;
	int saved_errno = errno;
	unsigned long lost;
	char lost_text[24];
	const char *key;
	va_list arguments;

	if (!log_enabled(level))
		return;
	put_time(&line);
	put_pair(&line, "level", level_names[level], false);
	put_pair(&line, "component", state.component, false);
	put_pair(&line, "msg", message, true);
	va_start(arguments, message);
	while ((key = va_arg(arguments, const char *)))
		put_pair(&line, key, va_arg(arguments, const char *), false);
	va_end(arguments);
	lost = atomic_exchange(&lost_lines, 0);
	if (lost > 0) {
		snprintf(lost_text, sizeof(lost_text), "%lu", lost);
		put_pair(&line, "lost_lines", lost_text, false);
	}
	buffer_puts(&line, state.json ? "}\n" : "\n");
	/* What was written of a torn line must not become the start of this one. */
	if (!buffer_ok(&line) || (atomic_load(&torn) && !write_line("\n", 1)) || !write_line(line.data, line.len))
		atomic_fetch_add(&lost_lines, lost + 1);
	buffer_done(&line);
	errno = saved_errno;
}
