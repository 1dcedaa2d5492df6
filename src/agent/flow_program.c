/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow_program.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "flow.skel.h"

/* Silent for so long, a conversation is forgotten; one that ended, or that only one side is seen of, sooner: a flood of SYNs
 * with false addresses must not fill the map. When it goes on all the same, its next segment begins another. */
#define IDLE_EPOCHS 60
#define ENDED_EPOCHS 3
#define EPOCH_NS NS_PER_SEC

/* How many conversations one tick looks at: about 0.3 ms. */
#define AGE_BATCH 512
#define AGE_BATCHES 8

/* Of the uapi from Linux 6.6 on, for good. */
#define ATTACH_TCX_INGRESS 46
#define ATTACH_TCX_EGRESS 47
#define ATTACH_BEFORE 8 /* BPF_F_BEFORE: first of all, since a program before us may let no other see the packet */

/* Through the conversations, over several ticks; at most one per epoch. */
struct walk {
	bool running;
	uint32_t started; /* epoch */
	uint32_t position;
};

struct flow_program {
	struct flow_bpf *skel;
	struct peers *peers;
	struct flow_row *rows;
	struct flow_hist *hists;
	size_t rows_len, hists_len;
	uint32_t slots, n_devices;
	struct flow_device devices[FLOW_DEVICES_MAX];
	int held[FLOW_DEVICES_MAX][2]; /* links at tcx; or one packet socket */
	bool tcx;
	mono_time epoch_began;
	struct walk walk;
	struct flow_key keys[AGE_BATCH];
	struct flow_conversation values[AGE_BATCH];
};

int flow_device_find(const char *name, struct flow_device *ret_device, struct error *ret_error)
{
	struct ifreq request = { 0 };
	struct flow_device device = { .ifindex = if_nametoindex(name) };
	int fd, r;

	if (!device.ifindex || strlen(name) >= sizeof(device.name))
		return error_set(ret_error, -ENODEV, "there is no interface %s", name);
	strcpy(device.name, name);
	strcpy(request.ifr_name, name);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	r = fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	if (r < 0)
		return error_set_errno(ret_error, r, "cannot ask for the kind of interface %s", name);
	switch (request.ifr_hwaddr.sa_family) {
	case ARPHRD_ETHER:
	case ARPHRD_LOOPBACK:
		break;
	case ARPHRD_NONE:
	case ARPHRD_PPP:
	case ARPHRD_RAWIP:
	case ARPHRD_TUNNEL:
	case ARPHRD_TUNNEL6:
	case ARPHRD_SIT:
	case ARPHRD_IPGRE:
	case ARPHRD_IP6GRE:
		device.is_ip = true;
		break;
	default:
		return error_set(ret_error, -EOPNOTSUPP, "interface %s is neither Ethernet nor IP (link type %u)", name,
				 request.ifr_hwaddr.sa_family);
	}
	*ret_device = device;
	return 0;
}

static bool kernel_has_tcx(void)
{
	struct btf *btf = kbpf_btf_load();
	bool has = btf && kbpf_member_exists(btf, "tcx_entry", "bundle");

	kbpf_btf_free(btf);
	return has;
}

static int load(struct flow_program *p, uint32_t conversations_max)
{
	struct flow_bpf *skel = flow_bpf__open();
	int r;

	if (!skel)
		return -errno;
	p->skel = skel;
	r = peers_share(p->peers, skel->obj);
	if (r < 0)
		return r;
	skel->rodata->slots_per_device = p->slots;
	skel->rodata->device_count = p->n_devices;
	for (uint32_t i = 0; i < p->n_devices; i++) {
		skel->rodata->device_index[i] = p->devices[i].ifindex;
		skel->rodata->device_is_ip[i] = p->devices[i].is_ip;
	}
	bpf_program__set_autoload(skel->progs.flow_receive, p->tcx);
	bpf_program__set_autoload(skel->progs.flow_transmit, p->tcx);
	bpf_program__set_autoload(skel->progs.flow_packet, !p->tcx);
	if (bpf_map__set_max_entries(skel->maps.flow_rows, p->n_devices * p->slots) ||
	    bpf_map__set_max_entries(skel->maps.flow_hists, p->n_devices * p->slots / FLOW_DIRECTION_COUNT) ||
	    bpf_map__set_max_entries(skel->maps.conversations, conversations_max))
		return -EINVAL;
	return flow_bpf__load(skel);
}

