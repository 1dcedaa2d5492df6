/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The iterator's output is a byte stream in which a read may end within a record,
 * so what is left of one read stands before the next.
 */
#include "agent/connection_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/kbpf.h"
#include "agent/tcp_program.h"
#include "connection.skel.h"

/* The kernel fills eight pages per read(2), and gives no more at once. */
#define READ_SIZE 32768
#define RECORD_MAX sizeof(struct connection_process)

struct connection_program {
	struct connection_bpf *skel;
	struct bpf_link *link;
	char buffer[RECORD_MAX + READ_SIZE] __attribute__((aligned(8)));
};

static int check_kernel(struct error *ret_error)
{
	struct btf *btf = kbpf_btf_load();
	int r = 0;

	if (!btf)
		return error_set(
		    ret_error, -EOPNOTSUPP,
		    "this kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF=y");
	if (!kbpf_function_exists(btf, "bpf_iter_task_file"))
		r = error_set(ret_error, -EOPNOTSUPP,
			      "this kernel has no iterator over the files of tasks; needs Linux 6.1 or newer");
	kbpf_btf_free(btf);
	return r;
}

int connection_program_open(const struct tcp_program *tcp, struct connection_program **ret_program, struct error *ret_error)
{
	struct connection_program *p;
	int r = check_kernel(ret_error);

	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->skel = connection_bpf__open();
	r = p->skel ? 0 : -errno;
	if (!r && tcp)
		r = tcp_program_share(tcp, p->skel->obj);
	if (!r)
		r = connection_bpf__load(p->skel);
	if (r < 0) {
		if (r == -EPERM)
			error_set(ret_error, r,
				  "cannot load the program that lists connections: no permission; run as root, or with "
				  "CAP_BPF and CAP_PERFMON");
		else
			error_set_errno(ret_error, r,
					"the kernel does not take the program that lists connections (%s)",
					kbpf_last_warning());
		goto fail;
	}
	p->link = bpf_program__attach(p->skel->progs.connection_list);
	if (!p->link) {
		r = error_set_errno(ret_error, -errno, "cannot attach the program that lists connections");
		goto fail;
	}
	*ret_program = p;
	return 0;
fail:
	connection_program_close(p);
	return r;
}

void connection_program_close(struct connection_program *program)
{
	if (!program)
		return;
	bpf_link__destroy(program->link);
	connection_bpf__destroy(program->skel);
	free(program);
}

/* 0 when it is no record that we know. */
static size_t record_size(uint32_t type)
{
	switch (type) {
	case CONNECTION_PROCESS: return sizeof(struct connection_process);
	case CONNECTION_LISTENER: return sizeof(struct connection_listener);
	case CONNECTION_SOCKET: return sizeof(struct connection_record);
	default: return 0;
	}
}

static int hand_out(const void *record, uint32_t type, const struct connection_sink *sink)
{
	switch (type) {
	case CONNECTION_PROCESS: return sink->process(record, sink->userdata);
	case CONNECTION_LISTENER: return sink->listener(record, sink->userdata);
	default: return sink->connection(record, sink->userdata);
	}
}

/* Hands out the whole records at the front; what is left moves to the front. */
static int consume(struct connection_program *p, size_t *len, const struct connection_sink *sink)
{
	size_t at = 0;
	int r = 0;

	while (*len - at >= sizeof(uint32_t) && !r) {
		uint32_t type;
		size_t size;

		memcpy(&type, p->buffer + at, sizeof(type));
		size = record_size(type);
		if (!size)
			return -EPROTO;
		if (size > *len - at)
			break;
		r = hand_out(p->buffer + at, type, sink);
		at += size;
	}
	*len -= at;
	memmove(p->buffer, p->buffer + at, *len);
	return r;
}

int connection_program_run(struct connection_program *program, const struct connection_wanted *wanted,
			   const struct connection_sink *sink)
{
	size_t len = 0;
	ssize_t n;
	int fd, r = 0;

	program->skel->bss->wanted = *wanted;
	program->skel->bss->last_tgid = 0;
	fd = bpf_iter_create(bpf_link__fd(program->link));
	if (fd < 0)
		return -errno;
	for (;;) {
		n = read(fd, program->buffer + len, READ_SIZE);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		r = consume(program, &len, sink);
		if (r < 0)
			break;
	}
	if (n < 0)
		r = -errno;
	else if (!r && len)
		r = -EPROTO;
	close(fd);
	return r;
}

void connection_program_each(const struct connection_program *program,
			     void (*fn)(const char *name, int fd, void *userdata), void *userdata)
{
	fn("connection_list", bpf_program__fd(program->skel->progs.connection_list), userdata);
}
