/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A YAML document as plain nodes with their places in the text. Only for
 * config*.c. The children of a map are its values, each with its key. A node of
 * kind CONFIG_BAD stands for something that was already reported.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/config_report.h"

enum config_kind { CONFIG_SCALAR, CONFIG_SEQUENCE, CONFIG_MAPPING, CONFIG_BAD };

struct config_node {
	enum config_kind kind;
	bool plain;       /* a scalar without quotes */
	bool skip;        /* the second of two equal keys */
	char *text;       /* of a scalar: owned by the tree, NUL-terminated; may hold NULs (then text_len is longer) */
	size_t text_len;
	size_t offset, len; /* in the source */
	struct config_node *key;
	struct config_node *child, *last, *next;
	size_t n_children;
	struct config_node *all; /* the tree's list of all its nodes */
};

struct config_tree {
	struct config_node *root; /* NULL: an empty document */
	struct config_node *all;
};

/* 0, -ENOMEM, or -EINVAL when the text is no YAML document (reported). Other findings (aliases, tags, a second
 * document) are reported too, with 0: the rest can still be checked. Always call config_tree_done. */
int config_tree_parse(struct config_report *report, struct config_tree *ret_tree);
void config_tree_done(struct config_tree *tree);
/* Nothing was written: an empty value, ~ or null. */
bool config_node_is_null(const struct config_node *node);
