/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom `netsonde ping` asks. Names are looked up once, at the start, one after the other; of several addresses the first is
 * taken, in the order of the system (RFC 6724, gai.conf). One wrong name does not keep the others from being asked.
 */
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/ping.h"
#include "cli/top_text.h"

/* Digits, all of them: 1..65535. */
static int port_parse(const char *text, uint16_t *ret_port)
{
	unsigned long port = strtoul(text, NULL, 10);
	size_t n = strspn(text, "0123456789");

	if (!n || n > 5 || text[n] || !port || port > UINT16_MAX)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

int ping_host_split(const char *text, bool ports, char ret_host[static PING_NAME_MAX], uint16_t *ret_port, struct error *ret_error)
{
	const char *start = text, *end = text + strlen(text), *port = NULL, *colon = strchr(text, ':');
	uint16_t number = 0;

	if (text[0] == '[') {
		start = text + 1;
		end = strchr(start, ']');
		if (!end || (end[1] && end[1] != ':'))
			return error_set(ret_error, -EINVAL, "an address in brackets is written [2001:db8::1] or [2001:db8::1]:443");
		port = end[1] ? end + 2 : NULL;
	} else if (colon && !strchr(colon + 1, ':')) {
		end = colon;
		port = colon + 1;
	}
	if (end == start)
		return error_set(ret_error, -EINVAL, "that is no host");
	if (end - start >= PING_NAME_MAX)
		return error_set(ret_error, -EINVAL, "the name is longer than names can be");
	if (port && !ports)
		return error_set(ret_error, -EINVAL, "ICMP has no ports; --protocol=tcp or stamp has");
	if (port && port_parse(port, &number) < 0)
		return error_set(ret_error, -EINVAL, "a port is a number from 1 to 65535");
	memcpy(ret_host, start, (size_t)(end - start));
	ret_host[end - start] = '\0';
	*ret_port = number;
	return 0;
}

static bool is_link_local(const struct address *a)
{
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

/* Answers come from whom was asked; these never answer. */
static const char *why_no_host(const struct address *a)
{
	static const struct address unspecified;
	const uint8_t *v4 = a->bytes + 12;

	if (!address_is_ipv4(a))
		return a->bytes[0] == 0xff ? "is a multicast address: others would answer" :
		       !address_compare(a, &unspecified) ? "is no host's address" : NULL;
	if (v4[0] >= 224 && v4[0] < 240)
		return "is a multicast address: others would answer";
	if (!memcmp(v4, "\xff\xff\xff\xff", 4))
		return "is the broadcast address: others would answer";
	return v4[0] ? NULL : "is no host's address";
}

static int take_address(const struct addrinfo *info, struct ping_host *host)
{
	const struct sockaddr_in *v4 = (const void *)info->ai_addr;
	const struct sockaddr_in6 *v6 = (const void *)info->ai_addr;

	host->address = (struct address){ .bytes = { [10] = 0xff, [11] = 0xff } };
	if (info->ai_family == AF_INET) {
		memcpy(host->address.bytes + 12, &v4->sin_addr, 4);
	} else if (info->ai_family == AF_INET6) {
		memcpy(host->address.bytes, &v6->sin6_addr, 16);
		host->ifindex = v6->sin6_scope_id;
	} else {
		return -EAFNOSUPPORT;
	}
	return 0;
}

static int look_up(const char *name, unsigned family, struct ping_host *host, struct error *ret_error)
{
	struct addrinfo hints = { .ai_family = family == 4 ? AF_INET : family == 6 ? AF_INET6 : AF_UNSPEC, .ai_socktype = SOCK_DGRAM };
	struct addrinfo *list = NULL;
	int code = getaddrinfo(name, NULL, &hints, &list), r = -EAFNOSUPPORT;

	if (code == EAI_SYSTEM)
		return error_set(ret_error, -errno, "%s", strerror(errno));
	if (code == EAI_ADDRFAMILY && family)
		return error_set(ret_error, -ENOENT, "it has no IPv%u address", family);
	if (code)
		return error_set(ret_error, -ENOENT, "%s", gai_strerror(code));
	for (const struct addrinfo *info = list; info && r < 0; info = info->ai_next)
		r = take_address(info, host);
	freeaddrinfo(list);
	return r < 0 ? error_set(ret_error, r, "it has no IP address") : 0;
}

/* "10.0.0.1", "fe80::1%eth0", "[2001:db8::1]:443" */
static void write_where(struct ping_host *host, const struct ping_options *options)
{
	char address[ADDRESS_TEXT_MAX], scope[IF_NAMESIZE + 1] = "", device[IF_NAMESIZE];
	bool brackets = !address_is_ipv4(&host->address);

	address_format(&host->address, address);
	if (host->ifindex && is_link_local(&host->address) && if_indextoname(host->ifindex, device))
		snprintf(scope, sizeof(scope), "%%%s", device);
	if (options->protocol == PROBE_ICMP)
		snprintf(host->where, sizeof(host->where), "%s%s", address, scope);
	else
		snprintf(host->where, sizeof(host->where), "%s%s%s%s:%u", brackets ? "[" : "", address, scope, brackets ? "]" : "",
			 ping_port(host, options));
}

static int resolve(const char *text, const struct ping_options *options, struct ping_host *host, struct error *ret_error)
{
	char name[PING_NAME_MAX], address[ADDRESS_TEXT_MAX];
	const char *why;
	bool named;
	int r = ping_host_split(text, options->protocol != PROBE_ICMP, name, &host->port, ret_error);

	if (r < 0)
		return r;
	r = look_up(name, options->family, host, ret_error);
	if (r < 0)
		return r;
	address_format(&host->address, address);
	named = strcmp(name, address) != 0;
	why = why_no_host(&host->address);
	if (why)
		return error_set(ret_error, -EINVAL, "%s %s", named ? address : "it", why);
	if (options->has_source && address_is_ipv4(&options->source) != address_is_ipv4(&host->address))
		return error_set(ret_error, -EINVAL, "%s is of another family than the source address", named ? address : "it");
	if (!host->ifindex)
		host->ifindex = options->ifindex;
	if (is_link_local(&host->address) && !host->ifindex)
		return error_set(ret_error, -EINVAL, "a link-local address needs its interface: %s%%eth0, or --interface=eth0", address);
	top_clean(text, host->name, sizeof(host->name));
	write_where(host, options);
	return 0;
}

static int make_paths(struct ping_hosts *hosts)
{
	hosts->paths = calloc(hosts->n ? hosts->n * hosts->paths_each : 1, sizeof(*hosts->paths));
	if (!hosts->paths)
		return -ENOMEM;
	for (size_t i = 0; i < hosts->n; i++) {
		struct ping_host *host = hosts->items + i;

		host->paths = hosts->paths + i * hosts->paths_each;
		for (size_t j = 0; j < hosts->paths_each; j++) {
			host->paths[j].host = host;
			host->paths[j].number = (uint8_t)(j + 1);
		}
	}
	return 0;
}

int ping_hosts_new(char *const *names, size_t n, const struct ping_options *options, struct ping_hosts *ret_hosts, struct buffer *errors)
{
	struct ping_hosts hosts = { .items = calloc(n ? n : 1, sizeof(*hosts.items)), .paths_each = options->paths ? options->paths : 1 };
	char clean[PING_NAME_MAX];
	int wrong = 0, r;

	if (!hosts.items)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		struct error error = { "" };

		hosts.items[hosts.n] = (struct ping_host){ 0 };
		r = resolve(names[i], options, hosts.items + hosts.n, &error);
		if (r < 0)
			buffer_printf(errors, "netsonde ping: %s: %s\n", top_clean(names[i], clean, sizeof(clean)), error.text);
		wrong += r < 0;
		hosts.n += r == 0;
	}
	r = make_paths(&hosts);
	if (r < 0) {
		ping_hosts_done(&hosts);
		return r;
	}
	*ret_hosts = hosts;
	return wrong;
}

void ping_hosts_done(struct ping_hosts *hosts)
{
	for (size_t i = 0; i < hosts->n && hosts->paths; i++) {
		ping_stats_done(&hosts->items[i].stats);
		for (size_t j = 0; j < hosts->paths_each; j++)
			ping_stats_done(&hosts->items[i].paths[j].stats);
	}
	free(hosts->items);
	free(hosts->paths);
	*hosts = (struct ping_hosts){ 0 };
}

void ping_hosts_sum(struct ping_hosts *hosts)
{
	for (size_t i = 0; i < hosts->n; i++) {
		struct ping_host *host = hosts->items + i;

		ping_stats_done(&host->stats);
		for (size_t j = 0; j < hosts->paths_each; j++)
			ping_stats_merge(&host->stats, &host->paths[j].stats);
	}
}
