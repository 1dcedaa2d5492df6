/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The web page: files built from web/ and embedded in the binary as a table that
 * the web build generates. Served with ETag and If-None-Match, and gzip as it was
 * compressed at build time, so answering costs no work.
 */
#pragma once
#include <stddef.h>
#include "lib/http.h"

struct asset {
	const char *path;         /* "/index.html"; "/" serves it */
	const char *content_type; /* with charset where it is text */
	const char *etag;         /* the opaque tag, with or without its quotes */
	const unsigned char *data;
	size_t len;
	const unsigned char *gzip; /* the same content compressed, or NULL */
	size_t gzip_len;
};

extern const struct asset web_assets[];
extern const size_t web_assets_n;

/* GET of any path no other route has. */
void assets_handle(struct http_request *request, void *userdata);
