/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lookup programs in the running kernel. This binary starts itself with a copy
 * of the C library, so that the probes in that copy see nobody else, in namespaces
 * with a resolver configuration of its own and a name server that answers by the
 * name's first label. The truth is what the application got from each call and
 * the time it measured around it. Needs root; skipped with that reason otherwise.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
/* after the above: */
#include <cmocka.h>

#include "agent/libc_files.h"
#include "agent/lookup_program.h"

#define SLOW_MS 60
#define THREADS 8
#define THREAD_CALLS 50

static char directory[] = "/tmp/netsonde-lookup-XXXXXX";

static const char *in_directory(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

/* The name server: one datagram after the other. */

static size_t answer(const uint8_t *query, size_t len, uint8_t *reply)
{
	const char *name = (const char *)query + 13;
	size_t question = 12;
	uint8_t code = 0, *at;
	bool data;

	while (question < len && query[question])
		question += query[question] + 1u;
	question += 5;
	if (len < 17 || question > len || !strncmp(name, "silent", 6))
		return 0;
	if (!strncmp(name, "slow", 4))
		nanosleep(&(struct timespec){ 0, SLOW_MS * 1000000 }, NULL);
	if (!strncmp(name, "nx", 2))
		code = 3;
	else if (!strncmp(name, "servfail", 8))
		code = 2;
	else if (!strncmp(name, "formerr", 7))
		code = 1;
	data = !code && strncmp(name, "empty", 5) && query[question - 3] == 1; /* A only */
	memcpy(reply, query, question);
	memcpy(reply + 2, (uint8_t[]){ 0x81, (uint8_t)(0x80 | code), 0, 1, 0, data, 0, 0, 0, 0 }, 10);
	at = reply + question;
	if (data)
		at = mempcpy(at, (uint8_t[]){ 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 1 }, 16);
	return (size_t)(at - reply);
}

static void serve(int fd)
{
	for (;;) {
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);
		uint8_t query[600] = { 0 }, reply[700];
		ssize_t n = recvfrom(fd, query, 512, 0, (struct sockaddr *)&from, &from_len);
		size_t len = n > 0 ? answer(query, (size_t)n, reply) : 0;

		if (len)
			sendto(fd, reply, len, 0, (struct sockaddr *)&from, from_len);
	}
}

static pid_t start_server(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	pid_t pid;

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(fd);
	}
	close(fd);
	return pid;
}

/* The application. */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static enum lookup_outcome outcome_of(const struct hostent *found, int error)
{
	if (found)
		return LOOKUP_SUCCESS;
	if (error == HOST_NOT_FOUND || error == NO_DATA)
		return LOOKUP_NOT_FOUND;
	return error == TRY_AGAIN ? LOOKUP_TRY_AGAIN : LOOKUP_FAILED;
}

static enum lookup_outcome call_getaddrinfo(const char *name, int family)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM }, *list;
	int r = getaddrinfo(name, "80", &hints, &list);

	if (!r)
		freeaddrinfo(list);
	if (!r)
		return LOOKUP_SUCCESS;
	if (r == EAI_NONAME || r == EAI_NODATA || r == EAI_ADDRFAMILY)
		return LOOKUP_NOT_FOUND;
	return r == EAI_AGAIN ? LOOKUP_TRY_AGAIN : LOOKUP_FAILED;
}

static enum lookup_outcome call(const char *function, const char *name)
{
	struct hostent entry, *found = NULL;
	char memory[4096];
	int error = 0;

	if (!strcmp(function, "getaddrinfo"))
		return call_getaddrinfo(name, AF_INET);
	if (!strcmp(function, "gethostbyname"))
		found = gethostbyname(name);
	else if (!strcmp(function, "gethostbyname2"))
		found = gethostbyname2(name, AF_INET);
	else if (!strcmp(function, "gethostbyname_r"))
		gethostbyname_r(name, &entry, memory, sizeof(memory), &found, &error);
	else
		gethostbyname2_r(name, AF_INET, &entry, memory, sizeof(memory), &found, &error);
	return outcome_of(found, strstr(function, "_r") ? error : h_errno);
}

