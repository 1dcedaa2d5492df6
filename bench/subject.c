/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's TCP collector without the agent: programs and peer table, swept as collect_tcp does it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static void __attribute__((noreturn)) refuse(const struct error *error)
{
	fprintf(stderr, "bench: %s\n", error->text);
	exit(1);
}

void subject_open(struct subject *subject)
{
	struct features features = { 0 };
	struct buffer errors = BUFFER_INIT;
	struct error error = { "" };

	if (settings_load(NULL, &subject->settings, &errors))
		bench_die("settings");
	if (peers_new(&subject->settings, &subject->peers, &error) ||
	    tcp_program_open(subject->peers, NULL, subject->settings.collect.max_sockets, TCP_SWEEP_BEST, &subject->program, &error) ||
	    tcp_program_attach(subject->program, &features, &error))
		refuse(&error);
}

void subject_close(struct subject *subject)
{
	tcp_program_close(subject->program);
	peers_free(subject->peers);
	settings_done(&subject->settings);
}

void subject_sweep(struct subject *subject)
{
	peers_begin(subject->peers);
	if (tcp_program_sweep(subject->program))
		bench_die("sweep");
	peers_end(subject->peers, mono_now());
}

uint64_t subject_swept(const struct subject *subject)
{
	struct tcp_program_stats stats;

	tcp_program_stats(subject->program, &stats);
	return stats.swept;
}

struct wanted { const char *name; int fd; };

static void find_program(const char *name, int fd, void *userdata)
{
	struct wanted *w = userdata;

	if (!strcmp(name, w->name))
		w->fd = fd;
}

int subject_program_fd(const struct subject *subject, const char *name)
{
	struct wanted w = { name, -1 };

	tcp_program_each(subject->program, find_program, &w);
	return w.fd;
}
