/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks a YAML document along the schema: finds the row of every key, stores its
 * value, and reports everything that is wrong, with what would be right.
 *
 * The walk never stops at an error. Uniqueness is checked at the end over all
 * values collected on the way, sorted, so that a large hostile file costs
 * n log n. The target belongs to the caller only when there was no error.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/address.h"
#include "lib/config.h"
#include "lib/config_suggest.h"
#include "lib/config_tree.h"
#include "lib/config_value.h"

struct seen { const struct config_row *row; const struct config_node *node; char *value; };

/* A section or an entry whose row has a `finish`. */
struct unfinished { const struct config_row *row; const struct config_node *node; void *record; };

struct walk {
	const struct config_row *root;
	struct config_report *report;
	struct seen *seen; /* values that must be unique */
	size_t n_seen, cap_seen;
	struct unfinished *unfinished;
	size_t n_unfinished, cap_unfinished;
	bool failed;       /* out of memory */
};

/* A place in the schema: rows, the section within them, and how to call it in messages. */
struct scope {
	const struct config_row *rows;
	const char *section; /* "server.scrape", or "" */
	const char *name;    /* "server.scrape.targets" for an element of that list; "" at the top */
};

static void mapping_walk(struct walk *walk, struct scope scope, const struct config_node *node, void *base);

static void unique_note(struct walk *walk, const struct config_row *row, const struct config_node *node,
			const void *base)
{
	char text[ADDRESS_TEXT_MAX];
	if (walk->n_seen == walk->cap_seen) {
		size_t cap = walk->cap_seen ? walk->cap_seen * 2 : 64;
		struct seen *seen = reallocarray(walk->seen, cap, sizeof(*seen));
		if (!seen) {
			walk->failed = true;
			return;
		}
		walk->seen = seen;
		walk->cap_seen = cap;
	}
	const char *value = node->text;
	if (row->type == CONFIG_PREFIX)
		value = prefix_format((const struct prefix *)((const char *)base + row->offset), text);
	char *copy = strdup(value);
	if (!copy) {
		walk->failed = true;
		return;
	}
	walk->seen[walk->n_seen++] = (struct seen){ .row = row, .node = node, .value = copy };
}

static int seen_order(const void *left, const void *right)
{
	const struct seen *a = left, *b = right;
	if (a->row != b->row)
		return a->row < b->row ? -1 : 1;
	int order = strcmp(a->value, b->value);
	if (order)
		return order;
	return a->node->offset < b->node->offset ? -1 : a->node->offset > b->node->offset;
}

static void unique_check(struct walk *walk)
{
	if (walk->n_seen > 1)
		qsort(walk->seen, walk->n_seen, sizeof(*walk->seen), seen_order);
	const struct seen *first = walk->seen;
	for (size_t i = 1; i < walk->n_seen; i++) {
		const struct seen *seen = &walk->seen[i];
		if (seen->row != first->row || strcmp(seen->value, first->value)) {
			first = seen;
			continue;
		}
		char quoted[CONFIG_QUOTE_MAX];
		size_t line =
		    config_report_full(walk->report) ? 0 : config_report_line(walk->report, first->node->offset);
		const char *what = *seen->row->path ? config_leaf(seen->row->path) :
				   seen->row->type == CONFIG_PREFIX ? "prefix" : "value";
		config_report_add(walk->report, seen->node->offset, seen->node->len,
				  "duplicate %s `%s`; it is first used on line %zu", what,
				  config_quote(seen->node->text, seen->node->text_len, quoted), line);
	}
}

/* errors: how many there were before it was read. */
static void unfinished_note(struct walk *walk, const struct config_row *row, const struct config_node *node,
			    void *record, size_t errors)
{
	if (!row->finish || walk->report->n_total != errors)
		return;
	if (walk->n_unfinished == walk->cap_unfinished) {
		size_t cap = walk->cap_unfinished ? walk->cap_unfinished * 2 : 64;
		struct unfinished *unfinished = reallocarray(walk->unfinished, cap, sizeof(*unfinished));
		if (!unfinished) {
			walk->failed = true;
			return;
		}
		walk->unfinished = unfinished;
		walk->cap_unfinished = cap;
	}
	walk->unfinished[walk->n_unfinished++] = (struct unfinished){ .row = row, .node = node, .record = record };
}

/* The value of a (dotted) key below a mapping, or the mapping itself. */
static const struct config_node *node_below(const struct config_node *node, const char *key)
{
	size_t len = key ? strcspn(key, ".") : 0;
	for (const struct config_node *child = len ? node->child : NULL; child; child = child->next) {
		if (child->skip || child->key->kind != CONFIG_SCALAR || child->key->text_len != len ||
		    memcmp(child->key->text, key, len))
			continue;
		return key[len] ? node_below(child, key + len + 1) : child;
	}
	return node;
}

