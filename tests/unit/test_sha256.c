/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SHA-256, HMAC with prepared keys, and the files that keys are read from. Expected values: FIPS 180-4's examples,
 * RFC 4231 (section 4), and for what these have not (every length up to 300; messages of 96 bytes, as STAMP's)
 * CPython's hashlib.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "agent/probe/hmac_key.h"
#include "sha256.h"

static void assert_hex(const uint8_t *bytes, size_t n, const char *expected)
{
	char text[65];

	for (size_t i = 0; i < n; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	assert_string_equal(text, expected);
}

static void digests(void **state)
{
	static const struct { const char *message, *digest; } rows[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};
	uint8_t digest[32], *million = malloc(1000000);

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		sha256_digest(rows[i].message, strlen(rows[i].message), digest);
		assert_hex(digest, 32, rows[i].digest);
	}
	assert_non_null(million);
	memset(million, 'a', 1000000);
	sha256_digest(million, 1000000, digest);
	assert_hex(digest, 32, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(million);
}

/* Every place that the end of a message can have in a block: the digest of all their digests. */
static void every_length(void **state)
{
	static uint8_t digests[301][32], message[301];
	uint8_t digest[32];

	(void)state;
	for (size_t n = 0; n <= 300; n++) {
		for (size_t i = 0; i < n; i++)
			message[i] = (uint8_t)(i * 7 + n);
		sha256_digest(message, n, digests[n]);
	}
	sha256_digest(digests, sizeof(digests), digest);
	assert_hex(digest, 32, "60d63ff40b5558727a9b786ac0be9300f7ca58fd9ddd3b2f3681b369018a87dc");
}

/* HMAC of any message, from a prepared key. */
static void hmac(const struct probe_hmac_key *key, const void *message, size_t len, uint8_t ret_tag[32])
{
	struct sha256_state s;

	memcpy(s.words, key->inner, sizeof(s.words));
	sha256_finish(&s, message, len, 64, ret_tag);
	memcpy(s.words, key->outer, sizeof(s.words));
	sha256_finish(&s, ret_tag, 32, 64, ret_tag);
}

static void rfc_4231(void **state)
{
	/* repeat: the one byte's value, or -1: the text as it is, or -2: 1, 2, 3, ... */
	static const struct {
		const char *key; int key_repeat; size_t key_len;
		const char *message; int repeat; size_t len;
		const char *tag;
	} rows[] = {
		{ NULL, 0x0b, 20, "Hi There", -1, 8,
		  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ "Jefe", -1, 4, "what do ya want for nothing?", -1, 28,
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
		{ NULL, 0xaa, 20, NULL, 0xdd, 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe" },
		{ NULL, -2, 25, NULL, 0xcd, 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b" },
		{ NULL, 0x0c, 20, "Test With Truncation", -1, 20,
		  "a3b6167473100ee06e0c796c2955552bfa6f7c0a6a8aef8b93f860aab0cd20c5" },
		{ NULL, 0xaa, 131, "Test Using Larger Than Block-Size Key - Hash Key First", -1, 54,
		  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
		{ NULL, 0xaa, 131,
		  "This is a test using a larger than block-size key and a larger than block-size data. The key needs "
		  "to be hashed before being used by the HMAC algorithm.", -1, 152,
		  "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t secret[256], message[256], tag[32];
		struct probe_hmac_key key;

		for (size_t j = 0; j < rows[i].key_len; j++)
			secret[j] = rows[i].key_repeat == -2 ? (uint8_t)(j + 1) :
				    rows[i].key_repeat == -1 ? (uint8_t)rows[i].key[j] : (uint8_t)rows[i].key_repeat;
		for (size_t j = 0; j < rows[i].len; j++)
			message[j] = rows[i].repeat == -1 ? (uint8_t)rows[i].message[j] : (uint8_t)rows[i].repeat;
		hmac_key_init(&key, secret, rows[i].key_len);
		hmac(&key, message, rows[i].len, tag);
		assert_hex(tag, 32, rows[i].tag);
	}
}

static void stamp_messages(void **state)
{
	static const struct { size_t len; unsigned step, start; const char *text, *tag; } rows[] = {
		{ 1, 0, 0, "k", "86aa651ceb3b876dcaea188fd7cbcf41" },
		{ 17, 0, 0, "netsonde test key", "9e62893995584da3f673b4680beba173" },
		{ 64, 1, 0, NULL, "2d39a6e7e44fa821026975b80ea18c6d" },
		{ 65, 1, 0, NULL, "a424226ac2c37e32acff37b1fb543817" },
		{ 1024, 13, 0, NULL, "3d2631234e531831ac0cb625328560b9" },
	};
	uint8_t message[HMAC_MESSAGE_LEN];

	(void)state;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (uint8_t)(i * 31 + 5);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t secret[1024], tag[HMAC_TAG_LEN], whole[32];
		struct probe_hmac_key key;

		for (size_t j = 0; j < rows[i].len; j++)
			secret[j] = rows[i].text ? (uint8_t)rows[i].text[j] : (uint8_t)(j * rows[i].step);
		hmac_key_init(&key, secret, rows[i].len);
		hmac_sign(&key, message, tag);
		assert_hex(tag, sizeof(tag), rows[i].tag);
		hmac(&key, message, sizeof(message), whole);
		assert_memory_equal(tag, whole, sizeof(tag));
		assert_int_equal(hmac_verify(&key, message, tag), 1);
		for (size_t bit = 0; bit < 8 * sizeof(tag); bit++) {
			tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(hmac_verify(&key, message, tag), 0);
			tag[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		for (size_t bit = 0; bit < 8 * sizeof(message); bit++) {
			message[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(hmac_verify(&key, message, tag), 0);
			message[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
	}
}

/* ---- key files ---- */

static char path[64];

static void write_file(const void *content, size_t len, mode_t mode)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(content, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void expect_secret(const void *expected, size_t expected_len)
{
	uint8_t secret[HMAC_SECRET_MAX];
	struct error error = { "" };
	size_t len = 0;

	if (hmac_secret_read(path, secret, &len, &error))
		fail_msg("%s", error.text);
	assert_int_equal(len, expected_len);
	assert_memory_equal(secret, expected, len);
}

static void expect_refusal(const char *why)
{
	uint8_t secret[HMAC_SECRET_MAX];
	struct error error = { "" };
	size_t len = 4711;

	assert_true(hmac_secret_read(path, secret, &len, &error) < 0);
	assert_int_equal(len, 4711);
	if (!strstr(error.text, why) || !strstr(error.text, path))
		fail_msg("\"%s\" does not say \"%s\" and which file", error.text, why);
}

static void key_files(void **state)
{
	uint8_t large[HMAC_SECRET_MAX + 2];
	int fd;

	(void)state;
	strcpy(path, "/tmp/netsonde-key-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	write_file("a secret\n", 9, 0600);
	expect_secret("a secret", 8);
	write_file("a secret", 8, 0640); /* the owner's group may */
	expect_secret("a secret", 8);
	write_file("a\0b\n\n", 5, 0400); /* any bytes; one newline is not part of it */
	expect_secret("a\0b\n", 4);
	memset(large, 'x', sizeof(large));
	write_file(large, HMAC_SECRET_MAX, 0600);
	expect_secret(large, HMAC_SECRET_MAX);
	large[HMAC_SECRET_MAX] = '\n';
	write_file(large, HMAC_SECRET_MAX + 1, 0600);
	expect_secret(large, HMAC_SECRET_MAX);
	large[HMAC_SECRET_MAX] = 'x';
	write_file(large, HMAC_SECRET_MAX + 1, 0600);
	expect_refusal("too long");
	write_file(large, HMAC_SECRET_MAX + 2, 0600);
	expect_refusal("too long");
	write_file("", 0, 0600);
	expect_refusal("empty");
	write_file("\n", 1, 0600);
	expect_refusal("empty");
	for (mode_t bit = 1; bit <= 4; bit *= 2) {
		write_file("a secret\n", 9, 0600 | bit);
		expect_refusal("every user");
	}
	assert_int_equal(unlink(path), 0);
	expect_refusal("No such file");
	assert_int_equal(mkdir(path, 0700), 0);
	expect_refusal("no regular file");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0); /* without a writer: must not wait for one */
	expect_refusal("no regular file");
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests),
		cmocka_unit_test(every_length),
		cmocka_unit_test(rfc_4231),
		cmocka_unit_test(stamp_messages),
		cmocka_unit_test(key_files),
	};

	return cmocka_run_group_tests_name("sha256", tests, NULL, NULL);
}
