/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a plan: whoever serves it may be wrong or hostile, so every value is checked before it is used. */
#include "agent/probe/plan.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"

const char *const plan_refused_names[PLAN_REFUSED_COUNT] = { "malformed", "name", "address", "protocol", "interval", "too_many" };

/* In the order of enum settings_probe_protocol. */
static const char *const protocol_names[] = { "icmp", "stamp", "tcp" };
#define N_PROTOCOLS (sizeof(protocol_names) / sizeof(protocol_names[0]))
#define PROTOCOL_ICMP 0

/* Always false: the entry is left out. Names are the server's, so they are kept short; the log escapes them. */
static bool refuse(struct plan *plan, enum plan_refused why, const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool refuse(struct plan *plan, enum plan_refused why, const char *format, ...)
{
	va_list args;

	if (!plan->refused[why]++) {
		va_start(args, format);
		vsnprintf(plan->example[why], sizeof(plan->example[why]), format, args);
		va_end(args);
	}
	return false;
}

static bool name_usable(const char *name)
{
	size_t chars = 0;

	for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
		if (*c < 0x20 || *c == 0x7f)
			return false;
		chars += (*c & 0xc0) != 0x80;
	}
	return chars && chars <= PLAN_NAME_MAX && strcmp(name, "other");
}

static bool read_name(struct plan *plan, const json_t *entry, const struct plan_bounds *bounds, struct plan_target *target)
{
	const char *name = json_string_value(json_object_get(entry, "name"));

	if (!name || !name_usable(name))
		return refuse(plan, PLAN_MALFORMED, "a target has no usable name");
	if (bounds->taken && bounds->taken(name, bounds->userdata))
		return refuse(plan, PLAN_NAME, "the name %.60s is taken", name);
	target->name = strdup(name);
	return target->name;
}

static bool may_name(const struct plan_bounds *bounds, const struct address *address)
{
	for (size_t i = 0; i < bounds->n_networks; i++)
		if (prefix_contains(&bounds->networks[i], address))
			return true;
	return !bounds->n_networks;
}

static bool read_address(struct plan *plan, const json_t *entry, const struct plan_bounds *bounds, struct plan_target *target)
{
	const char *text = json_string_value(json_object_get(entry, "address"));

	if (!text || address_parse(text, &target->address))
		return refuse(plan, PLAN_MALFORMED, "%.60s has no address that can be read", target->name);
	/* A link-local one would need an interface. */
	if (!address_is_host(&target->address) || address_is_link_local6(&target->address))
		return refuse(plan, PLAN_ADDRESS, "%.60s has an address that is no single host's, %s", target->name, text);
	if (!may_name(bounds, &target->address))
		return refuse(plan, PLAN_ADDRESS, "%s, the address of %.60s, is in none of probe.plan.networks", text, target->name);
	return true;
}

static bool may_use(const struct plan_bounds *bounds, unsigned protocol)
{
	for (size_t i = 0; i < bounds->n_protocols; i++)
		if (bounds->protocols[i] == protocol)
			return true;
	return !bounds->n_protocols;
}

static bool read_protocol(struct plan *plan, const json_t *entry, const struct plan_bounds *bounds, struct plan_target *target)
{
	const json_t *value = json_object_get(entry, "protocol");
	const char *text = json_string_value(value);

	target->protocol = bounds->protocol;
	for (unsigned i = 0; value && i <= N_PROTOCOLS; i++) {
		if (i == N_PROTOCOLS)
			return refuse(plan, PLAN_MALFORMED, "the protocol of %.60s is none of icmp, stamp and tcp", target->name);
		target->protocol = i;
		if (text && !strcmp(text, protocol_names[i]))
			break;
	}
	if (!may_use(bounds, target->protocol))
		return refuse(plan, PLAN_PROTOCOL, "%s, the protocol of %.60s, is none of probe.plan.protocols",
			      protocol_names[target->protocol], target->name);
	return true;
}

/* A whole number of a key that may be absent; -1: it is no such number. */
static json_int_t number_of(const json_t *entry, const char *key, json_int_t absent, json_int_t min, json_int_t max)
{
	const json_t *value = json_object_get(entry, key);

	if (!value)
		return absent;
	if (!json_is_integer(value) || json_integer_value(value) < min || json_integer_value(value) > max)
		return -1;
	return json_integer_value(value);
}

