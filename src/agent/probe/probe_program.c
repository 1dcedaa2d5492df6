/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_program.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "agent/probe/netdev.h"
#include "agent/probe/reflect_addresses.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "probe_match.h"
#include "probe.skel.h"
#include "stamp.h"

/* Most addresses whose rate the reflector knows at a time: 1 MB. */
#define REFLECT_SOURCES_MAX 16384
#define REFLECT_ADDRESSES_MAX 4096 /* of this host */
/* BPF_FUNC_ktime_get_tai_ns, uapi; Linux 6.1. */
#define HELPER_KTIME_GET_TAI_NS 208

/* All programs; without XDP, whose helpers for packets in fragments came with 5.18; or the packet socket's alone. */
enum load_try { LOAD_ALL, LOAD_WITHOUT_XDP, LOAD_SOCKET, LOAD_TRIES };

struct probe_program {
	struct probe_bpf *skel;
	struct probe_session *sessions;
	struct probe_flight *flights;
	struct probe_packet_counts *counts;
	struct probe_shortcut *shortcuts;
	size_t sessions_len, flights_len, counts_len, shortcuts_len;
	uint32_t sessions_max, shortcuts_max, cpus;
	bool slots[PROBE_DEVICES_MAX]; /* taken */
	uint32_t address_rounds;
	bool hardware_anywhere;
};

static uint32_t round_up(uint32_t n)
{
	uint32_t size = 1;

	while (size < n && size < 1U << 31)
		size <<= 1;
	return size;
}

static void set_reflector(struct probe_bpf *skel, const struct probe_program_options *options)
{
	struct reflect_settings reflect = {
		.on = true,
		.icmp = options->reflect_icmp,
		.authenticated_only = options->reflect_authenticated_only,
		.port = options->reflect_port ? options->reflect_port : STAMP_PORT,
		.key = options->reflect_key,
	};

	if (options->reflect_rate) {
		reflect.interval_ns = NS_PER_SEC / options->reflect_rate;
		reflect.tolerance_ns = reflect.interval_ns * (options->reflect_burst ? options->reflect_burst - 1 : 0);
	}
	skel->rodata->reflect = reflect;
}

static int set_sizes(struct probe_program *p, const struct probe_program_options *options)
{
	struct probe_bpf *skel = p->skel;
	int r;

	r = bpf_map__set_max_entries(skel->maps.probe_keys, p->sessions_max);
	if (!r)
		r = bpf_map__set_max_entries(skel->maps.probe_sessions, p->sessions_max);
	if (!r)
		r = bpf_map__set_max_entries(skel->maps.probe_flights, round_up(options->flights_max));
	if (!r)
		r = bpf_map__set_max_entries(skel->maps.probe_shortcuts, p->shortcuts_max);
	if (!r)
		r = bpf_map__set_max_entries(skel->maps.probe_packet_counts, p->cpus * PROBE_DEVICES_MAX);
	if (!r)
		r = bpf_map__set_max_entries(skel->maps.reflect_sources, options->reflect ? REFLECT_SOURCES_MAX : 1);
	if (!r)
		r = bpf_map__set_max_entries(skel->maps.reflect_addresses,
					     options->reflect ? REFLECT_ADDRESSES_MAX : 1);
	return r;
}

static int try_load(struct probe_program *p, const struct probe_program_options *options, enum load_try which)
{
	struct probe_bpf *skel = probe_bpf__open();
	int r;

	if (!skel)
		return -errno;
	p->skel = skel;
	skel->rodata->icmp_first = options->icmp_first;
	skel->rodata->port_first = options->port_first;
	skel->rodata->port_count = options->port_count;
	skel->rodata->shortcuts_mask = p->shortcuts_max - 1;
	skel->rodata->has_tai = libbpf_probe_bpf_helper(BPF_PROG_TYPE_SCHED_CLS, HELPER_KTIME_GET_TAI_NS, NULL) == 1;
	if (options->reflect && skel->rodata->has_tai)
		set_reflector(skel, options);
	bpf_program__set_autoload(skel->progs.probe_xdp, which == LOAD_ALL);
	bpf_program__set_autoload(skel->progs.probe_xdp_generic, which == LOAD_ALL);
	bpf_program__set_autoload(skel->progs.probe_receive, which != LOAD_SOCKET);
	bpf_program__set_autoload(skel->progs.probe_send, which != LOAD_SOCKET);
	r = set_sizes(p, options);
	if (!r)
		r = probe_bpf__load(skel);
	if (r < 0) {
		probe_bpf__destroy(skel);
		p->skel = NULL;
	}
	return r;
}

