/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrape: the set of targets, and the one transaction into which finished
 * scrapes are collected.
 *
 * Targets are spread over the interval. A commit comes at once when no request
 * is under way, else SCRAPE_FLUSH_NS after the first finished scrape; commits are
 * at least a tenth of the interval (at most 100 ms) apart, which bounds what many
 * unsynchronised targets cost the store and the live stream. A commit that fails
 * (disk full) loses that tick, is counted, and the next one is tried as usual.
 */
#pragma once
#include <stdint.h>
#include "lib/hist.h"
#include "lib/loop.h"
#include "server/store.h"
#include "server/target.h"

#define SCRAPE_FLUSH_NS (10 * NS_PER_MS)
#define SCRAPE_JOB "netsonde" /* value of the `job` label */
#define SCRAPE_TARGETS_MAX 2000 /* hundreds of hosts is what one server is for; more is a mistake in a file */

struct scrape;

struct scrape_target { const char *name, *url; };

struct scrape_config {
	const struct scrape_target *targets; /* names are unique */
	size_t n_targets;
	uint64_t interval_ns, timeout_ns;
};

/* After a successful commit; t_ms is its newest time. */
typedef void (*scrape_commit_fn)(int64_t t_ms, void *userdata);

int scrape_new(struct loop *loop, struct store *store, scrape_commit_fn fn, void *userdata, struct scrape **ret_scrape,
	       struct error *ret_error);
void scrape_free(struct scrape *scrape); /* commits what is waiting */
/* -EINVAL with a sentence for a set that scrape_configure would refuse. */
int scrape_check(const struct scrape_config *config, struct error *ret_error);
/* The whole set of targets, all or nothing. A target with the same name and url goes on undisturbed; one that is gone
 * ends with stale markers. -EINVAL for a bad set. */
int scrape_configure(struct scrape *scrape, const struct scrape_config *config, struct error *ret_error);

uint64_t scrape_interval_ns(const struct scrape *scrape);
/* How far instant queries look back: over a scrape that fails or comes late, and what 15 s bridge at short intervals. */
int64_t scrape_lookback_ms(const struct scrape *scrape);
uint64_t scrape_timeout_ns(const struct scrape *scrape); /* the effective one */
size_t scrape_count(const struct scrape *scrape);
void scrape_info(const struct scrape *scrape, size_t index, struct target_info *ret_info);

struct scrape_stats {
	uint64_t commits, commits_failed, samples_lost; /* lost: with a failed commit */
	struct ingest_dropped dropped;                  /* samples left out, of all targets ever */
	const struct hist *commit_duration; /* borrowed */
};
void scrape_stats(const struct scrape *scrape, struct scrape_stats *ret_stats);
