/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The targets of probes: what each inherits from probe.defaults, and what of it
 * makes no sense together. Everything is refused here that would only show when
 * the agent runs, so that `netsonde check` finds it.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include "lib/address.h"
#include "lib/clock.h"
#include "lib/flags.h"
#include "lib/settings.h"
#include "lib/settings_probe.h"

#define NAME_MAX_CHARS 128 /* a label value in every series of its target */
#define AT(member) offsetof(struct settings_probe_target, member)
/* A TCP probe is known by 8 bits of its sequence number, so no more than this are on their way, with half a time-out to
 * spare for answers that are late (bpf/abi_probe.h). */
#define TCP_FLIGHTS_MAX 256

static int name_check(const char *text, struct error *ret_error)
{
	if (strcmp(text, "other"))
		return 0;
	return error_set(ret_error, -EINVAL, "`other` cannot name a target: it stands for what belongs to none");
}

/* RFC 1123, section 2.1, and the underscore that many networks use. */
static bool is_host_name(const char *text)
{
	size_t label = 0, len = strlen(text);

	if (len > 253)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		bool edge = !label || !text[i + 1] || text[i + 1] == '.';

		if (c == '.') {
			if (!label)
				return false;
			label = 0;
			continue;
		}
		if (++label > 63 || (c == '-' && edge))
			return false;
		if (c != '-' && c != '_' && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
			return false;
	}
	return len;
}

/* "10.0.0.1:80", "[2001:db8::1]:80", "host:80" */
static bool is_with_port(const char *text)
{
	const char *colon = strrchr(text, ':');

	return colon && colon != text && colon[1] && !colon[1 + strspn(colon + 1, "0123456789")] &&
	       (colon[-1] == ']' || strchr(text, ':') == colon);
}

static int host_check(const char *text, struct error *ret_error)
{
	struct address address;

	if (strchr(text, '%'))
		return error_set(ret_error, -EINVAL, "write the address without `%%`, and the interface as `interface: NAME`");
	if (strstr(text, "://"))
		return error_set(ret_error, -EINVAL, "expected an address such as 10.0.0.1 or a host name, not a URL");
	if (strchr(text, '/'))
		return error_set(ret_error, -EINVAL, "expected one address such as 10.0.0.1 or a host name, not a network");
	if (is_with_port(text))
		return error_set(ret_error, -EINVAL, "write the address without its port, and that as `port: NUMBER`");
	/* What has only digits and dots is meant as an address. */
	if (address_parse(text, &address) && (!is_host_name(text) || !text[strspn(text, "0123456789.")]))
		return error_set(ret_error, -EINVAL, "expected an address such as 10.0.0.1 or a host name");
	return 0;
}

static int source_check(const char *text, struct error *ret_error)
{
	struct address address;

	if (address_parse(text, &address))
		return error_set(ret_error, -EINVAL, "expected an address of this host such as 10.0.0.5");
	return 0;
}

int settings_path_check(const char *text, struct error *ret_error)
{
	if (*text == '/')
		return 0;
	return error_set(ret_error, -EINVAL, "expected the path of a file that begins with `/`");
}

