/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything is read when it is asked for, from the counters that the other
 * modules keep anyway. Every loss the server can have has a line here: scrapes
 * that failed, came late or were skipped, samples dropped, ticks lost, frames
 * that a browser was too slow for, requests refused.
 */
#include "server/selfmetrics.h"
#include <math.h>
#include "lib/exposition.h"
#include "lib/process.h"
#include "server/live.h"
#include "server/scrape.h"
#include "server/server.h"
#include "server/store.h"

enum family {
	BUILD_INFO, SCRAPES, SCRAPES_SKIPPED, SCRAPES_LATE, TARGET_UP, PHASE_LOCKED, SAMPLES_STORED, SAMPLES_DROPPED,
	TICKS, TICKS_FAILED, COMMIT_DURATION, STORE_BYTES, STORE_SERIES, STORE_EXPIRED, CHECKPOINTS_FAILED,
	HTTP_REQUESTS, HTTP_ERRORS, HTTP_REFUSED, HTTP_ANSWERS_DROPPED, HTTP_UNSENT, HTTP_CONNECTIONS, LIVE_STREAMS,
	LIVE_QUERIES, LIVE_FRAMES, LIVE_FRAMES_DROPPED, LIVE_RESULTS_DROPPED, LIVE_DURATION, RELOADS, RELOADS_FAILED, RELOAD_OK,
	N_FAMILIES,
};

#define COUNTER(n, u, h) { .name = (n), .unit = (u), .help = (h), .type = METRIC_COUNTER }
#define GAUGE(n, u, h) { .name = (n), .unit = (u), .help = (h), .type = METRIC_GAUGE }
/* 61 us to 2 s: from a commit of few series to a disk that stalls. */
#define DURATION(n, h) { .name = (n), .unit = "seconds", .help = (h), .type = METRIC_HISTOGRAM, \
			 .classic_first_exp = -14, .classic_last_exp = 1 }

