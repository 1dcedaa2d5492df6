/* SPDX-License-Identifier: Apache-2.0 */
/* Label sets and their hash; see query_rows.h. */
#include "server/query_rows.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int label_set_copy(struct label_set *to, const struct label *labels, size_t n)
{
	size_t bytes = n * sizeof(*labels) + 1;
	struct label *copy;
	char *at;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(labels[i].name) + strlen(labels[i].value) + 2;
	copy = malloc(bytes);
	if (!copy)
		return -ENOMEM;
	at = (char *)&copy[n];
	for (size_t i = 0; i < n; i++) {
		copy[i].name = at;
		at = stpcpy(at, labels[i].name) + 1;
		copy[i].value = at;
		at = stpcpy(at, labels[i].value) + 1;
	}
	*to = (struct label_set){ copy, n };
	return 0;
}

void label_set_done(struct label_set *set)
{
	free(set->labels);
	*set = (struct label_set){ 0 };
}

int label_set_compare(const struct label_set *a, const struct label_set *b)
{
	for (size_t i = 0; i < a->n && i < b->n; i++) {
		int r = strcmp(a->labels[i].name, b->labels[i].name);

		if (r == 0)
			r = strcmp(a->labels[i].value, b->labels[i].value);
		if (r)
			return r;
	}
	return a->n < b->n ? -1 : a->n > b->n;
}

static uint64_t hash_labels(const struct rows *rows, const struct label *labels, size_t n)
{
	struct siphash sip;

	siphash_begin(&sip, &rows->key);
	for (size_t i = 0; i < n; i++) {
		siphash_string(&sip, labels[i].name);
		siphash_string(&sip, labels[i].value);
	}
	return siphash_end(&sip);
}

/* The slot of the row, or the free one where it would go. */
static size_t find_slot(const struct rows *rows, uint64_t hash, const struct label *labels, size_t n)
{
	const struct label_set wanted = { (struct label *)labels, n };
	size_t slot = hash & (rows->n_slots - 1);

	while (rows->slots[slot]) {
		size_t row = rows->slots[slot] - 1;

		if (rows->hashes[row] == hash && !label_set_compare(&rows->sets[row], &wanted))
			break;
		slot = (slot + 1) & (rows->n_slots - 1);
	}
	return slot;
}

static int grow(struct rows *rows)
{
	size_t cap = rows->cap ? rows->cap * 2 : 16;
	struct label_set *sets = reallocarray(rows->sets, cap, sizeof(*sets));
	uint64_t *hashes;
	size_t *slots;

	if (!sets)
		return -ENOMEM;
	rows->sets = sets;
	if (!rows->n_slots)
		siphash_key_new(&rows->key);
	hashes = reallocarray(rows->hashes, cap, sizeof(*hashes));
	if (!hashes)
		return -ENOMEM;
	rows->hashes = hashes;
	slots = calloc(cap * 2, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	free(rows->slots);
	rows->slots = slots;
	rows->n_slots = cap * 2;
	rows->cap = cap;
	for (size_t i = 0; i < rows->n; i++) {
		size_t slot = rows->hashes[i] & (rows->n_slots - 1);

		while (slots[slot])
			slot = (slot + 1) & (rows->n_slots - 1);
		slots[slot] = i + 1;
	}
	return 0;
}

int rows_add(struct rows *rows, const struct label *labels, size_t n, size_t *ret_row)
{
	uint64_t hash;
	size_t slot;
	int r;

	if (rows->n == rows->cap) {
		r = grow(rows);
		if (r < 0)
			return r;
	}
	hash = hash_labels(rows, labels, n);
	slot = find_slot(rows, hash, labels, n);
	if (!rows->slots[slot]) {
		r = label_set_copy(&rows->sets[rows->n], labels, n);
		if (r < 0)
			return r;
		rows->hashes[rows->n] = hash;
		rows->slots[slot] = ++rows->n;
	}
	*ret_row = rows->slots[slot] - 1;
	return 0;
}

size_t rows_find(const struct rows *rows, const struct label *labels, size_t n)
{
	return rows->n ? rows->slots[find_slot(rows, hash_labels(rows, labels, n), labels, n)] - 1 : SIZE_MAX;
}

void rows_done(struct rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		label_set_done(&rows->sets[i]);
	free(rows->sets);
	free(rows->hashes);
	free(rows->slots);
	*rows = (struct rows){ 0 };
}
