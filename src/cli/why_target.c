/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is meant by the argument: an address, a network's name, a PID, a connection. A word
 * can be several of these ("db" is a network and a hexadecimal number), so it is
 * parsed as all that it can be, and what is there decides.
 */
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "cli/why.h"
#include "lib/flags.h"

#define CANDIDATES_MAX 4096
#define SHOWN_MAX 5

/* "192.0.2.1:80", "[2001:db8::1]:80" */
static bool parse_end(const char *text, size_t len, struct address *ret_address, uint16_t *ret_port)
{
	char copy[ADDRESS_TEXT_MAX + 8], *address = copy, *port;
	unsigned long number;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	port = strrchr(copy, ':');
	if (!port || !isdigit((unsigned char)port[1]) || strspn(port + 1, "0123456789") != strlen(port + 1))
		return false;
	*port++ = '\0';
	number = strtoul(port, NULL, 10);
	if (copy[0] == '[') {
		if (port - copy < 3 || port[-2] != ']')
			return false;
		port[-2] = '\0';
		address++;
	}
	*ret_port = (uint16_t)number;
	return number && number <= UINT16_MAX && !address_parse(address, ret_address);
}

static bool parse_pair(const char *text, struct why_target *t)
{
	const char *dash = strchr(text, '-');

	return dash && parse_end(text, (size_t)(dash - text), &t->local, &t->local_port) &&
	       parse_end(dash + 1, strlen(dash + 1), &t->remote, &t->remote_port);
}

static bool looks_like_host(const char *text)
{
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '.' && *c != '-' && *c != '_')
			return false;
	return text[0] && strlen(text) < 254;
}

int why_target_parse(const char *text, struct why_target *ret_target, struct error *ret_error)
{
	struct why_target t = { .text = text };
	size_t len = strlen(text), digits = strspn(text, "0123456789");
	struct error prefix_error = { "" };
	bool any = false;

	t.possible[WHY_PAIR] = parse_pair(text, &t);
	if (len && len <= 9 && digits == len) {
		t.pid = (uint32_t)strtoul(text, NULL, 10);
		t.possible[WHY_PID] = t.pid;
	}
	t.possible[WHY_ADDRESS] = !prefix_parse(text, &t.prefix, &prefix_error);
	if (!t.possible[WHY_ADDRESS] && strchr(text, '/'))
		return error_set(ret_error, -EINVAL, "%s", prefix_error.text);
	if (len && len <= 16 && strspn(text, "0123456789abcdef") == len) {
		t.id = strtoull(text, NULL, 16);
		t.possible[WHY_ID] = true;
	}
	t.possible[WHY_NETWORK] = len && !t.possible[WHY_PAIR] && !t.possible[WHY_ADDRESS];
	t.possible[WHY_HOST] = t.possible[WHY_NETWORK] && digits < len && looks_like_host(text);
	for (unsigned i = 0; i < WHY_KIND_COUNT; i++)
		any |= t.possible[i];
	if (!any)
		return error_set(ret_error, -EINVAL,
				 "an address, the name of a network or a host, a PID, or a connection is needed");
	*ret_target = t;
	return 0;
}

void why_target_resolve(struct why_target *t)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list = NULL;

	if (!t->possible[WHY_HOST] || t->n_addresses || getaddrinfo(t->text, NULL, &hints, &list))
		return;
	for (const struct addrinfo *a = list; a && t->n_addresses < WHY_HOST_ADDRESSES_MAX; a = a->ai_next) {
		struct address *to = &t->addresses[t->n_addresses];

		if (a->ai_family == AF_INET6) {
			memcpy(to->bytes, &((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr, 16);
			t->n_addresses++;
		} else if (a->ai_family == AF_INET) {
			memset(to->bytes, 0, 10);
			memset(to->bytes + 10, 0xff, 2);
			memcpy(to->bytes + 12, &((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr, 4);
			t->n_addresses++;
		}
	}
	freeaddrinfo(list);
}

bool why_target_matches(const struct why_target *t, enum why_kind kind, const struct connection *c)
{
	if (!t->possible[kind])
		return false;
	switch (kind) {
	case WHY_PAIR:
		return c->local_port == t->local_port && c->remote_port == t->remote_port &&
		       !address_compare(&c->local, &t->local) && !address_compare(&c->remote, &t->remote);
	case WHY_PID: return c->pid == t->pid;
	case WHY_ADDRESS: return prefix_contains(&t->prefix, &c->remote);
	case WHY_NETWORK: return !strcmp(c->peer, t->text);
	case WHY_ID: return c->cookie == t->id;
	default:
		for (size_t i = 0; i < t->n_addresses; i++)
			if (!address_compare(&c->remote, &t->addresses[i]))
				return true;
		return false;
	}
}

/* Peers and processes that there are, each once. */
struct names {
	char *items[CANDIDATES_MAX];
	size_t counts[CANDIDATES_MAX];
	size_t n;
};

static int collect_peer(const struct connection *c, void *userdata)
{
	struct names *names = userdata;

	for (size_t i = 0; i < names->n; i++)
		if (!strcmp(names->items[i], c->peer)) {
			names->counts[i]++;
			return 0;
		}
	if (names->n < CANDIDATES_MAX) {
		names->items[names->n] = strdup(c->peer);
		names->counts[names->n] = 1;
		names->n += names->items[names->n] != NULL;
	}
	return 0;
}

/* The peers with the most connections. */
static void list_peers(struct names *names, struct buffer *out)
{
	buffer_puts(out, "; there are connections with ");
	for (size_t shown = 0; shown < SHOWN_MAX; shown++) {
		size_t best = 0;

		for (size_t i = 1; i < names->n; i++)
			if (names->counts[i] > names->counts[best])
				best = i;
		if (!names->counts[best])
			return;
		buffer_printf(out, "%s%s (%zu)", shown ? ", " : "", names->items[best], names->counts[best]);
		names->counts[best] = 0;
	}
	buffer_puts(out, ", ...");
}

static void say_what(const struct why_target *t, struct buffer *out)
{
	if (t->possible[WHY_PAIR])
		buffer_printf(out, "there is no connection %s", t->text);
	else if (t->possible[WHY_PID] && kill((pid_t)t->pid, 0) && errno == ESRCH)
		buffer_printf(out, "no process %s holds a TCP connection here, and no connection has that ID", t->text);
	else if (t->possible[WHY_PID])
		buffer_printf(out, "process %s holds no TCP connection", t->text);
	else if (t->possible[WHY_HOST] && !t->n_addresses)
		buffer_printf(out,
			      "%s is neither a configured network with connections, nor the ID of a connection, nor a "
			      "host that can be resolved",
			      t->text);
	else
		buffer_printf(out, "there is no TCP connection with %s", t->text);
}

void why_suggest(const struct why_target *t, struct why_source *source, struct buffer *out)
{
	struct names *names = calloc(1, sizeof(*names));
	const char *nearest;
	bool fresh;

	say_what(t, out);
	if (!names)
		return;
	why_source_narrow(source, t, WHY_KIND_COUNT);
	why_source_table(source, collect_peer, names, &fresh, NULL);
	nearest = flags_nearest(t->text, (const char *const *)names->items, names->n);
	if (nearest)
		buffer_printf(out, "; did you mean %s?", nearest);
	else if (names->n)
		list_peers(names, out);
	else
		buffer_puts(out, "; there is none at all");
	for (size_t i = 0; i < names->n; i++)
		free(names->items[i]);
	free(names);
}
