/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/tcp_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/events.h"
#include "agent/kbpf.h"
#include "agent/netns.h"
#include "tcp.skel.h"

/* Programs the collector can do without, and what is lost then. */
struct optional_program {
	const char *feature, *program, *tracepoint;
};

enum { AGAIN, RETRANSMIT, SYNACK, RESET_OUT, RESET_IN, SEED, N_OPTIONAL };

static const struct optional_program optional_programs[N_OPTIONAL] = {
	[AGAIN] = { "tcp_interrupted_events", "tcp_state_again", "inet_sock_set_state" },
	[RETRANSMIT] = { "tcp_retransmits", "tcp_retransmit", "tcp_retransmit_skb" },
	[SYNACK] = { "tcp_synack_retransmits", "tcp_retransmit_synack", "tcp_retransmit_synack" },
	[RESET_OUT] = { "tcp_resets_sent", "tcp_send_reset", "tcp_send_reset" },
	[RESET_IN] = { "tcp_resets_received", "tcp_receive_reset", "tcp_receive_reset" },
	[SEED] = { "tcp_existing_connections", "tcp_seed", NULL },
};

struct tcp_program {
	struct tcp_bpf *skel;
	struct peers *peers;
	struct peer_row *rows;
	struct peer_hists *hists;
	size_t rows_len, hists_len;
	struct bpf_link *state, *sweep, *links[N_OPTIONAL];
	unsigned optional;     /* bit per row of optional_programs that is loaded */
	bool sweep_files;
	uint64_t state_missed; /* state changes that were really lost */
};

/* What the maps and the running kernel's signatures ask for. */
struct plan {
	const struct peers *peers;
	const struct events *events;
	uint32_t sockets_max;
	unsigned optional;
	bool retransmit_tells_error;
	bool sweep_files;
};

/* One attempt with a set of the optional programs. -errno of the load. */
static int try_load(const struct plan *plan, unsigned optional, struct tcp_bpf **ret_skel)
{
	struct tcp_bpf *skel = tcp_bpf__open();
	uint32_t slots = peers_slots(plan->peers);
	int r;

	if (!skel)
		return -errno;
	r = peers_share(plan->peers, skel->obj);
	if (!r && plan->events)
		r = events_share(plan->events, skel->obj);
	for (size_t i = 0; i < N_OPTIONAL; i++)
		bpf_program__set_autoload(bpf_object__find_program_by_name(skel->obj, optional_programs[i].program),
					  optional & 1u << i);
	bpf_program__set_autoload(skel->progs.tcp_sweep, !plan->sweep_files);
	bpf_program__set_autoload(skel->progs.tcp_sweep_files, plan->sweep_files);
	if (bpf_map__set_max_entries(skel->maps.rows, slots) || bpf_map__set_max_entries(skel->maps.hists, slots))
		r = -EINVAL;
	skel->data->sockets_max = plan->sockets_max;
	skel->rodata->retransmit_tells_error = plan->retransmit_tells_error;
	skel->rodata->only_netns = peers_scope(plan->peers);
	skel->rodata->watched_netns = netns_own_inode();
	if (!r)
		r = tcp_bpf__load(skel);
	if (r < 0) {
		tcp_bpf__destroy(skel);
		return r;
	}
	*ret_skel = skel;
	return 0;
}

/* Everything at once; when that fails, the core and then each optional program that the kernel takes. */
static int load(struct tcp_program *p, const struct plan *plan, struct error *ret_error)
{
	struct tcp_bpf *skel;
	int r = try_load(plan, plan->optional, &p->skel);

	p->optional = plan->optional;
	if (!r)
		return 0;
	if (r == -EPERM)
		return error_set(ret_error, r, "cannot load the TCP programs: no permission; run as root, or with CAP_BPF and CAP_PERFMON");
	r = try_load(plan, 0, &p->skel);
	p->optional = 0;
	if (r < 0)
		return error_set_errno(ret_error, r, "the kernel does not take the TCP programs (%s)", kbpf_last_warning());
	for (size_t i = 0; i < N_OPTIONAL; i++) {
		if (!(plan->optional & 1u << i) || try_load(plan, p->optional | 1u << i, &skel) < 0)
			continue;
		tcp_bpf__destroy(p->skel);
		p->skel = skel;
		p->optional |= 1u << i;
	}
	return 0;
}

