/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of subcommands and a loop. `help X` runs X with --help, so that X's own
 * defaults are shown; the man page netsonde(1) is put together in the same way.
 */
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include "cli/commands.h"

static const struct {
	const struct flag_command *command;
	int (*run)(int argc, char **argv);
} commands[] = {
	{ &run_command, cmd_run },       { &agent_command, cmd_agent }, { &server_command, cmd_server },
	{ &ping_command, cmd_ping },     { &top_command, cmd_top },     { &why_command, cmd_why },
	{ &doctor_command, cmd_doctor }, { &check_command, cmd_check }, { &lab_command, cmd_lab },
	{ &version_command, cmd_version },
};
#define N_COMMANDS (sizeof(commands) / sizeof(*commands))

static int usage(FILE *out, int status)
{
	fputs("Usage: netsonde COMMAND [flags]\n\nReal-time network monitoring for Linux.\n\nCommands:\n", out);
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i].command->name, commands[i].command->summary);
	fputs("\n`netsonde COMMAND --help` says more about a command.\n", out);
	return status;
}

static int man_page(void)
{
	char option[] = "--help-man";
	fputs(".TH NETSONDE 1 \"\" NetSonde \"NetSonde manual\"\n.SH NAME\n"
	      "netsonde \\- real\\-time network monitoring\n.SH SYNOPSIS\n"
	      "\\fBnetsonde\\fR \\fICOMMAND\\fR [\\fIflags\\fR]\n.SH DESCRIPTION\n"
	      "NetSonde measures the network of the hosts it runs on, in the kernel, and shows it live.\n"
	      "\\fBnetsonde run\\fR watches this host; on many hosts, \\fBnetsonde agent\\fR runs on each and\n"
	      "\\fBnetsonde server\\fR on one.\n.SH COMMANDS\n", stdout);
	for (size_t i = 0; i < N_COMMANDS; i++) {
		char name[32];
		snprintf(name, sizeof(name), "%s", commands[i].command->name);
		commands[i].run(2, (char *[]){ name, option, NULL });
	}
	fputs(
	    ".SH EXIT STATUS\n0 when all went well, 1 when the command could not do its work, 2 for a mistake on the\n"
	    "command line.\n.SH SEE ALSO\n\\fBnetsonde.yaml\\fR(5)\n",
	    stdout);
	return 0;
}

static int unknown_command(const char *word)
{
	const char *names[N_COMMANDS + 1] = { "help" };
	for (size_t i = 0; i < N_COMMANDS; i++)
		names[i + 1] = commands[i].command->name;
	const char *nearest = flags_nearest(word, names, N_COMMANDS + 1);
	if (nearest)
		fprintf(stderr, "netsonde: unknown command `%s`; did you mean `%s`?\n", word, nearest);
	else
		fprintf(stderr, "netsonde: unknown command `%s`; `netsonde help` lists them\n", word);
	return 2;
}

static int command_run(int argc, char **argv)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(argv[0], commands[i].command->name))
			return commands[i].run(argc, argv);
	return unknown_command(argv[0]);
}

int main(int argc, char **argv)
{
	char help[] = "--help";
	prctl(PR_SET_NAME, "netsonde"); /* the processes of `run` were started as /proc/self/exe, and ps would say so */
	if (argc < 2)
		return usage(stderr, 2);
	if (!strcmp(argv[1], "--version"))
		return puts("netsonde " NETSONDE_VERSION) < 0;
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || (!strcmp(argv[1], "help") && argc == 2))
		return usage(stdout, 0);
	if (!strcmp(argv[1], "help") && !strcmp(argv[2], "--man"))
		return man_page();
	if (!strcmp(argv[1], "help"))
		return command_run(2, (char *[]){ argv[2], help, NULL });
	return command_run(argc - 1, argv + 1);
}
