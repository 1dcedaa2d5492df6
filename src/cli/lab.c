/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `netsonde lab`: the demonstration network. Hosts, links, traffic and faults are from
 * lab/; agents and server are this same binary.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include "cli/commands.h"
#include "cli/lab.h"

#define AT(member) offsetof(struct lab_flags, member)
static const struct flag flags[] = {
	{ .name = "web.listen-address", .type = FLAG_STRING, .offset = AT(listen), .value = "ADDRESS:PORT",
	  .help = "Where to serve the dashboard." },
	{ .name = "scenario", .type = FLAG_CHOICE, .offset = AT(scenario), .choices = "tour|none",
	  .help = "Which faults to play by itself: every one in turn, or none." },
	{ .name = "fault", .type = FLAG_STRING, .offset = AT(fault), .value = "NAME",
	  .help = "Play only this fault, 15 s after the start, until it is stopped." },
	{ .name = "agent", .type = FLAG_STRINGS, .offset = AT(agents), .value = "HOST",
	  .help = "A host with an agent in it; repeatable." },
	{ .name = "duration", .type = FLAG_DURATION, .offset = AT(duration_ns), .value = "DURATION",
	  .help = "End so long after everything is ready; 0s: when told." },
	{ .name = "list", .type = FLAG_SWITCH, .offset = AT(list), .help = "Show the hosts, links and faults, and start nothing." },
	{ .name = "user", .type = FLAG_STRING, .offset = AT(user), .value = "USER",
	  .help = "Whom agents and server become: a user name or uid, or auto for the caller of sudo, else nobody." },
	{ .name = "log.level", .type = FLAG_CHOICE, .offset = AT(log_level), .choices = "debug|info|warn|error",
	  .help = "Least severity that agents and server log." },
	{ 0 }
};

const struct flag_command lab_command = {
	.name = "lab",
	.summary = "start a demonstration network with traffic and faults",
	.arguments = "[exec HOST [COMMAND...]]",
	.description = "Builds a small network out of network namespaces, with clients, servers, a router and another site; its links "
		       "have delay, jitter and a rate. Programs on its hosts talk to each other, agents measure some of "
		       "the hosts, and a server shows them on the dashboard. Faults come and go, each announced by a line, "
		       "or are made by commands on standard input (`help` lists them). Needs root and iproute2. This machine's own network is not "
		       "touched: all that it has of the lab are the ports of server and agents, on loopback. Ctrl-C ends "
		       "everything, and nothing is left, not even after kill -9.\n\n"
		       "`netsonde lab exec HOST` in another terminal opens a shell on a host of the running lab, and with words "
		       "behind it runs a command there: `netsonde lab exec client-a ping web`.",
	.flags = flags,
	.arguments_max = 0,
};

static void list(void)
{
	char v4[ADDRESS_TEXT_MAX], v6[ADDRESS_TEXT_MAX];
	puts("Hosts, each linked to the router:");
	for (size_t i = 0; i < scenario_n_hosts; i++) {
		const struct topology_host *host = &scenario_hosts[i];
		printf("  %-10s %-14s %-14s %s\n  %41s link: %s\n", host->name, topology_address(i, AF_INET, v4),
		       topology_address(i, AF_INET6, v6), host->what, "", host->link_what);
	}
	puts("\nFaults, as the tour plays them:");
	for (size_t i = 0; i < scenario_n_faults; i++)
		printf("  %-12s %s\n  %12s shows as: %s\n", scenario_faults[i].name, scenario_faults[i].sentence, "",
		       scenario_faults[i].look);
	printf("\nCommands while it runs:\n%s", command_help);
}

static int flags_check(const struct lab_flags *f, struct error *error)
{
	const char *colon = strrchr(f->listen, ':');
	int r = f->fault ? scenario_find(f->fault, error) : 0;
	for (size_t i = 0; r >= 0 && i < f->agents.n; i++) {
		r = topology_find(scenario_hosts, scenario_n_hosts, f->agents.items[i], error);
		for (size_t k = 0; r >= 0 && k < i; k++)
			if (!strcmp(f->agents.items[i], f->agents.items[k]))
				r = error_set(error, -EINVAL, "--agent %s is there twice", f->agents.items[i]);
	}
	if (r >= 0 && (!colon || !strtoul(colon + 1, NULL, 10)))
		r = error_set(error, -EINVAL, "`%s`: an address and a port are needed, such as 127.0.0.1:9436", f->listen);
	return r < 0 ? r : 0;
}

int cmd_lab(int argc, char **argv)
{
	struct lab_flags f = {
		.listen = "127.0.0.1:9436", .scenario = "tour", .user = "auto", .log_level = "error",
		.agents = { .items = { "client-a", "web", "site-b" }, .n = 3 },
	};
	struct error error = { "" };
	/* What follows is a command with flags of its own. */
	if (argc > 1 && !strcmp(argv[1], "exec"))
		return lab_enter(argc - 2, argv + 2);
	int r = flags_parse(&lab_command, argc, argv, &f, NULL, NULL, &error);
	if (r == FLAGS_E_HELP)
		return 0;
	if (!r)
		r = flags_check(&f, &error);
	if (r < 0) {
		fprintf(stderr, "netsonde lab: %s\n", error.text);
		return 2;
	}
	if (f.list) {
		list();
		return 0;
	}
	if (geteuid() != 0) {
		fprintf(stderr, "netsonde lab: needs root: it makes network namespaces and loads BPF programs\n");
		return 1;
	}
	return lab_run(&f);
}
