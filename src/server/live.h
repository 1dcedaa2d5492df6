/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The live stream: GET /api/v1/live?query=Q1&query=Q2... as server-sent events.
 *
 *   event: hello   {"version":"0.1.0","interval_ms":1000,"now":1700000000.000}   once, first
 *   event: frame   {"t":1700000000.123,
 *                   "results":[{"query":0,"result":[{"metric":{...},"value":"1.5"}]}, {"query":1,"error":"..."}],
 *                   "targets":[{"name":"local","up":true,"age_s":0.021}]}         after each commit
 *
 * t is the newest time of the commit, and the time at which the queries are
 * evaluated; age_s is how old the newest data of a target is when the frame is
 * made. Whatever the number of browsers, a query text is parsed once and evaluated
 * once per commit, and the frame of one list of queries is written once. A slow
 * browser loses old frames (lib/http.h); it cannot slow a commit. Queries for which
 * there is no time in a frame have an error in it; the cheap ones come first.
 */
#pragma once
#include <stdint.h>
#include "lib/clock.h"
#include "lib/hist.h"
#include "lib/http.h"
#include "server/store.h"

#define LIVE_QUERIES_MAX 64         /* of one browser */
#define LIVE_DISTINCT_MAX 1024      /* query texts of all browsers: each costs one evaluation per commit */
#define LIVE_QUEUE_FRAMES 8         /* per browser; older ones are of no use to a live view */
#define LIVE_TIME_MAX_NS (200 * NS_PER_MS) /* for all queries of one commit; scrapes wait meanwhile */

struct live;
struct scrape;

int live_new(struct store *store, struct live **ret_live);
void live_set_scrape(struct live *live, struct scrape *scrape); /* borrowed; NULL before it is freed */
void live_free(struct live *live);                              /* after http_close: no browser is left */
void live_handle(struct http_request *request, struct live *live);
void live_commit(int64_t t_ms, void *live); /* a scrape_commit_fn */

struct live_stats { unsigned clients, queries; uint64_t frames, results_dropped; const struct hist *frame_duration; };
void live_stats(const struct live *live, struct live_stats *ret_stats);
