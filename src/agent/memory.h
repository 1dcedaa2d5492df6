/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the agent takes of the host's memory, against collect.memory_budget: the
 * process itself, its kernel maps, and the records that hang on sockets. The
 * first two are what they are; the records get the rest.
 */
#pragma once
#include <stdint.h>

/* Bytes of the maps behind this process's descriptors, as the kernel accounts them (memlock in /proc/self/fdinfo). Of maps that grow
 * on demand it is what they take now. 0 when nothing can be read. */
uint64_t memory_of_maps(void);
/* Resident bytes of this process; 0 when /proc cannot be read. */
uint64_t memory_resident(void);
/* What is left for records; never less than a sixteenth of the budget, so that an agent that has outgrown it still measures. */
uint64_t memory_room(uint64_t budget, uint64_t maps, uint64_t resident);
