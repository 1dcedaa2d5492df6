/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP as fast, and as much of it, as a few processes can make; for test_limits.py:
 *
 *     limits_load ADDRESS PORT SOURCES PROCESSES
 *
 * Each process holds both ends of its connections: they go to ADDRESS, from the SOURCES
 * addresses before it in turn. Every process listens on a port of its own, from PORT on. Lines on
 * standard input, each answered by one line with what was done since the start:
 *
 *     run N      so many connections in each process, one after the other, and is back when they are done
 *     from K N   the same, all from source K
 *     go         connections until told otherwise
 *     pause      ends that; HELD connections of each process stay open in between
 *     hold N     so many open connections in each process, on top of those it holds
 *     drop       resets all that are held
 *
 * A connection carries REQUEST bytes there and RESPONSE bytes back. Of two, the first ends in order and the second by a
 * reset from the client; after every eighth comes an attempt that is refused. End of file ends all.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PROCESSES_MAX 64
#define PAIRS_MAX 9900 /* of one process: a process may have 20,000 descriptors */
#define HELD 5
#define REQUEST 100
#define RESPONSE 300

enum verb { IDLE, RUN, FROM, GO, PAUSE, HOLD, DROP };

struct totals {
	uint64_t established, orderly, resets, refused, held;
};

struct worker {
	_Atomic unsigned done; /* the number of the last command that it finished */
	struct totals totals;
};

static struct {
	_Atomic unsigned number; /* of the command */
	_Atomic int verb;
	_Atomic unsigned argument, source;
	struct worker workers[PROCESSES_MAX];
} *shared;

static struct in_addr address;
static unsigned first_port, sources, processes;
static pid_t parent; /* in a worker */

static void die(const char *what)
{
	fprintf(stderr, "limits_load: %s: %s\n", what, strerror(errno));
	if (parent)
		kill(parent, SIGTERM); /* it waits for us */
	_exit(1);
}

static void check(int result, const char *what)
{
	if (result < 0)
		die(what);
}

static struct sockaddr_in at(unsigned back, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	a.sin_addr.s_addr = htonl(ntohl(address.s_addr) - back);
	return a;
}

static void transfer(int from, int to, size_t len)
{
	char data[RESPONSE] = { 0 };

	if (send(from, data, len, 0) != (ssize_t)len)
		die("send");
	if (recv(to, data, len, MSG_WAITALL) != (ssize_t)len)
		die("recv");
}

struct pair {
	int client, server;
};

/* A client's socket, bound to one of the sources but not to a port. */
static int client_socket(unsigned source)
{
	const struct sockaddr_in from = at(1 + source, 0);
	int one = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	check(sock, "socket");
	check(setsockopt(sock, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)), "IP_BIND_ADDRESS_NO_PORT");
	check(bind(sock, (const struct sockaddr *)&from, sizeof(from)), "bind");
	return sock;
}

static struct pair connected(struct totals *t, int listener, unsigned port, unsigned source)
{
	const struct sockaddr_in to = at(0, port);
	struct pair pair = { .client = client_socket(source) };

	check(connect(pair.client, (const struct sockaddr *)&to, sizeof(to)), "connect");
	pair.server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	check(pair.server, "accept");
	transfer(pair.client, pair.server, REQUEST);
	transfer(pair.server, pair.client, RESPONSE);
	t->established++;
	return pair;
}

static void reset(struct totals *t, struct pair pair)
{
	const struct linger linger = { .l_onoff = 1 };
	char byte;

	check(setsockopt(pair.client, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), "SO_LINGER");
	close(pair.client);
	if (recv(pair.server, &byte, 1, 0) != -1 || errno != ECONNRESET)
		die("no reset came");
	close(pair.server);
	t->resets++;
}

static void end_in_order(struct totals *t, struct pair pair)
{
	char byte;

	check(shutdown(pair.client, SHUT_WR), "shutdown");
	check((int)recv(pair.server, &byte, 1, 0), "recv of the end");
	close(pair.server);
	check((int)recv(pair.client, &byte, 1, 0), "recv of the end");
	close(pair.client);
	t->orderly++;
}

