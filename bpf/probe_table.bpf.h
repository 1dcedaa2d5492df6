/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * What the probe programs share with user space: sessions and flights (abi_probe.h), the devices, and how many of their
 * packets the programs saw.
 */
#ifndef NETSONDE_PROBE_TABLE_BPF_H
#define NETSONDE_PROBE_TABLE_BPF_H
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include "probe_find.bpf.h"

/* Sizes are set by user space before it loads the object. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct probe_key);
	__type(value, __u32); /* index in probe_sessions */
} probe_keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_shortcut);
} probe_shortcuts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_session);
} probe_sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_flight);
} probe_flights SEC(".maps");

/* Row cpu * PROBE_DEVICES_MAX + slot: only that CPU writes it, while it handles a packet, so nothing needs to be
 * atomic. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_packet_counts);
} probe_packet_counts SEC(".maps");

/*
 * For the ways that are not the usual one, per CPU: the stack has 512 bytes for the whole chain of calls, and none for
 * what is not aligned. All programs here run with softirqs off, so a CPU is in one of them at a time.
 */
struct probe_work {
	struct packet parsed;
	struct probe_answer answer;
	struct probe_packet packet;
	unsigned char transport[PROBE_STAMP_AUTHENTICATED_BODY];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct probe_work);
} probe_work SEC(".maps");

static __always_inline struct probe_work *probe_work_memory(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&probe_work, &zero);
}

/* Set by user space before it loads the object. */
const volatile __u32 shortcuts_mask; /* their number less 1 */
const volatile bool has_tai; /* bpf_ktime_get_tai_ns, Linux 6.1; else the verifier takes the call out */

/* By index modulo PROBE_DEVICE_BUCKETS, two places each. Written by user space, each entry whole at once. */
struct probe_device_entry probe_devices[PROBE_DEVICE_BUCKETS][2] = {};

static __always_inline const struct probe_device_entry *probe_device_of(__u32 ifindex)
{
	const struct probe_device_entry *bucket = probe_devices[ifindex % PROBE_DEVICE_BUCKETS];

	if (PROBE_READ(bucket[0].ifindex) == ifindex)
		return &bucket[0];
	return PROBE_READ(bucket[1].ifindex) == ifindex ? &bucket[1] : NULL;
}

static __always_inline void probe_count_packet(const struct probe_device_entry *device, enum probe_action action)
{
	__u32 row = bpf_get_smp_processor_id() * PROBE_DEVICES_MAX + device->slot, i = action;
	struct probe_packet_counts *counts = bpf_map_lookup_elem(&probe_packet_counts, &row);

	asm volatile("" : "+r"(i));
	if (counts && i < PROBE_ACTION_COUNT)
		counts->packets[i]++;
}

/* A session, and where its ring is: apart, so that both need not be fetched one behind the other. */
struct probe_route {
	struct probe_session *session; /* NULL: nobody's */
	__u32 first, mask;
};

static __always_inline void probe_route_by_map(const struct probe_key *key, struct probe_route *ret)
{
	__u32 *index = bpf_map_lookup_elem(&probe_keys, key), i;

	ret->session = NULL;
	if (!index)
		return;
	i = *index;
	ret->session = bpf_map_lookup_elem(&probe_sessions, &i);
	if (!ret->session)
		return;
	ret->first = PROBE_READ(ret->session->first);
	ret->mask = PROBE_READ(ret->session->mask);
}

/* The look-up in the map costs 22 ns, the short cut 5: for an array no function is called. */
static __always_inline void probe_route_of(const struct probe_key *key, struct probe_route *ret)
{
	__u32 i = probe_key_hash(key) & shortcuts_mask;
	const struct probe_shortcut *shortcut = bpf_map_lookup_elem(&probe_shortcuts, &i);
	const struct probe_shortcut_way *way;

	if (!shortcut)
		return probe_route_by_map(key, ret);
	way = probe_key_equal(&shortcut->ways[0].key, key) ? &shortcut->ways[0] : &shortcut->ways[1];
	i = PROBE_READ(way->index);
	if (i == PROBE_SESSION_NONE || (way != &shortcut->ways[0] && !probe_key_equal(&way->key, key)))
		return probe_route_by_map(key, ret);
	ret->first = PROBE_READ(way->first);
	ret->mask = PROBE_READ(way->mask);
	ret->session = bpf_map_lookup_elem(&probe_sessions, &i);
}

/* The flight in the ring, or NULL: user space made no mistake, but the verifier wants to know. */
static __always_inline struct probe_flight *probe_flight_of(const struct probe_route *route, __u32 sequence)
{
	__u32 index = route->first + (sequence & route->mask);

	return bpf_map_lookup_elem(&probe_flights, &index);
}

/* Looks like ours and is nobody's. */
static __always_inline void probe_reject_stray(const struct probe_answer *answer)
{
	__u32 none = PROBE_SESSION_NONE;
	struct probe_session *session = bpf_map_lookup_elem(&probe_sessions, &none);

	if (session)
		probe_reject(session, answer);
}

#endif