static int attach_sweep(struct tcp_program *p)
{
	union bpf_iter_link_info info = { .map.map_fd = (__u32)bpf_map__fd(p->skel->maps.sockets) };
	struct bpf_iter_attach_opts opts;

	if (p->sweep_files) {
		p->sweep = bpf_program__attach(p->skel->progs.tcp_sweep_files);
		return p->sweep ? 0 : -errno;
	}
	/* libbpf demands zeroes behind the last field, in the padding too. */
	memset(&opts, 0, sizeof(opts));
	opts.sz = sizeof(opts);
	opts.link_info = &info;
	opts.link_info_len = sizeof(info);
	p->sweep = bpf_program__attach_iter(p->skel->progs.tcp_sweep, &opts);
	return p->sweep ? 0 : -errno;
}

int tcp_program_attach(struct tcp_program *p, struct features *features, struct error *ret_error)
{
	int r = attach_sweep(p);

	if (r < 0)
		return error_set_errno(ret_error, r, "cannot attach the TCP socket sweep");
	p->state = bpf_program__attach(p->skel->progs.tcp_state);
	if (!p->state)
		return error_set_errno(ret_error, -errno, "cannot attach to the tracepoint inet_sock_set_state");
	features_enable(features, "tcp", "tp_btf");
	features_enable(features, "tcp_sweep", p->sweep_files ? "iter_files" : "iter");
	for (size_t i = 0; i < N_OPTIONAL; i++) {
		const struct optional_program *o = &optional_programs[i];

		if (!(p->optional & 1u << i)) {
			features_miss(features, o->feature, "this kernel has no such hook, or its verifier refuses the program",
				      "needs Linux 6.1 or newer");
			continue;
		}
		p->links[i] = bpf_program__attach(bpf_object__find_program_by_name(p->skel->obj, o->program));
		if (p->links[i])
			features_enable(features, o->feature, o->tracepoint ? "tp_btf" : "iter");
		else
			features_miss(features, o->feature, strerror(errno), "");
	}
	return 0;
}

/* What this kernel has; -EOPNOTSUPP when not even what the core needs is there. */
static int make_plan(struct plan *plan, struct error *ret_error)
{
	struct btf *btf = kbpf_btf_load();
	unsigned arguments = 0;
	int r = 0;

	if (!btf)
		return error_set(ret_error, -EOPNOTSUPP, "this kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF=y");
	if (!kbpf_tracepoint_exists(btf, "inet_sock_set_state", NULL))
		r = error_set(ret_error, -EOPNOTSUPP, "this kernel has no tracepoint inet_sock_set_state");
	for (size_t i = 0; i < N_OPTIONAL; i++)
		if (!optional_programs[i].tracepoint || kbpf_tracepoint_exists(btf, optional_programs[i].tracepoint, NULL))
			plan->optional |= 1u << i;
	/*
	 * Since destroying a socket's storage sets the element's way back to the storage to NULL (the rework that gave the
	 * storage an owner_refcnt, Linux 7), the storage iterator follows that way without a check: a sweep beside a closing socket
	 * is a NULL dereference in the kernel. Seen on 7.3.4 within seconds.
	 */
	plan->sweep_files |= kbpf_member_exists(btf, "bpf_local_storage", "owner_refcnt") ||
			     !kbpf_function_exists(btf, "bpf_iter_bpf_sk_storage_map");
	plan->retransmit_tells_error = kbpf_tracepoint_exists(btf, "tcp_retransmit_skb", &arguments) && arguments >= 3;
	kbpf_btf_free(btf);
	return r;
}

