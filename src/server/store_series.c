/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The in-memory index of all series: a hash table with chains from (name,
 * sorted labels) to the series' row, with a secret in the hash, since targets
 * choose the names (lib/siphash.h). Only here are labels turned into the JSON
 * text of the table and back. The text is canonical (compact, keys sorted), so
 * the UNIQUE index on it keeps one row per series.
 */
#include "server/store_internal.h"
#include "lib/json.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHAINS_MIN 1024

/* The words of the file's format; metric_type_name() is for exposition and may change. */
static const char *const type_texts[] = {
	[METRIC_UNKNOWN] = "unknown",     [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge",
	[METRIC_HISTOGRAM] = "histogram", [METRIC_SUMMARY] = "summary", [METRIC_INFO] = "info",
	[METRIC_STATESET] = "stateset",
};
#define N_TYPES (sizeof(type_texts) / sizeof(type_texts[0]))

const char *series_type_text(enum metric_type type)
{
	return (size_t)type < N_TYPES ? type_texts[type] : type_texts[METRIC_UNKNOWN];
}

static enum metric_type type_from_text(const char *text)
{
	for (size_t i = 0; text && i < N_TYPES; i++)
		if (!strcmp(text, type_texts[i]))
			return (enum metric_type)i;
	return METRIC_UNKNOWN;
}

static uint64_t hash_key(const struct store *store, const char *name, const struct label *labels, size_t n_labels)
{
	struct siphash sip;

	siphash_begin(&sip, &store->hash_key);
	siphash_string(&sip, name);
	for (size_t i = 0; i < n_labels; i++) {
		siphash_string(&sip, labels[i].name);
		siphash_string(&sip, labels[i].value);
	}
	return siphash_end(&sip);
}

static bool series_is(const struct series *s, const char *name, const struct label *labels, size_t n_labels)
{
	if (s->n_labels != n_labels || strcmp(s->name, name))
		return false;
	for (size_t i = 0; i < n_labels; i++)
		if (strcmp(s->labels[i].value, labels[i].value) || strcmp(s->labels[i].name, labels[i].name))
			return false;
	return true;
}

struct series *series_find(struct store *store, const char *name, const struct label *labels, size_t n_labels)
{
	uint64_t hash = hash_key(store, name, labels, n_labels);

	if (!store->n_chains)
		return NULL;
	for (struct series *s = store->chains[hash & (store->n_chains - 1)]; s; s = s->next)
		if (s->hash == hash && series_is(s, name, labels, n_labels))
			return s;
	return NULL;
}

static int grow(struct store *store)
{
	if (store->n_series == store->cap_series) {
		size_t cap = store->cap_series ? store->cap_series * 2 : CHAINS_MIN;
		struct series **array = reallocarray(store->series, cap, sizeof(*array));

		if (!array)
			return -ENOMEM;
		store->series = array;
		store->cap_series = cap;
	}
	if (store->n_series >= store->n_chains) {
		size_t n = store->n_chains ? store->n_chains * 2 : CHAINS_MIN;
		struct series **chains = calloc(n, sizeof(*chains));

		if (!chains)
			return -ENOMEM;
		free(store->chains);
		store->chains = chains;
		store->n_chains = n;
		for (size_t i = 0; i < store->n_series; i++) {
			struct series **head = &chains[store->series[i]->hash & (n - 1)];

			store->series[i]->next = *head;
			*head = store->series[i];
		}
	}
	return 0;
}

static char *put_string(char **at, const char *s)
{
	size_t len = strlen(s) + 1;
	char *put = memcpy(*at, s, len);

	*at += len;
	return put;
}

int series_insert(struct store *store, int64_t id, const char *name, enum metric_type type, const struct label *labels,
		  size_t n_labels, struct series **ret_series)
{
	size_t bytes = sizeof(struct series) + n_labels * sizeof(struct label) + strlen(name) + 1;
	struct series *s, **head;
	char *at;

	for (size_t i = 0; i < n_labels; i++)
		bytes += strlen(labels[i].name) + 1 + strlen(labels[i].value) + 1;
	if (grow(store) < 0)
		return -ENOMEM;
	s = calloc(1, bytes);
	if (!s)
		return -ENOMEM;
	at = (char *)&s->labels[n_labels];
	s->id = id;
	s->first_t_ms = INT64_MIN;
	s->type = s->committed_type = type;
	s->hash = hash_key(store, name, labels, n_labels);
	s->name = put_string(&at, name);
	s->n_labels = n_labels;
	for (size_t i = 0; i < n_labels; i++) {
		s->labels[i].name = put_string(&at, labels[i].name);
		s->labels[i].value = put_string(&at, labels[i].value);
	}
	head = &store->chains[s->hash & (store->n_chains - 1)];
	s->next = *head;
	*head = s;
	store->series[store->n_series++] = s;
	if (ret_series)
		*ret_series = s;
	return 0;
}

void series_remove(struct store *store, struct series *s)
{
	struct series **at = &store->chains[s->hash & (store->n_chains - 1)];

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	free(s);
}

void series_truncate(struct store *store, size_t n_series)
{
	while (store->n_series > n_series)
		series_remove(store, store->series[--store->n_series]);
}

void series_done(struct store *store)
{
	for (size_t i = 0; i < store->n_series; i++)
		free(store->series[i]);
	free(store->series);
	free(store->chains);
	store->series = store->chains = NULL;
	store->n_series = store->cap_series = store->n_chains = 0;
}

char *series_labels_json(const struct label *labels, size_t n_labels)
{
	json_t *object = json_object();
	char *text = NULL;

	for (size_t i = 0; i < n_labels; i++)
		if (json_object_set_new(object, labels[i].name, json_string(labels[i].value)) < 0)
			goto out;
	text = json_dumps(object, JSON_COMPACT | JSON_SORT_KEYS);
out:
	json_decref(object);
	return text;
}

static int compare_labels(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

static int load_one(struct store *store, sqlite3_stmt *row)
{
	const char *name = (const char *)sqlite3_column_text(row, 1), *text = (const char *)sqlite3_column_text(row, 2);
	json_t *object = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL, *value;
	size_t n = object ? json_object_size(object) : 0, i = 0;
	struct label *labels = calloc(n ? n : 1, sizeof(*labels));
	const char *key;
	int r = -EBADMSG;

	if (!labels) {
		r = -ENOMEM;
		goto out;
	}
	if (!name || !json_is_object(object))
		goto out;
	json_object_foreach(object, key, value) {
		if (!json_is_string(value))
			goto out;
		labels[i++] = (struct label){ key, json_string_value(value) };
	}
	qsort(labels, n, sizeof(*labels), compare_labels);
	r = series_insert(store, sqlite3_column_int64(row, 0), name,
			  type_from_text((const char *)sqlite3_column_text(row, 3)), labels, n, NULL);
out:
	free(labels);
	json_decref(object);
	return r;
}

int series_load(struct store *store, struct error *ret_error)
{
	sqlite3_stmt *st = NULL;
	int r = 0,
	    rc = sqlite3_prepare_v2(store->db, "SELECT id, name, labels, type FROM series ORDER BY id", -1, &st, NULL);

	while (rc == SQLITE_OK && r == 0) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW) {
			r = load_one(store, st);
			rc = SQLITE_OK;
		}
	}
	if (r == -EBADMSG)
		error_set(
		    ret_error, r,
			"database %s is damaged (series %lld has no readable labels); move it away, or restore a copy",
		    store->path, (long long)sqlite3_column_int64(st, 0));
	else if (r < 0)
		error_set_errno(ret_error, r, "cannot read database %s", store->path);
	else if (rc != SQLITE_DONE)
		r = store_fail(store, rc, ret_error, "cannot read the series of");
	sqlite3_finalize(st);
	return r;
}
