/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store against the file system: whoever kills the writer and whatever fills
 * the disk, the file holds whole ticks; what is not ours, not whole or not to be
 * had is refused in one sentence and stays as it is, byte for byte.
 */
#include "store_fixture.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void expect_refused(struct fixture *f, int r, const char *part)
{
	struct store *s = NULL;
	struct error error = { "" };

	assert_int_equal(store_open(f->path, &s, &error), r);
	assert_null(s);
	if (!strstr(error.text, part) || !strstr(error.text, "t.db"))
		fail_msg("\"%s\" does not say \"%s\"", error.text, part);
}

/* The whole file, to see that nobody touched it. */
static char *slurp(const char *path, size_t *ret_len)
{
	FILE *file = fopen(path, "rb");
	char *data;

	assert_non_null(file);
	fseek(file, 0, SEEK_END);
	*ret_len = (size_t)ftell(file);
	rewind(file);
	data = malloc(*ret_len + 1);
	assert_int_equal(fread(data, 1, *ret_len, file), *ret_len);
	fclose(file);
	return data;
}

static void expect_same(const char *path, const char *data, size_t len)
{
	size_t now_len;
	char *now = slurp(path, &now_len);

	assert_int_equal(now_len, len);
	assert_memory_equal(now, data, len);
	free(now);
}

static void write_file(const char *path, const void *data, size_t len)
{
	FILE *file = fopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(data, 1, len, file), len);
	assert_int_equal(fclose(file), 0);
}

