/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The schema engine: a table of rows says which keys a YAML file may hold, where
 * each value goes in a C struct, its default, its range and what it means. The
 * same rows fill in the defaults, validate, and write the documented example and
 * the man page's table, so none of them can disagree.
 *
 * A path is dotted and relative to the struct that holds the value:
 * "server.scrape.interval". Every section ("server", "server.scrape") has a row
 * of its own, before its keys. A switch may have keys below it, right after its
 * row: `tcp: on`, `tcp: off` or `tcp: {rtt: every_ack}`, which means on. A list
 * holds elements described by `rows`:
 * records (rows with paths, themselves dotted if wanted) or plain values (one
 * row whose path is ""). A map is a list written as `key: value`: its first
 * row is where the key goes, the rows after it describe the value. Adding a
 * feature's settings means adding rows; nothing here changes.
 *
 * All errors are found in one pass and reported in the order of the file, each
 * with file:line:column, the source line and a caret. Anchors, aliases, tags and
 * more than one document are refused: a configuration needs none of them, and
 * without them a small file cannot expand into a large one.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/buffer.h"
#include "lib/error.h"

#define CONFIG_FILE_MAX (1024 * 1024) /* bytes; a configuration of thousands of targets is a tenth of this */

enum config_type {
	CONFIG_SECTION,  /* no value; its help describes the keys below it */
	CONFIG_SWITCH,   /* bool: on/off, true/false, yes/no; or, with rows below it, a map, which means on */
	CONFIG_UNSIGNED, /* uint32_t: 20000, 20k, 4M */
	CONFIG_SIZE,     /* uint32_t, bytes: 64M, 64MB and 64MiB, 1G */
	CONFIG_RATE,     /* uint32_t, per second: 1000/s, 1k/s */
	CONFIG_SIZE_RATE, /* uint32_t, bytes per second: 1MB/s */
	CONFIG_DURATION, /* uint64_t, nanoseconds: 1s, 250ms, 1h30m */
	CONFIG_STRING,   /* char *, owned; NULL when there is no default and no value */
	CONFIG_CHOICE,   /* unsigned: which word of `choices`, from 0 */
	CONFIG_URL,      /* char *, owned: http:// or https:// */
	CONFIG_PREFIX,   /* struct prefix */
	CONFIG_LIST,     /* owned array of elements of `size` bytes at `offset`, their number at `count_offset` */
	CONFIG_MAP,      /* the same, written as `key: value` */
};

enum config_flags {
	CONFIG_REQUIRED = 1 << 0, /* an element of a list or map must have this key */
	CONFIG_UNIQUE = 1 << 1,   /* no two elements of the whole file have the same value here */
	CONFIG_INHERITED = 1 << 2, /* a number, duration or word that is not in the file is all ones, for `finish` to fill in */
	CONFIG_TOP = 1 << 3,      /* a number that may be written `top 50` */
};

struct config_row {
	const char *path;
	enum config_type type;
	size_t offset;
	const char *value;         /* the default, as it would be written in the file; NULL: none */
	uint64_t min, max; /* of a number, size or duration; of the characters of a string; max alone: entries of a list */
	const char *choices;       /* "a|b|c"; of a number or duration: the word that means 0, such as "off" */
	const char *help;          /* one or two sentences */
	const char *example;       /* one line of YAML, for values without a default */
	unsigned flags;            /* enum config_flags */
	const struct config_row *rows; /* of a list or map; ended by a NULL path */
	size_t size, count_offset;
	int (*check)(const char *text,
		     struct error *ret_error); /* further demands on a string: -EINVAL with a sentence */
	/* Of a section, or of a list of records: what depends on several keys. Called once the whole file is read, for each
	 * section or entry in it that has no mistake of its own, in the order of the file, a section after what is in it; target is
	 * the whole struct, record the entry (of a section: NULL). May change both. -EINVAL with a sentence; *ret_key: the (dotted) key
	 * in the entry or section that it is about, else it is about all of it. */
	int (*finish)(void *target, void *record, const char **ret_key, struct error *ret_error);
};

/* Fills *target (whose old content is ignored) from the defaults and the text. `name` stands for the file in
 * messages. ret_errors receives whole lines; the last one is "NAME: N errors". 0, -EINVAL or -ENOMEM; on failure
 * *target holds nothing that needs config_done. */
int config_parse(const struct config_row *rows, const char *text, size_t len, const char *name, void *target,
		 size_t target_size, struct buffer *ret_errors);
/* Same from a file (NULL: the defaults). A file that cannot be read gives one line and its -errno. */
int config_load(const struct config_row *rows, const char *path, void *target, size_t target_size,
		struct buffer *ret_errors);
/* Frees what the rows own in *target; safe on a zeroed one and twice. */
void config_done(const struct config_row *rows, void *target);

/* YAML that loads to exactly the defaults, every key with a comment. */
void config_write_example(const struct config_row *rows, struct buffer *out);
/* One .TP paragraph per key, in man macros. */
void config_write_man(const struct config_row *rows, struct buffer *out);

/* The last part of a path: "interval" of "server.scrape.interval". */
const char *config_leaf(const char *path);
/* "a duration such as 1s or 250ms": what a row expects, for messages. */
void config_expected(const struct config_row *row, struct buffer *out);
/* "20ms to 1m" or "" when the row has no range. */
void config_range(const struct config_row *row, struct buffer *out);
