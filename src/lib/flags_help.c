/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --help and the command's part of netsonde(1), from the rows of its flags. Help
 * is wrapped at 80 columns, or at COLUMNS where a shell exports it; the flags
 * stand in a column as wide as the longest of them, within reason.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/flags.h"

#define COLUMN_MAX 34 /* a flag longer than this has its help on the next line */

static size_t help_width(void)
{
	const char *columns = getenv("COLUMNS");
	unsigned long width = columns ? strtoul(columns, NULL, 10) : 0;
	return width < 40 || width > 500 ? 80 : width;
}

/* The words of text, each line indented; the first line starts at column `at`. Empty lines stay paragraphs. */
static void write_wrapped(const char *text, size_t at, size_t indent, size_t width, struct buffer *out)
{
	bool fresh = true;
	while (*text) {
		if (*text == '\n' || *text == ' ') {
			if (text[0] == '\n' && text[1] == '\n') {
				buffer_printf(out, "\n\n%*s", (int)indent, "");
				at = indent;
				fresh = true;
			}
			text++;
			continue;
		}
		size_t len = strcspn(text, " \n");
		if (!fresh && at + 1 + len > width) {
			buffer_printf(out, "\n%*s", (int)indent, "");
			at = indent;
			fresh = true;
		}
		buffer_puts(out, fresh ? "" : " ");
		buffer_append(out, text, len);
		at += len + (fresh ? 0 : 1);
		fresh = false;
		text += len;
	}
	buffer_putc(out, '\n');
}

/* What the target holds, as it would be typed; nothing for what is unset. */
static void write_default(const struct flag *flag, const void *defaults, struct buffer *out)
{
	const void *value = (const char *)defaults + flag->offset;
	const struct flag_strings *strings = value;
	char text[32];
	switch (flag->type) {
	case FLAG_SWITCH:
		buffer_puts(out, *(const bool *)value ? "on" : "");
		break;
	case FLAG_STRING:
	case FLAG_CHOICE:
		buffer_puts(out, *(const char *const *)value ? *(const char *const *)value : "");
		break;
	case FLAG_STRINGS:
		for (size_t i = 0; i < strings->n; i++)
			buffer_printf(out, "%s%s", i ? ", " : "", strings->items[i]);
		break;
	case FLAG_UINT:
		buffer_printf(out, "%" PRIu64, *(const uint64_t *)value);
		break;
	case FLAG_DURATION:
		buffer_puts(out, duration_format(*(const uint64_t *)value, text));
		break;
	case FLAG_SECONDS:
		buffer_puts(out, *(const uint64_t *)value ? duration_format(*(const uint64_t *)value, text) : "");
		break;
	}
}

/* The help of a flag with what the row and the defaults add to it. */
static void flag_text(const struct flag *flag, const void *defaults, struct buffer *out)
{
	struct buffer value = BUFFER_INIT;
	buffer_puts(out, flag->help);
	if (defaults)
		write_default(flag, defaults, &value);
	if (value.len)
		buffer_printf(out, " (default: %s)", value.data);
	buffer_done(&value);
}

static bool is_on(const struct flag *flag, const void *defaults)
{
	return flag->type == FLAG_SWITCH && defaults && *(const bool *)((const char *)defaults + flag->offset);
}

static const char *value_name(const struct flag *flag)
{
	static const char *const names[] = { [FLAG_STRING] = "TEXT", [FLAG_STRINGS] = "TEXT", [FLAG_UINT] = "N",
					     [FLAG_DURATION] = "DURATION",
					     [FLAG_SECONDS] = "SECONDS", [FLAG_CHOICE] = "WORD" };
	return flag->value ? flag->value : flag->choices ? flag->choices : names[flag->type];
}

/* "  -f, --config.file=FILE" */
static void flag_left(const struct flag *flag, const void *defaults, struct buffer *out)
{
	if (flag->letter)
		buffer_printf(out, "  -%c, ", flag->letter);
	else
		buffer_puts(out, "      ");
	buffer_printf(out, "--%s%s", is_on(flag, defaults) ? "[no-]" : "", flag->name);
	if (flag->type != FLAG_SWITCH)
		buffer_printf(out, "=%s", value_name(flag));
}

