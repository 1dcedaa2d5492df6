/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions in ELF files: in the C library of this very process, against what the
 * dynamic linker has in memory; and in a small file made here, whole, broken in
 * every field that is trusted somewhere, and cut at every byte. Which files are
 * C libraries, by name, and that each is found once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/elf_functions.h"
#include "agent/libc_files.h"

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

/* The least that holds two functions. */
struct file {
	Elf64_Ehdr header;
	Elf64_Phdr segments[2];
	Elf64_Shdr sections[3];
	Elf64_Sym symbols[5];
	char names[32];
};

static const char *const names[] = { "first", "second", "data", "absent" };

static struct file small_file(void)
{
	struct file f = {
		.header = {
			.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT }, .e_type = ET_DYN, .e_machine = MACHINE,
			.e_phoff = offsetof(struct file, segments), .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2,
			.e_shoff = offsetof(struct file, sections), .e_shentsize = sizeof(Elf64_Shdr), .e_shnum = 3,
		},
		.segments = {
			{ .p_type = PT_LOAD, .p_flags = PF_R, .p_vaddr = 0, .p_filesz = 0x1000 },
			{ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = 0x2000, .p_offset = 0x1000, .p_filesz = 0x500 },
		},
		.sections = {
			{ 0 },
			{ .sh_type = SHT_DYNSYM, .sh_link = 2, .sh_offset = offsetof(struct file, symbols), .sh_size = sizeof(f.symbols) },
			{ .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct file, names), .sh_size = sizeof(f.names) },
		},
		.symbols = {
			{ 0 },
			{ .st_name = 1, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = 1, .st_value = 0x2010 },
			{ .st_name = 7, .st_info = ELF64_ST_INFO(STB_WEAK, STT_FUNC), .st_shndx = 1, .st_value = 0x24ff },
			{ .st_name = 14, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), .st_shndx = 1, .st_value = 0x2020 },
			{ .st_name = 19, .st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), .st_shndx = SHN_UNDEF },
		},
		.names = "\0first\0second\0data\0absent",
	};
	return f;
}

static int file_of(const void *data, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	return fd;
}

static int find_in(const void *data, size_t len, uint64_t offsets[static 4])
{
	int fd = file_of(data, len), r = elf_functions_find(fd, names, 4, offsets);

	close(fd);
	return r;
}

static void test_small(void **unused)
{
	struct file f = small_file();
	uint64_t offsets[4];

	assert_int_equal(find_in(&f, sizeof(f), offsets), 2);
	assert_int_equal(offsets[0], 0x1010);
	assert_int_equal(offsets[1], 0x14ff);
	assert_int_equal(offsets[2], 0);
	assert_int_equal(offsets[3], 0);
	f.symbols[2].st_value = 0x2500; /* behind the code */
	assert_int_equal(find_in(&f, sizeof(f), offsets), 1);
	f.symbols[1].st_value = 0x10; /* in a segment without code */
	assert_int_equal(find_in(&f, sizeof(f), offsets), 0);
}

#define BREAK(field, value, expected) \
	do { \
		struct file f = small_file(); \
		f.field = value; \
		assert_int_equal(find_in(&f, sizeof(f), offsets), expected); \
	} while (0)

static void test_broken(void **unused)
{
	uint64_t offsets[4];

	BREAK(header.e_ident[0], 0, -ENOEXEC);
	BREAK(header.e_ident[EI_CLASS], ELFCLASS32, -ENOEXEC);
	BREAK(header.e_ident[EI_DATA], ELFDATA2MSB, -ENOEXEC);
	BREAK(header.e_machine, EM_386, -ENOEXEC);
	BREAK(header.e_type, ET_REL, -ENOEXEC);
	BREAK(header.e_shentsize, 0, -EBADMSG);
	BREAK(header.e_shnum, 0, -EBADMSG);
	BREAK(header.e_shnum, 0xffff, -EBADMSG);
	BREAK(header.e_phentsize, 1, -EBADMSG);
	BREAK(header.e_phnum, 0, -EBADMSG);
	BREAK(header.e_phnum, 0xffff, -EBADMSG);
	BREAK(header.e_shoff, UINT64_MAX, -EBADMSG);
	BREAK(header.e_shoff, UINT64_MAX - 100, -EBADMSG);
	BREAK(header.e_phoff, (uint64_t)INT64_MAX, -EBADMSG);
	BREAK(sections[1].sh_type, SHT_SYMTAB, -EBADMSG);
	BREAK(sections[1].sh_link, 3, -EBADMSG);
	BREAK(sections[1].sh_link, UINT32_MAX, -EBADMSG);
	BREAK(sections[1].sh_link, 1, -EBADMSG); /* not a table of strings */
	BREAK(sections[1].sh_size, UINT64_MAX, -EBADMSG);
	BREAK(sections[1].sh_size, 0, -EBADMSG);
	BREAK(sections[1].sh_size, 1, 0); /* not one symbol */
	BREAK(sections[1].sh_offset, UINT64_MAX, -EBADMSG);
	BREAK(sections[2].sh_size, 5u << 20, -EBADMSG);
	BREAK(sections[2].sh_offset, 1u << 20, -EBADMSG);
	BREAK(sections[2].sh_size, 6, 1); /* "first" is there, and ends with the table */
	BREAK(symbols[1].st_name, UINT32_MAX, 1);
	BREAK(symbols[1].st_value, UINT64_MAX, 1);
	BREAK(segments[1].p_offset, UINT64_MAX, 0);
	BREAK(segments[1].p_offset, (uint64_t)INT64_MAX, 0);
	BREAK(segments[1].p_filesz, UINT64_MAX, 2);
	BREAK(segments[1].p_vaddr, UINT64_MAX, 0);
}

