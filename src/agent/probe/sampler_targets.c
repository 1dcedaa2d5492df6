/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The list of targets: what comes, stays and goes, and the paths of each in the engine and in the schedule.
 *
 * A target has paths in the engine while its address and its interface are known; it is in the schedule while it has them
 * and nothing passive takes its place. What is missing is said in target->why and tried again.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/probe/sampler_internal.h"
#include "agent/watched.h"
#include "lib/log.h"

#define RETRY_NS (10 * NS_PER_SEC)

/* In and out of the engine and the schedule */

static void on_result(struct probe_path *engine_path, const struct probe_result *result, void *userdata)
{
	struct probe_target_path *path = userdata;
	struct probe_target *t = path->target;
	struct sampler *s = t->sampler;
	const bool lost = result->outcome == PROBE_TIMED_OUT || result->outcome == PROBE_UNREACHABLE;
	const unsigned news = probe_target_result(path, result);
	const mono_time now = mono_now();

	if (s->config.adapt) {
		adapt_result(&t->adapt, result->sent_ns, lost, news & (PROBE_NEWS_LOSS | PROBE_NEWS_SLOWER), now.ns);
		sampler_adapt(s, t, now.ns);
	}
	if (lost && !probe_target_up(t))
		resolve_again(t->host, now);
}

static void unschedule(struct sampler *s, struct probe_target *t)
{
	for (uint32_t i = 0; i < t->spec.paths; i++)
		probe_schedule_remove(&s->schedule, &t->paths[i].entry);
}

static int into_schedule(struct sampler *s, struct probe_target *t)
{
	const uint32_t bytes = probe_target_packet_bytes(&t->spec, &t->spec.probe.address);
	const uint64_t now = mono_now().ns;
	int r = 0;

	for (uint32_t i = 0; i < t->spec.paths && !r; i++)
		if (!t->paths[i].entry.place)
			r = probe_schedule_add(&s->schedule, &t->paths[i].entry, t->spec.interval_ns, bytes, now);
	if (r < 0)
		unschedule(s, t);
	sampler_adapt(s, t, now);
	sampler_rearm(s);
	return r;
}

static void stop(struct sampler *s, struct probe_target *t)
{
	const mono_time now = mono_now();

	/* What was answered by now counts; what is still on its way is forgotten. */
	for (uint32_t i = 0; i < t->spec.paths; i++)
		if (t->paths[i].path)
			prober_collect_path(t->paths[i].path, now);
	unschedule(s, t);
	for (uint32_t i = 0; i < t->spec.paths; i++) {
		struct probe_target_path *path = &t->paths[i];
		struct probe_counts counts;

		if (!path->path)
			continue;
		probe_path_counts(path->path, &counts);
		probe_counts_add(&path->former, &counts);
		prober_remove(path->path);
		path->path = NULL;
	}
	peers_unwatch(s->peers, t->watched);
	t->watched = NULL;
	t->passive = false;
}

static int add_paths(struct sampler *s, struct probe_target *t, struct error *ret_error)
{
	struct probe_spec spec = t->spec.probe;
	int r = 0;

	spec.ifindex = t->ifindex;
	spec.ring = probe_target_ring(spec.protocol, spec.timeout_ns,
				s->config.adapt ? adapt_fast_interval(t->spec.interval_ns) : t->spec.interval_ns);
	for (uint32_t i = 0; i < t->spec.paths && !r; i++) {
		spec.path = (uint8_t)i;
		r = prober_add(s->prober, &spec, on_result, &t->paths[i], &t->paths[i].path, ret_error);
	}
	return r;
}

static void fail(struct probe_target *t, const char *why, uint64_t now_ns)
{
	/* Told when the reason changes, not at each attempt. */
	if (strncmp(t->why, why, sizeof(t->why) - 1))
		log_warn("a target is not probed", "target", t->spec.name, "reason", why, NULL);
	snprintf(t->why, sizeof(t->why), "%s", why);
	t->retry_ns = now_ns + RETRY_NS;
}

static bool find_interface(struct probe_target *t, uint64_t now_ns)
{
	char why[96];

	t->ifindex = t->spec.interface ? if_nametoindex(t->spec.interface) : 0;
	if (!t->spec.interface || t->ifindex)
		return true;
	snprintf(why, sizeof(why), "there is no interface %s", t->spec.interface);
	fail(t, why, now_ns);
	return false;
}

static void watch(struct sampler *s, struct probe_target *t)
{
	/* STAMP measures more, and a TCP probe asks one port, for which connections to others do not answer. */
	if (!s->config.passive || !t->spec.passive || t->spec.probe.protocol != PROBE_ICMP)
		return;
	/* Without room it is simply probed. */
	if (peers_watch(s->peers, &t->spec.probe.address, &t->watched) < 0)
		t->watched = NULL;
}

