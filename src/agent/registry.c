/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two snapshots: one being filled, one committed. A snapshot is an array of
 * samples in the order they were added plus an arena for label texts and buckets;
 * both keep their memory from tick to tick, so a steady agent does not allocate.
 * Samples refer to the arena by offset, since it moves while it grows. Samples of one
 * family are chained, so that the exposition is grouped however collectors interleave.
 */
#include "agent/registry.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/buffer.h"

#define NONE UINT32_MAX
#define LABEL_NAMES_MAX 8

struct sample {
	uint32_t next;      /* in the same family, or NONE */
	uint32_t labels;    /* arena offset of n_labels NUL-terminated texts */
	uint32_t hist;      /* arena offset of a struct packed_hist, or NONE */
	double value;
};

/* A hist without its pointers; the buckets follow it in the arena. */
struct packed_hist {
	struct hist hist;
};

struct chain {
	uint32_t first, last, n;
};

struct snapshot {
	struct sample *samples;
	size_t n, cap;
	struct buffer arena;
	struct chain *chains; /* one per family */
	uint32_t series;
};

struct registry_family {
	struct registry *registry;
	struct metric_family family;
	const char *label_names[LABEL_NAMES_MAX];
	size_t n_labels;
	size_t index;
	uint32_t series_per_sample;
	uint64_t dropped;
};

struct registry {
	struct registry_family **families;
	size_t n_families;
	struct snapshot snapshots[2];
	struct snapshot *filling, *committed; /* committed: NULL before the first commit */
	uint32_t series_budget;
	uint64_t generation;
};

int registry_new(uint32_t series_budget, struct registry **ret_registry)
{
	struct registry *registry = calloc(1, sizeof(*registry));

	if (!registry)
		return -ENOMEM;
	registry->series_budget = series_budget;
	registry->filling = &registry->snapshots[0];
	*ret_registry = registry;
	return 0;
}

void registry_free(struct registry *registry)
{
	if (!registry)
		return;
	for (size_t i = 0; i < registry->n_families; i++)
		free(registry->families[i]);
	free(registry->families);
	for (size_t i = 0; i < 2; i++) {
		free(registry->snapshots[i].samples);
		free(registry->snapshots[i].chains);
		buffer_done(&registry->snapshots[i].arena);
	}
	free(registry);
}

void registry_set_budget(struct registry *registry, uint32_t series_budget)
{
	registry->series_budget = series_budget;
}

static int check_new_family(const struct registry *registry, const struct metric_family *family,
			    const char *const *label_names, struct error *ret_error)
{
	int r = metric_family_check(family, ret_error);

	if (r < 0)
		return r;
	for (size_t i = 0; i < registry->n_families; i++)
		if (!strcmp(registry->families[i]->family.name, family->name))
			return error_set(ret_error, -EEXIST, "metric %s is registered twice", family->name);
	for (size_t i = 0; label_names[i]; i++)
		if (i >= LABEL_NAMES_MAX || !metric_label_name_valid(label_names[i]))
			return error_set(ret_error, -EINVAL, "metric %s: bad label name `%s`", family->name, label_names[i]);
	return 0;
}

int registry_register(struct registry *registry, const struct metric_family *family, const char *const *label_names,
		      struct registry_family **ret_family, struct error *ret_error)
{
	struct registry_family **families, *f;
	int r = check_new_family(registry, family, label_names, ret_error);

	if (r < 0)
		return r;
	families = realloc(registry->families, (registry->n_families + 1) * sizeof(*families));
	if (!families)
		return -ENOMEM;
	registry->families = families;
	for (size_t i = 0; i < 2; i++) {
		struct snapshot *s = &registry->snapshots[i];
		struct chain *chains = realloc(s->chains, (registry->n_families + 1) * sizeof(*chains));

		if (!chains)
			return -ENOMEM;
		s->chains = chains;
		s->chains[registry->n_families] = (struct chain){ NONE, NONE, 0 };
	}
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->registry = registry;
	f->family = *family;
	f->index = registry->n_families;
	while (label_names[f->n_labels]) {
		f->label_names[f->n_labels] = label_names[f->n_labels];
		f->n_labels++;
	}
	/* A text histogram: the finite buckets, +Inf, _sum and _count. */
	f->series_per_sample = family->type == METRIC_HISTOGRAM ?
		(uint32_t)(family->classic_last_exp - family->classic_first_exp + 1 + 3) : 1;
	families[registry->n_families++] = f;
	*ret_family = f;
	return 0;
}

int registry_register_all(struct registry *registry, const struct registry_definition *definitions, size_t n,
			  struct registry_family **ret_families, struct error *ret_error)
{
	struct registry_family *ignored;
	int r = 0;

	for (size_t i = 0; i < n && !r; i++)
		r = registry_register(registry, &definitions[i].family, definitions[i].labels,
				      ret_families ? &ret_families[i] : &ignored, ret_error);
	return r;
}

void registry_begin(struct registry *registry)
{
	struct snapshot *s = registry->filling;

	s->n = 0;
	s->series = 0;
	buffer_clear(&s->arena);
	for (size_t i = 0; i < registry->n_families; i++)
		s->chains[i] = (struct chain){ NONE, NONE, 0 };
}

/* Room in the arena at an 8-byte boundary; NONE when out of memory. */
static uint32_t arena_take(struct snapshot *s, size_t len)
{
	size_t pad = -s->arena.len & 7;
	char *at = buffer_reserve(&s->arena, pad + len);
	size_t offset = s->arena.len + pad;

	if (!at || offset + len >= NONE)
		return NONE;
	memset(at, 0, pad);
	s->arena.len += pad + len;
	return (uint32_t)offset;
}

