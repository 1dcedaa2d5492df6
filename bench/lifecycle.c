/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What following a connection from its first to its last state costs:
 *   - ns per state change, by the kernel's own BPF statistics, beside an empty program on the same tracepoint in the
 *     same rounds. The statistics are part of each figure, so the difference is the cost of our programs; what the
 *     kernel does to call one more program (a few ns) is in none of them, but in the rate below.
 *   - connections per second of CPU time with and without the programs attached, in alternating rounds.
 * Every round has an address of its own, so that no round meets the ports that an earlier one left in TIME_WAIT.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "bench.h"
#include "empty.skel.h"

#define ROUNDS 15
#define CONNECTIONS 4000
#define RATE_ROUNDS 15

struct run_stats { uint64_t runs, ns; };

static struct run_stats stats_of(int fd)
{
	struct run_stats s = { 0, 0 };

	if (!kbpf_run_stats(fd, &s.runs, &s.ns))
		s.runs = s.ns = 0; /* has not run yet */
	return s;
}

static double ns_per_run(struct run_stats before, struct run_stats after)
{
	return after.runs == before.runs ? 0 : (double)(after.ns - before.ns) / (double)(after.runs - before.runs);
}

static void one_round(unsigned net, int connections)
{
	struct sockaddr_in address;
	int listener = bench_listen(net, 1, &address);

	bench_live_and_die(listener, &address, connections);
	close(listener);
}

/* Of one program in every round. */
struct series { int fd; struct run_stats before; double ns[ROUNDS]; };

static void series_begin(struct series *s)
{
	s->before = stats_of(s->fd);
}

static uint64_t series_end(struct series *s, int round)
{
	struct run_stats after = stats_of(s->fd);

	s->ns[round] = ns_per_run(s->before, after);
	return after.runs - s->before.runs;
}

static void measure_state_changes(struct bench *bench)
{
	double above[ROUNDS], events[ROUNDS], connection[ROUNDS];
	struct empty_bpf *empty = empty_bpf__open_and_load();
	int stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	struct series nothing, first, again;
	struct subject subject;

	if (!empty || empty_bpf__attach(empty))
		bench_die("the empty program");
	if (stats_fd < 0)
		bench_die("the kernel's BPF statistics");
	subject_open(&subject);
	nothing.fd = bpf_program__fd(empty->progs.empty);
	first.fd = subject_program_fd(&subject, "tcp_state");
	again.fd = subject_program_fd(&subject, "tcp_state_again");
	one_round(1, CONNECTIONS / 4); /* warm up */
	for (int i = 0; i < ROUNDS; i++) {
		series_begin(&nothing);
		series_begin(&first);
		series_begin(&again);
		one_round((unsigned)(2 + i), CONNECTIONS);
		series_end(&nothing, i);
		series_end(&again, i);
		events[i] = (double)series_end(&first, i) / CONNECTIONS;
		above[i] = first.ns[i] + again.ns[i] - 2 * nothing.ns[i];
		connection[i] = above[i] * events[i];
		subject_sweep(&subject);
	}
	bench_heading("life cycle");
	bench_report(bench, "state changes per connection, both ends", "", events, ROUNDS);
	bench_report(bench, "state change: empty program", "ns", nothing.ns, ROUNDS);
	bench_report(bench, "state change: tcp_state", "ns", first.ns, ROUNDS);
	bench_report(bench, "state change: tcp_state_again", "ns", again.ns, ROUNDS);
	bench_report(bench, "state change: both, each above the empty program", "ns", above, ROUNDS);
	bench_report(bench, "whole connection, both ends, above the empty program", "ns", connection, ROUNDS);
	subject_close(&subject);
	empty_bpf__destroy(empty);
	close(stats_fd);
}

static double rate_of_round(unsigned net)
{
	uint64_t start = bench_cpu_ns();

	one_round(net, CONNECTIONS);
	return CONNECTIONS * 1e9 / (double)(bench_cpu_ns() - start);
}

static void measure_rate(struct bench *bench)
{
	double with[RATE_ROUNDS], without[RATE_ROUNDS], ratio[RATE_ROUNDS];
	struct subject subject;

	for (int i = 0; i < RATE_ROUNDS; i++) {
		bool with_first = i & 1;
		unsigned net = (unsigned)(100 + 2 * i);

		if (!with_first)
			without[i] = rate_of_round(net);
		subject_open(&subject);
		with[i] = rate_of_round(net + 1);
		subject_close(&subject);
		if (with_first)
			without[i] = rate_of_round(net);
		ratio[i] = with[i] / without[i];
	}
	bench_report(bench, "connections, nothing attached", "per CPU second", without, RATE_ROUNDS);
	bench_report(bench, "connections, the TCP programs attached", "per CPU second", with, RATE_ROUNDS);
	bench_report(bench, "  attached beside nothing attached, same pair of rounds", "ratio", ratio, RATE_ROUNDS);
}

int main(int argc, char **argv)
{
	struct bench bench;

	bench_open(&bench, "lifecycle", argc, argv);
	measure_state_changes(&bench);
	measure_rate(&bench); /* after the statistics are off again: they are global and would slow both */
	bench_close(&bench);
	return 0;
}
