/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the store's own files share. Only store*.c include this header (and with
 * it <sqlite3.h>); everybody else sees store.h.
 *
 * store.c         open, close, the lock, checkpoints, errors
 * store_schema.c  tables, version, migration, the check of a file before it is used
 * store_series.c  the in-memory index (name, labels) -> series
 * store_write.c   ticks and expiry
 * store_read.c    select and read
 *
 * All series of the file are in memory from open to close, so appending and
 * selecting never search labels in SQL. The index and the table `series` hold
 * the same rows whenever no transaction is open; series added by a tick that is
 * rolled back leave the index again.
 */
#pragma once
#include <sqlite3.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/buffer.h"
#include "lib/clock.h"
#include "lib/siphash.h"
#include "server/store.h"

#define STORE_APPLICATION_ID 0x4e534442 /* "NSDB" */
#define STORE_VERSION 1
#define STORE_QUICK_CHECK_BYTES (64 << 20)      /* larger files are not checked as a whole at open */
#define STORE_QUICK_CHECK_NS (1000 * NS_PER_MS) /* and checking takes no longer than this */
#define STORE_BUSY_MS 250                       /* how long to wait for somebody who writes with the sqlite3 shell */

struct series {
	struct series *next;       /* in its hash chain */
	int64_t id;
	int64_t first_t_ms;        /* no sample is older than this; INT64_MIN when not known yet */
	uint64_t hash;
	enum metric_type type, committed_type;
	const char *name;          /* this and the labels' strings are in the same allocation */
	size_t n_labels;
	struct label labels[];     /* sorted by name */
};

struct store {
	sqlite3 *db;
	char *path;                /* absolute */
	char *lock_path;
	int lock_fd;
	sqlite3_stmt *begin, *commit, *rollback;
	sqlite3_stmt *add_series, *set_type, *add_sample;
	sqlite3_stmt *read, *any;
	sqlite3_stmt *expire_samples, *expire_series, *first_sample, *last_sample;

	struct series **series;    /* in order of arrival */
	size_t n_series, cap_series;
	struct series **chains;
	size_t n_chains;           /* a power of two */
	struct siphash_key hash_key;

	bool in_tick, types_changed, reading;
	size_t tick_n_series;      /* n_series when the tick began */
	uint64_t tick_appended, tick_duplicate, tick_over_limit;
	size_t series_max;         /* STORE_SERIES_MAX but in tests */
	struct buffer blob;
	size_t expire_next;        /* index into series */

	int wal_pages;             /* after the last commit */
	mono_time checkpointed;    /* last try */
	struct store_stats stats;
};

/* store.c */
int store_fail(struct store *store, int rc, struct error *ret_error,
	       const char *what);			     /* -errno for an SQLite result */
int store_run(struct store *store, sqlite3_stmt *statement); /* for statements without rows; resets; an SQLite result */

/* store_schema.c */
struct store_migration { const char *sql; }; /* from version i + 1 to i + 2 */
/* Looks at the bytes of the file only. size 0: there is nothing yet. */
int store_schema_examine(const char *path, off_t *ret_size, struct error *ret_error);
int store_schema_create(const char *path, struct error *ret_error);
int store_schema_check(struct store *store, off_t size, struct error *ret_error);
int store_schema_migrate(struct store *store, const struct store_migration *steps, int version,
			 struct error *ret_error);
int store_schema_upgrade(struct store *store, struct error *ret_error);
extern const char store_touch_sql[]; /* writes one page and changes nothing */
int store_pragma_int(sqlite3 *db, const char *sql, int64_t *ret_value); /* an SQLite result */

/* store_series.c */
struct series *series_find(struct store *store, const char *name, const struct label *labels, size_t n_labels);
int series_insert(struct store *store, int64_t id, const char *name, enum metric_type type, const struct label *labels,
		  size_t n_labels, struct series **ret_series);
void series_truncate(struct store *store, size_t n_series);       /* forgets the newest */
void series_remove(struct store *store, struct series *series); /* unlinks and frees; the caller fixes store->series */
int series_load(struct store *store, struct error *ret_error);
void series_done(struct store *store);
/* Labels as one canonical JSON object; NULL when a value is not UTF-8 or memory ran out. free() it. */
char *series_labels_json(const struct label *labels, size_t n_labels);
const char *series_type_text(enum metric_type type);