static int load(struct probe_program *p, const struct probe_program_options *options, struct error *ret_error)
{
	int r = try_load(p, options, LOAD_ALL);

	if (r == -EPERM)
		return error_set(ret_error, r,
				 "cannot load the probe programs: no permission; run as root, or with CAP_BPF, "
				 "CAP_NET_ADMIN and CAP_PERFMON");
	for (int which = LOAD_WITHOUT_XDP; r < 0 && which < LOAD_TRIES; which++)
		r = try_load(p, options, which);
	if (r < 0)
		return error_set_errno(ret_error, r, "the kernel does not take the probe programs (%s)",
				       kbpf_last_warning());
	return 0;
}

int probe_program_open(const struct probe_program_options *options, struct probe_program **ret_program,
		       struct error *ret_error)
{
	struct probe_program *p = calloc(1, sizeof(*p));
	int cpus = libbpf_num_possible_cpus(), r;

	if (!p)
		return -ENOMEM;
	assert(options->port_count <= PROBE_PORTS_MAX && options->reflect_key <= PROBE_HMAC_KEYS_MAX);
	p->cpus = cpus > 0 ? (uint32_t)cpus : 1;
	p->hardware_anywhere = options->hardware_anywhere;
	p->sessions_max = options->sessions_max + 1; /* and nobody's */
	p->shortcuts_max = round_up(p->sessions_max * 2); /* a quarter full: 1 % of the sessions find no place */
	r = load(p, options, ret_error);
	if (!r)
		r = kbpf_map_mmap(p->skel->maps.probe_sessions, (void **)&p->sessions, &p->sessions_len);
	if (!r)
		r = kbpf_map_mmap(p->skel->maps.probe_flights, (void **)&p->flights, &p->flights_len);
	if (!r)
		r = kbpf_map_mmap(p->skel->maps.probe_packet_counts, (void **)&p->counts, &p->counts_len);
	if (!r)
		r = kbpf_map_mmap(p->skel->maps.probe_shortcuts, (void **)&p->shortcuts, &p->shortcuts_len);
	if (r < 0) {
		probe_program_close(p);
		return r;
	}
	*ret_program = p;
	return 0;
}

void probe_program_close(struct probe_program *program)
{
	if (!program)
		return;
	kbpf_map_munmap(program->sessions, program->sessions_len);
	kbpf_map_munmap(program->flights, program->flights_len);
	kbpf_map_munmap(program->counts, program->counts_len);
	kbpf_map_munmap(program->shortcuts, program->shortcuts_len);
	probe_bpf__destroy(program->skel);
	free(program);
}

int probe_program_fd(const struct probe_program *program, enum probe_hook hook)
{
	const struct probe_bpf *skel = program->skel;
	int fd = -EINVAL;

	switch (hook) {
	case PROBE_HOOK_XDP: fd = bpf_program__fd(skel->progs.probe_xdp); break;
	case PROBE_HOOK_XDP_GENERIC: fd = bpf_program__fd(skel->progs.probe_xdp_generic); break;
	case PROBE_HOOK_TC_RECEIVE: fd = bpf_program__fd(skel->progs.probe_receive); break;
	case PROBE_HOOK_TC_SEND: fd = bpf_program__fd(skel->progs.probe_send); break;
	case PROBE_HOOK_SOCKET: fd = bpf_program__fd(skel->progs.probe_socket); break;
	case PROBE_HOOK_SOCKET_SEND: fd = bpf_program__fd(skel->progs.probe_socket_send); break;
	case PROBE_HOOK_COUNT: break;
	}
	return fd < 0 ? -EOPNOTSUPP : fd;
}

