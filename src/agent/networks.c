/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reload is prepared aside: names, then prefixes; only when everything is known
 * to fit is the kernel's map touched, and the new state takes the place of the old.
 */
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

struct table {
	char **names;         /* max; NULL: free */
	struct entry *entries;
	size_t n_entries;
};

struct networks {
	int map_fd;
	uint32_t max, prefixes_max;
	struct table table;
	bool *renamed;        /* max */
};

static void table_done(struct table *table, uint32_t max)
{
	for (uint32_t i = 0; table->names && i < max; i++)
		free(table->names[i]);
	free(table->names);
	free(table->entries);
	*table = (struct table){ 0 };
}

static struct network_key key_of(const struct prefix *prefix)
{
	struct network_key key = { .prefix_bits = prefix->bits };

	memcpy(&key.address, prefix->address.bytes, sizeof(key.address));
	return key;
}

static int index_of(const struct table *table, uint32_t max, const char *name)
{
	for (uint32_t i = 0; table->names && i < max; i++)
		if (table->names[i] && !strcmp(table->names[i], name))
			return (int)i;
	return -1;
}

static const struct entry *find_entry(const struct table *table, const struct prefix *prefix)
{
	for (size_t i = 0; i < table->n_entries; i++)
		if (table->entries[i].prefix.bits == prefix->bits && !address_compare(&table->entries[i].prefix.address, &prefix->address))
			return &table->entries[i];
	return NULL;
}

/* Names to indices: those that stay keep theirs, then the new ones fill the gaps. -ENOMEM. */
static int assign_names(const struct networks *n, const struct settings *settings, struct table *table)
{
	for (size_t pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < settings->n_networks; i++) {
			const char *name = settings->networks[i].name;
			int index = index_of(&n->table, n->max, name);

			if ((index >= 0) != (pass == 0))
				continue;
			for (index = index < 0 ? 0 : index; table->names[index];)
				index++;
			table->names[index] = strdup(name);
			if (!table->names[index])
				return -ENOMEM;
		}
	}
	return 0;
}

static int prepare(const struct networks *n, const struct settings *settings, struct table *table)
{
	size_t total = 0;
	int r;

	for (size_t i = 0; i < settings->n_networks; i++)
		total += settings->networks[i].n_prefixes;
	table->names = calloc(n->max + 1, sizeof(*table->names));
	table->entries = calloc(total + 1, sizeof(*table->entries));
	r = table->names && table->entries ? assign_names(n, settings, table) : -ENOMEM;
	for (size_t i = 0; i < settings->n_networks && !r; i++)
		for (size_t j = 0; j < settings->networks[i].n_prefixes; j++)
			table->entries[table->n_entries++] = (struct entry){
				settings->networks[i].prefixes[j], (uint32_t)index_of(table, n->max, settings->networks[i].name)
			};
	return r;
}

/* New prefixes first and stale ones last, so that no address falls out of its network in between. On failure the old
 * ones are put back. */
static int update_kernel(const struct networks *n, const struct table *to, struct error *ret_error)
{
	int r = 0;

	for (size_t i = 0; i < to->n_entries && !r; i++) {
		struct network_key key = key_of(&to->entries[i].prefix);

		if (bpf_map_update_elem(n->map_fd, &key, &to->entries[i].index, BPF_ANY))
			r = error_set_errno(ret_error, -errno, "cannot tell the kernel the network `%s`", to->names[to->entries[i].index]);
	}
	for (size_t i = 0; i < (r ? to->n_entries : n->table.n_entries); i++) {
		const struct entry *entry = r ? &to->entries[i] : &n->table.entries[i];
		const struct entry *other = find_entry(r ? &n->table : to, &entry->prefix);
		struct network_key key = key_of(&entry->prefix);

		if (!other)
			bpf_map_delete_elem(n->map_fd, &key);
		else if (r)
			bpf_map_update_elem(n->map_fd, &key, &other->index, BPF_ANY);
	}
	return r;
}

int networks_reload(struct networks *n, const struct settings *settings, struct error *ret_error)
{
	struct table table = { 0 };
	size_t together;
	int r;

	if (settings->n_networks > n->max)
		return error_set(ret_error, -ENOSPC, "%zu networks are more than the %u that this agent has room for; restart it",
				 settings->n_networks, n->max);
	r = prepare(n, settings, &table);
	together = table.n_entries;
	for (size_t i = 0; i < n->table.n_entries && !r; i++)
		together += !find_entry(&table, &n->table.entries[i].prefix);
	if (!r && together > n->prefixes_max)
		r = error_set(ret_error, -ENOSPC, "old and new networks together have %zu prefixes, more than the %u that this agent has room for; restart it",
			      together, n->prefixes_max);
	if (!r)
		r = update_kernel(n, &table, ret_error);
	if (r < 0) {
		table_done(&table, n->max);
		return r;
	}
	for (uint32_t i = 0; i < n->max; i++) {
		const char *before = n->table.names ? n->table.names[i] : NULL;

		n->renamed[i] = before && (!table.names[i] || strcmp(before, table.names[i]));
	}
	table_done(&n->table, n->max);
	n->table = table;
	return 0;
}

int networks_new(int map_fd, uint32_t max, uint32_t prefixes_max, const struct settings *settings, struct networks **ret_networks,
		 struct error *ret_error)
{
	struct networks *n = calloc(1, sizeof(*n));
	int r = -ENOMEM;

	if (!n)
		return r;
	n->map_fd = map_fd;
	n->max = max;
	n->prefixes_max = prefixes_max;
	n->renamed = calloc(max, sizeof(*n->renamed));
	if (n->renamed)
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
	table_done(&networks->table, networks->max);
	free(networks->renamed);
	free(networks);
}

uint32_t networks_count(const struct networks *networks)
{
	return (uint32_t)networks->table.n_entries;
}

const char *networks_name(const struct networks *networks, uint32_t index)
{
	return index < networks->max ? networks->table.names[index] : NULL;
}

bool networks_renamed(const struct networks *networks, uint32_t index)
{
	return networks->renamed[index];
}

const char *networks_find(const struct networks *networks, const struct address *address)
{
	const struct entry *best = NULL;

	for (size_t i = 0; i < networks->table.n_entries; i++) {
		const struct entry *e = &networks->table.entries[i];

		if (prefix_contains(&e->prefix, address) && (!best || e->prefix.bits > best->prefix.bits))
			best = e;
	}
	return best ? networks->table.names[best->index] : NULL;
}