static void test_cut(void **unused)
{
	struct file f = small_file();
	uint64_t offsets[4];

	for (size_t len = 0; len < sizeof(f); len++)
		assert_true(find_in(&f, len, offsets) < 0);
}

static void test_other_files(void **unused)
{
	uint64_t offsets[4];
	int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(elf_functions_find(fd, names, 4, offsets), -EISDIR);
	close(fd);
	assert_int_equal(elf_functions_find(fd, names, 4, offsets), -EBADF);
}

static void test_own_library(void **unused)
{
	static const char *const functions[] = { "getaddrinfo", "no_such_function", "gethostbyname_r" };
	/* A sanitizer has functions of these names too. */
	void *library = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	struct libc_files files;
	uint64_t offsets[3];
	char code[32];

	assert_non_null(library);
	if (geteuid()) {
		print_message("skipped: only root may open what is mapped\n");
		skip();
	}
	assert_int_equal(libc_files_find(1, &files), 0);
	assert_int_equal(files.n, 1);
	assert_true(files.processes >= 1);
	assert_int_equal(elf_functions_find(files.fds[0], functions, 3, offsets), 2);
	assert_int_equal(offsets[1], 0);
	for (size_t i = 0; i < 3; i += 2) {
		void *loaded = dlsym(library, functions[i]);

		assert_non_null(loaded);
		assert_int_equal(pread(files.fds[0], code, sizeof(code), (off_t)offsets[i]), sizeof(code));
		/* An agent that runs on this machine has its probe on the first instruction. */
		assert_memory_equal(code + 4, (const char *)loaded + 4, sizeof(code) - 4);
	}
	libc_files_done(&files);
	dlclose(library);
}

/* Every process of this machine, but each file once. */
static void test_all_libraries(void **unused)
{
	struct libc_files files;

	assert_int_equal(libc_files_find(64, &files), 0);
	for (size_t i = 0; i < files.n; i++)
		for (size_t k = 0; k < i; k++) {
			struct stat a, b;

			assert_int_equal(fstat(files.fds[i], &a) | fstat(files.fds[k], &b), 0);
			assert_false(a.st_dev == b.st_dev && a.st_ino == b.st_ino);
		}
	libc_files_done(&files);
}

static void test_names(void **unused)
{
	static const char *const are[] = {
		"/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib64/libc.so.6 (deleted)", "/lib/libc-2.31.so", "/lib/libc-2.5.so",
		"/lib/ld-musl-x86_64.so.1", "/lib/libc.musl-aarch64.so.1", "/usr/lib/x86_64-linux-musl/libc.so", "/snap/core20/1/lib/libc-2.31.so (deleted)",
	};
	static const char *const are_not[] = {
		"", "/", "libc.so.6", "/lib/libc.so.6/", "/lib/libc.so.60", "/lib/xlibc.so.6", "/lib/libc++.so.1", "/lib/libcap.so.2",
		"/lib/libc-2.so", "/lib/libc-2..so", "/lib/libc-2.3x.so", "/lib/libc-client.so", "/lib/ld-linux-x86-64.so.2",
		"/lib/ld-musl-x86_64.path", " (deleted)", "/ (deleted)", "/lib/libc.so.6 (deleted) (deleted)",
		"/lib/a-name-that-is-much-longer-than-any-name-of-a-c-library-could-ever-become-in-practice-libc.so.6",
	};

	for (size_t i = 0; i < sizeof(are) / sizeof(are[0]); i++)
		if (!libc_files_is_name(are[i]))
			fail_msg("%s is one", are[i]);
	for (size_t i = 0; i < sizeof(are_not) / sizeof(are_not[0]); i++)
		if (libc_files_is_name(are_not[i]))
			fail_msg("\"%s\" is none", are_not[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_other_files),
		cmocka_unit_test(test_own_library),
		cmocka_unit_test(test_all_libraries),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
