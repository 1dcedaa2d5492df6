/* SPDX-License-Identifier: Apache-2.0 */
/* See hmac_key.h. A key longer than a block is hashed first (RFC 2104, section 2). */
#include "agent/probe/hmac_key.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sha256.h"

static void prepare(const uint8_t padded[64], uint8_t pad, uint32_t ret_words[8])
{
	struct sha256_state state = SHA256_INITIAL;
	struct sha256_block block;
	uint8_t bytes[sizeof(block)];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = padded[i] ^ pad;
	memcpy(&block, bytes, sizeof(block));
	sha256_compress(&state, &block);
	memcpy(ret_words, state.words, sizeof(state.words));
	explicit_bzero(bytes, sizeof(bytes));
	explicit_bzero(&block, sizeof(block));
}

void hmac_key_init(struct probe_hmac_key *ret_key, const void *secret, size_t len)
{
	uint8_t padded[64] = { 0 };

	if (len > sizeof(padded))
		sha256_digest(secret, len, padded);
	else if (len)
		memcpy(padded, secret, len);
	prepare(padded, 0x36, ret_key->inner);
	prepare(padded, 0x5c, ret_key->outer);
	explicit_bzero(padded, sizeof(padded));
}

/* Up to size bytes, all that there are. */
static ssize_t read_all(int fd, uint8_t *to, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, to + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static int check_file(int fd, const char *path, struct error *ret_error)
{
	struct stat st;

	if (fstat(fd, &st))
		return error_set_errno(ret_error, -errno, "cannot look at key file %s", path);
	if (!S_ISREG(st.st_mode))
		return error_set(ret_error, -EINVAL, "key file %s is no regular file", path);
	if (st.st_mode & S_IRWXO)
		return error_set(ret_error, -EPERM,
				 "key file %s is open to every user (mode %04o): take that away with chmod o= %s",
				 path, (unsigned)(st.st_mode & 07777), path);
	return 0;
}

int hmac_secret_read(const char *path, uint8_t ret_secret[HMAC_SECRET_MAX], size_t *ret_len, struct error *ret_error)
{
	uint8_t bytes[HMAC_SECRET_MAX + 2]; /* the newline, and one that is too much */
	ssize_t len;
	int fd, r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return error_set_errno(ret_error, -errno, "cannot open key file %s", path);
	r = check_file(fd, path, ret_error);
	if (r) {
		close(fd);
		return r;
	}
	len = read_all(fd, bytes, sizeof(bytes));
	close(fd);
	if (len < 0)
		return error_set_errno(ret_error, (int)len, "cannot read key file %s", path);
	if (len && bytes[len - 1] == '\n')
		len--;
	if (!len)
		r = error_set(ret_error, -EINVAL,
			      "key file %s is empty: it should have 1 to %d bytes, better 32 random ones", path,
			      HMAC_SECRET_MAX);
	else if (len > HMAC_SECRET_MAX)
		r = error_set(ret_error, -EFBIG, "key file %s is too long: it should have 1 to %d bytes", path,
			      HMAC_SECRET_MAX);
	else
		memcpy(ret_secret, bytes, *ret_len = (size_t)len);
	explicit_bzero(bytes, sizeof(bytes));
	return r;
}

void hmac_sign(const struct probe_hmac_key *key, const uint8_t message[HMAC_MESSAGE_LEN], uint8_t ret_tag[HMAC_TAG_LEN])
{
	struct hmac_stamp work;

	_Static_assert(sizeof(work.text) == HMAC_MESSAGE_LEN && sizeof(work.tag) == HMAC_TAG_LEN,
		       "RFC 8762, section 4.4");
	memcpy(work.text, message, sizeof(work.text));
	hmac_stamp_compute(&work, key);
	memcpy(ret_tag, work.tag, sizeof(work.tag));
}

int hmac_verify(const struct probe_hmac_key *key, const uint8_t message[HMAC_MESSAGE_LEN],
		const uint8_t tag[HMAC_TAG_LEN])
{
	uint8_t right[HMAC_TAG_LEN];
	volatile uint8_t differs = 0;

	hmac_sign(key, message, right);
	for (size_t i = 0; i < sizeof(right); i++)
		differs |= right[i] ^ tag[i];
	return !differs;
}
