/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See events.h. A tick collects what the ring and events_add brought, puts it in the
 * order of time, logs it and hands it to the streams. The allowances are refilled only
 * after the ring was drained, and their sum is what the ring holds: it never fills.
 *
 * Without permission for BPF the control block is plain memory and there is no ring.
 */
#include "agent/events.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/event_feed.h"
#include "agent/event_json.h"
#include "agent/event_log.h"

#define RECORD (sizeof(struct event) + 8) /* in the ring, with the kernel's header */
#define RING_MIN ((size_t)512 * 1024)     /* bytes; 490 events of each kind */
#define RING_MAX ((size_t)4 * 1024 * 1024)
#define ELAPSED_MAX_NS (3600 * NS_PER_SEC) /* keeps the arithmetic in 64 bits */
#define DEVICES 16                         /* looked up per tick; more are looked up again */

struct pending {
	struct event event;
	char device[EVENT_DEVICE_MAX];
	size_t order; /* among events of the same nanosecond */
};

struct events {
	struct event_log *log;
	struct event_feed *feed;
	struct event_code_names names[EVENT_KIND_COUNT];

	int bpf_error; /* why there is no ring; 0: there is */
	int ring_fd, control_fd;
	struct ring_buffer *ring;
	struct event_control *control;
	size_t control_len; /* 0: from calloc */

	uint32_t per_second;
	uint64_t share;     /* of one kind in the ring; 0: no limit */
	uint64_t remainder; /* of an event, in 1e-9 */
	mono_time refilled;

	struct pending *pending;
	size_t n_pending, pending_max;
	uint64_t failed;    /* came out of the ring, but there was no memory, or it was none */

	uint32_t netns;     /* the agent's own */
	struct { uint32_t ifindex; char name[IF_NAMESIZE]; } devices[DEVICES];
	size_t n_devices;

	struct registry_family *total, *suppressed;
};

/* The ring */

static int on_record(void *userdata, void *data, size_t size);

static size_t ring_size(uint32_t per_second, size_t cpus)
{
	size_t wanted = RECORD * EVENT_KIND_COUNT * (2 * (size_t)per_second + cpus), size = RING_MIN;

	while (size < wanted && size < RING_MAX)
		size *= 2;
	return size;
}

static int open_ring(struct events *e, uint32_t per_second)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), cpus = (size_t)sysconf(_SC_NPROCESSORS_CONF);
	const size_t size = ring_size(per_second, cpus), records = size / RECORD / EVENT_KIND_COUNT;
	const struct bpf_map_create_opts mmapable = { .sz = sizeof(mmapable), .map_flags = BPF_F_MMAPABLE };
	void *memory;

	e->ring_fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "events", 0, 0, (__u32)size, NULL);
	if (e->ring_fd < 0)
		return e->ring_fd;
	e->control_fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "event_control", sizeof(__u32), sizeof(struct event_control), 1, &mmapable);
	if (e->control_fd < 0)
		return e->control_fd;
	e->ring = ring_buffer__new(e->ring_fd, on_record, e, NULL);
	if (!e->ring)
		return -errno;
	e->control_len = (sizeof(struct event_control) + page - 1) / page * page;
	memory = mmap(NULL, e->control_len, PROT_READ | PROT_WRITE, MAP_SHARED, e->control_fd, 0);
	if (memory == MAP_FAILED) {
		e->control_len = 0;
		return -errno;
	}
	e->control = memory;
	/* One more per CPU may pass the limit (event.bpf.h). */
	e->share = records > cpus ? records - cpus : 1;
	return 0;
}

static void close_ring(struct events *e)
{
	ring_buffer__free(e->ring);
	e->ring = NULL;
	if (e->control_len)
		munmap(e->control, e->control_len);
	else
		free(e->control);
	e->control = NULL;
	e->control_len = 0;
	if (e->control_fd >= 0)
		close(e->control_fd);
	if (e->ring_fd >= 0)
		close(e->ring_fd);
	e->control_fd = e->ring_fd = -1;
}

int events_share(const struct events *e, struct bpf_object *object)
{
	struct bpf_map *ring = bpf_object__find_map_by_name(object, "events");
	struct bpf_map *control = bpf_object__find_map_by_name(object, "event_control");
	int r = 0;

	if (!ring && !control)
		return 0;
	if (e->bpf_error)
		return e->bpf_error;
	if (ring)
		r = bpf_map__reuse_fd(ring, e->ring_fd);
	if (!r && control)
		r = bpf_map__reuse_fd(control, e->control_fd);
	return r;
}