/* Each call is a line: its outcome and how long it took. */
static int mode_calls(char **names)
{
	static const char *const functions[] = {
		"getaddrinfo", "gethostbyname", "gethostbyname2", "gethostbyname_r", "gethostbyname2_r",
	};

	for (; *names; names++)
		for (size_t i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
			uint64_t start = now_ns();
			enum lookup_outcome outcome = call(functions[i], *names);

			printf("%d %llu\n", outcome, (unsigned long long)(now_ns() - start));
		}
	return 0;
}

static int mode_no_lookups(void)
{
	static const char *const addresses[] = { "192.0.2.1", "127.1", "::1", "2001:db8::1", "fe80::1%lo", "255.255.255.255" };
	struct addrinfo passive = { .ai_flags = AI_PASSIVE }, numeric = { .ai_flags = AI_NUMERICHOST }, *list;

	if (getaddrinfo(NULL, "80", &passive, &list))
		return 1;
	freeaddrinfo(list);
	if (getaddrinfo("ok.test", NULL, &numeric, &list) != EAI_NONAME)
		return 2;
	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
		if (getaddrinfo(addresses[i], NULL, NULL, &list))
			return 3;
		freeaddrinfo(list);
	}
	return gethostbyname("192.0.2.1") ? 0 : 4;
}

/* The first call asks for more memory, which is no lookup of its own. */
static int mode_small_buffer(void)
{
	struct hostent entry, *found;
	char memory[1024];
	int error;

	if (gethostbyname_r("ok.test", &entry, memory, 8, &found, &error) != ERANGE)
		return 1;
	return gethostbyname_r("ok.test", &entry, memory, sizeof(memory), &found, &error) || !found;
}

static sigjmp_buf out;

static void on_alarm(int signal_number)
{
	siglongjmp(out, 1);
}

/* As programs do that have no other way to limit the time of a lookup. */
static int mode_jump_out(void)
{
	signal(SIGALRM, on_alarm);
	if (!sigsetjmp(out, 1)) {
		ualarm(100000, 0);
		call_getaddrinfo("silent.test", AF_INET);
		return 1;
	}
	for (int i = 0; i < 3; i++)
		if (call_getaddrinfo("ok.test", AF_INET) != LOOKUP_SUCCESS)
			return 2;
	return 0;
}

static void *many_calls(void *unused)
{
	for (int i = 0; i < THREAD_CALLS; i++)
		if (call("gethostbyname_r", "known") != LOOKUP_SUCCESS)
			abort();
	return NULL;
}

static int mode_threads(void)
{
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, many_calls, NULL))
			return 1;
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}

static int mode_stuck(void)
{
	puts("calling");
	fflush(stdout);
	call_getaddrinfo("silent.test", AF_INET);
	return 1;
}

static int application(char **argv)
{
	alarm(30);
	if (!strcmp(argv[0], "calls"))
		return mode_calls(argv + 1);
	if (!strcmp(argv[0], "no-lookups"))
		return mode_no_lookups();
	if (!strcmp(argv[0], "small-buffer"))
		return mode_small_buffer();
	if (!strcmp(argv[0], "jump-out"))
		return mode_jump_out();
	if (!strcmp(argv[0], "threads"))
		return mode_threads();
	return mode_stuck();
}

/* The tests. */

struct fixture {
	struct lookup_program *program;
	uint64_t counts[LOOKUP_OUTCOME_COUNT];
	uint64_t sums_ns[LOOKUP_OUTCOME_COUNT];
	uint64_t lost[LOOKUP_LOST_COUNT];
};

