/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of STAMP's authenticated mode (RFC 8762, section 4.4): from the file of a shared secret to what is computed
 * with.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "abi_probe.h"
#include "lib/error.h"

#define HMAC_SECRET_MAX 1024 /* bytes */
#define HMAC_MESSAGE_LEN 96  /* of a STAMP packet, what the HMAC is over */
#define HMAC_TAG_LEN 16

void hmac_key_init(struct probe_hmac_key *ret_key, const void *secret, size_t len);

/*
 * A key file's content without the newline at its end, if there is one: 1..HMAC_SECRET_MAX bytes of any value. -errno
 * with a sentence for files that are empty, too long, no regular file, or that others than their owner and group may
 * read.
 */
int hmac_secret_read(const char *path, uint8_t ret_secret[HMAC_SECRET_MAX], size_t *ret_len, struct error *ret_error);

/* Of an authenticated STAMP packet's first 96 bytes; the verification takes the same time for every wrong tag. */
void hmac_sign(const struct probe_hmac_key *key, const uint8_t message[HMAC_MESSAGE_LEN],
	       uint8_t ret_tag[HMAC_TAG_LEN]);
int hmac_verify(const struct probe_hmac_key *key, const uint8_t message[HMAC_MESSAGE_LEN],
		const uint8_t tag[HMAC_TAG_LEN]); /* 1 or 0 */
