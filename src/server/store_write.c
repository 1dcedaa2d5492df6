/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing: one transaction per tick, and expiry in bounded steps.
 *
 * A tick is all or nothing: the index, the counters and the file change together
 * at commit, and a tick that fails leaves none of the three different. After a
 * commit the data is in the kernel's hands, so killing the process loses nothing.
 */
#include "server/store_internal.h"
#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int fail_tick(struct store *s, int rc, struct error *ret_error, const char *what)
{
	int r = store_fail(s, rc, ret_error, what);

	store_rollback(s);
	s->stats.ticks_failed++;
	return r;
}

int store_begin(struct store *s, struct error *ret_error)
{
	int rc;

	assert(!s->in_tick && !s->reading);
	rc = store_run(s, s->begin);
	if (rc != SQLITE_OK) {
		s->stats.ticks_failed++;
		return store_fail(s, rc, ret_error, "cannot write to");
	}
	s->in_tick = true;
	s->tick_n_series = s->n_series;
	s->tick_appended = s->tick_duplicate = s->tick_over_limit = 0;
	return 0;
}

void store_rollback(struct store *s)
{
	if (!s->in_tick)
		return;
	s->in_tick = false;
	if (!sqlite3_get_autocommit(s->db)) /* SQLite itself has rolled back when the disk is full */
		store_run(s, s->rollback);
	series_truncate(s, s->tick_n_series);
	for (size_t i = 0; s->types_changed && i < s->n_series; i++)
		s->series[i]->type = s->series[i]->committed_type;
	s->types_changed = false;
}

static int bind_text(sqlite3_stmt *st, int index, const char *text)
{
	return text ? sqlite3_bind_text(st, index, text, -1, SQLITE_STATIC) : sqlite3_bind_null(st, index);
}

/* An SQLite result, or -errno. */
static int add_series(struct store *s, const struct store_sample *sample, struct series **ret_series)
{
	char *json = series_labels_json(sample->labels, sample->n_labels);
	int rc;

	if (!json)
		return -EINVAL;
	rc = bind_text(s->add_series, 1, sample->name);
	if (rc == SQLITE_OK)
		rc = bind_text(s->add_series, 2, json);
	if (rc == SQLITE_OK)
		rc = bind_text(s->add_series, 3, series_type_text(sample->type));
	if (rc == SQLITE_OK)
		rc = bind_text(s->add_series, 4, sample->help_family);
	if (rc == SQLITE_OK)
		rc = store_run(s, s->add_series);
	sqlite3_clear_bindings(s->add_series);
	free(json);
	if (rc != SQLITE_OK)
		return rc;
	rc = series_insert(s, sqlite3_last_insert_rowid(s->db), sample->name, sample->type, sample->labels,
			   sample->n_labels, ret_series);
	if (rc == 0)
		(*ret_series)->first_t_ms = sample->t_ms;
	return rc;
}

static int set_type(struct store *s, const struct store_sample *sample, struct series *series)
{
	int rc = sqlite3_bind_int64(s->set_type, 1, series->id);

	if (rc == SQLITE_OK)
		rc = bind_text(s->set_type, 2, series_type_text(sample->type));
	if (rc == SQLITE_OK)
		rc = bind_text(s->set_type, 3, sample->help_family);
	if (rc == SQLITE_OK)
		rc = store_run(s, s->set_type);
	sqlite3_clear_bindings(s->set_type);
	if (rc == SQLITE_OK) {
		series->type = sample->type;
		s->types_changed = true;
	}
	return rc;
}

static bool is_stale(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits == STORE_STALE_BITS;
}

/* An SQLite result, or -errno. */
static int bind_value(struct store *s, const struct store_sample *sample)
{
	if (sample->hist) {
		int r;

		buffer_clear(&s->blob);
		r = hist_encode(sample->hist, &s->blob);
		if (r < 0)
			return r;
		return sqlite3_bind_blob64(s->add_sample, 3, s->blob.data, s->blob.len, SQLITE_STATIC);
	}
	if (!isnan(sample->value))
		return sqlite3_bind_double(s->add_sample, 3, sample->value);
	if (is_stale(sample->value))
		return sqlite3_bind_null(s->add_sample, 3);
	return sqlite3_bind_text(s->add_sample, 3, "NaN", 3, SQLITE_STATIC);
}

static int add_sample(struct store *s, const struct store_sample *sample, struct series *series)
{
	int rc = bind_value(s, sample);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(s->add_sample, 1, series->id);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(s->add_sample, 2, sample->t_ms);
	if (rc == SQLITE_OK)
		rc = store_run(s, s->add_sample);
	if (rc != SQLITE_OK)
		return rc;
	if (sqlite3_changes(s->db)) {
		s->tick_appended++;
		if (sample->t_ms < series->first_t_ms)
			series->first_t_ms = sample->t_ms; /* only ever too early, also when the tick is rolled back */
	} else {
		s->tick_duplicate++;
	}
	return SQLITE_OK;
}

bool store_has_series(struct store *s, const char *name, const struct label *labels, size_t n_labels)
{
	return series_find(s, name, labels, n_labels) != NULL;
}

