/* SPDX-License-Identifier: Apache-2.0 */
/* The server's metrics about itself: its /metrics. */
#pragma once
#include "lib/http.h"

void selfmetrics_handle(struct http_request *request, void *server);