/* With everything that it takes, or nothing. */
static void start(struct sampler *s, struct probe_target *t)
{
	const uint64_t now = mono_now().ns;
	struct error error = { "" };
	int r;

	if (!t->has_address || !find_interface(t, now))
		return;
	r = add_paths(s, t, &error);
	if (!r)
		r = into_schedule(s, t);
	if (r < 0) {
		stop(s, t);
		fail(t, error.text[0] ? error.text : strerror(-r), now);
		return;
	}
	watch(s, t);
	if (t->why[0])
		log_info("the target is probed now", "target", t->spec.name, NULL);
	t->why[0] = '\0';
}

static void on_address(struct resolve_host *host, const struct address *address, void *userdata)
{
	struct probe_target *t = userdata;
	char text[ADDRESS_TEXT_MAX];

	stop(t->sampler, t);
	t->spec.probe.address = *address;
	t->has_address = true;
	log_info("target resolved", "target", t->spec.name, "name", t->spec.host, "address", address_format(address, text), NULL);
	start(t->sampler, t);
}

/* Coming and going */

static void remove_target(struct sampler *s, struct probe_target *t)
{
	stop(s, t);
	resolve_remove(t->host);
	s->paths -= t->spec.paths;
	probe_target_free(t);
}

/* Takes the spec. NULL: no memory. */
static struct probe_target *add_target(struct sampler *s, struct probe_target_spec *spec)
{
	struct probe_target *t;
	int family = AF_UNSPEC;

	if (probe_target_new(s, spec, &t) < 0)
		return NULL;
	s->paths += t->spec.paths;
	if (t->spec.probe.has_source)
		family = address_is_ipv4(&t->spec.probe.source) ? AF_INET : AF_INET6;
	if (t->spec.host && resolve_add(s->resolve, t->spec.host, family, on_address, t, &t->host) < 0) {
		remove_target(s, t);
		return NULL;
	}
	start(s, t);
	return t;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct probe_target *const *)a)->spec.name, (*(struct probe_target *const *)b)->spec.name);
}

static int name_order(const void *name, const void *target)
{
	return strcmp(name, (*(struct probe_target *const *)target)->spec.name);
}

/* The targets of a source, sorted by name. NULL when there is no memory. */
static struct probe_target **sorted(struct probe_target *list, size_t *ret_n)
{
	struct probe_target **array;
	size_t n = 0;

	for (const struct probe_target *t = list; t; t = t->next)
		n++;
	array = calloc(n ? n : 1, sizeof(struct probe_target *));
	if (!array)
		return NULL;
	*ret_n = n;
	n = 0;
	for (struct probe_target *t = list; t; t = t->next)
		array[n++] = t;
	if (n > 1)
		qsort(array, n, sizeof(struct probe_target *), by_name);
	return array;
}

/* Those that nobody wishes any more go first, so that there is room for new ones. */
static void drop_others(struct sampler *s, enum probe_target_source source)
{
	struct probe_target **at = &s->targets[source];

	while (*at) {
		struct probe_target *t = *at;

		if (t->keep) {
			at = &t->next;
			continue;
		}
		*at = t->next;
		remove_target(s, t);
	}
}

static struct probe_target *find(struct probe_target *const *targets, size_t n, const char *name)
{
	struct probe_target *const *found = n ? bsearch(name, targets, n, sizeof(struct probe_target *), name_order) : NULL;

	return found ? *found : NULL;
}

static uint32_t paths_of(const struct sampler *s, enum probe_target_source source)
{
	uint32_t paths = 0;

	for (const struct probe_target *t = s->targets[source]; t; t = t->next)
		paths += t->spec.paths;
	return paths;
}

/* Paths that those of a source may have. The configuration was checked to have room for its own targets and its peers. */
static uint32_t room_of(const struct sampler *s, enum probe_target_source source)
{
	const uint32_t max = s->config.max_targets, own = paths_of(s, TARGET_CONFIGURED), peers = s->config.peers;

	if (source != TARGET_PLANNED)
		return max;
	return own + peers < max ? max - own - peers : 0;
}

static void index_names(struct sampler *s, enum probe_target_source source)
{
	free(s->names[source].sorted);
	s->names[source].n = 0;
	/* Without memory a name may be two targets' for a while. */
	s->names[source].sorted = sorted(s->targets[source], &s->names[source].n);
}

/* In the order of the wishes: what stayed, and what is new. */
static void link_all(struct sampler *s, enum probe_target_source source, struct wish_list *wishes, struct probe_target *const *stayed)
{
	struct probe_target *list = NULL, **end = &list;
	uint64_t used = paths_of(s, source), room = room_of(s, source);
	size_t refused = 0;
	char count[24];

	s->targets[source] = NULL;
	for (size_t i = 0; i < wishes->n; i++) {
		struct probe_target *t = stayed[i];

		if (!t && used + wishes->specs[i].paths <= room)
			t = add_target(s, &wishes->specs[i]);
		if (!t) {
			refused++;
			continue;
		}
		used += stayed[i] ? 0 : t->spec.paths;
		t->next = NULL;
		*end = t;
		end = &t->next;
	}
	s->targets[source] = list;
	if (!refused)
		return;
	snprintf(count, sizeof(count), "%zu", refused);
	log_warn("there is no room for more targets; these are left out", "targets", count, "from", probe_target_source_names[source],
		 "remedy", "raise probe.max_targets", NULL);
}

