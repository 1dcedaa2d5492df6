/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of the database, and what has to be true of a file before the
 * store writes to it.
 *
 * A new file is built beside its place ("-new"), closed, and renamed, so there
 * is no moment at which a half-made database has the real name. Its header
 * (SQLite file format, section 1.3) holds application_id and user_version, and
 * is read as bytes before SQLite gets the file: opening a foreign WAL database
 * would already create files beside it and fold its log into it.
 *
 * Table `sample`: one row per series and time. value is REAL for a number, TEXT
 * 'NaN' for a NaN that was measured (SQLite would store it as NULL), NULL for a
 * stale marker, and BLOB for a histogram (hist_encode). The view `samples` is for
 * people with the sqlite3 shell.
 */
#include "server/store_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_BYTES 100
#define HEADER_USER_VERSION 60
#define HEADER_APPLICATION_ID 68

static const char schema_sql[] =
	/* A tick adds one row to as many leaf pages as there are series, so the page is the unit of write cost. */
	"PRAGMA page_size = 1024;"
	"PRAGMA synchronous = FULL;"
	"BEGIN;"
	"CREATE TABLE series ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL,"
	" labels TEXT NOT NULL," /* JSON object, keys sorted */
	" type TEXT NOT NULL,"
	" family TEXT,"
	" UNIQUE (labels, name)"
	") STRICT;"
	"CREATE TABLE sample ("
	" series INTEGER NOT NULL,"
	" t INTEGER NOT NULL," /* ms since 1970 */
	" value ANY,"
	" PRIMARY KEY (series, t)"
	") STRICT, WITHOUT ROWID;"
	"CREATE VIEW samples AS SELECT"
	" series.name AS metric,"
	" series.labels AS labels,"
	" strftime('%Y-%m-%dT%H:%M:%fZ', sample.t / 1000.0, 'unixepoch') AS time,"
	" CASE typeof(sample.value) WHEN 'null' THEN 'stale' WHEN 'blob' THEN 'histogram' ELSE sample.value END AS value,"
	" sample.t AS t_ms"
	" FROM sample JOIN series ON series.id = sample.series;";

#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number
const char store_touch_sql[] = "PRAGMA user_version = " TEXT(STORE_VERSION);

/* One row per old version; the first takes version 1 to 2. There has been only version 1 so far. */
static const struct store_migration migrations[STORE_VERSION] = { 0 };

