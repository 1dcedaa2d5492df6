/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration reader on arbitrary bytes. Either the text configures
 * something and there is not a word of complaint, or every complaint is a line a
 * terminal can show and the last one counts them; and memory is given back.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "lib/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool condition)
{
	if (!condition)
		abort();
}

static void check_errors(const struct buffer *errors)
{
	demand(buffer_ok(errors) && errors->len && errors->data[errors->len - 1] == '\n');
	for (size_t i = 0; i < errors->len; i++) {
		unsigned char c = (unsigned char)errors->data[i];
		demand((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\t');
	}
	const char *last = errors->data + errors->len - 1;
	while (last > errors->data && last[-1] != '\n')
		last--;
	demand(!strncmp(last, "fuzz: ", 6));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings settings;
	struct buffer errors = BUFFER_INIT;
	int r = settings_parse((const char *)data, size, "fuzz", &settings, &errors);
	if (r < 0) {
		check_errors(&errors);
		demand(!settings.networks && !settings.server.store.path);
	} else {
		demand(!errors.len && settings.server.store.path && settings.collect.tick_ns);
		for (size_t i = 0; i < settings.n_networks; i++)
			demand(settings.networks[i].name && *settings.networks[i].name);
		for (size_t i = 0; i < settings.server.scrape.n_targets; i++)
			demand(settings.server.scrape.targets[i].name && settings.server.scrape.targets[i].url);
		settings_done(&settings);
	}
	settings_done(&settings);
	buffer_done(&errors);
	return 0;
}