static uint64_t weight(const void *opaque)
{
	const struct flow_row *row = opaque;
	uint64_t bytes = 0;

	for (size_t i = 0; i < FLOW_PROTOCOL_COUNT; i++)
		bytes += row->bytes[i];
	return bytes;
}

static int join_peers(struct flow_program *p)
{
	struct flow_bpf *skel = p->skel;
	struct peers_table table = {
		.generation = (uint64_t *)&skel->data->generation,
		.resolve_generation = &skel->data->resolve_generation,
		.network_count = &skel->bss->network_count,
		.sweep_parity = &skel->bss->sweep_parity,
		.slots_may_be_free = &skel->data->slots_may_be_free,
		.slots_taken = (const uint64_t *)&skel->bss->slots_taken,
		.lost_candidates = (const uint64_t *)&skel->bss->lost_candidates,
		.rows = p->rows,
		.row_size = sizeof(struct flow_row),
		.parts = p->n_devices,
		.hists = p->hists,
		.hists_size = FLOW_HIST_HALF,
		.weight = weight,
	};

	return peers_attach(p->peers, &table);
}

int flow_program_open(struct peers *peers, const struct flow_device *devices, uint32_t n_devices, uint32_t conversations_max,
		      enum flow_mode mode, struct flow_program **ret_program, struct error *ret_error)
{
	struct flow_program *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->peers = peers;
	p->slots = peers_slots(peers);
	p->n_devices = n_devices;
	memcpy(p->devices, devices, n_devices * sizeof(*devices));
	for (uint32_t i = 0; i < FLOW_DEVICES_MAX; i++)
		p->held[i][0] = p->held[i][1] = -1;
	p->tcx = mode == FLOW_TCX || (mode == FLOW_BEST && kernel_has_tcx());
	r = load(p, conversations_max);
	if (r == -EPERM)
		error_set(ret_error, r, "cannot load the flow programs: no permission; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW");
	else if (r < 0)
		error_set_errno(ret_error, r, "the kernel does not take the flow programs (%s)", kbpf_last_warning());
	if (!r)
		r = kbpf_map_mmap(p->skel->maps.flow_rows, (void **)&p->rows, &p->rows_len);
	if (!r)
		r = kbpf_map_mmap(p->skel->maps.flow_hists, (void **)&p->hists, &p->hists_len);
	if (!r)
		r = join_peers(p);
	if (r < 0) {
		flow_program_close(p);
		return r;
	}
	p->epoch_began = mono_now();
	*ret_program = p;
	return 0;
}

void flow_program_close(struct flow_program *program)
{
	if (!program)
		return;
	for (uint32_t i = 0; i < program->n_devices; i++)
		for (size_t k = 0; k < 2; k++)
			if (program->held[i][k] >= 0)
				close(program->held[i][k]);
	if (program->rows)
		peers_detach(program->peers, program->rows);
	kbpf_map_munmap(program->rows, program->rows_len);
	kbpf_map_munmap(program->hists, program->hists_len);
	flow_bpf__destroy(program->skel);
	free(program);
}

const char *flow_program_mode(const struct flow_program *program)
{
	return program->tcx ? "tcx" : "packet_socket";
}

/* libbpf 1.1 knows no tcx. Returns the link. */
static int link_tcx(const struct bpf_program *program, uint32_t ifindex, uint32_t where)
{
	union bpf_attr attr;
	int fd;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)bpf_program__fd(program);
	attr.link_create.target_ifindex = ifindex;
	attr.link_create.attach_type = where;
	attr.link_create.flags = ATTACH_BEFORE;
	fd = (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));
	return fd < 0 ? -errno : fd;
}

