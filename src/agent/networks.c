/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/networks.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"

struct entry {
	struct prefix prefix;
	uint32_t index;
};

struct networks {
	int map_fd;
	uint32_t max;
	char **names;         /* max; NULL: free */
	bool *renamed;        /* max */
	struct entry *entries;
	size_t n_entries;
};

static struct network_key key_of(const struct prefix *prefix)
{
	struct network_key key = { .prefix_bits = prefix->bits };

	memcpy(key.address, prefix->address.bytes, sizeof(key.address));
	return key;
}

static int index_of(const struct networks *n, const char *name)
{
	for (uint32_t i = 0; i < n->max; i++)
		if (n->names[i] && !strcmp(n->names[i], name))
			return (int)i;
	return -1;
}

static bool configured(const struct settings *settings, const char *name)
{
	for (size_t i = 0; i < settings->n_networks; i++)
		if (!strcmp(settings->networks[i].name, name))
			return true;
	return false;
}

static bool entry_kept(const struct entry *entry, const struct entry *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i].prefix.bits == entry->prefix.bits && !address_compare(&list[i].prefix.address, &entry->prefix.address))
			return true;
	return false;
}

/* Names to indices: those that stay keep theirs, then the new ones fill the gaps. -ENOMEM. */
static int assign_names(struct networks *n, const struct settings *settings)
{
	for (uint32_t i = 0; i < n->max; i++) {
		n->renamed[i] = false;
		if (n->names[i] && !configured(settings, n->names[i])) {
			free(n->names[i]);
			n->names[i] = NULL;
			n->renamed[i] = true;
		}
	}
	for (size_t i = 0; i < settings->n_networks; i++) {
		uint32_t free_index = 0;

		if (index_of(n, settings->networks[i].name) >= 0)
			continue;
		while (n->names[free_index])
			free_index++;
		n->names[free_index] = strdup(settings->networks[i].name);
		if (!n->names[free_index])
			return -ENOMEM;
		n->renamed[free_index] = true;
	}
	return 0;
}

int networks_reload(struct networks *n, const struct settings *settings, struct error *ret_error)
{
	size_t total = 0, k = 0;
	struct entry *entries;
	int r;

	if (settings->n_networks > n->max)
		return error_set(ret_error, -ENOSPC, "%zu networks are more than the %u that this agent has room for; restart it",
				 settings->n_networks, n->max);
	for (size_t i = 0; i < settings->n_networks; i++)
		total += settings->networks[i].n_prefixes;
	entries = calloc(total + 1, sizeof(*entries));
	if (!entries)
		return -ENOMEM;
	r = assign_names(n, settings);
	if (r < 0) {
		free(entries);
		return r;
	}
	/* New prefixes first and stale ones last, so that no address falls out of its network in between. */
	for (size_t i = 0; i < settings->n_networks; i++) {
		for (size_t j = 0; j < settings->networks[i].n_prefixes; j++, k++) {
			struct network_key key;

			entries[k].prefix = settings->networks[i].prefixes[j];
			entries[k].index = (uint32_t)index_of(n, settings->networks[i].name);
			key = key_of(&entries[k].prefix);
			if (bpf_map_update_elem(n->map_fd, &key, &entries[k].index, BPF_ANY)) {
				r = error_set_errno(ret_error, -errno, "cannot tell the kernel the network `%s`", settings->networks[i].name);
				free(entries);
				return r;
			}
		}
	}
	for (size_t i = 0; i < n->n_entries; i++) {
		struct network_key key = key_of(&n->entries[i].prefix);

		if (!entry_kept(&n->entries[i], entries, k))
			bpf_map_delete_elem(n->map_fd, &key);
	}
	free(n->entries);
	n->entries = entries;
	n->n_entries = k;
	return 0;
}

int networks_new(int map_fd, uint32_t max, const struct settings *settings, struct networks **ret_networks, struct error *ret_error)
{
	struct networks *n = calloc(1, sizeof(*n));
	int r = -ENOMEM;

	if (!n)
		return r;
	n->map_fd = map_fd;
	n->max = max;
	n->names = calloc(max, sizeof(*n->names));
	n->renamed = calloc(max, sizeof(*n->renamed));
	if (n->names && n->renamed)
		r = networks_reload(n, settings, ret_error);
	if (r < 0) {
		networks_free(n);
		return r;
	}
	*ret_networks = n;
	return 0;
}

void networks_free(struct networks *networks)
{
	if (!networks)
		return;
	for (uint32_t i = 0; networks->names && i < networks->max; i++)
		free(networks->names[i]);
	free(networks->names);
	free(networks->renamed);
	free(networks->entries);
	free(networks);
}

uint32_t networks_count(const struct networks *networks)
{
	return (uint32_t)networks->n_entries;
}

const char *networks_name(const struct networks *networks, uint32_t index)
{
	return index < networks->max ? networks->names[index] : NULL;
}

bool networks_renamed(const struct networks *networks, uint32_t index)
{
	return networks->renamed[index];
}

const char *networks_find(const struct networks *networks, const struct address *address)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < networks->n_entries; i++)
		if (prefix_contains(&networks->entries[i].prefix, address) && (!best || networks->entries[i].prefix.bits > best->prefix.bits))
			best = &networks->entries[i];
	return best ? networks->names[best->index] : NULL;
}
