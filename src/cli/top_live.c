/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_live.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "cli/top_source.h"

struct top_filter *top_live_filter(struct top_live *live)
{
	return &live->look.filters[live->look.view == TOP_DROPS];
}

size_t top_live_columns(const struct top_live *live, enum top_column ret_columns[static TOP_COLUMNS])
{
	size_t n = 0;

	for (unsigned i = 0; i < TOP_COLUMNS; i++)
		if (top_column_in((enum top_column)i, live->look.view))
			ret_columns[n++] = (enum top_column)i;
	return n;
}

void top_live_place(struct top_live *live)
{
	size_t n = live->rows.n, page = live->page ? live->page : 1, found;

	if (live->follows) {
		found = top_rows_find(&live->rows, live->followed);
		if (found != SIZE_MAX)
			live->cursor = found;
	}
	if (live->cursor >= n)
		live->cursor = n ? n - 1 : 0;
	if (live->follows && n)
		live->followed = live->rows.order[live->cursor]->key;
	if (live->first > live->cursor)
		live->first = live->cursor;
	if (live->first + page <= live->cursor)
		live->first = live->cursor - page + 1;
	if (live->first + page > n)
		live->first = n > page ? n - page : 0;
}

static void sort(struct top_live *live)
{
	enum top_view view = live->look.view;

	top_rows_sort(&live->rows, live->look.column[view], live->look.reverse[view]);
	top_live_place(live);
}

static int remake(struct top_live *live)
{
	int r = live->table ? top_rows_make(&live->rows, live->table, live->look.view, top_live_filter(live)) : 0;

	if (!r)
		sort(live);
	return r;
}

/* Details go on with the connection's new numbers, or stay as they were when it has ended. */
static void renew_details(struct top_live *live)
{
	live->ended = true;
	for (size_t i = 0; i < live->table->n && live->ended; i++)
		if (live->table->connections[i].cookie == live->shown.cookie) {
			live->shown = live->table->connections[i];
			live->ended = false;
		}
}

int top_live_table(struct top_live *live, struct top_table *table, mono_time now)
{
	struct top_table *old = live->table;
	int r;

	live->table = table;
	r = remake(live);
	if (r < 0) {
		live->table = old;
		top_table_free(table);
		return r;
	}
	top_table_free(old);
	live->error[0] = '\0';
	live->answered = now;
	if (live->mode == TOP_DETAILS)
		renew_details(live);
	return 0;
}

void top_live_error(struct top_live *live, const char *error, mono_time now)
{
	if (!live->error[0])
		live->failing_since = now;
	top_clean(error[0] ? error : "unknown error", live->error, sizeof(live->error));
}

void top_live_done(struct top_live *live)
{
	top_rows_done(&live->rows);
	top_table_free(live->table);
	live->table = NULL;
}

/* A row that was chosen is followed; at the top, whatever is there. */
static int move_to(struct top_live *live, size_t row)
{
	live->cursor = row;
	live->follows = false;
	top_live_place(live);
	live->follows = live->cursor > 0;
	if (live->follows)
		live->followed = live->rows.order[live->cursor]->key;
	return 0;
}

static int show_view(struct top_live *live, enum top_view view)
{
	live->look.view = view;
	live->has_back = false;
	live->cursor = live->first = 0;
	live->follows = false;
	return remake(live);
}

static int sort_by(struct top_live *live, enum top_column column)
{
	enum top_view view = live->look.view;

	if (live->look.column[view] != column)
		live->look.reverse[view] = false;
	live->look.column[view] = column;
	sort(live);
	return 0;
}

static size_t sorted_column(const struct top_live *live, const enum top_column *columns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (columns[i] == live->look.column[live->look.view])
			return i;
	return 0;
}

static int move_sort(struct top_live *live, int step)
{
	enum top_column columns[TOP_COLUMNS];
	size_t n = top_live_columns(live, columns), at = sorted_column(live, columns, n);

	return sort_by(live, columns[(at + n + (size_t)step) % n]);
}