bool probe_program_reflects(const struct probe_program *program)
{
	return program->skel->rodata->reflect.on;
}

int probe_program_map(const struct probe_program *program, const char *name)
{
	return bpf_object__find_map_fd_by_name(program->skel->obj, name);
}

bool probe_program_hardware_anywhere(const struct probe_program *program)
{
	return program->hardware_anywhere;
}

/* ---- sessions ---- */

struct probe_flight *probe_program_flights(const struct probe_program *program)
{
	return program->flights;
}

uint32_t probe_program_flights_max(const struct probe_program *program)
{
	return bpf_map__max_entries(program->skel->maps.probe_flights);
}

struct probe_session *probe_program_sessions(const struct probe_program *program)
{
	return program->sessions;
}

/* A reader that finds half a key goes to the map, which is right at any time. */
static void take_shortcut(struct probe_program *p, const struct probe_key *key, uint32_t index)
{
	struct probe_shortcut *shortcut = &p->shortcuts[probe_key_hash(key) & (p->shortcuts_max - 1)];

	for (size_t i = 0; i < 2; i++) {
		if (shortcut->ways[i].index != PROBE_SESSION_NONE)
			continue;
		shortcut->ways[i].key = *key;
		shortcut->ways[i].first = p->sessions[index].first;
		shortcut->ways[i].mask = p->sessions[index].mask;
		__atomic_store_n(&shortcut->ways[i].index, index, __ATOMIC_RELEASE);
		return;
	}
}

static void leave_shortcut(struct probe_program *p, const struct probe_key *key)
{
	struct probe_shortcut *shortcut = &p->shortcuts[probe_key_hash(key) & (p->shortcuts_max - 1)];

	for (size_t i = 0; i < 2; i++) {
		if (!probe_key_equal(&shortcut->ways[i].key, key))
			continue;
		__atomic_store_n(&shortcut->ways[i].index, PROBE_SESSION_NONE, __ATOMIC_RELEASE);
		memset(&shortcut->ways[i].key, 0, sizeof(*key));
	}
}

int probe_program_session_add(struct probe_program *program, const struct probe_key *key, uint32_t index)
{
	int r;

	assert(index != PROBE_SESSION_NONE && index < program->sessions_max);
	r = bpf_map_update_elem(bpf_map__fd(program->skel->maps.probe_keys), key, &index, BPF_NOEXIST);
	if (!r)
		take_shortcut(program, key, index);
	return r;
}

int probe_program_session_remove(struct probe_program *program, const struct probe_key *key)
{
	leave_shortcut(program, key);
	return bpf_map_delete_elem(bpf_map__fd(program->skel->maps.probe_keys), key);
}

int probe_program_hmac_key(struct probe_program *program, uint32_t index, const struct probe_hmac_key *key)
{
	assert(index < PROBE_HMAC_KEYS_MAX);
	return bpf_map_update_elem(bpf_map__fd(program->skel->maps.probe_hmac_keys), &index, key, BPF_ANY);
}

/* ---- devices ---- */

/* Its place among those with its remainder; NULL: both are taken. */
static struct probe_device_entry *entry_of(const struct probe_program *p, uint32_t ifindex)
{
	struct probe_device_entry *bucket = p->skel->bss->probe_devices[ifindex % PROBE_DEVICE_BUCKETS];

	for (size_t i = 0; i < 2; i++)
		if (bucket[i].ifindex == ifindex)
			return &bucket[i];
	for (size_t i = 0; i < 2; i++)
		if (!bucket[i].ifindex)
			return &bucket[i];
	return NULL;
}

/* A program that runs at this moment sees the old one or the new one. */
static void write_entry(struct probe_device_entry *at, const struct probe_device_entry *entry)
{
	uint64_t whole;

	memcpy(&whole, entry, sizeof(whole));
	__atomic_store_n((uint64_t *)(void *)at, whole, __ATOMIC_RELEASE);
}