/* A socket that is bound to the interface and throws every packet away, after its filter saw it. Returns it. */
static int open_socket(const struct bpf_program *program, uint32_t ifindex)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)ifindex,
	};
	int filter = bpf_program__fd(program), r;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0); /* protocol 0: nothing arrives before bind */

	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof(filter)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int flow_program_attach(struct flow_program *program, uint32_t device, struct error *ret_error)
{
	const struct flow_device *d = &program->devices[device];
	int *held = program->held[device], r;

	if (!program->tcx) {
		r = open_socket(program->skel->progs.flow_packet, d->ifindex);
		if (r < 0)
			return error_set_errno(ret_error, r, "cannot open a packet socket on %s", d->name);
		held[0] = r;
		return 0;
	}
	r = link_tcx(program->skel->progs.flow_receive, d->ifindex, ATTACH_TCX_INGRESS);
	if (r >= 0) {
		held[0] = r;
		r = link_tcx(program->skel->progs.flow_transmit, d->ifindex, ATTACH_TCX_EGRESS);
	}
	if (r >= 0) {
		held[1] = r;
		return 0;
	}
	if (held[0] >= 0)
		close(held[0]);
	held[0] = -1;
	return error_set_errno(ret_error, r, "cannot attach to %s", d->name);
}

static bool ended(const struct flow_conversation *c, uint32_t epoch)
{
	bool whole = (c->state & FLOW_SEEN_BOTH) == FLOW_SEEN_BOTH && (c->state & FLOW_CLOSED_BOTH) != FLOW_CLOSED_BOTH;

	return epoch - c->epoch > (whole ? IDLE_EPOCHS : ENDED_EPOCHS);
}

/* Looks at the next part of the conversations. Returns false when that was the last. */
static bool age_batch(struct flow_program *p, uint32_t epoch)
{
	int fd = bpf_map__fd(p->skel->maps.conversations);
	uint32_t *from = p->walk.running ? &p->walk.position : NULL, next, n = AGE_BATCH;
	int r = bpf_map_lookup_batch(fd, from, &next, p->keys, p->values, &n, NULL);

	if (r && r != -ENOENT)
		return false; /* a table that grew under our hands: the next walk begins anew */
	for (uint32_t i = 0; i < n; i++)
		if (ended(&p->values[i], epoch) && !bpf_map_delete_elem(fd, &p->keys[i]))
			__atomic_sub_fetch(&p->skel->bss->conversations_now, 1, __ATOMIC_RELAXED);
	p->walk.position = next;
	p->walk.running = true;
	return !r;
}

void flow_program_age(struct flow_program *program, mono_time now)
{
	struct walk *walk = &program->walk;
	uint32_t *epoch = &program->skel->bss->epoch;
	uint64_t passed = mono_since_ns(now, program->epoch_began) / EPOCH_NS;

	if (passed) {
		__atomic_store_n(epoch, *epoch + (uint32_t)passed, __ATOMIC_RELAXED);
		program->epoch_began.ns += passed * EPOCH_NS;
	}
	if (!walk->running) {
		if (walk->started == *epoch)
			return;
		walk->started = *epoch;
	}
	for (int i = 0; i < AGE_BATCHES; i++) {
		if (age_batch(program, *epoch))
			continue;
		walk->running = false;
		return;
	}
}

const struct flow_row *flow_program_row(const struct flow_program *program, uint32_t device, uint32_t slot)
{
	return &program->rows[device * program->slots + slot];
}

const struct flow_hist *flow_program_hist(const struct flow_program *program, uint32_t device, uint32_t slot)
{
	return &program->hists[(device * program->slots + slot) / FLOW_DIRECTION_COUNT];
}

void flow_program_stats(const struct flow_program *program, struct flow_program_stats *ret_stats)
{
	const struct flow_bpf__bss *bss = program->skel->bss;

	for (size_t i = 0; i < FLOW_LOST_COUNT; i++)
		ret_stats->lost[i] = bss->lost[i];
	ret_stats->conversations = bss->conversations_now;
}

void flow_program_each(const struct flow_program *program, void (*fn)(const char *name, int fd, void *userdata), void *userdata)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, program->skel->obj)
		if (bpf_program__fd(p) >= 0)
			fn(bpf_program__name(p), bpf_program__fd(p), userdata);
}
