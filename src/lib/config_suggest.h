/* SPDX-License-Identifier: Apache-2.0 */
/* Finding rows by path, and what to say about a key that has none. Only for config*.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/config.h"

#define CONFIG_PATH_MAX 128 /* of the longest path in a schema; a longer one from a file names no row */

/* "a.b" from "a" and "b", "b" from "" and "b". False when it does not fit. */
bool config_path_join(const char *section, const char *key, char ret_path[static CONFIG_PATH_MAX]);
const struct config_row *config_row_find(const struct config_row *rows, const char *path);
/* The first key of a section, for "keys such as". */
const char *config_suggest_first(const struct config_row *rows, const char *section);
/* The whole sentence about the unknown key `key` in the section `section` of `rows`, called `name` in messages. */
void config_suggest(const struct config_row *root, const struct config_row *rows, const char *section, const char *name,
		    const char *key, size_t key_len, struct buffer *out);
