/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A parsed query. The tree is typed: the parser has checked that each function
 * got what it takes, so the evaluation never meets a wrong kind of operand.
 * Nodes are owned by the query through one list, and freed by it; no path from
 * the root is longer than QUERY_DEPTH_MAX, so recursion over the tree is safe.
 */
#pragma once
#include "server/query.h"

#define QUERY_TEXT_MAX 16384 /* bytes */
#define QUERY_DEPTH_MAX 200

enum node_kind { NODE_NUMBER, NODE_SELECTOR, NODE_CALL, NODE_AGGREGATE, NODE_BINARY, NODE_NEGATE };
enum node_type { TYPE_SCALAR, TYPE_VECTOR, TYPE_RANGE };
enum call { CALL_RATE, CALL_INCREASE, CALL_QUANTILE, CALL_COUNT, CALL_SUM };
enum aggregate {
	AGGREGATE_SUM,
	AGGREGATE_AVG,
	AGGREGATE_MIN,
	AGGREGATE_MAX,
	AGGREGATE_COUNT,
	AGGREGATE_TOPK,
	AGGREGATE_BOTTOMK
};

struct node {
	struct node *next;         /* all nodes of the query */
	enum node_kind kind;
	enum node_type type;
	size_t offset;             /* of its first byte in the text */
	unsigned depth;            /* 1 for a leaf */
	struct node *operand[2];   /* BINARY: left, right; NEGATE: [0]; CALL and AGGREGATE: [0] */
	struct node *parameter;    /* a scalar: q of histogram_quantile, k of topk and bottomk */
	double number;
	struct matcher *matchers;  /* SELECTOR */
	size_t n_matchers;
	int64_t range_ms;          /* 0: an instant selector */
	enum call call;
	enum aggregate aggregate;
	bool without;              /* AGGREGATE: `grouping` is what is dropped rather than kept */
	char **grouping;           /* owned label names */
	size_t n_grouping;
	char op;                   /* BINARY: + - * / */
};

struct query {
	struct node *root;
	struct node *all;
};
