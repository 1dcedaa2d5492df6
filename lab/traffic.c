/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include "lab/traffic_internal.h"

/* DNS is host 5 of 198.18.N.2: see the check in traffic_start. Nothing but it is asked, whatever this system does. */
#define DNS_ADDRESS "198.18.5.2"
#define DNS_HOST "dns"

const struct host_file traffic_files[] = {
	{ "/etc/resolv.conf", "nameserver " DNS_ADDRESS "\nsearch lab\noptions timeout:2 attempts:2\n" },
	{ "/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n" },
	{ "/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n" },
};
const size_t traffic_n_files = sizeof(traffic_files) / sizeof(*traffic_files);

static const struct row {
	const char *program, *host, *what;
	int (*run)(struct program *program, struct error *error);
} rows[] = {
	{ "named", DNS_HOST, "answers", program_named },
	{ "dbd", "db", "questions", program_dbd },
	{ "storaged", "site-b", "blocks", program_storaged },
	{ "phoned", "site-b", "datagrams", program_phoned },
	{ "webd", "web", "pages", program_webd },
	{ "browser", "client-a", "pages", program_browser },
	{ "browser", "client-a", "pages", program_browser },
	{ "browser", "client-b", "pages", program_browser4 },
	{ "player", "client-b", "bytes", program_player },
	{ "backup", "db", "blocks", program_backup },
	{ "phone", "client-b", "datagrams", program_phone },
};
#define N_ROWS (sizeof(rows) / sizeof(*rows))

struct shared { _Atomic uint64_t faults[TRAFFIC_FAULTS]; struct traffic_tally tallies[N_ROWS]; };

struct traffic {
	struct shared *shared;
	struct program programs[N_ROWS];
	pid_t pids[N_ROWS]; /* 0: not running */
	const char *names[TOPOLOGY_HOSTS_MAX];
	size_t n_names;
};

struct start { const struct row *row; struct program *program; };

static int program_child(struct host *host, void *argument, struct error *error)
{
	const struct start *start = argument;
	return start->row->run(start->program, error);
}

static int row_start(struct traffic *traffic, struct topology *topology, size_t i, struct error *error)
{
	size_t host = 0;
	while (host < traffic->n_names && strcmp(traffic->names[host], rows[i].host))
		host++;
	if (host == traffic->n_names)
		return error_set(error, -ENOENT, "the traffic needs a host `%s`", rows[i].host);
	traffic->programs[i] = (struct program){
		.faults = traffic->shared->faults, .tally = &traffic->shared->tallies[i],
		.names = traffic->names, .n_names = traffic->n_names, .random = (unsigned)i + 1,
	};
	struct start start = { &rows[i], &traffic->programs[i] };
	pid_t pid = host_start(topology_host(topology, host), &(struct host_process){
		.title = rows[i].program, .fn = program_child, .argument = &start, .input = -1, .output = -1, .keep = -1 });
	if (pid < 0)
		return error_set_errno(error, (int)pid, "cannot start %s", rows[i].program);
	traffic->pids[i] = pid;
	return 0;
}

static int dns_check(const struct traffic *traffic, struct error *error)
{
	char text[ADDRESS_TEXT_MAX];
	for (size_t i = 0; i < traffic->n_names; i++)
		if (!strcmp(traffic->names[i], DNS_HOST) && !strcmp(topology_address(i, AF_INET, text), DNS_ADDRESS))
			return 0;
	return error_set(error, -EINVAL, "the traffic needs a host `" DNS_HOST "` with the address " DNS_ADDRESS);
}

int traffic_start(struct topology *topology, struct traffic **ret_traffic, struct error *ret_error)
{
	struct traffic *traffic = calloc(1, sizeof(*traffic));
	if (!traffic)
		return error_set(ret_error, -ENOMEM, "out of memory");
	traffic->shared = mmap(NULL, sizeof(*traffic->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int r = traffic->shared == MAP_FAILED ? error_set(ret_error, -ENOMEM, "out of memory") : 0;
	if (r < 0)
		traffic->shared = NULL;
	traffic->n_names = topology_count(topology);
	for (size_t i = 0; i < traffic->n_names; i++)
		traffic->names[i] = topology_row(topology, i)->name;
	if (!r)
		r = dns_check(traffic, ret_error);
	for (size_t i = 0; !r && i < N_ROWS; i++)
		r = row_start(traffic, topology, i, ret_error);
	if (r < 0) {
		traffic_free(traffic);
		return r;
	}
	*ret_traffic = traffic;
	return 0;
}

void traffic_free(struct traffic *traffic)
{
	if (!traffic)
		return;
	for (size_t i = 0; i < N_ROWS; i++)
		if (traffic->pids[i])
			kill(traffic->pids[i], SIGKILL);
	for (size_t i = 0; i < N_ROWS; i++)
		if (traffic->pids[i])
			waitpid(traffic->pids[i], NULL, 0);
	if (traffic->shared)
		munmap(traffic->shared, sizeof(*traffic->shared));
	free(traffic);
}

void traffic_set(struct traffic *traffic, enum traffic_fault fault, uint64_t value)
{
	traffic->shared->faults[fault] = value;
}

bool traffic_count(const struct traffic *traffic, size_t i, struct traffic_count *ret_count)
{
	if (i >= N_ROWS)
		return false;
	*ret_count = (struct traffic_count){ rows[i].program, rows[i].host, rows[i].what,
					     traffic->shared->tallies[i].done, traffic->shared->tallies[i].failed };
	return true;
}

const char *traffic_ended(struct traffic *traffic, pid_t pid)
{
	for (size_t i = 0; i < N_ROWS; i++)
		if (traffic->pids[i] == pid) {
			traffic->pids[i] = 0;
			return rows[i].program;
		}
	return NULL;
}
