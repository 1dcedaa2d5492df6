/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include "lab/traffic_internal.h"
#include "lib/clock.h"

#define PATIENCE_S 5
#define STACK_BYTES (256 * 1024)
#define PIECE 16384
#define LISTEN_POLL_MS 50 /* how late a closed port opens, or an open one closes */

void net_sleep(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC) };
	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		continue;
}

int net_bind(int type, unsigned port, struct error *error)
{
	struct sockaddr_in6 all = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	const int off = 0, on = 1;
	int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)&all, sizeof(all)) < 0 || (type == SOCK_STREAM && listen(fd, 128) < 0)) {
		int r = error_set_errno(error, -errno, "cannot listen on port %u", port);
		if (fd >= 0)
			close(fd);
		return r;
	}
	return fd;
}

static void patience_set(int fd)
{
	const struct timeval limit = { .tv_sec = PATIENCE_S };
	const int on = 1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* connect(2) too */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

int net_connect(const char *name, unsigned port, int family, int type)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = type }, *found;
	char service[16], full[64];
	snprintf(service, sizeof(service), "%u", port);
	snprintf(full, sizeof(full), "%s" TRAFFIC_DOMAIN, name);
	if (getaddrinfo(full, service, &hints, &found))
		return -EHOSTUNREACH;
	int fd = socket(found->ai_family, type | SOCK_CLOEXEC, 0), r = fd < 0 ? -errno : fd;
	if (fd >= 0) {
		patience_set(fd);
		if (connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
			r = -errno;
			close(fd);
		}
	}
	freeaddrinfo(found);
	return r;
}

bool net_write(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
		if (n < 0)
			return false;
		data += n;
		len -= (size_t)n;
	}
	return true;
}

bool net_write_zeros(int fd, size_t len)
{
	static const char zeros[PIECE];
	for (; len > PIECE; len -= PIECE)
		if (!net_write(fd, zeros, PIECE))
			return false;
	return net_write(fd, zeros, len);
}

bool net_skip(int fd, size_t len)
{
	char piece[PIECE];
	while (len) {
		ssize_t n = recv(fd, piece, len < PIECE ? len : PIECE, 0);
		if (n <= 0)
			return false;
		len -= (size_t)n;
	}
	return true;
}

bool net_read_until(int fd, const char *end, char *to, size_t size)
{
	size_t len = 0, end_len = strlen(end);
	while (len < size - 1 && recv(fd, to + len, 1, 0) == 1) {
		to[++len] = '\0';
		if (len >= end_len && !strcmp(to + len - end_len, end)) {
			to[len - end_len] = '\0';
			return true;
		}
	}
	return false;
}

struct served { void (*serve)(int fd, struct program *program); struct program *program; int fd; };

static void *serve_thread(void *arg)
{
	struct served *served = arg;
	served->serve(served->fd, served->program);
	close(served->fd);
	free(served);
	return NULL;
}

static void serve_start(struct served served)
{
	struct served *copy = malloc(sizeof(*copy));
	pthread_attr_t attributes;
	pthread_t thread;
	int r = -ENOMEM;
	patience_set(served.fd);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	if (copy) {
		*copy = served;
		r = pthread_create(&thread, &attributes, serve_thread, copy);
	}
	if (r) {
		close(served.fd);
		free(copy);
	}
	pthread_attr_destroy(&attributes);
}

int net_serve(unsigned port, void (*serve)(int fd, struct program *program), struct program *program,
	      const _Atomic uint64_t *closed, struct error *error)
{
	int listener = -1;
	for (;;) {
		if (closed && *closed) {
			if (listener >= 0)
				close(listener);
			listener = -1;
			net_sleep(LISTEN_POLL_MS * NS_PER_MS);
			continue;
		}
		if (listener < 0)
			listener = net_bind(SOCK_STREAM, port, error);
		if (listener < 0)
			return listener;
		struct pollfd waiting = { .fd = listener, .events = POLLIN };
		int fd = poll(&waiting, 1, closed ? LISTEN_POLL_MS : -1) > 0 ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (fd >= 0)
			serve_start((struct served){ serve, program, fd });
	}
}