static void finish(struct walk *walk, void *target)
{
	for (size_t i = 0; i < walk->n_unfinished && !walk->failed; i++) {
		const struct unfinished *u = &walk->unfinished[i];
		struct error error = { 0 };
		const char *key = NULL;
		int r = u->row->finish(target, u->record, &key, &error);
		const struct config_node *node = node_below(u->node, key);
		if (r == -ENOMEM)
			walk->failed = true;
		else if (r < 0)
			config_report_add(walk->report, node->offset, node->len, "%s", error.text);
	}
}

/* "a list", "a map", "nothing", "`text`": what stands where something else was expected. */
static const char *node_describe(const struct config_node *node, char buf[static CONFIG_QUOTE_MAX + 2])
{
	if (node->kind == CONFIG_SEQUENCE)
		return "a list";
	if (node->kind == CONFIG_MAPPING)
		return "a map";
	if (config_node_is_null(node))
		return "nothing";
	char quoted[CONFIG_QUOTE_MAX];
	snprintf(buf, CONFIG_QUOTE_MAX + 2, "`%s`", config_quote(node->text, node->text_len, quoted));
	return buf;
}

static void report_kind(struct walk *walk, const struct config_node *node, const char *expected, const char *hint)
{
	char buf[CONFIG_QUOTE_MAX + 2];
	config_report_add(walk->report, node->offset, node->len, "expected %s, not %s%s", expected,
			  node_describe(node, buf), hint);
}

/* A value of the wrong shape: a list instead of a number, a single prefix instead of a list. */
static void report_shape(struct walk *walk, const struct config_row *row, const struct config_node *node)
{
	char hint[CONFIG_QUOTE_MAX + 32] = "", quoted[CONFIG_QUOTE_MAX];
	struct buffer expected = BUFFER_INIT;
	config_expected(row, &expected);
	if (row->type == CONFIG_LIST && node->kind == CONFIG_SCALAR && config_plain_row(row))
		snprintf(hint, sizeof(hint), "; write `[%s]`", config_quote(node->text, node->text_len, quoted));
	else if (row->type == CONFIG_PREFIX && node->kind == CONFIG_MAPPING)
		snprintf(hint, sizeof(hint), "; put an IPv6 address in quotes");
	report_kind(walk, node, expected.data ? expected.data : "another value", hint);
	buffer_done(&expected);
}

static void scalar_walk(struct walk *walk, const struct config_row *row, const struct config_node *node, void *base)
{
	struct error error = { 0 };
	if (node->kind != CONFIG_SCALAR || config_node_is_null(node)) {
		report_shape(walk, row, node);
		return;
	}
	int r = config_value_parse(row, node->text, node->text_len, base, &error);
	if (r == -ENOMEM)
		walk->failed = true;
	else if (r < 0)
		config_report_add(walk->report, node->offset, node->len, "%s", error.text);
	else if (row->flags & CONFIG_UNIQUE)
		unique_note(walk, row, node, base);
}

static void value_walk(struct walk *walk, const struct config_row *row, const struct config_node *node, void *base,
		       const char *name);

/* Whether the record written at `node` has the key of `row` (whose path may be dotted). */
static bool record_has(const struct config_node *node, const char *path)
{
	size_t len = strcspn(path, ".");
	for (const struct config_node *child = node->child; child; child = child->next) {
		if (child->key->kind != CONFIG_SCALAR || child->key->text_len != len ||
		    memcmp(child->key->text, path, len))
			continue;
		return !path[len] || (child->kind == CONFIG_MAPPING && record_has(child, path + len + 1));
	}
	return false;
}

static void record_walk(struct walk *walk, const struct config_row *rows, const struct config_node *node, void *base,
			const char *name)
{
	if (node->kind == CONFIG_BAD)
		return;
	if (config_defaults(rows, base) < 0) {
		walk->failed = true;
		return;
	}
	if (node->kind != CONFIG_MAPPING) {
		char expected[128];
		snprintf(expected, sizeof(expected), "an entry with keys such as `%s`", rows->path);
		report_kind(walk, node, expected, "");
		return;
	}
	mapping_walk(walk, (struct scope){ .rows = rows, .section = "", .name = name }, node, base);
	for (const struct config_row *row = rows; row->path; row++)
		if ((row->flags & CONFIG_REQUIRED) && !record_has(node, row->path))
			config_report_add(walk->report, node->offset, node->len, "an entry of `%s` needs `%s`", name,
					  row->path);
}

