/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The subcommands: one file each. argv[0] is the subcommand's name. A command
 * returns the exit status: 0, 1 when it could not do its work, 2 for a mistake on
 * the command line.
 */
#pragma once
#include "lib/flags.h"

int cmd_agent(int argc, char **argv);
int cmd_server(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_version(int argc, char **argv);
int cmd_lab(int argc, char **argv);
int cmd_why(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_ping(int argc, char **argv);

extern const struct flag_command agent_command;
extern const struct flag_command server_command;
extern const struct flag_command run_command;
extern const struct flag_command doctor_command;
extern const struct flag_command check_command;
extern const struct flag_command version_command;
extern const struct flag_command lab_command;
extern const struct flag_command why_command;
extern const struct flag_command top_command;
extern const struct flag_command ping_command;
