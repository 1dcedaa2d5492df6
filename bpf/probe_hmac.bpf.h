/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/*
 * The HMACs of STAMP's authenticated mode (RFC 8762, section 4.4): of what is received, and, for the reflector, of
 * what is sent. The working memory is per CPU and not on the stack, which has 512 bytes for the whole chain of calls.
 * Programs at XDP and tc run in softirqs, so a CPU is in one of them at a time.
 */
#ifndef NETSONDE_PROBE_HMAC_BPF_H
#define NETSONDE_PROBE_HMAC_BPF_H
#include "abi_probe.h"
#include "probe_io.bpf.h"
#include "sha256.h"
#include "stamp.h"

/* Index: struct probe_session.key - 1, or reflect.key - 1. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PROBE_HMAC_KEYS_MAX);
	__type(key, __u32);
	__type(value, struct probe_hmac_key);
} probe_hmac_keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct hmac_stamp);
} probe_hmac_work SEC(".maps");

static __always_inline struct probe_hmac_key *probe_hmac_key(__u32 number)
{
	__u32 index = number - 1;

	return bpf_map_lookup_elem(&probe_hmac_keys, &index);
}

static __always_inline struct hmac_stamp *probe_hmac_memory(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&probe_hmac_work, &zero);
}

/* Whether the tag of work->text is this one; in the same time whatever differs. few: with few instructions. */
static __always_inline int probe_hmac_is(struct hmac_stamp *work, const struct probe_hmac_key *key, const __u32 tag[4], bool few)
{
	__u32 differs = 0;

	if (few ? (int)hmac_stamp_compute_short(work, key) : (int)hmac_stamp_compute(work, key))
		return 0;
	for (int i = 0; i < 4; i++)
		differs |= work->tag[i] ^ tag[i];
	return !differs;
}

/*
 * Whether the 112 bytes at `payload` are an authenticated STAMP packet made with the key of that number (1 + index):
 * 1 or 0. The caller has made sure of nothing: what is too short is not genuine.
 */
static __always_inline int probe_hmac_verify(void *ctx, enum probe_at at, __u32 payload, __u32 key_number, bool few)
{
	const struct probe_hmac_key *key = probe_hmac_key(key_number);
	struct hmac_stamp *work = probe_hmac_memory();
	__u32 tag[4];

	_Static_assert(sizeof(work->text) == __builtin_offsetof(struct stamp_reflector_authenticated, hmac),
		       "all before it");
	if (!key || !work || probe_load(ctx, at, payload, work->text, sizeof(work->text)) ||
	    probe_load(ctx, at, payload + sizeof(work->text), tag, sizeof(tag)))
		return 0;
	return probe_hmac_is(work, key, tag, few);
}

#endif
