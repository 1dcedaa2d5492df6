/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The screen of `netsonde top` as a state: what is shown, in which order, where the
 * cursor is; and what each key does to it. Knows no terminal: top_draw.c shows it,
 * top.c brings keys and tables.
 */
#pragma once
#include "cli/top_columns.h"

enum top_mode { TOP_LIST, TOP_FILTER, TOP_SORT, TOP_HELP, TOP_DETAILS };

/* Beyond characters; bytes of UTF-8 come one by one. */
enum top_key {
	TOP_KEY_NONE = -1, TOP_KEY_TAB = '\t', TOP_KEY_ENTER = '\n', TOP_KEY_ESCAPE = 27, TOP_KEY_FIRST = 0x1000,
	TOP_KEY_UP = TOP_KEY_FIRST, TOP_KEY_DOWN, TOP_KEY_LEFT, TOP_KEY_RIGHT, TOP_KEY_PAGE_UP, TOP_KEY_PAGE_DOWN, TOP_KEY_HOME,
	TOP_KEY_END, TOP_KEY_BACK_TAB, TOP_KEY_BACKSPACE, TOP_KEY_HELP, TOP_KEY_SORT, TOP_KEY_FILTER, TOP_KEY_REDRAW, TOP_KEY_QUIT
};

/* What may be asked for on the command line, and changed by keys. */
struct top_look {
	enum top_view view;
	enum top_column column[TOP_VIEWS];
	bool reverse[TOP_VIEWS];
	struct top_filter filters[2]; /* of connections, in three views; of drops */
	bool bits;
};

struct top_live {
	struct top_look look;
	struct top_table *table;   /* NULL: none yet; owned */
	struct top_rows rows;

	char host[TOP_TEXT_MAX], source[TOP_TEXT_MAX];
	uint64_t interval_ns;
	char error[512];           /* why there is nothing newer; "": there is */
	mono_time failing_since, answered; /* answered: when the last table came, which may be an old one */
	bool paused, quit;

	enum top_mode mode;
	size_t cursor, first;      /* rows: selected, at the top of the screen */
	size_t page;               /* rows that the screen shows; whoever draws says it */
	bool follows;              /* the cursor stays with its row, which has this key */
	uint64_t followed;
	char input[TOP_FILTER_MAX], complaint[256]; /* TOP_FILTER */
	struct top_filter before;  /* what Esc brings back */
	size_t menu;               /* TOP_SORT: selected */
	size_t scroll;             /* TOP_HELP, TOP_DETAILS */
	struct connection shown;   /* TOP_DETAILS: as it was last seen */
	bool ended;
	bool has_back;             /* Esc leads back to what Enter came from */
	struct top_look back;
};

/* Takes a table over. -ENOMEM: the old one stays. */
int top_live_table(struct top_live *live, struct top_table *table, mono_time now);
void top_live_error(struct top_live *live, const char *error, mono_time now);
/* -ENOMEM: nothing has changed. */
int top_live_key(struct top_live *live, int key);
void top_live_done(struct top_live *live);

/* The cursor inside the rows, and the screen around the cursor; after page has changed. */
void top_live_place(struct top_live *live);
struct top_filter *top_live_filter(struct top_live *live); /* of the view */
/* The columns that can be sorted by. Returns how many. */
size_t top_live_columns(const struct top_live *live, enum top_column ret_columns[static TOP_COLUMNS]);
