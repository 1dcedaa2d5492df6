/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PromQL's tokens. Numbers are decimal or hexadecimal, strings are Go's ("..",
 * '..' with escapes, `..` without), "#" starts a comment. Durations only exist
 * between brackets, so they are read on demand there. Columns count characters
 * (UTF-8), from 1.
 */
#include "server/query_lex.h"
#include "lib/buffer.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DURATION_MAX_MS (100LL * 365 * 86400 * 1000) /* 100 years: no sum of times can overflow */

void lexer_init(struct lexer *l, const char *text, struct error *ret_error)
{
	*l = (struct lexer){ .text = text, .error = ret_error };
}

int lexer_error(const struct lexer *l, size_t offset, const char *format, ...)
{
	size_t line = 1, column = 1;
	char reason[640];
	va_list args;

	for (size_t i = 0; i < offset; i++) {
		if (l->text[i] == '\n') {
			line++;
			column = 1;
		} else if (((unsigned char)l->text[i] & 0xc0) != 0x80) {
			column++;
		}
	}
	va_start(args, format);
	vsnprintf(reason, sizeof(reason), format, args);
	va_end(args);
	return error_set(l->error, -EINVAL, "%zu:%zu: %s", line, column, reason);
}

static bool name_start(char c)
{
	return isalpha((unsigned char)c) || c == '_' || c == ':';
}

static bool name_char(char c)
{
	return name_start(c) || isdigit((unsigned char)c);
}

static void set(struct lexer *l, enum token_kind kind, size_t len)
{
	l->token = (struct token){ .kind = kind, .offset = l->at, .len = len };
	l->at += len;
}

static size_t digits(const char *p, bool hex)
{
	size_t n = 0;

	while (hex ? isxdigit((unsigned char)p[n]) : isdigit((unsigned char)p[n]))
		n++;
	return n;
}

static int lex_number(struct lexer *l)
{
	const char *p = l->text + l->at;
	char copy[64];
	size_t n, exponent;

	if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X') && isxdigit((unsigned char)p[2])) {
		n = 2 + digits(p + 2, true);
	} else {
		n = digits(p, false);
		if (p[n] == '.')
			n += 1 + digits(p + n + 1, false);
		if (p[n] == 'e' || p[n] == 'E') {
			exponent = n + 1 + (p[n + 1] == '+' || p[n + 1] == '-');
			if (digits(p + exponent, false))
				n = exponent + digits(p + exponent, false);
		}
	}
	if (name_char(p[n]) || p[n] == '.')
		return lexer_error(l, l->at,
				   strchr("smhdwy", p[n]) && p[n]
				       ? "a number with a unit is a duration and belongs in brackets, as in x[30s]"
				       : "bad number");
	if (n >= sizeof(copy))
		return lexer_error(l, l->at, "number is too long");
	memcpy(copy, p, n);
	copy[n] = '\0';
	set(l, TOKEN_NUMBER, n);
	l->token.number = strtod(copy, NULL);
	return 0;
}

static int lex_name(struct lexer *l)
{
	const char *p = l->text + l->at;
	size_t n = 0;

	while (name_char(p[n]))
		n++;
	set(l, TOKEN_NAME, n);
	if (n == 3 && (!strncasecmp(p, "inf", 3) || !strncasecmp(p, "nan", 3))) {
		l->token.kind = TOKEN_NUMBER;
		l->token.number = tolower((unsigned char)p[0]) == 'i' ? INFINITY : NAN;
	}
	return 0;
}

static int lex_string(struct lexer *l)
{
	const char *p = l->text + l->at;
	size_t n = 1;

	while (p[n] && p[n] != p[0]) {
		if (p[0] != '`' && p[n] == '\n')
			break;
		n += p[0] != '`' && p[n] == '\\' && p[n + 1] ? 2 : 1;
	}
	if (p[n] != p[0])
		return lexer_error(l, l->at, "the string has no closing %c", p[0]);
	set(l, TOKEN_STRING, n + 1);
	return 0;
}

int lexer_next(struct lexer *l)
{
	static const struct { const char *text; enum token_kind kind;
	} operators[] = {
		{"==", TOKEN_OTHER}, {"=~", TOKEN_REGEX}, {"!=", TOKEN_NOT_EQUAL}, {"!~", TOKEN_NOT_REGEX},
		{"<=", TOKEN_OTHER}, {">=", TOKEN_OTHER}, {"=", TOKEN_EQUAL},      {"<", TOKEN_OTHER},
		{">", TOKEN_OTHER},	 {"%", TOKEN_OTHER},  {"^", TOKEN_OTHER},      {"@", TOKEN_OTHER},
	};
	const char *p;

	for (p = l->text + l->at; isspace((unsigned char)*p) || *p == '#'; p = l->text + l->at)
		l->at += *p == '#' ? strcspn(p, "\n") : 1;
	if (!*p) {
		set(l, TOKEN_END, 0);
		return 0;
	}
	if (name_start(*p))
		return lex_name(l);
	if (isdigit((unsigned char)*p) || (*p == '.' && isdigit((unsigned char)p[1])))
		return lex_number(l);
	if (*p == '"' || *p == '\'' || *p == '`')
		return lex_string(l);
	for (size_t i = 0; i < sizeof(operators) / sizeof(operators[0]); i++)
		if (!strncmp(p, operators[i].text, strlen(operators[i].text))) {
			set(l, operators[i].kind, strlen(operators[i].text));
			return 0;
		}
	if (strchr("(){}[],+-*/", *p)) {
		set(l, (enum token_kind)*p, 1);
		return 0;
	}
	if (isprint((unsigned char)*p))
		return lexer_error(l, l->at, "unexpected character `%c`", *p);
	return lexer_error(l, l->at, "unexpected byte 0x%02x", (unsigned char)*p);
}

