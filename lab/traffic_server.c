/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The servers. TCP ones but webd take lines: `SEND n` is answered by n bytes, and n
 * bytes behind `TAKE n` by `ok`. webd speaks as much HTTP/1.1 as curl needs.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "lab/traffic_internal.h"
#include "lib/clock.h"

#define PAGE_BYTES 30000
#define ROWS_BYTES 4000
#define STREAM_PERIOD_NS (40 * NS_PER_MS)
#define STREAM_PIECE 10000 /* bytes per period: 2 Mbit/s */
#define DB_WORK_NS (2 * NS_PER_MS)
#define BLOCK_MAX 100000000

/* ---- named ---- */

#define DNS_HEADER 12
#define DNS_QUERY_MAX 512
#define DNS_TYPE_A 1
#define DNS_TYPE_AAAA 28
#define DNS_WAITING_MAX 512
#define DNS_TTL_S 5

/* The name of a question as text; 0 when there is no sane one, else where it ends. */
static size_t question_name(const uint8_t *query, size_t len, char name[static 256])
{
	size_t at = DNS_HEADER, out = 0;
	while (at < len && query[at]) {
		size_t label = query[at++];
		if (label > 63 || at + label > len || out + label + 2 > 256)
			return 0;
		memcpy(name + out, query + at, label);
		out += label;
		name[out++] = '.';
		at += label;
	}
	if (at + 5 > len || !out)
		return 0;
	name[out - 1] = '\0';
	return at + 1;
}

static int host_of_name(char *name, const char *const *names, size_t n_names)
{
	size_t len = strlen(name), domain = strlen(TRAFFIC_DOMAIN);
	if (len > domain && !strcasecmp(name + len - domain, TRAFFIC_DOMAIN))
		name[len - domain] = '\0';
	for (size_t i = 0; i < n_names; i++)
		if (!strcasecmp(name, names[i]))
			return (int)i;
	return -ENOENT;
}

size_t named_answer(const uint8_t *query, size_t len, const char *const *names, size_t n_names, uint8_t out[static 512])
{
	char name[256], text[ADDRESS_TEXT_MAX];
	/* One question of a query; what stands behind it (EDNS) is not repeated. */
	if (len < DNS_HEADER || len > DNS_QUERY_MAX || query[2] & 0xf8 || query[4] || query[5] != 1)
		return 0;
	size_t end = question_name(query, len, name);
	if (!end)
		return 0;
	unsigned type = (unsigned)query[end] << 8 | query[end + 1];
	int host = host_of_name(name, names, n_names);
	int family = type == DNS_TYPE_A ? AF_INET : type == DNS_TYPE_AAAA ? AF_INET6 : AF_UNSPEC;
	size_t at = end + 4;
	if (at + 12 + 16 > DNS_QUERY_MAX)
		return 0;
	memcpy(out, query, at);
	out[2] = 0x84 | (query[2] & 1);          /* an answer, authoritative; recursion desired as asked */
	out[3] = 0x80 | (host < 0 ? 3 : 0);      /* recursion available; 3: no such name */
	memset(out + 6, 0, 6);
	if (host < 0 || family == AF_UNSPEC)
		return at;
	uint16_t size = family == AF_INET ? 4 : 16;
	const uint8_t record[] = { 0xc0, DNS_HEADER, 0, (uint8_t)type, 0, 1, 0, 0, 0, DNS_TTL_S, 0, (uint8_t)size };
	memcpy(out + at, record, sizeof(record));
	at += sizeof(record);
	inet_pton(family, topology_address((size_t)host, family, text), out + at);
	out[7] = 1;
	return at + size;
}

struct waiting { uint64_t due_ns; struct sockaddr_in6 to; size_t len; uint8_t data[DNS_QUERY_MAX]; };

/* A fault may make all of them wait, for the same time, so they are due in the order in which they came; when it is
 * lifted those before keep their times. */
