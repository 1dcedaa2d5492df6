/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The addresses that the reflector answers for, and on which interface: on the one that has them; those of the loopback
 * interface on each, but for 127.0.0.0/8 and ::1, which no packet on a wire may carry. Without them a router that
 * reflects would answer in the name of every host behind it. An address that is not (yet) among them is answered by the
 * host's own stack.
 */
#pragma once
#include <stdint.h>

/* Makes the map (struct peer_address -> struct reflect_address) hold what getifaddrs(3) says. round: another number
 * than last time's. 0, -errno; -E2BIG: there are more than the map takes. */
int reflect_addresses_read(int map_fd, uint32_t round);
