/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a fuzz target on its seeds as an ordinary test, with any compiler: every
 * file of the directory given, whole and cut short at up to 64 places, since a
 * message that ends early is what a network delivers most. A crash or a
 * sanitizer's report is the failure. Output is TAP, one line per seed.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUTS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly `size` bytes, so that a sanitizer sees a read past the end. */
static int run_copy(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	return 0;
}

static int read_file(const char *path, uint8_t **ret_data, size_t *ret_size)
{
	uint8_t *data = NULL;
	size_t size = 0;
	int r = -EIO;
	FILE *file = fopen(path, "rb");

	if (!file)
		return -errno;
	for (;;) {
		uint8_t *grown = realloc(data, size + 65536);
		size_t n;

		if (!grown) {
			r = -ENOMEM;
			break;
		}
		data = grown;
		n = fread(data + size, 1, 65536, file);
		size += n;
		if (n < 65536) {
			r = ferror(file) ? -EIO : 0;
			break;
		}
	}
	fclose(file);
	if (r < 0) {
		free(data);
		return r;
	}
	*ret_data = data;
	*ret_size = size;
	return 0;
}

static int run_seed(const char *path)
{
	uint8_t *data = NULL;
	size_t size = 0;
	int r = read_file(path, &data, &size);

	if (r < 0)
		return r;
	r = run_copy(data, size);
	for (size_t i = 0; i < CUTS && r == 0; i++)
		r = run_copy(data, size * i / CUTS);
	free(data);
	return r;
}

static int is_seed(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	struct dirent **entries;
	int n, failures = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
		return 2;
	}
	n = scandir(argv[1], &entries, is_seed, alphasort);
	if (n <= 0) {
		printf("Bail out! no seeds in %s: %s\n", argv[1], n < 0 ? strerror(errno) : "it is empty");
		return 1;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		char path[4096];
		int r = -ENAMETOOLONG;

		/* Before the run, so that a crash leaves the name behind. */
		printf("# %s\n", entries[i]->d_name);
		fflush(stdout);
		if (snprintf(path, sizeof(path), "%s/%s", argv[1], entries[i]->d_name) < (int)sizeof(path))
			r = run_seed(path);
		if (r < 0)
			failures++;
		printf("%sok %d - %s\n", r < 0 ? "not " : "", i + 1, entries[i]->d_name);
		if (r < 0)
			printf("# %s\n", strerror(-r));
		free(entries[i]);
	}
	free(entries);
	return failures ? 1 : 0;
}
