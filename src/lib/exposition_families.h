/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The families one text exposition has declared so far (its TYPE lines), and
 * which of them a sample belongs to. Names are borrowed from the input. The
 * hash is keyed afresh for every parse, so a hostile exporter cannot choose
 * names that collide. Internal to lib/exposition_parse.c.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/metric.h"

struct family {
	const char *name; /* borrowed, not NUL-terminated; NULL in a free slot */
	size_t len;
	uint64_t hash;
	enum metric_type type;
	bool gauge_histogram; /* type is METRIC_GAUGE: its buckets may fall */
};

struct families {
	struct family *slots; /* owned; open addressing, at most half full */
	size_t n, cap;        /* cap: 0 or a power of two */
	uint64_t key[2];
};

void families_init(struct families *families);
void families_done(struct families *families);

/* A second TYPE line of one name replaces the first. -ENOMEM. */
int families_set(struct families *families, const char *name, size_t len, enum metric_type type, bool gauge_histogram);

/* The family of the sample name[0..len): the one of that very name, else the one it is a part of (x for x_bucket when
 * x is a histogram). NULL when there is none. ret_created: it is the creation time of that family. */
const struct family *families_of(const struct families *families, const char *name, size_t len, bool *ret_created);