static uint32_t store_labels(struct snapshot *s, const char *const *label_values, size_t n)
{
	size_t lengths[LABEL_NAMES_MAX], total = 0;
	uint32_t offset;
	char *at;

	for (size_t i = 0; i < n; i++)
		total += lengths[i] = strlen(label_values[i]) + 1;
	offset = arena_take(s, total);
	if (offset == NONE)
		return NONE;
	at = s->arena.data + offset;
	for (size_t i = 0; i < n; i++) {
		memcpy(at, label_values[i], lengths[i]);
		at += lengths[i];
	}
	return offset;
}

static uint32_t store_hist(struct snapshot *s, const struct hist *hist)
{
	size_t buckets_len = hist->n * sizeof(uint64_t);
	uint32_t offset = arena_take(s, sizeof(struct packed_hist) + buckets_len);
	struct packed_hist *packed;

	if (offset == NONE)
		return NONE;
	packed = (struct packed_hist *)(void *)(s->arena.data + offset);
	packed->hist = *hist;
	packed->hist.buckets = NULL;
	if (buckets_len)
		memcpy(packed + 1, hist->buckets, buckets_len);
	return offset;
}

/* Room for one more sample; its labels and buckets are stored by then, so that a sample is whole or not there. */
static struct sample *add_sample(struct registry_family *f, uint32_t labels, uint32_t hist)
{
	struct snapshot *s = f->registry->filling;
	struct chain *chain = &s->chains[f->index];

	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 256;
		struct sample *samples = realloc(s->samples, cap * sizeof(*samples));

		if (!samples)
			return NULL;
		s->samples = samples;
		s->cap = cap;
	}
	s->samples[s->n] = (struct sample){ .next = NONE, .labels = labels, .hist = hist };
	if (chain->last == NONE)
		chain->first = (uint32_t)s->n;
	else
		s->samples[chain->last].next = (uint32_t)s->n;
	chain->last = (uint32_t)s->n;
	chain->n++;
	s->series += f->series_per_sample;
	return &s->samples[s->n++];
}

/* hist NULL: a plain value. */
static void add(struct registry_family *f, const char *const *label_values, const struct hist *hist, double value)
{
	struct snapshot *s = f->registry->filling;
	uint32_t labels = NONE, buckets = NONE;
	struct sample *sample = NULL;

	if (s->series + f->series_per_sample <= f->registry->series_budget) {
		labels = store_labels(s, label_values, f->n_labels);
		buckets = hist && labels != NONE ? store_hist(s, hist) : NONE;
		if (labels != NONE && (!hist || buckets != NONE))
			sample = add_sample(f, labels, buckets);
	}
	if (sample)
		sample->value = value;
	else
		f->dropped += f->series_per_sample;
}

void registry_value(struct registry_family *family, const char *const *label_values, double value)
{
	assert(family->family.type != METRIC_HISTOGRAM);
	add(family, label_values, NULL, value);
}

void registry_histogram(struct registry_family *family, const char *const *label_values, const struct hist *hist)
{
	assert(family->family.type == METRIC_HISTOGRAM);
	add(family, label_values, hist, 0);
}

void registry_commit(struct registry *registry)
{
	struct snapshot *done = registry->filling;

	registry->filling = done == &registry->snapshots[0] ? &registry->snapshots[1] : &registry->snapshots[0];
	registry->committed = done;
	registry->generation++;
}

uint64_t registry_generation(const struct registry *registry)
{
	return registry->generation;
}

uint32_t registry_series(const struct registry *registry)
{
	return registry->committed ? registry->committed->series : 0;
}

size_t registry_families(const struct registry *registry)
{
	return registry->n_families;
}

const char *registry_dropped(const struct registry *registry, size_t index, uint64_t *ret_dropped)
{
	*ret_dropped = registry->families[index]->dropped;
	return registry->families[index]->family.name;
}

void registry_write_markdown(const struct registry *registry, struct buffer *out)
{
	buffer_puts(out, "| name | type | labels | meaning |\n|---|---|---|---|\n");
	for (size_t i = 0; i < registry->n_families; i++) {
		const struct registry_family *f = registry->families[i];

		buffer_printf(out, "| `%s` | %s | ", f->family.name, metric_type_name(f->family.type));
		for (size_t k = 0; k < f->n_labels; k++)
			buffer_printf(out, "%s`%s`", k ? ", " : "", f->label_names[k]);
		buffer_printf(out, " | %s |\n", f->family.help);
	}
}

static void write_sample(struct exposition *e, const struct registry_family *f, const struct snapshot *s,
			 const struct sample *sample)
{
	struct label labels[LABEL_NAMES_MAX];
	const char *at = s->arena.data + sample->labels;

	for (size_t i = 0; i < f->n_labels; i++) {
		labels[i] = (struct label){ f->label_names[i], at };
		at += strlen(at) + 1;
	}
	if (f->family.type != METRIC_HISTOGRAM) {
		exposition_value(e, labels, f->n_labels, sample->value);
	} else {
		struct packed_hist *packed = (struct packed_hist *)(void *)(s->arena.data + sample->hist);
		struct hist hist = packed->hist;

		hist.buckets = (uint64_t *)(void *)(packed + 1);
		exposition_histogram(e, labels, f->n_labels, &hist);
	}
}

int registry_write(const struct registry *registry, enum exposition_format format, struct buffer *out)
{
	const struct snapshot *s = registry->committed;
	struct exposition e;

	exposition_begin(&e, out, format);
	for (size_t i = 0; s && i < registry->n_families; i++) {
		if (s->chains[i].first == NONE)
			continue;
		exposition_family(&e, &registry->families[i]->family);
		for (uint32_t k = s->chains[i].first; k != NONE; k = s->samples[k].next)
			write_sample(&e, registry->families[i], s, &s->samples[k]);
	}
	return exposition_end(&e);
}
