/* SPDX-License-Identifier: Apache-2.0 */
/* Accept headers of real scrapers, odd ones and garbage; Content-Type headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "lib/exposition.h"

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#define PROTO "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
#define OM "application/openmetrics-text"

static void test_negotiation(void **state)
{
	static const struct {
		const char *accept;
		enum exposition_format format;
	} table[] = {
		{ NULL, EXPOSITION_TEXT },
		{ "", EXPOSITION_TEXT },
		{ "*/*", EXPOSITION_TEXT },
		/* Prometheus 2.42, without and with native histograms; 3.x */
		{ OM ";version=1.0.0," OM ";version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
		  EXPOSITION_OPENMETRICS },
		{ PROTO "," OM ";version=1.0.0;q=0.8," OM ";version=0.0.1;q=0.75,"
		  "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
		  EXPOSITION_PROTOBUF },
		{ OM ";version=1.0.0;escaping=allow-utf-8;q=0.5," OM ";version=0.0.1;q=0.4,"
		  "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
		  EXPOSITION_OPENMETRICS },
		/* a browser */
		{ "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8", EXPOSITION_TEXT },
		/* order and quality */
		{ "text/plain," OM, EXPOSITION_TEXT },
		{ OM ",text/plain", EXPOSITION_OPENMETRICS },
		{ OM ";q=0.3,text/plain;q=0.4", EXPOSITION_TEXT },
		{ OM ";q=0.301,text/plain;q=0.3", EXPOSITION_OPENMETRICS },
		{ "*/*;q=0.1, " OM " ; q=0.2", EXPOSITION_OPENMETRICS },
		{ OM ";q=0," PROTO ";q=0.000", EXPOSITION_TEXT },
		{ "text/plain;q=0.5," OM ";q=1.000", EXPOSITION_OPENMETRICS },
		/* parameters */
		{ "application/vnd.google.protobuf; encoding=delimited; q=0.9; proto=io.prometheus.client.MetricFamily",
		  EXPOSITION_PROTOBUF },
		{ "APPLICATION/VND.GOOGLE.PROTOBUF;Proto=\"io.prometheus.client.MetricFamily\";Encoding=\"delimited\"",
		  EXPOSITION_PROTOBUF },
		{ "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
		  EXPOSITION_TEXT },
		{ "application/vnd.google.protobuf;proto=other;encoding=delimited", EXPOSITION_TEXT },
		{ "application/vnd.google.protobuf", EXPOSITION_TEXT },
		{ OM ";version=0.0.1", EXPOSITION_TEXT },
		{ OM ";charset=utf-8;version=1.0.0", EXPOSITION_OPENMETRICS },
		{ OM ";note=\"a,b;q=0\";version=1.0.0", EXPOSITION_OPENMETRICS },
		{ OM ";note=\"a\\\",\"", EXPOSITION_OPENMETRICS },
		{ OM ";;q=0.4;", EXPOSITION_OPENMETRICS },
		/* garbage */
		{ ",,, ;q=1,\x01\xff" OM, EXPOSITION_TEXT },
		{ "\xff\xfe, " OM, EXPOSITION_OPENMETRICS },
		{ OM ";q=2", EXPOSITION_TEXT },
		{ OM ";q=-1", EXPOSITION_TEXT },
		{ OM ";q=", EXPOSITION_TEXT },
		{ OM ";q=1.001", EXPOSITION_TEXT },
		{ OM ";q=0.5x", EXPOSITION_TEXT },
		{ OM ";q=0.12345", EXPOSITION_TEXT },
		{ OM ";version", EXPOSITION_TEXT },
		{ OM ";version=\"1.0.0", EXPOSITION_OPENMETRICS },
		{ OM " junk", EXPOSITION_TEXT },
		{ "\"" OM "," OM, EXPOSITION_TEXT },
		{ ";", EXPOSITION_TEXT },
		{ "=", EXPOSITION_TEXT },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (exposition_negotiate(table[i].accept) != table[i].format)
			fail_msg("%s: %d", table[i].accept, exposition_negotiate(table[i].accept));
}

static void test_content_types(void **state)
{
	static const struct {
		const char *type;
		int r;
		enum exposition_format format;
	} table[] = {
		{ NULL, 0, EXPOSITION_TEXT },
		{ "", 0, EXPOSITION_TEXT },
		{ "  ", 0, EXPOSITION_TEXT },
		{ "text/plain", 0, EXPOSITION_TEXT },
		{ "Text/Plain; charset=UTF-8; version=0.0.4", 0, EXPOSITION_TEXT },
		{ "text/plain; charset", 0, EXPOSITION_TEXT },
		{ OM ";version=0.0.1", 0, EXPOSITION_OPENMETRICS },
		{ "application/vnd.google.protobuf; encoding=delimited", 0, EXPOSITION_PROTOBUF },
		{ "application/vnd.google.protobuf; encoding=compact-text", -EPROTO, 0 },
		{ "text/html", -EPROTO, 0 },
		{ "text/plainer", -EPROTO, 0 },
		{ "application/json", -EPROTO, 0 },
		{ ";", -EPROTO, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		enum exposition_format format = EXPOSITION_N_FORMATS;

		assert_int_equal(exposition_format_of(table[i].type, &format), table[i].r);
		assert_int_equal(format, table[i].r == 0 ? table[i].format : EXPOSITION_N_FORMATS);
	}
	for (enum exposition_format f = 0; f < EXPOSITION_N_FORMATS; f++) {
		enum exposition_format format;

		assert_int_equal(exposition_format_of(exposition_content_type(f), &format), 0);
		assert_int_equal(format, f);
		assert_int_equal(exposition_negotiate(exposition_content_type(f)), f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_negotiation),
		cmocka_unit_test(test_content_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
