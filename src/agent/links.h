/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The links of one network namespace as the agent knows them, and what happened
 * to them. A link is its index; its name is only a label, and can change.
 *
 * Counters belong to the entry of an index, and an entry ends with its link: so a
 * name that wanders from one device to another never takes counters along. Fed by
 * the notifications in their order (links_set, links_remove), and by a dump of all
 * links at the start and after lost notifications (links_replace).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "abi_event.h"
#include "agent/netlink.h"

/* Four bytes for each that is no UTF-8. */
#define LINK_NAME_TEXT_MAX (4 * NETLINK_NAME_MAX)

struct link {
	int32_t index;
	bool up;           /* administratively up, with carrier, and not dormant */
	bool has_counters;
	uint64_t seen;     /* by which links_counters */
	uint32_t carrier_downs;
	uint64_t speed;    /* for the collector; 0 after each change */
	uint64_t speed_ns; /* when it was asked; 0: ask */
	char name[NETLINK_NAME_MAX]; /* "": another link took its name; it will tell its new one */
	char kind[NETLINK_KIND_MAX];
	char text[LINK_NAME_TEXT_MAX]; /* the name as UTF-8 without a backslash of its own; different for different names */
	struct netlink_counters counters;
};

struct links {
	struct link *items; /* by index */
	size_t n, allocated;
	uint64_t rounds;    /* of links_counters */
	bool name_taken;    /* a link lost its name to another one: ask for all links */
};

/* count: how often, for LINK_DOWN; else 1. former: the text of the former name, for LINK_RENAMED; else "". */
typedef void (*links_event_fn)(enum event_link change, const struct link *link, const char *former, uint32_t count, void *userdata);

#define LINKS_INIT { NULL, 0, 0, 0, false }
void links_done(struct links *links);

/* fn NULL: nobody wants to know, as at the start. -ENOMEM: the link is not known. */
int links_set(struct links *links, const struct netlink_link *now, links_event_fn fn, void *userdata);
void links_remove(struct links *links, int32_t index, links_event_fn fn, void *userdata);
/* These and no others. */
int links_replace(struct links *links, const struct netlink_link *all, size_t n, links_event_fn fn, void *userdata);

/* Counters of unknown links are left out: a notification will tell about them. complete: a link without counters has none
 * in this round; otherwise it keeps what it had. */
void links_counters(struct links *links, const struct netlink_counters *counters, size_t n, bool complete);

/* Returns ret_text. */
const char *links_name_text(const char *name, char ret_text[static LINK_NAME_TEXT_MAX]);
