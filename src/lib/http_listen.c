/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening sockets of the HTTP server: the text of an address, bind, listen,
 * and an error that says what to do. Done here and not in libmicrohttpd, which
 * only says that it could not start.
 *
 * ":port" is one IPv6 socket that also takes IPv4 (IPV6_V6ONLY off), or an IPv4
 * one where the kernel has no IPv6. An IPv6 address that is written out takes
 * IPv6 only, so that "0.0.0.0:9435" and "[::]:9435" can be given together.
 * Host names are refused, except localhost: a name that resolves to something
 * else tomorrow is no place to listen.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/http_internal.h"

#define LISTEN_BACKLOG 512 /* a burst of browsers and scrapers; the kernel caps it at net.core.somaxconn */

struct listen_address {
	struct sockaddr_storage sa;
	socklen_t len;
	bool any; /* ":port" */
};

static int bad_address(struct error *ret_error, const char *text, const char *why)
{
	return error_set(ret_error, -EINVAL,
			 "cannot listen on \"%s\": %s; write it as 127.0.0.1:9435, [::1]:9435 or :9435", text, why);
}

static int parse_port(const char *text, uint16_t *ret_port)
{
	char *end;
	unsigned long port;

	if (*text < '0' || *text > '9' || strlen(text) > 5)
		return -EINVAL;
	port = strtoul(text, &end, 10);
	if (*end || port > 65535)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

static bool parse_ipv6(char *host, struct sockaddr_in6 *sin6)
{
	char *zone = strchr(host, '%');

	if (zone) {
		*zone++ = '\0';
		sin6->sin6_scope_id = if_nametoindex(zone);
		if (!sin6->sin6_scope_id)
			return false;
	}
	return inet_pton(AF_INET6, host, &sin6->sin6_addr) == 1;
}

static int listen_address_parse(const char *text, struct listen_address *ret_address, struct error *ret_error)
{
	struct listen_address a = { 0 };
	struct sockaddr_in *sin = (struct sockaddr_in *)&a.sa;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&a.sa;
	const char *colon = strrchr(text, ':');
	char host[HTTP_ADDRESS_TEXT_MAX];
	size_t host_len;
	uint16_t port;

	if (!colon || (*text == '[' && colon[-1] != ']'))
		return bad_address(ret_error, text, "there is no port");
	if (parse_port(colon + 1, &port) < 0)
		return bad_address(ret_error, text, "the port is not a number from 0 to 65535");
	host_len = (size_t)(colon - text);
	if (host_len >= sizeof(host))
		return bad_address(ret_error, text, "the address is too long");
	memcpy(host, text, host_len);
	host[host_len] = '\0';

	if (host[0] == '[') {
		host[host_len - 1] = '\0';
		if (!parse_ipv6(host + 1, sin6))
			return bad_address(ret_error, text, "that is not an IPv6 address");
		a.sa.ss_family = AF_INET6;
	} else if (!host[0]) {
		a.any = true;
		a.sa.ss_family = AF_INET6;
	} else {
		if (strchr(host, ':'))
			return bad_address(ret_error, text, "an IPv6 address needs square brackets");
		if (inet_pton(AF_INET, strcasecmp(host, "localhost") ? host : "127.0.0.1", &sin->sin_addr) != 1)
			return bad_address(ret_error, text, "that is not an IP address");
		a.sa.ss_family = AF_INET;
	}
	if (a.sa.ss_family == AF_INET6) {
		sin6->sin6_port = htons(port);
		a.len = sizeof(*sin6);
	} else {
		sin->sin_port = htons(port);
		a.len = sizeof(*sin);
	}
	*ret_address = a;
	return 0;
}

static int bind_and_listen(const struct listen_address *a, int *ret_fd)
{
	const int on = 1, v6only = !a->any;
	int r, fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	/* Without SO_REUSEADDR a restart fails for a minute while old connections are in TIME_WAIT. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (a->sa.ss_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) < 0) ||
	    bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int listen_failed(struct error *ret_error, const char *text, int r)
{
	switch (r) {
	case -EADDRINUSE:
		return error_set(ret_error, r,
				 "cannot listen on %s: the port is in use; give another with --web.listen-address", text);
	case -EACCES:
	case -EPERM:
		return error_set(ret_error, r,
				 "cannot listen on %s: no permission; ports below 1024 are for root, "
				 "give another with --web.listen-address", text);
	case -EADDRNOTAVAIL:
		return error_set(ret_error, r,
				 "cannot listen on %s: this host has no such address; give one of its own with "
				 "--web.listen-address", text);
	case -EAFNOSUPPORT:
		return error_set(ret_error, r,
				 "cannot listen on %s: this kernel has no IPv6; give an IPv4 address with "
				 "--web.listen-address", text);
	default:
		return error_set_errno(ret_error, r, "cannot listen on %s", text);
	}
}

static bool is_loopback(const struct sockaddr_storage *sa)
{
	if (sa->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

int http_listen(const char *text, struct http_listener *listener, struct error *ret_error)
{
	struct listen_address a;
	struct sockaddr_storage bound = { 0 };
	socklen_t len = sizeof(bound);
	int r, fd = -1;

	r = listen_address_parse(text, &a, ret_error);
	if (r < 0)
		return r;
	r = bind_and_listen(&a, &fd);
	if (a.any && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)) {
		const in_port_t port = ((struct sockaddr_in6 *)&a.sa)->sin6_port;

		memset(&a.sa, 0, sizeof(a.sa));
		a.sa.ss_family = AF_INET;
		((struct sockaddr_in *)&a.sa)->sin_port = port;
		a.len = sizeof(struct sockaddr_in);
		r = bind_and_listen(&a, &fd);
	}
	if (r < 0)
		return listen_failed(ret_error, text, r);
	if (getsockname(fd, (struct sockaddr *)&bound, &len) < 0) {
		r = -errno;
		close(fd);
		return listen_failed(ret_error, text, r);
	}
	http_address_format(&bound, listener->address);
	listener->loopback = is_loopback(&bound);
	listener->fd = fd;
	return 0;
}

const char *http_address_format(const struct sockaddr_storage *sa, char buf[static HTTP_ADDRESS_TEXT_MAX])
{
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)sa;
	const struct sockaddr_in *sin = (const struct sockaddr_in *)sa;
	char text[INET6_ADDRSTRLEN] = "?";

	if (sa->ss_family == AF_INET) {
		inet_ntop(AF_INET, &sin->sin_addr, text, sizeof(text));
		snprintf(buf, HTTP_ADDRESS_TEXT_MAX, "%s:%u", text, ntohs(sin->sin_port));
	} else if (sa->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
		inet_ntop(AF_INET, &sin6->sin6_addr.s6_addr[12], text, sizeof(text));
		snprintf(buf, HTTP_ADDRESS_TEXT_MAX, "%s:%u", text, ntohs(sin6->sin6_port));
	} else if (sa->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &sin6->sin6_addr, text, sizeof(text));
		snprintf(buf, HTTP_ADDRESS_TEXT_MAX, "[%s]:%u", text, ntohs(sin6->sin6_port));
	} else {
		snprintf(buf, HTTP_ADDRESS_TEXT_MAX, "?");
	}
	return buf;
}

bool http_address_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET)
		return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
		       ((const struct sockaddr_in *)b)->sin_addr.s_addr;
	return !memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr, &((const struct sockaddr_in6 *)b)->sin6_addr,
		       sizeof(struct in6_addr));
}