static uint32_t read_be32(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int not_ours(const char *path, struct error *ret_error)
{
	return error_set(ret_error, -EBADMSG, "%s is not a NetSonde database; give another path, or move the file away",
			 path);
}

static int newer(const char *path, int64_t version, struct error *ret_error)
{
	return error_set(ret_error, -EPROTONOSUPPORT,
			 "database %s has version %lld and this NetSonde knows versions up to %d; use a newer NetSonde",
			 path, (long long)version, STORE_VERSION);
}

static int examine_header(const char *path, int fd, struct error *ret_error)
{
	unsigned char header[HEADER_BYTES];
	ssize_t n = pread(fd, header, sizeof(header), 0);

	if (n < 0)
		return error_set_errno(ret_error, -errno, "cannot read database %s", path);
	if (n < HEADER_BYTES || memcmp(header, "SQLite format 3", 16))
		return not_ours(path, ret_error);
	if (read_be32(header + HEADER_APPLICATION_ID) != STORE_APPLICATION_ID)
		return not_ours(path, ret_error);
	if (read_be32(header + HEADER_USER_VERSION) > STORE_VERSION)
		return newer(path, read_be32(header + HEADER_USER_VERSION), ret_error);
	return 0;
}

int store_schema_examine(const char *path, off_t *ret_size, struct error *ret_error)
{
	struct stat st;
	int fd, r;

	if (stat(path, &st) < 0) {
		if (errno != ENOENT)
			return error_set_errno(ret_error, -errno, "cannot open database %s", path);
		*ret_size = 0;
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		return not_ours(path, ret_error); /* never open a pipe or a device */
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(ret_error, -errno, "cannot open database %s for writing", path);
	r = st.st_size ? examine_header(path, fd, ret_error) : 0;
	close(fd);
	if (r < 0)
		return r;
	*ret_size = st.st_size;
	return 0;
}

static int sync_directory(const char *path)
{
	char *directory = strdup(path), *slash = directory ? strrchr(directory, '/') : NULL;
	int fd, r = 0;

	if (!slash) {
		free(directory);
		return directory ? -EINVAL : -ENOMEM;
	}
	slash[slash == directory] = '\0';
	fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(directory);
	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		r = -errno;
	close(fd);
	return r;
}

static int create_at(const char *path, struct error *ret_error)
{
	struct store s = { .path = (char *)path };
	char pragma[160];
	int r = 0,
	    rc = sqlite3_open_v2(path, &s.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE, NULL);

	snprintf(pragma, sizeof(pragma),
		 "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT; PRAGMA journal_mode = WAL",
		 STORE_APPLICATION_ID, STORE_VERSION);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(s.db, schema_sql, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(s.db, pragma, NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		r = store_fail(&s, rc, ret_error, "cannot create");
	sqlite3_close(s.db);
	return r;
}

int store_schema_create(const char *path, struct error *ret_error)
{
	struct buffer name = BUFFER_INIT;
	int r;

	buffer_printf(&name, "%s-new", path);
	if (!buffer_ok(&name)) {
		buffer_done(&name);
		return error_set_errno(ret_error, -ENOMEM, "cannot create database %s", path);
	}
	unlink(name.data); /* left by a crash; the lock is ours */
	r = create_at(name.data, ret_error);
	if (r == 0 && rename(name.data, path) < 0)
		r = error_set_errno(ret_error, -errno, "cannot create database %s", path);
	if (r == 0) {
		r = sync_directory(path);
		if (r < 0)
			error_set_errno(ret_error, r, "cannot create database %s", path);
	}
	if (r < 0)
		unlink(name.data);
	buffer_done(&name);
	return r;
}

int store_pragma_int(sqlite3 *db, const char *sql, int64_t *ret_value)
{
	sqlite3_stmt *st = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);

	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW)
		*ret_value = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? SQLITE_OK : rc == SQLITE_DONE ? SQLITE_ERROR : rc;
}

static int check_late(void *userdata)
{
	return mono_since_ns(mono_now(), *(const mono_time *)userdata) > STORE_QUICK_CHECK_NS;
}

/* SQLite's own word on the pages and tables; a check that would take too long is left unfinished, which is no error. */
static int quick_check(struct store *s, struct error *ret_error)
{
	mono_time start = mono_now();
	sqlite3_stmt *st = NULL;
	int r = 0, rc = sqlite3_prepare_v2(s->db, "PRAGMA quick_check(1)", -1, &st, NULL);

	sqlite3_progress_handler(s->db, 1000, check_late, &start);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		const char *text = (const char *)sqlite3_column_text(st, 0);

		if (!text || strcmp(text, "ok"))
			r = error_set(ret_error, -EBADMSG,
				      "database %s is damaged (%s); move it away, or restore a copy", s->path,
				      text ? text : "no answer from the check");
	} else if (rc != SQLITE_INTERRUPT && rc != SQLITE_OK) {
		r = store_fail(s, rc, ret_error, "cannot check");
	}
	sqlite3_finalize(st);
	sqlite3_progress_handler(s->db, 0, NULL, NULL);
	return r;
}

int store_schema_check(struct store *s, off_t size, struct error *ret_error)
{
	int64_t id = 0, version = 0;
	int rc = store_pragma_int(s->db, "PRAGMA application_id", &id);

	/* Again, now with what the write-ahead log holds. */
	if (rc == SQLITE_OK)
		rc = store_pragma_int(s->db, "PRAGMA user_version", &version);
	if (rc != SQLITE_OK)
		return store_fail(s, rc, ret_error, "cannot read");
	if (id != STORE_APPLICATION_ID || version < 1)
		return not_ours(s->path, ret_error);
	if (version > STORE_VERSION)
		return newer(s->path, version, ret_error);
	return size <= STORE_QUICK_CHECK_BYTES ? quick_check(s, ret_error) : 0;
}

/* Each step is one transaction together with its version number, so a crash leaves the old or the new version. */
int store_schema_migrate(struct store *s, const struct store_migration *steps, int version, struct error *ret_error)
{
	int64_t have = 0;
	int rc = store_pragma_int(s->db, "PRAGMA user_version", &have);

	while (rc == SQLITE_OK && have < version) {
		char pragma[64];

		snprintf(pragma, sizeof(pragma), "PRAGMA user_version = %d; COMMIT", (int)have + 1);
		rc = sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(s->db, steps[have - 1].sql, NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			rc = sqlite3_exec(s->db, pragma, NULL, NULL, NULL);
		if (rc == SQLITE_OK)
			have++;
	}
	if (rc == SQLITE_OK)
		return 0;
	rc = store_fail(s, rc, ret_error, "cannot migrate");
	if (!sqlite3_get_autocommit(s->db))
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

int store_schema_upgrade(struct store *s, struct error *ret_error)
{
	return store_schema_migrate(s, migrations, STORE_VERSION, ret_error);
}
