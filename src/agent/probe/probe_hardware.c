/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_hardware.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "agent/probe/netdev.h"
#include "agent/probe/netdev_stamps.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "probe.skel.h"
#include "probe_hardware.skel.h"

/* Of the uapi, newer than many headers. */
#define XDP_HAS_FRAGS (1U << 5)
#define XDP_DEV_BOUND_ONLY (1U << 6)

/* A card's clock that is kept well is less than 1 us off; reading it over the bus takes 1 to 5 us. */
#define SLACK_NS 10000
#define READING_MAX_NS 50000 /* longer: something came in between, and it says little */
#define READINGS 3
#define BELIEVED_NS (5 * NS_PER_SEC) /* a few ticks; a free-running clock goes 0.1 ms astray in them */

struct card {
	uint32_t ifindex;
	char name[64];      /* of the program */
	int program, clock; /* clock: /dev/ptpN; -1: none */
	struct probe_card *shared;
	size_t shared_len;
};

struct probe_hardware {
	struct card cards[PROBE_HARDWARE_MAX];
	size_t n;
};

/* ---- its clock ---- */

enum probe_hardware_clock probe_hardware_judge(int64_t before, int64_t card, int64_t after, int64_t offset,
					       uint64_t *ret_behind)
{
	const int64_t behind[] = { 0, offset };

	if (after < before || after - before > READING_MAX_NS)
		return PROBE_HARDWARE_UNKNOWN;
	for (size_t i = 0; i < 2; i++) {
		if (card + behind[i] < before - SLACK_NS || card + behind[i] > after + SLACK_NS)
			continue;
		*ret_behind = (uint64_t)behind[i];
		return PROBE_HARDWARE_AGREES;
	}
	return PROBE_HARDWARE_ASTRAY;
}

static int64_t read_clock(clockid_t clock)
{
	struct timespec t;

	return clock_gettime(clock, &t) ? -1 : (int64_t)t.tv_sec * (int64_t)NS_PER_SEC + t.tv_nsec;
}

/* Whole seconds. */
static int64_t tai_offset(void)
{
	int64_t distance = read_clock(CLOCK_TAI) - read_clock(CLOCK_REALTIME), second = (int64_t)NS_PER_SEC;

	return (distance + second / 2) / second * second;
}

enum probe_hardware_clock probe_hardware_compare(clockid_t clock, uint64_t *ret_behind)
{
	int64_t before = 0, card = 0, after = INT64_MAX;

	for (int i = 0; i < READINGS; i++) {
		int64_t b = read_clock(CLOCK_TAI), c = read_clock(clock), a = read_clock(CLOCK_TAI);

		if (c < 0)
			return PROBE_HARDWARE_ASTRAY;
		if (a - b >= after - before)
			continue;
		before = b;
		card = c;
		after = a;
	}
	return probe_hardware_judge(before, card, after, tai_offset(), ret_behind);
}

/* CLOCKFD of clock_gettime(2) has no name in the headers. */
static clockid_t clock_of(int fd)
{
	return (clockid_t)(~(unsigned)fd << 3 | 3);
}

static void tick(const struct card *c)
{
	enum probe_hardware_clock found;
	uint64_t behind = 0;

	if (c->clock < 0)
		return;
	found = probe_hardware_compare(clock_of(c->clock), &behind);
	if (found == PROBE_HARDWARE_UNKNOWN)
		return; /* what was known runs out */
	if (found == PROBE_HARDWARE_ASTRAY || behind != c->shared->behind_ns)
		__atomic_store_n(&c->shared->until_ns, 0, __ATOMIC_RELEASE);
	if (found == PROBE_HARDWARE_ASTRAY)
		return;
	__atomic_store_n(&c->shared->behind_ns, behind, __ATOMIC_RELEASE);
	__atomic_store_n(&c->shared->until_ns, mono_now().ns + BELIEVED_NS, __ATOMIC_RELEASE);
}

void probe_hardware_tick(struct probe_hardware *hardware)
{
	for (size_t i = 0; hardware && i < hardware->n; i++)
		tick(&hardware->cards[i]);
}

/* ---- its program ---- */

