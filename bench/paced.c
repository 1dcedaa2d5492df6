/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A steady load: paced RATE SECONDS makes RATE connections per second on loopback, in a network namespace of its own, for
 * SECONDS; each carries a request and an answer and is closed in order, the client first. They come in groups, one every
 * 2 ms; a group that is late is followed by the next at once, so that the rate holds as long as the machine can.
 *
 * The servers are at PEERS addresses in turn, so that no address runs out of ports while closed connections wait in
 * TIME_WAIT for a minute. Says how many per second it made, and the share of a core that they took.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"
#include "lib/clock.h"

#define GROUP_NS (2 * NS_PER_MS)
#define PEERS 50
#define NET 1

static void wait_until(uint64_t ns)
{
	struct timespec at = { .tv_sec = (time_t)(ns / NS_PER_SEC), .tv_nsec = (long)(ns % NS_PER_SEC) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec;
}

int main(int argc, char **argv)
{
	struct sockaddr_in addresses[PEERS];
	int listeners[PEERS];
	struct bench bench;
	uint64_t rate, groups, start, cpu, took, made = 0;

	bench_open(&bench, "paced", argc, argv);
	if (argc != 3 || atoll(argv[1]) <= 0 || atoll(argv[2]) <= 0) {
		fprintf(stderr, "usage: paced RATE SECONDS\n");
		return 2;
	}
	rate = (uint64_t)atoll(argv[1]);
	groups = (uint64_t)atoll(argv[2]) * NS_PER_SEC / GROUP_NS;
	for (unsigned i = 0; i < PEERS; i++)
		listeners[i] = bench_listen(NET, 1 + i, &addresses[i]);
	start = now_ns();
	cpu = bench_cpu_ns();
	for (uint64_t i = 1; i <= groups; i++) {
		uint64_t due = i * GROUP_NS * rate / NS_PER_SEC;

		wait_until(start + i * GROUP_NS);
		for (; made < due; made++)
			bench_live_and_die(listeners[made % PEERS], &addresses[made % PEERS], 1);
	}
	took = now_ns() - start;
	printf("%.1f %.4f\n", (double)made * NS_PER_SEC / (double)took, (double)(bench_cpu_ns() - cpu) / (double)took);
	return 0;
}
