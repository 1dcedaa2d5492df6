/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

const struct metric_family process_families[PROCESS_METRICS] = {
	[PROCESS_CPU_SECONDS] = { "process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "seconds", METRIC_COUNTER, 0, 0 },
	[PROCESS_RESIDENT_BYTES] = { "process_resident_memory_bytes", "Resident memory size in bytes.", "bytes", METRIC_GAUGE, 0, 0 },
	[PROCESS_VIRTUAL_BYTES] = { "process_virtual_memory_bytes", "Virtual memory size in bytes.", "bytes", METRIC_GAUGE, 0, 0 },
	[PROCESS_OPEN_FDS] = { "process_open_fds", "Number of open file descriptors.", NULL, METRIC_GAUGE, 0, 0 },
	[PROCESS_MAX_FDS] = { "process_max_fds", "Maximum number of open file descriptors.", NULL, METRIC_GAUGE, 0, 0 },
	[PROCESS_START_TIME] = { "process_start_time_seconds", "Start time of the process since the Unix epoch in seconds.", "seconds", METRIC_GAUGE, 0, 0 },
};

/* Held open: a process that changed its user may no longer open its own /proc entries. */
struct process_reader {
	int statm_fd;
	DIR *fds;
	double start_time_s;
};

static double read_start_time(void)
{
	struct timespec wall, since_boot;
	unsigned long long ticks = 0;
	char text[1024], *at;
	double now;
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return NAN;
	text[n] = '\0';
	/* The name in parentheses may hold anything; field 22 is the 20th behind it. */
	at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu", &ticks) != 1)
		return NAN;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &since_boot);
	now = (double)wall.tv_sec + (double)wall.tv_nsec / 1e9 - (double)since_boot.tv_sec - (double)since_boot.tv_nsec / 1e9;
	return now + (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

int process_reader_new(struct process_reader **ret_reader)
{
	struct process_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return -ENOMEM;
	reader->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	reader->fds = opendir("/proc/self/fd");
	reader->start_time_s = read_start_time();
	*ret_reader = reader;
	return 0;
}

void process_reader_free(struct process_reader *reader)
{
	if (!reader)
		return;
	if (reader->statm_fd >= 0)
		close(reader->statm_fd);
	if (reader->fds)
		closedir(reader->fds);
	free(reader);
}

static double count_fds(DIR *dir)
{
	const struct dirent *entry;
	double n = 0;

	if (!dir)
		return NAN;
	rewinddir(dir);
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	return n > 0 ? n : NAN;
}

void process_read(struct process_reader *reader, double ret_values[static PROCESS_METRICS])
{
	double page = (double)sysconf(_SC_PAGESIZE);
	unsigned long long size, resident;
	struct rusage usage;
	struct rlimit limit;
	char text[128];
	ssize_t n = reader->statm_fd < 0 ? -1 : pread(reader->statm_fd, text, sizeof(text) - 1, 0);

	for (size_t i = 0; i < PROCESS_METRICS; i++)
		ret_values[i] = NAN;
	if (!getrusage(RUSAGE_SELF, &usage))
		ret_values[PROCESS_CPU_SECONDS] = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
						  (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	if (n > 0) {
		text[n] = '\0';
		if (sscanf(text, "%llu %llu", &size, &resident) == 2) {
			ret_values[PROCESS_VIRTUAL_BYTES] = (double)size * page;
			ret_values[PROCESS_RESIDENT_BYTES] = (double)resident * page;
		}
	}
	ret_values[PROCESS_OPEN_FDS] = count_fds(reader->fds);
	if (!getrlimit(RLIMIT_NOFILE, &limit))
		ret_values[PROCESS_MAX_FDS] = limit.rlim_cur == RLIM_INFINITY ? INFINITY : (double)limit.rlim_cur;
	ret_values[PROCESS_START_TIME] = reader->start_time_s;
}
