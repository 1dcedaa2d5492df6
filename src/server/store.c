/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing the database, its lock, its checkpoints, and the meaning
 * of SQLite's results.
 *
 * The lock is flock(2) on a file beside the database ("-lock"), so it dies with
 * the process, however it dies, and does not keep the sqlite3 shell out. SQLite's
 * own locking_mode=EXCLUSIVE would do that. The file is removed on a clean
 * close; whoever gets the lock therefore looks whether the name still leads to
 * what it locked.
 *
 * Checkpoints are ours (automatic ones are off): they are due when the last
 * one is STORE_CHECKPOINT_NS old or the log has grown to STORE_WAL_BYTES. With
 * synchronous=NORMAL that is when bytes are forced to the disk; a commit itself
 * only hands them to the kernel.
 */
#include "server/store_internal.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int errno_from_sqlite(sqlite3 *db, int rc)
{
	int system = db ? sqlite3_system_errno(db) : 0;

	switch (rc & 0xff) {
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR: /* a table or column that should be there is not */
		return -EBADMSG;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_CANTOPEN:
		return system == EACCES || system == EROFS ? -EACCES : system ? -system : -ENOENT;
	default:
		return system == ENOSPC || system == EDQUOT ? -ENOSPC : -EIO;
	}
}

int store_fail(struct store *store, int rc, struct error *ret_error, const char *what)
{
	int r = errno_from_sqlite(store->db, rc);
	const char *reason = store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc);

	if (r == -EBADMSG)
		return error_set(ret_error, r, "%s database %s: it is damaged (%s)", what, store->path, reason);
	if (r == -ENOSPC)
		return error_set(ret_error, r, "%s database %s: the disk is full (%s)", what, store->path, reason);
	return error_set(ret_error, r, "%s database %s: %s", what, store->path, reason);
}

int store_run(struct store *store, sqlite3_stmt *statement)
{
	int rc = sqlite3_step(statement), reset = sqlite3_reset(statement);

	(void)store;
	return rc == SQLITE_DONE ? SQLITE_OK : reset != SQLITE_OK ? reset : rc;
}

/* Absolute, without symbolic links, so that two names of one file meet at one lock. */
static int resolve_path(const char *path, char **ret_path, struct error *ret_error)
{
	char *copy, *directory, *full = realpath(path, NULL);
	struct buffer text = BUFFER_INIT;
	struct stat st;

	if (full) {
		*ret_path = full;
		return 0;
	}
	if (errno != ENOENT)
		return error_set_errno(ret_error, -errno, "cannot open database %s", path);
	copy = strdup(path);
	if (!copy)
		return error_set_errno(ret_error, -ENOMEM, "cannot open database %s", path);
	directory = realpath(dirname(copy), NULL);
	free(copy);
	if (!directory || stat(directory, &st) < 0 || !S_ISDIR(st.st_mode)) {
		free(directory);
		return error_set(ret_error, -ENOENT, "cannot create database %s: its directory does not exist", path);
	}
	copy = strdup(path);
	buffer_printf(&text, "%s/%s", strcmp(directory, "/") ? directory : "", copy ? basename(copy) : "");
	free(directory);
	if (!copy || !buffer_ok(&text)) {
		free(copy);
		buffer_done(&text);
		return error_set_errno(ret_error, -ENOMEM, "cannot open database %s", path);
	}
	free(copy);
	*ret_path = buffer_steal(&text, NULL);
	return 0;
}

static int lock_busy(struct store *s, int fd, struct error *ret_error)
{
	char pid[16] = "";
	ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

	if (n <= 0)
		return error_set(ret_error, -EBUSY, "database %s is in use by another NetSonde server", s->path);
	pid[strcspn(pid, "\n")] = '\0';
	return error_set(ret_error, -EBUSY,
			 "database %s is in use by another NetSonde server (process %s); stop it, or give another path",
			 s->path, pid);
}

