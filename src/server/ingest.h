/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ingest: the series of one target, and the samples of its last scrape that wait
 * for the next commit.
 *
 * Labels are built once per series, when it is first seen: `instance` and `job`
 * are added, a label of the same name in the exposition becomes exported_X (as
 * in Prometheus with honor_labels off). A series that was in the last good
 * scrape and is not in this one is ended by a stale marker; a bad scrape ends
 * them all. Times in the exposition are not used: a sample's time is the start
 * of its scrape, so that no target can write into the past or the future.
 *
 * One scrape is: begin, sample for each, then accept, reject or keep; report;
 * and after the commit, clear. Nothing of a rejected scrape is stored.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "lib/exposition_parse.h"
#include "server/store.h"

#define INGEST_SAMPLES_MAX 100000 /* of one scrape; a classic agent at its default series budget has 20,000 */
/* Series that the store does not know yet: as many as a whole scrape when a target is new, then this many per scrape, so
 * that names which change all the time (a label with a time in it) cannot fill the store in a minute. */
#define INGEST_NEW_SERIES_MAX 5000
#define INGEST_HIST_BYTES (64u << 20) /* buckets in memory of all native histograms of a target */
#define INGEST_TEXT_MAX 4096          /* bytes of a name or a label's value; regular expressions run over them */

/* The value that ends a series in the store: Prometheus' stale NaN, told from others by its payload. */
double ingest_stale_marker(void);

struct ingest;

int ingest_new(const char *instance, const char *job, struct ingest **ret_ingest);
void ingest_free(struct ingest *ingest);

void ingest_begin(struct ingest *ingest, int64_t t_ms);
/* An exposition_sample_fn. -E2BIG beyond INGEST_SAMPLES_MAX, -EFBIG beyond INGEST_HIST_BYTES, -ENOMEM. */
int ingest_sample(const struct exposition_sample *sample, void *ingest);
void ingest_accept(struct ingest *ingest); /* the scrape is good */
void ingest_reject(struct ingest *ingest); /* it is not: end every series */
void ingest_keep(struct ingest *ingest);   /* there is nothing new: no samples, and nothing ends */
/* up, scrape_duration_seconds and scrape_samples_scraped. */
void ingest_report(struct ingest *ingest, bool up, double duration_s, size_t samples_scraped);
/* The target goes: end every series, the reports too. */
void ingest_stop(struct ingest *ingest, int64_t t_ms);

size_t ingest_samples_scraped(const struct ingest *ingest); /* since ingest_begin */
size_t ingest_pending(const struct ingest *ingest);
/* Samples left out, ever: twice in one scrape; of a series beyond INGEST_NEW_SERIES_MAX; with a text beyond INGEST_TEXT_MAX. */
struct ingest_dropped { uint64_t duplicate, new_series, long_text; };
const struct ingest_dropped *ingest_dropped(const struct ingest *ingest);
int ingest_write(struct ingest *ingest, struct store *store, struct error *ret_error); /* inside a transaction */
void ingest_clear(struct ingest *ingest); /* what waited is stored, or lost with its tick */
