/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/features.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"

/* A feature that is reported again (a retry, a reload) replaces its line. */
static struct feature *line_of(struct features *features, const char *name)
{
	for (size_t i = 0; i < features->n; i++)
		if (!strcmp(features->items[i].name, name))
			return &features->items[i];
	assert(features->n < FEATURES_MAX);
	return &features->items[features->n++];
}

void features_enable(struct features *features, const char *name, const char *mode)
{
	*line_of(features, name) = (struct feature){ .name = name, .mode = mode, .enabled = true };
}

void features_miss(struct features *features, const char *name, const char *reason, const char *remedy)
{
	struct feature *f = line_of(features, name);

	*f = (struct feature){ .name = name, .mode = "off" };
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
	snprintf(f->remedy, sizeof(f->remedy), "%s", remedy ? remedy : "");
}

void features_unwanted(struct features *features, const char *name, const char *section, const char *key)
{
	struct feature *f = line_of(features, name);

	*f = (struct feature){ .name = name, .mode = "off", .unwanted = true };
	snprintf(f->reason, sizeof(f->reason), "not asked for: %s%s%s", section, key ? "." : "", key ? key : "");
}

json_t *features_item_json(const struct feature *f)
{
	/* Reasons name what others chose the name of, and may be cut within a character. */
	return json_pack("{s:s, s:s, s:b, s:o, s:o}", "feature", f->name, "mode", f->mode, "enabled", f->enabled,
			 "reason", json_text(f->reason, sizeof(f->reason)), "remedy", json_text(f->remedy, sizeof(f->remedy)));
}

void features_write_json(const struct features *features, struct buffer *out)
{
	json_t *list = json_array();

	for (size_t i = 0; i < features->n; i++)
		json_array_append_new(list, features_item_json(&features->items[i]));
	json_write(json_pack("{s:s, s:{s:o}}", "status", "success", "data", "features", list), out);
}
