/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one target's scrapes leave in a real database: added and renamed labels,
 * stale markers for what vanishes, nothing of a rejected scrape, nothing twice.
 * The expositions go through the real parser.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/buffer.h"
#include "server/ingest.h"

struct fixture {
	char dir[64], path[96];
	struct store *store;
	struct ingest *ingest;
	struct buffer text; /* what the store holds, one line per sample */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error error = { "" };

	snprintf(f->dir, sizeof(f->dir), "/tmp/netsonde-ingest-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/test.db", f->dir);
	if (store_open(f->path, &f->store, &error) < 0)
		fail_msg("%s", error.text);
	assert_int_equal(ingest_new("host-a", "netsonde", &f->ingest), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ingest_free(f->ingest);
	store_close(f->store);
	buffer_done(&f->text);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

static void store_it(struct fixture *f)
{
	struct error error = { "" };

	assert_int_equal(store_begin(f->store, &error), 0);
	assert_int_equal(ingest_write(f->ingest, f->store, &error), 0);
	assert_int_equal(store_commit(f->store, &error), 0);
	ingest_clear(f->ingest);
}

static int parse(struct fixture *f, int64_t t_ms, const char *text)
{
	struct error error = { "" };

	ingest_begin(f->ingest, t_ms);
	return exposition_parse("text/plain; version=0.0.4", text, strlen(text), ingest_sample, f->ingest, &error);
}

static void scrape(struct fixture *f, int64_t t_ms, const char *text)
{
	assert_int_equal(parse(f, t_ms, text), 0);
	ingest_accept(f->ingest);
	store_it(f);
}

struct point { struct fixture *f; const struct store_series *series; };

static int on_point(const struct store_point *point, void *userdata)
{
	struct point *p = userdata;
	struct buffer *out = &p->f->text;

	buffer_puts(out, p->series->name);
	for (size_t i = 0; i < p->series->n_labels; i++)
		buffer_printf(out, " %s=%s", p->series->labels[i].name, p->series->labels[i].value);
	if (point->stale)
		buffer_printf(out, " @%lld stale\n", (long long)point->t_ms);
	else if (point->hist)
		buffer_printf(out, " @%lld hist %llu\n", (long long)point->t_ms,
			      (unsigned long long)point->hist->count);
	else
		buffer_printf(out, " @%lld %g\n", (long long)point->t_ms, point->value);
	return 0;
}

static int on_series(const struct store_series *series, void *userdata)
{
	struct fixture *f = userdata;
	struct point p = { f, series };

	return store_read(f->store, series->id, INT64_MIN, INT64_MAX, on_point, &p, NULL);
}

static int compare_line(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All samples of the series called `name`, sorted. */
static const char *stored(struct fixture *f, char *name)
{
	char label[] = "__name__";
	const struct matcher matcher = { label, MATCH_EQUAL, name };
	struct buffer sorted = BUFFER_INIT;
	char *lines[256], *save = NULL;
	size_t n = 0;

	buffer_clear(&f->text);
	buffer_puts(&f->text, "");
	assert_int_equal(store_select(f->store, &matcher, 1, INT64_MIN, INT64_MAX, STORE_NO_DEADLINE, on_series, f, NULL), 0);
	for (char *line = strtok_r(f->text.data, "\n", &save); line && n < 256; line = strtok_r(NULL, "\n", &save))
		lines[n++] = line;
	qsort(lines, n, sizeof(lines[0]), compare_line);
	for (size_t i = 0; i < n; i++)
		buffer_printf(&sorted, "%s\n", lines[i]);
	buffer_puts(&sorted, "");
	buffer_done(&f->text);
	f->text = sorted;
	return f->text.data;
}

static void assert_stored(struct fixture *f, const char *name, const char *expected)
{
	char copy[64];

	snprintf(copy, sizeof(copy), "%s", name);
	assert_string_equal(stored(f, copy), expected);
}

static void test_labels(void **state)
{
	scrape(*state, 1000,
	       "x{a=\"1\"} 1\n"
	       "x{instance=\"own\",job=\"j\"} 2\n"
	       "x{instance=\"own\",exported_instance=\"older\"} 3\n"
	       "x{zone=\"z\"} 4\n");
	assert_stored(*state, "x",
		      "x a=1 instance=host-a job=netsonde @1000 1\n"
		      "x exported_exported_instance=own exported_instance=older instance=host-a job=netsonde @1000 3\n"
		      "x exported_instance=own exported_job=j instance=host-a job=netsonde @1000 2\n"
		      "x instance=host-a job=netsonde zone=z @1000 4\n");
}

static void test_vanished_series_end(void **state)
{
	scrape(*state, 1000, "x{a=\"1\"} 1\nx{a=\"2\"} 2\n");
	scrape(*state, 2000, "x{a=\"2\"} 3\n");
	scrape(*state, 3000, "x{a=\"1\"} 9\nx{a=\"2\"} 4\n");
	assert_stored(*state, "x",
		      "x a=1 instance=host-a job=netsonde @1000 1\n"
		      "x a=1 instance=host-a job=netsonde @2000 stale\n"
		      "x a=1 instance=host-a job=netsonde @3000 9\n"
		      "x a=2 instance=host-a job=netsonde @1000 2\n"
		      "x a=2 instance=host-a job=netsonde @2000 3\n"
		      "x a=2 instance=host-a job=netsonde @3000 4\n");
}

static void test_rejected_scrape(void **state)
{
	struct fixture *f = *state;

	scrape(f, 1000, "x 1\ny 1\n");
	assert_int_equal(parse(f, 2000, "x 2\nnew 5\n<html> garbage\n"), -EBADMSG);
	ingest_reject(f->ingest);
	ingest_report(f->ingest, false, 0.25, 0);
	store_it(f);
	/* A second failure has nothing left to end. */
	ingest_begin(f->ingest, 3000);
	ingest_reject(f->ingest);
	assert_int_equal(ingest_pending(f->ingest), 0);
	scrape(f, 4000, "x 3\n");
	assert_stored(f, "x", "x instance=host-a job=netsonde @1000 1\nx instance=host-a job=netsonde @2000 stale\n"
			      "x instance=host-a job=netsonde @4000 3\n");
	assert_stored(f, "y", "y instance=host-a job=netsonde @1000 1\ny instance=host-a job=netsonde @2000 stale\n");
	assert_stored(f, "new", "");
	assert_stored(f, "up", "up instance=host-a job=netsonde @2000 0\n");
	assert_stored(f, "scrape_duration_seconds",
		      "scrape_duration_seconds instance=host-a job=netsonde @2000 0.25\n");
}

static void test_same_snapshot_is_kept(void **state)
{
	struct fixture *f = *state;

	scrape(f, 1000, "x 1\ny 1\n");
	ingest_begin(f->ingest, 2000);
	ingest_keep(f->ingest);
	ingest_report(f->ingest, true, 0.1, ingest_samples_scraped(f->ingest));
	store_it(f);
	scrape(f, 3000, "x 2\ny 1\n");
	assert_stored(f, "x", "x instance=host-a job=netsonde @1000 1\nx instance=host-a job=netsonde @3000 2\n");
	assert_stored(f, "scrape_samples_scraped", "scrape_samples_scraped instance=host-a job=netsonde @2000 2\n");
}

static void test_duplicates(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(parse(f, 1000, "x 1\nx 2\nup 7\nup{a=\"b\"} 8\n"), 0);
	ingest_accept(f->ingest);
	ingest_report(f->ingest, true, 0.1, ingest_samples_scraped(f->ingest));
	store_it(f);
	assert_int_equal(ingest_dropped(f->ingest)->duplicate, 2);
	assert_stored(f, "x", "x instance=host-a job=netsonde @1000 1\n");
	assert_stored(f, "up",
		      "up a=b instance=host-a job=netsonde @1000 8\nup instance=host-a job=netsonde @1000 1\n");
}

static void test_stop(void **state)
{
	struct fixture *f = *state;

	scrape(f, 1000, "x 1\n");
	ingest_begin(f->ingest, 2000);
	assert_int_equal(parse(f, 2000, "x 2\n"), 0);
	ingest_accept(f->ingest);
	ingest_report(f->ingest, true, 0.1, 1);
	store_it(f);
	ingest_stop(f->ingest, 3000);
	store_it(f);
	assert_stored(f, "x", "x instance=host-a job=netsonde @1000 1\nx instance=host-a job=netsonde @2000 2\n"
			      "x instance=host-a job=netsonde @3000 stale\n");
	assert_stored(f, "up",
		      "up instance=host-a job=netsonde @2000 1\nup instance=host-a job=netsonde @3000 stale\n");
}

static void test_histogram_becomes_float_and_ends(void **state)
{
	struct fixture *f = *state;
	struct hist h;
	struct exposition_sample sample = { .name = "h", .family = "h", .type = METRIC_HISTOGRAM, .hist = &h };

	hist_init(&h, HIST_SCHEMA, 0);
	assert_int_equal(hist_observe(&h, 0.5), 0);
	ingest_begin(f->ingest, 1000);
	assert_int_equal(ingest_sample(&sample, f->ingest), 0);
	/* The value waits as a copy. */
	assert_int_equal(hist_observe(&h, 0.5), 0);
	ingest_accept(f->ingest);
	store_it(f);
	ingest_begin(f->ingest, 2000);
	assert_int_equal(ingest_sample(&sample, f->ingest), 0);
	ingest_accept(f->ingest);
	store_it(f);
	ingest_begin(f->ingest, 3000);
	ingest_accept(f->ingest);
	store_it(f);
	assert_stored(f, "h",
		      "h instance=host-a job=netsonde @1000 hist 1\nh instance=host-a job=netsonde @2000 hist 2\n"
		      "h instance=host-a job=netsonde @3000 stale\n");
	hist_done(&h);
}

static void test_limit(void **state)
{
	struct fixture *f = *state;
	struct buffer text = BUFFER_INIT;

	for (int i = 0; i <= INGEST_SAMPLES_MAX; i++)
		buffer_printf(&text, "x{i=\"%d\"} 1\n", i);
	assert_int_equal(parse(f, 1000, text.data), -E2BIG);
	ingest_reject(f->ingest);
	assert_int_equal(ingest_pending(f->ingest), 0);
	buffer_done(&text);
}

static size_t n_series(struct fixture *f)
{
	struct store_stats stats;

	store_stats(f->store, &stats);
	return stats.series;
}

static void scrape_new(struct fixture *f, int64_t t_ms, int from, int n)
{
	struct buffer text = BUFFER_INIT;

	for (int i = from; i < from + n; i++)
		buffer_printf(&text, "x{i=\"%d\"} 1\n", i);
	scrape(f, t_ms, text.data);
	buffer_done(&text);
}

/* A new target may be large; after that its names may not change all the time. What is known goes on. */
static void test_new_series_limit(void **state)
{
	struct fixture *f = *state;
	const struct ingest_dropped *dropped = ingest_dropped(f->ingest);
	const int first = INGEST_SAMPLES_MAX - INGEST_NEW_SERIES_MAX / 2, more = INGEST_NEW_SERIES_MAX + 1000;

	scrape_new(f, 1000, 0, first);
	assert_int_equal(n_series(f), first);
	assert_int_equal(dropped->new_series, 0);
	scrape_new(f, 2000, first - 1, more);
	assert_int_equal(n_series(f), first + INGEST_NEW_SERIES_MAX);
	assert_int_equal(dropped->new_series, 999);
	/* Those that were left out come in with the next, and the rest of the names with it. */
	scrape_new(f, 3000, first - 1, more);
	assert_int_equal(n_series(f), first - 1 + more);
	assert_int_equal(dropped->new_series, 999);
	/* Known to the store is known, also after a failure that ended every series here. */
	ingest_begin(f->ingest, 4000);
	ingest_reject(f->ingest);
	store_it(f);
	scrape_new(f, 5000, 0, 20000);
	assert_int_equal(dropped->new_series, 999);
	scrape_new(f, 6000, 0, 20000);
	assert_int_equal(n_series(f), first - 1 + more);
}

static void test_long_texts(void **state)
{
	struct fixture *f = *state;
	struct buffer text = BUFFER_INIT;

	for (int extra = 0; extra < 2; extra++) {
		buffer_puts(&text, "x{a=\"");
		for (int i = 0; i < INGEST_TEXT_MAX + extra; i++)
			buffer_putc(&text, 'y');
		buffer_puts(&text, "\"} 1\n");
	}
	buffer_puts(&text, "z 1\n");
	scrape(f, 1000, text.data);
	assert_int_equal(ingest_dropped(f->ingest)->long_text, 1);
	assert_int_equal(n_series(f), 2);
	assert_stored(f, "z", "z instance=host-a job=netsonde @1000 1\n");
	buffer_done(&text);
}

/* Few bytes on the wire can be a window of many buckets. */
static void test_histogram_memory(void **state)
{
	struct fixture *f = *state;
	struct hist h;
	char value[16];
	struct label label = { "i", value };
	struct exposition_sample sample = { .name = "h", .family = "h", .type = METRIC_HISTOGRAM, .hist = &h,
					    .labels = &label, .n_labels = 1 };
	size_t n = 0;
	int r;

	hist_init(&h, HIST_SCHEMA_MAX, 0);
	assert_int_equal(hist_add_bucket(&h, 0, 1), 0);
	assert_int_equal(hist_add_bucket(&h, HIST_WINDOW_MAX - 1, 1), 0);
	for (int64_t t = 1000; t <= 2000; t += 1000) {
		ingest_begin(f->ingest, t);
		for (r = 0, n = 0; r == 0; n++) {
			snprintf(value, sizeof(value), "%zu", n);
			r = ingest_sample(&sample, f->ingest);
		}
		assert_int_equal(r, -EFBIG);
		assert_in_range(n * HIST_WINDOW_MAX * 8, INGEST_HIST_BYTES / 2, INGEST_HIST_BYTES + 2 * HIST_WINDOW_MAX * 8);
		ingest_reject(f->ingest);
		assert_int_equal(ingest_pending(f->ingest), 0);
		store_it(f);
	}
	hist_done(&h);
}

static void test_stale_marker_is_prometheus(void **state)
{
	const double v = ingest_stale_marker();
	uint64_t bits;

	memcpy(&bits, &v, sizeof(bits));
	assert_true(bits == 0x7ff0000000000002ull);
	assert_true(isnan(v));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_labels),
	    TEST(test_vanished_series_end),
	    TEST(test_rejected_scrape),
	    TEST(test_same_snapshot_is_kept),
	    TEST(test_duplicates),
	    TEST(test_stop),
	    TEST(test_histogram_becomes_float_and_ends),
	    TEST(test_limit),
	    TEST(test_new_series_limit),
	    TEST(test_long_texts),
	    TEST(test_histogram_memory),
	    TEST(test_stale_marker_is_prometheus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
