/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What to say about an unknown key. In this order: it exists elsewhere ("`tick`
 * belongs under `collect`"), it is a dotted path that YAML wants nested, it is
 * nearly a key of this section, it is nearly a key of another one, and else the
 * keys there are.
 */
#include <string.h>
#include "lib/config_report.h"
#include "lib/config_suggest.h"
#include "lib/config_value.h"
#include "lib/flags.h"

#define PLACES_MAX 4 /* that are told */
#define NAMES_MAX 256 /* keys of one section, and leaf names of the whole schema, that are considered */

bool config_path_join(const char *section, const char *key, char ret_path[static CONFIG_PATH_MAX])
{
	size_t a = strlen(section), b = strlen(key), dot = a ? 1 : 0;
	if (a + dot + b >= CONFIG_PATH_MAX)
		return false;
	memcpy(ret_path, section, a);
	if (dot)
		ret_path[a] = '.';
	memcpy(ret_path + a + dot, key, b + 1);
	return true;
}

const struct config_row *config_row_find(const struct config_row *rows, const char *path)
{
	for (const struct config_row *row = rows; row->path; row++)
		if (!strcmp(row->path, path))
			return row;
	return NULL;
}

/* Whether the row is a direct key of the section. */
static bool row_in(const struct config_row *row, const char *section)
{
	size_t len = strlen(section);
	if (len && (strncmp(row->path, section, len) || row->path[len] != '.'))
		return false;
	const char *rest = row->path + len + (len ? 1 : 0);
	return *rest && !strchr(rest, '.');
}

static size_t section_keys(const struct config_row *rows, const char *section, const char *ret_keys[static NAMES_MAX])
{
	size_t n = 0;
	for (const struct config_row *row = rows; row->path && n < NAMES_MAX; row++)
		if (row_in(row, section))
			ret_keys[n++] = config_leaf(row->path);
	return n;
}

const char *config_suggest_first(const struct config_row *rows, const char *section)
{
	const char *keys[NAMES_MAX];
	return section_keys(rows, section, keys) ? keys[0] : "";
}

/* The places where a key of this name exists, and all names seen on the way. */
struct search {
	const char *key;
	char places[PLACES_MAX][CONFIG_PATH_MAX];
	size_t n_places;
	const char *names[NAMES_MAX];
	size_t n_names;
};

static void search_rows(struct search *search, const struct config_row *rows, const char *place)
{
	for (const struct config_row *row = rows; row->path; row++) {
		char path[CONFIG_PATH_MAX];
		if (!config_path_join(place, row->path, path))
			continue;
		const char *leaf = config_leaf(row->path);
		if (*leaf && search->n_names < NAMES_MAX)
			search->names[search->n_names++] = leaf;
		if (*leaf && search->n_places < PLACES_MAX && !strcmp(leaf, search->key)) {
			char *parent = search->places[search->n_places++];
			memcpy(parent, path, strlen(path) + 1);
			char *dot = strrchr(parent, '.');
			*(dot ? dot : parent) = '\0';
		}
		/* The keys of a map are the user's own. */
		if (row->type == CONFIG_LIST || row->type == CONFIG_MAP)
			search_rows(search, config_value_rows(row), *row->path ? path : place);
	}
}

static void write_where(const char *name, struct buffer *out)
{
	if (*name)
		buffer_printf(out, " in `%s`", name);
}

static void write_places(const struct search *search, struct buffer *out)
{
	for (size_t i = 0; i < search->n_places; i++) {
		buffer_puts(out, !i ? "" : i + 1 == search->n_places ? " or " : ", ");
		if (*search->places[i])
			buffer_printf(out, "under `%s`", search->places[i]);
		else
			buffer_puts(out, "at the top level");
	}
}

/* "the keys here are `a`, `b` and `c`" */
static void write_known(const char *const *keys, size_t n, struct buffer *out)
{
	buffer_puts(out, n == 1 ? "; the only key here is " : "; the keys here are ");
	for (size_t i = 0; i < n; i++)
		buffer_printf(out, "%s`%s`", !i ? "" : i + 1 == n ? " and " : ", ", keys[i]);
}

/* Whether `path`, seen from this section, names a row. */
static bool is_dotted(const struct config_row *rows, const char *section, const char *key)
{
	char path[CONFIG_PATH_MAX];
	return strchr(key, '.') && config_path_join(section, key, path) && config_row_find(rows, path);
}

/* "write `a.b.c` as nested keys: a: {b: {c: ...}}" */
static void write_nested(const char *quoted, const char *key, struct buffer *out)
{
	size_t depth = 0;
	buffer_printf(out, "write `%s` as nested keys: ", quoted);
	for (const char *dot; (dot = strchr(key, '.')); key = dot + 1, depth++)
		buffer_printf(out, "%.*s: {", (int)(dot - key), key);
	buffer_printf(out, "%s: ...", key);
	for (; depth; depth--)
		buffer_putc(out, '}');
}

void config_suggest(const struct config_row *root, const struct config_row *rows, const char *section, const char *name,
		    const char *key, size_t key_len, struct buffer *out)
{
	const char *keys[NAMES_MAX];
	char quoted[CONFIG_QUOTE_MAX];
	size_t n = section_keys(rows, section, keys);
	config_quote(key, key_len, quoted);
	if (is_dotted(rows, section, key)) {
		write_nested(quoted, key, out);
		return;
	}
	struct search search = { .key = key };
	search_rows(&search, root, "");
	if (search.n_places) {
		buffer_printf(out, "`%s` belongs ", quoted);
		write_places(&search, out);
		if (*name)
			buffer_printf(out, ", not under `%s`", name);
		else
			buffer_puts(out, ", not at the top level");
		return;
	}
	buffer_printf(out, "unknown key `%s`", quoted);
	write_where(name, out);
	const char *nearest = flags_nearest(key, keys, n);
	if (nearest) {
		buffer_printf(out, "; did you mean `%s`?", nearest);
		return;
	}
	nearest = flags_nearest(key, search.names, search.n_names);
	if (nearest) {
		search.key = nearest;
		search.n_places = 0;
		search.n_names = NAMES_MAX;
		search_rows(&search, root, "");
		buffer_printf(out, "; did you mean `%s`, which belongs ", nearest);
		write_places(&search, out);
		buffer_putc(out, '?');
		return;
	}
	write_known(keys, n, out);
}