static void shell(const char *path, const char *sql)
{
	sqlite3 *db;
	char *message = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_two_openers(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f), *second = NULL;
	char link[320], other[320], pid[32];
	struct error error;
	int status;
	pid_t child;

	snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	expect_refused(f, -EBUSY, pid);
	snprintf(link, sizeof(link), "%s/link.db", f->directory);
	assert_int_equal(symlink("t.db", link), 0);
	assert_int_equal(store_open(link, &second, &error), -EBUSY);
	child = fork();
	if (child == 0) {
		struct store *mine = NULL;

		_exit(store_open(f->path, &mine, NULL) == -EBUSY ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	put(s, "m", "a", T0, 1); /* being asked has not hurt the first */
	store_close(s);
	snprintf(other, sizeof(other), "%s-lock", f->path);
	assert_int_equal(access(other, F_OK), -1);
	s = open_ok(f);
	assert_int_equal(select_name(s, "m").n, 1);
	store_close(s);
}

#define KILL_SERIES 40

/* Writes ticks until it is killed; each acknowledged tick's number goes into the pipe. Ticks add series as they go. */
static void write_until_killed(const char *path, int64_t first, int pipe_fd)
{
	struct store *s;
	char peer[16];

	if (store_open(path, &s, NULL) < 0)
		_exit(1);
	for (int64_t tick = first;; tick++) {
		if (store_begin(s, NULL) < 0)
			_exit(2);
		for (int i = 0; i < KILL_SERIES; i++) {
			snprintf(peer, sizeof(peer), "p%d", i);
			if (append(s, "killed", peer, T0 + tick, (double)tick * 1000 + i, NULL) < 0)
				_exit(3);
		}
		if (store_commit(s, NULL) < 0)
			_exit(4);
		if (write(pipe_fd, &tick, sizeof(tick)) != sizeof(tick))
			_exit(5);
	}
}

struct whole { int64_t ticks; size_t series; bool broken; int64_t at; int index; };

static int on_killed_point(const struct store_point *point, void *userdata)
{
	struct whole *w = userdata;

	if (point->t_ms != T0 + w->at || point->value != (double)w->at * 1000 + w->index)
		w->broken = true;
	w->at++;
	return 0;
}

static void test_kill(void **state)
{
	struct fixture *f = *state;
	int64_t next = 0;

	srandom(7); /* the moment of the kill is random anyway */
	for (int round = 0; round < 8; round++) {
		struct whole w = { 0 };
		int64_t acknowledged = next - 1, tick, stop = next + 1 + random() % 60;
		int fds[2], status;
		struct store *s;
		pid_t child;

		assert_int_equal(pipe(fds), 0);
		child = fork();
		if (child == 0) {
			close(fds[0]);
			write_until_killed(f->path, next, fds[1]);
		}
		close(fds[1]);
		while (acknowledged < stop && read(fds[0], &tick, sizeof(tick)) == sizeof(tick))
			acknowledged = tick;
		usleep((useconds_t)(random() % 3000)); /* into the middle of something */
		kill(child, SIGKILL);
		while (read(fds[0], &tick, sizeof(tick)) == sizeof(tick))
			acknowledged = tick;
		close(fds[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFSIGNALED(status));
		assert_true(acknowledged >= stop);

		s = open_ok(f);
		for (int i = 0; i < KILL_SERIES; i++) {
			char peer[16];
			struct matcher m = { (char *)"peer", MATCH_EQUAL, peer };
			struct selected out = { 0 };

			snprintf(peer, sizeof(peer), "p%d", i);
			assert_int_equal(store_select(s, &m, 1, INT64_MIN, INT64_MAX, STORE_NO_DEADLINE, on_series, &out, NULL), 0);
			assert_int_equal(out.n, 1);
			w.at = 0;
			w.index = i;
			assert_int_equal(store_read(s, out.id, INT64_MIN, INT64_MAX, on_killed_point, &w, NULL), 0);
			assert_false(w.broken);
			if (i == 0)
				w.ticks = w.at;
			assert_int_equal(w.at, w.ticks); /* whole ticks */
		}
		assert_true(w.ticks > acknowledged); /* all that were acknowledged */
		assert_true(w.ticks <= acknowledged + 2);
		next = w.ticks;
		store_close(s);
	}
}

static void test_not_ours(void **state)
{
	static const char text[] =
		"This is a letter to my grandmother, who has no database at all. It is longer than a header is, "
		"so that only its words speak against it.";
	struct fixture *f = *state;
	char other[320];
	char *data;
	size_t len;

	write_file(f->path, text, sizeof(text));
	expect_refused(f, -EBADMSG, "is not a NetSonde database");
	expect_same(f->path, text, sizeof(text));
	write_file(f->path, "SQL", 3);
	expect_refused(f, -EBADMSG, "is not a NetSonde database");
	unlink(f->path);
	shell(f->path, "PRAGMA journal_mode = WAL; CREATE TABLE series (a); INSERT INTO series VALUES (1)");
	data = slurp(f->path, &len);
	expect_refused(f, -EBADMSG, "is not a NetSonde database");
	expect_same(f->path, data, len);
	free(data);
	snprintf(other, sizeof(other), "%s-wal", f->path);
	assert_int_equal(access(other, F_OK), -1);
	snprintf(other, sizeof(other), "%s-lock", f->path);
	assert_int_equal(access(other, F_OK), -1);
	unlink(f->path);
	assert_int_equal(mkdir(f->path, 0700), 0);
	expect_refused(f, -EBADMSG, "is not a NetSonde database");
	rmdir(f->path);
	assert_int_equal(mkfifo(f->path, 0600), 0);
	expect_refused(f, -EBADMSG, "is not a NetSonde database");
	unlink(f->path);
	write_file(f->path, "", 0); /* mktemp's */
	store_close(open_ok(f));
}

static void test_newer(void **state)
{
	struct fixture *f = *state;
	char *data, *log, wal[320];
	size_t len, log_len;
	pid_t child;

	store_close(open_ok(f));
	/* In the log only, as a newer NetSonde that was killed leaves it. */
	child = fork();
	if (child == 0) {
		sqlite3 *db;

		_exit(sqlite3_open(f->path, &db) || sqlite3_exec(db, "PRAGMA user_version = 9", NULL, NULL, NULL));
	}
	assert_int_equal(waitpid(child, NULL, 0), child);
	snprintf(wal, sizeof(wal), "%s-wal", f->path);
	data = slurp(f->path, &len);
	log = slurp(wal, &log_len);
	assert_true(log_len > 0);
	expect_refused(f, -EPROTONOSUPPORT, "version 9");
	expect_same(f->path, data, len);
	expect_same(wal, log, log_len);
	free(data);
	free(log);
	shell(f->path, "PRAGMA wal_checkpoint(TRUNCATE)");
	data = slurp(f->path, &len);
	expect_refused(f, -EPROTONOSUPPORT, "use a newer NetSonde");
	expect_same(f->path, data, len);
	free(data);
}

static void test_migrate(void **state)
{
	static const struct store_migration good[] = {{"CREATE TABLE two (a)"}, {"ALTER TABLE two RENAME TO three"}};
	static const struct store_migration bad[] = {
		{0}, {0}, {"CREATE TABLE four (a); INSERT INTO nowhere VALUES (1)"}};
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct error error;
	int64_t version = 0, tables = 0;

	assert_int_equal(store_schema_migrate(s, good, 3, &error), 0);
	assert_int_equal(store_pragma_int(s->db, "PRAGMA user_version", &version), SQLITE_OK);
	assert_int_equal(version, 3);
	assert_int_equal(store_schema_migrate(s, good, 3, &error), 0); /* nothing to do */
	assert_int_equal(store_schema_migrate(s, bad, 4, &error), -EBADMSG);
	assert_non_null(strstr(error.text, "cannot migrate"));
	assert_int_equal(store_pragma_int(s->db, "PRAGMA user_version", &version), SQLITE_OK);
	assert_int_equal(version, 3);
	assert_int_equal(
	    store_pragma_int(s->db, "SELECT count(*) FROM sqlite_schema WHERE name IN ('three', 'four')", &tables),
	    SQLITE_OK);
	assert_int_equal(tables, 1);
	store_close(s);
	expect_refused(f, -EPROTONOSUPPORT, "version 3");
}

static void test_damaged(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	char *data;
	size_t len;

	for (int i = 0; i < 50; i++) {
		char peer[16];

		snprintf(peer, sizeof(peer), "p%d", i);
		put(s, "m", peer, T0, i);
	}
	store_close(s);
	data = slurp(f->path, &len);
	for (size_t at = STORE_PAGE_BYTES; at < len; at += STORE_PAGE_BYTES) { /* each page in turn, but the header's */
		memset(data + at, 0xa5, 16);
		write_file(f->path, data, len);
		expect_refused(f, -EBADMSG, "damaged");
		expect_same(f->path, data, len);
		free(data);
		unlink(f->path);
		data = NULL;
		if (at + STORE_PAGE_BYTES >= len)
			break;
		s = open_ok(f);
		for (int i = 0; i < 50; i++) {
			char peer[16];

			snprintf(peer, sizeof(peer), "p%d", i);
			put(s, "m", peer, T0, i);
		}
		store_close(s);
		data = slurp(f->path, &len);
	}
	free(data);
	/* Cut off in the middle. */
	unlink(f->path);
	s = open_ok(f);
	put(s, "m", "a", T0, 1);
	store_close(s);
	assert_int_equal(truncate(f->path, 3 * STORE_PAGE_BYTES), 0);
	expect_refused(f, -EBADMSG, "damaged");
	/* Labels, and later a histogram, that somebody spoilt with the shell. */
	unlink(f->path);
	s = open_ok(f);
	put(s, "m", "a", T0, 1);
	store_close(s);
	shell(f->path, "UPDATE series SET labels = '{\"a\":1}'");
	expect_refused(f, -EBADMSG, "no readable labels");
	shell(f->path, "UPDATE series SET labels = '{}'; UPDATE sample SET value = x'ffffff'");
	s = open_ok(f);
	{
		struct points p = { 0 };
		struct error error;

		assert_int_equal(store_read(s, select_name(s, "m").id, 0, INT64_MAX, on_point, &p, &error), -EBADMSG);
		assert_non_null(strstr(error.text, "cannot be read"));
	}
	store_close(s);
	shell(f->path, "DROP TABLE sample");
	expect_refused(f, -EBADMSG, "damaged");
}

static void test_no_directory(void **state)
{
	struct fixture *f = *state;
	char keep[300];
	int status;
	pid_t child;

	memcpy(keep, f->path, sizeof(keep));
	snprintf(f->path, sizeof(f->path), "%s/none/t.db", f->directory);
	expect_refused(f, -ENOENT, "directory does not exist");
	memcpy(f->path, keep, sizeof(keep));
	/* Nobody may write there: the children give up being root. */
	assert_int_equal(chmod(f->directory, 0555), 0);
	child = fork();
	if (child == 0) {
		struct store *s = NULL;
		struct error error = { "" };

		if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(2);
		_exit(store_open(f->path, &s, &error) == -EACCES && strstr(error.text, "Permission denied") ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(chmod(f->directory, 0777), 0);
	store_close(open_ok(f));
	assert_int_equal(chmod(f->path, 0444), 0);
	child = fork();
	if (child == 0) {
		struct store *s = NULL;
		struct error error = { "" };

		if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(2);
		_exit(store_open(f->path, &s, &error) == -EACCES && strstr(error.text, "for writing") ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* A tick of 50 samples, two of them of a new series. */
static int full_tick(struct store *s, int64_t tick, struct error *ret_error)
{
	char peer[32];
	int r = store_begin(s, ret_error);

	for (int i = 0; r == 0 && i < 50; i++) {
		struct label label = { "peer", peer };

		snprintf(peer, sizeof(peer), i < 48 ? "p%d" : "p%d-%lld", i, (long long)tick);
		r = store_append(s,
				 &(struct store_sample){.name = "full",
							.type = METRIC_GAUGE,
							.labels = &label,
							.n_labels = 1,
							.t_ms = T0 + tick,
							.value = 1},
				 ret_error);
	}
	return r ? r : store_commit(s, ret_error);
}

/* Every tick up to n is there with its 50 samples, tick `without` is not there at all. Returns 0 when so. */
static int check_full(struct store *s, int64_t n, int64_t without)
{
	char sql[512];
	int64_t bad = -1, total = -1, series = -1;

	snprintf(sql, sizeof(sql), "SELECT count(*) FROM (SELECT count(*) AS c FROM sample GROUP BY t HAVING c != 50)");
	if (store_pragma_int(s->db, sql, &bad) ||
	    store_pragma_int(s->db, "SELECT count(DISTINCT t) FROM sample", &total) ||
	    store_pragma_int(s->db, "SELECT count(*) FROM series", &series))
		return 1;
	snprintf(sql, sizeof(sql), "SELECT count(*) FROM sample WHERE t = %lld", T0 + (long long)without);
	if (bad != 0 || total != n || series != 48 + 2 * n || (size_t)series != s->n_series)
		return 2;
	return store_pragma_int(s->db, sql, &bad) || bad ? 3 : 0;
}

static void test_full_database(void **state)
{
	struct fixture *f = *state;
	struct store *s = open_ok(f);
	struct error error = { "" };
	struct store_stats stats;
	int64_t tick = 0, limit;
	int r;

	assert_int_equal(store_pragma_int(s->db, "PRAGMA max_page_count = 200", &limit), SQLITE_OK);
	while ((r = full_tick(s, tick, &error)) == 0)
		tick++;
	assert_int_equal(r, -ENOSPC);
	assert_non_null(strstr(error.text, "the disk is full"));
	assert_int_equal(check_full(s, tick, tick), 0);
	assert_int_equal(full_tick(s, tick, &error), -ENOSPC); /* still */
	assert_int_equal(store_pragma_int(s->db, "PRAGMA max_page_count = 100000", &limit), SQLITE_OK);
	assert_int_equal(full_tick(s, tick + 1, &error), 0);
	assert_int_equal(check_full(s, tick + 1, tick), 0);
	store_stats(s, &stats);
	assert_int_equal(stats.ticks_failed, 2);
	assert_int_equal(stats.ticks_committed, tick + 1);
	assert_int_equal(stats.samples_appended, 50 * (tick + 1));
	store_close(s);
	s = open_ok(f);
	assert_int_equal(check_full(s, tick + 1, tick), 0);
	store_close(s);
}

/* The same on a real file system of 1 MiB, in a mount namespace of its own. */
static int full_disk_child(const char *directory)
{
	char path[512], filler[512], block[4096] = { 0 };
	struct error error = { "" };
	struct store *s;
	int64_t tick = 0;
	int fd, r;

	if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", directory, "tmpfs", 0, "size=1m") < 0)
		return 10;
	snprintf(path, sizeof(path), "%s/t.db", directory);
	snprintf(filler, sizeof(filler), "%s/filler", directory);
	if (store_open(path, &s, &error) < 0)
		return 11;
	fd = open(filler, O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 100; i++)
		if (write(fd, block, sizeof(block)) != sizeof(block))
			return 12;
	close(fd);
	while ((r = full_tick(s, tick, &error)) == 0)
		tick++;
	if (r != -ENOSPC || tick == 0 || !strstr(error.text, "the disk is full"))
		return 13;
	if (check_full(s, tick, tick) || full_tick(s, tick, &error) != -ENOSPC)
		return 14;
	unlink(filler);
	if (full_tick(s, tick + 1, &error) < 0 || check_full(s, tick + 1, tick))
		return 15;
	store_close(s);
	if (store_open(path, &s, &error) < 0 || check_full(s, tick + 1, tick))
		return 16;
	store_close(s);
	/* And no room for a new database: nothing half-made is left. */
	fd = open(filler, O_WRONLY | O_CREAT, 0600);
	while (write(fd, block, sizeof(block)) == sizeof(block))
		;
	close(fd);
	snprintf(path, sizeof(path), "%s/u.db", directory);
	if (store_open(path, &s, &error) != -ENOSPC || access(path, F_OK) == 0)
		return 17;
	strcat(path, "-new");
	return access(path, F_OK) == 0 ? 18 : 0;
}

/* The file has its final size and the log no room to grow: a checkpoint gives the log back. */
static int full_log_child(const char *directory)
{
	char path[512], filler[512], block[4096] = { 0 };
	struct error error = { "" };
	struct store *s;
	int64_t tick = 0;
	bool more;
	int fd, r;

	if (mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", directory, "tmpfs", 0, "size=4m") < 0)
		return 10;
	snprintf(path, sizeof(path), "%s/t.db", directory);
	snprintf(filler, sizeof(filler), "%s/filler", directory);
	if (store_open(path, &s, &error) < 0)
		return 11;
	for (; tick < 200; tick++) {
		if (full_tick(s, tick, &error) < 0 || store_expire(s, T0 + tick - 20, 10000, &more, &error) < 0)
			return 12;
		if (tick % 5 == 0)
			store_checkpoint(s);
	}
	fd = open(filler, O_WRONLY | O_CREAT, 0600);
	while (write(fd, block, sizeof(block)) == sizeof(block))
		;
	close(fd);
	while ((r = full_tick(s, tick, &error)) == 0)
		tick++;
	if (r != -ENOSPC || full_tick(s, tick, &error) != -ENOSPC)
		return 13;
	store_checkpoint(s);
	r = full_tick(s, tick, &error);
	store_close(s);
	return r < 0 ? 14 : 0;
}

static void run_in_namespace(struct fixture *f, int (*fn)(const char *directory))
{
	int status;
	pid_t child = fork();

	if (child == 0)
		_exit(unshare(CLONE_NEWNS) < 0 ? 77 : fn(f->directory));
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("no mount namespace here; test_full_database has tried the same\n");
		skip();
	}
	assert_int_equal(status, 0);
}

static void test_full_disk(void **state)
{
	run_in_namespace(*state, full_disk_child);
}

static void test_full_log(void **state)
{
	run_in_namespace(*state, full_log_child);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_two_openers),
		TEST(test_kill),
		TEST(test_not_ours),
		TEST(test_newer),
		TEST(test_migrate),
		TEST(test_damaged),
		TEST(test_no_directory),
		TEST(test_full_database),
		TEST(test_full_disk),
		TEST(test_full_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
