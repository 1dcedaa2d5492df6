/* SPDX-License-Identifier: Apache-2.0 */
/* `netsonde version`: the version and the running kernel, the two lines a bug report starts with. */
#include <stdio.h>
#include <sys/utsname.h>
#include "cli/commands.h"

const struct flag_command version_command = {
	.name = "version",
	.summary = "print the version",
	.description = "Prints the version of NetSonde and of the running kernel.",
};

int cmd_version(int argc, char **argv)
{
	struct error error = { 0 };
	struct utsname kernel;
	int r = flags_parse(&version_command, argc, argv, NULL, NULL, NULL, &error);
	if (r < 0) {
		fprintf(stderr, "netsonde version: %s\n", error.text);
		return 2;
	}
	if (r == FLAGS_E_HELP)
		return 0;
	printf("netsonde %s\n", NETSONDE_VERSION);
	if (!uname(&kernel))
		printf("%s %s %s\n", kernel.sysname, kernel.release, kernel.machine);
	return 0;
}