static int open_library(void)
{
	int fd = open(in_directory("libc.so.6"), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void open_fixture(struct fixture *f, enum lookup_probes probes)
{
	struct error error = { "" };
	int fd, r;

	if (geteuid()) {
		print_message("skipped: loading BPF programs needs root\n");
		skip();
	}
	memset(f, 0, sizeof(*f));
	if (lookup_program_open(probes, 0, &f->program, &error))
		fail_msg("%s", error.text);
	fd = open_library();
	r = lookup_program_add(f->program, fd);
	close(fd);
	if (r == -EINVAL && probes == LOOKUP_PROBES_MULTI) { /* before Linux 6.6: the other way */
		lookup_program_close(f->program);
		open_fixture(f, LOOKUP_PROBES_EVENTS);
		return;
	}
	assert_int_equal(r, LOOKUP_FUNCTION_COUNT);
}

static void read_counts(struct fixture *f)
{
	const struct lookup_hist *hists = lookup_program_hists(f->program);
	uint64_t missed;

	for (size_t i = 0; i < LOOKUP_OUTCOME_COUNT; i++) {
		f->counts[i] = 0;
		for (size_t b = 0; b < HIST_BUCKETS; b++)
			f->counts[i] += hists[i].buckets[b];
		f->sums_ns[i] = hists[i].sum_ns;
	}
	lookup_program_lost(f->program, f->lost, &missed);
	assert_int_equal(missed, 0);
	assert_int_equal(f->lost[LOOKUP_LOST_RECORD], 0);
}

static void close_fixture(struct fixture *f)
{
	lookup_program_close(f->program);
}

static pid_t start(const char *const argv[], FILE **ret_output)
{
	int ends[2];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("LD_LIBRARY_PATH", directory, 1);
		dup2(ends[1], STDOUT_FILENO);
		execv("/proc/self/exe", (char *const *)(uintptr_t)argv);
		_exit(126);
	}
	close(ends[1]);
	*ret_output = fdopen(ends[0], "r");
	return pid;
}

static void run(const char *const argv[])
{
	FILE *output;
	pid_t pid = start(argv, &output);
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	fclose(output);
}

static void expect(struct fixture *f, uint64_t success, uint64_t not_found, uint64_t try_again, uint64_t failed)
{
	read_counts(f);
	if (f->counts[LOOKUP_SUCCESS] != success || f->counts[LOOKUP_NOT_FOUND] != not_found ||
	    f->counts[LOOKUP_TRY_AGAIN] != try_again || f->counts[LOOKUP_FAILED] != failed)
		fail_msg("success %llu, not found %llu, try again %llu, failed %llu", (unsigned long long)f->counts[LOOKUP_SUCCESS],
			 (unsigned long long)f->counts[LOOKUP_NOT_FOUND], (unsigned long long)f->counts[LOOKUP_TRY_AGAIN],
			 (unsigned long long)f->counts[LOOKUP_FAILED]);
}

/* Five functions and each kind of answer: what the application saw is what was counted, in number and in time. */
static void test_outcomes(void **state)
{
	enum lookup_probes probes = (enum lookup_probes)(uintptr_t)*state;
	/* The last one takes five seconds, so once is enough. */
	const char *const argv[] = { "x", "calls", "ok.test", "nx.test", "empty.test", "servfail.test", "formerr.test", "slow.test",
				     "known", "3com.test", "12345678901234567.test",
				     probes == LOOKUP_PROBES_MULTI ? "silent.test" : NULL, NULL };
	uint64_t counts[LOOKUP_OUTCOME_COUNT] = { 0 }, sums_ns[LOOKUP_OUTCOME_COUNT] = { 0 };
	const unsigned n_names = probes == LOOKUP_PROBES_MULTI ? 10 : 9;
	unsigned outcome, n = 0, slow = 0, slowish = 0, long_ones = 0;
	unsigned long long ns;
	struct fixture f;
	FILE *output;
	int status;
	pid_t pid;

	open_fixture(&f, probes);
	pid = start(argv, &output);
	while (fscanf(output, "%u %llu", &outcome, &ns) == 2) {
		counts[outcome]++;
		sums_ns[outcome] += ns;
		slow += ns >= SLOW_MS * 1000000 && outcome == LOOKUP_SUCCESS;
		slowish += ns > 1000000000 / 32 && outcome == LOOKUP_SUCCESS;
		n++;
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(n, n_names * LOOKUP_FUNCTION_COUNT);
	/* It is a real variety. */
	assert_true(counts[LOOKUP_SUCCESS] == 25 && counts[LOOKUP_NOT_FOUND] >= 10 && counts[LOOKUP_TRY_AGAIN] >= 5 && counts[LOOKUP_FAILED] >= 4);
	expect(&f, counts[0], counts[1], counts[2], counts[3]);
	for (size_t i = 0; i < LOOKUP_OUTCOME_COUNT; i++) {
		/* Within what the application measured, but for the way through its own code and that of the probes. */
		assert_true(f.sums_ns[i] <= sums_ns[i]);
		assert_true(f.sums_ns[i] + counts[i] * 2000000 >= sums_ns[i]);
	}
	for (size_t b = 121; b < HIST_BUCKETS; b++) /* above 2^-5 s */
		long_ones += (unsigned)lookup_program_hists(f.program)[LOOKUP_SUCCESS].buckets[b];
	assert_true(slow >= LOOKUP_FUNCTION_COUNT && slow <= long_ones && long_ones <= slowish);
	assert_int_equal(f.lost[LOOKUP_LOST_ABANDONED], 0);
	fclose(output);
	close_fixture(&f);
}

static void test_no_lookups(void **unused)
{
	const char *const argv[] = { "x", "no-lookups", NULL };
	struct fixture f;

	open_fixture(&f, LOOKUP_PROBES_MULTI);
	run(argv);
	expect(&f, 0, 0, 0, 0);
	close_fixture(&f);
}

static void test_small_buffer(void **unused)
{
	const char *const argv[] = { "x", "small-buffer", NULL };
	struct fixture f;

	open_fixture(&f, LOOKUP_PROBES_MULTI);
	run(argv);
	expect(&f, 1, 0, 0, 0);
	close_fixture(&f);
}

static void test_jump_out(void **unused)
{
	const char *const argv[] = { "x", "jump-out", NULL };
	struct fixture f;

	open_fixture(&f, LOOKUP_PROBES_MULTI);
	run(argv);
	expect(&f, 3, 0, 0, 0);
	assert_int_equal(f.lost[LOOKUP_LOST_ABANDONED], 1);
	close_fixture(&f);
}

static void test_killed_inside(void **unused)
{
	const char *const stuck[] = { "x", "stuck", NULL }, *const threads[] = { "x", "threads", NULL };
	char line[32];
	struct fixture f;
	FILE *output;
	int status;
	pid_t pid;

	open_fixture(&f, LOOKUP_PROBES_MULTI);
	pid = start(stuck, &output);
	assert_non_null(fgets(line, sizeof(line), output));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	fclose(output);
	expect(&f, 0, 0, 0, 0);
	run(threads);
	expect(&f, THREADS * THREAD_CALLS, 0, 0, 0);
	close_fixture(&f);
}

static void test_probed_twice(void **unused)
{
	const char *const argv[] = { "x", "calls", "known", "nx.test", NULL };
	struct fixture f;
	int fd;

	open_fixture(&f, LOOKUP_PROBES_MULTI);
	fd = open_library();
	assert_int_equal(lookup_program_add(f.program, fd), LOOKUP_FUNCTION_COUNT);
	close(fd);
	run(argv);
	expect(&f, LOOKUP_FUNCTION_COUNT, LOOKUP_FUNCTION_COUNT, 0, 0);
	assert_int_equal(f.lost[LOOKUP_LOST_ABANDONED], 0);
	close_fixture(&f);
}

/* The trial that keeps us from killing other people's processes, with our own library. */
static void test_try(void **state)
{
	struct error error = { "" };
	struct libc_files files;
	struct fixture f;
	int pipe_ends[2];

	open_fixture(&f, (enum lookup_probes)(uintptr_t)*state);
	assert_int_equal(libc_files_find(1, &files), 0);
	assert_int_equal(files.n, 1);
	if (lookup_program_try(f.program, files.fds[0], &error))
		fail_msg("%s", error.text);
	expect(&f, 0, 0, 0, 0);
	assert_int_equal(pipe(pipe_ends), 0);
	assert_int_equal(lookup_program_try(f.program, pipe_ends[0], &error), -ENOENT);
	assert_true(lookup_program_add(f.program, pipe_ends[0]) < 0);
	close(pipe_ends[0]);
	close(pipe_ends[1]);
	libc_files_done(&files);
	close_fixture(&f);
}

/* Somebody has the right to hold up whoever opens his file (a lease, fcntl(2)), which is called like a C library. */
static void test_find_waits_for_nobody(void **unused)
{
	uint64_t start;
	struct libc_files files;
	int ends[2];
	pid_t pid;
	char byte;

	if (geteuid())
		skip();
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		int fd = open_library();

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGIO, SIG_IGN);
		/* In the place of our own library, which this process has mapped too, and which would be the one that is found. */
		if (mmap((void *)0x10000000, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0) == MAP_FAILED ||
		    fcntl(fd, F_SETLEASE, F_WRLCK) || write(ends[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	start = now_ns();
	assert_int_equal(libc_files_find(64, &files), 0);
	assert_true(now_ns() - start < 10000000000); /* a lease is taken away after 45 s (/proc/sys/fs/lease-break-time) */
	assert_true(files.left_out >= 1);
	libc_files_done(&files);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Where the tests happen. */

static int put_over(const char *path, const char *text)
{
	const char *own = in_directory(strrchr(path, '/') + 1);
	FILE *file = fopen(own, "w");

	if (!file)
		return -errno;
	fputs(text, file);
	fclose(file);
	return mount(own, path, NULL, MS_BIND, NULL) ? -errno : 0;
}

static int copy_own_library(void)
{
	struct libc_files files;
	struct stat s;
	int to, r;

	if (libc_files_find(1, &files) || !files.n)
		return -ENOENT;
	to = open(in_directory("libc.so.6"), O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	r = to < 0 || fstat(files.fds[0], &s) || sendfile(to, files.fds[0], NULL, (size_t)s.st_size) != s.st_size ? -EIO : 0;
	close(to);
	libc_files_done(&files);
	return r;
}

static int loopback_up(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = ioctl(fd, SIOCSIFFLAGS, &request) ? -errno : 0;

	close(fd);
	return r;
}

static pid_t server;

static int set_up(void **unused)
{
	if (geteuid())
		return 0;
	if (!mkdtemp(directory) || unshare(CLONE_NEWNET | CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    loopback_up() || put_over("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") ||
	    put_over("/etc/hosts", "127.0.0.1 localhost\n192.0.2.7 known\n") || put_over("/etc/nsswitch.conf", "hosts: files dns\n") ||
	    copy_own_library())
		return -1;
	server = start_server();
	return server > 0 ? 0 : -1;
}

static int tear_down(void **unused)
{
	static const char *const names[] = { "resolv.conf", "hosts", "nsswitch.conf" };

	if (geteuid())
		return 0;
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[64];

		snprintf(path, sizeof(path), "/etc/%s", names[i]);
		umount(path);
		unlink(in_directory(names[i]));
	}
	unlink(in_directory("libc.so.6"));
	rmdir(directory);
	return 0;
}

int main(int argc, char **argv)
{
	void *events = (void *)(uintptr_t)LOOKUP_PROBES_EVENTS;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_try, NULL),
		cmocka_unit_test_prestate(test_outcomes, NULL),
		cmocka_unit_test(test_no_lookups),
		cmocka_unit_test(test_small_buffer),
		cmocka_unit_test(test_jump_out),
		cmocka_unit_test(test_killed_inside),
		cmocka_unit_test(test_probed_twice),
		cmocka_unit_test(test_find_waits_for_nobody),
		{ "test_try_events", test_try, NULL, NULL, events },
		{ "test_outcomes_events", test_outcomes, NULL, NULL, events },
	};

	if (argc > 1)
		return application(argv + 1);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
