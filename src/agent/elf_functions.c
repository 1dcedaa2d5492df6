/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Section headers -> the dynamic symbol table and its names -> the segment that
 * holds the function, which says how addresses become places in the file (gabi,
 * chapters 4 and 5). Libraries are never without section headers in practice.
 */
#include "agent/elf_functions.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECTIONS_MAX 4096
#define SEGMENTS_MAX 256
#define TABLE_MAX (4u << 20) /* bytes; that of glibc has 80 kB */

#if defined(__x86_64__)
#define OUR_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE EM_AARCH64
#else
#define OUR_MACHINE EM_NONE
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OUR_DATA ELFDATA2LSB
#else
#define OUR_DATA ELFDATA2MSB
#endif

static int read_at(int fd, void *to, size_t len, uint64_t offset)
{
	char *at = to;

	if (offset > INT64_MAX - len)
		return -EBADMSG;
	while (len) {
		ssize_t n = pread(fd, at, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EBADMSG;
		at += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

/* A part of the file in memory of its own, with a zero behind it. */
static int read_table(int fd, uint64_t offset, uint64_t len, void **ret_table)
{
	char *table;
	int r;

	if (!len || len > TABLE_MAX)
		return -EBADMSG;
	table = malloc(len + 1);
	if (!table)
		return -ENOMEM;
	r = read_at(fd, table, len, offset);
	if (r < 0) {
		free(table);
		return r;
	}
	table[len] = '\0';
	*ret_table = table;
	return 0;
}

static int read_header(int fd, Elf64_Ehdr *ret_header)
{
	int r = read_at(fd, ret_header, sizeof(*ret_header), 0);
	const Elf64_Ehdr *h = ret_header;

	if (r == -EBADMSG)
		return -ENOEXEC;
	if (r < 0)
		return r;
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != OUR_DATA ||
	    h->e_machine != OUR_MACHINE || (h->e_type != ET_DYN && h->e_type != ET_EXEC))
		return -ENOEXEC;
	if (h->e_shentsize != sizeof(Elf64_Shdr) || !h->e_shnum || h->e_shnum > SECTIONS_MAX ||
	    h->e_phentsize != sizeof(Elf64_Phdr) || !h->e_phnum || h->e_phnum > SEGMENTS_MAX)
		return -EBADMSG;
	return 0;
}

/* The two tables of the dynamic symbols. */
struct symbols {
	Elf64_Sym *items;
	size_t n;
	char *names;
	size_t names_len;
};

static int read_symbols(int fd, const Elf64_Ehdr *header, struct symbols *ret_symbols)
{
	const Elf64_Shdr *symbols = NULL, *names;
	Elf64_Shdr *sections;
	void *items, *text;
	int r = read_table(fd, header->e_shoff, header->e_shnum * sizeof(*sections), (void **)&sections);

	if (r < 0)
		return r;
	for (size_t i = 0; i < header->e_shnum && !symbols; i++)
		if (sections[i].sh_type == SHT_DYNSYM)
			symbols = &sections[i];
	r = -EBADMSG;
	if (!symbols || symbols->sh_link >= header->e_shnum)
		goto done;
	names = &sections[symbols->sh_link];
	if (names->sh_type != SHT_STRTAB)
		goto done;
	r = read_table(fd, symbols->sh_offset, symbols->sh_size, &items);
	if (r < 0)
		goto done;
	r = read_table(fd, names->sh_offset, names->sh_size, &text);
	if (r < 0) {
		free(items);
		goto done;
	}
	*ret_symbols = (struct symbols){ items, symbols->sh_size / sizeof(Elf64_Sym), text, names->sh_size };
done:
	free(sections);
	return r;
}

static bool offset_of(const Elf64_Phdr *segments, size_t n, uint64_t address, uint64_t *ret_offset)
{
	for (size_t i = 0; i < n; i++) {
		const Elf64_Phdr *s = &segments[i];
		uint64_t offset;

		if (s->p_type != PT_LOAD || !(s->p_flags & PF_X) || address < s->p_vaddr || address - s->p_vaddr >= s->p_filesz)
			continue;
		if (__builtin_add_overflow(address - s->p_vaddr, s->p_offset, &offset) || offset > INT64_MAX)
			return false;
		*ret_offset = offset;
		return true;
	}
	return false;
}

int elf_functions_find(int fd, const char *const *names, size_t n, uint64_t *ret_offsets)
{
	struct symbols symbols = { 0 };
	Elf64_Phdr *segments = NULL;
	Elf64_Ehdr header;
	int found = 0, r = read_header(fd, &header);

	if (!r)
		r = read_table(fd, header.e_phoff, header.e_phnum * sizeof(*segments), (void **)&segments);
	if (!r)
		r = read_symbols(fd, &header, &symbols);
	if (!r)
		memset(ret_offsets, 0, n * sizeof(*ret_offsets));
	for (size_t i = 0; !r && i < symbols.n; i++) {
		const Elf64_Sym *s = &symbols.items[i];

		if (ELF64_ST_TYPE(s->st_info) != STT_FUNC || s->st_shndx == SHN_UNDEF || s->st_name >= symbols.names_len)
			continue;
		/* Of several versions the first: these functions never had two on our machines. */
		for (size_t k = 0; k < n; k++)
			if (!ret_offsets[k] && !strcmp(symbols.names + s->st_name, names[k]) &&
			    offset_of(segments, header.e_phnum, s->st_value, &ret_offsets[k]))
				found += ret_offsets[k] != 0;
	}
	free(symbols.items);
	free(symbols.names);
	free(segments);
	return r < 0 ? r : found;
}