/* On the port before the first nobody listens. */
static void be_refused(struct totals *t, unsigned source)
{
	const struct sockaddr_in to = at(0, first_port - 1);
	int sock = client_socket(source);

	if (connect(sock, (const struct sockaddr *)&to, sizeof(to)) != -1 || errno != ECONNREFUSED)
		die("not refused");
	close(sock);
	t->refused++;
}

static void one_round(struct totals *t, int listener, unsigned port, unsigned source)
{
	struct pair pair = connected(t, listener, port, source);

	if (t->established % 2)
		end_in_order(t, pair);
	else
		reset(t, pair);
	if (t->established % 8 == 0)
		be_refused(t, source);
}

static void work(unsigned index)
{
	static struct pair held[PAIRS_MAX];
	struct worker *w = &shared->workers[index];
	struct totals *t = &w->totals;
	const unsigned port = first_port + index;
	const struct sockaddr_in here = at(0, port);
	const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned turn = index, seen = 0;

	check(listener, "socket");
	check(bind(listener, (const struct sockaddr *)&here, sizeof(here)), "bind the listener");
	check(listen(listener, 128), "listen");
	for (;;) {
		unsigned number = atomic_load(&shared->number), n = atomic_load(&shared->argument);

		if (number == seen) {
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
			continue;
		}
		seen = number;
		switch ((enum verb)atomic_load(&shared->verb)) {
		case RUN:
			for (; n; n--, turn += processes)
				one_round(t, listener, port, turn % sources);
			break;
		case FROM:
			for (; n; n--)
				one_round(t, listener, port, atomic_load(&shared->source));
			break;
		case GO:
			atomic_store(&w->done, number);
			for (; atomic_load(&shared->number) == number; turn += processes)
				one_round(t, listener, port, turn % sources);
			break;
		case PAUSE:
			n = HELD - (t->held < HELD ? (unsigned)t->held : HELD);
			/* fall through */
		case HOLD:
			for (; n && t->held < PAIRS_MAX; n--, turn += processes)
				held[t->held++] = connected(t, listener, port, turn % sources);
			break;
		case DROP:
			while (t->held)
				reset(t, held[--t->held]);
			break;
		case IDLE:
			break;
		}
		atomic_store(&w->done, number);
	}
}

static void answer(unsigned number)
{
	struct totals sum = { 0 };

	for (unsigned i = 0; i < processes; i++) {
		const struct totals *t = &shared->workers[i].totals;

		while (atomic_load(&shared->workers[i].done) != number)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		sum.established += t->established;
		sum.orderly += t->orderly;
		sum.resets += t->resets;
		sum.refused += t->refused;
		sum.held += t->held;
	}
	printf("{\"established\": %lu, \"orderly\": %lu, \"resets\": %lu, \"refused\": %lu, \"held\": %lu}\n", sum.established,
	       sum.orderly, sum.resets, sum.refused, sum.held);
	fflush(stdout);
}

static int obey(const char *line)
{
	static const char *const verbs[] = { "", "run", "from", "go", "pause", "hold", "drop" };
	unsigned a = 0, b = 0, number = atomic_load(&shared->number) + 1;
	char word[16] = "";

	sscanf(line, "%15s %u %u", word, &a, &b);
	for (int verb = RUN; verb <= DROP; verb++) {
		if (strcmp(word, verbs[verb]))
			continue;
		atomic_store(&shared->verb, verb);
		atomic_store(&shared->source, a);
		atomic_store(&shared->argument, verb == FROM ? b : a);
		atomic_store(&shared->number, number);
		answer(number);
		return 0;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct rlimit files;
	char line[128];

	if (argc != 5 || inet_pton(AF_INET, argv[1], &address) != 1)
		return 2;
	first_port = (unsigned)atoi(argv[2]);
	sources = (unsigned)atoi(argv[3]);
	processes = (unsigned)atoi(argv[4]);
	if (!sources || !processes || processes > PROCESSES_MAX)
		return 2;
	check(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
	files.rlim_cur = files.rlim_max;
	check(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	for (unsigned i = 0; i < processes; i++) {
		pid_t pid = fork();

		check(pid, "fork");
		if (!pid) {
			parent = getppid();
			prctl(PR_SET_PDEATHSIG, 9);
			work(i);
		}
	}
	while (fgets(line, sizeof(line), stdin))
		if (obey(line) < 0)
			return 2;
	return 0;
}
