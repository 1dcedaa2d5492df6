/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's one joint: collectors write into it, the exporter reads from it.
 *
 * Families are registered once, at start; a bad name is refused then, not when
 * it is scraped. Each tick is registry_begin, the collectors' registry_value and
 * registry_histogram calls, registry_commit. Readers only ever see the last
 * committed snapshot, whole. A snapshot owns copies of every label and bucket.
 *
 * The series budget is hard: series beyond it are left out and counted per
 * family in netsonde_series_dropped_total. A text histogram counts as the lines
 * it becomes. Collectors add in a stable order, so what fitted keeps fitting.
 */
#pragma once
#include <stdint.h>
#include "lib/exposition.h"
#include "lib/hist.h"
#include "lib/metric.h"

struct registry;
struct registry_family;

int registry_new(uint32_t series_budget, struct registry **ret_registry);
void registry_free(struct registry *registry);
void registry_set_budget(struct registry *registry, uint32_t series_budget);

/* label_names: NULL-terminated, borrowed. -EINVAL for a bad family or label name, -EEXIST for a second one of that name. */
int registry_register(struct registry *registry, const struct metric_family *family, const char *const *label_names,
		      struct registry_family **ret_family, struct error *ret_error);

#define REGISTRY_LABELS_MAX 4
struct registry_definition {
	struct metric_family family;
	const char *labels[REGISTRY_LABELS_MAX + 1]; /* ended by NULL */
};
/* All of a table, in its order; definitions: borrowed. ret_families: as many; NULL when only the table is wanted. */
int registry_register_all(struct registry *registry, const struct registry_definition *definitions, size_t n,
			  struct registry_family **ret_families, struct error *ret_error);

void registry_begin(struct registry *registry);
/* label_values: as many as the family has label names. */
void registry_value(struct registry_family *family, const char *const *label_values, double value);
void registry_histogram(struct registry_family *family, const char *const *label_values, const struct hist *hist);
void registry_commit(struct registry *registry);

/* Rises by one with every commit; 0 before the first. */
uint64_t registry_generation(const struct registry *registry);
uint32_t registry_series(const struct registry *registry); /* in the committed snapshot */
/* The committed snapshot in a format, appended to out. */
int registry_write(const struct registry *registry, enum exposition_format format, struct buffer *out);

/* For self metrics and documentation: the families in order of registration. */
size_t registry_families(const struct registry *registry);
/* Name of family `index` and how many of its series the budget (or memory) left out since the start. */
const char *registry_dropped(const struct registry *registry, size_t index, uint64_t *ret_dropped);
/* The families as a Markdown table: name, type, labels, help. */
void registry_write_markdown(const struct registry *registry, struct buffer *out);
