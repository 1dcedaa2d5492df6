/* SPDX-License-Identifier: Apache-2.0 */
/* One value of a row: from text into the struct, and back out of memory. Only for config*.c. */
#pragma once
#include <stddef.h>
#include "lib/config.h"

/* The rows that describe an element of a list, or the value of a map's entry. */
const struct config_row *config_value_rows(const struct config_row *row);
/* The row of an element that is a plain value, or NULL when it is a record. */
const struct config_row *config_plain_row(const struct config_row *row);
/* The first of the keys below a switch, or NULL when it has none (or the row is no switch). */
const struct config_row *config_switch_keys(const struct config_row *row);
/* Stores `text` (which may hold NULs: then len > strlen) at base + row->offset; an old string there is freed.
 * 0, -ENOMEM, or -EINVAL with a sentence, *base unchanged. */
int config_value_parse(const struct config_row *row, const char *text, size_t len, void *base,
		       struct error *ret_error);
/* Every default of the rows into a zeroed struct: 0 or -ENOMEM. */
int config_defaults(const struct config_row *rows, void *base);
