/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command-line flags from a table: the same rows parse, print --help and feed
 * the man page. Accepts --name=value and --name value, -x short forms, "--" and,
 * for switches, --name / --no-name. Unknown flags get one line with the nearest
 * known one ("unknown flag --web.listen-adress; did you mean --web.listen-address?").
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/buffer.h"
#include "lib/error.h"

enum flag_type {
	FLAG_SWITCH /* bool */,
	FLAG_STRING /* const char * */,
	FLAG_STRINGS /* struct flag_strings, repeatable */,
	FLAG_UINT /* uint64_t */,
	FLAG_DURATION /* uint64_t ns: "1s", "250ms", "2d" */,
	FLAG_SECONDS /* the same, and a bare number is seconds ("0.2"), as in commands that everybody knows; 0 is unset */,
	FLAG_CHOICE /* const char *, one of `choices` */
};

#define FLAG_STRINGS_MAX 32
struct flag_strings {
	const char *items[FLAG_STRINGS_MAX];
	size_t n;
	bool set; /* the first use replaces the defaults */
};

struct flag {
	const char *name;      /* long name without dashes */
	char letter;           /* short form, 0: none */
	enum flag_type type;
	size_t offset;         /* of the value in the target struct */
	const char *value;     /* how the value is called in help: "FILE", "ADDRESS:PORT" */
	const char *choices;   /* FLAG_CHOICE: "logfmt|json" */
	const char *help;      /* one sentence; help appends the default when the target holds one */
	bool hidden;           /* for our own processes; not in help */
};

struct flag_command {
	const char *name;        /* "agent" */
	const char *summary;     /* one line, no period, as in the list of subcommands */
	const char *arguments;   /* "[FILE]" or NULL: none are taken */
	const char *description; /* a paragraph or two for --help and the man page */
	const char *details;     /* what only the man page says, behind the flags; NULL: nothing */
	const struct flag *flags; /* ended by a NULL name */
	size_t arguments_min, arguments_max;
	bool standalone;         /* a program of this name, not a subcommand of netsonde */
};

/* argv[0] is the command's name. target is prefilled with the defaults. Returns 0, FLAGS_E_HELP (help was printed to
 * stdout: exit 0), or -EINVAL (exit 2). *ret_arguments are the words that are no flags: they were moved to the front
 * of argv, which holds them, and are not NULL-terminated. NULL pointers are fine when the command takes none.
 * --help-man, which no help mentions, prints the command's part of netsonde(1). */
#define FLAGS_E_HELP 1
int flags_parse(const struct flag_command *command, int argc, char **argv, void *target, char ***ret_arguments,
		size_t *ret_n_arguments, struct error *ret_error);
void flags_write_help(const struct flag_command *command, const void *defaults, struct buffer *out);
void flags_write_man(const struct flag_command *command, const void *defaults, struct buffer *out);
/* Text for troff: no escapes, no line that looks like a request, hyphens that can be copied, blank lines as .PP. */
void flags_write_roff(const char *text, struct buffer *out);
/* The candidate within a small edit distance of `word`, or the only one that starts with it, or NULL. Shared with the
 * configuration reader. */
const char *flags_nearest(const char *word, const char *const *candidates, size_t n);
/* "1s", "250ms", "1h30m", "2d", "2y", "0.5s" to ns: units y (365 days), w, d, h, m, s, ms, us, ns in falling order.
 * -EINVAL otherwise, also for a number without a unit; -ERANGE beyond 584 years. Shared with the configuration reader.
 */
int duration_parse(const char *text, uint64_t *ret_ns);
/* The shortest text that duration_parse turns back into exactly ns. Returns buf. */
const char *duration_format(uint64_t ns, char buf[static 32]);
