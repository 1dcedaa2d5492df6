/* SPDX-License-Identifier: Apache-2.0 */
/* See drop_reasons.h. Believes nothing of the BTF but its own consistency, which libbpf has checked. */
#include "agent/drop_reasons.h"

#include <bpf/btf.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi_drop.h"

#define PREFIX "SKB_DROP_REASON_"
#define SUBSYSTEM_PREFIX PREFIX "SUBSYS_"
#define NAME_MAX_LEN 64 /* a longer one is cut; the longest now has 30 characters */

struct drop_reasons {
	bool known;
	uint32_t core_rows, subsystems;
	char (*names)[NAME_MAX_LEN]; /* one per row */
};

/* What stands behind the prefix in lower case; false when there is nothing of the kind. */
static bool name_of(const char *symbol, const char *prefix, char ret_name[static NAME_MAX_LEN])
{
	size_t n = 0, skip = strlen(prefix);

	if (!symbol || strncmp(symbol, prefix, skip) != 0 || !symbol[skip])
		return false;
	for (symbol += skip; symbol[n] && n < NAME_MAX_LEN - 1; n++)
		ret_name[n] = (char)tolower((unsigned char)symbol[n]);
	ret_name[n] = '\0';
	return true;
}

static const struct btf_type *find_enum(const struct btf *btf, const char *name)
{
	int id = btf ? btf__find_by_name_kind(btf, name, BTF_KIND_ENUM) : -ENOENT;

	return id > 0 ? btf__type_by_id(btf, (__u32)id) : NULL;
}

/* A member that is a reason: its number and name. The end marks of the enum are none. */
static bool reason_at(const struct btf *btf, const struct btf_type *t, uint32_t i, uint32_t *ret_number,
		      char ret_name[static NAME_MAX_LEN])
{
	const struct btf_enum *e = &btf_enum(t)[i];
	const char *symbol = btf__name_by_offset(btf, e->name_off);

	/* SKB_NOT_DROPPED_YET and SKB_CONSUMED lack the longer prefix. */
	if (!name_of(symbol, PREFIX, ret_name) && !name_of(symbol, "SKB_", ret_name))
		return false;
	*ret_number = (uint32_t)e->val;
	return *ret_number < DROP_CORE_ROWS_MAX && strcmp(ret_name, "max") != 0;
}

static uint32_t count_core(const struct btf *btf, const struct btf_type *t)
{
	uint32_t rows = 0, number;
	char name[NAME_MAX_LEN];

	for (uint32_t i = 0; t && i < btf_vlen(t); i++)
		if (reason_at(btf, t, i, &number, name) && number >= rows)
			rows = number + 1;
	return rows;
}

/* Subsystem `number`'s name; false when there is none. Subsystem 0 is the core. */
static bool subsystem_name(const struct btf *btf, const struct btf_type *t, uint32_t number,
			   char ret_name[static NAME_MAX_LEN])
{
	for (uint32_t i = 0; t && i < btf_vlen(t); i++)
		if ((uint32_t)btf_enum(t)[i].val == number &&
		    name_of(btf__name_by_offset(btf, btf_enum(t)[i].name_off), SUBSYSTEM_PREFIX, ret_name) &&
		    strcmp(ret_name, "num") != 0)
			return true;
	return false;
}

static uint32_t count_subsystems(const struct btf *btf, const struct btf_type *t)
{
	char name[NAME_MAX_LEN];
	uint32_t n = 0;

	while (n < DROP_SUBSYSTEMS_MAX && subsystem_name(btf, t, n + 1, name))
		n++;
	return n;
}

static void name_core(struct drop_reasons *reasons, const struct btf *btf, const struct btf_type *t)
{
	char name[NAME_MAX_LEN];
	uint32_t number;

	for (uint32_t i = 0; i < reasons->core_rows; i++)
		snprintf(reasons->names[i], NAME_MAX_LEN, "reason_%u", i);
	for (uint32_t i = 0; t && i < btf_vlen(t); i++)
		if (reason_at(btf, t, i, &number, name))
			memcpy(reasons->names[number], name, sizeof(name));
}

