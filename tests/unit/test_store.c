/* SPDX-License-Identifier: Apache-2.0 */
/* The store as long as nothing goes wrong: what is written comes back. Files that are not in order: test_store_file.c. */
#include "store_fixture.h"
#include <sys/stat.h>
#include "server/matcher.h"

static void check_round_trip(struct store *s)
{
	static const double values[] = { 0.0, -0.0, 1.5, 9007199254740993.0, 1e308, 5e-324, INFINITY, -INFINITY };
	struct selected series = select_name(s, "floats");
	struct points p = read_all(s, series.id);

	assert_int_equal(series.n, 1);
	assert_string_equal(series.text, "floats job=netsonde peer=a\"\\\xc3\xa9\n");
	assert_int_equal(p.n, 10);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(p.at[i].t_ms, T0 + (int64_t)i);
		assert_memory_equal(&p.at[i].value, &values[i], sizeof(double));
		assert_false(p.at[i].stale);
	}
	assert_true(isnan(p.at[8].value) && !p.at[8].stale);
	assert_true(isnan(p.at[9].value) && p.at[9].stale);
	series = select_name(s, "hists");
	assert_int_equal(series.type, METRIC_HISTOGRAM);
	p = read_all(s, series.id);
	assert_int_equal(p.n, 3);
	assert_int_equal(p.hist_count[0], 0);
	assert_non_null(p.at[0].hist);
	assert_int_equal(p.hist_count[1], 100);
	assert_null(p.at[2].hist);
	assert_true(p.at[2].stale);
}

static void test_round_trip(void **state)
{
	static const double values[] = { 0.0, -0.0, 1.5, 9007199254740993.0, 1e308, 5e-324, INFINITY, -INFINITY, NAN };
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct store_stats stats;
	struct hist h;

	hist_init(&h, HIST_SCHEMA, 1e-9);
	assert_int_equal(store_begin(s, NULL), 0);
	for (size_t i = 0; i < 9; i++)
		assert_int_equal(append(s, "floats", "a\"\\\xc3\xa9\n", T0 + (int64_t)i, values[i], NULL), 0);
	assert_int_equal(append(s, "floats", "a\"\\\xc3\xa9\n", T0 + 9, stale(), NULL), 0);
	assert_int_equal(append(s, "hists", "a", T0, 0, &h), 0);
	for (int i = 1; i <= 100; i++)
		assert_int_equal(hist_observe(&h, i * 1e-4), 0);
	assert_int_equal(append(s, "hists", "a", T0 + 1000, 0, &h), 0);
	assert_int_equal(append(s, "hists", "a", T0 + 2000, stale(), NULL), 0);
	hist_done(&h);
	assert_int_equal(store_commit(s, NULL), 0);
	check_round_trip(s);
	store_stats(s, &stats);
	assert_int_equal(stats.samples_appended, 13);
	assert_int_equal(stats.series, 2);
	assert_int_equal(stats.ticks_committed, 1);
	assert_true(stats.file_bytes > 4096);
	store_close(s);
	s = open_ok(f);
	check_round_trip(s);
	assert_int_equal(select_name(s, "nothing").n, 0);
	store_close(s);
	store_close(NULL);
}

/* The first stays, also when the second comes in another tick or after a restart. */
static void test_duplicates(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct store_stats stats;
	struct points p;

	put(s, "m", "a", T0, 1);
	put(s, "m", "a", T0, 2);
	assert_int_equal(store_begin(s, NULL), 0);
	assert_int_equal(append(s, "m", "a", T0 + 1, 3, NULL), 0);
	assert_int_equal(append(s, "m", "a", T0 + 1, 4, NULL), 0);
	assert_int_equal(store_commit(s, NULL), 0);
	store_stats(s, &stats);
	assert_int_equal(stats.samples_appended, 2);
	assert_int_equal(stats.samples_duplicate, 2);
	store_close(s);
	s = open_ok(f);
	put(s, "m", "a", T0, 5);
	p = read_all(s, select_name(s, "m").id);
	assert_int_equal(p.n, 2);
	assert_true(p.at[0].value == 1 && p.at[1].value == 3);
	store_close(s);
}

