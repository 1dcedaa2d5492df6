/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server process: what it is made of, in the order in which it is started.
 *
 * The handlers of all routes get this struct as their userdata; each file uses
 * the parts it needs and changes none of the pointers. server.c alone opens,
 * replaces and closes them.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "lib/clock.h"
#include "lib/error.h"
#include "lib/http.h"
#include "lib/loop.h"
#include "lib/settings.h"
#include "lib/user.h"

#define SERVER_ROUTES_MAX 24

/* From the command line; strings outlive the server. */
struct server_options {
	const char *config_file;           /* NULL: the defaults */
	const char *const *listen; size_t n_listen;
	const char *telemetry_path;        /* "/metrics" */
	const char *store_path;            /* NULL: from the settings; relative to the working directory */
	const char *const *targets; size_t n_targets; /* "NAME=URL"; any replaces those of the settings */
	const char *local_agent;           /* URL of the agent that `netsonde run` started beside us, or NULL */
	const char *user;                  /* as for user_find */
};

struct server {
	const struct server_options *options;
	struct settings settings;
	bool settings_loaded;
	struct loop *loop;
	struct http_route routes[SERVER_ROUTES_MAX];
	struct http_server *http;
	struct process_reader *process;
	struct user user;
	char *store_path;
	struct store *store;
	struct live *live;
	struct scrape *scrape;
	struct loop_timer *expire;
	int64_t expire_ms;                 /* samples are old by this time, and it was looked at then */
	mono_time expire_looked;
	struct loop_signal *signals[3];
	uint64_t reloads, reloads_failed;
	bool reload_ok;                    /* the last one, or the start */
	bool expire_failing;
};

/* Runs until SIGTERM or SIGINT. 0, or -errno with one line in ret_error when it could not start; then nothing is left
 * open. */
int server_run(const struct server_options *options, struct error *ret_error);
/* All or nothing. On failure the old settings stay in force. */
int server_reload(struct server *server, struct error *ret_error);
