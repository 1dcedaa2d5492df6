/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/links.h"

#include <errno.h>
#include <linux/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/metric.h"

void links_done(struct links *links)
{
	free(links->items);
	*links = (struct links)LINKS_INIT;
}

/* The kernel's own conclusion (RFC 2863 operational state up, or unknown with drivers that do not tell), and the carrier
 * at this instant, which that lags behind. */
static bool is_up(uint32_t flags)
{
	const uint32_t all = IFF_UP | IFF_RUNNING | IFF_LOWER_UP;

	return (flags & all) == all;
}

const char *links_name_text(const char *name, char ret_text[static LINK_NAME_TEXT_MAX])
{
	size_t len = strlen(name), at = 0, out = 0;

	while (at < len) {
		size_t good = metric_utf8_prefix(name + at, len - at);

		for (; good; good--, at++)
			if (name[at] == '\\')
				out += (size_t)snprintf(ret_text + out, LINK_NAME_TEXT_MAX - out, "\\x5c");
			else
				ret_text[out++] = name[at];
		if (at < len)
			out += (size_t)snprintf(ret_text + out, LINK_NAME_TEXT_MAX - out, "\\x%02x", (unsigned char)name[at++]);
	}
	ret_text[out] = '\0';
	return ret_text;
}

/* The first entry whose index is not below. */
static size_t place_of(const struct links *links, int32_t index)
{
	size_t low = 0, high = links->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (links->items[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static struct link *find(const struct links *links, int32_t index)
{
	size_t place = place_of(links, index);

	return place < links->n && links->items[place].index == index ? &links->items[place] : NULL;
}

static struct link *insert(struct links *links, int32_t index)
{
	size_t place = place_of(links, index);
	struct link *link;

	if (links->n == links->allocated) {
		size_t more = links->allocated ? 2 * links->allocated : 16;
		struct link *items = realloc(links->items, more * sizeof(*items));

		if (!items)
			return NULL;
		links->items = items;
		links->allocated = more;
	}
	link = &links->items[place];
	memmove(link + 1, link, (links->n++ - place) * sizeof(*link));
	*link = (struct link){ .index = index };
	return link;
}

/* No two links have one name at the same time; when two seem to, news of one has been lost. */
static void take_name(struct links *links, const struct link *owner)
{
	for (size_t i = 0; i < links->n; i++) {
		struct link *other = &links->items[i];

		if (other == owner || memcmp(other->name, owner->name, sizeof(other->name)))
			continue;
		memset(other->name, 0, sizeof(other->name));
		links->name_taken = true;
	}
}

static void tell(links_event_fn fn, enum event_link change, const struct link *link, const char *former, uint32_t count,
		 void *userdata)
{
	if (fn)
		fn(change, link, former, count, userdata);
}

static void set_name(struct links *links, struct link *link, const char *name, bool is_new, links_event_fn fn, void *userdata)
{
	char former[LINK_NAME_TEXT_MAX];

	if (!strncmp(link->name, name, sizeof(link->name)))
		return;
	memcpy(former, link->text, sizeof(former));
	memset(link->name, 0, sizeof(link->name));
	memccpy(link->name, name, 0, sizeof(link->name) - 1);
	links_name_text(link->name, link->text);
	take_name(links, link);
	if (is_new)
		tell(fn, LINK_ADDED, link, "", 1, userdata);
	else if (strcmp(former, link->text))
		tell(fn, LINK_RENAMED, link, former, 1, userdata);
}

static void set_up(struct link *link, const struct netlink_link *now, bool is_new, links_event_fn fn, void *userdata)
{
	bool up = is_up(now->flags);
	uint32_t downs = now->carrier_known ? now->carrier_downs - link->carrier_downs : 0;

	/* The kernel may tell of a carrier that went and came back only once; but it counts. */
	if (up && link->up && downs && !is_new) {
		tell(fn, LINK_DOWN, link, "", downs, userdata);
		tell(fn, LINK_UP, link, "", 1, userdata);
	} else if (up != link->up) {
		link->up = up;
		tell(fn, up ? LINK_UP : LINK_DOWN, link, "", 1, userdata);
	}
	if (now->carrier_known)
		link->carrier_downs = now->carrier_downs;
}

int links_set(struct links *links, const struct netlink_link *now, links_event_fn fn, void *userdata)
{
	struct link *link = find(links, now->index);
	bool is_new = !link;

	if (!link)
		link = insert(links, now->index);
	if (!link)
		return -ENOMEM;
	if (now->kind[0]) /* not every message has it, and it never changes */
		memcpy(link->kind, now->kind, sizeof(link->kind));
	link->speed = 0;
	link->speed_ns = 0;
	set_name(links, link, now->name, is_new, fn, userdata);
	set_up(link, now, is_new, fn, userdata);
	return 0;
}

void links_remove(struct links *links, int32_t index, links_event_fn fn, void *userdata)
{
	struct link *link = find(links, index);
	size_t place;

	if (!link)
		return;
	tell(fn, LINK_REMOVED, link, "", 1, userdata);
	place = (size_t)(link - links->items);
	memmove(link, link + 1, (--links->n - place) * sizeof(*link));
}

static int compare_index(const void *a, const void *b)
{
	int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;

	return (x > y) - (x < y);
}

int links_replace(struct links *links, const struct netlink_link *all, size_t n, links_event_fn fn, void *userdata)
{
	int32_t *present = calloc(n + 1, sizeof(*present));
	int r = 0;

	if (!present)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		present[i] = all[i].index;
	qsort(present, n, sizeof(*present), compare_index);
	for (size_t i = links->n; i-- > 0;)
		if (!bsearch(&links->items[i].index, present, n, sizeof(*present), compare_index))
			links_remove(links, links->items[i].index, fn, userdata);
	free(present);
	for (size_t i = 0; i < n && !r; i++)
		r = links_set(links, &all[i], fn, userdata);
	/* Whoever lost its name above has told its new one by now, if the dump was consistent. */
	links->name_taken = false;
	for (size_t i = 0; i < links->n; i++)
		links->name_taken |= !links->items[i].name[0];
	return r;
}

void links_counters(struct links *links, const struct netlink_counters *counters, size_t n, bool complete)
{
	links->rounds++;
	for (size_t i = 0; i < n; i++) {
		struct link *link = find(links, counters[i].index);

		if (!link)
			continue;
		link->counters = counters[i];
		link->has_counters = true;
		link->seen = links->rounds;
	}
	for (size_t i = 0; i < links->n && complete; i++)
		links->items[i].has_counters &= links->items[i].seen == links->rounds;
}
