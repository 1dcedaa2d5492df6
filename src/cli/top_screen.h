/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal (ncurses, wrapped here only): lines of text in styles, and keys.
 * Colours only carry meaning, are the eight that every terminal has on its own
 * background, and are left out where NO_COLOR is set; what they say is in the text too.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "cli/top_columns.h"
#include "lib/error.h"

struct top_screen;

/* Styles of lines, beyond those of cells. */
enum {
	TOP_STYLE_BOLD = TOP_STYLES,
	TOP_STYLE_TITLE,    /* head of a table */
	TOP_STYLE_SELECTED,
	TOP_STYLE_ALARM,    /* what is on the screen must not be trusted */
	TOP_STYLE_COUNT
};

/* Needs standard input and output to be a terminal. -EINVAL with a sentence. */
int top_screen_open(struct top_screen **ret_screen, struct error *ret_error);
/* The terminal as it was. */
void top_screen_close(struct top_screen *screen);
int top_screen_key(struct top_screen *screen); /* enum top_key or a byte; TOP_KEY_NONE: no more for now */
/* The terminal has another size now. */
void top_screen_resized(struct top_screen *screen);
void top_screen_redraw(struct top_screen *screen); /* all of it: somebody else wrote on the terminal */
size_t top_screen_rows(const struct top_screen *screen);
size_t top_screen_columns(const struct top_screen *screen);

void top_screen_begin(struct top_screen *screen);
/* Clean text at a place; what is beyond the screen is cut. */
void top_screen_put(struct top_screen *screen, size_t row, size_t column, const char *text, int style);
/* Everything to the terminal; the cursor at a place, or SIZE_MAX: not shown. */
void top_screen_end(struct top_screen *screen, size_t cursor_row, size_t cursor_column);
