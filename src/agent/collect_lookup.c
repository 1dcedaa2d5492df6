/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lookup collector: how long applications wait in libc for the address of a
 * name, and how it ended. At start it probes the C libraries that processes use then;
 * later there are no privileges for it any more, so a library that appears later
 * (a container of a new image, an upgrade) is not covered until the next start.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "agent/collector.h"
#include "agent/kbpf.h"
#include "agent/libc_files.h"
#include "agent/lookup_program.h"
#include "agent/netns.h"
#include "lib/log.h"

#define LIBRARIES_MAX 64 /* each more is two descriptors for each function; on a host there are a handful of images */

/* The latency buckets of the text formats: 2^-20 s (0.95 us) .. 2^6 s (64 s), as resolvers wait for tens of seconds. */
#define LATENCY_FIRST (-20)
#define LATENCY_LAST 6

enum family { DURATION, LIBRARIES, N_FAMILIES };

static const struct registry_definition families[N_FAMILIES] = {
	[DURATION] = { { "netsonde_host_lookup_duration_seconds", "Time that applications spent in libc's getaddrinfo and gethostbyname functions; addresses in place of a name are left out.", "seconds", METRIC_HISTOGRAM, LATENCY_FIRST, LATENCY_LAST }, { "outcome", NULL } },
	[LIBRARIES] = { { "netsonde_host_lookup_libraries", "C libraries that were in use when the agent started: those it watches, and those it does not.", NULL, METRIC_GAUGE, 0, 0 }, { "state", NULL } },
};
static const char *const outcome_names[LOOKUP_OUTCOME_COUNT] = { "success", "not_found", "try_again", "failed" };
static const char *const lost_names[LOOKUP_LOST_COUNT] = { "lookup_record", "lookup_abandoned" };

struct state {
	struct registry_family *families[N_FAMILIES];
	struct lookup_program *program;
	struct self *self; /* borrowed */
	struct hist hists[LOOKUP_OUTCOME_COUNT];
	size_t watched, unwatched; /* libraries */
	uint32_t only_netns;
};

static bool lookup_wanted(const struct settings *settings)
{
	return settings->collect.lookups;
}

static void lookup_close(void *opaque)
{
	struct state *s = opaque;

	if (!s)
		return;
	for (size_t i = 0; i < LOOKUP_OUTCOME_COUNT; i++)
		hist_done(&s->hists[i]);
	lookup_program_close(s->program);
	free(s);
}

/* At most a third of the descriptors that we may have: the exporter needs some too. */
static size_t libraries_max(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur / 3 / (2 * LOOKUP_FUNCTION_COUNT) > LIBRARIES_MAX)
		return LIBRARIES_MAX;
	return (size_t)limit.rlim_cur / 3 / (2 * LOOKUP_FUNCTION_COUNT);
}

static void log_libraries(const struct state *s, const struct libc_files *files)
{
	char watched[24], unwatched[24], unreadable[24];

	snprintf(watched, sizeof(watched), "%zu", s->watched);
	snprintf(unwatched, sizeof(unwatched), "%zu", s->unwatched);
	snprintf(unreadable, sizeof(unreadable), "%zu", files->unreadable);
	log_event(s->unwatched ? LOG_WARN : LOG_DEBUG, "host lookups", "watched_libraries", watched,
		  "unwatched_libraries", unwatched, "unreadable_processes", unreadable, NULL);
}

static int add_libraries(struct state *s, const struct libc_files *files, struct error *ret_error)
{
	int last = -ENOENT;

	for (size_t i = 0; i < files->n; i++) {
		int r = lookup_program_add(s->program, files->fds[i]);

		if (r > 0) {
			s->watched++;
		} else {
			s->unwatched++;
			last = r ? r : last;
		}
	}
	s->unwatched += files->left_out;
	return s->watched ? 0 : error_set_errno(ret_error, last, "no C library can be probed");
}

/* Loaded and tried, with the best kind of probes that there is. */
static int try_program(struct state *s, int own_library, struct error *ret_error)
{
	int r = lookup_program_open(LOOKUP_PROBES_MULTI, s->only_netns, &s->program, ret_error);

	if (!r)
		r = lookup_program_try(s->program, own_library, ret_error);
	if (!r || r == -EFAULT || r == -EPERM || r == -EACCES)
		return r;
	lookup_program_close(s->program);
	s->program = NULL;
	r = lookup_program_open(LOOKUP_PROBES_EVENTS, s->only_netns, &s->program, ret_error);
	return r ? r : lookup_program_try(s->program, own_library, ret_error);
}

static int open_program(struct state *s, struct features *features, struct error *ret_error)
{
	struct libc_files files;
	int r = libc_files_find(libraries_max(), &files);

	if (r < 0)
		return error_set_errno(ret_error, r, "cannot find the C libraries in use");
	if (!files.n)
		r = error_set(ret_error, -ENOENT, "no process that we may look at uses a C library that we know; run as root");
	if (!r)
		r = try_program(s, files.fds[0], ret_error);
	if (!r)
		r = add_libraries(s, &files, ret_error);
	if (!r) {
		features_enable(features, "lookups", "uprobe");
		log_libraries(s, &files);
	}
	libc_files_done(&files);
	return r;
}

static int lookup_open(const struct collector_context *context, void **ret_state, struct error *ret_error)
{
	struct state *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->self = context->self;
	s->only_netns = netns_scope(context->settings);
	for (size_t i = 0; i < LOOKUP_OUTCOME_COUNT; i++)
		kbpf_hist_init(&s->hists[i]);
	r = registry_register_all(context->registry, families, N_FAMILIES, s->families, ret_error);
	if (!r)
		r = open_program(s, context->features, ret_error);
	if (r < 0) {
		lookup_close(s);
		return r;
	}
	*ret_state = s;
	return 0;
}

static void show_program(const char *name, int fd, void *userdata)
{
	self_program(userdata, name, fd);
}

static void lookup_tick(void *opaque, mono_time now)
{
	uint64_t lost[LOOKUP_LOST_COUNT], missed;
	const char *watched = "watched", *unwatched = "unwatched";
	struct state *s = opaque;
	const struct lookup_hist *hists = lookup_program_hists(s->program);

	for (size_t i = 0; i < LOOKUP_OUTCOME_COUNT; i++) {
		kbpf_hist_read(&s->hists[i], hists[i].buckets, hists[i].sum_ns);
		registry_histogram(s->families[DURATION], &outcome_names[i], &s->hists[i]);
	}
	registry_value(s->families[LIBRARIES], &watched, (double)s->watched);
	registry_value(s->families[LIBRARIES], &unwatched, (double)s->unwatched);
	lookup_program_lost(s->program, lost, &missed);
	for (size_t i = 0; i < LOOKUP_LOST_COUNT; i++)
		self_lost(s->self, lost_names[i], lost[i]);
	self_lost(s->self, "lookup_recursion", missed);
	lookup_program_each(s->program, show_program, s->self);
}

const struct collector collect_lookup = {
	.name = "lookups",
	.wanted = lookup_wanted,
	.families = families,
	.n_families = N_FAMILIES,
	.open = lookup_open,
	.tick = lookup_tick,
	.close = lookup_close,
};
