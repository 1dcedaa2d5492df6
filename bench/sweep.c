/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one look at all sockets costs: the agent's sweep beside `ss -tin` and `cat /proc/net/tcp` over the same sockets
 * in the same rounds, from none to 200,000; then 10,000 sockets that all carried a byte since the sweep before, beside
 * the same sockets idle; then no socket at all beside 60,000 in TIME_WAIT, which the sweep must not see.
 *
 * Once with the three in turns and once with each right after itself. The sweep's figure is wall time: in a virtual
 * machine the kernel takes stolen time off the CPU time of whoever runs when it notices, and a sweep is short enough to
 * lose half of its own that way. The commands' is CPU time, which favours them where the machine is busy; it includes
 * starting and ending the process, as whoever polls with them pays it. The kernel's BPF statistics are not used here:
 * they would add to every socket.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define ROUNDS 15
#define ROUNDS_OF_MANY 7 /* from 100,000 sockets on: a second and more for each `ss` */
#define PER_HOLDER 9000  /* connections; a process gets 20,000 descriptors in some containers */
#define HOLDERS_MAX 64
#define TIME_WAITS 60000

static const char *const ss[] = { "ss", "-tin", NULL }; /* -n: no look-up of port names, the cheapest way to call it */
static const char *const proc[] = { "cat", "/proc/net/tcp", NULL };

struct crowd {
	struct holder holders[HOLDERS_MAX];
	int n, sockets;
};

static void crowd_grow(struct crowd *crowd, int sockets)
{
	while (crowd->sockets < sockets) {
		int connections = (sockets - crowd->sockets) / 2;

		if (connections > PER_HOLDER)
			connections = PER_HOLDER;
		holder_start(&crowd->holders[crowd->n], (unsigned)crowd->n, connections);
		crowd->n++;
		crowd->sockets += 2 * connections;
	}
}

static void crowd_exchange(struct crowd *crowd)
{
	for (int i = 0; i < crowd->n; i++)
		holder_exchange(&crowd->holders[i]);
}

static void crowd_end(struct crowd *crowd)
{
	for (int i = 0; i < crowd->n; i++)
		holder_end(&crowd->holders[i]);
	*crowd = (struct crowd){ 0 };
}

static double sweep_us(struct subject *subject)
{
	mono_time start = mono_now();

	subject_sweep(subject);
	return (double)mono_since_ns(mono_now(), start) / 1e3;
}

static void settle(struct subject *subject)
{
	for (int i = 0; i < 3; i++)
		subject_sweep(subject);
}

static double command_us(const char *const *command)
{
	return (double)bench_cpu_of_command_ns(command) / 1e3;
}

struct size_results {
	double sweep[ROUNDS], per_socket[ROUNDS]; /* us, ns */
	double ss[ROUNDS], proc[ROUNDS];          /* us */
	double by_ss[ROUNDS], by_proc[ROUNDS];    /* times the sweep */
};

static void report_size(struct bench *bench, struct size_results *r, int sockets, const char *how, int n)
{
	char what[80];

	for (int i = 0; i < n; i++) {
		r->by_ss[i] = r->ss[i] / r->sweep[i];
		r->by_proc[i] = r->proc[i] / r->sweep[i];
		r->per_socket[i] = sockets ? r->sweep[i] * 1e3 / sockets : 0;
	}
	snprintf(what, sizeof(what), "%d sockets, idle, %s", sockets, how);
	bench_heading(what);
	bench_report(bench, "  sweep", "us", r->sweep, (size_t)n);
	if (sockets)
		bench_report(bench, "  sweep, per socket", "ns", r->per_socket, (size_t)n);
	bench_report(bench, "  ss -tin", "us", r->ss, (size_t)n);
	bench_report(bench, "  cat /proc/net/tcp", "us", r->proc, (size_t)n);
	bench_report(bench, "  ss beside the sweep", "times", r->by_ss, (size_t)n);
	bench_report(bench, "  /proc/net/tcp beside the sweep", "times", r->by_proc, (size_t)n);
}

/* Each right after itself finds in the caches what it left there; in turns, and at a tick of a second, nobody does. */
static void measure_size(struct bench *bench, struct subject *subject, int sockets)
{
	int n = sockets < 100000 ? ROUNDS : ROUNDS_OF_MANY;
	struct size_results results;

	settle(subject);
	for (int i = 0; i < n; i++) {
		results.sweep[i] = sweep_us(subject);
		results.ss[i] = command_us(ss);
		results.proc[i] = command_us(proc);
	}
	report_size(bench, &results, sockets, "in turns", n);
	for (int i = 0; i < n; i++)
		results.ss[i] = command_us(ss);
	for (int i = 0; i < n; i++)
		results.proc[i] = command_us(proc);
	settle(subject);
	for (int i = 0; i < n; i++)
		results.sweep[i] = sweep_us(subject);
	report_size(bench, &results, sockets, "each after itself", n);
}

static void measure_active(struct bench *bench, struct subject *subject, struct crowd *crowd)
{
	double active[ROUNDS], idle[ROUNDS], ratio[ROUNDS];

	for (int i = 0; i < ROUNDS; i++) {
		double swept;

		crowd_exchange(crowd);
		active[i] = sweep_us(subject);
		swept = (double)subject_swept(subject);
		settle(subject); /* the next looks still find what the first one held back */
		idle[i] = sweep_us(subject);
		ratio[i] = active[i] / idle[i];
		active[i] *= 1e3 / swept;
		idle[i] *= 1e3 / swept;
	}
	bench_heading("10,000 sockets, a byte sent on each since the sweep before");
	bench_report(bench, "  sweep, per socket, all active", "ns", active, ROUNDS);
	bench_report(bench, "  sweep, per socket, all idle, same rounds", "ns", idle, ROUNDS);
	bench_report(bench, "  active beside idle", "times", ratio, ROUNDS);
}

static int count_time_wait(void)
{
	char line[256];
	int count = -1;
	FILE *f = fopen("/proc/thread-self/net/sockstat", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "TCP: inuse %*d orphan %*d tw %d", &count) == 1)
			break;
	if (f)
		fclose(f);
	return count;
}

static void measure_time_wait(struct bench *bench, struct subject *subject)
{
	double sweep[ROUNDS];
	char what[80];

	for (unsigned net = 0; net < 3; net++) {
		struct sockaddr_in address;
		int listener = bench_listen(200 + net, 1, &address);

		bench_live_and_die(listener, &address, TIME_WAITS / 3);
		close(listener);
	}
	settle(subject);
	for (int i = 0; i < ROUNDS; i++)
		sweep[i] = sweep_us(subject);
	snprintf(what, sizeof(what), "%d sockets in TIME_WAIT, no other", count_time_wait());
	bench_heading(what);
	bench_report(bench, "  sweep", "us", sweep, ROUNDS);
}

int main(int argc, char **argv)
{
	static const int sizes[] = { 0, 1000, 10000, 50000, 100000, 200000 };
	struct crowd crowd = { 0 };
	struct subject subject;
	struct bench bench;

	bench_open(&bench, "sweep", argc, argv);
	subject_open(&subject);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		crowd_grow(&crowd, sizes[i]);
		measure_size(&bench, &subject, sizes[i]);
		if (sizes[i] == 10000)
			measure_active(&bench, &subject, &crowd);
	}
	crowd_end(&crowd);
	measure_time_wait(&bench, &subject);
	subject_close(&subject);
	bench_close(&bench);
	return 0;
}
