/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One target: its timer, the request under way, what came of the last one.
 *
 * At most one request is under way; a time that comes while it is, is skipped
 * and counted. A NetSonde agent is asked just after its commit (phase.h). When
 * it answers with the snapshot it gave before (same generation), the samples are
 * not stored again: with a later time they would be a flat piece in every
 * counter that the kernel never saw, and rate() over it would be too low. `up`
 * and its companions are stored, and no series ends.
 *
 * When our wall clock goes back by at most CLOCK_WAIT_MS, samples are left out until
 * it has passed the newest stored one. After a larger step they have the new time:
 * the live view goes on, the old samples of later times stay, and where both are at
 * one time the old one does.
 *
 * A request's time-out is min(timeout, max(interval, 1 s)): a target that hangs
 * is down within a second or an interval, not ten later, and a short interval
 * does not make a slow network look like a dead one.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/clock.h"
#include "lib/fetch.h"
#include "lib/loop.h"
#include "server/ingest.h"

#define CLOCK_WAIT_MS 5000

struct target;

enum target_outcome {
	TARGET_OK,
	TARGET_UNCHANGED,   /* answered, with the snapshot we have */
	TARGET_TIMEOUT,
	TARGET_CONNECTION,  /* refused, unreachable, broken off, a name that does not resolve */
	TARGET_STATUS,      /* an HTTP status other than 200 */
	TARGET_CONTENT,     /* not metrics */
	TARGET_TOO_LARGE,   /* bytes or samples */
	TARGET_CLOCK,       /* our wall clock went back a little: the samples would be older than the stored ones */
	TARGET_INTERNAL,
	TARGET_N_OUTCOMES,
};
const char *target_outcome_name(enum target_outcome outcome);

/* Called by a target; it stays valid during the call. */
struct target_events {
	void (*started)(void *userdata);
	void (*finished)(void *userdata);
	void (*commit)(void *userdata); /* samples still wait and the next scrape is in: must leave none waiting */
	void *userdata;
};

/* The first request goes out after first_ns. */
int target_new(struct loop *loop, struct fetch *fetch, const char *name, const char *url,
	       const struct target_events *events, uint64_t interval_ns, uint64_t timeout_ns, uint64_t first_ns,
	       struct target **ret_target);
void target_free(struct target *target); /* no event follows */
/* From the next request on, which comes within the new interval. */
void target_set_times(struct target *target, uint64_t interval_ns, uint64_t timeout_ns);
bool target_busy(const struct target *target);
/* No more requests; a stale marker for all that was stored waits for the next commit. */
void target_stop(struct target *target);
const char *target_name(const struct target *target);
const char *target_url(const struct target *target);
struct ingest *target_ingest(struct target *target);
int64_t target_time_ms(const struct target *target); /* of the samples that wait */
uint64_t target_timeout_ns(uint64_t interval_ns, uint64_t timeout_ns); /* the effective one */

struct target_info {
	const char *name, *url, *error;      /* borrowed; url without its password; error "" when there is none */
	bool scraped, up;                    /* scraped: an answer or a failure was seen */
	bool locked;                         /* phase lock */
	wall_time last_scrape;
	double last_duration_s;
	mono_time data;                      /* when the newest data was true; 0: none yet */
	uint64_t outcomes[TARGET_N_OUTCOMES], skipped, late;
};
void target_info(const struct target *target, struct target_info *ret_info);