/* Allowances */

static uint64_t burst(const struct events *e, uint64_t elapsed_ns)
{
	uint64_t n = e->per_second;

	if (elapsed_ns > NS_PER_SEC)
		n = n * elapsed_ns / NS_PER_SEC;
	if (e->share && n > e->share)
		n = e->share;
	return n ? n : 1;
}

static void refill(struct events *e, uint64_t elapsed_ns)
{
	struct event_control *c = e->control;
	uint64_t most, tokens;

	elapsed_ns = elapsed_ns < ELAPSED_MAX_NS ? elapsed_ns : ELAPSED_MAX_NS;
	most = burst(e, elapsed_ns);
	tokens = e->per_second * elapsed_ns + e->remainder;
	e->remainder = tokens % NS_PER_SEC;
	tokens /= NS_PER_SEC;
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++) {
		uint64_t used = __atomic_load_n(&c->used[i], __ATOMIC_RELAXED), limit = c->limit[i] + tokens;

		if (limit > used + most)
			limit = used + most;
		__atomic_store_n(&c->limit[i], limit, __ATOMIC_RELAXED);
	}
}

void events_set_limit(struct events *e, uint32_t per_second)
{
	e->per_second = per_second;
	refill(e, 0);
}

/* Life cycle */

static uint32_t own_netns(void)
{
	struct stat st;

	return stat("/proc/self/ns/net", &st) ? 0 : (uint32_t)st.st_ino;
}

int events_new(uint32_t per_second, struct events **ret_events, struct error *ret_error)
{
	struct events *e = calloc(1, sizeof(*e));
	int r = -ENOMEM;

	if (!e)
		return error_set(ret_error, r, "out of memory for the event log");
	e->ring_fd = e->control_fd = -1;
	e->per_second = per_second;
	e->netns = own_netns();
	e->refilled = mono_now();
	r = event_log_new(&e->log);
	if (!r)
		r = event_feed_new(e->log, e->names, &e->feed);
	if (!r) {
		e->bpf_error = open_ring(e, per_second);
		if (e->bpf_error < 0) {
			close_ring(e);
			e->control = calloc(1, sizeof(*e->control));
			r = e->control ? 0 : -ENOMEM;
		}
	}
	if (r < 0) {
		events_free(e);
		return error_set(ret_error, r, "out of memory for the event log");
	}
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++)
		e->control->limit[i] = burst(e, 0);
	event_feed_set_slack(e->feed, 2 * EVENT_KIND_COUNT * (size_t)burst(e, 0));
	*ret_events = e;
	return 0;
}

void events_free(struct events *e)
{
	if (!e)
		return;
	close_ring(e);
	event_feed_free(e->feed);
	event_log_free(e->log);
	free(e->pending);
	free(e);
}

void events_set_code_name(struct events *e, enum event_kind kind, const char *(*name)(uint32_t code, void *userdata),
			  void *userdata)
{
	e->names[kind] = (struct event_code_names){ name, userdata };
}

/* What comes in */

static struct pending *pending_add(struct events *e)
{
	struct pending *p;

	if (e->n_pending == e->pending_max) {
		size_t max = e->pending_max ? 2 * e->pending_max : 64;

		p = realloc(e->pending, max * sizeof(*p));
		if (!p)
			return NULL;
		e->pending = p;
		e->pending_max = max;
	}
	p = &e->pending[e->n_pending];
	p->order = e->n_pending++;
	p->device[0] = '\0';
	return p;
}

static int on_record(void *userdata, void *data, size_t size)
{
	const struct event *event = data;
	struct events *e = userdata;
	struct pending *p = size == sizeof(*event) && event->kind < EVENT_KIND_COUNT ? pending_add(e) : NULL;

	if (p)
		p->event = *event;
	else
		e->failed++;
	return 0;
}

/* The user-space twin of event_begin in bpf/event.bpf.h. */
static bool allowed(struct event_control *c, uint32_t kind)
{
	if (__atomic_load_n(&c->used[kind], __ATOMIC_RELAXED) >= c->limit[kind]) {
		__atomic_add_fetch(&c->suppressed[kind], 1, __ATOMIC_RELAXED);
		return false;
	}
	__atomic_add_fetch(&c->used[kind], 1, __ATOMIC_RELAXED);
	return true;
}

static uint64_t missed(const struct event_control *c, uint32_t kind)
{
	return __atomic_load_n(&c->suppressed[kind], __ATOMIC_RELAXED) + __atomic_load_n(&c->lost[kind], __ATOMIC_RELAXED);
}

