/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The process programs in the running kernel: this binary starts itself in every
 * way that could be counted wrongly. What happens is read from the events of a
 * network namespace of the test's own, so that the machine's other processes do
 * not disturb. Both ways of telling the last thread are tried. Needs root;
 * skipped with that reason otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/event_log.h"
#include "agent/process_program.h"

#define THREADS 24

struct fixture {
	struct events *events;
	struct features features;
	struct process_program *program;
	uint64_t counts[PROCESS_COUNT_COUNT]; /* when it was opened */
	uint32_t netns;
	uint64_t seen;                        /* ID */
	/* What happened in our namespace. */
	unsigned execs, exits;
	struct event last_exec, last_exit;
};

static uint32_t own_netns(void)
{
	struct stat stat_of;

	assert_int_equal(stat("/proc/self/ns/net", &stat_of), 0);
	return (uint32_t)stat_of.st_ino;
}

static void open_fixture(struct fixture *f, enum process_exit_mode mode)
{
	struct error error = { "" };
	uint64_t missed;

	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	memset(f, 0, sizeof(*f));
	f->netns = own_netns();
	if (events_new(100000, &f->events, &error) || process_program_open(f->events, &f->features, mode, 0, &f->program, &error))
		fail_msg("%s", error.text);
	process_program_read(f->program, f->counts, &missed);
}

static void close_fixture(struct fixture *f)
{
	process_program_close(f->program);
	events_free(f->events);
}

static void on_event(const struct event_entry *entry, void *userdata)
{
	struct fixture *f = userdata;

	f->seen = entry->id;
	if (entry->event.netns != f->netns)
		return;
	if (entry->event.kind == EVENT_EXEC) {
		f->execs++;
		f->last_exec = entry->event;
	} else {
		f->exits++;
		f->last_exit = entry->event;
	}
}

/* The log keeps 256 of a kind, so this comes after every step. */
static void collect(struct fixture *f)
{
	const struct event_filter filter = { .since = f->seen, .limit = SIZE_MAX };

	events_tick(f->events, mono_now());
	event_log_each(events_log(f->events), &filter, on_event, f);
}

static void expect(struct fixture *f, unsigned execs, unsigned exits)
{
	collect(f);
	if (f->execs != execs || f->exits != exits)
		fail_msg("%u execs and %u exits, not %u and %u", f->execs, f->exits, execs, exits);
	f->execs = f->exits = 0;
}

/* Runs body in a child; the status that wait() has is also what the event must have. */
static int run(struct fixture *f, void (*body)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	collect(f);
	assert_int_equal(f->last_exit.pid, pid);
	assert_int_equal(f->last_exit.code, status);
	return status;
}

static char self[4096]; /* our own file: /proc/self/exe is gone with the leader */

static void exec_self(const char *mode)
{
	execl(self, "test_process", mode, (char *)NULL);
	_exit(126);
}

static void body_exec_threads(void) { exec_self("threads"); }
static void body_exec_leader(void) { exec_self("leader"); }
static void body_exec_race(void) { exec_self("race"); }
static void body_exec_in_thread(void) { exec_self("exec-in-thread"); }
static void body_exec_orphan(void) { exec_self("exec-after-leader"); }
static void body_exec_link(void) { execl("/proc/self/exe", "test_process", "exit", (char *)NULL); }
static void body_exit_3(void) { _exit(3); }
static void body_nothing(void) { }

static void body_kill(void)
{
	kill(getpid(), SIGKILL);
	pause();
}

static void body_segfault(void)
{
	const struct rlimit none = { 0, 0 };

	setrlimit(RLIMIT_CORE, &none);
	signal(SIGSEGV, SIG_DFL);
	raise(SIGSEGV);
}

static void test_exit_status(void **state)
{
	struct fixture f;

	open_fixture(&f, (enum process_exit_mode)(uintptr_t)*state);
	assert_int_equal(run(&f, body_nothing), 0);
	assert_int_equal(run(&f, body_exit_3), 3 << 8);
	assert_int_equal(run(&f, body_kill), SIGKILL);
	assert_int_equal(run(&f, body_segfault) & 0x7f, SIGSEGV);
	expect(&f, 0, 4);
	close_fixture(&f);
}