static int set_filter(struct top_live *live, const struct top_filter *filter)
{
	*top_live_filter(live) = *filter;
	live->cursor = live->first = 0;
	live->follows = false;
	return remake(live);
}

static int go_back(struct top_live *live)
{
	if (live->has_back) {
		live->look.view = live->back.view;
		live->look.filters[0] = live->back.filters[0];
		live->has_back = false;
		return set_filter(live, top_live_filter(live));
	}
	return set_filter(live, &(struct top_filter){ .n = 0 });
}

static int start_filter(struct top_live *live)
{
	live->before = *top_live_filter(live);
	snprintf(live->input, sizeof(live->input), "%s", live->before.text);
	live->complaint[0] = '\0';
	live->mode = TOP_FILTER;
	return 0;
}

static int start_sort(struct top_live *live)
{
	enum top_column columns[TOP_COLUMNS];

	live->menu = sorted_column(live, columns, top_live_columns(live, columns));
	live->mode = TOP_SORT;
	return 0;
}

/* Of a connection all that is known; of a peer or a process its connections. */
static int open_row(struct top_live *live)
{
	const struct top_row *row = live->cursor < live->rows.n ? live->rows.order[live->cursor] : NULL;
	char text[TOP_FILTER_MAX];
	struct top_filter filter;

	if (!row || row->drop)
		return 0;
	if (live->look.view == TOP_CONNECTIONS) {
		live->shown = *row->connection;
		live->ended = false;
		live->scroll = 0;
		live->mode = TOP_DETAILS;
		return 0;
	}
	if (live->look.view == TOP_PROCESSES)
		snprintf(text, sizeof(text), "pid:%u", row->connection->pid);
	else
		snprintf(text, sizeof(text), "peer=%.200s", row->connection->peer);
	if (top_filter_parse(text, false, &filter, NULL))
		return 0;
	live->back = live->look;
	live->has_back = true;
	live->look.view = TOP_CONNECTIONS;
	return set_filter(live, &filter);
}

static int list_key(struct top_live *live, int key)
{
	size_t page = live->page ? live->page : 1, last = live->rows.n ? live->rows.n - 1 : 0;

	if (key >= '1' && key < '1' + TOP_VIEWS)
		return show_view(live, (enum top_view)(key - '1'));
	switch (key) {
	case TOP_KEY_TAB: return show_view(live, (live->look.view + 1) % TOP_VIEWS);
	case TOP_KEY_BACK_TAB: return show_view(live, (live->look.view + TOP_VIEWS - 1) % TOP_VIEWS);
	case TOP_KEY_UP: case 'k': return move_to(live, live->cursor ? live->cursor - 1 : 0);
	case TOP_KEY_DOWN: case 'j': return move_to(live, live->cursor < last ? live->cursor + 1 : last);
	case TOP_KEY_PAGE_UP: return move_to(live, live->cursor > page ? live->cursor - page : 0);
	case TOP_KEY_PAGE_DOWN: return move_to(live, live->cursor + page < last ? live->cursor + page : last);
	case TOP_KEY_HOME: case 'g': return move_to(live, 0);
	case TOP_KEY_END: case 'G': return move_to(live, last);
	case TOP_KEY_ENTER: return open_row(live);
	case TOP_KEY_ESCAPE: return go_back(live);
	case TOP_KEY_SORT: case 's': return start_sort(live);
	case '<': case ',': return move_sort(live, -1);
	case '>': case '.': return move_sort(live, 1);
	case TOP_KEY_FILTER: case '/': return start_filter(live);
	case 'r':
		live->look.reverse[live->look.view] = !live->look.reverse[live->look.view];
		sort(live);
		return 0;
	case ' ': case 'p':
		live->paused = !live->paused;
		return 0;
	case 'b':
		live->look.bits = !live->look.bits;
		return 0;
	case TOP_KEY_HELP: case '?': case 'h':
		live->scroll = 0;
		live->mode = TOP_HELP;
		return 0;
	case TOP_KEY_QUIT: case 'q':
		live->quit = true;
		return 0;
	default: return 0;
	}
}