static int lock_take(struct store *s, struct error *ret_error)
{
	struct stat mine, named;
	int fd;

	for (;;) {
		fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
		if (fd < 0)
			return error_set_errno(ret_error, errno == EROFS ? -EACCES : -errno,
					       "cannot open database %s: cannot create %s", s->path, s->lock_path);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int r = errno == EWOULDBLOCK
				    ? lock_busy(s, fd, ret_error)
				    : error_set_errno(ret_error, -errno, "cannot lock %s", s->lock_path);

			close(fd);
			return r;
		}
		if (fstat(fd, &mine) == 0 && stat(s->lock_path, &named) == 0 && mine.st_ino == named.st_ino &&
		    mine.st_dev == named.st_dev)
			break;
		close(fd); /* its owner removed it between our open and our lock */
	}
	/* Only for the message of the next one who comes; without room on the disk it says less. */
	if (ftruncate(fd, 0) == 0)
		dprintf(fd, "%d\n", (int)getpid());
	s->lock_fd = fd;
	return 0;
}

static int on_wal(void *userdata, sqlite3 *db, const char *name, int pages)
{
	(void)db;
	(void)name;
	((struct store *)userdata)->wal_pages = pages;
	return SQLITE_OK;
}

static int set_up(struct store *s, struct error *ret_error)
{
	sqlite3_stmt *st = NULL;
	bool wal = false;
	int rc = sqlite3_prepare_v2(s->db, "PRAGMA journal_mode = WAL", -1, &st, NULL);

	if (rc == SQLITE_OK && sqlite3_step(st) == SQLITE_ROW)
		wal = !sqlite3_stricmp((const char *)sqlite3_column_text(st, 0), "wal");
	rc = sqlite3_finalize(st);
	if (rc != SQLITE_OK)
		return store_fail(s, rc, ret_error, "cannot open");
	if (!wal)
		return error_set(ret_error, -EBUSY,
				 "database %s cannot be switched to WAL mode; is a shell writing to it?", s->path);
	rc = sqlite3_exec(
	    s->db,
		"PRAGMA synchronous = NORMAL;"
		"PRAGMA wal_autocheckpoint = 0;"
		"PRAGMA secure_delete = OFF;" /* Debian's default zeroes what expires: writes for nothing */
		"PRAGMA cache_size = -65536;" /* KiB: the newest leaf page of every series should stay in memory */
		"PRAGMA journal_size_limit = 16777216;"
		"PRAGMA temp_store = MEMORY;",
	    NULL, NULL, NULL);
	sqlite3_wal_hook(s->db, on_wal, s);
	return rc == SQLITE_OK ? 0 : store_fail(s, rc, ret_error, "cannot open");
}

