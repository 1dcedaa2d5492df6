/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every collector that owns a BPF program needs around libbpf: its log, the
 * running kernel's BTF, memory-mapped maps, iterators and the kernel's run-time
 * statistics of our programs.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpf_map;
struct btf;
struct bpf_program;

/* Routes libbpf's messages to our log at level debug; the last warning is kept for kbpf_last_warning. */
void kbpf_log_setup(void);
const char *kbpf_last_warning(void); /* "" when there was none; static storage */

/* The running kernel's type information, or NULL. Takes tens of ms: load it once per use, and free it with kbpf_btf_free. */
struct btf *kbpf_btf_load(void);
void kbpf_btf_free(struct btf *btf);
/* Is there a tracepoint of this name that a tp_btf program can attach to? arguments: how many it passes (NULL: not asked). */
bool kbpf_tracepoint_exists(const struct btf *btf, const char *name, unsigned *ret_arguments);
/* A kernel function in BTF; iterators are known as bpf_iter_NAME. */
bool kbpf_function_exists(const struct btf *btf, const char *name);
bool kbpf_member_exists(const struct btf *btf, const char *structure, const char *member);

/* Maps a BPF_F_MMAPABLE array, readable and writable; -errno. */
int kbpf_map_mmap(const struct bpf_map *map, void **ret_memory, size_t *ret_len);
void kbpf_map_munmap(void *memory, size_t len);

/* Runs an iterator once, to its end, throwing away its output. -errno. */
int kbpf_iterate(int link_fd);

/* Runs and run time of a program since it was loaded; false while the kernel's statistics are off. */
bool kbpf_run_stats(int program_fd, uint64_t *ret_runs, uint64_t *ret_ns);
/* Events that the kernel did not hand to the program, because an interrupt brought them while the same program ran on that CPU. */
uint64_t kbpf_recursion_misses(int program_fd);

/* A histogram as the programs keep it (HIST_BUCKETS counters, see abi.h), into one made with kbpf_hist_init. */
struct hist;
void kbpf_hist_init(struct hist *hist);
void kbpf_hist_read(struct hist *hist, const uint64_t *buckets, uint64_t sum_ns);
