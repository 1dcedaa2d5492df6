/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The query parser on arbitrary bytes: no crash, no leak, bounded memory and
 * depth. What is only a number is evaluated too; anything else needs a store (test_query.c).
 */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "server/query_ast.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned depth_of(const struct node *n)
{
	unsigned depth = 0;

	if (!n)
		return 0;
	for (int i = 0; i < 2; i++) {
		unsigned d = depth_of(n->operand[i]);

		depth = d > depth ? d : depth;
	}
	return depth + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct query *query = NULL;
	struct error error = { "" };
	char *text = malloc(size + 1);
	int r;

	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	r = query_parse(text, &query, &error);
	if (r == 0) {
		struct query_result result;

		assert(query && query->root && depth_of(query->root) <= QUERY_DEPTH_MAX);
		if (query->root->type == TYPE_SCALAR) {
			r = query_eval(query, NULL, 0, 1000, 100, NULL, &result, &error); /* a number needs no store */
			assert(r == 0 && result.n == 1 && result.series[0].n == 11);
			query_result_done(&result);
		}
	} else {
		assert((r == -EINVAL && error.text[0]) || r == -ENOMEM);
	}
	query_free(query);
	free(text);
	return 0;
}
