/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/watched.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"

struct watched_address {
	struct watched_address *next; /* of its bucket */
	struct address address;
	uint32_t references;
	uint64_t ns;
};

struct watched {
	int fd;
	uint32_t max, n, mask;
	struct watched_address **buckets;
	/* For one read of everything. */
	struct peer_address *keys;
	uint64_t *values;
};

static struct watched_address **bucket_of(const struct watched *w, const void *address)
{
	uint32_t hash = 2166136261u; /* FNV-1a; nobody outside chooses whom we probe */

	for (size_t i = 0; i < sizeof(struct address); i++)
		hash = (hash ^ ((const uint8_t *)address)[i]) * 16777619u;
	return &w->buckets[hash & w->mask];
}

static struct watched_address *find(const struct watched *w, const void *address)
{
	struct watched_address *a = *bucket_of(w, address);

	while (a && memcmp(&a->address, address, sizeof(a->address)))
		a = a->next;
	return a;
}

int watched_new(uint32_t max, struct watched **ret_watched, struct error *ret_error)
{
	struct bpf_map_create_opts options = { .sz = sizeof(options), .map_flags = BPF_F_NO_PREALLOC };
	struct watched *w = calloc(1, sizeof(*w));
	uint32_t size = 16;

	if (!w)
		return -ENOMEM;
	while (size < max)
		size *= 2;
	w->max = max;
	w->mask = size - 1;
	w->buckets = calloc(size, sizeof(w->buckets[0]));
	w->keys = calloc(max ? max : 1, sizeof(*w->keys));
	w->values = calloc(max ? max : 1, sizeof(*w->values));
	w->fd = bpf_map_create(BPF_MAP_TYPE_HASH, "watched", sizeof(struct peer_address), sizeof(uint64_t), max ? max : 1, &options);
	if (w->fd >= 0 && w->buckets && w->keys && w->values) {
		*ret_watched = w;
		return 0;
	}
	int r = w->fd < 0 ? w->fd : -ENOMEM;

	watched_free(w);
	return error_set_errno(ret_error, r, "cannot create the map of watched addresses");
}

void watched_free(struct watched *watched)
{
	if (!watched)
		return;
	for (uint32_t i = 0; watched->buckets && i <= watched->mask; i++) {
		while (watched->buckets[i]) {
			struct watched_address *next = watched->buckets[i]->next;

			free(watched->buckets[i]);
			watched->buckets[i] = next;
		}
	}
	if (watched->fd >= 0)
		close(watched->fd);
	free(watched->buckets);
	free(watched->keys);
	free(watched->values);
	free(watched);
}

int watched_fd(const struct watched *watched)
{
	return watched->fd;
}

int watched_add(struct watched *watched, const struct address *address, struct watched_address **ret_address)
{
	struct watched_address *a = find(watched, address), **bucket;
	const uint64_t never = 0;

	if (a) {
		a->references++;
		*ret_address = a;
		return 0;
	}
	if (watched->n == watched->max)
		return -ENOSPC;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	if (bpf_map_update_elem(watched->fd, address, &never, BPF_ANY)) {
		int r = -errno;

		free(a);
		return r;
	}
	bucket = bucket_of(watched, address);
	*a = (struct watched_address){ .next = *bucket, .address = *address, .references = 1 };
	*bucket = a;
	watched->n++;
	*ret_address = a;
	return 0;
}

void watched_remove(struct watched *watched, struct watched_address *address)
{
	struct watched_address **at;

	if (!address || --address->references)
		return;
	for (at = bucket_of(watched, &address->address); *at != address; at = &(*at)->next)
		;
	*at = address->next;
	bpf_map_delete_elem(watched->fd, &address->address);
	watched->n--;
	free(address);
}

uint32_t watched_count(const struct watched *watched)
{
	return watched->n;
}

int watched_read(struct watched *watched)
{
	struct bpf_map_batch_opts options = { .sz = sizeof(options) };
	uint32_t position, n = watched->max;

	if (!watched->n)
		return 0;
	/* -ENOENT: that was all. */
	if (bpf_map_lookup_batch(watched->fd, NULL, &position, watched->keys, watched->values, &n, &options) && errno != ENOENT)
		return -errno;
	for (uint32_t i = 0; i < n; i++) {
		struct watched_address *a = find(watched, &watched->keys[i]);

		if (a)
			a->ns = watched->values[i];
	}
	return 0;
}

uint64_t watched_ns(const struct watched_address *address)
{
	return address->ns;
}
