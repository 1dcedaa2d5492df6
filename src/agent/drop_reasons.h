/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The running kernel's drop reasons by name. Their numbers change with nearly every
 * release, so they come from its BTF (enum skb_drop_reason) and never from a table
 * of ours. SKB_DROP_REASON_NO_SOCKET becomes "no_socket".
 *
 * Reasons of subsystems (mac80211, Open vSwitch) have the subsystem's number in the
 * upper 16 bits and are defined in modules; they are "mac80211_unusable_7". What the
 * kernel's BTF does not know, and everything on a kernel before reasons (5.17), is
 * "unknown". Also the layout of the kernel's table (abi_drop.h), which follows from it.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct btf;
struct drop_reasons;

/* btf NULL, or without such an enum: no reasons. -ENOMEM. */
int drop_reasons_new(const struct btf *btf, struct drop_reasons **ret_reasons);
void drop_reasons_free(struct drop_reasons *reasons);

bool drop_reasons_known(const struct drop_reasons *reasons); /* does the kernel have any? */
uint32_t drop_reasons_core_rows(const struct drop_reasons *reasons);
uint32_t drop_reasons_subsystems(const struct drop_reasons *reasons);
uint32_t drop_reasons_rows(const struct drop_reasons *reasons);
uint32_t drop_reasons_row(const struct drop_reasons *reasons, uint32_t reason);

/* Borrowed, never NULL, different for each row. */
const char *drop_reasons_row_name(const struct drop_reasons *reasons, uint32_t row);
const char *drop_reasons_name(const struct drop_reasons *reasons, uint32_t reason);
/* The number of a core reason, e.g. "xdp", "consumed"; DROP_REASON_NONE when this kernel has no such. */
uint32_t drop_reasons_number(const struct drop_reasons *reasons, const char *name);
