/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Label matchers (struct matcher of store.h), compiled. Regular expressions are
 * POSIX extended ones and always match the whole value. They come from
 * strangers: what would make regcomp(3) or regexec(3) take unbounded memory or
 * time (back references, large or nested repetitions, great length) is refused.
 */
#pragma once
#include <regex.h>
#include "server/store.h"

#define MATCHER_REGEX_MAX 1024 /* bytes */

struct matcher_compiled {
	const struct matcher *matcher; /* borrowed */
	regex_t regex;
	bool has_regex;
};

/* -EINVAL with a sentence, -ENOMEM. */
int matcher_compile(const struct matcher *matchers, size_t n, struct matcher_compiled **ret_compiled,
		    struct error *ret_error);
void matcher_compiled_free(struct matcher_compiled *compiled, size_t n);
/* A label that is not there has the value "". */
bool matcher_matches(const struct matcher_compiled *compiled, const char *value);
/* Whether one matcher would compile; the same errors. */
int matcher_check(const struct matcher *matcher, struct error *ret_error);
