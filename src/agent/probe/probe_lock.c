/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe/probe_lock.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"

#define QUEUE 8
#define SERVE_MAX 64
/* Between bind and listen of another prober that starts at the same moment. */
#define ATTEMPTS 5
#define ATTEMPT_NS (20 * NS_PER_MS)

static socklen_t lock_address(struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret_address->sun_path + 1, PROBE_LOCK_NAME, strlen(PROBE_LOCK_NAME)); /* behind a 0: abstract */
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(PROBE_LOCK_NAME));
}

static int open_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd < 0 ? -errno : fd;
}

/* Who listens there. -ECONNREFUSED: nobody (any more, or not yet). */
static int find_holder(struct ucred *ret_holder)
{
	struct sockaddr_un address;
	socklen_t len = lock_address(&address), size = sizeof(*ret_holder);
	int fd = open_socket(), r = 0;

	if (fd < 0)
		return fd;
	if (connect(fd, (struct sockaddr *)&address, len) || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_holder, &size))
		r = -errno;
	close(fd);
	return r;
}

static int take(void)
{
	struct sockaddr_un address;
	socklen_t len = lock_address(&address);
	int fd = open_socket(), r;

	if (fd < 0 || (!bind(fd, (struct sockaddr *)&address, len) && !listen(fd, QUEUE)))
		return fd;
	r = -errno;
	close(fd);
	return r;
}

int probe_lock_take(struct error *ret_error)
{
	const struct timespec pause = { .tv_nsec = ATTEMPT_NS };
	struct ucred holder = { 0 };
	int r, who = -ECONNREFUSED;

	for (int i = 0; i < ATTEMPTS; i++) {
		r = take();
		if (r >= 0)
			return r;
		if (r != -EADDRINUSE)
			return error_set_errno(ret_error, r, "cannot take the lock @%s", PROBE_LOCK_NAME);
		who = find_holder(&holder);
		if (who != -ECONNREFUSED)
			break;
		nanosleep(&pause, NULL);
	}
	/* It does not listen, or its queue is full: no prober of ours. */
	if (who < 0)
		return error_set(ret_error, -EADDRINUSE, "the lock @%s is taken by a process that does not say which",
				 PROBE_LOCK_NAME);
	if (holder.uid && holder.uid != geteuid())
		return error_set(ret_error, -EADDRINUSE, "the lock @%s is taken by process %d of user %u, who may not",
				 PROBE_LOCK_NAME, holder.pid, holder.uid);
	/* 0: it is in a PID namespace that we do not see. */
	if (!holder.pid)
		return error_set(ret_error, -EBUSY, "another netsonde, whose process is not visible here, probes from this "
				 "network namespace; stop it first");
	return error_set(ret_error, -EBUSY, "another netsonde (PID %d) probes from this network namespace; stop it first",
			 holder.pid);
}

void probe_lock_serve(int fd)
{
	for (int i = 0; i < SERVE_MAX; i++) {
		int asked = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		if (asked < 0)
			return;
		close(asked);
	}
}