static void test_threads(void **state)
{
	struct fixture f;

	open_fixture(&f, (enum process_exit_mode)(uintptr_t)*state);
	assert_int_equal(run(&f, body_exec_threads), 0);
	expect(&f, 1, 1);
	assert_int_equal(run(&f, body_exec_leader), 0);
	expect(&f, 1, 1);
	/* Two threads that leave at once can both believe to be the last. */
	for (int i = 0; i < 200; i++)
		assert_int_equal(run(&f, body_exec_race), 0);
	expect(&f, 200, 200);
	/* exec ends all other threads, and the calling one becomes the leader. */
	for (int i = 0; i < 20; i++)
		assert_int_equal(run(&f, body_exec_in_thread), 0);
	expect(&f, 40, 20);
	for (int i = 0; i < 20; i++)
		assert_int_equal(run(&f, body_exec_orphan), 0);
	expect(&f, 40, 20);
	close_fixture(&f);
}

static void body_fail(void)
{
	execl("/nonexistent/program", "x", (char *)NULL);
	execl("/etc/hostname", "x", (char *)NULL);
	execl("/proc/self/maps", "x", (char *)NULL);
	execl("/", "x", (char *)NULL);
}

/* In a directory of its own: a link to ourselves with a long name, a script, a program that is none. */
static char directory[] = "/tmp/netsonde-process-XXXXXX";
static const char long_name[] = "a-name-that-is-longer-than-what-an-event-has-room-for-and-ends-in-THE-TAIL";

