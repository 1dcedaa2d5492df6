/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gzip (RFC 1952) of a whole buffer, by zlib. The output buffer has zlib's own
 * upper bound, so that one call of deflate does it.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

#include "lib/http.h"

#define WINDOW_BITS_GZIP (15 + 16) /* the largest window; 16 asks for gzip's header and trailer instead of zlib's */
#define MEM_LEVEL 8                /* zlib's default */

int http_gzip(const void *data, size_t len, int level, void **ret_data, size_t *ret_len)
{
	z_stream z = { 0 };
	uLong bound;
	void *out;
	int r;

	if (len > UINT_MAX / 2)
		return -EFBIG; /* zlib counts in unsigned int */
	if (deflateInit2(&z, level, Z_DEFLATED, WINDOW_BITS_GZIP, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
		return -ENOMEM;
	bound = deflateBound(&z, len);
	out = malloc(bound);
	if (!out) {
		deflateEnd(&z);
		return -ENOMEM;
	}
	z.next_in = (z_const Bytef *)data;
	z.avail_in = (uInt)len;
	z.next_out = out;
	z.avail_out = (uInt)bound;
	r = deflate(&z, Z_FINISH);
	*ret_len = z.total_out;
	deflateEnd(&z);
	if (r != Z_STREAM_END) {
		free(out);
		return -EIO;
	}
	*ret_data = out;
	return 0;
}