static bool read_numbers(struct plan *plan, const json_t *entry, const struct plan_bounds *bounds, struct plan_target *target)
{
	const json_t *interval = json_object_get(entry, "interval_s");
	const json_int_t port = number_of(entry, "port", 0, 1, 65535);
	const json_int_t paths = number_of(entry, "paths", bounds->paths, 1, bounds->paths_max);
	double seconds = interval ? json_number_value(interval) : ns_to_seconds(bounds->interval_ns);

	if (port < 0 || (port && target->protocol == PROTOCOL_ICMP))
		return refuse(plan, PLAN_MALFORMED, "%.60s has a port that cannot be", target->name);
	if (paths < 0)
		return refuse(plan, PLAN_MALFORMED, "the paths of %.60s are not 1 to %u", target->name, bounds->paths_max);
	/* json_number_value is 0 for what is no number. */
	if (!isfinite(seconds) || seconds <= 0)
		return refuse(plan, PLAN_MALFORMED, "the interval of %.60s is no number of seconds", target->name);
	if (seconds > ns_to_seconds(PLAN_INTERVAL_MAX_NS))
		seconds = ns_to_seconds(PLAN_INTERVAL_MAX_NS);
	target->port = (uint16_t)port;
	target->paths = (uint32_t)paths;
	target->interval_ns = (uint64_t)llround(seconds * 1e9);
	if (target->interval_ns < bounds->min_interval_ns) {
		refuse(plan, PLAN_INTERVAL, "%.60s would be probed more often than probe.plan.min_interval allows", target->name);
		target->interval_ns = bounds->min_interval_ns;
	}
	return true;
}

static void read_entry(struct plan *plan, const json_t *entry, const struct plan_bounds *bounds)
{
	struct plan_target target = { 0 };

	if (plan->n >= bounds->targets_max) {
		refuse(plan, PLAN_TOO_MANY, "only %u targets are allowed by probe.plan.targets", bounds->targets_max);
		return;
	}
	/* Of what is no object every key is absent. */
	if (read_name(plan, entry, bounds, &target) && read_address(plan, entry, bounds, &target) &&
	    read_protocol(plan, entry, bounds, &target) && read_numbers(plan, entry, bounds, &target))
		plan->targets[plan->n++] = target;
	else
		free(target.name);
}

static int by_name(const void *a, const void *b)
{
	const struct plan_target *const *x = a, *const *y = b;
	int order = strcmp((*x)->name, (*y)->name);

	return order ? order : (*x > *y) - (*x < *y);
}

/* The first of each name stays. */
static int drop_doubles(struct plan *plan)
{
	struct plan_target **sorted = calloc(plan->n ? plan->n : 1, sizeof(struct plan_target *));
	size_t kept = 0;

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < plan->n; i++)
		sorted[i] = &plan->targets[i];
	if (plan->n > 1)
		qsort(sorted, plan->n, sizeof(struct plan_target *), by_name);
	for (size_t i = 1, first = 0; i < plan->n; i++) {
		if (strcmp(sorted[i]->name, sorted[first]->name)) {
			first = i;
			continue;
		}
		refuse(plan, PLAN_NAME, "the name %.60s is there twice", sorted[i]->name);
		free(sorted[i]->name);
		sorted[i]->name = NULL;
		sorted[i] = sorted[first]; /* to compare the next one with */
	}
	free(sorted);
	for (size_t i = 0; i < plan->n; i++)
		if (plan->targets[i].name)
			plan->targets[kept++] = plan->targets[i];
	plan->n = kept;
	return 0;
}

static int read_plan(const json_t *root, const struct plan_bounds *bounds, struct plan *plan, struct error *ret_error)
{
	const json_t *version = json_object_get(root, "version"), *targets = json_object_get(root, "targets");
	size_t n = json_array_size(targets);

	if (!json_is_object(root) || !json_is_integer(version) || !json_is_array(targets))
		return error_set(ret_error, -EINVAL, "it is no object with `version` and `targets`");
	if (json_integer_value(version) != 1)
		return error_set(ret_error, -EINVAL, "its version is %lld, and this agent knows version 1",
				 (long long)json_integer_value(version));
	if (n > bounds->targets_max)
		plan->targets = calloc(bounds->targets_max ? bounds->targets_max : 1, sizeof(*plan->targets));
	else
		plan->targets = calloc(n ? n : 1, sizeof(*plan->targets));
	if (!plan->targets)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		read_entry(plan, json_array_get(targets, i), bounds);
	return drop_doubles(plan);
}

/* How many values the text has, or more: each begins behind one of these, or is the only one. jansson takes up to 230 bytes for a
 * value, which can be two characters, so a hostile plan would take eighty times its size of memory. */
static size_t values_at_most(const char *text, size_t len)
{
	size_t n = 1;

	for (size_t i = 0; i < len; i++)
		n += text[i] == ',' || text[i] == '[' || text[i] == '{';
	return n;
}

int plan_parse(const char *text, size_t len, const struct plan_bounds *bounds, struct plan *ret_plan, struct error *ret_error)
{
	const size_t values_max = PLAN_VALUES_MAX(bounds->targets_max);
	struct plan plan = { 0 };
	json_error_t error;
	json_t *root;
	int r;

	if (values_at_most(text, len) > values_max)
		return error_set(ret_error, -EINVAL, "it has more than %zu values, far more than the %u targets of probe.plan.targets take",
				 values_max, bounds->targets_max);
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		return error_set(ret_error, -EINVAL, "it is not JSON: line %d: %s", error.line, error.text);
	r = read_plan(root, bounds, &plan, ret_error);
	json_decref(root);
	if (r < 0)
		plan_done(&plan);
	else
		*ret_plan = plan;
	return r;
}

void plan_done(struct plan *plan)
{
	for (size_t i = 0; i < plan->n; i++)
		free(plan->targets[i].name);
	free(plan->targets);
	*plan = (struct plan){ 0 };
}
