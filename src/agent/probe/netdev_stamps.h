/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does a network card stamp what it receives, and by which clock? By ethtool's ioctl and the generic netlink family
 * "netdev" (Linux 6.3, XDP metadata 6.6), for our own network namespace and without privileges.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* N of /dev/ptpN; -1: the interface has no clock of its own. */
int netdev_clock(const char *name);
/* May XDP programs of this device ask its driver for the stamps? False also where the kernel does not say. */
bool netdev_has_stamps(uint32_t ifindex);
