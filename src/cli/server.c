/* SPDX-License-Identifier: Apache-2.0 */
/* `netsonde server`: flags to struct server_options, and the one line when it cannot start. */
#include <stdio.h>
#include "cli/commands.h"
#include "lib/log.h"
#include "server/server.h"

struct server_flags {
	const char *config_file;
	struct flag_strings listen;
	const char *telemetry_path;
	const char *store_path;
	struct flag_strings targets;
	const char *local_agent;
	const char *user;
	const char *log_level, *log_format;
};

static const struct flag flags[] = {
	{ .name = "config.file", .type = FLAG_STRING, .offset = offsetof(struct server_flags, config_file), .value = "FILE",
	  .help = "Configuration file (YAML); every key is optional." },
	{ .name = "web.listen-address", .type = FLAG_STRINGS, .offset = offsetof(struct server_flags, listen),
	  .value = "ADDRESS:PORT", .help = "Where the dashboard and the API are served; may be repeated." },
	{ .name = "web.telemetry-path", .type = FLAG_STRING, .offset = offsetof(struct server_flags, telemetry_path), .value = "PATH",
	  .help = "Path of the server's metrics about itself." },
	{ .name = "store.path", .type = FLAG_STRING, .offset = offsetof(struct server_flags, store_path), .value = "FILE",
	  .help = "Database file, instead of server.store.path of the configuration; relative to the working directory." },
	{ .name = "target", .type = FLAG_STRINGS, .offset = offsetof(struct server_flags, targets), .value = "NAME=URL",
	  .help = "Target to scrape, instead of those of the configuration; may be repeated." },
	{ .name = "local-agent", .type = FLAG_STRING, .offset = offsetof(struct server_flags, local_agent), .value = "URL", .hidden = true,
	  .help = "Agent to scrape as `local` beside the configured targets." },
	{ .name = "user", .type = FLAG_STRING, .offset = offsetof(struct server_flags, user), .value = "NAME",
	  .help = "User to become when started as root: a name, a number, or auto, which is the user who called sudo, or else "
		  "nobody." },
	{ .name = "log.level", .type = FLAG_CHOICE, .offset = offsetof(struct server_flags, log_level),
	  .choices = "debug|info|warn|error", .help = "Least severe level that is logged." },
	{ .name = "log.format", .type = FLAG_CHOICE, .offset = offsetof(struct server_flags, log_format),
	  .choices = "logfmt|json", .help = "Format of the log." },
	{ 0 }
};

const struct flag_command server_command = {
	.name = "server",
	.summary = "collect from agents and serve the dashboard",
	.description = "Scrapes NetSonde agents and other Prometheus exporters, stores what they say, and serves the live "
		       "dashboard and a Prometheus-compatible API. Without a configured target it scrapes the agent of this "
		       "host, http://127.0.0.1:9435/metrics.\n\n"
		       "Needs no privileges. Started as root it binds its addresses, prepares its state directory and becomes "
		       "an ordinary user before it opens the database. SIGHUP and POST /-/reload reload the configuration; "
		       "SIGTERM and SIGINT end the server.",
	.flags = flags,
};

int cmd_server(int argc, char **argv)
{
	struct server_flags f = {
		.listen = { .items = { "127.0.0.1:9436" }, .n = 1 },
		.telemetry_path = "/metrics",
		.user = "auto",
		.log_level = "info",
		.log_format = "logfmt",
	};
	struct error error = { "" };
	int r = flags_parse(&server_command, argc, argv, &f, NULL, NULL, &error);

	if (r == FLAGS_E_HELP)
		return 0;
	if (r == 0)
		r = log_setup("server", f.log_level, f.log_format, &error);
	if (r < 0) {
		fprintf(stderr, "netsonde server: %s\n", error.text);
		return 2;
	}
	const struct server_options options = {
		.config_file = f.config_file,
		.listen = f.listen.items, .n_listen = f.listen.n,
		.telemetry_path = f.telemetry_path,
		.store_path = f.store_path,
		.targets = f.targets.items, .n_targets = f.targets.n,
		.local_agent = f.local_agent,
		.user = f.user,
	};
	r = server_run(&options, &error);
	if (r < 0)
		fprintf(stderr, "netsonde server: %s\n", error.text);
	return r < 0;
}