/* What was typed is tried at once; while it is no filter, the last one that was stays. */
static int try_input(struct top_live *live)
{
	struct top_filter filter;
	struct error error = { "" };

	if (top_filter_parse(live->input, live->look.view == TOP_DROPS, &filter, &error) < 0) {
		snprintf(live->complaint, sizeof(live->complaint), "%.250s", error.text);
		return 0;
	}
	live->complaint[0] = '\0';
	return set_filter(live, &filter);
}

static int filter_key(struct top_live *live, int key)
{
	size_t len = strlen(live->input);

	switch (key) {
	case TOP_KEY_ESCAPE:
		live->mode = TOP_LIST;
		return set_filter(live, &live->before);
	case TOP_KEY_ENTER:
		if (!live->complaint[0])
			live->mode = TOP_LIST;
		return 0;
	case TOP_KEY_UP: case TOP_KEY_DOWN: case TOP_KEY_PAGE_UP: case TOP_KEY_PAGE_DOWN:
		return list_key(live, key);
	case TOP_KEY_BACKSPACE:
		while (len && (live->input[len - 1] & 0xc0) == 0x80)
			len--;
		live->input[len ? len - 1 : 0] = '\0';
		return try_input(live);
	case 'U' - '@': /* as the shell does */
		live->input[0] = '\0';
		return try_input(live);
	default:
		if (key < ' ' || key > 0xff || len + 1 >= sizeof(live->input))
			return 0;
		live->input[len] = (char)key;
		live->input[len + 1] = '\0';
		return try_input(live);
	}
}

static int sort_key(struct top_live *live, int key)
{
	enum top_column columns[TOP_COLUMNS];
	size_t n = top_live_columns(live, columns);

	switch (key) {
	case TOP_KEY_UP: case 'k':
		live->menu = (live->menu + n - 1) % n;
		return 0;
	case TOP_KEY_DOWN: case 'j':
		live->menu = (live->menu + 1) % n;
		return 0;
	case TOP_KEY_HOME:
		live->menu = 0;
		return 0;
	case TOP_KEY_END:
		live->menu = n - 1;
		return 0;
	case TOP_KEY_ENTER:
		live->mode = TOP_LIST;
		return sort_by(live, columns[live->menu]);
	case TOP_KEY_ESCAPE: case TOP_KEY_SORT: case TOP_KEY_QUIT: case 'q': case 's':
		live->mode = TOP_LIST;
		return 0;
	default: return 0;
	}
}

/* Pages of text; whoever draws them stops at their end. */
static int text_key(struct top_live *live, int key)
{
	switch (key) {
	case TOP_KEY_UP: case 'k':
		live->scroll -= live->scroll > 0;
		return 0;
	case TOP_KEY_DOWN: case 'j':
		live->scroll++;
		return 0;
	case TOP_KEY_PAGE_UP:
		live->scroll -= live->scroll < live->page ? live->scroll : live->page;
		return 0;
	case TOP_KEY_PAGE_DOWN:
		live->scroll += live->page;
		return 0;
	case TOP_KEY_HOME:
		live->scroll = 0;
		return 0;
	case TOP_KEY_END:
		live->scroll = 100000; /* beyond any text */
		return 0;
	case ' ': case 'p': case 'b': return list_key(live, key);
	case TOP_KEY_ESCAPE: case TOP_KEY_ENTER: case TOP_KEY_LEFT: case TOP_KEY_HELP: case TOP_KEY_QUIT: case 'q': case '?': case 'h':
		live->mode = TOP_LIST;
		return 0;
	default: return 0;
	}
}

int top_live_key(struct top_live *live, int key)
{
	switch (live->mode) {
	case TOP_FILTER: return filter_key(live, key);
	case TOP_SORT: return sort_key(live, key);
	case TOP_HELP:
	case TOP_DETAILS: return text_key(live, key);
	default: return list_key(live, key);
	}
}