static void test_rollback(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct label label = { "peer", "\xff\xfe" };
	struct store_sample counter = { .name = "m", .type = METRIC_COUNTER, .t_ms = T0 + 5, .value = 1 };
	struct store_sample bad = { .name = "bad", .labels = &label, .n_labels = 1, .t_ms = T0 };
	struct error error = { "" };

	assert_int_equal(store_begin(s, NULL), 0);
	counter.t_ms = T0, counter.type = METRIC_GAUGE;
	assert_int_equal(store_append(s, &counter, NULL), 0);
	assert_int_equal(store_commit(s, NULL), 0);
	counter.t_ms = T0 + 5, counter.type = METRIC_COUNTER;
	assert_int_equal(store_begin(s, NULL), 0);
	assert_int_equal(store_append(s, &counter, NULL), 0);
	assert_int_equal(append(s, "new", "a", T0, 1, NULL), 0);
	assert_int_equal(store_append(s, &bad, &error), -EINVAL);
	assert_non_null(strstr(error.text, "bad has a label that is not UTF-8"));
	assert_int_equal(select_name(s, "new").n, 0);
	assert_int_equal(select_name(s, "m").type, METRIC_GAUGE);
	assert_int_equal(read_all(s, select_name(s, "m").id).n, 1);
	assert_int_equal(store_begin(s, NULL), 0);
	assert_int_equal(store_append(s, &counter, NULL), 0);
	assert_int_equal(store_commit(s, NULL), 0);
	store_close(s);
	s = open_ok(f);
	assert_int_equal(select_name(s, "m").type, METRIC_COUNTER);
	assert_int_equal(store_begin(s, NULL), 0);
	assert_int_equal(append(s, "new", "a", T0, 1, NULL), 0);
	store_close(s); /* in the middle of a tick */
	s = open_ok(f);
	assert_int_equal(select_name(s, "new").n, 0);
	store_close(s);
}

#define NODES_ALLOWED 900

static void test_select(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	static const struct { const char *label; enum match_op op; const char *value; size_t n;
	} rows[] = {
		{"peer", MATCH_EQUAL, "a", 1},    {"peer", MATCH_NOT_EQUAL, "a", 2}, {"peer", MATCH_REGEX, "a|b.*", 3},
		{"peer", MATCH_REGEX, "b", 1},    {"peer", MATCH_NOT_REGEX, "b", 2}, {"none", MATCH_EQUAL, "", 3},
		{"none", MATCH_NOT_EQUAL, "", 0}, {"none", MATCH_REGEX, "x?", 3},	 {"__name__", MATCH_REGEX, "m.", 3},
		{"peer", MATCH_REGEX, "", 0},
	};
	static const struct { const char *regex, *reason;
	} bad[] = {
		{"a)|(b", "nmatched"},
		{"a)|b", "nmatched"},
		{"('a{1,25})/1,25_5}){,2576}", "nmatched"},
		{"(a?){1000}b", "repeats too much"},
		{"(ab?){40}(cd?){40}", "repeats too much"},
		{"(", "nmatched"},
		{"[a", "nmatched"},
		{"*{1", ""},
		{"(a)\\1", "back references"},
		{"\\d+", "[0-9]"},
		{"(?i)a", "(?...)"},
		{"((a{1,255}){1,255}){1,255}", "repeats too much"},
		{"a{4000}b{200}", "repeats too much"},
		{"((((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+)+)+", "repeats too much"},
		{"((((((((((((((a*)*)*)*)*)*)*)*)*)*)*)*)*)*)*", "nested too deeply"},
		{"a***************", "nested too deeply"},
		{"((((((a*)*)*)*)*)*b)", "nested too deeply"},
	};
	char longest[MATCHER_REGEX_MAX + 2];
	struct matcher m = { 0 };
	struct error error;

	put(s, "m1", "a", T0, 1);
	put(s, "m1", "b", T0, 1);
	put(s, "m2", "bb", T0 + 1000, 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct selected out = { 0 };

		m = (struct matcher){ (char *)rows[i].label, rows[i].op, (char *)rows[i].value };
		assert_int_equal(store_select(s, &m, 1, INT64_MIN, INT64_MAX, STORE_NO_DEADLINE, on_series, &out, NULL), 0);
		if (out.n != rows[i].n)
			fail_msg("row %zu: %zu series", i, out.n);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		m = (struct matcher){ (char *)"peer", MATCH_REGEX, (char *)bad[i].regex };
		if (store_select(s, &m, 1, 0, 0, STORE_NO_DEADLINE, on_series, NULL, &error) != -EINVAL ||
		    !strstr(error.text, bad[i].reason))
			fail_msg("%s: %s", bad[i].regex, error.text);
	}
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	m.value = longest;
	assert_int_equal(matcher_check(&m, &error), -EINVAL);
	/* A list of many names is no danger; 20 optional letters are none either. */
	for (size_t i = 0; i < NODES_ALLOWED; i++)
		longest[i] = i % 10 == 9 ? '|' : 'a';
	longest[NODES_ALLOWED] = '\0';
	assert_int_equal(matcher_check(&m, &error), 0);
	m.value = (char *)"(a?b?){10}";
	assert_int_equal(matcher_check(&m, &error), 0);
	m.value = longest;
	memset(longest, '(', sizeof(longest) - 2);
	longest[sizeof(longest) - 2] = '\0';
	assert_int_equal(matcher_check(&m, &error), -EINVAL);
	/* Only series with a sample in the range. */
	assert_int_equal(select_range(s, "m2", T0, T0 + 999).n, 0);
	assert_int_equal(select_range(s, "m2", T0, T0 + 1000).n, 1);
	assert_int_equal(select_range(s, "m2", T0 + 1001, T0 + 9999).n, 0);
	store_close(s);
}