/* Heavy is what moves bytes and opens connections, on the candidates' scale (weigh in bpf/peer.bpf.h). */
static uint64_t row_weight(const void *opaque)
{
	const struct peer_row *row = opaque;

	return row->sent_bytes + row->received_bytes + CANDIDATE_CONNECTION_WEIGHT * row->outcomes[OUTCOME_ESTABLISHED];
}

static void row_clear_gauges(void *opaque, uint32_t parity)
{
	struct peer_row *row = opaque;

	row->open[parity] = 0;
	row->min_rtt_us[parity ^ 1] = 0; /* closes write there once the parity has flipped */
}

static int attach_peers(struct tcp_program *p, struct error *ret_error)
{
	struct tcp_bpf *skel = p->skel;
	const struct peers_table table = {
		.generation = (uint64_t *)&skel->data->generation,
		.resolve_generation = &skel->data->resolve_generation,
		.network_count = &skel->bss->network_count,
		.sweep_parity = &skel->bss->sweep_parity,
		.slots_may_be_free = &skel->data->slots_may_be_free,
		.slots_taken = (const uint64_t *)&skel->bss->slots_taken,
		.lost_candidates = (const uint64_t *)&skel->bss->lost_candidates,
		.watched_count = &skel->bss->watched_count,
		.rows = p->rows,
		.row_size = sizeof(*p->rows),
		.parts = 1,
		.hists = p->hists,
		.hists_size = sizeof(*p->hists),
		.weight = row_weight,
		.clear_gauges = row_clear_gauges,
	};
	int r = peers_attach(p->peers, &table);

	return r < 0 ? error_set_errno(ret_error, r, "cannot add the TCP rows to the peer table") : 0;
}

int tcp_program_open(struct peers *peers, const struct events *events, uint32_t sockets_max, enum tcp_sweep_mode mode, struct tcp_program **ret_program,
		     struct error *ret_error)
{
	struct plan plan = { .peers = peers, .events = events, .sockets_max = sockets_max, .sweep_files = mode == TCP_SWEEP_FILES };
	struct tcp_program *p;
	int r = make_plan(&plan, ret_error);

	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->peers = peers;
	p->sweep_files = plan.sweep_files;
	r = load(p, &plan, ret_error);
	if (r < 0)
		goto fail;
	r = kbpf_map_mmap(p->skel->maps.rows, (void **)&p->rows, &p->rows_len);
	if (!r)
		r = kbpf_map_mmap(p->skel->maps.hists, (void **)&p->hists, &p->hists_len);
	if (r < 0) {
		error_set_errno(ret_error, r, "cannot map the TCP counters into memory");
		goto fail;
	}
	r = attach_peers(p, ret_error);
	if (r < 0)
		goto fail;
	*ret_program = p;
	return 0;
fail:
	tcp_program_close(p);
	return r;
}

void tcp_program_close(struct tcp_program *program)
{
	if (!program)
		return;
	for (size_t i = 0; i < N_OPTIONAL; i++)
		bpf_link__destroy(program->links[i]);
	bpf_link__destroy(program->state);
	bpf_link__destroy(program->sweep);
	if (program->rows)
		peers_detach(program->peers, program->rows);
	kbpf_map_munmap(program->rows, program->rows_len);
	kbpf_map_munmap(program->hists, program->hists_len);
	tcp_bpf__destroy(program->skel);
	free(program);
}

int tcp_program_share(const struct tcp_program *program, struct bpf_object *object)
{
	const struct tcp_bpf *skel = program->skel;
	const struct bpf_map *shared[] = { skel->maps.sockets, skel->maps.hists };

	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, bpf_map__name(shared[i]));
		int r = map ? bpf_map__reuse_fd(map, bpf_map__fd(shared[i])) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

struct peer_row *tcp_program_rows(const struct tcp_program *program)
{
	return program->rows;
}

struct peer_hists *tcp_program_hists(const struct tcp_program *program)
{
	return program->hists;
}

