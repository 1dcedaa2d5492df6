/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests compare of the reader's report: the sentences with their places. */
#pragma once
#include <string.h>
#include "lib/buffer.h"

/* The lines that begin with the file's name, shortened as in the table; the source lines and carets are left out. */
static void messages_of(const struct buffer *errors, struct buffer *out)
{
	static const char name[] = "t.yaml:", word[] = " error:";
	for (const char *line = errors->data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
		const char *error = memmem(line, (size_t)(end - line), word, sizeof(word) - 1);
		if (strncmp(line, name, sizeof(name) - 1) || !error)
			continue;
		line += sizeof(name) - 1;
		buffer_append(out, line, (size_t)(error - line));
		error += sizeof(word) - 1;
		buffer_append(out, error, (size_t)(end - error) + 1);
	}
}
