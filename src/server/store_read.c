/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading: which series match, and one series' samples in time order, by ranges
 * of the primary key. Regular expressions are compiled once per select.
 */
#include "server/store_internal.h"
#include "server/matcher.h"
#include <assert.h>
#include <errno.h>
#include <string.h>

static bool series_matches(const struct series *s, const struct matcher_compiled *compiled, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *label = compiled[i].matcher->label, *value = "";

		if (!strcmp(label, "__name__"))
			value = s->name;
		else
			for (size_t k = 0; k < s->n_labels; k++)
				if (!strcmp(s->labels[k].name, label))
					value = s->labels[k].value;
		if (!matcher_matches(&compiled[i], value))
			return false;
	}
	return true;
}

/* 1, 0 or -errno. */
static int has_samples(struct store *s, const struct series *series, int64_t from_ms, int64_t to_ms,
		       struct error *ret_error)
{
	int rc;

	if (series->first_t_ms > to_ms)
		return 0;
	sqlite3_bind_int64(s->any, 1, series->id);
	sqlite3_bind_int64(s->any, 2, from_ms);
	sqlite3_bind_int64(s->any, 3, to_ms);
	rc = sqlite3_step(s->any);
	sqlite3_reset(s->any);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return store_fail(s, rc, ret_error, "cannot read");
	return rc == SQLITE_ROW;
}

int store_select(struct store *s, const struct matcher *matchers, size_t n_matchers, int64_t from_ms, int64_t to_ms,
		 mono_time deadline, int (*fn)(const struct store_series *series, void *userdata), void *userdata, struct error *ret_error)
{
	struct matcher_compiled *compiled;
	int r = matcher_compile(matchers, n_matchers, &compiled, ret_error);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < s->n_series; i++) {
		const struct series *series = s->series[i];

		if (mono_now().ns > deadline.ns) {
			r = error_set(ret_error, -ETIME, "it takes too long to look through %zu series", s->n_series);
			break;
		}
		if (!series_matches(series, compiled, n_matchers))
			continue;
		r = has_samples(s, series, from_ms, to_ms, ret_error);
		if (r == 1)
			r = fn(&(struct store_series){.id = (uint64_t)series->id,
						      .name = series->name,
						      .type = series->type,
						      .labels = series->labels,
						      .n_labels = series->n_labels},
			       userdata);
	}
	matcher_compiled_free(compiled, n_matchers);
	return r;
}

static int read_row(struct store *s, struct hist *hist, struct store_point *ret_point)
{
	struct store_point point = { .t_ms = sqlite3_column_int64(s->read, 0) };

	switch (sqlite3_column_type(s->read, 1)) {
	case SQLITE_BLOB: {
		const void *data = sqlite3_column_blob(s->read, 1);

		if (hist_decode(data, (size_t)sqlite3_column_bytes(s->read, 1), hist) < 0)
			return -EBADMSG;
		point.hist = hist;
		break;
	}
	case SQLITE_NULL:
		memcpy(&point.value, &(uint64_t){ STORE_STALE_BITS }, sizeof(point.value));
		point.stale = true;
		break;
	case SQLITE_TEXT:
		point.value = __builtin_nan("");
		break;
	default:
		point.value = sqlite3_column_double(s->read, 1);
	}
	*ret_point = point;
	return 0;
}

int store_read(struct store *s, uint64_t series_id, int64_t from_ms, int64_t to_ms,
	       int (*fn)(const struct store_point *point, void *userdata), void *userdata, struct error *ret_error)
{
	struct store_point point;
	struct hist hist;
	int r = 0, rc;

	assert(!s->reading);
	s->reading = true;
	hist_init(&hist, HIST_SCHEMA, 0);
	sqlite3_bind_int64(s->read, 1, (int64_t)series_id);
	sqlite3_bind_int64(s->read, 2, from_ms);
	sqlite3_bind_int64(s->read, 3, to_ms);
	while (r == 0 && (rc = sqlite3_step(s->read)) == SQLITE_ROW) {
		r = read_row(s, &hist, &point);
		if (r < 0)
			error_set(ret_error, r,
				  "database %s is damaged (series %llu has a histogram that cannot be read)", s->path,
				  (unsigned long long)series_id);
		else
			r = fn(&point, userdata);
	}
	if (r == 0 && rc != SQLITE_DONE)
		r = store_fail(s, rc, ret_error, "cannot read");
	sqlite3_reset(s->read);
	hist_done(&hist);
	s->reading = false;
	return r;
}

int64_t store_newest_ms(struct store *s, const char *name)
{
	int64_t newest = INT64_MIN;

	for (size_t i = 0; i < s->n_series; i++) {
		if (strcmp(s->series[i]->name, name))
			continue;
		sqlite3_bind_int64(s->last_sample, 1, s->series[i]->id);
		if (sqlite3_step(s->last_sample) == SQLITE_ROW &&
		    sqlite3_column_type(s->last_sample, 0) != SQLITE_NULL &&
		    sqlite3_column_int64(s->last_sample, 0) > newest)
			newest = sqlite3_column_int64(s->last_sample, 0);
		sqlite3_reset(s->last_sample);
	}
	return newest;
}
