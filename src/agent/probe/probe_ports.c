/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_ports.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#define TRIES 200
#define LOWEST 1024u /* below are privileged ones, which have services */

static uint32_t random32(void)
{
	uint32_t value = 0;

	/* A start that can be guessed costs nothing but tries; cookies protect the measurement. */
	if (getrandom(&value, sizeof(value), GRND_NONBLOCK) != (ssize_t)sizeof(value))
		value = (uint32_t)getpid() * 2654435761u;
	return value;
}

/* Of the calling thread's network namespace. */
static void local_range(uint32_t *ret_low, uint32_t *ret_high)
{
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	unsigned low, high;

	*ret_low = 32768; /* the kernel's default */
	*ret_high = 60999;
	if (file && fscanf(file, "%u %u", &low, &high) == 2 && low <= high && high <= 65535) {
		*ret_low = low;
		*ret_high = high;
	}
	if (file)
		fclose(file);
}

static int bind_one(int type, bool v6, uint16_t port)
{
	struct sockaddr_in6 any6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct sockaddr_in any4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	const int off = 0;
	int fd = socket(v6 ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	r = v6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) : 0;
	if (!r)
		r = v6 ? bind(fd, (struct sockaddr *)&any6, sizeof(any6)) : bind(fd, (struct sockaddr *)&any4, sizeof(any4));
	if (!r)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

void probe_ports_close(struct probe_ports *ports)
{
	for (uint16_t i = 0; i < ports->count; i++) {
		if (ports->udp[i] >= 0)
			close(ports->udp[i]);
		if (ports->tcp[i] >= 0)
			close(ports->tcp[i]);
		ports->udp[i] = ports->tcp[i] = -1;
	}
	ports->count = 0;
}

static int take_block(struct probe_ports *ports, uint16_t count, uint16_t first)
{
	ports->first = first;
	for (ports->count = 0; ports->count < count;) {
		uint16_t i = ports->count++;

		ports->tcp[i] = -1;
		ports->udp[i] = bind_one(SOCK_DGRAM, ports->v6, (uint16_t)(first + i));
		if (ports->udp[i] >= 0)
			ports->tcp[i] = bind_one(SOCK_STREAM, ports->v6, (uint16_t)(first + i));
		if (ports->udp[i] < 0 || ports->tcp[i] < 0) {
			int r = ports->udp[i] < 0 ? ports->udp[i] : ports->tcp[i];

			probe_ports_close(ports);
			return r;
		}
	}
	return 0;
}

/* Above the range first (by default nothing lives there), then below, then anywhere. */
static uint16_t choose_first(uint16_t count, int try, uint32_t low, uint32_t high)
{
	uint32_t from = LOWEST, to = 65536;

	if (try < TRIES / 2 && 65535 - high >= (uint32_t)count)
		from = high + 1;
	else if (try < TRIES * 3 / 4 && low >= LOWEST + (uint32_t)count)
		to = low;
	return (uint16_t)(from + random32() % (to - from - count + 1));
}

int probe_ports_open(uint16_t count, struct probe_ports *ret_ports, struct error *ret_error)
{
	struct probe_ports ports = { .v6 = true };
	uint32_t low, high;
	int r = -EADDRINUSE;

	local_range(&low, &high);
	for (int try = 0; try < TRIES; try++) {
		r = take_block(&ports, count, choose_first(count, try, low, high));
		if (r == -EAFNOSUPPORT && ports.v6) {
			ports.v6 = false;
			continue;
		}
		if (!r) {
			*ret_ports = ports;
			return 0;
		}
		if (r != -EADDRINUSE && r != -EACCES)
			break;
	}
	if (r == -EMFILE || r == -ENFILE)
		return error_set_errno(ret_error, r, "cannot open %u sockets for probes' source ports", 2u * count);
	return error_set_errno(ret_error, r, "no %u consecutive UDP and TCP ports are free for probes", count);
}
