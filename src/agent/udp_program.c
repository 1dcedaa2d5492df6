/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/udp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "agent/kbpf.h"
#include "udp.skel.h"

#define TRACEPOINT "udp_fail_queue_rcv_skb"
#define FEATURE_DROPS "udp_receive_drops"
#define FEATURE_DROPS_IPV6 "udp_receive_drops_ipv6"

struct udp_program {
	struct udp_bpf *skel;
	struct peers *peers;
	struct udp_row *rows;
	size_t rows_len;
	enum udp_drops_mode drops;
	struct bpf_link *egress, *ingress, *drop;
};

/* What the tracepoint passes: return code, socket and, since Linux 6.10, the packet. */
static enum udp_drops_mode best_mode(void)
{
	struct btf *btf = kbpf_btf_load();
	unsigned arguments = 0;
	bool there = kbpf_tracepoint_exists(btf, TRACEPOINT, &arguments);

	kbpf_btf_free(btf);
	return !there ? UDP_DROPS_OFF : arguments >= 3 ? UDP_DROPS_PACKET : UDP_DROPS_SOCKET;
}

static int try_load(struct udp_program *p, enum udp_drops_mode mode)
{
	struct udp_bpf *skel = udp_bpf__open();
	int r;

	if (!skel)
		return -errno;
	bpf_program__set_autoload(skel->progs.udp_drop, mode == UDP_DROPS_PACKET);
	bpf_program__set_autoload(skel->progs.udp_drop_no_packet, mode == UDP_DROPS_SOCKET);
	skel->rodata->only_netns = peers_scope(p->peers);
	r = peers_share(p->peers, skel->obj);
	if (!r)
		r = bpf_map__set_max_entries(skel->maps.rows, peers_slots(p->peers));
	if (!r)
		r = udp_bpf__load(skel);
	if (r < 0) {
		udp_bpf__destroy(skel);
		return r;
	}
	p->skel = skel;
	p->drops = mode;
	return 0;
}

static int load(struct udp_program *p, enum udp_drops_mode mode, struct error *ret_error)
{
	int r = try_load(p, mode);

	if (r == -EPERM)
		return error_set(ret_error, r, "cannot load the UDP programs: no permission; run as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN");
	/* Reading the packet's memory may be forbidden (lockdown), tracing too. */
	if (r < 0 && mode == UDP_DROPS_PACKET)
		r = try_load(p, UDP_DROPS_SOCKET);
	if (r < 0 && mode != UDP_DROPS_OFF)
		r = try_load(p, UDP_DROPS_OFF);
	return r < 0 ? error_set_errno(ret_error, r, "the kernel does not take the UDP programs (%s)", kbpf_last_warning()) : 0;
}

/* As heavy as its bytes, like a candidate. */
static uint64_t row_weight(const void *row)
{
	const struct udp_row *r = row;

	return r->sent_bytes + r->received_bytes;
}

static int attach_peers(struct udp_program *p)
{
	struct udp_bpf *skel = p->skel;
	const struct peers_table table = {
		.generation = (uint64_t *)&skel->data->generation,
		.resolve_generation = &skel->data->resolve_generation,
		.network_count = &skel->bss->network_count,
		.sweep_parity = &skel->bss->sweep_parity,
		.slots_may_be_free = &skel->data->slots_may_be_free,
		.slots_taken = (const uint64_t *)&skel->bss->slots_taken,
		.lost_candidates = (const uint64_t *)&skel->bss->lost_candidates,
		.rows = p->rows,
		.row_size = sizeof(*p->rows),
		.parts = 1,
		.weight = row_weight,
	};

	return peers_attach(p->peers, &table);
}

int udp_program_open(struct peers *peers, enum udp_drops_mode mode, struct udp_program **ret_program, struct error *ret_error)
{
	struct udp_program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->peers = peers;
	r = load(p, mode == UDP_DROPS_BEST ? best_mode() : mode, ret_error);
	if (!r) {
		r = kbpf_map_mmap(p->skel->maps.rows, (void **)&p->rows, &p->rows_len);
		if (!r)
			r = attach_peers(p);
		if (r < 0)
			error_set_errno(ret_error, r, "cannot add the UDP rows to the peer table");
	}
	if (r < 0) {
		udp_program_close(p);
		return r;
	}
	*ret_program = p;
	return 0;
}

void udp_program_close(struct udp_program *program)
{
	if (!program)
		return;
	bpf_link__destroy(program->egress);
	bpf_link__destroy(program->ingress);
	bpf_link__destroy(program->drop);
	if (program->rows)
		peers_detach(program->peers, program->rows);
	kbpf_map_munmap(program->rows, program->rows_len);
	udp_bpf__destroy(program->skel);
	free(program);
}

/* Returns why there are none, or NULL. */
static const char *attach_drops(struct udp_program *p)
{
	if (p->drops == UDP_DROPS_OFF)
		return "this kernel has no such hook, or its verifier refuses the program";
	p->drop = bpf_program__attach(p->drops == UDP_DROPS_PACKET ? p->skel->progs.udp_drop : p->skel->progs.udp_drop_no_packet);
	if (p->drop)
		return NULL;
	p->drops = UDP_DROPS_OFF;
	return strerror(errno);
}

/* Of IPv6 it fires from Linux 6.6 on; its type does not tell. */
static bool kernel_tells_ipv6(void)
{
	unsigned major, minor;
	struct utsname name;

	if (uname(&name) || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return true;
	return major > 6 || (major == 6 && minor >= 6);
}

static void report_features(const struct udp_program *p, const char *no_drops, struct features *features)
{
	features_enable(features, "udp", "cgroup_skb");
	if (no_drops) {
		features_miss(features, FEATURE_DROPS, no_drops, "needs Linux 6.1 or newer");
		return;
	}
	features_enable(features, FEATURE_DROPS, p->drops == UDP_DROPS_PACKET ? "tp_btf" : "tp_btf_connected");
	if (!kernel_tells_ipv6())
		features_miss(features, FEATURE_DROPS_IPV6,
			      "this kernel does not tell of IPv6 datagrams that a socket had no room for", "needs Linux 6.6 or newer");
}

int udp_program_attach(struct udp_program *p, int cgroup_fd, struct features *features, struct error *ret_error)
{
	/* Drops first: what is received and dropped is never seen as received only. */
	const char *no_drops = attach_drops(p);

	p->ingress = bpf_program__attach_cgroup(p->skel->progs.udp_ingress, cgroup_fd);
	p->egress = p->ingress ? bpf_program__attach_cgroup(p->skel->progs.udp_egress, cgroup_fd) : NULL;
	if (!p->egress)
		return error_set_errno(ret_error, -errno, "cannot attach the UDP programs to the root of cgroup v2");
	report_features(p, no_drops, features);
	return 0;
}

enum udp_drops_mode udp_program_drops(const struct udp_program *program)
{
	return program->drops;
}

const struct udp_row *udp_program_rows(const struct udp_program *program)
{
	return program->rows;
}

uint64_t udp_program_lost(const struct udp_program *program, enum udp_lost what)
{
	return program->skel->bss->lost[what];
}

void udp_program_each(const struct udp_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, program->skel->obj)
		if (bpf_program__fd(p) >= 0)
			fn(bpf_program__name(p), bpf_program__fd(p), userdata);
}
