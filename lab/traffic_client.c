/* SPDX-License-Identifier: Apache-2.0 */
/* The clients. What fails is counted and tried again a little later. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include "lab/traffic_internal.h"
#include "lib/clock.h"

#define PAGES_PER_VISIT 5
#define THINK_MIN_MS 50
#define THINK_SPREAD_MS 200
#define AGAIN_NS (200 * NS_PER_MS)
#define BLOCK_BYTES 250000
#define BLOCK_PAUSE_NS (250 * NS_PER_MS) /* 8 Mbit/s at most */
#define READ_PIECE 4096
#define VOICE_PERIOD_NS (20 * NS_PER_MS)
#define VOICE_BYTES 172 /* RTP header and 20 ms of G.711 */
#define VOICE_LATE 50   /* datagrams after which one that has not come back is lost: a second */
#define VOICE_CALL 1500 /* datagrams, then it dials again */

static bool page_get(int fd)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: web" TRAFFIC_DOMAIN "\r\n\r\n";
	char head[1024];
	if (!net_write(fd, request, sizeof(request) - 1) || !net_read_until(fd, "\r\n\r\n", head, sizeof(head)))
		return false;
	const char *length = strstr(head, "Content-Length: ");
	return net_skip(fd, length ? strtoul(length + 16, NULL, 10) : 0) && !strncmp(head, "HTTP/1.1 200", 12);
}

static void visit(struct program *program, int family)
{
	int fd = net_connect("web", TRAFFIC_WEB_PORT, family, SOCK_STREAM);
	bool good = fd >= 0;
	for (int i = 0; good && i < PAGES_PER_VISIT; i++) {
		unsigned think = THINK_MIN_MS + (unsigned)rand_r(&program->random) % THINK_SPREAD_MS;
		good = page_get(fd);
		if (!good)
			break;
		program->tally->done++;
		net_sleep(think * NS_PER_MS);
	}
	if (fd >= 0)
		close(fd);
	if (!good) {
		program->tally->failed++;
		net_sleep(AGAIN_NS);
	}
}

int program_browser(struct program *program, struct error *error)
{
	for (;;)
		visit(program, AF_UNSPEC);
}

int program_browser4(struct program *program, struct error *error)
{
	for (;;)
		visit(program, AF_INET);
}

/* Until the stream ends. */
static void play(int fd, struct program *program)
{
	char piece[READ_PIECE];
	ssize_t n;
	while ((n = recv(fd, piece, sizeof(piece), 0)) > 0) {
		uint64_t rate = program->faults[TRAFFIC_SLOW_READER];
		program->tally->done += (uint64_t)n;
		if (rate)
			net_sleep((uint64_t)n * NS_PER_SEC / rate);
	}
}

int program_player(struct program *program, struct error *error)
{
	static const char request[] = "GET /stream HTTP/1.1\r\nHost: web" TRAFFIC_DOMAIN "\r\n\r\n";
	for (;;) {
		int fd = net_connect("web", TRAFFIC_WEB_PORT, AF_UNSPEC, SOCK_STREAM);
		if (fd >= 0 && net_write(fd, request, sizeof(request) - 1))
			play(fd, program);
		if (fd >= 0)
			close(fd);
		program->tally->failed++;
		net_sleep(AGAIN_NS);
	}
}

static bool block_send(int fd)
{
	char text[32];
	snprintf(text, sizeof(text), "TAKE %d\n", BLOCK_BYTES);
	return net_write(fd, text, strlen(text)) && net_write_zeros(fd, BLOCK_BYTES) &&
	       net_read_until(fd, "\n", text, sizeof(text));
}

int program_backup(struct program *program, struct error *error)
{
	for (;;) {
		int fd = net_connect("site-b", TRAFFIC_STORE_PORT, AF_UNSPEC, SOCK_STREAM);
		/* A full link is no reason to give up. */
		if (fd >= 0)
			setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_sec = 60 }, sizeof(struct timeval));
		while (fd >= 0 && block_send(fd)) {
			program->tally->done++;
			net_sleep(BLOCK_PAUSE_NS);
		}
		if (fd >= 0)
			close(fd);
		program->tally->failed++;
		net_sleep(AGAIN_NS);
	}
}

/* Takes what has come back until the time; datagrams carry their number. */
static void voice_listen(int fd, uint64_t until_ns, uint64_t *came)
{
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	for (;;) {
		uint64_t now = mono_now().ns;
		int timeout = now < until_ns ? (int)((until_ns - now) / NS_PER_MS) + 1 : 0;
		uint32_t data[VOICE_BYTES / 4];
		int n = poll(&readable, 1, timeout);
		if (n > 0 && recv(fd, data, sizeof(data), MSG_DONTWAIT) == sizeof(data))
			*came |= UINT64_C(1) << data[0] % 64;
		else if (!timeout)
			return;
	}
}

int program_phone(struct program *program, struct error *error)
{
	for (;;) {
		int fd = net_connect("site-b", TRAFFIC_PHONE_PORT, AF_UNSPEC, SOCK_DGRAM);
		uint64_t next = mono_now().ns, came = 0;
		for (uint32_t i = 0; fd >= 0 && i < VOICE_CALL; i++) {
			uint32_t data[VOICE_BYTES / 4] = { i };
			came &= ~(UINT64_C(1) << i % 64);
			send(fd, data, sizeof(data), MSG_NOSIGNAL);
			/* What was held up does not catch up: a burst would be something else than a call. */
			next = (next + VOICE_PERIOD_NS > mono_now().ns ? next : mono_now().ns) + VOICE_PERIOD_NS;
			voice_listen(fd, next, &came);
			if (i < VOICE_LATE)
				continue;
			if (came >> (i - VOICE_LATE) % 64 & 1)
				program->tally->done++;
			else
				program->tally->failed++;
		}
		if (fd >= 0) {
			close(fd);
		} else {
			program->tally->failed++;
			net_sleep(AGAIN_NS);
		}
	}
}
