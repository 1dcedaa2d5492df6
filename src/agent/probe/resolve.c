/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/resolve.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "lib/resolver.h"

#define AT_A_TIME 4
#define REFRESH_NS (60 * NS_PER_SEC)
#define RETRY_NS (5 * NS_PER_SEC)       /* after a failure, doubled up to REFRESH_NS */
#define AGAIN_NS (10 * NS_PER_SEC)      /* for a target that is down */

struct resolve_host {
	struct resolve_host *next, *previous;
	struct resolve *resolve;
	char *name;
	int family;
	resolve_fn fn;
	void *userdata;
	struct resolver_job *job; /* under way */
	struct address address;
	bool known;
	char reason[128];
	uint64_t asked_ns, due_ns, retry_ns;
};

struct resolve {
	struct loop *loop;
	struct resolve_host *hosts;
	unsigned running;
	uint64_t failures;
};

int resolve_new(struct loop *loop, struct resolve **ret_resolve)
{
	struct resolve *resolve = calloc(1, sizeof(*resolve));

	if (!resolve)
		return -ENOMEM;
	resolve->loop = loop;
	*ret_resolve = resolve;
	return 0;
}

static void host_free(struct resolve_host *host)
{
	if (host->job)
		host->resolve->running--;
	resolver_cancel(host->job);
	free(host->name);
	free(host);
}

void resolve_free(struct resolve *resolve)
{
	while (resolve && resolve->hosts) {
		struct resolve_host *host = resolve->hosts;

		resolve->hosts = host->next;
		host_free(host);
	}
	free(resolve);
}

int resolve_add(struct resolve *resolve, const char *name, int family, resolve_fn fn, void *userdata, struct resolve_host **ret_host)
{
	struct resolve_host *host = calloc(1, sizeof(*host));

	if (!host)
		return -ENOMEM;
	*host = (struct resolve_host){ .resolve = resolve, .family = family, .fn = fn, .userdata = userdata, .retry_ns = RETRY_NS };
	host->name = strdup(name);
	if (!host->name) {
		free(host);
		return -ENOMEM;
	}
	host->next = resolve->hosts;
	if (host->next)
		host->next->previous = host;
	resolve->hosts = host;
	*ret_host = host;
	return 0;
}

void resolve_remove(struct resolve_host *host)
{
	if (!host)
		return;
	if (host->next)
		host->next->previous = host->previous;
	*(host->previous ? &host->previous->next : &host->resolve->hosts) = host->next;
	host_free(host);
}

static void fail(struct resolve_host *host, const char *reason)
{
	const uint64_t now = mono_now().ns;

	host->resolve->failures++;
	if (!host->reason[0])
		log_warn(host->known ? "a target's host name cannot be looked up; its last address stays" :
				       "a target's host name cannot be looked up; it is not probed until it can",
			 "name", host->name, "reason", reason, NULL);
	snprintf(host->reason, sizeof(host->reason), "%s", reason);
	host->due_ns = now + host->retry_ns;
	host->retry_ns = 2 * host->retry_ns < REFRESH_NS ? 2 * host->retry_ns : REFRESH_NS;
}

static void on_resolved(struct resolver_job *job, int r, const char *reason, const struct address *addresses, size_t n, void *userdata);

/* The address that it has, else the first of its family; NULL: there is none. Whoever answers for the name cannot have groups
 * probed, whose members would all answer. */
static const struct address *choose(const struct resolve_host *host, const struct address *addresses, size_t n)
{
	const struct address *first = NULL;

	for (size_t i = 0; i < n; i++) {
		if (!address_is_host(&addresses[i]))
			continue;
		if (host->known && !address_compare(&addresses[i], &host->address))
			return &addresses[i];
		if (!first && (host->family == AF_UNSPEC || (host->family == AF_INET) == address_is_ipv4(&addresses[i])))
			first = &addresses[i];
	}
	return first;
}

static void take(struct resolve_host *host, const struct address *address)
{
	const bool changed = !host->known || address_compare(address, &host->address);

	host->reason[0] = '\0';
	host->retry_ns = RETRY_NS;
	host->due_ns = mono_now().ns + REFRESH_NS;
	host->known = true;
	host->address = *address;
	if (changed)
		host->fn(host, &host->address, host->userdata); /* may remove the host */
}

/* The one that waits longest, so that nobody is left out when there are many; NULL: nobody is due. */
static struct resolve_host *next_due(const struct resolve *resolve, uint64_t now_ns)
{
	struct resolve_host *next = NULL;

	for (struct resolve_host *host = resolve->hosts; host; host = host->next)
		if (!host->job && host->due_ns <= now_ns && (!next || host->due_ns < next->due_ns))
			next = host;
	return next;
}

static void start(struct resolve *resolve, struct resolve_host *host, uint64_t now_ns)
{
	int r = resolver_start(resolve->loop, host->name, on_resolved, host, &host->job);

	host->asked_ns = now_ns;
	if (r < 0)
		fail(host, strerror(-r));
	else
		resolve->running++;
}

void resolve_tick(struct resolve *resolve, mono_time now)
{
	struct resolve_host *host;

	while (resolve->running < AT_A_TIME && (host = next_due(resolve, now.ns)))
		start(resolve, host, now.ns);
}

static void on_resolved(struct resolver_job *job, int r, const char *reason, const struct address *addresses, size_t n, void *userdata)
{
	struct resolve_host *host = userdata;
	const struct address *address = r ? NULL : choose(host, addresses, n);
	struct resolve *resolve = host->resolve;

	host->job = NULL;
	resolve->running--;
	if (address)
		take(host, address);
	else
		fail(host, r ? reason : "it has no address of a host, or none of the family of `source`");
	resolve_tick(resolve, mono_now());
}

void resolve_again(struct resolve_host *host, mono_time now)
{
	if (host && now.ns >= host->asked_ns + AGAIN_NS && host->due_ns > now.ns)
		host->due_ns = now.ns;
}

const char *resolve_reason(const struct resolve_host *host)
{
	return host->reason;
}

uint64_t resolve_failures(const struct resolve *resolve)
{
	return resolve->failures;
}
