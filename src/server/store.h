/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Database: series with labels and their samples, in one SQLite file
 * (<sqlite3.h> is included by store*.c only). WAL mode; each tick is one
 * transaction, so the file always holds whole ticks.
 *
 * What survives: a committed tick survives the end of the process, however it
 * ends (kill -9 too), because commit hands it to the kernel. It is forced to the
 * disk (synchronous=NORMAL) by the next checkpoint, which is due STORE_CHECKPOINT_NS
 * after the last one: a power cut or a kernel crash can lose the ticks since
 * then, never part of a tick and never the file. Somebody who keeps a read
 * transaction open in the sqlite3 shell delays checkpoints for as long.
 *
 * A series is a metric name plus labels (sorted; "instance" and "job" are added
 * by the scraper); a sample is a time in ms and a float or a histogram (hist_encode).
 * A missing scrape is a gap; a target that stops is ended by a stale marker.
 *
 * The schema has a version (PRAGMA user_version) and an application_id. A file
 * that is not ours, is damaged, or is of a newer version is refused with a
 * sentence and left untouched. An older version is migrated.
 *
 * One server per file: a second one is refused while the first lives (a lock
 * file "-lock" beside it, which the kernel unlocks with the process). The sqlite3
 * shell may read along at any time; the view `samples` (metric, labels, time, value,
 * t_ms) is for that, and json_extract(labels, '$.peer') takes labels apart.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/hist.h"
#include "lib/metric.h"

#define STORE_CHECKPOINT_NS 10000000000ull /* 10 s: what a power cut can cost at most */
#define STORE_WAL_BYTES (32 << 20)         /* a log this large is folded in earlier */
#define STORE_PAGE_BYTES 1024
#define STORE_SERIES_MAX 1000000           /* all are in memory, at some 500 bytes each */
#define STORE_STALE_BITS 0x7ff0000000000002ull /* of a double: Prometheus' stale marker, a NaN */

struct store;

/* -EACCES/-ENOENT (cannot open), -EBADMSG (not a NetSonde database, or damaged), -EPROTONOSUPPORT (newer version),
 * -EBUSY (another server has it). */
int store_open(const char *path, struct store **ret_store, struct error *ret_error);
void store_close(struct store *store); /* checkpoints; safe on NULL */

struct store_sample {
	const char *name;
	enum metric_type type;      /* of the family */
	const char *help_family;    /* family name, for the metadata; may be NULL */
	const struct label *labels; /* sorted by name */
	size_t n_labels;
	int64_t t_ms;               /* Unix time */
	const struct hist *hist;    /* or NULL */
	double value;
};

/* A sample whose value is the stale marker ends the series; every other NaN is a value (it reads back as one NaN).
 * Of two samples of one series at one time the first stays; the second is counted. Beyond STORE_SERIES_MAX series, samples
 * of new ones are left out and counted, until old ones expire.
 * One transaction per tick. append outside begin..commit is a bug. A failed append or commit (disk full)
 * rolls the tick back, returns -errno with a sentence, and the store stays usable for the next tick. */
int store_begin(struct store *store, struct error *ret_error);
int store_append(struct store *store, const struct store_sample *sample, struct error *ret_error);
int store_commit(struct store *store, struct error *ret_error);
bool store_has_series(struct store *store, const char *name, const struct label *labels, size_t n_labels);
void store_rollback(struct store *store);
/* A checkpoint waits for the disk, for 100 ms and more on a slow one; so commit does none, and the caller chooses a
 * moment at which nobody waits for him. To be looked at after every tick, also a failed one: on a full disk it is what
 * makes room in the log. */
bool store_checkpoint_due(const struct store *store);
void store_checkpoint(struct store *store);

/* Reading. */
enum match_op { MATCH_EQUAL, MATCH_NOT_EQUAL, MATCH_REGEX, MATCH_NOT_REGEX }; /* regexes are anchored, POSIX extended */
struct matcher { char *label; enum match_op op; char *value; }; /* label "__name__" is the metric name */

struct store_series {
	uint64_t id;                /* stable within the file */
	const char *name;
	enum metric_type type;
	const struct label *labels; /* sorted by name, without __name__ */
	size_t n_labels;
};

struct store_point { int64_t t_ms; double value; const struct hist *hist; /* NULL for a float */ bool stale; };

/* fn of both must not call into the store, except that select's may call store_read. */
/* Calls fn for each series that matches and has a sample in [from_ms, to_ms]; not 0 from fn ends it and is returned.
 * -ETIME beyond the deadline. */
#define STORE_NO_DEADLINE ((mono_time){ UINT64_MAX })
int store_select(struct store *store, const struct matcher *matchers, size_t n_matchers, int64_t from_ms, int64_t to_ms,
		 mono_time deadline, int (*fn)(const struct store_series *series, void *userdata), void *userdata, struct error *ret_error);
/* The series' samples in [from_ms, to_ms], in time order. */
int store_read(struct store *store, uint64_t series_id, int64_t from_ms, int64_t to_ms,
	       int (*fn)(const struct store_point *point, void *userdata), void *userdata, struct error *ret_error);

/* Time of the newest sample of all series called `name`; INT64_MIN when there is none. */
int64_t store_newest_ms(struct store *store, const char *name);

/* Deletes samples older than before_ms (and series without samples), in bounded steps: at most max_rows and
 * STORE_EXPIRE_SERIES series per call. Returns how many rows went, or -errno. *ret_more: call again. */
#define STORE_EXPIRE_SERIES 200
int64_t store_expire(struct store *store, int64_t before_ms, int64_t max_rows, bool *ret_more, struct error *ret_error);

/* Since open; series and file_bytes (with the log) as they are now. A failed checkpoint loses nothing, it only delays.
 */
struct store_stats {
	uint64_t series, samples_appended, ticks_committed, ticks_failed;
	uint64_t file_bytes;
	uint64_t samples_duplicate, samples_over_limit, samples_expired, checkpoints, checkpoints_failed;
};
void store_stats(struct store *store, struct store_stats *ret_stats);
