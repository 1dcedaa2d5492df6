/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_draw.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include "cli/top_details.h"
#include "cli/top_print.h"
#include "lib/flags.h"

#define LINE_MAX_BYTES 2048
/* An answer is late when so many intervals, and a second, have passed without one. */
#define STALE_INTERVALS 3

static void put(struct top_screen *s, size_t row, size_t column, int style, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

static void put(struct top_screen *s, size_t row, size_t column, int style, const char *format, ...)
{
	char text[LINE_MAX_BYTES];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	top_screen_put(s, row, column, text, style);
}

/* At the right edge, if it does not meet what stands left of it. */
static void put_right(struct top_screen *s, size_t row, size_t from, const char *text, int style)
{
	size_t width = top_width(text), columns = top_screen_columns(s);

	if (from + 2 + width <= columns)
		top_screen_put(s, row, columns - width, text, style);
}

static void put_line(struct top_screen *s, size_t row, const char *text, int style)
{
	char line[LINE_MAX_BYTES];

	top_screen_put(s, row, 0, top_fit(text, top_screen_columns(s), TOP_LEFT, line, sizeof(line)), style);
}

static void draw_head(struct top_screen *s, const struct top_live *live, mono_time now)
{
	char left[LINE_MAX_BYTES], right[LINE_MAX_BYTES], interval[32];

	snprintf(left, sizeof(left), "netsonde top  %s", live->host);
	put(s, 0, 0, TOP_STYLE_BOLD, "%s", left);
	duration_format(live->interval_ns / NS_PER_MS * NS_PER_MS, interval);
	if (live->table)
		snprintf(right, sizeof(right), "%s  every %s  %.1f s old", live->source, interval,
			 ns_to_seconds(mono_since_ns(now, live->table->taken)));
	else
		snprintf(right, sizeof(right), "%s  every %s", live->source, interval);
	if (live->paused) {
		top_screen_put(s, 0, top_width(left) + 2, " PAUSED ", TOP_STYLE_SELECTED);
		put_right(s, 0, top_width(left) + 10, right, TOP_PLAIN);
	} else {
		put_right(s, 0, top_width(left), right, TOP_PLAIN);
	}
}

static void draw_summary(struct top_screen *s, const struct top_live *live)
{
	struct buffer out = BUFFER_INIT;

	if (live->table)
		top_write_summary(live->table, &live->rows.summary, live->look.bits, &out);
	top_screen_put(s, 1, 0, out.data ? out.data : "", TOP_PLAIN);
	buffer_done(&out);
}

static size_t draw_tabs(struct top_screen *s, const struct top_live *live, size_t row)
{
	size_t column = 0;

	for (unsigned i = 0; i < TOP_VIEWS; i++) {
		char text[64];

		snprintf(text, sizeof(text), " %u %s ", i + 1, top_view_name((enum top_view)i));
		top_screen_put(s, row, column, text, i == live->look.view ? TOP_STYLE_SELECTED : TOP_PLAIN);
		column += strlen(text) + 1;
	}
	return column;
}

static bool is_stale(const struct top_live *live, mono_time now)
{
	return live->error[0] || (live->table && !live->paused &&
				  mono_since_ns(now, live->answered) > STALE_INTERVALS * live->interval_ns + NS_PER_SEC);
}

/* What must not be overlooked. Returns how many lines it took. */
static size_t draw_alarm(struct top_screen *s, const struct top_live *live, mono_time now, size_t row)
{
	char text[LINE_MAX_BYTES];

	if (!is_stale(live, now))
		return 0;
	if (!live->error[0])
		snprintf(text, sizeof(text), " STALE: no answer from %s; waiting ", live->source);
	else if (!live->table)
		snprintf(text, sizeof(text), " NO DATA from %s: %s; trying again ", live->source, live->error);
	else
		snprintf(text, sizeof(text), " STALE for %.0f s: %s; trying again ",
			 ns_to_seconds(mono_since_ns(now, live->failing_since)), live->error);
	put_line(s, row, text, TOP_STYLE_ALARM);
	return 1;
}

static bool is_sorted(const struct top_live *live, enum top_column column)
{
	enum top_column by = live->look.column[live->look.view];

	return column == by || (by == TOP_RATE && (column == TOP_OUT || column == TOP_IN));
}

static void draw_titles(struct top_screen *s, const struct top_live *live, const struct top_place *places, size_t n, size_t row)
{
	char text[TOP_TEXT_MAX], cell[TOP_TEXT_MAX];
	bool reverse = live->look.reverse[live->look.view], arrows = wcwidth(0x25bc) == 1;
	size_t column = 0;

	put_line(s, row, "", TOP_STYLE_TITLE);
	for (size_t i = 0; i < n; i++) {
		bool sorted = is_sorted(live, places[i].column);
		enum top_fit fit = top_column_fit(places[i].column) == TOP_RIGHT ? TOP_RIGHT : TOP_LEFT;
		const char *mark = !sorted ? "" : reverse ? (arrows ? "\xe2\x96\xb2" : "^") : arrows ? "\xe2\x96\xbc" : "v";

		snprintf(text, sizeof(text), "%s%s", top_column_title(places[i].column), mark);
		top_fit(text, places[i].width, fit, cell, sizeof(cell));
		top_screen_put(s, row, column, cell, sorted ? TOP_STYLE_SELECTED : TOP_STYLE_TITLE);
		column += places[i].width + 1;
	}
}

static void draw_row(struct top_screen *s, const struct top_live *live, const struct top_row *row, const struct top_place *places,
		     size_t n, size_t at, bool selected, bool stale)
{
	char text[TOP_TEXT_MAX], cell[TOP_TEXT_MAX];
	size_t column = 0;

	if (selected)
		put_line(s, at, "", TOP_STYLE_SELECTED);
	for (size_t i = 0; i < n; i++) {
		enum top_style style = top_cell(row, places[i].column, live->look.bits, text);

		top_fit(text, places[i].width, top_column_fit(places[i].column), cell, sizeof(cell));
		top_screen_put(s, at, column, cell, selected ? TOP_STYLE_SELECTED : stale ? TOP_DIM : (int)style);
		column += places[i].width + 1;
	}
}

/* Why there are no rows. */
static void draw_nothing(struct top_screen *s, struct top_live *live, size_t row)
{
	const struct top_filter *filter = top_live_filter(live);
	bool drops = live->look.view == TOP_DROPS;
	char text[TOP_TEXT_MAX];

	if (!live->table)
		put(s, row, 2, TOP_PLAIN, "%s", live->error[0] ? "No table came yet." : "Looking ...");
	else if (drops && live->table->no_drops[0])
		put(s, row, 2, TOP_PLAIN, "Drops are not known: %s", top_clean(live->table->no_drops, text, sizeof(text)));
	else if (filter->n)
		put(s, row, 2, TOP_PLAIN, "No %s matches the filter `%s`; Esc clears it.", drops ? "drop" : "connection",
		    top_clean(filter->text, text, sizeof(text)));
	else
		put(s, row, 2, TOP_PLAIN, "%s", drops ? "No packet was dropped since counting began." : "There are no TCP connections.");
}

static void draw_table(struct top_screen *s, struct top_live *live, size_t top, size_t bottom, bool stale)
{
	struct top_place places[TOP_COLUMNS];
	size_t n = top_layout(&live->rows, top_screen_columns(s), live->look.bits, places);

	draw_titles(s, live, places, n, top);
	live->page = bottom > top + 1 ? bottom - top - 1 : 1;
	top_live_place(live);
	if (!live->rows.n)
		draw_nothing(s, live, top + 2);
	for (size_t i = live->first; i < live->rows.n && i < live->first + live->page; i++)
		draw_row(s, live, live->rows.order[i], places, n, top + 1 + i - live->first, i == live->cursor, stale);
}

static void draw_foot(struct top_screen *s, const struct top_live *live, size_t row)
{
	static const char *const keys = "1-4 view  s sort  / filter  Enter more  p pause  b bits  ? help  q quit";
	char position[64];

	top_screen_put(s, row, 0, keys, TOP_DIM);
	snprintf(position, sizeof(position), "%zu/%zu", live->rows.n ? live->cursor + 1 : 0, live->rows.n);
	put_right(s, row, strlen(keys), position, TOP_DIM);
}

/* The line in which a filter is typed. Returns where the cursor is. */
static size_t draw_input(struct top_screen *s, const struct top_live *live, size_t row)
{
	size_t columns = top_screen_columns(s), room = columns > 20 ? columns - 10 : 10, width;
	char clean[TOP_FILTER_MAX * 2];
	const char *shown = top_clean(live->input, clean, sizeof(clean));

	while (top_width(shown) > room) /* its end is where one types */
		do
			shown++;
		while ((*shown & 0xc0) == 0x80);
	width = top_width(shown);
	put(s, row, 0, TOP_STYLE_BOLD, "Filter: ");
	top_screen_put(s, row, 8, shown, TOP_PLAIN);
	if (live->complaint[0])
		put(s, row, 8 + width + 3, TOP_LOSS, "%s", top_clean(live->complaint, clean, sizeof(clean)));
	else if (!live->input[0])
		put(s, row, 8 + 3, TOP_DIM, "text  process:nginx  peer:10.0.0.0/8  verdict:network  rtt>10ms   ? has more");
	return 8 + width;
}

static void draw_text(struct top_screen *s, struct top_live *live, struct buffer *text, size_t top, size_t bottom)
{
	size_t lines = 0, room = bottom > top ? bottom - top : 1, line = 0;
	char *rest = text->data, *one;

	for (size_t i = 0; i < text->len; i++)
		lines += text->data[i] == '\n';
	live->page = room;
	if (live->scroll + room > lines)
		live->scroll = lines > room ? lines - room : 0;
	while (rest && (one = strsep(&rest, "\n")) && line < live->scroll + room) {
		if (line >= live->scroll)
			top_screen_put(s, top + line - live->scroll, 0, one, one[0] && one[0] != ' ' ? TOP_STYLE_BOLD : TOP_PLAIN);
		line++;
	}
	put(s, bottom, 0, TOP_DIM, "Esc back%s", lines > room ? "  arrows scroll" : "");
}

static void draw_long(struct top_screen *s, struct top_live *live, size_t top, size_t bottom)
{
	struct buffer text = BUFFER_INIT;

	if (live->mode == TOP_HELP) {
		top_write_help(live, &text);
	} else {
		if (live->ended)
			buffer_puts(&text, "ENDED, or no longer among the rows that the agent gives; this is as it was last seen:\n");
		top_write_details(&live->shown, live->look.bits, top_screen_columns(s), &text);
	}
	if (buffer_ok(&text))
		draw_text(s, live, &text, top, bottom);
	buffer_done(&text);
}

static void draw_menu(struct top_screen *s, const struct top_live *live, size_t top, size_t bottom)
{
	enum top_column columns[TOP_COLUMNS];
	size_t n = top_live_columns(live, columns), room = bottom > top + 1 ? bottom - top - 1 : 1;
	size_t first = live->menu >= room ? live->menu - room + 1 : 0;

	top_screen_put(s, top, 0, " Sort by            ", TOP_STYLE_TITLE);
	for (size_t i = first; i < n && i - first < room; i++)
		put(s, top + 1 + i - first, 0, i == live->menu ? TOP_STYLE_SELECTED : TOP_PLAIN, " %c %-16s ",
		    columns[i] == live->look.column[live->look.view] ? '*' : ' ', top_column_name(columns[i]));
}

static void draw_filter_name(struct top_screen *s, struct top_live *live, size_t row, size_t column)
{
	const struct top_filter *filter = top_live_filter(live);
	char text[TOP_FILTER_MAX];

	if (filter->n)
		put(s, row, column + 1, TOP_STYLE_BOLD, "filter: %s (%zu)", top_clean(filter->text, text, sizeof(text)), live->rows.connections);
}

void top_draw(struct top_screen *screen, struct top_live *live, mono_time now)
{
	size_t rows = top_screen_rows(screen), bottom = rows - 1, top = 2, cursor = SIZE_MAX;
	bool stale = is_stale(live, now);

	top_screen_begin(screen);
	draw_head(screen, live, now);
	draw_summary(screen, live);
	top += draw_alarm(screen, live, now, top);
	if (live->mode == TOP_HELP || live->mode == TOP_DETAILS) {
		draw_long(screen, live, top + 1, bottom);
	} else {
		draw_filter_name(screen, live, top, draw_tabs(screen, live, top));
		draw_table(screen, live, top + 1, bottom, stale);
		if (live->mode == TOP_SORT)
			draw_menu(screen, live, top + 1, bottom);
		if (live->mode == TOP_FILTER)
			cursor = draw_input(screen, live, bottom);
		else
			draw_foot(screen, live, bottom);
	}
	top_screen_end(screen, bottom, cursor);
}
