/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash for tables whose keys others choose: a target names its series, and
 * could name them so that they collide under a hash without a secret. SipHash-1-3
 * (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012), fed in
 * pieces: only the bytes matter, not how they were cut.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct siphash_key { uint64_t k[2]; };
struct siphash { uint64_t v[4], word, len; };

void siphash_key_new(struct siphash_key *ret_key); /* random */
void siphash_begin(struct siphash *hash, const struct siphash_key *key);
void siphash_add(struct siphash *hash, const void *data, size_t len);
void siphash_string(struct siphash *hash, const char *s); /* with its NUL, so that ("ab","c") and ("a","bc") differ */
uint64_t siphash_end(struct siphash *hash);