int lexer_duration(struct lexer *l, long long *ret_ms)
{
	static const struct { const char *text; long long ms;
	} units[] = {
		{"y", 365LL * 86400000},
		{"w", 7LL * 86400000},
		{"d", 86400000},
		{"h", 3600000},
		{"m", 60000},
		{"s", 1000},
		{"ms", 1},
	};
	size_t start, n_units = sizeof(units) / sizeof(units[0]), next = 0;
	long long total = 0;

	while (isspace((unsigned char)l->text[l->at]))
		l->at++;
	start = l->at;
	while (isdigit((unsigned char)l->text[l->at])) {
		size_t n = digits(l->text + l->at, false), letters = 0, unit;
		long long value = n <= 15 ? strtoll(l->text + l->at, NULL, 10) : DURATION_MAX_MS;

		l->at += n;
		while (isalpha((unsigned char)l->text[l->at + letters]))
			letters++;
		for (unit = next; unit < n_units; unit++)
			if (strlen(units[unit].text) == letters && !strncmp(units[unit].text, l->text + l->at, letters))
				break;
		if (unit == n_units)
			return lexer_error(l, start,
					   "bad duration; write it like 30s, 5m, 1h30m or 2d (units y w d h m s ms, "
					   "each once, largest first)");
		l->at += letters;
		next = unit + 1;
		if (value > DURATION_MAX_MS / units[unit].ms || (total += value * units[unit].ms) > DURATION_MAX_MS)
			return lexer_error(l, start, "the duration is longer than 100 years");
	}
	if (l->at == start)
		return lexer_error(l, start, "expected a duration like 30s or 5m");
	if (total == 0)
		return lexer_error(l, start, "the duration must be greater than 0");
	*ret_ms = total;
	return 0;
}

static void put_utf8(struct buffer *b, unsigned long c)
{
	if (c < 0x80) {
		buffer_putc(b, (char)c);
		return;
	}
	if (c >= 0x10000)
		buffer_putc(b, (char)(0xf0 | c >> 18));
	if (c >= 0x800)
		buffer_putc(b, (char)(c >= 0x10000 ? 0x80 | (c >> 12 & 0x3f) : 0xe0 | c >> 12));
	buffer_putc(b, (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3f) : 0xc0 | c >> 6));
	buffer_putc(b, (char)(0x80 | (c & 0x3f)));
}

/* \xHH, \ooo, \uXXXX, \UXXXXXXXX at p (behind the backslash); how many bytes it takes, 0 when it is none of them. */
static size_t put_numeric_escape(struct buffer *b, const char *p)
{
	bool octal = *p >= '0' && *p <= '7';
	size_t n = octal ? 3 : *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0, from = octal ? 0 : 1;
	char copy[9];
	unsigned long c;

	for (size_t i = 0; i < n; i++)
		if (octal ? p[i] < '0' || p[i] > '7' : !isxdigit((unsigned char)p[from + i]))
			return 0;
	memcpy(copy, p + from, n);
	copy[n] = '\0';
	c = strtoul(copy, NULL, octal ? 8 : 16);
	/* A NUL cannot be in a label value, and would cut ours short. */
	if (n == 0 || c == 0 || c > (n <= 3 ? 0xfful : 0x10fffful) || (c >= 0xd800 && c < 0xe000))
		return 0;
	if (n <= 3)
		buffer_putc(b, (char)c);
	else
		put_utf8(b, c);
	return from + n;
}

int lexer_string(struct lexer *l, char **ret_text)
{
	static const char from[] = "abfnrtv\\\"'", to[] = "\a\b\f\n\r\t\v\\\"'";
	const char *start = l->text + l->token.offset, *p = start + 1, *end = start + l->token.len - 1;
	struct buffer b = BUFFER_INIT;

	buffer_append(&b, "", 0);
	while (p < end) {
		const char *simple;
		size_t n;

		if (*start == '`' || *p != '\\') {
			buffer_putc(&b, *p++);
			continue;
		}
		p++;
		simple = strchr(from, *p);
		if (simple && (simple - from < 8 || *p == *start)) {
			buffer_putc(&b, to[simple - from]);
			p++;
			continue;
		}
		n = put_numeric_escape(&b, p);
		if (!n || p + n > end) {
			buffer_done(&b);
			return lexer_error(l, (size_t)(p - 1 - l->text),
					   "bad escape in the string; write \\\\ for a backslash");
		}
		p += n;
	}
	buffer_putc(&b, '\0');
	*ret_text = buffer_steal(&b, NULL);
	return *ret_text ? 0 : -ENOMEM;
}