int program_named(struct program *program, struct error *error)
{
	static struct waiting waiting[DNS_WAITING_MAX];
	size_t first = 0, n = 0;
	int fd = net_bind(SOCK_DGRAM, TRAFFIC_DNS_PORT, error);
	if (fd < 0)
		return fd;
	for (;;) {
		uint64_t now = mono_now().ns;
		for (; n && waiting[first].due_ns <= now; n--, first = (first + 1) % DNS_WAITING_MAX) {
			const struct waiting *w = &waiting[first];
			if (sendto(fd, w->data, w->len, 0, (const struct sockaddr *)&w->to, sizeof(w->to)) >= 0)
				program->tally->done++;
		}
		struct pollfd readable = { .fd = fd, .events = POLLIN };
		int timeout = n ? (int)((waiting[first].due_ns - now) / NS_PER_MS) + 1 : -1;
		if (poll(&readable, 1, timeout) <= 0)
			continue;
		struct waiting *w = &waiting[(first + n) % DNS_WAITING_MAX];
		uint8_t query[DNS_QUERY_MAX + 1];
		struct sockaddr_in6 from;
		socklen_t from_len = sizeof(from);
		ssize_t len = recvfrom(fd, query, sizeof(query), 0, (struct sockaddr *)&from, &from_len);
		if (len <= 0 || n == DNS_WAITING_MAX)
			continue;
		w->to = from;
		w->due_ns = mono_now().ns + program->faults[TRAFFIC_SLOW_DNS];
		w->len = named_answer(query, (size_t)len, program->names, program->n_names, w->data);
		n += w->len > 0;
	}
}

/* ---- webd ---- */

static bool rows_get(void)
{
	char line[32];
	int db = net_connect("db", TRAFFIC_DB_PORT, AF_UNSPEC, SOCK_STREAM);
	if (db < 0)
		return false;
	snprintf(line, sizeof(line), "SEND %d\n", ROWS_BYTES);
	bool good = net_write(db, line, strlen(line)) && net_skip(db, ROWS_BYTES);
	close(db);
	return good;
}

static void stream_send(int fd)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n";
	bool good = net_write(fd, head, sizeof(head) - 1);
	while (good) {
		good = net_write_zeros(fd, STREAM_PIECE);
		net_sleep(STREAM_PERIOD_NS);
	}
}

static bool page_send(int fd, bool good)
{
	char head[160], line[] = "This page comes from the demonstration network of NetSonde.\n";
	char page[PAGE_BYTES];
	int len = good ? PAGE_BYTES : 0;
	int n = snprintf(head, sizeof(head), "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
			 good ? "200 OK" : "503 the database does not answer", len);
	for (int i = 0; i < len; i++)
		page[i] = line[(size_t)i % (sizeof(line) - 1)];
	return net_write(fd, head, (size_t)n) && net_write(fd, page, (size_t)len);
}

static void web_serve(int fd, struct program *program)
{
	char request[2048];
	while (net_read_until(fd, "\r\n\r\n", request, sizeof(request))) {
		if (!strncmp(request, "GET /stream", 11)) {
			/* A reader may be slow for as long as it likes. */
			setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){ 0 }, sizeof(struct timeval));
			stream_send(fd);
			return;
		}
		bool good = rows_get();
		if (good)
			program->tally->done++;
		else
			program->tally->failed++;
		if (!page_send(fd, good))
			return;
	}
}

int program_webd(struct program *program, struct error *error)
{
	return net_serve(TRAFFIC_WEB_PORT, web_serve, program, NULL, error);
}

/* ---- dbd, storaged ---- */

static void lines_serve(int fd, struct program *program, uint64_t work_ns)
{
	char line[64];
	/* A client may think for as long as it likes. */
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ 0 }, sizeof(struct timeval));
	while (net_read_until(fd, "\n", line, sizeof(line))) {
		size_t len = strlen(line) > 5 ? strtoul(line + 5, NULL, 10) : 0;
		bool good = false;
		if (len > BLOCK_MAX)
			return;
		net_sleep(work_ns);
		if (!strncmp(line, "SEND ", 5))
			good = net_write_zeros(fd, len);
		else if (!strncmp(line, "TAKE ", 5))
			good = net_skip(fd, len) && net_write(fd, "ok\n", 3);
		if (!good)
			return;
		program->tally->done++;
	}
}

static void db_serve(int fd, struct program *program)
{
	lines_serve(fd, program, DB_WORK_NS);
}

static void store_serve(int fd, struct program *program)
{
	lines_serve(fd, program, 0);
}

int program_dbd(struct program *program, struct error *error)
{
	return net_serve(TRAFFIC_DB_PORT, db_serve, program, &program->faults[TRAFFIC_REFUSED], error);
}

int program_storaged(struct program *program, struct error *error)
{
	return net_serve(TRAFFIC_STORE_PORT, store_serve, program, NULL, error);
}

/* ---- phoned ---- */

int program_phoned(struct program *program, struct error *error)
{
	int fd = net_bind(SOCK_DGRAM, TRAFFIC_PHONE_PORT, error);
	while (fd >= 0) {
		char data[2048];
		struct sockaddr_in6 from;
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &from_len);
		if (n > 0 && sendto(fd, data, (size_t)n, 0, (const struct sockaddr *)&from, from_len) >= 0)
			program->tally->done++;
	}
	return fd;
}
