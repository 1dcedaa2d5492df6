/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this agent can measure on this kernel, and how it got there: one line per
 * feature with the mode that was chosen, or why it is missing and what to do.
 * Shown by netsonde_feature_enabled, /api/v1/features and `netsonde doctor`.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/buffer.h"
#include "lib/json.h"

#define FEATURES_MAX 128 /* with one for each watched interface and namespace */

struct feature {
	const char *name; /* "tcp", "tcp_resets_sent": static storage */
	const char *mode; /* "tp_btf", "iter", "off": static storage; "off" when not enabled */
	bool enabled;
	bool unwanted;    /* off because the configuration says so: nothing is missing */
	char reason[256]; /* why it is off, "" when enabled */
	char remedy[256]; /* what would help, "" when nothing is known */
};

struct features {
	struct feature items[FEATURES_MAX];
	size_t n;
};

void features_enable(struct features *features, const char *name, const char *mode);
void features_miss(struct features *features, const char *name, const char *reason, const char *remedy);
/* Off by choice; the key SECTION.KEY, or SECTION itself (key NULL), turns it on. */
void features_unwanted(struct features *features, const char *name, const char *section, const char *key);
json_t *features_item_json(const struct feature *feature); /* a new reference */
void features_write_json(const struct features *features, struct buffer *out);
