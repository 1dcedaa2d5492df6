/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel counts some times in jiffies; this is how many make a second. */
#pragma once

/* 100, 250, 1000, ...: a kernel build option. 0 when the kernel does not tell. */
unsigned jiffies_per_second(void);
