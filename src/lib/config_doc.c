/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema written for people: an example file that sets every key to its
 * default, and the man page's table. Rows stand in the order of the file and
 * every section has a row before its keys, so both are one pass over the table.
 */
#include <string.h>
#include "lib/config.h"
#include "lib/config_value.h"
#include "lib/flags.h"

#define WIDTH 80 /* columns of the example's comments */

static const char *type_name(enum config_type type)
{
	static const char *const names[] = {
	    [CONFIG_SECTION] = "section", [CONFIG_SWITCH] = "on or off",
	    [CONFIG_UNSIGNED] = "number", [CONFIG_SIZE] = "size",
	    [CONFIG_RATE] = "rate", [CONFIG_SIZE_RATE] = "size per second",
	    [CONFIG_DURATION] = "duration", [CONFIG_STRING] = "text",
	    [CONFIG_CHOICE] = "word",	  [CONFIG_URL] = "URL",
	    [CONFIG_PREFIX] = "address or prefix", [CONFIG_LIST] = "list",
	    [CONFIG_MAP] = "map",
	};
	return names[type];
}

static size_t depth_of(const char *path)
{
	size_t depth = 0;
	for (; (path = strchr(path, '.')); path++)
		depth++;
	return depth;
}

/* "Number, 0 to 4096" */
static void write_kind(const struct config_row *row, struct buffer *out)
{
	struct buffer range = BUFFER_INIT;
	if (row->type == CONFIG_CHOICE)
		config_expected(row, out);
	else
		buffer_puts(out, type_name(row->type));
	if (config_switch_keys(row))
		buffer_puts(out, ", or the keys below it, which mean on");
	config_range(row, &range);
	if (range.len)
		buffer_printf(out, ", %s", range.data);
	if (row->flags & CONFIG_REQUIRED)
		buffer_puts(out, ", required");
	if (row->flags & CONFIG_UNIQUE)
		buffer_puts(out, ", unique");
	buffer_done(&range);
}

/* Comment lines: `lead` begins each, words are wrapped. */
static void write_comment(const char *text, size_t indent, const char *lead, struct buffer *out)
{
	size_t column = 0;
	while (*text) {
		size_t len = strcspn(text, " ");
		if (column && column + 1 + len > WIDTH) {
			buffer_putc(out, '\n');
			column = 0;
		}
		if (!column) {
			buffer_printf(out, "%*s%s", (int)indent, "", lead);
			column = indent + strlen(lead);
		} else {
			buffer_putc(out, ' ');
			column++;
		}
		buffer_append(out, text, len);
		column += len;
		text += len;
		text += strspn(text, " ");
	}
	buffer_putc(out, '\n');
}

/* The keys of a list's records, as comments. */
static void write_element_comments(const struct config_row *row, size_t indent, struct buffer *out)
{
	const struct config_row *rows = config_value_rows(row);
	if (config_plain_row(row))
		return;
	write_comment("Each entry has:", indent, "# ", out);
	for (; rows->path; rows++) {
		struct buffer text = BUFFER_INIT;
		buffer_printf(&text, "%s (", rows->path);
		write_kind(rows, &text);
		if (rows->value)
			buffer_printf(&text, ", default %s", rows->value);
		buffer_printf(&text, "): %s", rows->help);
		write_comment(text.data ? text.data : "", indent, "#   ", out);
		buffer_done(&text);
	}
}

/* A switch with keys below it that is on by default: its keys show it to be on. */
static bool is_open(const struct config_row *row)
{
	return row->type == CONFIG_SECTION || (config_switch_keys(row) && row->value && !strcmp(row->value, "on"));
}

/* `unset`: the key is shown as a comment, because setting it would turn on what is off by default. */
static void write_example_row(const struct config_row *row, bool unset, struct buffer *out)
{
	size_t indent = 2 * depth_of(row->path);
	const char *key = config_leaf(row->path), *lead = unset ? "# " : "";
	struct buffer text = BUFFER_INIT;
	buffer_printf(&text, "%s ", row->help);
	if (row->type != CONFIG_SECTION) {
		buffer_putc(&text, '(');
		write_kind(row, &text);
		buffer_putc(&text, ')');
	}
	if (!indent || row->type == CONFIG_SECTION)
		buffer_putc(out, '\n');
	write_comment(text.data ? text.data : "", indent, "# ", out);
	buffer_done(&text);
	if (row->type == CONFIG_LIST || row->type == CONFIG_MAP) {
		write_element_comments(row, indent, out);
		if (row->example)
			buffer_printf(out, "%*s# Example: %s: %s\n", (int)indent, "", key, row->example);
	}
	if (is_open(row))
		buffer_printf(out, "%*s%s%s:\n", (int)indent, "", lead, key);
	else if (row->type == CONFIG_LIST || row->type == CONFIG_MAP)
		buffer_printf(out, "%*s%s%s: %s\n", (int)indent, "", lead, key, row->type == CONFIG_LIST ? "[]" : "{}");
	else if (row->value)
		buffer_printf(out, "%*s%s%s: %s\n", (int)indent, "", lead, key, row->value);
	else
		buffer_printf(out, "%*s# %s: %s\n", (int)indent, "", key, row->example ? row->example : "...");
}

void config_write_example(const struct config_row *rows, struct buffer *out)
{
	const char *off = NULL; /* the last switch that is off and has keys */
	for (; rows->path; rows++) {
		bool below = off && !strncmp(rows->path, off, strlen(off)) && rows->path[strlen(off)] == '.';
		write_example_row(rows, below, out);
		if (config_switch_keys(rows) && !is_open(rows))
			off = rows->path;
	}
}

static void write_man_row(const struct config_row *row, const char *path, struct buffer *out)
{
	struct buffer kind = BUFFER_INIT;
	write_kind(row, &kind);
	if (row->value)
		buffer_printf(&kind, ", default %s", row->value);
	buffer_puts(out, ".TP\n\\fB");
	flags_write_roff(path, out);
	buffer_puts(out, "\\fR (");
	flags_write_roff(kind.data ? kind.data : "", out);
	buffer_puts(out, ")\n");
	flags_write_roff(row->help, out);
	buffer_putc(out, '\n');
	buffer_done(&kind);
	if (row->type != CONFIG_LIST && row->type != CONFIG_MAP)
		return;
	if (row->example) {
		buffer_puts(out, "For example: \\fB");
		flags_write_roff(row->example, out);
		buffer_puts(out, "\\fR\n");
	}
	if (config_plain_row(row))
		return;
	buffer_puts(out, ".RS\n");
	for (const struct config_row *element = config_value_rows(row); element->path; element++)
		write_man_row(element, element->path, out);
	buffer_puts(out, ".RE\n");
}

void config_write_man(const struct config_row *rows, struct buffer *out)
{
	for (; rows->path; rows++) {
		if (rows->type != CONFIG_SECTION) {
			write_man_row(rows, rows->path, out);
			continue;
		}
		buffer_puts(out, ".SS ");
		flags_write_roff(rows->path, out);
		buffer_putc(out, '\n');
		flags_write_roff(rows->help, out);
		buffer_putc(out, '\n');
	}
}