static void test_view(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	sqlite3 *db;
	sqlite3_stmt *st;
	struct hist h;

	put(s, "m", "a", 1700000000123, 2.5);
	put(s, "m", "a", 1700000001123, stale());
	put(s, "m", "a", 1700000002123, NAN);
	hist_init(&h, HIST_SCHEMA, 0);
	assert_int_equal(store_begin(s, NULL), 0);
	assert_int_equal(append(s, "m", "a", 1700000003123, 0, &h), 0);
	assert_int_equal(store_commit(s, NULL), 0);
	/* As the sqlite3 shell would, while the server has it open. */
	assert_int_equal(sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
	assert_int_equal(
	    sqlite3_prepare_v2(db,
			       "SELECT group_concat(metric || json_extract(labels, '$.peer') || time || value || t_ms)"
			       " FROM samples ORDER BY t_ms",
			       -1, &st, NULL),
	    SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	assert_string_equal(sqlite3_column_text(st, 0), "ma2023-11-14T22:13:20.123Z2.51700000000123,"
							"ma2023-11-14T22:13:21.123Zstale1700000001123,"
							"ma2023-11-14T22:13:22.123ZNaN1700000002123,"
							"ma2023-11-14T22:13:23.123Zhistogram1700000003123");
	sqlite3_finalize(st);
	sqlite3_close(db);
	put(s, "m", "a", 1700000004123, 1);
	store_close(s);
}

static void test_expire(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct store_stats stats;
	uint64_t id;
	int64_t n, total = 0;
	int steps = 0;
	bool more;

	for (int t = 0; t < 100; t++) {
		assert_int_equal(store_begin(s, NULL), 0);
		assert_int_equal(append(s, "m", "a", T0 + t, t, NULL), 0);
		assert_int_equal(append(s, "m", "b", T0 + t, t, NULL), 0);
		if (t < 50)
			assert_int_equal(append(s, "gone", "c", T0 + t, t, NULL), 0);
		assert_int_equal(store_commit(s, NULL), 0);
	}
	id = select_name(s, "gone").id;
	assert_int_equal(store_expire(s, T0, 1000, &more, NULL), 0);
	while ((n = store_expire(s, T0 + 60, 30, &more, NULL)) == 30) {
		total += n;
		steps++;
	}
	assert_int_equal(total + n, 60 + 60 + 50);
	assert_int_equal(steps, 170 / 30);
	assert_int_equal(store_expire(s, T0 + 60, 30, &more, NULL), 0);
	assert_int_equal(select_name(s, "gone").n, 0);
	assert_int_equal(select_name(s, "m").n, 2);
	assert_int_equal(read_all(s, select_name(s, "m").id).n, 40);
	store_stats(s, &stats);
	assert_int_equal(stats.series, 2);
	assert_int_equal(stats.samples_expired, 170);
	put(s, "gone", "c", T0 + 200, 1);
	assert_true(select_name(s, "gone").id != id); /* an old id never names a new series */
	store_close(s);
	s = open_ok(f);
	assert_int_equal(store_expire(s, T0 + 80, 1000, &more, NULL), 40);
	assert_int_equal(store_expire(s, INT64_MAX, 1000, &more, NULL), 41);
	store_stats(s, &stats);
	assert_int_equal(stats.series, 0);
	put(s, "m", "a", T0, 1); /* an empty index works on */
	assert_int_equal(select_name(s, "m").n, 1);
	store_close(s);
}

/* A look at a series costs a seek, so a step is bounded in series too: here no sample is old. */
static void test_expire_looks_at_few(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	const int n = 5 * STORE_EXPIRE_SERIES / 2;
	bool more = true;
	char peer[16];
	int steps = 0;

	assert_int_equal(store_newest_ms(s, "m"), INT64_MIN);
	assert_int_equal(store_begin(s, NULL), 0);
	for (int i = 0; i < n; i++) {
		snprintf(peer, sizeof(peer), "%d", i);
		assert_int_equal(append(s, "m", peer, T0 + i, i, NULL), 0);
	}
	assert_int_equal(store_commit(s, NULL), 0);
	assert_int_equal(store_newest_ms(s, "m"), T0 + n - 1);
	assert_int_equal(store_newest_ms(s, "none"), INT64_MIN);
	store_close(s);
	s = open_ok(f); /* now it does not know how old they are */
	for (; more; steps++)
		assert_int_equal(store_expire(s, T0, 1000, &more, NULL), 0);
	assert_in_range(steps, 3, 4);
	assert_int_equal(store_expire(s, T0, 1000, &more, NULL), 0);
	assert_false(more);
	for (steps = 0, more = true; more; steps++)
		assert_in_range(store_expire(s, INT64_MAX, 1000, &more, NULL), 1, STORE_EXPIRE_SERIES);
	assert_in_range(steps, 3, 4);
	assert_int_equal(s->n_series, 0);
	store_close(s);
}

/* New series beyond the limit are left out and counted; the known go on; room comes back. */
static void test_series_limit(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct store_stats stats;
	bool more;

	assert_int_equal(s->series_max, STORE_SERIES_MAX);
	s->series_max = 2;
	put(s, "m", "a", T0, 1);
	put(s, "m", "b", T0 + 10, 1);
	put(s, "m", "c", T0 + 10, 1);
	put(s, "m", "a", T0 + 10, 2);
	put(s, "m", "b", T0 + 20, 2);
	store_stats(s, &stats);
	assert_int_equal(stats.series, 2);
	assert_int_equal(stats.samples_over_limit, 1);
	assert_int_equal(stats.samples_appended, 4);
	assert_int_equal(stats.ticks_failed, 0);
	assert_int_equal(store_expire(s, T0 + 11, 1000, &more, NULL), 3);
	put(s, "m", "c", T0 + 30, 1);
	assert_int_equal(select_name(s, "m").n, 2);
	store_stats(s, &stats);
	assert_int_equal(stats.samples_over_limit, 1);
	store_close(s);
}

static void test_select_deadline(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct selected out = { 0 };
	struct error error = { "" };

	put(s, "m", "a", T0, 1);
	assert_int_equal(store_select(s, NULL, 0, 0, INT64_MAX, (mono_time){ 1 }, on_series, &out, &error), -ETIME);
	assert_string_equal(error.text, "it takes too long to look through 1 series");
	assert_int_equal(out.n, 0);
	store_close(s);
}

struct many { int64_t next; double add; bool broken; };

static int on_many(const struct store_point *point, void *userdata)
{
	struct many *m = userdata;

	if (point->t_ms != T0 + m->next * 1000 || point->value != (double)m->next + m->add)
		m->broken = true;
	m->next++;
	return 0;
}

static void test_many(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	char peer[16];

	for (int t = 0; t < 50; t++) {
		assert_int_equal(store_begin(s, NULL), 0);
		for (int i = 0; i < 2000; i++) {
			snprintf(peer, sizeof(peer), "p%d", i);
			assert_int_equal(append(s, "m", peer, T0 + t * 1000, t + i * 0.001, NULL), 0);
		}
		assert_int_equal(store_commit(s, NULL), 0);
	}
	store_close(s);
	s = open_ok(f);
	for (int i = 0; i < 2000; i += 13) {
		struct matcher m = { (char *)"peer", MATCH_EQUAL, peer };
		struct selected out = { 0 };
		struct many many = { .add = i * 0.001 };

		snprintf(peer, sizeof(peer), "p%d", i);
		assert_int_equal(store_select(s, &m, 1, T0, T0, STORE_NO_DEADLINE, on_series, &out, NULL), 0);
		assert_int_equal(out.n, 1);
		assert_int_equal(store_read(s, out.id, INT64_MIN, INT64_MAX, on_many, &many, NULL), 0);
		assert_int_equal(many.next, 50);
		assert_false(many.broken);
		many.next = 10;
		assert_int_equal(store_read(s, out.id, T0 + 10000, T0 + 19999, on_many, &many, NULL), 0);
		assert_int_equal(many.next, 20);
		assert_false(many.broken);
	}
	store_close(s);
}

/* Without the secret nobody can choose names that meet in one chain. */
static void test_hash_is_secret(void **state)
{
	struct fixture *f = *state;
	struct store *a = open_ok(f), *b;
	char other[320];

	snprintf(other, sizeof(other), "%s/u.db", f->directory);
	assert_int_equal(store_open(other, &b, &f->error), 0);
	put(a, "m", "a", T0, 1);
	put(b, "m", "a", T0, 1);
	assert_true(a->series[0]->hash != b->series[0]->hash);
	store_close(a);
	store_close(b);
}

/* Bytes of the database file itself, without its log. */
static int64_t file_size(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void check_checkpoints(struct store *s, uint64_t n, bool due)
{
	struct store_stats stats;

	store_stats(s, &stats);
	assert_int_equal(stats.checkpoints, n);
	assert_int_equal(stats.checkpoints_failed, 0);
	assert_int_equal(store_checkpoint_due(s), due);
}

/* A commit waits for no disk, however old or large the log is: the checkpoint is the caller's. */
static void test_checkpoint(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	const int64_t size = file_size(f->path);
	char peer[16];

	check_checkpoints(s, 0, false);
	s->checkpointed.ns -= STORE_CHECKPOINT_NS;
	assert_int_equal(store_begin(s, NULL), 0);
	for (int i = 0; i < 500; i++) {
		snprintf(peer, sizeof(peer), "p%d", i);
		assert_int_equal(append(s, "m", peer, T0, i, NULL), 0);
	}
	assert_int_equal(store_commit(s, NULL), 0);
	check_checkpoints(s, 0, true);
	assert_int_equal(file_size(f->path), size);
	assert_true(s->wal_pages > 10);
	store_checkpoint(s);
	check_checkpoints(s, 1, false);
	assert_true(file_size(f->path) > size);
	assert_int_equal(s->wal_pages, 1); /* the log has begun anew: the next tick needs not do it */
	/* Early when the log is large, but not twice in a second. */
	s->wal_pages = STORE_WAL_BYTES / STORE_PAGE_BYTES;
	check_checkpoints(s, 1, false);
	s->checkpointed.ns -= NS_PER_SEC;
	check_checkpoints(s, 1, true);
	store_checkpoint(s);
	s->checkpointed.ns -= NS_PER_SEC;
	check_checkpoints(s, 2, false);
	store_close(s);
	s = open_ok(f);
	assert_int_equal(select_name(s, "m").n, 500);
	store_close(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_duplicates),
		TEST(test_rollback),
		TEST(test_select),
		TEST(test_view),
		TEST(test_expire), TEST(test_expire_looks_at_few), TEST(test_series_limit), TEST(test_select_deadline),
		TEST(test_many),
		TEST(test_hash_is_secret),
		TEST(test_checkpoint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