void sampler_apply(struct sampler *s, enum probe_target_source source, struct wish_list *wishes)
{
	size_t n = 0;
	struct probe_target **present = sorted(s->targets[source], &n);
	struct probe_target **stayed = calloc(wishes->n ? wishes->n : 1, sizeof(struct probe_target *));

	if (!present || !stayed) {
		log_error("no memory for the new targets; the old ones stay", NULL);
		goto out;
	}
	for (size_t i = 0; i < n; i++)
		present[i]->keep = false;
	for (size_t i = 0; i < wishes->n; i++) {
		struct probe_target *t = find(present, n, wishes->specs[i].name);

		if (!t || !probe_target_spec_same(&t->spec, &wishes->specs[i]))
			continue;
		t->keep = true;
		stayed[i] = t;
	}
	drop_others(s, source);
	link_all(s, source, wishes, stayed);
	index_names(s, source);
out:
	free(present);
	free(stayed);
	wish_list_done(wishes);
	sampler_rearm(s);
}

const struct probe_target *sampler_find(const struct sampler *s, enum probe_target_source source, const char *name)
{
	return find(s->names[source].sorted, s->names[source].n, name);
}

void sampler_make_room(struct sampler *s, const struct wish_list *configured)
{
	uint64_t wanted = s->config.peers, used = 0;

	for (size_t i = 0; i < configured->n; i++)
		wanted += configured->specs[i].paths;
	for (struct probe_target *t = s->targets[TARGET_PLANNED]; t; t = t->next) {
		used += t->spec.paths;
		t->keep = wanted + used <= s->config.max_targets;
	}
	drop_others(s, TARGET_PLANNED);
	index_names(s, TARGET_PLANNED);
}

/* What changes with time and results */

static void tell_limited(struct probe_target *t)
{
	if (!adapt_is_limited(&t->adapt))
		return;
	if (!t->was_limited)
		log_warn("the answers of a target seem to be rate limited: probes are lost while they are sent faster, and not "
			 "otherwise; it is probed at its own interval only", "target", t->spec.name, NULL);
	t->was_limited = true;
}

void sampler_adapt(struct sampler *s, struct probe_target *target, uint64_t now_ns)
{
	const bool fast = s->config.adapt && adapt_is_fast(&target->adapt);
	const uint64_t fast_ns = fast ? adapt_fast_interval(target->spec.interval_ns) : 0;

	for (uint32_t i = 0; i < target->spec.paths; i++)
		probe_schedule_speed(&s->schedule, &target->paths[i].entry, fast_ns, now_ns);
	tell_limited(target);
	if (fast)
		sampler_rearm(s);
}

void sampler_set_passive(struct sampler *s, struct probe_target *target, bool passive)
{
	if (target->passive == passive)
		return;
	target->passive = passive;
	if (passive)
		unschedule(s, target);
	else if (into_schedule(s, target) < 0)
		target->passive = true; /* no memory: again at the next tick */
}

/* The index of an interface by name, asked for once while its targets follow each other. */
struct interface { const char *name; uint32_t index; };

static uint32_t index_of(struct interface *last, const char *name)
{
	if (!last->name || strcmp(last->name, name))
		*last = (struct interface){ name, if_nametoindex(name) };
	return last->index;
}

static void tend(struct sampler *s, struct probe_target *t, struct interface *last, uint64_t now_ns)
{
	adapt_tick(&t->adapt, now_ns);
	sampler_adapt(s, t, now_ns);
	if (t->why[0] && now_ns >= t->retry_ns)
		start(s, t);
	/* The interface went, or is another one of the same name. */
	if (t->spec.interface && !t->why[0] && t->has_address && index_of(last, t->spec.interface) != t->ifindex) {
		stop(s, t);
		start(s, t);
	}
	if (!t->has_address && !t->why[0] && resolve_reason(t->host)[0])
		snprintf(t->why, sizeof(t->why), "%s: %s", t->spec.host, resolve_reason(t->host));
}

void sampler_tend(struct sampler *s, uint64_t now_ns)
{
	struct interface last = { NULL, 0 };

	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++)
		for (struct probe_target *t = s->targets[source]; t; t = t->next)
			tend(s, t, &last, now_ns);
}

void sampler_restart(struct sampler *s)
{
	for (size_t source = 0; source < TARGET_SOURCE_COUNT; source++) {
		for (struct probe_target *t = s->targets[source]; t; t = t->next) {
			stop(s, t);
			start(s, t);
		}
	}
}
