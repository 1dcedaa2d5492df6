/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections per second of CPU time, both ends on loopback in a network namespace of its own, with whatever is attached
 * at the moment: bench/overhead.py runs it with and without an agent.
 */
#include <unistd.h>

#include "bench.h"

#define ROUNDS 7
#define CONNECTIONS 4000

int main(int argc, char **argv)
{
	double rates[ROUNDS];
	struct bench bench;

	bench_open(&bench, "connect_rate", argc, argv);
	for (unsigned i = 0; i < ROUNDS; i++) {
		struct sockaddr_in address; /* another one in each round: the ports of the one before are in TIME_WAIT */
		int listener = bench_listen(1 + i, 1, &address);
		uint64_t start = bench_cpu_ns();

		bench_live_and_die(listener, &address, CONNECTIONS);
		rates[i] = CONNECTIONS * 1e9 / (double)(bench_cpu_ns() - start);
		close(listener);
	}
	bench_report(&bench, "connections", "per CPU second", rates, ROUNDS);
	bench_close(&bench);
	return 0;
}
