/* SPDX-License-Identifier: Apache-2.0 */
/* What the printed parts of `netsonde ping` share. */
#pragma once
#include "cli/ping.h"

#define PING_NUMBER_MAX 32

#define PING_RED "\033[31m"
#define PING_YELLOW "\033[33m"
#define PING_PLAIN "\033[0m"

/* Milliseconds in four digits: "0.0321", "1.053", "105.3", and from 0.01 down by 10 ns; "-" for NaN. Returns buf. */
const char *ping_ms(double ns, char buf[static PING_NUMBER_MAX]);
/* Behind "timed by"; device: where, or NULL. */
const char *ping_clock_words(enum probe_clock clock, const struct probe_device *device);
/* "0%", "0.333%", "99.9%": never 0 when there was one, never 100 when not all were. Returns buf. */
const char *ping_percent(uint64_t part, uint64_t all, char buf[static PING_NUMBER_MAX]);
