/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logging to standard error, one line per event, as logfmt or JSON. Used by
 * agent/, server/ and cli/ only; lib/ itself never logs. A message is a fixed
 * sentence; what varies goes into key/value pairs, which are escaped, so hostile
 * input cannot forge a line. When standard error is a terminal, logfmt lines
 * start with the (local) time of day only. Values beyond LOG_VALUE_MAX bytes are
 * cut. A line that could not be written is counted, and the next one that can
 * carries lost_lines=N. Before log_setup: level info, logfmt. errno is kept.
 *
 * The program must ignore SIGPIPE: standard error may be a pipe that was closed.
 *
 *   log_info("listening", "address", address, "tls", "off", NULL);
 */
#pragma once
#include <stdbool.h>
#include "lib/error.h"

#define LOG_VALUE_MAX 1024 /* bytes: a whole error text; a few of them stay below what a pipe takes in one piece */

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* "debug|info|warn|error", "logfmt|json"; -EINVAL with a sentence. component: "agent", "server", ... (copied).
 * level and format may be NULL: info, logfmt. On an error nothing changes. */
int log_setup(const char *component, const char *level, const char *format, struct error *ret_error);
bool log_enabled(enum log_level level);
/* Pairs of const char *key, const char *value, ended by NULL. A value of NULL is written as null. */
void log_event(enum log_level level, const char *message, ...) __attribute__((sentinel));

#define log_debug(...) log_event(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_event(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_event(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_event(LOG_ERROR, __VA_ARGS__)
