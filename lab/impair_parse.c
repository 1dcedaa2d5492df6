/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of a direction as text: words of the form key=value. A number may
 * have decimals. Rates are in bits per second (kbit, Mbit, Gbit, powers of 1000);
 * shares are a percentage or one in so many, exactly.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "lab/impair.h"
#include "lib/decimal.h"
#include "lib/flags.h"

#define WORD_MAX 64

enum kind { KIND_DURATION, KIND_SHARE, KIND_RATE, KIND_QUEUE, KIND_DISTRIBUTION };

static const struct setting { const char *key; enum kind kind; size_t offset; } settings[] = {
	{ "delay", KIND_DURATION, offsetof(struct impair, delay_ns) },
	{ "jitter", KIND_DURATION, offsetof(struct impair, jitter_ns) },
	{ "distribution", KIND_DISTRIBUTION, offsetof(struct impair, jitter_normal) },
	{ "loss", KIND_SHARE, offsetof(struct impair, loss) },
	{ "duplicate", KIND_SHARE, offsetof(struct impair, duplicate) },
	{ "reorder", KIND_SHARE, offsetof(struct impair, reorder) },
	{ "hold", KIND_DURATION, offsetof(struct impair, hold_ns) },
	{ "rate", KIND_RATE, offsetof(struct impair, rate_bps) },
	{ "queue", KIND_QUEUE, 0 },
};
#define N_SETTINGS (sizeof(settings) / sizeof(*settings))

#define DELAY_MAX_NS (UINT64_C(3600) * 1000000000) /* an hour: longer is a slip */

struct unit { const char *name; double factor; };
static const struct unit rate_units[] = {
	{ "bit", 1 }, { "kbit", 1e3 }, { "Mbit", 1e6 }, { "Gbit", 1e9 }, { "", 0 },
};
static const struct unit byte_units[] = { { "B", 1 }, { "kB", 1e3 }, { "MB", 1e6 }, { "", 0 } };

/* A number, and one of the units behind it; 0 alone needs none. */
static bool quantity_read(const char *text, const struct unit *units, double *ret_value)
{
	size_t digits = strspn(text, "0123456789.");
	double number;
	if (!decimal_read(text, digits, &number))
		return false;
	if (!text[digits] && number == 0) {
		*ret_value = 0;
		return true;
	}
	for (; *units->name; units++)
		if (!strcmp(text + digits, units->name)) {
			*ret_value = number * units->factor;
			return true;
		}
	return false;
}

static int duration_set(const char *text, uint64_t *ret_ns, struct error *ret_error)
{
	uint64_t ns = 0;
	if (strcmp(text, "0") && duration_parse(text, &ns) < 0)
		return error_set(ret_error, -EINVAL, "expected a duration such as 20ms, not `%s`", text);
	if (ns > DELAY_MAX_NS)
		return error_set(ret_error, -EINVAL, "`%s` is more than an hour", text);
	*ret_ns = ns;
	return 0;
}

static int share_set(const char *text, struct share *ret_share, struct error *ret_error)
{
	size_t len = strlen(text);
	double percent;
	int64_t every;
	if (!strncmp(text, "1/", 2) && decimal_read_i64(text + 2, len - 2, &every) && every > 0) {
		*ret_share = (struct share){ .every = (uint64_t)every };
		return 0;
	}
	if (!strcmp(text, "0")) {
		*ret_share = (struct share){ 0 };
		return 0;
	}
	if (len < 2 || text[len - 1] != '%' || !decimal_read(text, len - 1, &percent) || !(percent >= 0 && percent <= 100))
		return error_set(ret_error, -EINVAL, "expected a share such as 1%% or 1/100, not `%s`", text);
	*ret_share = (struct share){ .probability = percent / 100 };
	return 0;
}

static int rate_set(const char *text, uint64_t *ret_bps, struct error *ret_error)
{
	double bps;
	if (!quantity_read(text, rate_units, &bps) || bps > 1e12 || (bps > 0 && bps < 1000))
		return error_set(ret_error, -EINVAL,
				 "expected a rate such as 10Mbit, of at least 1kbit, or 0 for no limit, not `%s`",
				 text);
	*ret_bps = (uint64_t)bps;
	return 0;
}

static int queue_set(const char *text, struct impair *impair, struct error *ret_error)
{
	double bytes;
	uint64_t ns;
	if (quantity_read(text, byte_units, &bytes) && bytes >= 1 && bytes <= 1e9) {
		impair->queue_bytes = (uint64_t)bytes;
		impair->queue_ns = 0;
		return 0;
	}
	if (duration_parse(text, &ns) < 0 || !ns || ns > DELAY_MAX_NS)
		return error_set(ret_error, -EINVAL, "expected a limit such as 50ms or 64kB, not `%s`", text);
	impair->queue_ns = ns;
	impair->queue_bytes = 0;
	return 0;
}

static int distribution_set(const char *text, bool *ret_normal, struct error *ret_error)
{
	if (strcmp(text, "uniform") && strcmp(text, "normal"))
		return error_set(ret_error, -EINVAL, "expected uniform or normal, not `%s`", text);
	*ret_normal = !strcmp(text, "normal");
	return 0;
}

static int value_set(const struct setting *setting, const char *text, struct impair *impair, struct error *ret_error)
{
	void *place = (char *)impair + setting->offset;
	switch (setting->kind) {
	case KIND_DURATION:
		return duration_set(text, place, ret_error);
	case KIND_SHARE:
		return share_set(text, place, ret_error);
	case KIND_RATE:
		return rate_set(text, place, ret_error);
	case KIND_QUEUE:
		return queue_set(text, impair, ret_error);
	case KIND_DISTRIBUTION:
		return distribution_set(text, place, ret_error);
	}
	return -EINVAL;
}

static int unknown_key(const char *key, struct error *ret_error)
{
	const char *keys[N_SETTINGS];
	for (size_t i = 0; i < N_SETTINGS; i++)
		keys[i] = settings[i].key;
	const char *nearest = flags_nearest(key, keys, N_SETTINGS);
	if (nearest)
		return error_set(ret_error, -EINVAL, "unknown setting `%s`; did you mean `%s`?", key, nearest);
	return error_set(ret_error, -EINVAL, "unknown setting `%s`", key);
}

static int word_set(const char *word, struct impair *impair, struct error *ret_error)
{
	char key[WORD_MAX];
	const char *equals = strchr(word, '=');
	if (!equals)
		return error_set(ret_error, -EINVAL, "expected a setting such as delay=20ms, not `%s`", word);
	memcpy(key, word, (size_t)(equals - word));
	key[equals - word] = '\0';
	for (size_t i = 0; i < N_SETTINGS; i++) {
		struct error error;
		if (strcmp(settings[i].key, key))
			continue;
		int r = value_set(&settings[i], equals + 1, impair, &error);
		return r < 0 ? error_set(ret_error, r, "%s: %s", key, error.text) : 0;
	}
	return unknown_key(key, ret_error);
}

int impair_parse(const char *text, struct impair *impair, struct error *ret_error)
{
	struct impair changed = *impair;
	while (*(text += strspn(text, " \t"))) {
		char word[WORD_MAX];
		size_t len = strcspn(text, " \t");
		if (len >= sizeof(word))
			return error_set(ret_error, -EINVAL, "`%.32s...` is too long for a setting", text);
		memcpy(word, text, len);
		word[len] = '\0';
		int r = word_set(word, &changed, ret_error);
		if (r < 0)
			return r;
		text += len;
	}
	*impair = changed;
	return 0;
}
