/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An application that looks up names, for test_processes.py: reads lines of
 * "FUNCTION NAME", calls, answers "OUTCOME NANOSECONDS" as it saw them itself.
 */
#define _GNU_SOURCE
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static const char *outcome_of(const struct hostent *found, int error)
{
	if (found)
		return "success";
	if (error == HOST_NOT_FOUND || error == NO_DATA)
		return "not_found";
	return error == TRY_AGAIN ? "try_again" : "failed";
}

static const char *call_getaddrinfo(const char *name)
{
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *list;
	int r = getaddrinfo(name, "80", &hints, &list);

	if (!r)
		freeaddrinfo(list);
	switch (r) {
	case 0:
		return "success";
	case EAI_NONAME:
	case EAI_NODATA:
		return "not_found";
	case EAI_AGAIN:
		return "try_again";
	}
	return "failed";
}

static const char *call(const char *function, const char *name)
{
	struct hostent entry, *found = NULL;
	char memory[4096];
	int error = 0;

	if (!strcmp(function, "getaddrinfo"))
		return call_getaddrinfo(name);
	if (!strcmp(function, "gethostbyname"))
		found = gethostbyname(name);
	else if (!strcmp(function, "gethostbyname2"))
		found = gethostbyname2(name, AF_INET);
	else if (!strcmp(function, "gethostbyname_r"))
		gethostbyname_r(name, &entry, memory, sizeof(memory), &found, &error);
	else
		gethostbyname2_r(name, AF_INET, &entry, memory, sizeof(memory), &found, &error);
	return outcome_of(found, strstr(function, "_r") ? error : h_errno);
}

int main(void)
{
	char function[32], name[256];

	puts("ready");
	fflush(stdout);
	while (scanf("%31s %255s", function, name) == 2) {
		struct timespec start, end;
		const char *outcome;

		clock_gettime(CLOCK_MONOTONIC, &start);
		outcome = call(function, name);
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%s %lld\n", outcome, (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);
		fflush(stdout);
	}
	return 0;
}