const struct config_row settings_probe_target_rows[] = {
	{ .path = "name", .type = CONFIG_STRING, .offset = AT(name), .max = NAME_MAX_CHARS, .check = name_check,
	  .flags = CONFIG_REQUIRED | CONFIG_UNIQUE, .help = "How the target is called in labels." },
	{ .path = "address", .type = CONFIG_STRING, .offset = AT(address), .max = 253, .check = host_check, .flags = CONFIG_REQUIRED,
	  .help = "Its address, or a host name, which is looked up again every minute and when the target is down." },
	{ .path = "protocol", .type = CONFIG_CHOICE, .offset = AT(protocol), .choices = "icmp|stamp|tcp", .flags = CONFIG_INHERITED,
	  .help = "See probe.defaults, as for all below that are there." },
	{ .path = "port", .type = CONFIG_UNSIGNED, .offset = AT(port), .min = 1, .max = 65535,
	  .help = "Of STAMP (862 when it is not here) or TCP (443)." },
	{ .path = "interval", .type = CONFIG_DURATION, .offset = AT(interval_ns), .min = 10000000, .max = 3600000000000,
	  .flags = CONFIG_INHERITED, .help = "From one probe of a path to the next." },
	{ .path = "timeout", .type = CONFIG_DURATION, .offset = AT(timeout_ns), .min = 1000000, .max = 60000000000,
	  .flags = CONFIG_INHERITED, .help = "When a probe counts as lost." },
	{ .path = "size", .type = CONFIG_UNSIGNED, .offset = AT(size), .min = 16, .max = 9000, .flags = CONFIG_INHERITED,
	  .help = "Bytes behind the ICMP or UDP header." },
	{ .path = "dscp", .type = CONFIG_UNSIGNED, .offset = AT(dscp), .max = 63, .flags = CONFIG_INHERITED,
	  .help = "Class of service." },
	{ .path = "ttl", .type = CONFIG_UNSIGNED, .offset = AT(ttl), .min = 1, .max = 255,
	  .help = "Time to live or hop limit; that of the host when it is not here." },
	{ .path = "paths", .type = CONFIG_UNSIGNED, .offset = AT(paths), .min = 1, .max = 32, .flags = CONFIG_INHERITED,
	  .help = "Probes per interval that may go different ways." },
	{ .path = "interface", .type = CONFIG_STRING, .offset = AT(interface), .max = 64, .check = settings_interface_check,
	  .help = "The interface to leave by, in place of the one of the route." },
	{ .path = "source", .type = CONFIG_STRING, .offset = AT(source), .max = 63, .check = source_check,
	  .help = "The address to send from." },
	{ .path = "key_file", .type = CONFIG_STRING, .offset = AT(key_file), .check = settings_path_check,
	  .help = "The key of authenticated STAMP." },
	{ .path = "passive", .type = CONFIG_SWITCH, .offset = AT(passive), .value = "on",
	  .help = "Whether TCP connections to it may take the place of its ICMP probes (see probe.passive)." },
	{ 0 }
};

static void inherit(const struct settings *settings, struct settings_probe_target *t)
{
	t->protocol = t->protocol == UINT32_MAX ? settings->probe.defaults.protocol : t->protocol;
	t->interval_ns = t->interval_ns == UINT64_MAX ? settings->probe.defaults.interval_ns : t->interval_ns;
	t->timeout_ns = t->timeout_ns == UINT64_MAX ? settings->probe.defaults.timeout_ns : t->timeout_ns;
	t->size = t->size == UINT32_MAX ? settings->probe.defaults.size : t->size;
	t->dscp = t->dscp == UINT32_MAX ? settings->probe.defaults.dscp : t->dscp;
	t->paths = t->paths == UINT32_MAX ? settings->probe.defaults.paths : t->paths;
}

static int protocol_check(const struct settings_probe_target *t, bool own_size, const char **ret_key, struct error *ret_error)
{
	if (t->port && t->protocol == SETTINGS_PROBE_ICMP) {
		*ret_key = "port";
		return error_set(ret_error, -EINVAL, "ICMP has no ports; is `protocol: tcp` or `protocol: stamp` meant?");
	}
	if (t->key_file && t->protocol != SETTINGS_PROBE_STAMP) {
		*ret_key = "key_file";
		return error_set(ret_error, -EINVAL, "only STAMP is authenticated by a key; write `protocol: stamp`");
	}
	if (own_size && t->protocol == SETTINGS_PROBE_TCP) {
		*ret_key = "size";
		return error_set(ret_error, -EINVAL, "a TCP SYN carries no data, so it has no `size`");
	}
	return 0;
}