static int key_order(const void *left, const void *right)
{
	const struct config_node *a = *(struct config_node *const *)left, *b = *(struct config_node *const *)right;
	int order = strcmp(a->key->text, b->key->text);
	if (order)
		return order;
	return a->key->offset < b->key->offset ? -1 : a->key->offset > b->key->offset;
}

/* Marks every key but the first of equal ones, and keys that are no words, and says so. */
static void duplicates_mark(struct walk *walk, const struct config_node *map)
{
	struct config_node **children = calloc(map->n_children ? map->n_children : 1, sizeof(struct config_node *));
	if (!children) {
		walk->failed = true;
		return;
	}
	size_t n = 0;
	for (struct config_node *child = map->child; child; child = child->next) {
		const struct config_node *key = child->key;
		bool missing = key->kind == CONFIG_SCALAR && key->plain && !key->text_len;
		child->skip = key->kind != CONFIG_SCALAR || missing;
		if (!child->skip)
			children[n++] = child;
		else if (key->kind != CONFIG_BAD)
			report_kind(walk, key, "a word as the key", "");
	}
	if (n > 1)
		qsort(children, n, sizeof(struct config_node *), key_order);
	for (size_t i = 1, first = 0; i < n; i++) {
		const struct config_node *key = children[i]->key, *other = children[first]->key;
		char quoted[CONFIG_QUOTE_MAX];
		if (strcmp(key->text, other->text)) {
			first = i;
			continue;
		}
		children[i]->skip = true;
		config_report_add(
		    walk->report, key->offset, key->len, "duplicate key `%s`; it is first set on line %zu",
		    config_quote(key->text, key->text_len, quoted),
		    config_report_full(walk->report) ? 0 : config_report_line(walk->report, other->offset));
	}
	free(children);
}

/* The elements of a list or a map, whose row is given. */
static void elements_walk(struct walk *walk, const struct config_row *row, const struct config_node *node, void *base,
			  const char *name)
{
	size_t *count = (size_t *)((char *)base + row->count_offset);
	if (row->max && node->n_children > row->max) {
		config_report_add(walk->report, node->offset, node->len,
				  "`%s` has %zu entries; at most %zu are allowed", name, node->n_children,
				  (size_t)row->max);
		return;
	}
	if (!node->n_children)
		return;
	char *items = calloc(node->n_children, row->size);
	if (!items) {
		walk->failed = true;
		return;
	}
	memcpy((char *)base + row->offset, &items, sizeof(items));
	if (row->type == CONFIG_MAP)
		duplicates_mark(walk, node);
	const struct config_row *plain = config_plain_row(row);
	for (const struct config_node *child = node->child; child; child = child->next) {
		if (child->skip)
			continue;
		void *item = items + (*count)++ * row->size;
		char label[160], quoted[CONFIG_QUOTE_MAX];
		snprintf(label, sizeof(label), "%s", name);
		if (row->type == CONFIG_MAP) {
			scalar_walk(walk, row->rows, child->key, item);
			snprintf(label, sizeof(label), "%s.%s", name,
				 config_quote(child->key->text, child->key->text_len, quoted));
		}
		size_t errors = walk->report->n_total;
		if (plain)
			value_walk(walk, plain, child, item, label);
		else
			record_walk(walk, config_value_rows(row), child, item, label);
		unfinished_note(walk, row, child, item, errors);
	}
}

static void value_walk(struct walk *walk, const struct config_row *row, const struct config_node *node, void *base,
		       const char *name)
{
	if (node->kind == CONFIG_BAD)
		return;
	if (row->type != CONFIG_LIST && row->type != CONFIG_MAP) {
		scalar_walk(walk, row, node, base);
		return;
	}
	/* A key whose entries are all commented out holds nothing, which is an empty list. */
	if (config_node_is_null(node))
		return;
	if (node->kind != (row->type == CONFIG_LIST ? CONFIG_SEQUENCE : CONFIG_MAPPING))
		report_shape(walk, row, node);
	else
		elements_walk(walk, row, node, base, name);
}

static void section_walk(struct walk *walk, struct scope scope, const struct config_node *node, void *base)
{
	if (node->kind == CONFIG_MAPPING) {
		mapping_walk(walk, scope, node, base);
	} else if (node->kind != CONFIG_BAD && !config_node_is_null(node)) {
		char expected[192];
		snprintf(expected, sizeof(expected), "keys such as `%s`",
			 config_suggest_first(scope.rows, scope.section));
		report_kind(walk, node, expected, "");
	}
}

