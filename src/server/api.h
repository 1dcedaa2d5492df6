/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON API, in the shape of Prometheus' HTTP API v1, so that its clients
 * (Grafana's Prometheus data source among them) can read this server. What is
 * evaluated is the language of query.h. The userdata of every handler is the
 * struct server. Queries run in the event loop: their cost is bounded by
 * QUERY_SERIES_MAX and QUERY_POINTS_MAX, and a scrape waits at most as long as
 * one of them takes.
 */
#pragma once
#include "lib/http.h"

void api_query(struct http_request *request, void *server);         /* query, time */
void api_query_range(struct http_request *request, void *server);   /* query, start, end, step */
void api_series(struct http_request *request, void *server);        /* match[], start, end */
void api_labels(struct http_request *request, void *server);        /* match[], start, end */
void api_label_values(struct http_request *request, void *server);  /* .../label/NAME/values, match[], start, end */
void api_metadata(struct http_request *request, void *server);      /* metric */
void api_targets(struct http_request *request, void *server);
void api_buildinfo(struct http_request *request, void *server);
