/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store's tests share: a directory of its own below $TMPDIR for each
 * test, removed afterwards, and short ways to write and to look.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "server/store_internal.h"

#define T0 1700000000000LL

struct fixture {
	char directory[256];
	char path[300];
	struct error error;
};

static inline int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");

	snprintf(f->directory, sizeof(f->directory), "%s/netsonde-store-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(f->directory))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/t.db", f->directory);
	*state = f;
	return 0;
}

static inline int tear_down(void **state)
{
	struct fixture *f = *state;
	DIR *d = opendir(f->directory);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(f->directory);
	free(f);
	return 0;
}

static inline struct store *open_ok(struct fixture *f)
{
	struct store *s = NULL;
	int r = store_open(f->path, &s, &f->error);

	if (r < 0)
		fail_msg("store_open: %d %s", r, f->error.text);
	return s;
}

static inline int append(struct store *s, const char *name, const char *peer, int64_t t, double value, const struct hist *hist)
{
	struct label labels[] = { { "job", "netsonde" }, { "peer", peer } };

	return store_append(s, &(struct store_sample){ .name = name, .type = hist ? METRIC_HISTOGRAM : METRIC_GAUGE,
						       .help_family = name, .labels = labels, .n_labels = 2, .t_ms = t,
						       .hist = hist, .value = value }, NULL);
}

static inline void put(struct store *s, const char *name, const char *peer, int64_t t, double value)
{
	assert_int_equal(store_begin(s, NULL), 0);
	assert_int_equal(append(s, name, peer, t, value, NULL), 0);
	assert_int_equal(store_commit(s, NULL), 0);
}

struct selected { size_t n; uint64_t id; enum metric_type type; char text[256]; };

static inline int on_series(const struct store_series *series, void *userdata)
{
	struct selected *out = userdata;
	size_t at = 0;

	out->n++;
	out->id = series->id;
	out->type = series->type;
	at += (size_t)snprintf(out->text + at, sizeof(out->text) - at, "%s", series->name);
	for (size_t i = 0; i < series->n_labels; i++)
		at += (size_t)snprintf(out->text + at, sizeof(out->text) - at, " %s=%s", series->labels[i].name,
				       series->labels[i].value);
	return 0;
}

static inline struct selected select_range(struct store *s, const char *name, int64_t from, int64_t to)
{
	struct matcher m = { (char *)"__name__", MATCH_EQUAL, (char *)name };
	struct selected out = { 0 };

	assert_int_equal(store_select(s, &m, 1, from, to, STORE_NO_DEADLINE, on_series, &out, NULL), 0);
	return out;
}

static inline struct selected select_name(struct store *s, const char *name)
{
	return select_range(s, name, INT64_MIN, INT64_MAX);
}

struct points { size_t n; struct store_point at[16]; uint64_t hist_count[16]; };

static inline int on_point(const struct store_point *point, void *userdata)
{
	struct points *out = userdata;

	if (out->n < 16) {
		out->at[out->n] = *point;
		out->hist_count[out->n] = point->hist ? point->hist->count : 0;
	}
	out->n++;
	return 0;
}

static inline struct points read_all(struct store *s, uint64_t id)
{
	struct points out = { 0 };

	assert_int_equal(store_read(s, id, INT64_MIN, INT64_MAX, on_point, &out, NULL), 0);
	return out;
}

static inline double stale(void)
{
	double v;

	memcpy(&v, &(uint64_t){ STORE_STALE_BITS }, sizeof(v));
	return v;
}