static const struct metric_family families[N_FAMILIES] = {
	[BUILD_INFO] = GAUGE("netsonde_build_info", NULL, "Version of the program; the value is 1."),
	[SCRAPES] = COUNTER("netsonde_server_scrapes_total", NULL, "Scrapes by target and outcome."),
	[SCRAPES_SKIPPED] = COUNTER("netsonde_server_scrapes_skipped_total", NULL,
				    "Scrapes left out because the one before was still under way."),
	[SCRAPES_LATE] = COUNTER("netsonde_server_scrapes_late_total", NULL,
				 "Scrapes begun later than planned by more than 20 ms and a tenth of the interval."),
	[TARGET_UP] = GAUGE("netsonde_server_target_up", NULL, "1 when the last scrape of the target succeeded."),
	[PHASE_LOCKED] = GAUGE("netsonde_server_target_phase_locked", NULL, "1 when scrapes follow the commits of the agent."),
	[SAMPLES_STORED] = COUNTER("netsonde_server_samples_stored_total", NULL, "Samples committed to the database."),
	[SAMPLES_DROPPED] = COUNTER("netsonde_server_samples_dropped_total", NULL,
				    "Samples not stored, by reason: duplicate (twice in one exposition), long_text (a name or "
				    "label beyond the limit), new_series (a target adds series too fast), series_limit (the "
				    "database has as many series as it can), tick_failed (could not be committed)."),
	[TICKS] = COUNTER("netsonde_server_ticks_total", NULL, "Transactions committed to the database."),
	[TICKS_FAILED] = COUNTER("netsonde_server_ticks_failed_total", NULL, "Transactions that failed; their samples are lost."),
	[COMMIT_DURATION] = DURATION("netsonde_server_commit_duration_seconds", "Time to store one tick."),
	[STORE_BYTES] = GAUGE("netsonde_server_store_bytes", "bytes", "Size of the database with its log."),
	[STORE_SERIES] = GAUGE("netsonde_server_store_series", NULL, "Series in the database."),
	[STORE_EXPIRED] = COUNTER("netsonde_server_samples_expired_total", NULL, "Samples deleted because of their age."),
	[CHECKPOINTS_FAILED] = COUNTER("netsonde_server_checkpoints_failed_total", NULL,
				       "Checkpoints that failed; nothing is lost, the log grows until one succeeds."),
	[HTTP_REQUESTS] = COUNTER("netsonde_server_http_requests_total", NULL, "HTTP requests received."),
	[HTTP_ERRORS] = COUNTER("netsonde_server_http_errors_total", NULL, "HTTP requests answered with 5xx."),
	[HTTP_REFUSED] = COUNTER("netsonde_server_http_refused_total", NULL, "HTTP connections and requests refused by a limit."),
	[HTTP_ANSWERS_DROPPED] = COUNTER("netsonde_server_http_answers_dropped_total", NULL,
					 "Answers not or not wholly sent, by reason: memory (too much waits for slow clients), "
					 "slow (the client did not fetch it in time)."),
	[HTTP_UNSENT] = GAUGE("netsonde_server_http_unsent_bytes", "bytes", "Bytes that clients have not fetched yet."),
	[HTTP_CONNECTIONS] = GAUGE("netsonde_server_http_connections", NULL, "Open HTTP connections."),
	[LIVE_STREAMS] = GAUGE("netsonde_server_live_streams", NULL, "Browsers on the live stream."),
	[LIVE_QUERIES] = GAUGE("netsonde_server_live_queries", NULL, "Different queries evaluated for the live stream."),
	[LIVE_FRAMES] = COUNTER("netsonde_server_live_frames_total", NULL, "Frames given to live streams."),
	[LIVE_FRAMES_DROPPED] = COUNTER("netsonde_server_live_frames_dropped_total", NULL,
					"Frames a browser was too slow for; the oldest go first."),
	[LIVE_RESULTS_DROPPED] = COUNTER("netsonde_server_live_results_dropped_total", NULL,
					 "Query results that a frame has an error for because its time was over."),
	[LIVE_DURATION] = DURATION("netsonde_server_live_duration_seconds", "Time to evaluate and write all frames of one commit."),
	[RELOADS] = COUNTER("netsonde_server_reloads_total", NULL, "Reloads of the configuration asked for."),
	[RELOADS_FAILED] = COUNTER("netsonde_server_reloads_failed_total", NULL, "Reloads refused because of an error."),
	[RELOAD_OK] = GAUGE("netsonde_server_reload_successful", NULL, "1 when the last reload, or the start, took the configuration."),
};

static void plain(struct exposition *e, enum family family, double value)
{
	exposition_family(e, &families[family]);
	exposition_value(e, NULL, 0, value);
}

static void by_reason(struct exposition *e, const char *reason, uint64_t value)
{
	exposition_value(e, &(struct label){ "reason", reason }, 1, (double)value);
}

static void duration(struct exposition *e, enum family family, const struct hist *hist)
{
	exposition_family(e, &families[family]);
	exposition_histogram(e, NULL, 0, hist);
}

static double skipped(const struct target_info *info) { return (double)info->skipped; }
static double late(const struct target_info *info) { return (double)info->late; }
static double up(const struct target_info *info) { return info->up; }
static double locked(const struct target_info *info) { return info->locked; }

static void per_target(struct exposition *e, const struct scrape *scrape, enum family family,
		       double (*value)(const struct target_info *info))
{
	exposition_family(e, &families[family]);
	for (size_t i = 0; i < scrape_count(scrape); i++) {
		struct target_info info;

		scrape_info(scrape, i, &info);
		exposition_value(e, &(struct label){ "target", info.name }, 1, value(&info));
	}
}

static void write_scrapes(struct exposition *e, const struct scrape *scrape)
{
	exposition_family(e, &families[SCRAPES]);
	for (size_t i = 0; i < scrape_count(scrape); i++) {
		struct target_info info;

		scrape_info(scrape, i, &info);
		for (int o = 0; o < TARGET_N_OUTCOMES; o++) {
			const struct label labels[] = { { "outcome", target_outcome_name((enum target_outcome)o) },
							{ "target", info.name } };

			exposition_value(e, labels, 2, (double)info.outcomes[o]);
		}
	}
	per_target(e, scrape, SCRAPES_SKIPPED, skipped);
	per_target(e, scrape, SCRAPES_LATE, late);
	per_target(e, scrape, TARGET_UP, up);
	per_target(e, scrape, PHASE_LOCKED, locked);
}

