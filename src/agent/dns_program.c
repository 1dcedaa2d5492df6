/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dns_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/kbpf.h"
#include "dns.skel.h"

/* As long as idle peers keep theirs (peers.c). */
#define IDLE_NS (600 * NS_PER_SEC)
/* Between taking a row off the look-up map and clearing it: no query lives as long, and no program runs as long. */
#define LEAVE_NS (60 * NS_PER_SEC)

enum slot_state { SLOT_FREE, SLOT_USED, SLOT_LEAVING };

struct slot {
	enum slot_state state;
	uint64_t changes; /* of the row, when it was last seen to change */
	mono_time since;  /* that, or when it began to leave */
};

struct dns_program {
	struct dns_bpf *skel;
	struct dns_row *rows;
	size_t rows_len;
	struct bpf_link *egress, *ingress, *expire;
	struct slot slots[DNS_SERVERS];
	uint32_t pending;
};

static int fill_free_slots(struct dns_program *p)
{
	int fd = bpf_map__fd(p->skel->maps.free_slots);

	for (uint32_t i = 0; i < DNS_SERVERS; i++)
		if (bpf_map_update_elem(fd, NULL, &i, BPF_ANY))
			return -errno;
	return 0;
}

int dns_program_open(uint32_t only_netns, struct dns_program **ret_program, struct error *ret_error)
{
	struct dns_program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->skel = dns_bpf__open();
	if (p->skel)
		p->skel->rodata->only_netns = only_netns;
	r = p->skel ? dns_bpf__load(p->skel) : -errno;
	if (r == -EPERM)
		error_set(ret_error, r, "cannot load the DNS programs: no permission; run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN");
	else if (r < 0)
		error_set_errno(ret_error, r, "the kernel does not take the DNS programs (%s)", kbpf_last_warning());
	if (!r) {
		r = kbpf_map_mmap(p->skel->maps.rows, (void **)&p->rows, &p->rows_len);
		if (!r)
			r = fill_free_slots(p);
		if (r < 0)
			error_set_errno(ret_error, r, "cannot set up the DNS maps");
	}
	if (r < 0) {
		dns_program_close(p);
		return r;
	}
	*ret_program = p;
	return 0;
}

void dns_program_close(struct dns_program *program)
{
	if (!program)
		return;
	bpf_link__destroy(program->egress);
	bpf_link__destroy(program->ingress);
	bpf_link__destroy(program->expire);
	kbpf_map_munmap(program->rows, program->rows_len);
	dns_bpf__destroy(program->skel);
	free(program);
}

static int attach_expire(struct dns_program *p)
{
	union bpf_iter_link_info info = { .map.map_fd = (__u32)bpf_map__fd(p->skel->maps.pending) };
	struct bpf_iter_attach_opts opts;

	/* libbpf demands zeroes behind the last field, in the padding too. */
	memset(&opts, 0, sizeof(opts));
	opts.sz = sizeof(opts);
	opts.link_info = &info;
	opts.link_info_len = sizeof(info);
	p->expire = bpf_program__attach_iter(p->skel->progs.dns_expire, &opts);
	return p->expire ? 0 : -errno;
}

int dns_program_attach(struct dns_program *p, int cgroup_fd, struct error *ret_error)
{
	int r = attach_expire(p);

	if (r < 0)
		return error_set_errno(ret_error, r, "cannot attach the expiry of DNS queries");
	/* Answers first: a query that is seen while its answer would be missed is a time-out that never was. */
	p->ingress = bpf_program__attach_cgroup(p->skel->progs.dns_ingress, cgroup_fd);
	if (!p->ingress)
		return error_set_errno(ret_error, -errno, "cannot attach the DNS programs to the root of cgroup v2");
	p->egress = bpf_program__attach_cgroup(p->skel->progs.dns_egress, cgroup_fd);
	if (!p->egress)
		return error_set_errno(ret_error, -errno, "cannot attach the DNS programs to the root of cgroup v2");
	return 0;
}

void dns_program_set_times(struct dns_program *program, uint64_t timeout_ns, uint64_t keep_ns)
{
	program->skel->data->timeout_ns = timeout_ns;
	program->skel->data->keep_ns = keep_ns;
}

static void free_slot(struct dns_program *p, uint32_t i)
{
	memset(&p->rows[i], 0, sizeof(p->rows[i]));
	if (!bpf_map_update_elem(bpf_map__fd(p->skel->maps.free_slots), NULL, &i, BPF_ANY))
		p->slots[i].state = SLOT_FREE;
}

static void age_slot(struct dns_program *p, uint32_t i, mono_time now)
{
	struct slot *slot = &p->slots[i];
	const struct dns_row *row = &p->rows[i];
	uint64_t changes = __atomic_load_n(&row->changes, __ATOMIC_ACQUIRE);

	switch (slot->state) {
	case SLOT_FREE:
		if (changes)
			*slot = (struct slot){ SLOT_USED, changes, now };
		break;
	case SLOT_USED:
		if (changes != slot->changes)
			*slot = (struct slot){ SLOT_USED, changes, now };
		else if (mono_since_ns(now, slot->since) > IDLE_NS &&
			 !bpf_map_delete_elem(bpf_map__fd(p->skel->maps.servers), &row->address))
			*slot = (struct slot){ SLOT_LEAVING, changes, now };
		break;
	case SLOT_LEAVING:
		if (mono_since_ns(now, slot->since) > LEAVE_NS)
			free_slot(p, i);
		break;
	}
}

int dns_program_sweep(struct dns_program *program, mono_time now)
{
	struct dns_bpf__bss *bss = program->skel->bss;
	int r;

	bss->expire_seen = 0;
	r = kbpf_iterate(bpf_link__fd(program->expire));
	program->pending = (uint32_t)bss->expire_seen;
	/* When it gets tight, what has been counted makes room for what has not. */
	if (program->pending > DNS_PENDING_MAX / 2)
		bss->pressed = 1;
	else if (program->pending < DNS_PENDING_MAX / 4)
		bss->pressed = 0;
	for (uint32_t i = 0; i < DNS_SERVERS; i++)
		age_slot(program, i, now);
	return r;
}

const struct dns_row *dns_program_row(const struct dns_program *program, uint32_t slot)
{
	const struct dns_row *row = &program->rows[slot];
	bool shown = slot == DNS_OTHER || program->slots[slot].state != SLOT_LEAVING;

	return shown && row->changes ? row : NULL;
}

void dns_program_stats(const struct dns_program *program, struct dns_program_stats *ret_stats)
{
	const struct dns_bpf__bss *bss = program->skel->bss;

	memset(ret_stats, 0, sizeof(*ret_stats));
	for (size_t i = 0; i < DNS_DISCARDED_COUNT; i++)
		ret_stats->discarded[i] = bss->discarded[i];
	for (size_t i = 0; i < DNS_LOST_COUNT; i++)
		ret_stats->lost[i] = bss->lost[i];
	ret_stats->pending = program->pending;
	for (uint32_t i = 0; i < DNS_SERVERS; i++)
		ret_stats->servers += program->rows[i].changes != 0;
}

void dns_program_each(const struct dns_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, program->skel->obj)
		fn(bpf_program__name(p), bpf_program__fd(p), userdata);
}
