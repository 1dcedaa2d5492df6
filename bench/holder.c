/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Established connections by the thousand. A process may have far fewer descriptors than a measurement needs sockets,
 * so child processes hold them; a pipe each way gives orders and waits for their end. They die with their parent.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define ADDRESSES 8 /* so that the peer table has rows to look up, and the ports of one address suffice */

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		bench_die("RLIMIT_NOFILE");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		bench_die("RLIMIT_NOFILE");
}

static void open_connections(unsigned net, int connections, int (*ret_ends)[2])
{
	struct linger abort_on_close = { 1, 0 };
	struct sockaddr_in address;
	int listener = bench_listen(net, 0, &address);

	for (int i = 0; i < connections; i++) {
		address.sin_addr.s_addr = htonl(0x7f580000 | net << 8 | (unsigned)(1 + i % ADDRESSES));
		ret_ends[i][0] = bench_connect(&address);
		ret_ends[i][1] = accept(listener, NULL, NULL);
		if (ret_ends[i][1] < 0)
			bench_die("accept");
		setsockopt(ret_ends[i][0], SOL_SOCKET, SO_LINGER, &abort_on_close, sizeof(abort_on_close));
	}
	close(listener);
}

static void exchange(int (*ends)[2], int connections)
{
	char byte = 0;

	for (int i = 0; i < connections; i++)
		if (write(ends[i][0], &byte, 1) != 1 || write(ends[i][1], &byte, 1) != 1)
			bench_die("send");
	for (int i = 0; i < connections; i++)
		if (read(ends[i][1], &byte, 1) != 1 || read(ends[i][0], &byte, 1) != 1)
			bench_die("receive");
}

static void __attribute__((noreturn)) hold(unsigned net, int connections, int orders, int answers)
{
	int(*ends)[2] = calloc((size_t)connections, sizeof(*ends));
	char byte = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	raise_descriptor_limit();
	if (!ends)
		bench_die("memory");
	open_connections(net, connections, ends);
	do {
		if (write(answers, &byte, 1) != 1)
			bench_die("answer");
		if (read(orders, &byte, 1) != 1)
			_exit(0);
		exchange(ends, connections);
	} while (true);
}

static void wait_for_answer(struct holder *holder)
{
	char byte;

	if (read(holder->answers, &byte, 1) != 1)
		bench_die("a holder of connections ended");
}

void holder_start(struct holder *holder, unsigned net, int connections)
{
	int orders[2], answers[2];

	if (pipe(orders) || pipe(answers))
		bench_die("pipe");
	holder->pid = fork();
	if (holder->pid < 0)
		bench_die("fork");
	if (!holder->pid) {
		close(orders[1]);
		close(answers[0]);
		hold(net, connections, orders[0], answers[1]);
	}
	close(orders[0]);
	close(answers[1]);
	holder->orders = orders[1];
	holder->answers = answers[0];
	wait_for_answer(holder);
}

void holder_exchange(struct holder *holder)
{
	char byte = 0;

	if (write(holder->orders, &byte, 1) != 1)
		bench_die("an order to a holder of connections");
	wait_for_answer(holder);
}

void holder_end(struct holder *holder)
{
	kill(holder->pid, SIGKILL);
	waitpid(holder->pid, NULL, 0);
	close(holder->orders);
	close(holder->answers);
}
