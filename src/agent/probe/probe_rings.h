/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which part of the array of flights is whose: rings of a power of two in size, aligned to it. A buddy allocator
 * (Knowlton 1965), so that paths that come and go do not cut the array to pieces. Pure.
 */
#pragma once
#include <stdint.h>

#define PROBE_RING_MIN 8

struct probe_rings;

int probe_rings_new(uint32_t flights, struct probe_rings **ret_rings); /* a power of two, PROBE_RING_MIN at least */
void probe_rings_free(struct probe_rings *rings);
/* size as above. -ENOSPC: no piece of that size is free. */
int probe_rings_take(struct probe_rings *rings, uint32_t size, uint32_t *ret_first);
void probe_rings_give(struct probe_rings *rings, uint32_t first, uint32_t size);
