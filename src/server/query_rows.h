/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The label sets that a part of a query can have as results, each once, found by
 * a hash. A row's number is its identity during the evaluation: labels are looked
 * at when the query is planned and never again per step.
 */
#pragma once
#include <stdint.h>
#include "lib/metric.h"
#include "lib/siphash.h"

/* One allocation holds the array and its strings. Sorted by name, "__name__" first. */
struct label_set { struct label *labels; size_t n; };

int label_set_copy(struct label_set *to, const struct label *labels, size_t n);
void label_set_done(struct label_set *set);
int label_set_compare(const struct label_set *a, const struct label_set *b); /* Prometheus' order of series */

struct rows {
	struct label_set *sets;
	struct siphash_key key; /* targets choose the labels */
	uint64_t *hashes;
	size_t n, cap;
	size_t *slots; /* row + 1, 0: free; open addressing */
	size_t n_slots; /* a power of two, or 0 */
};

void rows_done(struct rows *rows);
/* Finds the row or adds it; labels are copied. -ENOMEM. */
int rows_add(struct rows *rows, const struct label *labels, size_t n, size_t *ret_row);
/* The row, or SIZE_MAX. */
size_t rows_find(const struct rows *rows, const struct label *labels, size_t n);