void events_add(struct events *e, const struct event *event, const char *device)
{
	struct event_control *c = e->control;
	const uint32_t kind = event->kind;
	struct pending *p;

	assert(kind < EVENT_KIND_COUNT);
	if (!allowed(c, kind))
		return;
	p = pending_add(e);
	if (!p) {
		__atomic_add_fetch(&c->lost[kind], 1, __ATOMIC_RELAXED);
		return;
	}
	p->event = *event;
	p->event.missed = missed(c, kind);
	if (!p->event.time_ns)
		p->event.time_ns = mono_now().ns;
	if (!p->event.count)
		p->event.count = 1;
	snprintf(p->device, sizeof(p->device), "%s", device ? device : "");
	__atomic_add_fetch(&c->sent[kind], 1, __ATOMIC_RELAXED);
}

/* The tick */

/* An index means something only in the namespace it is from, and names can change: so the names of one tick. */
static const char *device_name(struct events *e, const struct event *event)
{
	size_t i = 0;

	if (!event->ifindex || (event->netns && event->netns != e->netns))
		return "";
	while (i < e->n_devices && e->devices[i].ifindex != event->ifindex)
		i++;
	if (i == e->n_devices) {
		i = i < DEVICES ? e->n_devices++ : DEVICES - 1;
		e->devices[i].ifindex = event->ifindex;
		if (!if_indextoname(event->ifindex, e->devices[i].name))
			e->devices[i].name[0] = '\0';
	}
	return e->devices[i].name;
}

static int compare_time(const void *a, const void *b)
{
	const struct pending *x = a, *y = b;

	if (x->event.time_ns != y->event.time_ns)
		return x->event.time_ns < y->event.time_ns ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

void events_tick(struct events *e, mono_time now)
{
	int64_t wall_offset;

	if (e->ring)
		ring_buffer__consume(e->ring);
	wall_offset = wall_now().ns - (int64_t)mono_now().ns;
	if (e->n_pending)
		qsort(e->pending, e->n_pending, sizeof(e->pending[0]), compare_time);
	e->n_devices = 0;
	for (size_t i = 0; i < e->n_pending; i++) {
		const struct pending *p = &e->pending[i];
		const char *device = p->device[0] ? p->device : device_name(e, &p->event);
		wall_time time = { (int64_t)p->event.time_ns + wall_offset };

		event_feed_send(e->feed, event_log_add(e->log, &p->event, device, time));
	}
	e->n_pending = 0;
	refill(e, mono_since_ns(now, e->refilled));
	e->refilled = now;
	event_feed_set_slack(e->feed, 2 * EVENT_KIND_COUNT * (size_t)burst(e, 0));
}

/* What goes out */

static int register_families(struct registry *registry, struct registry_family **ret_total,
			     struct registry_family **ret_suppressed, struct error *ret_error)
{
	static const struct metric_family total = { "netsonde_events_total", "Events in the event log since the agent started, by kind.", NULL, METRIC_COUNTER, 0, 0 };
	static const struct metric_family suppressed = { "netsonde_events_suppressed_total", "Events left out of the event log because their kind was over its allowance, collect.events_per_second.", NULL, METRIC_COUNTER, 0, 0 };
	static const char *const kind[] = { "kind", NULL };
	int r = registry_register(registry, &total, kind, ret_total, ret_error);

	return r ? r : registry_register(registry, &suppressed, kind, ret_suppressed, ret_error);
}

int events_describe(struct registry *registry, struct error *ret_error)
{
	struct registry_family *total, *suppressed;

	return register_families(registry, &total, &suppressed, ret_error);
}

int events_register(struct events *e, struct registry *registry, struct error *ret_error)
{
	return register_families(registry, &e->total, &e->suppressed, ret_error);
}

void events_show(struct events *e)
{
	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++) {
		const char *kind = event_kind_name(i);

		registry_value(e->total, &kind, (double)event_log_total(e->log, i));
		registry_value(e->suppressed, &kind, (double)__atomic_load_n(&e->control->suppressed[i], __ATOMIC_RELAXED));
	}
}

uint64_t events_lost(const struct events *e)
{
	uint64_t n = e->failed;

	for (unsigned i = 0; i < EVENT_KIND_COUNT; i++)
		n += __atomic_load_n(&e->control->lost[i], __ATOMIC_RELAXED);
	return n;
}

const struct event_log *events_log(const struct events *e)
{
	return e->log;
}

void events_handle(struct http_request *request, void *userdata)
{
	const struct events *e = userdata;

	event_feed_handle(request, e->feed);
}