int store_append(struct store *s, const struct store_sample *sample, struct error *ret_error)
{
	struct series *series;
	int rc = SQLITE_OK;

	assert(s->in_tick);
	series = series_find(s, sample->name, sample->labels, sample->n_labels);
	if (!series && s->n_series >= s->series_max) {
		s->tick_over_limit++;
		return 0;
	}
	if (!series)
		rc = add_series(s, sample, &series);
	else if (series->type != sample->type && sample->type != METRIC_UNKNOWN &&
		 (sample->hist || !is_stale(sample->value)))
		rc = set_type(s, sample, series);
	if (rc == SQLITE_OK)
		rc = add_sample(s, sample, series);
	if (rc == SQLITE_OK)
		return 0;
	if (rc > 0)
		return fail_tick(s, rc, ret_error, "cannot write to");
	store_rollback(s);
	s->stats.ticks_failed++;
	if (rc == -EINVAL)
		return error_set(
		    ret_error, rc,
			"cannot write to database %s: %s has a label that is not UTF-8, or an impossible histogram",
		    s->path, sample->name);
	return error_set_errno(ret_error, rc, "cannot write to database %s", s->path);
}

bool store_checkpoint_due(const struct store *s)
{
	uint64_t age = mono_since_ns(mono_now(), s->checkpointed);
	bool large = s->wal_pages >= STORE_WAL_BYTES / STORE_PAGE_BYTES && age >= NS_PER_SEC;

	return age >= STORE_CHECKPOINT_NS || large;
}

/* A failed checkpoint loses nothing: the log keeps growing and the next one tries again. */
void store_checkpoint(struct store *s)
{
	assert(!s->in_tick && !s->reading);
	s->checkpointed = mono_now();
	if (sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL) == SQLITE_OK)
		s->stats.checkpoints++;
	else
		s->stats.checkpoints_failed++;
	/* The first write after it begins the log anew and waits for the disk too. Let that not be the next tick. */
	sqlite3_exec(s->db, store_touch_sql, NULL, NULL, NULL);
}

int store_commit(struct store *s, struct error *ret_error)
{
	int rc;

	assert(s->in_tick);
	rc = store_run(s, s->commit);
	if (rc != SQLITE_OK)
		return fail_tick(s, rc, ret_error, "cannot write to");
	s->in_tick = false;
	for (size_t i = 0; s->types_changed && i < s->n_series; i++)
		s->series[i]->committed_type = s->series[i]->type;
	s->types_changed = false;
	s->stats.ticks_committed++;
	s->stats.samples_appended += s->tick_appended;
	s->stats.samples_duplicate += s->tick_duplicate;
	s->stats.samples_over_limit += s->tick_over_limit;
	return 0;
}

/* One series' share of an expiry step. Sets *ret_empty when no sample is left and the row of the series is gone. */
static int expire_one(struct store *s, struct series *series, int64_t before_ms, int64_t max_rows, int64_t *ret_rows,
		      bool *ret_empty)
{
	int rc = sqlite3_bind_int64(s->expire_samples, 1, series->id);

	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(s->expire_samples, 2, before_ms);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(s->expire_samples, 3, max_rows);
	if (rc == SQLITE_OK)
		rc = store_run(s, s->expire_samples);
	if (rc != SQLITE_OK)
		return rc;
	*ret_rows = sqlite3_changes(s->db);
	sqlite3_bind_int64(s->first_sample, 1, series->id);
	rc = sqlite3_step(s->first_sample);
	*ret_empty = rc == SQLITE_ROW && sqlite3_column_type(s->first_sample, 0) == SQLITE_NULL;
	if (rc == SQLITE_ROW && !*ret_empty)
		series->first_t_ms = sqlite3_column_int64(s->first_sample, 0);
	sqlite3_reset(s->first_sample);
	if (rc != SQLITE_ROW || !*ret_empty)
		return rc == SQLITE_ROW ? SQLITE_OK : rc;
	sqlite3_bind_int64(s->expire_series, 1, series->id);
	return store_run(s, s->expire_series);
}

/* Drops from the index what was marked gone (id 0). */
static void forget_gone(struct store *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_series; i++) {
		if (s->series[i]->id)
			s->series[kept++] = s->series[i];
		else
			series_remove(s, s->series[i]);
	}
	s->n_series = kept;
}

int64_t store_expire(struct store *s, int64_t before_ms, int64_t max_rows, bool *ret_more, struct error *ret_error)
{
	struct series *gone[STORE_EXPIRE_SERIES];
	size_t n_gone = 0, start = s->expire_next, passed, looked = 0;
	int64_t total = 0;
	int rc;

	assert(!s->in_tick && !s->reading);
	*ret_more = false;
	if (!s->n_series || max_rows <= 0)
		return 0;
	rc = store_run(s, s->begin);
	for (passed = 0; rc == SQLITE_OK && passed < s->n_series && total < max_rows && looked < STORE_EXPIRE_SERIES;
	     passed++) {
		struct series *series = s->series[(start + passed) % s->n_series];
		int64_t rows = 0;
		bool empty = false;

		if (series->first_t_ms >= before_ms)
			continue;
		looked++;
		rc = expire_one(s, series, before_ms, max_rows - total, &rows, &empty);
		total += rows;
		if (empty)
			gone[n_gone++] = series;
	}
	if (rc == SQLITE_OK)
		rc = store_run(s, s->commit);
	if (rc == SQLITE_OK) {
		*ret_more = total == max_rows || looked == STORE_EXPIRE_SERIES;
		/* A series that was cut short by max_rows is first in the next step. */
		s->expire_next = passed ? (start + passed - 1) % s->n_series : start;
		for (size_t i = 0; i < n_gone; i++)
			gone[i]->id = 0;
		if (n_gone)
			forget_gone(s);
		s->stats.samples_expired += (uint64_t)total;
	} else {
		total = store_fail(s, rc, ret_error, "cannot expire samples of");
		if (!sqlite3_get_autocommit(s->db))
			store_run(s, s->rollback);
		for (size_t i = 0; i < s->n_series; i++)
			s->series[i]->first_t_ms = INT64_MIN;
	}
	return total;
}
