/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /proc/PID/maps tells where a process has its C library, and /proc/PID/map_files
 * opens exactly that file: in whatever mount namespace, also when its name is gone
 * (a package was upgraded below a running process), and without following a name
 * through a container's own links.
 *
 * A file is known by device and inode number. On overlayfs, which containers of one
 * image have each a mount of, these differ for what is one file below; there
 * the inode number, which is that of the layer, with size and times tells. Two
 * probes in one file would only cost twice, they do not count twice.
 */
#include "agent/libc_files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define OVERLAYFS_MAGIC 0x794c7630

/* What makes a file the same. */
struct identity {
	uint64_t device, inode, size;
	struct timespec modified, changed;
};

struct scan {
	struct libc_files *files;
	struct identity *known; /* one per file */
	size_t max;
	char *line;
	size_t line_size;
};

static bool begins(const char *s, const char *start)
{
	return !strncmp(s, start, strlen(start));
}

static bool ends(const char *s, const char *end)
{
	size_t len = strlen(s), n = strlen(end);

	return len >= n && !strcmp(s + len - n, end);
}

bool libc_files_is_name(const char *path)
{
	const char *slash = strrchr(path, '/'), *digits;
	char name[64];
	size_t len;

	if (!slash)
		return false;
	slash++;
	len = strlen(slash);
	if (ends(slash, " (deleted)"))
		len -= 10;
	if (len >= sizeof(name))
		return false;
	memcpy(name, slash, len);
	name[len] = '\0';
	/* glibc; musl where it is not the system's own. */
	if (!strcmp(name, "libc.so.6") || !strcmp(name, "libc.so"))
		return true;
	/* musl is the dynamic linker too. */
	if ((begins(name, "ld-musl-") || begins(name, "libc.musl-")) && ends(name, ".so.1"))
		return true;
	/* glibc before 2.34: libc-2.31.so, which libc.so.6 is a link to. */
	if (!begins(name, "libc-2.") || !ends(name, ".so"))
		return false;
	digits = name + 7;
	return strspn(digits, "0123456789") == strlen(digits) - 3 && isdigit((unsigned char)*digits);
}

static int identify(int fd, struct identity *ret_identity)
{
	struct statfs file_system;
	struct stat s;

	if (fstat(fd, &s) || fstatfs(fd, &file_system))
		return -errno;
	/* A device that is mapped under this name would do something when it is opened. */
	if (!S_ISREG(s.st_mode))
		return -EINVAL;
	*ret_identity = (struct identity){ .device = s.st_dev, .inode = s.st_ino };
	if (file_system.f_type == OVERLAYFS_MAGIC) {
		ret_identity->device = OVERLAYFS_MAGIC;
		ret_identity->size = (uint64_t)s.st_size;
		ret_identity->modified = s.st_mtim;
		ret_identity->changed = s.st_ctim;
	}
	return 0;
}

static bool same(const struct identity *a, const struct identity *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec &&
	       a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* The file behind one line of maps, when it is new. */
static int take(struct scan *scan, int process, const char *range)
{
	struct libc_files *files = scan->files;
	struct identity identity;
	char path[64];
	int fd, place, r;

	snprintf(path, sizeof(path), "map_files/%.40s", range);
	/* Only a place in the tree: looking at it has no effect whatever it is. */
	place = openat(process, path, O_PATH | O_CLOEXEC);
	if (place < 0)
		return -errno;
	r = identify(place, &identity);
	for (size_t i = 0; i < files->n && !r; i++)
		if (same(&identity, &scan->known[i]))
			r = -EEXIST;
	if (!r && files->n == scan->max) {
		files->left_out++;
		r = -ENOSPC;
	}
	if (!r) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
		/* Its owner may hold a lease, and whoever opens it would wait 45 s for that. */
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		r = fd < 0 ? -errno : 0;
		files->left_out += r == -EWOULDBLOCK;
		if (!r) {
			scan->known[files->n] = identity;
			files->fds[files->n++] = fd;
		}
	}
	close(place);
	return r;
}

/* "START-END r-xp OFFSET DEVICE INODE   PATH" */
static bool is_code_of_libc(char *line, const char **ret_range)
{
	char *end = strchr(line, ' '), *path = strchr(line, '/');

	if (!end || !path || end - line > 40 || strlen(end) < 5 || end[3] != 'x')
		return false;
	path[strcspn(path, "\n")] = '\0';
	if (!libc_files_is_name(path))
		return false;
	*end = '\0';
	*ret_range = line;
	return true;
}

static bool is_refusal(int r)
{
	return r == -EPERM || r == -EACCES;
}

/* A process has one C library; what ends meanwhile, and what has none, is no error. */
static void scan_process(struct scan *scan, int proc, const char *pid)
{
	int process = openat(proc, pid, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1, r = 0;
	const char *range;
	FILE *maps = NULL;

	if (process >= 0)
		fd = openat(process, "maps", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		maps = fdopen(fd, "r");
	if (!maps) {
		scan->files->unreadable += is_refusal(-errno);
		if (fd >= 0)
			close(fd);
	} else {
		scan->files->processes++;
		while (getline(&scan->line, &scan->line_size, maps) > 0)
			if (is_code_of_libc(scan->line, &range)) {
				r = take(scan, process, range);
				break;
			}
		scan->files->unreadable += is_refusal(r);
		fclose(maps);
	}
	if (process >= 0)
		close(process);
}

int libc_files_find(size_t max, struct libc_files *ret_files)
{
	struct libc_files files = { .fds = calloc(max, sizeof(int)) };
	struct scan scan = { .files = &files, .known = calloc(max, sizeof(struct identity)), .max = max };
	DIR *proc = opendir("/proc");
	int r = proc ? 0 : -errno;

	if (!files.fds || !scan.known)
		r = -ENOMEM;
	if (!r) {
		scan_process(&scan, dirfd(proc), "self");
		for (struct dirent *entry; (entry = readdir(proc));)
			if (isdigit((unsigned char)entry->d_name[0]))
				scan_process(&scan, dirfd(proc), entry->d_name);
	}
	if (proc)
		closedir(proc);
	free(scan.known);
	free(scan.line);
	if (r < 0)
		libc_files_done(&files);
	else
		*ret_files = files;
	return r;
}

void libc_files_done(struct libc_files *files)
{
	for (size_t i = 0; i < files->n; i++)
		close(files->fds[i]);
	free(files->fds);
	*files = (struct libc_files){ 0 };
}
