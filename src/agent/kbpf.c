/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kbpf.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi.h"
#include "lib/clock.h"
#include "lib/hist.h"
#include "lib/log.h"

/* libbpf's print callback has no user data: this is the logging exception to "no file-scope state". */
static char last_warning[256];

static int on_libbpf_message(enum libbpf_print_level level, const char *format, va_list args)
{
	char text[1024];
	size_t len;

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(text, sizeof(text), format, args);
	len = strlen(text);
	while (len && text[len - 1] == '\n')
		text[--len] = '\0';
	/* The verifier's log comes as one long message; its first line says what failed. */
	if (level == LIBBPF_WARN && !strstr(text, "BEGIN PROG LOAD LOG"))
		snprintf(last_warning, sizeof(last_warning), "%.255s", text);
	log_debug("libbpf", "text", text, NULL);
	return 0;
}

void kbpf_log_setup(void)
{
	last_warning[0] = '\0';
	libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
	libbpf_set_print(on_libbpf_message);
}

const char *kbpf_last_warning(void)
{
	return last_warning;
}

struct btf *kbpf_btf_load(void)
{
	struct btf *btf = btf__load_vmlinux_btf();

	return libbpf_get_error(btf) ? NULL : btf;
}

void kbpf_btf_free(struct btf *btf)
{
	btf__free(btf);
}

/* A tracepoint NAME is `typedef void (*btf_trace_NAME)(void *, ...)`. */
bool kbpf_tracepoint_exists(const struct btf *btf, const char *name, unsigned *ret_arguments)
{
	const struct btf_type *t;
	char symbol[128];
	int id;

	snprintf(symbol, sizeof(symbol), "btf_trace_%s", name);
	id = btf ? btf__find_by_name_kind(btf, symbol, BTF_KIND_TYPEDEF) : -ENOENT;
	if (id <= 0)
		return false;
	t = btf__type_by_id(btf, btf__type_by_id(btf, (__u32)id)->type); /* the pointer */
	t = t ? btf__type_by_id(btf, t->type) : NULL;
	if (!t || !btf_is_func_proto(t))
		return false;
	if (ret_arguments)
		*ret_arguments = btf_vlen(t) - 1; /* the first one is the tracepoint's own */
	return true;
}

bool kbpf_function_exists(const struct btf *btf, const char *name)
{
	return btf && btf__find_by_name_kind(btf, name, BTF_KIND_FUNC) > 0;
}

bool kbpf_member_exists(const struct btf *btf, const char *structure, const char *member)
{
	int id = btf ? btf__find_by_name_kind(btf, structure, BTF_KIND_STRUCT) : -ENOENT;
	const struct btf_type *t = id > 0 ? btf__type_by_id(btf, (__u32)id) : NULL;

	for (unsigned i = 0; t && i < btf_vlen(t); i++)
		if (!strcmp(btf__name_by_offset(btf, btf_members(t)[i].name_off), member))
			return true;
	return false;
}

int kbpf_map_mmap(const struct bpf_map *map, void **ret_memory, size_t *ret_len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t len = (size_t)bpf_map__max_entries(map) * ((bpf_map__value_size(map) + 7u) & ~7u);
	void *memory;

	len = (len + page - 1) / page * page;
	memory = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
	if (memory == MAP_FAILED)
		return -errno;
	*ret_memory = memory;
	*ret_len = len;
	return 0;
}

void kbpf_map_munmap(void *memory, size_t len)
{
	if (memory)
		munmap(memory, len);
}

int kbpf_iterate(int link_fd)
{
	int fd = bpf_iter_create(link_fd);
	char output[4096];
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	do {
		n = read(fd, output, sizeof(output));
	} while (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)));
	if (n < 0)
		r = -errno;
	close(fd);
	return r;
}

bool kbpf_run_stats(int program_fd, uint64_t *ret_runs, uint64_t *ret_ns)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	if (bpf_obj_get_info_by_fd(program_fd, &info, &len) || !info.run_cnt)
		return false;
	*ret_runs = info.run_cnt;
	*ret_ns = info.run_time_ns;
	return true;
}

uint64_t kbpf_recursion_misses(int program_fd)
{
	struct bpf_prog_info info = { 0 };
	__u32 len = sizeof(info);

	return bpf_obj_get_info_by_fd(program_fd, &info, &len) ? 0 : info.recursion_misses;
}

void kbpf_hist_init(struct hist *hist)
{
	hist_init(hist, HIST_SCHEMA, ldexp(1, -HIST_OFFSET / 8));
}

void kbpf_hist_read(struct hist *hist, const uint64_t *buckets, uint64_t sum_ns)
{
	hist_clear(hist);
	hist_add_zero(hist, buckets[0]);
	for (int i = 1; i < HIST_BUCKETS; i++)
		if (buckets[i])
			hist_add_bucket(hist, i - HIST_OFFSET, buckets[i]);
	hist->sum = ns_to_seconds(sum_ns);
}