/* own_timeout: it is in the entry, so the message points there. */
static int flights_check(const struct settings_probe_target *t, bool own_timeout, const char **ret_key, struct error *ret_error)
{
	uint64_t longest = t->interval_ns * TCP_FLIGHTS_MAX * 2 / 3;
	char interval[32], timeout[32];

	if (t->protocol != SETTINGS_PROBE_TCP || t->timeout_ns <= longest)
		return 0;
	*ret_key = own_timeout ? "timeout" : "interval";
	longest -= longest % (100 * NS_PER_MS);
	return error_set(ret_error, -EINVAL, "TCP probes every %s can have a `timeout` of at most %s",
			 duration_format(t->interval_ns, interval), duration_format(longest, timeout));
}

static int address_check(const struct settings_probe_target *t, const char **ret_key, struct error *ret_error)
{
	struct address address, source;

	*ret_key = "address";
	if (address_parse(t->address, &address))
		return 0; /* a host name */
	if (!address_is_host(&address))
		return error_set(ret_error, -EINVAL, "%s is not the address of one host", t->address);
	if (address_is_link_local6(&address) && !t->interface)
		return error_set(ret_error, -EINVAL, "a link-local address needs `interface`");
	if (t->source && !address_parse(t->source, &source) && address_is_ipv4(&source) != address_is_ipv4(&address)) {
		*ret_key = "source";
		return error_set(ret_error, -EINVAL, "`source` and `address` must both be IPv4 or both be IPv6");
	}
	return 0;
}

int settings_probe_target_finish(void *target, void *record, const char **ret_key, struct error *ret_error)
{
	struct settings_probe_target *t = record;
	const bool own_size = t->size != UINT32_MAX, own_timeout = t->timeout_ns != UINT64_MAX;
	int r;

	inherit(target, t);
	r = protocol_check(t, own_size, ret_key, ret_error);
	if (!r)
		r = flights_check(t, own_timeout, ret_key, ret_error);
	if (!r)
		r = address_check(t, ret_key, ret_error);
	return r;
}

int settings_probe_plan_finish(void *target, void *record, const char **ret_key, struct error *ret_error)
{
	const struct settings *s = target;

	if (!s->probe.plan.url && (s->probe.plan.n_networks || s->probe.plan.n_protocols))
		return error_set(ret_error, -EINVAL, "`plan` needs `url`: there is nothing to bound without it");
	return 0;
}

int settings_probe_reflector_finish(void *target, void *record, const char **ret_key, struct error *ret_error)
{
	const struct settings *s = target;

	*ret_key = "authenticated_only";
	if (s->probe.reflector.authenticated_only && !s->probe.reflector.key_file)
		return error_set(ret_error, -EINVAL, "`authenticated_only` needs `key_file`: without a key nothing would be answered");
	return 0;
}

int settings_probe_finish(void *target, void *record, const char **ret_key, struct error *ret_error)
{
	const struct settings *s = target;
	uint64_t paths = s->probe.peers;

	*ret_key = "attach";
	if (s->probe.n_reflect && (s->probe.attach == SETTINGS_ATTACH_OFF || s->probe.attach == SETTINGS_ATTACH_SOCKET))
		return error_set(ret_error, -EINVAL, "nothing is reflected (`reflect`) without a program on the interface that can send packets; "
						     "write `attach: auto`");
	for (size_t i = 0; i < s->probe.n_targets; i++)
		paths += s->probe.targets[i].paths;
	*ret_key = "max_targets";
	if (paths > s->probe.max_targets)
		return error_set(ret_error, -EINVAL, "%llu targets and paths are more than `max_targets`, %u", (unsigned long long)paths,
				 s->probe.max_targets);
	*ret_key = "peers";
	if (s->probe.peers && !s->collect.tcp && !s->collect.udp && !s->collect.n_flows)
		return error_set(ret_error, -EINVAL, "`peers` are known by collect.tcp, collect.udp or collect.flows, which are all off");
	return 0;
}

bool settings_probe_wanted(const struct settings *settings)
{
	return settings->probe.n_targets || settings->probe.peers || settings->probe.plan.url || settings->probe.n_reflect;
}
