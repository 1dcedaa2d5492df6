/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/kbpf.h"

void bench_die(const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void own_namespace(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	int fd;

	if (unshare(CLONE_NEWNET))
		bench_die("a network namespace of its own");
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request))
		bench_die("lo up");
	close(fd);
	/* Loopback takes ports in TIME_WAIT again after a second, which would make the count of those a matter of luck. */
	fd = open("/proc/sys/net/ipv4/tcp_tw_reuse", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		bench_die("tcp_tw_reuse");
	close(fd);
}

void bench_open(struct bench *bench, const char *name, int argc, char **argv)
{
	static const struct option options[] = { { "json", required_argument, NULL, 'j' }, { 0 } };
	int option;

	*bench = (struct bench){ .name = name, .rows = json_array() };
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option != 'j') {
			fprintf(stderr, "usage: %s [--json FILE]\n", name);
			exit(2);
		}
		bench->json_path = optarg;
	}
	if (geteuid()) {
		fprintf(stderr, "%s: loading BPF programs needs root\n", name);
		exit(1);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	own_namespace();
	kbpf_log_setup();
}

void bench_close(struct bench *bench)
{
	json_t *root = json_pack("{s:s, s:o}", "bench", bench->name, "rows", bench->rows);

	if (!root || (bench->json_path && json_dump_file(root, bench->json_path, JSON_INDENT(1))))
		bench_die(bench->json_path);
	json_decref(root);
}

void bench_heading(const char *text)
{
	printf("%-64s %10s %10s %10s\n", text, "median", "min", "max");
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

void bench_report(struct bench *bench, const char *what, const char *unit, double *values, size_t n)
{
	json_t *row;
	double median;
	int decimals;

	qsort(values, n, sizeof(*values), compare);
	median = values[n / 2];
	decimals = median >= 1000 ? 0 : median >= 10 ? 1 : 3;
	printf("%-64s %10.*f %10.*f %10.*f  %s\n", what, decimals, median, decimals, values[0], decimals, values[n - 1], unit);
	row = json_pack("{s:s, s:s, s:f, s:f, s:f, s:i}", "what", what, "unit", unit, "median", median,
			"min", values[0], "max", values[n - 1], "rounds", (int)n);
	if (json_array_append_new(bench->rows, row))
		bench_die("no memory for the results");
}

uint64_t bench_cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

static uint64_t timeval_ns(struct timeval t)
{
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_usec * NS_PER_US;
}

uint64_t bench_cpu_of_command_ns(const char *const *command)
{
	struct rusage usage;
	int status;
	pid_t pid = fork();

	if (pid < 0)
		bench_die("fork");
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, STDOUT_FILENO);
		execvp(command[0], (char *const *)command);
		bench_die(command[0]);
	}
	if (wait4(pid, &status, 0, &usage) != pid)
		bench_die("wait4");
	if (status) {
		fprintf(stderr, "bench: %s failed\n", command[0]);
		exit(1);
	}
	return timeval_ns(usage.ru_utime) + timeval_ns(usage.ru_stime);
}

int bench_listen(unsigned net, unsigned host, struct sockaddr_in *ret_address)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = host ? htonl(0x7f580000 | net << 8 | host) : htonl(INADDR_ANY);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&address, &len))
		bench_die("listen");
	*ret_address = address;
	return fd;
}

int bench_connect(const struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		bench_die("connect");
	return fd;
}

static void pass_byte(int from, int to)
{
	char byte = 0;

	if (write(from, &byte, 1) != 1 || read(to, &byte, 1) != 1)
		bench_die("a byte over a connection");
}

void bench_live_and_die(int listener, const struct sockaddr_in *address, int n)
{
	char byte;

	for (int i = 0; i < n; i++) {
		int a = bench_connect(address), b = accept(listener, NULL, NULL);

		if (b < 0)
			bench_die("accept");
		pass_byte(a, b);
		pass_byte(b, a);
		close(a);
		if (read(b, &byte, 1))
			bench_die("end of a connection");
		close(b);
	}
}
