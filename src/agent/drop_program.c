/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/drop_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abi_drop.h"
#include "agent/kbpf.h"
#include "drop.skel.h"
#include "lib/json.h"

static const char *const protocol_names[DROP_PROTOCOL_COUNT] = {
	[DROP_TCP] = "tcp", [DROP_UDP] = "udp", [DROP_ICMP] = "icmp", [DROP_ICMPV6] = "icmpv6",
	[DROP_OTHER_IP] = "other_ip", [DROP_ARP] = "arp", [DROP_OTHER] = "other", [DROP_NONE] = "none",
};

struct drop_program {
	struct drop_bpf *skel;
	struct drop_reasons *reasons;
	const struct drop_row *table; /* shards after each other */
	void *memory;
	size_t memory_len;
	uint32_t shards;
	unsigned arguments;           /* of the tracepoint */
	uint32_t only_netns;
	bool can_name;
	struct drop_count *counts;    /* room for every row and protocol */
	size_t n_counts;
	struct bpf_link *link;
};

/* A power of two, as many as there are processors. */
static uint32_t shards_wanted(void)
{
	int processors = libbpf_num_possible_cpus();
	uint32_t n = 1;

	while (n < DROP_SHARDS_MAX && (int)n < processors)
		n *= 2;
	return n;
}

/* What the kernel has; -EOPNOTSUPP when it lacks the tracepoint. */
static int look_at_kernel(struct drop_program *p, struct error *ret_error)
{
	struct btf *btf = kbpf_btf_load();
	int r;

	if (!btf)
		return error_set(ret_error, -EOPNOTSUPP, "this kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF=y");
	if (kbpf_tracepoint_exists(btf, "kfree_skb", &p->arguments))
		r = drop_reasons_new(btf, &p->reasons);
	else
		r = error_set(ret_error, -EOPNOTSUPP, "this kernel has no tracepoint kfree_skb");
	kbpf_btf_free(btf);
	return r;
}

static void configure(const struct drop_program *p, struct drop_bpf *skel, bool can_name, bool tell)
{
	const struct drop_reasons *reasons = p->reasons;

	skel->rodata->only_netns = p->only_netns;
	skel->rodata->has_reason = p->arguments >= 3 && drop_reasons_known(reasons);
	skel->rodata->has_socket = p->arguments >= 4;
	skel->rodata->can_name = can_name;
	skel->rodata->tell = tell;
	skel->rodata->reason_consumed = drop_reasons_number(reasons, "consumed");
	skel->rodata->reason_unspecified = drop_reasons_number(reasons, "not_specified");
	skel->rodata->reason_purged = drop_reasons_number(reasons, "queue_purge");
	skel->rodata->reason_xdp = drop_reasons_number(reasons, "xdp");
	skel->rodata->reason_tc_ingress = drop_reasons_number(reasons, "tc_ingress");
	skel->rodata->icmp6_untold = drop_reasons_number(reasons, "ipv6_ndisc_bad_options") == DROP_REASON_NONE;
	skel->rodata->core_rows = drop_reasons_core_rows(reasons);
	skel->rodata->subsystems = drop_reasons_subsystems(reasons);
	skel->rodata->table_rows = drop_reasons_rows(reasons);
	skel->rodata->shard_mask = p->shards - 1;
}

static int try_load(struct drop_program *p, const struct events *events, bool can_name)
{
	struct drop_bpf *skel = drop_bpf__open();
	int r = 0;

	if (!skel)
		return -errno;
	configure(p, skel, can_name, events != NULL);
	if (bpf_map__set_max_entries(skel->maps.drops, p->shards * drop_reasons_rows(p->reasons)))
		r = -EINVAL;
	if (!r && events)
		r = events_share(events, skel->obj);
	if (!r)
		r = drop_bpf__load(skel);
	if (r < 0) {
		drop_bpf__destroy(skel);
		return r;
	}
	p->skel = skel;
	p->can_name = can_name;
	return 0;
}

static int load(struct drop_program *p, const struct events *events, struct error *ret_error)
{
	int r = try_load(p, events, true);

	if (r < 0 && r != -EPERM)
		r = try_load(p, NULL, false);
	if (r == -EPERM)
		return error_set(ret_error, r, "cannot load the program for drops: no permission; run as root, or with CAP_BPF and CAP_PERFMON");
	if (r < 0)
		return error_set_errno(ret_error, r, "the kernel does not take the program for drops (%s)", kbpf_last_warning());
	r = kbpf_map_mmap(p->skel->maps.drops, &p->memory, &p->memory_len);
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot map the table of drops into memory");
	p->table = p->memory;
	return 0;
}

