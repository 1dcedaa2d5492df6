/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rtt_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/cgroup.h"
#include "rtt.skel.h"

#define FEATURE "tcp_rtt_every_ack"

struct rtt_program {
	struct rtt_bpf *skel;
	struct bpf_link *link;
};

static int load(struct rtt_program *p, const struct tcp_program *tcp, struct error *ret_error)
{
	int r;

	p->skel = rtt_bpf__open();
	if (!p->skel)
		return error_set_errno(ret_error, -errno, "cannot open the program");
	r = tcp_program_share(tcp, p->skel->obj);
	if (!r)
		r = rtt_bpf__load(p->skel);
	return r < 0 ? error_set_errno(ret_error, r, "the kernel does not take the program") : 0;
}

static int attach(struct rtt_program *p, struct error *ret_error)
{
	int r = 0, root = cgroup_root_open(ret_error);

	if (root < 0)
		return root;
	p->link = bpf_program__attach_cgroup(p->skel->progs.tcp_rtt, root);
	if (!p->link)
		r = error_set_errno(ret_error, -errno, "cannot attach to the root of the cgroup hierarchy");
	close(root);
	return r;
}

int rtt_program_open(const struct tcp_program *tcp, struct features *features, struct rtt_program **ret_program)
{
	struct rtt_program *p = calloc(1, sizeof(*p));
	struct error error = { "" };
	int r;

	*ret_program = NULL;
	if (!p)
		return -ENOMEM;
	r = load(p, tcp, &error);
	if (!r)
		r = attach(p, &error);
	if (r < 0) {
		features_miss(features, FEATURE, error.text, "needs CAP_NET_ADMIN and cgroup v2; RTT is taken once per tick");
		rtt_program_close(p);
		return r;
	}
	features_enable(features, FEATURE, "sock_ops");
	*ret_program = p;
	return 0;
}

void rtt_program_close(struct rtt_program *program)
{
	if (!program)
		return;
	bpf_link__destroy(program->link);
	rtt_bpf__destroy(program->skel);
	free(program);
}

int rtt_program_fd(const struct rtt_program *program)
{
	return bpf_program__fd(program->skel->progs.tcp_rtt);
}