static void write_store(struct exposition *e, struct server *server)
{
	struct scrape_stats stats;
	struct store_stats store;

	scrape_stats(server->scrape, &stats);
	store_stats(server->store, &store);
	plain(e, SAMPLES_STORED, (double)store.samples_appended);
	exposition_family(e, &families[SAMPLES_DROPPED]);
	by_reason(e, "duplicate", stats.dropped.duplicate + store.samples_duplicate);
	by_reason(e, "long_text", stats.dropped.long_text);
	by_reason(e, "new_series", stats.dropped.new_series);
	by_reason(e, "series_limit", store.samples_over_limit);
	by_reason(e, "tick_failed", stats.samples_lost);
	plain(e, TICKS, (double)stats.commits);
	plain(e, TICKS_FAILED, (double)stats.commits_failed);
	duration(e, COMMIT_DURATION, stats.commit_duration);
	plain(e, STORE_BYTES, (double)store.file_bytes);
	plain(e, STORE_SERIES, (double)store.series);
	plain(e, STORE_EXPIRED, (double)store.samples_expired);
	plain(e, CHECKPOINTS_FAILED, (double)store.checkpoints_failed);
}

static void write_http(struct exposition *e, const struct server *server)
{
	struct http_stats http;
	struct live_stats live;

	http_stats(server->http, &http);
	live_stats(server->live, &live);
	plain(e, HTTP_REQUESTS, (double)http.requests);
	plain(e, HTTP_ERRORS, (double)http.errors);
	plain(e, HTTP_REFUSED, (double)http.refused);
	exposition_family(e, &families[HTTP_ANSWERS_DROPPED]);
	by_reason(e, "memory", http.answers_refused);
	by_reason(e, "slow", http.answers_cut);
	plain(e, HTTP_UNSENT, (double)(http.unsent_answers + http.unsent_streams));
	plain(e, HTTP_CONNECTIONS, http.connections);
	plain(e, LIVE_STREAMS, live.clients);
	plain(e, LIVE_QUERIES, live.queries);
	plain(e, LIVE_FRAMES, (double)live.frames);
	plain(e, LIVE_FRAMES_DROPPED, (double)http.stream_frames_dropped);
	plain(e, LIVE_RESULTS_DROPPED, (double)live.results_dropped);
	duration(e, LIVE_DURATION, live.frame_duration);
	plain(e, RELOADS, (double)server->reloads);
	plain(e, RELOADS_FAILED, (double)server->reloads_failed);
	plain(e, RELOAD_OK, server->reload_ok);
}

static void write_process(struct exposition *e, struct process_reader *reader)
{
	double values[PROCESS_METRICS];

	process_read(reader, values);
	for (int i = 0; i < PROCESS_METRICS; i++) {
		if (isnan(values[i]))
			continue;
		exposition_family(e, &process_families[i]);
		exposition_value(e, NULL, 0, values[i]);
	}
}

void selfmetrics_handle(struct http_request *request, void *userdata)
{
	struct server *server = userdata;
	const enum exposition_format format = exposition_negotiate(http_request_header(request, "Accept"));
	struct http_response response = { .status = 200, .content_type = exposition_content_type(format), .owned = true };
	struct buffer out = BUFFER_INIT;
	struct exposition e;

	exposition_begin(&e, &out, format);
	exposition_family(&e, &families[BUILD_INFO]);
	exposition_value(&e, &(struct label){ "version", NETSONDE_VERSION }, 1, 1);
	write_scrapes(&e, server->scrape);
	write_store(&e, server);
	write_http(&e, server);
	write_process(&e, server->process);
	if (exposition_end(&e) < 0 || !(response.data = buffer_steal(&out, &response.len)))
		http_respond_text(request, 503, "out of memory");
	else
		http_respond(request, &response);
	buffer_done(&out);
}
