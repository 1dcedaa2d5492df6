/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See assets.h. The tag is sent as a weak one (W/"..."), because the plain and the
 * gzip form share it (RFC 9110, 8.8.1). Names under /assets/ carry a hash of their
 * content, so a browser may keep those for ever (RFC 8246). It may keep the others
 * but asks each time whether they are still the ones ("no-cache"): after an upgrade
 * nobody sees an old page.
 */
#include "server/assets.h"
#include <stdio.h>
#include <string.h>

#define ETAG_MAX 128
#define HASHED "/assets/"

static const struct asset *find_asset(const char *path)
{
	if (strcmp(path, "/") == 0)
		path = "/index.html";
	for (size_t i = 0; i < web_assets_n; i++)
		if (strcmp(web_assets[i].path, path) == 0)
			return &web_assets[i];
	return NULL;
}

static void make_etag(const struct asset *asset, char etag[static ETAG_MAX])
{
	const char *tag = asset->etag;
	size_t len;

	if (strncmp(tag, "W/", 2) == 0)
		tag += 2;
	tag += *tag == '"';
	len = strcspn(tag, "\"");
	snprintf(etag, ETAG_MAX, "W/\"%.*s\"", (int)(len < ETAG_MAX - 5 ? len : ETAG_MAX - 5), tag);
}

/* If-None-Match: `*`, or a list of tags compared weakly (RFC 9110, 13.1.2). etag is of the form W/"...". */
static bool etag_matches(const char *header, const char *etag)
{
	const char *quoted = etag + 2, *hit;

	if (!header)
		return false;
	if (strcmp(header + strspn(header, " \t"), "*") == 0)
		return true;
	hit = strstr(header, quoted); /* its quotes are part of it, so it is a whole tag */
	return hit != NULL;
}

void assets_handle(struct http_request *request, void *userdata)
{
	const struct asset *asset = find_asset(http_request_path(request));
	char etag[ETAG_MAX];
	const char *headers[] = { "ETag", etag, "Vary", "Accept-Encoding", NULL };
	struct http_response response = { .status = 200, .borrowed = true, .cache_control = "no-cache",
					  .headers = headers };

	if (!asset) {
		http_respond_text(request, 404, "there is nothing at this address; the dashboard is at /");
		return;
	}
	make_etag(asset, etag);
	if (strncmp(asset->path, HASHED, sizeof(HASHED) - 1) == 0)
		response.cache_control = "public, max-age=31536000, immutable";
	response.content_type = asset->content_type;
	/* With 304 only its length is sent, which must be that of the 200 (RFC 9110, 8.6). */
	if (etag_matches(http_request_header(request, "If-None-Match"), etag))
		response.status = 304;
	if (asset->gzip && asset->gzip_len < asset->len && http_accepts_gzip(request)) {
		response.data = asset->gzip;
		response.len = asset->gzip_len;
		response.content_encoding = "gzip";
	} else {
		response.data = asset->data;
		response.len = asset->len;
	}
	http_respond(request, &response);
}
