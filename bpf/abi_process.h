/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0) */
/* Processes: what bpf/process.bpf.c counts. */
#ifndef NETSONDE_ABI_PROCESS_H
#define NETSONDE_ABI_PROCESS_H
#include "abi.h"

enum process_count {
	PROCESS_EXECS, /* programs started; a failed exec is none */
	PROCESS_EXITS, /* processes ended, however many threads they had; kernel threads are none */
	PROCESS_COUNT_COUNT
};

#endif
