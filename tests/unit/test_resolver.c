/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host names in threads. The names are those that every host knows without a name server (an address is one too,
 * and .invalid exists nowhere, RFC 6761), so the test needs no network.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/clock.h"
#include "lib/resolver.h"

#define AT_ONCE 20

struct context {
	struct loop *loop;
	struct loop_timer *deadline;
	unsigned waiting, came;
	int r;
	char reason[128], addresses[512];
};

static void on_resolved(struct resolver_job *job, int r, const char *reason, const struct address *addresses, size_t n, void *userdata)
{
	struct context *c = userdata;
	char text[ADDRESS_TEXT_MAX];

	c->r = r;
	snprintf(c->reason, sizeof(c->reason), "%s", reason);
	c->addresses[0] = '\0';
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(c->addresses);

		snprintf(c->addresses + len, sizeof(c->addresses) - len, "%s ", address_format(&addresses[i], text));
	}
	c->came++;
	if (!--c->waiting)
		loop_stop(c->loop);
}

static void too_late(struct loop_timer *timer, uint64_t missed, void *userdata)
{
	struct context *c = userdata;

	loop_stop(c->loop);
}

static int setup(void **state)
{
	struct context *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	assert_int_equal(loop_new(&c->loop), 0);
	assert_int_equal(loop_timer_new(c->loop, too_late, c, &c->deadline), 0);
	assert_int_equal(loop_timer_start(c->deadline, 30 * NS_PER_SEC, 0), 0);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct context *c = *state;

	loop_free(c->loop);
	free(c);
	return 0;
}

static void resolve(struct context *c, const char *name)
{
	struct resolver_job *job;

	c->waiting = 1;
	assert_int_equal(resolver_start(c->loop, name, on_resolved, c, &job), 0);
	assert_int_equal(c->came, 0); /* never from inside */
	assert_int_equal(loop_run(c->loop), 0);
	assert_int_equal(c->came, 1);
	c->came = 0;
}

static void test_addresses(void **state)
{
	struct context *c = *state;

	resolve(c, "127.0.0.1");
	assert_int_equal(c->r, 0);
	assert_string_equal(c->reason, "");
	assert_string_equal(c->addresses, "127.0.0.1 "); /* once, not for every type of socket */
	resolve(c, "localhost");
	assert_int_equal(c->r, 0);
	assert_true(strstr(c->addresses, "127.0.0.1 ") || strstr(c->addresses, "::1 "));
}

static void test_unknown(void **state)
{
	struct context *c = *state;

	/* With a name server: there is no such name; without one: nobody answers. */
	resolve(c, "nowhere.invalid");
	assert_true(c->r < 0);
	assert_true(strlen(c->reason) > 0);
	assert_string_equal(c->addresses, "");
	resolve(c, "a..b");
	assert_true(c->r < 0);
}

static void test_many(void **state)
{
	struct context *c = *state;
	struct resolver_job *jobs[AT_ONCE];

	c->waiting = AT_ONCE;
	for (unsigned i = 0; i < AT_ONCE; i++)
		assert_int_equal(resolver_start(c->loop, "127.0.0.1", on_resolved, c, &jobs[i]), 0);
	assert_int_equal(loop_run(c->loop), 0);
	assert_int_equal(c->came, AT_ONCE);
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += lseek(fd, 0, SEEK_CUR) >= 0 || dup2(fd, fd) == fd;
	return n;
}

/* Whoever gives up need not wait for the thread; what is left goes when the thread ends. */
static void test_cancelled(void **state)
{
	struct context *c = *state;
	const unsigned before = open_descriptors();
	struct resolver_job *jobs[AT_ONCE];

	for (unsigned i = 0; i < AT_ONCE; i++)
		assert_int_equal(resolver_start(c->loop, i % 2 ? "127.0.0.1" : "nowhere.invalid", on_resolved, c, &jobs[i]), 0);
	for (unsigned i = 0; i < AT_ONCE; i++)
		resolver_cancel(jobs[i]);
	resolver_cancel(NULL);
	resolve(c, "127.0.0.1");
	for (unsigned i = 0; i < 1000 && open_descriptors() > before; i++)
		usleep(20000);
	assert_int_equal(open_descriptors(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_addresses, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cancelled, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
