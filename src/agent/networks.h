/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configured networks (name -> prefixes) and their copy in the kernel's
 * longest-prefix map. A network keeps its index for as long as its name is
 * configured, so a reload does not disturb the counters of those that stay.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "lib/address.h"
#include "lib/error.h"
#include "lib/settings.h"

struct networks;

/* max, prefixes_max: what the slots and the kernel's map have room for. */
int networks_new(int map_fd, uint32_t max, uint32_t prefixes_max, const struct settings *settings, struct networks **ret_networks,
		 struct error *ret_error);
void networks_free(struct networks *networks);
/* All or nothing. -ENOSPC with a sentence when there is no room. */
int networks_reload(struct networks *networks, const struct settings *settings, struct error *ret_error);
uint32_t networks_count(const struct networks *networks);
/* NULL when the index is not in use. */
const char *networks_name(const struct networks *networks, uint32_t index);
/* The index has another name than before the last reload (or has become free). */
bool networks_renamed(const struct networks *networks, uint32_t index);
/* The name of the network with the longest prefix that holds the address, or NULL. */
const char *networks_find(const struct networks *networks, const struct address *address);