int drop_program_open(const struct events *events, uint32_t only_netns, struct drop_program **ret_program, struct error *ret_error)
{
	struct drop_program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->only_netns = only_netns;
	p->shards = shards_wanted();
	r = look_at_kernel(p, ret_error);
	if (!r) {
		p->counts = calloc((size_t)drop_reasons_rows(p->reasons) * DROP_PROTOCOL_COUNT, sizeof(*p->counts));
		r = p->counts ? load(p, events, ret_error) : -ENOMEM;
	}
	if (r < 0) {
		drop_program_close(p);
		return r;
	}
	*ret_program = p;
	return 0;
}

void drop_program_close(struct drop_program *program)
{
	if (!program)
		return;
	bpf_link__destroy(program->link);
	kbpf_map_munmap(program->memory, program->memory_len);
	drop_bpf__destroy(program->skel);
	drop_reasons_free(program->reasons);
	free(program->counts);
	free(program);
}

static void report_features(const struct drop_program *p, struct features *features)
{
	features_enable(features, "drops", "tp_btf");
	if (!p->skel->rodata->has_reason)
		features_miss(features, "drop_reasons", "this kernel does not tell why it drops a packet: every reason is \"unknown\"",
			      "needs Linux 5.17 or newer");
	if (!p->can_name)
		features_miss(features, "drop_events",
			      "the kernel does not take the program with events: drops are counted only, and a closing TCP connection may count as one",
			      "needs Linux 5.13 or newer");
}

int drop_program_attach(struct drop_program *p, struct features *features, struct error *ret_error)
{
	p->link = bpf_program__attach(p->skel->progs.drop_packet);
	if (!p->link)
		return error_set_errno(ret_error, -errno, "cannot attach to the tracepoint kfree_skb");
	if (features)
		report_features(p, features);
	return 0;
}

void drop_program_read(struct drop_program *p)
{
	uint32_t rows = drop_reasons_rows(p->reasons);

	p->n_counts = 0;
	for (uint32_t row = 0; row < rows; row++) {
		uint64_t sums[DROP_PROTOCOL_COUNT] = { 0 };

		for (uint32_t shard = 0; shard < p->shards; shard++)
			for (size_t i = 0; i < DROP_PROTOCOL_COUNT; i++)
				sums[i] += __atomic_load_n(&p->table[shard * rows + row].packets[i], __ATOMIC_RELAXED);
		for (size_t i = 0; i < DROP_PROTOCOL_COUNT; i++)
			if (sums[i])
				p->counts[p->n_counts++] = (struct drop_count){
					drop_reasons_row_name(p->reasons, row), protocol_names[i], sums[i],
				};
	}
}

size_t drop_program_counts(const struct drop_program *program, const struct drop_count **ret_counts)
{
	*ret_counts = program->counts;
	return program->n_counts;
}

const struct drop_reasons *drop_program_reasons(const struct drop_program *program)
{
	return program->reasons;
}

uint64_t drop_program_missed(const struct drop_program *program)
{
	return kbpf_recursion_misses(drop_program_fd(program));
}

uint64_t drop_program_noise(const struct drop_program *program)
{
	return program->skel->bss->kept_out;
}

int drop_program_own_xdp(struct drop_program *program, uint32_t netns, uint32_t ifindex, bool on)
{
	const struct drop_device key = { netns, ifindex };
	int fd = bpf_map__fd(program->skel->maps.own_xdp_devices), r;
	const uint8_t one = 1;

	r = on ? bpf_map_update_elem(fd, &key, &one, BPF_ANY) : bpf_map_delete_elem(fd, &key);
	if (!r)
		return 0;
	if (errno == E2BIG)
		return -ENOSPC;
	return !on && errno == ENOENT ? 0 : -errno;
}

int drop_program_write_json(const struct drop_program *program, struct buffer *out)
{
	json_t *drops = json_array();

	for (size_t i = 0; i < program->n_counts; i++) {
		const struct drop_count *c = &program->counts[i];

		json_array_append_new(drops, json_pack("{s:s, s:s, s:I}", "reason", c->reason, "protocol", c->protocol, "count",
						       (json_int_t)c->packets));
	}
	return json_write(json_pack("{s:s, s:{s:o}}", "status", "success", "data", "drops", drops), out);
}

int drop_program_fd(const struct drop_program *program)
{
	return bpf_program__fd(program->skel->progs.drop_packet);
}
