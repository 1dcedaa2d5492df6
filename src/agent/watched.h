/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses of which somebody wants to know whether this host's own TCP connections measure the way to them at the moment: the
 * TCP program notes, in a map of nothing but these addresses, when a connection with one of them last had a new round-trip time. While
 * nothing is watched it does not even look.
 */
#pragma once
#include <stdint.h>
#include "lib/address.h"
#include "lib/error.h"

struct watched;
struct watched_address;

int watched_new(uint32_t max, struct watched **ret_watched, struct error *ret_error);
void watched_free(struct watched *watched);
int watched_fd(const struct watched *watched); /* the map, for the objects that fill it */

/* May be added more than once. -ENOSPC beyond the room. */
int watched_add(struct watched *watched, const struct address *address, struct watched_address **ret_address);
void watched_remove(struct watched *watched, struct watched_address *address); /* once for every time it was added; NULL is fine */
uint32_t watched_count(const struct watched *watched); /* different ones */

/* Reads all from the kernel at once. -errno. */
int watched_read(struct watched *watched);
/* CLOCK_MONOTONIC, as of the last read; 0: never. */
uint64_t watched_ns(const struct watched_address *address);
