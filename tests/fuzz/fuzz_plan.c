/* SPDX-License-Identifier: Apache-2.0 */
/* plan_parse on any text: whatever it takes is within the bounds, named once, and everything else is counted. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/probe/plan.h"
#include "lib/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TARGETS_MAX 8
#define PATHS_MAX 4

static void demand(int truth)
{
	if (!truth)
		abort();
}

static bool taken(const char *name, void *userdata)
{
	return name[0] == 'm';
}

static void check(const struct plan *plan, const struct plan_bounds *bounds)
{
	for (size_t i = 0; i < plan->n; i++) {
		const struct plan_target *t = &plan->targets[i];

		demand(t->name && *t->name && strlen(t->name) <= 4 * PLAN_NAME_MAX && strcmp(t->name, "other") != 0 && !taken(t->name, NULL));
		demand(prefix_contains(&bounds->networks[0], &t->address));
		demand(t->protocol == bounds->protocols[0] || t->protocol == bounds->protocols[1]);
		demand(t->interval_ns >= bounds->min_interval_ns && t->interval_ns <= PLAN_INTERVAL_MAX_NS);
		demand(t->paths >= 1 && t->paths <= PATHS_MAX);
		for (size_t other = 0; other < i; other++)
			demand(strcmp(t->name, plan->targets[other].name) != 0);
	}
	for (size_t i = 0; i < PLAN_REFUSED_COUNT; i++)
		demand(!plan->refused[i] == !plan->example[i][0] && memchr(plan->example[i], '\0', sizeof(plan->example[i])));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned protocols[] = { 0, 1 };
	struct prefix ten;
	struct plan_bounds bounds = {
		.targets_max = TARGETS_MAX, .paths_max = PATHS_MAX, .min_interval_ns = NS_PER_SEC / 2, .networks = &ten, .n_networks = 1,
		.protocols = protocols, .n_protocols = 2, .protocol = 1, .interval_ns = NS_PER_SEC, .paths = 1, .taken = taken,
	};
	struct error error = { "" };
	struct plan plan;

	demand(!prefix_parse("10.0.0.0/8", &ten, NULL));
	if (plan_parse((const char *)data, size, &bounds, &plan, &error) < 0) {
		demand(error.text[0]);
		return 0;
	}
	demand(plan.n <= TARGETS_MAX);
	check(&plan, &bounds);
	plan_done(&plan);
	return 0;
}