static const char *in_directory(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static void body_long(void)
{
	execl(in_directory(long_name), "x", "exit", (char *)NULL);
	_exit(126);
}

static void body_script(void)
{
	execl(in_directory("script"), "x", (char *)NULL);
	_exit(126);
}

static void body_not_a_program(void)
{
	execl(in_directory("text"), "x", (char *)NULL);
}

static void put_file(const char *name, const char *text)
{
	int fd = open(in_directory(name), O_WRONLY | O_CREAT, 0755);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_exec_names(void **unused)
{
	char script[sizeof(self) + 16];
	uint64_t counts[PROCESS_COUNT_COUNT], missed;
	struct fixture f;

	open_fixture(&f, PROCESS_EXIT_BEST);
	assert_non_null(mkdtemp(directory));
	assert_int_equal(symlink(self, in_directory(long_name)), 0);
	snprintf(script, sizeof(script), "#!%s exit\n", self);
	put_file("script", script);
	put_file("text", "not a program\n");

	run(&f, body_exec_link);
	assert_string_equal(f.last_exec.text, "/proc/self/exe");
	assert_int_equal(f.last_exec.pid, f.last_exit.pid);
	expect(&f, 1, 1);
	run(&f, body_long);
	assert_int_equal(strlen(f.last_exec.text), sizeof(f.last_exec.text) - 1);
	assert_string_equal(f.last_exec.text, &long_name[strlen(long_name) - (sizeof(f.last_exec.text) - 1)]);
	assert_string_equal(f.last_exec.comm, "a-name-that-is-"); /* 15 characters, as the kernel keeps them */
	expect(&f, 1, 1);
	run(&f, body_script); /* one program, though the kernel looks at two files */
	assert_string_equal(f.last_exec.text, in_directory("script"));
	expect(&f, 1, 1);
	run(&f, body_fail);
	run(&f, body_not_a_program);
	expect(&f, 0, 2);

	process_program_read(f.program, counts, &missed);
	assert_true(counts[PROCESS_EXECS] - f.counts[PROCESS_EXECS] >= 3);
	assert_true(counts[PROCESS_EXITS] - f.counts[PROCESS_EXITS] >= 5);
	assert_int_equal(missed, 0);
	unlink(in_directory(long_name));
	unlink(in_directory("script"));
	unlink(in_directory("text"));
	rmdir(directory);
	close_fixture(&f);
}

/* Names of exactly the room that there is, and one less and more. */
static void test_exec_name_lengths(void **unused)
{
	struct fixture f;

	open_fixture(&f, PROCESS_EXIT_BEST);
	for (size_t len = 45; len <= 49; len++) {
		char path[64] = "/proc/self/exe";
		pid_t pid;
		size_t n = 0;

		/* "/" may be repeated, which makes any length. */
		while (n < len - strlen("proc/self/exe"))
			path[n++] = '/';
		strcpy(path + n, "proc/self/exe");
		pid = fork();
		if (!pid) {
			execl(path, "x", "exit", (char *)NULL);
			_exit(126);
		}
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		collect(&f);
		assert_string_equal(f.last_exec.text, path + (len > 47 ? len - 47 : 0));
	}
	expect(&f, 5, 5);
	close_fixture(&f);
}

static void test_features(void **unused)
{
	struct fixture f;

	open_fixture(&f, PROCESS_EXIT_BEST);
	assert_int_equal(f.features.n, 3);
	for (size_t i = 0; i < f.features.n; i++) {
		assert_true(f.features.items[i].enabled);
		assert_string_equal(f.features.items[i].mode, "tp_btf");
	}
	close_fixture(&f);
}

/* The programs that are started: modes of this binary. */

static pthread_barrier_t barrier;

static void *wait_and_return(void *unused)
{
	pthread_barrier_wait(&barrier);
	return NULL;
}

/* Spinning, so that both leave within nanoseconds of each other, if there are two CPUs. */
static int here;

static void *spin_and_exit(void *unused)
{
	__atomic_add_fetch(&here, 1, __ATOMIC_SEQ_CST);
	for (long i = 0; __atomic_load_n(&here, __ATOMIC_SEQ_CST) < 2 && i < 1000000000; i++)
		;
	/* Not by way of pthread_exit, whose bookkeeping takes longer than what we want to hit. */
	syscall(SYS_exit, 0);
	return NULL;
}

static void *exec_exit(void *wait_for_leader)
{
	if (wait_for_leader)
		pthread_join(*(pthread_t *)wait_for_leader, NULL);
	exec_self("exit");
	return NULL;
}

static int child(const char *mode)
{
	static pthread_t threads[THREADS], leader;

	leader = pthread_self();
	if (!strcmp(mode, "exit"))
		return 0;
	if (!strcmp(mode, "exec-in-thread") || !strcmp(mode, "exec-after-leader")) {
		bool after = !strcmp(mode, "exec-after-leader");

		if (pthread_create(&threads[0], NULL, exec_exit, after ? &leader : NULL))
			return 125;
		if (after)
			pthread_exit(NULL);
		for (;;)
			pause();
	}
	if (!strcmp(mode, "race")) {
		if (pthread_create(&threads[0], NULL, spin_and_exit, NULL))
			return 125;
		spin_and_exit(NULL);
	}
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, wait_and_return, NULL))
			return 125;
	if (!strcmp(mode, "leader")) { /* leaves long before its threads */
		if (pthread_create(&threads[0], NULL, wait_and_return, NULL))
			return 125;
		pthread_detach(threads[0]);
		pthread_exit(NULL);
	}
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

int main(int argc, char **argv)
{
	void *by_count = (void *)(uintptr_t)PROCESS_EXIT_BY_COUNT;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_exec_names),
		cmocka_unit_test(test_exec_name_lengths),
		cmocka_unit_test_prestate(test_exit_status, NULL),
		cmocka_unit_test_prestate(test_threads, NULL),
		{ "test_exit_status_by_count", test_exit_status, NULL, NULL, by_count },
		{ "test_threads_by_count", test_threads, NULL, NULL, by_count },
	};

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) {
		perror("/proc/self/exe");
		return 1;
	}
	if (argc > 1) {
		alarm(30); /* nothing that goes wrong here may stay behind */
		return child(argv[1]);
	}
	/* In a build with sanitizers: looking for leaks is a process of its own, which our children shall not have. */
	setenv("LSAN_OPTIONS", "detect_leaks=0", 1);
	if (!geteuid() && unshare(CLONE_NEWNET)) {
		perror("unshare");
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
