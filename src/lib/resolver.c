/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A look-up is shared by two: the job (in the loop) and the thread. Each gives up
 * its reference when it is done; who is last frees it, and the eventfd through
 * which the thread tells. So a cancelled job need not wait for its thread.
 */
#include "lib/resolver.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct lookup {
	atomic_int references;
	int event; /* eventfd: the thread is done */
	char *name;
	int r;     /* as of getaddrinfo; EAI_SYSTEM: error is an errno */
	int error;
	struct address addresses[RESOLVER_ADDRESSES_MAX];
	size_t n;
};

struct resolver_job {
	struct lookup *lookup;
	struct loop_fd *watch;
	resolver_fn fn;
	void *userdata;
};

static void lookup_unref(struct lookup *lookup)
{
	if (!lookup || atomic_fetch_sub(&lookup->references, 1) > 1)
		return;
	if (lookup->event >= 0)
		close(lookup->event);
	free(lookup->name);
	free(lookup);
}

static void take_address(struct lookup *lookup, const struct sockaddr *from)
{
	struct address *to = &lookup->addresses[lookup->n];

	if (from->sa_family == AF_INET6) {
		memcpy(to->bytes, &((const struct sockaddr_in6 *)from)->sin6_addr, 16);
	} else if (from->sa_family == AF_INET) {
		*to = (struct address){ .bytes = { [10] = 0xff, [11] = 0xff } };
		memcpy(to->bytes + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
	} else {
		return;
	}
	lookup->n++;
}

static void *run(void *userdata)
{
	static const uint64_t one = 1;
	/* One socket type, or each address comes once for every type. */
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM, .ai_flags = AI_ADDRCONFIG };
	struct lookup *lookup = userdata;
	struct addrinfo *found = NULL;

	errno = 0;
	lookup->r = getaddrinfo(lookup->name, NULL, &hints, &found);
	lookup->error = errno;
	for (const struct addrinfo *a = lookup->r ? NULL : found; a && lookup->n < RESOLVER_ADDRESSES_MAX; a = a->ai_next)
		take_address(lookup, a->ai_addr);
	if (!lookup->r)
		freeaddrinfo(found);
	/* It cannot fail: an eventfd takes one more than it has until 2^64. */
	if (write(lookup->event, &one, sizeof(one)) != sizeof(one))
		lookup->error = errno;
	lookup_unref(lookup);
	return NULL;
}

static int start_thread(struct lookup *lookup)
{
	sigset_t all, before;
	pthread_attr_t attr;
	pthread_t thread;
	int r = pthread_attr_init(&attr);

	if (r)
		return -r;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	/* Signals are the loop's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	atomic_fetch_add(&lookup->references, 1);
	r = pthread_create(&thread, &attr, run, lookup);
	if (r)
		atomic_fetch_sub(&lookup->references, 1);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

static void job_free(struct resolver_job *job)
{
	loop_fd_free(job->watch);
	lookup_unref(job->lookup);
	free(job);
}

static int outcome(const struct lookup *lookup)
{
	switch (lookup->r) {
	case 0:
		return lookup->n ? 0 : -ENOENT;
	case EAI_NONAME:
	case EAI_NODATA:
		return -ENOENT;
	case EAI_AGAIN:
		return -EAGAIN;
	case EAI_MEMORY:
		return -ENOMEM;
	case EAI_SYSTEM:
		return lookup->error > 0 ? -lookup->error : -EIO;
	default:
		return -EIO;
	}
}

static void on_done(struct loop_fd *fd, unsigned events, void *userdata)
{
	struct resolver_job *job = userdata;
	const struct lookup *lookup = job->lookup;
	const char *reason = "";
	uint64_t count;

	if (read(lookup->event, &count, sizeof(count)) != sizeof(count))
		return;
	if (lookup->r)
		reason = lookup->r == EAI_SYSTEM && lookup->error > 0 ? strerror(lookup->error) : gai_strerror(lookup->r);
	else if (!lookup->n)
		reason = "it has no IP address";
	job->fn(job, outcome(lookup), reason, lookup->addresses, lookup->n, job->userdata);
	job_free(job);
}

int resolver_start(struct loop *loop, const char *name, resolver_fn fn, void *userdata, struct resolver_job **ret_job)
{
	struct resolver_job *job = calloc(1, sizeof(*job));
	struct lookup *lookup = calloc(1, sizeof(*lookup));
	int r = -ENOMEM;

	if (!job || !lookup) {
		free(job);
		free(lookup);
		return r;
	}
	*job = (struct resolver_job){ .lookup = lookup, .fn = fn, .userdata = userdata };
	atomic_init(&lookup->references, 1);
	lookup->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lookup->name = strdup(name);
	if (lookup->event < 0)
		r = -errno;
	else if (lookup->name)
		r = loop_fd_new(loop, lookup->event, LOOP_READABLE, on_done, job, &job->watch);
	if (!r)
		r = start_thread(lookup);
	if (r < 0) {
		job_free(job);
		return r;
	}
	*ret_job = job;
	return 0;
}

void resolver_cancel(struct resolver_job *job)
{
	if (job)
		job_free(job);
}
