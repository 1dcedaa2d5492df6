/* SPDX-License-Identifier: Apache-2.0 */
/* The columns of `netsonde top`: which a view has, how wide they are, what a cell says and how it is compared. */
#pragma once
#include "cli/top_rows.h"
#include "cli/top_text.h"

/* What a cell means; how that looks is the screen's matter. */
enum top_style {
	TOP_PLAIN,
	TOP_DIM,      /* nothing there, nothing happens */
	TOP_LOSS, TOP_LOSS_HIGH,
	TOP_NETWORK, TOP_FAR, TOP_OWN, /* the verdict's side */
	TOP_STYLES
};

struct top_place {
	enum top_column column;
	size_t width;
};

const char *top_view_name(enum top_view view); /* "connections", "peers", "processes", "drops" */
int top_view_parse(const char *name, enum top_view *ret_view);
/* For --sort and the list of columns: "rtt". */
const char *top_column_name(enum top_column column);
const char *top_column_title(enum top_column column); /* "RTT" */
const char *top_column_help(enum top_column column);
enum top_fit top_column_fit(enum top_column column);
bool top_column_in(enum top_column column, enum top_view view);
/* -EINVAL with a sentence when the view has no such column. */
int top_column_parse(const char *name, enum top_view view, enum top_column *ret_column, struct error *ret_error);
enum top_column top_column_default(enum top_view view);

/* The columns that fit into `width`, the important ones first to be kept, in the order of the screen; one blank stands
 * between two. width SIZE_MAX: all that say something, as wide as their texts are. Returns how many. */
size_t top_layout(const struct top_rows *rows, size_t width, bool bits, struct top_place ret_places[static TOP_COLUMNS]);
/* The text, clean and not fitted. */
enum top_style top_cell(const struct top_row *row, enum top_column column, bool bits, char ret_text[static TOP_TEXT_MAX]);
/* As people expect the column: names from A, numbers from the largest; what is not known comes last, also in reverse. */
int top_column_compare(enum top_column column, const struct top_row *a, const struct top_row *b, bool reverse);
