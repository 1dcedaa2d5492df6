/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error rule of the whole program.
 *
 * A function that can fail returns int: 0 (or a documented positive MODULE_E_*)
 * for what its direct caller handles, a negative errno for what is forwarded
 * unchanged. Where a person will read the reason, it also takes a `struct error
 * *ret_error` (last parameter, may be NULL) and writes one sentence into it:
 * what is wrong, where, what would be right. lib/ never logs; whoever gives up
 * or carries on logs once and says which of the two it does.
 */
#pragma once

struct error {
	char text[1024]; /* one or more full lines, no trailing newline; "" when unset */
};

/* Writes the sentence (if ret_error is not NULL) and returns r unchanged. */
int error_set(struct error *ret_error, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set, with ": " and strerror(-r) appended. r must be negative. */
int error_set_errno(struct error *ret_error, int r, const char *format, ...) __attribute__((format(printf, 3, 4)));