#define SAME_PLACE(section, variable) \
	static_assert(offsetof(struct probe_bpf__##section, variable) == \
			  offsetof(struct probe_hardware_bpf__##section, variable), "both objects must have it at one place")
#define SAME_SIZE(section) \
	static_assert(sizeof(struct probe_bpf__##section) == sizeof(struct probe_hardware_bpf__##section), \
		      "both objects must have the same variables")
SAME_SIZE(bss);
SAME_PLACE(bss, reflect_macs);
SAME_PLACE(bss, reflect_clock);
SAME_PLACE(bss, reflect_refused);
SAME_PLACE(bss, probe_devices);
SAME_SIZE(rodata);
SAME_PLACE(rodata, reflect);
SAME_PLACE(rodata, icmp_first);
SAME_PLACE(rodata, port_first);
SAME_PLACE(rodata, port_count);
SAME_PLACE(rodata, shortcuts_mask);
SAME_PLACE(rodata, has_tai);

/* All that the other probe programs have, variables too. */
static int share_maps(struct bpf_object *object, const struct probe_program *program)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object) {
		const char *section = bpf_map__is_internal(map) ? strchr(bpf_map__name(map), '.') : NULL;
		int fd = probe_program_map(program, section ? section : bpf_map__name(map));
		int r = fd < 0 ? 0 : bpf_map__reuse_fd(map, fd);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The program keeps its maps, so that the object is not needed any more. */
static int keep(struct probe_hardware_bpf *skel, struct card *c)
{
	int r = kbpf_map_mmap(skel->maps.probe_cards, (void **)&c->shared, &c->shared_len);

	if (r < 0)
		return r;
	c->program = fcntl(bpf_program__fd(skel->progs.probe_xdp_hardware), F_DUPFD_CLOEXEC, 3);
	if (c->program >= 0)
		return 0;
	r = -errno;
	kbpf_map_munmap(c->shared, c->shared_len);
	return r;
}

static int load(struct card *c, const struct probe_program *program, uint32_t flags)
{
	struct probe_hardware_bpf *skel = probe_hardware_bpf__open();
	int r;

	if (!skel)
		return -errno;
	bpf_program__set_ifindex(skel->progs.probe_xdp_hardware, c->ifindex);
	r = bpf_program__set_flags(skel->progs.probe_xdp_hardware, XDP_DEV_BOUND_ONLY | flags);
	if (!r)
		r = share_maps(skel->obj, program);
	if (!r)
		r = bpf_object__load(skel->obj);
	if (!r)
		r = keep(skel, c);
	probe_hardware_bpf__destroy(skel);
	return r;
}

static void add(struct probe_hardware *h, const struct probe_program *program, const struct netdev *netdev, int clock)
{
	struct card *c = &h->cards[h->n];
	char path[32];
	int r;

	*c = (struct card){ .ifindex = netdev->ifindex, .program = -1, .clock = -1 };
	snprintf(c->name, sizeof(c->name), "probe_xdp_hardware_%s", netdev->name);
	snprintf(path, sizeof(path), "/dev/ptp%d", clock);
	if (clock >= 0)
		c->clock = open(path, O_RDONLY | O_CLOEXEC);
	if (clock >= 0 && c->clock < 0) {
		log_debug("no hardware timestamps for probes: the card's clock cannot be read", "device", netdev->name, "clock",
			  path, "reason", strerror(errno), NULL);
		return;
	}
	r = load(c, program, XDP_HAS_FRAGS);
	if (r < 0) /* for a device only since Linux 6.17; without it the device's MTU must fit */
		r = load(c, program, 0);
	if (!r) {
		tick(c);
		h->n++;
		return;
	}
	log_debug("no hardware timestamps for probes: the kernel does not take the program", "device", netdev->name, "reason",
		  kbpf_last_warning(), NULL);
	if (c->clock >= 0)
		close(c->clock);
}

/* The cheapest question first: there may be thousands of interfaces. */
static void look_at(struct probe_hardware *h, const struct probe_program *program, const struct if_nameindex *link,
		    bool asked)
{
	const bool anywhere = probe_program_hardware_anywhere(program);
	const int clock = netdev_clock(link->if_name);
	struct netdev netdev;
	char reason[256];

	if (h->n == PROBE_HARDWARE_MAX || (clock < 0 && !anywhere) || netdev_read(NULL, link->if_index, &netdev) < 0)
		return;
	if (!netdev.up || (!netdev.hardware && !anywhere) || netdev_xdp_obstacle(&netdev, false, asked, reason, sizeof(reason)))
		return;
	if (netdev_has_stamps(link->if_index))
		add(h, program, &netdev, clock);
}

struct probe_hardware *probe_hardware_open(const struct probe_program *program, bool asked)
{
	struct probe_hardware *h = program && probe_program_fd(program, PROBE_HOOK_XDP) >= 0 ? calloc(1, sizeof(*h)) : NULL;
	struct if_nameindex *links = h ? if_nameindex() : NULL;

	for (const struct if_nameindex *link = links; link && link->if_index; link++)
		look_at(h, program, link, asked);
	if (links)
		if_freenameindex(links);
	if (h && !h->n) {
		free(h);
		h = NULL;
	}
	return h;
}

void probe_hardware_close(struct probe_hardware *hardware)
{
	for (size_t i = 0; hardware && i < hardware->n; i++) {
		close(hardware->cards[i].program);
		if (hardware->cards[i].clock >= 0)
			close(hardware->cards[i].clock);
		kbpf_map_munmap(hardware->cards[i].shared, hardware->cards[i].shared_len);
	}
	free(hardware);
}

static const struct card *find(const struct probe_hardware *hardware, uint32_t ifindex)
{
	for (size_t i = 0; hardware && i < hardware->n; i++)
		if (hardware->cards[i].ifindex == ifindex)
			return &hardware->cards[i];
	return NULL;
}

int probe_hardware_fd(const struct probe_hardware *hardware, uint32_t ifindex)
{
	const struct card *c = find(hardware, ifindex);

	return c ? c->program : -ENOENT;
}

struct probe_card *probe_hardware_card(const struct probe_hardware *hardware, uint32_t ifindex)
{
	const struct card *c = find(hardware, ifindex);

	return c ? c->shared : NULL;
}

void probe_hardware_each(const struct probe_hardware *hardware, void (*fn)(const char *name, int fd, void *userdata),
			 void *userdata)
{
	for (size_t i = 0; hardware && i < hardware->n; i++)
		fn(hardware->cards[i].name, hardware->cards[i].program, userdata);
}