/* Keys below a switch: who sets one wants the thing on. */
static void switch_walk(struct walk *walk, const struct config_row *row, struct scope scope,
			const struct config_node *node, void *base)
{
	bool on = true;
	memcpy((char *)base + row->offset, &on, sizeof(on));
	mapping_walk(walk, scope, node, base);
}

static void mapping_walk(struct walk *walk, struct scope scope, const struct config_node *node, void *base)
{
	duplicates_mark(walk, node);
	for (const struct config_node *child = node->child; child; child = child->next) {
		char path[CONFIG_PATH_MAX], name[CONFIG_PATH_MAX];
		const struct config_node *key = child->key;
		if (child->skip)
			continue;
		const struct config_row *row = NULL;
		if (!strchr(key->text, '.') && key->text_len == strlen(key->text) &&
		    config_path_join(scope.section, key->text, path))
			row = config_row_find(scope.rows, path);
		if (!row) {
			if (config_report_full(walk->report)) {
				walk->report->n_total++;
				continue;
			}
			struct buffer message = BUFFER_INIT;
			config_suggest(walk->root, scope.rows, scope.section, scope.name, key->text, key->text_len,
				       &message);
			config_report_add(walk->report, key->offset, key->len, "%s",
					  message.data ? message.data : "unknown key");
			buffer_done(&message);
			continue;
		}
		if (!config_path_join(scope.name, key->text, name))
			memcpy(name, path, sizeof(path));
		struct scope below = { .rows = scope.rows, .section = path, .name = name };
		size_t errors = walk->report->n_total;
		if (row->type == CONFIG_SECTION) {
			section_walk(walk, below, child, base);
			unfinished_note(walk, row, child, NULL, errors);
		} else if (child->kind == CONFIG_MAPPING && config_switch_keys(row)) {
			switch_walk(walk, row, below, child, base);
		} else {
			value_walk(walk, row, child, base, name);
		}
	}
}

static int document_walk(struct config_report *report, const struct config_row *rows, void *target)
{
	struct walk walk = { .root = rows, .report = report };
	struct config_tree tree;
	int r = config_defaults(rows, target);
	if (r < 0)
		return r;
	r = config_tree_parse(report, &tree);
	if (!r && tree.root)
		section_walk(&walk, (struct scope){ .rows = rows, .section = "", .name = "" }, tree.root, target);
	if (!r)
		finish(&walk, target);
	if (!r)
		unique_check(&walk);
	for (size_t i = 0; i < walk.n_seen; i++)
		free(walk.seen[i].value);
	free(walk.seen);
	free(walk.unfinished);
	config_tree_done(&tree);
	if (walk.failed || report->failed)
		return -ENOMEM;
	return r;
}

int config_parse(const struct config_row *rows, const char *text, size_t len, const char *name, void *target,
		 size_t target_size, struct buffer *ret_errors)
{
	struct config_report report;
	memset(target, 0, target_size);
	if (len > CONFIG_FILE_MAX) {
		buffer_printf(ret_errors, "%s: error: larger than 1 MiB, which no configuration is\n", name);
		return -EFBIG;
	}
	config_report_init(&report, name, text, len);
	int r = document_walk(&report, rows, target);
	if (r == -ENOMEM) {
		buffer_printf(ret_errors, "%s: error: out of memory\n", name);
	} else if (report.n_total) {
		config_report_write(&report, ret_errors);
		r = -EINVAL;
	}
	config_report_done(&report);
	if (r < 0) {
		config_done(rows, target);
		memset(target, 0, target_size);
	}
	return r;
}

static int file_read(int fd, struct buffer *out)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	while (out->len <= CONFIG_FILE_MAX) {
		char *space = buffer_reserve(out, 65536);
		if (!space)
			return -ENOMEM;
		ssize_t n = read(fd, space, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return 0;
		out->len += (size_t)n;
	}
	return 0;
}

int config_load(const struct config_row *rows, const char *path, void *target, size_t target_size,
		struct buffer *ret_errors)
{
	struct buffer text = BUFFER_INIT;
	if (!path)
		return config_parse(rows, "", 0, "defaults", target, target_size, ret_errors);
	memset(target, 0, target_size);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : file_read(fd, &text);
	if (fd >= 0)
		close(fd);
	if (r < 0)
		buffer_printf(ret_errors, "%s: error: cannot read the configuration: %s\n", path, strerror(-r));
	else
		r = config_parse(rows, text.data ? text.data : "", text.len, path, target, target_size, ret_errors);
	buffer_done(&text);
	return r;
}