static int prepare(struct store *s, struct error *ret_error)
{
	const struct { sqlite3_stmt **statement; const char *sql; } rows[] = {
		{ &s->begin, "BEGIN IMMEDIATE" },
		{ &s->commit, "COMMIT" },
		{ &s->rollback, "ROLLBACK" },
		{ &s->add_series, "INSERT INTO series (name, labels, type, family) VALUES (?1, ?2, ?3, ?4)" },
		{ &s->set_type, "UPDATE series SET type = ?2, family = coalesce(?3, family) WHERE id = ?1" },
		{ &s->add_sample, "INSERT INTO sample (series, t, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING" },
		{ &s->read, "SELECT t, value FROM sample WHERE series = ?1 AND t BETWEEN ?2 AND ?3 ORDER BY t" },
		{ &s->any, "SELECT 1 FROM sample WHERE series = ?1 AND t BETWEEN ?2 AND ?3 LIMIT 1" },
		{ &s->expire_samples, "DELETE FROM sample WHERE series = ?1 AND t IN"
				      " (SELECT t FROM sample WHERE series = ?1 AND t < ?2 ORDER BY t LIMIT ?3)" },
		{ &s->expire_series, "DELETE FROM series WHERE id = ?1" },
		{ &s->first_sample, "SELECT min(t) FROM sample WHERE series = ?1" },
		{ &s->last_sample, "SELECT max(t) FROM sample WHERE series = ?1" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int rc = sqlite3_prepare_v3(s->db, rows[i].sql, -1, SQLITE_PREPARE_PERSISTENT, rows[i].statement, NULL);

		if (rc != SQLITE_OK)
			return store_fail(s, rc, ret_error, "cannot open");
	}
	return 0;
}

/* A file that is refused stays as it is: without a log of its own there is nothing SQLite could fold in; with one it
 * must not. */
static int open_database(struct store *s, off_t size, struct error *ret_error)
{
	struct buffer wal = BUFFER_INIT;
	struct stat st;
	int r, rc;

	buffer_printf(&wal, "%s-wal", s->path);
	if (!buffer_ok(&wal))
		return error_set_errno(ret_error, -ENOMEM, "cannot open database %s", s->path);
	rc = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc == SQLITE_OK && stat(wal.data, &st) == 0 && st.st_size > 0)
		sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	buffer_done(&wal);
	if (rc != SQLITE_OK)
		return store_fail(s, rc, ret_error, "cannot open");
	sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
	if (sqlite3_db_readonly(s->db, "main") == 1)
		return error_set(ret_error, -EACCES, "cannot open database %s for writing", s->path);
	r = store_schema_check(s, size, ret_error);
	if (r == 0)
		r = set_up(s, ret_error);
	if (r == 0)
		r = store_schema_upgrade(s, ret_error);
	if (r == 0)
		r = prepare(s, ret_error);
	if (r == 0)
		r = series_load(s, ret_error);
	if (r == 0)
		sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	return r;
}

static int open_store(struct store *s, const char *path, struct error *ret_error)
{
	struct buffer lock = BUFFER_INIT;
	off_t size = 0;
	int r = resolve_path(path, &s->path, ret_error);

	if (r < 0)
		return r;
	buffer_printf(&lock, "%s-lock", s->path);
	s->lock_path = buffer_steal(&lock, NULL);
	if (!s->lock_path)
		return error_set_errno(ret_error, -ENOMEM, "cannot open database %s", path);
	r = lock_take(s, ret_error);
	if (r == 0)
		r = store_schema_examine(s->path, &size, ret_error);
	if (r == 0 && size == 0)
		r = store_schema_create(s->path, ret_error);
	if (r == 0)
		r = open_database(s, size, ret_error);
	return r;
}

int store_open(const char *path, struct store **ret_store, struct error *ret_error)
{
	struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set_errno(ret_error, -ENOMEM, "cannot open database %s", path);
	s->lock_fd = -1;
	s->series_max = STORE_SERIES_MAX;
	siphash_key_new(&s->hash_key);
	s->checkpointed = mono_now();
	r = open_store(s, path, ret_error);
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	if (s->db) {
		sqlite3_stmt *st;

		store_rollback(s);
		while ((st = sqlite3_next_stmt(s->db, NULL)))
			sqlite3_finalize(st);
		sqlite3_close(s->db); /* the last one out folds the log in and removes it */
	}
	if (s->lock_fd >= 0) {
		unlink(s->lock_path);
		close(s->lock_fd);
	}
	series_done(s);
	buffer_done(&s->blob);
	free(s->lock_path);
	free(s->path);
	free(s);
}

static uint64_t size_of(const char *path, const char *suffix)
{
	struct buffer name = BUFFER_INIT;
	struct stat st;
	uint64_t bytes = 0;

	buffer_printf(&name, "%s%s", path, suffix);
	if (buffer_ok(&name) && stat(name.data, &st) == 0)
		bytes = (uint64_t)st.st_size;
	buffer_done(&name);
	return bytes;
}

void store_stats(struct store *s, struct store_stats *ret_stats)
{
	*ret_stats = s->stats;
	ret_stats->series = s->n_series;
	ret_stats->file_bytes = size_of(s->path, "") + size_of(s->path, "-wal");
}