static void write_row(const char *left, size_t left_len, const char *text, size_t column, size_t width,
		      struct buffer *out)
{
	buffer_puts(out, left);
	if (left_len + 2 > column)
		buffer_printf(out, "\n%*s", (int)column, "");
	else
		buffer_printf(out, "%*s", (int)(column - left_len), "");
	write_wrapped(text, column, column, width, out);
}

static size_t column_of(const struct flag_command *command, const void *defaults)
{
	size_t column = strlen("  -h, --help") + 2;
	struct buffer left = BUFFER_INIT;
	for (const struct flag *flag = command->flags; flag && flag->name; flag++) {
		buffer_clear(&left);
		flag_left(flag, defaults, &left);
		if (!flag->hidden && left.len + 2 > column && left.len + 2 <= COLUMN_MAX)
			column = left.len + 2;
	}
	buffer_done(&left);
	return column;
}

void flags_write_help(const struct flag_command *command, const void *defaults, struct buffer *out)
{
	static const char help_left[] = "  -h, --help";
	size_t width = help_width(), column = column_of(command, defaults);
	buffer_printf(out, "Usage: %s%s [flags]%s%s\n\n", command->standalone ? "" : "netsonde ",
		      command->name, command->arguments ? " " : "",
		      command->arguments ? command->arguments : "");
	write_wrapped(command->description ? command->description : command->summary, 0, 0, width, out);
	buffer_puts(out, "\nFlags:\n");
	for (const struct flag *flag = command->flags; flag && flag->name; flag++) {
		struct buffer left = BUFFER_INIT, text = BUFFER_INIT;
		if (flag->hidden)
			continue;
		flag_left(flag, defaults, &left);
		flag_text(flag, defaults, &text);
		if (buffer_ok(&left) && buffer_ok(&text))
			write_row(left.data, left.len, text.data ? text.data : "", column, width, out);
		buffer_done(&left);
		buffer_done(&text);
	}
	write_row(help_left, sizeof(help_left) - 1, "Show this help and exit.", column, width, out);
}

void flags_write_roff(const char *text, struct buffer *out)
{
	for (const char *c = text; *c; c++) {
		if ((c == text || c[-1] == '\n') && (*c == '.' || *c == '\''))
			buffer_puts(out, "\\&");
		if (*c == '\n' && c[1] == '\n') {
			buffer_puts(out, "\n.PP\n");
			c++;
		} else if (*c == '\\') {
			buffer_puts(out, "\\e");
		} else if (*c == '-') {
			buffer_puts(out, "\\-");
		} else {
			buffer_putc(out, *c);
		}
	}
}

static void write_flag_man(const struct flag *flag, const void *defaults, struct buffer *out)
{
	struct buffer text = BUFFER_INIT;
	buffer_puts(out, ".TP\n");
	if (flag->letter)
		buffer_printf(out, "\\fB\\-%c\\fR, ", flag->letter);
	buffer_printf(out, "\\fB\\-\\-%s", is_on(flag, defaults) ? "[no\\-]" : "");
	flags_write_roff(flag->name, out);
	buffer_puts(out, "\\fR");
	if (flag->type != FLAG_SWITCH) {
		buffer_puts(out, "=\\fI");
		flags_write_roff(value_name(flag), out);
		buffer_puts(out, "\\fR");
	}
	buffer_putc(out, '\n');
	flag_text(flag, defaults, &text);
	flags_write_roff(text.data ? text.data : "", out);
	buffer_putc(out, '\n');
	buffer_done(&text);
}

void flags_write_man(const struct flag_command *command, const void *defaults, struct buffer *out)
{
	buffer_printf(out, ".SS \"%s%s [flags]%s%s\"\n", command->standalone ? "" : "netsonde ", command->name,
		      command->arguments ? " " : "",
		      command->arguments ? command->arguments : "");
	flags_write_roff(command->description ? command->description : command->summary, out);
	buffer_putc(out, '\n');
	for (const struct flag *flag = command->flags; flag && flag->name; flag++)
		if (!flag->hidden)
			write_flag_man(flag, defaults, out);
	if (command->details) {
		buffer_puts(out, ".PP\n");
		flags_write_roff(command->details, out);
		buffer_putc(out, '\n');
	}
}