int tcp_program_seed(struct tcp_program *program, struct features *features)
{
	int r = 0;

	for (uint32_t pass = 0; program->links[SEED] && pass < 2 && !r; pass++) {
		program->skel->bss->seed_pass = pass;
		r = kbpf_iterate(bpf_link__fd(program->links[SEED]));
	}
	if (r < 0)
		features_miss(features, "tcp_existing_connections", strerror(-r), "connections older than the agent are not followed");
	/* Not needed again: the iterator holds nothing, the listeners were only for the roles. */
	bpf_link__destroy(program->links[SEED]);
	program->links[SEED] = NULL;
	return r;
}

void tcp_program_set_hz(struct tcp_program *program, uint32_t hz)
{
	program->skel->bss->hz = hz;
}

void tcp_program_set_sockets_max(struct tcp_program *program, uint32_t sockets_max)
{
	program->skel->data->sockets_max = sockets_max;
}

bool tcp_program_counts_retransmits(const struct tcp_program *program, enum tcp_retransmit type)
{
	/* A SYN-ACK is sent again by a request, or by a socket of its own. */
	return program->links[RETRANSMIT] || (type == RETRANSMIT_SYNACK && program->links[SYNACK]);
}

bool tcp_program_counts_resets(const struct tcp_program *program, enum tcp_reset_direction direction)
{
	return program->links[direction == RESET_SENT ? RESET_OUT : RESET_IN];
}

int tcp_program_sweep(struct tcp_program *program)
{
	struct tcp_bpf__bss *bss = program->skel->bss;
	int64_t before = bss->sockets_tracked;
	int r;

	bss->swept = 0;
	bss->swept_open = 0;
	r = kbpf_iterate(bpf_link__fd(program->sweep));
	/* What was made or closed meanwhile stays counted, whether the sweep passed it or not; the next one corrects that. */
	__atomic_fetch_add(&bss->sockets_tracked, (int64_t)bss->swept - before, __ATOMIC_RELAXED);
	return r;
}

void tcp_program_look_again(struct tcp_program *program)
{
	__atomic_store_n(&program->skel->bss->look_again, 1, __ATOMIC_SEQ_CST);
}

/* From its first miss on, tcp_state_again looks behind tcp_state, and nothing is lost any more. */
static void watch_misses(struct tcp_program *p)
{
	int state_fd = bpf_program__fd(p->skel->progs.tcp_state);
	bool again = p->links[AGAIN] && p->skel->bss->look_again;
	uint64_t missed = again ? 0 : kbpf_recursion_misses(state_fd);

	if (again || !missed)
		return;
	p->state_missed = missed;
	if (!p->links[AGAIN])
		return;
	tcp_program_look_again(p);
	p->state_missed = kbpf_recursion_misses(state_fd);
}

static uint64_t misses_of(struct bpf_program *program)
{
	int fd = bpf_program__fd(program);

	return fd < 0 ? 0 : kbpf_recursion_misses(fd);
}

void tcp_program_stats(struct tcp_program *program, struct tcp_program_stats *ret_stats)
{
	const struct tcp_bpf__bss *bss = program->skel->bss;

	watch_misses(program);
	for (size_t i = 0; i < LOST_COUNT; i++)
		ret_stats->lost[i] = bss->lost[i];
	ret_stats->missed = program->state_missed + misses_of(program->skel->progs.tcp_retransmit) +
			    misses_of(program->skel->progs.tcp_retransmit_synack) +
			    misses_of(program->skel->progs.tcp_send_reset) + misses_of(program->skel->progs.tcp_receive_reset);
	ret_stats->state_missed = program->state_missed;
	ret_stats->recovered = bss->recovered;
	ret_stats->swept = bss->swept;
	ret_stats->open = bss->swept_open;
}

void tcp_program_each(const struct tcp_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, program->skel->obj)
		if (bpf_program__fd(p) >= 0)
			fn(bpf_program__name(p), bpf_program__fd(p), userdata);
}
