/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters of the prober's receiving sockets, in classic BPF, which takes no privileges: what is not about our
 * identifiers and ports does not wake us. Each is attached to a raw socket, whose packets begin with the IP header
 * (IPv4) or with the transport's (IPv6).
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Echo replies to our identifiers, and errors that quote packets with our identifiers or source ports. -errno. */
int probe_filter_icmp(int fd, bool v6, uint16_t icmp_first, uint16_t port_first, uint16_t count);
/* SYN with ACK, and resets, to our ports. */
int probe_filter_tcp(int fd, bool v6, uint16_t port_first, uint16_t count);
