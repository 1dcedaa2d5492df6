/* SPDX-License-Identifier: Apache-2.0 */
/* What the text and the protobuf parser share. Internal to lib/exposition_parse*.c. */
#pragma once
#include "lib/exposition_parse.h"

int exposition_parse_proto(const char *data, size_t len, exposition_sample_fn fn, void *userdata,
			   struct error *ret_error);

/* Sorts the labels by name and leaves out those with an empty value. Returns the name that is there twice, or NULL. */
const char *exposition_labels_finish(struct label *labels, size_t *n_labels);
