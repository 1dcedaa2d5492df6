/* SPDX-License-Identifier: Apache-2.0 */
/* `netsonde agent`: measures this host and exports the numbers over HTTP. */
#include <stdio.h>
#include "agent/agent.h"
#include "cli/commands.h"
#include "lib/log.h"

struct agent_flags {
	const char *config_file, *telemetry_path, *log_level, *log_format, *user;
	struct flag_strings listen;
};

static const struct flag flags[] = {
	{ .name = "config.file", .type = FLAG_STRING, .offset = offsetof(struct agent_flags, config_file), .value = "FILE",
	  .help = "Configuration file; `netsonde check --print-example` shows every key." },
	{ .name = "web.listen-address", .type = FLAG_STRINGS, .offset = offsetof(struct agent_flags, listen), .value = "ADDRESS:PORT",
	  .help = "Where to serve the metrics; repeatable." },
	{ .name = "web.telemetry-path", .type = FLAG_STRING, .offset = offsetof(struct agent_flags, telemetry_path), .value = "PATH",
	  .help = "Path of the metrics." },
	{ .name = "user", .type = FLAG_STRING, .offset = offsetof(struct agent_flags, user), .value = "USER",
	  .help = "Whom to become once everything is attached: a user name or uid, or auto for the caller of sudo, else nobody." },
	{ .name = "log.level", .type = FLAG_CHOICE, .offset = offsetof(struct agent_flags, log_level), .choices = "debug|info|warn|error",
	  .help = "Least severity that is logged." },
	{ .name = "log.format", .type = FLAG_CHOICE, .offset = offsetof(struct agent_flags, log_format), .choices = "logfmt|json",
	  .help = "Format of the log on standard error." },
	{ 0 }
};

const struct flag_command agent_command = {
	.name = "agent",
	.summary = "measure this host and export the numbers",
	.description = "Watches the TCP connections of this host, in all network namespaces, from inside the kernel, and serves what it "
		       "measured as Prometheus metrics. Sends nothing to the network. Needs root, or CAP_BPF and CAP_PERFMON, "
		       "to start; gives them up once everything is attached. SIGHUP or POST /-/reload reads the "
		       "configuration again, SIGTERM ends it.",
	.flags = flags,
};

int cmd_agent(int argc, char **argv)
{
	struct agent_flags f = {
		.telemetry_path = "/metrics", .log_level = "info", .log_format = "logfmt", .user = "auto",
		.listen = { .items = { "127.0.0.1:9435" }, .n = 1 },
	};
	struct error error = { "" };
	int r = flags_parse(&agent_command, argc, argv, &f, NULL, NULL, &error);

	if (r == FLAGS_E_HELP)
		return 0;
	if (!r)
		r = log_setup("agent", f.log_level, f.log_format, &error);
	if (r < 0) {
		fprintf(stderr, "netsonde agent: %s\n", error.text);
		return 2;
	}
	r = agent_run(&(struct agent_options){
		.config_file = f.config_file, .listen = f.listen.items, .n_listen = f.listen.n,
		.telemetry_path = f.telemetry_path, .user = f.user,
	});
	return r < 0;
}