static void name_subsystems(struct drop_reasons *reasons, const struct btf *btf, const struct btf_type *t)
{
	char name[NAME_MAX_LEN];

	for (uint32_t s = 0; s < reasons->subsystems; s++) {
		char (*rows)[NAME_MAX_LEN] = &reasons->names[reasons->core_rows + s * DROP_SUBSYSTEM_ROWS];

		if (!subsystem_name(btf, t, s + 1, name))
			snprintf(name, sizeof(name), "subsystem_%u", s + 1);
		for (uint32_t i = 0; i < DROP_SUBSYSTEM_ROWS; i++)
			snprintf(rows[i], NAME_MAX_LEN, "%.*s_%u", NAME_MAX_LEN - 12, name, i);
	}
}

int drop_reasons_new(const struct btf *btf, struct drop_reasons **ret_reasons)
{
	const struct btf_type *core = find_enum(btf, "skb_drop_reason");
	const struct btf_type *subsystems = find_enum(btf, "skb_drop_reason_subsys");
	struct drop_reasons *reasons = calloc(1, sizeof(*reasons));

	if (!reasons)
		return -ENOMEM;
	reasons->core_rows = count_core(btf, core);
	reasons->known = reasons->core_rows > 0;
	reasons->subsystems = count_subsystems(btf, subsystems);
	reasons->names = calloc(drop_reasons_rows(reasons), sizeof(*reasons->names));
	if (!reasons->names) {
		drop_reasons_free(reasons);
		return -ENOMEM;
	}
	name_core(reasons, btf, core);
	name_subsystems(reasons, btf, subsystems);
	snprintf(reasons->names[drop_reasons_rows(reasons) - 1], NAME_MAX_LEN, "unknown");
	*ret_reasons = reasons;
	return 0;
}

void drop_reasons_free(struct drop_reasons *reasons)
{
	if (!reasons)
		return;
	free(reasons->names);
	free(reasons);
}

bool drop_reasons_known(const struct drop_reasons *reasons)
{
	return reasons->known;
}

uint32_t drop_reasons_core_rows(const struct drop_reasons *reasons)
{
	return reasons->core_rows;
}

uint32_t drop_reasons_subsystems(const struct drop_reasons *reasons)
{
	return reasons->subsystems;
}

uint32_t drop_reasons_rows(const struct drop_reasons *reasons)
{
	return reasons->core_rows + reasons->subsystems * DROP_SUBSYSTEM_ROWS + 1;
}

uint32_t drop_reasons_row(const struct drop_reasons *reasons, uint32_t reason)
{
	uint32_t low = reason & 0xffff, subsystem = reason >> 16;

	if (!subsystem && low < reasons->core_rows)
		return low;
	if (subsystem && subsystem <= reasons->subsystems && low < DROP_SUBSYSTEM_ROWS)
		return reasons->core_rows + (subsystem - 1) * DROP_SUBSYSTEM_ROWS + low;
	return drop_reasons_rows(reasons) - 1;
}

const char *drop_reasons_row_name(const struct drop_reasons *reasons, uint32_t row)
{
	return reasons->names[row < drop_reasons_rows(reasons) ? row : drop_reasons_rows(reasons) - 1];
}

const char *drop_reasons_name(const struct drop_reasons *reasons, uint32_t reason)
{
	return drop_reasons_row_name(reasons, drop_reasons_row(reasons, reason));
}

uint32_t drop_reasons_number(const struct drop_reasons *reasons, const char *name)
{
	for (uint32_t i = 0; i < reasons->core_rows; i++)
		if (!strcmp(reasons->names[i], name))
			return i;
	return DROP_REASON_NONE;
}