static void clear_counts(struct probe_program *p, uint32_t slot)
{
	for (uint32_t cpu = 0; cpu < p->cpus; cpu++)
		memset(&p->counts[cpu * PROBE_DEVICES_MAX + slot], 0, sizeof(*p->counts));
}

int probe_program_device_add(struct probe_program *program, uint32_t ifindex, bool reflect, uint32_t *ret_slot)
{
	struct probe_device_entry *at = entry_of(program, ifindex), entry = { .ifindex = ifindex, .reflect = reflect };
	struct reflect_mac mac = { 0 };
	struct netdev device;
	uint32_t slot = 0;
	bool known;

	if (!ifindex)
		return -ENODEV;
	while (slot < PROBE_DEVICES_MAX && program->slots[slot])
		slot++;
	if (!at || slot == PROBE_DEVICES_MAX)
		return -ENOSPC;
	if (at->ifindex == ifindex)
		return -EEXIST;
	if (!netdev_read(NULL, ifindex, &device)) {
		entry.is_ip = !netdev_ethernet(&device, &known);
		if (!entry.is_ip)
			memcpy(mac.bytes, device.mac, sizeof(device.mac));
	}
	entry.slot = (uint8_t)slot;
	clear_counts(program, slot);
	program->skel->bss->reflect_macs[slot] = mac;
	program->slots[slot] = true;
	write_entry(at, &entry);
	if (reflect)
		probe_program_addresses(program);
	*ret_slot = slot;
	return 0;
}

void probe_program_device_remove(struct probe_program *program, uint32_t slot)
{
	const struct probe_device_entry none = { 0 };

	if (slot >= PROBE_DEVICES_MAX || !program->slots[slot])
		return;
	for (size_t i = 0; i < PROBE_DEVICE_BUCKETS; i++)
		for (size_t k = 0; k < 2; k++) {
			struct probe_device_entry *entry = &program->skel->bss->probe_devices[i][k];

			if (entry->ifindex && entry->slot == slot)
				write_entry(entry, &none);
		}
	program->slots[slot] = false;
}

uint64_t probe_program_packets(const struct probe_program *program, uint32_t slot, enum probe_action action)
{
	uint64_t sum = 0;

	if (slot >= PROBE_DEVICES_MAX)
		return 0;
	for (uint32_t cpu = 0; cpu < program->cpus; cpu++)
		sum += PROBE_READ(program->counts[cpu * PROBE_DEVICES_MAX + slot].packets[action]);
	return sum;
}

/* ---- */

int probe_program_addresses(struct probe_program *program)
{
	int r;

	if (!probe_program_reflects(program))
		return 0;
	r = reflect_addresses_read(bpf_map__fd(program->skel->maps.reflect_addresses), ++program->address_rounds);
	if (r < 0)
		log_warn("the reflector does not know all addresses of this host, and does not answer for the others",
			 "reason", strerror(-r), NULL);
	return r;
}

void probe_program_clock(struct probe_program *program, uint16_t error_estimate, int32_t tai_offset_s)
{
	volatile struct reflect_clock *clock = &program->skel->bss->reflect_clock;

	clock->tai_offset_ns = (uint64_t)((int64_t)tai_offset_s * (int64_t)NS_PER_SEC);
	clock->error_estimate = error_estimate;
}

void probe_program_stats(const struct probe_program *program, struct probe_program_stats *ret_stats)
{
	for (size_t i = 0; i < REFLECT_REFUSED_COUNT; i++)
		ret_stats->reflect_refused[i] = PROBE_READ(program->skel->bss->reflect_refused[i]);
	ret_stats->rejected = PROBE_READ(program->sessions[PROBE_SESSION_NONE].rejected);
}

void probe_program_each(const struct probe_program *program, void (*fn)(const char *name, int fd, void *userdata),
			void *userdata)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, program->skel->obj)
		if (bpf_program__fd(p) >= 0)
			fn(bpf_program__name(p), bpf_program__fd(p), userdata);
}
