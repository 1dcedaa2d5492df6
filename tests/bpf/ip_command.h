/* SPDX-License-Identifier: Apache-2.0 */
/* Runs iproute2 in the calling thread's network namespace. Behind cmocka's header. */
#pragma once
#include <stdarg.h>
#include <stdio.h>

static inline void __attribute__((format(printf, 1, 2))) ip_command(const char *format, ...)
{
	FILE *pipe = popen("PATH=$PATH:/usr/sbin:/sbin ip -batch -", "w");
	va_list args;

	assert_non_null(pipe);
	va_start(args, format);
	vfprintf(pipe, format, args);
	va_end(args);
	fputc('\n', pipe);
	assert_int_equal(pclose(pipe), 0);
}
