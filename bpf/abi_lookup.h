/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* Host lookups: what bpf/lookup.bpf.c counts. */
#ifndef NETSONDE_ABI_LOOKUP_H
#define NETSONDE_ABI_LOOKUP_H
#include "abi.h"

/* The cookie of a probe. */
enum lookup_function {
	LOOKUP_GETADDRINFO,
	LOOKUP_GETHOSTBYNAME,
	LOOKUP_GETHOSTBYNAME2,
	LOOKUP_GETHOSTBYNAME_R,
	LOOKUP_GETHOSTBYNAME2_R,
	LOOKUP_FUNCTION_COUNT
};

enum lookup_outcome {
	LOOKUP_SUCCESS,
	LOOKUP_NOT_FOUND, /* the name does not exist, or has no address of the kind that was asked for */
	LOOKUP_TRY_AGAIN, /* no answer, or the server says it failed for now */
	LOOKUP_FAILED,    /* any other error */
	LOOKUP_OUTCOME_COUNT
};

enum lookup_lost {
	LOOKUP_LOST_RECORD,    /* no memory for the thread's record */
	LOOKUP_LOST_ABANDONED, /* never returned, though the thread goes on: it jumped out of the call */
	LOOKUP_LOST_COUNT
};

struct lookup_hist {
	__abi_u64 sum_ns;
	__abi_u64 buckets[HIST_BUCKETS];
};
_Static_assert(sizeof(struct lookup_hist) == 8 * (1 + HIST_BUCKETS), "no padding");

#endif
